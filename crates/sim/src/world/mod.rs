//! The discrete-event world: one heap of (virtual time, sequence, event) over real machines.
//!
//! A host is a node, its disk, its clock and the services on it. Everything that crosses a link is encoded and decoded
//! with the real codec and passes the real gate for seals.

mod converged;
mod host;
mod library;
mod queue;
mod wire;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ringmesh_gossip::admission::Gate;
use ringmesh_gossip::membership::ProbeConfig;
use ringmesh_gossip::parts::Parts;
use ringmesh_gossip::suspicion::SuspicionConfig;
use ringmesh_health::monitor::{Outcome, ProbeId};
use ringmesh_node::io::{Command, CommandError, Input, OnConflict, Said, Source, Ticket};
use ringmesh_node::maps::MapsView;
use ringmesh_node::registration::RawRegistration;
use ringmesh_node::watch::PresenceChange;
use ringmesh_node::{Node, NodeConfig, Restored};
use ringmesh_partition::map::Map;
use ringmesh_types::event::Event;
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::name::ServiceName;
use ringmesh_types::sealed::Statement;
use ringmesh_types::snapshot::{MemberState, Snapshot};
use ringmesh_types::time::{Instant, WallTime};
use xxhash_rust::xxh3::Xxh3;

use host::{Disk, Host, Running, Slow};
pub use host::{Endpoint, address_of, host_of};
use library::Library;
use queue::Queue;
use wire::Message;

use crate::link::{HostSet, LinkConfig, Links};
use crate::seal::{SimChecker, SimSealer};

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// How many hosts.
    pub hosts: usize,
    /// In how many zones they stand, in turn.
    pub zones: usize,
    /// What these zones are called; `zone-<index>` where this is too short.
    pub zone_names: Vec<String>,
    /// How many hosts, from the first, everybody is told of as seeds.
    pub seeds: usize,
    /// How links behave.
    pub link: LinkConfig,
    /// How members are probed.
    pub probe: ProbeConfig,
    /// How long suspicions last.
    pub suspicion: SuspicionConfig,
    /// Which parts failure detection has.
    pub parts: Parts,
    /// How long a restarting member is waited for.
    pub hold: Duration,
    /// Maps that every host's configuration declares.
    pub maps: BTreeMap<ServiceName, MapSpec>,
    /// For the largest meshes: keys are known without `trust` documents, hosts without services say nothing of services,
    /// and disks keep nothing of others.
    pub is_bare: bool,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            hosts: 6,
            zones: 3,
            zone_names: Vec::new(),
            seeds: 2,
            link: LinkConfig::default(),
            probe: ProbeConfig::default(),
            suspicion: SuspicionConfig::default(),
            parts: Parts::ALL,
            hold: Duration::from_secs(20),
            maps: BTreeMap::new(),
            is_bare: false,
        }
    }
}

/// A request that is not answered after this time has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The wall clock when a run begins: 2026-01-01.
const WALL_START: u64 = 1_767_225_600_000;

#[derive(Debug)]
enum What {
    Arrives {
        from: usize,
        message: Message,
    },
    /// What could not be delivered on a stream is sent again.
    Resends {
        to: usize,
        message: Message,
        tries: u32,
    },
    Fails(Ticket),
    Wakes,
    Probed(ProbeId, Outcome),
    Persisted(Ticket, Result<(), String>),
    /// An order that waited while the host was frozen.
    Ordered(Ticket, Command),
    Thaws,
}

#[derive(Debug)]
struct Due {
    host: usize,
    life: u32,
    what: What,
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
    queue: Queue,
    hosts: Vec<Host>,
    /// The links; cut and mend them as the story goes.
    pub links: Links,
    library: Library,
    rng: ChaCha8Rng,
    seed: u64,
    is_bare: bool,
    trace: Xxh3,
    first_sent: Vec<Option<Instant>>,
    /// What nodes reported: virtual time, host, event.
    pub events: Vec<(Instant, usize, Event)>,
    /// What followers of the members were told, where and when.
    pub presences: Vec<(Instant, usize, Vec<PresenceChange>)>,
    /// What nodes refused: virtual time, host, whose it was, why.
    pub refusals: Vec<(Instant, usize, NodeId, String)>,
    changed: Vec<usize>,
    tickets: u64,
}

