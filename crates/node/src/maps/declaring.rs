//! What is declared about maps on this VM: by the configuration file, and by operators.

use core::time::Duration;
use std::collections::BTreeSet;

use ringmesh_partition::author::rank_by_rendezvous;
use ringmesh_partition::definition::Definition;
use ringmesh_types::body::{MapBody, ToldMap};
use ringmesh_types::document::Topic;
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::{MapSpec, PINS_MAX, Pin};
use ringmesh_types::name::{NodeName, ServiceName};
use ringmesh_types::time::Instant;

use super::authoring::no_map;
use super::{MAPS_MAX, Maps};
use crate::io::{Class, CommandError, CommandErrorKind};
use crate::local::{State, error};
use crate::machine::Node;
use crate::members::Member;

/// Services that one agent says something about at most. What was said once stays a document, and others keep 64 of each member.
pub(super) const WORDS_MAX: usize = 24;
/// If the one before says nothing for so long, the next one does.
const SAID_BY_NEXT_AFTER: Duration = Duration::from_secs(2);
/// What the disk refused is tried again.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(30);

impl Node {
    /// An operator says how the keys of a service are to be spread, or that what operators said counts no more.
    pub(crate) fn plan_map_told(
        &mut self,
        now: Instant,
        service: ServiceName,
        spec: Option<MapSpec>,
    ) -> Result<(State, String), CommandError> {
        let is_known = self.maps.known.contains_key(&service);
        if let Some(spec) = &spec {
            let cluster = &self.config.cluster;
            Definition::read(spec, |name| NodeId::derive(cluster, name))
                .map_err(|problems| error(CommandErrorKind::Invalid, problems.join("; ")))?;
            if !is_known && self.maps.known.len() >= MAPS_MAX {
                let detail = format!("{MAPS_MAX} maps are declared already, more are not allowed");
                return Err(error(CommandErrorKind::Conflict, detail));
            }
        } else if !is_known {
            return Err(no_map(&service));
        }
        if !self.has_room_for(&service) {
            let detail = format!(
                "operators have said something about {WORDS_MAX} services at this agent, and the mesh keeps no more of one: \
                 say this at another agent"
            );
            return Err(error(CommandErrorKind::Conflict, detail));
        }
        let mut state = self.local.latest().clone();
        let says = match &spec {
            Some(spec) => {
                let rest = self.outranks_files(&service);
                format!("the map of {service} is declared{}{rest}", self.pinned_to_nobody(spec))
            }
            None => format!("what operators said about the map of {service} counts no more"),
        };
        // A word later than the last one, wherever that was said, and whatever the clock there was.
        let last = self.maps.definitions.get(&service).into_iter().flat_map(|all| all.values());
        let last = last.filter_map(|body| body.told.as_ref()).chain(self.maps.inherited.get(&service));
        let last = last.map(|told| told.at).max();
        let at = self
            .clock
            .wall(now)
            .max(last.map_or_else(Default::default, |last| last.after(Duration::from_millis(1))));
        state.maps.insert(service, ToldMap { at, spec });
        Ok((state, says))
    }

    /// Which host that a key is pinned to is not known here.
    fn pinned_to_nobody(&self, spec: &MapSpec) -> String {
        let known = |name: &NodeName| self.members.find(NodeId::derive(&self.config.cluster, name)).is_some();
        let unknown = spec.pins.iter().filter_map(|pin| pin.node.as_ref()).find(|name| !known(name));
        unknown.map_or_else(String::new, |name| {
            format!("; {name}, to which a key is pinned, is not known here: another host serves it until {name} does")
        })
    }

