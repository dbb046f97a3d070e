//! Checks seals before anything reaches the node, off the node's task.
//!
//! A statement whose speaker's `trust` document has not come yet waits here, bounded in number and time, while the
//! sender is asked for it. A `trust` document proves itself and lets the waiting ones through. What comes again as it was
//! checked before is not checked again: news comes by several ways, and a check costs more than all else that is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::ids::{NodeId, Version};
use ringmesh_types::limits::{
    EPOCH_AHEAD_MAX, PARKED_BYTES_MAX, PARKED_FOR, PARKED_STATEMENTS_MAX, PUSH_BODY_BYTES_MAX,
};
use ringmesh_types::sealed::{CheckSeal, DocumentKey, Statement, Verified, VerifiedStatement};
use ringmesh_types::stored::Stored;
use ringmesh_types::time::{Instant, WallTime};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// So many documents that were checked last are known again.
const CHECKED_MAX: usize = 512;

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Admission {
    /// Statements to hand to the node.
    pub admitted: Vec<VerifiedStatement>,
    /// Speakers whose `trust` document the sender should be asked for.
    pub wanted: BTreeSet<NodeId>,
    /// What was refused, and why.
    pub rejected: Vec<(NodeId, String)>,
}

#[derive(Debug)]
struct Parked {
    until: Instant,
    statement: Statement,
}

/// The gate that every statement of others passes.
pub struct Gate<C> {
    checker: C,
    keys: BTreeMap<NodeId, (Version, DocumentKey)>,
    parked: VecDeque<Parked>,
    /// What was checked last, by the slot of its key.
    checked: BTreeMap<u64, Verified<Arc<Stored>>>,
    /// Their slots, in the order in which they came.
    oldest: VecDeque<u64>,
    /// Statements that were dropped because too many waited, or waited too long.
    pub dropped: u64,
}

