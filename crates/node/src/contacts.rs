//! Finding members: seeds, members that are held Down, and what is asked of a peer and answered to one.
//!
//! Seeds are tried for ever with exponential back-off and jitter while nobody serves at their address. One random Down
//! member is tried every 2 to 5 s, each less and less often, so that a healed split closes by itself. A `Hello` that
//! finds somebody shows each side how the other holds it: whoever is held Down renews.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use ringmesh_gossip::bucket::TokenBucket;
use ringmesh_gossip::message::{PageBuilder, Refusal, Request, Response, Standing};
use ringmesh_gossip::plumtree::Kept;
use ringmesh_gossip::suspicion::Life;
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::event::{EventKind, Severity};
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId, Version};
use ringmesh_types::limits;
use ringmesh_types::name::ServiceName;
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::io::{Class, Output, Target, Ticket};
use crate::machine::{Node, Timer};
use crate::maps::MapAsked;
use crate::members::Member;

const SEED_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Whoever has found nobody yet tries each seed at least this often: it costs one message, and calls wait for it.
const LONELY_BACKOFF_MAX: Duration = Duration::from_secs(4);
const DOWN_BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Questions under way at most; more wait for their turn.
const ASKED_MAX: usize = 64;
/// Pulls among them at most: what peers announce must not crowd out joins and repair.
const PULLS_MAX: usize = 32;
/// Hellos to Down members under way at most.
const CONTACTS_MAX: usize = 8;
/// A remembered peer that was no seed is given up after this many tries.
const REMEMBERED_TRIES: u32 = 6;
/// Whoever has come less than this ago accuses nobody: its hands are full, and so may be those of all that came with it.
const SETTLES_FOR: Duration = Duration::from_secs(2);
/// A joiner shows its documents to those that become its neighbours within this time.
const NEWCOMER_FOR: Duration = Duration::from_secs(5);
/// So many members must refuse our epoch as too far ahead before we give it up: one could lie.
const REFUSERS_ENOUGH: usize = 2;
/// So many catalogues are given out at once, then one in this time: whoever asks for more is sent to others.
const CATALOGUES_AT_ONCE: u32 = 16;
const CATALOGUE_EVERY: Duration = Duration::from_millis(25);
/// Of so many others one that asks in vain is told.
const INSTEAD_MAX: usize = 3;
/// Whoever is sent on so often takes part in repair like everybody else.
const SENT_ON_MAX: u8 = 3;
/// At most one renewal in this time, whatever peers say.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// At most one return in this time, whoever orders this node to be forgotten.
const RETURN_EVERY: Duration = Duration::from_secs(30);
/// The standing of one stranger is asked for at most this often.
const PULL_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Attempt {
    next: Instant,
    backoff: Duration,
    tries: u32,
}

impl Attempt {
    fn new(now: Instant, first: Duration) -> Self {
        Self { next: now, backoff: first, tries: 0 }
    }

    /// Schedules the try after this one.
    fn back_off(&mut self, now: Instant, most: Duration, jitter: u32) {
        self.next = now.after(self.backoff * (75 + jitter % 51) / 100);
        self.backoff = (self.backoff * 2).min(most);
        self.tries += 1;
    }
}

/// Why we ask.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// To join at a seed.
    Join(SocketAddr),
    /// To see whether a Down member is back.
    Contact(Target),
    /// To see whether a suspect answers us; since when.
    Look(NodeId, Instant),
    /// To see whether somebody is there whom we remember and nobody else names.
    Recall(NodeId),
    /// For a page of the catalogue, from the first owner after this one; how many sent us on before.
    Page(Target, Option<NodeId>, u8),
    /// Whether some of whom we remember have left.
    Leaves,
    /// Whether our catalogues differ.
    Digest(Target),
    /// Where they differ.
    Compare(Target),
    /// For documents.
    Pull,
    /// About a map.
    Map(ServiceName, MapAsked),
}

/// What this module keeps.
#[derive(Debug)]
pub(crate) struct Contacts {
    seeds: BTreeMap<SocketAddr, Attempt>,
    configured: usize,
    down: BTreeMap<NodeId, Attempt>,
    asked: BTreeMap<Ticket, Asked>,
    pulled: BTreeMap<NodeId, Instant>,
    tickets: u64,
    joined: Option<Instant>,
    /// Who refused our present epoch as too far ahead.
    refused_by: BTreeSet<NodeId>,
    renewed: Option<Instant>,
    returned: Option<Instant>,
    echoes: TokenBucket,
    /// Catalogues that may be begun.
    catalogues: TokenBucket,
    reports: TokenBucket,
}

