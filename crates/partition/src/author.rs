//! What the author of a map keeps between rounds: since when it is the author, what load was reported to it, and, where an operator
//! has to approve, what it would do next.
//!
//! Everybody works out the author alone: of the roster members that are live the first by rendezvous. Two may hold themselves to be it
//! for a moment; readers sort that out ([`follow`](crate::follow)).

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::time::Instant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::churn::MINUTE_PLANNED;
use crate::definition::Definition;
use crate::follow::Follower;
use crate::heat::{Heat, Report};
use crate::map::{Map, ROSTER_MAX};
use crate::place::Candidate;
use crate::plan::{self, Order, OrderError, Plan, PlanConfig, PlanError};
use crate::sketch::HyperLogLog;

/// Between two rounds.
pub const ROUND: Duration = Duration::from_secs(10);
/// A new author has heard enough after this time: three half-lives of what is reported.
pub const HEAT_WINDOW: Duration = Duration::from_secs(30);
/// How often owners report to the author.
pub const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A report that is older counts no more.
pub const REPORT_LASTS: Duration = Duration::from_secs(30);
/// Who has measured for a shorter time knows little.
const MEASURED_MIN: Duration = Duration::from_secs(5);
/// Less than this in all, in cost units a second, says nothing about what is hot: a few requests are chance.
pub const LOAD_MIN: f64 = 10.0;
/// A member that reports so many times the median of all is not believed.
const ABSURD: f64 = 1_000.0;
/// With fewer reports there is no median to speak of.
const MEDIAN_OF: usize = 3;

/// Who makes the maps of `service`, if these members are live; nobody if there are none.
pub fn first_by_rendezvous(service: &ServiceName, live: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    live.max_by_key(|node| score(service, *node))
}

/// How many of `live` come before `node`.
pub fn rank_by_rendezvous(service: &ServiceName, node: NodeId, live: impl Iterator<Item = NodeId>) -> u32 {
    let own = score(service, node);
    live.fold(0, |rank, other| rank + u32::from(score(service, other) > own))
}

fn score(service: &ServiceName, node: NodeId) -> (u64, NodeId) {
    let seed = xxh3_64(service.as_str().as_bytes());
    (xxh3_64_with_seed(node.as_bytes(), seed), node)
}

/// What a member was told by reporters, and what it would do.
#[derive(Debug, Default)]
pub struct Author {
    since: Option<Instant>,
    next_round: Option<Instant>,
    reports: BTreeMap<NodeId, (Instant, Report)>,
    proposal: Option<Plan>,
}

/// What was reported, as one reader of it sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// What counts in plans.
    pub heat: Heat,
    /// What each member reports of all that it serves, in cost units a second.
    pub by_member: BTreeMap<NodeId, f64>,
    /// Whose report is not believed, and what it says.
    pub absurd: BTreeMap<NodeId, f64>,
    /// How many different keys there were.
    pub distinct: f64,
    /// Nothing was reported: the space itself is taken to be what costs.
    pub is_even: bool,
}

impl Author {
    /// Whether this member is the author, as it sees it now. Says whether that changed.
    pub fn elect(&mut self, now: Instant, is_author: bool) -> bool {
        if self.since.is_some() == is_author {
            return false;
        }
        self.since = is_author.then_some(now);
        self.next_round = is_author.then(|| now.after(HEAT_WINDOW));
        self.proposal = None;
        true
    }

    /// Since when this member is the author.
    pub const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// A member reports. Reports are kept by everybody who gets one, for the next author may be asked before it knows.
    pub fn on_report(&mut self, now: Instant, from: NodeId, report: Report) {
        self.reports.retain(|_, (at, _)| now.since(*at) < REPORT_LASTS);
        if self.reports.len() < ROSTER_MAX || self.reports.contains_key(&from) {
            self.reports.insert(from, (now, report));
        }
    }

