//! The members as this node sees them, and what changes a member's state.
//!
//! `Alive ⇄ Suspect → Down`, `Alive → Holding → Alive | Down`, any → `Left`. Only a later life (epoch, revival) brings a
//! member back from Down or Left.

use core::net::SocketAddr;
use std::sync::Arc;

use rand::{Rng, RngExt};
use ringmesh_gossip::dense;
use ringmesh_gossip::suspicion::Life;
use ringmesh_types::body::NodeBody;
use ringmesh_types::ids::{Identity, NodeId};
use ringmesh_types::name::NodeName;
use ringmesh_types::snapshot::MemberState;
use ringmesh_types::stored::Stored;
use ringmesh_types::time::Instant;

use crate::io::Target;

/// One member. A node keeps one for every other, so what it shares with the registry is shared, and what is usual takes
/// no room: 40 bytes for a member of which nothing is known but its `node` document.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    id: NodeId,
    /// Its `node` document.
    said: Arc<Stored>,
    /// When its state last changed.
    pub(crate) changed: Instant,
    /// When a packet of its present life last came; the begin of time if none did.
    heard: Instant,
    found: Option<Box<Found>>,
}

/// What this node found out about a member beyond its `node` document.
#[derive(Debug, Clone)]
struct Found {
    state: MemberState,
    cause: Arc<str>,
    incarnation: u16,
    /// Until when a holding member is waited for.
    hold_until: Option<Instant>,
    /// Where a second agent of its name was seen, and when last.
    clash: Option<(String, Instant)>,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            state: MemberState::Alive,
            cause: Member::CAME.into(),
            incarnation: 0,
            hold_until: None,
            clash: None,
        }
    }
}

impl Member {
    const CAME: &str = "its node document came";

    /// A member of which nothing is known but that it says it is there; `said` is its `node` document.
    pub(crate) fn new(now: Instant, said: Arc<Stored>) -> Self {
        Self { id: said.document.key.owner, said, changed: now, heard: Instant::START, found: None }
    }

    /// The same member after it said something else; in a new life what was known of the old one does not hold.
    pub(crate) fn after(&self, now: Instant, said: Arc<Stored>) -> Self {
        let mut member = Self::new(now, said);
        member.found.clone_from(&self.found);
        if member.identity().supersedes(&self.identity()) {
            if let Some(found) = &mut member.found {
                (found.incarnation, found.clash) = (0, None);
            }
        } else {
            (member.heard, member.changed) = (self.heard, self.changed);
        }
        if let Some(found) = &mut member.found {
            found.hold_until = None;
        }
        member
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    /// What it says of itself.
    pub(crate) fn body(&self) -> &NodeBody {
        self.said.node_body().expect("a member is made of a node document")
    }

    pub(crate) fn name(&self) -> &NodeName {
        &self.body().name
    }

    pub(crate) fn identity(&self) -> Identity {
        self.body().identity(self.id, self.said.document.version)
    }

    pub(crate) fn incarnation(&self) -> u16 {
        self.found.as_ref().map_or(0, |found| found.incarnation).max(self.body().incarnation)
    }

    pub(crate) fn life(&self) -> Life {
        let Identity { epoch, revival, .. } = self.identity();
        Life { epoch, revival, incarnation: self.incarnation() }
    }

    pub(crate) fn target(&self) -> Target {
        Target { id: Some(self.id), addr: self.body().mesh.into() }
    }

    pub(crate) fn state(&self) -> MemberState {
        self.found.as_ref().map_or(MemberState::Alive, |found| found.state)
    }

    /// Why its state is what it is.
    pub(crate) fn cause(&self) -> Arc<str> {
        self.found.as_ref().map_or_else(|| Self::CAME.into(), |found| found.cause.clone())
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.state().is_serving()
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state(), MemberState::Down)
    }

    /// When a packet of its present life last came.
    pub(crate) fn heard(&self) -> Option<Instant> {
        (self.heard > Instant::START).then_some(self.heard)
    }

    /// Where a second agent of its name was seen.
    pub(crate) fn clash(&self) -> Option<&String> {
        self.found.as_ref()?.clash.as_ref().map(|(at, _)| at)
    }

    /// When that one was seen last.
    pub(crate) fn clash_seen(&self) -> Option<Instant> {
        self.found.as_ref()?.clash.as_ref().map(|(_, seen)| *seen)
    }

