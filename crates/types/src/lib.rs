//! What everything else in Ringmesh is named with: identifiers, time, limits, the wire codec, replicated documents and
//! the read model (the [`snapshot::Snapshot`]) that DNS and HTTP answer from.
//!
//! This crate decides nothing. It has no clock, no sockets, no files and no randomness, and neither has any crate that
//! builds only on it.

pub mod body;
pub mod document;
pub mod duration;
pub mod event;
pub mod fields;
pub mod ids;
pub mod limits;
pub mod map_spec;
pub mod name;
pub mod owners;
pub mod sealed;
pub mod service;
pub mod snapshot;
pub mod stored;
pub mod time;
pub mod wire;
