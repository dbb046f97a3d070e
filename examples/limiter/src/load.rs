//! Requests as accounts make them: a few much, most of them little (Zipf), and one that suddenly makes a lot.
//!
//! Which account makes which request follows from the seed alone. Times count from when a request was due, so that a daemon which
//! keeps everybody waiting looks as slow as it is.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use ringmesh_client::{Maps, Place};
use ringmesh_types::name::ServiceName;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::peers::{Peers, Reply};
use crate::server::{GENERATION_HEADER, ROLE_HEADER};

/// Requests under way at most; the next one waits.
const UNDER_WAY_MAX: usize = 1_024;
/// Accounts at most.
pub const ACCOUNTS_MAX: usize = 1_000_000;
/// How long a daemon may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the agent may take to tell the first map.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// Daemons to ask in turn, if nobody looks up who owns an account, or no owner is found.
    pub daemons: Vec<SocketAddr>,
    /// The agent that tells who owns an account; in turn without one.
    pub agent: Option<SocketAddr>,
    /// The service whose map that is.
    pub service: ServiceName,
    /// How many accounts there are: 1 to 1,000,000.
    pub accounts: usize,
    /// How uneven they are: the account of rank n asks 1 / n^zipf as often as the first.
    pub zipf: f64,
    /// Requests a second, above 0.
    pub per_second: f64,
    /// For how long.
    pub duration: Duration,
    /// An account that makes a lot of requests.
    pub noisy: Option<Noisy>,
    /// What every request costs.
    pub cost: f64,
    /// What is random follows from it.
    pub seed: u64,
}

/// One account that makes a share of all requests from some time on.
#[derive(Debug, Clone, PartialEq)]
pub struct Noisy {
    /// Which one.
    pub account: String,
    /// Its share, 0 to 1.
    pub share: f64,
    /// From when on.
    pub after: Duration,
}

/// Why a text is no [`Noisy`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: write ACCOUNT=SHARE@SECONDS, such as acme=0.5@10, with a share of 0 to 1")]
pub struct NoisyError(String);

impl FromStr for Noisy {
    type Err = NoisyError;

    fn from_str(text: &str) -> Result<Self, NoisyError> {
        let read = || {
            let (account, rest) = text.rsplit_once('=').filter(|(account, _)| !account.is_empty())?;
            let (share, after) = rest.split_once('@')?;
            let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
            let after = Duration::try_from_secs_f64(after.parse().ok()?).ok()?;
            Some(Self { account: account.to_owned(), share, after })
        };
        read().ok_or_else(|| NoisyError(text.to_owned()))
    }
}

/// Why nothing is asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// A number that is not allowed.
    #[error("{field}: {value} is not allowed: {allowed}")]
    Number {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
    /// Nobody to ask.
    #[error("there is nobody to ask: name daemons, or an agent that knows the owners")]
    Nobody,
    /// The agent tells no map.
    #[error("the agent at {0} tells no map of this service: does it run, and have one?")]
    NoMap(SocketAddr),
}

/// What came of the requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Requests that were made and are over.
    pub requests: u64,
    /// Of which got their tokens.
    pub granted: u64,
    /// There were not enough tokens.
    pub refused: u64,
    /// Went to a daemon that had to ask the owner.
    pub forwarded: u64,
    /// Nobody decided: the daemon was not reached, or said that it cannot.
    pub errors: u64,
    /// Half of all took at most this long.
    pub p50_ms: f64,
    /// All but one in a hundred took at most this long.
    pub p99_ms: f64,
}

/// Draws accounts.
#[derive(Debug)]
struct Draws {
    rng: ChaCha8Rng,
    /// The share of requests of all accounts up to each rank.
    sums: Vec<f64>,
    noisy: Option<Noisy>,
}

impl Draws {
    fn new(config: &LoadConfig) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=config.accounts)
            .map(|rank| {
                sum += (rank as f64).powf(-config.zipf);
                sum
            })
            .collect();
        sums.iter_mut().for_each(|part| *part /= sum);
        Self { rng: ChaCha8Rng::seed_from_u64(config.seed), sums, noisy: config.noisy.clone() }
    }

    /// The account of a request that is due so long after the first.
    fn next(&mut self, due: Duration) -> String {
        let (is_noisy, rank): (f64, f64) = (self.rng.random(), self.rng.random());
        if let Some(noisy) = self.noisy.as_ref().filter(|noisy| due >= noisy.after && is_noisy < noisy.share)
        {
            return noisy.account.clone();
        }
        let rank = self.sums.partition_point(|sum| *sum <= rank).min(self.sums.len() - 1);
        format!("account-{}", rank + 1)
    }
}

