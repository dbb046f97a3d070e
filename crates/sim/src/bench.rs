//! How large and how fast: a mesh that knows itself, services whose health changes, some loss, and the wall clock.

use core::time::Duration;
use std::collections::BTreeMap;

use ringmesh_types::time::Instant;

use crate::play::stage::Stage;
use crate::scenario::{Fault, LinkPlan, LinkSpec, Scenario, ServicePlan, Start, Step, Topology, Who};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BenchPlan {
    /// What everything random is drawn from.
    pub seed: u64,
    /// How many hosts.
    pub nodes: usize,
    /// For how much virtual time.
    pub length: Duration,
    /// Instances on each host.
    pub instances: usize,
    /// How many endpoints a second change between answering and not.
    pub changes_per_second: f64,
    /// Share of packets that get lost.
    pub loss: f64,
    /// How many hosts die, one after another, evenly over the time but for its end.
    pub deaths: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BenchOutcome {
    /// How many hosts.
    pub nodes: usize,
    /// Virtual seconds that passed.
    pub virtual_s: f64,
    /// Seconds they took.
    pub wall_s: f64,
    /// Seconds it took before until every host knew every other.
    pub setup_s: f64,
    /// Virtual seconds in a second.
    pub speed: f64,
    /// Resident memory of this process at the end.
    pub rss_mib: f64,
    /// What the set-up added to it, for each pair of an observer and a subject.
    pub pair_bytes: f64,
    /// Datagrams and stream messages that were sent.
    pub messages: u64,
    /// The same for each host and virtual second.
    pub messages_per_node_per_s: f64,
    /// Mean seconds from a death to the first probe of the dead host, and to the first accusation; if any died.
    pub detection: Option<Detection>,
}

/// How fast deaths are noticed. SWIM (DSN 2002, 3.1): the first probe comes after one period in the mean, however large
/// the mesh is; it is held unanswered at the end of its period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Deaths that were noticed.
    pub deaths: usize,
    /// Mean seconds to the first probe.
    pub first_probe_mean_s: f64,
    /// Mean seconds to the first accusation.
    pub first_accusation_mean_s: f64,
}

/// Health checks of the instances come so often.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// How often the clock stops to look.
const STEP: Duration = Duration::from_millis(500);
/// A death is noticed within this time, but for one in a thousand.
const UNNOTICED_MAX: Duration = Duration::from_secs(10);
const MEBIBYTE: f64 = 1_048_576.0;

