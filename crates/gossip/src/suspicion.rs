//! Who is accused by whom, and when that is enough.
//!
//! A member is Down when K = min(3, serving members other than the subject) distinct accusers agree on one incarnation
//! and the subject has had [`SuspicionConfig::min`] to refute, or when a suspicion lasts [`SuspicionConfig::max`], we
//! are among the accusers and have not heard from the subject since it began. A higher incarnation, revival or epoch voids every vote.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::sealed::Accusation;
use ringmesh_types::time::Instant;

/// Accusers that are enough, if there are that many members.
pub const ACCUSERS_ENOUGH: usize = 3;

/// How long a suspicion lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspicionConfig {
    /// With enough accusers: the time that a subject always has to refute.
    pub min: Duration,
    /// With fewer.
    pub max: Duration,
}

impl Default for SuspicionConfig {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(6) }
    }
}

/// The life of a member that a vote is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Which start.
    pub epoch: Epoch,
    /// Which revival.
    pub revival: u32,
    /// Which incarnation.
    pub incarnation: u16,
}

impl Life {
    /// The life that `accusation` is about.
    pub fn of(accusation: &Accusation) -> Self {
        Self { epoch: accusation.epoch, revival: accusation.revival, incarnation: accusation.incarnation }
    }
}

/// What became of an accusation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// It counts; so many accusers agree.
    Counted(usize),
    /// This accuser has said so already.
    Repeated,
    /// The subject has refuted it, or it is about another life of the subject.
    Stale,
}

#[derive(Debug)]
struct Suspicion {
    life: Life,
    since: Instant,
    accusers: BTreeSet<NodeId>,
}

/// The open suspicions.
#[derive(Debug)]
pub struct Suspicions {
    config: SuspicionConfig,
    open: BTreeMap<NodeId, Suspicion>,
}

impl Suspicions {
    /// None.
    pub fn new(config: SuspicionConfig) -> Self {
        Self { config, open: BTreeMap::new() }
    }

    /// Counts an accusation against the life that the subject is known to live.
    pub fn accuse(&mut self, now: Instant, accusation: &Accusation, known: Life) -> Vote {
        let life = Life::of(accusation);
        if life != known {
            return Vote::Stale;
        }
        let suspicion = self.open.entry(accusation.subject).or_insert_with(|| Suspicion {
            life,
            since: now,
            accusers: BTreeSet::new(),
        });
        if suspicion.life != life {
            *suspicion = Suspicion { life, since: now, accusers: BTreeSet::new() };
        }
        if !suspicion.accusers.insert(accusation.accuser) {
            return Vote::Repeated;
        }
        Vote::Counted(suspicion.accusers.len())
    }

    /// Voids what is said about older lives of `subject`. Says whether anything was.
    pub fn refute(&mut self, subject: NodeId, known: Life) -> bool {
        let is_refuted = self.open.get(&subject).is_some_and(|suspicion| suspicion.life < known);
        if is_refuted {
            self.open.remove(&subject);
        }
        is_refuted
    }

    /// Closes the suspicion of `subject`, whatever it is.
    pub fn close(&mut self, subject: NodeId) -> bool {
        self.open.remove(&subject).is_some()
    }

    /// An accuser is gone or Down: its votes do not count any more. Returns whom nobody accuses now.
    pub fn withdraw(&mut self, accuser: NodeId) -> Vec<NodeId> {
        let mut cleared = Vec::new();
        self.open.retain(|subject, suspicion| {
            suspicion.accusers.remove(&accuser);
            if suspicion.accusers.is_empty() {
                cleared.push(*subject);
            }
            !suspicion.accusers.is_empty()
        });
        cleared
    }

    /// How many accusers the open suspicion of `subject` has.
    pub fn accusers(&self, subject: NodeId) -> usize {
        self.open.get(&subject).map_or(0, |suspicion| suspicion.accusers.len())
    }

    /// When the suspicion of `subject` ends, given how many serving members there are besides it.
    pub fn deadline(&self, subject: NodeId, others: usize) -> Option<Instant> {
        let suspicion = self.open.get(&subject)?;
        let is_enough = suspicion.accusers.len() >= enough(others);
        Some(suspicion.since.after(if is_enough { self.config.min } else { self.config.max }))
    }

    /// Nothing could be heard for `length`: no suspicion has lasted any longer for that.
    pub fn delay(&mut self, length: Duration) {
        for suspicion in self.open.values_mut() {
            suspicion.since = suspicion.since.after(length);
        }
    }