/// Whether something that may happen once in a time may happen now. If so, it counts as happened.
fn is_due(last: &mut Option<Instant>, now: Instant, every: Duration) -> bool {
    let is_due = last.is_none_or(|at| now.since(at) >= every);
    if is_due {
        *last = Some(now);
    }
    is_due
}

impl Contacts {
    pub(crate) fn new(now: Instant, seeds: Vec<SocketAddr>) -> Self {
        Self {
            configured: seeds.len(),
            seeds: seeds.into_iter().map(|addr| (addr, Attempt::new(now, SEED_BACKOFF.0))).collect(),
            down: BTreeMap::new(),
            asked: BTreeMap::new(),
            pulled: BTreeMap::new(),
            tickets: 0,
            joined: None,
            refused_by: BTreeSet::new(),
            renewed: None,
            returned: None,
            echoes: TokenBucket::new(64, Duration::from_millis(10)),
            catalogues: TokenBucket::new(CATALOGUES_AT_ONCE, CATALOGUE_EVERY),
            reports: TokenBucket::new(8, Duration::from_secs(2)),
        }
    }

    pub(crate) fn lost(&mut self, now: Instant, id: NodeId) {
        let mut attempt = Attempt::new(now, DOWN_BACKOFF.0);
        attempt.next = now.after(DOWN_BACKOFF.0);
        self.down.insert(id, attempt);
    }

    pub(crate) fn may_echo(&mut self, now: Instant) -> bool {
        self.echoes.take(now)
    }

    pub(crate) fn may_report(&mut self, now: Instant) -> bool {
        self.reports.take(now)
    }

    pub(crate) fn may_renew(&mut self, now: Instant) -> bool {
        is_due(&mut self.renewed, now, RENEW_EVERY)
    }

    pub(crate) fn may_return(&mut self, now: Instant) -> bool {
        is_due(&mut self.returned, now, RETURN_EVERY)
    }

    pub(crate) fn is_newcomer(&self, now: Instant) -> bool {
        self.joined.is_some_and(|at| now.since(at) < NEWCOMER_FOR)
    }

    /// Whether we have hardly come, or our catalogue is still on its way: that nobody answers us says little yet.
    pub(crate) fn has_just_come(&self, now: Instant) -> bool {
        let has_come = self.joined.is_some_and(|at| now.since(at) < SETTLES_FOR);
        has_come || (self.is_newcomer(now) && self.pages_under_way() > 0)
    }

    fn contacts_under_way(&self) -> usize {
        self.asked.values().filter(|asked| matches!(asked, Asked::Contact(_))).count()
    }

    /// Whom looks are under way at because only we remember them.
    pub(crate) fn recalls_under_way(&self) -> BTreeSet<NodeId> {
        let recalled = |asked: &Asked| match asked {
            Asked::Recall(id) => Some(*id),
            Asked::Join(_)
            | Asked::Contact(_)
            | Asked::Look(..)
            | Asked::Page(..)
            | Asked::Leaves
            | Asked::Digest(_)
            | Asked::Compare(_)
            | Asked::Pull
            | Asked::Map(..) => None,
        };
        self.asked.values().filter_map(recalled).collect()
    }

    /// How many catalogues are on their way.
    pub(crate) fn pages_under_way(&self) -> usize {
        self.asked.values().filter(|asked| matches!(asked, Asked::Page(..))).count()
    }

    /// Whether a suspect is being looked at.
    pub(crate) fn is_looking_at(&self, subject: NodeId) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::Look(looked_at, _) if *looked_at == subject))
    }

    /// Stops waiting for the answer of a suspect that is looked at since `begun`. Says whether it was still waited for.
    pub(crate) fn give_up_look(&mut self, subject: NodeId, begun: Instant) -> bool {
        let is_meant = |asked: &Asked| matches!(asked, Asked::Look(id, at) if (*id, *at) == (subject, begun));
        let before = self.asked.len();
        self.asked.retain(|_, asked| !is_meant(asked));
        self.asked.len() < before
    }

    fn is_joining_at(&self, addr: SocketAddr) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::Join(seed) if *seed == addr))
    }
}

