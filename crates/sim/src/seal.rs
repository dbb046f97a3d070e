//! Seals for simulations: a keyed hash of the same 64 bytes as the agent's signatures. The key of a node follows from its
//! id, as if a CA had vouched for it; nobody in a simulation makes a seal with a key that is not its own.

use std::sync::Arc;

use ringmesh_types::document::Topic;
use ringmesh_types::ids::NodeId;
use ringmesh_types::sealed::{CheckSeal, DocumentKey, MakeSeal, Seal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The document key of `owner`.
pub fn key_of(owner: NodeId) -> DocumentKey {
    let mut key = [0; 32];
    for (index, part) in (0_u64..).zip(key.chunks_exact_mut(8)) {
        part.copy_from_slice(&xxh3_64_with_seed(owner.as_bytes(), index).to_le_bytes());
    }
    key
}

fn seal(key: &DocumentKey, bytes: &[u8]) -> Seal {
    let mut seal = [0; 64];
    let keyed = xxh3_64_with_seed(bytes, xxh3_64_with_seed(key, 1));
    for (index, part) in (0_u64..).zip(seal.chunks_exact_mut(8)) {
        part.copy_from_slice(&keyed.wrapping_add(index).to_le_bytes());
    }
    Seal(seal)
}

/// A tagged field of which no reader of this version knows the tag: (tag, length, bytes).
pub const NEWER_FIELD: &[u8] = b"\x28\x23\x03\0\0\0sun";

/// Seals with the key of one node.
#[derive(Debug, Clone, Copy)]
pub struct SimSealer {
    /// Whose key.
    pub owner: NodeId,
    /// Whether all that it says has a field of a newer version.
    pub is_newer: bool,
}

impl SimSealer {
    /// Of a node of this version.
    pub fn of(owner: NodeId) -> Self {
        Self { owner, is_newer: false }
    }
}

impl MakeSeal for SimSealer {
    fn seal(&self, bytes: &[u8]) -> Seal {
        seal(&key_of(self.owner), bytes)
    }

    fn complete(&self, topic: &Topic, body: Arc<[u8]>) -> Arc<[u8]> {
        let has_fields = topic.as_str() != Topic::TRUST;
        if self.is_newer && has_fields { [&*body, NEWER_FIELD].concat().into() } else { body }
    }
}

/// Checks what [`SimSealer`]s sealed. A `trust` body is the key itself.
#[derive(Debug, Clone, Copy)]
pub struct SimChecker {
    /// Whether keys are known without `trust` documents.
    pub knows_keys: bool,
}

impl CheckSeal for SimChecker {
    fn is_sealed_by(&self, key: &DocumentKey, bytes: &[u8], given: &Seal) -> bool {
        seal(key, bytes) == *given
    }

    fn known_key(&self, owner: NodeId) -> Option<DocumentKey> {
        self.knows_keys.then(|| key_of(owner))
    }

    fn vouched_key(&self, owner: NodeId, trust_body: &[u8]) -> Result<DocumentKey, String> {
        if trust_body == key_of(owner) { Ok(key_of(owner)) } else { Err("not the owner's key".to_owned()) }
    }
}
