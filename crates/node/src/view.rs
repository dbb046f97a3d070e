//! Builds snapshots: only what changed is made anew, the rest is shared with the snapshot before.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringmesh_gossip::registry::Registry;
use ringmesh_types::body::{Body, EndpointHealth, HealthBody, ServicesBody};
use ringmesh_types::document::Topic;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::{ClusterName, InstanceId, NodeName, ServiceName};
use ringmesh_types::owners::KeyOwners;
use ringmesh_types::service::{HealthState, Instance};
use ringmesh_types::snapshot::{InstanceView, MemberState, MemberView, ServiceView, Snapshot};
use ringmesh_types::time::{Instant, WallTime};

use crate::demotions::Demotions;
use crate::machine::Clock;
use crate::members::{Member, Members};

/// What the view is built from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) members: &'a Members,
    pub(crate) registry: &'a Registry,
    pub(crate) demotions: &'a Demotions,
    pub(crate) isolated_since: Option<Instant>,
    pub(crate) maps: &'a Arc<BTreeMap<ServiceName, Arc<dyn KeyOwners>>>,
    pub(crate) clock: &'a Clock,
    pub(crate) now: Instant,
}

/// More than this are not told apart: then everything is built anew.
const DIRTY_MAX: usize = 256;

/// Whose part of the view is out of date.
#[derive(Debug)]
enum Dirty {
    These(BTreeSet<NodeId>),
    All,
}

/// What is dirty, and what was built last.
#[derive(Debug)]
pub(crate) struct ViewBuilder {
    cluster: ClusterName,
    is_changed: bool,
    are_members_dirty: bool,
    dirty: Dirty,
    members: BTreeMap<NodeId, Arc<MemberView>>,
    services_of: BTreeMap<NodeId, BTreeSet<ServiceName>>,
    owners_of: BTreeMap<ServiceName, BTreeSet<NodeId>>,
    services: BTreeMap<ServiceName, Arc<ServiceView>>,
    addresses_of: BTreeMap<NodeId, (NodeName, BTreeSet<IpAddr>)>,
    hosts: Arc<BTreeMap<IpAddr, Vec<NodeName>>>,
    last: Option<Arc<Snapshot>>,
}

impl ViewBuilder {
    pub(crate) fn new(cluster: ClusterName) -> Self {
        Self {
            cluster,
            is_changed: false,
            are_members_dirty: true,
            dirty: Dirty::These(BTreeSet::new()),
            members: BTreeMap::new(),
            services_of: BTreeMap::new(),
            owners_of: BTreeMap::new(),
            services: BTreeMap::new(),
            addresses_of: BTreeMap::new(),
            hosts: Arc::new(BTreeMap::new()),
            last: None,
        }
    }

    /// What a node says of its services or their health changed.
    pub(crate) fn owner_changed(&mut self, owner: NodeId) {
        if let Dirty::These(owners) = &mut self.dirty {
            owners.insert(owner);
            if owners.len() > DIRTY_MAX {
                self.dirty = Dirty::All;
            }
        }
        self.is_changed = true;
    }

    /// How a member is seen changed, and so how its instances are.
    pub(crate) fn member_changed(&mut self, id: NodeId) {
        self.are_members_dirty = true;
        self.owner_changed(id);
    }

    /// Maps of keys changed.
    pub(crate) fn maps_changed(&mut self) {
        self.is_changed = true;
    }

