//! Bodies of the topics that this version understands, and how they become tagged fields. Tags are for keeps: a tag is
//! never given a new meaning.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::document::Key;
use crate::fields::{FieldError, Reader, Writer};
use crate::ids::{Epoch, Identity, MeshAddr, NodeId, Version};
use crate::limits;
use crate::map_spec::{MapSpec, PINS_MAX};
use crate::name::{InstanceId, NodeName, RegionName, ServiceName, ZoneName};
use crate::service::{HealthState, Instance};
use crate::time::WallTime;
use crate::wire::WireError;

/// What a member says of its own standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It runs.
    Serving,
    /// It restarts: keep serving what it vouched for; without a new epoch after this many milliseconds it is Down.
    Holding {
        /// How long to wait for it.
        for_ms: u32,
    },
    /// It has left and will not be back.
    Left,
}

/// The `node` topic: who and where the owner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBody {
    /// The owner's name; its id must follow from it.
    pub name: NodeName,
    /// The failure domain it stands in.
    pub zone: ZoneName,
    /// The zones near it.
    pub region: RegionName,
    /// Its mesh port.
    pub mesh: MeshAddr,
    /// Its addresses, the main one first; 1 to 16.
    pub addresses: Vec<IpAddr>,
    /// The version of its agent.
    pub agent_version: String,
    /// What it says of itself.
    pub standing: Standing,
    /// How often it renewed itself in this epoch.
    pub revival: u32,
    /// What it last raised to refute accusations.
    pub incarnation: u16,
    /// When it started, by its own clock.
    pub started: WallTime,
}

impl NodeBody {
    /// The identity that a `node` document with this body and `version` proves.
    pub fn identity(&self, owner: NodeId, version: Version) -> Identity {
        Identity { id: owner, epoch: version.epoch, revival: self.revival, addr: self.mesh }
    }

    /// The body as tagged fields.
    ///
    /// # Errors
    /// If a value cannot be represented on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut writer = Writer::default();
        writer
            .field(1, &self.name)?
            .field(2, &self.zone)?
            .field(3, &self.region)?
            .field(4, &self.mesh)?
            .field(5, &self.addresses)?
            .field(6, &self.agent_version)?
            .field(7, &self.standing)?
            .field(8, &self.revival)?
            .field(9, &self.incarnation)?
            .field(10, &self.started)?;
        Ok(writer.finish())
    }

    /// Reads and bounds-checks a body.
    ///
    /// # Errors
    /// Names the field that is missing, unreadable or out of bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let reader = Reader::parse(bytes)?;
        let body = Self {
            name: reader.required(1, "name")?,
            zone: reader.required(2, "zone")?,
            region: reader.required(3, "region")?,
            mesh: reader.required(4, "mesh")?,
            addresses: reader.required(5, "addresses")?,
            agent_version: reader.required(6, "agent_version")?,
            standing: reader.required(7, "standing")?,
            revival: reader.required(8, "revival")?,
            incarnation: reader.required(9, "incarnation")?,
            started: reader.required(10, "started")?,
        };
        if body.addresses.is_empty() || body.addresses.len() > limits::NODE_ADDRESSES_MAX {
            let count = body.addresses.len();
            return Err(FieldError::Bounds(5, "addresses", format!("{count}, 1 to 16 are allowed")));
        }
        if body.agent_version.len() > limits::LABEL_BYTES_MAX {
            return Err(FieldError::Bounds(6, "agent_version", "more than 63 bytes".to_owned()));
        }
        Ok(body)
    }
}

/// The `trust` topic: why the owner's seals are to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBody {
    /// The owner's certificate chain, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The public key that seals the owner's documents (Ed25519, 32 bytes).
    pub document_key: [u8; 32],
    /// The leaf's signature over [`TrustBody::vouched_bytes`] (ECDSA P-256 with SHA-256, ASN.1).
    pub vouched: Vec<u8>,
}

impl TrustBody {
    /// What the leaf certificate's key signs.
    pub fn vouched_bytes(owner: NodeId, document_key: &[u8; 32]) -> Vec<u8> {
        let mut bytes = b"ringmesh document key 1\0".to_vec();
        bytes.extend_from_slice(owner.as_bytes());
        bytes.extend_from_slice(document_key);
        bytes
    }

