//! One ordered queue of deadlines. Timers are never cancelled: what is queued carries what it was armed for, so that a
//! stale one is recognised and harmless. Ties break by the order of arming.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

use ringmesh_types::time::Instant;

/// Deadlines in order of (instant, sequence of arming).
#[derive(Debug)]
pub struct Timers<T> {
    heap: BinaryHeap<Entry<T>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    sequence: u64,
    what: T,
}

impl<T> Entry<T> {
    fn order(&self) -> (Instant, u64) {
        (self.at, self.sequence)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.order().cmp(&self.order())
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<T> Timers<T> {
    /// Arms `what` for `at`.
    pub fn arm(&mut self, at: Instant, what: T) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, what });
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the earliest timer, if it is due at `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.what)
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_due_in_order_and_ties_in_the_order_of_arming() {
        let mut timers = Timers::default();
        for (at, what) in [(5, 'c'), (3, 'a'), (3, 'b'), (9, 'd')] {
            timers.arm(Instant::from_millis(at), what);
        }
        let now = Instant::from_millis(5);
        let due: String = core::iter::from_fn(|| timers.take_due(now)).collect();
        assert_eq!(due, "abc");
        assert_eq!(timers.next(), Some(Instant::from_millis(9)));
        assert_eq!(timers.len(), 1);
    }
}