    /// Whether anything changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.is_changed)
    }

    pub(crate) fn build(&mut self, me: NodeId, source: &Source<'_>) -> Arc<Snapshot> {
        let owners = match core::mem::replace(&mut self.dirty, Dirty::These(BTreeSet::new())) {
            Dirty::These(owners) => owners,
            Dirty::All => source.members.iter().map(Member::id).chain(self.members.keys().copied()).collect(),
        };
        let is_same = !self.are_members_dirty && owners.is_empty();
        if let Some(last) = self.last.as_ref().filter(|last| is_same && Arc::ptr_eq(&last.maps, source.maps))
        {
            return last.clone();
        }
        for owner in &owners {
            self.show(*owner, source);
            self.place(*owner, source.members, source.registry);
        }
        let dirty = self.index(&owners, source.members, source.registry);
        for service in dirty {
            self.build_service(service, source.registry);
        }
        let wall = source.clock.wall(source.now);
        let snapshot = Arc::new(Snapshot {
            serial: self.last.as_ref().map_or_else(|| first_serial(wall), |last| last.serial.wrapping_add(1)),
            cluster: self.cluster.clone(),
            local: self.members.get(&me).expect("a node places itself before it is asked").clone(),
            members: self.members_by_name(),
            services: self.services.clone(),
            hosts: self.hosts.clone(),
            maps: source.maps.clone(),
            isolated_since: source.isolated_since.map(|at| source.clock.wall(at)),
            made: wall,
        });
        self.are_members_dirty = false;
        self.last = Some(snapshot.clone());
        snapshot
    }

    /// Brings what readers see of a member up to date.
    fn show(&mut self, owner: NodeId, source: &Source<'_>) {
        match source.members.find(owner) {
            Some(member) => {
                let view = Arc::new(view_of(member, source));
                if self.members.get(&owner) != Some(&view) {
                    self.members.insert(owner, view);
                }
            }
            None => {
                self.members.remove(&owner);
            }
        }
    }

    /// Brings the index of who has which address up to date.
    fn place(&mut self, owner: NodeId, members: &Members, registry: &Registry) {
        let after =
            members.find(owner).filter(|member| is_shown(member)).map(|member| addresses(member, registry));
        let before = self.addresses_of.remove(&owner);
        if before != after {
            let hosts = Arc::make_mut(&mut self.hosts);
            for (name, address) in
                before.iter().flat_map(|(name, all)| all.iter().map(move |address| (name, address)))
            {
                if let Some(names) = hosts.get_mut(address) {
                    names.retain(|other| other != name);
                    if names.is_empty() {
                        hosts.remove(address);
                    }
                }
            }
            for (name, address) in
                after.iter().flat_map(|(name, all)| all.iter().map(move |address| (name, address)))
            {
                let names = hosts.entry(*address).or_default();
                names.push(name.clone());
                names.sort();
            }
        }
        if let Some(after) = after {
            self.addresses_of.insert(owner, after);
        }
    }

    /// Brings the index of who runs what up to date. Returns the services that must be built anew.
    fn index(
        &mut self,
        owners: &BTreeSet<NodeId>,
        members: &Members,
        registry: &Registry,
    ) -> BTreeSet<ServiceName> {
        let mut dirty = BTreeSet::new();
        for owner in owners {
            let before = self.services_of.remove(owner).unwrap_or_default();
            let after: BTreeSet<ServiceName> = match members.find(*owner).filter(|member| is_shown(member)) {
                Some(_) => services_body(registry, *owner)
                    .map(|body| body.instances.iter().map(|instance| instance.service.clone()).collect())
                    .unwrap_or_default(),
                None => BTreeSet::new(),
            };
            for gone in before.difference(&after) {
                if let Some(owners) = self.owners_of.get_mut(gone) {
                    owners.remove(owner);
                }
            }
            for service in &after {
                self.owners_of.entry(service.clone()).or_default().insert(*owner);
            }
            dirty.extend(before);
            dirty.extend(after.iter().cloned());
            if !after.is_empty() {
                self.services_of.insert(*owner, after);
            }
        }
        dirty
    }

    fn build_service(&mut self, name: ServiceName, registry: &Registry) {
        let mut instances = Vec::new();
        for owner in self.owners_of.get(&name).into_iter().flatten() {
            let (Some(member), Some(body)) = (self.members.get(owner), services_body(registry, *owner))
            else {
                continue;
            };
            let health = health_body(registry, *owner).map(|body| {
                body.instances.iter().map(|known| (&known.id, &*known.endpoints)).collect::<BTreeMap<_, _>>()
            });
            for instance in body.instances.iter().filter(|instance| instance.service == name) {
                instances.push(InstanceView {
                    instance: instance.clone(),
                    member: member.clone(),
                    health: health_of(instance, health.as_ref()),
                    is_draining: instance.is_draining || body.is_node_draining,
                });
            }
        }
        if instances.is_empty() {
            self.owners_of.remove(&name);
            self.services.remove(&name);
            return;
        }
        instances.sort_by(|a, b| (&a.member.name, &a.instance.id).cmp(&(&b.member.name, &b.instance.id)));
        self.services.insert(name.clone(), Arc::new(ServiceView { name, instances }));
    }

    fn members_by_name(&self) -> BTreeMap<NodeName, Arc<MemberView>> {
        match &self.last {
            Some(last) if !self.are_members_dirty => last.members.clone(),
            _ => self.members.values().map(|view| (view.name.clone(), view.clone())).collect(),
        }
    }
}

