//! Failure detection: foca (SWIM) on our time, our codec and our rules.
//!
//! foca probes and marks what does not answer; it never declares anybody Down here. What it would do by itself after a
//! suspicion, this module reports as [`Output::ProbeFailed`]; the node accuses, counts votes and comes back with
//! [`Membership::apply_down`]. Who is a member comes in as identities from verified `node` documents, never from packets.
//!
//! Sources: SWIM (DSN 2002) 3.1, 4.1, 4.2; foca's hooks for it.

use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;
use std::collections::VecDeque;

use foca::{Foca, Member, NoCustomBroadcast, Notification, Runtime, State, Timer};
use rand::RngExt;
use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId};
use ringmesh_types::limits::FOCA_PACKET_BYTES_MAX;
use ringmesh_types::time::Instant;

use crate::codec::{self, Heard, PacketCodec, Peer};
use crate::timers::Timers;

/// How members are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    /// One member is probed each period.
    pub period: Duration,
    /// How long a direct probe waits before others are asked to probe; strictly smaller than the period.
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

/// What should happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this packet.
    Send {
        /// To whom.
        to: NodeId,
        /// The packet.
        packet: Vec<u8>,
    },
    /// Our own probe of this member went unanswered.
    ProbeFailed {
        /// Who did not answer.
        subject: Peer,
        /// At which incarnation.
        incarnation: u16,
    },
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
    /// Claims of Suspect or Down about third parties that were taken out of packets.
    pub claims_removed: u64,
}

/// foca, its timers and what came out of it.
pub struct Membership<R: RngExt> {
    foca: Foca<Peer, PacketCodec, R, NoCustomBroadcast>,
    timers: Timers<Timer<Peer>>,
    outputs: VecDeque<Output>,
    addr: MeshAddr,
    incarnation: u16,
    stats: Stats,
}

struct Effects<'a> {
    now: Instant,
    timers: &'a mut Timers<Timer<Peer>>,
    outputs: &'a mut VecDeque<Output>,
    incarnation: &'a mut u16,
    stats: &'a mut Stats,
}

impl Runtime<Peer> for Effects<'_> {
    fn notify(&mut self, notification: Notification<'_, Peer>) {
        if let Notification::Rejoin(_) = notification {
            *self.incarnation = 0;
            self.outputs.push_back(Output::Renewed);
        }
    }

    fn send_to(&mut self, to: Peer, data: &[u8]) {
        let Ok((incarnation, packet)) = codec::speak(data) else {
            self.stats.packets_refused += 1;
            return;
        };
        if incarnation > *self.incarnation {
            *self.incarnation = incarnation;
            self.outputs.push_back(Output::Refuted(incarnation));
        }
        self.outputs.push_back(Output::Send { to: to.id(), packet });
    }

    fn submit_after(&mut self, timer: Timer<Peer>, after: Duration) {
        match timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                self.stats.probes_failed += 1;
                self.outputs.push_back(Output::ProbeFailed { subject: member_id, incarnation });
            }
            Timer::RemoveDown(_) => {}
            Timer::ProbeRandomMember(_)
            | Timer::SendIndirectProbe { .. }
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_) => self.timers.arm(self.now.after(after), timer),
        }
    }
}

impl<R: RngExt> Membership<R> {
    /// A node that knows nobody.
    pub fn new(identity: Identity, config: &ProbeConfig, rng: R) -> Self {
        let config = foca::Config {
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
            foca: Foca::new(identity.into(), config, rng, PacketCodec),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            addr: identity.addr,
            incarnation: 0,
            stats: Stats::default(),
        }
    }

    /// Who we are now.
    pub fn identity(&self) -> Identity {
        self.foca.identity().at(self.addr)
    }

    /// Our incarnation.
    pub fn incarnation(&self) -> u16 {
        self.incarnation
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Takes a packet whose sender was compared with its certificate and is known from its document.
    pub fn handle_packet(&mut self, now: Instant, heard: &Heard) {
        self.stats.claims_removed += u64::from(heard.claims_removed);
        self.with(now, |foca, effects| foca.handle_data(&heard.packet, effects));
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
        self.incarnation = 0;
        self.with(now, |foca, effects| foca.change_identity(identity.into(), effects));
        self.wake(now);
    }

    /// Delivers everything that is due, in order.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            self.with(now, |foca, effects| foca.handle_timer(timer, effects));
        }
    }

    /// When [`Membership::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What should happen next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
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
        let mut effects = Effects {
            now,
            timers: &mut self.timers,
            outputs: &mut self.outputs,
            incarnation: &mut self.incarnation,
            stats: &mut self.stats,
        };
        if act(&mut self.foca, &mut effects).is_err() {
            self.stats.packets_refused += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn identity(byte: u8) -> Identity {
        Identity {
            id: NodeId::from_bytes([byte; 8]),
            epoch: Epoch(1),
            revival: 0,
            addr: MeshAddr::from(core::net::SocketAddr::from(([127, 0, 0, byte], 7300))),
        }
    }

    fn member(byte: u8) -> Membership<ChaCha8Rng> {
        Membership::new(identity(byte), &ProbeConfig::default(), ChaCha8Rng::seed_from_u64(u64::from(byte)))
    }

    fn drain(member: &mut Membership<ChaCha8Rng>) -> Vec<Output> {
        core::iter::from_fn(|| member.poll_output()).collect()
    }

    fn run_until(member: &mut Membership<ChaCha8Rng>, millis: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(at) = member.poll_timeout().filter(|at| *at <= Instant::from_millis(millis)) {
            member.handle_timeout(at);
            outputs.extend(drain(member));
        }
        outputs
    }

    #[test]
    fn a_silent_member_is_reported_and_never_declared_down_by_foca() {
        let mut a = member(1);
        a.apply_alive(Instant::START, identity(2), 0);
        let outputs = run_until(&mut a, 30_000);
        let failed = Output::ProbeFailed { subject: identity(2).into(), incarnation: 0 };
        assert!(outputs.iter().filter(|output| **output == failed).count() > 20, "{outputs:?}");
        let still_probed = outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
        assert!(still_probed > 25, "a member that nobody declared Down is probed on: {still_probed}");
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
