//! Anti-entropy: what pushing missed is found by comparing digests with a random member every 10 to 30 s.
//!
//! One root digest; on a difference 256 bucket digests; then what both have in the differing buckets; then only the
//! documents that differ, both ways. The cost follows the difference (Demers 1987 on why rumours alone do not suffice).

use core::time::Duration;
use std::sync::Arc;

use rand::RngExt;
use ringmesh_gossip::message::{Push, Request};
use ringmesh_types::document::Key;
use ringmesh_types::limits;
use ringmesh_types::sealed::Statement;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::Instant;

use crate::contacts::Asked;
use crate::io::{Class, Target};
use crate::machine::{Node, Timer};

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

/// When the next comparison is due; timers armed for another moment are stale.
#[derive(Debug)]
pub(crate) struct Repair {
    next: Instant,
    hurried_until: Instant,
    /// How long to wait after a difference: doubles while differences bring nothing new.
    patience: Duration,
    merged: u64,
}

impl Default for Repair {
    fn default() -> Self {
        Self { next: Instant::START, hurried_until: Instant::START, patience: PATIENCE.0, merged: 0 }
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
        if let Some(target) = self.members.some(&mut self.rng, 1, &[]).first() {
            self.ask_digest(*target);
        }
    }

    pub(crate) fn ask_digest(&mut self, target: Target) {
        let root = self.registry.root();
        self.ask(target, Asked::Digest(target), Request::Digest { root });
    }

    /// Nothing differs: the next difference is a fresh one.
    pub(crate) fn on_same(&mut self) {
        self.repair.patience = PATIENCE.0;
    }

    pub(crate) fn on_buckets(&mut self, target: Target, theirs: &[u64]) {
        let mut buckets = self.registry.differing(theirs);
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
