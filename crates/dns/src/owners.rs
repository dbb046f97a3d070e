//! Who is named for a key, and in which order: the members that a map names, without those that are not there.
//!
//! Invariants: a member that is Down or has left is never named; as long as any member of the service is there, somebody
//! is. Whose endpoints all fail their checks comes after the others. How near a member is makes no difference:
//! everybody who sees the same members names the same owner.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::owners::{KeyOwners, Sharing, Visit};
use ringmesh_types::snapshot::{InstanceView, MemberState, ServiceView, Snapshot};

use crate::selection::{self, Candidate, Filter, Floor, Reason, Verdict};
use crate::urn::{DRAWN_MAX, Order, SplitMix, Urn};

/// Members that are named for one key at most; no map shares a key among more.
const OWNERS_MAX: usize = 16;
/// The weight of each target of those that share a key.
const SHARED_WEIGHT: u16 = 1;

/// How a member that is there does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Something of it serves, drains, or has not been checked yet.
    Good,
    /// All of it fails.
    Poor,
}

/// Who is named, the first to be asked first. Takes nothing from the heap.
#[derive(Debug)]
pub(crate) struct Ranking {
    nodes: [NodeId; OWNERS_MAX],
    count: usize,
    /// How many of them, which come first, share the key if it is shared.
    sharers: usize,
    sharing: Sharing,
}

impl Ranking {
    /// Who is named for what lies at `at`. `condition` is `None` for members that are not there; those that share the key are
    /// in an order by chance.
    pub(crate) fn of(
        map: &dyn KeyOwners,
        at: u64,
        random: &mut SplitMix,
        condition: &dyn Fn(NodeId) -> Option<Condition>,
    ) -> Self {
        let (mut good, mut poor) = (Few::default(), Few::default());
        let sharing = map.visit(at, &mut |node| {
            match condition(node) {
                Some(Condition::Good) => good.add(node),
                Some(Condition::Poor) => poor.add(node),
                None => {}
            }
            if good.count < OWNERS_MAX { Visit::Next } else { Visit::Enough }
        });
        if good.count + poor.count == 0
            && let Some(node) = map.last_resort(at, &|node| condition(node).is_some())
        {
            good.add(node);
        }
        if sharing == Sharing::Equal {
            good.shuffle(random);
            poor.shuffle(random);
        }
        let sharers = if good.count > 0 { good.count } else { poor.count };
        poor.all().iter().for_each(|node| good.add(*node));
        Self { nodes: good.nodes, count: good.count, sharers, sharing }
    }

    /// Each with its SRV priority.
    pub(crate) fn by_priority(&self) -> impl Iterator<Item = (NodeId, u16)> + '_ {
        (0_u16..).zip(&self.nodes[..self.count]).map(|(number, node)| match self.sharing {
            Sharing::InOrder => (*node, number),
            Sharing::Equal => (*node, u16::from(usize::from(number) >= self.sharers)),
        })
    }

    /// Those whose addresses are the answer where there is no priority.
    pub(crate) fn first(&self) -> &[NodeId] {
        match self.sharing {
            Sharing::InOrder => &self.nodes[..self.count.min(1)],
            Sharing::Equal => &self.nodes[..self.sharers],
        }
    }

    /// The weight of every target, unless each has its own.
    pub(crate) const fn equal_weight(&self) -> Option<u16> {
        match self.sharing {
            Sharing::InOrder => None,
            Sharing::Equal => Some(SHARED_WEIGHT),
        }
    }
}

/// A few members, each once.
struct Few {
    nodes: [NodeId; OWNERS_MAX],
    count: usize,
}

impl Default for Few {
    fn default() -> Self {
        Self { nodes: [NodeId::from_bytes([0; 8]); OWNERS_MAX], count: 0 }
    }
}

impl Few {
    fn all(&self) -> &[NodeId] {
        &self.nodes[..self.count]
    }

    fn add(&mut self, node: NodeId) {
        if self.count < OWNERS_MAX && !self.all().contains(&node) {
            self.nodes[self.count] = node;
            self.count += 1;
        }
    }

    fn shuffle(&mut self, random: &mut SplitMix) {
        for last in (1..self.count).rev() {
            self.nodes.swap(last, random.below_count(last + 1));
        }
    }
}

/// The candidates of each member of a service.
pub(crate) type ByMember<'a> = BTreeMap<NodeId, Vec<Candidate<'a>>>;

