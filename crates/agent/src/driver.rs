//! The one task that owns the node: take an input or wait for a deadline, handle, carry out what comes of it, publish.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ringmesh_dns::hot;
use ringmesh_gossip::registry::BUCKETS;
use ringmesh_node::io::{Command, CommandError, CommandErrorKind, Input, Output, Persist, Said, Ticket};
use ringmesh_node::maps::MapsView;
use ringmesh_node::{Node, Stats};
use ringmesh_types::snapshot::Snapshot;
use ringmesh_types::time::Instant;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::clock::{Clock, wall_now};
use crate::dns_zone::{Bell, Shown};
use crate::events::Recorder;
use crate::followers::Followers;
use crate::mesh::Mesh;
use crate::probes;

/// A turn of the loop that takes longer delays everything else, so it is told of.
const SLOW_TURN: Duration = Duration::from_millis(100);
/// The first change is published at once, the next ones after this time at most.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);
/// While changes pour in, building views takes one part in so many of the time.
const PUBLISH_SHARE: u32 = 5;
/// Counters are published at most this often.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// The wall clock is looked at this often.
const WALL_EVERY: Duration = Duration::from_secs(10);
/// Probes under way at most.
const PROBES_MAX: usize = 256;
/// What had to be said must be acknowledged within this time when the agent stops.
const FLUSH_WITHIN: Duration = Duration::from_millis(400);

/// A command and where its answer goes.
pub(crate) struct Call {
    command: Command,
    answer: oneshot::Sender<Answer>,
}

/// What came of a command.
pub(crate) struct Answer {
    result: Result<Said, CommandError>,
    /// The snapshot that shows it.
    serial: u32,
}

/// Commands that are carried out, and those whose effect is not published yet.
#[derive(Default)]
pub(crate) struct Calls {
    tickets: u64,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    unpublished: Vec<(oneshot::Sender<Answer>, Result<Said, CommandError>)>,
}

/// How others talk to the node's task.
#[derive(Clone)]
pub struct Handle {
    calls: mpsc::Sender<Call>,
    shown: Shown,
}

impl Handle {
    /// Carries out a command and waits for what comes of it, until this agent's answers show it.
    ///
    /// # Errors
    /// Why it was not carried out; if the agent is stopping, that.
    pub async fn call(&self, command: Command) -> Result<Said, CommandError> {
        let stopping =
            || CommandError { kind: CommandErrorKind::Conflict, detail: "the agent is stopping".to_owned() };
        let (answer, answered) = oneshot::channel();
        self.calls.send(Call { command, answer }).await.map_err(|_| stopping())?;
        let Answer { result, serial } = answered.await.map_err(|_| stopping())?;
        if result.is_ok() {
            self.shown.clone().wait_for(serial).await;
        }
        result
    }
}

/// What others may read of the node's task.
pub struct Published {
    /// The read model.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What the usual DNS questions are answered from: the same, encoded, or the one before it for a moment.
    pub zone: Arc<ArcSwap<hot::Zone>>,
    /// The maps of keys.
    pub maps: ArcSwap<MapsView>,
    /// The node's counters, as of a second ago at most.
    pub stats: ArcSwap<AllStats>,
    /// When a member last agreed with what is known here, by bucket ([`ringmesh_gossip::registry::bucket`]), in unix
    /// milliseconds; 0 if none did yet.
    pub agreed_ms: [AtomicU64; BUCKETS],
    /// The root digest, as of its last turn.
    pub root: AtomicU64,
    /// How many documents are kept.
    pub documents: AtomicU64,
    /// How often the loop turned: a watchdog sees that it goes on.
    pub turns: AtomicU64,
    /// The longest turn so far, in microseconds.
    pub turn_us_max: AtomicU64,
}

