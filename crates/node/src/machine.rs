//! The machine itself: what it is made of, its two doors, and its timers.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ringmesh_gossip::codec::{self, Heard, Message};
use ringmesh_gossip::membership::{Kind, Membership, Output as MembershipOutput, ProbeConfig};
use ringmesh_gossip::message::{Datagram, Push};
use ringmesh_gossip::parts::Parts;
use ringmesh_gossip::registry::Registry;
use ringmesh_gossip::suspicion::{Life, SuspicionConfig, Suspicions};
use ringmesh_gossip::timers::Timers;
use ringmesh_health::monitor::{EndpointKey, Monitor, Output as MonitorOutput};
use ringmesh_partition::map::Map;
use ringmesh_types::body::{EndpointHealth, NodeBody, Standing};
use ringmesh_types::document::Topic;
use ringmesh_types::event::{Event, EventKind, Severity};
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId};
use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::name::{ClusterName, NodeName, RegionName, ServiceName, ZoneName};
use ringmesh_types::sealed::{MakeSeal, Statement};
use ringmesh_types::snapshot::{MemberState, Snapshot};
use ringmesh_types::stored::Stored;
use ringmesh_types::time::{Instant, WallTime};
use ringmesh_types::wire::{self, Channel};

use crate::accusations::{Accusations, outlook};
use crate::contacts::Contacts;
use crate::crowd::Crowd;
use crate::demotions::Demotions;
use crate::io::{Class, Input, Output, Persist, Target, Wake};
use crate::isolation::Isolation;
use crate::local::Local;
use crate::maps::Maps;
use crate::members::{Member, Members};
use crate::paths::Paths;
use crate::publisher::Publisher;
use crate::registration::{RawRegistration, SavedState};
use crate::remembered::Remembered;
use crate::repair::Repair;
use crate::spread::Spread;
use crate::view::{Source, ViewBuilder};
use crate::watch::Watch;

/// What a node is and how it behaves.
#[derive(Clone)]
pub struct NodeConfig {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// Its failure domain.
    pub zone: ZoneName,
    /// The zones near it.
    pub region: RegionName,
    /// Where others reach its mesh port.
    pub mesh: SocketAddr,
    /// Its addresses, the main one first; at least one.
    pub addresses: Vec<IpAddr>,
    /// The version of the agent.
    pub agent_version: String,
    /// Where to find the mesh.
    pub seeds: Vec<SocketAddr>,
    /// Instances that the configuration file declares.
    pub declared: Vec<RawRegistration>,
    /// Maps that it declares, by service.
    pub maps: BTreeMap<ServiceName, MapSpec>,
    /// How members are probed.
    pub probe: ProbeConfig,
    /// How long suspicions last.
    pub suspicion: SuspicionConfig,
    /// Which parts failure detection has.
    pub parts: Parts,
    /// How long others should serve for us while we restart.
    pub hold: Duration,
    /// Which addresses members and endpoints may advertise.
    pub is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// The body of our `trust` document; empty where keys are known without.
    pub trust_body: Vec<u8>,
    /// Whether nothing is said under a topic while there is nothing to say there. Only for a node that never lived
    /// before: what an earlier life said there would stay.
    pub is_terse: bool,
}

/// What an earlier life left on disk.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// What was registered.
    pub registrations: SavedState,
    /// How the endpoints did.
    pub health: BTreeMap<EndpointKey, EndpointHealth>,
    /// Where other members were.
    pub peers: Vec<SocketAddr>,
    /// Which maps were followed.
    pub maps: Vec<(ServiceName, Map)>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets whose sender is not who its certificate says.
    pub impostors: u64,
    /// Packets that did not decode.
    pub undecodable: u64,
    /// Packets of a life of their sender that is over.
    pub stale_packets: u64,
    /// Packets of senders whose `node` document has not come yet.
    pub strangers: u64,
    /// Documents that were refused.
    pub documents_refused: u64,
    /// Documents of members that were forgotten.
    pub documents_forgotten: u64,
    /// Documents that were news.
    pub documents_merged: u64,
    /// Documents that were known already.
    pub documents_repeated: u64,
    /// Peers that were told something newer than what they said.
    pub echoes: u64,
    /// Accusations that counted.
    pub accusations_counted: u64,
    /// Accusations that did not.
    pub accusations_void: u64,
    /// Members that were declared Down here.
    pub downs: u64,
    /// Times this node refuted an accusation.
    pub refutations: u64,
    /// Times this node took a new identity because it was held Down.
    pub renewals: u64,
    /// Questions that were not asked because too many were under way.
    pub questions_dropped: u64,
}

