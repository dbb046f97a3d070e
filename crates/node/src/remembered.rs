//! Members that are known from memory alone: from the disk after a restart, from before a long pause.
//!
//! Memory says who was alive when it was made. Until the member or a peer says so again, such a member is served, because
//! an agent answers from what it knows. A page of the catalogue of one peer names all who live. Of those that are left, the
//! peer says who has left; the others are looked at over a stream, and who is silent twice is Down: no peer vouches for
//! it, and it does not answer this agent either, so no other accuser is waited for.
//!
//! Whoever finds less than half of those that it remembers decides nothing, for it may be cut off, and leaves it to the
//! failure detector.
//!
//! What comes from disk takes no part in digests, repair and joins before that, because whoever died while this agent was
//! away must not spread from here. Members that hold are not doubted: silence is what they announced, and their hold
//! ends by itself.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use ringmesh_gossip::message::Request;
use ringmesh_types::document::{Key, Topic};
use ringmesh_types::ids::NodeId;
use ringmesh_types::limits;
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::contacts::Asked;
use crate::io::Target;
use crate::machine::{Node, Timer};
use crate::members::Member;

/// From the begin to the first look: agents that restart at the same time need a moment to be there.
const LOOK_AFTER: Duration = Duration::from_secs(3);
/// From the last page of a peer's catalogue to the first look: what it named is still being checked.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// What could not be asked or looked at is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A catalogue that names too few is followed by another one after this time.
const PAGE_EVERY: Duration = Duration::from_secs(10);
/// What waited in buffers during a pause is taken in within this time after it; it is as old as the memory.
const BACKLOG: Duration = Duration::from_millis(500);
/// After a pause this long others may have died and been forgotten; sooner the failure detector is as quick.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// Looks under way at most: fewer than all questions that may be, for others must be asked meanwhile.
const LOOKS_MAX: usize = 24;
/// So many looks in a row come to nothing before a member is Down: a link may break, or a host refuse for a moment.
const LOOKS: u8 = 2;

/// Who is known from memory alone; nobody but for some seconds after a start or a long pause.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// Who is doubted, and how many looks in a row came to nothing.
    unconfirmed: BTreeMap<NodeId, u8>,
    /// How many are or were doubted, without those that are gone.
    doubted: usize,
    since: Instant,
    /// What comes before this moment confirms nobody.
    fresh_from: Instant,
    /// When a peer had named all that it counts among the living.
    informed: Option<Instant>,
    /// When the next round of looks is due: of the timers that were armed only this one counts.
    due: Instant,
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            unconfirmed: BTreeMap::new(),
            doubted: 0,
            since: Instant::START,
            fresh_from: Instant::START,
            informed: None,
            due: Instant::START,
        }
    }
}

impl Remembered {
    /// A member is gone, for whatever reason: there is nothing left to doubt, and it was not found either.
    pub(crate) fn settle(&mut self, id: NodeId) {
        if self.unconfirmed.remove(&id).is_some() {
            self.doubted -= 1;
        }
    }

    fn may_look(&self, now: Instant) -> bool {
        let is_read = self.informed.is_some_and(|at| now.since(at) >= READ_WITHIN);
        is_read && self.is_among_many() && now.since(self.since) >= LOOK_AFTER
    }

    /// Whether another catalogue may name more.
    fn wants_page(&self, now: Instant) -> bool {
        let is_old = |at| now.since(at) >= PAGE_EVERY;
        self.informed.is_none_or(|at| !self.is_among_many() && is_old(at))
    }

    /// Whether at least half of those that were doubted are there.
    fn is_among_many(&self) -> bool {
        self.unconfirmed.len() * 2 <= self.doubted
    }
}

impl Node {
    /// All that came so far came from disk, where these were Down: they are so until they show a later life of theirs.
    pub(crate) fn on_remembered(&mut self, now: Instant, down: &[NodeId]) {
        for id in down {
            if self.members.find(*id).is_some_and(|member| member.is_serving() && *id != self.id()) {
                self.hold_down(now, *id, "it was Down before this agent restarted");
            }
        }
        self.forget_presences();
        self.doubt_everybody(now, now, now.after(LOOK_AFTER));
        for id in self.remembered.unconfirmed.keys() {
            self.registry.set_live(*id, false);
        }
        self.show_ourselves_to_all(now);
    }

