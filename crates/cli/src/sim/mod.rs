//! `ringmesh sim`: the real protocol on virtual time, for whoever wants to know before it happens.
//!
//! What a run does is decided in `ringmesh-sim`. Here runs are chosen, spread over the cores and shown.

mod bench;
mod board;
mod files;
mod interrupt;
mod list;
mod pool;
mod report_file;
mod run;
mod summary;
mod swarm;

use core::num::NonZero;
use std::io::{IsTerminal as _, stdout};

use clap::Subcommand;

use crate::Outcome;
use crate::table::may_colour;

/// What to simulate.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// List the scenarios of a folder, and the mistakes in those that are broken.
    List(list::ListArgs),
    /// Play scenarios and say whether everything that they expect came.
    Run(run::RunArgs),
    /// Play random worlds with random faults, one for each seed.
    Swarm(swarm::SwarmArgs),
    /// Measure how fast a large mesh is simulated and what it costs.
    Bench(bench::BenchArgs),
}

/// Does it, on this thread and some of its own.
pub(crate) fn run(command: SimCommand) -> Outcome {
    match command {
        SimCommand::List(args) => list::run(&args),
        SimCommand::Run(args) => {
            interrupt::listen();
            run::run(&args)
        }
        SimCommand::Swarm(args) => {
            interrupt::listen();
            swarm::run(&args)
        }
        SimCommand::Bench(args) => bench::run(&args),
    }
}

/// Whether standard output may have colours.
fn is_coloured() -> bool {
    may_colour(stdout().is_terminal())
}

/// `ok` or `FAILED`, equally wide.
fn verdict(is_passed: bool, is_coloured: bool) -> String {
    let (word, code) = if is_passed { ("ok    ", "32") } else { ("FAILED", "31") };
    if is_coloured { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}

/// How many runs go side by side: as told, or one on each core.
fn jobs_or_cores(jobs: Option<u32>) -> usize {
    match jobs {
        Some(jobs) => jobs as usize,
        None => std::thread::available_parallelism().map_or(1, NonZero::get),
    }
}

/// `1 seed`, `2 seeds`.
fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// How many virtual seconds pass in one, with as many digits as say something.
fn speed(virtual_s: f64, wall_s: f64) -> String {
    let speed = virtual_s / wall_s.max(f64::MIN_POSITIVE);
    let digits = if speed < 10.0 { 2 } else { 0 };
    format!("×{speed:.digits$}")
}