/// Everything that the task needs.
pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) clock: Clock,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) disk: mpsc::Sender<(Option<Ticket>, Persist)>,
    pub(crate) urgent: mpsc::Receiver<Input>,
    pub(crate) urgent_door: mpsc::Sender<Input>,
    pub(crate) bulk: mpsc::Receiver<Input>,
    pub(crate) door: mpsc::Receiver<Call>,
    pub(crate) calls: Calls,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) published: Arc<Published>,
    pub(crate) zone_bell: Bell,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) followers: Arc<Followers>,
    pub(crate) probes: Arc<Semaphore>,
    pub(crate) is_view_dirty: bool,
    pub(crate) next_publish: Instant,
    pub(crate) next_stats: Instant,
    pub(crate) is_stopping: bool,
}

/// A channel of calls and the handle to it; `shown` says what answers show.
pub(crate) fn calls(shown: Shown) -> (Handle, mpsc::Receiver<Call>) {
    let (calls, receiver) = mpsc::channel(256);
    (Handle { calls, shown }, receiver)
}

/// Permits for probes under way.
pub(crate) fn probe_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(PROBES_MAX))
}

impl Driver {
    /// Drives the node until it stops.
    pub(crate) async fn run(mut self) {
        let mut wall = tokio::time::interval(WALL_EVERY);
        self.act_all();
        while !self.is_stopping {
            let wake = self.clock.deadline(self.next_wake());
            let input = tokio::select! {
                biased;
                Ok(()) = self.stop.changed() => Some(Input::Shutdown),
                Some(input) = self.urgent.recv() => Some(input),
                Some(call) = self.door.recv() => Some(self.take_call(call)),
                () = tokio::time::sleep_until(wake) => None,
                Some(input) = self.bulk.recv() => Some(input),
                _ = wall.tick() => Some(Input::WallClock(wall_now())),
            };
            self.turn(input);
        }
        self.mesh.flush(FLUSH_WITHIN).await;
        self.mesh.close().await;
    }

    /// When the node wants to be woken, or a view waits to be published.
    fn next_wake(&self) -> Instant {
        let far = self.clock.now().after(Duration::from_secs(60));
        let node = self.node.poll_timeout().map_or(far, |(at, _)| at);
        if self.is_view_dirty { node.min(self.next_publish) } else { node }
    }

