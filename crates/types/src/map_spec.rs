//! How the keys of a service are to be spread over its hosts, as somebody wrote it: in a configuration file or over HTTP. What it
//! means is decided where maps are made.

use serde::{Deserialize, Serialize};

use crate::name::NodeName;

/// Pinned keys of a map at most.
pub const PINS_MAX: usize = 256;

/// What a map should be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapSpec {
    /// How keys are laid out: `hash` or `name`.
    #[serde(default = "hash")]
    pub strategy: String,
    /// `auto`: plans are carried out; `approve`: an operator does that.
    #[serde(default = "auto")]
    pub mode: String,
    /// Partitions for each host, 1 to 1,000.
    #[serde(default = "twenty")]
    pub partitions_per_host: u16,
    /// Who takes over, for each partition: 0 to 3 other hosts.
    #[serde(default = "one")]
    pub standbys: u8,
    /// Keys that have a partition of their own.
    #[serde(default)]
    pub pins: Vec<Pin>,
}

/// A key that has a partition of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The key.
    pub key: String,
    /// The host that serves it while it is there; without one the coolest.
    #[serde(default)]
    pub node: Option<NodeName>,
}

impl Default for MapSpec {
    fn default() -> Self {
        Self {
            strategy: hash(),
            mode: auto(),
            partitions_per_host: twenty(),
            standbys: one(),
            pins: Vec::new(),
        }
    }
}

fn hash() -> String {
    "hash".to_owned()
}

fn auto() -> String {
    "auto".to_owned()
}

const fn twenty() -> u16 {
    20
}

const fn one() -> u8 {
    1
}
