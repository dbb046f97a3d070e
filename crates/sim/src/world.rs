//! The discrete-event world: one heap of (virtual time, sequence, event) over real machines.
//!
//! A host is a node, its disk, its clock and the services on it. Everything that crosses a link is encoded and decoded
//! with the real codec and passes the real gate for seals.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroUsize;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringmesh_gossip::admission::Gate;
use ringmesh_gossip::membership::ProbeConfig;
use ringmesh_gossip::message::{Push, Request, Response};
use ringmesh_gossip::suspicion::SuspicionConfig;
use ringmesh_gossip::timers::Timers;
use ringmesh_health::monitor::{EndpointKey, Outcome, ProbeId};
use ringmesh_node::io::{Command, CommandError, Input, OnConflict, Output, Persist, Source, Target, Ticket};
use ringmesh_node::registration::{RawRegistration, SavedState};
use ringmesh_node::{Node, NodeConfig, Restored};
use ringmesh_types::body::EndpointHealth;
use ringmesh_types::document::Document;
use ringmesh_types::event::Event;
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::limits;
use ringmesh_types::sealed::Statement;
use ringmesh_types::snapshot::{MemberState, Snapshot};
use ringmesh_types::time::{Instant, WallTime};
use ringmesh_types::wire::{self, Channel};
use xxhash_rust::xxh3::Xxh3;

use crate::link::{LinkConfig, Links};
use crate::seal::{SimChecker, SimSealer, key_of};

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// How many hosts.
    pub hosts: usize,
    /// In how many zones they stand, in turn.
    pub zones: usize,
    /// How links behave.
    pub link: LinkConfig,
    /// How members are probed.
    pub probe: ProbeConfig,
    /// How long suspicions last.
    pub suspicion: SuspicionConfig,
    /// How long a restarting member is waited for.
    pub hold: Duration,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            hosts: 6,
            zones: 3,
            link: LinkConfig::default(),
            probe: ProbeConfig::default(),
            suspicion: SuspicionConfig::default(),
            hold: Duration::from_secs(20),
        }
    }
}

/// A request that is not answered after this time has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The wall clock when a run begins: 2026-01-01.
const WALL_START: u64 = 1_767_225_600_000;

#[derive(Debug)]
enum Message {
    Datagram(Vec<u8>),
    Push(Vec<u8>),
    Request(Ticket, Vec<u8>),
    Response(Ticket, Vec<u8>),
}

#[derive(Debug)]
enum What {
    Arrives { from: usize, message: Message },
    Fails(Ticket),
    Wakes,
    Probed(ProbeId, Outcome),
    Persisted(Ticket),
    Thaws,
}

#[derive(Debug)]
struct Due {
    host: usize,
    life: u32,
    what: What,
}

#[derive(Debug, Default, Clone)]
struct Disk {
    epoch: Epoch,
    registrations: SavedState,
    health: Vec<(EndpointKey, EndpointHealth)>,
    view: Vec<Arc<Document>>,
    down: Vec<NodeId>,
    peers: Vec<SocketAddr>,
}

struct Running {
    node: Node,
    gate: Gate<SimChecker>,
    asked_by: BTreeMap<Ticket, (usize, Ticket)>,
    wake: Option<Instant>,
    frozen: Option<Vec<Due>>,
}

struct Host {
    id: NodeId,
    addr: SocketAddr,
    config: NodeConfig,
    disk: Disk,
    clock_offset_ms: i64,
    life: u32,
    running: Option<Running>,
    down_endpoints: BTreeSet<SocketAddr>,
    answers: Vec<Result<String, CommandError>>,
    sent: Traffic,
}

/// What a host sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// Messages on streams.
    pub messages: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Hosts, links and virtual time.