impl<C: CheckSeal> Gate<C> {
    /// A gate that trusts nobody yet.
    pub fn new(checker: C) -> Self {
        Self {
            checker,
            keys: BTreeMap::new(),
            parked: VecDeque::new(),
            checked: BTreeMap::new(),
            oldest: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Checks a batch; `wall` is what the clock says. `trust` documents count at once, wherever in the batch they stand.
    pub fn admit(&mut self, now: Instant, wall: WallTime, statements: Vec<Statement>) -> Admission {
        let mut admission = Admission::default();
        self.expire(now);
        let (trust, rest): (Vec<_>, Vec<_>) = statements.into_iter().partition(is_trust);
        let mut has_new_key = false;
        for statement in trust {
            has_new_key |= self.learn(wall, &statement, &mut admission);
            self.check(now, statement, &mut admission);
        }
        for statement in rest {
            self.check(now, statement, &mut admission);
        }
        if has_new_key {
            for parked in core::mem::take(&mut self.parked) {
                if self.keys.contains_key(&parked.statement.speaker()) {
                    self.check(now, parked.statement, &mut admission);
                } else {
                    self.parked.push_back(parked);
                }
            }
        }
        admission
    }

    fn expire(&mut self, now: Instant) {
        let before = self.parked.len();
        self.parked.retain(|parked| parked.until > now);
        self.dropped += (before - self.parked.len()) as u64;
    }

    /// Takes the key that a `trust` document vouches for, if it is newer than the one we have. One of an epoch far ahead of the
    /// clock, under which the node believes nothing, does not stand in the way of those that come at their time.
    fn learn(&mut self, wall: WallTime, statement: &Statement, admission: &mut Admission) -> bool {
        let Statement::Document(document) = statement else {
            return false;
        };
        let Document { key, version, body, .. } = document;
        let ahead = wall.after(EPOCH_AHEAD_MAX).as_unix_millis();
        let known = self.keys.get(&key.owner).filter(|(known, _)| known.epoch.0 <= ahead);
        if known.is_some_and(|(known, _)| known >= version) {
            return false;
        }
        let proven = self.checker.vouched_key(key.owner, body).and_then(|document_key| {
            // The body alone can be replayed under any version: only with the seal is it the owner's word.
            Verified::check_document(document.clone(), &document_key, &self.checker)
                .map(|checked| (document_key, checked))
                .map_err(|error| error.to_string())
        });
        match proven {
            Ok((document_key, checked)) => {
                let before = self.keys.insert(key.owner, (*version, document_key));
                if before.is_some_and(|(_, before)| before != document_key) {
                    self.checked.retain(|_, checked| checked.get().document.key.owner != key.owner);
                }
                if let Ok(stored) = checked.read() {
                    self.remember(stored);
                }
                true
            }
            Err(why) => {
                admission.rejected.push((key.owner, why));
                false
            }
        }
    }

    fn check(&mut self, now: Instant, statement: Statement, admission: &mut Admission) {
        if let Statement::Document(document) = &statement
            && let Some(stored) = self.known(document)
        {
            return admission.admitted.push(VerifiedStatement::Document(stored));
        }
        let speaker = statement.speaker();
        let key = self.keys.get(&speaker).map(|(_, key)| *key).or_else(|| self.checker.known_key(speaker));
        let Some(key) = &key else {
            if !is_trust(&statement) {
                admission.wanted.insert(speaker);
                self.park(now, statement);
            }
            return;
        };
        let checked = match statement {
            Statement::Document(document) => {
                Verified::check_document(document, key, &self.checker).map(|document| match document.read() {
                    Ok(stored) => {
                        self.remember(stored.clone());
                        VerifiedStatement::Document(stored)
                    }
                    Err(error) => VerifiedStatement::Unreadable(speaker, error.to_string()),
                })
            }
            Statement::Accusation(accusation) => {
                Verified::check_accusation(accusation, key, &self.checker).map(VerifiedStatement::Accusation)
            }
        };
        match checked {
            Ok(statement) => admission.admitted.push(statement),
            Err(error) => admission.rejected.push((speaker, error.to_string())),
        }
    }

    /// The same document, if it was checked lately: what was checked under a key goes when its owner has another.
    fn known(&self, document: &Document) -> Option<Verified<Arc<Stored>>> {
        self.checked
            .get(&slot_of(&document.key))
            .filter(|checked| checked.get().document == *document)
            .cloned()
    }

    /// Keeps what was checked, but for large documents: they are pulled, once.
    fn remember(&mut self, stored: Verified<Arc<Stored>>) {
        if stored.get().document.body.len() > PUSH_BODY_BYTES_MAX {
            return;
        }
        let slot = slot_of(&stored.get().document.key);
        if self.checked.insert(slot, stored).is_none() {
            self.oldest.push_back(slot);
        }
        if self.oldest.len() > CHECKED_MAX
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.checked.remove(&oldest);
        }
    }

    /// Lets a statement wait. What has no room is dropped: what waits already is not less worth.
    fn park(&mut self, now: Instant, statement: Statement) {
        let fits = match &statement {
            Statement::Document(document) => document.body.len() <= document.key.topic.body_bytes_max(),
            Statement::Accusation(_) => true,
        };
        let bytes: usize = self.parked.iter().map(|parked| parked.statement.bytes()).sum();
        let has_room =
            self.parked.len() < PARKED_STATEMENTS_MAX && bytes + statement.bytes() <= PARKED_BYTES_MAX;
        if !fits || !has_room {
            self.dropped += 1;
            return;
        }
        self.parked.push_back(Parked { until: now.after(PARKED_FOR), statement });
    }
}

/// The slot of a key among those that were checked; two keys of one slot take turns.
fn slot_of(key: &Key) -> u64 {
    xxh3_64_with_seed(key.topic.as_str().as_bytes(), key.owner.as_u64())
}

fn is_trust(statement: &Statement) -> bool {
    match statement {
        Statement::Document(document) => document.key.topic.as_str() == Topic::TRUST,
        Statement::Accusation(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::time::Duration;

    use super::*;
    use ringmesh_types::document::Key;
    use ringmesh_types::ids::Epoch;
    use ringmesh_types::sealed::Seal;

    const NOW: WallTime = WallTime::from_unix_millis(1_700_000_000_000);

    /// A seal is right if it repeats the key; a trust body is the key itself. Counts what is checked.
    #[derive(Default)]
    struct Repeats {
        checks: Cell<u32>,
    }

    impl CheckSeal for Repeats {
        fn is_sealed_by(&self, key: &DocumentKey, _: &[u8], seal: &Seal) -> bool {
            self.checks.set(self.checks.get() + 1);
            seal.0[..32] == key[..]
        }

        fn vouched_key(&self, _: NodeId, trust_body: &[u8]) -> Result<DocumentKey, String> {
            trust_body.try_into().map_err(|_| "not a key".to_owned())
        }
    }

    fn document(topic: &'static str, sequence: u64, body: &[u8], seal: u8) -> Statement {
        Statement::Document(Document {
            key: Key { owner: NodeId::from_bytes([1; 8]), topic: Topic::of(topic) },
            version: Version { epoch: Epoch(1), sequence },
            body: body.into(),
            seal: Seal([seal; 64]),
        })
    }

    #[test]
    fn a_statement_waits_for_its_trust_and_then_passes() {
        let mut gate = Gate::new(Repeats::default());
        let first = gate.admit(Instant::START, NOW, vec![document("node", 1, &[], 7)]);
        assert_eq!(first.wanted.len(), 1);
        assert!(first.admitted.is_empty());
        let second = gate.admit(Instant::START, NOW, vec![document("trust", 1, &[7; 32], 7)]);
        assert_eq!(second.admitted.len(), 2);
    }

    #[test]
    fn a_statement_waits_five_seconds_at_most() {
        let mut gate = Gate::new(Repeats::default());
        gate.admit(Instant::START, NOW, vec![document("node", 1, &[], 7)]);
        let late = gate.admit(Instant::from_millis(5_000), NOW, vec![document("trust", 1, &[7; 32], 7)]);
        assert_eq!(late.admitted.len(), 1);
        assert_eq!(gate.dropped, 1);
    }

    #[test]
    fn a_wrong_seal_is_rejected_alone() {
        let mut gate = Gate::new(Repeats::default());
        let batch = vec![
            document("node", 1, &[], 8),
            document("weather", 1, &[], 7),
            document("trust", 1, &[7; 32], 7),
        ];
        let admission = gate.admit(Instant::START, NOW, batch);
        assert_eq!((admission.admitted.len(), admission.rejected.len()), (2, 1));
    }

    #[test]
    fn a_trust_document_that_is_not_sealed_by_its_owner_changes_no_key() {
        let mut gate = Gate::new(Repeats::default());
        gate.admit(Instant::START, NOW, vec![document("trust", 1, &[7; 32], 7)]);
        let forged = gate.admit(Instant::START, NOW, vec![document("trust", u64::MAX, &[6; 32], 5)]);
        assert_eq!((forged.admitted.len(), forged.rejected.len()), (0, 2));
        let honest = gate.admit(Instant::START, NOW, vec![document("node", 2, &[], 7)]);
        assert_eq!(honest.admitted.len(), 1);
    }

    #[test]
    fn a_trust_document_of_far_ahead_does_not_outlast_the_clock_that_was_wrong() {
        let mut gate = Gate::new(Repeats::default());
        let of_epoch = |ahead: Duration, key: u8| match document("trust", 1, &[key; 32], key) {
            Statement::Document(document) => {
                let version = Version { epoch: Epoch(NOW.after(ahead).as_unix_millis()), sequence: 1 };
                Statement::Document(Document { version, ..document })
            }
            Statement::Accusation(_) => unreachable!("it is a document"),
        };
        gate.admit(Instant::START, NOW, vec![of_epoch(2 * EPOCH_AHEAD_MAX, 6)]);
        let right = vec![of_epoch(Duration::ZERO, 7), document("node", 1, &[], 7)];
        assert_eq!(gate.admit(Instant::START, NOW, right).admitted.len(), 2);
    }

    #[test]
    fn what_was_checked_is_not_checked_again_unless_it_or_its_owners_key_changed() {
        let mut gate = Gate::new(Repeats::default());
        let node = document("node", 1, &[], 7);
        gate.admit(Instant::START, NOW, vec![document("trust", 1, &[7; 32], 7), node.clone()]);
        let again = gate.admit(Instant::START, NOW, vec![node.clone(), document("node", 1, &[1], 8)]);
        assert_eq!((again.admitted.len(), again.rejected.len()), (1, 1), "another body needs another seal");
        let renewed = gate.admit(Instant::START, NOW, vec![document("trust", 2, &[8; 32], 8), node]);
        assert_eq!((renewed.admitted.len(), renewed.rejected.len()), (1, 1));
    }

    #[test]
    fn a_seal_is_checked_once() {
        let mut gate = Gate::new(Repeats::default());
        let batch = vec![document("trust", 1, &[7; 32], 7), document("weather", 1, &[], 7)];
        assert_eq!(gate.admit(Instant::START, NOW, batch.clone()).admitted.len(), 2);
        assert_eq!(gate.checker.checks.get(), 2);
        assert_eq!(gate.admit(Instant::START, NOW, batch).admitted.len(), 2);
        assert_eq!(gate.checker.checks.get(), 2);
    }

    #[test]
    fn what_is_known_again_is_bounded() {
        let mut gate = Gate::new(Repeats::default());
        gate.admit(Instant::START, NOW, vec![document("trust", 1, &[7; 32], 7)]);
        for number in 0..2 * CHECKED_MAX {
            let topic = format!("weather/{number}").parse().expect("a topic");
            let key = Key { owner: NodeId::from_bytes([1; 8]), topic };
            let version = Version { epoch: Epoch(1), sequence: 1 };
            let document = Document { key, version, body: [].into(), seal: Seal([7; 64]) };
            gate.admit(Instant::START, NOW, vec![Statement::Document(document)]);
        }
        assert_eq!((gate.checked.len(), gate.oldest.len()), (CHECKED_MAX, CHECKED_MAX));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut gate = Gate::new(Repeats::default());
        for sequence in 0..=PARKED_STATEMENTS_MAX as u64 {
            gate.admit(Instant::START, NOW, vec![document("node", sequence, &[], 7)]);
        }
        assert_eq!(gate.dropped, 1);
    }
}
