//! What runs on this node: registrations, drains, and what is published about them. A change counts once the disk has
//! it: until then nobody is told, and if the disk refuses it nothing has changed.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ringmesh_gossip::plumtree::Kept;
use ringmesh_health::monitor::{EndpointKey, Plan};
use ringmesh_types::body::{
    Body, EndpointHealth, ForgetBody, HOLD_MAX, HealthBody, InstanceHealth, ServicesBody, Standing, ToldMap,
};
use ringmesh_types::document::{Document, Topic};
use ringmesh_types::duration;
use ringmesh_types::event::{EventKind, Severity};
use ringmesh_types::limits;
use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::name::{InstanceId, NodeName, ServiceName};
use ringmesh_types::sealed::Verified;
use ringmesh_types::service::{HealthState, Instance};
use ringmesh_types::time::{Instant, WallTime};

use crate::io::{
    Class, Command, CommandError, CommandErrorKind, DrainTarget, OnConflict, Output, Persist, Said, Ticket,
};
use crate::machine::{Node, NodeConfig, Timer};
use crate::members::Member;
use crate::registration::{Origin, RawRegistration, Registration, SavedState, describe};

/// How often health and, more rarely, the view go to disk if they changed.
pub(crate) const SAVE_EVERY: Duration = Duration::from_secs(2);
const SAVE_VIEW_EVERY: Duration = Duration::from_secs(10);
/// Changes that wait for the disk at most.
const PENDING_MAX: usize = 256;

#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    registrations: BTreeMap<InstanceId, Arc<Registration>>,
    draining: BTreeSet<InstanceId>,
    is_node_draining: bool,
    /// What operators said here about maps.
    pub(crate) maps: BTreeMap<ServiceName, ToldMap>,
}

#[derive(Debug)]
struct Pending {
    disk: Ticket,
    /// Who waits for it, if anybody does.
    command: Option<Ticket>,
    state: State,
    answer: String,
    /// What is to be taken out of answers, or back into them, if that is all that changes.
    drained: Option<(DrainTarget, bool)>,
}

/// Registrations as they count, and changes on their way to disk.
#[derive(Debug)]
pub(crate) struct Local {
    committed: State,
    pending: VecDeque<Pending>,
    tickets: u64,
    problems: Vec<String>,
    is_health_unsaved: bool,
    release_at: Option<Instant>,
    saved_root: u64,
    /// Whether somebody is gone of whom the saved view does not say so.
    pub(crate) is_view_unsaved: bool,
    saved_view: Instant,
}

impl Local {
    pub(crate) fn new(config: &NodeConfig, saved: &SavedState) -> Self {
        let mut local = Self {
            committed: State::default(),
            pending: VecDeque::new(),
            tickets: 0,
            problems: Vec::new(),
            is_health_unsaved: false,
            release_at: None,
            saved_root: 0,
            is_view_unsaved: false,
            saved_view: Instant::START,
        };
        let declared = config.declared.iter().map(|raw| (raw, Origin::File));
        let kept = saved.registrations.iter().map(|raw| (raw, Origin::Http));
        for (raw, origin) in declared.chain(kept) {
            local.restore(raw, origin, config);
        }
        let known = |id: &&InstanceId| local.committed.registrations.contains_key(*id);
        local.committed.draining = saved.draining.iter().filter(known).cloned().collect();
        local.committed.is_node_draining = saved.is_node_draining;
        local.committed.maps.clone_from(&saved.maps);
        local
    }

    fn restore(&mut self, raw: &RawRegistration, origin: Origin, config: &NodeConfig) {
        match raw.validate(origin, &*config.is_allowed) {
            Ok(registration) => self.committed.adopt(registration),
            Err(problems) => self.problems.push(format!("instance {:?}: {}", raw.id, describe(&problems))),
        }
    }

    /// Takes over what the configuration file declares now, in what counts and in every change on its way to disk.
    fn redeclare(&mut self, declared: &[RawRegistration], config: &NodeConfig) {
        let mut valid = Vec::new();
        for raw in declared {
            match raw.validate(Origin::File, &*config.is_allowed) {
                Ok(registration) => valid.push(registration),
                Err(problems) => {
                    self.problems.push(format!("instance {:?}: {}", raw.id, describe(&problems)));
                }
            }
        }
        let pending = self.pending.iter_mut().map(|pending| &mut pending.state);
        for state in pending.chain([&mut self.committed]) {
            state.registrations.retain(|_, registration| registration.origin != Origin::File);
            for registration in &valid {
                state.adopt(registration.clone());
            }
        }
    }