impl World {
    /// A world in which nothing runs yet. Host 0 and 1 are everybody's seeds.
    pub fn new(seed: u64, config: &WorldConfig) -> Self {
        Self {
            now: Instant::START,
            queue: Queue::default(),
            hosts: (0..config.hosts).map(|host| Host::new(host, config)).collect(),
            links: Links::new(config.link.clone(), config.zones),
            library: Library::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            is_bare: config.is_bare,
            trace: Xxh3::new(),
            first_sent: vec![None; config.hosts],
            events: Vec::new(),
            presences: Vec::new(),
            refusals: Vec::new(),
            changed: Vec::new(),
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
        self.hosts[host].config.trust_body = self.hosts[like].config.trust_body.clone();
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
        let node = self.seedling(host, wall).grow(self.now, wall);
        self.begin_life(host, node, Gate::new(self.checker()));
        let Disk { view, down, .. } = self.hosts[host].disk.clone();
        let id = self.hosts[host].id;
        let others = view.iter().map(|stored| &stored.document).filter(|document| document.key.owner != id);
        let statements = others.map(|document| Statement::Document(document.clone())).collect();
        self.admit(host, Source::Disk, statements);
        self.input(host, Input::Remembered { down });
        self.drain(host);
    }

    /// Everything that the next life of a host begins with; its epoch is on disk from now on.
    fn seedling(&mut self, host: usize, wall: WallTime) -> Seedling {
        let life = self.hosts[host].life + 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&(host as u64).to_le_bytes());
        seed[16..20].copy_from_slice(&life.to_le_bytes());
        let host = &mut self.hosts[host];
        let epoch = host.disk.epoch.next().max(Epoch(wall.as_unix_millis()));
        host.disk.epoch = epoch;
        let restored = Restored {
            registrations: host.disk.registrations.clone(),
            health: host.disk.health.iter().cloned().collect(),
            peers: host.disk.peers.clone(),
            maps: host.disk.maps.iter().map(|(service, map)| (service.clone(), Map::clone(map))).collect(),
        };
        Seedling { id: host.id, is_newer: host.is_newer, epoch, config: host.config.clone(), restored, seed }
    }

    fn begin_life(&mut self, host: usize, node: Node, gate: Gate<SimChecker>) {
        let running = Running { node, gate, asked_by: BTreeMap::new(), wake: None, frozen: None };
        self.hosts[host].life += 1;
        self.hosts[host].running = Some(Box::new(running));
        self.mark_changed(host);
    }

    fn checker(&self) -> SimChecker {
        SimChecker { knows_keys: self.is_bare }
    }

