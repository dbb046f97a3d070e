//! The probe under way, followed from outside foca: when it fails, who was asked to help, and what that says of ourselves.
//!
//! foca holds a probe unanswered when its period ends. Here it fails when its direct and indirect time-outs are over,
//! which are measured and much shorter. Of each relay that is asked either the answer of the probed member comes back or,
//! at 80 % of its time-out, a nack: "I hear you, it does not answer me" (Lifeguard, DSN 2018, IV-A and footnote 5).

use core::time::Duration;

use foca::ProbeNumber;
use ringmesh_types::ids::NodeId;
use ringmesh_types::time::Instant;

use crate::codec::Peer;

/// A relay says that it got no answer after this share, in percent, of the time that is waited for one.
const NACK_AFTER_PERCENT: u32 = 80;
/// An unanswered ping is sent again so often within its wait, evenly: a lost packet is no dead member.
pub(crate) const REPEATS: u32 = 2;
/// Probes that are relayed at once for others; of more nothing is said if they fail.
const RELAYED_MAX: usize = 256;

/// What a member's probes go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// How long its answer is waited for.
    pub wait: Duration,
    /// Whether others have reason to doubt that it answers at all.
    pub is_suspect: bool,
}

/// How a probe of ours ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The member answered.
    Answered {
        subject: Peer,
        /// After this time, if it did so itself.
        took: Option<Duration>,
        /// Whether that was before anything was sent again.
        is_at_once: bool,
    },
    /// Nobody got an answer from it.
    Failed {
        subject: Peer,
        sent: Instant,
        /// Signs that we are at fault.
        own_faults: usize,
    },
}

#[derive(Debug)]
struct UnderWay {
    subject: Peer,
    number: ProbeNumber,
    sent: Instant,
    wait: Duration,
    packet: Vec<u8>,
    repeats: u32,
    /// Relays that were asked, and have not said anything yet.
    silent_relays: Vec<NodeId>,
    relays: usize,
    is_put_off: bool,
}

/// A probe that is relayed for another member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) origin: Peer,
    pub(crate) target: Peer,
    pub(crate) number: ProbeNumber,
}

/// Our probe under way, and those of others that we relay.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    under_way: Option<UnderWay>,
    relayed: Vec<Relayed>,
}

