//! Who may grant by a view of the map.

use std::sync::Arc;

use ringmesh_client::View;
use ringmesh_partition::follow::Token;
use ringmesh_partition::map::{Map, Place};
use ringmesh_partition::position::Position;
use ringmesh_types::ids::NodeId;

use crate::history::Sees;

/// A view, as the history of holders has it.
#[derive(Debug)]
pub(crate) struct Seen(pub(crate) Arc<View>);

impl Seen {
    fn of(&self, map: &Map, at: Position) -> Vec<NodeId> {
        let Some(found) = map.lookup_at(at) else { return Vec::new() };
        let nodes: Vec<NodeId> = found.seats.iter().map(|seat| map.host(*seat).node).collect();
        if found.place == Place::Dedicated && nodes.len() > 1 {
            return nodes;
        }
        let live = nodes.iter().find(|node| self.0.is_live(**node));
        live.or(nodes.first()).copied().into_iter().collect()
    }

    /// Whether the same members are live in both, of the same map.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let roster = || self.0.map().parts().roster.iter();
        self.token() == other.token()
            && self.0.me() == other.0.me()
            && roster().all(|host| self.0.is_live(host.node) == other.0.is_live(host.node))
    }
}

impl Sees for Seen {
    fn token(&self) -> Token {
        self.0.token()
    }

    fn holders(&self, at: Position) -> Vec<NodeId> {
        let is_shared = self
            .0
            .map()
            .lookup_at(at)
            .is_some_and(|found| found.place == Place::Dedicated && found.seats.len() > 1);
        if is_shared { self.of(self.0.map(), at) } else { self.0.owner_at(at).into_iter().collect() }
    }

    fn holders_before(&self, at: Position) -> Vec<NodeId> {
        self.0.before().map(|(map, _)| self.of(map, at)).unwrap_or_default()
    }

    fn token_before(&self) -> Option<Token> {
        self.0.before().map(|(map, _)| Token::of(map))
    }
}
