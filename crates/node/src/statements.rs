//! What to make of documents and accusations: who is alive, who is accused, who has left, what runs where.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use ringmesh_gossip::message::Push;
use ringmesh_gossip::plumtree::Kept;
use ringmesh_gossip::registry::Merge;
use ringmesh_types::body::{Body, ForgetBody, HOLD_MAX, HealthBody, NodeBody, Standing};
use ringmesh_types::document::Topic;
use ringmesh_types::event::{EventKind, Severity};
use ringmesh_types::ids::{Epoch, Identity, NodeId};
use ringmesh_types::limits;
use ringmesh_types::sealed::{Statement, Verified, VerifiedStatement};
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::Instant;

use crate::contacts::Asked;
use crate::io::{Class, Output, Source, Target};
use crate::machine::{Node, Timer};
use crate::members::Member;
use crate::spread::kept;

/// How long a Down or Left member is remembered.
const REAP_AFTER: Duration = Duration::from_secs(86_400);
/// Who is to be dropped is looked for this often.
pub(crate) const REAP_EVERY: Duration = Duration::from_secs(3_600);
/// A higher epoch of ours that a peer claims to know is taken over if it is at most this far ahead of our clock: farther than local
/// time can be ahead of UTC, and less than peers refuse ([`limits::EPOCH_AHEAD_MAX`]), though their clocks be some hours behind.
const CATCH_UP_MAX: Duration = Duration::from_secs(18 * 3_600);
/// Whoever has lost its place to another agent of its name asks this often whether that one is still there.
const DISPLACED_ASKS_EVERY: Duration = Duration::from_secs(10);
/// A second agent of a member's name that was not seen for so long is there no more: while it runs it asks somebody every ten seconds
/// whether its place is free.
const CLASH_LASTS: Duration = Duration::from_secs(600);
/// A member under this name that still speaks this long after its successor came is a second agent, not a late packet.
const CLASH_AFTER: Duration = Duration::from_secs(3);

/// How a serving member comes to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// For the first time.
    First,
    /// For the first time in this life: an earlier one knew it.
    Remembered,
    /// It was Down or had left.
    Back,
    /// It was serving or holding before.
    Still,
}

impl Node {
    pub(crate) fn on_statements(&mut self, now: Instant, source: Source, statements: Vec<VerifiedStatement>) {
        let mut news = Vec::new();
        let (mut fresh, mut repeated) = (0, Vec::new());
        for statement in statements {
            let kept = kept(&statement);
            let is_fresh = match (source, &kept) {
                (Source::Spread { from, .. }, Some(kept)) => self.is_fresh(kept, from),
                _ => true,
            };
            if is_fresh {
                fresh += 1;
            } else {
                repeated.extend(kept.as_ref().map(Kept::id));
            }
            let is_news = match statement {
                VerifiedStatement::Document(document) => self.on_document(now, source, document).is_some(),
                VerifiedStatement::Accusation(accusation) => {
                    is_fresh && self.on_accusation(now, source, accusation)
                }
                VerifiedStatement::Unreadable(owner, why) => {
                    self.refuse(now, source, owner, why);
                    false
                }
            };
            news.extend(kept.filter(|_| is_news));
        }
        if let Some(from) = source.peer() {
            self.accusations.note_heard(now, from);
        }
        let hops = match source {
            Source::Spread { from, hops } => {
                self.on_spread(now, from, hops, fresh, &repeated);
                hops
            }
            Source::Pushed(_) => 0,
            // What was missed before is no news to others, but for what is told by name only.
            Source::Answered(_) => {
                self.refresh_links(now);
                news.retain(|kept| !is_small(&kept.statement()));
                0
            }
            Source::Disk => return,
        };
        if !news.is_empty() {
            self.spread_news(now, source.peer(), hops.saturating_add(1), &news);
        }
    }

    pub(crate) fn push(&mut self, to: Vec<Target>, class: Class, push: Push) {
        if !to.is_empty() {
            self.outputs.push_back(Output::Push { to, class, push: Arc::new(push) });
        }
    }

