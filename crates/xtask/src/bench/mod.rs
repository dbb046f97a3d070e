//! `cargo xtask bench gossip`: the mesh beside Serf (SWIM with Lifeguard), as both are shipped. Clusters of the same size
//! take turns, each alone in a network namespace, and go through the same [`round`].
//!
//! * [`systems`]: what a system must offer to be measured; [`serf`] and [`ours`] do;
//! * [`cluster`]: its agents, and what they say about each other;
//! * [`round`]: what is done to a cluster, and how long it takes;
//! * [`counters`]: what it costs meanwhile;
//! * [`figures`]: what is measured, for people and programs.
//!
//! `cargo xtask bench dns` is in [`dns`].

mod cluster;
mod counters;
mod dns;
mod figures;
mod lookup;
mod map;
mod ours;
mod round;
mod serf;
mod systems;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::namespace::Namespace;
use crate::stop::Stop;
use crate::tests::{install, is_there};
use crate::{folder, namespace};
use figures::Samples;
use round::Course;
use systems::System;

const USAGE: &str = "usage: cargo xtask bench gossip [OPTION…]

  --nodes 50     agents in a cluster
  --rounds 3     clusters of each system, in turn
  --kills 4      agents that die in a round: killed (SIGKILL) and cut off (nftables) in turn
  --changes 10   changes that are spread in a round
  --steady 30    seconds without any change, over which costs are measured
  --binary PATH  the ringmesh to measure, instead of building the one that is installed (profile dist)
  --json         an object for each system, a line each";
/// Programs that are needed, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 3] = [("serf", "serf"), ("ip", "iproute2"), ("nft", "nftables")];
/// Fewer are no mesh: one is killed, and the seed is not.
const NODES_MIN: usize = 3;
/// Addresses of agents differ in the last byte.
const NODES_MAX: usize = 250;

/// What somebody wants to be measured.
#[derive(Debug, PartialEq, Eq)]
struct Wishes {
    course: Course,
    rounds: u64,
    binary: Option<PathBuf>,
    is_json: bool,
}

impl Wishes {
    fn read(arguments: &[&str]) -> Result<Self> {
        let course = Course { nodes: 50, kills: 4, changes: 10, steady_s: 30 };
        let mut wishes = Self { course, rounds: 3, binary: None, is_json: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} wants a value\n{USAGE}"));
            let number = |text: &str| {
                let number = text.parse::<u32>().ok().filter(|number| *number > 0);
                number.with_context(|| format!("{argument} {text}: write a number above 0"))
            };
            match *argument {
                "--nodes" => wishes.course.nodes = usize::try_from(number(value()?)?)?,
                "--rounds" => wishes.rounds = u64::from(number(value()?)?),
                "--kills" => wishes.course.kills = number(value()?)?,
                "--changes" => wishes.course.changes = number(value()?)?,
                "--steady" => wishes.course.steady_s = number(value()?)?,
                "--binary" => wishes.binary = Some(value()?.into()),
                "--json" => wishes.is_json = true,
                other => bail!("{other} is no option\n{USAGE}"),
            }
        }
        let nodes = wishes.course.nodes;
        if !(NODES_MIN..=NODES_MAX).contains(&nodes) {
            bail!("--nodes {nodes}: {NODES_MIN} to {NODES_MAX} are possible");
        }
        Ok(wishes)
    }
}

/// Measures what `arguments` name.
///
/// # Errors
/// If something is missing on this machine, or an agent ends that was not killed.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["gossip", options @ ..] => run_gossip(options),
        ["dns", options @ ..] => dns::run(options),
        ["map", options @ ..] => map::run(options),
        ["lookup", options @ ..] => lookup::run(options),
        // What `bench lookup` and `bench dns` start of this program.
        ["lookup-bare", rest @ ..] => lookup::serve(rest),
        ["dns-echo", rest @ ..] => dns::echo::run(rest),
        ["dns-load", rest @ ..] => dns::load::run(rest),
        _ => bail!("usage: cargo xtask bench gossip | dns | map | lookup [OPTION…]"),
    }
}

fn run_gossip(options: &[&str]) -> Result<()> {
    let wishes = Wishes::read(options)?;
    check_machine()?;
    let program = wishes.binary.clone().map_or_else(crate::build_dist, Ok)?;
    let program = program
        .canonicalize()
        .with_context(|| format!("{} cannot be measured: give --binary a program", program.display()))?;
    let stop = Stop::arm()?;
    namespace::sweep()?;
    folder::sweep()?;
    let (mut theirs, mut ours) = (Samples::new(), Samples::new());
    for round in 1..=wishes.rounds {
        measure(&mut theirs, &serf::Serf, &wishes.course, round, &stop)?;
        let ringmesh = ours::Ringmesh::new(&program, wishes.course.nodes)?;
        measure(&mut ours, &ringmesh, &wishes.course, round, &stop)?;
    }
    show(&wishes, &theirs, &ours);
    Ok(())
}

/// Installs what is missing, and says what still is.
fn check_machine() -> Result<()> {
    install(&PROGRAMS).context(
        "what is missing cannot be installed: install the packages serf, iproute2 and nftables first",
    )?;
    namespace::check_machine()?;
    if !is_there("serf") {
        bail!(
            "serf is not on this machine: install the package serf of Debian, or put the program into PATH"
        );
    }
    Ok(())
}

/// Plays one round of one system.
fn measure(
    samples: &mut Samples,
    system: &dyn System,
    course: &Course,
    round: u64,
    stop: &Stop,
) -> Result<()> {
    eprintln!("bench: round {round}: {}, {} agents", system.name(), course.nodes);
    let namespace = Namespace::new("bench")?;
    let played = namespace.within(|| round::play(system, course, round, stop));
    let played = played.with_context(|| format!("{}: round {round}", system.name()))?;
    for (figure, values) in played {
        samples.entry(figure).or_default().extend(values);
    }
    Ok(())
}

fn show(wishes: &Wishes, theirs: &Samples, ours: &Samples) {
    if wishes.is_json {
        for (system, samples) in [(serf::NAME, theirs), (ours::NAME, ours)] {
            println!("{}", figures::json(system, wishes.course.nodes, samples));
        }
    } else {
        figures::lines(theirs, ours).iter().for_each(|line| println!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_what_is_none_is_refused() {
        let wishes = Wishes::read(&["--nodes", "5", "--steady", "7", "--json"]).expect("is read");
        let course = Course { nodes: 5, kills: 4, changes: 10, steady_s: 7 };
        assert_eq!(wishes, Wishes { course, rounds: 3, binary: None, is_json: true });
        for wrong in [&["--kills"][..], &["--kills", "0"], &["--nodes", "2"], &["--nodes", "251"], &["fast"]]
        {
            assert!(Wishes::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
