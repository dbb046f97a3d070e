//! How long answers take on a path, and how long to wait for one.

use core::time::Duration;

/// So many of the latest answers count.
const SAMPLES_MAX: usize = 128;
/// Fewer than these say little yet: the fewer there are, the longer is waited.
const SAMPLES_ENOUGH: u32 = 8;
/// An answer is waited for so many times as long as 99 of 100 took.
const TIMES_P99: u32 = 3;
/// At least so long, for a scheduler or a hypervisor may take a processor away for that long.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// How much an answer that came late or not directly weighs in the share of those.
const LOSS_WEIGHT: f64 = 1.0 / 16.0;

/// Which share of packets seems to get lost: of the probes that were answered at all, how many not at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loss {
    share: f64,
}

impl Loss {
    /// A probe was answered, at once or only after it was sent again.
    pub fn add(&mut self, is_at_once: bool) {
        let sign = if is_at_once { 0.0 } else { 1.0 };
        self.share += LOSS_WEIGHT * (sign - self.share);
    }

    /// The share, 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }
}

/// The latest round-trip times of a path.
#[derive(Debug, Clone, Default)]
pub struct RoundTrips {
    micros: Vec<u32>,
    next: usize,
}

impl RoundTrips {
    /// An answer took this long.
    pub fn add(&mut self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if self.micros.len() < SAMPLES_MAX {
            self.micros.push(micros);
        } else {
            self.micros[self.next] = micros;
        }
        self.next = (self.next + 1) % SAMPLES_MAX;
    }

    /// The time that 99 of 100 answers took at most (nearest rank); nothing while none is known.
    pub fn p99(&self) -> Option<Duration> {
        if self.micros.is_empty() {
            return None;
        }
        let mut sorted = self.micros.clone();
        let rank = (sorted.len() * 99).div_ceil(100) - 1;
        let (_, p99, _) = sorted.select_nth_unstable(rank);
        Some(Duration::from_micros(u64::from(*p99)))
    }

    /// How long to wait for an answer, at most `longest`, which is also what is waited while nothing is known.
    pub fn wait(&self, longest: Duration) -> Duration {
        let known = u32::try_from(self.micros.len()).unwrap_or(u32::MAX);
        let times = |p99: Duration| p99 * TIMES_P99 * SAMPLES_ENOUGH / known.clamp(1, SAMPLES_ENOUGH);
        self.p99().map_or(longest, |p99| times(p99).max(WAIT_MIN).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(500);

    fn after(millis: impl Iterator<Item = u64>) -> RoundTrips {
        let mut trips = RoundTrips::default();
        millis.for_each(|millis| trips.add(Duration::from_millis(millis)));
        trips
    }

    #[test]
    fn the_longest_wait_holds_while_nothing_is_known_and_few_answers_are_trusted_less() {
        assert_eq!(after(0..0).wait(LONGEST), LONGEST);
        assert_eq!(after([2].into_iter()).wait(LONGEST), Duration::from_millis(100));
        assert_eq!(after([15].into_iter()).wait(LONGEST), Duration::from_millis(360));
        assert_eq!(after([15, 15].into_iter()).wait(LONGEST), Duration::from_millis(180));
        assert_eq!(after((0..8).map(|_| 15)).wait(LONGEST), Duration::from_millis(100));
    }

    #[test]
    fn the_wait_follows_the_slow_answers_within_its_bounds() {
        assert_eq!(after((0..100).map(|_| 60)).wait(LONGEST), Duration::from_millis(180));
        let slow_one_in_fifty = |index: u64| if index.is_multiple_of(50) { 100 } else { 1 };
        assert_eq!(after((1..=128).map(slow_one_in_fifty)).wait(LONGEST), Duration::from_millis(300));
        assert_eq!(after((0..100).map(|_| 900)).wait(LONGEST), LONGEST);
    }

    #[test]
    fn the_share_of_late_answers_is_followed() {
        let mut loss = Loss::default();
        (0..200).for_each(|index| loss.add(index % 4 > 0));
        assert!((0.15..0.35).contains(&loss.share()), "{}", loss.share());
        (0..100).for_each(|_| loss.add(true));
        assert!(loss.share() < 0.01);
    }

    #[test]
    fn old_answers_give_way() {
        assert_eq!(
            after((0..128).map(|_| 400).chain((0..128).map(|_| 50))).p99(),
            Some(Duration::from_millis(50))
        );
    }
}