    /// What `me` should do about `subject` now.
    pub fn judge(
        &self,
        now: Instant,
        me: NodeId,
        subject: NodeId,
        others: usize,
        last_heard: Option<Instant>,
    ) -> Verdict {
        let Some(suspicion) = self.open.get(&subject) else {
            return Verdict::Open;
        };
        if self.deadline(subject, others).is_none_or(|at| at > now) {
            return Verdict::Open;
        }
        let accusers = suspicion.accusers.len();
        if accusers >= enough(others) {
            return Verdict::Down { accusers };
        }
        if last_heard.is_some_and(|at| at > suspicion.since) {
            return Verdict::Contradicted;
        }
        if !suspicion.accusers.contains(&me) {
            return Verdict::Unsure;
        }
        Verdict::Down { accusers }
    }
}

/// K: how many distinct accusers are enough when `others` members serve besides the subject.
fn enough(others: usize) -> usize {
    others.clamp(1, ACCUSERS_ENOUGH)
}

/// What a suspicion comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is not over, or there is none.
    Open,
    /// The subject is Down.
    Down {
        /// How many said so.
        accusers: usize,
    },
    /// Too few say so, and we have heard from the subject ourselves.
    Contradicted,
    /// Too few say so, and we have not tried ourselves: a look decides.
    Unsure,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_types::sealed::{Evidence, Seal};

    const LIFE: Life = Life { epoch: Epoch(1), revival: 0, incarnation: 4 };

    fn says(accuser: u8, incarnation: u16) -> Accusation {
        Accusation {
            accuser: NodeId::from_bytes([accuser; 8]),
            subject: subject(),
            epoch: Epoch(1),
            revival: 0,
            incarnation,
            evidence: Evidence::ProbeUnanswered,
            seal: Seal([0; 64]),
        }
    }

    fn subject() -> NodeId {
        NodeId::from_bytes([9; 8])
    }

    fn me() -> NodeId {
        NodeId::from_bytes([8; 8])
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn three_distinct_accusers_are_enough_and_one_is_not_however_often_it_says_so() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default());
        assert_eq!(suspicions.accuse(at(0), &says(1, 4), LIFE), Vote::Counted(1));
        assert_eq!(suspicions.accuse(at(1), &says(1, 4), LIFE), Vote::Repeated);
        assert_eq!(suspicions.deadline(subject(), 5), Some(at(6_000)));
        assert_eq!(suspicions.accuse(at(2), &says(2, 4), LIFE), Vote::Counted(2));
        assert_eq!(suspicions.deadline(subject(), 5), Some(at(6_000)));
        assert_eq!(suspicions.accuse(at(3), &says(3, 4), LIFE), Vote::Counted(3));
        assert_eq!(suspicions.deadline(subject(), 5), Some(at(1_000)));
        assert_eq!(suspicions.judge(at(999), me(), subject(), 5, None), Verdict::Open);
        assert_eq!(suspicions.judge(at(1_000), me(), subject(), 5, None), Verdict::Down { accusers: 3 });
    }

    #[test]
    fn a_higher_incarnation_voids_every_vote() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default());
        suspicions.accuse(at(0), &says(1, 4), LIFE);
        let refuted = Life { incarnation: 5, ..LIFE };
        assert!(suspicions.refute(subject(), refuted));
        assert_eq!(suspicions.accusers(subject()), 0);
        assert_eq!(suspicions.accuse(at(1), &says(2, 4), refuted), Vote::Stale);
        assert_eq!(suspicions.accuse(at(1), &says(2, 60_000), refuted), Vote::Stale);
    }

    #[test]
    fn a_lone_accuser_does_not_outweigh_what_we_heard_ourselves() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default());
        suspicions.accuse(at(10), &says(1, 4), LIFE);
        assert_eq!(suspicions.judge(at(6_010), me(), subject(), 5, Some(at(11))), Verdict::Contradicted);
        assert_eq!(suspicions.judge(at(6_010), me(), subject(), 5, Some(at(9))), Verdict::Unsure);
        suspicions.accuse(at(6_020), &says(8, 4), LIFE);
        assert_eq!(
            suspicions.judge(at(6_020), me(), subject(), 5, Some(at(9))),
            Verdict::Down { accusers: 2 }
        );
    }

    #[test]
    fn small_meshes_need_as_many_accusers_as_there_are() {
        assert_eq!([0, 1, 2, 3, 50].map(enough), [1, 1, 2, 3, 3]);
    }

    #[test]
    fn votes_of_an_accuser_that_is_gone_do_not_count() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default());
        suspicions.accuse(at(0), &says(1, 4), LIFE);
        suspicions.accuse(at(0), &says(2, 4), LIFE);
        assert_eq!(suspicions.withdraw(NodeId::from_bytes([1; 8])), []);
        assert_eq!(suspicions.accusers(subject()), 1);
        assert_eq!(suspicions.withdraw(NodeId::from_bytes([2; 8])), [subject()]);
        assert_eq!(suspicions.deadline(subject(), 5), None);
    }
}
