//! What the mesh answers to DNS questions: pure functions from a [`Snapshot`](ringmesh_types::snapshot::Snapshot) and a
//! question to a response. No sockets, no clock, no state; whatever is random comes in as a number.
//!
//! * [`zone`]: which domain is answered for, and with which times to live;
//! * [`qname`]: what a name asks for;
//! * [`host`]: the short names of addresses;
//! * [`selection`]: which endpoints are served, in which order, and why the others are not;
//! * [`urn`]: drawing by weight;
//! * [`profile`]: what answers are made like for the stack that asks;
//! * [`answer`]: the response to a request;
//! * [`hot`]: the same responses to the usual requests, encoded beforehand;
//! * [`explain`]: the same decisions, in words.

pub mod answer;
pub mod explain;
mod fit;
pub mod host;
pub mod hot;
mod lookup;
pub mod profile;
pub mod qname;
mod records;
pub mod selection;
#[cfg(test)]
mod testing;
pub mod urn;
pub mod zone;
