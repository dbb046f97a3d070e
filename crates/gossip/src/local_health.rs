//! How well this node itself keeps up: Lifeguard's local health multiplier (DSN 2018, IV-A).
//!
//! A node whose probes fail, whose relays say nothing, that is accused itself or whose own timers come late has reason to
//! doubt itself before it doubts others: it probes slower and waits longer, up to eight times.

use core::time::Duration;

/// The worst score: delays are multiplied by at most one more than this.
pub const SCORE_MAX: u8 = 7;
/// From this score on a node holds itself to be the sick one.
const SICK_FROM: u8 = 4;

/// A score from 0, well, to [`SCORE_MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalHealth {
    score: u8,
}

impl LocalHealth {
    /// Nothing speaks against us.
    pub const WELL: Self = Self { score: 0 };

    /// A probe was answered. Half of what spoke against us is void: at the pace of one sign a probe, of which each would
    /// come as late as the score says, a node that was cut off for seconds would not trust itself for half a minute.
    pub fn improve(&mut self) {
        self.score /= 2;
    }

    /// So many signs that this node is at fault.
    pub fn worsen(&mut self, signs: usize) {
        let signs = u8::try_from(signs).unwrap_or(u8::MAX);
        self.score = self.score.saturating_add(signs).min(SCORE_MAX);
    }

    /// The score.
    pub fn score(&self) -> u8 {
        self.score
    }

    /// Whether this node should hold itself to be sick rather than the others.
    pub fn is_sick(&self) -> bool {
        self.score >= SICK_FROM
    }

    /// A delay as this node should take it now.
    pub fn scale(&self, delay: Duration) -> Duration {
        delay * (u32::from(self.score) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_eight_times_and_shrink_with_each_answer() {
        let mut health = LocalHealth::default();
        let second = Duration::from_secs(1);
        assert_eq!(health.scale(second), second);
        health.worsen(3);
        assert_eq!((health.scale(second), health.is_sick()), (4 * second, false));
        health.worsen(1);
        assert!(health.is_sick());
        health.worsen(usize::MAX);
        assert_eq!(health.scale(second), 8 * second);
        let scores = [3, 1, 0, 0].map(|want| {
            health.improve();
            (health.score(), want)
        });
        assert!(scores.iter().all(|(score, want)| score == want), "{scores:?}");
    }
}