    /// The body as tagged fields.
    ///
    /// # Errors
    /// If a value cannot be represented on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut writer = Writer::default();
        writer.field(1, &self.chain)?.field(2, &self.document_key)?.field(3, &self.vouched)?;
        Ok(writer.finish())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that is missing or unreadable.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let reader = Reader::parse(bytes)?;
        Ok(Self {
            chain: reader.required(1, "chain")?,
            document_key: reader.required(2, "document_key")?,
            vouched: reader.required(3, "vouched")?,
        })
    }
}

/// The `services` topic: what runs on the owner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServicesBody {
    /// The instances, by id.
    pub instances: Vec<Arc<Instance>>,
    /// Whether the whole node is draining.
    pub is_node_draining: bool,
}

impl ServicesBody {
    /// The body as tagged fields.
    ///
    /// # Errors
    /// If a value cannot be represented on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut writer = Writer::default();
        writer.field(1, &self.instances)?.field(2, &self.is_node_draining)?;
        Ok(writer.finish())
    }

    /// Reads and bounds-checks a body.
    ///
    /// # Errors
    /// Names the field that is missing, unreadable or out of bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let reader = Reader::parse(bytes)?;
        let body = Self {
            instances: reader.required(1, "instances")?,
            is_node_draining: reader.optional(2, "is_node_draining")?.unwrap_or_default(),
        };
        if body.instances.len() > limits::INSTANCES_PER_NODE_MAX {
            let count = body.instances.len();
            return Err(FieldError::Bounds(1, "instances", format!("{count}, at most 512 are allowed")));
        }
        for instance in &body.instances {
            instance.check().map_err(|why| FieldError::Bounds(1, "instances", why))?;
        }
        Ok(body)
    }
}

/// How one endpoint does, as its agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointHealth {
    /// The state.
    pub state: HealthState,
    /// Since when, by the owner's clock.
    pub since: WallTime,
}

/// How one instance does: a state for each endpoint, in the order of the instance's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceHealth {
    /// The instance.
    pub id: InstanceId,
    /// One entry per endpoint.
    pub endpoints: Vec<EndpointHealth>,
}

/// The `health` topic: how the owner's instances do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthBody {
    /// The instances that have checks.
    pub instances: Vec<InstanceHealth>,
}

impl HealthBody {
    /// The body as tagged fields.
    ///
    /// # Errors
    /// If a value cannot be represented on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut writer = Writer::default();
        writer.field(1, &self.instances)?;
        Ok(writer.finish())
    }

    /// Reads and bounds-checks a body.
    ///
    /// # Errors
    /// Names the field that is missing, unreadable or out of bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let body = Self { instances: Reader::parse(bytes)?.required(1, "instances")? };
        let too_many = body.instances.len() > limits::INSTANCES_PER_NODE_MAX
            || body
                .instances
                .iter()
                .any(|health| health.endpoints.len() > limits::ENDPOINTS_PER_INSTANCE_MAX);
        if too_many {
            return Err(FieldError::Bounds(1, "instances", "more than an owner may have".to_owned()));
        }
        Ok(body)
    }
}

/// The `forget/<node>` topic: an operator's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgetBody {
    /// Epochs of the subject up to this one never come back.
    pub floor: Epoch,
    /// When the order was given, by the giver's clock.
    pub given: WallTime,
}

impl ForgetBody {
    /// The body as tagged fields.
    ///
    /// # Errors
    /// If a value cannot be represented on the wire.
    pub fn to_bytes(self) -> Result<Vec<u8>, WireError> {
        let mut writer = Writer::default();
        writer.field(1, &self.floor)?.field(2, &self.given)?;
        Ok(writer.finish())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that is missing or unreadable.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let reader = Reader::parse(bytes)?;
        Ok(Self { floor: reader.required(1, "floor")?, given: reader.required(2, "given")? })
    }
}

