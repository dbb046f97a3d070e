//! The one state machine of an agent: membership, replicated documents, health and the snapshot, composed.
//!
//! One door in ([`Node::handle`] and [`Node::handle_timeout`]), one door out ([`Node::poll_output`]); drain the second to
//! `None` before going through the first again. No clock, sockets, files or entropy: the agent and the simulator drive
//! this same code.

mod accusations;
mod contacts;
mod crowd;
mod damping;
mod demotions;
mod gray;
pub mod io;
mod isolation;
mod local;
mod machine;
pub mod maps;
mod members;
mod paths;
mod publisher;
pub mod registration;
mod remembered;
mod removals;
mod repair;
mod spread;
mod statements;
mod view;
pub mod watch;
mod witnesses;

pub use machine::{Node, NodeConfig, Restored, Stats};
