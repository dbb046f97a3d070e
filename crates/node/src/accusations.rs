//! Who is accused of not answering, by us and by others, and what comes of it.
//!
//! Whoever gets no answer accuses before everybody. The first accusation makes witnesses look for themselves,
//! over a stream. Votes are counted by [`ringmesh_gossip::suspicion`]; this says which votes there are.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_gossip::codec::Peer;
use ringmesh_gossip::credit::Credit;
use ringmesh_gossip::message::{Push, Request};
use ringmesh_gossip::plumtree::Kept;
use ringmesh_gossip::probe::Outlook;
use ringmesh_gossip::suspicion::{ACCUSERS_ENOUGH, Judge, Life, Pace, TakenBack, Verdict, Vote};
use ringmesh_types::document::Topic;
use ringmesh_types::ids::NodeId;
use ringmesh_types::sealed::{Accusation, Evidence, Seal, Statement, Verified};
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::contacts::Asked;
use crate::io::{Class, Source};
use crate::machine::{Node, NodeConfig, Timer};
use crate::members::{Member, Members};
use crate::paths::Paths;
use crate::witnesses::is_witness;

/// At most one refutation in this time: a liar cannot make us shout.
const REFUTE_EVERY: Duration = Duration::from_millis(200);
/// How long a suspect has to answer who looks, at least and at most: a stream sends again four times in the shorter time.
const LOOK_FOR: (Duration, Duration) = (Duration::from_millis(750), Duration::from_secs(3));
/// In between so many times as long as its answer to a probe is waited for.
const LOOK_WAITS: u32 = 6;
/// A suspect has so many such waits to hear of it and to refute.
const REFUTE_WAITS: u32 = 3;
/// What is added to the time it has if all packets seem to get lost; less if fewer do.
const REFUTE_IN_LOSS: Duration = Duration::from_secs(3);
/// How often a suspicion that is over is judged again while we doubt ourselves.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// Whoever declares a member Down on few voices compares with another member this soon: it may count it among the living.
const ASK_OTHERS_WITHIN: Duration = Duration::from_millis(200);
/// Of more accusers than this nobody needs to hear: some may take their votes back, and there are still enough.
const ACCUSERS_TOLD: usize = 2 * ACCUSERS_ENOUGH;

/// What is kept of accusations beside the votes.
#[derive(Debug, Default)]
pub(crate) struct Accusations {
    /// Whom we accused before everybody, in which life, since when.
    told: BTreeMap<NodeId, (Life, Instant)>,
    credit: Credit,
    /// The number of the last statement.
    sequence: u64,
    refuted: Option<Instant>,
    /// The two members that were heard last, the later one first.
    heard: [Option<(NodeId, Instant)>; 2],
}

impl Accusations {
    /// A member is Down or has left: nothing that we said of it needs to be taken back any more.
    pub(crate) fn settle(&mut self, subject: NodeId) {
        self.told.remove(&subject);
    }

    /// Something came from a member.
    pub(crate) fn note_heard(&mut self, now: Instant, from: NodeId) {
        if let [Some((last, _)), _] = self.heard
            && last != from
        {
            self.heard[1] = self.heard[0];
        }
        self.heard[0] = Some((from, now));
    }

    /// When anybody was heard last.
    pub(crate) fn heard_anybody(&self) -> Option<Instant> {
        self.heard[0].map(|(_, at)| at)
    }

    /// When anybody but `subject` was heard last.
    fn heard_besides(&self, subject: NodeId) -> Option<Instant> {
        self.heard.iter().flatten().find(|(from, _)| *from != subject).map(|(_, at)| *at)
    }

    fn may_refute(&mut self, now: Instant) -> bool {
        let may = self.refuted.is_none_or(|at| now.since(at) >= REFUTE_EVERY);
        if may {
            self.refuted = Some(now);
        }
        may
    }
}

/// What a member's probe goes by.
pub(crate) fn outlook(config: &NodeConfig, members: &Members, paths: &Paths, id: NodeId) -> Outlook {
    let longest = config.probe.timeout;
    let Some(member) = members.find(id) else {
        return Outlook { wait: longest, is_suspect: false };
    };
    let is_suspect = matches!(member.state(), MemberState::Suspect { .. });
    let is_measured = config.parts.measured_waits;
    let wait = if is_measured { paths.wait(&member.body().zone, longest) } else { longest };
    Outlook { wait, is_suspect }
}

