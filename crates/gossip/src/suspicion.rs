//! Who is accused by whom, and when that is enough.
//!
//! A member is Down when K = min(3, serving members other than the subject) distinct accusers agree on one incarnation
//! and the subject has had [`SuspicionConfig::min`] to refute, or when a suspicion outlasts its time, we have just tried
//! in vain ourselves and have not heard from the subject since it began. That time is [`SuspicionConfig::max`] for one accuser
//! and shrinks with each further one (Lifeguard, DSN 2018, IV-B). Who has heard nobody at all since a suspicion began
//! judges nobody, and the voice of who does not keep up decides nothing. A higher incarnation, revival or epoch voids every vote.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::sealed::Accusation;
use ringmesh_types::time::Instant;
use serde::{Deserialize, Serialize};

use crate::local_health::LocalHealth;
use crate::parts::Parts;

/// Accusers that are enough, if there are that many members.
pub const ACCUSERS_ENOUGH: usize = 3;
/// Where few accuse, our own vote decides if it is no older than this.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// What was said in a suspicion that is over is known for at least so long: copies of it are still under way.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// What is known for long enough is looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How much of the time between max and min a second of three accusers takes away: ln 2 / ln 3.
const SHRUNK_BY_SECOND: f64 = 0.631;
/// Who hears nobody of at least so many others, or is answered by few, doubts itself: they cannot all have died at once.
const DOUBT_AMONG: usize = 3;
/// For this long; then it goes by what it sees.
const DOUBT_FOR: Duration = Duration::from_secs(45);

/// How long a suspicion lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspicionConfig {
    /// With enough accusers: the time that a subject always has to refute.
    pub min: Duration,
    /// With one.
    pub max: Duration,
}

impl Default for SuspicionConfig {
    fn default() -> Self {
        Self { min: Duration::from_millis(1_100), max: Duration::from_secs(6) }
    }
}

/// Who judges, and what it goes by.
#[derive(Debug, Clone, Copy)]
pub struct Judge {
    /// Its id.
    pub me: NodeId,
    /// How many serving members there are besides the subject.
    pub others: usize,
    /// When it last heard from the subject.
    pub heard_subject: Option<Instant>,
    /// When it last heard from anybody else.
    pub heard_anybody: Option<Instant>,
    /// How well it keeps up itself, and how long things take.
    pub pace: Pace,
}

/// How fast suspicions may end.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How well we keep up.
    pub health: LocalHealth,
    /// How long the subject needs at least to hear and to refute, be it more than the configuration says.
    pub refutes_within: Duration,
    /// Whether nobody has time, so that the subject has as long as with one accuser, however many accuse.
    pub is_crowded: bool,
}

impl Judge {
    /// Whether nothing was heard of anybody since, in a mesh where somebody should have been, and not for long.
    pub fn is_deaf_since(&self, now: Instant, since: Instant) -> bool {
        let has_heard = self.heard_anybody.is_some_and(|at| at > since);
        self.others >= DOUBT_AMONG && !has_heard && !self.is_alone(now)
    }

    /// Whether nobody was heard for so long that we go by what we see, also of those that we try only then.
    fn is_alone(&self, now: Instant) -> bool {
        now >= self.heard_anybody.unwrap_or(Instant::START).after(DOUBT_FOR)
    }

    /// Whether it would be our own voice that decides, which we have reason not to trust.
    fn is_too_sick_for(&self, accusers: usize) -> bool {
        self.others >= DOUBT_AMONG && accusers < ACCUSERS_ENOUGH && self.pace.health.is_sick()
    }
}

/// The life of a member that a vote is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// This accuser has said so already, or something else since.
    Repeated,
    /// The subject has refuted it, or it is about another life of the subject.
    Stale,
}

/// What an accuser last said. Its statements are numbered: a later one replaces an earlier one, whichever comes first.
#[derive(Debug, Clone, Copy)]
struct Ballot {
    at: Instant,
    sequence: u64,
    is_accusing: bool,
}

#[derive(Debug)]
struct Suspicion {
    life: Life,
    /// When the first of the present accusers said so.
    since: Instant,
    /// When anything was last said.
    touched: Instant,
    ballots: BTreeMap<NodeId, Ballot>,
}

