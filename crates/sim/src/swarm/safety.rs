//! What may never happen, whatever the network, the disks and the clocks do.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_dns::selection::{Filter, candidates};
use ringmesh_partition::follow::Token;
use ringmesh_partition::map::Host;
use ringmesh_partition::position::Position;
use ringmesh_types::document::Key;
use ringmesh_types::ids::{Epoch, Identity, NodeId, Version};
use ringmesh_types::limits;
use ringmesh_types::name::ServiceName;
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::time::Instant;

use crate::play::stage::Stage;
use crate::scenario::Fault;

/// A host sends at most so many messages in a second, and so many for each other host besides.
const MESSAGES_MAX: (u64, u64) = (200, 100);

/// What was seen so far, to compare with.
pub(crate) struct Safety {
    /// When the healed core agreed.
    pub(crate) agreed_after_s: f64,
    /// Since when nothing but maps differs.
    maps_differ_since: Option<Instant>,
    /// For how long that was so at most.
    pub(crate) maps_differed: Duration,
    issued: BTreeMap<Key, (Version, u64)>,
    held: Vec<BTreeMap<Key, Version>>,
    seen: Vec<BTreeMap<NodeId, (Identity, MemberState)>>,
    lives: Vec<(Option<Instant>, Epoch)>,
    has_left: Vec<bool>,
    /// The map of each service that a host followed last in its life.
    followed: Vec<BTreeMap<ServiceName, Token>>,
    sent: (Instant, Vec<u64>),
}

impl Safety {
    pub(crate) fn new(stage: &Stage) -> Self {
        let hosts = stage.hosts();
        Self {
            agreed_after_s: f64::NAN,
            maps_differ_since: None,
            maps_differed: Duration::ZERO,
            issued: BTreeMap::new(),
            held: vec![BTreeMap::new(); hosts],
            seen: vec![BTreeMap::new(); hosts],
            lives: vec![(None, Epoch::default()); hosts],
            has_left: vec![false; hosts],
            followed: vec![BTreeMap::new(); hosts],
            sent: (stage.now(), vec![0; hosts]),
        }
    }

    /// Looks at every host. Says what happened that may not.
    pub(crate) fn check(&mut self, stage: &mut Stage) -> Result<(), String> {
        for host in 0..stage.hosts() {
            self.has_left[host] |= stage.conditions[host].has_left;
        }
        for host in (0..stage.hosts()).filter(|host| stage.world.is_running(*host)) {
            self.begin_life(stage, host)?;
            self.note_issued(stage, host)?;
        }
        let honest: Vec<usize> = (0..stage.hosts()).filter(|host| is_honest(stage, *host)).collect();
        for host in honest {
            self.check_members(stage, host)?;
            self.check_documents(stage, host)?;
            check_answers(stage, host)?;
            self.check_maps(stage, host)?;
        }
        self.check_traffic(stage)
    }

    /// A new life has a higher epoch than every life before it, and remembers nothing of them here.
    fn begin_life(&mut self, stage: &Stage, host: usize) -> Result<(), String> {
        let since = stage.conditions[host].runs_since;
        let Some(node) = stage.world.node(host) else {
            return Ok(());
        };
        let (known_since, last) = self.lives[host];
        if since == known_since {
            return Ok(());
        }
        let epoch = node.identity().epoch;
        self.lives[host] = (since, epoch);
        self.held[host].clear();
        self.seen[host].clear();
        self.followed[host].clear();
        let is_excused = stage.conditions[host].is_twin || stage.was_wiped(host) || has_wild_clock(stage);
        if epoch <= last && !is_excused {
            return Err(format!("node-{host} starts with epoch {epoch}, it had {last} before"));
        }
        Ok(())
    }

    /// Whether nothing but maps differs now.
    pub(crate) fn note_maps(&mut self, now: Instant, differ: bool) {
        let since = self.maps_differ_since.take().filter(|_| differ);
        if differ {
            let since = *self.maps_differ_since.insert(since.unwrap_or(now));
            self.maps_differed = self.maps_differed.max(now.since(since));
        }
    }