    /// What counts.
    pub(crate) const fn committed(&self) -> &State {
        &self.committed
    }

    /// The state that the next change starts from.
    pub(crate) fn latest(&self) -> &State {
        self.pending.back().map_or(&self.committed, |pending| &pending.state)
    }
}

impl State {
    /// Adds an instance unless there is one with its id.
    fn adopt(&mut self, registration: Registration) {
        let id = registration.instance.id.clone();
        self.registrations.entry(id).or_insert_with(|| Arc::new(registration));
    }

    pub(crate) fn saved(&self) -> SavedState {
        let by_http = self.registrations.values().filter(|registration| registration.origin == Origin::Http);
        SavedState {
            registrations: by_http.map(|registration| registration.raw.clone()).collect(),
            draining: self.draining.iter().cloned().collect(),
            is_node_draining: self.is_node_draining,
            maps: self.maps.clone(),
        }
    }

    fn instances(&self) -> Vec<Arc<Instance>> {
        let published = |registration: &Arc<Registration>| {
            let is_draining = self.draining.contains(&registration.instance.id);
            Arc::new(Instance { is_draining, ..registration.instance.clone() })
        };
        self.registrations.values().map(published).collect()
    }

    /// Whether what is published of this fits its documents, in the largest form it can take.
    fn check_sizes(&self) -> Result<(), String> {
        let services = ServicesBody { instances: self.instances(), is_node_draining: true };
        let worst =
            EndpointHealth { state: HealthState::Failing, since: WallTime::from_unix_millis(u64::MAX) };
        let health_of = |registration: &Arc<Registration>| InstanceHealth {
            id: registration.instance.id.clone(),
            endpoints: vec![worst; registration.instance.endpoints.len()],
        };
        let health = HealthBody { instances: self.registrations.values().map(health_of).collect() };
        let size = |bytes: Result<Vec<u8>, _>| bytes.map_or(usize::MAX, |bytes: Vec<u8>| bytes.len());
        if size(services.to_bytes()) > limits::SERVICES_BODY_BYTES_MAX {
            return Err(format!(
                "all instances of a node together may take {} bytes",
                limits::SERVICES_BODY_BYTES_MAX
            ));
        }
        if size(health.to_bytes()) > limits::SMALL_BODY_BYTES_MAX {
            return Err(format!(
                "the states of all endpoints of a node may take {} bytes",
                limits::SMALL_BODY_BYTES_MAX
            ));
        }
        Ok(())
    }

    /// Takes it out of new answers or back into them, if it is registered.
    fn drain(&mut self, target: DrainTarget, is_draining: bool) {
        match target {
            DrainTarget::Node => self.is_node_draining = is_draining,
            DrainTarget::Instance(id) if is_draining && self.registrations.contains_key(&id) => {
                self.draining.insert(id);
            }
            DrainTarget::Instance(id) => {
                self.draining.remove(&id);
            }
        }
    }

    fn plans(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        for registration in self.registrations.values() {
            for (index, endpoint) in registration.instance.endpoints.iter().enumerate() {
                plans.push(Plan {
                    key: EndpointKey { instance: registration.instance.id.clone(), endpoint: index },
                    endpoint: endpoint.clone(),
                    checks: registration.checks[index].clone(),
                });
            }
        }
        plans
    }
}

pub(crate) fn error(kind: CommandErrorKind, detail: impl Into<String>) -> CommandError {
    CommandError { kind, detail: detail.into() }
}

fn no_instance(id: &InstanceId) -> CommandError {
    error(CommandErrorKind::NotFound, format!("no instance {id} is registered on this node"))
}

impl Node {
    pub(crate) fn report_local_problems(&mut self, now: Instant) {
        for problem in core::mem::take(&mut self.local.problems) {
            let cause = format!("what was kept or declared is not valid and is left out: {problem}");
            self.event(now, EventKind::Service, Severity::Warning, "registration", "", "left out", cause);
        }
    }

