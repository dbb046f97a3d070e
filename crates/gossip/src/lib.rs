//! How members find, watch and tell each other things: SWIM membership around foca, signed accusations, replicated
//! documents and their repair.
//!
//! Pure: bytes, time and randomness come in as arguments, what should happen comes out as values. The parts know nothing
//! of each other; the `node` crate composes them.

pub mod admission;
pub mod bucket;
pub mod codec;
pub mod dense;
pub mod membership;
pub mod message;
pub mod registry;
pub mod suspicion;
pub mod timers;
