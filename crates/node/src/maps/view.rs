//! Maps as readers see them: immutable, shared, and with nothing in them that changes by itself.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_partition::follow::HAND_OVER;
use ringmesh_partition::map::{Map, Place};
use ringmesh_partition::position::Position;
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::name::ServiceName;
use ringmesh_types::owners::{KeyOwners, Sharing, Visit};
use ringmesh_types::time::{Instant, WallTime};
use serde::{Deserialize, Serialize};

use super::Known;
use crate::machine::Clock;

/// All maps that are declared, by service.
#[derive(Debug, Default)]
pub struct MapsView {
    /// Each of them.
    pub by_service: BTreeMap<ServiceName, Arc<MapView>>,
}

impl MapsView {
    /// What whoever only looks keys up needs.
    pub(crate) fn owners(&self) -> Arc<BTreeMap<ServiceName, Arc<dyn KeyOwners>>> {
        let followed = self.by_service.iter().filter_map(|(service, view)| {
            let owners: Arc<dyn KeyOwners> = Arc::new(Owners(Arc::clone(view.map.as_ref()?)));
            Some((service.clone(), owners))
        });
        Arc::new(followed.collect())
    }
}

/// A map, and what is known of it.
#[derive(Debug, Clone)]
pub struct MapView {
    /// Whose keys it spreads.
    pub service: ServiceName,
    /// What it should be like.
    pub spec: MapSpec,
    /// Who declares it so.
    pub declared_by: NodeId,
    /// When an operator said so; nothing if a configuration file does.
    pub told: Option<WallTime>,
    /// The generation that is followed; nothing before there is one.
    pub map: Option<Arc<Map>>,
    /// Its digest.
    pub digest: [u8; 32],
    /// Since when it is followed.
    pub taken: WallTime,
    /// The one before, whose owners may still have something to hand over, and until when.
    pub before: Option<(Arc<Map>, WallTime)>,
    /// Who makes the next one.
    pub author: Option<NodeId>,
    /// Whether that is this agent.
    pub am_author: bool,
    /// Generations that were followed, with their reasons, the last first.
    pub history: Vec<Arc<Generation>>,
}

impl MapView {
    pub(super) fn of(service: &ServiceName, known: &Known, now: Instant, clock: &Clock, me: NodeId) -> Self {
        let follower = known.follower.as_ref();
        Self {
            service: service.clone(),
            spec: known.spec.clone(),
            declared_by: known.declared_by,
            told: known.told,
            map: follower.map(|follower| follower.shared()).or_else(|| known.retired.clone()),
            digest: follower.map(|follower| *follower.digest()).unwrap_or_default(),
            taken: follower.map(|follower| clock.wall(follower.taken())).unwrap_or_default(),
            before: follower
                .and_then(|follower| follower.before(now))
                .map(|(map, until)| (map, clock.wall(now).after(until.since(now)))),
            author: known.elected,
            am_author: known.elected == Some(me),
            history: known.history.iter().rev().cloned().collect(),
        }
    }

    /// The owner before, if it may still have something to hand over at `at`, by the wall clock.
    pub fn owner_before(&self, wall: WallTime, at: Position) -> Option<NodeId> {
        let (before, until) = self.before.as_ref()?;
        let map = self.map.as_ref()?;
        let owner = |map: &Map| map.lookup_at(at).map(|found| map.host(found.seats[0]).node);
        let left = until.as_unix_millis().saturating_sub(wall.as_unix_millis());
        let is_in_time = left > 0 && u128::from(left) <= HAND_OVER.as_millis();
        owner(before).filter(|was| is_in_time && Some(*was) != owner(map))
    }
}

/// One generation that was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// Who made it.
    pub author: NodeId,
    /// When, by the author's clock; nothing if only the map itself is known.
    pub made: Option<WallTime>,
    /// Whether it took the place of another one of the same number, or a lower one: the network was split.
    pub is_instead: bool,
    /// What was done and why; the first of them.
    pub steps: Vec<String>,
    /// How many steps there were.
    pub steps_count: u32,
}

/// What the author knows and would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthorView {
    /// Who that is.
    pub author: NodeId,
    /// The generation that it follows.
    pub generation: u64,
    /// For how long it has been the author, in milliseconds.
    pub since_ms: u64,
    /// Nobody reports any load: the space itself is taken to be what costs.
    pub is_even: bool,
    /// How many different keys there were, about.
    pub distinct: f64,
    /// What each member reports, in cost units a second.
    pub members: Vec<(NodeId, f64)>,
    /// Whose report is not believed, and what it says.
    pub absurd: Vec<(NodeId, f64)>,
    /// What each partition costs, by its start.
    pub partitions: Vec<(Position, f64)>,
    /// What each dedicated key costs.
    pub dedicated: Vec<(Position, f64)>,
    /// The keys that cost most and are not dedicated.
    pub hot: Vec<(Position, f64)>,
    /// How some of those keys are written.
    pub names: Vec<(Position, String)>,
    /// What waits for an operator's approval.
    pub proposal: Option<ProposalView>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposalView {
    /// What it is called: another plan of the same generation is called otherwise.
    pub id: String,
    /// Which generation that would be.
    pub generation: u64,
    /// The share of the space that would change its owner.
    pub churn: f64,
    /// What would be done, and why.
    pub steps: Vec<String>,
}

/// What was shown last.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) maps: Arc<MapsView>,
    pub(super) owners: Arc<BTreeMap<ServiceName, Arc<dyn KeyOwners>>>,
    pub(super) is_stale: bool,
}

struct Owners(Arc<Map>);

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.parts();
        write!(f, "generation {} of {}", parts.generation, parts.service)
    }
}

impl KeyOwners for Owners {
    fn position(&self, key: &[u8]) -> Result<u64, String> {
        let at = self.0.parts().strategy.position(key);
        at.map(|at| at.0).map_err(|error| error.to_string())
    }

    fn visit(&self, at: u64, each: &mut dyn FnMut(NodeId) -> Visit) -> Sharing {
        let Some(found) = self.0.lookup_at(Position(at)) else {
            return Sharing::InOrder;
        };
        for seat in found.seats {
            if each(self.0.host(*seat).node) == Visit::Enough {
                break;
            }
        }
        match found.place {
            Place::Partition(_) => Sharing::InOrder,
            Place::Dedicated => Sharing::Equal,
        }
    }

    fn last_resort(&self, at: u64, is_live: &dyn Fn(NodeId) -> bool) -> Option<NodeId> {
        self.0.last_resort(Position(at), is_live)
    }
}