    fn turn(&mut self, input: Option<Input>) {
        let begun = self.clock.now();
        let name = input.as_ref().map_or("deadline", name_of);
        if let Some(input) = input {
            self.node.handle(begun, input);
        }
        let now = self.clock.now();
        if self.node.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.node.handle_timeout(now);
        }
        self.act_all();
        let took = self.clock.now().since(begun);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.published.turn_us_max.fetch_max(took_us, Ordering::Relaxed);
        self.published.turns.fetch_add(1, Ordering::Relaxed);
        if took > SLOW_TURN {
            tracing::warn!(input = name, took_ms = took.as_millis(), "slow turn");
        }
    }

    fn take_call(&mut self, call: Call) -> Input {
        self.calls.tickets += 1;
        let ticket = Ticket(self.calls.tickets);
        self.calls.waiting.insert(ticket, call.answer);
        Input::Command { ticket, command: call.command }
    }

    /// Carries out everything that the node wants, then publishes what changed.
    fn act_all(&mut self) {
        while let Some(output) = self.node.poll_output() {
            self.act(output);
        }
        let now = self.clock.now();
        if self.is_view_dirty && (now >= self.next_publish || self.is_stopping) {
            self.publish(now);
        }
        if !self.is_view_dirty {
            self.answer_calls();
        }
        if now >= self.next_stats {
            self.next_stats = now.after(STATS_EVERY);
            self.publish_stats(now);
        }
    }

    /// Answers the commands whose effect is published.
    fn answer_calls(&mut self) {
        if self.calls.unpublished.is_empty() {
            return;
        }
        let serial = self.published.snapshot.load().serial;
        for (caller, result) in self.calls.unpublished.drain(..) {
            let _ = caller.send(Answer { result, serial });
        }
    }

    fn publish_stats(&self, now: Instant) {
        self.published.stats.store(Arc::new(all_stats(&self.node)));
        let wall = wall_now();
        for (published, agreed) in self.published.agreed_ms.iter().zip(self.node.agreed()) {
            let ms =
                if *agreed == Instant::START { 0 } else { wall.before(now.since(*agreed)).as_unix_millis() };
            published.store(ms, Ordering::Relaxed);
        }
    }

    fn publish(&mut self, now: Instant) {
        self.is_view_dirty = false;
        self.published.maps.store(self.node.maps_view(now));
        self.published.snapshot.store(self.node.snapshot(now));
        self.zone_bell.ring();
        self.published.root.store(self.node.root_digest(), Ordering::Relaxed);
        self.published.documents.store(self.node.documents() as u64, Ordering::Relaxed);
        let took = self.clock.now().since(now);
        self.next_publish = now.after(PUBLISH_EVERY.max(took * PUBLISH_SHARE));
    }

    /// Hands a wish to the disk; never waits, for a slow disk must not keep anybody from being answered.
    fn persist(&mut self, ticket: Option<Ticket>, what: Persist) {
        let is_taken = self.disk.try_send((ticket, what)).is_ok();
        if let (false, Some(ticket)) = (is_taken, ticket) {
            let result = Err("the disk is too slow: too much waits for it".to_owned());
            let _ = self.urgent_door.try_send(Input::Persisted { ticket, result });
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Datagram { to, bytes } => self.mesh.send_datagram(to, bytes),
            Output::Push { to, class, push } => self.mesh.push(&to, class, &push),
            Output::Request { to, ticket, request } => self.mesh.request(to, ticket, request),
            Output::Reply { ticket, response } => self.mesh.reply(ticket, response),
            Output::Probe { id, endpoint, spec } => {
                let (door, permits) = (self.urgent_door.clone(), self.probes.clone());
                let token = rand::random();
                tokio::spawn(async move {
                    let Ok(_permit) = permits.acquire_owned().await else {
                        return;
                    };
                    let outcome = probes::probe(&endpoint, &spec, token).await;
                    let _ = door.send(Input::Probed { id, outcome }).await;
                });
            }
            Output::Persist { ticket, what } => self.persist(ticket, what),
            Output::Answer { ticket, result } => {
                if let Some(caller) = self.calls.waiting.remove(&ticket) {
                    self.calls.unpublished.push((caller, result));
                }
            }
            Output::ViewChanged => self.is_view_dirty = true,
            Output::Event(event) => self.recorder.record(event),
            Output::Presence(changes) => self.followers.tell(wall_now(), changes),
            Output::Rejected { from, reason } => tracing::debug!(peer = %from, reason, "rejected"),
            Output::Disconnect(id) => self.mesh.disconnect(id),
            Output::Stop => self.is_stopping = true,
        }
    }
}

/// The counters of the node, of its failure detector, and of how its news spreads.
pub type AllStats = (Stats, ringmesh_gossip::membership::Stats, ringmesh_gossip::plumtree::Stats);

pub(crate) fn all_stats(node: &Node) -> AllStats {
    (node.stats(), node.membership_stats(), node.spread_stats())
}

fn name_of(input: &Input) -> &'static str {
    match input {
        Input::Datagram { .. } => "datagram",
        Input::Statements { .. } => "statements",
        Input::TrustWanted { .. } => "trust wanted",
        Input::Announced { .. } => "announced",
        Input::Tree { .. } => "tree",
        Input::Request { .. } => "request",
        Input::Response { .. } => "response",
        Input::Probed { .. } => "probed",
        Input::Command { .. } => "command",
        Input::Persisted { .. } => "persisted",
        Input::TwinSeen(_) => "twin seen",
        Input::Remembered { .. } => "remembered",
        Input::Reload(..) => "reload",
        Input::WallClock(_) => "wall clock",
        Input::Shutdown => "shutdown",
    }
}
