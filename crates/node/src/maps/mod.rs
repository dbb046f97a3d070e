//! Maps of who owns which keys of a service, in the mesh: who declares them, which generation this node goes by, and what it does if
//! it is their author.
//!
//! Two topics carry them. `map/<service>` says what a map should be like, and is written by whoever declares it. `layout/<service>`
//! is one generation, written by its author; whoever has missed those before asks a member for them. Load is reported to the
//! author alone. [`ringmesh_partition`] decides what a plan is and whom to follow; here are only the ways between members.

mod asking;
mod authoring;
mod declaring;
mod fetching;
mod following;
mod layouts;
mod seeking;
mod view;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ringmesh_gossip::bucket::TokenBucket;
use ringmesh_partition::author::Author;
use ringmesh_partition::definition::Definition;
use ringmesh_partition::follow::Follower;
use ringmesh_partition::heat::Report;
use ringmesh_partition::map::Map;
use ringmesh_types::body::{HealthBody, LayoutBody, MapBody, ServicesBody, ToldMap};
use ringmesh_types::document::Topic;
use ringmesh_types::event::{EventKind, Severity};
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::name::ServiceName;
use ringmesh_types::owners::KeyOwners;
use ringmesh_types::service::HealthState;
use ringmesh_types::time::{Instant, WallTime};

use crate::io::Class;
use crate::machine::{Node, Timer};
use crate::members::Member;
use crate::view::{health_body, services_body};

pub(crate) use asking::MapAsked;
pub use authoring::MapOrder;
use declaring::WORDS_MAX;
use fetching::Chain;
use layouts::Layout;
use seeking::Seek;
pub use view::{AuthorView, Generation, MapView, MapsView, ProposalView};

/// Maps at most.
pub const MAPS_MAX: usize = 16;
/// Programs that report load to one agent at most, for one map.
pub const REPORTERS_MAX: usize = 64;
/// Generations whose reasons are kept.
const HISTORY_MAX: usize = 64;
/// So many orders of operators at once, then one in this time: each makes a generation.
const ORDERS: (u32, Duration) = (20, Duration::from_millis(100));
/// Maps are looked after this often.
const TICK: Duration = Duration::from_secs(1);
/// What becomes of those that are lost is decided so soon after it was seen: what is lost together is covered for together.
const COVER_AFTER: Duration = Duration::from_millis(200);
/// Who was lost less than this ago may be lost for others still, or was for whoever made a map then.
const LOST_REMEMBERED: Duration = Duration::from_secs(600);

/// A map as it is known here.
#[derive(Debug)]
struct Known {
    spec: MapSpec,
    definition: Definition,
    declared_by: NodeId,
    told: Option<WallTime>,
    follower: Option<Follower>,
    /// The map of another strategy that was followed before, and is until the first one of this strategy is there.
    retired: Option<Arc<Map>>,
    author: Author,
    /// The author, as this node sees it.
    elected: Option<NodeId>,
    /// Orders of operators that may be carried out.
    orders: TokenBucket,
    chain: Option<Chain>,
    seek: Seek,
    /// What programs on this VM reported.
    reporters: BTreeMap<String, (Instant, Report)>,
    report_at: Instant,
    history: VecDeque<Arc<Generation>>,
    /// Who may serve, and since when it is the same.
    calm: (Vec<NodeId>, Instant),
}

/// All maps.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    definitions: BTreeMap<ServiceName, BTreeMap<NodeId, MapBody>>,
    layouts: BTreeMap<ServiceName, BTreeMap<NodeId, Layout>>,
    /// The last words of operators at members that were dropped, as long as nobody who is left says them.
    inherited: BTreeMap<ServiceName, ToldMap>,
    /// About what nobody who serves says the last word, and when this agent will.
    unsaid: BTreeMap<ServiceName, Instant>,
    /// What this agent itself has said something about.
    said: BTreeSet<ServiceName>,
    known: BTreeMap<ServiceName, Known>,
    /// What was on disk when this node started.
    restored: BTreeMap<ServiceName, Map>,
    /// When members were last seen to be lost.
    lost: BTreeMap<NodeId, Instant>,
    /// When maps are looked after next; timers armed for another moment are stale.
    next: Option<Instant>,
    is_dirty: bool,
    is_unsaved: bool,
    view: view::Shown,
}

impl Maps {
    pub(crate) fn new(restored: Vec<(ServiceName, Map)>) -> Self {
        Self { restored: restored.into_iter().collect(), ..Self::default() }
    }

