//! Which generation of a map this node goes by: layouts that members publish, those before them that it has missed, and how it finds
//! one to begin with.
//!
//! Whoever begins asks three members which map they follow, and goes by what most of them say; a map that only one of them knows of
//! wins over none. Whoever is so far behind that what lies between cannot be had any more begins anew, if two of three agree.

use core::time::Duration;
use std::sync::Arc;

use rand::RngExt as _;
use ringmesh_gossip::message::{MapAnswer, MapAsk, Request};
use ringmesh_partition::difference::{DIFFERENCE_FORMAT, Difference};
use ringmesh_partition::follow::{Claim, Follower, PeerClaimError, Token};
use ringmesh_partition::map::{Map, Parts};
use ringmesh_types::body::LayoutBody;
use ringmesh_types::event::Severity;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::{Instant, WallTime};

use super::Generation;
use super::authoring::summary;
use crate::contacts::Asked;
use crate::io::{CommandError, CommandErrorKind, Said, Target, Ticket};
use crate::machine::Node;
use crate::members::Member;

/// Maps that lie between what is followed and what is offered, at most.
const CHAIN_MAX: usize = 512;
/// How many members are asked for one map before it is given up.
const TRIES: u8 = 3;
/// How many members are asked which map they follow.
const VOTERS: usize = 3;
/// Between two such questions, and after a layout was refused before it is looked at again, first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// What would move too much is waited with for so long before it is said, and most members are asked what they follow.
const PATIENCE: Duration = Duration::from_secs(6);
/// Between two comparisons with a random member.
const COMPARED_MS: core::ops::Range<u64> = 15_000..45_000;
/// An answer that has not come by now does not come.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Why a member is asked about a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapAsked {
    /// To find one to begin with; in which round.
    Followed(u32),
    /// For one that is missing.
    Find([u8; 32]),
    /// To tell it the load here.
    Heat,
    /// Whether it follows the same.
    Digest,
    /// What it knows as the author.
    Author(Ticket),
    /// To do what an operator wants.
    Order(Ticket),
}

/// A layout as its owner published it.
#[derive(Debug)]
pub(super) struct Layout {
    told: Generation,
    what: What,
    came: Instant,
    again: Instant,
    wait: Duration,
    /// Whether it was said that it is not followed.
    is_refused: bool,
}

#[derive(Debug)]
enum What {
    Whole(Map),
    Step(Difference),
}

impl Layout {
    fn parts(&self) -> &Parts {
        match &self.what {
            What::Whole(map) => map.parts(),
            What::Step(step) => step.head(),
        }
    }

    fn token(&self) -> Token {
        Token { generation: self.parts().generation, author: self.parts().author }
    }

    fn put_off(&mut self, now: Instant) {
        self.again = now.after(self.wait);
        self.wait = (self.wait * 2).min(AGAIN.1);
    }
}

/// Maps that are being fetched, from the newest back to one that is held.
#[derive(Debug)]
pub(super) struct Chain {
    stack: Vec<Map>,
    missing: [u8; 32],
    /// Who has it, if somebody is known to.
    at: Option<NodeId>,
    tries: u8,
    asked: Instant,
}

/// How a map is judged.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// By the one before it.
    Next,
    /// By itself, for the one before it cannot be had.
    Distant,
}

/// The search for a map to begin with.
#[derive(Debug, Default)]
pub(super) struct Seek {
    round: u32,
    asked: usize,
    answers: Vec<Option<Map>>,
    begun: Option<Instant>,
    next: Instant,
    wait: Duration,
    is_wanted: bool,
    found_nothing: bool,
    /// Whether anybody was asked yet: nobody plans before.
    is_done: bool,
    /// When a member is asked next whether it follows the same.
    compare: Instant,
}

impl Seek {
    /// Whether nobody who was asked knows of a map.
    pub(super) fn found_nothing(&self) -> bool {
        self.found_nothing
    }

