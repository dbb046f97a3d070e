//! Failure detection: foca (SWIM) on our time, our codec and our rules.
//!
//! foca probes and marks what does not answer; it never declares anybody Down here. When a probe has failed is decided
//! beside it ([`crate::probe`]) and comes out as [`Output::ProbeFailed`]; the node accuses, counts votes and comes back
//! with [`Membership::apply_down`]. Delays grow with our own trouble ([`LocalHealth`]). Who is a member comes in as
//! identities from verified `node` documents, never from packets.
//!
//! Sources: SWIM (DSN 2002) 3.1, 4.1, 4.2; Lifeguard (DSN 2018) IV-A; foca's hooks for both.

use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;
use std::collections::VecDeque;

use foca::{Foca, Member, Message, NoCustomBroadcast, Notification, ProbeNumber, Runtime, State, Timer};
use rand::RngExt;
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId};
use ringmesh_types::limits::FOCA_PACKET_BYTES_MAX;
use ringmesh_types::time::Instant;

use crate::codec::{self, Heard, PacketCodec, Peer};
use crate::local_health::LocalHealth;
use crate::parts::Parts;
use crate::probe::{End, Outlook, Probing, REPEATS, Relayed};
use crate::rtt::Loss;
use crate::timers::Timers;

/// A deadline that is met this late is a sign that this node does not keep up.
const STALLED: Duration = Duration::from_millis(250);
/// What came while a deadline was met this late was not read yet: nobody is judged by it.
const UNREAD: Duration = Duration::from_millis(50);
/// Others are asked, and their answers waited for, as long as the member's own answer.
const INDIRECT_WAITS: u32 = 1;

/// How members are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// One member is probed each period.
    pub period: Duration,
    /// How long a direct probe waits at most before others are asked to probe; strictly smaller than the period.
    pub timeout: Duration,
    /// How many others are asked.
    pub indirect: NonZeroUsize,
}

impl Default for ProbeConfig {
    /// The LAN profile of SWIM implementations: period 1 s, time-out 500 ms, 3 indirect probes.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            indirect: NonZeroUsize::MIN.saturating_add(2),
        }
    }
}

/// What a packet is, as far as it does not travel alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A probe of ours.
    Ping,
    /// It asks for a probe, whose failure should be told after this time.
    Relay(Duration),
    /// Anything else.
    Other,
}

/// What should happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this packet.
    Send {
        /// To whom.
        to: NodeId,
        /// The packet.
        packet: Vec<u8>,
        /// What it is.
        kind: Kind,
    },
    /// Tell a member that the probe it asked for got no answer.
    Nack {
        /// Whom.
        to: NodeId,
        /// The number of its probe.
        number: ProbeNumber,
    },
    /// Our own probe of this member was answered, by itself after this time or through a relay.
    Answered(Peer, Option<Duration>),
    /// Our own probe of this member, which began then, went unanswered.
    ProbeFailed(Peer, Instant),
    /// We took a new identity because others hold the old one Down.
    Renewed,
    /// We raised our incarnation to refute an accusation.
    Refuted(u16),
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Probes of ours that went unanswered.
    pub probes_failed: u64,
    /// Packets that foca refused.
    pub packets_refused: u64,
    /// Signs that we do not keep up ([`LocalHealth::score`]), now.
    pub local_health: u8,
    /// Claims of Suspect or Down about third parties that were taken out of packets.
    pub claims_removed: u64,
}

/// What is due.
#[derive(Debug)]
enum Due {
    Foca(Timer<Peer>),
    /// Part of the wait for its answer is over.
    Repeat(ProbeNumber),
    /// The time-outs of our probe are over.
    Verdict(ProbeNumber),
    /// Whoever asked for this probe should be told that it got no answer.
    Nack(Relayed),
}

