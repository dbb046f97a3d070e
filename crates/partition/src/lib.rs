//! Who owns which key: maps that cut a space of positions into partitions, and plans that keep their load even.
//!
//! Pure: a map is a value that every reader looks up in the same way (`docs/partition-map.md`), and a plan is a function of a
//! map, of who is there and of what load was reported. Not decided here: who plans, whom to believe, and how maps travel.

pub mod author;
pub mod churn;
pub mod definition;
pub mod difference;
pub mod follow;
pub mod heat;
pub mod map;
pub mod place;
pub mod plan;
pub mod position;
pub mod sample;
pub mod sketch;
pub mod slice;
#[cfg(test)]
mod vectors;
pub mod wire;
