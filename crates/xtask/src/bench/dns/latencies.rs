//! Latencies, counted in buckets: 32 for every doubling, so that a percentile is at most 3 % too small. Pure.

/// Buckets for every doubling.
const STEPS: u64 = 32;
const STEPS_LOG2: u32 = STEPS.ilog2();

/// How many nanoseconds things took.
pub(crate) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; bucket(u64::MAX) + 1], count: 0 }
    }

    /// Counts one.
    pub(crate) fn add(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
    }

    /// Microseconds that so many percent do not exceed; 0 if there are none.
    pub(crate) fn percentile_us(&self, percent: u64) -> f64 {
        let mut left = (self.count * percent).div_ceil(100);
        let at = self.buckets.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        at.map_or(0.0, |at| least(at) as f64 / 1_000.0)
    }
}

/// Which bucket a value is in: its highest bits say so.
fn bucket(nanos: u64) -> usize {
    let doublings = nanos.checked_ilog2().unwrap_or_default().saturating_sub(STEPS_LOG2);
    let bucket = u64::from(doublings) * STEPS + (nanos >> doublings);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The least value in a bucket.
fn least(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doublings = (bucket / STEPS).saturating_sub(1);
    (bucket - doublings * STEPS) << doublings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_close_to_its_least_value() {
        for nanos in (0..2_000).chain([1 << 20, (1 << 20) + 1, (1 << 40) - 1, u64::MAX]) {
            let least = least(bucket(nanos));
            assert!(least <= nanos && nanos - least <= nanos / STEPS, "{nanos}: {least}");
            assert_eq!(bucket(least), bucket(nanos), "{nanos}");
        }
    }

    #[test]
    fn percentiles_are_read_from_the_counts() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentile_us(50), 0.0);
        (0..99).for_each(|_| latencies.add(32_000));
        latencies.add(1 << 20);
        assert_eq!(latencies.percentile_us(50), latencies.percentile_us(99));
        assert!((31.0..=32.0).contains(&latencies.percentile_us(99)));
        assert_eq!(latencies.percentile_us(100), 1_048.576);
    }
}