/// foca, its timers and what came out of it.
pub struct Membership<R: RngExt> {
    foca: Foca<Peer, PacketCodec, R, NoCustomBroadcast>,
    config: ProbeConfig,
    parts: Parts,
    addr: MeshAddr,
    beside: Beside,
}

/// What is kept beside foca.
#[derive(Default)]
struct Beside {
    timers: Timers<Due>,
    outputs: VecDeque<Output>,
    probing: Probing,
    local_health: LocalHealth,
    loss: Loss,
    incarnation: u16,
    stats: Stats,
}

struct Effects<'a> {
    now: Instant,
    beside: &'a mut Beside,
    config: &'a ProbeConfig,
    parts: Parts,
    outlook: &'a dyn Fn(NodeId) -> Outlook,
}

impl Effects<'_> {
    fn scale(&self, delay: Duration) -> Duration {
        if self.parts.local_health { self.beside.local_health.scale(delay) } else { delay }
    }

    /// A probe begins: it fails when both its waits are over, before the next begins.
    fn on_ping(&mut self, to: Peer, number: ProbeNumber, packet: Vec<u8>) {
        let direct = (self.outlook)(to.id()).wait.min(self.config.timeout);
        let indirect = (direct * INDIRECT_WAITS).min(self.config.period.saturating_sub(direct));
        let wait = self.scale(direct);
        self.beside.probing.begin(self.now, to, number, wait, packet);
        self.beside.timers.arm(self.now.after(wait / (REPEATS + 1)), Due::Repeat(number));
        let fails = self.now.after(self.scale(direct + indirect));
        self.beside.timers.arm(fails, Due::Verdict(number));
    }
}

impl Runtime<Peer> for Effects<'_> {
    fn notify(&mut self, notification: Notification<'_, Peer>) {
        if let Notification::Rejoin(_) = notification {
            self.beside.incarnation = 0;
            self.beside.outputs.push_back(Output::Renewed);
        }
    }

    fn send_to(&mut self, to: Peer, data: &[u8]) {
        let Ok(spoken) = codec::speak(data) else {
            self.beside.stats.packets_refused += 1;
            return;
        };
        if spoken.incarnation > self.beside.incarnation {
            self.beside.incarnation = spoken.incarnation;
            self.beside.local_health.worsen(1);
            self.beside.outputs.push_back(Output::Refuted(spoken.incarnation));
        }
        let kind = match spoken.message {
            Message::Ping(number) => {
                self.on_ping(to, number, spoken.packet.clone());
                Kind::Ping
            }
            Message::PingReq { .. } => {
                let is_suspect = (self.outlook)(to.id()).is_suspect;
                Kind::Relay(self.beside.probing.ask_relay(to.id(), is_suspect))
            }
            Message::Ack(_)
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::ForwardedAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => Kind::Other,
        };
        self.beside.outputs.push_back(Output::Send { to: to.id(), packet: spoken.packet, kind });
    }

    fn submit_after(&mut self, timer: Timer<Peer>, after: Duration) {
        let after = match timer {
            // Nobody is Down for having been suspected, or forgotten for having been Down, by foca's own time.
            Timer::ChangeSuspectToDown { .. } | Timer::RemoveDown(_) => return,
            Timer::ProbeRandomMember(_) => self.scale(after),
            Timer::SendIndirectProbe { .. } => self.beside.probing.wait().unwrap_or(after),
            Timer::PeriodicAnnounce(_) | Timer::PeriodicAnnounceDown(_) | Timer::PeriodicGossip(_) => after,
        };
        self.beside.timers.arm(self.now.after(after), Due::Foca(timer));
    }
}

