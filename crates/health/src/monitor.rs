//! The state of every endpoint on this node, from the outcomes of its checks.
//!
//! `Unknown → Passing ⇄ Greylisted ⇄ Failing`. `fall` bad outcomes in a row make a check fail, `fall` slow ones greylist
//! it, `rise` good ones in a row bring it back; the first good outcome of a check that was never judged passes it. An
//! endpoint is as bad as its worst check. A state that was known before a reload or restart is kept, with its age, until
//! outcomes say otherwise.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::{Rng, RngExt};
use ringmesh_types::body::EndpointHealth;
use ringmesh_types::name::InstanceId;
use ringmesh_types::service::{Endpoint, HealthState};
use ringmesh_types::time::{Instant, WallTime};

use crate::spec::{CheckKind, CheckSpec};

/// Names an endpoint of an instance on this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The instance.
    pub instance: InstanceId,
    /// Which of its endpoints, from 0.
    pub endpoint: usize,
}

/// Names one probe: a late answer to an older one does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeId {
    /// Whose.
    pub key: EndpointKey,
    /// Which of the endpoint's checks, from 0.
    pub check: usize,
    /// Which probe of that check.
    pub attempt: u64,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer, and how long it took.
    Good {
        /// From sending to the answer.
        latency: Duration,
    },
    /// An answer that says "too busy".
    Overloaded {
        /// In words.
        detail: String,
    },
    /// The probe could not be made: this machine lacks something, which says nothing about the endpoint.
    Untried {
        /// In words.
        detail: String,
    },
    /// No answer, or a bad one.
    Bad {
        /// In words.
        detail: String,
    },
}

/// What should happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Probe this endpoint and bring the outcome back.
    Probe {
        /// Names the probe.
        id: ProbeId,
        /// Where.
        endpoint: Endpoint,
        /// How.
        spec: Arc<CheckSpec>,
    },
    /// An endpoint's state changed.
    Changed {
        /// Which.
        key: EndpointKey,
        /// From what.
        from: HealthState,
        /// To what.
        to: HealthState,
        /// Why.
        cause: String,
    },
}

/// An endpoint that is to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub key: EndpointKey,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its checks; without any it passes.
    pub checks: Vec<Arc<CheckSpec>>,
}

#[derive(Debug)]
struct Check {
    spec: Arc<CheckSpec>,
    state: HealthState,
    good: u32,
    slow: u32,
    bad: u32,
    attempt: u64,
    due: Instant,
    answer_by: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    endpoint: Endpoint,
    checks: Vec<Check>,
    health: EndpointHealth,
}

/// Checks every endpoint of this node.
#[derive(Debug)]
pub struct Monitor<R> {
    rng: R,
    watched: BTreeMap<EndpointKey, Watched>,
    outputs: VecDeque<Output>,
}

/// How much the interval varies either way, in percent: checks of many agents do not fall into step.
const JITTER_PERCENT: u32 = 10;
/// A check begins within this time of its registration.
const FIRST_PROBE_WITHIN: Duration = Duration::from_millis(100);
/// A driver that has not answered this long after the time-out is taken to have lost the probe.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

impl<R: Rng> Monitor<R> {
    /// Checks nothing yet.
    pub fn new(rng: R) -> Self {
        Self { rng, watched: BTreeMap::new(), outputs: VecDeque::new() }
    }

    /// Replaces what is checked. States of endpoints that stay are kept; `remembered` gives those of an earlier life.
    pub fn set_plans(
        &mut self,
        now: Instant,
        wall: WallTime,
        plans: Vec<Plan>,
        remembered: &BTreeMap<EndpointKey, EndpointHealth>,
    ) {
        let mut old = core::mem::take(&mut self.watched);
        for plan in plans {
            let kept = old.remove(&plan.key).filter(|watched| watched.endpoint == plan.endpoint);
            let watched = match kept {
                Some(kept) if kept.has_checks(&plan.checks) => kept,
                kept => {
                    let known = kept.map(|kept| kept.health).or_else(|| remembered.get(&plan.key).copied());
                    self.watch(now, wall, &plan, known)
                }
            };
            self.watched.insert(plan.key, watched);
        }
    }

