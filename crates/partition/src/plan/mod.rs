//! What the author does about load: from a map, from who is there and from what costs were reported to the next map, step by
//! step, each with its reason. It changes nothing by itself.
//!
//! A round goes through its steps in one order: cover for the lost, merge the cold, give keys that dominate a partition one of
//! their own, spread those that are still too hot, split what carries twice the mean, move from the hottest to the coolest.
//! Moves come last, for what the steps before do moves nothing and changes who is hottest: with moves first, a host is emptied
//! because of a key that leaves it in the same round, and the load is even after 75 s instead of 41 (`docs/results/partitions.md`).
//! All but cover keep within [`PlanConfig::churn_max`]; between doing something and undoing it there is a wide gap.
//!
//! Sources: Adya et al., "Slicer: Auto-sharding for datacenter applications" (OSDI 2016), 4.4, weighted-move. What is different:
//! partitions are identified by where they start, and keys that are hot alone leave theirs.

mod draft;
mod hot;
mod step;
#[cfg(test)]
mod tests;

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;

use crate::heat::Heat;
use crate::map::{Host, Map, PARTITIONS_MAX, Parts, ROSTER_MAX};
use crate::place::{Candidate, place};
use crate::position::{Position, Strategy};
use draft::Draft;

pub use step::{Step, What};

/// How load is kept even.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanConfig {
    /// Partitions for each member at the start, and about so many later. Default 20: a member that dies leaves each of the
    /// others a few percent more. More make the map larger, fewer make moves coarser.
    pub partitions_per_host: usize,
    /// Standbys of each partition. Default 1. Each costs two bytes of the map for each partition.
    pub standbys: usize,
    /// The share of the space that may move in a round, but for cover. Default 0.085: with it no more than 9 % of the keys of an
    /// uneven hundred thousand move (Slicer, 4.4.1: 9 %).
    pub churn_max: f64,
    /// Load is moved once a member has so many times the mean. Default 1.12.
    pub uneven: f64,
    /// And until none has more than this. Default 1.04; the gap keeps noise from moving anything.
    pub even: f64,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self { partitions_per_host: 20, standbys: 1, churn_max: 0.085, uneven: 1.12, even: 1.04 }
    }
}

/// The next map, and how it came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The next generation.
    pub map: Map,
    /// What was done, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The share of the space that moves, but for cover.
    pub fn churn(&self) -> f64 {
        let moves = self.steps.iter().filter(|step| !matches!(step.what, What::Cover { .. }));
        moves.map(|step| step.churn).sum()
    }
}

/// Why nothing can be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is nobody, or nobody with a capacity.
    #[error("no member may own anything: none is live with a capacity above 0")]
    Nobody,
    /// There are too many.
    #[error("{0} members are in the roster: {ROSTER_MAX} at most are possible")]
    TooMany(usize),
}

/// The first map of a service: partitions of one size, nobody with more than a twentieth over its share of them.
///
/// # Errors
/// If nobody may own anything, or there are too many members.
pub fn first(
    service: ServiceName,
    strategy: Strategy,
    author: NodeId,
    candidates: &[Candidate],
    config: &PlanConfig,
) -> Result<Map, PlanError> {
    if candidates.len() > ROSTER_MAX {
        return Err(PlanError::TooMany(candidates.len()));
    }
    let serving = candidates.iter().filter(|one| one.may_serve()).count();
    let count = (serving * config.partitions_per_host.max(1)).min(PARTITIONS_MAX) as u128;
    let starts: Vec<Position> =
        (0..count).map(|index| strategy.start_at(Position(((index << 64) / count) as u64))).collect();
    let seats = place(candidates, &starts, 1.05, config.standbys)
        .filter(|seats| !seats.is_empty())
        .ok_or(PlanError::Nobody)?;
    let roster = candidates.iter().map(|one| Host { node: one.node, capacity: one.capacity }).collect();
    let parts = Parts {
        service,
        generation: 1,
        author,
        previous: [0; 32],
        strategy,
        roster,
        starts,
        seats,
        dedicated: vec![],
    };
    Ok(Map::new(parts).expect("seats are places among the candidates, and starts rise"))
}

/// The generation after `map`, if anything should change. Without `heat`, which an author has only after it has heard from the
/// others for a while, it covers for the lost and does nothing else.
///
/// # Errors
/// If nobody may own anything, or there are too many members.
pub fn plan(
    map: &Map,
    author: NodeId,
    candidates: &[Candidate],
    heat: Option<&Heat>,
    config: &PlanConfig,
) -> Result<Option<Plan>, PlanError> {
    let mut draft = Draft::new(map, candidates, heat, config)?;
    draft.cover();
    if heat.is_some() {
        draft.merge_cold();
        draft.dedicate();
        draft.spread();
        draft.split_hot();
        draft.move_load();
    }
    let (parts, steps) = draft.finish();
    let old = map.parts();
    let is_same = (&parts.roster, &parts.starts, &parts.seats, &parts.dedicated)
        == (&old.roster, &old.starts, &old.seats, &old.dedicated);
    if is_same {
        return Ok(None);
    }
    let next = Parts {
        service: old.service.clone(),
        generation: old.generation + 1,
        author,
        previous: map.digest(),
        strategy: old.strategy,
        ..parts
    };
    Ok(Some(Plan { map: Map::new(next).expect("steps keep a map a map"), steps }))
}
