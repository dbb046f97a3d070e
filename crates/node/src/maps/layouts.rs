//! Layouts: generations as their authors publish them, and what becomes of them here.

use core::time::Duration;
use std::sync::Arc;

use ringmesh_partition::difference::{DIFFERENCE_FORMAT, Difference};
use ringmesh_partition::follow::{Claim, PeerClaimError, Token};
use ringmesh_partition::map::{Map, Parts};
use ringmesh_types::body::LayoutBody;
use ringmesh_types::event::Severity;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::Instant;

use super::Generation;
use super::following::generation_of;
use super::seeking::AGAIN;
use crate::machine::Node;

/// What would move too much is waited with for so long before it is said, and most members are asked what they follow.
const PATIENCE: Duration = Duration::from_secs(6);

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
    /// Whether its author may be honest all the same: it saw somebody lost whom nobody else did.
    is_honest: bool,
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

    /// Which generation it is, if it is not followed although it may be honest.
    pub(super) fn refused(&self) -> Option<Token> {
        (self.is_refused && self.is_honest).then(|| self.token())
    }

    fn put_off(&mut self, now: Instant) {
        self.again = now.after(self.wait);
        self.wait = (self.wait * 2).min(AGAIN.1);
    }
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
        let mut layout =
            Layout { told, what, came: now, again: now, wait: AGAIN.0, is_refused: false, is_honest: false };
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
    pub(super) fn generation_told(&self, service: &ServiceName, token: Token) -> Generation {
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
        layout.is_honest = may_be_right;
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

    /// What could not be had or not be followed so far may be possible now.
    pub(super) fn offer_now(&mut self, now: Instant, service: &ServiceName) {
        if let Some(layouts) = self.maps.layouts.get_mut(service) {
            layouts.values_mut().for_each(|layout| layout.again = now);
        }
        self.offer_layouts(now, service);
    }
}
