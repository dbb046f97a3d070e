//! Identifiers of nodes, their starts and the versions of what they say.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::name::{ClusterName, NodeName};

/// Names a node within its cluster: the first 8 bytes of SHA-256 over `cluster`, a zero byte and `name`.
///
/// Because it is derived, a certificate that proves cluster and name proves the id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId([u8; 8]);

impl NodeId {
    /// The id of the node called `name` in `cluster`.
    pub fn derive(cluster: &ClusterName, name: &NodeName) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(cluster.as_str().as_bytes());
        hasher.update([0]);
        hasher.update(name.as_str().as_bytes());
        let digest = hasher.finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }

    /// An id with the given bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// The id as a number, for hashing and ordering.
    pub const fn as_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.as_u64())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// Why a text is not a [`NodeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node id is 16 hexadecimal digits, this is {0:?}")]
pub struct ParseNodeIdError(String);

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseNodeIdError(text.chars().take(40).collect()));
        }
        u64::from_str_radix(text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| ParseNodeIdError(text.to_owned()))
    }
}

/// One start of an agent: the maximum of the persisted epoch + 1 and unix milliseconds. Later starts have higher epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Orders what one owner says about one topic: by epoch, then by sequence within the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Version {
    /// The start of the owner in which this was said.
    pub epoch: Epoch,
    /// Counts what the owner said on this topic in that epoch, from 1.
    pub sequence: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

/// An IP address and port in 18 bytes: a mesh address is kept once per member and observer, so it is kept small.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "SocketAddr", into = "SocketAddr")]
pub struct MeshAddr {
    ip: [u8; 16],
    port: u16,
}

impl From<SocketAddr> for MeshAddr {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { ip, port: addr.port() }
    }
}

impl From<MeshAddr> for SocketAddr {
    fn from(addr: MeshAddr) -> Self {
        Self::new(Ipv6Addr::from(addr.ip).to_canonical(), addr.port)
    }
}

impl fmt::Display for MeshAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for MeshAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who a member is, at one moment of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The member.
    pub id: NodeId,
    /// Which start of the member this is.
    pub epoch: Epoch,
    /// How often it renewed itself since that start.
    pub revival: u32,
    /// Where its mesh port is.
    pub addr: MeshAddr,
}

impl Identity {
    /// Whether this identity replaces `other` of the same member: later starts and later revivals win.
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.epoch, self.revival) > (other.epoch, other.revival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_is_the_published_vector() {
        let cluster = "ringmesh".parse().expect("a valid cluster name");
        let name = "node-1".parse().expect("a valid node name");
        assert_eq!(NodeId::derive(&cluster, &name).to_string(), "6fdd8344c948d4f6");
    }

    #[test]
    fn node_id_text_round_trips_and_refuses_the_rest() {
        let id = NodeId::from_bytes([0, 1, 2, 3, 4, 5, 6, 255]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", "00010203040506zz", "+001020304050607", "0001020304050607ff"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mesh_addr_keeps_both_families() {
        for text in ["127.0.0.1:7300", "[2001:db8::1]:7300"] {
            let addr: SocketAddr = text.parse().expect("a socket address");
            assert_eq!(SocketAddr::from(MeshAddr::from(addr)), addr);
        }
    }
}
