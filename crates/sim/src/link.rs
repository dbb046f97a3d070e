//! What happens to a message between two hosts: latency, jitter, loss, duplication, reordering, bandwidth, the cost of
//! the first message between two hosts, and links that are cut.
//!
//! A link is a QUIC connection in the agent. Here it costs one round trip and [`HANDSHAKE_BYTES`] before the first
//! message, and lasts until one of the two hosts dies. Datagrams get lost; what a stream loses is sent again.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use ringmesh_types::time::Instant;

/// How a link behaves.
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
    /// Share of datagrams that are held back by up to ten times the latency, 0 to 1.
    pub reordering: f64,
    /// Bits per second from one host to another; nothing if it does not matter.
    pub bandwidth: Option<u64>,
}

impl Default for LinkConfig {
    /// A quiet LAN.
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(300),
            jitter: Duration::from_micros(400),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            bandwidth: None,
        }
    }
}

/// A stream's segment is sent again after this time, then twice, four times and so on.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(60);
/// After this many losses in a row a stream gives up.
const RETRANSMITS_MAX: u32 = 6;
/// IP bytes that setting up a connection costs the side that begins: padded first packets, certificates, keys.
pub const HANDSHAKE_BYTES: u64 = 5_000;
/// A datagram that is overtaken is held back by at most this many latencies.
const HELD_BACK_MAX: u32 = 10;

/// Some of the hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSet(Vec<u64>);

impl HostSet {
    /// Adds a host. Says whether it was not there yet.
    pub fn insert(&mut self, host: usize) -> bool {
        let word = host / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let before = self.0[word];
        self.0[word] |= 1 << (host % 64);
        before != self.0[word]
    }

    /// Takes a host out. Says whether it was there.
    pub fn remove(&mut self, host: usize) -> bool {
        let was = self.contains(host);
        if was {
            self.0[host / 64] &= !(1 << (host % 64));
        }
        was
    }

    /// Whether a host is in it.
    pub fn contains(&self, host: usize) -> bool {
        self.0.get(host / 64).is_some_and(|word| word >> (host % 64) & 1 == 1)
    }

    /// How many hosts are in it.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no host is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The hosts in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|host| self.contains(*host))
    }
}

impl FromIterator<usize> for HostSet {
    fn from_iter<I: IntoIterator<Item = usize>>(hosts: I) -> Self {
        let mut set = Self::default();
        for host in hosts {
            set.insert(host);
        }
        set
    }
}

/// What is wrong with some links, until it is mended.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Nothing gets from these to those.
    Cut {
        /// From any of these.
        from: HostSet,
        /// To any of those.
        to: HostSet,
    },
    /// What these send gets lost, at this share.
    LossOut(HostSet, f64),
    /// What is sent to these gets lost, at this share.
    LossIn(HostSet, f64),
}

/// Names a [`Trouble`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TroubleId(u64);

/// All links, and what is wrong with them.
#[derive(Debug, Clone)]
pub struct Links {
    /// How links behave unless their zones say otherwise.
    pub config: LinkConfig,
    zones: usize,
    between: BTreeMap<(usize, usize), LinkConfig>,
    troubles: BTreeMap<TroubleId, Trouble>,
    next: u64,
    /// By host, those of a higher number that it has a connection to.
    connected: Vec<HostSet>,
    busy_until: BTreeMap<(u32, u32), Instant>,
}

/// What a message costs and when it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// After how long it arrives, if it does.
    pub arrives: Option<Duration>,
    /// After how long a second copy of it arrives, if one does.
    pub again: Option<Duration>,
    /// Bytes beyond its own: a connection had to be made.
    pub extra_bytes: u64,
}

impl Links {
    /// Links between hosts that stand in `zones` zones in turn; all behave as `config` says.
    pub fn new(config: LinkConfig, zones: usize) -> Self {
        Self {
            config,
            zones: zones.max(1),
            between: BTreeMap::new(),
            troubles: BTreeMap::new(),
            next: 0,
            connected: Vec::new(),
            busy_until: BTreeMap::new(),
        }
    }

    /// Links between hosts of two zones, both ways, behave as `config` says.
    pub fn set_between(&mut self, one: usize, other: usize, config: LinkConfig) {
        self.between.insert((one, other), config.clone());
        self.between.insert((other, one), config);
    }

    /// Something goes wrong.
    pub fn trouble(&mut self, trouble: Trouble) -> TroubleId {
        self.next += 1;
        self.troubles.insert(TroubleId(self.next), trouble);
        TroubleId(self.next)
    }

    /// It is mended.
    pub fn end(&mut self, id: TroubleId) {
        self.troubles.remove(&id);
    }

    /// Everything is mended.
    pub fn mend(&mut self) {
        self.troubles.clear();
    }

    /// Cuts every link between hosts in `side` and the other `hosts`, both ways.
    pub fn split(&mut self, side: &HostSet, hosts: usize) -> [TroubleId; 2] {
        let rest: HostSet = (0..hosts).filter(|host| !side.contains(*host)).collect();
        [
            self.trouble(Trouble::Cut { from: side.clone(), to: rest.clone() }),
            self.trouble(Trouble::Cut { from: rest, to: side.clone() }),
        ]
    }