    /// What else it means that an operator changes a map that files declare.
    fn outranks_files(&self, service: &ServiceName) -> &'static str {
        match self.maps.known.get(service) {
            Some(known) if known.told.is_none() => {
                "; from now on this counts, and files count again after ringmesh map withdraw"
            }
            Some(_) | None => "",
        }
    }

    /// The map of a service as it is declared now, to be changed.
    fn spec_of(&self, service: &ServiceName) -> Result<MapSpec, CommandError> {
        self.maps.known.get(service).map(|known| known.spec.clone()).ok_or_else(|| no_map(service))
    }

    pub(crate) fn plan_pin(
        &mut self,
        now: Instant,
        service: ServiceName,
        pin: Pin,
    ) -> Result<(State, String), CommandError> {
        let mut spec = self.spec_of(&service)?;
        spec.pins.retain(|other| other.key != pin.key);
        if spec.pins.len() >= PINS_MAX {
            let detail = format!("pins: {PINS_MAX} keys are pinned already, more are not allowed");
            return Err(error(CommandErrorKind::Conflict, detail));
        }
        let mut says = format!("{:?} gets a partition of its own in the map of {service}", pin.key);
        if let Some(name) = &pin.node {
            let id = NodeId::derive(&self.config.cluster, name);
            if self.members.find(id).is_none() {
                let detail = format!("node: {name} is not known here: ringmesh members lists all that are");
                return Err(error(CommandErrorKind::NotFound, detail));
            }
            if !self.candidates(&service).iter().any(|one| one.node == id && one.may_serve()) {
                says += &format!("; {name} does not serve {service} now, so another host does until it does");
            }
        }
        says += self.outranks_files(&service);
        spec.pins.push(pin);
        self.plan_map_told(now, service, Some(spec)).map(|(state, _)| (state, says))
    }

    pub(crate) fn plan_unpin(
        &mut self,
        now: Instant,
        service: ServiceName,
        key: &str,
    ) -> Result<(State, String), CommandError> {
        let mut spec = self.spec_of(&service)?;
        let before = spec.pins.len();
        spec.pins.retain(|pin| pin.key != key);
        if spec.pins.len() == before {
            let detail = format!("no key {key:?} is pinned in the map of {service}");
            return Err(error(CommandErrorKind::NotFound, detail));
        }
        let mut says = format!("{key:?} goes back to the partition around it once it is not hot");
        says += self.outranks_files(&service);
        self.plan_map_told(now, service, Some(spec)).map(|(state, _)| (state, says))
    }

    /// What operators said last at members that are away or were dropped, and nobody who serves says.
    fn unsaid(&self) -> Vec<(ServiceName, ToldMap)> {
        let is_here = |id: &NodeId| self.members.find(*id).is_some_and(Member::is_serving);
        let Maps { definitions, inherited, .. } = &self.maps;
        let services: BTreeSet<&ServiceName> = definitions.keys().chain(inherited.keys()).collect();
        let last = |service: &ServiceName| {
            let all = definitions.get(service).into_iter().flatten();
            let told = all.filter_map(|(by, body)| Some((by, body.told.as_ref()?)));
            let (here, gone): (Vec<_>, Vec<_>) = told.partition(|(by, _)| is_here(by));
            let own = self.local.latest().maps.get(service);
            let here = here.iter().map(|(_, told)| told.at).chain(own.map(|told| told.at)).max();
            let gone = gone.into_iter().map(|(_, told)| told).chain(inherited.get(service));
            gone.filter(|told| Some(told.at) > here).max_by_key(|told| told.at)
        };
        services.into_iter().filter_map(|service| Some((service.clone(), last(service)?.clone()))).collect()
    }

    /// What is not said any more is said here, a withdrawal too, for an older word may be kept by somebody who is away: at once by the
    /// first of those that serve, by rendezvous, and by each after it a moment later, for the first may never have heard it.
    pub(super) fn say_unsaid(&mut self, now: Instant) {
        let unsaid = self.unsaid();
        let is_unsaid = |service: &ServiceName| unsaid.iter().any(|(other, _)| other == service);
        self.maps.unsaid.retain(|service, _| is_unsaid(service));
        self.maps.inherited.retain(|service, _| is_unsaid(service));
        let me = self.id();
        for (service, told) in unsaid {
            let serving = self.members.iter().filter(|member| member.is_serving()).map(Member::id);
            let due =
                self.maps.unsaid.entry(service.clone()).or_insert_with(|| {
                    now.after(SAID_BY_NEXT_AFTER * rank_by_rendezvous(&service, me, serving))
                });
            if now < *due || !self.may_say(&service, &told) {
                continue;
            }
            self.maps.unsaid.insert(service.clone(), now.after(SAID_AGAIN_AFTER));
            let mut state = self.local.latest().clone();
            let answer = match &told.spec {
                Some(_) => format!(
                    "the map of {service} is declared here now, as operators did where nobody says it any more"
                ),
                None => format!(
                    "the map of {service} stays withdrawn, as operators said where nobody says it any more"
                ),
            };
            state.maps.insert(service, told);
            self.stage(None, state, answer, None);
        }
    }

    /// Whether this agent may say it: others keep so much of one member, and nobody needs what cannot be read.
    fn may_say(&self, service: &ServiceName, told: &ToldMap) -> bool {
        self.has_room_for(service) && self.is_readable(told)
    }

    pub(super) fn is_readable(&self, told: &ToldMap) -> bool {
        let cluster = &self.config.cluster;
        told.spec
            .as_ref()
            .is_none_or(|spec| Definition::read(spec, |name| NodeId::derive(cluster, name)).is_ok())
    }

    /// Whether operators may say something about this service here.
    fn has_room_for(&self, service: &ServiceName) -> bool {
        let said: BTreeSet<&ServiceName> =
            self.maps.said.iter().chain(self.local.latest().maps.keys()).collect();
        said.len() < WORDS_MAX || said.contains(service)
    }

    /// Publishes what is declared here now.
    pub(crate) fn say_maps(&mut self) {
        let told = &self.local.committed().maps;
        let services: BTreeSet<ServiceName> =
            self.config.maps.keys().chain(told.keys()).chain(&self.maps.said).cloned().collect();
        for service in services {
            let body = MapBody {
                file: self.config.maps.get(&service).cloned(),
                told: self.local.committed().maps.get(&service).cloned(),
            };
            match body.to_bytes() {
                Ok(bytes) => self.publisher.want(Topic::map(&service), Class::Bulk, bytes),
                Err(_) => self.stats.documents_refused += 1,
            }
            self.maps.said.insert(service);
        }
    }

    /// A peer shows what an earlier life of this agent said about a map: what it says now takes its place.
    pub(crate) fn say_map_again(&mut self, service: &ServiceName) {
        if self.maps.said.len() < 4 * MAPS_MAX {
            self.maps.said.insert(service.clone());
        }
        self.say_maps();
    }
}