    /// The configuration file declares other instances now. States of endpoints that stay are kept.
    pub(crate) fn on_reload(
        &mut self,
        now: Instant,
        declared: &[RawRegistration],
        maps: BTreeMap<ServiceName, MapSpec>,
    ) {
        self.config.maps = maps;
        self.local.redeclare(declared, &self.config);
        self.report_local_problems(now);
        let name = self.config.name.clone();
        let cause = format!("the configuration declares {} instances", declared.len());
        self.event(now, EventKind::Service, Severity::Info, name, "", "reloaded", cause);
        self.apply_local(now, &BTreeMap::new());
    }

    pub(crate) fn on_command(&mut self, now: Instant, ticket: Ticket, command: Command) {
        let mut drained = None;
        let result = match command {
            Command::Register { registration, on_conflict } => self.plan_register(&registration, on_conflict),
            Command::Deregister(id) => self.plan_deregister(&id),
            Command::Drain(target) => {
                let planned = self.plan_drain(&target, true);
                drained = Some((target, true));
                planned
            }
            Command::Undrain(target) => {
                let planned = self.plan_drain(&target, false);
                drained = Some((target, false));
                planned
            }
            Command::Beat(id) => return self.on_beat(now, ticket, &id),
            Command::Hold(length) => return self.on_hold(now, ticket, length),
            Command::Leave => return self.on_leave(now, ticket),
            Command::Forget(name) => return self.on_forget(now, ticket, &name),
            Command::DeclareMap(service, spec) => self.plan_map_told(now, service, Some(spec)),
            Command::WithdrawMap(service) => self.plan_map_told(now, service, None),
            Command::Pin(service, pin) => self.plan_pin(now, service, pin),
            Command::Unpin(service, key) => self.plan_unpin(now, service, &key),
            Command::ReportHeat { service, reporter, report } => {
                let result = self.on_heat_reported(now, &service, reporter, *report);
                return self.answer(ticket, result);
            }
            Command::MapAuthor(service) => return self.on_map_author(now, ticket, &service),
            Command::OrderMap(service, order) => return self.on_map_order(now, ticket, &service, order),
        };
        match result {
            Ok((state, answer)) => self.stage(Some(ticket), state, answer, drained),
            Err(error) => self.say(ticket, Err(error)),
        }
    }

    fn say(&mut self, ticket: Ticket, result: Result<String, CommandError>) {
        self.answer(ticket, result.map(Said::Words));
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, result: Result<Said, CommandError>) {
        self.outputs.push_back(Output::Answer { ticket, result });
    }

    fn plan_register(
        &self,
        raw: &RawRegistration,
        on_conflict: OnConflict,
    ) -> Result<(State, String), CommandError> {
        let registration = raw
            .validate(Origin::Http, &*self.config.is_allowed)
            .map_err(|problems| error(CommandErrorKind::Invalid, describe(&problems)))?;
        let mut state = self.local.latest().clone();
        let id = registration.instance.id.clone();
        if let Some(known) = state.registrations.get(&id) {
            if known.origin == Origin::File {
                let detail = format!("id: {id} is declared in the configuration file: change it there");
                return Err(error(CommandErrorKind::Conflict, detail));
            }
            if known.raw != *raw && on_conflict == OnConflict::Refuse {
                let detail = format!(
                    "id: {id} is registered already, as another instance of {}: deregister it first, or ask with ?replace=true",
                    known.instance.service
                );
                return Err(error(CommandErrorKind::Conflict, detail));
            }
        } else if state.registrations.len() >= limits::INSTANCES_PER_NODE_MAX {
            let detail =
                format!("{} instances are registered, more are not allowed", limits::INSTANCES_PER_NODE_MAX);
            return Err(error(CommandErrorKind::Conflict, detail));
        }
        state.registrations.insert(id.clone(), Arc::new(registration));
        state.check_sizes().map_err(|why| error(CommandErrorKind::Conflict, why))?;
        Ok((state, format!("{id} is registered")))
    }

    fn plan_deregister(&self, id: &InstanceId) -> Result<(State, String), CommandError> {
        let mut state = self.local.latest().clone();
        match state.registrations.get(id) {
            None => return Err(no_instance(id)),
            Some(known) if known.origin == Origin::File => {
                let detail = format!("{id} is declared in the configuration file: remove it there");
                return Err(error(CommandErrorKind::Conflict, detail));
            }
            Some(_) => {}
        }
        state.registrations.remove(id);
        state.draining.remove(id);
        Ok((state, format!("{id} is deregistered")))
    }