    /// Gives everything that goes to or from `host` this much more loss.
    pub fn add_loss(&mut self, host: usize, loss: f64) {
        let who: HostSet = [host].into_iter().collect();
        self.trouble(Trouble::LossOut(who.clone(), loss));
        self.trouble(Trouble::LossIn(who, loss));
    }

    /// Whether anything can get from `from` to `to`.
    pub fn is_whole(&self, from: usize, to: usize) -> bool {
        !self.troubles.values().any(|trouble| match trouble {
            Trouble::Cut { from: these, to: those } => these.contains(from) && those.contains(to),
            Trouble::LossOut(..) | Trouble::LossIn(..) => false,
        })
    }

    /// Whether the two have a connection.
    pub fn is_connected(&self, one: usize, other: usize) -> bool {
        self.connected.get(one.min(other)).is_some_and(|higher| higher.contains(one.max(other)))
    }

    /// A host died: whoever speaks with it next has to connect first.
    pub fn disconnect(&mut self, host: usize) {
        for lower in self.connected.iter_mut().take(host) {
            lower.remove(host);
        }
        if let Some(higher) = self.connected.get_mut(host) {
            *higher = HostSet::default();
        }
        let host = key(host, host).0;
        self.busy_until.retain(|(one, other), _| *one != host && *other != host);
    }

    /// How the link from `from` to `to` behaves while nothing is wrong.
    pub fn config(&self, from: usize, to: usize) -> &LinkConfig {
        if self.between.is_empty() {
            return &self.config;
        }
        self.between.get(&(from % self.zones, to % self.zones)).unwrap_or(&self.config)
    }

    fn loss(&self, from: usize, to: usize) -> f64 {
        let mut passes = 1.0 - self.config(from, to).loss;
        for trouble in self.troubles.values() {
            match trouble {
                Trouble::LossOut(who, share) if who.contains(from) => passes *= 1.0 - share,
                Trouble::LossIn(who, share) if who.contains(to) => passes *= 1.0 - share,
                Trouble::Cut { .. } | Trouble::LossOut(..) | Trouble::LossIn(..) => {}
            }
        }
        (1.0 - passes).clamp(0.0, 1.0)
    }

    /// What becomes of a datagram.
    pub fn datagram(
        &mut self,
        rng: &mut impl Rng,
        now: Instant,
        (from, to): (usize, usize),
        bytes: usize,
    ) -> Passage {
        let Some((connecting, extra_bytes)) = self.connect(rng, from, to) else {
            return Passage { extra_bytes: HANDSHAKE_BYTES, ..Passage::default() };
        };
        let is_lost = happens(rng, self.loss(from, to)) || !self.is_whole(from, to);
        let queued = self.queue(now, (from, to), bytes);
        if is_lost {
            return Passage { extra_bytes, ..Passage::default() };
        }
        let config = self.config(from, to);
        let is_doubled = happens(rng, config.duplication);
        let before = connecting + queued;
        let one = |rng: &mut _| {
            let held = if happens(rng, config.reordering) {
                up_to(rng, config.latency * HELD_BACK_MAX)
            } else {
                Duration::ZERO
            };
            before + config.latency + up_to(rng, config.jitter) + held
        };
        Passage { arrives: Some(one(rng)), again: is_doubled.then(|| one(rng)), extra_bytes }
    }

    /// What becomes of a whole message on a stream: lost segments are sent again, for a while.
    pub fn stream(
        &mut self,
        rng: &mut impl Rng,
        now: Instant,
        (from, to): (usize, usize),
        bytes: usize,
    ) -> Passage {
        let Some((connecting, extra_bytes)) = self.connect(rng, from, to) else {
            return Passage { extra_bytes: HANDSHAKE_BYTES, ..Passage::default() };
        };
        let queued = self.queue(now, (from, to), bytes);
        let arrives = self.persist(rng, from, to).map(|waited| connecting + queued + waited);
        Passage { arrives, again: None, extra_bytes }
    }

    /// How long it takes until the two are connected, and what that costs; nothing if it does not succeed.
    fn connect(&mut self, rng: &mut impl Rng, from: usize, to: usize) -> Option<(Duration, u64)> {
        if self.is_connected(from, to) {
            return Some((Duration::ZERO, 0));
        }
        let there = self.persist(rng, from, to)?;
        let back = self.persist(rng, to, from)?;
        let (lower, higher) = (from.min(to), from.max(to));
        if self.connected.len() <= lower {
            self.connected.resize(lower + 1, HostSet::default());
        }
        self.connected[lower].insert(higher);
        Some((there + back, HANDSHAKE_BYTES))
    }

