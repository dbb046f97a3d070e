//! How news leaves this node: along the tree within the overlay, or by name where it is large.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_gossip::message::Push;
use ringmesh_gossip::overlay::Overlay;
use ringmesh_gossip::plumtree::{IDS_MAX, Kept, Plumtree, StatementId, Stats, TreeMessage};
use ringmesh_types::ids::NodeId;
use ringmesh_types::limits;
use ringmesh_types::name::ZoneName;
use ringmesh_types::sealed::{Statement, VerifiedStatement};
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::io::{Class, Target};
use crate::machine::{Node, Timer};
use crate::members::Member;
use crate::statements::{class_of, is_small};

/// Announcements wait this long for others.
const ANNOUNCED_WITHIN: Duration = Duration::from_millis(10);
/// Of accusations there are many where many are slow, and any few of them will do.
const ACCUSATIONS_ANNOUNCED_WITHIN: Duration = Duration::from_millis(50);
/// What was announced is waited for this long before it is asked for, or for a round trip if that is longer.
const GRAFT_AFTER: Duration = Duration::from_millis(30);
/// What is urgent goes to so many members besides, wherever they are, for half of the neighbours may have died at once:
/// from its origin, and from each that it is news to.
const BESIDES: [usize; 2] = [64, 1];
/// Whoever has just joined computes its links at most this often.
const REFRESHED_EVERY: Duration = Duration::from_secs(1);
/// Who has just joined has links to few, and others join at the same time: each link costs both a handshake.
const NEWCOMERS_BESIDES: [usize; 2] = [4, 0];
/// Of accusations there are several, each with an origin of its own.
const ACCUSATIONS_BESIDES: [usize; 2] = [16, 1];
/// Where packets get lost a push takes long now and then: everything goes to so many members besides.
const BESIDES_IN_LOSS: usize = 2;
/// From this share of probes that are not answered at once on.
const LOSS: f64 = 0.02;

/// The links, the tree, and what waits to be announced.
#[derive(Debug)]
pub(crate) struct Spread {
    overlay: Overlay,
    tree: Plumtree,
    /// Ids by neighbour.
    unannounced: BTreeMap<NodeId, Vec<StatementId>>,
    refreshed: Instant,
}

impl Spread {
    pub(crate) fn new(me: NodeId, zone: ZoneName) -> Self {
        Self {
            overlay: Overlay::new(me, zone),
            tree: Plumtree::default(),
            unannounced: BTreeMap::new(),
            refreshed: Instant::START,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.tree.stats()
    }

    /// Whether there is a link to this member.
    pub(crate) fn is_linked(&self, id: NodeId) -> bool {
        self.overlay.links().contains(&id)
    }

    /// A member is in this state now: only who can be reached has a place in the overlay.
    pub(crate) fn member_changed(&mut self, id: NodeId, zone: &ZoneName, state: MemberState) {
        if is_reachable(state) { self.overlay.came(id, zone) } else { self.overlay.went(id) }
    }

    /// Nobody knows this member any more.
    pub(crate) fn member_dropped(&mut self, id: NodeId) {
        self.overlay.went(id);
    }
}

fn besides(class: Class) -> [usize; 2] {
    match class {
        Class::Standing => BESIDES,
        Class::Accusation => ACCUSATIONS_BESIDES,
        Class::Health | Class::Bulk => [0, 0],
    }
}

fn is_reachable(state: MemberState) -> bool {
    match state {
        MemberState::Alive => true,
        // One accuser may be the sick one.
        MemberState::Suspect { accusers } => accusers < 2,
        MemberState::Holding | MemberState::Down | MemberState::Left => false,
    }
}

/// What a checked statement is kept as.
pub(crate) fn kept(statement: &VerifiedStatement) -> Option<Kept> {
    match statement {
        VerifiedStatement::Document(document) => Some(Kept::Document(document.get().clone())),
        VerifiedStatement::Accusation(accusation) => {
            Some(Kept::Accusation(Arc::new(accusation.get().clone())))
        }
        VerifiedStatement::Unreadable(..) => None,
    }
}

impl Node {
    /// Tells everybody: news of ours, or what came from a neighbour as news after so many hops.
    pub(crate) fn spread_news(&mut self, now: Instant, from: Option<NodeId>, hops: u8, news: &[Kept]) {
        self.refresh_links(now);
        news.iter().for_each(|kept| {
            self.spread.tree.see(kept, from);
        });
        let plan = self.spread.tree.plan(from);
        let (eager, lazy) = (self.targets(&plan.eager), self.targets(&plan.lazy));
        let (mut class, mut small, mut ids, mut large) = (Class::Bulk, Vec::new(), Vec::new(), Vec::new());
        for kept in news {
            let statement = kept.statement();
            class = class.min(class_of(&statement));
            match &statement {
                Statement::Document(document) if !is_small(&statement) => {
                    large.push((document.key.clone(), document.version));
                }
                Statement::Document(_) | Statement::Accusation(_) => {
                    ids.push(kept.id());
                    small.push(statement);
                }
            }
        }
        if !large.is_empty() {
            let all = eager.iter().chain(&lazy).copied().collect();
            self.push(all, class, Push::Announce(large));
        }
        if !small.is_empty() {
            let is_lossy = self.membership.loss().share() > LOSS;
            let besides = if self.contacts.is_newcomer(now) { NEWCOMERS_BESIDES } else { besides(class) };
            let usual = besides[usize::from(from.is_some())];
            let count = usual.max(if is_lossy { BESIDES_IN_LOSS } else { 0 });
            if count > 0 {
                let told: Vec<NodeId> = plan.eager.iter().copied().chain(from).collect();
                let to = self.members.some(&mut self.rng, count, &told);
                self.push(to, class, Push::Statements(small.clone()));
            }
            self.push(eager, class, Push::Spread { hops, statements: small });
            self.announce(now, &plan.lazy, class, &ids);
        }
    }