    /// Starts every host.
    pub fn start_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
    }

    /// Ends a host between two instructions. Its disk stays.
    pub fn crash(&mut self, host: usize) {
        self.hosts[host].running = None;
        self.hosts[host].life += 1;
        self.first_sent[host] = None;
        self.mark_changed(host);
        self.links.disconnect(host);
    }

    /// Asks a host to stop in good order: it announces a hold, or a leave.
    pub fn stop(&mut self, host: usize) {
        self.input(host, Input::Shutdown);
        self.crash(host);
    }

    /// Freezes a host for `length`: nothing comes in or out and no timer fires, then everything at once, timers first.
    pub fn freeze(&mut self, host: usize, length: Duration) {
        let until = self.now.after(length);
        if let Some(running) = &mut self.hosts[host].running {
            let (frozen_until, _) = running.frozen.get_or_insert_with(|| (until, Vec::new()));
            *frozen_until = until.max(*frozen_until);
            let life = self.hosts[host].life;
            self.queue.arm(until, Due { host, life, what: What::Thaws });
        }
    }

    /// Installs a newer version: from its next start on, a host says more than others understand.
    pub fn install_newer(&mut self, host: usize) {
        self.hosts[host].is_newer = true;
    }

    /// Holds a host's inbox and outbox for `hold`, then lets them go for `free`, again and again, while its timers
    /// fire as ever (the anomaly of Lifeguard, V-A); nothing ends it.
    pub fn slow(&mut self, host: usize, cycle: Option<(Duration, Duration)>) {
        let since = self.now;
        self.hosts[host].slow = cycle.map(|(hold, free)| Slow { since, hold, free });
    }

    /// Makes a host's wall clock jump, while it runs.
    pub fn jump_clock(&mut self, host: usize, millis: i64) {
        self.hosts[host].clock_offset_ms += millis;
        let wall = self.wall(host);
        self.input(host, Input::WallClock(wall));
    }

    /// Sets a host's wall clock right again.
    pub fn mend_clock(&mut self, host: usize) {
        self.jump_clock(host, self.hosts[host].clock_offset_ms.saturating_neg());
    }

    /// Says whether a host's disk refuses writes.
    pub fn set_disk_full(&mut self, host: usize, is_full: bool) {
        self.hosts[host].is_disk_full = is_full;
    }

    /// Empties the disk of a host.
    pub fn wipe(&mut self, host: usize) {
        self.hosts[host].disk = Disk::default();
    }

    /// Cuts every link between the hosts in `side` and the others, both ways.
    pub fn split(&mut self, side: &[usize]) {
        let side: HostSet = side.iter().copied().collect();
        self.links.split(&side, self.hosts.len());
    }

    /// Says whether whatever listens at `endpoint` on `host` answers probes.
    pub fn set_endpoint(&mut self, host: usize, endpoint: SocketAddr, answers: bool) {
        let endpoint_is = if answers { Endpoint::Answers(host::ANSWERS_AFTER) } else { Endpoint::Silent };
        self.set_endpoint_to(host, endpoint, endpoint_is);
    }

    /// Says how whatever listens at `endpoint` on `host` answers probes.
    pub fn set_endpoint_to(&mut self, host: usize, endpoint: SocketAddr, how: Endpoint) {
        self.hosts[host].endpoints.insert(endpoint, how);
    }

    /// How whatever listens at `endpoint` on `host` answers probes.
    pub fn endpoint(&self, host: usize, endpoint: SocketAddr) -> Endpoint {
        self.hosts[host].endpoints.get(&endpoint).copied().unwrap_or(Endpoint::Answers(host::ANSWERS_AFTER))
    }

    /// Gives every host what it declares in its configuration file, before it starts.
    pub fn declare(&mut self, host: usize, registrations: Vec<RawRegistration>) {
        self.hosts[host].config.declared = registrations;
    }

    /// Gives a host a command. Its answer is in [`World::take_answers`] once it is there.
    pub fn command(&mut self, host: usize, command: Command) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let life = self.hosts[host].life;
        match self.hosts[host].running.as_mut().and_then(|running| running.frozen.as_mut()) {
            Some((_, held)) => held.push(Due { host, life, what: What::Ordered(ticket, command) }),
            None => self.input(host, Input::Command { ticket, command }),
        }
    }

    /// Registers an instance on a host.
    pub fn register(&mut self, host: usize, registration: RawRegistration) {
        self.command(host, Command::Register { registration, on_conflict: OnConflict::Refuse });
    }

    /// What commands on a host were answered since this was last asked.
    pub fn take_answers(&mut self, host: usize) -> Vec<Result<Said, CommandError>> {
        core::mem::take(&mut self.hosts[host].answers)
    }

    /// The node on a host, if it runs.
    pub fn node(&self, host: usize) -> Option<&Node> {
        self.hosts[host].running.as_ref().map(|running| &running.node)
    }

    /// The id of a host's node.
    pub fn id(&self, host: usize) -> NodeId {
        self.hosts[host].id
    }

    /// The host whose mesh address this is.
    pub fn host_at(&self, addr: SocketAddr) -> Option<usize> {
        host_of(addr.ip()).filter(|host| *host < self.hosts.len())
    }

    /// Whether a host runs.
    pub fn is_running(&self, host: usize) -> bool {
        self.hosts[host].running.is_some()
    }

    /// When a host that does not run was first sent a datagram since it died: its first probe.
    pub fn first_probed(&self, host: usize) -> Option<Instant> {
        self.first_sent[host]
    }

    /// Until when a host is frozen, if it is.
    pub fn frozen_until(&self, host: usize) -> Option<Instant> {
        self.hosts[host].running.as_ref()?.frozen.as_ref().map(|(until, _)| *until)
    }

    /// Hosts whose view changed since this was last asked, each once.
    pub fn take_changed(&mut self) -> Vec<usize> {
        for host in &self.changed {
            self.hosts[*host].is_changed = false;
        }
        core::mem::take(&mut self.changed)
    }

    fn mark_changed(&mut self, host: usize) {
        if !core::mem::replace(&mut self.hosts[host].is_changed, true) {
            self.changed.push(host);
        }
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

    /// The maps of keys as a host sees them, if it runs.
    pub fn maps(&mut self, host: usize) -> Option<Arc<MapsView>> {
        let now = self.now;
        self.hosts[host].running.as_mut().map(|running| running.node.maps_view(now))
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
            What::Resends { .. }
            | What::Fails(_)
            | What::Wakes
            | What::Probed(..)
            | What::Persisted(..)
            | What::Ordered(..)
            | What::Thaws => false,
        };
        let Some(host) = self.hosts.get_mut(due.host).filter(|host| is_arrival || host.life == due.life)
        else {
            return;
        };
        let Some(running) = &mut host.running else {
            return;
        };
        if matches!(due.what, What::Thaws) {
            let now = self.now;
            let thawed = running.frozen.take_if(|(until, _)| *until <= now);
            // Nothing says that a process which runs on reads its mail before it looks at the clock.
            let (overdue, mail): (Vec<Due>, Vec<Due>) = thawed
                .map(|(_, held)| held)
                .unwrap_or_default()
                .into_iter()
                .partition(|due| matches!(due.what, What::Wakes | What::Fails(_)));
            for held in overdue.into_iter().chain(mail) {
                self.deliver(held);
            }
            return;
        }
        if let Some((_, held)) = &mut running.frozen {
            held.push(due);
            return;
        }
        let is_stale_wake =
            matches!(due.what, What::Wakes) && running.wake.is_none_or(|armed| armed > self.now);
        if is_stale_wake {
            return;
        }
        let held = if is_arrival { host.held(self.now) } else { Duration::ZERO };
        if !held.is_zero() {
            self.queue.arm(self.now.after(held), due);
            return;
        }
        self.record(&due);
        match due.what {
            What::Arrives { from, message } => self.arrive(due.host, from, message),
            What::Resends { to, message, tries } => self.send_again(due.host, to, message, tries),
            What::Fails(ticket) => {
                let result = Err("no answer in time".to_owned());
                self.input(due.host, Input::Response { ticket, result });
            }
            What::Probed(id, outcome) => self.input(due.host, Input::Probed { id, outcome }),
            What::Persisted(ticket, result) => self.input(due.host, Input::Persisted { ticket, result }),
            What::Ordered(ticket, command) => self.input(due.host, Input::Command { ticket, command }),
            What::Wakes => self.wake(due.host),
            What::Thaws => {}
        }
    }

    fn record(&mut self, due: &Due) {
        self.trace.update(&self.now.as_nanos().to_le_bytes());
        self.trace.update(&(due.host as u64).to_le_bytes());
        if let What::Arrives { message, .. } = &due.what {
            self.trace.update(message.bytes());
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
}

/// What a life begins with.
struct Seedling {
    id: NodeId,
    is_newer: bool,
    epoch: Epoch,
    config: NodeConfig,
    restored: Restored,
    seed: [u8; 32],
}

impl Seedling {
    fn grow(self, now: Instant, wall: WallTime) -> Node {
        let sealer = Box::new(SimSealer { owner: self.id, is_newer: self.is_newer });
        Node::new(now, wall, self.epoch, self.config, self.restored, sealer, self.seed)
    }
}