pub struct World {
    now: Instant,
    queue: Timers<Due>,
    hosts: Vec<Host>,
    /// The links; cut and mend them as the story goes.
    pub links: Links,
    rng: ChaCha8Rng,
    seed: u64,
    trace: Xxh3,
    /// What nodes reported: virtual time, host, event.
    pub events: Vec<(Instant, usize, Event)>,
    tickets: u64,
}

/// The mesh address of a host.
fn address(host: usize) -> SocketAddr {
    let [high, low] = u16::try_from(host + 1).unwrap_or(u16::MAX).to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7300))
}

impl World {
    /// A world in which nothing runs yet. Host 0 and 1 are everybody's seeds.
    pub fn new(seed: u64, config: &WorldConfig) -> Self {
        Self {
            now: Instant::START,
            queue: Timers::default(),
            hosts: (0..config.hosts).map(|host| Host::new(host, config)).collect(),
            links: Links::new(config.link.clone()),
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            trace: Xxh3::new(),
            events: Vec::new(),
            tickets: 0,
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// A hash over everything that was delivered, in order: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.trace.digest()
    }

    /// Gives a host another name: two hosts can be made to clash.
    pub fn rename(&mut self, host: usize, like: usize) {
        self.hosts[host].config.name = self.hosts[like].config.name.clone();
        self.hosts[host].id = self.hosts[like].id;
        self.hosts[host].config.trust_body = key_of(self.hosts[like].id).to_vec();
    }

    /// Sets a host's wall clock off by so many milliseconds, from its next start on.
    pub fn set_clock_offset(&mut self, host: usize, millis: i64) {
        self.hosts[host].clock_offset_ms = millis;
    }

    fn wall(&self, host: usize) -> WallTime {
        let true_millis = WALL_START + self.now.as_millis();
        WallTime::from_unix_millis(true_millis.saturating_add_signed(self.hosts[host].clock_offset_ms))
    }

    /// Starts a host from what is on its disk.
    pub fn start(&mut self, host: usize) {
        let wall = self.wall(host);
        let seed = self.node_seed(host);
        let host_ref = &mut self.hosts[host];
        host_ref.life += 1;
        let epoch = host_ref.disk.epoch.next().max(Epoch(wall.as_unix_millis()));
        host_ref.disk.epoch = epoch;
        let restored = Restored {
            registrations: host_ref.disk.registrations.clone(),
            health: host_ref.disk.health.iter().cloned().collect(),
            peers: host_ref.disk.peers.clone(),
        };
        let sealer = Box::new(SimSealer(host_ref.id));
        let node = Node::new(self.now, wall, epoch, host_ref.config.clone(), restored, sealer, seed);
        let view = host_ref.disk.view.clone();
        host_ref.running = Some(Running {
            node,
            gate: Gate::new(SimChecker),
            asked_by: BTreeMap::new(),
            wake: None,
            frozen: None,
        });
        let statements = view.iter().map(|document| Statement::Document(Document::clone(document))).collect();
        self.admit(host, Source::Disk, statements);
        let down = self.hosts[host].disk.down.clone();
        self.input(host, Input::WereDown(down));
        self.drain(host);
    }

    /// Starts every host.
    pub fn start_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
    }