/// The state of who is accused by so many. Once they are enough, more of them are no change.
fn suspect(accusers: usize) -> MemberState {
    MemberState::Suspect { accusers: u16::try_from(accusers.min(ACCUSERS_ENOUGH)).unwrap_or(u16::MAX) }
}

impl Node {
    /// Our own probe failed, or we looked and got no answer, trying since `begun`: accuse, and tell everybody, the subject
    /// first of all. Who has heard nobody meanwhile, or does not keep up, may be the one at fault and tells nobody. But nobody
    /// need have spoken yet: it is a whole probe period until everybody has, so for so long we wait to hear of anybody.
    pub(crate) fn accuse(&mut self, now: Instant, subject: Peer, begun: Instant) {
        let is_alive = |member: &&Member| Peer::from(member.identity()) == subject;
        let Some(member) = self.members.find(subject.id()).filter(is_alive) else {
            return;
        };
        if !matches!(member.state(), MemberState::Alive | MemberState::Suspect { .. }) || self.is_displaced()
        {
            return;
        }
        let life = member.life();
        if self.config.parts.self_doubt && self.contacts.has_just_come(now) {
            return;
        }
        let accusation = self.sealed_accusation(now, subject.id(), life, Evidence::ProbeUnanswered);
        self.count_vote(now, &accusation);
        if self.config.parts.self_doubt {
            if self.membership.local_health().is_sick() {
                self.take_all_back(now);
                return;
            }
            if self.judge(subject.id()).is_deaf_since(now, begun) {
                let beat = begun.after(self.config.probe.period);
                if now < beat {
                    self.timers.arm(beat, Timer::LookOver(subject.id(), begun));
                }
                return;
            }
        }
        if self.suspicions.accusers(subject.id()) > ACCUSERS_TOLD {
            return;
        }
        let told = self.accusations.told.entry(subject.id()).or_insert((life, now));
        if told.0 != life {
            *told = (life, now);
        }
        self.tell_subject(&accusation);
        self.tell_everybody(now, accusation);
    }

    /// A statement of ours, numbered by the wall clock, so that those of the next life have higher numbers.
    fn sealed_accusation(
        &mut self,
        now: Instant,
        subject: NodeId,
        life: Life,
        evidence: Evidence,
    ) -> Accusation {
        let wall = self.clock.wall(now).as_unix_millis();
        self.accusations.sequence = wall.max(self.accusations.sequence + 1);
        let accusation = Accusation {
            accuser: self.id(),
            subject,
            epoch: life.epoch,
            revival: life.revival,
            incarnation: life.incarnation,
            evidence,
            sequence: self.accusations.sequence,
            seal: Seal([0; 64]),
        };
        Verified::seal_accusation(accusation, self.publisher.sealer()).into_inner()
    }

    fn tell_everybody(&mut self, now: Instant, accusation: Accusation) {
        self.spread_news(now, None, 0, &[Kept::Accusation(Arc::new(accusation))]);
    }

    /// Whoever accuses should tell the subject. A liar would not, so its neighbours do.
    fn tell_neighbour_accused(&mut self, accusation: &Accusation) {
        if self.spread.is_linked(accusation.subject) {
            self.tell_subject(accusation);
        }
    }

    fn tell_subject(&mut self, accusation: &Accusation) {
        if let Some(target) = self.members.find(accusation.subject).map(Member::target) {
            let push = Push::Statements(vec![Statement::Accusation(accusation.clone())]);
            self.push(vec![target], Class::Accusation, push);
        }
    }

    /// We hold ourselves to be the one at fault: what we said of others should not count elsewhere.
    fn take_all_back(&mut self, now: Instant) {
        for (subject, (life, _)) in core::mem::take(&mut self.accusations.told) {
            let taken = self.sealed_accusation(now, subject, life, Evidence::TakenBack);
            self.tell_everybody(now, taken);
        }
    }