impl Node {
    pub(crate) fn arm_contact_timers(&mut self, now: Instant) {
        if self.contacts.configured > 0 {
            self.timers.arm(now, Timer::Seeds);
        }
        self.arm_contact(now);
    }

    fn arm_contact(&mut self, now: Instant) {
        let wait = Duration::from_millis(self.rng.random_range(2_000..5_000));
        self.timers.arm(now.after(wait), Timer::Contact);
    }

    /// Asks a peer something, if not too much is under way. Says what the answer will be known by.
    pub(crate) fn ask(&mut self, to: Target, why: Asked, request: Request) -> Option<Ticket> {
        let is_pull = matches!(why, Asked::Pull);
        let pulls = self.contacts.asked.values().filter(|asked| matches!(asked, Asked::Pull)).count();
        if self.contacts.asked.len() >= ASKED_MAX || (is_pull && pulls >= PULLS_MAX) {
            self.stats.questions_dropped += 1;
            return None;
        }
        self.contacts.tickets += 1;
        let ticket = Ticket(self.contacts.tickets);
        self.contacts.asked.insert(ticket, why);
        self.outputs.push_back(Output::Request { to, ticket, request });
        Some(ticket)
    }

    pub(crate) fn on_seeds_due(&mut self, now: Instant) {
        let is_lonely = self.members.serving_others().next().is_none();
        let most = if is_lonely { LONELY_BACKOFF_MAX } else { SEED_BACKOFF.1 };
        let due: Vec<SocketAddr> =
            self.contacts.seeds.iter().filter(|(_, seed)| seed.next <= now).map(|(addr, _)| *addr).collect();
        for addr in due {
            let jitter = self.rng.random_range(0..51);
            let is_known = self.contacts.joined.is_some() && self.members.is_served_at(addr);
            let is_wanted = !is_known && !self.contacts.is_joining_at(addr);
            let is_seed = self.config.seeds.contains(&addr);
            let Some(seed) = self.contacts.seeds.get_mut(&addr) else {
                continue;
            };
            seed.back_off(now, most, jitter);
            if !is_seed && (seed.tries > REMEMBERED_TRIES || !is_wanted) {
                self.contacts.seeds.remove(&addr);
            }
            if is_wanted {
                self.say_hello(Target { id: None, addr }, Asked::Join(addr));
            }
        }
        if let Some(next) = self.contacts.seeds.values().map(|seed| seed.next).min() {
            self.timers.arm(next, Timer::Seeds);
        }
    }

    pub(crate) fn on_contact_due(&mut self, now: Instant) {
        self.arm_contact(now);
        let members = &self.members;
        self.contacts.down.retain(|id, _| members.find(*id).is_some_and(Member::is_down));
        let due: Vec<NodeId> =
            self.contacts.down.iter().filter(|(_, down)| down.next <= now).map(|(id, _)| *id).collect();
        if !due.is_empty() {
            let chosen = due[self.rng.random_range(0..due.len())];
            self.contact(now, chosen);
        }
    }

    /// A peer counts this Down member among the living: try it now, if it was not tried just now.
    pub(crate) fn contact_soon(&mut self, now: Instant, id: NodeId) {
        let tried = self.contacts.pulled.get(&id).is_some_and(|at| now.since(*at) < Duration::from_secs(1));
        if !tried && self.contacts.contacts_under_way() < CONTACTS_MAX {
            self.contacts.pulled.insert(id, now);
            self.contact(now, id);
        }
    }

    /// We were held Down, so it was we who could not be heard, or could not hear: whom we hold Down may be well.
    pub(crate) fn contact_those_down(&mut self, now: Instant) {
        let members = &self.members;
        self.contacts.down.retain(|id, _| members.find(*id).is_some_and(Member::is_down));
        let mut down: Vec<NodeId> = self.contacts.down.keys().copied().collect();
        for id in &down {
            self.contacts.lost(now, *id);
        }
        down.truncate(CONTACTS_MAX.saturating_sub(self.contacts.contacts_under_way()));
        for id in down {
            self.contact(now, id);
        }
    }

