//! The world of a scenario, the condition of each host, and what is still to be done.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ringmesh_gossip::timers::Timers;
use ringmesh_health::spec::RawCheck;
use ringmesh_node::registration::{RawEndpoint, RawRegistration};
use ringmesh_types::document::Document;
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::time::Instant;

use crate::link::{HostSet, LinkConfig, TroubleId};
use crate::outcome::FaultMark;
use crate::scenario::{Fault, Lie, LinkSpec, Scenario, Scene, ServicePlan, Start, Step, Who};
use crate::world::{Endpoint, World, WorldConfig};

/// How long after its trouble a host is still not held to what healthy hosts are held to.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// A host that has just started is asked nothing for so long.
pub(crate) const NEW_FOR: Duration = Duration::from_secs(2);
/// Between the moment when a converged mesh runs and the scenario's begin: the first checks come back.
const WARM_UP: Duration = Duration::from_secs(4);

/// What was published before everybody ran is repaired by then.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// The condition of a host, which the simulator knows and nobody in the mesh does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    /// Since when its agent runs.
    pub(crate) runs_since: Option<Instant>,
    /// How often it was started.
    pub(crate) starts: u32,
    /// Whether its services run.
    pub(crate) is_up: bool,
    /// Whether its agent stopped in good order and is waited for.
    pub(crate) is_away: bool,
    /// Whether it said that it leaves.
    pub(crate) has_left: bool,
    /// Whether it does not keep to the protocol.
    pub(crate) is_liar: bool,
    /// Whether another host has its name.
    pub(crate) is_twin: bool,
    /// Whether it said what only a newer version keeps.
    pub(crate) is_newer: bool,
    /// Whether its disk was emptied, or could not keep its epoch.
    pub(crate) was_wiped: bool,
    /// How many troubles it has.
    pub(crate) troubles: u32,
    /// When its last trouble ended.
    pub(crate) well_since: Option<Instant>,
}

impl Condition {
    /// Whether its agent runs.
    pub(crate) fn runs(&self) -> bool {
        self.runs_since.is_some()
    }

    /// Whether its agent or its services run, so that it can die.
    pub(crate) fn is_there(&self) -> bool {
        self.runs() || self.is_up || self.is_away
    }
}

/// One endpoint of an instance, as it really is.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) host: usize,
    pub(crate) addr: SocketAddr,
}

/// What is still to be done.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Step(usize),
    Start(usize),
    Stop(usize),
    Leave(usize),
    Roll { left: Vec<usize>, down: Duration, every: Duration },
    End(Ending),
    Flip { endpoints: Vec<(usize, SocketAddr)>, is_up: bool, up: Duration, down: Duration, until: Instant },
    Churn { service: String, every: Duration, until: Instant },
    Register { service: String, hosts: Vec<usize>, next: usize, every: Duration, until: Instant },
    Lies(usize),
}

/// What ends.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Troubles(Vec<TroubleId>, Vec<usize>),
    Slow(Vec<usize>),
    Pause(Vec<usize>),
    Disk(Vec<usize>),
    Lie(Vec<usize>),
    Links(Box<LinkConfig>),
    Endpoints(Vec<(usize, SocketAddr)>),
    Drain(Vec<usize>),
}

/// The world and everything around it.
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) world: World,
    /// When the scenario begins: its time zero.
    pub(crate) begin: Instant,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) labels: BTreeMap<String, Vec<usize>>,
    pub(crate) services: BTreeMap<String, Vec<Served>>,
    pub(crate) ids: BTreeMap<NodeId, usize>,
    pub(crate) names: BTreeMap<String, usize>,
    pub(crate) lies: BTreeMap<usize, (Lie, Option<Vec<usize>>)>,
    /// What which liar says again of whom.
    pub(crate) replayed: BTreeMap<(usize, usize), Document>,
    /// When who died, in order; taken by the watch.
    pub(crate) deaths: Vec<(Instant, usize)>,
    /// What was done, for the report.
    pub(crate) marks: Vec<FaultMark>,
    /// When hosts were cut off, and when everything was whole again; taken by the watch.
    pub(crate) cut_at: Option<Instant>,
    pub(crate) whole_at: Option<Instant>,
    /// When a cut between these sets ended.
    pub(crate) healed: Vec<(Instant, HostSet)>,
    pub(crate) cuts: BTreeMap<TroubleId, HostSet>,
    /// Whether anything changed that observers cannot have seen yet.
    pub(crate) is_truth_changed: bool,
    agenda: Timers<Act>,
}

