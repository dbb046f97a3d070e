//! The real protocol on virtual time: [`world::World`] drives real [`ringmesh_node::Node`] machines, with the real wire
//! codec, over links and machines that fail as told. The same seed gives the same run, down to the trace hash.

pub mod link;
pub mod seal;
pub mod world;
