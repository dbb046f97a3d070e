//! Documents: the one kind of thing that is replicated. A document is what one owner says about one topic; the highest
//! version wins, so merging is commutative and idempotent and a withdrawn service needs no tombstone.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::ids::{NodeId, Version};
use crate::limits;
use crate::name::ServiceName;
use crate::sealed::Seal;

/// What a document is about. Unknown topics are kept and forwarded, never interpreted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(Arc<str>);

/// Why a text is not a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a topic is 1 to {max} bytes of a-z, 0-9, '-' and '/', this is {0:?}", max = limits::TOPIC_BYTES_MAX)]
pub struct TopicError(String);

impl Topic {
    /// Name, zone, region, addresses and standing of the owner ([`crate::body::NodeBody`]).
    pub const NODE: &str = "node";
    /// Certificate chain and document key of the owner ([`crate::body::TrustBody`]).
    pub const TRUST: &str = "trust";
    /// Instances that run on the owner ([`crate::body::ServicesBody`]).
    pub const SERVICES: &str = "services";
    /// State of each endpoint of these instances ([`crate::body::HealthBody`]).
    pub const HEALTH: &str = "health";
    const FORGET: &str = "forget/";
    const MAP: &str = "map/";
    const LAYOUT: &str = "layout/";

    /// One of the constant topics above.
    pub fn of(constant: &'static str) -> Self {
        Self(constant.into())
    }

    /// The topic of an order to forget `subject`.
    pub fn forget(subject: NodeId) -> Self {
        Self(format!("{}{subject}", Self::FORGET).into())
    }

    /// Who is to be forgotten, if this topic orders that.
    pub fn forgets(&self) -> Option<NodeId> {
        self.0.strip_prefix(Self::FORGET).and_then(|id| id.parse().ok())
    }

    /// The topic of how the keys of `service` are to be spread ([`crate::body::MapBody`]).
    pub fn map(service: &ServiceName) -> Self {
        Self(format!("{}{service}", Self::MAP).into())
    }

    /// The service whose map this topic defines, if it does.
    pub fn maps(&self) -> Option<ServiceName> {
        self.0.strip_prefix(Self::MAP).and_then(|name| name.parse().ok())
    }

    /// The topic of a generation of the map of `service` ([`crate::body::LayoutBody`]).
    pub fn layout(service: &ServiceName) -> Self {
        Self(format!("{}{service}", Self::LAYOUT).into())
    }

    /// The service whose keys this topic lays out, if it does.
    pub fn lays_out(&self) -> Option<ServiceName> {
        self.0.strip_prefix(Self::LAYOUT).and_then(|name| name.parse().ok())
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes that a body of this topic may have.
    pub fn body_bytes_max(&self) -> usize {
        match self.as_str() {
            Self::NODE | Self::TRUST | Self::HEALTH => limits::SMALL_BODY_BYTES_MAX,
            Self::SERVICES => limits::SERVICES_BODY_BYTES_MAX,
            topic if topic.starts_with(Self::FORGET) => limits::SMALL_BODY_BYTES_MAX,
            topic if topic.starts_with(Self::MAP) => limits::SERVICES_BODY_BYTES_MAX,
            _ => limits::BODY_BYTES_MAX,
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-/".contains(&byte);
        if text.is_empty() || text.len() > limits::TOPIC_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(TopicError(text.chars().take(100).collect()));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        text.parse()
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> Self {
        topic.0.to_string()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a document is called: whose it is and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Who alone may write it.
    pub owner: NodeId,
    /// What it is about.
    pub topic: Topic,
}

/// A document as it travels: nobody has checked it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it is called.
    pub key: Key,
    /// Which one it is.
    pub version: Version,
    /// Tagged fields ([`crate::fields`]), kept and forwarded as received.
    #[serde(with = "shared_bytes")]
    pub body: Arc<[u8]>,
    /// The owner's seal over [`Document::sealed_bytes`].
    pub seal: Seal,
}

/// A run of bytes at once, and not one by one as serde takes a slice; the same bytes on the wire.
mod shared_bytes {
    use std::sync::Arc;

    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        serde_bytes::deserialize::<Vec<u8>, D>(deserializer).map(Arc::from)
    }
}

impl Document {
    /// What the seal covers: a label, the key, the version and the body.
    pub fn sealed_bytes(key: &Key, version: Version, body: &[u8]) -> Vec<u8> {
        let topic = key.topic.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(48 + topic.len() + body.len());
        bytes.extend_from_slice(b"ringmesh document 1\0");
        bytes.extend_from_slice(key.owner.as_bytes());
        bytes.push(u8::try_from(topic.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(topic);
        bytes.extend_from_slice(&version.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&version.sequence.to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// A hash of the body: equal versions with different hashes are equivocation.
    pub fn body_hash(&self) -> u64 {
        xxh3_64(&self.body)
    }

    /// A hash of key, version and body: what digests add up.
    pub fn digest(&self) -> u64 {
        let mut hasher = Xxh3::new();
        hasher.update(self.key.owner.as_bytes());
        hasher.update(self.key.topic.as_str().as_bytes());
        hasher.update(&self.version.epoch.0.to_le_bytes());
        hasher.update(&self.version.sequence.to_le_bytes());
        hasher.update(&self.body_hash().to_le_bytes());
        hasher.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::wire::{self, Channel};

    #[test]
    fn a_document_is_golden_on_the_wire() {
        let document = Document {
            key: Key { owner: NodeId::from_bytes([1; 8]), topic: Topic::of(Topic::NODE) },
            version: Version { epoch: Epoch(300), sequence: 2 },
            body: [9, 8].into(),
            seal: Seal([7; 64]),
        };
        let mut want =
            vec![wire::FORMAT, 1, 1, 1, 1, 1, 1, 1, 1, 4, b'n', b'o', b'd', b'e', 251, 44, 1, 2, 2, 9, 8];
        want.extend_from_slice(&[7; 64]);
        let bytes = wire::encode(Channel::Stream, &document).expect("fits");
        assert_eq!(bytes, want);
        assert_eq!(wire::decode(Channel::Stream, &bytes), Ok(document));
    }

    #[test]
    fn a_topic_says_whom_it_forgets() {
        let id = NodeId::from_bytes([2; 8]);
        assert_eq!(Topic::forget(id).forgets(), Some(id));
        assert_eq!(Topic::of(Topic::NODE).forgets(), None);
        let limiter: ServiceName = "limiter".parse().expect("a name");
        assert_eq!(Topic::map(&limiter).maps(), Some(limiter.clone()));
        assert_eq!(Topic::layout(&limiter).lays_out(), Some(limiter.clone()));
        assert_eq!((Topic::map(&limiter).lays_out(), Topic::layout(&limiter).maps()), (None, None));
        for bad in ["", "Node", "a b", &"a".repeat(73)] {
            assert!(bad.parse::<Topic>().is_err(), "{bad}");
        }
    }
}