impl Probing {
    /// A ping of ours goes out, whose answer is waited for so long.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        subject: Peer,
        number: ProbeNumber,
        wait: Duration,
        packet: Vec<u8>,
    ) {
        self.under_way = Some(UnderWay {
            subject,
            number,
            sent: now,
            wait,
            packet,
            repeats: 0,
            silent_relays: Vec::new(),
            relays: 0,
            is_put_off: false,
        });
    }

    /// How long the answer to the probe under way is waited for.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.under_way.as_ref().map(|probe| probe.wait)
    }

    /// Part of the wait is over without an answer: the ping or its answer may be lost. Says what to send again to whom, and
    /// after how long this should be called once more.
    pub(crate) fn repeat(&mut self, number: ProbeNumber) -> Option<(NodeId, Vec<u8>, Option<Duration>)> {
        let probe = self.under_way.as_mut().filter(|probe| probe.number == number)?;
        probe.repeats += 1;
        let again = (probe.repeats < REPEATS).then_some(probe.wait / (REPEATS + 1));
        Some((probe.subject.id(), probe.packet.clone(), again))
    }

    /// A relay is asked. Says after how long it should tell that it got no answer.
    pub(crate) fn ask_relay(&mut self, relay: NodeId, is_suspect: bool) -> Duration {
        let Some(probe) = &mut self.under_way else {
            return Duration::ZERO;
        };
        if !is_suspect {
            probe.relays += 1;
            probe.silent_relays.push(relay);
        }
        probe.wait * NACK_AFTER_PERCENT / 100
    }

    /// A relay says that it got no answer.
    pub(crate) fn on_nack(&mut self, relay: NodeId, number: ProbeNumber) {
        if let Some(probe) = self.under_way.as_mut().filter(|probe| probe.number == number) {
            probe.silent_relays.retain(|asked| *asked != relay);
        }
    }

    /// The probed member answered.
    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        subject: Peer,
        number: ProbeNumber,
        is_direct: bool,
    ) -> Option<End> {
        let probe = self.under_way.take_if(|probe| (probe.subject, probe.number) == (subject, number))?;
        let took = is_direct.then(|| now.since(probe.sent));
        Some(End::Answered { subject, took, is_at_once: probe.repeats == 0 })
    }

    /// The time-outs of a probe are over.
    pub(crate) fn on_verdict_due(&mut self, number: ProbeNumber) -> Option<End> {
        let probe = self.under_way.take_if(|probe| probe.number == number)?;
        // A relay that says anything proves that we can be heard: those that say nothing may be gone themselves.
        let is_heard = probe.silent_relays.len() < probe.relays;
        let own_faults = if is_heard { 0 } else { probe.relays.max(1) };
        Some(End::Failed { subject: probe.subject, sent: probe.sent, own_faults })
    }

    /// The time-outs were over long ago, and what came meanwhile was not read yet: once it is waited for once more.
    pub(crate) fn put_off(&mut self, number: ProbeNumber) -> Option<Duration> {
        let probe = self.under_way.as_mut().filter(|probe| probe.number == number && !probe.is_put_off)?;
        probe.is_put_off = true;
        Some(probe.wait)
    }

    /// We relay a probe. Says whether there was room to remember it.
    pub(crate) fn relay(&mut self, relayed: Relayed) -> bool {
        let has_room = self.relayed.len() < RELAYED_MAX;
        if has_room {
            self.relayed.push(relayed);
        }
        has_room
    }

    /// A relayed probe was answered, or its time is over. Says whether it was still open.
    pub(crate) fn end_relay(&mut self, relayed: Relayed) -> bool {
        let position = self.relayed.iter().position(|open| *open == relayed);
        position.map(|position| self.relayed.swap_remove(position)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_types::ids::Epoch;

    fn peer(byte: u8) -> Peer {
        Peer::new(NodeId::from_bytes([byte; 8]), Epoch(1), 0)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn begun() -> Probing {
        let mut probing = Probing::default();
        probing.begin(at(10), peer(2), 7, Duration::from_millis(99), vec![5]);
        probing
    }

    #[test]
    fn only_the_probed_member_answers_the_probe_and_once() {
        let mut probing = begun();
        assert_eq!(probing.on_answer(at(12), peer(3), 7, true), None);
        assert_eq!(probing.on_answer(at(12), peer(2), 6, true), None);
        let took = Some(Duration::from_millis(2));
        let want = End::Answered { subject: peer(2), took, is_at_once: true };
        assert_eq!(probing.on_answer(at(12), peer(2), 7, true), Some(want));
        assert_eq!(probing.on_answer(at(13), peer(2), 7, true), None);
        assert_eq!(probing.on_verdict_due(7), None);
    }

    #[test]
    fn relays_that_say_nothing_are_signs_of_our_own_fault() {
        let failed = |own_faults| Some(End::Failed { subject: peer(2), sent: at(10), own_faults });
        assert_eq!(begun().on_verdict_due(7), failed(1));
        let ask_three = || {
            let mut probing = begun();
            for (relay, is_suspect) in [(3, false), (4, false), (5, true)] {
                let nack_after = probing.ask_relay(peer(relay).id(), is_suspect);
                assert_eq!(nack_after, Duration::from_micros(79_200));
            }
            probing
        };
        let mut probing = ask_three();
        probing.on_nack(peer(3).id(), 6);
        probing.on_nack(peer(9).id(), 7);
        assert_eq!(probing.on_verdict_due(7), failed(2), "nothing is expected of a suspect");
        let mut probing = ask_three();
        probing.on_nack(peer(3).id(), 7);
        assert_eq!(probing.on_verdict_due(7), failed(0), "one was heard, so it is not our fault");
    }

    #[test]
    fn an_unanswered_ping_is_sent_again_twice() {
        let mut probing = begun();
        assert_eq!(probing.repeat(6), None);
        let third = Duration::from_millis(33);
        assert_eq!(probing.repeat(7), Some((peer(2).id(), vec![5], Some(third))));
        assert_eq!(probing.repeat(7), Some((peer(2).id(), vec![5], None)));
        let want = End::Answered { subject: peer(2), took: None, is_at_once: false };
        assert_eq!(probing.on_answer(at(90), peer(2), 7, false), Some(want));
        assert_eq!(probing.repeat(7), None);
    }

    #[test]
    fn an_overdue_verdict_is_put_off_once() {
        let mut probing = begun();
        assert_eq!(probing.put_off(6), None);
        assert_eq!(probing.put_off(7), Some(Duration::from_millis(99)));
        assert_eq!(probing.put_off(7), None);
    }

    #[test]
    fn relayed_probes_are_remembered_up_to_a_bound() {
        let mut probing = Probing::default();
        let relayed = |target| Relayed { origin: peer(1), target: peer(target), number: 3 };
        assert!((0..RELAYED_MAX).all(|_| probing.relay(relayed(2))));
        assert!(!probing.relay(relayed(3)));
        assert!(probing.end_relay(relayed(2)));
        assert!(!probing.end_relay(relayed(4)));
    }
}