    fn contact(&mut self, now: Instant, id: NodeId) {
        let jitter = self.rng.random_range(0..51);
        let attempt = self.contacts.down.entry(id).or_insert_with(|| Attempt::new(now, DOWN_BACKOFF.0));
        attempt.back_off(now, DOWN_BACKOFF.1, jitter);
        if let Some(target) = self.members.find(id).map(Member::target) {
            self.say_hello(target, Asked::Contact(target));
        }
    }

    pub(crate) fn say_hello(&mut self, to: Target, why: Asked) {
        let me = self.membership.identity();
        let you_are = to.id.map_or(Standing::Unknown, |id| self.standing_of(id));
        let documents = self.registry.documents_of(me.id);
        let documents = documents.iter().map(|stored| stored.document.clone()).collect();
        self.ask(to, why, Request::Hello { from: me, you_are, documents });
    }

    pub(crate) fn ask_page(&mut self, target: Target, after: Option<NodeId>) {
        self.ask(target, Asked::Page(target, after, 0), Request::Page { after });
    }

    /// The one that we asked for its catalogue has too much to do: asks one that it named.
    fn ask_instead(&mut self, now: Instant, peer: NodeId, sent_on: u8, instead: &[MeshAddr]) {
        let me = self.config.mesh;
        let is_wanted = |addr: &SocketAddr| *addr != me && (self.config.is_allowed)(addr.ip());
        let addrs: Vec<SocketAddr> =
            instead.iter().take(INSTEAD_MAX).map(|addr| SocketAddr::from(*addr)).filter(is_wanted).collect();
        if addrs.is_empty() || sent_on >= SENT_ON_MAX {
            self.repair.compare_with(peer);
            return self.repair_soon(now);
        }
        let addr = addrs[self.rng.random_range(0..addrs.len())];
        let target = Target { id: None, addr };
        self.ask(target, Asked::Page(target, None, sent_on + 1), Request::Page { after: None });
    }

    /// A page of the catalogue, or who else may give one: those that have been here for a while first.
    fn page_for(&mut self, now: Instant, asker: NodeId, after: Option<NodeId>) -> Response {
        if after.is_none() && !self.contacts.catalogues.take(now) {
            let mut others = self.members.some(&mut self.rng, 4 * INSTEAD_MAX, &[asker]);
            others.sort_by_key(|other| {
                other.id.and_then(|id| self.members.find(id)).map(|known| known.changed)
            });
            let instead = others.iter().take(INSTEAD_MAX).map(|other| other.addr.into()).collect();
            return Response::Busy { instead };
        }
        let (documents, next) = self.registry.page(after);
        Response::Page { documents, next }
    }

    /// Tries whether somebody is there whom only we remember.
    pub(crate) fn recall(&mut self, id: NodeId) {
        if let Some(target) = self.members.find(id).map(Member::target) {
            self.say_hello(target, Asked::Recall(id));
        }
    }

    fn standing_of(&self, id: NodeId) -> Standing {
        match self.members.find(id) {
            None => Standing::Unknown,
            Some(member) if member.is_down() => {
                let Identity { epoch, revival, .. } = member.identity();
                Standing::Down { epoch, revival }
            }
            Some(_) => Standing::Serving,
        }
    }

    /// Asks a peer for the `trust` and `node` documents of `owner`.
    pub(crate) fn pull_standing(&mut self, now: Instant, from: Target, owner: NodeId) {
        self.contacts.pulled.retain(|_, at| now.since(*at) < Duration::from_secs(10));
        let is_recent = self.contacts.pulled.get(&owner).is_some_and(|at| now.since(*at) < PULL_EVERY);
        if is_recent || self.contacts.pulled.len() >= limits::MEMBERS_MAX {
            return;
        }
        self.contacts.pulled.insert(owner, now);
        let keys = [Topic::TRUST, Topic::NODE].map(|topic| Key { owner, topic: Topic::of(topic) });
        self.ask(from, Asked::Pull, Request::Pull { keys: keys.to_vec() });
    }

    pub(crate) fn on_trust_wanted(&mut self, _now: Instant, from: NodeId, speakers: Vec<NodeId>) {
        let Some(target) = self.members.find(from).map(Member::target) else {
            return;
        };
        let keys = speakers.into_iter().take(limits::BATCH_STATEMENTS_MAX);
        let keys = keys.map(|owner| Key { owner, topic: Topic::of(Topic::TRUST) }).collect();
        self.ask(target, Asked::Pull, Request::Pull { keys });
    }