    fn announce(&mut self, now: Instant, to: &[NodeId], class: Class, ids: &[StatementId]) {
        let was_quiet = self.spread.unannounced.is_empty();
        for id in to {
            self.spread.unannounced.entry(*id).or_default().extend(ids);
        }
        let (is_patient, wait) = match class {
            Class::Accusation => (true, ACCUSATIONS_ANNOUNCED_WITHIN),
            Class::Standing | Class::Health | Class::Bulk => (false, ANNOUNCED_WITHIN),
        };
        if !to.is_empty() && (was_quiet || !is_patient) {
            self.timers.arm(now.after(wait), Timer::Announce);
        }
    }

    pub(crate) fn on_announce_due(&mut self) {
        for (to, ids) in core::mem::take(&mut self.spread.unannounced) {
            for ids in ids.chunks(IDS_MAX) {
                self.tell_neighbour(to, Class::Health, TreeMessage::IHave(ids.to_vec()));
            }
        }
    }

    fn tell_neighbour(&mut self, to: NodeId, class: Class, message: TreeMessage) {
        let to = self.targets(&[to]);
        self.push(to, class, Push::Tree(message));
    }

    fn targets(&self, ids: &[NodeId]) -> Vec<Target> {
        ids.iter().filter_map(|id| self.members.find(*id)).map(Member::target).collect()
    }

    /// Who there are links to.
    pub(crate) fn neighbours(&mut self, now: Instant) -> Vec<NodeId> {
        self.refresh_links(now);
        self.spread.overlay.links().to_vec()
    }

    /// Brings the links up to date. While many come at once, not for each of them: a link costs both ends a handshake.
    pub(crate) fn refresh_links(&mut self, now: Instant) {
        let is_recent = now.since(self.spread.refreshed) < REFRESHED_EVERY;
        if is_recent && self.contacts.is_newcomer(now) && self.spread.overlay.may_wait() {
            return;
        }
        self.spread.refreshed = now;
        let is_wanted = |member: &&Member| !self.members.is_me(member) && is_reachable(member.state());
        let others = self.members.iter().filter(is_wanted).map(|member| (member.id(), &member.body().zone));
        if self.spread.overlay.refresh(others) {
            let new = self.spread.tree.set_links(self.spread.overlay.links());
            self.greet(now, &new);
        }
    }

    /// A neighbour pushed so many statements that it was the first to bring, and these others.
    pub(crate) fn on_spread(
        &mut self,
        now: Instant,
        from: NodeId,
        hops: u8,
        fresh: usize,
        repeated: &[StatementId],
    ) {
        self.refresh_links(now);
        if self.spread.tree.on_pushed(from, hops, fresh, repeated) {
            self.tell_neighbour(from, Class::Health, TreeMessage::Prune);
        }
    }

    /// Whether this is the first time that a statement comes along the tree.
    pub(crate) fn is_fresh(&mut self, kept: &Kept, from: NodeId) -> bool {
        self.spread.tree.see(kept, Some(from))
    }

    pub(crate) fn on_tree_message(&mut self, now: Instant, from: NodeId, message: TreeMessage) {
        if !self.members.find(from).is_some_and(Member::is_serving) {
            return;
        }
        match message {
            TreeMessage::IHave(ids) => {
                let zone = self.members.find(from).map(|member| &member.body().zone);
                let trip = zone.and_then(|zone| self.paths.p99(zone)).unwrap_or_default();
                let due = now.after(GRAFT_AFTER.max(trip));
                if self.spread.tree.on_ihave(due, from, &ids) {
                    self.timers.arm(due, Timer::Graft);
                }
            }
            TreeMessage::Graft(ids) => {
                let found = self.spread.tree.on_graft(from, &ids);
                let mut bytes = 0;
                let is_room = |statement: &Statement| {
                    bytes += statement.bytes();
                    bytes <= limits::PAGE_BYTES
                };
                let statements: Vec<Statement> =
                    found.iter().map(Kept::statement).take_while(is_room).collect();
                let to = self.targets(&[from]);
                if !statements.is_empty() {
                    self.push(to, Class::Health, Push::Spread { hops: 1, statements });
                }
            }
            TreeMessage::Prune => {
                if !self.spread.tree.on_prune(from) {
                    self.tell_neighbour(from, Class::Health, TreeMessage::Graft(Vec::new()));
                }
            }
        }
    }

    pub(crate) fn on_graft_due(&mut self, now: Instant) {
        let (grafts, next) = self.spread.tree.take_grafts(now);
        for (announcer, ids) in grafts {
            self.tell_neighbour(announcer, Class::Health, TreeMessage::Graft(ids));
        }
        if let Some(at) = next {
            self.timers.arm(at, Timer::Graft);
        }
    }
}