/// The candidates of each member of `service`, each member judged as if there were no other.
pub(crate) fn by_member<'a>(snapshot: &Snapshot, service: &'a ServiceView, filter: &Filter) -> ByMember<'a> {
    let mut instances: BTreeMap<NodeId, Vec<&InstanceView>> = BTreeMap::new();
    for instance in &service.instances {
        instances.entry(instance.member.identity.id).or_default().push(instance);
    }
    let judged = |instances: Vec<&'a InstanceView>| selection::among(snapshot, instances, filter);
    instances.into_iter().map(|(node, instances)| (node, judged(instances))).collect()
}

/// How the member with these candidates does; `None` if it is not there, or has nothing that was asked for.
pub(crate) fn condition(candidates: &[Candidate<'_>]) -> Option<Condition> {
    let is_there = |candidate: &&Candidate<'_>| {
        candidate.served().is_some() && candidate.instance.member.state.is_serving()
    };
    let first = candidates.iter().find(is_there)?;
    match first.floor {
        // Who drains owns what the map still says it owns: the map takes it away, everywhere at once.
        None | Some(Floor::Unknown | Floor::Draining) => Some(Condition::Good),
        Some(Floor::Failing | Floor::Down) => Some(Condition::Poor),
    }
}

/// What is at one position, as far as a question is about it.
pub(crate) struct Owners<'a> {
    map: &'a dyn KeyOwners,
    at: u64,
    members: ByMember<'a>,
}

impl<'a> Owners<'a> {
    pub(crate) fn new(
        snapshot: &Snapshot,
        service: &'a ServiceView,
        (map, at): (&'a dyn KeyOwners, u64),
        filter: &Filter,
    ) -> Self {
        Self { map, at, members: by_member(snapshot, service, filter) }
    }

    fn ranking(&self, random: &mut SplitMix) -> Ranking {
        let condition = |node| self.members.get(&node).and_then(|candidates| condition(candidates));
        Ranking::of(self.map, self.at, random, &condition)
    }

    fn of(&self, node: NodeId) -> &[Candidate<'a>] {
        self.members.get(&node).map_or(&[], Vec::as_slice)
    }

    /// At most `max` targets, the first owner's first; of each owner's some in a random `order`.
    pub(crate) fn targets(&self, max: usize, order: Order, draw: u64) -> Vec<Candidate<'a>> {
        let mut random = SplitMix(draw);
        let ranking = self.ranking(&mut random);
        let mut drawn = Vec::new();
        for (node, priority) in ranking.by_priority() {
            let targets = selection::distinct(self.of(node), |one| one.endpoint.socket_addr());
            let ranked = |one: &Candidate<'a>| one.ranked(priority, ranking.equal_weight());
            let is_new = |all: &[Candidate<'a>], one: &Candidate<'a>| {
                all.iter().all(|other| other.endpoint.socket_addr() != one.endpoint.socket_addr())
            };
            let left = max.min(DRAWN_MAX) - drawn.len();
            urn(&targets).draw(&mut random, left, order, |next| {
                if is_new(&drawn, &targets[next]) {
                    drawn.push(ranked(&targets[next]));
                }
            });
        }
        drawn
    }

    /// At most `max` hosts with addresses that `is_wanted` approves of, of those that are asked first.
    pub(crate) fn hosts(
        &self,
        max: usize,
        draw: u64,
        is_wanted: impl Fn(IpAddr) -> bool,
    ) -> Vec<Candidate<'a>> {
        let mut random = SplitMix(draw);
        let ranking = self.ranking(&mut random);
        let mut drawn: Vec<Candidate<'a>> = Vec::new();
        for node in ranking.first() {
            let hosts = hosts(self.of(*node), &is_wanted);
            let left = max.min(DRAWN_MAX) - drawn.len();
            urn(&hosts).draw(&mut random, left, Order::ByWeight, |next| {
                if drawn.iter().all(|other| other.endpoint.address != hosts[next].endpoint.address) {
                    drawn.push(hosts[next]);
                }
            });
        }
        drawn
    }

    /// All candidates, with what was decided about them, and what their members are to the key.
    pub(crate) fn explained(&self) -> Vec<(Candidate<'a>, Option<Role>)> {
        let ranking = self.ranking(&mut SplitMix(0));
        let roles = self.roles(&ranking);
        let mut explained = Vec::new();
        for (node, candidates) in &self.members {
            let role = roles.get(node).copied();
            let priority =
                ranking.by_priority().find(|(named, _)| named == node).map(|(_, priority)| priority);
            for candidate in candidates {
                explained.push((judged(candidate, priority, &ranking), role));
            }
        }
        explained
    }

