//! Seals: who vouches for a statement, and the proof in the type system that somebody checked.
//!
//! The machine takes only [`Verified`] statements. Drivers make them with [`Verified::check_document`] and [`Verified::check_accusation`], off the machine's task,
//! with a [`CheckSeal`] of their own: Ed25519 in the agent, a keyed hash of the same 64 bytes in simulations.

use core::fmt;
use std::sync::Arc;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::document::{Document, Topic};
use crate::ids::{Epoch, NodeId};
use crate::limits;
use crate::stored::Stored;

/// 64 bytes that only the owner of a document key can make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal(pub [u8; 64]);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Serialize for Seal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(64)?;
        for byte in &self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Seal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Seal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seal, A::Error> {
                let mut seal = [0; 64];
                for byte in &mut seal {
                    *byte = seq.next_element()?.ok_or_else(|| A::Error::custom("a seal has 64 bytes"))?;
                }
                Ok(Seal(seal))
            }
        }
        deserializer.deserialize_tuple(64, Bytes)
    }
}

/// "This member did not answer me": one vote, signed by the accuser, void as soon as the subject raises its incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accusation {
    /// Who says so.
    pub accuser: NodeId,
    /// About whom.
    pub subject: NodeId,
    /// Which start of the subject.
    pub epoch: Epoch,
    /// Which revival within that start.
    pub revival: u32,
    /// Which incarnation within that revival: a higher one refutes the accusation.
    pub incarnation: u16,
    /// What the accuser saw.
    pub evidence: Evidence,
    /// Rises with everything that the accuser says: a later statement about a life replaces an earlier one.
    pub sequence: u64,
    /// The accuser's seal over [`Accusation::sealed_bytes`].
    pub seal: Seal,
}

/// What an accuser saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Neither the direct probe nor the indirect ones were answered in time (SWIM, 3.1).
    ProbeUnanswered,
    /// The accuser takes back what it said: the subject answers it now, or it holds itself to be the one at fault.
    TakenBack,
}

impl Accusation {
    /// What the seal covers.
    pub fn sealed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"ringmesh accusation 1\0".to_vec();
        bytes.extend_from_slice(self.accuser.as_bytes());
        bytes.extend_from_slice(self.subject.as_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.revival.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.push(match self.evidence {
            Evidence::ProbeUnanswered => 0,
            Evidence::TakenBack => 1,
        });
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes
    }
}

/// Makes seals with this node's document key. Deterministic: the same bytes give the same seal.
pub trait MakeSeal {
    /// The seal over `bytes`.
    fn seal(&self, bytes: &[u8]) -> Seal;

    /// What is sealed as the body of a document of our own: `body`, and behind it fields that only the sealer knows.
    fn complete(&self, _topic: &Topic, body: Arc<[u8]>) -> Arc<[u8]> {
        body
    }
}

/// A public document key.
pub type DocumentKey = [u8; 32];

/// Checks what others sealed. Pure: the answer depends on the arguments and on what the checker was made with.
pub trait CheckSeal {
    /// Whether `seal` over `bytes` was made with `key`.
    fn is_sealed_by(&self, key: &DocumentKey, bytes: &[u8], seal: &Seal) -> bool;

    /// The document key of `owner`, where keys are known without `trust` documents.
    fn known_key(&self, _owner: NodeId) -> Option<DocumentKey> {
        None
    }

    /// The document key that a `trust` body vouches for.
    ///
    /// # Errors
    /// Why the body does not prove that `owner` holds that key.
    fn vouched_key(&self, owner: NodeId, trust_body: &[u8]) -> Result<DocumentKey, String>;
}

/// Why a statement was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The body is larger than its topic allows.
    #[error("the body has {0} bytes, its topic allows {1}")]
    TooLarge(usize, usize),
    /// The seal is not the owner's.
    #[error("the seal is not the owner's")]
    WrongSeal,
}

/// A statement whose seal somebody has checked. There is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The statement.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The statement, owned.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// Another view of the same statement.
    pub(crate) fn map<U>(&self, map: impl FnOnce(&T) -> U) -> Verified<U> {
        Verified(map(&self.0))
    }

    /// Another form of the same statement.
    pub(crate) fn try_map<U, E>(self, map: impl FnOnce(T) -> Result<U, E>) -> Result<Verified<U>, E> {
        map(self.0).map(Verified)
    }
}

impl<T> Verified<Option<T>> {
    pub(crate) fn transpose(self) -> Option<Verified<T>> {
        self.0.map(Verified)
    }
}

impl Verified<Document> {
    /// Checks a document's size and its owner's seal.
    ///
    /// # Errors
    /// Says which of the two is wrong.
    pub fn check_document(
        document: Document,
        key: &DocumentKey,
        checker: &impl CheckSeal,
    ) -> Result<Self, SealError> {
        let allowed = document.key.topic.body_bytes_max();
        if document.body.len() > allowed {
            return Err(SealError::TooLarge(document.body.len(), allowed));
        }
        let bytes = Document::sealed_bytes(&document.key, document.version, &document.body);
        if !checker.is_sealed_by(key, &bytes, &document.seal) {
            return Err(SealError::WrongSeal);
        }
        Ok(Self(document))
    }

    /// Seals a document of our own.
    ///
    /// # Errors
    /// If the body is larger than its topic allows.
    pub fn seal_document(
        mut document: Document,
        sealer: &(impl MakeSeal + ?Sized),
    ) -> Result<Self, SealError> {
        document.body = sealer.complete(&document.key.topic, document.body);
        let allowed = document.key.topic.body_bytes_max();
        if document.body.len() > allowed {
            return Err(SealError::TooLarge(document.body.len(), allowed));
        }
        document.seal = sealer.seal(&Document::sealed_bytes(&document.key, document.version, &document.body));
        Ok(Self(document))
    }
}

impl Verified<Accusation> {
    /// Checks an accusation's seal.
    ///
    /// # Errors
    /// If it is not the accuser's.
    pub fn check_accusation(
        accusation: Accusation,
        key: &DocumentKey,
        checker: &impl CheckSeal,
    ) -> Result<Self, SealError> {
        if !checker.is_sealed_by(key, &accusation.sealed_bytes(), &accusation.seal) {
            return Err(SealError::WrongSeal);
        }
        Ok(Self(accusation))
    }

    /// Seals an accusation of our own.
    pub fn seal_accusation(mut accusation: Accusation, sealer: &(impl MakeSeal + ?Sized)) -> Self {
        accusation.seal = sealer.seal(&accusation.sealed_bytes());
        Self(accusation)
    }
}

/// A statement on its way: a document or an accusation, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// What an owner says about a topic.
    Document(Document),
    /// What an accuser says about a subject.
    Accusation(Accusation),
}

impl Statement {
    /// Whose seal it carries.
    pub fn speaker(&self) -> NodeId {
        match self {
            Self::Document(document) => document.key.owner,
            Self::Accusation(accusation) => accusation.accuser,
        }
    }

    /// About how many bytes it has on the wire.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Document(document) => document.body.len() + 128,
            Self::Accusation(_) => 128,
        }
    }
}

/// A checked statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifiedStatement {
    /// What an owner says about a topic.
    Document(Verified<Arc<Stored>>),
    /// What an accuser says about a subject.
    Accusation(Verified<Accusation>),
    /// An owner's seal on something that is not what its topic says: whose, and what is wrong with it.
    Unreadable(NodeId, String),
}

const _: () = assert!(limits::BATCH_STATEMENTS_MAX > 0, "a batch holds something");
