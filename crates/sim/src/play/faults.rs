//! What each fault does to the world.

use core::time::Duration;

use rand::RngExt;
use ringmesh_node::io::{Command, DrainTarget};
use ringmesh_types::time::Instant;

use super::stage::{Act, Condition, Ending, Served, Stage, merged, registration};
use crate::link::{HostSet, Trouble};
use crate::outcome::FaultMark;
use crate::scenario::{Direction, Fault, Who};
use crate::world::Endpoint;

/// How often a liar lies.
pub(crate) const LIES_EVERY: Duration = Duration::from_secs(1);

impl Stage {
    pub(crate) fn act(&mut self, act: Act) {
        match act {
            Act::Step(index) => self.step(index),
            Act::Start(host) => self.start(host),
            Act::Stop(host) => self.stop(host),
            Act::Leave(host) => self.leave(host),
            Act::Roll { left, down, every } => self.roll(left, down, every),
            Act::End(ending) => self.end(ending),
            Act::Flip { endpoints, is_up, up, down, until } => self.flip(endpoints, is_up, up, down, until),
            Act::Churn { service, every, until } => self.churn(service, every, until),
            Act::Register { service, hosts, next, every, until } => {
                self.register(service, hosts, next, every, until);
            }
            Act::Lies(host) => self.lie(host),
        }
    }

    fn step(&mut self, index: usize) {
        let step = self.scenario.timeline[index].clone();
        let hosts = self.perform(&step.fault);
        if let Some(label) = step.label {
            self.labels.insert(label, hosts.clone());
        }
        let from_s = self.seconds(self.now());
        let length = length_of(&step.fault, hosts.len());
        let until_s = length.map(|length| from_s + length.as_secs_f64());
        let is_done_to_hosts = !matches!(step.fault, Fault::Links { .. } | Fault::Churn { .. } | Fault::Heal);
        let names = match (is_done_to_hosts, hosts.is_empty()) {
            (true, true) => " nobody".to_owned(),
            (true, false) => format!(" {}", names(&hosts, self.hosts())),
            (false, _) => String::new(),
        };
        let what = format!("{}{names}", name_of(&step.fault));
        self.marks.push(FaultMark { from_s, until_s, what });
    }