    pub(crate) fn on_announced(&mut self, _now: Instant, from: NodeId, documents: Vec<(Key, Version)>) {
        let Some(target) = self.members.find(from).map(Member::target) else {
            return;
        };
        let is_newer = |key: &Key, version: Version| {
            self.registry.stored(key).is_none_or(|stored| stored.document.version < version)
        };
        let keys: Vec<Key> = documents
            .into_iter()
            .take(limits::BATCH_STATEMENTS_MAX)
            .filter(|(key, version)| is_newer(key, *version))
            .map(|(key, _)| key)
            .collect();
        if !keys.is_empty() {
            self.ask(target, Asked::Pull, Request::Pull { keys });
        }
    }

    pub(crate) fn on_request(
        &mut self,
        now: Instant,
        from: NodeId,
        addr: SocketAddr,
        ticket: Ticket,
        request: Request,
    ) {
        self.accusations.note_heard(now, from);
        if is_too_much(&request) {
            self.reject(now, from, "its question names more than anybody may ask for at once".to_owned());
            return;
        }
        let response = match request {
            Request::Hello { from: identity, you_are, .. } => {
                if identity.id != from {
                    self.stats.impostors += 1;
                    self.reject(now, from, format!("it says hello as {}", identity.id));
                    return;
                }
                self.on_hello(now, identity, addr, you_are)
            }
            Request::Look { life } => {
                self.on_accused(now, life);
                self.settle(now);
                let Identity { epoch, revival, .. } = self.membership.identity();
                Response::Here { life: Life { epoch, revival, incarnation: self.membership.incarnation() } }
            }
            Request::Page { after } => self.page_for(now, from, after),
            Request::Digest { root } if root == self.registry.root() => Response::Same,
            Request::Digest { .. } => Response::Buckets(self.registry.buckets().to_vec()),
            Request::Compare { buckets, have } => {
                let (documents, wanted) = self.registry.compare(&buckets, &have);
                Response::Difference { documents, wanted }
            }
            Request::Pull { keys } => {
                let mut page = PageBuilder::default();
                for stored in keys.iter().filter_map(|key| self.registry.stored(key)) {
                    page.add(&stored.document);
                    if page.is_full() {
                        break;
                    }
                }
                Response::Documents(page.finish())
            }
            Request::Map { service, ask } => Response::Map(self.on_map_asked(now, from, &service, ask)),
        };
        self.outputs.push_back(Output::Reply { ticket, response });
    }

    fn on_hello(&mut self, now: Instant, from: Identity, addr: SocketAddr, you_are: Standing) -> Response {
        if let Some(known) = self.members.find(from.id).filter(|member| member.is_serving())
            && known.identity().addr != from.addr
            && known.identity().supersedes(&from)
        {
            self.notice_clash(now, from, addr);
        }
        if self.is_about_us(you_are) {
            self.renew(now);
            self.settle(now);
        }
        let documents = self.registry.documents_of(self.id());
        let is_standing =
            |document: &&Document| matches!(document.key.topic.as_str(), Topic::TRUST | Topic::NODE);
        Response::Hello {
            from: self.membership.identity(),
            you_are: self.standing_of(from.id),
            epoch_known: self.registry.epoch_known(from.id),
            refused: self.refusal(now, from),
            documents: documents.iter().map(|stored| &stored.document).filter(is_standing).cloned().collect(),
        }
    }

    fn refusal(&self, now: Instant, from: Identity) -> Option<Refusal> {
        let receiver_ms = self.clock.wall(now).as_unix_millis();
        let ahead = self.clock.wall(now).after(limits::EPOCH_AHEAD_MAX).as_unix_millis();
        if from.epoch.0 > ahead {
            return Some(Refusal::EpochAhead { epoch: from.epoch, receiver_ms });
        }
        let floor = self.registry.floor(from.id).filter(|floor| from.epoch <= *floor)?;
        Some(Refusal::Forgotten { epoch: from.epoch, floor })
    }

    /// Whether a peer holds Down the very life that we live.
    fn is_about_us(&self, you_are: Standing) -> bool {
        let me = self.membership.identity();
        match you_are {
            Standing::Down { epoch, revival } => (epoch, revival) == (me.epoch, me.revival),
            Standing::Unknown | Standing::Serving => false,
        }
    }

