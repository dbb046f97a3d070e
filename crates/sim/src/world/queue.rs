//! What is due when, in the order of virtual time. The queue orders small numbers, and not the messages that they stand for.

use ringmesh_gossip::timers::Timers;
use ringmesh_types::time::Instant;

use super::Due;

/// Everything that is still to happen.
#[derive(Default)]
pub(super) struct Queue {
    order: Timers<usize>,
    waiting: Vec<Option<Due>>,
    free: Vec<usize>,
}

impl Queue {
    pub(super) fn arm(&mut self, at: Instant, due: Due) {
        let place = self.free.pop().unwrap_or(self.waiting.len());
        if place == self.waiting.len() {
            self.waiting.push(None);
        }
        self.waiting[place] = Some(due);
        self.order.arm(at, place);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.order.next()
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let place = self.order.take_due(now)?;
        self.free.push(place);
        self.waiting[place].take()
    }
}