    /// Does it, and says to whom.
    fn perform(&mut self, fault: &Fault) -> Vec<usize> {
        match fault {
            Fault::Crash { who } => self.each_that(who, Condition::is_there, Self::crash),
            Fault::Start { who } => self.each_that(who, |host| !host.runs(), Self::start),
            Fault::Restart { who, down } => {
                let hosts = self.each(who, Self::crash);
                self.start_later(&hosts, *down);
                hosts
            }
            Fault::Roll { who, down, every } => {
                let hosts = self.resolve(who);
                self.roll(hosts.clone(), *down, *every);
                hosts
            }
            Fault::Stop { who } => self.each_that(who, Condition::runs, Self::stop),
            Fault::Leave { who } => self.each_that(who, Condition::runs, Self::leave),
            Fault::Wipe { who } => {
                let wipe = |stage: &mut Self, host: usize| {
                    stage.world.wipe(host);
                    stage.conditions[host].was_wiped = true;
                };
                self.each_that(who, |host| !host.is_there(), wipe)
            }
            Fault::Pause { who, length } => {
                let freeze = |stage: &mut Self, host| stage.world.freeze(host, *length);
                let hosts = self.each_that(who, Condition::runs, freeze);
                self.trouble_for(&hosts, Some(*length), Ending::Pause(hosts.clone()));
                hosts
            }
            Fault::Slow { who, hold, free, length } => {
                let hosts = self.each(who, |stage, host| stage.world.slow(host, Some((*hold, *free))));
                self.trouble_for(&hosts, *length, Ending::Slow(hosts.clone()));
                hosts
            }
            Fault::Clock { who, by, back } => {
                let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
                self.each(who, |stage, host| {
                    stage.world.jump_clock(host, if *back { -millis } else { millis });
                })
            }
            Fault::DiskFull { who, length } => {
                let hosts = self.each(who, |stage, host| stage.world.set_disk_full(host, true));
                self.end_later(*length, Ending::Disk(hosts.clone()));
                hosts
            }
            Fault::Clash { who, with } => self.clash(who, with),
            Fault::Lie { who, about, lie, length } => {
                let about = about.as_ref().map(|about| self.resolve(about));
                let hosts = self.each(who, |stage, host| {
                    stage.conditions[host].is_liar = true;
                    stage.lies.insert(host, (*lie, about.clone()));
                    stage.arm(stage.now(), Act::Lies(host));
                });
                self.end_later(*length, Ending::Lie(hosts.clone()));
                hosts
            }
            Fault::Split { who, length } => self.split(who, *length),
            Fault::OneWay { from, to, length } => self.one_way(from, to, *length),
            Fault::Loss { who, share, direction, length } => self.lose(who, *share, *direction, *length),
            Fault::Links { spec, length } => {
                let before = self.world.links.config.clone();
                self.world.links.config = merged(&before, spec);
                self.end_later(*length, Ending::Links(Box::new(before)));
                Vec::new()
            }
            Fault::ServiceDown { service, who, length } => {
                self.set_endpoints(service, who, Endpoint::Silent, *length)
            }
            Fault::ServiceSlow { service, who, latency, length } => {
                self.set_endpoints(service, who, Endpoint::Answers(*latency), *length)
            }
            Fault::Flap { service, who, up, down, length } => {
                let hosts = self.resolve(who);
                let endpoints = self.endpoints(service, &hosts);
                self.flip(endpoints, true, *up, *down, self.until(*length));
                hosts
            }
            Fault::Churn { service, per_second, length } => {
                self.churn(service.clone(), every(*per_second), self.until(*length));
                Vec::new()
            }
            Fault::Drain { who, length } => {
                let drain = Command::Drain(DrainTarget::Node);
                let hosts = self.each(who, |stage, host| stage.world.command(host, drain.clone()));
                self.end_later(*length, Ending::Drain(hosts.clone()));
                hosts
            }
            Fault::Register { service, who, per_second, length } => {
                let hosts = self.resolve(who);
                let until = self.until(Some(*length));
                self.register(service.clone(), hosts.clone(), 0, every(*per_second), until);
                hosts
            }
            Fault::Forget { who } => self.each(who, Self::forget),
            Fault::Newer { who } => self.each(who, Self::speak_newer),
            Fault::Heal => {
                self.heal();
                Vec::new()
            }
        }
    }

    fn until(&self, length: Option<Duration>) -> Instant {
        self.now().after(length.unwrap_or(self.scenario.duration))
    }

    fn split(&mut self, who: &Who, length: Option<Duration>) -> Vec<usize> {
        let hosts = self.resolve(who);
        let side: HostSet = hosts.iter().copied().collect();
        let ids = self.world.links.split(&side, self.hosts());
        self.cuts.extend(ids.map(|id| (id, side.clone())));
        self.cut_at = Some(self.now());
        self.end_later(length, Ending::Troubles(ids.to_vec(), Vec::new()));
        hosts
    }

    fn one_way(&mut self, from: &Who, to: &Who, length: Option<Duration>) -> Vec<usize> {
        let (from, to) = (self.resolve(from), self.resolve(to));
        let these = from.iter().copied().collect();
        let those = to.iter().copied().collect();
        let hosts = if from.len() <= to.len() { from } else { to };
        let id = self.world.links.trouble(Trouble::Cut { from: these, to: those });
        self.cuts.insert(id, hosts.iter().copied().collect());
        self.trouble_for(&hosts, length, Ending::Troubles(vec![id], hosts.clone()));
        hosts
    }