    /// Whether nothing was ever said about any map.
    fn is_idle(&self) -> bool {
        self.definitions.is_empty() && self.inherited.is_empty()
    }

    /// What whoever only looks keys up needs.
    pub(crate) fn owners(&self) -> &Arc<BTreeMap<ServiceName, Arc<dyn KeyOwners>>> {
        &self.view.owners
    }

    /// Whether it should go to disk again, and what.
    pub(crate) fn take_unsaved(&mut self) -> Option<Vec<(ServiceName, Arc<Map>)>> {
        core::mem::take(&mut self.is_unsaved).then(|| {
            let followed = |(service, known): (&ServiceName, &Known)| {
                Some((service.clone(), known.follower.as_ref()?.shared()))
            };
            self.known.iter().filter_map(followed).collect()
        })
    }
}

/// What a map should be like now.
struct Wanted {
    definition: Definition,
    spec: MapSpec,
    by: NodeId,
    /// Whether files of other agents say something else.
    differs: bool,
}

/// What is declared, and who declares it.
struct Declared<'a> {
    spec: &'a MapSpec,
    by: NodeId,
    told: Option<WallTime>,
}

/// The declarations that count, the one that wins first: what operators said last goes before what files say.
fn ranked<'a>(all: &'a BTreeMap<NodeId, MapBody>, inherited: Option<&'a ToldMap>) -> Vec<Declared<'a>> {
    let nobody = NodeId::from_bytes([0; 8]);
    let words = || {
        let said = all.iter().filter_map(|(by, body)| body.told.as_ref().map(|told| (*by, told)));
        said.chain(inherited.map(|told| (nobody, told)))
    };
    let withdrawn = words().filter(|(_, told)| told.spec.is_none()).map(|(_, told)| told.at).max();
    let told = words()
        .filter(|(_, told)| Some(told.at) > withdrawn)
        .filter_map(|(by, told)| Some(Declared { spec: told.spec.as_ref()?, by, told: Some(told.at) }));
    let files =
        all.iter().filter_map(|(by, body)| Some(Declared { spec: body.file.as_ref()?, by: *by, told: None }));
    let mut ranked: Vec<Declared<'_>> = told.chain(files).collect();
    ranked.sort_by_key(|one| core::cmp::Reverse((one.told, one.by)));
    ranked
}

impl Node {
    /// Somebody, perhaps this node, says how the keys of a service are to be spread.
    pub(crate) fn on_map_body(&mut self, now: Instant, owner: NodeId, service: &ServiceName, body: &MapBody) {
        let all = self.maps.definitions.entry(service.clone()).or_default();
        all.insert(owner, body.clone());
        self.redefine(now);
        self.maps_soon(now);
    }

