//! The settings that have a range: default, least and most of each. `config/agent.toml` says what they do.

use core::ops::RangeInclusive;
use core::time::Duration;

use ringmesh_types::body::HOLD_MAX;
use ringmesh_types::duration;

/// A setting's default and the values that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob<T> {
    /// What holds when nothing is written.
    pub default: T,
    /// The least that is allowed.
    pub min: T,
    /// The most that is allowed.
    pub max: T,
}

/// `mesh.probe_interval`: time between the starts of two probes of a node.
pub const PROBE_INTERVAL: Knob<Duration> = Knob::millis(1_000, 200, 60_000);
/// `mesh.probe_timeout`: how long a direct probe may take; below the interval.
pub const PROBE_TIMEOUT: Knob<Duration> = Knob::millis(500, 50, 30_000);
/// `mesh.suspicion_min`: how long a member stays suspect at least, however many accuse it.
pub const SUSPICION_MIN: Knob<Duration> = Knob::millis(1_100, 200, 60_000);
/// `mesh.suspicion_max`: how long it stays suspect when nobody else agrees; not below the minimum.
pub const SUSPICION_MAX: Knob<Duration> = Knob::millis(6_000, 500, 300_000);
/// `mesh.hold`: how long others wait for an agent that announced its restart.
pub const HOLD: Knob<Duration> =
    Knob { default: Duration::from_secs(20), min: Duration::ZERO, max: HOLD_MAX };
/// `dns.ttl`: how long an answer may be kept; whole seconds.
pub const TTL: Knob<Duration> = Knob::millis(5_000, 1_000, 300_000);
/// `dns.negative_ttl`: how long a negative answer may be kept; whole seconds.
pub const NEGATIVE_TTL: Knob<Duration> = Knob::millis(15_000, 11_000, 30_000);
/// `dns.rate_limit`: responses a second over UDP to each network that is not trusted; 0 is no limit.
pub const RATE_LIMIT: Knob<u32> = Knob { default: 100, min: 0, max: 100_000 };
/// `dns.rate_burst`: how many of them at once after a rest.
pub const RATE_BURST: Knob<u32> = Knob { default: 200, min: 1, max: 100_000 };
/// `service.weight`: an instance's share among its equals.
pub const WEIGHT: Knob<u16> = Knob { default: 100, min: 1, max: u16::MAX };
/// `service.endpoint.check.rise` and `fall`: results in a row that change a state.
pub const IN_A_ROW: Knob<u32> = Knob { default: 2, min: 1, max: 100 };

impl<T: Copy> Knob<T> {
    /// The values that are allowed.
    pub fn range(&self) -> RangeInclusive<T> {
        RangeInclusive::new(self.min, self.max)
    }
}

impl Knob<Duration> {
    const fn millis(default: u64, min: u64, max: u64) -> Self {
        Self {
            default: Duration::from_millis(default),
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
        }
    }

    /// Reads a duration that is within the range.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn read(&self, text: &str) -> Result<Duration, String> {
        let value = duration::parse(text)?;
        if self.range().contains(&value) {
            Ok(value)
        } else {
            let (min, max) = (duration::format(self.min), duration::format(self.max));
            Err(format!("{text:?} is not allowed: {min} to {max}"))
        }
    }

    /// Reads a duration of whole seconds that is within the range.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn read_seconds(&self, text: &str) -> Result<Duration, String> {
        let value = self.read(text)?;
        if value.subsec_nanos() == 0 {
            Ok(value)
        } else {
            Err(format!("{text:?} is not allowed: whole seconds are, because DNS knows nothing shorter"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_range() {
        let durations =
            [PROBE_INTERVAL, PROBE_TIMEOUT, SUSPICION_MIN, SUSPICION_MAX, HOLD, TTL, NEGATIVE_TTL];
        for knob in durations {
            assert!(knob.range().contains(&knob.default), "{knob:?}");
        }
        assert!(WEIGHT.range().contains(&WEIGHT.default));
        assert!(RATE_LIMIT.range().contains(&RATE_LIMIT.default));
        assert!(RATE_BURST.range().contains(&RATE_BURST.default));
        assert!(IN_A_ROW.range().contains(&IN_A_ROW.default));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_the_range() {
        assert_eq!(TTL.read_seconds("0s"), Err("\"0s\" is not allowed: 1s to 5m".to_owned()));
        assert_eq!(TTL.read_seconds("1s"), Ok(Duration::from_secs(1)));
        assert!(TTL.read_seconds("1500ms").is_err());
        assert!(TTL.read("5").is_err());
    }
}
