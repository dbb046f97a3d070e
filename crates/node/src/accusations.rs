//! Who is accused of not answering, by us and by others, and what comes of it.

use core::time::Duration;

use ringmesh_gossip::codec::Peer;
use ringmesh_gossip::message::Push;
use ringmesh_gossip::suspicion::{Verdict, Vote};
use ringmesh_types::document::Topic;
use ringmesh_types::ids::NodeId;
use ringmesh_types::sealed::{Accusation, Evidence, Seal, Statement, Verified};
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::contacts::Asked;
use crate::io::{Class, Source};
use crate::machine::{Node, Timer};
use crate::members::Member;

/// At most one refutation in this time: a liar cannot make us shout.
const REFUTE_EVERY: Duration = Duration::from_millis(200);

impl Node {
    /// Our own probe failed: accuse, and tell everybody, the subject first of all.
    pub(crate) fn accuse(&mut self, now: Instant, subject: Peer, incarnation: u16) {
        let is_alive = |member: &&Member| Peer::from(member.identity()) == subject;
        let Some(member) = self.members.find(subject.id()).filter(is_alive) else {
            return;
        };
        if !matches!(member.state(), MemberState::Alive | MemberState::Suspect { .. }) || self.is_displaced()
        {
            return;
        }
        let accusation = Accusation {
            accuser: self.id(),
            subject: subject.id(),
            epoch: subject.epoch(),
            revival: subject.revival(),
            incarnation,
            evidence: Evidence::ProbeUnanswered,
            seal: Seal([0; 64]),
        };
        let accusation = Verified::seal_accusation(accusation, self.publisher.sealer()).into_inner();
        self.count_vote(now, &accusation);
        let push = Push::Statements(vec![Statement::Accusation(accusation)]);
        self.push(self.members.everybody(), Class::Accusation, push);
    }

    /// Another agent uses our name and the mesh listens to that one: that nobody answers us says nothing about them.
    pub(crate) fn is_displaced(&self) -> bool {
        self.members.find(self.id()).is_some_and(|me| me.clash().is_some())
    }

    /// Counts what another accuser says. Gives it back if it was news.
    pub(crate) fn on_accusation(
        &mut self,
        now: Instant,
        source: Source,
        accusation: Verified<Accusation>,
    ) -> Option<Accusation> {
        let accusation = accusation.into_inner();
        let is_member = self.members.find(accusation.accuser).is_some_and(Member::is_serving);
        if !is_member || accusation.accuser == accusation.subject {
            self.stats.accusations_void += 1;
            return None;
        }
        if accusation.subject == self.id() {
            self.on_accused(now, source, &accusation);
            return None;
        }
        let is_news = self.count_vote(now, &accusation);
        let subject = self.members.find(accusation.subject).map(|member| (member.target(), member.state()));
        match subject {
            // Whoever accuses should tell the subject; a liar would not.
            Some((target, MemberState::Suspect { .. })) if is_news => {
                self.push(
                    vec![target],
                    Class::Accusation,
                    Push::Statements(vec![Statement::Accusation(accusation.clone())]),
                );
            }
            // Whoever accuses a member that left has missed the leave.
            Some((_, MemberState::Left)) => {
                let left = self.registry.find(accusation.subject, Topic::NODE).cloned();
                if let Some(left) = left {
                    self.echo(now, source, &left);
                }
            }
            Some(_) | None => {}
        }
        is_news.then_some(accusation)
    }

    /// We are accused: raise the incarnation, or show the one that already refutes it.
    fn on_accused(&mut self, now: Instant, source: Source, accusation: &Accusation) {
        let me = self.membership.identity();
        if (accusation.epoch, accusation.revival) != (me.epoch, me.revival) {
            return;
        }
        if accusation.incarnation == self.membership.incarnation() {
            if self.contacts.may_refute(now, REFUTE_EVERY) {
                self.membership.refute(now, accusation.incarnation);
            }
        } else if let Some(ours) = self.registry.find(me.id, Topic::NODE).cloned() {
            self.echo(now, source, &ours);
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
                let accusers = u16::try_from(accusers).unwrap_or(u16::MAX);
                let who = self.name_of(accusation.accuser);
                let cause = format!("{who} got no answer from it");
                self.set_state(now, subject, MemberState::Suspect { accusers }, cause);
                self.arm_suspicion(subject);
                true
            }
            Vote::Repeated => false,
            Vote::Stale => {
                self.stats.accusations_void += 1;
                false
            }
        }
    }

    fn arm_suspicion(&mut self, subject: NodeId) {
        let others = self.members.possible_accusers(subject);
        if let Some(at) = self.suspicions.deadline(subject, others) {
            self.timers.arm(at, Timer::Suspicion(subject));
        }
    }

    /// A suspect answered this agent itself.
    pub(crate) fn on_suspect_answered(&mut self, now: Instant, subject: NodeId) {
        if let Some(member) = self.members.find_mut(subject) {
            member.set_heard(now);
        }
        if self.suspicions.close(subject) {
            self.set_state(now, subject, MemberState::Alive, "it answers this agent".to_owned());
        }
    }

    /// A suspect did not answer this agent either.
    pub(crate) fn on_suspect_silent(&mut self, now: Instant, subject: NodeId) {
        let Some(member) = self.members.find(subject) else {
            return;
        };
        let (identity, incarnation) = (member.identity(), member.incarnation());
        self.accuse(now, identity.into(), incarnation);
        self.on_suspicion_due(now, subject);
    }

    pub(crate) fn on_suspicion_due(&mut self, now: Instant, subject: NodeId) {
        let heard = self.members.find(subject).and_then(Member::heard);
        let others = self.members.possible_accusers(subject);
        let me = self.id();
        match self.suspicions.judge(now, me, subject, others, heard) {
            Verdict::Open => {
                let deadline = self.suspicions.deadline(subject, others);
                if let Some(at) = deadline.filter(|at| *at > now) {
                    self.timers.arm(at, Timer::Suspicion(subject));
                }
            }
            Verdict::Unsure => self.look_at(subject, Asked::Look(subject)),
            Verdict::Contradicted => {
                self.suspicions.close(subject);
                self.set_state(now, subject, MemberState::Alive, "it answers this agent".to_owned());
            }
            Verdict::Down { accusers } => {
                let cause = format!("{accusers} got no answer from it and it did not refute");
                self.declare_down(now, subject, cause);
            }
        }
    }
}
