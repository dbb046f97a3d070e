//! What travels between agents besides foca's packets: the datagram envelope, pushed frames and requests.
//!
//! A datagram is the format byte, then [`Datagram`]. A unidirectional stream carries one [`Push`]. A bidirectional
//! stream carries one [`Request`] and its [`Response`]. Enum order is the schema: new variants go to the end.

use ringmesh_types::document::{Document, Key};
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId, Version};
use ringmesh_types::limits;
use ringmesh_types::name::ServiceName;
use ringmesh_types::sealed::Statement;
use serde::{Deserialize, Serialize};

use crate::plumtree::TreeMessage;
use crate::suspicion::Life;

/// The envelope of every datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Datagram {
    /// A foca packet ([`crate::codec`]).
    Packet {
        /// The sender's mesh address.
        at: MeshAddr,
        /// The packet.
        #[serde(with = "serde_bytes")]
        packet: Vec<u8>,
    },
    /// A foca packet that asks for a probe.
    Relay {
        /// The sender's mesh address.
        at: MeshAddr,
        /// The packet.
        #[serde(with = "serde_bytes")]
        packet: Vec<u8>,
        /// When to say that it got no answer, in milliseconds.
        nack_after_ms: u32,
    },
    /// "The probe that you asked for got no answer, but I hear you" (Lifeguard, DSN 2018, IV-A).
    Nack {
        /// The number of the probe.
        number: u8,
    },
    /// A foca packet to a member that the sender suspects, so that it hears of it (Lifeguard's buddy system, IV-C).
    Accused {
        /// The sender's mesh address.
        at: MeshAddr,
        /// The packet.
        #[serde(with = "serde_bytes")]
        packet: Vec<u8>,
        /// Which life of the receiver is suspected.
        life: Life,
    },
    /// A neighbour in the overlay shows what it knows, every now and then.
    Beat {
        /// Its root digest.
        root: u64,
    },
}

/// Pushed without being asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Push {
    /// Documents and accusations, small enough to send outright.
    Statements(Vec<Statement>),
    /// Documents that are too large to push: whoever lacks them pulls them.
    Announce(Vec<(Key, Version)>),
    /// News on its way to everybody: whom it is news to passes it on.
    Spread {
        /// Links that it has passed before this one.
        hops: u8,
        /// Documents and accusations, small enough to send outright.
        statements: Vec<Statement>,
    },
    /// About the tree that news spreads along.
    Tree(TreeMessage),
}

/// How the asker holds the one it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has no document of it.
    Unknown,
    /// It counts it among the serving members.
    Serving,
    /// It holds this start and revival of it Down.
    Down {
        /// The start.
        epoch: Epoch,
        /// The revival.
        revival: u32,
    },
}

/// What one document is, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// Its body's hash.
    pub body_hash: u64,
}

/// Asked over a bidirectional stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// "Here I am": opens a join, or tries a member that is held Down.
    Hello {
        /// Who asks.
        from: Identity,
        /// How the asker holds the asked.
        you_are: Standing,
        /// The asker's own documents.
        documents: Vec<Document>,
    },
    /// The catalogue, owner by owner, from the first owner after this one.
    Page {
        /// Where the last page ended.
        after: Option<NodeId>,
    },
    /// Are our catalogues the same?
    Digest {
        /// The asker's root digest.
        root: u64,
    },
    /// In these buckets I have this.
    Compare {
        /// Bucket numbers.
        #[serde(with = "serde_bytes")]
        buckets: Vec<u8>,
        /// All that the asker has in them.
        have: Vec<Summary>,
    },
    /// Send me these.
    Pull {
        /// Which documents.
        keys: Vec<Key>,
    },
    /// Do you answer? You are suspected not to.
    Look {
        /// Which life of the asked is suspected.
        life: Life,
    },
    /// About the map of a service.
    Map {
        /// The service.
        service: ServiceName,
        /// What.
        ask: MapAsk,
    },
}

