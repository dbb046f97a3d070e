//! Anti-entropy: what pushing missed is found by comparing digests with a random member every 10 to 30 s.
//!
//! Neighbours show each other their root digests with a beat; one that differs is compared with first. One root digest; on a difference 256 bucket digests; then what both have in the differing buckets; then only the
//! documents that differ, both ways. The cost follows the difference (Demers 1987 on why rumours alone do not suffice).

use core::time::Duration;
use std::sync::Arc;

use rand::RngExt;
use ringmesh_gossip::message::{Datagram, Push, Request};
use ringmesh_gossip::registry::{self, BUCKETS};
use ringmesh_types::document::Key;
use ringmesh_types::event::{EventKind, Severity};
use ringmesh_types::ids::NodeId;
use ringmesh_types::limits;
use ringmesh_types::sealed::Statement;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::Instant;

use crate::contacts::Asked;
use crate::io::{Class, Target};
use crate::machine::{Node, Timer};
use crate::members::Member;

/// After a difference the next comparison comes within this time, at least and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(1_200), Duration::from_secs(30));
/// Summaries in one comparison at most: buckets that do not fit wait for the next one.
const SUMMARIES_MAX: usize = 8_000;

/// Between two comparisons with a random member.
const USUAL_MS: core::ops::Range<u64> = 10_000..30_000;
/// The same while members come: what one of them pushed may have met somebody who was not there yet.
const HURRIED_MS: core::ops::Range<u64> = 1_000..2_000;
/// For so long after a member came.
const HURRIED_FOR: Duration = Duration::from_secs(5);

/// Between two beats to each neighbour.
const BEAT_MS: core::ops::Range<u64> = 12_000..18_000;
/// What we know of an owner is stale if no member has agreed with it for so long: three times the longest time between
/// two comparisons.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(90);

/// When the next comparison is due; timers armed for another moment are stale.
#[derive(Debug)]
pub(crate) struct Repair {
    next: Instant,
    /// Whom the next comparison is with, if somebody showed that it differs.
    with: Option<NodeId>,
    /// Whether the last one was with whoever chance chose: every second one is, for who shows that it differs may lie.
    is_random: bool,
    /// When a member last agreed with us on all documents of a bucket.
    agreed: Box<[Instant; BUCKETS]>,
    is_stale: bool,
    hurried_until: Instant,
    /// How long to wait after a difference: doubles while differences bring nothing new.
    patience: Duration,
    merged: u64,
}

impl Default for Repair {
    fn default() -> Self {
        Self {
            next: Instant::START,
            with: None,
            is_random: true,
            agreed: Box::new([Instant::START; BUCKETS]),
            is_stale: false,
            hurried_until: Instant::START,
            patience: PATIENCE.0,
            merged: 0,
        }
    }
}

impl Repair {
    /// The next comparison is with this member.
    pub(crate) fn compare_with(&mut self, id: NodeId) {
        self.with = Some(id);
    }
}

impl Node {
    pub(crate) fn arm_repair(&mut self, now: Instant) {
        let range = if now < self.repair.hurried_until { HURRIED_MS } else { USUAL_MS };
        let wait = Duration::from_millis(self.rng.random_range(range));
        self.repair.next = now.after(wait);
        self.timers.arm(self.repair.next, Timer::Repair);
    }

    /// Something happened that makes a difference likely: compare within a second.
    pub(crate) fn repair_soon(&mut self, now: Instant) {
        self.repair_within(now, PATIENCE.0);
    }

    /// A member came: compare soon, and again until it has been quiet for a while.
    pub(crate) fn repair_for_a_while(&mut self, now: Instant) {
        self.repair.hurried_until = now.after(HURRIED_FOR);
        self.repair_soon(now);
    }

    pub(crate) fn repair_within(&mut self, now: Instant, patience: Duration) {
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let at = now.after(Duration::from_millis(self.rng.random_range(millis / 4..=millis)));
        if self.repair.next > at {
            self.repair.next = at;
            self.timers.arm(at, Timer::Repair);
        }
    }

    pub(crate) fn on_repair_due(&mut self, now: Instant) {
        if self.repair.next > now {
            return;
        }
        self.arm_repair(now);
        self.refresh_links(now);
        self.look_for_stale(now);
        self.repair.is_random = !self.repair.is_random;
        let with = self.repair.with.take().filter(|_| !self.repair.is_random);
        let with = with.and_then(|id| self.members.find(id)).filter(|with| with.is_serving());
        let target = with.map(Member::target);
        if let Some(target) = target.or_else(|| self.members.some(&mut self.rng, 1, &[]).first().copied()) {
            self.ask_digest(target);
        }
    }

