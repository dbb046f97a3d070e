//! The replicated documents: merging, floors and digests.
//!
//! The highest version of a key wins; of equal versions the greater body hash. Merging is commutative and idempotent.
//! Documents of owners that are not live are kept but take no part in digests, repair and joins.

use core::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_types::body::{Body, Standing};
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::ids::{Epoch, NodeId, Version};
use ringmesh_types::limits;
use ringmesh_types::sealed::Verified;
use ringmesh_types::stored::Stored;

use crate::dense;
use crate::message::{PageBuilder, Summary};

/// Buckets that a digest has.
pub const BUCKETS: usize = 256;

/// What merging a document came to.
#[derive(Debug, Clone)]
pub enum Merge {
    /// It is newer than what was there, or nothing was.
    Newer {
        /// What was there.
        before: Option<Arc<Stored>>,
        /// What is there now.
        after: Arc<Stored>,
        /// Whether both carry the same version: its owner contradicts itself.
        is_equivocation: bool,
    },
    /// It was there already.
    Same,
    /// Something newer is there: the sender should hear it.
    Older(Arc<Stored>),
    /// It may not come back.
    Floor(Epoch),
    /// What its body says is not to be believed.
    Refused(String),
    /// Its owner, or the mesh, has too many documents.
    Full,
}

/// A document and whose it is. The owner stands beside the pointer so that finding it follows none.
#[derive(Debug, Clone)]
struct Entry {
    owner: NodeId,
    stored: Arc<Stored>,
}

/// All documents that this node keeps.
///
/// Two sorted arrays, for a mesh keeps a document of each member at each member: 24 bytes for one.
#[derive(Debug)]
pub struct Registry {
    /// By owner, then topic.
    entries: Vec<Entry>,
    /// How many owners these documents have.
    owners: usize,
    live: Vec<NodeId>,
    floors: BTreeMap<NodeId, Epoch>,
    buckets: [u64; BUCKETS],
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            owners: 0,
            live: Vec::new(),
            floors: BTreeMap::new(),
            buckets: [0; BUCKETS],
        }
    }
}

impl Registry {
    /// Merges a document, if `vet` has nothing against what it says.
    pub fn merge(
        &mut self,
        document: Verified<Arc<Stored>>,
        vet: impl FnOnce(&Stored) -> Result<(), String>,
    ) -> Merge {
        let after = document.into_inner();
        let Document { key, version, body, .. } = &after.document;
        if let Some(floor) = self.floors.get(&key.owner).filter(|floor| version.epoch <= **floor) {
            return Merge::Floor(*floor);
        }
        let position = self.position(key);
        if let Ok(known) = position.map(|index| &self.entries[index].stored) {
            match known.rank().cmp(&after.rank()) {
                Ordering::Equal => return Merge::Same,
                Ordering::Greater => return Merge::Older(known.clone()),
                Ordering::Less => {}
            }
        } else if self.is_full_for(key.owner) {
            return Merge::Full;
        }
        if self.bytes_without(key) + body.len() > limits::OWNER_BYTES_MAX {
            return Merge::Full;
        }
        if let Err(why) = vet(&after) {
            return Merge::Refused(why);
        }
        self.put(position, after)
    }