    /// What was reported of `map`.
    pub fn reported(&self, now: Instant, map: &Map) -> Reported {
        let is_in = |node: NodeId| map.parts().roster.iter().any(|host| host.node == node);
        let counts = |(node, (at, report)): &(&NodeId, &(Instant, Report))| {
            now.since(*at) < REPORT_LASTS && report.measured >= MEASURED_MIN && is_in(**node)
        };
        let fresh: Vec<(NodeId, &Report)> =
            self.reports.iter().filter(counts).map(|(node, (_, report))| (*node, report)).collect();
        let mut totals: Vec<f64> =
            fresh.iter().map(|(_, report)| report.total()).filter(|total| *total > 0.0).collect();
        totals.sort_by(f64::total_cmp);
        let median = totals.get(totals.len() / 2).copied().filter(|_| totals.len() >= MEDIAN_OF);
        let is_absurd = |report: &Report| median.is_some_and(|median| report.total() > ABSURD * median);
        let (absurd, believed): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|(_, report)| is_absurd(report));
        let mut distinct = HyperLogLog::default();
        believed.iter().for_each(|(_, report)| distinct.merge(&report.distinct));
        let by_member: BTreeMap<NodeId, f64> =
            believed.iter().map(|(node, report)| (*node, report.total())).collect();
        let mut heat = Heat::of(believed.into_iter().map(|(_, report)| report.clone()), map);
        let is_even = heat.total() < LOAD_MIN;
        heat.fill_in(map, |owner| !by_member.contains_key(&owner));
        Reported {
            heat: if is_even { Heat::even(map) } else { heat },
            by_member,
            absurd: absurd.into_iter().map(|(node, report)| (node, report.total())).collect(),
            distinct: distinct.estimate(),
            is_even,
        }
    }

    /// Whether so much was heard that load may be moved.
    fn has_heard(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.since(since) >= HEAT_WINDOW)
    }

    /// Whether a round is due: then the next one is ten seconds later.
    pub fn take_round(&mut self, now: Instant) -> bool {
        let is_due = self.next_round.is_some_and(|at| at <= now);
        if is_due {
            self.next_round = Some(now.after(ROUND));
        }
        is_due
    }

    /// The next map, if anything should change now: those that are lost are covered for at once, load is moved in rounds, and where
    /// an operator has to approve it only becomes a proposal.
    ///
    /// # Errors
    /// If nobody may own anything, or there are too many members.
    pub fn plan(
        &mut self,
        now: Instant,
        me: NodeId,
        follower: &mut Follower,
        candidates: &[Candidate],
        definition: &Definition,
        is_round: bool,
    ) -> Result<Option<Plan>, PlanError> {
        let config = within_budget(now, follower, &definition.plan);
        let map = follower.shared();
        if is_round && self.has_heard(now) {
            let reported = self.reported(now, &map);
            let planned = plan::plan(&map, me, candidates, Some(&reported.heat), &config)?;
            if !definition.needs_approval {
                return Ok(planned);
            }
            self.proposal = planned;
        }
        plan::plan(&map, me, candidates, None, &config)
    }

    /// What waits to be approved; nothing if another map has come since.
    pub fn proposal(&self, map: &Map) -> Option<&Plan> {
        self.proposal.as_ref().filter(|plan| plan.map.parts().previous == map.digest())
    }

    /// An operator approves of it.
    pub fn approve(&mut self, map: &Map) -> Option<Plan> {
        self.proposal.take().filter(|plan| plan.map.parts().previous == map.digest())
    }

    /// An operator wants one thing done.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn order(
        &self,
        now: Instant,
        me: NodeId,
        follower: &mut Follower,
        candidates: &[Candidate],
        definition: &Definition,
        order: &Order,
    ) -> Result<Plan, OrderError> {
        let config = within_budget(now, follower, &definition.plan);
        let map = follower.shared();
        let reported = self.reported(now, &map);
        plan::ordered(&map, me, candidates, Some(&reported.heat), order, &config)
    }
}