    /// Whether others were asked what they follow since this node started.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The map that most name, and how many do: of those that are named equally often the lowest, for whoever lies wants to be high.
fn most_named(answers: &[Option<Map>]) -> Option<(&Map, usize)> {
    let named = answers.iter().flatten();
    let count = |map: &Map| answers.iter().flatten().filter(|other| *other == map).count();
    named
        .map(|map| (map, count(map)))
        .max_by(|one, other| one.1.cmp(&other.1).then(Token::of(other.0).cmp(&Token::of(one.0))))
}

impl Node {
    /// Somebody published a generation.
    pub(crate) fn on_layout_body(
        &mut self,
        now: Instant,
        service: &ServiceName,
        stored: &Stored,
        body: &LayoutBody,
    ) {
        let owner = stored.document.key.owner;
        let read = if body.bytes.first() == Some(&DIFFERENCE_FORMAT) {
            Difference::from_bytes(&body.bytes).map(What::Step)
        } else {
            Map::from_bytes(&body.bytes).map(What::Whole)
        };
        let what = match read {
            Ok(what) => what,
            Err(error) => {
                return self.reject(now, owner, format!("its map of {service} is refused: {error}"));
            }
        };
        let told = Generation {
            generation: 0,
            author: owner,
            made: Some(body.made),
            is_instead: false,
            steps: body.steps.clone(),
            steps_count: body.steps_count,
        };
        let mut layout = Layout { told, what, came: now, again: now, wait: AGAIN.0, is_refused: false };
        layout.told.generation = layout.parts().generation;
        let parts = layout.parts();
        if parts.author != owner || parts.service != *service {
            let reason = format!("its map of {service} names another author or service");
            return self.reject(now, owner, reason);
        }
        self.learn_reasons(service, &layout.told);
        self.maps.layouts.entry(service.clone()).or_default().insert(owner, layout);
        self.offer_layouts(now, service);
    }

    /// What an author says of a generation that was found at others first, without its reasons.
    fn learn_reasons(&mut self, service: &ServiceName, told: &Generation) {
        let Some(known) = self.maps.known.get_mut(service) else { return };
        let lacks = |one: &&mut Arc<Generation>| {
            one.made.is_none() && (one.generation, one.author) == (told.generation, told.author)
        };
        if let Some(one) = known.history.iter_mut().find(lacks) {
            *one = Arc::new(Generation { is_instead: one.is_instead, ..told.clone() });
            self.maps_changed();
        }
    }

    /// A generation as its author tells of it, if that is known here.
    fn generation_told(&self, service: &ServiceName, token: Token) -> Generation {
        let layout = self.maps.layouts.get(service).and_then(|all| all.get(&token.author));
        let layout = layout.filter(|layout| layout.token() == token);
        layout.map_or_else(|| generation_of(token, false), |layout| layout.told.clone())
    }

    /// Looks at layouts that are higher than what is followed, the lowest first.
    pub(super) fn offer_layouts(&mut self, now: Instant, service: &ServiceName) {
        loop {
            let Some(known) = self.maps.known.get(service) else { return };
            let (Some(follower), None) = (&known.follower, &known.chain) else { return };
            let ours = Token::of(follower.map());
            let Some(layouts) = self.maps.layouts.get_mut(service) else { return };
            let due = layouts.iter_mut().filter(|(_, layout)| layout.token() > ours && layout.again <= now);
            let Some((owner, layout)) = due.min_by_key(|(_, layout)| layout.token()) else { return };
            layout.put_off(now);
            let (owner, previous) = (*owner, layout.parts().previous);
            let map = match &layout.what {
                What::Whole(map) => Ok(map.clone()),
                What::Step(step) => match follower.find(&previous) {
                    Some(before) => step.apply(before),
                    None => {
                        self.fetch(now, service, Vec::new(), previous, Some(owner));
                        return;
                    }
                },
            };
            let told = layout.told.clone();
            match map {
                Ok(map) => {
                    if let Some(Claim::Refused(error)) = self.offer(now, service, map, Some(told)) {
                        self.on_layout_refused(now, service, owner, &error);
                    }
                }
                Err(error) => self.reject(now, owner, format!("its map of {service} is refused: {error}")),
            }
        }
    }

    /// Offers a map to the rule that decides whether it is followed.
    pub(super) fn offer(
        &mut self,
        now: Instant,
        service: &ServiceName,
        map: Map,
        told: Option<Generation>,
    ) -> Option<Claim> {
        self.offer_by(now, service, map, told, Reach::Next)
    }

    /// The same for a map whose predecessors cannot be had.
    fn offer_distant(&mut self, now: Instant, service: &ServiceName, map: Map) -> Option<Claim> {
        self.offer_by(now, service, map, None, Reach::Distant)
    }