    /// Merges a document of another owner. Gives it back if it was news.
    fn on_document(
        &mut self,
        now: Instant,
        source: Source,
        document: Verified<Arc<Stored>>,
    ) -> Option<Arc<Stored>> {
        let owner = document.get().document.key.owner;
        if owner == self.id() {
            self.on_own_document(now, source, document.get());
            return None;
        }
        let (config, wall) = (&self.config, self.clock.wall(now));
        let vet = |stored: &Stored| {
            let ahead = wall.after(limits::EPOCH_AHEAD_MAX).as_unix_millis();
            let epoch = stored.document.version.epoch;
            if epoch.0 > ahead {
                return Err(format!("epoch {epoch} is more than a day ahead of this clock"));
            }
            if let Body::Forget(_, order) = &stored.body
                && order.floor.0 > ahead
            {
                return Err(format!("its floor {} is more than a day ahead of this clock", order.floor));
            }
            if let Body::Map(service, body) = &stored.body
                && body.told.as_ref().is_some_and(|told| told.at.as_unix_millis() > ahead)
            {
                return Err(format!(
                    "what its operator said of {service} is more than a day ahead of this clock"
                ));
            }
            vet_body(
                owner,
                &stored.body,
                |node| NodeId::derive(&config.cluster, &node.name),
                &*config.is_allowed,
            )
        };
        let offered = document.get().clone();
        let merge = self.registry.merge(document, vet);
        if source != Source::Disk && matches!(merge, Merge::Newer { .. } | Merge::Same | Merge::Older(_)) {
            self.confirm(now, owner);
        }
        match merge {
            Merge::Newer { before, after, is_equivocation } => {
                self.stats.documents_merged += 1;
                if is_equivocation {
                    let (name, topic) = (self.name_of(owner), after.document.key.topic.clone());
                    let cause = format!("two bodies of {topic} under version {}", after.document.version);
                    self.event(
                        now,
                        EventKind::Equivocation,
                        Severity::Warning,
                        name,
                        "",
                        "equivocation",
                        cause,
                    );
                }
                self.on_news(now, source, before.as_deref(), &after);
                return Some(after);
            }
            Merge::Same => {
                self.stats.documents_repeated += 1;
                if matches!(source, Source::Answered(_))
                    && self.members.find(owner).is_some_and(Member::is_down)
                {
                    self.contact_soon(now, owner);
                }
                if let Body::Forget(subject, order) = &offered.body
                    && *subject == self.id()
                {
                    self.on_forgotten(now, owner, order.floor);
                }
            }
            Merge::Older(newer) => self.echo(now, source, &newer),
            Merge::Floor(_) => self.show_forgotten(now, source, &offered),
            Merge::Refused(why) => self.refuse(now, source, owner, why),
            Merge::Full => self.refuse(now, source, owner, "no room for more documents".to_owned()),
        }
        None
    }

    fn refuse(&mut self, now: Instant, source: Source, owner: NodeId, why: String) {
        self.stats.documents_refused += 1;
        let from = source.peer().unwrap_or(owner);
        let name = self.name_of(owner);
        self.reject(now, from, format!("a document of {name} is refused: {why}"));
    }

    /// A peer hands on what was forgotten: it has missed the order, which is shown to it. So it is to whoever was forgotten and
    /// says what it is itself: it lives. Whose order has expired, or who was forgotten for having been gone for long, is passed
    /// over in silence.
    fn show_forgotten(&mut self, now: Instant, source: Source, offered: &Stored) {
        self.stats.documents_forgotten += 1;
        let owner = offered.document.key.owner;
        let target = if let Body::Node(body) = &offered.body
            && source.peer() == Some(owner)
        {
            let addr = SocketAddr::from(body.mesh);
            self.contacts.may_echo(now).then_some(Target { id: Some(owner), addr })
        } else {
            self.may_echo_to(now, source)
        };
        let Some(target) = target else {
            return;
        };
        let floor = |stored: &Arc<Stored>| match &stored.body {
            Body::Forget(_, order) => Some(order.floor),
            Body::Node(_)
            | Body::Trust
            | Body::Services(_)
            | Body::Health(_)
            | Body::Map(..)
            | Body::Layout(..)
            | Body::Opaque => None,
        };
        if let Some(order) = self.forget_orders(owner).into_iter().max_by_key(floor) {
            self.echo_to(target, &order);
        }
    }

