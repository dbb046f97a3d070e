//! The machines of `ringmesh-node` on virtual time, over a network that loses, delays and splits.
//! The same seed gives the same run, byte for byte.

pub mod bench;
pub mod link;
pub mod outcome;
pub mod play;
pub mod report;
pub mod scenario;
pub mod seal;
pub mod swarm;
pub mod world;
