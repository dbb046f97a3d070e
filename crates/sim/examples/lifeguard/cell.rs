//! What is played: slow members that are held for a while and run freely for a while, and one member that crashes.

use core::time::Duration;

use ringmesh_types::time::Instant;

/// One combination of the experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    /// C: how many members are slow at once.
    pub(crate) slow: usize,
    /// D: how long what they send and receive is held.
    pub(crate) hold: Duration,
    /// I: how long it then passes.
    pub(crate) free: Duration,
}

impl core::fmt::Display for Cell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "C {} D {:?} I {:?}", self.slow, self.hold, self.free)
    }
}

/// What all cells of a run share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) seeds: u64,
}

impl Plan {
    const SLOW_FROM: Duration = Duration::from_secs(10);
    const SLOW_FOR: Duration = Duration::from_secs(120);
    const CRASH_AT: Duration = Duration::from_secs(60);
    pub(crate) const LENGTH: Duration = Duration::from_secs(150);

    pub(crate) fn length(&self) -> Duration {
        Self::LENGTH
    }

    pub(crate) fn slow_from(&self) -> Duration {
        Self::SLOW_FROM
    }

    pub(crate) fn slow_until(&self) -> Duration {
        Self::SLOW_FROM + Self::SLOW_FOR
    }

    pub(crate) fn crash_at(&self) -> Duration {
        Self::CRASH_AT
    }

    /// Which member crashes. It is never slow.
    pub(crate) fn crashes(&self) -> usize {
        self.nodes - 1
    }

    /// Whether a member is slow at times: those in the middle, so that no seed is among them.
    pub(crate) fn is_slow(&self, cell: Cell, host: usize) -> bool {
        let first = self.nodes / 4;
        (first..first + cell.slow).contains(&host)
    }

    /// How long a message that a host sends or receives now is held.
    pub(crate) fn held(&self, cell: Cell, host: usize, now: Instant) -> Duration {
        let at = now.since(Instant::START);
        if !self.is_slow(cell, host) || at < self.slow_from() || at >= self.slow_until() {
            return Duration::ZERO;
        }
        let cycle = (cell.hold + cell.free).as_nanos();
        let into = (at - self.slow_from()).as_nanos() % cycle;
        Duration::from_nanos(u64::try_from(cell.hold.as_nanos().saturating_sub(into)).expect("a short time"))
    }
}

/// What came of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// How often an observer declared a healthy member Down.
    pub(crate) false_positives: u64,
    /// The same by observers that were healthy too.
    pub(crate) false_positives_by_healthy: u64,
    /// What became known of the crash.
    pub(crate) crash: Option<Crash>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// When healthy members knew of the crash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crash {
    known: std::collections::BTreeMap<usize, Duration>,
}

impl Crash {
    pub(crate) fn known(&mut self, observer: usize, after: Duration) {
        self.known.entry(observer).or_insert(after);
    }

    /// The first that knew.
    pub(crate) fn first(&self) -> Option<Duration> {
        self.known.values().min().copied()
    }

    /// The last of `healthy` members, if all came to know.
    pub(crate) fn last(&self, healthy: usize) -> Option<Duration> {
        self.known.values().max().copied().filter(|_| self.known.len() >= healthy)
    }
}