    /// Tells a peer the newer truth.
    pub(crate) fn echo(&mut self, now: Instant, source: Source, newer: &Stored) {
        if let Some(target) = self.may_echo_to(now, source) {
            self.echo_to(target, newer);
        }
    }

    /// Whom to tell that it is behind, if it is a member that serves and not too many were told just now.
    fn may_echo_to(&mut self, now: Instant, source: Source) -> Option<Target> {
        let from = source.peer()?;
        let target = self.members.find(from).filter(|member| member.is_serving()).map(Member::target);
        target.filter(|_| self.contacts.may_echo(now))
    }

    fn echo_to(&mut self, target: Target, newer: &Stored) {
        self.stats.echoes += 1;
        let statement = Statement::Document(newer.document.clone());
        self.push(vec![target], Class::Bulk, Push::Statements(vec![statement]));
    }

    /// A document in our own name that is not ours: an earlier life of ours, or somebody else under our name.
    fn on_own_document(&mut self, now: Instant, source: Source, stored: &Stored) {
        let document = &stored.document;
        let me = self.membership.identity();
        let is_ours =
            self.registry.stored(&document.key).is_some_and(|ours| ours.document.version >= document.version);
        if is_ours || source == Source::Disk || document.version.epoch == me.epoch {
            return;
        }
        let body = match &stored.body {
            Body::Node(body) => body,
            Body::Forget(..) | Body::Layout(..) if document.version.epoch < me.epoch => {
                // An order that an earlier life of ours gave still stands, and so does a map: say it again.
                self.publisher.want(document.key.topic.clone(), Class::Bulk, document.body.to_vec());
                return;
            }
            Body::Map(service, _) if document.version.epoch < me.epoch => {
                return self.say_map_again(service);
            }
            Body::Forget(..)
            | Body::Services(_)
            | Body::Health(_)
            | Body::Trust
            | Body::Map(..)
            | Body::Layout(..)
            | Body::Opaque => return,
        };
        let other = body.identity(me.id, document.version);
        if other.addr != me.addr {
            self.notice_clash(now, other, other.addr.into());
        } else if document.version.epoch > me.epoch {
            self.catch_up(now, document.version.epoch);
        }
    }

    /// The mesh knows a higher epoch of ours than the one we use.
    pub(crate) fn catch_up(&mut self, now: Instant, known: Epoch) {
        if self.is_behind(now, known) {
            self.change_epoch(now, known.next(), format!("the mesh knows epoch {known} of this node"));
        }
    }

    /// Whether this node should go on above `known`: its epoch is no later, the place is its own, and its clock is not far behind.
    fn is_behind(&self, now: Instant, known: Epoch) -> bool {
        let ahead = self.clock.wall(now).after(CATCH_UP_MAX).as_unix_millis();
        !self.is_displaced() && known >= self.membership.identity().epoch && known.0 < ahead
    }

