//! Which hosts a scenario names, and whether they exist.

use super::who::{Term, Who};
use super::{Fault, Scenario, That};

/// Hosts at most: those that the protocol is made for.
pub(super) const NODES_MAX: usize = ringmesh_types::limits::MEMBERS_MAX;

/// The scenario with another number of hosts. It has as many seeds as before, if there are as many hosts.
///
/// # Errors
/// Names the first host that does not exist then.
pub fn with_nodes(scenario: &Scenario, nodes: usize) -> Result<Scenario, String> {
    if !(1..=NODES_MAX).contains(&nodes) {
        return Err(format!("{nodes} nodes are not allowed: 1 to {NODES_MAX}"));
    }
    for who in named_by(scenario) {
        for (_, term) in who.terms() {
            check_term(term, nodes)?;
        }
    }
    let mut scenario = scenario.clone();
    scenario.topology.nodes = nodes;
    scenario.topology.seeds = scenario.topology.seeds.min(nodes);
    Ok(scenario)
}

/// Whether there are the hosts that a term asks for.
pub(super) fn check_term(term: &Term, nodes: usize) -> Result<(), String> {
    let missing = match term {
        Term::Node(host) => Some(host).filter(|host| **host >= nodes),
        Term::Range(first, last) => [first, last].into_iter().find(|host| **host >= nodes),
        Term::Random(count) if *count > nodes => {
            return Err(format!("random {count} is more than there are: {}", there_are(nodes)));
        }
        Term::All | Term::Seeds | Term::Zone(_) | Term::Random(_) | Term::Share(_) | Term::Label(_) => None,
    };
    match missing {
        Some(host) => Err(format!("node-{host} does not exist: {}", there_are(nodes))),
        None => Ok(()),
    }
}

fn there_are(nodes: usize) -> String {
    match nodes.saturating_sub(1) {
        0 => "there is node-0 only".to_owned(),
        last => format!("there are node-0 to node-{last}"),
    }
}

fn named_by(scenario: &Scenario) -> impl Iterator<Item = &Who> {
    let services = scenario.topology.services.iter().map(|service| &service.on);
    let steps = scenario.timeline.iter().flat_map(|step| named_by_fault(&step.fault));
    let expected = scenario.expect.iter().flat_map(|expectation| named_by_that(&expectation.that));
    core::iter::once(&scenario.topology.running).chain(services).chain(steps).chain(expected)
}

/// The hosts that a fault is done to, or between.
pub(super) fn named_by_fault(fault: &Fault) -> Vec<&Who> {
    match fault {
        Fault::Crash { who }
        | Fault::Start { who }
        | Fault::Restart { who, .. }
        | Fault::Roll { who, .. }
        | Fault::Stop { who }
        | Fault::Leave { who }
        | Fault::Wipe { who }
        | Fault::Pause { who, .. }
        | Fault::Slow { who, .. }
        | Fault::Clock { who, .. }
        | Fault::DiskFull { who, .. }
        | Fault::Split { who, .. }
        | Fault::Loss { who, .. }
        | Fault::ServiceDown { who, .. }
        | Fault::Flap { who, .. }
        | Fault::ServiceSlow { who, .. }
        | Fault::Drain { who, .. }
        | Fault::Register { who, .. }
        | Fault::Forget { who }
        | Fault::Newer { who } => vec![who],
        Fault::Lie { who, about, .. } => core::iter::once(who).chain(about).collect(),
        Fault::Clash { who: first, with: second } | Fault::OneWay { from: first, to: second, .. } => {
            vec![first, second]
        }
        Fault::Links { .. } | Fault::Churn { .. } | Fault::Heal => Vec::new(),
    }
}

fn named_by_that(that: &That) -> Vec<&Who> {
    match that {
        That::NotServed { who, asked, .. } => vec![who, asked],
        That::Served { who, .. } | That::Seen { who, .. } | That::NeverRemoved { who } => vec![who],
        That::Converged { .. }
        | That::Delivered { .. }
        | That::NeverEmpty { .. }
        | That::Detected { .. }
        | That::Disseminated { .. }
        | That::WrongSeconds { .. }
        | That::WrongShare { .. }
        | That::FalsePositives { .. }
        | That::Changes { .. }
        | That::ViewEvents { .. }
        | That::Traffic { .. }
        | That::NoGhost { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    #[test]
    fn a_scenario_fits_fewer_hosts_as_long_as_the_named_exist() {
        let text = "title = \"t\"\nabout = \"a\"\nduration = \"60s\"\n[topology]\nnodes = 50\nseeds = 3\n\
                    [[timeline]]\nat = \"1s\"\nfault = \"one-way\"\nfrom = \"node-7\"\nto = \"node-3..node-5\"\n\
                    [[timeline]]\nat = \"2s\"\nfault = \"crash\"\nwho = \"node-1, random 6\"\n";
        let scenario = parse("x", text).expect("valid");
        let missing = |nodes| with_nodes(&scenario, nodes).expect_err("too few or too many");
        assert_eq!(missing(7), "node-7 does not exist: there are node-0 to node-6");
        assert_eq!(missing(1), "node-7 does not exist: there is node-0 only");
        assert_eq!(missing(0), "0 nodes are not allowed: 1 to 20000");
        assert_eq!(missing(20_001), "20001 nodes are not allowed: 1 to 20000");

        let fewer = with_nodes(&scenario, 8).expect("node-7 is there");
        assert_eq!((fewer.topology.nodes, fewer.topology.seeds), (8, 3));
        assert_eq!(fewer.timeline, scenario.timeline);
    }

    #[test]
    fn seeds_are_no_more_than_hosts() {
        let text = "title = \"t\"\nabout = \"a\"\nduration = \"60s\"\n[topology]\nnodes = 50\nseeds = 3\n";
        let scenario = parse("x", text).expect("valid");
        assert_eq!(with_nodes(&scenario, 2).map(|scenario| scenario.topology.seeds), Ok(2));
    }
}
