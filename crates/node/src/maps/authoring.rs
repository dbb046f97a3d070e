//! What a node does for a map as its author, or tells the author: elections, rounds, load, and what operators want.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_gossip::message::{MapAnswer, MapAsk};
use ringmesh_partition::author::{HEAT_WINDOW, REPORT_EVERY, REPORT_LASTS, Reported, first_by_rendezvous};
use ringmesh_partition::difference::Difference;
use ringmesh_partition::follow::{Claim, Token};
use ringmesh_partition::heat::Report;
use ringmesh_partition::map::{Map, Parts};
use ringmesh_partition::place::Candidate;
use ringmesh_partition::plan::{self, Order, Plan, Step, What};
use ringmesh_partition::position::Position;
use ringmesh_types::body::{LayoutBody, STEPS_TOLD_MAX};
use ringmesh_types::event::Severity;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;
use ringmesh_types::wire::{self, Channel};
use serde::{Deserialize, Serialize};

use super::asking::MapAsked;
use super::{AuthorView, Generation, HISTORY_MAX, Known, ProposalView, REPORTERS_MAX, Runs, runs};
use crate::io::{CommandError, CommandErrorKind, Said, Ticket};
use crate::machine::Node;
use crate::members::Member;
use crate::view::{health_body, services_body};

/// A first map is made when who may serve has been the same for so long: those that start together are in it together.
const CALM_FOR: core::time::Duration = core::time::Duration::from_secs(3);
/// So long after a generation its author asks whether it is followed.
const COMPARED_AFTER: core::time::Duration = core::time::Duration::from_secs(8);
/// Of the costliest keys of either kind, so many are called by their names.
const NAMED_MAX: usize = 64;

/// What an operator may want of the author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapOrder {
    /// Carry out what waits for approval.
    Apply {
        /// Only if it is this plan: [`ProposalView::id`].
        plan: Option<String>,
    },
    /// Cut a partition in two.
    Split {
        /// Where it starts.
        start: Position,
        /// Where to cut; without it where half of its load is on either side.
        at: Option<Position>,
    },
    /// Make a partition part of the one before it.
    Merge {
        /// Where it starts.
        start: Position,
    },
}