    pub(crate) fn is_hold_over(&self, now: Instant) -> bool {
        let until = self.found.as_ref().and_then(|found| found.hold_until);
        matches!(self.state(), MemberState::Holding) && until.is_some_and(|until| until <= now)
    }

    pub(crate) fn set_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(crate) fn set_hold(&mut self, until: Instant) {
        self.found_mut().hold_until = Some(until);
    }

    fn set_state(&mut self, now: Instant, state: MemberState, cause: &str) {
        self.changed = now;
        let found = self.found_mut();
        (found.state, found.cause) = (state, cause.into());
    }

    pub(crate) fn set_clash(&mut self, now: Instant, at: String) {
        self.found_mut().clash = Some((at, now));
    }

    pub(crate) fn clear_clash(&mut self) {
        self.found_mut().clash = None;
    }

    pub(crate) fn raise_incarnation(&mut self, incarnation: u16) {
        self.found_mut().incarnation = incarnation;
    }

    fn found_mut(&mut self) -> &mut Found {
        self.found.get_or_insert_default()
    }
}

/// Random members are drawn so often for each that is wanted before all are looked at.
const DRAWS_EACH: usize = 8;

/// All members, this node included.
#[derive(Debug)]
pub(crate) struct Members {
    me: NodeId,
    /// By id.
    all: Vec<Member>,
    /// How many of them are in answers.
    serving: usize,
}

