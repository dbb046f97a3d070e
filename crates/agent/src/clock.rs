//! Where time enters: the monotonic clock since the driver's start, and the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use ringmesh_types::time::{Instant, WallTime};

/// The monotonic clock, counted from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// A clock that says zero now.
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// What it says now.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// When it will say `at`.
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        (self.0 + at.since(Instant::START)).into()
    }
}

/// The wall clock.
pub fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
