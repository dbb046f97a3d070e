//! Who was the holder of what, as this daemon has seen it: since when it may grant for a key, and who might before.
//!
//! A few views are kept ([`VIEWS_MAX`]). What is older is as if it had never been, which makes a tenure look younger than it is,
//! and an account poorer, never richer. Pure: time comes in as an argument.

use std::collections::{BTreeSet, VecDeque};

use ringmesh_partition::follow::Token;
use ringmesh_partition::position::Position;
use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

/// Views that are kept.
pub const VIEWS_MAX: usize = 64;

/// A map and the states of its hosts.
pub trait Sees {
    /// What a grant by this map is fenced with.
    fn token(&self) -> Token;
    /// Who may grant for what lies at a position, each for an equal share of the quota, in order.
    fn holders(&self, at: Position) -> Vec<NodeId>;
    /// The map before: who might grant then.
    fn holders_before(&self, at: Position) -> Vec<NodeId>;
    /// What a grant by the map before was fenced with, if that map is told.
    fn token_before(&self) -> Option<Token>;
}

#[derive(Debug)]
struct Entry<V> {
    number: u64,
    at: Instant,
    /// Whether it is unknown what came between it and the entry before.
    is_gap: bool,
    view: V,
}

/// What was seen, the newest last.
#[derive(Debug)]
pub struct History<V> {
    me: NodeId,
    entries: VecDeque<Entry<V>>,
    /// How many there have been.
    count: u64,
    /// Whether this daemon may have granted before its first view.
    has_run_before: bool,
}

/// A time without a break in which this daemon was a holder of a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The number of its first view.
    pub start: u64,
    /// When that came.
    pub since: Instant,
    /// Whether nobody can have been a holder before it.
    pub is_first: bool,
    /// Whether what was before its first view was not seen, so that this daemon may have granted then, too.
    pub is_cut: bool,
    /// Into how many shares the quota was cut in it, at most.
    pub parts: u16,
    /// The same, from a given view on.
    pub parts_seen: u16,
    /// All who were holders in it beside this daemon.
    pub others: BTreeSet<NodeId>,
    /// Who were holders right before it, without this daemon.
    pub before: Vec<NodeId>,
}

impl<V: Sees> History<V> {
    /// Nothing is seen yet. `has_run_before` says that an earlier run of this daemon may have granted.
    pub fn new(me: NodeId, has_run_before: bool) -> Self {
        Self { me, entries: VecDeque::new(), count: 0, has_run_before }
    }

    /// This member.
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// The newest view.
    pub fn present(&self) -> Option<&V> {
        self.entries.back().map(|entry| &entry.view)
    }

    /// The number of the newest view.
    pub fn number(&self) -> u64 {
        self.entries.back().map_or(0, |entry| entry.number)
    }

    /// Another view counts. `is_missing` says that one between it and the newest may not have been seen.
    pub fn add(&mut self, now: Instant, view: V, is_missing: bool) {
        let follows = self.present().is_none_or(|present| {
            present.token() == view.token() || view.token_before() == Some(present.token())
        });
        if self.entries.len() == VIEWS_MAX {
            self.entries.pop_front();
        }
        let is_gap = !self.entries.is_empty() && (is_missing || !follows);
        self.entries.push_back(Entry { number: self.count, at: now, is_gap, view });
        self.count += 1;
    }

    /// The last run in which this daemon was a holder of `at`, be it over or not; `seen` is the view from which on
    /// [`Run::parts_seen`] counts.
    pub fn run(&self, at: Position, seen: u64) -> Option<Run> {
        let holders = |entry: &Entry<V>| entry.view.holders(at);
        let last = self.entries.iter().rposition(|entry| holders(entry).contains(&self.me))?;
        let newest = &self.entries[last];
        let mut run = Run {
            start: newest.number,
            since: newest.at,
            is_first: false,
            is_cut: false,
            parts: 1,
            parts_seen: 1,
            others: BTreeSet::new(),
            before: Vec::new(),
        };
        for index in (0..=last).rev() {
            let entry = &self.entries[index];
            let holders = holders(entry);
            if !holders.contains(&self.me) {
                run.before = holders;
                break;
            }
            (run.start, run.since) = (entry.number, entry.at);
            let parts = holders.len() as u16;
            run.parts = run.parts.max(parts);
            if entry.number >= seen {
                run.parts_seen = run.parts_seen.max(parts);
            }
            run.others.extend(holders.into_iter().filter(|holder| *holder != self.me));
            if index == 0 || entry.is_gap {
                run.before = entry.view.holders_before(at);
                (run.is_first, run.is_cut) = (self.is_first(entry), true);
                break;
            }
        }
        run.before.retain(|holder| *holder != self.me);
        Some(run)
    }