/// The node's own timers. None is ever cancelled: each carries what it was armed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    Suspicion(NodeId),
    LookOver(NodeId, Instant),
    HoldEnd(NodeId),
    HoldRelease(Instant),
    Reap,
    Seeds,
    Contact,
    Look,
    Repair,
    Publish,
    Announce,
    Graft,
    Beat,
    Demotions,
    FlappingOut(NodeId),
    Watch,
    Isolation,
    Displaced,
    ClashOver(NodeId),
    Maps(Instant),
    Save,
}

/// Monotonic and wall time side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    at: Instant,
    wall: WallTime,
}

impl Clock {
    pub(crate) fn wall(&self, now: Instant) -> WallTime {
        self.wall.after(now.since(self.at)).before(self.at.since(now))
    }
}

/// The machine.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) clock: Clock,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) membership: Membership<ChaCha8Rng>,
    pub(crate) monitor: Monitor<ChaCha8Rng>,
    pub(crate) registry: Registry,
    pub(crate) suspicions: Suspicions,
    pub(crate) accusations: Accusations,
    pub(crate) paths: Paths,
    pub(crate) members: Members,
    pub(crate) publisher: Publisher,
    pub(crate) contacts: Contacts,
    pub(crate) remembered: Remembered,
    pub(crate) repair: Repair,
    pub(crate) spread: Spread,
    pub(crate) local: Local,
    pub(crate) maps: Maps,
    pub(crate) view: ViewBuilder,
    pub(crate) demotions: Demotions,
    pub(crate) watch: Watch,
    pub(crate) isolation: Isolation,
    pub(crate) crowd: Crowd,
    pub(crate) timers: Timers<Timer>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) standing: Standing,
    pub(crate) stats: Stats,
    started: WallTime,
    events: u64,
    turned: Instant,
}

/// What rides beside a packet.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    /// It asks for a probe, whose failure is to be told after this time.
    nack_after: Option<Duration>,
    /// Its sender suspects us in this life.
    accused: Option<Life>,
}

/// A deadline that is met this late was slept through.
const PAUSE: Duration = Duration::from_secs(1);