    /// Nobody goes back to a lower map, and no key is without somebody to ask while a host is there.
    fn check_maps(&mut self, stage: &mut Stage, host: usize) -> Result<(), String> {
        let Some(maps) = stage.world.maps(host).filter(|maps| !maps.by_service.is_empty()) else {
            return Ok(());
        };
        let Some(snapshot) = stage.world.snapshot(host) else { return Ok(()) };
        for (service, view) in &maps.by_service {
            let Some(map) = &view.map else { continue };
            let token = Token::of(map);
            let before = self.followed[host].insert(service.clone(), token);
            if before.is_some_and(|before| before > token) {
                return Err(format!("node-{host} goes back from {before:?} to {token:?} of {service}"));
            }
            let is_live = |id: NodeId| snapshot.member(id).is_some_and(|member| member.state.is_serving());
            let can_own = |host: &Host| host.capacity > 0 && is_live(host.node);
            let at = Position(stage.now().as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let found = map.lookup_at(at).map(|found| found.seats).unwrap_or_default();
            let is_served = found.iter().any(|seat| is_live(map.host(*seat).node))
                || map.last_resort(at, is_live).is_some();
            if !is_served && map.parts().roster.iter().any(can_own) {
                return Err(format!("node-{host} names nobody for {at} of {service}"));
            }
        }
        Ok(())
    }

    /// What a host says of itself, which others may then repeat.
    fn note_issued(&mut self, stage: &Stage, host: usize) -> Result<(), String> {
        let Some(node) = stage.world.node(host).filter(|_| is_honest(stage, host)) else {
            return Ok(());
        };
        for stored in node.documents_of(node.id()) {
            let (document, (version, hash)) = (&stored.document, stored.rank());
            let issued = self.issued.entry(document.key.clone()).or_insert((version, hash));
            if issued.0 == version && issued.1 != hash {
                let topic = &document.key.topic;
                return Err(format!("node-{host} says two things under {topic} {version}"));
            }
            *issued = (*issued).max((version, hash));
        }
        Ok(())
    }

    /// Down and Left end only with a later life; nobody leaves who did not say so; nobody holds itself Down.
    fn check_members(&mut self, stage: &Stage, host: usize) -> Result<(), String> {
        let Some(node) = stage.world.node(host) else {
            return Ok(());
        };
        let mut now = BTreeMap::new();
        for (identity, state) in node.members() {
            let name = || stage.ids.get(&identity.id).map_or_else(String::new, |host| format!("node-{host}"));
            if identity.id == node.id() && matches!(state, MemberState::Down | MemberState::Suspect { .. }) {
                return Err(format!("node-{host} holds itself {state}"));
            }
            if let Some((before, was)) = self.seen[host].get(&identity.id) {
                let is_later = identity.supersedes(before);
                if !was.is_serving() && state.is_serving() && !is_later {
                    return Err(format!(
                        "node-{host} brings {} back from {was} without a later life",
                        name()
                    ));
                }
                if before.supersedes(&identity) && !has_wild_clock(stage) {
                    return Err(format!("node-{host} goes back to an earlier life of {}", name()));
                }
            }
            let subject = stage.ids.get(&identity.id);
            let never_left =
                subject.is_some_and(|subject| !self.has_left[*subject] && is_honest_ever(stage, *subject));
            if matches!(state, MemberState::Left) && never_left {
                return Err(format!("node-{host} says that {} left, which it did not", name()));
            }
            now.insert(identity.id, (identity, state));
        }
        self.seen[host] = now;
        Ok(())
    }

    /// Documents never go back, and say nothing that their owners did not.
    fn check_documents(&mut self, stage: &Stage, host: usize) -> Result<(), String> {
        let Some(node) = stage.world.node(host) else {
            return Ok(());
        };
        for (owner, name) in &stage.ids {
            if !is_honest_ever(stage, *name) {
                continue;
            }
            for stored in node.documents_of(*owner) {
                let document = &stored.document;
                let held = self.held[host].entry(document.key.clone()).or_insert(document.version);
                if document.version < *held && !has_wild_clock(stage) {
                    return Err(format!(
                        "node-{host} goes back from {} {} to {} of node-{name}",
                        document.key.topic, *held, document.version
                    ));
                }
                *held = document.version;
                let is_known = self.issued.get(&document.key).is_some_and(|(version, hash)| {
                    document.version < *version
                        || (document.version == *version && document.body_hash() == *hash)
                });
                let is_newer_topic = document.key.topic.as_str().starts_with("weather/");
                if !is_known && !is_newer_topic && stage.world.is_running(*name) {
                    return Err(format!(
                        "node-{host} has {} {} of node-{name}, which never said that",
                        document.key.topic, document.version
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_traffic(&mut self, stage: &Stage) -> Result<(), String> {
        let now = stage.now();
        let seconds = now.since(self.sent.0).as_secs();
        if seconds == 0 {
            return Ok(());
        }
        let allowed = (MESSAGES_MAX.0 + MESSAGES_MAX.1 * stage.hosts() as u64) * seconds;
        for host in 0..stage.hosts() {
            let sent = stage.world.traffic(host);
            let sent = sent.datagrams + sent.messages;
            let since = sent - self.sent.1[host];
            self.sent.1[host] = sent;
            if since > allowed && is_honest(stage, host) {
                return Err(format!("node-{host} sent {since} messages in {seconds} s"));
            }
        }
        self.sent.0 = now;
        Ok(())
    }
}

/// Whether a clock was off by more than what the mesh puts up with: whoever is refused for it gives up its epoch, and goes
/// back.
fn has_wild_clock(stage: &Stage) -> bool {
    let passed = stage.now().since(stage.begin);
    stage.scenario.timeline.iter().any(|step| {
        matches!(step.fault, Fault::Clock { by, .. } if by > limits::EPOCH_AHEAD_MAX) && step.at <= passed
    })
}

/// Whether a host runs and keeps to the protocol.
fn is_honest(stage: &Stage, host: usize) -> bool {
    stage.world.is_running(host) && is_honest_ever(stage, host)
}

fn is_honest_ever(stage: &Stage, host: usize) -> bool {
    !stage.conditions[host].is_liar && !stage.conditions[host].is_twin
}

/// As long as a service is known, its answer is not empty.
fn check_answers(stage: &mut Stage, host: usize) -> Result<(), String> {
    let Some(snapshot) = stage.world.snapshot(host) else {
        return Ok(());
    };
    let is_left = |state: MemberState| matches!(state, MemberState::Left);
    for (name, service) in &snapshot.services {
        let is_known = service.instances.iter().any(|instance| !is_left(instance.member.state));
        let found = candidates(&snapshot, service, &Filter::default());
        if is_known && !found.iter().any(|candidate| candidate.served().is_some()) {
            return Err(format!("node-{host} knows {name} and answers nothing"));
        }
    }
    Ok(())
}