    fn roles(&self, ranking: &Ranking) -> BTreeMap<NodeId, Role> {
        let mut nodes = Vec::new();
        let sharing = self.map.visit(self.at, &mut |node| {
            nodes.push(node);
            Visit::Next
        });
        let role = |number: usize| match (sharing, number) {
            (Sharing::Equal, _) => Role::Sharer,
            (Sharing::InOrder, 0) => Role::Owner,
            (Sharing::InOrder, number) => Role::Standby(number),
        };
        let stand_ins = ranking.by_priority().map(|(node, _)| (node, Role::StandIn));
        stand_ins
            .chain(nodes.into_iter().enumerate().rev().map(|(number, node)| (node, role(number))))
            .collect()
    }
}

/// What a member is to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is asked first.
    Owner,
    /// So many are asked before it.
    Standby(usize),
    /// It is one of several that are asked alike.
    Sharer,
    /// It is asked because nobody that the map names is there.
    StandIn,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => write!(f, "owner"),
            Self::Standby(number) => write!(f, "standby {number}"),
            Self::Sharer => write!(f, "shares the key"),
            Self::StandIn => write!(f, "nobody that the map names is there: it stands in"),
        }
    }
}

/// What was decided about a candidate of a member that has this priority, if it is named.
fn judged<'a>(candidate: &Candidate<'a>, priority: Option<u16>, ranking: &Ranking) -> Candidate<'a> {
    match (candidate.verdict, priority) {
        (Verdict::In { .. }, Some(priority)) => candidate.ranked(priority, ranking.equal_weight()),
        (Verdict::In { .. }, None) => {
            let reason = match candidate.instance.member.state {
                MemberState::Down => Reason::NodeDown,
                MemberState::Left => Reason::NodeLeft,
                MemberState::Alive | MemberState::Suspect { .. } | MemberState::Holding => Reason::OtherKeys,
            };
            Candidate { verdict: Verdict::Out(reason), floor: None, ..*candidate }
        }
        (Verdict::Out(_), _) => *candidate,
    }
}

/// The hosts of one member with addresses that `is_wanted` approves of.
pub(crate) fn hosts<'a>(
    candidates: &[Candidate<'a>],
    is_wanted: impl Fn(IpAddr) -> bool,
) -> Vec<Candidate<'a>> {
    let family: Vec<_> = candidates.iter().copied().filter(|one| is_wanted(one.endpoint.address)).collect();
    let mut hosts = selection::distinct(&family, |one| one.endpoint.address);
    selection::drop_last(&mut hosts);
    hosts
}