    fn offer_by(
        &mut self,
        now: Instant,
        service: &ServiceName,
        map: Map,
        told: Option<Generation>,
        reach: Reach,
    ) -> Option<Claim> {
        let mut known = self.maps.known.remove(service)?;
        let token = Token::of(&map);
        let claim = match &mut known.follower {
            Some(follower) => {
                let may_be_lost =
                    |author, lost| [author, lost].into_iter().any(|id| self.may_be_lost(service, id));
                match reach {
                    Reach::Next => follower.offer(now, map, may_be_lost),
                    Reach::Distant => follower.offer_distant(now, map, may_be_lost),
                }
            }
            None => {
                known.follower = Some(Follower::new(now, map));
                Claim::Taken
            }
        };
        let is_instead = matches!(claim, Claim::TakenInstead { .. });
        let mut told = told.unwrap_or_else(|| self.generation_told(service, token));
        told.is_instead = is_instead;
        let cause = format!("by {}: {}", self.name_of(token.author), summary(&told.steps, told.steps_count));
        if is_instead || claim == Claim::Taken {
            Self::remember_generation(&mut known, told);
        }
        self.maps.known.insert(service.clone(), known);
        match &claim {
            Claim::Taken => self.on_taken(now, Severity::Info, service, token, cause),
            Claim::TakenInstead { of } => {
                let cause = format!(
                    "{cause}; the network was split, and it is higher than generation {} of {}",
                    of.generation,
                    self.name_of(of.author)
                );
                self.on_taken(now, Severity::Warning, service, token, cause);
            }
            Claim::Known | Claim::Wants(_) | Claim::Refused(_) => {}
        }
        Some(claim)
    }

    /// A layout is not followed. Who is lost for its author may be lost here only a moment later, and then it may move more, and
    /// somebody else than the roster may go on: that is looked at again, and only then spoken of. Nobody who is honest is wrong in
    /// any other way.
    fn on_layout_refused(
        &mut self,
        now: Instant,
        service: &ServiceName,
        owner: NodeId,
        error: &PeerClaimError,
    ) {
        let layout = self.maps.layouts.get_mut(service).and_then(|layouts| layouts.get_mut(&owner));
        let Some(layout) = layout else { return };
        let may_be_right = match error {
            PeerClaimError::Churn { .. } | PeerClaimError::Author(_) | PeerClaimError::First(_) => true,
            PeerClaimError::Service | PeerClaimError::Generation { .. } | PeerClaimError::Dedicated(_) => {
                false
            }
        };
        let is_early = may_be_right && now.since(layout.came) < PATIENCE;
        if is_early || layout.is_refused {
            return;
        }
        layout.is_refused = true;
        let generation = layout.token().generation;
        let reason = format!("generation {generation} of the map of {service} is not followed: {error}");
        let cause = format!("{} made it: {error}", self.name_of(owner));
        self.map_event(now, Severity::Warning, service, "", format!("not followed: {generation}"), cause);
        if may_be_right {
            self.begin_anew(service);
        } else {
            self.reject(now, owner, reason);
        }
    }

    /// Who is lost changed: what was refused may be right now.
    pub(super) fn look_again(&mut self, now: Instant) {
        let all = self.maps.layouts.values_mut().flat_map(|layouts| layouts.values_mut());
        all.for_each(|layout| (layout.again, layout.wait) = (now, AGAIN.0));
    }

    fn on_taken(
        &mut self,
        now: Instant,
        severity: Severity,
        service: &ServiceName,
        token: Token,
        cause: String,
    ) {
        self.maps.is_unsaved = true;
        self.maps_changed();
        self.elect(now, service);
        let to = format!("generation {}", token.generation);
        self.map_event(now, severity, service, "", to, cause);
    }

    /// Fetches a map that is missing; `stack` has those after it.
    fn fetch(
        &mut self,
        now: Instant,
        service: &ServiceName,
        stack: Vec<Map>,
        missing: [u8; 32],
        at: Option<NodeId>,
    ) {
        let chain = Chain { stack, missing, at, tries: 0, asked: now };
        if let Some(known) = self.maps.known.get_mut(service) {
            known.chain = Some(chain);
        }
        self.fetch_on(now, service);
    }