/// How long things took, to a sixteenth: counts by the power of two of the microseconds and the four bits behind it.
#[derive(Debug)]
struct Times([AtomicU64; 64 * 16]);

impl Times {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 64 * 16])
    }

    fn add(&self, took: Duration) {
        let micros = (took.as_micros() as u64).max(16);
        let power = micros.ilog2();
        let bits = (micros >> (power - 4)) & 15;
        self.0[(power * 16) as usize + bits as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What `share` of all took at most, in milliseconds.
    fn at_most(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let mut left = (counts.iter().sum::<u64>() as f64 * share).ceil();
        let reached = counts.iter().position(|count| {
            left -= *count as f64;
            *count > 0 && left <= 0.0
        });
        let Some(index) = reached else { return 0.0 };
        let (power, bits) = (index as u32 / 16, index as u64 % 16);
        ((17 + bits) as f64) * 2_f64.powi(power as i32 - 4) / 1_000.0
    }
}

#[derive(Debug)]
struct Load {
    config: LoadConfig,
    maps: Option<Maps>,
    peers: Peers,
    counts: Mutex<Summary>,
    times: Times,
    turn: AtomicU64,
}

/// Makes requests, and says every second and at the end what came of them.
///
/// # Errors
/// If a number is not allowed, there is nobody to ask, or the agent tells no map within 10 s.
pub async fn run(config: LoadConfig, mut on_second: impl FnMut(&Summary)) -> Result<Summary, LoadError> {
    check(&config)?;
    let maps = match config.agent {
        Some(agent) => Some(watch(agent, &config).await?),
        None => None,
    };
    let mut draws = Draws::new(&config);
    let load = Arc::new(Load {
        maps,
        peers: Peers::default(),
        counts: Mutex::new(Summary::default()),
        times: Times::new(),
        turn: AtomicU64::new(0),
        config,
    });
    let permits = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let (begun, mut told, mut requests) = (Instant::now(), 0, JoinSet::new());
    let all = (load.config.per_second * load.config.duration.as_secs_f64()) as u64;
    for number in 0..all {
        let due = Duration::from_secs_f64(number as f64 / load.config.per_second);
        sleep_until(begun + due).await;
        // The semaphore is never closed.
        let permit = Arc::clone(&permits).acquire_owned().await;
        let (load, account) = (Arc::clone(&load), draws.next(due));
        requests.spawn({
            let load = Arc::clone(&load);
            async move {
                load.request(&account, begun + due).await;
                drop(permit);
            }
        });
        while requests.try_join_next().is_some() {}
        if due.as_secs() > told {
            told = due.as_secs();
            on_second(&load.summary());
        }
    }
    while requests.join_next().await.is_some() {}
    Ok(load.summary())
}

fn check(config: &LoadConfig) -> Result<(), LoadError> {
    let number = |field, value: f64, is_allowed: bool, allowed| {
        if is_allowed { Ok(()) } else { Err(LoadError::Number { field, value, allowed }) }
    };
    let is_above_0 = |value: f64| value > 0.0 && value.is_finite();
    let accounts = config.accounts;
    number("accounts", accounts as f64, (1..=ACCOUNTS_MAX).contains(&accounts), "1 to 1000000")?;
    number("rate", config.per_second, is_above_0(config.per_second), "above 0")?;
    number("cost", config.cost, is_above_0(config.cost), "above 0")?;
    number("zipf", config.zipf, (0.0..=10.0).contains(&config.zipf), "0 to 10")?;
    if config.daemons.is_empty() && config.agent.is_none() { Err(LoadError::Nobody) } else { Ok(()) }
}

async fn watch(agent: SocketAddr, config: &LoadConfig) -> Result<Maps, LoadError> {
    let maps = Maps::watch(agent, config.service.clone(), "load");
    match timeout(READY_PATIENCE, maps.ready()).await {
        Ok(_) => Ok(maps),
        Err(_) => Err(LoadError::NoMap(agent)),
    }
}

impl Load {
    async fn request(&self, account: &str, due: Instant) {
        let body = json!({ "account": account, "cost": self.config.cost }).to_string();
        let reply = match self.target(account) {
            Some((to, headers)) => self.peers.post(to, "/take", &headers, body.into(), PATIENCE).await.ok(),
            None => None,
        };
        self.times.add(due.elapsed());
        self.count(reply);
    }

    /// Whom to ask, and what to tell beside the request.
    fn target(&self, account: &str) -> Option<(SocketAddr, Vec<(&'static str, String)>)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        let Some(lookup) = self.maps.as_ref().and_then(|maps| maps.lookup(account.as_bytes()).ok()) else {
            let in_turn = self.config.daemons.get(turn % self.config.daemons.len().max(1))?;
            return Some((*in_turn, Vec::new()));
        };
        let owner = match &lookup.place {
            Place::Dedicated { owners, .. } => {
                let live: Vec<_> = owners.iter().filter(|owner| owner.is_live).collect();
                live.get(turn % live.len().max(1)).map_or(&lookup.owner, |owner| *owner).clone()
            }
            Place::Partition { .. } => lookup.owner,
        };
        let generation = lookup.token.generation.to_string();
        Some((*owner.endpoints.first()?, vec![(GENERATION_HEADER, generation)]))
    }

    fn count(&self, reply: Option<Reply>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        let Some(reply) = reply.filter(|reply| reply.status == 200) else {
            counts.errors += 1;
            return;
        };
        let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        match said["granted"].as_bool() {
            Some(true) => counts.granted += 1,
            Some(false) => counts.refused += 1,
            None => counts.errors += 1,
        }
        let is_forwarded = reply.headers.get(ROLE_HEADER).is_some_and(|role| role == "forwarded");
        counts.forwarded += u64::from(is_forwarded);
    }

    fn summary(&self) -> Summary {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Summary { p50_ms: self.times.at_most(0.5), p99_ms: self.times.at_most(0.99), ..counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LoadConfig {
        LoadConfig {
            daemons: vec![],
            agent: None,
            service: "limiter".parse().expect("a name"),
            accounts: 1_000,
            zipf: 1.1,
            per_second: 100.0,
            duration: Duration::from_secs(1),
            noisy: Some("acme=0.5@10".parse().expect("is one")),
            cost: 1.0,
            seed: 7,
        }
    }

    #[test]
    fn the_seed_says_who_asks_and_the_noisy_one_comes_when_it_is_due() {
        let (mut one, mut other) = (Draws::new(&config()), Draws::new(&config()));
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..20_000_u64 {
            let due = Duration::from_secs(number / 1_000);
            let account = one.next(due);
            assert_eq!(account, other.next(due));
            *counts.entry((account, due.as_secs() >= 10)).or_insert(0) += 1;
        }
        let count = |account: &str, is_late| counts.get(&(account.to_owned(), is_late)).copied().unwrap_or(0);
        assert_eq!(count("acme", false), 0);
        assert!((4_700..5_300).contains(&count("acme", true)), "{}", count("acme", true));
        let ratio = f64::from(count("account-1", false)) / f64::from(count("account-2", false));
        assert!((1.8..2.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn times_are_told_to_a_sixteenth() {
        let times = Times::new();
        (1..=1_000).for_each(|millis| times.add(Duration::from_millis(millis)));
        let (half, most) = (times.at_most(0.5), times.at_most(0.99));
        assert!((500.0..540.0).contains(&half) && (990.0..1_060.0).contains(&most), "{half} {most}");
        assert_eq!(Times::new().at_most(0.5), 0.0);
    }

    #[test]
    fn a_noisy_account_is_written_as_the_error_says() {
        let noisy = Noisy { account: "a=b".to_owned(), share: 0.25, after: Duration::from_millis(1_500) };
        assert_eq!("a=b=0.25@1.5".parse(), Ok(noisy));
        for text in ["acme", "=0.5@1", "acme=0.5", "acme=2@1", "acme=0.5@-1"] {
            let error = text.parse::<Noisy>().expect_err(text);
            assert!(
                error.to_string().starts_with(&format!("{text:?}: write ACCOUNT=SHARE@SECONDS")),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_said() {
        let nobody = run(config(), |_| {}).await;
        assert_eq!(nobody, Err(LoadError::Nobody));
        let none = run(LoadConfig { accounts: 0, ..config() }, |_| {}).await;
        assert!(none.expect_err("no accounts").to_string().starts_with("accounts: 0 is not allowed"));
    }
}