    fn plan_drain(&self, target: &DrainTarget, is_draining: bool) -> Result<(State, String), CommandError> {
        let mut state = self.local.latest().clone();
        let what = match target {
            DrainTarget::Node => {
                state.is_node_draining = is_draining;
                format!("node {}", self.config.name)
            }
            DrainTarget::Instance(id) if !state.registrations.contains_key(id) => {
                return Err(no_instance(id));
            }
            DrainTarget::Instance(id) => {
                if is_draining {
                    state.draining.insert(id.clone());
                } else {
                    state.draining.remove(id);
                }
                format!("instance {id}")
            }
        };
        let says = if is_draining { "is draining: new answers do not name it" } else { "is served again" };
        Ok((state, format!("{what} {says}")))
    }

    /// Sends a change to disk; it counts when the disk has it.
    pub(crate) fn stage(
        &mut self,
        command: Option<Ticket>,
        state: State,
        answer: String,
        drained: Option<(DrainTarget, bool)>,
    ) {
        if self.local.pending.len() >= PENDING_MAX {
            if let Some(command) = command {
                let detail = format!("{PENDING_MAX} changes wait for the disk already: try again later");
                self.say(command, Err(error(CommandErrorKind::Disk, detail)));
            }
            return;
        }
        self.local.tickets += 1;
        let disk = Ticket(self.local.tickets);
        let what = Persist::Registrations(state.saved());
        self.local.pending.push_back(Pending { disk, command, state, answer, drained });
        self.outputs.push_back(Output::Persist { ticket: Some(disk), what });
    }

    pub(crate) fn on_persisted(&mut self, now: Instant, ticket: Ticket, result: Result<(), String>) {
        match result {
            Ok(()) => {
                while self.local.pending.front().is_some_and(|pending| pending.disk <= ticket) {
                    let Some(done) = self.local.pending.pop_front() else {
                        return;
                    };
                    self.local.committed = done.state;
                    let name = self.config.name.clone();
                    self.event(now, EventKind::Service, Severity::Info, name, "", "changed", &done.answer);
                    if let Some(command) = done.command {
                        self.say(command, Ok(done.answer));
                    }
                }
                self.apply_local(now, &BTreeMap::new());
            }
            Err(why) => {
                let cause = format!("the change was not kept: {why}");
                self.event(
                    now,
                    EventKind::Disk,
                    Severity::Warning,
                    "registrations",
                    "",
                    "unchanged",
                    cause.clone(),
                );
                let lost = core::mem::take(&mut self.local.pending);
                if lost.len() > 1 {
                    // Later changes, refused with this one, may be on their way to disk: what counts goes after them.
                    self.local.tickets += 1;
                    let what = Persist::Registrations(self.local.committed.saved());
                    self.outputs
                        .push_back(Output::Persist { ticket: Some(Ticket(self.local.tickets)), what });
                }
                for lost in lost {
                    self.answer_lost(lost, &cause);
                }
                self.apply_local(now, &BTreeMap::new());
            }
        }
    }

    /// A change is not on disk, so it does not count. But a host whose disk fails is the very one to be drained, and to be taken
    /// back in if that was a mistake: that counts, as long as this agent runs.
    fn answer_lost(&mut self, lost: Pending, cause: &str) {
        let result = match lost.drained {
            None => Err(error(CommandErrorKind::Disk, cause)),
            Some((target, is_draining)) => {
                self.local.committed.drain(target, is_draining);
                Ok(format!("{}; a restart of the agent forgets it, for {cause}", lost.answer))
            }
        };
        if let Some(command) = lost.command {
            self.say(command, result);
        }
    }

    /// Checks and publishes what is registered now.
    pub(crate) fn apply_local(&mut self, now: Instant, remembered: &BTreeMap<EndpointKey, EndpointHealth>) {
        let wall = self.clock.wall(now);
        self.monitor.set_plans(now, wall, self.local.committed.plans(), remembered);
        self.say_maps();
        if self.config.is_terse && self.local.committed.instances().is_empty() {
            return;
        }
        let body = ServicesBody {
            instances: self.local.committed.instances(),
            is_node_draining: self.local.committed.is_node_draining,
        };
        match body.to_bytes() {
            Ok(bytes) => self.publisher.want(Topic::of(Topic::SERVICES), Class::Bulk, bytes),
            Err(_) => self.stats.documents_refused += 1,
        }
        self.say_health();
    }