    /// Works out which maps there are now, and what each should be like: of too many those that were declared first.
    fn redefine(&mut self, now: Instant) {
        let cluster = self.config.cluster.clone();
        let read = |declared: &Declared<'_>| {
            Definition::read(declared.spec, |name| NodeId::derive(&cluster, name)).ok()
        };
        let mut winners = Vec::new();
        for (service, all) in &self.maps.definitions {
            let ranked = ranked(all, self.maps.inherited.get(service));
            let found = ranked.iter().find_map(|one| Some((read(one)?, one)));
            let Some((definition, winner)) = found else { continue };
            let is_other = |one: &Declared<'_>| one.told.is_none() && one.spec != winner.spec;
            let differs = winner.told.is_none() && ranked.iter().any(is_other);
            let spec = winner.spec.clone();
            winners.push((winner.told, service.clone(), Wanted { definition, spec, by: winner.by, differs }));
        }
        winners.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let left_out: Vec<ServiceName> = winners
            .split_off(winners.len().min(MAPS_MAX))
            .into_iter()
            .map(|(_, service, _)| service)
            .collect();
        let is_wanted = |service: &ServiceName| winners.iter().any(|(_, other, _)| other == service);
        let gone: Vec<ServiceName> =
            self.maps.known.keys().filter(|service| !is_wanted(service)).cloned().collect();
        for service in gone {
            self.maps.known.remove(&service);
            let cause = if left_out.contains(&service) {
                format!("{MAPS_MAX} maps were declared before it, and more are not kept")
            } else {
                "nobody declares it any more".to_owned()
            };
            self.map_event(now, Severity::Warning, &service, "", "gone", cause);
            self.maps_changed();
        }
        for (told, service, wanted) in winners {
            self.define(now, &service, told, wanted);
        }
    }

    /// A map should be so.
    fn define(&mut self, now: Instant, service: &ServiceName, told: Option<WallTime>, wanted: Wanted) {
        let Wanted { definition, spec, by, differs } = wanted;
        if let Some(known) = self.maps.known.get_mut(service).filter(|known| known.spec == spec) {
            if known.declared_by == by {
                return;
            }
            // Who says what somebody said says nothing new.
            if told.is_some() && known.told == told {
                known.declared_by = by;
                return self.maps_changed();
            }
        }
        let name = self.name_of(by);
        let mut cause = match told {
            Some(_) => format!("an operator at {name} said so"),
            None => format!("the configuration of {name} declares it"),
        };
        if differs {
            cause += "; other agents' configurations declare it differently";
        }
        let known = match self.maps.known.remove(service) {
            Some(known) if known.definition.strategy == definition.strategy => {
                Known { spec, definition, declared_by: by, told, ..known }
            }
            before => {
                let restored = self.maps.restored.remove(service);
                let fits = |map: &Map| map.parts().strategy == definition.strategy;
                let retired = before
                    .and_then(|before| before.follower.map(|follower| follower.shared()).or(before.retired));
                Known {
                    follower: restored.filter(fits).map(|map| Follower::new(now, map)),
                    spec,
                    definition,
                    declared_by: by,
                    told,
                    retired,
                    author: Author::default(),
                    elected: None,
                    orders: TokenBucket::new(ORDERS.0, ORDERS.1),
                    chain: None,
                    seek: Seek::default(),
                    reporters: BTreeMap::new(),
                    report_at: now,
                    history: VecDeque::new(),
                    calm: (Vec::new(), now),
                }
            }
        };
        self.maps.known.insert(service.clone(), known);
        self.maps.is_dirty = true;
        self.map_event(now, Severity::Info, service, "", "declared", cause);
        self.maps_changed();
        self.maps_soon(now);
    }

    /// A member is dropped. What its operators said goes on to count.
    pub(crate) fn forget_maps_of(&mut self, now: Instant, owner: NodeId) {
        self.maps.layouts.values_mut().for_each(|all| {
            all.remove(&owner);
        });
        let all = self.maps.definitions.iter_mut();
        let mut told: Vec<(ServiceName, ToldMap)> =
            all.filter_map(|(service, all)| Some((service.clone(), all.remove(&owner)?.told?))).collect();
        told.retain(|(_, told)| self.is_readable(told));
        for (service, told) in told {
            let inherited = &mut self.maps.inherited;
            let has_room = inherited.len() < WORDS_MAX || inherited.contains_key(&service);
            if has_room && inherited.get(&service).is_none_or(|other| other.at < told.at) {
                inherited.insert(service, told);
            }
        }
        self.redefine(now);
        if !self.maps.is_idle() {
            self.maps_soon(now);
        }
    }

    /// This node stood still: others may have gone on without it, so they are asked before anything is planned or done.
    pub(crate) fn doubt_maps(&mut self, now: Instant) {
        self.maps.known.values_mut().for_each(|known| known.seek.doubt(now));
        if !self.maps.known.is_empty() {
            self.maps_soon(now);
        }
    }

    /// A member came, went, or runs something else: maps may have to follow.
    pub(crate) fn note_servers_changed(&mut self, now: Instant, id: NodeId) {
        if self.maps.is_idle() {
            return;
        }
        self.maps.is_dirty = true;
        if !self.members.find(id).is_some_and(Member::is_serving) || self.is_failing(id) {
            self.maps.lost.insert(id, now);
            self.maps_soon(now);
        }
    }

    /// Whether everything that a member runs and that some map is about fails.
    fn is_failing(&self, id: NodeId) -> bool {
        self.maps.known.keys().any(|service| {
            services_body(&self.registry, id)
                .is_some_and(|body| runs(body, health_body(&self.registry, id), service) == Runs::Failing)
        })
    }

    fn maps_soon(&mut self, now: Instant) {
        let at = now.after(COVER_AFTER);
        if self.maps.next.is_none_or(|next| at < next) {
            self.maps.next = Some(at);
            self.timers.arm(at, Timer::Maps(at));
        }
    }

    pub(crate) fn on_maps_due(&mut self, now: Instant, armed: Instant) {
        if self.maps.next != Some(armed) {
            return;
        }
        self.maps.next = None;
        if self.maps.is_idle() {
            return;
        }
        let at = now.after(TICK);
        self.maps.next = Some(at);
        self.timers.arm(at, Timer::Maps(at));
        let Self { maps, members, rng, .. } = self;
        let mut is_back = false;
        maps.lost.retain(|id, at| {
            if !members.find(*id).is_some_and(Member::is_serving) {
                *at = now;
            } else if now.since(*at) <= TICK {
                is_back = true;
            }
            members.find(*id).is_some() && now.since(*at) < LOST_REMEMBERED
        });
        if is_back {
            maps.known.values_mut().for_each(|known| known.seek.compare_soon(now, rng));
        }
        self.say_unsaid(now);
        let is_dirty = core::mem::take(&mut self.maps.is_dirty);
        if is_dirty {
            self.look_again(now);
        }
        let services: Vec<ServiceName> = self.maps.known.keys().cloned().collect();
        for service in services {
            self.elect(now, &service);
            self.seek(now, &service);
            self.offer_layouts(now, &service);
            self.plan_map(now, &service, is_dirty);
            self.report_heat(now, &service);
        }
    }

    /// Readers should see the maps anew.
    fn maps_changed(&mut self) {
        self.maps.view.is_stale = true;
        self.view.maps_changed();
    }

    fn map_event(
        &mut self,
        now: Instant,
        severity: Severity,
        service: &ServiceName,
        from: impl ToString,
        to: impl ToString,
        cause: impl ToString,
    ) {
        self.event(now, EventKind::Map, severity, service.clone(), from, to, cause);
    }

    /// The maps as readers see them.
    pub fn maps_view(&mut self, now: Instant) -> Arc<MapsView> {
        if core::mem::take(&mut self.maps.view.is_stale) {
            let all = self.maps.known.iter().map(|(service, known)| {
                (service.clone(), Arc::new(MapView::of(service, known, now, &self.clock, self.id())))
            });
            let maps = MapsView { by_service: all.collect() };
            self.maps.view.owners = maps.owners();
            self.maps.view.maps = Arc::new(maps);
        }
        Arc::clone(&self.maps.view.maps)
    }

    /// What `layout` says of itself, told by whoever made it.
    fn tell_layout(&mut self, service: &ServiceName, body: &LayoutBody) {
        match body.to_bytes() {
            Ok(bytes) => self.publisher.want(Topic::layout(service), Class::Health, bytes),
            Err(_) => self.stats.documents_refused += 1,
        }
    }
}

