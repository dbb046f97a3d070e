//! How a statement reaches everybody once: a tree within the overlay that grows where news passes first and prunes itself
//! where it comes twice (Plumtree, SRDS 2007).
//!
//! Over **eager** links statements are pushed; over the others, which are **lazy**, only announced by their ids. Whoever is
//! pushed what it has already, several times in a row, makes that link lazy and says so (prune): where news of several
//! origins crosses, each link is first with some of it. Whoever hears of something that does not come asks who announced
//! it (graft), and the link is eager again: so a broken tree mends itself with the next statement. New links begin eager.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringmesh_types::ids::NodeId;
use ringmesh_types::sealed::{Accusation, Statement};
use ringmesh_types::stored::Stored;
use ringmesh_types::time::Instant;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// So many pushes in a row that bring nothing new make a link lazy.
const REPEATS_MAX: u8 = 3;
/// Then the next that announced it is asked.
const GRAFT_AGAIN: Duration = Duration::from_millis(500);
/// Statements that are known to have been seen.
const SEEN_MAX: usize = 2_048;
/// Bytes of those among them that are kept for neighbours that lack them, the latest one apart: more than a thousand small
/// ones. Read, a document takes several times as much memory.
const KEPT_BYTES_MAX: usize = 512 << 10;
/// What a statement takes beside its body, about.
const STATEMENT_BYTES: usize = 128;
/// Statements that were announced and have not come, at most.
const MISSING_MAX: usize = 1_024;
/// Of each so many are remembered that have it.
const ANNOUNCERS_MAX: usize = 8;
/// Ids in one message at most.
pub const IDS_MAX: usize = 512;

/// Names a statement: a hash of its seal, which covers all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatementId(pub u64);

/// A statement as it is kept for those that lack it.
#[derive(Debug, Clone)]
pub enum Kept {
    /// A document.
    Document(Arc<Stored>),
    /// An accusation.
    Accusation(Arc<Accusation>),
}

impl Kept {
    /// Its name.
    pub fn id(&self) -> StatementId {
        let seal = match self {
            Self::Document(stored) => &stored.document.seal,
            Self::Accusation(accusation) => &accusation.seal,
        };
        StatementId(xxh3_64(&seal.0))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Document(stored) => stored.document.body.len() + STATEMENT_BYTES,
            Self::Accusation(_) => STATEMENT_BYTES,
        }
    }

    /// As it is sent.
    pub fn statement(&self) -> Statement {
        match self {
            Self::Document(stored) => Statement::Document(stored.document.clone()),
            Self::Accusation(accusation) => Statement::Accusation(Accusation::clone(accusation)),
        }
    }
}

/// What neighbours say about the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeMessage {
    /// "I have these."
    IHave(Vec<StatementId>),
    /// "Send me these, and from now on push to me."
    Graft(Vec<StatementId>),
    /// "You pushed what I had: only announce from now on."
    Prune,
}

/// Whom to send what.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The statements themselves.
    pub eager: Vec<NodeId>,
    /// Their ids.
    pub lazy: Vec<NodeId>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Statements that were pushed to us and were news.
    pub fresh: u64,
    /// Statements that were pushed to us and that we had: per fresh one, the tree's redundancy.
    pub repeated: u64,
    /// Hops that the statement took that came over the most.
    pub hops_max: u8,
    /// Links that were pruned by us.
    pub prunes: u64,
    /// Statements that we had to ask for.
    pub grafts: u64,
}

#[derive(Debug)]
struct Missing {
    announcers: VecDeque<NodeId>,
    due: Instant,
}

/// What was seen, and who brought it first.
#[derive(Debug, Default)]
struct Seen {
    by: BTreeMap<StatementId, Option<NodeId>>,
    /// The oldest first.
    order: VecDeque<StatementId>,
}

impl Seen {
    /// Adds what was not seen yet, in place of the oldest if there are too many.
    fn add(&mut self, id: StatementId, by: Option<NodeId>) {
        if self.order.len() >= SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by.remove(&oldest);
        }
        self.order.push_back(id);
        self.by.insert(id, by);
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    is_eager: bool,
    /// Pushes in a row that brought nothing new.
    repeats: u8,
}

