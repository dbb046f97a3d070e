//! The read model: an immutable view of members and services that DNS, HTTP and look-ups answer from. The node's one
//! task publishes a new one whenever something changed; what did not change is shared with the one before.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::body::EndpointHealth;
use crate::ids::{Epoch, Identity, NodeId};
use crate::name::{ClusterName, NodeName, RegionName, ServiceName, ZoneName};
use crate::owners::KeyOwners;
use crate::service::Instance;
use crate::time::WallTime;

/// How this agent sees a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum MemberState {
    /// It answers, or nobody has said otherwise.
    Alive,
    /// Accused and not yet refuted.
    Suspect {
        /// How many distinct accusers.
        accusers: u16,
    },
    /// It announced a restart; what it vouched for stays in answers.
    Holding,
    /// Enough accusers agreed, a suspicion ran out, or a hold did.
    Down,
    /// It said that it leaves.
    Left,
}

impl MemberState {
    /// The state as it is written in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "Alive",
            Self::Suspect { .. } => "Suspect",
            Self::Holding => "Holding",
            Self::Down => "Down",
            Self::Left => "Left",
        }
    }

    /// Whether its instances are in answers.
    pub const fn is_serving(self) -> bool {
        match self {
            Self::Alive | Self::Suspect { .. } | Self::Holding => true,
            Self::Down | Self::Left => false,
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why the instances of a member come after all others in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Demotion {
    /// It is there, and went Down too often of late.
    Flapping,
    /// It is there, and again and again somebody else gets no answer from it.
    Unreliable,
    /// It is Down, and so many others are that it may be the network.
    Spared,
}

impl Demotion {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flapping => "flapping",
            Self::Unreliable => "unreliable",
            Self::Spared => "spared",
        }
    }

    /// What it means, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flapping => "it went Down too often of late: its instances come last until it is calm",
            Self::Unreliable => {
                "again and again members get no answer from it: its instances come last until it is calm"
            }
            Self::Spared => "too many went Down at once: its instances come last, for a minute at most",
        }
    }
}

impl fmt::Display for Demotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One member as this agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Its name.
    pub name: NodeName,
    /// Who it is.
    pub identity: Identity,
    /// Its failure domain.
    pub zone: ZoneName,
    /// The zones near it.
    pub region: RegionName,
    /// Its addresses, the main one first.
    pub addresses: Vec<IpAddr>,
    /// The version of its agent.
    pub agent_version: String,
    /// How it is seen.
    pub state: MemberState,
    /// Set if its instances come after all others, whatever its state.
    pub demoted: Option<Demotion>,
    /// Since when it is seen so, by this agent's clock.
    pub since: WallTime,
    /// Why it is seen so.
    pub cause: Arc<str>,
    /// What it last raised to refute accusations.
    pub incarnation: u16,
    /// Where another agent under the same name was seen, if one was.
    pub clash: Option<String>,
    /// Whether this is the agent that was asked.
    pub is_self: bool,
}

/// One instance of a service as this agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// What its owner says of it.
    pub instance: Arc<Instance>,
    /// The node it runs on.
    pub member: Arc<MemberView>,
    /// How each endpoint does, in the order of the instance's endpoints.
    pub health: Vec<EndpointHealth>,
    /// Whether the instance or its node is draining.
    pub is_draining: bool,
}

/// One service as this agent sees it: all instances, by node name and instance id, in whatever state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Its instances.
    pub instances: Vec<InstanceView>,
}

/// Everything an agent can answer from, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts snapshots of this agent; the SOA serial.
    pub serial: u32,
    /// The cluster.
    pub cluster: ClusterName,
    /// The agent that made this.
    pub local: Arc<MemberView>,
    /// All members, by name.
    pub members: BTreeMap<NodeName, Arc<MemberView>>,
    /// All services, by name.
    pub services: BTreeMap<ServiceName, Arc<ServiceView>>,
    /// Every address that a node or an endpoint has, with the nodes that have it.
    pub hosts: Arc<BTreeMap<IpAddr, Vec<NodeName>>>,
    /// The maps that spread the keys of services, by service.
    pub maps: Arc<BTreeMap<ServiceName, Arc<dyn KeyOwners>>>,
    /// Set while the agent hears nobody of those that it knows, and since when: what it says of them is that old.
    pub isolated_since: Option<WallTime>,
    /// When it was made.
    pub made: WallTime,
}

impl Snapshot {
    /// The member with this id.
    pub fn member(&self, id: NodeId) -> Option<&Arc<MemberView>> {
        self.members.values().find(|member| member.identity.id == id)
    }

    /// How many members are in answers, this agent included.
    pub fn serving_members(&self) -> usize {
        self.members.values().filter(|member| member.state.is_serving()).count()
    }

    /// The highest epoch among the members: changes when anybody restarts.
    pub fn epoch_max(&self) -> Epoch {
        self.members.values().map(|member| member.identity.epoch).max().unwrap_or_default()
    }
}
