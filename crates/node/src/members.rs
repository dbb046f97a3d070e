//! The members as this node sees them, and what changes a member's state.
//!
//! `Alive ⇄ Suspect → Down`, `Alive → Holding → Alive | Down`, any → `Left`. Only a later life (epoch, revival) brings a
//! member back from Down or Left.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, RngExt};
use ringmesh_gossip::suspicion::Life;
use ringmesh_types::body::NodeBody;
use ringmesh_types::ids::{Identity, NodeId};
use ringmesh_types::name::NodeName;
use ringmesh_types::snapshot::{MemberState, MemberView};
use ringmesh_types::time::{Instant, WallTime};

use crate::io::Target;

/// One member: its view is what readers see, the rest is what this node needs to decide.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// What readers see; shared with snapshots.
    pub(crate) view: Arc<MemberView>,
    /// When a packet of its present life last came.
    pub(crate) heard: Option<Instant>,
    /// When its state last changed.
    pub(crate) changed: Instant,
    /// Until when a holding member is waited for.
    pub(crate) hold_until: Option<Instant>,
}

impl Member {
    pub(crate) fn identity(&self) -> Identity {
        self.view.identity
    }

    pub(crate) fn life(&self) -> Life {
        let Identity { epoch, revival, .. } = self.view.identity;
        Life { epoch, revival, incarnation: self.view.incarnation }
    }

    pub(crate) fn target(&self) -> Target {
        Target { id: Some(self.view.identity.id), addr: self.view.identity.addr.into() }
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.view.state.is_serving()
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(self.view.state, MemberState::Down)
    }
}

/// All members, this node included.
#[derive(Debug)]
pub(crate) struct Members {
    me: NodeId,
    by_id: BTreeMap<NodeId, Member>,
}

impl Members {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, by_id: BTreeMap::new() }
    }

    pub(crate) fn find(&self, id: NodeId) -> Option<&Member> {
        self.by_id.get(&id)
    }

    pub(crate) fn find_mut(&mut self, id: NodeId) -> Option<&mut Member> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn find_named(&self, name: &NodeName) -> Option<&Member> {
        self.by_id.values().find(|member| member.view.name == *name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        self.by_id.remove(&id);
    }

    pub(crate) fn insert(&mut self, id: NodeId, member: Member) {
        self.by_id.insert(id, member);
    }

    /// Members other than this node that are in answers.
    pub(crate) fn serving_others(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values().filter(|member| member.identity().id != self.me && member.is_serving())
    }

    /// Members besides `subject` that are in answers, this node included: those who could accuse it.
    pub(crate) fn possible_accusers(&self, subject: NodeId) -> usize {
        self.by_id.values().filter(|member| member.identity().id != subject && member.is_serving()).count()
    }

    /// Where a push to everybody goes.
    pub(crate) fn everybody(&self) -> Vec<Target> {
        self.serving_others().map(Member::target).collect()
    }

    /// Up to `count` random serving others that are not in `except`.
    pub(crate) fn some(&self, rng: &mut impl Rng, count: usize, except: &[NodeId]) -> Vec<Target> {
        let mut targets: Vec<Target> = self
            .serving_others()
            .filter(|member| !except.contains(&member.identity().id))
            .map(Member::target)
            .collect();
        for index in 0..count.min(targets.len()) {
            let other = rng.random_range(index..targets.len());
            targets.swap(index, other);
        }
        targets.truncate(count);
        targets
    }

    /// Whether a serving member has this mesh address.
    pub(crate) fn is_served_at(&self, addr: SocketAddr) -> bool {
        self.by_id
            .values()
            .any(|member| member.is_serving() && SocketAddr::from(member.identity().addr) == addr)
    }

    /// Changes what readers see of a member.
    pub(crate) fn update(&mut self, id: NodeId, change: impl FnOnce(&mut MemberView)) {
        if let Some(member) = self.by_id.get_mut(&id) {
            change(Arc::make_mut(&mut member.view));
        }
    }
}

/// What readers see of a member whose `node` document says `body`.
pub(crate) fn view_of(body: &NodeBody, identity: Identity, wall: WallTime) -> MemberView {
    MemberView {
        name: body.name.clone(),
        identity,
        zone: body.zone.clone(),
        region: body.region.clone(),
        addresses: canonical(&body.addresses),
        agent_version: body.agent_version.clone(),
        state: MemberState::Alive,
        since: wall,
        cause: "its node document came".into(),
        incarnation: body.incarnation,
        clash: None,
        is_self: false,
    }
}

fn canonical(addresses: &[IpAddr]) -> Vec<IpAddr> {
    addresses.iter().map(IpAddr::to_canonical).collect()
}