    pub(crate) fn say_health(&mut self) {
        let mut instances: Vec<InstanceHealth> = Vec::new();
        for (key, health) in self.monitor.iter() {
            let health = EndpointHealth { state: self.demotions.shown(key, health.state), ..health };
            match instances.last_mut().filter(|last| last.id == key.instance) {
                Some(last) => last.endpoints.push(health),
                None => instances.push(InstanceHealth { id: key.instance.clone(), endpoints: vec![health] }),
            }
        }
        self.local.is_health_unsaved = true;
        match (HealthBody { instances }).to_bytes() {
            Ok(bytes) => self.publisher.want(Topic::of(Topic::HEALTH), Class::Health, bytes),
            Err(_) => self.stats.documents_refused += 1,
        }
    }

    /// What events call an endpoint on this node.
    pub(crate) fn subject_of(&self, key: &EndpointKey) -> String {
        format!("{}/{}[{}]", self.config.name, key.instance, key.endpoint)
    }

    pub(crate) fn on_endpoint_changed(
        &mut self,
        now: Instant,
        key: &EndpointKey,
        from: HealthState,
        to: HealthState,
        cause: String,
    ) {
        let subject = self.subject_of(key);
        let (from, to) = (self.demotions.shown(key, from), self.demotions.shown(key, to));
        self.event(now, EventKind::Health, Severity::Info, subject.clone(), from, to, cause);
        if to == HealthState::Failing {
            self.count_failure(now, key, &subject);
        }
        self.say_health();
    }

    /// Publishes what is new, or sends out what may leave. Says whether there was anything.
    pub(crate) fn publish_next(&mut self, now: Instant) -> bool {
        let epoch = self.membership.identity().epoch;
        let Some(ready) = self.publisher.take_ready(epoch) else {
            return self.send_out_next(now);
        };
        match ready {
            Ok(document) => self.publish(now, document),
            Err(why) => {
                let name = self.config.name.clone();
                self.event(now, EventKind::Service, Severity::Warning, name, "", "not published", why);
            }
        }
        true
    }

    fn publish(&mut self, now: Instant, document: Verified<Document>) {
        let Ok(stored) = document.read() else {
            self.stats.documents_refused += 1;
            return;
        };
        self.registry.merge(stored.clone(), |_| Ok(()));
        let stored = stored.into_inner();
        let key = &stored.document.key;
        match &stored.body {
            Body::Node(_) => self.place_self(now, &stored),
            Body::Services(_) | Body::Health(_) => {
                self.view.owner_changed(key.owner);
                self.note_servers_changed(now, key.owner);
            }
            Body::Map(service, body) => self.on_map_body(now, key.owner, service, body),
            Body::Trust | Body::Forget(..) | Body::Layout(..) | Body::Opaque => {}
        }
    }

    fn send_out_next(&mut self, now: Instant) -> bool {
        let Some(topic) = self.publisher.take_leaving(now) else {
            return false;
        };
        if let Some(stored) = self.registry.find(self.id(), topic.as_str()).cloned() {
            self.spread_news(now, None, 0, &[Kept::Document(stored)]);
        }
        true
    }

    fn on_beat(&mut self, now: Instant, ticket: Ticket, id: &InstanceId) {
        let wall = self.clock.wall(now);
        let result = if !self.local.committed.registrations.contains_key(id) {
            Err(no_instance(id))
        } else if self.monitor.beat(now, wall, id) {
            Ok(format!("{id} beat"))
        } else {
            let detail = format!("{id} has no check of type \"ttl\", so beats mean nothing to it");
            Err(error(CommandErrorKind::Conflict, detail))
        };
        self.say(ticket, result);
    }

    fn on_hold(&mut self, now: Instant, ticket: Ticket, length: Option<Duration>) {
        let length = length.unwrap_or(self.config.hold);
        if length > HOLD_MAX || length.is_zero() {
            let detail = format!(
                "for: {} is not allowed: 1ms to {}",
                duration::format(length),
                duration::format(HOLD_MAX)
            );
            return self.say(ticket, Err(error(CommandErrorKind::Invalid, detail)));
        }
        self.stand(hold_of(length));
        let name = self.config.name.clone();
        self.event(now, EventKind::Member, Severity::Info, name, "", "Holding", "an operator here said so");
        let release_at = now.after(length * 3 / 4);
        self.local.release_at = Some(release_at);
        self.timers.arm(release_at, Timer::HoldRelease(release_at));
        let says =
            format!("the mesh keeps serving what this node vouched for, for {}", duration::format(length));
        self.say(ticket, Ok(says));
    }