    fn lose(&mut self, who: &Who, share: f64, direction: Direction, length: Option<Duration>) -> Vec<usize> {
        let hosts = self.resolve(who);
        let side: HostSet = hosts.iter().copied().collect();
        let mut ids = Vec::new();
        if matches!(direction, Direction::Out | Direction::Both) {
            ids.push(self.world.links.trouble(Trouble::LossOut(side.clone(), share)));
        }
        if matches!(direction, Direction::In | Direction::Both) {
            ids.push(self.world.links.trouble(Trouble::LossIn(side, share)));
        }
        // What befalls most of them is the weather, not a sick host.
        let ill = if hosts.len() * 2 >= self.hosts() { Vec::new() } else { hosts.clone() };
        self.trouble_for(&ill, length, Ending::Troubles(ids, ill.clone()));
        hosts
    }

    fn set_endpoints(
        &mut self,
        service: &str,
        who: &Who,
        how: Endpoint,
        length: Option<Duration>,
    ) -> Vec<usize> {
        let hosts = self.resolve(who);
        let endpoints = self.endpoints(service, &hosts);
        for (host, addr) in &endpoints {
            self.world.set_endpoint_to(*host, *addr, how);
        }
        self.end_later(length, Ending::Endpoints(endpoints));
        hosts
    }

    fn each(&mut self, who: &Who, act: impl FnMut(&mut Self, usize)) -> Vec<usize> {
        self.each_that(who, |_| true, act)
    }

    /// Does it to those that it can be done to.
    fn each_that(
        &mut self,
        who: &Who,
        can: impl Fn(&Condition) -> bool,
        mut act: impl FnMut(&mut Self, usize),
    ) -> Vec<usize> {
        let mut hosts = self.resolve(who);
        hosts.retain(|host| can(&self.conditions[*host]));
        for host in &hosts {
            act(self, *host);
        }
        hosts
    }

    fn crash(&mut self, host: usize) {
        // A VM dies with its services, though its agent may be away for a restart.
        let condition = &mut self.conditions[host];
        condition.is_up = false;
        condition.is_away = false;
        if condition.runs_since.take().is_some() {
            self.world.crash(host);
            self.deaths.push((self.now(), host));
        }
    }

    fn start(&mut self, host: usize) {
        if self.conditions[host].runs_since.is_none() {
            self.world.start(host);
            self.note_started(host);
        }
    }

    /// Whether a host is frozen and takes orders only when it runs on; what it is told then is `act`.
    fn waits(&mut self, host: usize, act: Act) -> bool {
        let thaws = self.world.frozen_until(host);
        if let Some(at) = thaws {
            self.arm(at.after(Duration::from_nanos(1)), act);
        }
        thaws.is_some()
    }

    fn stop(&mut self, host: usize) {
        if !self.conditions[host].runs() || self.waits(host, Act::Stop(host)) {
            return;
        }
        self.world.stop(host);
        self.conditions[host].runs_since = None;
        self.conditions[host].is_away = true;
    }

    /// An operator at the first host that is well orders that another be forgotten.
    fn forget(&mut self, host: usize) {
        let name = format!("node-{host}").parse().expect("a valid node name");
        if let Some(operator) = (0..self.hosts()).find(|other| *other != host && self.is_well(*other)) {
            self.world.command(operator, Command::Forget(name));
        }
    }

    fn leave(&mut self, host: usize) {
        if !self.conditions[host].runs() || self.waits(host, Act::Leave(host)) {
            return;
        }
        self.world.command(host, Command::Leave);
        self.world.crash(host);
        let condition = &mut self.conditions[host];
        condition.runs_since = None;
        condition.has_left = true;
        condition.is_up = false;
    }

    fn start_later(&mut self, hosts: &[usize], after: Duration) {
        for host in hosts {
            self.arm(self.now().after(after), Act::Start(*host));
        }
    }

    fn roll(&mut self, mut left: Vec<usize>, down: Duration, every: Duration) {
        let Some(host) = left.first().copied() else {
            return;
        };
        if self.waits(host, Act::Roll { left: left.clone(), down, every }) {
            return;
        }
        left.remove(0);
        self.stop(host);
        self.start_later(&[host], down);
        self.arm(self.now().after(every), Act::Roll { left, down, every });
    }

