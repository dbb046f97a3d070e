//! Watching the agent for the map of one service.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use ringmesh_partition::author::REPORT_EVERY;
use ringmesh_partition::follow::HAND_OVER;
use ringmesh_partition::heat::{Meter, Report};
use ringmesh_partition::map::Map;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::time::Instant;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::event::{self, NewMap, PeerEventError, Told};
use crate::http;
use crate::services::post;
use crate::stream::{PeerStreamError, Stream};
use crate::view::{Lookup, LookupError, View};

/// How long to wait before the agent is asked again, at least and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// If the agent, which says something every 10 s, says nothing for so long, it is asked anew.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a report at most, as the agent takes it.
const REPORT_BYTES_MAX: usize = 64 << 10;
/// Views that a slow reader of [`Maps::views`] may be behind.
const VIEWS_WAITING_MAX: usize = 64;

/// The map of one service, kept up to date by a task that ends when this is dropped.
#[derive(Debug)]
pub struct Maps {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    agent: SocketAddr,
    service: ServiceName,
    reporter: String,
    begun: std::time::Instant,
    view: ArcSwapOption<View>,
    changed: watch::Sender<Option<Arc<View>>>,
    views: broadcast::Sender<Arc<View>>,
    meter: Mutex<Meter>,
    /// Since when the agent has not been heard, on the clock of [`Maps::now`]; [`HEARD`] while it is.
    away_since: AtomicU64,
}

/// The agent is heard.
const HEARD: u64 = u64::MAX;

