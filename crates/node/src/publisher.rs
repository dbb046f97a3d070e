//! What this node says about itself: sealed, versioned, and held to a rate per topic.
//!
//! The first change of a topic leaves at once; a burst of five may follow, then ten a second. What comes faster is
//! coalesced: only the latest body leaves. A body that says nothing new is not published.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_gossip::bucket::TokenBucket;
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::ids::{Epoch, NodeId, Version};
use ringmesh_types::sealed::{MakeSeal, Seal, SealError, Verified};
use ringmesh_types::time::Instant;

use crate::io::Class;

const BURST: u32 = 5;
const EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Line {
    bucket: TokenBucket,
    sequence: u64,
    published: Option<(Epoch, Vec<u8>)>,
    waiting: Option<Vec<u8>>,
    class: Class,
}

/// The topics that this node writes.
pub(crate) struct Publisher {
    owner: NodeId,
    sealer: Box<dyn MakeSeal + Send>,
    lines: BTreeMap<Topic, Line>,
    wake: Option<Instant>,
}

impl Publisher {
    pub(crate) fn new(owner: NodeId, sealer: Box<dyn MakeSeal + Send>) -> Self {
        Self { owner, sealer, lines: BTreeMap::new(), wake: None }
    }

    pub(crate) fn sealer(&self) -> &dyn MakeSeal {
        &*self.sealer
    }

    /// Wants `topic` to say `body`. [`Publisher::take_ready`] gives it when its turn comes.
    pub(crate) fn want(&mut self, topic: Topic, class: Class, body: Vec<u8>) {
        let line = self.lines.entry(topic).or_insert_with(|| Line {
            bucket: TokenBucket::new(BURST, EVERY),
            sequence: 0,
            published: None,
            waiting: None,
            class,
        });
        line.class = class;
        line.waiting = Some(body);
    }

    /// Wants everything said again: the epoch changed.
    pub(crate) fn want_all_again(&mut self) {
        for line in self.lines.values_mut() {
            line.sequence = 0;
            if let (None, Some((_, body))) = (&line.waiting, &line.published) {
                line.waiting = Some(body.clone());
            }
        }
    }

    /// The next document whose turn has come.
    ///
    /// # Errors
    /// If a body is larger than its topic allows; that body is dropped.
    pub(crate) fn take_ready(
        &mut self,
        now: Instant,
        epoch: Epoch,
    ) -> Option<Result<Verified<Document>, SealError>> {
        for (topic, line) in &mut self.lines {
            let Some(body) = line.waiting.as_ref() else {
                continue;
            };
            if line.published.as_ref().is_some_and(|(said, old)| *said == epoch && old == body) {
                line.waiting = None;
                continue;
            }
            if line.class != Class::Standing && !line.bucket.take(now) {
                continue;
            }
            let body = line.waiting.take()?;
            line.sequence += 1;
            line.published = Some((epoch, body.clone()));
            let document = Document {
                key: Key { owner: self.owner, topic: topic.clone() },
                version: Version { epoch, sequence: line.sequence },
                body: body.into(),
                seal: Seal([0; 64]),
            };
            return Some(Verified::seal_document(document, &*self.sealer));
        }
        None
    }

    /// When something that waits may leave, if no timer was armed for that yet.
    pub(crate) fn take_wake(&mut self, now: Instant) -> Option<Instant> {
        let waiting = self.lines.values().filter(|line| line.waiting.is_some());
        let next = waiting.map(|line| line.bucket.refills_at(now)).min()?;
        if self.wake.is_some_and(|armed| armed > now && armed <= next) {
            return None;
        }
        self.wake = Some(next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoSeal;

    impl MakeSeal for NoSeal {
        fn seal(&self, _: &[u8]) -> Seal {
            Seal([0; 64])
        }
    }

    fn publisher() -> Publisher {
        Publisher::new(NodeId::from_bytes([1; 8]), Box::new(NoSeal))
    }

    fn take(publisher: &mut Publisher, millis: u64) -> Option<u8> {
        let taken = publisher.take_ready(Instant::from_millis(millis), Epoch(1))?;
        Some(taken.expect("small").get().body[0])
    }

    #[test]
    fn the_first_changes_leave_at_once_and_the_latest_of_the_rest() {
        let mut publisher = publisher();
        for body in 0..10 {
            publisher.want(Topic::of(Topic::HEALTH), Class::Health, vec![body]);
            assert_eq!(take(&mut publisher, 1_000), (body < 5).then_some(body));
        }
        assert_eq!(publisher.take_wake(Instant::from_millis(1_001)), Some(Instant::from_millis(1_100)));
        assert_eq!(publisher.take_wake(Instant::from_millis(1_001)), None, "a timer is armed already");
        assert_eq!(take(&mut publisher, 1_100), Some(9));
        assert_eq!(publisher.take_wake(Instant::from_millis(1_101)), None);
    }

    #[test]
    fn a_body_that_says_nothing_new_is_not_published() {
        let mut publisher = publisher();
        publisher.want(Topic::of(Topic::HEALTH), Class::Health, vec![1]);
        assert_eq!(take(&mut publisher, 0), Some(1));
        publisher.want(Topic::of(Topic::HEALTH), Class::Health, vec![1]);
        assert_eq!(take(&mut publisher, 0), None);
    }

    #[test]
    fn everything_is_said_again_under_a_new_epoch() {
        let mut publisher = publisher();
        publisher.want(Topic::of(Topic::HEALTH), Class::Health, vec![1]);
        assert_eq!(take(&mut publisher, 0), Some(1));
        publisher.want_all_again();
        let again = publisher.take_ready(Instant::START, Epoch(2)).expect("waits").expect("small");
        assert_eq!(again.get().version, Version { epoch: Epoch(2), sequence: 1 });
    }
}