impl Stage {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Self {
        Self::made_of(scenario, seed, false)
    }

    /// A stage for the largest meshes ([`WorldConfig::is_bare`]).
    pub(crate) fn bare(scenario: &Scenario, seed: u64) -> Self {
        Self::made_of(scenario, seed, true)
    }

    fn made_of(scenario: &Scenario, seed: u64, is_bare: bool) -> Self {
        let topology = &scenario.topology;
        let link = merged(&LinkConfig::default(), &scenario.links.default);
        let config = WorldConfig {
            hosts: topology.nodes,
            zones: topology.zones.len(),
            zone_names: topology.zones.clone(),
            seeds: topology.seeds,
            link: link.clone(),
            hold: topology.hold,
            maps: topology
                .services
                .iter()
                .filter(|service| service.has_map)
                .map(|service| (service.name.parse().expect("was checked"), MapSpec::default()))
                .collect(),
            is_bare,
            ..WorldConfig::default()
        };
        let mut world = World::new(seed, &config);
        let zone = |name: &String| topology.zones.iter().position(|zone| zone == name).unwrap_or_default();
        for (one, other, spec) in &scenario.links.between {
            world.links.set_between(zone(one), zone(other), merged(&link, spec));
        }
        Self {
            ids: (0..topology.nodes).map(|host| (world.id(host), host)).collect(),
            names: (0..topology.nodes).map(|host| (format!("node-{host}"), host)).collect(),
            world,
            begin: Instant::START,
            // Another stream of the same seed: what the world draws does not depend on what is done to it.
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_0f57_0a1e_0001),
            conditions: vec![Condition::default(); topology.nodes],
            labels: BTreeMap::new(),
            services: BTreeMap::new(),
            lies: BTreeMap::new(),
            replayed: BTreeMap::new(),
            deaths: Vec::new(),
            marks: Vec::new(),
            cut_at: None,
            whole_at: None,
            healed: Vec::new(),
            cuts: BTreeMap::new(),
            is_truth_changed: true,
            agenda: Timers::default(),
            scenario: scenario.clone(),
        }
    }

    /// Registers services, starts hosts, and lets time pass until the scenario begins.
    pub(crate) fn set(&mut self) {
        let plans = self.scenario.topology.services.clone();
        let mut declared: BTreeMap<usize, Vec<RawRegistration>> = BTreeMap::new();
        for (index, plan) in plans.iter().enumerate() {
            for host in self.resolve(&plan.on) {
                for number in 0..plan.instances {
                    let (registration, addr) = registration(plan, index, host, number);
                    declared.entry(host).or_default().push(registration);
                    self.services.entry(plan.name.clone()).or_default().push(Served { host, addr });
                }
            }
        }
        for (host, registrations) in declared {
            self.world.declare(host, registrations);
        }
        // Nobody runs yet: a selector of running hosts is drawn from all.
        let running = self.resolve(&self.scenario.topology.running.clone());
        match self.scenario.topology.start {
            Start::Converged => {
                self.world.start_converged(&running);
                self.world.run_for(WARM_UP);
                // What was published while others still started is found by repair.
                let roots = |world: &World| {
                    let nodes = (0..world.hosts()).filter_map(|host| world.node(host));
                    nodes
                        .map(ringmesh_node::Node::root_digest)
                        .collect::<std::collections::BTreeSet<_>>()
                        .len()
                };
                self.world.run_until(SETTLED_WITHIN, |world| roots(world) <= 1);
                self.begin = self.world.now();
                for host in running {
                    self.note_started(host);
                }
            }
            Start::Cold { within } => {
                let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
                for host in running {
                    let wait = rand::RngExt::random_range(&mut self.rng, 0..=nanos);
                    self.arm(self.begin.after(Duration::from_nanos(wait)), Act::Start(host));
                }
            }
        }
        self.world.events.clear();
        self.world.presences.clear();
        for (index, step) in self.scenario.timeline.iter().enumerate() {
            self.agenda.arm(self.begin.after(step.at), Act::Step(index));
        }
    }

    pub(crate) fn resolve(&mut self, who: &Who) -> Vec<usize> {
        let topology = &self.scenario.topology;
        let is_anybody = self.conditions.iter().any(|condition| condition.runs_since.is_some());
        let conditions = &self.conditions;
        let scene = Scene {
            nodes: topology.nodes,
            zones: &topology.zones,
            seeds: topology.seeds,
            running: &|host| !is_anybody || conditions[host].runs_since.is_some(),
            labels: &self.labels,
        };
        who.resolve(&scene, &mut self.rng)
    }

    pub(crate) fn arm(&mut self, at: Instant, act: Act) {
        self.agenda.arm(at, act);
    }

    /// Nothing more is done than what was begun.
    pub(crate) fn cancel_all(&mut self) {
        self.agenda = Timers::default();
    }

    /// Lets time pass, and does on the way what is due. `before` is called each time before something is done.
    pub(crate) fn advance_to(&mut self, until: Instant, before: &mut dyn FnMut(&mut Self)) {
        while let Some(at) = self.agenda.next().filter(|at| *at <= until) {
            self.world.run_for(at.since(self.world.now()));
            before(self);
            while let Some(act) = self.agenda.take_due(at) {
                self.act(act);
            }
            self.is_truth_changed = true;
        }
        self.world.run_for(until.since(self.world.now()));
    }

    /// Seconds since the begin.
    pub(crate) fn seconds(&self, at: Instant) -> f64 {
        at.since(self.begin).as_secs_f64()
    }

    pub(crate) fn now(&self) -> Instant {
        self.world.now()
    }

    pub(crate) fn hosts(&self) -> usize {
        self.conditions.len()
    }

    pub(crate) fn note_started(&mut self, host: usize) {
        let now = self.now();
        let condition = &mut self.conditions[host];
        condition.starts += 1;
        condition.runs_since = Some(now);
        condition.is_up = true;
        condition.is_away = false;
        condition.has_left = false;
    }

    pub(crate) fn add_trouble(&mut self, hosts: &[usize]) {
        for host in hosts {
            self.conditions[*host].troubles += 1;
        }
    }

    pub(crate) fn end_trouble(&mut self, hosts: &[usize]) {
        let now = self.now();
        for host in hosts {
            let condition = &mut self.conditions[*host];
            condition.troubles = condition.troubles.saturating_sub(1);
            condition.well_since = Some(now);
        }
    }

    /// Whether a host runs, is honest and has no trouble.
    pub(crate) fn is_well(&self, host: usize) -> bool {
        let condition = &self.conditions[host];
        condition.runs_since.is_some()
            && !condition.is_liar
            && !condition.is_twin
            && !condition.has_left
            && condition.troubles == 0
    }

    /// Whether it has been so for a while.
    pub(crate) fn is_healthy(&self, host: usize) -> bool {
        self.has_no_excuse(host) && self.is_long_past(self.conditions[host].runs_since)
    }

    fn is_long_past(&self, at: Option<Instant>) -> bool {
        at.is_none_or(|at| self.now().since(at) >= GRACE)
    }

    /// Whether it has no excuse to declare somebody Down, or to be declared Down. A first start is none; of a later one
    /// others may not have heard.
    pub(crate) fn has_no_excuse(&self, host: usize) -> bool {
        let condition = &self.conditions[host];
        let has_settled = condition.starts <= 1 || self.is_long_past(condition.runs_since);
        self.is_well(host) && self.is_long_past(condition.well_since) && has_settled
    }

    /// Whether an agent is asked by anybody: it runs, is honest and well, and has not just started.
    pub(crate) fn is_asked(&self, host: usize) -> bool {
        let has_settled = |at: Instant| self.now().since(at) >= NEW_FOR;
        self.is_well(host) && self.conditions[host].runs_since.is_some_and(has_settled)
    }

    /// Whether two hosts reach each other, both ways.
    pub(crate) fn is_reachable(&self, one: usize, other: usize) -> bool {
        self.cuts.is_empty()
            || (self.world.links.is_whole(one, other) && self.world.links.is_whole(other, one))
    }

    /// Whether they have for a while.
    pub(crate) fn is_long_reachable(&self, one: usize, other: usize) -> bool {
        let was_cut = |(at, side): &(Instant, HostSet)| {
            self.now().since(*at) < GRACE && (side.contains(one) || side.contains(other))
        };
        self.is_reachable(one, other) && !self.healed.iter().any(was_cut)
    }

    /// Whether somebody at `asker` who was told of this endpoint would be served there.
    pub(crate) fn does_work(&self, asker: usize, served: &Served) -> bool {
        self.conditions[served.host].is_up
            && self.world.frozen_until(served.host).is_none()
            && self.world.endpoint(served.host, served.addr) != Endpoint::Silent
            && self.is_reachable(asker, served.host)
    }

    /// Which host an endpoint's address belongs to.
    pub(crate) fn host_of(addr: SocketAddr) -> Option<usize> {
        crate::world::host_of(addr.ip())
    }

    /// Whether a disk was emptied.
    pub(crate) fn was_wiped(&self, host: usize) -> bool {
        self.conditions[host].was_wiped
    }

    /// Whether clocks are so wrong, or names so doubled, that honest nodes may refuse each other.
    pub(crate) fn is_strange_world(&self) -> bool {
        let is_strange = |step: &Step| {
            step.at <= self.now().since(self.begin)
                && matches!(step.fault, Fault::Clock { .. } | Fault::Clash { .. } | Fault::Newer { .. })
        };
        self.scenario.timeline.iter().any(is_strange)
    }

    /// Which endpoints of a service are on these hosts.
    pub(crate) fn endpoints(&self, service: &str, hosts: &[usize]) -> Vec<(usize, SocketAddr)> {
        let all = self.services.get(service).into_iter().flatten();
        all.filter(|served| hosts.contains(&served.host)).map(|served| (served.host, served.addr)).collect()
    }
}