    fn watch(&mut self, now: Instant, wall: WallTime, plan: &Plan, known: Option<EndpointHealth>) -> Watched {
        let unchecked = if plan.checks.is_empty() { HealthState::Passing } else { HealthState::Unknown };
        let health = match known {
            Some(known) if !plan.checks.is_empty() => known,
            _ => EndpointHealth { state: unchecked, since: wall },
        };
        let checks = plan.checks.iter().map(|spec| Check {
            spec: spec.clone(),
            state: health.state,
            good: 0,
            slow: 0,
            bad: 0,
            attempt: 0,
            due: first_due(&mut self.rng, now, spec),
            answer_by: None,
        });
        Watched { endpoint: plan.endpoint.clone(), checks: checks.collect(), health }
    }

    /// How an endpoint does.
    pub fn health(&self, key: &EndpointKey) -> Option<EndpointHealth> {
        self.watched.get(key).map(|watched| watched.health)
    }

    /// Every endpoint and how it does.
    pub fn iter(&self) -> impl Iterator<Item = (&EndpointKey, EndpointHealth)> {
        self.watched.iter().map(|(key, watched)| (key, watched.health))
    }

    /// A probe came back.
    pub fn handle_outcome(&mut self, wall: WallTime, id: &ProbeId, outcome: &Outcome) {
        let Some(watched) = self.watched.get_mut(&id.key) else {
            return;
        };
        let Some(check) = watched.checks.get_mut(id.check) else {
            return;
        };
        if check.attempt != id.attempt || check.answer_by.is_none() {
            return;
        }
        check.answer_by = None;
        let cause = check.judge(outcome);
        settle(&mut self.outputs, &id.key, watched, wall, cause);
    }

    /// The service beat by itself: good news for its `ttl` checks. Says whether it has any.
    pub fn beat(&mut self, now: Instant, wall: WallTime, instance: &InstanceId) -> bool {
        let mut has_any = false;
        for (key, watched) in self.watched.iter_mut().filter(|(key, _)| key.instance == *instance) {
            let mut cause = None;
            for check in &mut watched.checks {
                if let CheckKind::Ttl { ttl } = check.spec.kind {
                    has_any = true;
                    check.due = now.after(ttl);
                    let changed = check.judge(&Outcome::Good { latency: Duration::ZERO });
                    cause = changed.map(|_| "it beat".to_owned()).or(cause);
                }
            }
            settle(&mut self.outputs, key, watched, wall, cause);
        }
        has_any
    }

    /// Starts the probes that are due, and gives up on those that were lost.
    pub fn handle_timeout(&mut self, now: Instant, wall: WallTime) {
        for (key, watched) in &mut self.watched {
            let mut cause = None;
            for (index, check) in watched.checks.iter_mut().enumerate() {
                if check.answer_by.is_some_and(|at| at <= now) {
                    check.answer_by = None;
                    let lost = Outcome::Bad { detail: "the probe brought no outcome".to_owned() };
                    cause = check.judge(&lost).or(cause);
                }
                if check.due > now {
                    continue;
                }
                if let CheckKind::Ttl { ttl } = check.spec.kind {
                    check.due = now.after(ttl);
                    cause = check.miss_beat(ttl).or(cause);
                    continue;
                }
                check.due = next_due(&mut self.rng, now, &check.spec);
                if check.answer_by.is_some() {
                    continue;
                }
                check.attempt += 1;
                check.answer_by = Some(now.after(check.spec.timeout).after(ANSWER_GRACE));
                self.outputs.push_back(Output::Probe {
                    id: ProbeId { key: key.clone(), check: index, attempt: check.attempt },
                    endpoint: watched.endpoint.clone(),
                    spec: check.spec.clone(),
                });
            }
            settle(&mut self.outputs, key, watched, wall, cause);
        }
    }

    /// When [`Monitor::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.watched
            .values()
            .flat_map(|watched| &watched.checks)
            .flat_map(|check| [Some(check.due), check.answer_by])
            .flatten()
            .min()
    }

    /// What should happen next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

impl Watched {
    fn has_checks(&self, specs: &[Arc<CheckSpec>]) -> bool {
        self.checks.len() == specs.len()
            && self.checks.iter().zip(specs).all(|(check, spec)| check.spec == *spec)
    }
}