    /// Somebody else uses a member's name: said once, shown in `members` for as long as it is so.
    pub(crate) fn notice_clash(&mut self, now: Instant, other: Identity, seen_at: SocketAddr) {
        let Some(member) = self.members.find(other.id) else {
            return;
        };
        let is_elsewhere = other.addr != member.identity().addr;
        let is_late = now.since(member.changed) < CLASH_AFTER && !self.members.is_me(member);
        if !is_elsewhere || is_late {
            return;
        }
        let (name, held, known) = (member.name().clone(), member.identity().addr, member.clash().cloned());
        let is_known = known.is_some();
        let seen_at = if seen_at.port() == 0 { other.addr.to_string() } else { seen_at.to_string() };
        let at = known.unwrap_or(seen_at);
        if let Some(member) = self.members.find_mut(other.id) {
            member.set_clash(now, at.clone());
        }
        if is_known {
            return;
        }
        if other.id == self.id() {
            self.timers.arm(now.after(DISPLACED_ASKS_EVERY), Timer::Displaced);
        } else {
            self.timers.arm(now.after(CLASH_LASTS), Timer::ClashOver(other.id));
        }
        self.view.member_changed(other.id);
        let cause =
            format!("two agents are named {name:?}, one at {held} and one at {at}: rename one of them");
        self.event(now, EventKind::NameClash, Severity::Warning, name, held, at, cause);
    }

    /// Another agent of our name has our place. Whoever is asked says whether it is still there.
    pub(crate) fn on_displaced_due(&mut self, now: Instant) {
        if !self.is_displaced() {
            return;
        }
        for target in self.members.some(&mut self.rng, 1, &[]) {
            self.say_hello(target, Asked::Contact(target));
        }
        self.timers.arm(now.after(DISPLACED_ASKS_EVERY), Timer::Displaced);
    }

    /// The second agent of a member's name was not seen since, or again.
    pub(crate) fn on_clash_over(&mut self, now: Instant, id: NodeId) {
        let Some(member) = self.members.find_mut(id) else { return };
        let Some(seen) = member.clash_seen() else { return };
        if now.since(seen) < CLASH_LASTS {
            return self.timers.arm(seen.after(CLASH_LASTS), Timer::ClashOver(id));
        }
        member.clear_clash();
        self.view.member_changed(id);
    }

    /// A member holds this start of an agent of our name Down, which is a later one than ours: our place is free again.
    pub(crate) fn take_place_back(&mut self, now: Instant, down: Epoch) {
        let ahead = self.clock.wall(now).after(CATCH_UP_MAX).as_unix_millis();
        if down <= self.membership.identity().epoch || down.0 >= ahead {
            return;
        }
        let me = self.id();
        if let Some(member) = self.members.find_mut(me) {
            member.clear_clash();
        }
        self.view.member_changed(me);
        self.change_epoch(now, down.next(), "the other agent of this name is gone".to_owned());
    }

    fn on_news(&mut self, now: Instant, source: Source, before: Option<&Stored>, after: &Arc<Stored>) {
        let owner = after.document.key.owner;
        match &after.body {
            Body::Node(body) => self.on_node_body(now, source, body, after),
            Body::Services(_) => {
                self.view.owner_changed(owner);
                self.note_servers_changed(now, owner);
            }
            Body::Health(health) => {
                self.tell_health(now, owner, before, health);
                self.view.owner_changed(owner);
                self.note_servers_changed(now, owner);
            }
            Body::Forget(subject, order) => self.on_forget_order(now, owner, *subject, *order),
            Body::Map(service, body) => self.on_map_body(now, owner, service, body),
            Body::Layout(service, body) => self.on_layout_body(now, service, after, body),
            Body::Trust | Body::Opaque => {}
        }
    }

    fn tell_health(&mut self, now: Instant, owner: NodeId, before: Option<&Stored>, health: &HealthBody) {
        // What is heard of an owner for the first time is no change.
        let Some(Body::Health(old)) = before.map(|stored| &stored.body) else {
            return;
        };
        let name = self.name_of(owner);
        for instance in &health.instances {
            let was = old.instances.iter().find(|known| known.id == instance.id);
            for (index, endpoint) in instance.endpoints.iter().enumerate() {
                let from =
                    was.and_then(|was| was.endpoints.get(index)).map(|was| was.state).unwrap_or_default();
                if from != endpoint.state {
                    let subject = format!("{name}/{}[{index}]", instance.id);
                    let cause = format!("checks on {name} say so");
                    self.event(now, EventKind::Health, Severity::Info, subject, from, endpoint.state, cause);
                }
            }
        }
    }

