//! What a plan does, in words.

use core::fmt;

use ringmesh_types::ids::NodeId;

use crate::position::Position;

/// One thing that a plan does.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What.
    pub what: What,
    /// The share of the space that changes its owner by it.
    pub churn: f64,
    /// Why.
    pub why: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A member came to the roster.
    Join(NodeId),
    /// A member is no longer in it.
    Leave(NodeId),
    /// A partition whose owner is lost goes to another member.
    Cover {
        /// Which one.
        start: Position,
        /// Whose it was.
        from: NodeId,
        /// Whose it is.
        to: NodeId,
    },
    /// A partition becomes part of the one before it.
    Merge {
        /// Which one.
        start: Position,
        /// Where the one before it starts.
        into: Position,
    },
    /// A partition goes to another member.
    Move {
        /// Which one.
        start: Position,
        /// Whose it was.
        from: NodeId,
        /// Whose it is.
        to: NodeId,
    },
    /// A partition is cut in two, which both stay where it was.
    Split {
        /// Which one.
        start: Position,
        /// Where the upper half starts.
        at: Position,
    },
    /// A key gets a partition of its own.
    Dedicate {
        /// Where it lies.
        at: Position,
        /// Who serves it.
        to: NodeId,
    },
    /// A key goes back to the partition around it.
    Return {
        /// Where it lies.
        at: Position,
    },
    /// A dedicated key is shared by so many members.
    Spread {
        /// Where it lies.
        at: Position,
        /// How many share it.
        owners: usize,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Join(node) => write!(f, "join {node}")?,
            What::Leave(node) => write!(f, "leave {node}")?,
            What::Cover { start, from, to } => write!(f, "cover {start}: {from} to {to}")?,
            What::Merge { start, into } => write!(f, "merge {start} into {into}")?,
            What::Move { start, from, to } => write!(f, "move {start}: {from} to {to}")?,
            What::Split { start, at } => write!(f, "split {start} at {at}")?,
            What::Dedicate { at, to } => write!(f, "dedicate {at} to {to}")?,
            What::Return { at } => write!(f, "return {at}")?,
            What::Spread { at, owners } => write!(f, "spread {at} over {owners}")?,
        }
        write!(f, ": {}", self.why)
    }
}