impl Maps {
    /// Begins to watch the map of `service` at the agent's HTTP address, for ever: while the agent is away, or has no such map, it
    /// is asked again and again, and the last map goes on to count. `reporter` tells this program's reports of heat from others'
    /// on this machine.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watch(agent: SocketAddr, service: ServiceName, reporter: &str) -> Self {
        let shared = Arc::new(Shared {
            agent,
            service,
            reporter: reporter.to_owned(),
            begun: std::time::Instant::now(),
            view: ArcSwapOption::empty(),
            changed: watch::channel(None).0,
            views: broadcast::channel(VIEWS_WAITING_MAX).0,
            meter: Mutex::new(Meter::new(Instant::START)),
            away_since: AtomicU64::new(0),
        });
        let tasks =
            [tokio::spawn(follow(Arc::clone(&shared))), tokio::spawn(report_heat(Arc::clone(&shared)))];
        Self { shared, tasks }
    }

    /// Waits for the first map, however long it takes.
    pub async fn ready(&self) -> Arc<View> {
        let mut changed = self.changed();
        loop {
            if let Some(view) = changed.borrow_and_update().clone() {
                return view;
            }
            if changed.changed().await.is_err() {
                // The sender lives as long as `self`.
                core::future::pending::<()>().await;
            }
        }
    }

    /// The newest view, for whoever acts on a change; nothing until there is one.
    pub fn changed(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.shared.changed.subscribe()
    }

    /// Every view from now on, for whoever must miss none: one that lags more than 64 behind is told so.
    pub fn views(&self) -> broadcast::Receiver<Arc<View>> {
        self.shared.views.subscribe()
    }

    /// The map that counts, with its hosts; nothing until there is one.
    pub fn view(&self) -> Option<Arc<View>> {
        self.shared.view.load_full()
    }

    /// For how long the agent has not been heard: what counts here is that old, and others may have taken over. Zero while it is.
    pub fn away_for(&self) -> Duration {
        match self.shared.away_since.load(Ordering::Relaxed) {
            HEARD => Duration::ZERO,
            since => self.now().since(Instant::from_nanos(since)),
        }
    }

    /// The clock of [`View::before`]: since this watch began.
    pub fn now(&self) -> Instant {
        self.shared.now()
    }

    /// Whom to ask for `key`, and nothing else: this neither waits nor allocates.
    ///
    /// # Errors
    /// If it is no key, there is no map yet, or nobody is live.
    pub fn owner(&self, key: &[u8]) -> Result<NodeId, LookupError> {
        let view = self.shared.view.load();
        let view = view.as_ref().ok_or(LookupError::NoMap)?;
        let at = view.map().parts().strategy.position(key)?;
        view.owner_at(at).ok_or_else(|| LookupError::NobodyLive(view.token().generation))
    }

    /// Who serves `key`, and all that is known of it. It waits for nobody.
    ///
    /// # Errors
    /// If it is no key, there is no map yet, or nobody is live.
    pub fn lookup(&self, key: &[u8]) -> Result<Lookup, LookupError> {
        let view = self.shared.view.load();
        view.as_ref().ok_or(LookupError::NoMap)?.lookup(self.now(), key)
    }

    /// Counts a request for `key` that this program served as an owner, of so many cost units. The agent hears of it every 5 s.
    /// What is no key, has no map, or costs nothing is not counted.
    pub fn count(&self, key: &[u8], cost: f64) {
        let view = self.shared.view.load();
        let Some(view) = view.as_ref() else { return };
        self.shared.meter().count(self.now(), view.map(), key, cost);
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// A panic leaves numbers that are at worst a little off.
    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, what: &str) -> String {
        format!("/api/v1/maps/{}/{what}", http::encode(self.service.as_str()))
    }

    fn on_told(&self, told: Told) {
        let present = self.view.load_full();
        let view = match told {
            Told::Map(new) => self.view_of(present.as_deref(), *new),
            Told::Hosts(hosts) => {
                let Some(present) = present else { return };
                present.with_hosts(hosts)
            }
            Told::Other => return,
        };
        let view = Arc::new(view);
        self.view.store(Some(Arc::clone(&view)));
        self.changed.send_replace(Some(Arc::clone(&view)));
        // Nobody has to listen.
        let _ = self.views.send(view);
    }

    fn view_of(&self, present: Option<&View>, new: NewMap) -> View {
        let NewMap { map, before, me, hosts } = new;
        let sequence = present.map_or(0, |present| present.sequence() + 1);
        let until = |left: Duration| self.now().after(left.min(HAND_OVER));
        let before = before.map(|(before, left)| (Arc::new(before), until(left)));
        if let Some(present) = present.filter(|present| *present.map() == map) {
            // The watch began anew: the map is kept, and so is what is left of the time for hand-overs.
            return View::new(sequence, present.shared_map(), me, before, hosts);
        }
        if let Some(present) = present {
            self.meter().follow(present.map(), &map);
        }
        tracing::info!(service = %self.service, generation = map.parts().generation, author = %map.parts().author, "another map counts");
        View::new(sequence, Arc::new(map), me, before, hosts)
    }
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum PeerWatchError {
    #[error(transparent)]
    Unreachable(io::Error),
    #[error("it has no map of this service: {0}")]
    NoMap(String),
    #[error("it answers with {status}: {reason}")]
    Status { status: u16, reason: String },
    #[error("it answers with {0:?} instead of events")]
    ContentType(String),
    #[error("it said nothing for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("it ended the stream")]
    Ended,
    #[error(transparent)]
    Stream(#[from] PeerStreamError),
    #[error(transparent)]
    Event(#[from] PeerEventError),
}

/// Watches for ever.
async fn follow(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        let (mut heard, agent) = (false, shared.agent);
        let Err(error) = watch_once(&shared, &mut heard).await;
        failures = if heard { 0 } else { failures + 1 };
        let now = shared.now().as_nanos();
        let _ = shared.away_since.compare_exchange(HEARD, now, Ordering::Relaxed, Ordering::Relaxed);
        match &error {
            PeerWatchError::NoMap(_) => {
                tracing::debug!(%agent, service = %shared.service, %error, "the agent has no map");
            }
            PeerWatchError::Unreachable(_)
            | PeerWatchError::Status { .. }
            | PeerWatchError::ContentType(_)
            | PeerWatchError::Silent
            | PeerWatchError::Ended
            | PeerWatchError::Stream(_)
            | PeerWatchError::Event(_) => {
                tracing::warn!(%agent, service = %shared.service, %error, "the watch of the agent ended, it begins anew");
            }
        }
        sleep(back_off(failures, RandomState::new().hash_one(failures))).await;
    }
}

/// How long to wait after so many failures in a row: half of a limit that doubles, and a random part of the other half.
fn back_off(failures: u32, random: u64) -> Duration {
    let (least, most) = BACK_OFF;
    let limit = most.min(least.saturating_mul(2_u32.saturating_pow(failures.min(16))));
    let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
    least.max(limit.mul_f64(0.5 + 0.5 * part))
}

/// Watches until the stream ends. Sets `heard` once the agent told something.
async fn watch_once(shared: &Shared, heard: &mut bool) -> Result<core::convert::Infallible, PeerWatchError> {
    let opened = http::open(shared.agent, "GET", &shared.path("watch"), Bytes::new()).await;
    let mut open = opened.map_err(PeerWatchError::Unreachable)?;
    let status = open.response.status().as_u16();
    if status != 200 {
        let reason = refusal(&mut open).await;
        return Err(if status == 404 {
            PeerWatchError::NoMap(reason)
        } else {
            PeerWatchError::Status { status, reason }
        });
    }
    let kind = open.response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    if !kind.starts_with("text/event-stream") {
        return Err(PeerWatchError::ContentType(kind.chars().take(80).collect()));
    }
    let mut stream = Stream::default();
    loop {
        let frame = timeout(SILENCE_MAX, open.response.body_mut().frame()).await;
        let frame = frame.map_err(|_| PeerWatchError::Silent)?.ok_or(PeerWatchError::Ended)?;
        let frame = frame.map_err(|error| PeerWatchError::Unreachable(io::Error::other(error)))?;
        let Ok(chunk) = frame.into_data() else { continue };
        for event in stream.read(&chunk)? {
            let told = event::read(&event, &shared.service)?;
            shared.away_since.store(HEARD, Ordering::Relaxed);
            shared.on_told(told);
            *heard = true;
        }
    }
}

async fn refusal(open: &mut http::Open) -> String {
    let body = Limited::new(open.response.body_mut(), 4 << 10).collect();
    match timeout(http::TIMEOUT, body).await {
        Ok(Ok(body)) => http::reason(&body.to_bytes()),
        Ok(Err(_)) | Err(_) => "without a reason".to_owned(),
    }
}

#[derive(Serialize)]
struct HeatBody<'a> {
    reporter: &'a str,
    report: &'a Report,
}