    fn on_node_body(&mut self, now: Instant, source: Source, body: &NodeBody, said: &Arc<Stored>) {
        let owner = said.document.key.owner;
        let identity = body.identity(owner, said.document.version);
        let known = self.members.find(owner).map(|member| (member.identity(), member.is_serving()));
        let is_new_life = known.is_none_or(|(known, _)| identity.supersedes(&known));
        let was_serving = known.is_some_and(|(_, is_serving)| is_serving);
        if !is_new_life && !was_serving {
            if self.members.find(owner).is_some_and(Member::is_down) {
                match body.standing {
                    Standing::Left => self.on_left(now, owner),
                    Standing::Serving | Standing::Holding { .. } => self.contact_soon(now, owner),
                }
            }
            return;
        }
        let before = self.presence(now, owner);
        self.place_member(now, said);
        if source != Source::Disk && !was_serving && !self.contacts.is_newcomer(now) {
            self.note_presence_was(now, owner, before);
        }
        match body.standing {
            Standing::Serving if known.is_none() && source == Source::Disk => {
                self.on_serving(now, owner, Arrival::Remembered);
            }
            Standing::Serving if known.is_none() => self.on_serving(now, owner, Arrival::First),
            Standing::Serving if is_new_life && !was_serving => self.on_serving(now, owner, Arrival::Back),
            Standing::Serving => self.on_serving(now, owner, Arrival::Still),
            Standing::Holding { for_ms } => self.on_holding(now, owner, for_ms),
            Standing::Left => self.on_left(now, owner),
        }
    }

    /// Takes over what a `node` document says, keeping what this node knows beyond it.
    fn place_member(&mut self, now: Instant, said: &Arc<Stored>) {
        let owner = said.document.key.owner;
        let member = match self.members.find(owner) {
            Some(before) => before.after(now, said.clone()),
            None => Member::new(now, said.clone()),
        };
        self.spread.member_changed(owner, &member.body().zone, member.state());
        self.members.insert(member);
        self.view.member_changed(owner);
    }

    fn on_serving(&mut self, now: Instant, owner: NodeId, arrival: Arrival) {
        let Some((identity, incarnation, state)) =
            self.members.find(owner).map(|member| (member.identity(), member.incarnation(), member.state()))
        else {
            return;
        };
        self.registry.set_live(owner, true);
        self.membership.apply_alive(now, identity, incarnation);
        self.on_life_shown(now, owner, "its node document shows a later life");
        let cause = match arrival {
            // Whoever joins learns of everybody at once: that they are there is no event.
            Arrival::First if self.contacts.is_newcomer(now) => None,
            Arrival::First => Some("it joined"),
            Arrival::Back => Some("it is back"),
            Arrival::Still if matches!(state, MemberState::Holding) => Some("it came back from its hold"),
            Arrival::Still | Arrival::Remembered => None,
        };
        if let Some(cause) = cause {
            self.set_state(now, owner, MemberState::Alive, cause.to_owned());
        }
        if cause.is_some() || matches!(arrival, Arrival::First | Arrival::Remembered) {
            self.repair_for_a_while(now);
        }
    }

    fn on_holding(&mut self, now: Instant, owner: NodeId, for_ms: u32) {
        let hold = Duration::from_millis(u64::from(for_ms)).min(HOLD_MAX);
        if let Some(member) = self.members.find_mut(owner) {
            member.set_hold(now.after(hold));
        }
        self.registry.set_live(owner, true);
        self.suspicions.close(owner);
        self.timers.arm(now.after(hold), Timer::HoldEnd(owner));
        let cause = format!("it announced a restart and asked to wait {} ms", hold.as_millis());
        self.set_state(now, owner, MemberState::Holding, cause);
    }

