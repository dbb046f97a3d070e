//! How many members may go out of answers within a minute. What takes more than that away at once is rather a fault of
//! the network, or of ours, than so many deaths: further ones are Down, but stay in answers for a while, after all others.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

/// So many a minute whatever the size of the mesh.
const ALWAYS: usize = 8;
/// In a larger one this part of its members: a third, for zones come in threes and one may fail.
const PART: usize = 3;
/// Within this time.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// How long Down members stay in answers at most because others went before them: all until the first one's time is over.
const SPARED_FOR: Duration = Duration::from_secs(60);

/// What becomes of a member that is Down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is in no answer any more.
    Removed,
    /// It stays, after all others; the first for which that is so in a while.
    FirstSpared,
    /// It stays as well.
    Spared,
}

/// The removals of the last minute, and who is spared.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    recent: VecDeque<Instant>,
    spared: BTreeMap<NodeId, Instant>,
}

impl Removals {
    /// A member is Down, in a mesh of so many, itself included.
    pub(crate) fn decide(&mut self, now: Instant, subject: NodeId, members: usize) -> Removal {
        while self.recent.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() < most(members) {
            self.recent.push_back(now);
            return Removal::Removed;
        }
        let others_until = self.next();
        self.spared.insert(subject, others_until.unwrap_or_else(|| now.after(SPARED_FOR)));
        if others_until.is_none() { Removal::FirstSpared } else { Removal::Spared }
    }

    /// Whether it is Down and in answers still.
    pub(crate) fn is_spared(&self, subject: NodeId) -> bool {
        self.spared.contains_key(&subject)
    }

    /// It is back, has left, or its time is over. Says whether it was spared.
    pub(crate) fn settle(&mut self, subject: NodeId) -> bool {
        self.spared.remove(&subject).is_some()
    }

    /// Whose time is over: they may be settled.
    pub(crate) fn over(&self, now: Instant) -> Vec<NodeId> {
        self.spared.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect()
    }

    /// When the next one's time is over.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.spared.values().min().copied()
    }
}

/// How many of so many members may be removed within a minute.
pub(crate) fn most(members: usize) -> usize {
    ALWAYS.max(members / PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::from_bytes(number.to_be_bytes())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_third_goes_at_once_and_the_others_a_minute_later_at_most() {
        let mut removals = Removals::default();
        let decided: Vec<Removal> = (0..30).map(|number| removals.decide(at(1), id(number), 60)).collect();
        let (gone, spared) = decided.split_at(20);
        assert!(gone.iter().all(|removal| *removal == Removal::Removed));
        assert_eq!(spared[0], Removal::FirstSpared);
        assert!(spared[1..].iter().all(|removal| *removal == Removal::Spared));
        assert!(removals.is_spared(id(25)) && !removals.is_spared(id(5)));
        assert!(removals.settle(id(25)) && !removals.settle(id(25)) && !removals.is_spared(id(25)));
        assert_eq!(removals.next(), Some(at(61)));
        assert!(removals.over(at(60)).is_empty());
        let over = removals.over(at(61));
        assert_eq!(over.len(), 9);
        over.iter().for_each(|id| assert!(removals.settle(*id)));
        assert_eq!(removals.next(), None);
        assert_eq!(removals.decide(at(61), id(40), 40), Removal::Removed, "that minute is over");
    }

    #[test]
    fn a_small_mesh_may_lose_all_its_members() {
        let mut removals = Removals::default();
        assert!((0..8).all(|number| removals.decide(at(1), id(number), 9) == Removal::Removed));
        assert_eq!((most(2), most(24), most(27), most(300)), (8, 8, 9, 100));
    }
}
