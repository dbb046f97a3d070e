//! SWIM without anything around it: foca with its own settings for a LAN, its own gossip and its own suspicion.

use core::time::Duration;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use foca::{Config, Foca, Member, NoCustomBroadcast, Notification, Runtime, State, Timer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringmesh_gossip::codec::{PacketCodec, Peer};
use ringmesh_gossip::timers::Timers;
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::time::Instant;
use ringmesh_types::wire::{self, Channel};

use crate::cell::{Cell, Counts, Crash, Plan};

/// Bytes of IP and UDP headers around a packet.
const HEADERS: u64 = 28;

/// Who arms the time-out of a suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Armed {
    /// Whose own probe failed, as in foca.
    ByProber,
    /// Everybody who hears of it, as in memberlist.
    ByHearers,
}

enum What {
    Leaves { to: usize, packet: Vec<u8> },
    Arrives(Vec<u8>),
    Reads(Vec<u8>),
    Timer(Timer<Peer>),
}

struct Due {
    host: usize,
    what: What,
}

struct Host {
    foca: Foca<Peer, PacketCodec, ChaCha8Rng, NoCustomBroadcast>,
    token: Option<u8>,
    armed: BTreeMap<NodeId, (Peer, u16)>,
}

#[derive(Default)]
struct Effects {
    sent: Vec<(Peer, Vec<u8>)>,
    timers: Vec<(Timer<Peer>, Duration)>,
    down: Vec<Peer>,
}

impl Runtime<Peer> for &mut Effects {
    fn notify(&mut self, notification: Notification<'_, Peer>) {
        if let Notification::MemberDown(peer) = notification {
            self.down.push(*peer);
        }
    }

    fn send_to(&mut self, to: Peer, data: &[u8]) {
        self.sent.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Peer>, after: Duration) {
        self.timers.push((timer, after));
    }
}

struct World<'a> {
    plan: &'a Plan,
    cell: Cell,
    armed: Armed,
    now: Instant,
    queue: Timers<Due>,
    rng: ChaCha8Rng,
    hosts: Vec<Option<Host>>,
    counts: Counts,
}

/// Plays a cell once.
pub(crate) fn play(plan: &Plan, cell: Cell, seed: u64, armed: Armed) -> Counts {
    let mut world = World {
        plan,
        cell,
        armed,
        now: Instant::START,
        queue: Timers::default(),
        rng: ChaCha8Rng::seed_from_u64(seed),
        hosts: Vec::new(),
        counts: Counts::default(),
    };
    let size = u32::try_from(plan.nodes).ok().and_then(NonZeroU32::new).expect("some nodes");
    for host in 0..plan.nodes {
        let foca =
            Foca::new(peer(host), Config::new_lan(size), ChaCha8Rng::from_rng(&mut world.rng), PacketCodec);
        world.hosts.push(Some(Host { foca, token: None, armed: BTreeMap::new() }));
    }
    for host in 0..plan.nodes {
        let others = (0..plan.nodes).filter(|other| *other != host);
        let members: Vec<Member<Peer>> = others.map(|other| Member::alive(peer(other))).collect();
        // Hosts began at different times: each probes first at a moment of its own.
        world.now = Instant::START.after(Duration::from_micros(world.rng.random_range(0..1_000_000)));
        world.with(host, |foca, effects| foca.apply_many(members.into_iter(), false, effects));
    }
    world.run();
    world.counts
}

fn peer(host: usize) -> Peer {
    Peer::new(NodeId::from_bytes((host as u64 + 1).to_be_bytes()), Epoch(1), 0)
}

fn host_of(peer: Peer) -> usize {
    usize::try_from(u64::from_be_bytes(*peer.id().as_bytes())).expect("a host") - 1
}