    pub(crate) fn on_hold_end(&mut self, now: Instant, subject: NodeId) {
        if self.members.find(subject).is_some_and(|member| member.is_hold_over(now)) {
            self.declare_down(now, subject, "its hold ended and it was not back".to_owned());
        }
    }

    fn on_left(&mut self, now: Instant, owner: NodeId) {
        self.withdraw(now, owner);
        self.set_state(now, owner, MemberState::Left, "it said that it leaves".to_owned());
        self.apply_forget_orders(now, owner);
    }

    /// A member is Down or has left: no probes, no votes, no documents of it in repair.
    fn withdraw(&mut self, now: Instant, subject: NodeId) {
        let Some(member) = self.members.find(subject) else {
            return;
        };
        let (identity, incarnation) = (member.identity(), member.incarnation());
        self.membership.apply_down(now, identity, incarnation);
        self.remembered.settle(subject);
        self.accusations.settle(subject);
        self.registry.set_live(subject, false);
        self.suspicions.close(subject);
        for cleared in self.suspicions.withdraw(subject) {
            self.set_state(now, cleared, MemberState::Alive, "its accuser is gone".to_owned());
        }
        self.outputs.push_back(Output::Disconnect(subject));
    }

    pub(crate) fn declare_down(&mut self, now: Instant, subject: NodeId, cause: String) {
        self.note_presence(now, subject);
        self.count_removal(now, subject);
        self.stats.downs += 1;
        self.withdraw(now, subject);
        self.set_state(now, subject, MemberState::Down, cause);
        self.let_go(now, subject);
    }

    /// A member was Down before we started, which is no news.
    pub(crate) fn hold_down(&mut self, now: Instant, subject: NodeId, cause: &str) {
        self.withdraw(now, subject);
        self.change_state(now, subject, MemberState::Down, cause);
        self.let_go(now, subject);
    }

    fn let_go(&mut self, now: Instant, subject: NodeId) {
        self.contacts.lost(now, subject);
        self.apply_forget_orders(now, subject);
    }

    pub(crate) fn set_state(&mut self, now: Instant, id: NodeId, state: MemberState, cause: String) {
        if let Some(before) = self.change_state(now, id, state, &cause) {
            let severity =
                if matches!(state, MemberState::Down) { Severity::Warning } else { Severity::Info };
            self.event(now, EventKind::Member, severity, self.name_of(id), before, state, cause);
        }
    }

    /// Says what the state was before, if there is anything to tell.
    fn change_state(
        &mut self,
        now: Instant,
        id: NodeId,
        state: MemberState,
        cause: &str,
    ) -> Option<MemberState> {
        let before = self.members.find(id).map(Member::state)?;
        if before == state && !matches!(state, MemberState::Alive) {
            return None;
        }
        if before.is_serving() != state.is_serving() {
            self.note_presence(now, id);
        }
        if !matches!(state, MemberState::Down) {
            self.demotions.settle(id);
        }
        let member = self.members.set_state(now, id, state, cause)?;
        let zone = member.body().zone.clone();
        self.spread.member_changed(id, &zone, state);
        self.view.member_changed(id);
        self.note_servers_changed(now, id);
        self.local.is_view_unsaved |= !state.is_serving();
        Some(before)
    }

    fn on_forget_order(&mut self, now: Instant, giver: NodeId, subject: NodeId, order: ForgetBody) {
        if subject == self.id() {
            return self.on_forgotten(now, giver, order.floor);
        }
        let Some(member) = self.members.find(subject) else {
            return;
        };
        let epoch = member.identity().epoch;
        if !member.is_serving() && epoch <= order.floor {
            let giver = self.name_of(giver);
            self.drop_member(now, subject, epoch, format!("an operator at {giver} said so"));
        }
    }

