//! What this node says about itself: sealed, versioned, and held to a rate per topic.
//!
//! What it says counts here at once, so that whoever changes something finds it in the answers of this agent. It leaves for
//! others at a rate: five changes of a topic at once, then ten a second. Of what comes faster only the latest leaves. A body
//! that says nothing new is not published.

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
    is_to_leave: bool,
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

    /// Wants `topic` to say `body`. [`Publisher::take_ready`] gives it, sealed.
    pub(crate) fn want(&mut self, topic: Topic, class: Class, body: Vec<u8>) {
        let line = self.lines.entry(topic).or_insert_with(|| Line {
            bucket: TokenBucket::new(BURST, EVERY),
            sequence: 0,
            published: None,
            waiting: None,
            is_to_leave: false,
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

    /// The next document that says something new.
    ///
    /// # Errors
    /// If a body is larger than its topic allows; that body is dropped.
    pub(crate) fn take_ready(&mut self, epoch: Epoch) -> Option<Result<Verified<Document>, SealError>> {
        for (topic, line) in &mut self.lines {
            let Some(body) = line.waiting.take() else {
                continue;
            };
            if line.published.as_ref().is_some_and(|(said, old)| *said == epoch && *old == body) {
                continue;
            }
            line.sequence += 1;
            line.is_to_leave = true;
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

    /// The next topic whose latest document may leave.
    pub(crate) fn take_leaving(&mut self, now: Instant) -> Option<Topic> {
        let may_leave =
            |line: &mut Line| line.is_to_leave && (line.class == Class::Standing || line.bucket.take(now));
        let (topic, line) =
            self.lines.iter_mut().find_map(|(topic, line)| may_leave(line).then_some((topic, line)))?;
        line.is_to_leave = false;
        Some(topic.clone())
    }

    /// When something that waits may leave, if no timer was armed for that yet.
    pub(crate) fn take_wake(&mut self, now: Instant) -> Option<Instant> {
        let waiting = self.lines.values().filter(|line| line.is_to_leave);
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

    /// What is said first, if anything is new.
    fn say(publisher: &mut Publisher) -> Option<u8> {
        let taken = publisher.take_ready(Epoch(1))?;
        Some(taken.expect("small").get().body[0])
    }

    #[test]
    fn every_change_counts_here_at_once_and_few_leave() {
        let mut publisher = publisher();
        let topic = Topic::of(Topic::HEALTH);
        let at = Instant::from_millis;
        for body in 0..10 {
            publisher.want(topic.clone(), Class::Health, vec![body]);
            assert_eq!(say(&mut publisher), Some(body));
            assert_eq!(publisher.take_leaving(at(1_000)), (body < 5).then(|| topic.clone()));
        }
        assert_eq!(publisher.take_wake(at(1_001)), Some(at(1_100)));
        assert_eq!(publisher.take_wake(at(1_001)), None, "a timer is armed already");
        assert_eq!(publisher.take_leaving(at(1_100)), Some(topic));
        assert_eq!((say(&mut publisher), publisher.take_leaving(at(5_000))), (None, None));
        assert_eq!(publisher.take_wake(at(1_101)), None);
    }

    #[test]
    fn a_body_that_says_nothing_new_is_not_published() {
        let mut publisher = publisher();
        publisher.want(Topic::of(Topic::HEALTH), Class::Health, vec![1]);
        assert_eq!(say(&mut publisher), Some(1));
        publisher.want(Topic::of(Topic::HEALTH), Class::Health, vec![1]);
        assert_eq!(say(&mut publisher), None);
    }

    #[test]
    fn everything_is_said_again_under_a_new_epoch() {
        let mut publisher = publisher();
        publisher.want(Topic::of(Topic::HEALTH), Class::Health, vec![1]);
        assert_eq!(say(&mut publisher), Some(1));
        publisher.want_all_again();
        let again = publisher.take_ready(Epoch(2)).expect("waits").expect("small");
        assert_eq!(again.get().version, Version { epoch: Epoch(2), sequence: 1 });
    }
}