impl Suspicion {
    /// Takes in what an accuser says. Says whether it is later than what it said before.
    fn hear(&mut self, now: Instant, accusation: &Accusation, is_accusing: bool) -> bool {
        let sequence = accusation.sequence;
        let is_later = self.ballots.get(&accusation.accuser).is_none_or(|ballot| ballot.sequence < sequence);
        if is_later {
            self.touched = now;
            self.ballots.insert(accusation.accuser, Ballot { at: now, sequence, is_accusing });
        }
        is_later
    }

    fn new(now: Instant, life: Life) -> Self {
        Self { life, since: now, touched: now, ballots: BTreeMap::new() }
    }

    fn accusers(&self) -> usize {
        self.ballots.values().filter(|ballot| ballot.is_accusing).count()
    }

    fn is_accusing(&self, accuser: NodeId) -> bool {
        self.ballots.get(&accuser).is_some_and(|ballot| ballot.is_accusing)
    }

    /// Nobody accuses any more; what was said stays known, so that an echo of it is not news.
    fn fall_silent(&mut self) {
        self.ballots.values_mut().for_each(|ballot| ballot.is_accusing = false);
    }
}

/// The suspicions, and for a while what was said in those that are over.
#[derive(Debug)]
pub struct Suspicions {
    config: SuspicionConfig,
    parts: Parts,
    open: BTreeMap<NodeId, Suspicion>,
    /// When those that nobody needs to know any more were last dropped.
    swept: Instant,
}

impl Suspicions {
    /// None.
    pub fn new(config: SuspicionConfig, parts: Parts) -> Self {
        Self { config, parts, open: BTreeMap::new(), swept: Instant::START }
    }

    /// Counts an accusation against the life that the subject is known to live.
    pub fn accuse(&mut self, now: Instant, accusation: &Accusation, known: Life) -> Vote {
        let life = Life::of(accusation);
        if life != known {
            return Vote::Stale;
        }
        let suspicion = self.entry(now, accusation.subject, life);
        let was_accused = suspicion.accusers() > 0;
        let was_accusing = suspicion.is_accusing(accusation.accuser);
        if !suspicion.hear(now, accusation, true) || was_accusing {
            return Vote::Repeated;
        }
        if !was_accused {
            suspicion.since = now;
        }
        Vote::Counted(suspicion.accusers())
    }

    /// An accuser takes back what it said of the life that the subject is known to live.
    pub fn take_back(&mut self, now: Instant, accusation: &Accusation, known: Life) -> TakenBack {
        let life = Life::of(accusation);
        if life != known {
            return TakenBack::Nothing;
        }
        let suspicion = self.entry(now, accusation.subject, life);
        let was_accusing = suspicion.is_accusing(accusation.accuser);
        if !suspicion.hear(now, accusation, false) {
            return TakenBack::Nothing;
        }
        if !was_accusing {
            return TakenBack::Unheld;
        }
        if suspicion.accusers() == 0 { TakenBack::Last } else { TakenBack::One }
    }