/// The configuration with as much churn as this minute still allows.
fn within_budget(now: Instant, follower: &mut Follower, config: &PlanConfig) -> PlanConfig {
    let left = follower.churn_left(now, MINUTE_PLANNED);
    PlanConfig { churn_max: config.churn_max.min(left), ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::Claim;
    use crate::heat::PartitionHeat;
    use crate::map::tests::node;
    use crate::place::tests::candidates;
    use crate::position::{Position, Strategy};
    use ringmesh_types::map_spec::MapSpec;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * seconds)
    }

    fn limiter() -> ServiceName {
        "limiter".parse().expect("a name")
    }

    fn definition() -> Definition {
        Definition::read(&MapSpec::default(), |_| node(0)).expect("the default is right")
    }

    fn follower(hosts: u16) -> Follower {
        let first = plan::first(limiter(), Strategy::Hash, node(0), &candidates(hosts), &definition().plan);
        Follower::new(at(0), first.expect("a map"))
    }

    /// All partitions of `host` cost `cost` each.
    fn report(map: &Map, host: u16, cost: f64) -> Report {
        let owned = (0..map.partitions()).filter(|index| map.parts().seats[*index].owner().0 == host);
        let of = |index: usize| {
            let slice = map.slice(index);
            (slice.start, PartitionHeat { cost, median: slice.at((slice.positions() / 2) as u64) })
        };
        Report {
            measured: Duration::from_secs(60),
            partitions: owned.map(of).collect(),
            dedicated: BTreeMap::new(),
            hot: Vec::new(),
            names: Vec::new(),
            distinct: HyperLogLog::default(),
        }
    }

    #[test]
    fn everybody_elects_the_same_and_who_goes_is_replaced_by_one_of_the_others() {
        let nodes: Vec<NodeId> = (0..20).map(node).collect();
        let first = first_by_rendezvous(&limiter(), nodes.iter().copied()).expect("somebody");
        assert_eq!(first_by_rendezvous(&limiter(), nodes.iter().rev().copied()), Some(first));
        assert_eq!(rank_by_rendezvous(&limiter(), first, nodes.iter().copied()), 0);
        let mut ranks: Vec<u32> =
            nodes.iter().map(|node| rank_by_rendezvous(&limiter(), *node, nodes.iter().copied())).collect();
        ranks.sort_unstable();
        assert_eq!(ranks, (0..20).collect::<Vec<u32>>());
        let second = first_by_rendezvous(&limiter(), nodes.iter().copied().filter(|node| *node != first));
        assert!(second.is_some_and(|second| second != first));
        assert_eq!(first_by_rendezvous(&limiter(), core::iter::empty()), None);
    }

    #[test]
    fn a_new_author_only_covers_until_it_has_heard_for_a_window() {
        let (mut author, mut follower, mut hosts) = (Author::default(), follower(6), candidates(6));
        assert!(author.elect(at(100), true) && !author.elect(at(101), true));
        let hot = |author: &mut Author, now| {
            let map = follower_map(6);
            (0..6).for_each(|host| {
                author.on_report(now, node(host), report(&map, host, if host == 0 { 9.0 } else { 1.0 }));
            });
        };
        hot(&mut author, at(101));
        let plan = author.plan(at(110), node(0), &mut follower, &hosts, &definition(), true);
        assert_eq!(plan, Ok(None), "ten seconds are not enough");
        hosts[5].is_live = false;
        let cover = author.plan(at(110), node(0), &mut follower, &hosts, &definition(), false);
        assert!(cover.expect("somebody serves").is_some_and(|plan| plan.churn() == 0.0));
        hosts[5].is_live = true;
        hot(&mut author, at(129));
        assert!(!author.take_round(at(129)) && author.take_round(at(130)) && !author.take_round(at(131)));
        let moved = author.plan(at(130), node(0), &mut follower, &hosts, &definition(), true);
        assert!(moved.expect("somebody serves").is_some_and(|plan| plan.churn() > 0.0));
    }

    fn follower_map(hosts: u16) -> Map {
        Map::clone(&follower(hosts).shared())
    }

    #[test]
    fn what_must_be_approved_waits_and_what_it_was_planned_for_must_still_be() {
        let (mut author, mut follower, hosts) = (Author::default(), follower(6), candidates(6));
        let definition = Definition { needs_approval: true, ..definition() };
        let map = follower_map(6);
        author.elect(at(0), true);
        (0..6)
            .for_each(|host| author.on_report(at(39), node(host), report(&map, host, 1.0 + f64::from(host))));
        let plan = author.plan(at(40), node(0), &mut follower, &hosts, &definition, true);
        assert_eq!(plan, Ok(None));
        assert!(author.proposal(&map).is_some_and(|plan| !plan.steps.is_empty()));
        let start = map.parts().starts[3];
        let split = Order::Split { start, at: None };
        let ordered = author.order(at(41), node(0), &mut follower, &hosts, &definition, &split);
        let ordered = ordered.expect("it can be cut").map;
        assert_eq!(follower.offer(at(41), ordered.clone(), |_, _| false), Claim::Taken);
        assert_eq!(author.proposal(&ordered), None);
        assert_eq!(author.approve(&ordered), None);
        let nowhere = Order::Merge { start: Position(7) };
        let refused = author.order(at(41), node(0), &mut follower, &hosts, &definition, &nowhere);
        assert!(refused.expect_err("no such partition").to_string().contains("map show"));
    }

    #[test]
    fn nobody_reports_then_the_space_is_the_load_and_who_reports_nonsense_is_left_out() {
        let (mut author, map) = (Author::default(), follower_map(6));
        assert!(author.reported(at(0), &map).is_even);
        for host in 0..6 {
            let cost = if host == 2 { 5e6 } else { 1.0 };
            author.on_report(at(1), node(host), report(&map, host, cost));
        }
        let reported = author.reported(at(2), &map);
        assert_eq!(reported.absurd.keys().copied().collect::<Vec<_>>(), [node(2)]);
        assert!(!reported.is_even && reported.by_member.len() == 5);
        assert!(author.reported(at(32), &map).is_even, "old reports count no more");
    }

    #[test]
    fn who_says_nothing_or_nonsense_is_not_taken_to_be_idle() {
        let (mut author, mut follower, hosts) = (Author::default(), follower(6), candidates(6));
        let map = follower_map(6);
        author.elect(at(0), true);
        for host in 0..5 {
            author.on_report(at(39), node(host), report(&map, host, if host == 4 { 1e8 } else { 3.0 }));
        }
        let reported = author.reported(at(40), &map);
        assert_eq!((reported.by_member.len(), reported.absurd.len()), (4, 1));
        let plan = author.plan(at(40), node(0), &mut follower, &hosts, &definition(), true);
        assert_eq!(plan, Ok(None), "all that is known is even");
    }
}