    pub(crate) fn arm_beat(&mut self, now: Instant) {
        let wait = Duration::from_millis(self.rng.random_range(BEAT_MS));
        self.timers.arm(now.after(wait), Timer::Beat);
    }

    pub(crate) fn on_beat_due(&mut self, now: Instant) {
        self.arm_beat(now);
        let beat = Datagram::Beat { root: self.registry.root() };
        for neighbour in self.neighbours(now) {
            self.send_datagram(neighbour, &beat);
        }
    }

    pub(crate) fn on_neighbour_beat(&mut self, now: Instant, from: NodeId, root: u64) {
        if !self.spread.is_linked(from) || !self.members.find(from).is_some_and(Member::is_serving) {
            return;
        }
        if root == self.registry.root() {
            self.on_same(now);
        } else {
            self.repair.compare_with(from);
            self.repair_within(now, self.repair.patience);
        }
    }

    /// When a member last agreed with all that this node has of the owners in each bucket ([`registry::bucket`]): the begin
    /// of time if none did since the start.
    pub fn agreed(&self) -> &[Instant; BUCKETS] {
        &self.repair.agreed
    }

    /// Nobody has agreed for long with what we have of somebody who serves: what we answer of it may be old.
    fn look_for_stale(&mut self, now: Instant) {
        let agreed = |member: &Member| self.repair.agreed[registry::bucket(member.id())];
        let age = |member: &Member| now.since(agreed(member).max(member.changed));
        let ages = self.members.serving_others().map(|member| (age(member), member.name()));
        let oldest = ages.max_by_key(|(age, _)| *age).filter(|(age, _)| *age >= STALE_AFTER);
        let was_stale = core::mem::replace(&mut self.repair.is_stale, oldest.is_some());
        if let Some((age, name)) = oldest.filter(|_| !was_stale) {
            let cause = format!(
                "no member has agreed for {} s with what is known of {name}: answers about it may be old",
                age.as_secs()
            );
            let me = self.config.name.clone();
            self.event(now, EventKind::Agent, Severity::Warning, me, "", "stale", cause);
        } else if was_stale && !self.repair.is_stale {
            let me = self.config.name.clone();
            self.event(now, EventKind::Agent, Severity::Info, me, "stale", "current", "others agree again");
        }
    }

    pub(crate) fn ask_digest(&mut self, target: Target) {
        let root = self.registry.root();
        self.ask(target, Asked::Digest(target), Request::Digest { root });
    }

    /// Nothing differs: the next difference is a fresh one.
    pub(crate) fn on_same(&mut self, now: Instant) {
        self.repair.patience = PATIENCE.0;
        self.repair.agreed.fill(now);
    }

    pub(crate) fn on_buckets(&mut self, now: Instant, target: Target, theirs: &[u64]) {
        let mut buckets = self.registry.differing(theirs);
        for (agreed, _) in
            self.repair.agreed.iter_mut().zip(0..=u8::MAX).filter(|(_, index)| !buckets.contains(index))
        {
            *agreed = now;
        }
        let mut have = self.registry.summaries(&buckets);
        while have.len() > SUMMARIES_MAX && buckets.len() > 1 {
            buckets.truncate(buckets.len() / 2);
            have = self.registry.summaries(&buckets);
        }
        if !buckets.is_empty() {
            self.ask(target, Asked::Compare(target), Request::Compare { buckets, have });
        }
    }

    pub(crate) fn on_difference(&mut self, now: Instant, target: Target, wanted: &[Key]) {
        let keys = wanted.iter().take(limits::BATCH_STATEMENTS_MAX);
        let documents = keys.filter_map(|key| self.registry.stored(key)).cloned().collect();
        self.push_documents(target, Class::Bulk, documents);
        let is_progress = self.stats.documents_merged != self.repair.merged;
        self.repair.merged = self.stats.documents_merged;
        self.repair.patience =
            if is_progress { PATIENCE.0 } else { (self.repair.patience * 2).min(PATIENCE.1) };
        self.repair_within(now, self.repair.patience);
    }

    /// Pushes documents to one peer: small ones outright, large ones by name.
    pub(crate) fn push_documents(&mut self, target: Target, class: Class, documents: Vec<Arc<Stored>>) {
        let (small, large): (Vec<_>, Vec<_>) = documents
            .into_iter()
            .partition(|stored| stored.document.body.len() <= limits::PUSH_BODY_BYTES_MAX);
        for batch in small.chunks(limits::BATCH_STATEMENTS_MAX) {
            let statements =
                batch.iter().map(|stored| Statement::Document(stored.document.clone())).collect();
            self.push(vec![target], class, Push::Statements(statements));
        }
        if !large.is_empty() {
            let names =
                large.iter().map(|stored| (stored.document.key.clone(), stored.document.version)).collect();
            self.push(vec![target], class, Push::Announce(names));
        }
    }
}