    fn entry(&mut self, now: Instant, subject: NodeId, life: Life) -> &mut Suspicion {
        if now.since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.open.retain(|_, old| old.accusers() > 0 || now.since(old.touched) < KNOWN_FOR);
        }
        let suspicion = self.open.entry(subject).or_insert_with(|| Suspicion::new(now, life));
        if suspicion.life != life {
            *suspicion = Suspicion::new(now, life);
        }
        suspicion
    }

    /// Voids what is said about older lives of `subject`. Gives those back that had said it.
    pub fn refute(&mut self, subject: NodeId, known: Life) -> Option<Vec<NodeId>> {
        let suspicion = self.open.get(&subject).filter(|suspicion| suspicion.life < known)?;
        let accusers: Vec<NodeId> =
            suspicion.ballots.iter().filter(|(_, ballot)| ballot.is_accusing).map(|(id, _)| *id).collect();
        self.open.remove(&subject);
        (!accusers.is_empty()).then_some(accusers)
    }

    /// Closes the suspicion of `subject`, whatever it is. Says whether there was one.
    pub fn close(&mut self, subject: NodeId) -> bool {
        let Some(suspicion) = self.open.get_mut(&subject).filter(|suspicion| suspicion.accusers() > 0) else {
            return false;
        };
        suspicion.fall_silent();
        true
    }

    /// An accuser is gone or Down: its votes do not count any more. Returns whom nobody accuses now.
    pub fn withdraw(&mut self, accuser: NodeId) -> Vec<NodeId> {
        let mut cleared = Vec::new();
        for (subject, suspicion) in &mut self.open {
            if suspicion.is_accusing(accuser) {
                suspicion.ballots.remove(&accuser);
                if suspicion.accusers() == 0 {
                    cleared.push(*subject);
                }
            }
        }
        cleared
    }

    /// How many accusers the open suspicion of `subject` has.
    pub fn accusers(&self, subject: NodeId) -> usize {
        self.open.get(&subject).map_or(0, Suspicion::accusers)
    }

    /// Whether `accuser` is among them.
    pub fn is_accused_by(&self, accuser: NodeId, subject: NodeId) -> bool {
        self.open.get(&subject).is_some_and(|suspicion| suspicion.is_accusing(accuser))
    }

    fn find(&self, subject: NodeId) -> Option<&Suspicion> {
        self.open.get(&subject).filter(|suspicion| suspicion.accusers() > 0)
    }

    /// When the suspicion of `subject` ends, given how many serving members there are besides it.
    pub fn deadline(&self, subject: NodeId, others: usize, pace: &Pace) -> Option<Instant> {
        let suspicion = self.find(subject)?;
        let min = self.config.min.max(pace.refutes_within);
        let max = self.config.max.max(min);
        if pace.is_crowded {
            return Some(suspicion.since.after(max));
        }
        if suspicion.accusers() >= enough(others) {
            return Some(suspicion.since.after(min));
        }
        let is_shrunk = self.parts.shrinking_suspicion && suspicion.accusers() > 1;
        let lasts = if is_shrunk { max - max.saturating_sub(min).mul_f64(SHRUNK_BY_SECOND) } else { max };
        Some(suspicion.since.after(lasts))
    }

    /// Nothing could be heard for `length`: no suspicion has lasted any longer for that.
    pub fn delay(&mut self, length: Duration) {
        for suspicion in self.open.values_mut() {
            suspicion.since = suspicion.since.after(length);
        }
    }

    /// What should be done about `subject` now.
    pub fn judge(&self, now: Instant, judge: &Judge, subject: NodeId) -> Verdict {
        let Some(suspicion) = self.find(subject) else {
            return Verdict::Open;
        };
        if self.deadline(subject, judge.others, &judge.pace).is_none_or(|at| at > now) {
            return Verdict::Open;
        }
        let has_heard = |heard: Option<Instant>| heard.is_some_and(|at| at > suspicion.since);
        let accusers = suspicion.accusers();
        let is_in_doubt = judge.is_deaf_since(now, suspicion.since)
            || (judge.is_too_sick_for(accusers) && now < suspicion.since.after(DOUBT_FOR));
        if self.parts.self_doubt && is_in_doubt && !judge.is_alone(now) {
            return Verdict::Doubtful;
        }
        if accusers >= enough(judge.others) {
            return Verdict::Down { accusers };
        }
        if has_heard(judge.heard_subject) {
            return Verdict::Contradicted;
        }
        let is_fresh = |ballot: &Ballot| ballot.is_accusing && now.since(ballot.at) < FRESH_FOR;
        if !suspicion.ballots.get(&judge.me).is_some_and(is_fresh) {
            return Verdict::Unsure;
        }
        Verdict::Down { accusers }
    }
}

