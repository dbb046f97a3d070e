//! Which endpoints of a service are served, in which order, and why the others are not (RFC 2782 "Priority", "Weight").
//!
//! Invariant: as long as anything of a known service matches, something is served. When nothing healthy is left, the
//! best of the rest is, and every candidate that is served for that reason is marked with its [`Floor`].

use core::fmt;
use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use ringmesh_types::body::EndpointHealth;
use ringmesh_types::name::{InstanceId, NodeName, ProtocolName, ZoneName};
use ringmesh_types::service::{Endpoint, HealthState, Transport};
use ringmesh_types::snapshot::{Demotion, InstanceView, MemberState, ServiceView, Snapshot};
use ringmesh_types::time::WallTime;

use crate::urn::{Order, SplitMix, Urn};

const SAME_ZONE: u16 = 10;
const SAME_REGION: u16 = 20;
const ELSEWHERE: u16 = 30;
/// Added when several others say that a member does not answer; one accuser alone may be the sick one.
const ACCUSED: u16 = 5;
const ACCUSERS_THAT_COUNT: u16 = 2;
/// Added for greylisted endpoints, so that all passing ones come first, wherever they are.
const GREYLISTED: u16 = 100;
/// Added for those on nodes that flap, or that are Down and spared: they come after the greylisted.
const DEMOTED: u16 = 200;

/// Which endpoints a question is about; what is `None` does not matter to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only those that speak this.
    pub protocol: Option<ProtocolName>,
    /// Only those carried by this.
    pub transport: Option<Transport>,
    /// Only those on nodes of this zone.
    pub zone: Option<ZoneName>,
}

/// What kind of unhealthy endpoint is served because nothing healthy is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Floor {
    /// No check of them has finished yet.
    Unknown,
    /// They fail their checks.
    Failing,
    /// They are on nodes that are down: the last that was known.
    Down,
    /// They are draining.
    Draining,
}

impl Floor {
    const ALL: [Self; 4] = [Self::Unknown, Self::Failing, Self::Down, Self::Draining];
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no instance is healthy: the unknown ones are served",
            Self::Failing => "no instance is healthy: the failing ones are served",
            Self::Down => "no node with an instance is up: the last known ones are served, stale",
            Self::Draining => "only draining instances are left: they are served",
        })
    }
}

/// Why an endpoint is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Another protocol was asked for.
    WrongProtocol,
    /// Another transport was asked for.
    WrongTransport,
    /// Another zone was asked for.
    OtherZone,
    /// It, or its node, is draining.
    Draining,
    /// It fails its checks.
    Failing,
    /// No check of it has finished yet.
    Unknown,
    /// Its node is down.
    NodeDown,
    /// Its node has left.
    NodeLeft,
    /// Its node serves other keys.
    OtherKeys,
    /// Addresses were asked for, and those of another node are the answer.
    NotFirst,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongProtocol => "wrong protocol",
            Self::WrongTransport => "wrong transport",
            Self::OtherZone => "other zone",
            Self::Draining => "draining",
            Self::Failing => "failing",
            Self::Unknown => "unknown",
            Self::NodeDown => "node down",
            Self::NodeLeft => "node left",
            Self::OtherKeys => "neither owner nor standby",
            Self::NotFirst => "addresses are those of the first",
        })
    }
}

/// Whether an endpoint is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    In {
        /// Lower is tried first.
        priority: u16,
        /// Its share within its priority.
        weight: u16,
    },
    /// It is not.
    Out(Reason),
}

/// One endpoint of one instance, and what was decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The instance.
    pub instance: &'a InstanceView,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// How it does; unknown since the epoch if its owner says nothing.
    pub health: EndpointHealth,
    /// What was decided.
    pub verdict: Verdict,
    /// Set if it is served only because nothing healthy is left.
    pub floor: Option<Floor>,
}

impl<'a> Candidate<'a> {
    /// Its priority and weight, if it is served.
    pub fn served(&self) -> Option<(u16, u16)> {
        match self.verdict {
            Verdict::In { priority, weight } => Some((priority, weight)),
            Verdict::Out(_) => None,
        }
    }

    /// The same as one that is served with this priority, and this weight if it has not its own.
    pub(crate) fn ranked(&self, priority: u16, weight: Option<u16>) -> Self {
        let weight = weight.unwrap_or(self.instance.instance.weight);
        Self { verdict: Verdict::In { priority, weight }, floor: None, ..*self }
    }