    /// A member answered a probe of ours, be it late: what we said of it does not hold any more.
    pub(crate) fn on_answered(&mut self, now: Instant, subject: NodeId) {
        let told = self.accusations.told.remove(&subject);
        let Some(life) = self.members.find(subject).map(Member::life) else {
            return;
        };
        if !self.suspicions.is_accused_by(self.id(), subject) {
            return;
        }
        let taken_back = self.sealed_accusation(now, subject, life, Evidence::TakenBack);
        let taken = self.suspicions.take_back(now, &taken_back, life);
        self.show_taken_back(now, subject, taken, "it answers this agent");
        if told.is_some_and(|(told, _)| told == life) {
            self.tell_everybody(now, taken_back);
        }
    }

    fn show_taken_back(&mut self, now: Instant, subject: NodeId, taken: TakenBack, cause: &str) {
        let state = match taken {
            TakenBack::Nothing | TakenBack::Unheld => return,
            TakenBack::Last => MemberState::Alive,
            TakenBack::One => suspect(self.suspicions.accusers(subject)),
        };
        self.set_state(now, subject, state, cause.to_owned());
        self.arm_suspicion(now, subject);
    }

    /// Another agent uses our name and the mesh listens to that one: that nobody answers us says nothing about them.
    pub(crate) fn is_displaced(&self) -> bool {
        self.members.find(self.id()).is_some_and(|me| me.clash().is_some())
    }

    /// Counts what another accuser says. Says whether it was news.
    pub(crate) fn on_accusation(
        &mut self,
        now: Instant,
        source: Source,
        accusation: Verified<Accusation>,
    ) -> bool {
        let accusation = accusation.into_inner();
        let is_member = self.members.find(accusation.accuser).is_some_and(Member::is_serving);
        if !is_member || accusation.accuser == accusation.subject {
            self.stats.accusations_void += 1;
            return false;
        }
        match accusation.evidence {
            Evidence::TakenBack => self.on_taken_back(now, &accusation),
            Evidence::ProbeUnanswered if accusation.subject == self.id() => {
                self.on_accused_before_all(now, source, &accusation);
                false
            }
            Evidence::ProbeUnanswered => self.on_unanswered(now, source, &accusation),
        }
    }

    fn on_taken_back(&mut self, now: Instant, accusation: &Accusation) -> bool {
        let (accuser, subject) = (accusation.accuser, accusation.subject);
        let Some(life) = self.members.find(subject).map(Member::life) else {
            return false;
        };
        let taken = self.suspicions.take_back(now, accusation, life);
        let cause = format!("{} takes back that it got no answer", self.name_of(accuser));
        self.show_taken_back(now, subject, taken, &cause);
        taken != TakenBack::Nothing
    }

    fn on_unanswered(&mut self, now: Instant, source: Source, accusation: &Accusation) -> bool {
        let members = self.members.len();
        if self.config.parts.self_doubt && self.accusations.credit.is_spent(now, accusation.accuser, members)
        {
            self.stats.accusations_void += 1;
            // Others may believe it still.
            self.tell_neighbour_accused(accusation);
            return false;
        }
        let is_news = self.count_vote(now, accusation);
        match self.members.find(accusation.subject).map(Member::state) {
            Some(MemberState::Suspect { .. }) if is_news => {
                self.tell_neighbour_accused(accusation);
                if self.is_witness(accusation) {
                    self.look_at(now, accusation.subject);
                }
            }
            // Whoever accuses a member that left has missed the leave.
            Some(MemberState::Left) => {
                let left = self.registry.find(accusation.subject, Topic::NODE).cloned();
                if let Some(left) = left {
                    self.echo(now, source, &left);
                }
            }
            Some(_) | None => {}
        }
        is_news && self.suspicions.accusers(accusation.subject) <= ACCUSERS_TOLD
    }

    fn is_witness(&self, accusation: &Accusation) -> bool {
        let subject = accusation.subject;
        let Some(home) = self.members.find(subject).map(|member| &member.body().zone) else {
            return false;
        };
        let may_look = |member: &&Member| {
            member.is_serving() && member.id() != subject && member.id() != accusation.accuser
        };
        let all = self.members.iter().filter(may_look).map(|member| (member.id(), &member.body().zone));
        let me = (self.id(), &self.config.zone);
        self.config.parts.witnesses && is_witness(me, (subject, home), all)
    }