    /// Asks the next member for what is missing.
    fn fetch_on(&mut self, now: Instant, service: &ServiceName) {
        let Some(chain) = self.maps.known.get_mut(service).and_then(|known| known.chain.as_mut()) else {
            return;
        };
        chain.tries += 1;
        chain.asked = now;
        let (missing, tries, at, is_long) =
            (chain.missing, chain.tries, chain.at, chain.stack.len() >= CHAIN_MAX);
        let first = at.filter(|_| tries == 1).and_then(|id| self.members.find(id));
        let first = first.filter(|member| member.is_serving()).map(Member::target);
        let target = first.or_else(|| self.members.some(&mut self.rng, 1, &[]).first().copied());
        let is_asked = !is_long
            && tries <= TRIES
            && target.is_some_and(|target| {
                self.ask_map(target, service, MapAsked::Find(missing), MapAsk::Find(missing))
            });
        if !is_asked {
            self.give_chain_up(now, service);
        }
    }

    /// What is missing cannot be had: the newest map that was is judged by itself, and others are asked what they follow.
    fn give_chain_up(&mut self, now: Instant, service: &ServiceName) {
        self.begin_anew(service);
        let chain = self.maps.known.get_mut(service).and_then(|known| known.chain.take());
        if let Some(newest) = chain.and_then(|chain| chain.stack.into_iter().next()) {
            self.offer_distant(now, service, newest);
        }
    }

    /// A member was asked for a map, and this is what it has.
    fn on_found(
        &mut self,
        now: Instant,
        service: &ServiceName,
        digest: [u8; 32],
        from: NodeId,
        bytes: Option<Vec<u8>>,
    ) {
        let chain = self.maps.known.get_mut(service).and_then(|known| known.chain.take());
        let Some(mut chain) = chain.filter(|chain| chain.missing == digest) else { return };
        let map = bytes.and_then(|bytes| Map::from_bytes(&bytes).ok()).filter(|map| map.digest() == digest);
        let Some(map) = map.filter(|map| map.parts().service == *service) else {
            if let Some(known) = self.maps.known.get_mut(service) {
                known.chain = Some(chain);
            }
            return self.fetch_on(now, service);
        };
        match self.offer(now, service, map.clone(), None) {
            Some(Claim::Wants(previous)) => {
                chain.stack.push(map);
                self.fetch(now, service, chain.stack, previous, Some(from));
            }
            Some(Claim::Taken | Claim::TakenInstead { .. } | Claim::Known) => {
                while let Some(map) = chain.stack.pop() {
                    let claim = self.offer(now, service, map, None);
                    if matches!(claim, Some(Claim::Refused(_)) | None) {
                        return self.begin_anew(service);
                    }
                }
                self.offer_now(now, service);
            }
            Some(Claim::Refused(_)) | None => self.begin_anew(service),
        }
    }

    /// What could not be had or not be followed so far may be possible now.
    fn offer_now(&mut self, now: Instant, service: &ServiceName) {
        if let Some(layouts) = self.maps.layouts.get_mut(service) {
            layouts.values_mut().for_each(|layout| layout.again = now);
        }
        self.offer_layouts(now, service);
    }

    fn begin_anew(&mut self, service: &ServiceName) {
        if let Some(known) = self.maps.known.get_mut(service) {
            known.seek.is_wanted = true;
        }
    }

    /// Looks for a map to begin with, if there is none or what is followed leads nowhere.
    pub(super) fn seek(&mut self, now: Instant, service: &ServiceName) {
        let Some(known) = self.maps.known.get_mut(service) else { return };
        if known.chain.as_ref().is_some_and(|chain| now.since(chain.asked) >= ANSWERED_WITHIN) {
            self.fetch_on(now, service);
            return;
        }
        let is_wanted = known.follower.is_none() || known.seek.is_wanted || !known.seek.is_done;
        if let Some(begun) = known.seek.begun {
            if now.since(begun) >= ANSWERED_WITHIN {
                self.end_seek(now, service);
            }
            return;
        }
        if !is_wanted && known.chain.is_none() && now >= known.seek.compare {
            known.seek.compare = now.after(Duration::from_millis(self.rng.random_range(COMPARED_MS)));
            if let Some(target) = self.members.some(&mut self.rng, 1, &[]).first() {
                self.ask_map(*target, service, MapAsked::Digest, MapAsk::Digest);
            }
            return;
        }
        if !is_wanted || now < known.seek.next {
            return;
        }
        let targets = self.members.some(&mut self.rng, VOTERS, &[]);
        let Some(known) = self.maps.known.get_mut(service) else { return };
        known.seek.round += 1;
        known.seek.begun = Some(now);
        known.seek.answers.clear();
        let round = known.seek.round;
        let asked = targets
            .into_iter()
            .filter(|target| self.ask_map(*target, service, MapAsked::Followed(round), MapAsk::Followed))
            .count();
        if let Some(known) = self.maps.known.get_mut(service) {
            known.seek.asked = asked;
        }
        if asked == 0 {
            self.end_seek(now, service);
        }
    }

