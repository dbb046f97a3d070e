//! The replicated documents: merging, floors and digests.
//!
//! The highest version of a key wins; of equal versions the greater body hash. Merging is commutative and idempotent.
//! Documents of owners that are not live are kept but take no part in digests, repair and joins.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_types::body::{Body, Standing};
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::limits;
use ringmesh_types::sealed::Verified;

use crate::message::{PageBuilder, Summary};

/// Buckets that a digest has.
pub const BUCKETS: usize = 256;

/// A document and what its body says.
#[derive(Debug, Clone)]
pub struct Stored {
    /// As received.
    pub document: Arc<Document>,
    /// As read.
    pub body: Arc<Body>,
}

/// What merging a document came to.
#[derive(Debug, Clone)]
pub enum Merge {
    /// It is newer than what was there, or nothing was.
    Newer {
        /// What was there.
        before: Option<Stored>,
        /// What is there now.
        after: Stored,
        /// Whether both carry the same version: its owner contradicts itself.
        is_equivocation: bool,
    },
    /// It was there already.
    Same,
    /// Something newer is there: the sender should hear it.
    Older(Arc<Document>),
    /// It may not come back.
    Floor(Epoch),
    /// Its body is not what its topic says, or is not to be believed.
    Refused(String),
    /// Its owner, or the mesh, has too many documents.
    Full,
}

#[derive(Debug, Default)]
struct Owner {
    documents: BTreeMap<Topic, Stored>,
    is_live: bool,
}

impl Owner {
    fn digest(&self) -> u64 {
        self.documents.values().fold(0, |sum, stored| sum ^ stored.document.digest())
    }
}

/// All documents that this node keeps.
#[derive(Debug)]
pub struct Registry {
    owners: BTreeMap<NodeId, Owner>,
    floors: BTreeMap<NodeId, Epoch>,
    buckets: [u64; BUCKETS],
}

impl Default for Registry {
    fn default() -> Self {
        Self { owners: BTreeMap::new(), floors: BTreeMap::new(), buckets: [0; BUCKETS] }
    }
}

impl Registry {
    /// Merges a document, if `vet` has nothing against what its body says.
    pub fn merge(
        &mut self,
        document: Verified<Document>,
        vet: impl FnOnce(&Document, &Body) -> Result<(), String>,
    ) -> Merge {
        let document = document.into_inner();
        let key = document.key.clone();
        if let Some(floor) = self.floors.get(&key.owner).filter(|floor| document.version.epoch <= **floor) {
            return Merge::Floor(*floor);
        }
        if let Some(known) = self.stored(&key) {
            let rank = |document: &Document| (document.version, document.body_hash());
            if rank(&known.document) == rank(&document) {
                return Merge::Same;
            }
            if rank(&known.document) > rank(&document) {
                return Merge::Older(known.document.clone());
            }
        } else if self.is_full_for(key.owner) {
            return Merge::Full;
        }
        if self.bytes_without(&key) + document.body.len() > limits::OWNER_BYTES_MAX {
            return Merge::Full;
        }
        match Body::read(&key, &document.body) {
            Ok(body) => match vet(&document, &body) {
                Ok(()) => self.put(Stored { document: Arc::new(document), body: Arc::new(body) }),
                Err(why) => Merge::Refused(why),
            },
            Err(error) => Merge::Refused(error.to_string()),
        }
    }

    fn is_full_for(&self, owner: NodeId) -> bool {
        match self.owners.get(&owner) {
            Some(owner) => owner.documents.len() >= limits::TOPICS_PER_OWNER_MAX,
            None => self.owners.len() >= limits::MEMBERS_MAX,
        }
    }

    /// Body bytes of the owner's documents, but for the one called `key`.
    fn bytes_without(&self, key: &Key) -> usize {
        let documents = self.owners.get(&key.owner).into_iter().flat_map(|owner| &owner.documents);
        documents
            .filter(|(topic, _)| **topic != key.topic)
            .map(|(_, stored)| stored.document.body.len())
            .sum()
    }

    fn put(&mut self, after: Stored) -> Merge {
        let key = after.document.key.clone();
        let owner = self.owners.entry(key.owner).or_default();
        let before = owner.documents.insert(key.topic, after.clone());
        let is_equivocation =
            before.as_ref().is_some_and(|before| before.document.version == after.document.version);
        if owner.is_live {
            let gone = before.as_ref().map_or(0, |before| before.document.digest());
            self.buckets[bucket(key.owner)] ^= gone ^ after.document.digest();
        }
        Merge::Newer { before, after, is_equivocation }
    }