impl Node {
    /// A node at its start. `epoch` must be on disk already: the maximum of the persisted epoch + 1 and `wall`.
    pub fn new(
        now: Instant,
        wall: WallTime,
        epoch: Epoch,
        config: NodeConfig,
        restored: Restored,
        sealer: Box<dyn MakeSeal + Send>,
        seed: [u8; 32],
    ) -> Self {
        let id = NodeId::derive(&config.cluster, &config.name);
        let identity = Identity { id, epoch, revival: 0, addr: MeshAddr::from(config.mesh) };
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut fork = || ChaCha8Rng::from_rng(&mut rng);
        let (probe_rng, monitor_rng, own_rng) = (fork(), fork(), fork());
        let seeds = config.seeds.iter().chain(&restored.peers).copied().filter(|addr| *addr != config.mesh);
        let mut node = Self {
            clock: Clock { at: now, wall },
            membership: Membership::new(identity, &config.probe, config.parts, probe_rng),
            monitor: Monitor::new(monitor_rng),
            registry: Registry::default(),
            suspicions: Suspicions::new(config.suspicion.clone(), config.parts),
            accusations: Accusations::default(),
            paths: Paths::default(),
            members: Members::new(id),
            publisher: Publisher::new(id, sealer),
            contacts: Contacts::new(now, seeds.collect()),
            remembered: Remembered::default(),
            repair: Repair::default(),
            spread: Spread::new(id, config.zone.clone()),
            local: Local::new(&config, &restored.registrations),
            maps: Maps::new(restored.maps),
            view: ViewBuilder::new(config.cluster.clone()),
            demotions: Demotions::default(),
            watch: Watch::default(),
            isolation: Isolation::new(now),
            crowd: Crowd::default(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            standing: Standing::Serving,
            stats: Stats::default(),
            rng: own_rng,
            started: wall,
            events: 0,
            turned: now,
            config,
        };
        node.begin(now, &restored.health);
        node
    }

    fn begin(&mut self, now: Instant, remembered: &BTreeMap<EndpointKey, EndpointHealth>) {
        self.report_local_problems(now);
        if !self.config.trust_body.is_empty() {
            self.publisher.want(Topic::of(Topic::TRUST), Class::Bulk, self.config.trust_body.clone());
        }
        self.say_standing();
        self.apply_local(now, remembered);
        self.arm_contact_timers(now);
        self.arm_repair(now);
        self.arm_beat(now);
        self.arm_isolation(now);
        self.timers.arm(now.after(crate::local::SAVE_EVERY), Timer::Save);
        self.timers.arm(now.after(crate::statements::REAP_EVERY), Timer::Reap);
        self.settle(now);
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.membership.identity().id
    }

    /// Who this node is now.
    pub fn identity(&self) -> Identity {
        self.membership.identity()
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What was counted of how news spreads.
    pub fn spread_stats(&self) -> ringmesh_gossip::plumtree::Stats {
        self.spread.stats()
    }

    /// What the failure detector counted.
    pub fn membership_stats(&self) -> ringmesh_gossip::membership::Stats {
        self.membership.stats()
    }

    /// One number over everything that is replicated: equal on nodes that agree.
    pub fn root_digest(&self) -> u64 {
        self.registry.root()
    }

    /// The number that this node raises to refute.
    pub fn incarnation(&self) -> u16 {
        self.membership.incarnation()
    }

    /// How this node sees each member, itself included, by id.
    pub fn members(&self) -> impl Iterator<Item = (Identity, MemberState)> {
        self.members.iter().map(|member| (member.identity(), member.state()))
    }

    /// The endpoints of the instances on this node.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointKey> {
        self.monitor.iter().map(|(key, _)| key)
    }

    /// The documents of one owner as this node has them, `trust` and `node` first.
    pub fn documents_of(&self, owner: NodeId) -> Vec<Arc<Stored>> {
        self.registry.documents_of(owner)
    }

    /// How many documents are kept.
    pub fn documents(&self) -> usize {
        self.registry.iter().count()
    }

    /// The read model as it is now; shares with the one before what did not change.
    pub fn snapshot(&mut self, now: Instant) -> Arc<Snapshot> {
        self.maps_view(now);
        let source = Source {
            members: &self.members,
            registry: &self.registry,
            demotions: &self.demotions,
            isolated_since: self.isolation.since(),
            maps: self.maps.owners(),
            clock: &self.clock,
            now,
        };
        self.view.build(self.membership.identity().id, &source)
    }

    /// The door in.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.notice_pause(now);
        match input {
            Input::Datagram { from, addr, bytes } => self.on_datagram(now, from, addr, &bytes),
            Input::Statements { source, statements } => self.on_statements(now, source, statements),
            Input::TrustWanted { from, speakers } => self.on_trust_wanted(now, from, speakers),
            Input::Announced { from, documents } => self.on_announced(now, from, documents),
            Input::Tree { from, message } => self.on_tree_message(now, from, message),
            Input::Request { from, addr, ticket, request } => {
                self.on_request(now, from, addr, ticket, request);
            }
            Input::Response { ticket, result } => self.on_response(now, ticket, result),
            Input::Probed { id, outcome } => {
                let wall = self.clock.wall(now);
                self.monitor.handle_outcome(wall, &id, &outcome);
            }
            Input::Command { ticket, command } => self.on_command(now, ticket, command),
            Input::Persisted { ticket, result } => self.on_persisted(now, ticket, result),
            Input::TwinSeen(addr) => {
                let twin = Identity { addr: addr.into(), ..self.membership.identity() };
                self.notice_clash(now, twin, addr);
            }
            Input::Remembered { down } => self.on_remembered(now, &down),
            Input::Reload(declared, maps) => self.on_reload(now, &declared, maps),
            Input::WallClock(wall) => self.clock = Clock { at: now, wall },
            Input::Shutdown => self.on_shutdown(now),
        }
        self.settle(now);
    }