    fn clash(&mut self, who: &Who, with: &Who) -> Vec<usize> {
        let (who, with) = (self.resolve(who), self.resolve(with));
        if let ([host, ..], [like, ..]) = (who.as_slice(), with.as_slice()) {
            self.world.crash(*host);
            self.world.rename(*host, *like);
            self.conditions[*host].is_twin = true;
            self.conditions[*like].is_twin = true;
            self.world.wipe(*host);
            self.world.start(*host);
            self.note_started(*host);
        }
        who
    }

    fn trouble_for(&mut self, hosts: &[usize], length: Option<Duration>, ending: Ending) {
        self.add_trouble(hosts);
        self.end_later(length, ending);
    }

    fn end_later(&mut self, length: Option<Duration>, ending: Ending) {
        if let Some(length) = length {
            self.arm(self.now().after(length), Act::End(ending));
        }
    }

    fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Troubles(ids, hosts) => {
                for id in ids {
                    self.world.links.end(id);
                    if let Some(side) = self.cuts.remove(&id) {
                        self.healed.push((self.now(), side));
                        self.whole_at = Some(self.now()).filter(|_| self.cuts.is_empty());
                    }
                }
                self.end_trouble(&hosts);
            }
            Ending::Slow(hosts) => {
                for host in &hosts {
                    self.world.slow(*host, None);
                }
                self.end_trouble(&hosts);
            }
            Ending::Pause(hosts) => self.end_trouble(&hosts),
            Ending::Disk(hosts) => {
                for host in hosts {
                    self.world.set_disk_full(host, false);
                }
            }
            Ending::Lie(hosts) => {
                for host in hosts {
                    self.lies.remove(&host);
                }
            }
            Ending::Links(config) => self.world.links.config = *config,
            Ending::Endpoints(endpoints) => {
                for (host, addr) in endpoints {
                    self.world.set_endpoint(host, addr, true);
                }
            }
            Ending::Drain(hosts) => {
                for host in hosts {
                    self.world.command(host, Command::Undrain(DrainTarget::Node));
                }
            }
        }
    }

    /// Ends every cut, loss and slowness.
    pub(crate) fn heal(&mut self) {
        let now = self.now();
        if !self.cuts.is_empty() {
            self.whole_at = Some(now);
        }
        self.world.links.mend();
        self.world.links.config = merged(&crate::link::LinkConfig::default(), &self.scenario.links.default);
        self.healed.extend(core::mem::take(&mut self.cuts).into_values().map(|side| (now, side)));
        for host in 0..self.hosts() {
            self.world.slow(host, None);
            if core::mem::take(&mut self.conditions[host].troubles) > 0 {
                self.conditions[host].well_since = Some(now);
            }
        }
    }

    /// Ends every fault that lasts: links, lies, full disks, drains, dead endpoints; who is dead stays dead.
    pub(crate) fn end_everything(&mut self) {
        self.heal();
        self.cancel_all();
        self.lies.clear();
        let all: Vec<_> = self.services.values().flatten().cloned().collect();
        for served in all {
            self.world.set_endpoint(served.host, served.addr, true);
        }
        for host in 0..self.hosts() {
            self.world.mend_clock(host);
            self.world.set_disk_full(host, false);
            self.world.command(host, Command::Undrain(DrainTarget::Node));
        }
        self.is_truth_changed = true;
    }

    /// Starts a host that is dead or has left.
    pub(crate) fn start_if_dead(&mut self, host: usize) {
        if !self.conditions[host].is_twin {
            self.start(host);
        }
    }

    fn flip(
        &mut self,
        endpoints: Vec<(usize, core::net::SocketAddr)>,
        is_up: bool,
        up: Duration,
        down: Duration,
        until: Instant,
    ) {
        // What is up goes down now; at the end everything is up.
        let is_over = self.now() >= until;
        for (host, addr) in &endpoints {
            self.world.set_endpoint(*host, *addr, !is_up || is_over);
        }
        if !is_over {
            let wait = if is_up { down } else { up };
            let at = self.now().after(wait).min(until);
            self.arm(at, Act::Flip { endpoints, is_up: !is_up, up, down, until });
        }
    }

    fn churn(&mut self, service: String, every: Duration, until: Instant) {
        let all = self.services.get(&service).map_or(&[][..], Vec::as_slice);
        if all.is_empty() || self.now() >= until {
            return;
        }
        let Served { host, addr } = all[self.rng.random_range(0..all.len())].clone();
        let was_silent = self.world.endpoint(host, addr) == Endpoint::Silent;
        self.world.set_endpoint(host, addr, was_silent);
        self.arm(self.now().after(every), Act::Churn { service, every, until });
    }

    fn register(&mut self, service: String, hosts: Vec<usize>, next: usize, every: Duration, until: Instant) {
        let plans = &self.scenario.topology.services;
        let found = plans.iter().position(|plan| plan.name == service);
        let (Some(index), false) = (found, hosts.is_empty() || self.now() >= until) else {
            return;
        };
        let host = hosts[next % hosts.len()];
        let plan = plans[index].clone();
        let (registration, addr) = registration(&plan, index, host, plan.instances + next / hosts.len());
        if self.conditions[host].runs_since.is_some() {
            self.world.register(host, registration);
            self.services.entry(service.clone()).or_default().push(Served { host, addr });
        }
        let next = next + 1;
        self.arm(self.now().after(every), Act::Register { service, hosts, next, every, until });
    }
}

