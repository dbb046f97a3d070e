//! Whose instances come last: members and endpoints that flap, members that answer some and not others, and members that
//! went Down beyond the cap on removals.

use ringmesh_health::monitor::EndpointKey;
use ringmesh_types::event::{EventKind, Severity};
use ringmesh_types::ids::NodeId;
use ringmesh_types::service::HealthState;
use ringmesh_types::snapshot::Demotion;
use ringmesh_types::time::Instant;

use crate::damping::Damping;
use crate::gray::Gray;
use crate::machine::{Node, Timer};
use crate::members::{Member, Members};
use crate::removals::{Removal, Removals, WINDOW, most};
use crate::watch::{FLAPPING_OUT_AFTER, Presence};

const CALM: &str = "it has been calm long enough";

/// What keeps members and endpoints back.
#[derive(Debug, Default)]
pub(crate) struct Demotions {
    members: Damping<NodeId>,
    endpoints: Damping<EndpointKey>,
    gray: Gray,
    removals: Removals,
    /// When they are looked at next; timers armed for another moment are stale.
    armed: Option<Instant>,
}

impl Demotions {
    /// Why the instances of a member come last, if they do.
    pub(crate) fn of(&self, member: &Member) -> Option<Demotion> {
        if member.is_down() && self.removals.is_spared(member.id()) {
            return Some(Demotion::Spared);
        }
        if self.members.is_suppressed(&member.id()) {
            return Some(Demotion::Flapping);
        }
        (!member.is_down() && self.gray.is_unreliable(member.id())).then_some(Demotion::Unreliable)
    }

    /// How an endpoint on this node is shown: one that flaps is greylisted when it passes.
    pub(crate) fn shown(&self, key: &EndpointKey, state: HealthState) -> HealthState {
        let is_kept_back = state == HealthState::Passing && self.endpoints.is_suppressed(key);
        if is_kept_back { HealthState::Greylisted } else { state }
    }

    /// A member is gone for good.
    pub(crate) fn forget(&mut self, id: NodeId) {
        self.members.forget(&id);
        self.gray.forget(id);
        self.removals.settle(id);
    }

    /// A member serves again, or has left.
    pub(crate) fn settle(&mut self, id: NodeId) {
        self.removals.settle(id);
    }

    fn next(&self) -> Option<Instant> {
        let damped = [self.members.next_reuse(), self.endpoints.next_reuse()];
        let all = damped.into_iter().chain([self.gray.next(), self.removals.next()]);
        all.flatten().min()
    }
}

impl Node {
    pub(crate) fn demotion(&self, id: NodeId) -> Option<Demotion> {
        self.members.find(id).and_then(|member| self.demotions.of(member))
    }

    /// A member goes Down.
    pub(crate) fn count_removal(&mut self, now: Instant, id: NodeId) {
        // Whoever comes and goes again and again is no first choice anyway, and takes nobody's place.
        if self.demotions.members.is_suppressed(&id) {
            self.demotions.members.fail(now, &id);
            self.timers.arm(now.after(FLAPPING_OUT_AFTER), Timer::FlappingOut(id));
            return self.arm_demotions();
        }
        let members = mesh_size(now, &self.members);
        let removal = self.demotions.removals.decide(now, id, members);
        if removal == Removal::FirstSpared {
            let cause = format!(
                "more than {} of {members} members went Down within a minute: further ones come last in answers for a minute before they are removed",
                most(members)
            );
            let name = self.config.name.clone();
            self.event(now, EventKind::Agent, Severity::Warning, name, "", "removals capped", cause);
        }
        if self.demotions.members.fail(now, &id) {
            self.say_demoted(now, id, Demotion::Flapping);
        }
        if self.demotions.members.is_suppressed(&id) {
            self.timers.arm(now.after(FLAPPING_OUT_AFTER), Timer::FlappingOut(id));
        }
        self.arm_demotions();
    }

    fn say_demoted(&mut self, now: Instant, id: NodeId, demotion: Demotion) {
        let name = self.name_of(id);
        self.event(now, EventKind::Member, Severity::Warning, name, "", demotion.name(), demotion);
    }