/// The `map/<service>` topic: how the keys of a service are to be spread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapBody {
    /// What the owner's configuration file declares.
    pub file: Option<MapSpec>,
    /// What an operator said at the owner.
    pub told: Option<ToldMap>,
}

/// What an operator said about a map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldMap {
    /// When, by the clock of the agent that was told: the last word counts.
    pub at: WallTime,
    /// What it should be like; nothing if what was said before counts no more.
    pub spec: Option<MapSpec>,
}

impl MapBody {
    /// The body as tagged fields.
    ///
    /// # Errors
    /// If a value cannot be represented on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut writer = Writer::default();
        writer.field(1, &self.file)?.field(2, &self.told)?;
        Ok(writer.finish())
    }

    /// Reads and bounds-checks a body.
    ///
    /// # Errors
    /// Names the field that is missing, unreadable or out of bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let reader = Reader::parse(bytes)?;
        let body = Self { file: reader.required(1, "file")?, told: reader.required(2, "told")? };
        let told = body.told.as_ref().and_then(|told| told.spec.as_ref());
        if let Some(spec) = body.file.iter().chain(told).find(|spec| spec.pins.len() > PINS_MAX) {
            let count = spec.pins.len();
            return Err(FieldError::Bounds(1, "pins", format!("{count}, at most {PINS_MAX} are allowed")));
        }
        Ok(body)
    }
}

/// The `layout/<service>` topic: one generation of a map, told by its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutBody {
    /// The map, or what makes it of the one before: the bytes say which (`docs/partition-map.md`).
    pub bytes: Vec<u8>,
    /// When it was made, by the author's clock.
    pub made: WallTime,
    /// What was done and why, one line each.
    pub steps: Vec<String>,
    /// How many steps there were; more than are told if they were many.
    pub steps_count: u32,
}

/// Steps that a generation tells of, at most; each has so many bytes at most.
pub const STEPS_TOLD_MAX: (usize, usize) = (64, 240);

impl LayoutBody {
    /// The body as tagged fields.
    ///
    /// # Errors
    /// If a value cannot be represented on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut writer = Writer::default();
        writer
            .field(1, &serde_bytes::Bytes::new(&self.bytes))?
            .field(2, &self.made)?
            .field(3, &self.steps)?
            .field(4, &self.steps_count)?;
        Ok(writer.finish())
    }

    /// Reads and bounds-checks a body.
    ///
    /// # Errors
    /// Names the field that is missing, unreadable or out of bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let reader = Reader::parse(bytes)?;
        let body = Self {
            bytes: reader.required::<serde_bytes::ByteBuf>(1, "bytes")?.into_vec(),
            made: reader.required(2, "made")?,
            steps: reader.required(3, "steps")?,
            steps_count: reader.required(4, "steps_count")?,
        };
        let (lines, most) = STEPS_TOLD_MAX;
        if body.steps.len() > lines || body.steps.iter().any(|step| step.len() > most) {
            let why = format!("at most {lines} lines of {most} bytes are allowed");
            return Err(FieldError::Bounds(3, "steps", why));
        }
        Ok(body)
    }
}

/// How long others keep serving for a holding member, at most.
pub const HOLD_MAX: Duration = Duration::from_secs(300);

/// What a body says, once read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Topic `node`.
    Node(NodeBody),
    /// Topic `trust`; its meaning is the seal checker's business.
    Trust,
    /// Topic `services`.
    Services(ServicesBody),
    /// Topic `health`.
    Health(HealthBody),
    /// Topic `forget/<node>`.
    Forget(NodeId, ForgetBody),
    /// Topic `map/<service>`.
    Map(ServiceName, MapBody),
    /// Topic `layout/<service>`.
    Layout(ServiceName, LayoutBody),
    /// A topic of another version of this program: kept and forwarded.
    Opaque,
}

