//! What is declared about maps on this VM: by the configuration file, and by operators.

use std::collections::BTreeSet;

use ringmesh_partition::author::first_by_rendezvous;
use ringmesh_partition::definition::Definition;
use ringmesh_types::body::{MapBody, ToldMap};
use ringmesh_types::document::Topic;
use ringmesh_types::ids::NodeId;
use ringmesh_types::map_spec::{MapSpec, PINS_MAX, Pin};
use ringmesh_types::name::ServiceName;
use ringmesh_types::time::Instant;

use super::authoring::no_map;
use super::{MAPS_MAX, Maps};
use crate::io::{Class, CommandError, CommandErrorKind, Output, Persist};
use crate::local::{State, error};
use crate::machine::Node;
use crate::members::Member;

/// Services that one agent says something about at most. What was said once stays a document, and others keep 64 of each member.
pub(super) const WORDS_MAX: usize = 24;

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
        let mut state = self.local.latest().clone();
        let said: BTreeSet<&ServiceName> = self.maps.said.iter().chain(state.maps.keys()).collect();
        if said.len() >= WORDS_MAX && !said.contains(&service) {
            let detail = format!(
                "operators have said something about {WORDS_MAX} services at this agent, and the mesh keeps no more of one: \
                 say this at another agent"
            );
            return Err(error(CommandErrorKind::Conflict, detail));
        }
        let says = match &spec {
            Some(_) => format!("the map of {service} is declared"),
            None => format!("what operators said about the map of {service} counts no more"),
        };
        // A word later than the last one, wherever that was said, and whatever the clock there was.
        let last = self.maps.definitions.get(&service).into_iter().flat_map(|all| all.values());
        let last = last.filter_map(|body| body.told.as_ref()).map(|told| told.at).max();
        let at = self
            .clock
            .wall(now)
            .max(last.map_or_else(Default::default, |last| last.after(core::time::Duration::from_millis(1))));
        state.maps.insert(service, ToldMap { at, spec });
        Ok((state, says))
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

    /// What operators said last at members that were dropped is said by the first of those that serve, a withdrawal too: an older
    /// word may be kept by somebody who is away.
    pub(super) fn say_inherited(&mut self) {
        let Maps { definitions, inherited, .. } = &mut self.maps;
        inherited.retain(|service, told| {
            let others = definitions.get(service).into_iter().flat_map(|all| all.values());
            others.filter_map(|body| body.told.as_ref()).all(|other| other.at < told.at)
        });
        let me = self.id();
        let is_first = |service: &ServiceName| {
            let serving = self.members.iter().filter(|member| member.is_serving()).map(Member::id);
            first_by_rendezvous(service, serving) == Some(me)
        };
        let is_mine = |(service, told): &(&ServiceName, &ToldMap)| {
            is_first(service) && self.local.committed().maps.get(*service).is_none_or(|own| own.at < told.at)
        };
        let mine = self.maps.inherited.iter().filter(is_mine);
        let mine: Vec<(ServiceName, ToldMap)> =
            mine.map(|(service, told)| (service.clone(), told.clone())).collect();
        if mine.is_empty() {
            return;
        }
        mine.into_iter().for_each(|(service, told)| self.local.inherit_map(service, told));
        let what = Persist::Registrations(self.local.committed().saved());
        self.outputs.push_back(Output::Persist { ticket: None, what });
        self.say_maps();
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