    pub(crate) fn on_response(
        &mut self,
        now: Instant,
        ticket: Ticket,
        result: Result<(NodeId, Response), String>,
    ) {
        let Some(asked) = self.contacts.asked.remove(&ticket) else {
            return;
        };
        if let Asked::Map(service, why) = asked {
            let result = result.and_then(|(peer, response)| {
                let Response::Map(answer) = response else {
                    return Err("its answer does not fit the question".to_owned());
                };
                Ok((peer, answer))
            });
            return self.on_map_answered(now, &service, why, result);
        }
        let (peer, response) = match (result, &asked) {
            (Ok(answer), _) => {
                self.accusations.note_heard(now, answer.0);
                answer
            }
            (Err(_), Asked::Look(subject, begun)) => return self.on_suspect_silent(now, *subject, *begun),
            (Err(_), Asked::Recall(id)) => return self.on_remembered_silent(now, *id),
            (Err(_), Asked::Page(..)) => return self.repair_soon(now),
            (Err(_), _) => return,
        };
        match (asked, response) {
            (Asked::Join(addr), Response::Hello { from, you_are, epoch_known, refused, .. })
                if from.id == peer =>
            {
                let target = Target { id: Some(peer), addr };
                if self.on_welcome(now, target, you_are, epoch_known, refused) {
                    self.ask_page(target, None);
                }
            }
            (Asked::Look(subject, _), Response::Here { life }) if subject == peer => {
                self.on_suspect_answered(now, subject, life);
            }
            (Asked::Recall(id), Response::Hello { .. }) if id == peer => {
                self.on_remembered_answered(now, id);
            }
            (Asked::Contact(target), Response::Hello { from, you_are, epoch_known, refused, .. })
                if from.id == peer =>
            {
                if self.on_welcome(now, target, you_are, epoch_known, refused) {
                    self.ask_digest(target);
                }
            }
            (Asked::Page(_, None, sent_on), Response::Busy { instead }) => {
                self.ask_instead(now, peer, sent_on, &instead);
            }
            (Asked::Page(target, after, _), Response::Page { next, .. }) => {
                let target = Target { id: Some(peer), ..target };
                match next {
                    Some(next) if after.is_none_or(|after| after < next) => self.ask_page(target, Some(next)),
                    Some(_) => self.reject(now, peer, "its catalogue does not come to an end".to_owned()),
                    None => {
                        self.on_catalogue_read(now, target);
                        self.repair_soon(now);
                    }
                }
            }
            (Asked::Digest(target), Response::Buckets(theirs)) => self.on_buckets(now, target, &theirs),
            (Asked::Compare(target), Response::Difference { wanted, .. }) => {
                self.on_difference(now, target, &wanted);
            }
            (Asked::Digest(_), Response::Same) => self.on_same(now),
            (Asked::Pull, Response::Documents(_)) | (Asked::Leaves, Response::Difference { .. }) => {}
            (asked, _) => self.reject(now, peer, format!("its answer does not fit the question {asked:?}")),
        }
    }

    /// Somebody answered our hello. Says whether to go on with it.
    fn on_welcome(
        &mut self,
        now: Instant,
        peer: Target,
        you_are: Standing,
        epoch_known: Option<Epoch>,
        refused: Option<Refusal>,
    ) -> bool {
        if let Some(refusal) = refused {
            self.on_refused(now, peer, epoch_known, &refusal);
            return false;
        }
        if self.contacts.joined.is_none() {
            self.contacts.joined = Some(now);
        }
        if let Standing::Down { epoch, .. } = you_are
            && self.is_displaced()
        {
            self.take_place_back(now, epoch);
        }
        if let Some(known) = epoch_known.filter(|known| *known > self.membership.identity().epoch) {
            self.catch_up(now, known);
        }
        if self.is_about_us(you_are) {
            self.renew(now);
        }
        self.settle(now);
        self.show_ourselves(peer);
        true
    }

    /// Spreads our own documents: we have just started, and members are known from disk.
    pub(crate) fn show_ourselves_to_all(&mut self, now: Instant) {
        let documents = self.registry.documents_of(self.id());
        let ours: Vec<Kept> = documents.into_iter().map(Kept::Document).collect();
        self.spread_news(now, None, 0, &ours);
    }