    fn node_seed(&self, host: usize) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&(host as u64).to_le_bytes());
        seed[16..20].copy_from_slice(&self.hosts[host].life.to_le_bytes());
        seed
    }

    /// Ends a host between two instructions. Its disk stays.
    pub fn crash(&mut self, host: usize) {
        self.hosts[host].running = None;
        self.hosts[host].life += 1;
    }

    /// Asks a host to stop in good order: it announces a hold, or a leave.
    pub fn stop(&mut self, host: usize) {
        self.input(host, Input::Shutdown);
        self.crash(host);
    }

    /// Freezes a host for `length`: nothing comes in or out and no timer fires, then everything at once.
    pub fn freeze(&mut self, host: usize, length: Duration) {
        if let Some(running) = &mut self.hosts[host].running {
            running.frozen = Some(Vec::new());
            let life = self.hosts[host].life;
            self.queue.arm(self.now.after(length), Due { host, life, what: What::Thaws });
        }
    }

    /// Cuts every link between the hosts in `side` and the others, both ways.
    pub fn split(&mut self, side: &[usize]) {
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                if side.contains(&a) != side.contains(&b) {
                    self.links.cut(a, b);
                }
            }
        }
    }

    /// Says whether whatever listens at `endpoint` on `host` answers probes.
    pub fn set_endpoint(&mut self, host: usize, endpoint: SocketAddr, answers: bool) {
        if answers {
            self.hosts[host].down_endpoints.remove(&endpoint);
        } else {
            self.hosts[host].down_endpoints.insert(endpoint);
        }
    }

    /// Gives a host a command. Its answer is in [`World::take_answers`] once it is there.
    pub fn command(&mut self, host: usize, command: Command) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(host, Input::Command { ticket, command });
    }

    /// Registers an instance on a host.
    pub fn register(&mut self, host: usize, registration: RawRegistration) {
        self.command(host, Command::Register { registration, on_conflict: OnConflict::Refuse });
    }

    /// What commands on a host were answered since this was last asked.
    pub fn take_answers(&mut self, host: usize) -> Vec<Result<String, CommandError>> {
        core::mem::take(&mut self.hosts[host].answers)
    }

    /// Hands a host a message from another that no honest node would send.
    pub fn forge_push(&mut self, from: usize, to: usize, push: &Push) {
        if let Ok(bytes) = wire::encode(Channel::Stream, push) {
            self.send_stream(from, to, Message::Push(bytes));
        }
    }

    /// Hands a host a datagram from another that no honest node would send.
    pub fn forge_datagram(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.schedule(to, Duration::ZERO, What::Arrives { from, message: Message::Datagram(bytes) });
    }

    /// The node on a host, if it runs.
    pub fn node(&self, host: usize) -> Option<&Node> {
        self.hosts[host].running.as_ref().map(|running| &running.node)
    }

    /// The id of a host's node.
    pub fn id(&self, host: usize) -> NodeId {
        self.hosts[host].id
    }

    /// What a host sent so far.
    pub fn traffic(&self, host: usize) -> Traffic {
        self.hosts[host].sent
    }

    /// What a host would answer from now.
    pub fn snapshot(&mut self, host: usize) -> Option<Arc<Snapshot>> {
        let now = self.now;
        self.hosts[host].running.as_mut().map(|running| running.node.snapshot(now))
    }

    /// How `observer` sees `subject`.
    pub fn sees(&mut self, observer: usize, subject: usize) -> Option<MemberState> {
        let id = self.hosts[subject].id;
        self.snapshot(observer)?.member(id).map(|member| member.state)
    }

    /// Whether every running host sees exactly the running hosts as alive, and all have the same documents.
    pub fn agrees(&mut self) -> bool {
        let running: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].running.is_some()).collect();
        let roots: BTreeSet<u64> =
            running.iter().filter_map(|host| self.node(*host)).map(Node::root_digest).collect();
        roots.len() <= 1 && running.iter().all(|host| self.sees_exactly(*host, &running))
    }

    fn sees_exactly(&mut self, observer: usize, running: &[usize]) -> bool {
        let want: BTreeSet<NodeId> = running.iter().map(|host| self.hosts[*host].id).collect();
        let Some(snapshot) = self.snapshot(observer) else {
            return false;
        };
        let alive = snapshot.members.values().filter(|member| matches!(member.state, MemberState::Alive));
        let alive: BTreeSet<NodeId> = alive.map(|member| member.identity.id).collect();
        alive == want && snapshot.serving_members() == want.len()
    }

    /// Lets `length` of virtual time pass.
    pub fn run_for(&mut self, length: Duration) {
        let until = self.now.after(length);
        while self.queue.next().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Lets time pass until `is_reached`, asked every 10 ms of virtual time. Returns how long that took, or nothing if
    /// `limit` passed first.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut is_reached: impl FnMut(&mut Self) -> bool,
    ) -> Option<Duration> {
        let begun = self.now;
        loop {
            if is_reached(self) {
                return Some(self.now.since(begun));
            }
            if self.now.since(begun) >= limit {
                return None;
            }
            self.run_for(Duration::from_millis(10));
        }
    }

    fn step(&mut self) {
        let Some(at) = self.queue.next() else {
            return;
        };
        self.now = self.now.max(at);
        while let Some(due) = self.queue.take_due(self.now) {
            self.deliver(due);
        }
    }

    fn schedule(&mut self, host: usize, after: Duration, what: What) {
        let life = self.hosts[host].life;
        self.queue.arm(self.now.after(after), Due { host, life, what });
    }

    fn deliver(&mut self, due: Due) {
        let is_arrival = match &due.what {
            What::Arrives { message, .. } => !matches!(message, Message::Response(..)),
            What::Fails(_) | What::Wakes | What::Probed(..) | What::Persisted(_) | What::Thaws => false,
        };
        let Some(host) = self.hosts.get_mut(due.host).filter(|host| is_arrival || host.life == due.life)
        else {
            return;
        };
        let Some(running) = &mut host.running else {
            return;
        };
        if matches!(due.what, What::Thaws) {
            for held in running.frozen.take().unwrap_or_default() {
                self.deliver(held);
            }
            return;
        }
        if let Some(held) = &mut running.frozen {
            held.push(due);
            return;
        }
        self.record(&due);
        match due.what {
            What::Arrives { from, message } => self.arrive(due.host, from, message),
            What::Fails(ticket) => self.input(due.host, failed(ticket)),
            What::Probed(id, outcome) => self.input(due.host, Input::Probed { id, outcome }),
            What::Persisted(ticket) => self.input(due.host, Input::Persisted { ticket, result: Ok(()) }),
            What::Wakes => self.wake(due.host),
            What::Thaws => {}
        }
    }

    fn record(&mut self, due: &Due) {
        self.trace.update(&self.now.as_nanos().to_le_bytes());
        self.trace.update(&(due.host as u64).to_le_bytes());
        if let What::Arrives { message, .. } = &due.what {
            self.trace.update(match message {
                Message::Datagram(bytes)
                | Message::Push(bytes)
                | Message::Request(_, bytes)
                | Message::Response(_, bytes) => bytes,
            });
        }
    }

    fn wake(&mut self, host: usize) {
        let now = self.now;
        if let Some(running) = &mut self.hosts[host].running {
            running.wake = None;
            running.node.handle_timeout(now);
        }
        self.drain(host);
    }

    fn input(&mut self, host: usize, input: Input) {
        let now = self.now;
        if let Some(running) = &mut self.hosts[host].running {
            running.node.handle(now, input);
        }
        self.drain(host);
    }

    fn arrive(&mut self, host: usize, from: usize, message: Message) {
        let (peer, addr) = (self.hosts[from].id, self.hosts[from].addr);
        match message {
            Message::Datagram(bytes) => self.input(host, Input::Datagram { from: peer, addr, bytes }),
            Message::Push(bytes) => match wire::decode(Channel::Stream, &bytes) {
                Ok(Push::Statements(statements)) => self.admit(host, Source::Pushed(peer), statements),
                Ok(Push::Announce(documents)) => self.input(host, Input::Announced { from: peer, documents }),
                Err(_) => {}
            },
            Message::Request(theirs, bytes) => {
                let Ok(mut request) = wire::decode::<Request>(Channel::Stream, &bytes) else {
                    return;
                };
                if let Request::Hello { documents, .. } = &mut request {
                    let documents = core::mem::take(documents);
                    self.admit(host, Source::Pushed(peer), as_statements(documents));
                }
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                if let Some(running) = &mut self.hosts[host].running {
                    running.asked_by.insert(ticket, (from, theirs));
                }
                self.input(host, Input::Request { from: peer, addr, ticket, request });
            }
            Message::Response(ticket, bytes) => {
                let Ok(mut response) = wire::decode::<Response>(Channel::Stream, &bytes) else {
                    return;
                };
                let documents = response.take_documents();
                self.input(host, Input::Response { ticket, result: Ok((peer, response)) });
                self.admit(host, Source::Answered(peer), as_statements(documents));
            }
        }
    }

    fn admit(&mut self, host: usize, source: Source, statements: Vec<Statement>) {
        let now = self.now;
        let Some(running) = &mut self.hosts[host].running else {
            return;
        };
        let mut admission = running.gate.admit(now, statements);
        while !admission.admitted.is_empty() {
            let rest =
                admission.admitted.split_off(admission.admitted.len().min(limits::BATCH_STATEMENTS_MAX));
            let statements = core::mem::replace(&mut admission.admitted, rest);
            self.input(host, Input::Statements { source, statements });
        }
        if let (Source::Pushed(from) | Source::Answered(from), false) = (source, admission.wanted.is_empty())
        {
            let speakers = admission.wanted.into_iter().collect();
            self.input(host, Input::TrustWanted { from, speakers });
        }
    }

    fn drain(&mut self, host: usize) {
        while let Some(output) =
            self.hosts[host].running.as_mut().and_then(|running| running.node.poll_output())
        {
            self.act(host, output);
        }
        let Some(running) = &mut self.hosts[host].running else {
            return;
        };
        if let Some((at, _)) = running.node.poll_timeout() {
            let at = at.max(self.now);
            if running.wake.is_none_or(|armed| at < armed) {
                running.wake = Some(at);
                let life = self.hosts[host].life;
                self.queue.arm(at, Due { host, life, what: What::Wakes });
            }
        }
    }

    fn act(&mut self, host: usize, output: Output) {
        match output {
            Output::Datagram { to, bytes } => self.send_datagram(host, to, bytes),
            Output::Push { to, push, .. } => {
                let Ok(bytes) = wire::encode(Channel::Stream, &*push) else {
                    return;
                };
                for target in to {
                    if let Some(peer) = self.host_at(target) {
                        self.send_stream(host, peer, Message::Push(bytes.clone()));
                    }
                }
            }
            Output::Request { to, ticket, request } => self.send_request(host, to, ticket, &request),
            Output::Reply { ticket, response } => self.send_reply(host, ticket, &response),
            Output::Probe { id, endpoint, spec } => {
                let is_down = self.hosts[host].down_endpoints.contains(&endpoint.socket_addr());
                let latency = Duration::from_millis(1);
                let detail = "no answer".to_owned();
                let (after, outcome) = if is_down {
                    (spec.timeout, Outcome::Bad { detail })
                } else {
                    (latency, Outcome::Good { latency })
                };
                self.schedule(host, after, What::Probed(id, outcome));
            }
            Output::Persist { ticket, what } => self.persist(host, ticket, what),
            Output::Answer { result, .. } => self.hosts[host].answers.push(result),
            Output::Event(event) => self.events.push((self.now, host, event)),
            Output::ViewChanged | Output::Rejected { .. } | Output::Disconnect(_) | Output::Stop => {}
        }
    }

    fn host_at(&self, target: Target) -> Option<usize> {
        self.hosts.iter().position(|host| host.addr == target.addr)
    }

    fn send_datagram(&mut self, from: usize, target: Target, bytes: Vec<u8>) {
        self.hosts[from].sent.datagrams += 1;
        self.hosts[from].sent.bytes += bytes.len() as u64;
        let Some(to) = self.host_at(target) else {
            return;
        };
        for delay in self.links.datagram(&mut self.rng, from, to) {
            let message = Message::Datagram(bytes.clone());
            self.schedule(to, delay, What::Arrives { from, message });
        }
    }

    /// Says whether the message will arrive.
    fn send_stream(&mut self, from: usize, to: usize, message: Message) -> bool {
        let bytes = match &message {
            Message::Datagram(bytes)
            | Message::Push(bytes)
            | Message::Request(_, bytes)
            | Message::Response(_, bytes) => bytes.len() as u64,
        };
        self.hosts[from].sent.messages += 1;
        self.hosts[from].sent.bytes += bytes;
        let delay = self.links.stream(&mut self.rng, from, to);
        if let Some(delay) = delay {
            self.schedule(to, delay, What::Arrives { from, message });
        }
        delay.is_some()
    }

    fn send_request(&mut self, host: usize, target: Target, ticket: Ticket, request: &Request) {
        self.schedule(host, REQUEST_TIMEOUT, What::Fails(ticket));
        let to = self.host_at(target).filter(|to| target.id.is_none_or(|id| self.hosts[*to].id == id));
        if let (Some(to), Ok(bytes)) = (to, wire::encode(Channel::Stream, request)) {
            self.send_stream(host, to, Message::Request(ticket, bytes));
        }
    }

    fn send_reply(&mut self, host: usize, ticket: Ticket, response: &Response) {
        let asked_by = self.hosts[host].running.as_mut().and_then(|running| running.asked_by.remove(&ticket));
        if let (Some((to, theirs)), Ok(bytes)) = (asked_by, wire::encode(Channel::Stream, response)) {
            self.send_stream(host, to, Message::Response(theirs, bytes));
        }
    }

    fn persist(&mut self, host: usize, ticket: Option<Ticket>, what: Persist) {
        let disk = &mut self.hosts[host].disk;
        match what {
            Persist::Epoch(epoch) => disk.epoch = epoch,
            Persist::Registrations(state) => disk.registrations = state,
            Persist::Health(health) => disk.health = health,
            Persist::View { documents, down } => (disk.view, disk.down) = (documents, down),
            Persist::Peers(peers) => disk.peers = peers,
        }
        if let Some(ticket) = ticket {
            let after = Duration::from_micros(self.rng.random_range(100..2_000));
            self.schedule(host, after, What::Persisted(ticket));
        }
    }
}