    /// The document called `key`.
    pub fn stored(&self, key: &Key) -> Option<&Stored> {
        self.owners.get(&key.owner)?.documents.get(&key.topic)
    }

    /// The document of `owner` on a constant topic.
    pub fn find(&self, owner: NodeId, topic: &'static str) -> Option<&Stored> {
        self.stored(&Key { owner, topic: Topic::of(topic) })
    }

    /// All documents of `owner`, `trust` and `node` first so that a reader can check and place the rest.
    pub fn documents_of(&self, owner: NodeId) -> Vec<Arc<Document>> {
        let Some(owner) = self.owners.get(&owner) else {
            return Vec::new();
        };
        let mut documents: Vec<_> = owner.documents.values().map(|stored| stored.document.clone()).collect();
        documents.sort_by_key(|document| match document.key.topic.as_str() {
            Topic::TRUST => 0,
            Topic::NODE => 1,
            _ => 2,
        });
        documents
    }

    /// All documents, of live owners and others.
    pub fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.owners.values().flat_map(|owner| owner.documents.values())
    }

    /// Owners of at least one document.
    pub fn owners(&self) -> impl Iterator<Item = NodeId> {
        self.owners.keys().copied()
    }

    /// Says whether documents of `owner` take part in digests, repair and joins.
    pub fn set_live(&mut self, id: NodeId, is_live: bool) {
        let owner = self.owners.entry(id).or_default();
        if owner.is_live != is_live {
            owner.is_live = is_live;
            self.buckets[bucket(id)] ^= owner.digest();
        }
    }

    /// Removes all documents of `owner` and keeps its epochs up to `floor` from coming back.
    pub fn forget(&mut self, id: NodeId, floor: Epoch) {
        self.set_live(id, false);
        self.owners.remove(&id);
        let kept = self.floors.entry(id).or_default();
        *kept = floor.max(*kept);
    }

    /// The epoch of `owner` that may not come back, if it was forgotten.
    pub fn floor(&self, owner: NodeId) -> Option<Epoch> {
        self.floors.get(&owner).copied()
    }

    /// Removes all documents of `owner` and any floor: it starts over.
    pub fn reset(&mut self, owner: NodeId) {
        self.set_live(owner, false);
        self.owners.remove(&owner);
        self.floors.remove(&owner);
    }

    /// The highest epoch in any document of `owner`, or its floor.
    pub fn epoch_known(&self, id: NodeId) -> Option<Epoch> {
        let documents = self.owners.get(&id).into_iter().flat_map(|owner| owner.documents.values());
        documents.map(|stored| stored.document.version.epoch).chain(self.floor(id)).max()
    }

    /// One number over all documents of live owners.
    pub fn root(&self) -> u64 {
        self.buckets.iter().enumerate().fold(0, |sum, (index, digest)| {
            sum ^ digest.rotate_left(u32::try_from(index % 64).unwrap_or_default())
        })
    }

    /// One number per bucket.
    pub fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// The buckets in which `theirs` differs from ours.
    pub fn differing(&self, theirs: &[u64]) -> Vec<u8> {
        (0..=u8::MAX)
            .filter(|index| theirs.get(usize::from(*index)) != self.buckets.get(usize::from(*index)))
            .collect()
    }

    fn live(&self) -> impl Iterator<Item = (&NodeId, &Owner)> {
        self.owners.iter().filter(|(_, owner)| owner.is_live)
    }

    /// What we have in these buckets.
    pub fn summaries(&self, buckets: &[u8]) -> Vec<Summary> {
        let mut is_wanted = [false; BUCKETS];
        for index in buckets {
            is_wanted[usize::from(*index)] = true;
        }
        self.live()
            .filter(|(id, _)| is_wanted[bucket(**id)])
            .flat_map(|(_, owner)| owner.documents.values())
            .map(|stored| Summary {
                key: stored.document.key.clone(),
                version: stored.document.version,
                body_hash: stored.document.body_hash(),
            })
            .collect()
    }

    /// Compares what a peer has in `buckets` with what we have: a page of what it lacks, and what we want of it.
    pub fn compare(&self, buckets: &[u8], have: &[Summary]) -> (Vec<Document>, Vec<Key>) {
        let theirs: BTreeMap<&Key, (_, u64)> =
            have.iter().map(|summary| (&summary.key, (summary.version, summary.body_hash))).collect();
        let mut page = PageBuilder::default();
        for ours in self.summaries(buckets) {
            let is_lacking = theirs.get(&ours.key).is_none_or(|rank| *rank < (ours.version, ours.body_hash));
            if let Some(stored) = self.stored(&ours.key).filter(|_| is_lacking && !page.is_full()) {
                page.add(&stored.document);
            }
        }
        // A leave that they missed is in none of our digests. Nothing else of an owner that is not live is handed out: a
        // hold that has ended, or a life that is over, would begin anew with them.
        for summary in have {
            let newer = self.stored(&summary.key).filter(|stored| {
                let is_live = self.owners.get(&summary.key.owner).is_some_and(|owner| owner.is_live);
                !is_live
                    && says_leave(&stored.body)
                    && (stored.document.version, stored.document.body_hash())
                        > (summary.version, summary.body_hash)
            });
            if let Some(stored) = newer.filter(|_| !page.is_full()) {
                page.add(&stored.document);
            }
        }
        let wanted = have.iter().filter(|summary| self.wants(summary)).map(|summary| summary.key.clone());
        (page.finish(), wanted.take(limits::BATCH_STATEMENTS_MAX).collect())
    }

    /// Whether a peer's document is newer than ours.
    fn wants(&self, summary: &Summary) -> bool {
        if self.floor(summary.key.owner).is_some_and(|floor| summary.version.epoch <= floor) {
            return false;
        }
        self.stored(&summary.key).is_none_or(|stored| {
            (stored.document.version, stored.document.body_hash()) < (summary.version, summary.body_hash)
        })
    }

    /// A page of the catalogue: whole owners in order of id, from the first after `after`.
    pub fn page(&self, after: Option<NodeId>) -> (Vec<Document>, Option<NodeId>) {
        let mut page = PageBuilder::default();
        let mut last = None;
        for (id, _) in self.live().filter(|(id, _)| after.is_none_or(|after| **id > after)) {
            if page.is_full() {
                return (page.finish(), last);
            }
            for document in self.documents_of(*id) {
                page.add(&document);
            }
            last = Some(*id);
        }
        (page.finish(), None)
    }
}

