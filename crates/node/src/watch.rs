//! What whoever follows the members is told: who is in answers, who comes last in them, and who is out.
//!
//! Answers change one by one and at once. Followers (load balancers, authors of maps, people) do better with one change
//! where one thing happened: changes wait for each other a little, and while more members are about to go Down
//! (Rapid, USENIX ATC 2018, section 4: act on a batch once no member is in between).

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::NodeName;
use ringmesh_types::snapshot::{Demotion, MemberState};
use ringmesh_types::time::Instant;
use serde::Serialize;

use crate::io::Output;
use crate::machine::{Node, Timer};
use crate::members::Member;

/// Changes are told once there was none for so long: in two probe periods most of those are noticed that died together.
const QUIET_FOR: Duration = Duration::from_secs(2);
/// And while no member is suspected by several; in any case after this time.
const TOLD_AT_LATEST: Duration = Duration::from_secs(5);
/// So many accusers make it likely that a member goes Down soon.
const LIKELY_DOWN: u16 = 2;
/// Whoever flaps comes last whether it is there or not; if it stays Down for so long it is out.
pub(crate) const FLAPPING_OUT_AFTER: Duration = Duration::from_secs(30);

/// Where a member stands in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Its instances are in answers.
    In,
    /// They come after all others.
    Last,
    /// They are in no answer.
    Out,
}

/// A member that stands elsewhere now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresenceChange {
    /// Which member.
    pub member: NodeName,
    /// Where it stood.
    pub from: Presence,
    /// Where it stands.
    pub to: Presence,
    /// Why.
    pub cause: String,
}

/// The changes that nobody was told of yet.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Where each stood before its first change, with its name: it may be forgotten by then.
    before: BTreeMap<NodeId, (NodeName, Presence)>,
    first: Instant,
    last: Instant,
}

impl Node {
    /// What is known so far is no news to anybody.
    pub(crate) fn forget_presences(&mut self) {
        self.watch.before.clear();
    }

    /// A member's state is about to change.
    pub(crate) fn note_presence(&mut self, now: Instant, id: NodeId) {
        let before = self.presence(now, id);
        self.note_presence_was(now, id, before);
    }

    pub(crate) fn note_presence_was(&mut self, now: Instant, id: NodeId, before: Presence) {
        let Some(name) = self.members.find(id).map(|member| member.name().clone()) else {
            return;
        };
        if self.watch.before.is_empty() {
            self.watch.first = now;
            self.timers.arm(now.after(QUIET_FOR), Timer::Watch);
        }
        self.watch.last = now;
        self.watch.before.entry(id).or_insert((name, before));
    }

    /// Where a member stands: who is not known is out.
    pub(crate) fn presence(&self, now: Instant, id: NodeId) -> Presence {
        let Some(member) = self.members.find(id) else {
            return Presence::Out;
        };
        let is_late = now.since(member.changed) >= FLAPPING_OUT_AFTER;
        match (member.state(), self.demotion(id)) {
            (MemberState::Left, _) | (MemberState::Down, None | Some(Demotion::Unreliable)) => Presence::Out,
            (MemberState::Down, Some(Demotion::Flapping)) if is_late => Presence::Out,
            (_, Some(Demotion::Flapping | Demotion::Unreliable | Demotion::Spared)) => Presence::Last,
            (MemberState::Alive | MemberState::Suspect { .. } | MemberState::Holding, None) => Presence::In,
        }
    }

    pub(crate) fn on_watch_due(&mut self, now: Instant) {
        let is_likely_down = |member: &Member| match member.state() {
            MemberState::Suspect { accusers } => accusers >= LIKELY_DOWN,
            MemberState::Alive | MemberState::Holding | MemberState::Down | MemberState::Left => false,
        };
        let may_wait = now.since(self.watch.first) < TOLD_AT_LATEST;
        if may_wait && self.members.iter().any(is_likely_down) {
            self.timers.arm(now.after(QUIET_FOR / 8), Timer::Watch);
            return;
        }
        let quiet = self.watch.last.after(QUIET_FOR);
        if may_wait && quiet > now {
            self.timers.arm(quiet, Timer::Watch);
            return;
        }
        let before = core::mem::take(&mut self.watch.before);
        let changes: Vec<PresenceChange> = before
            .into_iter()
            .map(|(id, (member, from))| {
                let to = self.presence(now, id);
                let cause = match (self.members.find(id), self.demotion(id)) {
                    (None, _) => "it was forgotten".to_owned(),
                    (Some(_), Some(demotion)) if to == Presence::Last => demotion.to_string(),
                    (Some(member), _) => member.cause().to_string(),
                };
                PresenceChange { member, from, to, cause }
            })
            .filter(|change| change.from != change.to)
            .collect();
        if !changes.is_empty() {
            self.outputs.push_back(Output::Presence(changes));
        }
    }
}