    /// This agent was stopped for so long and goes on.
    pub(crate) fn on_woken(&mut self, now: Instant, paused: Duration) {
        if paused >= LONG_PAUSE {
            let fresh_from = now.after(BACKLOG);
            self.doubt_everybody(now, fresh_from, fresh_from);
        }
    }

    fn doubt_everybody(&mut self, now: Instant, fresh_from: Instant, due: Instant) {
        let is_doubtful = |member: &&Member| !matches!(member.state(), MemberState::Holding);
        let doubtful = self.members.serving_others().filter(is_doubtful);
        let unconfirmed: BTreeMap<NodeId, u8> = doubtful.map(|member| (member.id(), 0)).collect();
        let doubted = unconfirmed.len();
        self.remembered = Remembered { unconfirmed, doubted, since: now, fresh_from, informed: None, due };
        self.timers.arm(due, Timer::Look);
    }

    /// A peer or the member itself says that it is there.
    pub(crate) fn confirm(&mut self, now: Instant, id: NodeId) {
        if now >= self.remembered.fresh_from && self.remembered.unconfirmed.remove(&id).is_some() {
            self.registry.set_live(id, true);
        }
    }

    /// A peer has named all that it counts among the living. Who has left is not among them.
    pub(crate) fn on_catalogue_read(&mut self, now: Instant, peer: Target) {
        if now < self.remembered.fresh_from || self.remembered.unconfirmed.is_empty() {
            return;
        }
        self.remembered.informed = Some(now);
        let owners = self.remembered.unconfirmed.keys().take(limits::SUMMARIES_MAX);
        let keys = owners.map(|owner| Key { owner: *owner, topic: Topic::of(Topic::NODE) });
        let have = self.registry.summaries_of(keys);
        self.ask(peer, Asked::Leaves, Request::Compare { buckets: Vec::new(), have });
    }

    pub(crate) fn on_look_due(&mut self, now: Instant) {
        if self.remembered.unconfirmed.is_empty() || now < self.remembered.due {
            return;
        }
        self.remembered.due = now.after(AGAIN_AFTER);
        self.timers.arm(self.remembered.due, Timer::Look);
        if self.remembered.wants_page(now) {
            // Who is doubted may be dead, and then its catalogue does not come: whoever is not is asked beside it.
            let doubted: Vec<NodeId> = self.remembered.unconfirmed.keys().copied().collect();
            let sure = self.members.some(&mut self.rng, 1, &doubted).first().copied();
            let peer = sure.or_else(|| self.members.some(&mut self.rng, 1, &[]).first().copied());
            let most = usize::from(sure.is_some());
            if let Some(peer) = peer.filter(|_| self.contacts.pages_under_way() <= most) {
                self.ask_page(peer, None);
            }
        }
        self.look_at_remembered(now);
    }

    fn look_at_remembered(&mut self, now: Instant) {
        if !self.remembered.may_look(now) {
            return;
        }
        let under_way: BTreeSet<NodeId> = self.contacts.recalls_under_way();
        let next = self.remembered.unconfirmed.keys().copied().filter(|id| !under_way.contains(id));
        let room = LOOKS_MAX.saturating_sub(under_way.len());
        for id in next.take(room).collect::<Vec<_>>() {
            self.recall(id);
        }
    }

    /// A look at a remembered member came to nothing.
    pub(crate) fn on_remembered_silent(&mut self, now: Instant, id: NodeId) {
        if !self.remembered.may_look(now) {
            return;
        }
        let Some(silent) = self.remembered.unconfirmed.get_mut(&id) else {
            return;
        };
        *silent += 1;
        if *silent >= LOOKS {
            let cause = "it died while this agent was away: no peer names it and it does not answer";
            self.declare_down(now, id, cause.to_owned());
        }
    }

    /// A remembered member answered.
    pub(crate) fn on_remembered_answered(&mut self, now: Instant, id: NodeId) {
        self.confirm(now, id);
    }
}
