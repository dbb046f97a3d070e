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

use std::collections::BTreeMap;

use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ServiceName;
use serde::{Deserialize, Serialize};

use crate::heat::Heat;
use crate::map::{Map, PARTITIONS_MAX, Parts, ROSTER_MAX};
use crate::place::{Candidate, place};
use crate::position::{Position, Strategy};
use draft::Draft;

pub use step::{Step, What, Why};

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
    /// Keys that have a partition of their own whatever they cost, and who serves them while it is there. Default none.
    pub pins: BTreeMap<Position, Option<NodeId>>,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            partitions_per_host: 20,
            standbys: 1,
            churn_max: 0.085,
            uneven: 1.12,
            even: 1.04,
            pins: BTreeMap::new(),
        }
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
    let roster = candidates.iter().map(Candidate::host).collect();
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
    draft.pin();
    if heat.is_some() {
        draft.merge_cold();
        draft.dedicate();
        draft.spread();
        draft.split_hot();
        draft.move_load();
        draft.even_heirs();
    }
    Ok(draft.next(author))
}

/// The generation after `map` in which one thing is done because an operator wants it.
///
/// # Errors
/// If it cannot be done, with the reason.
pub fn ordered(
    map: &Map,
    author: NodeId,
    candidates: &[Candidate],
    heat: Option<&Heat>,
    order: &Order,
    config: &PlanConfig,
) -> Result<Plan, OrderError> {
    let mut draft = Draft::new(map, candidates, heat, config)?;
    match order {
        Order::Split { start, at } => draft.split_as_told(*start, *at)?,
        Order::Merge { start } => draft.merge_as_told(*start)?,
    }
    draft.next(author).ok_or(OrderError::Nothing)
}

/// What an operator may want done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Cut the partition that starts at `start` in two.
    Split {
        /// Which one.
        start: Position,
        /// Where; without it where half of its load is on either side.
        at: Option<Position>,
    },
    /// Make a partition part of the one before it.
    Merge {
        /// Which one.
        start: Position,
    },
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Nothing can be planned at all.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no such partition.
    #[error("no partition starts at {0}: map show names them")]
    NoPartition(Position),
    /// It cannot be cut there.
    #[error(
        "{at} is no possible cut of the partition that starts at {start}: a cut lies inside, and with strategy hash its last 8 digits \
         are zeros"
    )]
    NoCut {
        /// Which partition.
        start: Position,
        /// Where it should be cut.
        at: Position,
    },
    /// There is no other partition, or there would be too many.
    #[error("a map has 1 to {PARTITIONS_MAX} partitions")]
    Count,
    /// It would give away too much of the space at once.
    #[error("it would move {:.1} % of the space, {:.1} % may still move now", 100.0 * share.0, 100.0 * left.0)]
    Churn {
        /// What it would move.
        share: Share,
        /// What may still move.
        left: Share,
    },
    /// Nothing would change.
    #[error("nothing would change")]
    Nothing,
}

/// A share of the space, for errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl Eq for Share {}