fn bucket(owner: NodeId) -> usize {
    usize::from(owner.as_bytes()[0])
}

fn says_leave(body: &Body) -> bool {
    match body {
        Body::Node(node) => node.standing == Standing::Left,
        Body::Trust | Body::Services(_) | Body::Health(_) | Body::Forget(..) | Body::Opaque => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringmesh_types::ids::Version;
    use ringmesh_types::sealed::{MakeSeal, Seal};

    struct NoSeal;

    impl MakeSeal for NoSeal {
        fn seal(&self, _: &[u8]) -> Seal {
            Seal([0; 64])
        }
    }

    fn document(owner: u8, topic: &str, epoch: u64, sequence: u64, body: u8) -> Verified<Document> {
        let key = Key { owner: NodeId::from_bytes([owner; 8]), topic: topic.parse().expect("a topic") };
        let version = Version { epoch: Epoch(epoch), sequence };
        let document = Document { key, version, body: [body].into(), seal: Seal([0; 64]) };
        Verified::seal_document(document, &NoSeal).expect("small")
    }

    fn registry(documents: &[Verified<Document>]) -> Registry {
        let mut registry = Registry::default();
        for document in documents {
            registry.set_live(document.get().key.owner, true);
            registry.merge(document.clone(), |_, _| Ok(()));
        }
        registry
    }

    #[test]
    fn an_older_document_is_answered_with_the_newer_one() {
        let mut registry = registry(&[document(1, "x", 2, 5, 0)]);
        assert!(
            matches!(registry.merge(document(1, "x", 2, 4, 0), |_, _| Ok(())), Merge::Older(newer) if newer.version.sequence == 5)
        );
        assert!(matches!(registry.merge(document(1, "x", 2, 5, 0), |_, _| Ok(())), Merge::Same));
        assert!(matches!(registry.merge(document(1, "x", 3, 1, 0), |_, _| Ok(())), Merge::Newer { .. }));
    }

    #[test]
    fn two_bodies_under_one_version_are_equivocation_and_one_wins_everywhere() {
        let (a, b) = (document(1, "x", 1, 1, 7), document(1, "x", 1, 1, 8));
        let (one, two) = (registry(&[a.clone(), b.clone()]), registry(&[b, a]));
        assert_eq!(one.root(), two.root());
    }

    #[test]
    fn what_was_forgotten_stays_away_until_a_higher_epoch() {
        let mut registry = registry(&[document(1, "x", 5, 1, 0)]);
        registry.forget(NodeId::from_bytes([1; 8]), Epoch(5));
        assert_eq!(registry.root(), 0);
        assert!(matches!(registry.merge(document(1, "x", 5, 9, 0), |_, _| Ok(())), Merge::Floor(Epoch(5))));
        assert!(matches!(registry.merge(document(1, "x", 6, 1, 0), |_, _| Ok(())), Merge::Newer { .. }));
    }

    #[test]
    fn a_body_that_is_not_what_its_topic_says_is_refused() {
        assert!(matches!(
            Registry::default().merge(document(1, "node", 1, 1, 0), |_, _| Ok(())),
            Merge::Refused(_)
        ));
        assert!(matches!(
            Registry::default().merge(document(1, "weather", 1, 1, 0), |_, _| Ok(())),
            Merge::Newer { .. }
        ));
    }

    #[test]
    fn only_live_owners_take_part_in_digests_and_pages() {
        let mut registry = registry(&[document(1, "x", 1, 1, 0), document(2, "x", 1, 1, 0)]);
        let both = registry.root();
        registry.set_live(NodeId::from_bytes([2; 8]), false);
        assert_ne!(registry.root(), both);
        assert_eq!(registry.page(None).0.len(), 1);
        registry.set_live(NodeId::from_bytes([2; 8]), true);
        assert_eq!(registry.root(), both);
    }

    #[test]
    fn pages_hold_every_document_once() {
        let body = vec![0_u8; 50_000];
        let mut registry = Registry::default();
        for owner in 0..10 {
            let key = Key { owner: NodeId::from_bytes([owner; 8]), topic: "x".parse().expect("a topic") };
            let version = Version { epoch: Epoch(1), sequence: 1 };
            let document = Document { key, version, body: body.clone().into(), seal: Seal([0; 64]) };
            registry.set_live(document.key.owner, true);
            registry.merge(Verified::seal_document(document, &NoSeal).expect("small"), |_, _| Ok(()));
        }
        let (mut owners, mut after) = (Vec::new(), None);
        loop {
            let (documents, next) = registry.page(after);
            owners.extend(documents.iter().map(|document| document.key.owner));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(owners, (0..10).map(|owner| NodeId::from_bytes([owner; 8])).collect::<Vec<_>>());
    }

    fn any_document() -> impl Strategy<Value = Verified<Document>> {
        (0_u8..3, prop_oneof!["x", "y"], 1_u64..3, 1_u64..4, 0_u8..2)
            .prop_map(|(owner, topic, epoch, sequence, body)| document(owner, &topic, epoch, sequence, body))
    }

    proptest! {
        #[test]
        fn merging_is_commutative_idempotent_and_never_goes_back(
            documents in proptest::collection::vec(any_document(), 0..12),
            order in any::<u64>(),
        ) {
            let mut shuffled = documents.clone();
            let mut state = order;
            for index in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(index, usize::try_from(state >> 33).expect("31 bits") % (index + 1));
            }
            shuffled.extend(documents.clone());
            let (one, two) = (registry(&documents), registry(&shuffled));
            prop_assert_eq!(one.root(), two.root());
            for stored in one.iter() {
                let best = documents.iter().map(Verified::get).filter(|document| document.key == stored.document.key)
                    .map(|document| (document.version, document.body_hash())).max();
                prop_assert_eq!(best, Some((stored.document.version, stored.document.body_hash())));
            }
        }

        #[test]
        fn comparing_and_merging_both_ways_makes_two_registries_one(
            a in proptest::collection::vec(any_document(), 0..12),
            b in proptest::collection::vec(any_document(), 0..12),
        ) {
            let (mut a, mut b) = (registry(&a), registry(&b));
            for owner in 0..3 {
                a.set_live(NodeId::from_bytes([owner; 8]), true);
                b.set_live(NodeId::from_bytes([owner; 8]), true);
            }
            let buckets = a.differing(b.buckets());
            let (for_a, wanted) = b.compare(&buckets, &a.summaries(&buckets));
            for key in wanted {
                let document = a.stored(&key).expect("a said it has it").document.clone();
                b.merge(Verified::seal_document(Document::clone(&document), &NoSeal).expect("small"), |_, _| Ok(()));
            }
            for document in for_a {
                a.merge(Verified::seal_document(document, &NoSeal).expect("small"), |_, _| Ok(()));
            }
            prop_assert_eq!(a.buckets(), b.buckets());
        }
    }
}