    /// The hold is nearly over and this agent was not restarted: say that it serves.
    pub(crate) fn on_hold_release(&mut self, armed: Instant) {
        if self.local.release_at == Some(armed) && matches!(self.standing, Standing::Holding { .. }) {
            self.stand(Standing::Serving);
        }
    }

    fn stand(&mut self, standing: Standing) {
        self.standing = standing;
        self.say_standing();
    }

    fn on_leave(&mut self, now: Instant, ticket: Ticket) {
        self.stand(Standing::Left);
        self.settle(now);
        self.save_all();
        let says = format!("{} has left: whoever it reaches withdraws its instances", self.config.name);
        self.say(ticket, Ok(says));
        self.outputs.push_back(Output::Stop);
    }

    pub(crate) fn on_shutdown(&mut self, now: Instant) {
        if self.config.hold.is_zero() {
            self.stand(Standing::Left);
        } else if self.standing != Standing::Left {
            self.stand(hold_of(self.config.hold));
        }
        self.settle(now);
        self.save_all();
        self.outputs.push_back(Output::Stop);
    }

    fn on_forget(&mut self, now: Instant, ticket: Ticket, name: &NodeName) {
        let result = match self.members.find_named(name) {
            None => Err(error(CommandErrorKind::NotFound, format!("no member is called {name}"))),
            Some(member) if member.is_serving() => {
                let state = member.state();
                let detail =
                    format!("{name} is {state}: only members that are Down or Left can be forgotten");
                Err(error(CommandErrorKind::Conflict, detail))
            }
            Some(member) => {
                let (subject, floor) = (member.identity().id, member.identity().epoch);
                let order = ForgetBody { floor, given: self.clock.wall(now) };
                match order.to_bytes() {
                    Ok(bytes) => self.publisher.want(Topic::forget(subject), Class::Standing, bytes),
                    Err(_) => self.stats.documents_refused += 1,
                }
                self.settle(now);
                self.drop_member(now, subject, floor, "an operator here said so".to_owned());
                Ok(format!("{name} is forgotten: epochs up to {floor} of it cannot come back"))
            }
        };
        self.say(ticket, result);
    }

    pub(crate) fn on_save_due(&mut self, now: Instant) {
        self.timers.arm(now.after(SAVE_EVERY), Timer::Save);
        self.save_maps();
        if self.local.is_health_unsaved {
            self.save_health();
        }
        let root = self.registry.root();
        let is_unsaved = self.local.is_view_unsaved || root != self.local.saved_root;
        if is_unsaved && now.since(self.local.saved_view) >= SAVE_VIEW_EVERY {
            self.local.saved_view = now;
            self.save_view();
        }
    }

    pub(crate) fn save_maps(&mut self) {
        if let Some(maps) = self.maps.take_unsaved() {
            self.outputs.push_back(Output::Persist { ticket: None, what: Persist::Maps(maps) });
        }
    }

    fn save_all(&mut self) {
        self.save_maps();
        self.save_health();
        self.save_view();
    }

    fn save_health(&mut self) {
        self.local.is_health_unsaved = false;
        let health = self.monitor.iter().map(|(key, health)| (key.clone(), health)).collect();
        self.outputs.push_back(Output::Persist { ticket: None, what: Persist::Health(health) });
    }

    fn save_view(&mut self) {
        self.local.saved_root = self.registry.root();
        self.local.is_view_unsaved = false;
        let is_kept =
            |member: &&Member| !self.members.is_me(member) && (member.is_serving() || member.is_down());
        let mut documents = Vec::new();
        for (owner, all) in self.registry.by_owner() {
            if self.members.find(owner).filter(is_kept).is_some() {
                documents.extend(all.cloned());
            }
        }
        let down = self.members.iter().filter(|member| member.is_down()).map(Member::id).collect();
        self.outputs.push_back(Output::Persist { ticket: None, what: Persist::View { documents, down } });
        let peers = self.peers_to_remember();
        self.outputs.push_back(Output::Persist { ticket: None, what: Persist::Peers(peers) });
    }
}

fn hold_of(length: Duration) -> Standing {
    Standing::Holding { for_ms: u32::try_from(length.as_millis()).unwrap_or(u32::MAX) }
}
