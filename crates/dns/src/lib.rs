//! What the mesh answers to DNS questions: pure functions from a [`Snapshot`](ringmesh_types::snapshot::Snapshot) and a
//! question to a response. No sockets, no clock, no state but the counts of a [`rate::Limiter`], which its owner keeps;
//! whatever is random comes in as a number.
//!
//! * [`zone`]: which domain is answered for, and with which times to live;
//! * [`qname`]: what a name asks for, and [`key`]: which key;
//! * [`host`]: the short names of addresses;
//! * [`selection`]: which endpoints are served, in which order, and why the others are not;
//! * `owners`: who is named for a key;
//! * [`urn`]: drawing by weight;
//! * [`profile`]: what answers are made like for the stack that asks;
//! * [`answer`]: the response to a request;
//! * [`client`]: who asks, and [`cookie`]: what proves that it is no other;
//! * [`rate`]: how often somebody is answered, and [`admission`]: what others get instead;
//! * [`extended`]: why there is no better answer, for people;
//! * [`hot`]: the same responses to the usual requests, encoded beforehand;
//! * [`explain`]: the same decisions, in words.

pub mod admission;
pub mod answer;
mod base32hex;
pub mod client;
#[cfg(test)]
mod conformance;
pub mod cookie;
pub mod explain;
pub mod extended;
mod fit;
mod glance;
pub mod host;
pub mod hot;
pub mod key;
mod lookup;
mod owners;
pub mod profile;
pub mod qname;
pub mod rate;
mod records;
pub mod selection;
#[cfg(test)]
mod testing;
pub mod urn;
pub mod zone;