impl Members {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, all: Vec::new(), serving: 0 }
    }

    fn position(&self, id: NodeId) -> Result<usize, usize> {
        self.all.binary_search_by(|member| member.id.cmp(&id))
    }

    pub(crate) fn find(&self, id: NodeId) -> Option<&Member> {
        self.position(id).ok().map(|index| &self.all[index])
    }

    pub(crate) fn find_mut(&mut self, id: NodeId) -> Option<&mut Member> {
        self.position(id).ok().map(|index| &mut self.all[index])
    }

    pub(crate) fn find_named(&self, name: &NodeName) -> Option<&Member> {
        self.all.iter().find(|member| member.name() == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> + Clone {
        self.all.iter()
    }

    /// How many there are, in whatever state.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        if let Ok(index) = self.position(id) {
            let member = self.all.remove(index);
            self.serving -= usize::from(member.is_serving());
        }
    }

    pub(crate) fn insert(&mut self, member: Member) {
        self.serving += usize::from(member.is_serving());
        match self.position(member.id) {
            Ok(index) => {
                let before = core::mem::replace(&mut self.all[index], member);
                self.serving -= usize::from(before.is_serving());
            }
            Err(index) => dense::insert(&mut self.all, index, member),
        }
    }

    /// Says how a member is, and why. Returns it, if there is one of this id.
    pub(crate) fn set_state(
        &mut self,
        now: Instant,
        id: NodeId,
        state: MemberState,
        cause: &str,
    ) -> Option<&Member> {
        let index = self.position(id).ok()?;
        let member = &mut self.all[index];
        self.serving -= usize::from(member.is_serving());
        member.set_state(now, state, cause);
        self.serving += usize::from(member.is_serving());
        Some(member)
    }

    pub(crate) fn is_me(&self, member: &Member) -> bool {
        member.id == self.me
    }

    /// Members other than this node that are in answers.
    pub(crate) fn serving_others(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|member| !self.is_me(member) && member.is_serving())
    }

    /// Members besides `subject` that are in answers, this node included: those who could accuse it.
    pub(crate) fn possible_accusers(&self, subject: NodeId) -> usize {
        self.serving - usize::from(self.find(subject).is_some_and(Member::is_serving))
    }

    /// Up to `count` random serving others that are not in `except`.
    pub(crate) fn some(&self, rng: &mut impl Rng, count: usize, except: &[NodeId]) -> Vec<Target> {
        let is_wanted =
            |member: &Member| !self.is_me(member) && member.is_serving() && !except.contains(&member.id);
        let mut drawn: Vec<&Member> = Vec::with_capacity(count);
        // Most members will do in most meshes: drawing a few costs less than looking at all.
        for _ in 0..DRAWS_EACH * count {
            if drawn.len() == count || self.all.is_empty() {
                break;
            }
            let member = &self.all[rng.random_range(0..self.all.len())];
            if is_wanted(member) && drawn.iter().all(|other| other.id != member.id) {
                drawn.push(member);
            }
        }
        if drawn.len() < count {
            drawn = self.all.iter().filter(|member| is_wanted(member)).collect();
            for index in 0..count.min(drawn.len()) {
                let other = rng.random_range(index..drawn.len());
                drawn.swap(index, other);
            }
        }
        drawn.into_iter().take(count).map(Member::target).collect()
    }

    /// Whether a serving member has this mesh address.
    pub(crate) fn is_served_at(&self, addr: SocketAddr) -> bool {
        self.all.iter().any(|member| member.is_serving() && member.target().addr == addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use ringmesh_types::body::Standing;
    use ringmesh_types::document::{Document, Key, Topic};
    use ringmesh_types::ids::{Epoch, Version};
    use ringmesh_types::sealed::{MakeSeal, Seal, Verified};
    use ringmesh_types::time::WallTime;

    struct NoSeal;

    impl MakeSeal for NoSeal {
        fn seal(&self, _: &[u8]) -> Seal {
            Seal([0; 64])
        }
    }

    fn member(name: &str) -> Member {
        let name: NodeName = name.parse().expect("a name");
        let body = NodeBody {
            zone: "fra".parse().expect("a name"),
            region: "eu".parse().expect("a name"),
            mesh: SocketAddr::from(([10, 0, 0, 1], 7300)).into(),
            addresses: vec![[10, 0, 0, 1].into()],
            agent_version: "1".to_owned(),
            standing: Standing::Serving,
            revival: 0,
            incarnation: 0,
            started: WallTime::default(),
            name: name.clone(),
        };
        let key = Key {
            owner: NodeId::derive(&"test".parse().expect("a name"), &name),
            topic: Topic::of(Topic::NODE),
        };
        let version = Version { epoch: Epoch(1), sequence: 1 };
        let body = body.to_bytes().expect("small").into();
        let document = Document { key, version, body, seal: Seal([0; 64]) };
        let said =
            Verified::seal_document(document, &NoSeal).expect("small").read().expect("a node document");
        Member::new(Instant::START, said.into_inner())
    }

    #[test]
    fn a_member_is_small_in_memory() {
        assert_eq!(size_of::<Member>(), 40);
    }

    #[test]
    fn members_are_drawn_once_each_and_neither_this_node_nor_who_is_excepted() {
        let all: Vec<_> = (0..6).map(|index| member(&format!("node-{index}"))).collect();
        let (me, excepted) = (all[0].id(), all[1].id());
        let mut members = Members::new(me);
        all.iter().for_each(|member| members.insert(member.clone()));
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for count in 0..=6 {
            let drawn: std::collections::BTreeSet<_> =
                members.some(&mut rng, count, &[excepted]).iter().filter_map(|target| target.id).collect();
            assert_eq!(drawn.len(), count.min(4), "{drawn:?}");
            assert!(!drawn.contains(&me) && !drawn.contains(&excepted), "{drawn:?}");
        }
    }

    #[test]
    fn who_could_accuse_is_counted_as_members_come_change_and_go() {
        let all: Vec<_> = (0..4).map(|index| member(&format!("node-{index}"))).collect();
        let (one, two, stranger) = (all[0].id(), all[1].id(), all[3].id());
        let mut members = Members::new(one);
        all[..3].iter().for_each(|member| members.insert(member.clone()));
        assert_eq!((members.possible_accusers(one), members.possible_accusers(stranger)), (2, 3));
        for (state, others, besides) in
            [(MemberState::Holding, 2, 2), (MemberState::Down, 1, 2), (MemberState::Alive, 2, 2)]
        {
            for _ in 0..2 {
                members.set_state(Instant::START, two, state, "a test");
                let serving =
                    members.iter().filter(|member| member.id() != one && member.is_serving()).count();
                assert_eq!(members.possible_accusers(one), serving, "{state:?}");
                assert_eq!(
                    (members.possible_accusers(one), members.possible_accusers(two)),
                    (others, besides),
                    "{state:?}"
                );
            }
        }
        members.set_state(Instant::START, two, MemberState::Down, "a test");
        members.insert(all[1].clone());
        assert_eq!(members.possible_accusers(one), 2, "it came again");
        members.remove(two);
        members.remove(two);
        assert_eq!((members.possible_accusers(one), members.possible_accusers(two)), (1, 2));
        assert!(members.set_state(Instant::START, two, MemberState::Alive, "a test").is_none());
    }
}
