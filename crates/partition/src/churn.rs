//! How much of the space has changed its owner of late: what planners keep within, and readers hold them to.

use core::time::Duration;
use std::collections::VecDeque;

use ringmesh_types::time::Instant;

/// What may move in a minute, as readers see it. Planners keep within [`MINUTE_PLANNED`], so that one who measures a little
/// more or hears of it a little sooner still follows.
pub const MINUTE_MAX: f64 = 0.55;
/// What planners move in a minute.
pub const MINUTE_PLANNED: f64 = 0.5;
const MINUTE: Duration = Duration::from_secs(60);
/// More rounds than this do not come in a minute.
const ROUNDS_MAX: usize = 1_024;

/// What moved in the last minute.
#[derive(Debug, Clone, Default)]
pub struct Churn(VecDeque<(Instant, f64)>);

impl Churn {
    /// This share of the space moved.
    pub fn add(&mut self, now: Instant, moved: f64) {
        self.forget(now);
        if moved > 0.0 && self.0.len() < ROUNDS_MAX {
            self.0.push_back((now, moved));
        }
    }

    /// What may still move of `most` in a minute; below 0 if more has.
    pub fn left(&mut self, now: Instant, most: f64) -> f64 {
        self.forget(now);
        most - self.0.iter().map(|(_, moved)| moved).sum::<f64>()
    }

    fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|(at, _)| now.since(*at) >= MINUTE) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_later_it_may_move_again() {
        let at = |seconds: u64| Instant::from_millis(1_000 * seconds);
        let mut churn = Churn::default();
        for round in 0..6 {
            churn.add(at(10 * round), 0.09);
        }
        let left = |churn: &mut Churn, seconds| (100.0 * churn.left(at(seconds), MINUTE_MAX)).round();
        assert_eq!([left(&mut churn, 59), left(&mut churn, 60), left(&mut churn, 75)], [1.0, 10.0, 19.0]);
        assert_eq!(left(&mut churn, 200), 55.0);
    }
}