/// The time between two of so many a second.
fn every(per_second: f64) -> Duration {
    Duration::from_secs_f64(1.0 / per_second.max(0.001))
}

/// What a fault is called in a file.
fn name_of(fault: &Fault) -> &'static str {
    match fault {
        Fault::Crash { .. } => "crash",
        Fault::Start { .. } => "start",
        Fault::Restart { .. } => "restart",
        Fault::Roll { .. } => "roll",
        Fault::Stop { .. } => "stop",
        Fault::Leave { .. } => "leave",
        Fault::Wipe { .. } => "wipe",
        Fault::Pause { .. } => "pause",
        Fault::Slow { .. } => "slow",
        Fault::Clock { .. } => "clock",
        Fault::DiskFull { .. } => "disk-full",
        Fault::Clash { .. } => "clash",
        Fault::Lie { .. } => "lie",
        Fault::Split { .. } => "split",
        Fault::OneWay { .. } => "one-way",
        Fault::Loss { .. } => "loss",
        Fault::Links { .. } => "links",
        Fault::ServiceDown { .. } => "service-down",
        Fault::Flap { .. } => "flap",
        Fault::ServiceSlow { .. } => "service-slow",
        Fault::Churn { .. } => "churn",
        Fault::Drain { .. } => "drain",
        Fault::Register { .. } => "register",
        Fault::Forget { .. } => "forget",
        Fault::Newer { .. } => "newer",
        Fault::Heal => "heal",
    }
}

/// How long it lasts, if it lasts, when so many hosts are meant.
fn length_of(fault: &Fault, hosts: usize) -> Option<Duration> {
    let Fault::Roll { down, every, .. } = fault else {
        return fault.length();
    };
    let turns = u32::try_from(hosts.saturating_sub(1)).unwrap_or(u32::MAX);
    Some(every.saturating_mul(turns).saturating_add(*down))
}

/// Hosts in few words.
pub(crate) fn names(hosts: &[usize], all: usize) -> String {
    match hosts {
        [] => String::new(),
        _ if hosts.len() == all && all > 3 => "all".to_owned(),
        [first, .., last] if hosts.len() > 3 && last - first + 1 == hosts.len() => {
            format!("node-{first} to node-{last}")
        }
        _ if hosts.len() > 6 => format!("{} hosts", hosts.len()),
        _ => hosts.iter().map(|host| format!("node-{host}")).collect::<Vec<_>>().join(", "),
    }
}
