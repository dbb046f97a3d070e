//! What members ask each other about maps.

use ringmesh_gossip::message::{MapAnswer, MapAsk, Request};
use ringmesh_partition::map::Map;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use ringmesh_types::time::Instant;
use ringmesh_types::wire::{self, Channel};

use crate::contacts::Asked;
use crate::io::{CommandError, CommandErrorKind, Said, Target, Ticket};
use crate::machine::Node;

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

impl Node {
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
                let bytes = view.and_then(|view| wire::encode(Channel::Stream, &view).ok());
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
                let me = self.id();
                let Some(known) = self.maps.known.get_mut(service).filter(|known| known.chain.is_none())
                else {
                    return;
                };
                let Some(follower) = &known.follower else { return };
                if follower.find(&digest).is_none() {
                    self.fetch(now, service, Vec::new(), digest, Some(from));
                } else if digest != *follower.digest() && known.elected == Some(me) {
                    // It may be late; whether most are, others say.
                    self.begin_anew(service);
                }
            }
            (MapAsked::Heat | MapAsked::Digest, _) => {}
            (MapAsked::Author(ticket), Ok((_, MapAnswer::Author(Some(bytes))))) => {
                let view = wire::decode(Channel::Stream, &bytes);
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