    /// An operator took this node for dead: it lives, and goes on under an epoch that may come back. Rarely, for any member can
    /// give such an order.
    fn on_forgotten(&mut self, now: Instant, giver: NodeId, floor: Epoch) {
        if self.is_behind(now, floor) && self.contacts.may_return(now) {
            let cause =
                format!("an operator at {} had this node forgotten, and it lives", self.name_of(giver));
            self.change_epoch(now, floor.next(), cause);
            self.contact_those_down(now);
        }
    }

    /// A member went Down that was ordered to be forgotten while it still seemed alive here.
    fn apply_forget_orders(&mut self, now: Instant, subject: NodeId) {
        for stored in self.forget_orders(subject) {
            if let Body::Forget(_, order) = &stored.body {
                self.on_forget_order(now, stored.document.key.owner, subject, *order);
            }
        }
    }

    /// The orders to forget `subject` that are known.
    fn forget_orders(&self, subject: NodeId) -> Vec<Arc<Stored>> {
        let topic = Topic::forget(subject);
        self.registry.iter().filter(|stored| stored.document.key.topic == topic).cloned().collect()
    }

    pub(crate) fn drop_member(&mut self, now: Instant, subject: NodeId, floor: Epoch, cause: String) {
        let Some(member) = self.members.find(subject) else {
            return;
        };
        let (name, state, identity) = (member.name().clone(), member.state(), member.identity());
        self.note_presence(now, subject);
        self.demotions.forget(subject);
        self.membership.remove(now, identity);
        self.members.remove(subject);
        self.spread.member_dropped(subject);
        self.local.is_view_unsaved = true;
        self.registry.forget(subject, floor);
        self.forget_maps_of(now, subject);
        self.view.member_changed(subject);
        self.event(now, EventKind::Member, Severity::Info, name, state, "Forgotten", cause);
    }

    pub(crate) fn on_reap_due(&mut self, now: Instant) {
        self.timers.arm(now.after(REAP_EVERY), Timer::Reap);
        let is_due = |member: &&Member| !member.is_serving() && now.since(member.changed) >= REAP_AFTER;
        let due: Vec<Identity> = self.members.iter().filter(is_due).map(Member::identity).collect();
        for gone in due {
            self.drop_member(now, gone.id, gone.epoch, "it was gone for a day".to_owned());
        }
    }
}

/// What a body may say, beyond its form.
fn vet_body(
    owner: NodeId,
    body: &Body,
    id_of: impl Fn(&NodeBody) -> NodeId,
    is_allowed: &dyn Fn(core::net::IpAddr) -> bool,
) -> Result<(), String> {
    let outside = |address| format!("{address} is outside mesh.advertise_allowed");
    match body {
        Body::Node(node) => {
            if id_of(node) != owner {
                return Err(format!("the name {:?} does not belong to {owner}", node.name.as_str()));
            }
            let mesh = SocketAddr::from(node.mesh).ip();
            let all = node.addresses.iter().copied().chain([mesh]);
            all.into_iter()
                .find(|address| !is_allowed(*address))
                .map_or(Ok(()), |address| Err(outside(address)))
        }
        Body::Services(services) => {
            let mut endpoints = services.instances.iter().flat_map(|instance| &instance.endpoints);
            let bad = endpoints.find(|endpoint| !is_allowed(endpoint.address));
            bad.map_or(Ok(()), |endpoint| Err(outside(endpoint.address)))
        }
        Body::Trust
        | Body::Health(_)
        | Body::Forget(..)
        | Body::Map(..)
        | Body::Layout(..)
        | Body::Opaque => Ok(()),
    }
}

pub(crate) fn is_small(statement: &Statement) -> bool {
    statement.bytes() <= limits::PUSH_BODY_BYTES_MAX + 128
}

pub(crate) fn class_of(statement: &Statement) -> Class {
    match statement {
        Statement::Accusation(_) => Class::Accusation,
        Statement::Document(document) => match document.key.topic.as_str() {
            Topic::NODE => Class::Standing,
            Topic::HEALTH => Class::Health,
            _ if document.key.topic.lays_out().is_some() => Class::Health,
            _ => Class::Bulk,
        },
    }
}
