//! How long answers take from each zone.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_gossip::rtt::RoundTrips;
use ringmesh_types::name::ZoneName;

/// Zones of which round-trip times are kept; members of more are waited for as long as the configuration says.
const ZONES_MAX: usize = 64;

/// Round-trip times by zone.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    zones: BTreeMap<ZoneName, RoundTrips>,
}

impl Paths {
    /// A member in `zone` answered after this time.
    pub(crate) fn add(&mut self, zone: &ZoneName, took: Duration) {
        if self.zones.contains_key(zone) || self.zones.len() < ZONES_MAX {
            self.zones.entry(zone.clone()).or_default().add(took);
        }
    }

    /// The round-trip time that 99 of 100 answers from `zone` took at most, if it is known.
    pub(crate) fn p99(&self, zone: &ZoneName) -> Option<Duration> {
        self.zones.get(zone)?.p99()
    }

    /// How long to wait for an answer from `zone`, at most `longest`.
    pub(crate) fn wait(&self, zone: &ZoneName, longest: Duration) -> Duration {
        self.zones.get(zone).map_or(longest, |trips| trips.wait(longest))
    }
}