impl World<'_> {
    fn run(&mut self) {
        let end = Instant::START.after(self.plan.length());
        let crash = Instant::START.after(self.plan.crash_at());
        while let Some(at) = self.queue.next().filter(|at| *at <= end) {
            self.now = at;
            if at >= crash {
                self.hosts[self.plan.crashes()] = None;
            }
            let Some(due) = self.queue.take_due(at) else {
                break;
            };
            self.on_due(due);
        }
    }

    fn on_due(&mut self, due: Due) {
        if self.hosts[due.host].is_none() {
            return;
        }
        match due.what {
            What::Leaves { to, packet } => {
                let jitter = self.rng.random_range(0..400);
                self.arm(to, Duration::from_micros(300 + jitter), What::Arrives(packet));
            }
            What::Arrives(packet) => {
                let held = self.held(due.host);
                self.arm(due.host, held, What::Reads(packet));
            }
            What::Reads(packet) => {
                self.with(due.host, |foca, effects| foca.handle_data(&packet, effects));
                if self.armed == Armed::ByHearers {
                    self.arm_what_is_heard(due.host, &packet);
                }
            }
            What::Timer(timer) => self.with(due.host, |foca, effects| foca.handle_timer(timer, effects)),
        }
    }

    fn held(&self, host: usize) -> Duration {
        self.plan.held(self.cell, host, self.now)
    }

    fn arm(&mut self, host: usize, after: Duration, what: What) {
        self.queue.arm(self.now.after(after), Due { host, what });
    }

    fn with<F>(&mut self, host: usize, act: F)
    where
        F: FnOnce(
            &mut Foca<Peer, PacketCodec, ChaCha8Rng, NoCustomBroadcast>,
            &mut Effects,
        ) -> Result<(), foca::Error>,
    {
        let mut effects = Effects::default();
        if let Some(running) = &mut self.hosts[host] {
            // What foca refuses, such as a packet of an earlier life, it refuses as in production.
            let _refused = act(&mut running.foca, &mut effects);
        }
        for (to, packet) in effects.sent {
            self.counts.messages += 1;
            self.counts.bytes += packet.len() as u64 + HEADERS;
            let held = self.held(host);
            self.arm(host, held, What::Leaves { to: host_of(to), packet });
        }
        for (timer, after) in effects.timers {
            if let (Timer::ProbeRandomMember(token), Some(running)) = (&timer, &mut self.hosts[host]) {
                running.token = Some(*token);
            }
            self.arm(host, after, What::Timer(timer));
        }
        for down in effects.down {
            self.note_down(host, host_of(down));
        }
    }

    fn note_down(&mut self, observer: usize, subject: usize) {
        let after = self.now.since(Instant::START);
        if subject == self.plan.crashes() && after >= self.plan.crash_at() {
            if !self.plan.is_slow(self.cell, observer) {
                self.counts
                    .crash
                    .get_or_insert_with(Crash::default)
                    .known(observer, after - self.plan.crash_at());
            }
        } else if !self.plan.is_slow(self.cell, subject) {
            self.counts.false_positives += 1;
            self.counts.false_positives_by_healthy += u64::from(!self.plan.is_slow(self.cell, observer));
        }
    }

    /// memberlist arms a time-out wherever a suspicion is heard of.
    fn arm_what_is_heard(&mut self, host: usize, packet: &[u8]) {
        let suspects = suspects_in(packet);
        let timeout =
            Config::new_lan(u32::try_from(self.plan.nodes).ok().and_then(NonZeroU32::new).expect("some"))
                .suspect_to_down_after;
        for (member_id, incarnation) in suspects {
            let Some(Host { foca, token: Some(token), armed }) = &mut self.hosts[host] else {
                continue;
            };
            let heard = (member_id, incarnation);
            let is_suspect = |member: &Member<Peer>| {
                *member.id() == member_id
                    && member.incarnation() == incarnation
                    && member.state() == State::Suspect
            };
            if armed.get(&member_id.id()) == Some(&heard) || !foca.iter_membership_state().any(is_suspect) {
                continue;
            }
            armed.insert(member_id.id(), heard);
            let timer = Timer::ChangeSuspectToDown { member_id, incarnation, token: *token };
            self.arm(host, timeout, What::Timer(timer));
        }
    }
}

/// Whom the updates in a packet call Suspect.
fn suspects_in(packet: &[u8]) -> Vec<(Peer, u16)> {
    let mut suspects = Vec::new();
    let Ok((_, used)) = wire::decode_prefix::<foca::Header<Peer>>(Channel::Datagram, packet) else {
        return suspects;
    };
    let Some((count, mut rest)) = packet.get(used..).and_then(|rest| rest.split_first_chunk::<2>()) else {
        return suspects;
    };
    for _ in 0..u16::from_be_bytes(*count) {
        let Ok((member, used)) = wire::decode_prefix::<Member<Peer>>(Channel::Datagram, rest) else {
            return suspects;
        };
        rest = &rest[used..];
        if member.state() == State::Suspect {
            suspects.push((*member.id(), member.incarnation()));
        }
    }
    suspects
}