impl Check {
    /// Counts an outcome. Says why, if the check's state changed.
    fn judge(&mut self, outcome: &Outcome) -> Option<String> {
        let late = |limit: &Duration, latency: &Duration| latency > limit;
        let (next, cause) = match outcome {
            Outcome::Good { latency }
                if self.spec.latency_limit.as_ref().is_some_and(|limit| late(limit, latency)) =>
            {
                self.count(0, 1, 0);
                (self.after_slow(), format!("answered after {} ms, too late", latency.as_millis()))
            }
            Outcome::Good { latency } => {
                self.count(1, 0, 0);
                (self.after_good(), format!("answered after {} ms", latency.as_millis()))
            }
            Outcome::Untried { .. } => return None,
            Outcome::Overloaded { detail } => {
                self.count(0, 1, 0);
                (self.after_slow(), detail.clone())
            }
            Outcome::Bad { detail } => {
                self.count(0, 0, 1);
                let is_over = self.bad >= self.spec.fall;
                (if is_over { HealthState::Failing } else { self.state }, detail.clone())
            }
        };
        if next == self.state {
            return None;
        }
        self.state = next;
        Some(cause)
    }

    /// Continues the run of the outcome that was seen and ends the others.
    fn count(&mut self, good: u32, slow: u32, bad: u32) {
        let run = |before: u32, seen: u32| if seen == 0 { 0 } else { before.saturating_add(seen) };
        (self.good, self.slow, self.bad) = (run(self.good, good), run(self.slow, slow), run(self.bad, bad));
    }

    fn after_good(&self) -> HealthState {
        let is_enough = self.good >= self.spec.rise || self.state == HealthState::Unknown;
        if is_enough { HealthState::Passing } else { self.state }
    }

    fn after_slow(&self) -> HealthState {
        let needed = if self.state == HealthState::Failing { self.spec.rise } else { self.spec.fall };
        if self.slow >= needed { HealthState::Greylisted } else { self.state }
    }

    fn miss_beat(&mut self, ttl: Duration) -> Option<String> {
        self.good = 0;
        if self.state == HealthState::Failing {
            return None;
        }
        self.state = HealthState::Failing;
        Some(format!("no beat for {} ms", ttl.as_millis()))
    }
}

/// The endpoint is as bad as its worst check; `cause` is why a check changed.
fn settle(
    outputs: &mut VecDeque<Output>,
    key: &EndpointKey,
    watched: &mut Watched,
    wall: WallTime,
    cause: Option<String>,
) {
    let Some(cause) = cause else {
        return;
    };
    let Some(to) = watched.checks.iter().map(|check| check.state).max() else {
        return;
    };
    let from = watched.health.state;
    if from != to {
        watched.health = EndpointHealth { state: to, since: wall };
        outputs.push_back(Output::Changed { key: key.clone(), from, to, cause });
    }
}

fn first_due(rng: &mut impl Rng, now: Instant, spec: &CheckSpec) -> Instant {
    match spec.kind {
        CheckKind::Ttl { ttl } => now.after(ttl),
        CheckKind::Sip { .. }
        | CheckKind::Rtpengine
        | CheckKind::Http { .. }
        | CheckKind::Tcp
        | CheckKind::Exec { .. } => {
            let within = FIRST_PROBE_WITHIN.min(spec.interval);
            now.after(within.mul_f64(f64::from(rng.random_range(0..1_000_u32)) / 1_000.0))
        }
    }
}