    /// A member refuted what these had said of it.
    pub(crate) fn count_refutation(&mut self, now: Instant, id: NodeId, accusers: &[NodeId]) {
        let (others, before) = (self.members.possible_accusers(id), self.presence(now, id));
        let is_news = self.demotions.gray.refute(now, id, accusers, others);
        self.say_unreliable(now, id, before, is_news);
    }

    /// A member has refuted already what this one says of it.
    pub(crate) fn count_overtaken(&mut self, now: Instant, id: NodeId, accuser: NodeId) {
        let (others, before) = (self.members.possible_accusers(id), self.presence(now, id));
        let is_news = self.demotions.gray.overtaken(now, id, accuser, others);
        self.say_unreliable(now, id, before, is_news);
    }

    fn say_unreliable(&mut self, now: Instant, id: NodeId, before: Presence, is_news: bool) {
        if is_news {
            self.note_presence_was(now, id, before);
            self.view.member_changed(id);
            self.say_demoted(now, id, Demotion::Unreliable);
        }
        self.arm_demotions();
    }

    /// An endpoint on this node fails.
    pub(crate) fn count_failure(&mut self, now: Instant, key: &EndpointKey, subject: &str) {
        if self.demotions.endpoints.fail(now, key) {
            let cause = "it failed too often of late: it is greylisted until it is calm";
            self.event(now, EventKind::Service, Severity::Warning, subject, "", "flapping", cause);
            self.arm_demotions();
        }
    }

    fn arm_demotions(&mut self) {
        let next = self.demotions.next();
        if let Some(at) = next.filter(|at| self.demotions.armed.is_none_or(|armed| *at < armed)) {
            self.demotions.armed = Some(at);
            self.timers.arm(at, Timer::Demotions);
        }
    }

    /// Whoever has been kept back long enough is as good as others again, or is out.
    pub(crate) fn on_demotions_due(&mut self, now: Instant) {
        if self.demotions.armed.is_none_or(|armed| armed > now) {
            return;
        }
        self.demotions.armed = None;
        for id in self.demotions.members.reusable(now) {
            self.note_presence(now, id);
            self.demotions.members.forget(&id);
            self.say_calm(now, id, Demotion::Flapping);
        }
        for id in self.demotions.gray.calm(now) {
            self.note_presence(now, id);
            self.demotions.gray.forget(id);
            self.say_calm(now, id, Demotion::Unreliable);
        }
        for id in self.demotions.removals.over(now) {
            self.note_presence(now, id);
            self.demotions.removals.settle(id);
            self.view.member_changed(id);
        }
        for key in self.demotions.endpoints.reusable(now) {
            self.demotions.endpoints.forget(&key);
            if self.monitor.health(&key).is_some_and(|health| health.state == HealthState::Passing) {
                let subject = self.subject_of(&key);
                let (from, to) = (HealthState::Greylisted, HealthState::Passing);
                self.event(now, EventKind::Health, Severity::Info, subject, from, to, CALM);
                self.say_health();
            }
        }
        self.arm_demotions();
    }

    fn say_calm(&mut self, now: Instant, id: NodeId, was: Demotion) {
        self.view.member_changed(id);
        let name = self.name_of(id);
        self.event(now, EventKind::Member, Severity::Info, name, was.name(), "calm", CALM);
    }

    /// A member that flaps may have been Down for long.
    pub(crate) fn on_flapping_out_due(&mut self, now: Instant, id: NodeId) {
        let is_out = |member: &Member| member.is_down() && now.since(member.changed) >= FLAPPING_OUT_AFTER;
        if self.members.find(id).is_some_and(is_out) {
            self.note_presence_was(now, id, Presence::Last);
        }
    }
}

/// How many members serve or did until just now.
fn mesh_size(now: Instant, members: &Members) -> usize {
    let was_lately = |member: &Member| member.is_down() && now.since(member.changed) < WINDOW;
    members.iter().filter(|member| member.is_serving() || was_lately(member)).count()
}