    fn order(&self) -> (u16, &'a NodeName, &'a InstanceId, SocketAddr) {
        let priority = self.served().map_or(u16::MAX, |(priority, _)| priority);
        let instance = self.instance;
        (priority, &instance.member.name, &instance.instance.id, self.endpoint.socket_addr())
    }
}

/// Every endpoint of every instance of `service`, with its verdict, in the order of the snapshot.
pub fn candidates<'a>(snapshot: &Snapshot, service: &'a ServiceView, filter: &Filter) -> Vec<Candidate<'a>> {
    among(snapshot, &service.instances, filter)
}

/// The same for some of the instances, as if there were no others.
pub(crate) fn among<'a>(
    snapshot: &Snapshot,
    instances: impl IntoIterator<Item = &'a InstanceView>,
    filter: &Filter,
) -> Vec<Candidate<'a>> {
    let found: Vec<_> = instances.into_iter().flat_map(endpoints).collect();
    let standings: Vec<_> = found
        .iter()
        .map(|(instance, endpoint, health)| standing(instance, endpoint, health.state, filter))
        .collect();
    // Who is Down and spared does not stand in for those who live.
    let alive: Vec<_> = found
        .iter()
        .zip(&standings)
        .filter(|((instance, ..), standing)| {
            **standing != Standing::Healthy || instance.member.state.is_serving()
        })
        .map(|(_, standing)| *standing)
        .collect();
    let floor = floor(&alive);
    found
        .into_iter()
        .zip(standings)
        .map(|((instance, endpoint, health), standing)| {
            let verdict = match standing {
                Standing::Excluded(reason) => Verdict::Out(reason),
                Standing::Healthy => served(snapshot, instance, health.state),
                Standing::Spare(spare) if floor == Some(spare) => served(snapshot, instance, health.state),
                Standing::Spare(spare) => Verdict::Out(reason(spare)),
            };
            let floor = floor.filter(|floor| standing == Standing::Spare(*floor));
            Candidate { instance, endpoint, health, verdict, floor }
        })
        .collect()
}

/// The candidates that are served, by priority, node and instance, the first of each `key` only.
pub fn distinct<'a, K: Ord>(
    candidates: &[Candidate<'a>],
    key: impl Fn(&Candidate<'a>) -> K,
) -> Vec<Candidate<'a>> {
    let mut served: Vec<_> =
        candidates.iter().copied().filter(|candidate| candidate.served().is_some()).collect();
    served.sort_by(|one, other| one.order().cmp(&other.order()));
    let mut seen = BTreeSet::new();
    served.retain(|candidate| seen.insert(key(candidate)));
    served
}

/// Drops candidates that come last if others remain: an address record has no priority by which they could.
pub fn drop_last(candidates: &mut Vec<Candidate<'_>>) {
    let mut keep_if_any = |is_better: fn(&Candidate<'_>) -> bool| {
        if candidates.iter().any(is_better) {
            candidates.retain(is_better);
        }
    };
    keep_if_any(|candidate| candidate.instance.member.state.is_serving());
    keep_if_any(|candidate| candidate.instance.member.demoted.is_none());
    keep_if_any(|candidate| candidate.health.state != HealthState::Greylisted);
}

/// At most `max` of the served candidates, best priority first; within a priority in a random `order`. The same `draw` gives
/// the same.
pub(crate) fn draw<'a>(
    candidates: &[Candidate<'a>],
    max: usize,
    order: Order,
    draw: u64,
) -> Vec<Candidate<'a>> {
    let mut classes: BTreeMap<u16, Vec<(u16, Candidate<'a>)>> = BTreeMap::new();
    for candidate in candidates {
        if let Some((priority, weight)) = candidate.served() {
            classes.entry(priority).or_default().push((weight, *candidate));
        }
    }
    let mut random = SplitMix(draw);
    let mut drawn = Vec::with_capacity(max.min(candidates.len()));
    for class in classes.values() {
        let urn = Urn::new(class.iter().map(|(weight, _)| *weight).collect());
        urn.draw(&mut random, max - drawn.len(), order, |next| drawn.push(class[next].1));
    }
    drawn
}

/// Where an endpoint stands before it is known what must be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Healthy,
    Spare(Floor),
    Excluded(Reason),
}