fn next_due(rng: &mut impl Rng, now: Instant, spec: &CheckSpec) -> Instant {
    let percent = rng.random_range(100 - JITTER_PERCENT..=100 + JITTER_PERCENT);
    now.after(spec.interval * percent / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use ringmesh_types::service::Transport;

    const WALL: WallTime = WallTime::from_unix_millis(1_000);

    fn key() -> EndpointKey {
        EndpointKey { instance: "sip-1".parse().expect("an id"), endpoint: 0 }
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            protocol: "sip".parse().expect("a name"),
            transport: Transport::Udp,
            address: core::net::IpAddr::from([127, 0, 0, 1]),
            port: 5060,
        }
    }

    fn spec(kind: CheckKind) -> Arc<CheckSpec> {
        Arc::new(CheckSpec {
            kind,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 3,
            latency_limit: Some(Duration::from_millis(100)),
        })
    }

    fn monitor(checks: Vec<Arc<CheckSpec>>, known: Option<HealthState>) -> Monitor<ChaCha8Rng> {
        let mut monitor = Monitor::new(ChaCha8Rng::seed_from_u64(1));
        let remembered =
            known.map(|state| (key(), EndpointHealth { state, since: WallTime::from_unix_millis(7) }));
        let plan = Plan { key: key(), endpoint: endpoint(), checks };
        monitor.set_plans(Instant::START, WALL, vec![plan], &remembered.into_iter().collect());
        monitor
    }

    /// Plays outcomes, one per probe: `g` good, `l` late, `o` overloaded, `b` bad; returns the state after each.
    fn play(monitor: &mut Monitor<ChaCha8Rng>, outcomes: &str) -> String {
        let mut states = String::new();
        for outcome in outcomes.chars() {
            let id = loop {
                let at = monitor.poll_timeout().expect("something is due");
                monitor.handle_timeout(at, WALL);
                if let Some(Output::Probe { id, .. }) = monitor.poll_output() {
                    break id;
                }
            };
            let outcome = match outcome {
                'g' => Outcome::Good { latency: Duration::from_millis(1) },
                'l' => Outcome::Good { latency: Duration::from_millis(101) },
                'o' => Outcome::Overloaded { detail: "503".to_owned() },
                _ => Outcome::Bad { detail: "no answer".to_owned() },
            };
            monitor.handle_outcome(WALL, &id, &outcome);
            while monitor.poll_output().is_some() {}
            states.push(match monitor.health(&key()).expect("is watched").state {
                HealthState::Unknown => 'U',
                HealthState::Passing => 'P',
                HealthState::Greylisted => 'G',
                HealthState::Failing => 'F',
            });
        }
        states
    }

    #[test]
    fn rise_and_fall_count_in_both_directions() {
        let check = |outcomes: &str, want: &str| {
            assert_eq!(play(&mut monitor(vec![spec(CheckKind::Tcp)], None), outcomes), want, "{outcomes}");
        };
        check("gbbgbbb", "PPPPPPF");
        check("bbbgg", "UUFFP");
        check("bbbgbg", "UUFFFF");
        check("gllgll", "PPPPPP");
        check("glllgg", "PPPGGP");
        check("gooobbb", "PPPGGGF");
        check("bbbll", "UUFFG");
    }

    #[test]
    fn a_state_from_before_a_restart_is_kept_until_outcomes_say_otherwise() {
        let mut monitor = monitor(vec![spec(CheckKind::Tcp)], Some(HealthState::Passing));
        let health = monitor.health(&key()).expect("is watched");
        assert_eq!((health.state, health.since.as_unix_millis()), (HealthState::Passing, 7));
        assert_eq!(play(&mut monitor, "bbb"), "PPF");
    }

    #[test]
    fn an_endpoint_without_checks_passes() {
        let monitor = monitor(vec![], Some(HealthState::Failing));
        assert_eq!(monitor.health(&key()).expect("is watched").state, HealthState::Passing);
    }

    #[test]
    fn a_service_that_stops_beating_fails_after_its_ttl() {
        let kind = CheckKind::Ttl { ttl: Duration::from_secs(10) };
        let mut monitor = monitor(vec![spec(kind)], None);
        assert!(monitor.beat(Instant::from_millis(4_000), WALL, &key().instance));
        assert_eq!(monitor.health(&key()).expect("is watched").state, HealthState::Passing);
        assert_eq!(cause(&mut monitor), "it beat");
        assert_eq!(monitor.poll_timeout(), Some(Instant::from_millis(14_000)));
        monitor.handle_timeout(Instant::from_millis(14_000), WALL);
        assert_eq!(monitor.health(&key()).expect("is watched").state, HealthState::Failing);
        assert_eq!(cause(&mut monitor), "no beat for 10000 ms");
    }

    #[test]
    fn an_outcome_of_an_older_probe_does_not_count() {
        let mut monitor = monitor(vec![spec(CheckKind::Tcp)], None);
        play(&mut monitor, "g");
        let stale = ProbeId { key: key(), check: 0, attempt: 1 };
        for _ in 0..5 {
            monitor.handle_outcome(WALL, &stale, &Outcome::Bad { detail: String::new() });
        }
        assert_eq!(monitor.health(&key()).expect("is watched").state, HealthState::Passing);
    }

    #[test]
    fn a_probe_whose_outcome_never_comes_counts_as_bad() {
        let mut monitor = monitor(vec![spec(CheckKind::Tcp)], None);
        while monitor.health(&key()).expect("is watched").state != HealthState::Failing {
            let at = monitor.poll_timeout().expect("something is due");
            assert!(at < Instant::from_millis(10_000));
            monitor.handle_timeout(at, WALL);
            while monitor.poll_output().is_some() {}
        }
    }

    /// Why the state changed last.
    fn cause(monitor: &mut Monitor<ChaCha8Rng>) -> String {
        let last = core::iter::from_fn(|| monitor.poll_output()).last();
        match last {
            Some(Output::Changed { cause, .. }) => cause,
            Some(Output::Probe { .. }) | None => panic!("no change: {last:?}"),
        }
    }
}