impl Node {
    /// Who may serve `service`, and how much each can take.
    pub(super) fn candidates(&self, service: &ServiceName) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for member in self.members.iter().filter(|member| member.state() != MemberState::Left) {
            let Some(body) = services_body(&self.registry, member.id()) else { continue };
            let (capacity, is_well) = match runs(body, health_body(&self.registry, member.id()), service) {
                Runs::Nothing => continue,
                Runs::Failing => (1, false),
                Runs::Weight(weight) => (weight, true),
            };
            candidates.push(Candidate {
                node: member.id(),
                zone: member.body().zone.clone(),
                capacity,
                is_live: is_well && member.is_serving(),
            });
        }
        candidates.sort_by_key(|one| one.node);
        candidates
    }

    /// Whether what a member owned may be given to others beside the budget: because it is lost, or was a while ago.
    pub(super) fn may_be_lost(&self, service: &ServiceName, id: NodeId) -> bool {
        if self.maps.lost.contains_key(&id) || !self.members.find(id).is_some_and(Member::is_serving) {
            return true;
        }
        let body = services_body(&self.registry, id);
        body.is_none_or(|body| {
            matches!(runs(body, health_body(&self.registry, id), service), Runs::Nothing | Runs::Failing)
        })
    }

    /// Works out who the author is.
    pub(super) fn elect(&mut self, now: Instant, service: &ServiceName) {
        let may_plan = |id: &NodeId| {
            let state = self.members.find(*id).map(Member::state);
            matches!(state, Some(MemberState::Alive | MemberState::Suspect { .. }))
        };
        let Some(known) = self.maps.known.get(service) else { return };
        let map = known.follower.as_ref().map(|follower| follower.shared());
        let roster = map.iter().flat_map(|map| map.parts().roster.iter().map(|host| host.node));
        let elected = first_by_rendezvous(service, roster.filter(may_plan)).or_else(|| {
            let able = self.candidates(service).into_iter().filter(Candidate::may_serve);
            first_by_rendezvous(service, able.map(|one| one.node).filter(may_plan))
        });
        let me = self.id();
        let Some(known) = self.maps.known.get_mut(service) else { return };
        known.author.elect(now, elected == Some(me));
        if known.elected != elected {
            known.elected = elected;
            self.maps_changed();
        }
    }

    /// The author looks whether anything is to be done.
    pub(super) fn plan_map(&mut self, now: Instant, service: &ServiceName, is_dirty: bool) {
        let me = self.id();
        let Some(known) = self.maps.known.get_mut(service).filter(|known| known.elected == Some(me)) else {
            return;
        };
        if !known.seek.is_done() {
            // Who was lost meanwhile is covered for once the others have answered.
            self.maps.is_dirty |= is_dirty;
            return;
        }
        let is_round = known.author.take_round(now);
        if let Some(plan) = self.outbidding(now, service) {
            // Whom that map gives keys to may be lost.
            self.maps.is_dirty |= is_dirty;
            return self.publish_map(now, service, plan);
        }
        let Some(known) = self.maps.known.get(service) else { return };
        if known.follower.is_some() && !is_round && !is_dirty {
            return;
        }
        let candidates = self.candidates(service);
        let Some(mut known) = self.maps.known.remove(service) else { return };
        let Known { author, definition, follower, .. } = &mut known;
        let planned = match follower {
            Some(follower) => author.plan(now, me, follower, &candidates, definition, is_round),
            None => self.first_map(now, service, &mut known, &candidates),
        };
        self.maps.known.insert(service.clone(), known);
        // With nobody who could own anything there is nothing to plan; that is shown by whoever looks a key up.
        if let Ok(Some(plan)) = planned {
            self.publish_map(now, service, plan);
        }
    }

    /// The first map, if nobody has one and those who may serve have been the same for a while.
    fn first_map(
        &self,
        now: Instant,
        service: &ServiceName,
        known: &mut Known,
        candidates: &[Candidate],
    ) -> Result<Option<Plan>, plan::PlanError> {
        let able: Vec<NodeId> = candidates.iter().filter(|one| one.may_serve()).map(|one| one.node).collect();
        if known.calm.0 != able {
            known.calm = (able, now);
        }
        let is_calm = now.since(known.calm.1) >= CALM_FOR && !known.calm.0.is_empty();
        if !is_calm || !known.seek.found_nothing() {
            return Ok(None);
        }
        let definition = &known.definition;
        let live: Vec<Candidate> = candidates.iter().filter(|one| one.is_live).cloned().collect();
        let map = plan::first(service.clone(), definition.strategy, self.id(), &live, &definition.plan)?;
        // Tokens go on to rise where a map of another strategy was followed.
        let before = known.retired.as_ref().map_or(0, |map| map.parts().generation);
        let Some(generation) = before.checked_add(1) else { return Ok(None) };
        let map = Map::new(Parts { generation, ..map.into_parts() }).expect("only its number differs");
        Ok(Some(Plan { map, steps: Vec::new() }))
    }

    /// What most members do not follow, another's or this node's own, is outbid: the map that they follow goes on above it.
    fn outbidding(&mut self, now: Instant, service: &ServiceName) -> Option<Plan> {
        let me = self.id();
        let known = self.maps.known.get_mut(service)?;
        let follower = known.follower.as_ref()?;
        let ours = Token::of(follower.map());
        let left = known.seek.left.take().filter(|_| now.since(follower.taken()) >= COMPARED_AFTER);
        let refused = self.maps.layouts.get(service).into_iter().flat_map(|all| all.values());
        let refused = refused.filter_map(|layout| layout.refused()).filter(|token| *token > ours).max();
        let (base, over) = match (left, refused) {
            (Some(base), _) => (base, ours),
            (None, Some(refused)) => (*follower.digest(), refused),
            (None, None) => return None,
        };
        let map = follower.outbid(&base, over, me)?;
        let step = Step { what: What::Outbid(over), churn: 0.0, why: "most members do not follow it".into() };
        Some(Plan { map, steps: vec![step] })
    }

    /// Tells everybody about a map of this node's own, and follows it.
    fn publish_map(&mut self, now: Instant, service: &ServiceName, plan: Plan) {
        let Some(known) = self.maps.known.get(service) else { return };
        let follower = known.follower.as_ref();
        let before = follower.and_then(|follower| follower.find(&plan.map.parts().previous));
        let bytes = match before {
            Some(before) => Difference::between(before, &plan.map).map(|step| step.to_bytes()),
            None => Some(plan.map.to_bytes()),
        };
        let Some(bytes) = bytes else { return };
        let (lines, most) = STEPS_TOLD_MAX;
        let short = |step: &Step| -> String {
            let mut line = step.told(|id| self.name_of(id));
            let end = (0..=most).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
            line.truncate(end);
            line
        };
        let body = LayoutBody {
            bytes,
            made: self.clock.wall(now),
            steps: plan.steps.iter().take(lines).map(short).collect(),
            steps_count: u32::try_from(plan.steps.len()).unwrap_or(u32::MAX),
        };
        let told = Generation {
            generation: plan.map.parts().generation,
            author: self.id(),
            made: Some(body.made),
            is_instead: false,
            steps: body.steps.clone(),
            steps_count: body.steps_count,
        };
        let claim = self.offer(now, service, plan.map, Some(told));
        if matches!(claim, Some(Claim::Taken | Claim::TakenInstead { .. })) {
            if let Some(known) = self.maps.known.get_mut(service) {
                known.seek.compare_by(now.after(COMPARED_AFTER));
            }
            self.tell_layout(service, &body);
            self.save_maps();
        }
    }

    pub(super) fn remember_generation(known: &mut Known, told: Generation) {
        known.history.push_back(Arc::new(told));
        if known.history.len() > HISTORY_MAX {
            known.history.pop_front();
        }
    }

    /// A program on this VM says what load it has.
    pub(crate) fn on_heat_reported(
        &mut self,
        now: Instant,
        service: &ServiceName,
        reporter: String,
        report: Report,
    ) -> Result<Said, CommandError> {
        let known = self.maps.known.get_mut(service).ok_or_else(|| no_map(service))?;
        if known.reporters.len() >= REPORTERS_MAX && !known.reporters.contains_key(&reporter) {
            let detail = format!(
                "{REPORTERS_MAX} programs reported to this agent within {} s: let one report for several",
                REPORT_LASTS.as_secs()
            );
            return Err(CommandError { kind: CommandErrorKind::Conflict, detail });
        }
        known.reporters.insert(reporter, (now, report));
        Ok(Said::Words("the load is noted".to_owned()))
    }

    /// Tells the author what the programs on this VM measured.
    pub(super) fn report_heat(&mut self, now: Instant, service: &ServiceName) {
        let me = self.id();
        let Some(known) = self.maps.known.get_mut(service) else { return };
        known.reporters.retain(|_, (at, _)| now.since(*at) < REPORT_LASTS);
        if now < known.report_at || known.reporters.is_empty() {
            return;
        }
        known.report_at = now.after(REPORT_EVERY);
        let mut all = known.reporters.values().map(|(_, report)| report.clone());
        let Some(mut report) = all.next() else { return };
        all.for_each(|other| report.add(other));
        let Some(author) = known.elected else { return };
        if author == me {
            known.author.on_report(now, me, report);
            return;
        }
        let target = self.members.find(author).map(Member::target);
        if let (Some(target), Ok(bytes)) = (target, wire::encode(Channel::Stream, &report)) {
            self.ask_map(target, service, MapAsked::Heat, MapAsk::Heat(bytes));
        }
    }

    /// Another member reports its load, for it holds this one to be the author.
    pub(super) fn on_heat_told(
        &mut self,
        now: Instant,
        from: NodeId,
        service: &ServiceName,
        bytes: &[u8],
    ) -> MapAnswer {
        match wire::decode::<Report>(Channel::Stream, bytes) {
            // A stranger's load is nobody's; it becomes a member in a moment, or never.
            Ok(_) if !self.members.find(from).is_some_and(Member::is_serving) => MapAnswer::Digest(None),
            Ok(report) => {
                let known = self.maps.known.get_mut(service);
                MapAnswer::Digest(known.and_then(|known| {
                    known.author.on_report(now, from, report);
                    known.follower.as_ref().map(|follower| *follower.digest())
                }))
            }
            Err(error) => {
                self.reject(now, from, format!("the load that it reports is refused: {error}"));
                MapAnswer::Digest(None)
            }
        }
    }

    /// What this node knows as the author of a map.
    pub(super) fn author_view(&self, now: Instant, service: &ServiceName) -> Option<AuthorView> {
        let known = self.maps.known.get(service)?;
        let since = known.author.since()?;
        let map = known.follower.as_ref()?.shared();
        let Reported { heat, by_member, absurd, distinct, is_even } = known.author.reported(now, &map);
        let key = |at: Position| heat.names.get(&at).cloned();
        let proposal = known.author.proposal(&map).map(|plan| ProposalView {
            id: plan_id(plan),
            generation: plan.map.parts().generation,
            churn: plan.churn(),
            steps: plan.steps.iter().map(|step| step.told(|id| self.name_of(id))).collect(),
        });
        let partitions = heat.partitions.iter().map(|(start, heat)| (*start, heat.cost));
        let (dedicated, hot) = (heat.dedicated_by_cost(), heat.hot.iter().copied());
        let named = dedicated.into_iter().take(NAMED_MAX).chain(hot.take(NAMED_MAX));
        Some(AuthorView {
            author: self.id(),
            generation: map.parts().generation,
            since_ms: u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX),
            is_even,
            distinct,
            members: by_member.into_iter().collect(),
            absurd: absurd.into_iter().collect(),
            partitions: if is_even { Vec::new() } else { partitions.collect() },
            names: named.filter_map(|(at, _)| Some((at, key(at)?))).collect(),
            dedicated: heat.dedicated.into_iter().collect(),
            hot: heat.hot.into_iter().take(128).collect(),
            proposal,
        })
    }

    /// Somebody here wants to know what the author knows.
    pub(crate) fn on_map_author(&mut self, now: Instant, ticket: Ticket, service: &ServiceName) {
        let asked = self.ask_author(now, service, MapAsked::Author(ticket), MapAsk::Author);
        let result = match asked {
            Ok(true) => return,
            Ok(false) => self
                .author_view(now, service)
                .map(|view| Said::Author(Box::new(view)))
                .ok_or_else(|| no_generation(service)),
            Err(error) => Err(error),
        };
        self.answer(ticket, result);
    }

    /// Somebody here wants the author to do something.
    pub(crate) fn on_map_order(
        &mut self,
        now: Instant,
        ticket: Ticket,
        service: &ServiceName,
        order: MapOrder,
    ) {
        let result = match wire::encode(Channel::Stream, &order) {
            Ok(bytes) => self.ask_author(now, service, MapAsked::Order(ticket), MapAsk::Order(bytes)),
            Err(_) => Ok(false),
        };
        let result = match result {
            Ok(true) => return,
            Ok(false) => self
                .carry_out(now, service, order, self.id())
                .map(Said::Words)
                .map_err(|detail| CommandError { kind: CommandErrorKind::Conflict, detail }),
            Err(error) => Err(error),
        };
        self.answer(ticket, result);
    }

    /// Asks the author. Says `false` if that is this node itself.
    fn ask_author(
        &mut self,
        now: Instant,
        service: &ServiceName,
        why: MapAsked,
        ask: MapAsk,
    ) -> Result<bool, CommandError> {
        if !self.maps.known.contains_key(service) {
            return Err(no_map(service));
        }
        self.elect(now, service);
        let Some(author) = self.maps.known.get(service).and_then(|known| known.elected) else {
            return Err(no_generation(service));
        };
        if author == self.id() {
            return Ok(false);
        }
        let target = self.members.find(author).map(Member::target);
        let is_asked = target.is_some_and(|target| self.ask_map(target, service, why, ask));
        if is_asked {
            return Ok(true);
        }
        let detail = format!("{} makes the map and cannot be asked now: try again", self.name_of(author));
        Err(CommandError { kind: CommandErrorKind::Conflict, detail })
    }

    /// Another member's operator wants something.
    pub(super) fn on_order_told(
        &mut self,
        now: Instant,
        from: NodeId,
        service: &ServiceName,
        bytes: &[u8],
    ) -> MapAnswer {
        let result = match wire::decode::<MapOrder>(Channel::Stream, bytes) {
            Ok(_) if !self.members.find(from).is_some_and(Member::is_serving) => {
                Err(format!("{from} is no member for {}: try again", self.config.name))
            }
            Ok(order) => self.carry_out(now, service, order, from),
            Err(error) => Err(format!("the order cannot be read: {error}")),
        };
        MapAnswer::Done(result)
    }

    fn carry_out(
        &mut self,
        now: Instant,
        service: &ServiceName,
        order: MapOrder,
        from: NodeId,
    ) -> Result<String, String> {
        let me = self.id();
        let candidates = self.candidates(service);
        let giver = self.name_of(from);
        let my_name = self.config.name.clone();
        let known = self.maps.known.get_mut(service).ok_or_else(|| no_map(service).detail)?;
        if known.elected != Some(me) {
            return Err(format!("{my_name} does not make the map of {service} now: try again"));
        }
        if !known.orders.take(now) {
            return Err("orders come faster than every member can follow: try again in a second".to_owned());
        }
        if !known.seek.is_done() {
            return Err(format!("{my_name} stood still and asks the others first: try again in a second"));
        }
        let follower = known.follower.as_mut().ok_or_else(|| no_generation(service).detail)?;
        let order = match order {
            MapOrder::Apply { plan } => {
                let waits = known.author.proposal(&follower.shared()).map(plan_id);
                if plan.is_some() && waits.is_some() && plan != waits {
                    return Err(
                        "another plan waits by now, look again: ringmesh map plan shows it".to_owned()
                    );
                }
                None
            }
            MapOrder::Split { start, at } => Some(Order::Split { start, at }),
            MapOrder::Merge { start } => Some(Order::Merge { start }),
        };
        let plan = match &order {
            None if !known.definition.needs_approval => {
                return Err("nothing waits for approval: in mode auto plans are carried out by themselves".to_owned());
            }
            None => known.author.approve(&follower.shared()).ok_or_else(|| {
                format!("nothing waits for approval: the author plans every ten seconds, from {} s after it became one", HEAT_WINDOW.as_secs())
            })?,
            Some(order) => {
                let planned = known.author.order(now, me, follower, &candidates, &known.definition, order);
                planned.map_err(|error| error.to_string())?
            }
        };
        let (generation, steps) = (plan.map.parts().generation, plan.steps.len());
        self.publish_map(now, service, plan);
        let is_followed = self
            .maps
            .known
            .get(service)
            .and_then(|known| known.follower.as_ref())
            .is_some_and(|follower| follower.map().parts().generation == generation);
        if !is_followed {
            return Err(format!(
                "generation {generation} would move more than may be moved now: try again in a minute"
            ));
        }
        let cause = format!("an operator at {giver} ordered it");
        self.map_event(now, Severity::Info, service, "", format!("generation {generation}"), cause);
        let steps = if steps == 1 { "one step".to_owned() } else { format!("{steps} steps") };
        Ok(format!("generation {generation} of {service} does it, in {steps}"))
    }
}

/// What a plan is called: the first digits of the digest of its map.
fn plan_id(plan: &Plan) -> String {
    plan.map.digest().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn no_map(service: &ServiceName) -> CommandError {
    let detail =
        format!("{service} has no map: declare one in the configuration file or with ringmesh map declare");
    CommandError { kind: CommandErrorKind::NotFound, detail }
}

pub(super) fn no_generation(service: &ServiceName) -> CommandError {
    let detail = format!(
        "the map of {service} has no generation yet: it begins a few seconds after a host that runs {service} is there"
    );
    CommandError { kind: CommandErrorKind::Conflict, detail }
}

/// How many steps of each kind, in words.
pub(super) fn summary(steps: &[String], count: u32) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for step in steps {
        *kinds.entry(step.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    let told: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    let more = usize::try_from(count).unwrap_or_default().saturating_sub(steps.len());
    match (told.is_empty(), more) {
        (true, 0) => "others stand by".to_owned(),
        (_, 0) => told.join(", "),
        (_, more) => format!("{}, and {more} more", told.join(", ")),
    }
}
