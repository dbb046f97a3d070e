//! Members that are known from memory alone: from the disk after a restart, from before a long pause.
//!
//! Memory says who was alive when it was made. Until the member or a peer says so again, such a member is served, because
//! an agent answers from what it knows. A page of the catalogue of one peer names all who live; whoever is not on it some
//! seconds later is looked at over a stream. Who is silent then is Down: no peer vouches for it, and it does not answer this
//! agent either, so no other accuser is waited for. Alone, without a peer that answers, nothing is decided.
//!
//! What comes from disk takes no part in digests, repair and joins before that, because whoever died while this agent was
//! away must not spread from here. Members that hold are not looked at: silence is what they announced, and their hold
//! ends by itself.

use core::time::Duration;
use std::collections::BTreeSet;

use ringmesh_gossip::message::Request;
use ringmesh_types::ids::NodeId;
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::contacts::Asked;
use crate::machine::{Node, Timer};
use crate::members::Member;

/// From the begin to the first look: agents that restart at the same time need a moment to be there.
const LOOK_AFTER: Duration = Duration::from_secs(3);
/// From the last page of a peer's catalogue to the first look: what it named is still being checked.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// What could not be asked or looked at is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What waited in buffers during a pause is taken in within this time after it; it is as old as the memory.
const BACKLOG: Duration = Duration::from_millis(500);
/// After a pause this long others may have died and been forgotten; sooner the failure detector is as quick.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// Looks under way at most; the next begins when one has ended.
const LOOKS_MAX: usize = 32;

/// Who is known from memory alone; nobody but for some seconds after a start or a long pause.
#[derive(Debug)]
pub(crate) struct Remembered {
    unconfirmed: BTreeSet<NodeId>,
    since: Instant,
    /// What comes before this moment confirms nobody.
    fresh_from: Instant,
    /// When a peer had named all that it counts among the living.
    informed: Option<Instant>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            unconfirmed: BTreeSet::new(),
            since: Instant::START,
            fresh_from: Instant::START,
            informed: None,
        }
    }
}

impl Remembered {
    /// What becomes of this member is decided. Says whether it was not before.
    pub(crate) fn settle(&mut self, id: NodeId) -> bool {
        self.unconfirmed.remove(&id)
    }

    /// A peer has named all that it counts among the living.
    pub(crate) fn set_informed(&mut self, now: Instant) {
        if now >= self.fresh_from {
            self.informed = Some(now);
        }
    }

    fn may_look(&self, now: Instant) -> bool {
        let is_read = self.informed.is_some_and(|at| now.since(at) >= READ_WITHIN);
        is_read && now.since(self.since) >= LOOK_AFTER
    }
}

impl Node {
    /// All that came so far came from disk, where these were Down: they are so until they show a later life of theirs.
    pub(crate) fn on_remembered(&mut self, now: Instant, down: &[NodeId]) {
        for id in down {
            if self.members.find(*id).is_some_and(|member| member.is_serving() && *id != self.id()) {
                self.declare_down(now, *id, "it was Down before this agent restarted".to_owned());
            }
        }
        self.doubt_everybody(now, now);
        self.timers.arm(now.after(LOOK_AFTER), Timer::Look);
        for id in &self.remembered.unconfirmed {
            self.registry.set_live(*id, false);
        }
        self.show_ourselves_to_all();
    }

    /// This agent was stopped for so long and goes on.
    pub(crate) fn on_woken(&mut self, now: Instant, paused: Duration) {
        if paused >= LONG_PAUSE {
            let fresh_from = now.after(BACKLOG);
            self.doubt_everybody(now, fresh_from);
            self.timers.arm(fresh_from, Timer::Look);
        }
    }

    fn doubt_everybody(&mut self, now: Instant, fresh_from: Instant) {
        let unconfirmed = self.members.serving_others().map(Member::id).collect();
        self.remembered = Remembered { unconfirmed, since: now, fresh_from, informed: None };
    }

    /// A peer or the member itself says that it is there.
    pub(crate) fn confirm(&mut self, now: Instant, id: NodeId) {
        if now >= self.remembered.fresh_from && self.remembered.settle(id) {
            self.registry.set_live(id, true);
        }
    }

    pub(crate) fn on_look_due(&mut self, now: Instant) {
        if self.remembered.unconfirmed.is_empty() {
            return;
        }
        self.timers.arm(now.after(AGAIN_AFTER), Timer::Look);
        if self.remembered.informed.is_none() && !self.contacts.is_paging() {
            let peer = self.members.some(&mut self.rng, 1, &[]).first().copied();
            if let Some(peer) = peer {
                self.ask(peer, Asked::Page(peer), Request::Page { after: None });
            }
        }
        self.look_at_remembered(now);
    }

    fn look_at_remembered(&mut self, now: Instant) {
        if !self.remembered.may_look(now) {
            return;
        }
        let is_silent_by_intent = |id: &NodeId| {
            self.members.find(*id).is_some_and(|member| matches!(member.state(), MemberState::Holding))
        };
        let under_way = self.contacts.recalls_under_way();
        let next = self.remembered.unconfirmed.iter().copied();
        let next = next.filter(|id| !under_way.contains(id) && !is_silent_by_intent(id));
        let room = LOOKS_MAX.saturating_sub(under_way.len());
        for id in next.take(room).collect::<Vec<_>>() {
            self.look_at(id, Asked::Recall(id));
        }
    }

    /// A look at a remembered member came to nothing.
    pub(crate) fn on_remembered_silent(&mut self, now: Instant, id: NodeId) {
        if self.remembered.unconfirmed.contains(&id) {
            let cause = "it died while this agent was away: no peer names it and it does not answer";
            self.declare_down(now, id, cause.to_owned());
        }
        self.look_at_remembered(now);
    }

    /// A remembered member answered.
    pub(crate) fn on_remembered_answered(&mut self, now: Instant, id: NodeId) {
        self.confirm(now, id);
        self.look_at_remembered(now);
    }
}
