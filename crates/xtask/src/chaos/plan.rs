//! What of a scenario can be played with real agents in namespaces.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use ringmesh_sim::scenario::{self, Fault, LinkSpec, Scenario, Start};

use super::net::HOSTS_MAX;

/// What chaos plays, for whoever wrote something else.
const PLAYS: &str = "crash, start, pause, split, one-way, loss, links with nothing but a loss, and heal";

/// Reads a scenario that is to be played with so many hosts.
pub(crate) fn read(path: &Path, nodes: usize) -> Result<Scenario> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| file.to_string())?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut scenario = scenario::parse(&name, &text).map_err(|mistakes| anyhow!("{mistakes}"))?;
    scenario.topology.nodes = nodes;
    scenario.topology.seeds = scenario.topology.seeds.min(nodes);
    let refusals = refusals(&scenario);
    if !refusals.is_empty() {
        bail!("{file} cannot be played with real agents:\n{}", refusals.join("\n"));
    }
    Ok(scenario)
}

/// Everything about a scenario that cannot be played.
fn refusals(scenario: &Scenario) -> Vec<String> {
    let topology = &scenario.topology;
    let mut refusals = Vec::new();
    let mut refuse = |is_refused: bool, why: String| {
        if is_refused {
            refusals.push(why);
        }
    };
    let is_possible = (2..=HOSTS_MAX).contains(&topology.nodes);
    refuse(!is_possible, format!("{} nodes: 2 to {HOSTS_MAX} are possible", topology.nodes));
    let is_cold = topology.start != Start::Converged;
    refuse(
        is_cold,
        "topology.start: must be \"converged\": the timeline begins when agents agree".to_owned(),
    );
    let has_services = !topology.services.is_empty();
    refuse(has_services, "topology.service: agents run without services".to_owned());
    let is_shaped = !is_loss_only(&scenario.links.default) || !scenario.links.between.is_empty();
    refuse(is_shaped, "links: loss is possible, and the same everywhere; nothing else is".to_owned());
    for step in &scenario.timeline {
        if let Some(fault) = unplayable(&step.fault) {
            refuse(true, format!("line {}: {fault} is not possible: {PLAYS} are", step.line));
        }
    }
    refusals
}

fn is_loss_only(spec: &LinkSpec) -> bool {
    let LinkSpec { latency, jitter, loss: _, duplication, reordering, bandwidth } = spec;
    latency.is_none()
        && jitter.is_none()
        && duplication.is_none()
        && reordering.is_none()
        && bandwidth.is_none()
}

/// What a fault is called if it cannot be played.
fn unplayable(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Crash { .. }
        | Fault::Start { .. }
        | Fault::Pause { .. }
        | Fault::Split { .. }
        | Fault::OneWay { .. }
        | Fault::Loss { .. }
        | Fault::Heal => None,
        Fault::Links { spec, .. } => (!is_loss_only(spec)).then_some("links with more than a loss"),
        Fault::Restart { .. } => Some("restart"),
        Fault::Roll { .. } => Some("roll"),
        Fault::Stop { .. } => Some("stop"),
        Fault::Leave { .. } => Some("leave"),
        Fault::Wipe { .. } => Some("wipe"),
        Fault::Slow { .. } => Some("slow"),
        Fault::Clock { .. } => Some("clock"),
        Fault::DiskFull { .. } => Some("disk-full"),
        Fault::Clash { .. } => Some("clash"),
        Fault::Lie { .. } => Some("lie"),
        Fault::ServiceDown { .. } => Some("service-down"),
        Fault::Flap { .. } => Some("flap"),
        Fault::ServiceSlow { .. } => Some("service-slow"),
        Fault::Churn { .. } => Some("churn"),
        Fault::Drain { .. } => Some("drain"),
        Fault::Register { .. } => Some("register"),
        Fault::Forget { .. } => Some("forget"),
        Fault::Newer { .. } => Some("newer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use ringmesh_sim::scenario::{LinkPlan, Step, Topology, Who};

    fn scenario(faults: Vec<Fault>) -> Scenario {
        let topology = Topology {
            nodes: 20,
            zones: vec!["a".to_owned()],
            seeds: 2,
            start: Start::Converged,
            running: Who::all(),
            hold: Duration::from_secs(20),
            services: Vec::new(),
        };
        let step = |(index, fault): (usize, Fault)| Step {
            at: Duration::ZERO,
            fault,
            label: None,
            line: 10 + index,
        };
        Scenario {
            name: "test".to_owned(),
            title: String::new(),
            about: String::new(),
            seeds: 1,
            duration: Duration::from_secs(60),
            topology,
            links: LinkPlan::default(),
            timeline: faults.into_iter().enumerate().map(step).collect(),
            expect: Vec::new(),
        }
    }

    #[test]
    fn what_cannot_be_played_is_named_with_its_line_and_what_can() {
        let lossy = LinkSpec { loss: Some(0.25), ..LinkSpec::default() };
        let far = LinkSpec { latency: Some(Duration::from_millis(20)), ..lossy.clone() };
        let faults = vec![
            Fault::Links { spec: lossy, length: None },
            Fault::Crash { who: Who::all() },
            Fault::Links { spec: far, length: None },
            Fault::Leave { who: Who::all() },
        ];
        let want = ["links with more than a loss", "leave"].map(str::to_owned);
        let refusals = refusals(&scenario(faults));
        let names: Vec<String> = refusals
            .iter()
            .filter_map(|refusal| {
                Some(refusal.split_once(": ")?.1.split_once(" is not possible")?.0.to_owned())
            })
            .collect();
        assert_eq!(names, want);
        assert!(
            refusals[1].starts_with("line 13: ") && refusals[1].ends_with("and heal are"),
            "{refusals:?}"
        );
    }

    #[test]
    fn every_setting_that_cannot_be_played_is_refused() {
        let mut wanted = scenario(Vec::new());
        assert!(refusals(&wanted).is_empty());
        wanted.topology.nodes = HOSTS_MAX + 1;
        wanted.topology.start = Start::Cold { within: Duration::from_secs(1) };
        wanted.links.default.jitter = Some(Duration::from_millis(1));
        assert_eq!(refusals(&wanted).len(), 3);
    }
}
