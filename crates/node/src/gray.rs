//! Members that are neither dead nor well (gray failure, Huang et al., HotOS 2017): again and again somebody else gets no
//! answer from them, and each time they refute, for what they say travels on streams, which send again what got lost.
//! They come last in answers until that has ended.
//!
//! One accuser may be the sick one, and a pause makes many accuse at once. So it takes several refuted suspicions within a
//! while, raised by several accusers.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

/// What is longer ago says nothing.
const WINDOW: Duration = Duration::from_secs(40);
/// Of four packets in five lost there are eight and more within the window, of one in four one.
const SUSPICIONS_ENOUGH: usize = 6;
/// So many members raised them, or all there are besides.
const ACCUSERS_ENOUGH: usize = 5;
/// Once there were enough, it is unreliable for so long.
const CALM_AFTER: Duration = Duration::from_secs(60);
/// What refutes an accusation may overtake it: it counts as refuted for so long.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(5);
/// Records that say nothing any more are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Votes that are remembered of one member.
const VOTES_MAX: usize = 64;

#[derive(Debug)]
struct Record {
    /// When it last refuted anything.
    refuted: Instant,
    /// When a suspicion was refuted, and who had raised it.
    votes: VecDeque<(Instant, NodeId)>,
}

impl Record {
    /// These raised the suspicion that was refuted last. Says whether there are enough.
    fn count(&mut self, now: Instant, accusers: &[NodeId], others: usize) -> bool {
        for accuser in accusers {
            let vote = (self.refuted, *accuser);
            if !self.votes.contains(&vote) {
                self.votes.push_back(vote);
            }
        }
        let is_old = |(at, _): &(Instant, NodeId)| now.since(*at) > WINDOW;
        while self.votes.len() > VOTES_MAX || self.votes.front().is_some_and(is_old) {
            self.votes.pop_front();
        }
        let suspicions: BTreeSet<Instant> = self.votes.iter().map(|(at, _)| *at).collect();
        let voices: BTreeSet<NodeId> = self.votes.iter().map(|(_, accuser)| *accuser).collect();
        suspicions.len() >= SUSPICIONS_ENOUGH && voices.len() >= ACCUSERS_ENOUGH.min(others)
    }
}

/// Who has refuted what lately, and who is unreliable for it.
#[derive(Debug, Default)]
pub(crate) struct Gray {
    records: BTreeMap<NodeId, Record>,
    /// When records that say nothing any more were last dropped.
    swept: Instant,
    /// Who is unreliable, and until when.
    unreliable: BTreeMap<NodeId, Instant>,
}

impl Gray {
    /// A member refuted what these had said of it, or others that we have not heard yet; `others` is how many there are
    /// besides it. Says whether it is unreliable only from now on.
    pub(crate) fn refute(
        &mut self,
        now: Instant,
        subject: NodeId,
        accusers: &[NodeId],
        others: usize,
    ) -> bool {
        if now.since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.records.retain(|_, record| now.since(record.refuted) <= WINDOW);
        }
        let record =
            self.records.entry(subject).or_insert_with(|| Record { refuted: now, votes: VecDeque::new() });
        record.refuted = now;
        record.count(now, accusers, others) && self.keep_back(now, subject)
    }

    /// It is unreliable for a while from now on. Says whether it was not already.
    fn keep_back(&mut self, now: Instant, subject: NodeId) -> bool {
        self.unreliable.insert(subject, now.after(CALM_AFTER)).is_none()
    }

    /// Somebody accuses the life that a member lived until it last refuted. As [`Gray::refute`].
    pub(crate) fn overtaken(
        &mut self,
        now: Instant,
        subject: NodeId,
        accuser: NodeId,
        others: usize,
    ) -> bool {
        let is_recent = |record: &&mut Record| now.since(record.refuted) <= OVERTAKEN_WITHIN;
        let record = self.records.get_mut(&subject).filter(is_recent);
        record.is_some_and(|record| record.count(now, &[accuser], others)) && self.keep_back(now, subject)
    }

    /// Whether it is neither dead nor well.
    pub(crate) fn is_unreliable(&self, subject: NodeId) -> bool {
        self.unreliable.contains_key(&subject)
    }

    /// It is gone, or as good as others again.
    pub(crate) fn forget(&mut self, subject: NodeId) {
        self.records.remove(&subject);
        self.unreliable.remove(&subject);
    }

    /// Those that have been calm for long enough.
    pub(crate) fn calm(&self, now: Instant) -> Vec<NodeId> {
        self.unreliable.iter().filter(|(_, until)| **until <= now).map(|(subject, _)| *subject).collect()
    }

    /// When the next one will have been.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.unreliable.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn id(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 8])
    }

    /// After how many suspicions, `every_s` apart, each raised by the next of so many accusers, a member is unreliable.
    fn unreliable_after(every_s: u64, accusers: u8, others: usize) -> Option<u8> {
        let mut gray = Gray::default();
        (0..60).find(|count| {
            let accuser = [id(1 + count % accusers)];
            gray.refute(at(u64::from(*count) * every_s), id(0), &accuser, others)
        })
    }

    #[test]
    fn it_takes_several_suspicions_within_a_while_by_several_accusers() {
        assert_eq!(unreliable_after(3, 40, 40), Some(5));
        assert_eq!(unreliable_after(7, 40, 40), Some(5));
        assert_eq!(unreliable_after(10, 40, 40), None, "too seldom");
        assert_eq!(unreliable_after(3, 4, 40), None, "four liars are no proof");
        assert_eq!(unreliable_after(3, 2, 2), Some(5), "in a mesh of three there are no more");
        let mut gray = Gray::default();
        let everybody: Vec<NodeId> = (1..=40).map(id).collect();
        assert!(!gray.refute(at(1), id(0), &everybody, 40), "it was paused once");
    }

    #[test]
    fn an_accusation_that_was_overtaken_by_what_refutes_it_counts() {
        let mut gray = Gray::default();
        for count in 0..6_u8 {
            let refuted = at(u64::from(count) * 5);
            assert!(!gray.refute(refuted, id(0), &[], 40));
            let is_unreliable =
                gray.overtaken(refuted.after(Duration::from_secs(1)), id(0), id(1 + count), 40);
            assert_eq!(is_unreliable, count == 5);
            assert!(
                !gray.overtaken(refuted.after(Duration::from_secs(2)), id(0), id(1 + count), 40),
                "again"
            );
        }
        assert!(!gray.overtaken(at(40), id(0), id(9), 40), "too late");
        assert!(!gray.overtaken(at(40), id(7), id(9), 40), "it refuted nothing");
    }

    #[test]
    fn who_has_been_calm_is_as_good_as_others() {
        let mut gray = Gray::default();
        for count in 0..12_u8 {
            gray.refute(at(u64::from(count) * 3), id(0), &[id(1 + count)], 40);
        }
        assert!(gray.is_unreliable(id(0)) && !gray.is_unreliable(id(1)));
        assert_eq!((gray.next(), gray.calm(at(92))), (Some(at(93)), vec![]));
        assert_eq!(gray.calm(at(93)), [id(0)]);
        gray.forget(id(0));
        assert!(!gray.is_unreliable(id(0)) && gray.next().is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut gray = Gray::default();
        let everybody: Vec<NodeId> = (1..=200).map(id).collect();
        for second in 0..200_u8 {
            gray.refute(at(u64::from(second)), id(second), &everybody, 200);
        }
        assert!(gray.records.len() <= 46, "{}", gray.records.len());
        assert!(gray.records.values().all(|record| record.votes.len() <= VOTES_MAX));
    }
}
