//! Who owns which key of a service, for programs that run beside a Ringmesh agent.
//!
//! [`Maps`] keeps the partition map of one service: it watches the agent over HTTP, answers look-ups from memory and goes on
//! with the last map while the agent is away. What a program served as an owner it counts with [`Maps::count`]; the author of
//! the map hears of it and moves what is hot. [`register`] and [`beat`] tell the agent about a service.
//!
//! Not decided here: who owns what (the author of the map does), and whether a request is granted.
//!
//! **Invariant:** an answer comes from one map and one state of its hosts, never from two.

mod event;
mod http;
mod maps;
mod services;
mod stream;
mod view;

pub use maps::Maps;
pub use services::{ServiceError, beat, register};
pub use view::{Host, Lookup, LookupError, Place, View};