fn failed(ticket: Ticket) -> Input {
    Input::Response { ticket, result: Err("no answer in time".to_owned()) }
}

fn as_statements(documents: Vec<Document>) -> Vec<Statement> {
    documents.into_iter().map(Statement::Document).collect()
}

impl Host {
    fn new(host: usize, config: &WorldConfig) -> Self {
        let cluster = "sim".parse().expect("a valid cluster name");
        let name = format!("node-{host}").parse().expect("a valid node name");
        let zone = format!("zone-{}", host % config.zones.max(1)).parse().expect("a valid zone name");
        let id = NodeId::derive(&cluster, &name);
        let addr = address(host);
        let is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync> = Arc::new(|_| true);
        Self {
            id,
            addr,
            config: NodeConfig {
                cluster,
                name,
                zone,
                region: "region".parse().expect("a valid region name"),
                mesh: addr,
                addresses: vec![addr.ip()],
                agent_version: "sim".to_owned(),
                seeds: (0..2.min(config.hosts)).map(address).collect(),
                declared: Vec::new(),
                probe: ProbeConfig { indirect: NonZeroUsize::MIN.saturating_add(2), ..config.probe.clone() },
                suspicion: config.suspicion.clone(),
                hold: config.hold,
                is_allowed,
                trust_body: key_of(id).to_vec(),
            },
            disk: Disk::default(),
            clock_offset_ms: 0,
            life: 0,
            running: None,
            down_endpoints: BTreeSet::new(),
            answers: Vec::new(),
            sent: Traffic::default(),
        }
    }
}
