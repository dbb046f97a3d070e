//! How members find, watch and tell each other things: SWIM membership around foca, signed accusations, replicated
//! documents and their repair.
//!
//! Pure: bytes, time and randomness come in as arguments, what should happen comes out as values. The parts know nothing
//! of each other; the `node` crate composes them.

pub mod admission;
pub mod bucket;
pub mod codec;
pub mod credit;
pub mod dense;
pub mod local_health;
pub mod membership;
pub mod message;
pub mod overlay;
pub mod parts;
pub mod plumtree;
pub mod probe;
pub mod registry;
pub mod rtt;
pub mod suspicion;
pub mod timers;