    /// Pushes our own documents to one peer.
    fn show_ourselves(&mut self, peer: Target) {
        let documents = self.registry.documents_of(self.id());
        self.push_documents(peer, Class::Standing, documents);
    }

    /// These are neighbours from now on: if we have just joined they may not know us, and would tell us nothing.
    pub(crate) fn greet(&mut self, now: Instant, neighbours: &[NodeId]) {
        if !self.contacts.is_newcomer(now) {
            return;
        }
        for id in neighbours {
            if let Some(target) = self.members.find(*id).map(Member::target) {
                self.show_ourselves(target);
            }
        }
    }

    fn on_refused(&mut self, now: Instant, peer: Target, epoch_known: Option<Epoch>, refusal: &Refusal) {
        let who = peer.id.map_or_else(|| peer.addr.to_string(), |id| self.name_of(id));
        let cause = format!("{who} at {}: {refusal}", peer.addr);
        self.event(
            now,
            EventKind::Refused,
            Severity::Warning,
            self.config.name.clone(),
            "",
            "refused",
            cause.clone(),
        );
        let me = self.membership.identity();
        if self.contacts.refused_by.len() < REFUSERS_ENOUGH {
            self.contacts.refused_by.extend(peer.id);
        }
        let others = self.members.serving_others().count();
        let is_agreed = self.contacts.refused_by.len() >= REFUSERS_ENOUGH.min(others);
        match refusal {
            Refusal::EpochAhead { epoch, receiver_ms } => {
                let ahead = receiver_ms.saturating_add(limits::EPOCH_AHEAD_MAX.as_secs() * 1_000);
                if *epoch == me.epoch && me.epoch.0 > ahead && is_agreed {
                    self.contacts.refused_by.clear();
                    let known = epoch_known.unwrap_or_default().next();
                    self.change_epoch(now, known.max(Epoch(*receiver_ms)), cause);
                }
            }
            Refusal::Forgotten { epoch, floor } => {
                if *epoch == me.epoch {
                    self.catch_up(now, *floor);
                }
            }
        }
    }

    /// Addresses worth remembering over a restart.
    pub(crate) fn peers_to_remember(&self) -> Vec<SocketAddr> {
        let alive = |member: &&Member| matches!(member.state(), MemberState::Alive);
        let others = || self.members.iter().filter(|member| !self.members.is_me(member));
        let first = others().filter(alive);
        let last = others().filter(|member| !alive(member) && !matches!(member.state(), MemberState::Left));
        first.chain(last).take(ASKED_MAX).map(|member| member.target().addr).collect()
    }
}

/// Whether a question names more than any honest agent asks for at once.
fn is_too_much(request: &Request) -> bool {
    match request {
        Request::Compare { buckets, have } => {
            buckets.len() > ringmesh_gossip::registry::BUCKETS || have.len() > limits::SUMMARIES_MAX
        }
        Request::Pull { keys } => keys.len() > limits::BATCH_STATEMENTS_MAX,
        Request::Hello { .. }
        | Request::Page { .. }
        | Request::Digest { .. }
        | Request::Look { .. }
        | Request::Map { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_gossip::message::Summary;
    use ringmesh_gossip::registry::BUCKETS;

    #[test]
    fn what_an_honest_agent_asks_at_most_is_answered_and_not_more() {
        let key = Key { owner: NodeId::from_bytes([1; 8]), topic: Topic::of(Topic::NODE) };
        let compare = |buckets: usize, have: usize| {
            let summary = Summary { key: key.clone(), version: Version::default(), body_hash: 0 };
            Request::Compare { buckets: vec![0; buckets], have: vec![summary; have] }
        };
        assert!(!is_too_much(&compare(BUCKETS, limits::SUMMARIES_MAX)));
        assert!(is_too_much(&compare(BUCKETS + 1, 0)));
        assert!(is_too_much(&compare(0, limits::SUMMARIES_MAX + 1)));
        let pull = |keys: usize| Request::Pull { keys: vec![key.clone(); keys] };
        assert!(!is_too_much(&pull(limits::BATCH_STATEMENTS_MAX)));
        assert!(is_too_much(&pull(limits::BATCH_STATEMENTS_MAX + 1)));
    }
}
