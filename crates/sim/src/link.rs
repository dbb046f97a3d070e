//! What happens to a message between two hosts: latency, jitter, loss, duplication, and links that are cut.

use core::time::Duration;
use std::collections::BTreeSet;

use rand::{Rng, RngExt};

/// How links behave.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkConfig {
    /// One way, at least.
    pub latency: Duration,
    /// Added at most, uniformly.
    pub jitter: Duration,
    /// Share of datagrams and segments that get lost, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplication: f64,
}

impl Default for LinkConfig {
    /// A quiet LAN.
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(300),
            jitter: Duration::from_micros(400),
            loss: 0.0,
            duplication: 0.0,
        }
    }
}

/// A stream's segment is sent again after this time, then twice, four times and so on.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(60);
/// After this many losses in a row a stream gives up.
const RETRANSMITS_MAX: u32 = 6;

/// All links, and which of them are cut.
#[derive(Debug, Clone)]
pub struct Links {
    /// How links behave that are not cut.
    pub config: LinkConfig,
    cut: BTreeSet<(usize, usize)>,
    lossy: Vec<(usize, f64)>,
}

impl Links {
    /// Links that all behave as `config` says.
    pub fn new(config: LinkConfig) -> Self {
        Self { config, cut: BTreeSet::new(), lossy: Vec::new() }
    }

    /// Cuts the direction from `from` to `to`.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Mends every cut.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// Gives everything that goes to or from `host` this much more loss.
    pub fn add_loss(&mut self, host: usize, loss: f64) {
        self.lossy.push((host, loss));
    }

    /// Whether anything can get from `from` to `to`.
    pub fn is_whole(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    fn loss(&self, from: usize, to: usize) -> f64 {
        let passes = self.lossy.iter().filter(|(host, _)| *host == from || *host == to);
        1.0 - passes.fold(1.0 - self.config.loss, |passes, (_, loss)| passes * (1.0 - loss))
    }

    fn delay(&self, rng: &mut impl Rng) -> Duration {
        let nanos = u64::try_from(self.config.jitter.as_nanos()).unwrap_or(u64::MAX);
        self.config.latency + Duration::from_nanos(rng.random_range(0..=nanos))
    }

    /// When the copies of a datagram arrive, if any does.
    pub fn datagram(&self, rng: &mut impl Rng, from: usize, to: usize) -> Vec<Duration> {
        let is_lost = rng.random_bool(self.loss(from, to).clamp(0.0, 1.0)) || !self.is_whole(from, to);
        let is_doubled = rng.random_bool(self.config.duplication.clamp(0.0, 1.0));
        let copies = if is_lost { 0 } else { 1 + usize::from(is_doubled) };
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    /// When a whole message on a stream arrives, if it does: lost segments are sent again.
    pub fn stream(&self, rng: &mut impl Rng, from: usize, to: usize) -> Option<Duration> {
        if !self.is_whole(from, to) || !self.is_whole(to, from) {
            return None;
        }
        let loss = self.loss(from, to).clamp(0.0, 1.0);
        let mut waited = self.delay(rng);
        for losses in 0..RETRANSMITS_MAX {
            if !rng.random_bool(loss) {
                return Some(waited);
            }
            waited += RETRANSMIT_AFTER * (1 << losses);
        }
        None
    }
}