/// The urn that candidates of one member are drawn from.
pub(crate) fn urn(candidates: &[Candidate<'_>]) -> Urn {
    Urn::new(candidates.iter().filter_map(Candidate::served).map(|(_, weight)| weight).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Who is named for a key of `sip`, each with its priority and weight, and then whose addresses are.
    fn named(world: &str) -> (Vec<(String, u16, u16)>, Vec<String>) {
        let snapshot = World::read(world).snapshot();
        let (view, map) = (&snapshot.services["sip"], &snapshot.maps["sip"]);
        let owners = Owners::new(&snapshot, view, (&**map, 0), &Filter::default());
        let node = |one: &Candidate<'_>| one.instance.member.name.to_string();
        let targets = owners.targets(100, Order::ByWeight, 1);
        let targets = targets.iter().map(|one| {
            let (priority, weight) = one.served().expect("it is named");
            (node(one), priority, weight)
        });
        (targets.collect(), owners.hosts(100, 1, |_| true).iter().map(node).collect())
    }

    fn check(world: &str, want: &str, want_hosts: &str) {
        let (mut targets, mut hosts) = named(world);
        targets.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
        hosts.sort();
        let text: Vec<_> =
            targets.iter().map(|(node, priority, weight)| format!("{node} {priority} {weight}")).collect();
        assert_eq!((text.join("; ").as_str(), hosts.join(" ").as_str()), (want, want_hosts), "{world}");
    }

    #[test]
    fn the_owner_comes_first_wherever_it_is() {
        check("a passing; c passing; map sip 0=c,a", "c 0 100; a 1 100", "c");
        check("a passing; c greylisted; map sip 0=c,a", "c 0 100; a 1 100", "c");
        check("a passing; c unknown; map sip 0=c,a", "c 0 100; a 1 100", "c");
        check("a passing; c passing flapping suspect=3; map sip 0=c,a", "c 0 100; a 1 100", "c");
    }

    #[test]
    fn who_is_down_has_left_or_runs_nothing_is_not_named() {
        check("a passing; b passing down; c passing left; map sip 0=b,c,d,a", "a 0 100", "a");
        check("a passing; b passing down spared; map sip 0=b,a", "a 0 100", "a");
        check("a passing; b passing holding; map sip 0=b,a", "b 0 100; a 1 100", "b");
    }

    #[test]
    fn who_fails_comes_after_the_others_and_who_drains_owns_what_it_owns() {
        check(
            "a passing; b failing; c passing draining; d passing; map sip 0=b,a,c,d",
            "a 0 100; c 1 100; d 2 100; b 3 100",
            "a",
        );
        check("b failing; c passing draining; map sip 0=c,b", "c 0 100; b 1 100", "c");
    }

    #[test]
    fn those_that_share_a_key_are_alike() {
        check(
            "a passing weight=0; b passing weight=900; c failing; map sip 0=a+b+c",
            "a 0 1; b 0 1; c 1 1",
            "a b",
        );
        check("a failing; b failing; map sip 0=a+b", "a 0 1; b 0 1", "a b");
    }

    #[test]
    fn somebody_is_named_when_all_that_the_map_names_are_away() {
        check("a passing; b passing down; c passing; map sip 0=b 80=c 90=a", "c 0 100", "c");
        check("b passing down; map sip 0=b", "", "");
    }

    #[test]
    fn rfc_2181_5_what_two_owners_share_is_named_once() {
        check("a passing; xa passing; b passing; map sip 0=a,xa,b", "a 0 100; b 2 100", "a");
        let (targets, hosts) = named("a passing; xa passing; map sip 0=a+xa");
        assert_eq!((targets.len(), hosts.len()), (1, 1));
    }

    #[test]
    fn those_that_share_a_key_come_first_equally_often() {
        let snapshot = World::read("a passing; b passing; c passing; map sip 0=a+b+c").snapshot();
        let (view, map) = (&snapshot.services["sip"], &snapshot.maps["sip"]);
        let owners = Owners::new(&snapshot, view, (&**map, 0), &Filter::default());
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for draw in 0..9_000 {
            let first = owners.targets(8, Order::FirstByWeight, crate::urn::mix(draw))[0];
            *counts.entry(first.instance.member.name.as_str()).or_default() += 1;
        }
        assert!(
            counts.len() == 3 && counts.values().all(|count| (2_800..3_200).contains(count)),
            "{counts:?}"
        );
    }

    proptest! {
        #[test]
        fn those_that_live_are_named_in_the_order_of_the_map(
            nodes in proptest::collection::btree_map(
                select(vec!["a", "b", "c", "d", "e", "f"]),
                select(vec!["passing", "failing", "unknown", "passing draining", "passing down", "passing left"]),
                0..6,
            ),
            order in Just(vec!["a", "b", "c", "d", "e", "f"]).prop_shuffle(),
            count in 1_usize..6,
        ) {
            let instances: Vec<_> = nodes.iter().map(|(node, state)| format!("{node} {state}")).collect();
            let map = format!("map sip 0={} f0={}", order[..count].join(","), order.join(","));
            if instances.is_empty() {
                return Ok(());
            }
            let of = |states: &'static [&str], nodes_in_order: &[&'static str]| -> Vec<&'static str> {
                let is_it = |node: &&str| nodes.get(node).is_some_and(|state| states.contains(state));
                nodes_in_order.iter().copied().filter(is_it).collect()
            };
            let good: &[&str] = &["passing", "unknown", "passing draining"];
            let poor: &[&str] = &["failing"];
            let mut want = of(good, &order[..count]);
            want.extend(of(poor, &order[..count]));
            if want.is_empty() {
                want = of(&["passing", "unknown", "failing", "passing draining"], &order);
                want.truncate(1);
            }
            let (targets, hosts) = named(&format!("{}; {map}", instances.join("; ")));
            let found: Vec<_> = targets.iter().map(|(node, priority, _)| (node.as_str(), *priority)).collect();
            let numbered: Vec<_> = want.iter().copied().zip(0_u16..).collect();
            prop_assert_eq!(found, numbered);
            prop_assert_eq!(hosts, want.iter().take(1).map(|node| (*node).to_owned()).collect::<Vec<_>>());
        }
    }
}
