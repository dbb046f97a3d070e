//! Flap damping (RFC 2439): each failure adds a penalty that decays. Whoever has failed too often of late is suppressed:
//! it comes last in answers until it has been calm for a while.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::time::Instant;

/// What a failure adds.
const PENALTY: f64 = 1_000.0;
/// Above this one is suppressed: by the third failure within 40 s, or the fourth within 90.
const SUPPRESSED_ABOVE: f64 = 2_500.0;
/// Below this one is used again.
const REUSED_BELOW: f64 = 1_000.0;
/// No penalty is higher, so that nobody stays suppressed for more than two half-lives after its last failure.
const CEILING: f64 = 4_000.0;
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Below this a penalty is forgotten.
const FORGOTTEN_BELOW: f64 = 100.0;

#[derive(Debug, Clone, Copy)]
struct Merit {
    penalty: f64,
    at: Instant,
    is_suppressed: bool,
}

/// The penalties of those that failed lately.
#[derive(Debug)]
pub(crate) struct Damping<K> {
    merits: BTreeMap<K, Merit>,
}

impl<K> Default for Damping<K> {
    fn default() -> Self {
        Self { merits: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Damping<K> {
    /// One failed. Says whether it is suppressed only from now on.
    pub(crate) fn fail(&mut self, now: Instant, key: &K) -> bool {
        self.merits.retain(|_, merit| {
            merit.is_suppressed || decayed(merit.penalty, merit.at, now) >= FORGOTTEN_BELOW
        });
        let merit =
            self.merits.entry(key.clone()).or_insert(Merit { penalty: 0.0, at: now, is_suppressed: false });
        let penalty = (decayed(merit.penalty, merit.at, now) + PENALTY).min(CEILING);
        let was_suppressed = merit.is_suppressed;
        let is_suppressed = was_suppressed || penalty > SUPPRESSED_ABOVE;
        *merit = Merit { penalty, at: now, is_suppressed };
        is_suppressed && !was_suppressed
    }

    /// Whether it comes last for having failed too often.
    pub(crate) fn is_suppressed(&self, key: &K) -> bool {
        self.merits.get(key).is_some_and(|merit| merit.is_suppressed)
    }

    /// Nobody knows it any more.
    pub(crate) fn forget(&mut self, key: &K) {
        self.merits.remove(key);
    }

    /// Those whose penalty has decayed: they may be forgotten, and are as good as others again.
    pub(crate) fn reusable(&self, now: Instant) -> Vec<K> {
        let is_due = |merit: &Merit| merit.is_suppressed && reused_at(merit) <= now;
        self.merits.iter().filter(|(_, merit)| is_due(merit)).map(|(key, _)| key.clone()).collect()
    }

    /// When the next one is to be used again.
    pub(crate) fn next_reuse(&self) -> Option<Instant> {
        self.merits.values().filter(|merit| merit.is_suppressed).map(reused_at).min()
    }
}

/// A penalty halves in every half-life, and falls evenly within one: sums and products are the same on every platform.
fn decayed(penalty: f64, at: Instant, now: Instant) -> f64 {
    let mut left = now.since(at);
    let mut penalty = penalty;
    while left >= HALF_LIFE && penalty > 1.0 {
        penalty /= 2.0;
        left -= HALF_LIFE;
    }
    penalty * (1.0 - left.min(HALF_LIFE).as_secs_f64() / HALF_LIFE.as_secs_f64() / 2.0)
}

fn reused_at(merit: &Merit) -> Instant {
    let (mut penalty, mut at) = (merit.penalty, merit.at);
    while penalty / 2.0 >= REUSED_BELOW {
        penalty /= 2.0;
        at = at.after(HALF_LIFE);
    }
    let share = 2.0 * (1.0 - REUSED_BELOW / penalty.max(REUSED_BELOW));
    at.after(HALF_LIFE.mul_f64(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn suppressed_after(failures_every_s: u64) -> Option<usize> {
        let mut damping = Damping::default();
        (0..50).position(|count| damping.fail(at(count * failures_every_s), &"sip"))
    }

    #[test]
    fn who_fails_often_is_suppressed_and_who_fails_now_and_then_is_not() {
        assert_eq!(suppressed_after(5), Some(2));
        assert_eq!(suppressed_after(10), Some(2));
        assert_eq!(suppressed_after(20), Some(2));
        assert_eq!(suppressed_after(30), Some(3));
        assert_eq!(suppressed_after(60), None);
        assert_eq!(suppressed_after(600), None);
    }

    #[test]
    fn who_is_calm_is_used_again_within_two_half_lives_however_often_it_failed() {
        for failures in [3, 5, 100] {
            let mut damping = Damping::default();
            (0..failures).for_each(|count| {
                damping.fail(at(count * 2), &7);
            });
            assert!(damping.is_suppressed(&7));
            let last = at((failures - 1) * 2);
            let reused = damping.next_reuse().expect("it is suppressed");
            assert!(reused > last.after(HALF_LIFE) && reused <= last.after(2 * HALF_LIFE), "{reused:?}");
            assert!(damping.reusable(Instant::from_nanos(reused.as_nanos() - 1)).is_empty());
            assert_eq!(damping.reusable(reused), [7]);
            damping.forget(&7);
            assert!(!damping.is_suppressed(&7));
            assert_eq!(damping.next_reuse(), None);
            assert!(!damping.fail(reused, &7), "it begins anew");
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut damping = Damping::default();
        (0..1_000).for_each(|key| {
            damping.fail(at(key * 10), &key);
        });
        assert!(damping.merits.len() < 40, "{}", damping.merits.len());
        damping.fail(at(9_990), &999);
        damping.forget(&999);
        assert!(!damping.is_suppressed(&999));
    }
}