    /// Looks at a suspect ourselves, over a stream, which survives loss.
    fn look_at(&mut self, now: Instant, subject: NodeId) {
        let Some((target, life)) = self.members.find(subject).map(|member| (member.target(), member.life()))
        else {
            return;
        };
        if self.contacts.is_looking_at(subject) {
            return;
        }
        let look_for = self.look_for(subject);
        if self.ask(target, Asked::Look(subject, now), Request::Look { life }).is_some() {
            self.timers.arm(now.after(look_for), Timer::LookOver(subject, now));
        }
    }

    fn look_for(&self, subject: NodeId) -> Duration {
        (self.wait_for(subject) * LOOK_WAITS).clamp(LOOK_FOR.0, LOOK_FOR.1)
    }

    /// How long the answer of a member to a probe is waited for.
    fn wait_for(&self, id: NodeId) -> Duration {
        outlook(&self.config, &self.members, &self.paths, id).wait
    }

    fn pace(&self, subject: NodeId) -> Pace {
        let refutes_within = if self.config.parts.measured_waits {
            let lost = REFUTE_IN_LOSS.mul_f64(self.membership.loss().share());
            self.wait_for(subject) * REFUTE_WAITS + lost
        } else {
            Duration::ZERO
        };
        let is_crowded = self.config.parts.measured_waits && self.crowd.is_there();
        Pace { health: self.membership.local_health(), refutes_within, is_crowded }
    }

    /// A suspect that we have tried to reach since `begun` had time enough to answer us.
    pub(crate) fn on_look_over(&mut self, now: Instant, subject: NodeId, begun: Instant) {
        let has_answered = self.members.find(subject).and_then(Member::heard).is_some_and(|at| at > begun);
        let was_waited_for = self.contacts.give_up_look(subject, begun);
        if was_waited_for || !has_answered {
            self.on_suspect_silent(now, subject, begun);
        }
    }

    /// We are accused before everybody: raise the incarnation, or show the one that already refutes it.
    fn on_accused_before_all(&mut self, now: Instant, source: Source, accusation: &Accusation) {
        let life = Life::of(accusation);
        if !self.on_accused(now, life)
            && let Some(ours) = self.registry.find(self.id(), Topic::NODE).cloned()
        {
            self.echo(now, source, &ours);
        }
    }

    /// Somebody suspects us in this life: refute it. Says whether it is the one that we live.
    pub(crate) fn on_accused(&mut self, now: Instant, life: Life) -> bool {
        let me = self.membership.identity();
        let is_ours = life.incarnation == self.membership.incarnation();
        if (life.epoch, life.revival) == (me.epoch, me.revival) && is_ours && self.accusations.may_refute(now)
        {
            self.membership.refute(now, life.incarnation);
        }
        is_ours || (life.epoch, life.revival) != (me.epoch, me.revival)
    }

    /// A later life of a member was shown: what was said against earlier ones is void, and held against who said it.
    pub(crate) fn on_life_shown(&mut self, now: Instant, id: NodeId, cause: &str) {
        let Some(life) = self.members.find(id).map(Member::life) else {
            return;
        };
        let accusers = self.suspicions.refute(id, life);
        if life.incarnation > 0 {
            self.count_refutation(now, id, accusers.as_deref().unwrap_or_default());
        }
        if let Some(accusers) = accusers {
            self.accusations.credit.refute(now, accusers);
            self.accusations.told.remove(&id);
            self.set_state(now, id, MemberState::Alive, format!("refuted: {cause}"));
        }
    }

    /// Counts a vote. Says whether it was news.
    fn count_vote(&mut self, now: Instant, accusation: &Accusation) -> bool {
        let subject = accusation.subject;
        let Some(member) = self.members.find(subject) else {
            return false;
        };
        if !matches!(member.state(), MemberState::Alive | MemberState::Suspect { .. }) {
            self.stats.accusations_void += 1;
            return false;
        }
        match self.suspicions.accuse(now, accusation, member.life()) {
            Vote::Counted(accusers) => {
                self.stats.accusations_counted += 1;
                let who = self.name_of(accusation.accuser);
                let cause = format!("{who} got no answer from it");
                self.set_state(now, subject, suspect(accusers), cause);
                self.arm_suspicion(now, subject);
                true
            }
            Vote::Repeated => false,
            Vote::Stale => {
                self.stats.accusations_void += 1;
                let (said, known) = (Life::of(accusation), member.life());
                let follows = said.incarnation.checked_add(1).map(|incarnation| Life { incarnation, ..said });
                if follows == Some(known) {
                    self.count_overtaken(now, subject, accusation.accuser);
                }
                false
            }
        }
    }

