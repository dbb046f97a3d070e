//! Which world and which faults a seed stands for.

use core::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenario::{
    Direction, Fault, Lie, LinkPlan, LinkSpec, Scenario, ServicePlan, Start, Step, Topology, Who,
};

const SERVICES: [&str; 3] = ["sip", "media", "limiter"];

/// The scenario of a seed.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed ^ 0x0005_eed0_f5a3_1337));
    let nodes = dice.between(3, 16);
    let zones = dice.between(1, 4).min(nodes);
    let length = dice.seconds(20.0, 90.0);
    let topology = topology(&mut dice, nodes, zones);
    let links = links(&mut dice, &topology.zones);
    let faults = dice.between(1, 9);
    let mut timeline: Vec<Step> = (0..faults)
        .map(|index| Step {
            at: dice.seconds(1.0, length.as_secs_f64() - 2.0),
            fault: fault(&mut dice, nodes),
            label: None,
            line: index + 1,
        })
        .collect();
    timeline.sort_by_key(|step| step.at);
    Scenario {
        name: format!("swarm-{seed}"),
        title: String::new(),
        about: String::new(),
        seeds: 1,
        duration: length,
        topology,
        links,
        timeline,
        expect: Vec::new(),
    }
}

/// What was drawn, in words.
pub(crate) fn describe(scenario: &Scenario) -> String {
    let topology = &scenario.topology;
    let start = match topology.start {
        Start::Cold { within } => format!("cold within {:.1} s", within.as_secs_f64()),
        Start::Converged => "converged".to_owned(),
    };
    let steps: Vec<String> = scenario
        .timeline
        .iter()
        .map(|step| format!("{:.1} s {:?}", step.at.as_secs_f64(), step.fault))
        .collect();
    format!(
        "{} nodes in {} zones, {} seeds, {start}, hold {:.0} s, loss {:.1} %; {}",
        topology.nodes,
        topology.zones.len(),
        topology.seeds,
        topology.hold.as_secs_f64(),
        scenario.links.default.loss.unwrap_or_default() * 100.0,
        steps.join("; ")
    )
}

struct Dice(ChaCha8Rng);

impl Dice {
    fn between(&mut self, least: usize, most: usize) -> usize {
        self.0.random_range(least..=most)
    }

    fn real(&mut self, least: f64, most: f64) -> f64 {
        self.0.random_range(least..=most)
    }

    /// Whole milliseconds between two bounds in seconds.
    fn seconds(&mut self, least: f64, most: f64) -> Duration {
        Duration::from_millis((self.real(least, most) * 1_000.0) as u64)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.0.random_bool(share)
    }

    fn maybe_seconds(&mut self, least: f64, most: f64) -> Option<Duration> {
        self.chance(0.7).then(|| self.seconds(least, most))
    }

    fn service(&mut self) -> String {
        SERVICES[self.between(0, SERVICES.len() - 1)].to_owned()
    }

    /// One host mostly, sometimes several.
    fn who(&mut self, nodes: usize) -> Who {
        let count = if self.chance(0.6) { 1 } else { self.between(1, nodes.div_ceil(2)) };
        Who::parse(&format!("random {count}")).expect("a selector of this form")
    }

    fn one(&mut self, nodes: usize) -> Who {
        Who::parse(&format!("node-{}", self.between(0, nodes - 1))).expect("a selector of this form")
    }
}

fn topology(dice: &mut Dice, nodes: usize, zones: usize) -> Topology {
    let service = |dice: &mut Dice, name: &str| ServicePlan {
        name: name.to_owned(),
        on: dice.who(nodes),
        instances: dice.between(1, 3),
        check_every: dice.chance(0.8).then(|| dice.seconds(0.3, 2.0)),
        has_map: nodes.is_multiple_of(2),
    };
    Topology {
        nodes,
        zones: (0..zones).map(|zone| format!("zone-{zone}")).collect(),
        seeds: dice.between(1, 3).min(nodes),
        start: if dice.chance(0.5) {
            Start::Converged
        } else {
            Start::Cold { within: dice.seconds(0.0, 10.0) }
        },
        running: Who::all(),
        hold: dice.seconds(3.0, 25.0),
        services: SERVICES.iter().map(|name| service(dice, name)).collect(),
    }
}