    /// Where the document called `key` stands, or belongs.
    fn position(&self, key: &Key) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| {
            entry.owner.cmp(&key.owner).then_with(|| entry.stored.document.key.topic.cmp(&key.topic))
        })
    }

    /// The documents of one owner, by topic.
    fn entries_of(&self, owner: NodeId) -> &[Entry] {
        let begin = self.entries.partition_point(|entry| entry.owner < owner);
        let length = self.entries[begin..].iter().take_while(|entry| entry.owner == owner).count();
        &self.entries[begin..begin + length]
    }

    fn is_full_for(&self, owner: NodeId) -> bool {
        match self.entries_of(owner) {
            [] => self.owners >= limits::MEMBERS_MAX,
            entries => entries.len() >= limits::TOPICS_PER_OWNER_MAX,
        }
    }

    /// Body bytes of the owner's documents, but for the one called `key`.
    fn bytes_without(&self, key: &Key) -> usize {
        let documents = self.entries_of(key.owner).iter().map(|entry| &entry.stored.document);
        documents.filter(|document| document.key.topic != key.topic).map(|document| document.body.len()).sum()
    }

    fn put(&mut self, position: Result<usize, usize>, after: Arc<Stored>) -> Merge {
        let owner = after.document.key.owner;
        let before = match position {
            Ok(index) => Some(core::mem::replace(&mut self.entries[index].stored, after.clone())),
            Err(index) => {
                self.owners += usize::from(self.entries_of(owner).is_empty());
                dense::insert(&mut self.entries, index, Entry { owner, stored: after.clone() });
                None
            }
        };
        let is_equivocation =
            before.as_ref().is_some_and(|before| before.document.version == after.document.version);
        if self.is_live(owner) {
            let gone = before.as_ref().map_or(0, |before| before.digest());
            self.buckets[bucket(owner)] ^= gone ^ after.digest();
        }
        Merge::Newer { before, after, is_equivocation }
    }

    /// The document called `key`.
    pub fn stored(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.position(key).ok().map(|index| &self.entries[index].stored)
    }

    /// The document of `owner` on a constant topic.
    pub fn find(&self, owner: NodeId, topic: &str) -> Option<&Arc<Stored>> {
        let mut entries = self.entries_of(owner).iter();
        entries.find(|entry| entry.stored.document.key.topic.as_str() == topic).map(|entry| &entry.stored)
    }

    /// All documents of `owner`, `trust` and `node` first so that a reader can check and place the rest.
    pub fn documents_of(&self, owner: NodeId) -> Vec<Arc<Stored>> {
        let mut documents: Vec<_> = self.entries_of(owner).iter().map(|entry| entry.stored.clone()).collect();
        documents.sort_by_key(|stored| match stored.document.key.topic.as_str() {
            Topic::TRUST => 0,
            Topic::NODE => 1,
            _ => 2,
        });
        documents
    }

    /// Owners in order of their ids, each with its documents.
    pub fn by_owner(&self) -> impl Iterator<Item = (NodeId, impl Iterator<Item = &Arc<Stored>>)> {
        let owners = self.entries.chunk_by(|one, next| one.owner == next.owner);
        owners.map(|entries| (entries[0].owner, entries.iter().map(|entry| &entry.stored)))
    }

    /// All documents, of live owners and others.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.entries.iter().map(|entry| &entry.stored)
    }

    fn is_live(&self, owner: NodeId) -> bool {
        self.live.binary_search(&owner).is_ok()
    }

    /// Says whether documents of `owner` take part in digests, repair and joins.
    pub fn set_live(&mut self, owner: NodeId, is_live: bool) {
        match (self.live.binary_search(&owner), is_live) {
            (Ok(_), true) | (Err(_), false) => return,
            (Ok(index), false) => {
                self.live.remove(index);
            }
            (Err(index), true) => dense::insert(&mut self.live, index, owner),
        }
        let digests = self.entries_of(owner).iter().map(|entry| entry.stored.digest());
        self.buckets[bucket(owner)] ^= digests.fold(0, |sum, digest| sum ^ digest);
    }

    /// Removes all documents of `owner` and keeps its epochs up to `floor` from coming back.
    pub fn forget(&mut self, owner: NodeId, floor: Epoch) {
        self.remove(owner);
        let kept = self.floors.entry(owner).or_default();
        *kept = floor.max(*kept);
    }

    /// The epoch of `owner` that may not come back, if it was forgotten.
    pub fn floor(&self, owner: NodeId) -> Option<Epoch> {
        self.floors.get(&owner).copied()
    }

    /// Removes all documents of `owner` and any floor: it starts over.
    pub fn reset(&mut self, owner: NodeId) {
        self.remove(owner);
        self.floors.remove(&owner);
    }

    fn remove(&mut self, owner: NodeId) {
        self.set_live(owner, false);
        let before = self.entries.len();
        self.entries.retain(|entry| entry.owner != owner);
        self.owners -= usize::from(self.entries.len() < before);
    }

    /// The highest epoch in any document of `owner`, or its floor.
    pub fn epoch_known(&self, owner: NodeId) -> Option<Epoch> {
        let epochs = self.entries_of(owner).iter().map(|entry| entry.stored.document.version.epoch);
        epochs.chain(self.floor(owner)).max()
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

    /// What we have in these buckets.
    pub fn summaries(&self, buckets: &[u8]) -> Vec<Summary> {
        self.in_buckets(buckets).map(|stored| summary(stored)).collect()
    }

    /// What we have of these, whether their owners are live or not.
    pub fn summaries_of(&self, keys: impl Iterator<Item = Key>) -> Vec<Summary> {
        keys.filter_map(|key| self.stored(&key)).map(|stored| summary(stored)).collect()
    }

    fn in_buckets(&self, buckets: &[u8]) -> impl Iterator<Item = &Arc<Stored>> {
        let mut is_wanted = [false; BUCKETS];
        for index in buckets {
            is_wanted[usize::from(*index)] = true;
        }
        let entries = self.entries.iter().filter(move |entry| is_wanted[bucket(entry.owner)]);
        entries.filter(|entry| self.is_live(entry.owner)).map(|entry| &entry.stored)
    }

    /// Compares what a peer has in `buckets` with what we have: a page of what it lacks, and what we want of it.
    pub fn compare(&self, buckets: &[u8], have: &[Summary]) -> (Vec<Document>, Vec<Key>) {
        let theirs: BTreeMap<&Key, _> = have.iter().map(|summary| (&summary.key, rank(summary))).collect();
        let mut page = PageBuilder::default();
        for ours in self.in_buckets(buckets) {
            let is_lacking = theirs.get(&ours.document.key).is_none_or(|rank| *rank < ours.rank());
            if is_lacking && !page.is_full() {
                page.add(&ours.document);
            }
        }
        // A leave that they missed is in none of our digests. Nothing else of an owner that is not live is handed out: a
        // hold that has ended, or a life that is over, would begin anew with them.
        for summary in have {
            let newer = self.stored(&summary.key).filter(|stored| {
                !self.is_live(summary.key.owner) && says_leave(&stored.body) && stored.rank() > rank(summary)
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
        self.stored(&summary.key).is_none_or(|stored| stored.rank() < rank(summary))
    }

    /// A page of the catalogue: whole owners in order of id, from the first after `after`.
    pub fn page(&self, after: Option<NodeId>) -> (Vec<Document>, Option<NodeId>) {
        let begin = after.map_or(0, |after| self.entries.partition_point(|entry| entry.owner <= after));
        let mut page = PageBuilder::default();
        let mut last = None;
        for entries in self.entries[begin..].chunk_by(|one, next| one.owner == next.owner) {
            let owner = entries[0].owner;
            if !self.is_live(owner) {
                continue;
            }
            if page.is_full() {
                return (page.finish(), last);
            }
            for stored in self.documents_of(owner) {
                page.add(&stored.document);
            }
            last = Some(owner);
        }
        (page.finish(), None)
    }
}

fn summary(stored: &Stored) -> Summary {
    let (version, body_hash) = stored.rank();
    Summary { key: stored.document.key.clone(), version, body_hash }
}

/// Which of two documents of one key wins: the higher.
fn rank(summary: &Summary) -> (Version, u64) {
    (summary.version, summary.body_hash)
}

/// The bucket that the documents of `owner` are in.
pub fn bucket(owner: NodeId) -> usize {
    usize::from(owner.as_bytes()[0])
}

fn says_leave(body: &Body) -> bool {
    match body {
        Body::Node(node) => node.standing == Standing::Left,
        Body::Trust
        | Body::Services(_)
        | Body::Health(_)
        | Body::Forget(..)
        | Body::Map(..)
        | Body::Layout(..)
        | Body::Opaque => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringmesh_types::sealed::{MakeSeal, Seal};

    struct NoSeal;

    impl MakeSeal for NoSeal {
        fn seal(&self, _: &[u8]) -> Seal {
            Seal([0; 64])
        }
    }

    fn document(owner: u8, topic: &str, epoch: u64, sequence: u64, body: u8) -> Verified<Arc<Stored>> {
        let key = Key { owner: NodeId::from_bytes([owner; 8]), topic: topic.parse().expect("a topic") };
        let version = Version { epoch: Epoch(epoch), sequence };
        let document = Document { key, version, body: [body].into(), seal: Seal([0; 64]) };
        Verified::seal_document(document, &NoSeal).expect("small").read().expect("opaque")
    }

    fn registry(documents: &[Verified<Arc<Stored>>]) -> Registry {
        let mut registry = Registry::default();
        for document in documents {
            registry.set_live(document.get().document.key.owner, true);
            registry.merge(document.clone(), |_| Ok(()));
        }
        registry
    }

    #[test]
    fn an_older_document_is_answered_with_the_newer_one() {
        let mut registry = registry(&[document(1, "x", 2, 5, 0)]);
        assert!(
            matches!(registry.merge(document(1, "x", 2, 4, 0), |_| Ok(())), Merge::Older(newer) if newer.document.version.sequence == 5)
        );
        assert!(matches!(registry.merge(document(1, "x", 2, 5, 0), |_| Ok(())), Merge::Same));
        assert!(matches!(registry.merge(document(1, "x", 3, 1, 0), |_| Ok(())), Merge::Newer { .. }));
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
        assert!(matches!(registry.merge(document(1, "x", 5, 9, 0), |_| Ok(())), Merge::Floor(Epoch(5))));
        assert!(matches!(registry.merge(document(1, "x", 6, 1, 0), |_| Ok(())), Merge::Newer { .. }));
    }

    #[test]
    fn owners_are_counted_as_they_come_and_go() {
        let mut registry =
            registry(&[document(1, "x", 1, 1, 0), document(1, "y", 1, 1, 0), document(2, "x", 1, 1, 0)]);
        assert_eq!(registry.owners, 2);
        registry.reset(NodeId::from_bytes([1; 8]));
        registry.reset(NodeId::from_bytes([1; 8]));
        assert_eq!(registry.owners, 1);
        registry.forget(NodeId::from_bytes([2; 8]), Epoch(1));
        assert_eq!(registry.owners, 0);
    }

    fn node_document(standing: Standing, sequence: u64) -> Verified<Arc<Stored>> {
        let body = ringmesh_types::body::NodeBody {
            zone: "fra".parse().expect("a name"),
            region: "eu".parse().expect("a name"),
            mesh: core::net::SocketAddr::from(([10, 0, 0, 1], 7300)).into(),
            addresses: vec![[10, 0, 0, 1].into()],
            agent_version: "1".to_owned(),
            standing,
            revival: 0,
            incarnation: 0,
            started: ringmesh_types::time::WallTime::default(),
            name: "fra-1".parse().expect("a name"),
        };
        let key = Key { owner: NodeId::from_bytes([1; 8]), topic: Topic::of(Topic::NODE) };
        let version = Version { epoch: Epoch(1), sequence };
        let body = body.to_bytes().expect("small").into();
        let document = Document { key, version, body, seal: Seal([0; 64]) };
        Verified::seal_document(document, &NoSeal).expect("small").read().expect("a node document")
    }

    #[test]
    fn of_an_owner_that_is_not_live_only_its_leave_is_handed_out() {
        let handed_out = |last: Standing| {
            let before = node_document(Standing::Serving, 1);
            let owner = before.get().document.key.owner;
            let mut registry = registry(&[node_document(last, 2)]);
            registry.set_live(owner, false);
            let have = [summary(before.get())];
            registry.compare(&[], &have).0.len()
        };
        assert_eq!(handed_out(Standing::Left), 1);
        assert_eq!(handed_out(Standing::Serving), 0);
        assert_eq!(handed_out(Standing::Holding { for_ms: 1_000 }), 0);
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
            registry.merge(
                Verified::seal_document(document, &NoSeal).expect("small").read().expect("opaque"),
                |_| Ok(()),
            );
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

    fn any_document() -> impl Strategy<Value = Verified<Arc<Stored>>> {
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
                let best = documents.iter().map(Verified::get).filter(|other| other.document.key == stored.document.key)
                    .map(|other| other.rank()).max();
                prop_assert_eq!(best, Some(stored.rank()));
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
                b.merge(Verified::seal_document(Document::clone(&document), &NoSeal).expect("small").read().expect("opaque"), |_| Ok(()));
            }
            for document in for_a {
                a.merge(Verified::seal_document(document, &NoSeal).expect("small").read().expect("opaque"), |_| Ok(()));
            }
            prop_assert_eq!(a.buckets(), b.buckets());
        }
    }
}