    fn on_followed(&mut self, now: Instant, service: &ServiceName, round: u32, bytes: Option<Vec<u8>>) {
        let Some(known) = self.maps.known.get_mut(service) else { return };
        if known.seek.round != round || known.seek.begun.is_none() {
            return;
        }
        let strategy = known.definition.strategy;
        let map = bytes.and_then(|bytes| Map::from_bytes(&bytes).ok());
        let map = map.filter(|map| map.parts().service == *service && map.parts().strategy == strategy);
        known.seek.answers.push(map);
        if known.seek.answers.len() >= known.seek.asked {
            self.end_seek(now, service);
        }
    }

    fn end_seek(&mut self, now: Instant, service: &ServiceName) {
        let Some(known) = self.maps.known.get_mut(service) else { return };
        let seek = &mut known.seek;
        seek.begun = None;
        seek.wait = if seek.is_wanted { (seek.wait * 2).clamp(AGAIN.0, AGAIN.1) } else { AGAIN.0 };
        seek.next = now.after(seek.wait);
        seek.is_done = true;
        seek.is_wanted = false;
        let answers = core::mem::take(&mut seek.answers);
        let Some((map, votes)) = most_named(&answers) else {
            seek.found_nothing = true;
            return;
        };
        seek.found_nothing = false;
        let Some(follower) = &known.follower else {
            self.offer(now, service, map.clone(), None);
            return self.offer_now(now, service);
        };
        let is_news =
            |map: &Map| follower.find(&map.digest()).is_none() && Token::of(map) >= Token::of(follower.map());
        if votes >= 2 && is_news(map) {
            return self.adopt(now, service, map.clone());
        }
        // Few see it so: each is judged by itself.
        let others: Vec<Map> = answers.iter().flatten().filter(|map| is_news(map)).cloned().collect();
        for map in others {
            let is_fetching = self.maps.known.get(service).is_some_and(|known| known.chain.is_some());
            if let Some(Claim::Wants(missing)) = self.offer(now, service, map.clone(), None)
                && !is_fetching
            {
                self.fetch(now, service, vec![map], missing, None);
            }
        }
    }

    /// Most members that were asked follow this map: it is followed, by way of those before it if they can be had.
    fn adopt(&mut self, now: Instant, service: &ServiceName, map: Map) {
        let token = Token::of(&map);
        match self.offer(now, service, map.clone(), None) {
            Some(Claim::Wants(_) | Claim::Refused(_)) => {
                let told = self.generation_told(service, token);
                let Some(known) = self.maps.known.get_mut(service) else { return };
                known.follower = Some(Follower::new(now, map));
                Self::remember_generation(known, told);
                let cause = "what lies between could not be had: most members follow this one".to_owned();
                self.on_taken(now, Severity::Warning, service, token, cause);
            }
            Some(Claim::Taken | Claim::TakenInstead { .. } | Claim::Known) | None => {}
        }
        self.offer_now(now, service);
    }

    pub(super) fn ask_map(
        &mut self,
        target: Target,
        service: &ServiceName,
        why: MapAsked,
        ask: MapAsk,
    ) -> bool {
        let request = Request::Map { service: service.clone(), ask };
        self.ask(target, Asked::Map(service.clone(), why), request).is_some()
    }

    /// A member asks about a map.
    pub(crate) fn on_map_asked(
        &mut self,
        now: Instant,
        from: NodeId,
        service: &ServiceName,
        ask: MapAsk,
    ) -> MapAnswer {
        let follower = self.maps.known.get(service).and_then(|known| known.follower.as_ref());
        match ask {
            MapAsk::Followed => MapAnswer::Map(follower.map(|follower| follower.map().to_bytes())),
            MapAsk::Find(digest) => {
                MapAnswer::Map(follower.and_then(|follower| follower.find(&digest)).map(Map::to_bytes))
            }
            MapAsk::Heat(bytes) => self.on_heat_told(now, from, service, &bytes),
            MapAsk::Author => {
                let view = self.author_view(now, service);
                let bytes = view.and_then(|view| {
                    ringmesh_types::wire::encode(ringmesh_types::wire::Channel::Stream, &view).ok()
                });
                MapAnswer::Author(bytes)
            }
            MapAsk::Order(bytes) => self.on_order_told(now, from, service, &bytes),
            MapAsk::Digest => MapAnswer::Digest(follower.map(|follower| *follower.digest())),
        }
    }