fn links(dice: &mut Dice, zones: &[String]) -> LinkPlan {
    let spec = |dice: &mut Dice, far: f64| LinkSpec {
        latency: Some(Duration::from_micros((dice.real(0.1, far) * 1_000.0) as u64)),
        jitter: Some(Duration::from_micros((dice.real(0.0, far) * 1_000.0) as u64)),
        loss: Some(if dice.chance(0.5) { 0.0 } else { dice.real(0.0, 0.2) }),
        duplication: Some(if dice.chance(0.5) { 0.0 } else { dice.real(0.0, 0.1) }),
        reordering: Some(if dice.chance(0.5) { 0.0 } else { dice.real(0.0, 0.2) }),
        bandwidth: dice.chance(0.2).then(|| 1_000_000 * dice.between(1, 100) as u64),
    };
    let mut between = Vec::new();
    for (index, one) in zones.iter().enumerate() {
        for other in &zones[index + 1..] {
            if dice.chance(0.5) {
                between.push((one.clone(), other.clone(), spec(dice, 60.0)));
            }
        }
    }
    LinkPlan { default: spec(dice, 3.0), between }
}

fn fault(dice: &mut Dice, nodes: usize) -> Fault {
    let who = dice.who(nodes);
    match dice.between(0, 21) {
        0 | 1 => Fault::Crash { who },
        2 => Fault::Start { who: Who::all() },
        3 | 4 => Fault::Restart { who, down: dice.seconds(0.0, 30.0) },
        5 => Fault::Roll { who, down: dice.seconds(0.2, 5.0), every: dice.seconds(0.5, 8.0) },
        6 => Fault::Stop { who: dice.one(nodes) },
        7 => Fault::Leave { who: dice.one(nodes) },
        8 => Fault::Pause { who, length: dice.seconds(0.1, 20.0) },
        9 => Fault::Slow {
            who,
            hold: dice.seconds(0.1, 20.0),
            free: dice.seconds(0.001, 2.0),
            length: dice.maybe_seconds(1.0, 40.0),
        },
        10 => {
            let by = if dice.chance(0.2) { 365 * 86_400 } else { dice.between(1, 3_000) as u64 };
            Fault::Clock { who: dice.one(nodes), by: Duration::from_secs(by), back: dice.chance(0.5) }
        }
        11 => Fault::DiskFull { who, length: dice.maybe_seconds(1.0, 60.0) },
        12 => {
            let lies = [Lie::Accuse, Lie::Forge, Lie::ForgeLeave, Lie::Replay];
            let lie = lies[dice.between(0, lies.len() - 1)];
            Fault::Lie { who: dice.one(nodes), about: None, lie, length: dice.maybe_seconds(1.0, 40.0) }
        }
        13 | 14 => Fault::Split { who, length: dice.maybe_seconds(0.5, 60.0) },
        15 => Fault::OneWay { from: who, to: dice.who(nodes), length: dice.maybe_seconds(0.5, 60.0) },
        16 => {
            let directions = [Direction::In, Direction::Out, Direction::Both];
            Fault::Loss {
                who,
                share: dice.real(0.05, 0.95),
                direction: directions[dice.between(0, 2)],
                length: dice.maybe_seconds(1.0, 60.0),
            }
        }
        17 => Fault::ServiceDown { service: dice.service(), who, length: dice.maybe_seconds(0.5, 30.0) },
        18 => Fault::Flap {
            service: dice.service(),
            who,
            up: dice.seconds(0.2, 5.0),
            down: dice.seconds(0.2, 5.0),
            length: dice.maybe_seconds(5.0, 60.0),
        },
        19 => Fault::Drain { who, length: dice.maybe_seconds(0.5, 30.0) },
        20 => Fault::Register {
            service: dice.service(),
            who,
            per_second: dice.real(0.2, 20.0),
            length: dice.seconds(0.5, 5.0),
        },
        _ => Fault::Newer { who: dice.one(nodes) },
    }
}