    /// Whether what an entry says is how it was from the very beginning.
    fn is_first(&self, entry: &Entry<V>) -> bool {
        let is_generation_1 = entry.view.token().generation == 1 && entry.view.token_before().is_none();
        entry.number == 0 && is_generation_1 && !self.has_run_before
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everything has the same holders.
    #[derive(Debug, Clone)]
    pub(crate) struct Flat {
        pub(crate) generation: u64,
        pub(crate) holders: Vec<NodeId>,
        pub(crate) before: Option<Vec<NodeId>>,
    }

    impl Sees for Flat {
        fn token(&self) -> Token {
            Token { generation: self.generation, author: node(0) }
        }

        fn holders(&self, _: Position) -> Vec<NodeId> {
            self.holders.clone()
        }

        fn holders_before(&self, _: Position) -> Vec<NodeId> {
            self.before.clone().unwrap_or_default()
        }

        fn token_before(&self) -> Option<Token> {
            let generation = self.before.as_ref().map(|_| self.generation - 1)?;
            Some(Token { generation, author: node(0) })
        }
    }

    pub(crate) fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number + 1; 8])
    }

    pub(crate) fn flat(generation: u64, holders: &[u8], before: &[u8]) -> Flat {
        let nodes = |numbers: &[u8]| numbers.iter().map(|number| node(*number)).collect();
        Flat { generation, holders: nodes(holders), before: (generation > 1).then(|| nodes(before)) }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * seconds)
    }

    fn history(views: &[(u64, Flat)]) -> History<Flat> {
        let mut history = History::new(node(0), false);
        views.iter().for_each(|(second, view)| history.add(at(*second), view.clone(), false));
        history
    }

    #[test]
    fn a_run_begins_where_the_last_break_ends() {
        let views = [
            (0, flat(1, &[0], &[])),
            (5, flat(2, &[1], &[0])),
            (9, flat(3, &[0], &[1])),
            (12, flat(4, &[0, 2, 3], &[0])),
            (20, flat(5, &[0, 3], &[0, 2, 3])),
        ];
        let run = history(&views).run(Position(0), 4).expect("is a holder");
        assert_eq!((run.start, run.since, run.is_first), (2, at(9), false));
        assert_eq!((run.parts, run.parts_seen, run.before), (3, 2, vec![node(1)]));
        assert_eq!(run.others, [node(2), node(3)].into());
        let over = history(&views[..2]).run(Position(0), 0).expect("was a holder");
        assert_eq!((over.start, over.is_first, over.before), (0, true, vec![]));
        assert_eq!(history(&[(0, flat(1, &[1], &[]))]).run(Position(0), 0), None);
    }

    #[test]
    fn only_the_holder_of_generation_1_is_the_first() {
        let is_first = |view: Flat, has_run_before| {
            let mut history = History::new(node(0), has_run_before);
            history.add(at(0), view, false);
            history.run(Position(0), 0).expect("is a holder").is_first
        };
        assert!(is_first(flat(1, &[0], &[]), false));
        assert!(!is_first(flat(1, &[0], &[]), true));
        assert!(!is_first(flat(2, &[0], &[0]), false));
    }

    #[test]
    fn what_was_missed_breaks_a_run() {
        let mut history = history(&[(0, flat(1, &[0], &[]))]);
        history.add(at(7), flat(5, &[0], &[3]), false);
        let run = history.run(Position(0), 0).expect("is a holder");
        assert_eq!((run.since, run.is_first, run.before), (at(7), false, vec![node(3)]));
        history.add(at(8), flat(6, &[0], &[0]), true);
        assert_eq!(history.run(Position(0), 0).expect("is a holder").since, at(8));
    }

    #[test]
    fn what_is_forgotten_makes_a_run_younger() {
        let mut history = history(&[(0, flat(1, &[0], &[]))]);
        for second in 1..=VIEWS_MAX as u64 {
            history.add(at(second), flat(1 + second, &[0], &[0]), false);
        }
        let run = history.run(Position(0), 0).expect("is a holder");
        assert_eq!((run.since, run.is_first), (at(1), false));
    }
}