fn endpoints(instance: &InstanceView) -> impl Iterator<Item = (&InstanceView, &Endpoint, EndpointHealth)> {
    let health = instance.health.iter().copied().map(Some).chain(core::iter::repeat(None));
    instance.instance.endpoints.iter().zip(health).map(move |(endpoint, health)| {
        let silent = EndpointHealth { state: HealthState::Unknown, since: WallTime::default() };
        (instance, endpoint, health.unwrap_or(silent))
    })
}

fn standing(instance: &InstanceView, endpoint: &Endpoint, state: HealthState, filter: &Filter) -> Standing {
    if filter.protocol.as_ref().is_some_and(|protocol| *protocol != endpoint.protocol) {
        return Standing::Excluded(Reason::WrongProtocol);
    }
    if filter.transport.is_some_and(|transport| transport != endpoint.transport) {
        return Standing::Excluded(Reason::WrongTransport);
    }
    if filter.zone.as_ref().is_some_and(|zone| *zone != instance.member.zone) {
        return Standing::Excluded(Reason::OtherZone);
    }
    if instance.member.state == MemberState::Left {
        return Standing::Excluded(Reason::NodeLeft);
    }
    if instance.is_draining {
        return Standing::Spare(Floor::Draining);
    }
    if !instance.member.state.is_serving() && instance.member.demoted != Some(Demotion::Spared) {
        return Standing::Spare(Floor::Down);
    }
    match state {
        HealthState::Passing | HealthState::Greylisted => Standing::Healthy,
        HealthState::Unknown => Standing::Spare(Floor::Unknown),
        HealthState::Failing => Standing::Spare(Floor::Failing),
    }
}

/// What must be served because nothing healthy is left; `None` while something is, or when there is nothing at all.
fn floor(standings: &[Standing]) -> Option<Floor> {
    if standings.contains(&Standing::Healthy) {
        return None;
    }
    Floor::ALL.into_iter().find(|floor| standings.contains(&Standing::Spare(*floor)))
}

const fn reason(spare: Floor) -> Reason {
    match spare {
        Floor::Unknown => Reason::Unknown,
        Floor::Failing => Reason::Failing,
        Floor::Down => Reason::NodeDown,
        Floor::Draining => Reason::Draining,
    }
}

