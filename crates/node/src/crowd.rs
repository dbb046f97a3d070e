//! Whether many members have just started.
//!
//! Connections are made then, catalogues read, seals checked, and where machines are small nobody has time for anything
//! else: answers come late, and so does the word of whoever is accused.

use core::time::Duration;

use ringmesh_gossip::suspicion::ACCUSERS_ENOUGH;
use ringmesh_types::ids::Epoch;
use ringmesh_types::time::{Instant, WallTime};

/// Who has started less than this ago, by its epoch, has not settled.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// An epoch may be ahead of this clock by so much.
const AHEAD_MAX: Duration = Duration::from_secs(1);
/// One in so many members, and no fewer than could remove another one, are a crowd.
const SHARE: usize = 8;
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    looked: Option<Instant>,
    is_there: bool,
}

impl Crowd {
    /// Looks again, if it is time, at the epochs of those that serve. Most are their owner's wall clock when it started; what is
    /// more than a moment ahead of this one is no age.
    pub(crate) fn look(&mut self, now: Instant, wall: WallTime, epochs: impl Iterator<Item = Epoch>) {
        if self.looked.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        let (mut members, mut young) = (0, 0);
        let latest = wall.after(AHEAD_MAX).as_unix_millis();
        for epoch in epochs {
            let age = latest.checked_sub(epoch.0).map(Duration::from_millis);
            members += 1;
            young += usize::from(age.is_some_and(|age| age < SETTLED_AFTER + AHEAD_MAX));
        }
        self.is_there = young >= ACCUSERS_ENOUGH && young * SHARE >= members;
    }

    /// Whether there was a crowd.
    pub(crate) fn is_there(&self) -> bool {
        self.is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: u64 = 1_700_000_000_000;

    fn is_crowd(young: usize, old: usize) -> bool {
        let ages = core::iter::repeat_n(9_999, young).chain(core::iter::repeat_n(10_000, old));
        let epochs: Vec<Epoch> = ages.map(|age| Epoch(NOON_MS - age)).collect();
        let mut crowd = Crowd::default();
        crowd.look(Instant::START, WallTime::from_unix_millis(NOON_MS), epochs.into_iter());
        crowd.is_there()
    }

    #[test]
    fn three_are_a_crowd_if_they_are_one_in_eight() {
        assert!(is_crowd(3, 0) && is_crowd(3, 21) && is_crowd(100, 0));
        assert!(!is_crowd(2, 0) && !is_crowd(3, 22) && !is_crowd(0, 100));
    }

    #[test]
    fn who_is_ahead_of_this_clock_has_no_age() {
        let is_crowd = |ahead_ms: u64| {
            let mut crowd = Crowd::default();
            let epochs = [Epoch(NOON_MS + ahead_ms); 5];
            crowd.look(Instant::START, WallTime::from_unix_millis(NOON_MS), epochs.into_iter());
            crowd.is_there()
        };
        assert!(is_crowd(1_000) && !is_crowd(1_001));
    }

    #[test]
    fn it_is_looked_for_once_a_second() {
        let mut crowd = Crowd::default();
        let wall = WallTime::from_unix_millis(NOON_MS);
        crowd.look(Instant::START, wall, [].into_iter());
        let young = [Epoch(NOON_MS); 5];
        crowd.look(Instant::from_millis(999), wall, young.into_iter());
        assert!(!crowd.is_there());
        crowd.look(Instant::from_millis(1_000), wall, young.into_iter());
        assert!(crowd.is_there());
    }
}