/// The eager and the lazy links of one node, and what it has seen.
#[derive(Debug, Default)]
pub struct Plumtree {
    links: BTreeMap<NodeId, Link>,
    seen: Seen,
    /// The latest of them, as they are.
    kept: VecDeque<(StatementId, Kept)>,
    kept_bytes: usize,
    missing: BTreeMap<StatementId, Missing>,
    stats: Stats,
}

impl Plumtree {
    /// These are the links now. New ones are eager, and so are all once one is gone: it may have been what held the tree
    /// together here. Gives back the new ones.
    pub fn set_links(&mut self, links: &[NodeId]) -> Vec<NodeId> {
        let before = self.links.len();
        self.links.retain(|id, _| links.contains(id));
        if self.links.len() < before {
            self.links.values_mut().for_each(|link| *link = Link { is_eager: true, repeats: 0 });
        }
        let new: Vec<NodeId> = links.iter().filter(|id| !self.links.contains_key(*id)).copied().collect();
        self.links.extend(new.iter().map(|id| (*id, Link { is_eager: true, repeats: 0 })));
        new
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How many links are eager.
    pub fn eager_links(&self) -> usize {
        self.links.values().filter(|link| link.is_eager).count()
    }

    /// Whether a statement was seen already.
    pub fn has_seen(&self, id: StatementId) -> bool {
        self.seen.by.contains_key(&id)
    }

    fn find_kept(&self, id: StatementId) -> Option<Kept> {
        self.kept.iter().rev().find(|(other, _)| *other == id).map(|(_, kept)| kept.clone())
    }

    /// A statement is known from now on, first brought by that member. Says whether it was not known yet.
    pub fn see(&mut self, kept: &Kept, by: Option<NodeId>) -> bool {
        let id = kept.id();
        self.missing.remove(&id);
        if self.has_seen(id) {
            return false;
        }
        self.seen.add(id, by);
        self.keep(id, kept);
        true
    }

    fn keep(&mut self, id: StatementId, kept: &Kept) {
        self.kept_bytes += kept.bytes();
        self.kept.push_back((id, kept.clone()));
        while self.kept_bytes > KEPT_BYTES_MAX && self.kept.len() > 1 {
            let Some((_, dropped)) = self.kept.pop_front() else {
                return;
            };
            self.kept_bytes -= dropped.bytes();
        }
    }

    /// A neighbour pushed so many statements that were news, and these that were not. Says whether to prune the link.
    pub fn on_pushed(&mut self, from: NodeId, hops: u8, fresh: usize, repeated: &[StatementId]) -> bool {
        self.stats.fresh += fresh as u64;
        self.stats.repeated += repeated.len() as u64;
        if fresh > 0 {
            self.stats.hops_max = self.stats.hops_max.max(hops);
            self.set_eager(from, true);
            return false;
        }
        // Who pushes without being a neighbour to us is told at once.
        let repeats = self.links.get_mut(&from).map_or(REPEATS_MAX, |link| {
            link.repeats = link.repeats.saturating_add(1);
            link.repeats
        });
        // Whoever brought it first must still push to us, or both links would be pruned where news crosses.
        let is_eager = |id: NodeId| self.links.get(&id).is_some_and(|link| link.is_eager);
        let comes_otherwise =
            repeated.last().and_then(|id| *self.seen.by.get(id)?).is_none_or(|by| by != from && is_eager(by));
        let is_pruned = !repeated.is_empty() && repeats >= REPEATS_MAX && comes_otherwise;
        if is_pruned {
            self.stats.prunes += 1;
            self.set_eager(from, false);
        }
        is_pruned
    }

    /// Whom to tell of something that came from `from`, or that is our own.
    pub fn plan(&self, from: Option<NodeId>) -> Plan {
        let mut plan = Plan::default();
        for (id, link) in self.links.iter().filter(|(id, _)| Some(**id) != from) {
            if link.is_eager { plan.eager.push(*id) } else { plan.lazy.push(*id) }
        }
        plan
    }

    /// A neighbour has these, which are waited for until `due`. Says whether any of them has not come yet: then look for
    /// them at that time ([`Plumtree::take_grafts`]).
    pub fn on_ihave(&mut self, due: Instant, from: NodeId, ids: &[StatementId]) -> bool {
        let mut is_any_missing = false;
        for id in ids.iter().take(IDS_MAX) {
            if self.has_seen(*id) || (self.missing.len() >= MISSING_MAX && !self.missing.contains_key(id)) {
                continue;
            }
            let missing =
                self.missing.entry(*id).or_insert_with(|| Missing { announcers: VecDeque::new(), due });
            if missing.announcers.len() < ANNOUNCERS_MAX && !missing.announcers.contains(&from) {
                missing.announcers.push_back(from);
            }
            is_any_missing = true;
        }
        is_any_missing
    }

    /// Whom to ask for what has been announced and has not come. Says when to look again.
    pub fn take_grafts(&mut self, now: Instant) -> (BTreeMap<NodeId, Vec<StatementId>>, Option<Instant>) {
        let mut grafts: BTreeMap<NodeId, Vec<StatementId>> = BTreeMap::new();
        self.missing.retain(|id, missing| {
            if missing.due > now {
                return true;
            }
            missing.due = now.after(GRAFT_AGAIN);
            let Some(announcer) = missing.announcers.pop_front() else {
                return false;
            };
            let ids = grafts.entry(announcer).or_default();
            if ids.len() < IDS_MAX {
                ids.push(*id);
            }
            true
        });
        for (from, ids) in &grafts {
            self.stats.grafts += ids.len() as u64;
            self.set_eager(*from, true);
        }
        (grafts, self.missing.values().map(|missing| missing.due).min())
    }

    /// A neighbour lacks these and wants to be pushed to from now on.
    pub fn on_graft(&mut self, from: NodeId, ids: &[StatementId]) -> Vec<Kept> {
        self.set_eager(from, true);
        ids.iter().take(IDS_MAX).filter_map(|id| self.find_kept(*id)).collect()
    }

    /// A neighbour had what we pushed. Says whether the link becomes lazy: the last one that is eager does not, for then
    /// nobody would push to us either.
    pub fn on_prune(&mut self, from: NodeId) -> bool {
        let is_other_eager = self.links.iter().any(|(id, link)| *id != from && link.is_eager);
        self.set_eager(from, !is_other_eager);
        is_other_eager
    }

    fn set_eager(&mut self, id: NodeId, is_eager: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            *link = Link { is_eager, repeats: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_types::document::{Document, Key};
    use ringmesh_types::ids::{Epoch, Version};
    use ringmesh_types::sealed::{Evidence, MakeSeal, Seal, Verified};

    fn id(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 8])
    }

    fn kept(number: u8) -> Kept {
        Kept::Accusation(Arc::new(Accusation {
            accuser: id(1),
            subject: id(2),
            epoch: Epoch(1),
            revival: 0,
            incarnation: 0,
            evidence: Evidence::ProbeUnanswered,
            sequence: 0,
            seal: Seal([number; 64]),
        }))
    }

    struct Numbered(u8);

    impl MakeSeal for Numbered {
        fn seal(&self, _: &[u8]) -> Seal {
            Seal([self.0; 64])
        }
    }

    fn document(number: u8, bytes: usize) -> Kept {
        let key = Key { owner: id(number), topic: "x".parse().expect("a topic") };
        let version = Version { epoch: Epoch(1), sequence: number.into() };
        let document = Document { key, version, body: vec![0; bytes].into(), seal: Seal([0; 64]) };
        let sealed = Verified::seal_document(document, &Numbered(number)).expect("small enough");
        Kept::Document(sealed.read().expect("opaque").into_inner())
    }

    #[test]
    fn large_ones_are_not_kept_for_long_and_are_known_all_the_same() {
        let mut tree = tree(1);
        let large: Vec<Kept> = (0..40).map(|number| document(number, 60_000)).collect();
        large.iter().for_each(|one| assert!(tree.see(one, None)));
        assert!(tree.kept_bytes <= KEPT_BYTES_MAX && tree.kept.len() == 8, "{}", tree.kept_bytes);
        assert!(large.iter().all(|one| tree.has_seen(one.id())));
        let ids = [large[0].id(), large[39].id()];
        let found: Vec<StatementId> = tree.on_graft(id(1), &ids).iter().map(Kept::id).collect();
        assert_eq!(found, [ids[1]]);
        tree.see(&document(99, KEPT_BYTES_MAX + 1), None);
        assert_eq!(tree.kept.len(), 1, "the latest one, whatever it takes");
        tree.see(&document(98, 1), None);
        assert_eq!((tree.kept.len(), tree.kept_bytes), (1, 1 + STATEMENT_BYTES));
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn tree(links: u8) -> Plumtree {
        let mut tree = Plumtree::default();
        tree.set_links(&(1..=links).map(id).collect::<Vec<_>>());
        tree
    }

    #[test]
    fn links_that_bring_what_is_known_become_lazy_and_news_makes_them_eager() {
        let mut tree = tree(3);
        assert_eq!(tree.plan(None), Plan { eager: vec![id(1), id(2), id(3)], lazy: vec![] });
        assert!(tree.see(&kept(1), Some(id(1))));
        assert!(!tree.see(&kept(1), Some(id(2))));
        assert!(!tree.on_pushed(id(1), 3, 1, &[]));
        let again = [kept(1).id()];
        assert!(!tree.on_pushed(id(2), 9, 0, &again));
        assert!(!tree.on_pushed(id(2), 9, 0, &again));
        assert!(tree.on_pushed(id(2), 9, 0, &again), "a prune is due");
        assert!(tree.on_pushed(id(9), 9, 0, &again), "no neighbour");
        assert!(tree.on_prune(id(3)));
        assert!(!tree.on_prune(id(1)), "it is the last");
        for _ in 0..5 {
            assert!(!tree.on_pushed(id(1), 9, 0, &again), "it brought it first");
        }
        assert_eq!(tree.plan(Some(id(1))), Plan { eager: vec![], lazy: vec![id(2), id(3)] });
        assert!(!tree.on_pushed(id(2), 1, 1, &[]));
        assert_eq!(tree.plan(None), Plan { eager: vec![id(1), id(2)], lazy: vec![id(3)] });
        tree.set_links(&[id(1), id(2), id(3), id(4)]);
        assert_eq!(tree.plan(None), Plan { eager: vec![id(1), id(2), id(4)], lazy: vec![id(3)] });
        tree.set_links(&[id(2), id(3)]);
        assert_eq!(tree.plan(None), Plan { eager: vec![id(2), id(3)], lazy: vec![] });
        let stats = tree.stats();
        assert_eq!((stats.fresh, stats.repeated, stats.hops_max, stats.prunes), (2, 9, 3, 2));
    }

    #[test]
    fn what_is_announced_and_does_not_come_is_asked_for_one_neighbour_after_the_other() {
        let mut tree = tree(3);
        tree.on_prune(id(1));
        let wanted = kept(7).id();
        assert!(tree.on_ihave(at(150), id(1), &[wanted]));
        assert!(tree.on_ihave(at(160), id(2), &[wanted, wanted]));
        assert!(tree.take_grafts(at(149)).0.is_empty());
        assert_eq!(tree.take_grafts(at(150)), ([(id(1), vec![wanted])].into(), Some(at(650))));
        assert_eq!(tree.plan(None).lazy, [], "whom we ask pushes to us from now on, and we to it");
        assert_eq!(tree.take_grafts(at(650)).0, [(id(2), vec![wanted])].into());
        assert_eq!(tree.take_grafts(at(1_150)), (BTreeMap::new(), None), "nobody else has it");
        tree.on_ihave(at(2_000), id(1), &[wanted]);
        tree.see(&kept(7), None);
        assert!(tree.take_grafts(at(9_000)).0.is_empty(), "it came");
        assert!(!tree.on_ihave(at(9_000), id(1), &[wanted]));
    }

    #[test]
    fn whoever_asks_gets_what_is_still_kept() {
        let mut tree = tree(2);
        tree.on_prune(id(1));
        tree.see(&kept(1), None);
        let found = tree.on_graft(id(1), &[kept(2).id(), kept(1).id()]);
        assert_eq!(found.iter().map(Kept::id).collect::<Vec<_>>(), [kept(1).id()]);
        assert_eq!(tree.eager_links(), 2);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut tree = tree(1);
        let ids: Vec<StatementId> = (0..2_000).map(StatementId).collect();
        for ids in ids.chunks(IDS_MAX) {
            tree.on_ihave(at(0), id(1), ids);
        }
        assert_eq!(tree.missing.len(), MISSING_MAX);
        (0..=255).for_each(|number| {
            tree.see(&kept(number), None);
        });
        assert!(tree.seen.order.len() <= SEEN_MAX && tree.seen.by.len() == tree.seen.order.len());
    }
}