/// An instance of `plan` as it is registered, and its endpoint.
pub(crate) fn registration(
    plan: &ServicePlan,
    service: usize,
    host: usize,
    number: usize,
) -> (RawRegistration, SocketAddr) {
    let address = crate::world::address_of(host);
    let port = u16::try_from(5_060 + service * 1_000 + number).unwrap_or(u16::MAX);
    let check = plan.check_every.map(|every| RawCheck {
        kind: "sip".to_owned(),
        interval: Some(format!("{}ms", every.as_millis())),
        timeout: Some(format!("{}ms", (every / 2).as_millis().clamp(1, 1_000))),
        latency_limit: Some(format!("{}ms", (every / 4).as_millis().clamp(1, 500))),
        ..RawCheck::default()
    });
    let endpoint = RawEndpoint {
        transport: "udp".to_owned(),
        address: address.to_string(),
        port: u64::from(port),
        checks: check.into_iter().collect(),
        ..RawEndpoint::default()
    };
    let registration = RawRegistration {
        id: format!("{}-{host}-{number}", plan.name),
        service: plan.name.clone(),
        endpoints: vec![endpoint],
        ..RawRegistration::default()
    };
    (registration, SocketAddr::new(address, port))
}

/// A link as `base` is, but for what `spec` says.
pub(crate) fn merged(base: &LinkConfig, spec: &LinkSpec) -> LinkConfig {
    LinkConfig {
        latency: spec.latency.unwrap_or(base.latency),
        jitter: spec.jitter.unwrap_or(base.jitter),
        loss: spec.loss.unwrap_or(base.loss),
        duplication: spec.duplication.unwrap_or(base.duplication),
        reordering: spec.reordering.unwrap_or(base.reordering),
        bandwidth: spec.bandwidth.or(base.bandwidth),
    }
}
