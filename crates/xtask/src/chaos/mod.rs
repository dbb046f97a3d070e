//! `cargo xtask chaos`: plays scenarios against real agents, in network namespaces of its own, and shows the simulator's
//! figures beside reality's. The very same files drive both.
//!
//! * [`plan`]: what of a scenario can be played so;
//! * [`net`]: namespaces, the bridge between them, and what gets lost on it;
//! * [`agents`]: the agents in them;
//! * [`play`]: a scenario, step by step;
//! * [`history`]: what agents noted, by one clock;
//! * [`figures`]: what is measured;
//! * [`simulated`], [`compare`]: the simulator's figures, and both side by side.

mod agents;
mod compare;
mod figures;
mod history;
mod net;
mod plan;
mod play;
mod simulated;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ringmesh_sim::scenario::Scenario;

use compare::Comparison;
use figures::{Samples, figures_of, measure};

use crate::stop::Stop;
use crate::{folder, namespace};

const USAGE: &str = "usage: cargo xtask chaos [--nodes 20] [--runs 3] [--json] [FILE…]";
/// What is played if nothing else is named.
const FILES: [&str; 3] = ["chaos-vm-dies", "chaos-loss-25", "chaos-zone-split"];

/// What somebody wants to be played.
#[derive(Debug, PartialEq, Eq)]
struct Wishes {
    nodes: usize,
    runs: u64,
    is_json: bool,
    files: Vec<PathBuf>,
}

impl Wishes {
    fn read(arguments: &[&str]) -> Result<Self> {
        let mut wishes = Self { nodes: 20, runs: 3, is_json: false, files: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let text = arguments.next().with_context(|| format!("{argument} wants a number\n{USAGE}"))?;
                let number = text.parse::<u32>().ok().filter(|number| *number > 0);
                number.with_context(|| format!("{argument} {text}: write a number above 0"))
            };
            match *argument {
                "--nodes" => wishes.nodes = usize::try_from(number()?)?,
                "--runs" => wishes.runs = u64::from(number()?),
                "--json" => wishes.is_json = true,
                option if option.starts_with('-') => bail!("{option} is no option\n{USAGE}"),
                file => wishes.files.push(file.into()),
            }
        }
        if wishes.files.is_empty() {
            wishes.files = FILES.iter().map(|name| format!("simulations/{name}.toml").into()).collect();
        }
        Ok(wishes)
    }
}

/// Plays what `arguments` name.
///
/// # Errors
/// If something cannot be played, an agent that was well was held Down, or a real median is too far from the simulated
/// one.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let wishes = Wishes::read(arguments)?;
    let scenarios: Vec<Scenario> =
        wishes.files.iter().map(|file| plan::read(file, wishes.nodes)).collect::<Result<_>>()?;
    namespace::check_machine()?;
    let program = crate::build_release()?;
    let simulated = simulate(&wishes, &scenarios, &program)?;
    let real = play_all(&wishes, &scenarios, &program)?;
    let both = simulated.iter().zip(&real);
    let comparisons: Vec<Comparison> = scenarios
        .iter()
        .zip(both)
        .flat_map(|(scenario, (simulated, real))| Comparison::all(&scenario.name, simulated, real))
        .collect();
    show(&wishes, &comparisons)
}

fn simulate(wishes: &Wishes, scenarios: &[Scenario], program: &Path) -> Result<Vec<Samples>> {
    let one = |(file, scenario): (&PathBuf, &Scenario)| {
        eprintln!("chaos: simulating {} with {} seeds", scenario.name, simulated::SEEDS);
        simulated::play(program, file, wishes.nodes, &figures_of(scenario))
    };
    wishes.files.iter().zip(scenarios).map(one).collect()
}

fn play_all(wishes: &Wishes, scenarios: &[Scenario], program: &Path) -> Result<Vec<Samples>> {
    let stop = Stop::arm()?;
    namespace::sweep()?;
    folder::sweep()?;
    let _room = net::Neighbours::make_room()?;
    let mut real = Vec::new();
    for scenario in scenarios {
        let mut samples = Samples::new();
        for run in 1..=wishes.runs {
            eprintln!("chaos: {}: run {run} of {}, {} agents", scenario.name, wishes.runs, wishes.nodes);
            let played = play::play(scenario, program, run, &stop)
                .with_context(|| format!("{}: run {run}", scenario.name))?;
            // Each side of a cut rightly holds the other to be gone.
            if played.cuts.is_empty() {
                let removed = played.history.removals(&played.observers);
                eprintln!("chaos:   unharmed agents held Down by each other: {removed}");
                if removed > 0 {
                    bail!(
                        "{}: run {run}: agents that were well were held Down {removed} times",
                        scenario.name
                    );
                }
            }
            for figure in figures_of(scenario) {
                let value = measure(figure, &played);
                eprintln!("chaos:   {}: {value:.3} s", figure.says());
                samples.entry(figure).or_default().push(value);
            }
        }
        real.push(samples);
    }
    Ok(real)
}

fn show(wishes: &Wishes, comparisons: &[Comparison]) -> Result<()> {
    if wishes.is_json {
        comparisons.iter().for_each(|compared| println!("{}", compared.json()));
    } else {
        compare::lines(comparisons).iter().for_each(|line| println!("{line}"));
    }
    let far = comparisons.iter().filter(|compared| !compared.is_close()).count();
    if far > 0 {
        let (least, most) = (compare::CLOSE.start(), compare::CLOSE.end());
        bail!("{far} of {} real medians are not {least} to {most} times the simulated", comparisons.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_what_is_none_is_refused() {
        let wishes = Wishes::read(&["--nodes", "5", "--json", "a.toml"]).expect("is read");
        assert_eq!(wishes, Wishes { nodes: 5, runs: 3, is_json: true, files: vec!["a.toml".into()] });
        assert_eq!(Wishes::read(&[]).expect("is read").files.len(), FILES.len());
        for wrong in [&["--runs"][..], &["--runs", "0"], &["--nodes", "many"], &["--fast"]] {
            assert!(Wishes::read(wrong).is_err(), "{wrong:?}");
        }
    }

    /// Whoever changes the format or the files is told here, without root.
    #[test]
    fn the_usual_files_can_be_played() {
        for name in FILES {
            let path = format!("{}/../../simulations/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let scenario = plan::read(Path::new(&path), 20).expect("can be played");
            assert!(!figures_of(&scenario).is_empty(), "{name}");
        }
    }
}