impl<R: RngExt> Membership<R> {
    /// A node that knows nobody.
    pub fn new(identity: Identity, config: &ProbeConfig, parts: Parts, rng: R) -> Self {
        let foca_config = foca::Config {
            probe_period: config.period,
            probe_rtt: config.timeout,
            num_indirect_probes: config.indirect,
            max_transmissions: NonZeroU8::MIN,
            suspect_to_down_after: config.period,
            remove_down_after: None,
            max_packet_size: NonZeroUsize::MIN.saturating_add(FOCA_PACKET_BYTES_MAX - 1),
            notify_down_members: true,
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: None,
        };
        Self {
            foca: Foca::new(identity.into(), foca_config, rng, PacketCodec),
            config: config.clone(),
            parts,
            addr: identity.addr,
            beside: Beside::default(),
        }
    }

    /// Who we are now.
    pub fn identity(&self) -> Identity {
        self.foca.identity().at(self.addr)
    }

    /// Our incarnation.
    pub fn incarnation(&self) -> u16 {
        self.beside.incarnation
    }

    /// Which share of packets seems to get lost.
    pub fn loss(&self) -> Loss {
        self.beside.loss
    }

    /// How well we keep up.
    pub fn local_health(&self) -> LocalHealth {
        self.beside.local_health
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        Stats { local_health: self.beside.local_health.score(), ..self.beside.stats }
    }

    /// Takes a packet whose sender was compared with its certificate and is known from its document. If it asks for a
    /// probe, `nack_after` is when its failure should be told.
    pub fn handle_packet(&mut self, now: Instant, heard: &Heard, nack_after: Option<Duration>) {
        self.beside.stats.claims_removed += u64::from(heard.claims_removed);
        let src = Peer::from(heard.src);
        match &heard.message {
            Message::Ack(number) => self.on_answer(now, src, *number, true),
            Message::ForwardedAck { origin, probe_number } => {
                self.on_answer(now, *origin, *probe_number, false);
            }
            Message::PingReq { target, probe_number } => {
                let relayed = Relayed { origin: src, target: *target, number: *probe_number };
                if let Some(after) = nack_after
                    && self.beside.probing.relay(relayed)
                {
                    self.beside.timers.arm(now.after(after.min(self.config.period)), Due::Nack(relayed));
                }
            }
            Message::IndirectAck { target, probe_number } => {
                let relayed = Relayed { origin: *target, target: src, number: *probe_number };
                self.beside.probing.end_relay(relayed);
            }
            Message::Ping(_)
            | Message::IndirectPing { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => {}
        }
        self.with(now, |foca, effects| foca.handle_data(&heard.packet, effects));
    }

    /// A relay of ours says that it got no answer.
    pub fn handle_nack(&mut self, from: NodeId, number: ProbeNumber) {
        self.beside.probing.on_nack(from, number);
    }

    fn on_answer(&mut self, now: Instant, subject: Peer, number: ProbeNumber, is_direct: bool) {
        if let Some(End::Answered { subject, took, is_at_once }) =
            self.beside.probing.on_answer(now, subject, number, is_direct)
        {
            self.beside.local_health.improve();
            self.beside.loss.add(is_at_once);
            self.beside.outputs.push_back(Output::Answered(subject, took));
        }
    }

    /// A verified `node` document shows this member alive at this incarnation.
    pub fn apply_alive(&mut self, now: Instant, identity: Identity, incarnation: u16) {
        self.apply(now, Member::new(identity.into(), incarnation, State::Alive));
    }

    /// The node decided that this member is Down, or has left.
    pub fn apply_down(&mut self, now: Instant, identity: Identity, incarnation: u16) {
        self.apply(now, Member::new(identity.into(), incarnation, State::Down));
    }

    /// Forgets a member that is Down, so that its identity may come back.
    pub fn remove(&mut self, now: Instant, identity: Identity) {
        self.with(now, |foca, effects| foca.handle_timer(Timer::RemoveDown(identity.into()), effects));
    }

    /// Somebody accuses us at this incarnation: refute it.
    pub fn refute(&mut self, now: Instant, incarnation: u16) {
        let me = *self.foca.identity();
        self.apply(now, Member::new(me, incarnation, State::Suspect));
    }

    /// Somebody holds our present identity Down: take a new one.
    pub fn renew(&mut self, now: Instant) {
        let me = *self.foca.identity();
        self.apply(now, Member::new(me, 0, State::Down));
    }

    /// Starts over under a higher epoch.
    pub fn change_epoch(&mut self, now: Instant, epoch: Epoch) {
        let identity = Identity { epoch, revival: 0, ..self.identity() };
        self.beside.incarnation = 0;
        self.with(now, |foca, effects| foca.change_identity(identity.into(), effects));
        self.wake(now);
    }

    /// Delivers everything that is due, in order. `outlook` says what a member's probe goes by.
    pub fn handle_timeout(&mut self, now: Instant, outlook: &dyn Fn(NodeId) -> Outlook) {
        let is_stalled = self.poll_timeout().is_some_and(|at| now.since(at) >= STALLED);
        if is_stalled {
            self.beside.local_health.worsen(1);
        }
        while let Some(at) = self.beside.timers.next()
            && let Some(due) = self.beside.timers.take_due(now)
        {
            match due {
                Due::Foca(timer) => {
                    self.with_outlook(now, outlook, |foca, effects| foca.handle_timer(timer, effects));
                }
                Due::Repeat(number) => self.on_repeat_due(now, number),
                Due::Verdict(number) => self.on_verdict_due(now, number, now.since(at)),
                Due::Nack(relayed) => {
                    if self.beside.probing.end_relay(relayed) {
                        let nack = Output::Nack { to: relayed.origin.id(), number: relayed.number };
                        self.beside.outputs.push_back(nack);
                    }
                }
            }
        }
    }

    fn on_repeat_due(&mut self, now: Instant, number: ProbeNumber) {
        if let Some((to, packet, again)) = self.beside.probing.repeat(number) {
            self.beside.outputs.push_back(Output::Send { to, packet, kind: Kind::Ping });
            if let Some(after) = again {
                self.beside.timers.arm(now.after(after), Due::Repeat(number));
            }
        }
    }

    fn on_verdict_due(&mut self, now: Instant, number: ProbeNumber, late: Duration) {
        if late >= UNREAD
            && let Some(wait) = self.beside.probing.put_off(number)
        {
            self.beside.timers.arm(now.after(wait), Due::Verdict(number));
            return;
        }
        if let Some(End::Failed { subject, sent, own_faults }) = self.beside.probing.on_verdict_due(number) {
            self.beside.stats.probes_failed += 1;
            self.beside.local_health.worsen(own_faults);
            self.beside.outputs.push_back(Output::ProbeFailed(subject, sent));
        }
    }

    /// When [`Membership::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.beside.timers.next()
    }

