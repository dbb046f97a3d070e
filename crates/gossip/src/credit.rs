//! Whose accusations are still believed. An accuser that is refuted far more often than others is the one at fault: its
//! votes stop counting until it has been right, or silent, for a while.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

/// What is held against an accuser halves in this time.
const HALVES_IN: Duration = Duration::from_secs(30);
/// So many refuted accusations are forgiven anybody, and so many times the mean of all members.
const FORGIVEN: u32 = 4;
/// One refuted accusation, in the unit that is counted in: halving must not round it away at once.
const ONE: u32 = 1_024;

/// What is held against accusers.
#[derive(Debug, Default)]
pub struct Credit {
    refuted: BTreeMap<NodeId, u32>,
    /// The sum of these.
    all: u64,
    halved: Instant,
}

impl Credit {
    /// What these said was refuted.
    pub fn refute(&mut self, now: Instant, accusers: impl IntoIterator<Item = NodeId>) {
        self.halve(now);
        for accuser in accusers {
            let count = self.refuted.entry(accuser).or_default();
            self.all -= u64::from(*count);
            *count = count.saturating_add(ONE);
            self.all += u64::from(*count);
        }
    }

    /// Whether an accuser is not to be believed, in a mesh of so many members.
    pub fn is_spent(&mut self, now: Instant, accuser: NodeId, members: usize) -> bool {
        self.halve(now);
        let Some(own) = self.refuted.get(&accuser) else {
            return false;
        };
        let mean = self.all / u64::try_from(members.max(1)).unwrap_or(u64::MAX);
        u64::from(*own) > u64::from(FORGIVEN) * (u64::from(ONE) + mean)
    }

    fn halve(&mut self, now: Instant) {
        let halvings = now.since(self.halved).as_secs() / HALVES_IN.as_secs();
        if halvings == 0 {
            return;
        }
        self.halved = now;
        let by = u32::try_from(halvings).unwrap_or(u32::MAX);
        self.refuted.retain(|_, count| {
            *count = count.checked_shr(by).unwrap_or(0);
            *count > 0
        });
        self.all = self.refuted.values().map(|count| u64::from(*count)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 8])
    }

    #[test]
    fn whoever_is_refuted_more_often_than_others_is_not_believed_for_a_while() {
        let mut credit = Credit::default();
        let now = Instant::from_millis(1_000);
        credit.refute(now, [id(1); 4]);
        assert!(!credit.is_spent(now, id(1), 100), "4 are forgiven");
        credit.refute(now, [id(1); 2]);
        assert!(credit.is_spent(now, id(1), 100));
        assert!(!credit.is_spent(now, id(2), 100), "nobody refuted this one");
        let later = Instant::from_millis(31_000);
        assert!(!credit.is_spent(later, id(1), 100), "half is forgotten");
        assert!(!credit.is_spent(Instant::from_millis(3_600_000), id(1), 100));
        assert!(credit.refuted.is_empty());
    }

    #[test]
    fn where_all_are_refuted_nobody_is_singled_out() {
        let mut credit = Credit::default();
        let now = Instant::from_millis(1_000);
        credit.refute(now, (1..=4).flat_map(|byte| [id(byte); 20]));
        assert!(!credit.is_spent(now, id(1), 4), "20 is the mean");
    }
}