/// What taking a vote back came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenBack {
    /// It is no news, or about another life.
    Nothing,
    /// The vote has not come here: it does not count if it comes later, and others may hold it.
    Unheld,
    /// Others accuse still.
    One,
    /// Nobody accuses any more.
    Last,
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
    /// Too few say so, and we have not tried ourselves, or long ago: a look decides.
    Unsure,
    /// We have heard nobody since, or do not keep up: it may be us.
    Doubtful,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_types::sealed::{Evidence, Seal};

    const LIFE: Life = Life { epoch: Epoch(1), revival: 0, incarnation: 4 };

    fn says(accuser: u8, incarnation: u16) -> Accusation {
        said(0, accuser, incarnation)
    }

    fn said(sequence: u64, accuser: u8, incarnation: u16) -> Accusation {
        Accusation {
            sequence,
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

    const WELL: &Pace =
        &Pace { health: LocalHealth::WELL, refutes_within: Duration::ZERO, is_crowded: false };

    /// Somebody that keeps up and hears others all the time.
    fn judge(heard_subject: Option<Instant>) -> Judge {
        Judge { me: me(), others: 5, heard_subject, heard_anybody: Some(at(100_000)), pace: *WELL }
    }

    #[test]
    fn what_an_accuser_said_last_counts_in_whatever_order_it_comes() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        assert_eq!(suspicions.accuse(at(0), &said(1, 1, 4), LIFE), Vote::Counted(1));
        assert_eq!(suspicions.accuse(at(0), &said(1, 2, 4), LIFE), Vote::Counted(2));
        assert_eq!(suspicions.take_back(at(10), &said(2, 3, 4), LIFE), TakenBack::Unheld);
        assert_eq!(suspicions.accuse(at(10), &said(1, 3, 4), LIFE), Vote::Repeated, "was overtaken");
        assert_eq!(suspicions.take_back(at(10), &said(2, 2, 4), LIFE), TakenBack::One);
        assert_eq!(suspicions.accuse(at(20), &said(1, 2, 4), LIFE), Vote::Repeated, "an echo");
        assert_eq!(suspicions.accuse(at(20), &said(3, 2, 4), LIFE), Vote::Counted(2));
        assert_eq!(suspicions.take_back(at(20), &said(9, 1, 3), LIFE), TakenBack::Nothing, "another life");
        assert_eq!(suspicions.take_back(at(20), &said(2, 1, 4), LIFE), TakenBack::One);
        assert_eq!(suspicions.take_back(at(30), &said(4, 2, 4), LIFE), TakenBack::Last);
        assert_eq!(suspicions.accusers(subject()), 0);
        assert_eq!(suspicions.deadline(subject(), 5, WELL), None);
        assert_eq!(suspicions.accuse(at(40), &said(5, 2, 4), LIFE), Vote::Counted(1));
        assert_eq!(suspicions.deadline(subject(), 5, WELL), Some(at(6_040)), "it begins anew");
        assert!(suspicions.close(subject()));
        assert_eq!(
            suspicions.accuse(at(50), &said(5, 2, 4), LIFE),
            Vote::Repeated,
            "an echo of what is over"
        );
    }

    #[test]
    fn what_is_over_is_forgotten_after_a_while() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        suspicions.accuse(at(0), &says(1, 4), LIFE);
        suspicions.close(subject());
        let other = Accusation { subject: me(), ..says(1, 4) };
        suspicions.accuse(at(59_999), &other, LIFE);
        assert_eq!(suspicions.open.len(), 2);
        suspicions.close(me());
        suspicions.accuse(at(65_000), &Accusation { subject: says(3, 4).accuser, ..says(1, 4) }, LIFE);
        assert_eq!(suspicions.open.len(), 2, "only the first is old enough");
    }

    #[test]
    fn who_hears_nobody_judges_nobody_for_a_while() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        for byte in 1..=3 {
            suspicions.accuse(at(0), &says(byte, 4), LIFE);
        }
        let deaf = |others| Judge { heard_anybody: Some(at(0)), others, ..judge(None) };
        assert_eq!(suspicions.judge(at(44_999), &deaf(3), subject()), Verdict::Doubtful);
        assert_eq!(suspicions.judge(at(45_000), &deaf(3), subject()), Verdict::Down { accusers: 3 });
        assert_eq!(suspicions.judge(at(1_100), &deaf(2), subject()), Verdict::Down { accusers: 3 });
    }

    #[test]
    fn the_voice_of_who_does_not_keep_up_decides_nothing_for_a_while() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        suspicions.accuse(at(0), &says(8, 4), LIFE);
        let mut pace = *WELL;
        pace.health.worsen(7);
        let sick = |others| Judge { others, pace, ..judge(None) };
        assert_eq!(suspicions.judge(at(6_000), &sick(3), subject()), Verdict::Doubtful);
        assert_eq!(suspicions.judge(at(6_000), &sick(2), subject()), Verdict::Unsure);
        suspicions.accuse(at(44_999), &said(1, 8, 4), LIFE);
        assert_eq!(suspicions.judge(at(45_000), &sick(3), subject()), Verdict::Down { accusers: 1 });
    }

    #[test]
    fn where_a_refutation_takes_long_it_is_waited_for() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        for byte in 1..=3 {
            suspicions.accuse(at(0), &says(byte, 4), LIFE);
        }
        let pace = Pace { refutes_within: Duration::from_secs(2), ..*WELL };
        assert_eq!(suspicions.deadline(subject(), 5, &pace), Some(at(2_000)));
    }

    #[test]
    fn where_nobody_has_time_three_accusers_are_as_patient_as_one() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        let pace = Pace { is_crowded: true, ..*WELL };
        for byte in 1..=3 {
            suspicions.accuse(at(0), &says(byte, 4), LIFE);
            assert_eq!(suspicions.deadline(subject(), 5, &pace), Some(at(6_000)));
        }
    }

    #[test]
    fn three_distinct_accusers_are_enough_and_one_is_not_however_often_it_says_so() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        assert_eq!(suspicions.accuse(at(0), &says(1, 4), LIFE), Vote::Counted(1));
        assert_eq!(suspicions.accuse(at(1), &says(1, 4), LIFE), Vote::Repeated);
        assert_eq!(suspicions.deadline(subject(), 5, WELL), Some(at(6_000)));
        assert_eq!(suspicions.accuse(at(2), &says(2, 4), LIFE), Vote::Counted(2));
        let shrunk = suspicions.deadline(subject(), 5, WELL).expect("is accused");
        assert_eq!(shrunk.since(at(0)).as_millis(), 2_908, "6 s less ln 2 / ln 3 of 4.9 s");
        assert_eq!(suspicions.accuse(at(3), &says(3, 4), LIFE), Vote::Counted(3));
        assert_eq!(suspicions.deadline(subject(), 5, WELL), Some(at(1_100)));
        assert_eq!(suspicions.judge(at(1_099), &judge(None), subject()), Verdict::Open);
        assert_eq!(suspicions.judge(at(1_100), &judge(None), subject()), Verdict::Down { accusers: 3 });
    }

    #[test]
    fn a_higher_incarnation_voids_every_vote() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        suspicions.accuse(at(0), &says(1, 4), LIFE);
        let refuted = Life { incarnation: 5, ..LIFE };
        assert_eq!(suspicions.refute(subject(), refuted), Some(vec![says(1, 4).accuser]));
        assert_eq!(suspicions.accusers(subject()), 0);
        assert_eq!(suspicions.accuse(at(1), &says(2, 4), refuted), Vote::Stale);
        assert_eq!(suspicions.accuse(at(1), &says(2, 60_000), refuted), Vote::Stale);
    }

    #[test]
    fn a_lone_accuser_does_not_outweigh_what_we_heard_ourselves() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        suspicions.accuse(at(10), &says(1, 4), LIFE);
        assert_eq!(suspicions.judge(at(6_010), &judge(Some(at(11))), subject()), Verdict::Contradicted);
        assert_eq!(suspicions.judge(at(6_010), &judge(Some(at(9))), subject()), Verdict::Unsure);
        suspicions.accuse(at(6_020), &says(8, 4), LIFE);
        assert_eq!(
            suspicions.judge(at(6_020), &judge(Some(at(9))), subject()),
            Verdict::Down { accusers: 2 }
        );
    }

    #[test]
    fn small_meshes_need_as_many_accusers_as_there_are() {
        assert_eq!([0, 1, 2, 3, 50].map(enough), [1, 1, 2, 3, 3]);
    }

    #[test]
    fn votes_of_an_accuser_that_is_gone_do_not_count() {
        let mut suspicions = Suspicions::new(SuspicionConfig::default(), Parts::ALL);
        suspicions.accuse(at(0), &says(1, 4), LIFE);
        suspicions.accuse(at(0), &says(2, 4), LIFE);
        assert_eq!(suspicions.withdraw(NodeId::from_bytes([1; 8])), []);
        assert_eq!(suspicions.accusers(subject()), 1);
        assert_eq!(suspicions.withdraw(NodeId::from_bytes([2; 8])), [subject()]);
        assert_eq!(suspicions.deadline(subject(), 5, WELL), None);
    }
}