async fn report_heat(shared: Arc<Shared>) {
    let mut due = interval(REPORT_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due.tick().await;
    loop {
        due.tick().await;
        let Some(body) = heat_body(&shared) else { continue };
        if let Err(error) = post(shared.agent, &shared.path("heat"), body.into()).await {
            tracing::debug!(service = %shared.service, %error, "heat was not reported");
        }
    }
}

/// The report that is due, if anything was counted.
fn heat_body(shared: &Shared) -> Option<String> {
    let view = shared.view.load_full()?;
    let report = shared.meter().report(shared.now(), view.map());
    let is_empty = report.partitions.is_empty() && report.dedicated.is_empty();
    if is_empty { None } else { fitting(&shared.reporter, report, view.map()) }
}

/// A report in as many bytes as the agent takes: what is coldest is left out of one that is longer.
fn fitting(reporter: &str, mut report: Report, map: &Map) -> Option<String> {
    loop {
        let body = serde_json::to_string(&HeatBody { reporter, report: &report }).ok()?;
        if body.len() <= REPORT_BYTES_MAX {
            return Some(body);
        }
        let keep = REPORT_BYTES_MAX as f64 / body.len() as f64 * 0.95;
        let kept = |count: usize| (count as f64 * keep) as usize;
        let (hot, partitions) = (kept(report.hot.len()), kept(report.partitions.len()));
        if (hot, partitions) == (report.hot.len(), report.partitions.len()) {
            tracing::warn!(service = %map.parts().service, bytes = body.len(), "a report of heat is too long, and left out");
            return None;
        }
        report.hot.truncate(hot);
        let mut costs: Vec<_> = report.partitions.iter().map(|(start, heat)| (heat.cost, *start)).collect();
        costs.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        for (_, start) in &costs[partitions..] {
            report.partitions.remove(start);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::view::Host;
    use ringmesh_partition::map::{Dedicated, Parts, Seat};
    use ringmesh_partition::place::Candidate;
    use ringmesh_partition::plan::{PlanConfig, first};
    use ringmesh_partition::position::Strategy;

    pub(crate) fn node(number: u16) -> NodeId {
        NodeId::from_bytes((u64::from(number) + 1).to_be_bytes())
    }

    pub(crate) fn host(number: u16, is_live: bool) -> Host {
        let endpoints = vec![SocketAddr::from(([127, 0, 0, 1], 7_000 + number))];
        Host { id: node(number), name: format!("lim-{number}"), zone: "a".to_owned(), is_live, endpoints }
    }

    pub(crate) fn map(hosts: u16) -> Map {
        let candidate = |number| Candidate {
            node: node(number),
            zone: "a".parse().expect("a name"),
            capacity: 100,
            is_live: true,
        };
        let candidates: Vec<Candidate> = (0..hosts).map(candidate).collect();
        let service = "limiter".parse().expect("a name");
        first(service, Strategy::Hash, node(0), &candidates, &PlanConfig::default()).expect("somebody serves")
    }

    /// The generation after `map`, in which these share a key.
    pub(crate) fn dedicate(map: &Map, key: &[u8], owners: &[u16]) -> Map {
        let at = map.parts().strategy.position(key).expect("a key");
        let dedicated = Dedicated { at, owners: owners.iter().map(|owner| Seat(*owner)).collect() };
        let parts = map.parts().clone();
        let generation = parts.generation + 1;
        Map::new(Parts { generation, previous: map.digest(), dedicated: vec![dedicated], ..parts })
            .expect("is a map")
    }

    #[test]
    fn waits_grow_and_differ_and_have_bounds() {
        let wait = |failures, random| back_off(failures, random).as_millis();
        assert_eq!((wait(0, 0), wait(0, u64::MAX)), (250, 250));
        assert_eq!((wait(2, 0), wait(2, u64::MAX)), (500, 1_000));
        assert_eq!((wait(40, 0), wait(40, u64::MAX)), (2_500, 5_000));
    }

    #[test]
    fn a_report_that_is_too_long_loses_what_is_coldest() {
        let map = map(200);
        let mut meter = Meter::new(Instant::START);
        for index in 0..map.partitions() {
            let slice = map.slice(index);
            meter.add(Instant::START, &map, slice.start, 1.0 + index as f64);
        }
        let report = meter.report(Instant::from_millis(1_000), &map);
        assert!(report.partitions.len() > 3_000 && report.hot.len() > 100);
        let hottest = map.slice(map.partitions() - 1).start;
        let body = fitting("test", report, &map).expect("fits");
        assert!((REPORT_BYTES_MAX / 2..=REPORT_BYTES_MAX).contains(&body.len()), "{}", body.len());
        let body: serde_json::Value = serde_json::from_str(&body).expect("is JSON");
        let report: Report = serde_json::from_value(body["report"].clone()).expect("is a report");
        assert!(report.partitions.contains_key(&hottest));
        assert_eq!(report.hot[0].0, hottest);
    }
}
