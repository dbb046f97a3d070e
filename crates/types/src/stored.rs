//! A document as it is kept: checked, read once, and shared by everybody who keeps it.

use std::sync::{Arc, Weak};

use crate::body::{Body, NodeBody};
use crate::document::Document;
use crate::fields::FieldError;
use crate::ids::Version;
use crate::sealed::Verified;

/// A document, and what its body says.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// As received.
    pub document: Document,
    /// As read.
    pub body: Body,
    body_hash: u64,
    digest: u64,
}

impl Stored {
    /// Which of two documents of one key wins: the higher.
    pub const fn rank(&self) -> (Version, u64) {
        (self.document.version, self.body_hash)
    }

    /// What a `node` document says.
    pub const fn node_body(&self) -> Option<&NodeBody> {
        match &self.body {
            Body::Node(body) => Some(body),
            Body::Trust
            | Body::Services(_)
            | Body::Health(_)
            | Body::Forget(..)
            | Body::Map(..)
            | Body::Layout(..)
            | Body::Opaque => None,
        }
    }

    /// [`Document::digest`].
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

impl Verified<Document> {
    /// Reads what the body says.
    ///
    /// # Errors
    /// If the topic is known and its body is not what the topic says.
    pub fn read(self) -> Result<Verified<Arc<Stored>>, FieldError> {
        self.try_map(|document| {
            let body = Body::read(&document.key, &document.body)?;
            let (body_hash, digest) = (document.body_hash(), document.digest());
            Ok(Arc::new(Stored { document, body, body_hash, digest }))
        })
    }
}

impl Verified<Arc<Stored>> {
    /// The same, without keeping it.
    pub fn downgrade(&self) -> Verified<Weak<Stored>> {
        self.map(Arc::downgrade)
    }
}

impl Verified<Weak<Stored>> {
    /// The document, if anybody keeps it.
    pub fn upgrade(&self) -> Option<Verified<Arc<Stored>>> {
        self.map(Weak::upgrade).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Key, Topic};
    use crate::ids::{Epoch, NodeId};
    use crate::sealed::{MakeSeal, Seal};

    struct NoSeal;

    impl MakeSeal for NoSeal {
        fn seal(&self, _: &[u8]) -> Seal {
            Seal([0; 64])
        }
    }

    fn read(topic: &str) -> Result<Verified<Arc<Stored>>, FieldError> {
        let key = Key { owner: NodeId::from_bytes([1; 8]), topic: topic.parse().expect("a topic") };
        let version = Version { epoch: Epoch(1), sequence: 1 };
        let document = Document { key, version, body: [0].into(), seal: Seal([0; 64]) };
        Verified::seal_document(document, &NoSeal).expect("small").read()
    }

    #[test]
    fn a_body_that_is_not_what_its_topic_says_is_not_read() {
        assert!(read(Topic::NODE).is_err());
        let opaque = read("weather").expect("any body will do");
        assert_eq!(opaque.get().body, Body::Opaque);
        assert_eq!(opaque.get().digest(), opaque.get().document.digest());
        assert_eq!(opaque.get().rank().1, opaque.get().document.body_hash());
    }
}
