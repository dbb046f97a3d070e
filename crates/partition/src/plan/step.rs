//! What a plan does, in words.

use core::fmt;

use ringmesh_types::ids::NodeId;

use crate::follow::Token;
use crate::position::Position;

/// One thing that a plan does.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What.
    pub what: What,
    /// The share of the space that changes its owner by it.
    pub churn: f64,
    /// Why.
    pub why: Why,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A member came to the roster.
    Join(NodeId),
    /// A member is no longer in it.
    Leave(NodeId),
    /// A member can take more or less than before.
    Weigh {
        /// Who.
        node: NodeId,
        /// How much, beside the others'.
        capacity: u16,
    },
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
    /// A map that most members do not follow: the one that they follow goes on above it.
    Outbid(Token),
}

impl Step {
    /// In words, with members as `name` calls them.
    pub fn told(&self, name: impl Fn(NodeId) -> String) -> String {
        let what = match &self.what {
            What::Join(node) => format!("join {}", name(*node)),
            What::Leave(node) => format!("leave {}", name(*node)),
            What::Weigh { node, capacity } => format!("weigh {} {capacity}", name(*node)),
            What::Cover { start, from, to } => format!("cover {start}: {} to {}", name(*from), name(*to)),
            What::Merge { start, into } => format!("merge {start} into {into}"),
            What::Move { start, from, to } => format!("move {start}: {} to {}", name(*from), name(*to)),
            What::Split { start, at } => format!("split {start} at {at}"),
            What::Dedicate { at, to } => format!("dedicate {at} to {}", name(*to)),
            What::Return { at } => format!("return {at}"),
            What::Spread { at, owners } => format!("spread {at} over {owners}"),
            What::Outbid(over) => format!("outbid generation {} by {}", over.generation, name(over.author)),
        };
        format!("{what}: {}", self.why.told(name))
    }
}

/// Why something is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// In words that name no member.
    Words(String),
    /// A member is lost.
    Lost(NodeId),
    /// A member should own nothing.
    Drained(NodeId),
    /// One member has so many times its share, another one so many times.
    Uneven {
        /// Who has too much.
        from: NodeId,
        /// How many times its share.
        high: f64,
        /// Who has least.
        to: NodeId,
        /// How many times its share.
        low: f64,
    },
}

impl Why {
    fn told(&self, name: impl Fn(NodeId) -> String) -> String {
        match self {
            Self::Words(words) => words.clone(),
            Self::Lost(node) => format!("{} is lost", name(*node)),
            Self::Drained(node) => format!("{} should own nothing", name(*node)),
            Self::Uneven { from, high, to, low } => {
                format!("{} has {high:.2} times its share, {} {low:.2} times", name(*from), name(*to))
            }
        }
    }
}

impl From<&str> for Why {
    fn from(words: &str) -> Self {
        Self::Words(words.to_owned())
    }
}

impl From<String> for Why {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(|node| node.to_string()))
    }
}