/// Measures. `seconds` is a clock; `progress` is told the phase, and which share of it is done.
pub fn bench(
    plan: &BenchPlan,
    seconds: &dyn Fn() -> f64,
    progress: &mut dyn FnMut(&'static str, f64),
) -> BenchOutcome {
    let memory_before = resident_bytes();
    let begun = seconds();
    progress("set up", 0.0);
    let scenario = scenario(plan);
    let mut stage = if plan.instances == 0 {
        Stage::bare(&scenario, plan.seed)
    } else {
        Stage::new(&scenario, plan.seed)
    };
    stage.set();
    let setup_s = seconds() - begun;
    let pairs = (plan.nodes * plan.nodes) as f64;
    let pair_bytes = (resident_bytes() - memory_before).max(0.0) / pairs;
    let sent = |stage: &Stage| {
        let sum = crate::play::watch::total(stage);
        sum.datagrams + sum.messages
    };
    let before = sent(&stage);
    let begun = seconds();
    let end = stage.begin.after(plan.length);
    let mut deaths = Deaths::default();
    while stage.now() < end {
        let next = stage.now().after(STEP).min(end);
        stage.advance_to(next, &mut |_| {});
        deaths.look(&mut stage);
        stage.world.refusals.clear();
        let done = stage.now().since(stage.begin);
        progress("run", done.as_secs_f64() / plan.length.as_secs_f64());
    }
    let wall_s = seconds() - begun;
    let virtual_s = plan.length.as_secs_f64();
    let messages = sent(&stage) - before;
    BenchOutcome {
        nodes: plan.nodes,
        virtual_s,
        wall_s,
        setup_s,
        speed: virtual_s / wall_s.max(0.000_001),
        rss_mib: resident_bytes() / MEBIBYTE,
        pair_bytes,
        messages,
        messages_per_node_per_s: messages as f64 / plan.nodes as f64 / virtual_s,
        detection: deaths.conclude(),
    }
}

/// Deaths, and what was first noticed of each.
#[derive(Default)]
struct Deaths(BTreeMap<usize, (Instant, Option<Instant>, Option<Instant>)>);

impl Deaths {
    fn look(&mut self, stage: &mut Stage) {
        for (at, host) in core::mem::take(&mut stage.deaths) {
            self.0.insert(host, (at, None, None));
        }
        for (host, (_, probed, _)) in &mut self.0 {
            *probed = probed.or_else(|| stage.world.first_probed(*host));
        }
        for (at, _, event) in core::mem::take(&mut stage.world.events) {
            let subject = stage.names.get(&event.subject).filter(|_| event.to == "Suspect");
            if let Some((_, _, accused)) = subject.and_then(|subject| self.0.get_mut(subject)) {
                accused.get_or_insert(at);
            }
        }
    }

    fn conclude(&self) -> Option<Detection> {
        let noticed: Vec<(f64, f64)> = self
            .0
            .values()
            .filter_map(|(at, probed, accused)| {
                Some(((*probed)?.since(*at).as_secs_f64(), (*accused)?.since(*at).as_secs_f64()))
            })
            .collect();
        let mean =
            |pick: fn(&(f64, f64)) -> f64| noticed.iter().map(pick).sum::<f64>() / noticed.len() as f64;
        (!noticed.is_empty()).then(|| Detection {
            deaths: noticed.len(),
            first_probe_mean_s: mean(|(probed, _)| *probed),
            first_accusation_mean_s: mean(|(_, accused)| *accused),
        })
    }
}

fn scenario(plan: &BenchPlan) -> Scenario {
    let service = ServicePlan {
        name: "sip".to_owned(),
        on: Who::all(),
        instances: plan.instances,
        has_map: false,
        check_every: Some(CHECK_EVERY),
    };
    let churn = Step {
        at: Duration::ZERO,
        fault: Fault::Churn { service: "sip".to_owned(), per_second: plan.changes_per_second, length: None },
        label: None,
        line: 0,
    };
    let has_changes = plan.instances > 0 && plan.changes_per_second > 0.0;
    // The last to die should be noticed before the end.
    let last = plan.length.saturating_sub(UNNOTICED_MAX);
    let death = |index: usize| Step {
        at: last * u32::try_from(index).unwrap_or(u32::MAX) / u32::try_from(plan.deaths).unwrap_or(u32::MAX),
        fault: Fault::Crash { who: Who::parse("random 1").expect("a selector of this form") },
        label: None,
        line: 0,
    };
    let mut timeline: Vec<Step> = (0..plan.deaths.min(plan.nodes / 2)).map(death).collect();
    timeline.extend(has_changes.then_some(churn));
    Scenario {
        name: "bench".to_owned(),
        title: String::new(),
        about: String::new(),
        seeds: 1,
        duration: plan.length,
        topology: Topology {
            nodes: plan.nodes,
            zones: ["a", "b", "c"].map(str::to_owned).to_vec(),
            // Whoever has seeds asks them for the whole catalogue at its start: here everybody has it.
            seeds: 0,
            start: Start::Converged,
            running: Who::all(),
            hold: Duration::from_secs(20),
            services: if plan.instances > 0 { vec![service] } else { Vec::new() },
        },
        links: LinkPlan {
            default: LinkSpec { loss: Some(plan.loss), ..LinkSpec::default() },
            between: Vec::new(),
        },
        timeline,
        expect: Vec::new(),
    }
}

/// Resident memory of this process; 0 where the system does not say.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kibibytes.unwrap_or_default() * 1_024.0
}
