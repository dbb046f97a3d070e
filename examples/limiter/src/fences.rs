//! Which accounts this daemon gave away, and under which token: it grants nothing under a lower one any more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ringmesh_partition::follow::{Fence, Token};
use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

use crate::history::Run;

/// Accounts that are remembered as given away, at most. Beyond them the oldest fence counts for all accounts.
pub(crate) const FENCES_MAX: usize = 262_144;

/// What was given away, and under which token.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    of: HashMap<Arc<str>, Fenced>,
    /// By when they were raised, the oldest first; those raised again are in it again.
    order: VecDeque<(Instant, Arc<str>)>,
    /// What counts for all that are forgotten.
    floor: Option<Fenced>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Fenced {
    fence: Fence,
    raised: Instant,
    /// When it was last given away, and to whom, unless that is forgotten.
    given: Option<(Instant, Option<NodeId>)>,
}

impl Fences {
    fn found(&self, account: &str) -> impl Iterator<Item = &Fenced> {
        self.of.get(account).into_iter().chain(&self.floor)
    }

    /// A token higher than `token` that the account was given away under.
    pub(crate) fn higher(&self, account: &str, token: Token) -> Option<Token> {
        let refusal = |fenced: &Fenced| {
            let mut fence = fenced.fence;
            fence.admit(token).err()
        };
        self.found(account).find_map(refusal).map(|error| error.seen)
    }

    /// Whether nothing forbids a grant under `token`.
    pub(crate) fn allows(&self, account: &str, token: Token) -> bool {
        self.higher(account, token).is_none()
    }

    /// A run as it is for an account that may have been given away in it.
    pub(crate) fn applied(&self, account: &str, mut run: Run) -> Run {
        for (given, to) in self.found(account).filter_map(|fenced| fenced.given) {
            if given >= run.since {
                (run.since, run.is_first, run.is_cut) = (given, false, false);
                run.before = to.into_iter().collect();
            }
        }
        run
    }

    /// The account is fenced with `token`, which is not lower than before, and given away if somebody is named.
    pub(crate) fn raise(&mut self, now: Instant, account: &str, token: Token, to: Option<NodeId>) {
        if !self.of.contains_key(account) {
            while self.of.len() >= FENCES_MAX && self.drop_oldest() {}
        }
        let name: Arc<str> = account.into();
        let fenced = self.of.entry(Arc::clone(&name)).or_default();
        // A lower one was refused before.
        let _ = fenced.fence.admit(token);
        fenced.raised = now;
        if to.is_some() {
            fenced.given = Some((now, to));
        }
        self.order.push_back((now, name));
        while self.order.len() > 2 * FENCES_MAX && self.drop_oldest() {}
    }

    /// Forgets an account, for which the floor counts from now on. Says whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let Some((raised, name)) = self.order.pop_front() else { return false };
        if self.of.get(&name).is_none_or(|fenced| fenced.raised != raised) {
            return true;
        }
        let Some(old) = self.of.remove(&name) else { return true };
        let floor = self.floor.get_or_insert_default();
        if let Some(token) = seen(old.fence) {
            let _ = floor.fence.admit(token);
        }
        floor.given = floor.given.max(old.given.map(|(at, _)| (at, None)));
        true
    }
}

/// The highest token that a fence has admitted.
fn seen(mut fence: Fence) -> Option<Token> {
    let lowest = Token { generation: 0, author: NodeId::from_bytes([0; 8]) };
    fence.admit(lowest).err().map(|error| error.seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::node;

    impl Fences {
        pub(crate) fn is_empty(&self) -> bool {
            self.of.is_empty() && self.floor.is_none()
        }
    }

    #[test]
    fn forgotten_fences_count_for_everybody() {
        let mut fences = Fences::default();
        let token = |generation| Token { generation, author: node(0) };
        for number in 0..=FENCES_MAX as u64 {
            fences.raise(Instant::from_millis(number), &number.to_string(), token(number), Some(node(1)));
        }
        assert_eq!(fences.of.len(), FENCES_MAX);
        assert_eq!(fences.floor.map(|floor| floor.given), Some(Some((Instant::START, None))));
        fences.raise(Instant::from_millis(1 << 20), "a", token(1 << 20), None);
        assert!(!fences.allows("somebody", token(0)) && fences.allows("somebody", token(1)));
    }
}
