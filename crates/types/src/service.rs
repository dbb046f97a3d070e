//! Services, their instances and endpoints, and how healthy an endpoint can be.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::{InstanceId, ProtocolName, ServiceName};

/// What carries a protocol to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams: `_udp` in SRV names.
    Udp,
    /// A stream: `_tcp` in SRV names.
    Tcp,
    /// A stream inside TLS: `_tls`, and `_sips._tcp` for SIP (RFC 3263, 4.1).
    Tls,
}

impl Transport {
    /// All of them, in the order in which NAPTR prefers them last to first.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// The transport as it is written in configurations and DNS labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|transport| transport.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no transport: allowed are udp, tcp, tls"))
    }
}

/// One transport, address and port on which an instance listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// What is spoken there.
    pub protocol: ProtocolName,
    /// What carries it.
    pub transport: Transport,
    /// Where: SIP and media hosts are multi-homed, so every endpoint has an address of its own.
    pub address: IpAddr,
    /// On which port, never 0.
    pub port: u16,
}

impl Endpoint {
    /// Address and port together.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.protocol, self.transport, self.socket_addr())
    }
}

/// One running copy of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Unique on its node.
    pub id: InstanceId,
    /// What it is a copy of.
    pub service: ServiceName,
    /// Where it listens: 1 to 8 endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Its share among its equals, 1 to 65,535; 100 is usual.
    pub weight: u16,
    /// Free labels to filter by.
    pub tags: Vec<String>,
    /// Whether new answers should stop naming it.
    pub is_draining: bool,
}

impl Instance {
    /// Whether the instance keeps the limits that every reader checks.
    ///
    /// # Errors
    /// Names the first field that does not.
    pub fn check(&self) -> Result<(), String> {
        if self.endpoints.is_empty() || self.endpoints.len() > limits::ENDPOINTS_PER_INSTANCE_MAX {
            return Err(format!(
                "endpoints: 1 to {} are allowed, {} has {}",
                limits::ENDPOINTS_PER_INSTANCE_MAX,
                self.id,
                self.endpoints.len()
            ));
        }
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.port == 0) {
            return Err(format!("endpoints: port 0 of {endpoint} is not allowed"));
        }
        if self.weight == 0 {
            return Err("weight: must be 1 to 65535".to_owned());
        }
        if self.tags.len() > limits::TAGS_PER_INSTANCE_MAX
            || self.tags.iter().any(|tag| tag.is_empty() || tag.len() > limits::TAG_BYTES_MAX)
        {
            return Err(format!(
                "tags: at most {} of 1 to {} bytes are allowed",
                limits::TAGS_PER_INSTANCE_MAX,
                limits::TAG_BYTES_MAX
            ));
        }
        Ok(())
    }
}

/// How an endpoint does, as its agent's checks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// It answers in time.
    Passing,
    /// It answers, but late or overloaded: served last.
    Greylisted,
    /// No check has finished yet.
    #[default]
    Unknown,
    /// It does not answer, or answers with a failure.
    Failing,
}

impl HealthState {
    /// The state as it is written in answers and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Greylisted => "greylisted",
            Self::Unknown => "unknown",
            Self::Failing => "failing",
        }
    }

    /// Whether an endpoint in this state is served without the floor's help.
    pub const fn is_healthy(self) -> bool {
        match self {
            Self::Passing | Self::Greylisted => true,
            Self::Unknown | Self::Failing => false,
        }
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for HealthState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Passing, Self::Greylisted, Self::Unknown, Self::Failing]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                format!("{text:?} is no health state: allowed are passing, greylisted, unknown, failing")
            })
    }
}
