//! The map that this node goes by: what is offered to the rule ([`ringmesh_partition::follow`]), and what follows from being taken.

use ringmesh_partition::follow::{Claim, Follower, Token};
use ringmesh_partition::map::Map;
use ringmesh_types::event::Severity;
use ringmesh_types::name::ServiceName;
use ringmesh_types::time::{Instant, WallTime};

use super::Generation;
use super::authoring::summary;
use crate::machine::Node;

/// How a map is judged.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// By the one before it.
    Next,
    /// By itself, for the one before it cannot be had.
    Distant,
}

impl Node {
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
    pub(super) fn offer_distant(&mut self, now: Instant, service: &ServiceName, map: Map) -> Option<Claim> {
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
                known.retired = None;
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
                    "{cause}; the network was split, or somebody stood still, and it is higher than generation {} of {}",
                    of.generation,
                    self.name_of(of.author)
                );
                self.on_taken(now, Severity::Warning, service, token, cause);
            }
            Claim::Known | Claim::Wants(_) | Claim::Refused(_) => {}
        }
        Some(claim)
    }

    pub(super) fn on_taken(
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
        let me = self.id();
        // Whoever has to go on from another's map looks at once what that one did not see.
        if token.author != me && self.maps.known.get(service).is_some_and(|known| known.elected == Some(me)) {
            self.maps.is_dirty = true;
            self.maps_soon(now);
        }
        let to = format!("generation {}", token.generation);
        self.map_event(now, severity, service, "", to, cause);
    }
}

/// A generation of which nothing is known but the map itself.
pub(super) fn generation_of(token: Token, is_instead: bool) -> Generation {
    let Token { generation, author } = token;
    Generation { generation, author, made: None::<WallTime>, is_instead, steps: Vec::new(), steps_count: 0 }
}