    /// What should happen next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.beside.outputs.pop_front()
    }

    fn apply(&mut self, now: Instant, member: Member<Peer>) {
        let before = self.identity();
        self.with(now, |foca, effects| foca.apply_many(core::iter::once(member), false, effects));
        if self.identity() != before {
            self.wake(now);
        }
    }

    /// After a change of identity foca is disconnected until somebody shows it its own members again.
    fn wake(&mut self, now: Instant) {
        self.with(now, |foca, effects| foca.apply_many(core::iter::empty(), false, effects));
    }

    fn with<F>(&mut self, now: Instant, act: F)
    where
        F: FnOnce(
            &mut Foca<Peer, PacketCodec, R, NoCustomBroadcast>,
            &mut Effects<'_>,
        ) -> Result<(), foca::Error>,
    {
        let wait = self.config.timeout;
        self.with_outlook(now, &|_| Outlook { wait, is_suspect: false }, act);
    }

    fn with_outlook<F>(&mut self, now: Instant, outlook: &dyn Fn(NodeId) -> Outlook, act: F)
    where
        F: FnOnce(
            &mut Foca<Peer, PacketCodec, R, NoCustomBroadcast>,
            &mut Effects<'_>,
        ) -> Result<(), foca::Error>,
    {
        let mut effects =
            Effects { now, beside: &mut self.beside, config: &self.config, parts: self.parts, outlook };
        if act(&mut self.foca, &mut effects).is_err() {
            self.beside.stats.packets_refused += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const QUICK: Outlook = Outlook { wait: Duration::from_millis(100), is_suspect: false };

    fn identity(byte: u8) -> Identity {
        Identity {
            id: NodeId::from_bytes([byte; 8]),
            epoch: Epoch(1),
            revival: 0,
            addr: MeshAddr::from(core::net::SocketAddr::from(([127, 0, 0, byte], 7300))),
        }
    }

    fn member(byte: u8) -> Membership<ChaCha8Rng> {
        Membership::new(
            identity(byte),
            &ProbeConfig::default(),
            Parts::ALL,
            ChaCha8Rng::seed_from_u64(u64::from(byte)),
        )
    }

    fn drain(member: &mut Membership<ChaCha8Rng>) -> Vec<Output> {
        core::iter::from_fn(|| member.poll_output()).collect()
    }

    fn run_until(member: &mut Membership<ChaCha8Rng>, millis: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(at) = member.poll_timeout().filter(|at| *at <= Instant::from_millis(millis)) {
            member.handle_timeout(at, &|_| QUICK);
            outputs.extend(drain(member));
        }
        outputs
    }

    #[test]
    fn a_silent_member_is_reported_and_never_declared_down_by_foca() {
        let mut a = member(1);
        a.apply_alive(Instant::START, identity(2), 0);
        let outputs = run_until(&mut a, 30_000);
        let failed = |output: &Output| matches!(output, Output::ProbeFailed(subject, _) if subject.id() == identity(2).id);
        let count = |is_it: &dyn Fn(&Output) -> bool| outputs.iter().filter(|output| is_it(output)).count();
        // Nobody else is there to ask: each failure is a sign of our own fault too, and the next probe comes later.
        assert_eq!(count(&failed), 7, "{outputs:?}");
        let is_ping = |output: &Output| matches!(output, Output::Send { kind: Kind::Ping, .. });
        assert_eq!(count(&is_ping), 24, "a member that nobody declared Down is probed on");
        assert!(a.local_health().is_sick());
    }

    #[test]
    fn an_accused_member_refutes_with_a_higher_incarnation() {
        let mut a = member(1);
        a.apply_alive(Instant::START, identity(2), 0);
        a.refute(Instant::from_millis(5), 0);
        assert!(drain(&mut a).contains(&Output::Refuted(1)));
        a.refute(Instant::from_millis(6), 0);
        assert!(!drain(&mut a).iter().any(|output| matches!(output, Output::Refuted(_))), "0 is old news");
    }

    #[test]
    fn a_member_held_down_renews_and_goes_on_probing() {
        let mut a = member(1);
        a.apply_alive(Instant::START, identity(2), 0);
        a.renew(Instant::from_millis(5));
        let renewed = Identity { revival: 1, ..identity(1) };
        assert!(drain(&mut a).contains(&Output::Renewed));
        assert_eq!(a.identity(), renewed);
        let probes = run_until(&mut a, 3_500);
        assert!(probes.iter().any(|output| matches!(output, Output::Send { .. })), "{probes:?}");
    }

    #[test]
    fn a_higher_epoch_replaces_a_member_that_was_down() {
        let mut a = member(1);
        a.apply_alive(Instant::START, identity(2), 0);
        a.apply_down(Instant::START, identity(2), 0);
        drain(&mut a);
        assert!(!run_until(&mut a, 5_000).iter().any(|output| matches!(output, Output::Send { .. })));
        let back = Identity { epoch: Epoch(2), ..identity(2) };
        a.apply_alive(Instant::from_millis(5_000), back, 0);
        let outputs = run_until(&mut a, 8_000);
        assert!(outputs.iter().any(|output| matches!(output, Output::Send { to, .. } if *to == back.id)));
    }
}