    /// Delivers everything that is due at `now`, in order.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_pause(now);
        self.deliver_membership(now);
        let wall = self.clock.wall(now);
        self.monitor.handle_timeout(now, wall);
        while let Some(timer) = self.timers.take_due(now) {
            self.on_timer(now, timer);
            self.settle(now);
        }
        self.settle(now);
    }

    fn deliver_membership(&mut self, now: Instant) {
        let serving = self.members.iter().filter(|member| member.is_serving());
        let epochs = serving.map(|member| member.identity().epoch);
        self.crowd.look(now, self.clock.wall(now), epochs);
        let Self { membership, config, members, paths, .. } = self;
        membership.handle_timeout(now, &|id| outlook(config, members, paths, id));
    }

    /// When [`Node::handle_timeout`] is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Wake)> {
        [
            self.membership.poll_timeout().map(|at| (at, Wake::Membership)),
            self.monitor.poll_timeout().map(|at| (at, Wake::Health)),
            self.timers.next().map(|at| (at, Wake::Node)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The door out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A process that was stopped heard nobody refute: what was overdue when it woke up is not held against anybody.
    fn notice_pause(&mut self, now: Instant) {
        let paused = now.since(self.turned);
        if paused >= PAUSE && self.poll_timeout().is_some_and(|(at, _)| now.since(at) >= PAUSE) {
            self.suspicions.delay(paused);
            self.isolation.count_from(now);
            self.on_woken(now, paused);
            self.doubt_maps(now);
        }
        self.turned = now;
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Suspicion(subject) => self.on_suspicion_due(now, subject),
            Timer::LookOver(subject, begun) => self.on_look_over(now, subject, begun),
            Timer::HoldEnd(subject) => self.on_hold_end(now, subject),
            Timer::HoldRelease(armed) => self.on_hold_release(armed),
            Timer::Reap => self.on_reap_due(now),
            Timer::Seeds => self.on_seeds_due(now),
            Timer::Contact => self.on_contact_due(now),
            Timer::Look => self.on_look_due(now),
            Timer::Repair => self.on_repair_due(now),
            Timer::Publish => {}
            Timer::Announce => self.on_announce_due(),
            Timer::Graft => self.on_graft_due(now),
            Timer::Beat => self.on_beat_due(now),
            Timer::Demotions => self.on_demotions_due(now),
            Timer::FlappingOut(id) => self.on_flapping_out_due(now, id),
            Timer::Watch => self.on_watch_due(now),
            Timer::Isolation => self.on_isolation_due(now),
            Timer::Displaced => self.on_displaced_due(now),
            Timer::ClashOver(id) => self.on_clash_over(now, id),
            Timer::Maps(armed) => self.on_maps_due(now, armed),
            Timer::Save => self.on_save_due(now),
        }
    }

    /// Carries out what the parts want until they want nothing more.
    pub(crate) fn settle(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.membership.poll_output() {
                self.on_membership(now, output);
            } else if let Some(output) = self.monitor.poll_output() {
                self.on_monitor(now, output);
            } else if !self.publish_next(now) {
                break;
            }
        }
        if let Some(at) = self.publisher.take_wake(now) {
            self.timers.arm(at, Timer::Publish);
        }
        self.settle_isolation(now);
        if self.view.take_changed() {
            self.outputs.push_back(Output::ViewChanged);
        }
    }

    fn on_membership(&mut self, now: Instant, output: MembershipOutput) {
        match output {
            MembershipOutput::Send { to, packet, kind } => self.send_packet(to, packet, kind),
            MembershipOutput::Nack { to, number } => self.send_datagram(to, &Datagram::Nack { number }),
            MembershipOutput::Answered(subject, took) => {
                let zone = self.members.find(subject.id()).map(|member| member.body().zone.clone());
                if let (Some(zone), Some(took)) = (zone, took) {
                    self.paths.add(&zone, took);
                }
            }
            MembershipOutput::ProbeFailed(subject, sent) => self.accuse(now, subject, sent),
            MembershipOutput::Renewed => {
                self.stats.renewals += 1;
                self.say_standing();
            }
            MembershipOutput::Refuted(_) => {
                self.stats.refutations += 1;
                self.say_standing();
            }
        }
    }

    fn send_packet(&mut self, to: NodeId, packet: Vec<u8>, kind: Kind) {
        let at = self.config.mesh.into();
        let parts = self.config.parts;
        let datagram = match kind {
            Kind::Relay(nack_after) if parts.local_health => {
                let nack_after_ms = u32::try_from(nack_after.as_millis()).unwrap_or(u32::MAX);
                Datagram::Relay { at, packet, nack_after_ms }
            }
            Kind::Ping if parts.buddy && self.suspicions.accusers(to) > 0 => {
                match self.members.find(to).map(Member::life) {
                    Some(life) => Datagram::Accused { at, packet, life },
                    None => Datagram::Packet { at, packet },
                }
            }
            Kind::Relay(_) | Kind::Ping | Kind::Other => Datagram::Packet { at, packet },
        };
        self.send_datagram(to, &datagram);
    }

    pub(crate) fn send_datagram(&mut self, to: NodeId, datagram: &Datagram) {
        let Some(target) = self.members.find(to).map(Member::target) else {
            return;
        };
        match wire::encode(Channel::Datagram, datagram) {
            Ok(bytes) => self.outputs.push_back(Output::Datagram { to: target, bytes }),
            Err(_) => self.stats.undecodable += 1,
        }
    }

    fn on_monitor(&mut self, now: Instant, output: MonitorOutput) {
        match output {
            MonitorOutput::Probe { id, endpoint, spec } => {
                self.outputs.push_back(Output::Probe { id, endpoint, spec });
            }
            MonitorOutput::Changed { key, from, to, cause } => {
                self.on_endpoint_changed(now, &key, from, to, cause);
            }
        }
    }

    fn on_datagram(&mut self, now: Instant, from: NodeId, addr: SocketAddr, bytes: &[u8]) {
        self.accusations.note_heard(now, from);
        let (at, packet, beside) = match wire::decode::<Datagram>(Channel::Datagram, bytes) {
            Ok(Datagram::Packet { at, packet }) => (at, packet, Beside::default()),
            Ok(Datagram::Relay { at, packet, nack_after_ms }) => {
                let nack_after = Some(Duration::from_millis(u64::from(nack_after_ms)));
                (at, packet, Beside { nack_after, ..Beside::default() })
            }
            Ok(Datagram::Accused { at, packet, life }) => {
                (at, packet, Beside { accused: Some(life), ..Beside::default() })
            }
            Ok(Datagram::Beat { root }) => return self.on_neighbour_beat(now, from, root),
            Ok(Datagram::Nack { number }) => return self.membership.handle_nack(from, number),
            Err(error) => return self.on_undecodable(from, error.to_string()),
        };
        match codec::hear(at, &packet) {
            Ok(heard) if heard.src.id != from => {
                self.stats.impostors += 1;
                let reason = format!("it speaks for {}, its certificate is that of {from}", heard.src.id);
                self.reject(now, from, reason);
            }
            Ok(heard) => self.on_heard(now, addr, &heard, beside),
            Err(error) => self.on_undecodable(from, error.to_string()),
        }
    }

    fn on_undecodable(&mut self, from: NodeId, reason: String) {
        self.stats.undecodable += 1;
        self.outputs.push_back(Output::Rejected { from, reason });
    }

    fn on_heard(&mut self, now: Instant, addr: SocketAddr, heard: &Heard, beside: Beside) {
        let known = self.members.find(heard.src.id).map(Member::identity);
        match known {
            _ if heard.src.id == self.id() => self.notice_clash(now, heard.src, addr),
            None => self.meet_stranger(now, heard.src.id, addr),
            Some(known) if heard.src.supersedes(&known) => self.meet_stranger(now, heard.src.id, addr),
            Some(known) if heard.src != known => {
                self.stats.stale_packets += 1;
                self.notice_clash(now, heard.src, addr);
                self.show_successor(now, heard.src.id, addr);
            }
            Some(_) => self.on_packet_of_member(now, heard, beside),
        }
    }

    /// A packet of somebody whose present life no document has shown yet: ask for it, believe nothing.
    fn meet_stranger(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        self.stats.strangers += 1;
        self.pull_standing(now, Target { id: Some(id), addr }, id);
    }

    /// Somebody lives a life that a later one has replaced: it should know, above all if the later one is not its own.
    fn show_successor(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        let successor = self.registry.find(id, Topic::NODE).map(|stored| stored.document.clone());
        if let Some(successor) = successor.filter(|_| self.contacts.may_echo(now)) {
            self.stats.echoes += 1;
            let push = Push::Statements(vec![Statement::Document(successor)]);
            self.push(vec![Target { id: Some(id), addr }], Class::Bulk, push);
        }
    }

    fn on_packet_of_member(&mut self, now: Instant, heard: &Heard, beside: Beside) {
        let id = heard.src.id;
        self.confirm(now, id);
        if let Some(member) = self.members.find_mut(id) {
            member.set_heard(now);
            if member.is_serving() && heard.incarnation > member.incarnation() {
                member.raise_incarnation(heard.incarnation);
                self.on_life_shown(now, id, "it raised its incarnation");
            }
        }
        if let Some(life) = beside.accused {
            // The answer to this very packet should carry the incarnation that refutes it.
            self.on_accused(now, life);
            self.settle(now);
        }
        if matches!(heard.message, Message::Ack(_) | Message::TurnUndead) {
            self.on_answered(now, id);
        }
        if matches!(heard.message, Message::TurnUndead) {
            self.renew(now);
            return;
        }
        self.membership.handle_packet(now, heard, beside.nack_after);
    }

    /// Takes a new identity because somebody holds the present one Down; rarely, for anybody can say so.
    pub(crate) fn renew(&mut self, now: Instant) {
        if self.contacts.may_renew(now) {
            self.membership.renew(now);
            self.contact_those_down(now);
        }
    }

    /// Publishes what this node is: called whenever its identity, incarnation or standing changed.
    pub(crate) fn say_standing(&mut self) {
        let identity = self.membership.identity();
        let body = NodeBody {
            name: self.config.name.clone(),
            zone: self.config.zone.clone(),
            region: self.config.region.clone(),
            mesh: identity.addr,
            addresses: self.config.addresses.clone(),
            agent_version: self.config.agent_version.clone(),
            standing: self.standing,
            revival: identity.revival,
            incarnation: self.membership.incarnation(),
            started: self.started,
        };
        match body.to_bytes() {
            Ok(bytes) => self.publisher.want(Topic::of(Topic::NODE), Class::Standing, bytes),
            Err(_) => self.stats.documents_refused += 1,
        }
    }

    /// Starts over under another epoch: the mesh knows a higher one of ours, or ours is too far ahead.
    pub(crate) fn change_epoch(&mut self, now: Instant, epoch: Epoch, cause: String) {
        let before = self.membership.identity().epoch;
        self.membership.change_epoch(now, epoch);
        self.registry.reset(self.id());
        self.publisher.want_all_again();
        self.say_standing();
        self.outputs.push_back(Output::Persist { ticket: None, what: Persist::Epoch(epoch) });
        self.event(now, EventKind::Agent, Severity::Warning, "epoch", before, epoch, cause);
    }

    /// This node as its own readers see it; `said` is its own `node` document.
    pub(crate) fn place_self(&mut self, now: Instant, said: &Arc<Stored>) {
        let id = said.document.key.owner;
        let mut member = Member::new(now, said.clone());
        if let Some(before) = self.members.find(id) {
            member.changed = before.changed;
            if let (Some(clash), Some(seen)) = (before.clash(), before.clash_seen()) {
                member.set_clash(seen, clash.clone());
            }
        }
        self.members.insert(member);
        self.registry.set_live(id, true);
        self.view.member_changed(id);
    }

    pub(crate) fn reject(&mut self, now: Instant, from: NodeId, reason: String) {
        if self.contacts.may_report(now) {
            let name = self.name_of(from);
            self.event(now, EventKind::Refused, Severity::Warning, name, "", "refused", reason.clone());
        }
        self.outputs.push_back(Output::Rejected { from, reason });
    }

    /// What people call a member; its id if its name is not known.
    pub(crate) fn name_of(&self, id: NodeId) -> String {
        self.members.find(id).map_or_else(|| id.to_string(), |member| member.name().to_string())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "an event has that many parts, and each call names them in order"
    )]
    pub(crate) fn event(
        &mut self,
        now: Instant,
        kind: EventKind,
        severity: Severity,
        subject: impl ToString,
        from: impl ToString,
        to: impl ToString,
        cause: impl ToString,
    ) {
        self.events += 1;
        self.outputs.push_back(Output::Event(Event {
            sequence: self.events,
            time: self.clock.wall(now),
            kind,
            severity,
            subject: subject.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            cause: cause.to_string(),
        }));
    }
}