    fn arm_suspicion(&mut self, now: Instant, subject: NodeId) {
        let others = self.members.possible_accusers(subject);
        if let Some(at) = self.suspicions.deadline(subject, others, &self.pace(subject)) {
            self.timers.arm(at.max(now), Timer::Suspicion(subject));
        }
    }

    /// A suspect answered this agent itself.
    pub(crate) fn on_suspect_answered(&mut self, now: Instant, subject: NodeId, life: Life) {
        let Some(member) = self.members.find_mut(subject) else {
            return;
        };
        member.set_heard(now);
        let known = member.life();
        if (life.epoch, life.revival) == (known.epoch, known.revival) && life > known {
            member.raise_incarnation(life.incarnation);
            self.on_life_shown(now, subject, "it raised its incarnation");
        }
        self.on_answered(now, subject);
        if self.suspicions.close(subject) {
            self.set_state(now, subject, MemberState::Alive, "it answers this agent".to_owned());
        }
    }

    /// A suspect that we looked at since `begun` did not answer this agent either.
    pub(crate) fn on_suspect_silent(&mut self, now: Instant, subject: NodeId, begun: Instant) {
        let is_suspect = |member: &&Member| matches!(member.state(), MemberState::Suspect { .. });
        let Some(member) = self.members.find(subject).filter(is_suspect) else {
            return;
        };
        self.accuse(now, member.identity().into(), begun);
        self.on_suspicion_due(now, subject);
    }

    /// Where few accuse, and we do, the subject must have heard of it and have had the time to refute. While we held
    /// ourselves to be the one at fault we told nobody.
    fn has_had_its_say(&mut self, now: Instant, judge: &Judge, subject: NodeId, accusers: usize) -> bool {
        let told = self.accusations.told.get(&subject).map(|(_, since)| *since);
        let needs = self.config.suspicion.min.max(judge.pace.refutes_within);
        let Some(until) = told.map(|since| since.after(needs)).filter(|until| *until > now) else {
            return true;
        };
        if accusers < ACCUSERS_ENOUGH.min(judge.others) {
            self.timers.arm(until, Timer::Suspicion(subject));
            return false;
        }
        true
    }

    fn judge(&self, subject: NodeId) -> Judge {
        Judge {
            me: self.id(),
            others: self.members.possible_accusers(subject),
            heard_subject: self.members.find(subject).and_then(Member::heard),
            heard_anybody: self.accusations.heard_besides(subject),
            pace: self.pace(subject),
        }
    }

    pub(crate) fn on_suspicion_due(&mut self, now: Instant, subject: NodeId) {
        let judge = self.judge(subject);
        match self.suspicions.judge(now, &judge, subject) {
            Verdict::Open => {
                let deadline = self.suspicions.deadline(subject, judge.others, &judge.pace);
                if deadline.is_some_and(|at| at > now) {
                    self.arm_suspicion(now, subject);
                }
            }
            Verdict::Doubtful => self.timers.arm(now.after(JUDGE_EVERY), Timer::Suspicion(subject)),
            Verdict::Unsure => {
                self.timers.arm(now.after(self.look_for(subject) + JUDGE_EVERY), Timer::Suspicion(subject));
                self.look_at(now, subject);
            }
            Verdict::Contradicted => {
                self.suspicions.close(subject);
                self.set_state(now, subject, MemberState::Alive, "it answers this agent".to_owned());
            }
            Verdict::Down { accusers } if self.has_had_its_say(now, &judge, subject, accusers) => {
                let cause = format!("{accusers} got no answer from it and it did not refute");
                self.declare_down(now, subject, cause);
                if accusers < ACCUSERS_ENOUGH {
                    self.repair_within(now, ASK_OTHERS_WITHIN);
                }
            }
            Verdict::Down { .. } => {}
        }
    }
}