/// Asked about a map. Bytes are in the wire codec, of what the node makes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapAsk {
    /// Which map do you follow?
    Followed,
    /// I lack the map with this digest.
    Find([u8; 32]),
    /// To the author: this is what the programs on this VM measured.
    Heat(#[serde(with = "serde_bytes")] Vec<u8>),
    /// To the author: what do you know of the load, and what would you do?
    Author,
    /// To the author: an operator wants this.
    Order(#[serde(with = "serde_bytes")] Vec<u8>),
    /// What is the digest of the map that you follow?
    Digest,
}

/// Why a newcomer is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Its epoch is too far ahead of the receiver's clock.
    #[error(
        "epoch {epoch} is more than a day ahead of this clock ({receiver_ms} ms): is the clock of that machine right?"
    )]
    EpochAhead {
        /// What it said.
        epoch: Epoch,
        /// What the receiver's clock says, in unix milliseconds.
        receiver_ms: u64,
    },
    /// Its epoch is not above one that was forgotten.
    #[error("epoch {epoch} was forgotten by an operator: only epochs above {floor} may come back")]
    Forgotten {
        /// What it said.
        epoch: Epoch,
        /// What it must exceed.
        floor: Epoch,
    },
}

/// Answers a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To `Hello`.
    Hello {
        /// Who answers.
        from: Identity,
        /// How the answerer holds the asker.
        you_are: Standing,
        /// The highest epoch of the asker's node that the answerer has heard of.
        epoch_known: Option<Epoch>,
        /// Why the asker is not taken in, if it is not.
        refused: Option<Refusal>,
        /// The answerer's `trust` and `node` documents.
        documents: Vec<Document>,
    },
    /// To `Page`.
    Page {
        /// Documents of whole owners, `trust` first.
        documents: Vec<Document>,
        /// Where to go on; nothing if this was the last page.
        next: Option<NodeId>,
    },
    /// To `Digest`: nothing differs.
    Same,
    /// To `Digest`: the answerer's 256 bucket digests.
    Buckets(Vec<u64>),
    /// To `Compare`.
    Difference {
        /// What the asker lacks or has older.
        documents: Vec<Document>,
        /// What the answerer lacks or has older.
        wanted: Vec<Key>,
    },
    /// To `Pull`.
    Documents(Vec<Document>),
    /// To `Look`: the life that the answerer lives now.
    Here {
        /// Its life.
        life: Life,
    },
    /// To `Page`: too many ask at once.
    Busy {
        /// Who else has the catalogue.
        instead: Vec<MeshAddr>,
    },
    /// To `Map`.
    Map(MapAnswer),
}