    /// After how long something arrives that is sent again until it is acknowledged.
    fn persist(&self, rng: &mut impl Rng, from: usize, to: usize) -> Option<Duration> {
        if !self.is_whole(from, to) || !self.is_whole(to, from) {
            return None;
        }
        let (loss, config) = (self.loss(from, to), self.config(from, to));
        let mut waited = config.latency + up_to(rng, config.jitter);
        let again_after = RETRANSMIT_AFTER.max(config.latency * 3);
        for losses in 0..RETRANSMITS_MAX {
            if !happens(rng, loss) {
                return Some(waited);
            }
            waited += again_after * (1 << losses);
        }
        None
    }

    /// How long a message waits for those before it, and takes itself.
    fn queue(&mut self, now: Instant, (from, to): (usize, usize), bytes: usize) -> Duration {
        let Some(bandwidth) = self.config(from, to).bandwidth else {
            return Duration::ZERO;
        };
        let nanos = (bytes as u64).saturating_mul(8_000_000_000) / bandwidth.max(1);
        let free = self.busy_until.entry(key(from, to)).or_insert(now);
        *free = (*free).max(now).after(Duration::from_nanos(nanos));
        free.since(now)
    }
}

fn key(one: usize, other: usize) -> (u32, u32) {
    let short = |host| u32::try_from(host).expect("a world has fewer hosts than 2^32");
    (short(one), short(other))
}

fn happens(rng: &mut impl Rng, share: f64) -> bool {
    share > 0.0 && rng.random_bool(share.min(1.0))
}

fn up_to(rng: &mut impl Rng, most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 { Duration::ZERO } else { Duration::from_nanos(rng.random_range(0..=nanos)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn links(config: LinkConfig) -> (Links, ChaCha8Rng) {
        (Links::new(config, 2), ChaCha8Rng::seed_from_u64(1))
    }

    fn share_of(count: usize, mut happens: impl FnMut() -> bool) -> f64 {
        (0..count).filter(|_| happens()).count() as f64 / count as f64
    }

    #[test]
    fn the_first_message_pays_for_the_connection_and_a_death_ends_it() {
        let (mut links, mut rng) = links(LinkConfig { jitter: Duration::ZERO, ..LinkConfig::default() });
        let latency = links.config.latency;
        let mut send = |links: &mut Links| links.datagram(&mut rng, Instant::START, (0, 1), 100);
        let first = send(&mut links);
        assert_eq!((first.arrives, first.extra_bytes), (Some(latency * 3), HANDSHAKE_BYTES));
        let second = send(&mut links);
        assert_eq!((second.arrives, second.extra_bytes), (Some(latency), 0));
        links.disconnect(1);
        assert_eq!(send(&mut links).extra_bytes, HANDSHAKE_BYTES);
    }

    #[test]
    fn loss_on_one_side_is_one_way() {
        let (mut links, mut rng) = links(LinkConfig::default());
        links.datagram(&mut rng, Instant::START, (0, 1), 1);
        let who: HostSet = [0].into_iter().collect();
        let id = links.trouble(Trouble::LossOut(who, 0.25));
        let mut lost = |links: &mut Links, pair| {
            share_of(4_000, || links.datagram(&mut rng, Instant::START, pair, 1).arrives.is_none())
        };
        assert!((0.22..0.28).contains(&lost(&mut links, (0, 1))));
        assert!(lost(&mut links, (1, 0)) == 0.0);
        links.end(id);
        assert!(lost(&mut links, (0, 1)) == 0.0);
    }

    #[test]
    fn zones_may_differ_and_a_narrow_link_queues() {
        let (mut links, mut rng) = links(LinkConfig { jitter: Duration::ZERO, ..LinkConfig::default() });
        let far =
            LinkConfig { latency: Duration::from_millis(40), bandwidth: Some(8_000), ..links.config.clone() };
        links.set_between(0, 1, far);
        let mut arrives =
            |links: &mut Links, pair| links.datagram(&mut rng, Instant::START, pair, 100).arrives;
        assert_eq!(arrives(&mut links, (0, 2)), Some(Duration::from_micros(900)));
        assert_eq!(arrives(&mut links, (0, 1)), Some(Duration::from_millis(220)));
        assert_eq!(arrives(&mut links, (0, 1)), Some(Duration::from_millis(240)), "it waits for the first");
    }

    #[test]
    fn nothing_crosses_a_cut_that_way_and_no_stream_either_way() {
        let (mut links, mut rng) = links(LinkConfig::default());
        links.datagram(&mut rng, Instant::START, (0, 1), 1);
        let (from, to) = ([0].into_iter().collect(), [1].into_iter().collect());
        links.trouble(Trouble::Cut { from, to });
        let now = Instant::START;
        assert_eq!(links.datagram(&mut rng, now, (0, 1), 1).arrives, None);
        assert!(links.datagram(&mut rng, now, (1, 0), 1).arrives.is_some());
        assert_eq!(links.stream(&mut rng, now, (1, 0), 1).arrives, None);
        links.mend();
        assert!(links.stream(&mut rng, now, (1, 0), 1).arrives.is_some());
    }
}