impl Body {
    /// Reads the body of the document called `key`.
    ///
    /// # Errors
    /// If the topic is known and its body is not what the topic says.
    pub fn read(key: &Key, bytes: &[u8]) -> Result<Self, FieldError> {
        use crate::document::Topic;
        Ok(match key.topic.as_str() {
            Topic::NODE => Self::Node(NodeBody::from_bytes(bytes)?),
            Topic::TRUST => Self::Trust,
            Topic::SERVICES => Self::Services(ServicesBody::from_bytes(bytes)?),
            Topic::HEALTH => Self::Health(HealthBody::from_bytes(bytes)?),
            _ => {
                if let Some(subject) = key.topic.forgets() {
                    Self::Forget(subject, ForgetBody::from_bytes(bytes)?)
                } else if let Some(service) = key.topic.maps() {
                    Self::Map(service, MapBody::from_bytes(bytes)?)
                } else if let Some(service) = key.topic.lays_out() {
                    Self::Layout(service, LayoutBody::from_bytes(bytes)?)
                } else {
                    Self::Opaque
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_spec::Pin;
    use crate::service::{Endpoint, Transport};
    use proptest::prelude::*;

    fn node_body() -> NodeBody {
        NodeBody {
            name: "a".parse().expect("a name"),
            zone: "z".parse().expect("a name"),
            region: "r".parse().expect("a name"),
            mesh: MeshAddr::from(core::net::SocketAddr::from(([127, 0, 0, 1], 7300))),
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            agent_version: "0.1.0".to_owned(),
            standing: Standing::Holding { for_ms: 20_000 },
            revival: 1,
            incarnation: 2,
            started: WallTime::from_unix_millis(3),
        }
    }

    #[test]
    fn bodies_round_trip() {
        let node = node_body();
        assert_eq!(NodeBody::from_bytes(&node.to_bytes().expect("fits")), Ok(node));
        let services = ServicesBody {
            instances: vec![Arc::new(Instance {
                id: "sip-1".parse().expect("an id"),
                service: "sip".parse().expect("a name"),
                endpoints: vec![Endpoint {
                    protocol: "sip".parse().expect("a name"),
                    transport: Transport::Udp,
                    address: IpAddr::from([127, 0, 0, 1]),
                    port: 5060,
                }],
                weight: 100,
                tags: vec!["edge".to_owned()],
                is_draining: false,
            })],
            is_node_draining: true,
        };
        assert_eq!(ServicesBody::from_bytes(&services.to_bytes().expect("fits")), Ok(services));
        let trust = TrustBody { chain: vec![vec![1]], document_key: [2; 32], vouched: vec![3] };
        assert_eq!(TrustBody::from_bytes(&trust.to_bytes().expect("fits")), Ok(trust));
        let spec = MapSpec { pins: vec![Pin { key: "acme".to_owned(), node: None }], ..MapSpec::default() };
        let told = Some(ToldMap { at: WallTime::from_unix_millis(6), spec: Some(spec) });
        let map = MapBody { file: Some(MapSpec::default()), told };
        assert_eq!(MapBody::from_bytes(&map.to_bytes().expect("fits")), Ok(map));
        let layout = LayoutBody {
            bytes: vec![1],
            made: WallTime::from_unix_millis(7),
            steps: vec!["join".to_owned()],
            steps_count: 9,
        };
        assert_eq!(LayoutBody::from_bytes(&layout.to_bytes().expect("fits")), Ok(layout));
        let forget = ForgetBody { floor: Epoch(4), given: WallTime::from_unix_millis(5) };
        assert_eq!(ForgetBody::from_bytes(&forget.to_bytes().expect("fits")), Ok(forget));
    }

    #[test]
    fn a_node_body_without_addresses_is_refused() {
        let mut node = node_body();
        node.addresses.clear();
        let bytes = node.to_bytes().expect("fits");
        assert!(matches!(NodeBody::from_bytes(&bytes), Err(FieldError::Bounds(5, "addresses", _))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn mutated_bodies_never_panic(at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200) {
            let mut bytes = node_body().to_bytes().expect("fits");
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut.max(1));
            let _ = NodeBody::from_bytes(&bytes);
            let _ = ServicesBody::from_bytes(&bytes);
            let _ = HealthBody::from_bytes(&bytes);
            let _ = TrustBody::from_bytes(&bytes);
            let _ = ForgetBody::from_bytes(&bytes);
            let _ = MapBody::from_bytes(&bytes);
            let _ = LayoutBody::from_bytes(&bytes);
        }
    }
}