    /// A member answered, or did not.
    pub(crate) fn on_map_answered(
        &mut self,
        now: Instant,
        service: &ServiceName,
        why: MapAsked,
        result: Result<(NodeId, MapAnswer), String>,
    ) {
        match (why, result) {
            (MapAsked::Followed(round), Ok((_, MapAnswer::Map(bytes)))) => {
                self.on_followed(now, service, round, bytes);
            }
            (MapAsked::Followed(round), _) => self.on_followed(now, service, round, None),
            (MapAsked::Find(digest), Ok((from, MapAnswer::Map(bytes)))) => {
                self.on_found(now, service, digest, from, bytes);
            }
            (MapAsked::Find(digest), Ok((from, _))) => self.on_found(now, service, digest, from, None),
            (MapAsked::Find(_), Err(_)) => self.fetch_on(now, service),
            (MapAsked::Heat | MapAsked::Digest, Ok((from, MapAnswer::Digest(Some(digest))))) => {
                let known = self.maps.known.get(service);
                let lacks = known.is_some_and(|known| {
                    let follower = known.follower.as_ref();
                    known.chain.is_none() && follower.is_some_and(|follower| follower.find(&digest).is_none())
                });
                if lacks {
                    self.fetch(now, service, Vec::new(), digest, Some(from));
                }
            }
            (MapAsked::Heat | MapAsked::Digest, _) => {}
            (MapAsked::Author(ticket), Ok((_, MapAnswer::Author(Some(bytes))))) => {
                let view = ringmesh_types::wire::decode(ringmesh_types::wire::Channel::Stream, &bytes);
                let result = view.map(|view| Said::Author(Box::new(view)));
                self.answer(ticket, result.map_err(|error| unanswered(service, &error.to_string())));
            }
            (MapAsked::Order(ticket), Ok((_, MapAnswer::Done(done)))) => {
                let refused = |detail| CommandError { kind: CommandErrorKind::Conflict, detail };
                self.answer(ticket, done.map(Said::Words).map_err(refused));
            }
            (MapAsked::Author(ticket) | MapAsked::Order(ticket), Ok(_)) => {
                let why = "it does not hold itself to be the one";
                self.answer(ticket, Err(unanswered(service, why)));
            }
            (MapAsked::Author(ticket) | MapAsked::Order(ticket), Err(why)) => {
                self.answer(ticket, Err(unanswered(service, &why)));
            }
        }
    }
}

fn unanswered(service: &ServiceName, why: &str) -> CommandError {
    let detail = format!("whoever makes the map of {service} did not say: {why}; try again in a few seconds");
    CommandError { kind: CommandErrorKind::Conflict, detail }
}

/// A generation of which nothing is known but the map itself.
fn generation_of(token: Token, is_instead: bool) -> Generation {
    let Token { generation, author } = token;
    Generation { generation, author, made: None::<WallTime>, is_instead, steps: Vec::new(), steps_count: 0 }
}

/// The maps of one service that a node keeps beside the present one, for tests.
#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_partition::place::Candidate;
    use ringmesh_partition::plan::{PlanConfig, first};
    use ringmesh_partition::position::Strategy;

    fn map(author: u8, generation: u64) -> Map {
        let node = NodeId::from_bytes([author; 8]);
        let candidate = Candidate { node, zone: "a".parse().expect("a name"), capacity: 100, is_live: true };
        let service = "limiter".parse().expect("a name");
        let map = first(service, Strategy::Hash, node, &[candidate], &PlanConfig::default()).expect("a map");
        Map::new(Parts { generation, ..map.into_parts() }).expect("a map")
    }

    #[test]
    fn most_decide_and_of_equals_the_lowest() {
        let (honest, rogue) = (map(1, 7), map(2, 1 << 63));
        let answers = |maps: &[&Map]| maps.iter().map(|map| Some(Map::clone(map))).collect::<Vec<_>>();
        assert_eq!(most_named(&answers(&[&rogue, &honest, &honest])), Some((&honest, 2)));
        assert_eq!(most_named(&answers(&[&rogue, &honest])), Some((&honest, 1)));
        assert_eq!(most_named(&[None, Some(honest.clone()), None]), Some((&honest, 1)));
        assert_eq!(most_named(&[None, None]), None);
    }
}