/// Answers a [`MapAsk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapAnswer {
    /// To `Followed` and `Find`: its bytes, if there is one.
    Map(#[serde(with = "serde_bytes")] Option<Vec<u8>>),
    /// To `Heat` and `Digest`: the digest of the map that the answerer follows.
    Digest(Option<[u8; 32]>),
    /// To `Author`: nothing if the answerer is not the author.
    Author(#[serde(with = "serde_bytes")] Option<Vec<u8>>),
    /// To `Order`: what was done, or why not.
    Done(Result<String, String>),
}

impl Response {
    /// Takes the documents out, for checking.
    pub fn take_documents(&mut self) -> Vec<Document> {
        match self {
            Self::Hello { documents, .. }
            | Self::Page { documents, .. }
            | Self::Difference { documents, .. }
            | Self::Documents(documents) => core::mem::take(documents),
            Self::Same | Self::Buckets(_) | Self::Here { .. } | Self::Busy { .. } | Self::Map(_) => {
                Vec::new()
            }
        }
    }
}

/// Adds documents to a page until it is full.
#[derive(Debug, Default)]
pub struct PageBuilder {
    documents: Vec<Document>,
    bytes: usize,
}

impl PageBuilder {
    /// Whether the page holds as much as a page should.
    pub fn is_full(&self) -> bool {
        self.bytes >= limits::PAGE_BYTES
    }

    /// Adds a document.
    pub fn add(&mut self, document: &Document) {
        self.bytes += document.body.len() + 128;
        self.documents.push(document.clone());
    }

    /// The page.
    pub fn finish(self) -> Vec<Document> {
        self.documents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plumtree::StatementId;
    use proptest::prelude::*;
    use ringmesh_types::document::Topic;
    use ringmesh_types::sealed::{Accusation, Evidence, Seal};
    use ringmesh_types::wire::{self, Channel, FORMAT};

    fn accusation() -> Accusation {
        Accusation {
            accuser: NodeId::from_bytes([1; 8]),
            subject: NodeId::from_bytes([2; 8]),
            epoch: Epoch(3),
            revival: 4,
            incarnation: 5,
            evidence: Evidence::ProbeUnanswered,
            sequence: 1,
            seal: Seal([6; 64]),
        }
    }

    fn golden<T>(channel: Channel, value: &T, want: &[u8])
    where
        T: Serialize + serde::de::DeserializeOwned + PartialEq + core::fmt::Debug,
    {
        let bytes = wire::encode(channel, value).expect("fits");
        assert_eq!(bytes, want);
        assert_eq!(&wire::decode::<T>(channel, &bytes).expect("decodes"), value);
    }

    #[test]
    fn messages_are_golden() {
        let at = MeshAddr::from(core::net::SocketAddr::from(([127, 0, 0, 1], 80)));
        let want = [FORMAT, 0, 0, 127, 0, 0, 1, 80, 1, 9];
        golden(Channel::Datagram, &Datagram::Packet { at, packet: vec![9] }, &want);
        let relay = Datagram::Relay { at, packet: vec![9], nack_after_ms: 80 };
        golden(Channel::Datagram, &relay, &[FORMAT, 1, 0, 127, 0, 0, 1, 80, 1, 9, 80]);
        golden(Channel::Datagram, &Datagram::Nack { number: 7 }, &[FORMAT, 2, 7]);
        let life = Life { epoch: Epoch(3), revival: 4, incarnation: 5 };
        let accused = Datagram::Accused { at, packet: vec![9], life };
        golden(Channel::Datagram, &accused, &[FORMAT, 3, 0, 127, 0, 0, 1, 80, 1, 9, 3, 4, 5]);
        golden(Channel::Datagram, &Datagram::Beat { root: 7 }, &[FORMAT, 4, 7]);
        let busy = Response::Busy { instead: vec![at] };
        golden(Channel::Stream, &busy, &[FORMAT, 7, 1, 0, 127, 0, 0, 1, 80]);
        golden(Channel::Stream, &Request::Look { life }, &[FORMAT, 5, 3, 4, 5]);
        golden(Channel::Stream, &Response::Here { life }, &[FORMAT, 6, 3, 4, 5]);
        let service: ServiceName = "ab".parse().expect("a name");
        let asked = |ask| Request::Map { service: service.clone(), ask };
        golden(Channel::Stream, &asked(MapAsk::Followed), &[FORMAT, 6, 2, b'a', b'b', 0]);
        let want = [&[FORMAT, 6, 2, b'a', b'b', 1], [9; 32].as_slice()].concat();
        golden(Channel::Stream, &asked(MapAsk::Find([9; 32])), &want);
        golden(Channel::Stream, &asked(MapAsk::Heat(vec![7])), &[FORMAT, 6, 2, b'a', b'b', 2, 1, 7]);
        golden(Channel::Stream, &asked(MapAsk::Author), &[FORMAT, 6, 2, b'a', b'b', 3]);
        golden(Channel::Stream, &asked(MapAsk::Order(vec![7])), &[FORMAT, 6, 2, b'a', b'b', 4, 1, 7]);
        golden(Channel::Stream, &asked(MapAsk::Digest), &[FORMAT, 6, 2, b'a', b'b', 5]);
        let answer = Response::Map(MapAnswer::Map(Some(vec![7])));
        golden(Channel::Stream, &answer, &[FORMAT, 8, 0, 1, 1, 7]);
        golden(Channel::Stream, &Response::Map(MapAnswer::Digest(None)), &[FORMAT, 8, 1, 0]);
        golden(Channel::Stream, &Response::Map(MapAnswer::Map(None)), &[FORMAT, 8, 0, 0]);
        golden(Channel::Stream, &Response::Map(MapAnswer::Author(None)), &[FORMAT, 8, 2, 0]);
        let author = Response::Map(MapAnswer::Author(Some(vec![7])));
        golden(Channel::Stream, &author, &[FORMAT, 8, 2, 1, 1, 7]);
        let done = Response::Map(MapAnswer::Done(Err("x".to_owned())));
        golden(Channel::Stream, &done, &[FORMAT, 8, 3, 1, 1, b'x']);
        let mut want = vec![FORMAT, 0, 1, 1];
        want.extend([[1; 8], [2; 8]].concat());
        want.extend([3, 4, 5, 0, 1]);
        want.extend([6; 64]);
        golden(Channel::Stream, &Push::Statements(vec![Statement::Accusation(accusation())]), &want);
        let key = Key { owner: NodeId::from_bytes([1; 8]), topic: Topic::of(Topic::TRUST) };
        let named = [[1; 8].as_slice(), &[5], b"trust"].concat();
        let version = Version { epoch: Epoch(7), sequence: 8 };
        let want = [&[FORMAT, 1, 1], named.as_slice(), &[7, 8]].concat();
        golden(Channel::Stream, &Push::Announce(vec![(key.clone(), version)]), &want);
        let want = [&[FORMAT, 4, 1], named.as_slice()].concat();
        golden(Channel::Stream, &Request::Pull { keys: vec![key.clone()] }, &want);
        let spread = Push::Spread { hops: 3, statements: Vec::new() };
        golden(Channel::Stream, &spread, &[FORMAT, 2, 3, 0]);
        let ids = vec![StatementId(5)];
        golden(Channel::Stream, &Push::Tree(TreeMessage::IHave(ids.clone())), &[FORMAT, 3, 0, 1, 5]);
        golden(Channel::Stream, &Push::Tree(TreeMessage::Graft(ids)), &[FORMAT, 3, 1, 1, 5]);
        golden(Channel::Stream, &Push::Tree(TreeMessage::Prune), &[FORMAT, 3, 2]);
        golden(Channel::Stream, &Request::Page { after: None }, &[FORMAT, 1, 0]);
        golden(Channel::Stream, &Request::Digest { root: 5 }, &[FORMAT, 2, 5]);
        let have = vec![Summary { key, version, body_hash: 9 }];
        let want = [&[FORMAT, 3, 1, 4, 1], named.as_slice(), &[7, 8, 9]].concat();
        golden(Channel::Stream, &Request::Compare { buckets: vec![4], have }, &want);
        let from = Identity { id: NodeId::from_bytes([1; 8]), epoch: Epoch(2), revival: 3, addr: at };
        let named = [[1; 8].as_slice(), &[2, 3, 0, 127, 0, 0, 1, 80]].concat();
        let you_are = Standing::Down { epoch: Epoch(4), revival: 5 };
        let want = [&[FORMAT, 0], named.as_slice(), &[2, 4, 5, 0]].concat();
        golden(Channel::Stream, &Request::Hello { from, you_are, documents: Vec::new() }, &want);
        golden(Channel::Stream, &Response::Page { documents: Vec::new(), next: None }, &[FORMAT, 1, 0, 0]);
        golden(Channel::Stream, &Response::Same, &[FORMAT, 2]);
        golden(Channel::Stream, &Response::Buckets(vec![1]), &[FORMAT, 3, 1, 1]);
        let difference = Response::Difference { documents: Vec::new(), wanted: Vec::new() };
        golden(Channel::Stream, &difference, &[FORMAT, 4, 0, 0]);
        golden(Channel::Stream, &Response::Documents(Vec::new()), &[FORMAT, 5, 0]);
        let refused = Some(Refusal::EpochAhead { epoch: Epoch(6), receiver_ms: 7 });
        let hello =
            Response::Hello { from, you_are, epoch_known: Some(Epoch(1)), refused, documents: Vec::new() };
        let want = [&[FORMAT, 0], named.as_slice(), &[2, 4, 5, 1, 1, 1, 0, 6, 7, 0]].concat();
        golden(Channel::Stream, &hello, &want);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn random_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let framed = [&[FORMAT], bytes.as_slice()].concat();
            let _ = wire::decode::<Datagram>(Channel::Datagram, &framed);
            let _ = wire::decode::<Push>(Channel::Stream, &framed);
            let _ = wire::decode::<Request>(Channel::Stream, &framed);
            let _ = wire::decode::<Response>(Channel::Stream, &framed);
        }

        #[test]
        fn mutated_statements_never_panic(at in 0_usize..100, byte in any::<u8>(), cut in 1_usize..120) {
            let push = Push::Statements(vec![Statement::Accusation(accusation())]);
            let mut bytes = wire::encode(Channel::Stream, &push).expect("fits");
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut);
            let _ = wire::decode::<Push>(Channel::Stream, &bytes);
        }
    }
}