/// What readers see of a member.
fn view_of(member: &Member, source: &Source<'_>) -> MemberView {
    let body = member.body();
    let is_self = source.members.is_me(member);
    MemberView {
        name: body.name.clone(),
        identity: member.identity(),
        zone: body.zone.clone(),
        region: body.region.clone(),
        addresses: body.addresses.iter().map(IpAddr::to_canonical).collect(),
        agent_version: body.agent_version.clone(),
        state: member.state(),
        demoted: source.demotions.of(member),
        since: source.clock.wall(member.changed),
        cause: if is_self { "this agent".into() } else { member.cause() },
        incarnation: member.incarnation(),
        clash: member.clash().cloned(),
        is_self,
    }
}

/// Serials begin at the wall clock's seconds, so that they rise over restarts (RFC 1912, 2.2).
fn first_serial(wall: WallTime) -> u32 {
    u32::try_from(wall.as_unix_millis() / 1_000 % (1 << 32)).unwrap_or_default()
}

fn is_shown(member: &Member) -> bool {
    !matches!(member.state(), MemberState::Left)
}

pub(crate) fn services_body(registry: &Registry, owner: NodeId) -> Option<&ServicesBody> {
    match &registry.find(owner, Topic::SERVICES)?.body {
        Body::Services(body) => Some(body),
        Body::Node(_)
        | Body::Trust
        | Body::Health(_)
        | Body::Forget(..)
        | Body::Map(..)
        | Body::Layout(..)
        | Body::Opaque => None,
    }
}

pub(crate) fn health_body(registry: &Registry, owner: NodeId) -> Option<&HealthBody> {
    match &registry.find(owner, Topic::HEALTH)?.body {
        Body::Health(body) => Some(body),
        Body::Node(_)
        | Body::Trust
        | Body::Services(_)
        | Body::Forget(..)
        | Body::Map(..)
        | Body::Layout(..)
        | Body::Opaque => None,
    }
}

fn health_of(
    instance: &Instance,
    health: Option<&BTreeMap<&InstanceId, &[EndpointHealth]>>,
) -> Vec<EndpointHealth> {
    let known = health.and_then(|health| health.get(&instance.id));
    let unknown = EndpointHealth { state: HealthState::Unknown, since: WallTime::default() };
    let at = |index| known.and_then(|known| known.get(index)).copied().unwrap_or(unknown);
    (0..instance.endpoints.len()).map(at).collect()
}

/// A member's name and every address that it or an endpoint on it has.
fn addresses(member: &Member, registry: &Registry) -> (NodeName, BTreeSet<IpAddr>) {
    let instances = services_body(registry, member.id()).into_iter().flat_map(|body| &body.instances);
    let endpoints = instances.flat_map(|instance| &instance.endpoints).map(|endpoint| endpoint.address);
    let all = member.body().addresses.iter().copied().chain(endpoints);
    (member.name().clone(), all.map(|address| address.to_canonical()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_serial_is_the_wall_clock_in_seconds() {
        assert_eq!(first_serial(WallTime::from_unix_millis(1_700_000_000_999)), 1_700_000_000);
        assert_eq!(first_serial(WallTime::from_unix_millis(((1 << 32) + 7) * 1_000)), 7);
    }
}