/// How a member stands to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// It has no instance of it.
    Nothing,
    /// All that it has fail.
    Failing,
    /// It serves, with so much weight; 0 while it drains.
    Weight(u16),
}

fn runs(body: &ServicesBody, health: Option<&HealthBody>, service: &ServiceName) -> Runs {
    let instances = || body.instances.iter().filter(|instance| instance.service == *service);
    if instances().next().is_none() {
        return Runs::Nothing;
    }
    let fails = |id| {
        let known = health.and_then(|health| health.instances.iter().find(|known| known.id == id));
        known.is_some_and(|known| {
            !known.endpoints.is_empty()
                && known.endpoints.iter().all(|endpoint| endpoint.state == HealthState::Failing)
        })
    };
    if instances().all(|instance| fails(instance.id.clone())) {
        return Runs::Failing;
    }
    let draws = |is_draining: bool| !is_draining && !body.is_node_draining;
    let well = instances().filter(|instance| draws(instance.is_draining) && !fails(instance.id.clone()));
    let weight: u32 = well.map(|instance| u32::from(instance.weight)).sum();
    Runs::Weight(u16::try_from(weight).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(partitions_per_host: u16) -> MapSpec {
        MapSpec { partitions_per_host, ..MapSpec::default() }
    }

    #[test]
    fn the_last_word_of_an_operator_counts_and_then_the_files() {
        let node = |number: u8| NodeId::from_bytes([number; 8]);
        let told = |at, spec| Some(ToldMap { at: WallTime::from_unix_millis(at), spec });
        let mut all = BTreeMap::from([
            (node(1), MapBody { file: Some(spec(1)), told: None }),
            (node(2), MapBody { file: Some(spec(2)), told: told(10, Some(spec(3))) }),
            (node(3), MapBody { file: None, told: told(20, Some(spec(4))) }),
        ]);
        let wins = |all: &BTreeMap<NodeId, MapBody>| {
            ranked(all, None).iter().map(|one| one.spec.partitions_per_host).collect::<Vec<_>>()
        };
        assert_eq!(wins(&all), [4, 3, 2, 1]);
        all.insert(node(4), MapBody { file: None, told: told(15, None) });
        assert_eq!(wins(&all), [4, 2, 1]);
        all.insert(node(4), MapBody { file: None, told: told(20, None) });
        assert_eq!(wins(&all), [2, 1]);
    }
}