fn served(snapshot: &Snapshot, instance: &InstanceView, state: HealthState) -> Verdict {
    let (local, member) = (&snapshot.local, &instance.member);
    let mut priority = if member.zone == local.zone {
        SAME_ZONE
    } else if member.region == local.region {
        SAME_REGION
    } else {
        ELSEWHERE
    };
    if let MemberState::Suspect { accusers } = member.state
        && accusers >= ACCUSERS_THAT_COUNT
    {
        priority += ACCUSED;
    }
    if state == HealthState::Greylisted {
        priority += GREYLISTED;
    }
    if member.demoted.is_some() {
        priority += DEMOTED;
    }
    Verdict::In { priority, weight: instance.instance.weight }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, name};
    use proptest::prelude::*;

    /// Lists what was decided about each endpoint of the service `sip`, in the order of the snapshot.
    fn check(world: &str, filter: &Filter, want: &str) {
        let snapshot = World::read(world).snapshot();
        let service = snapshot.services.get("sip").expect("the world has the service");
        let text: Vec<_> = candidates(&snapshot, service, filter)
            .iter()
            .map(|candidate| {
                let member = &candidate.instance.member.name;
                match candidate.verdict {
                    Verdict::In { priority, weight } => format!("{member} {priority} {weight}"),
                    Verdict::Out(reason) => format!("{member} {reason}"),
                }
            })
            .collect();
        assert_eq!(text.join("; "), want, "{world}");
    }

    #[test]
    fn healthy_endpoints_are_served_by_nearness() {
        check("a passing; b passing; c passing", &Filter::default(), "a 10 100; b 20 100; c 30 100");
    }

    #[test]
    fn those_on_members_that_flap_or_are_spared_come_after_all_others() {
        let world = "a passing flapping; b passing down spared; c greylisted; d passing down flapping";
        check(world, &Filter::default(), "a 210 100; b 220 100; c 130 100; d node down");
        check("b passing down spared", &Filter::default(), "b 220 100");
        check("b failing down spared; c passing", &Filter::default(), "b failing; c 30 100");
        check("b passing down spared; c unknown", &Filter::default(), "b 220 100; c 30 100");
    }

    #[test]
    fn greylisted_ones_come_after_all_passing_ones() {
        check("a greylisted; c passing", &Filter::default(), "a 110 100; c 30 100");
    }

    #[test]
    fn two_accusers_count_and_one_does_not() {
        check("a passing suspect=1; b passing suspect=2", &Filter::default(), "a 10 100; b 25 100");
    }

    #[test]
    fn unhealthy_ones_are_not_served_while_something_is_healthy() {
        check(
            "a unknown; b failing; c passing; d passing down; e passing draining; f passing holding",
            &Filter::default(),
            "a unknown; b failing; c 30 100; d node down; e draining; f 30 100",
        );
    }

    #[test]
    fn below_the_floor_the_best_of_the_rest_is_served() {
        let all = Filter::default();
        check(
            "a failing; b unknown; c passing down; d passing draining",
            &all,
            "a failing; b 20 100; c node down; d draining",
        );
        check("a failing; c passing down; d passing draining", &all, "a 10 100; c node down; d draining");
        check("c passing down; d passing draining", &all, "c 30 100; d draining");
        check("d passing draining; e unknown draining", &all, "d 30 100; e 30 100");
        check("a passing left", &all, "a node left");
    }

    #[test]
    fn what_is_served_below_the_floor_is_marked() {
        let snapshot = World::read("a failing; b unknown").snapshot();
        let service = snapshot.services.get("sip").expect("the world has the service");
        let found = candidates(&snapshot, service, &Filter::default());
        let floors: Vec<_> = found.iter().map(|candidate| candidate.floor).collect();
        assert_eq!(floors, [None, Some(Floor::Unknown)]);
    }

    #[test]
    fn a_health_report_with_too_few_endpoints_leaves_the_rest_unknown() {
        check("a passing short; b passing", &Filter::default(), "a unknown; b 20 100");
    }

    #[test]
    fn a_filter_excludes_before_the_floor_is_looked_for() {
        let zone = Filter { zone: Some(name("ber")), ..Filter::default() };
        check("a passing; b failing", &zone, "a other zone; b 20 100");
        let tcp = Filter { transport: Some(Transport::Tcp), ..Filter::default() };
        check("a passing; b failing tcp", &tcp, "a wrong transport; b 20 100");
        let ng = Filter { protocol: Some(name("ng")), ..Filter::default() };
        check("a passing", &ng, "a wrong protocol");
    }

    #[test]
    fn a_draw_is_a_function_of_its_number_and_names_nobody_twice() {
        let snapshot = World::read("a passing; d passing; e passing; f passing").snapshot();
        let service = snapshot.services.get("sip").expect("the world has the service");
        let found = candidates(&snapshot, service, &Filter::default());
        for number in 0..100 {
            let drawn = draw(&found, 3, Order::ByWeight, number);
            assert_eq!(drawn, draw(&found, 3, Order::ByWeight, number));
            assert_eq!(drawn[0].instance.member.name.as_str(), "a", "the nearest comes first");
            assert_eq!(distinct(&drawn, |candidate| candidate.endpoint.address).len(), 3);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn rfc_2782_the_share_of_first_place_follows_the_weights(
            weights in proptest::collection::vec(1_u16..1_000, 2..6),
            seed in any::<u32>(),
        ) {
            const DRAWS: u32 = 20_000;
            let nodes = ["d", "e", "f", "g", "h"];
            let describe = |(node, weight): (&str, u16)| format!("{node} passing weight={weight}");
            let text: Vec<String> = nodes.into_iter().zip(weights.iter().copied()).map(describe).collect();
            let snapshot = World::read(&text.join("; ")).snapshot();
            let service = snapshot.services.get("sip").expect("the world has the service");
            let found = candidates(&snapshot, service, &Filter::default());
            let mut first = vec![0_u32; weights.len()];
            for number in 0..DRAWS {
                let drawn = draw(&found, 1, Order::ByWeight, u64::from(seed) + u64::from(number));
                let winner = drawn[0].instance.member.name.as_str();
                let at = nodes.iter().position(|node| *node == winner).expect("a known node");
                first[at] += 1;
            }
            let sum: f64 = weights.iter().copied().map(f64::from).sum();
            for (count, weight) in first.into_iter().zip(weights) {
                let (got, want) = (f64::from(count) / f64::from(DRAWS), f64::from(weight) / sum);
                prop_assert!((got - want).abs() < 0.02, "got {}, want {}", got, want);
            }
        }
    }
}
