//! `ringmesh sim swarm`: random worlds with random faults; each is its seed.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, value_parser};
use ringmesh_sim::swarm::{SwarmOutcome, swarm};
use serde_json::{Value, json};

use super::interrupt;
use super::pool::{self, Ended};
use super::{count, is_coloured, jobs_or_cores, speed, verdict};
use crate::progress::{Form, Progress, bar};
use crate::table::print_line;
use crate::{Failure, Outcome};

/// After so many failures no further seed begins, unless told otherwise.
const FAILURES_MAX: u64 = 5;

/// Which worlds to play.
#[derive(Debug, Args)]
pub(crate) struct SwarmArgs {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    seeds: u32,
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    from: u64,
    /// Print one JSON object for each seed, a line each.
    #[arg(long)]
    json: bool,
    /// Do so many runs side by side; default one on each core.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_024))]
    jobs: Option<u32>,
    /// Go on after five failures.
    #[arg(long)]
    keep_going: bool,
    /// Print what happened in each run, line by line.
    #[arg(long, conflicts_with = "json")]
    transcript: bool,
}

/// What came of the seeds so far.
#[derive(Default)]
struct Tally {
    ended: AtomicU64,
    failed: AtomicU64,
    virtual_millis: AtomicU64,
}

pub(crate) fn run(args: &SwarmArgs) -> Outcome {
    if args.from.checked_add(u64::from(args.seeds)).is_none() {
        return Err(Failure::usage(format!("--from {}: there are not so many seeds after it", args.from)));
    }
    let begun = Instant::now();
    let tally = Arc::new(Tally::default());
    let (drawn, seeds) = (Arc::clone(&tally), args.seeds);
    let progress = Progress::start(Form::of(args.json), move || Some(drawn.line(seeds, begun)));
    let seed_of = |index: usize| args.from + index as u64;
    let work = |_worker: usize, index: usize| swarm(seed_of(index));
    pool::in_order(args.seeds as usize, jobs_or_cores(args.jobs), work, |index, ended| {
        let outcome = outcome_of(seed_of(index), ended);
        let failed = tally.add(&outcome);
        progress.step_aside(|| print(args, &outcome));
        if failed < FAILURES_MAX || args.keep_going {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    drop(progress);
    conclude(args, &tally, begun)
}

/// The last words.
fn conclude(args: &SwarmArgs, tally: &Tally, begun: Instant) -> Outcome {
    let [ended, failed, millis] = tally.numbers();
    let wall_s = begun.elapsed().as_secs_f64();
    let virtual_s = millis as f64 / 1e3;
    let speed = speed(virtual_s, wall_s);
    let seeds = count(ended as usize, "seed");
    let line = format!("{seeds}, {failed} failed: {virtual_s:.0} s in {wall_s:.1} s, {speed}");
    match Form::of(args.json) {
        Form::Text => print_line(&line),
        // On standard output every line is a seed.
        Form::Json => eprintln!("{line}"),
    }
    if interrupt::is_asked() {
        let says = format!("interrupted after {ended} of {}", count(args.seeds as usize, "seed"));
        return Err(Failure { code: interrupt::EXIT_CODE, says });
    }
    if failed == 0 {
        return Ok(());
    }
    let is_cut_short = ended < u64::from(args.seeds);
    let hint = if is_cut_short { "; nothing more was begun, which --keep-going would change" } else { "" };
    Err(Failure::refused(format!("{failed} of {seeds} failed{hint}")))
}

impl Tally {
    /// Takes one more in; gives how many have failed.
    fn add(&self, outcome: &SwarmOutcome) -> u64 {
        let is_failed = u64::from(outcome.failure.is_some());
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.virtual_millis.fetch_add((outcome.virtual_s * 1e3) as u64, Ordering::Relaxed);
        self.failed.fetch_add(is_failed, Ordering::Relaxed) + is_failed
    }

    fn numbers(&self) -> [u64; 3] {
        [&self.ended, &self.failed, &self.virtual_millis].map(|number| number.load(Ordering::Relaxed))
    }

    fn line(&self, seeds: u32, begun: Instant) -> String {
        let [ended, failed, millis] = self.numbers();
        let speed = speed(millis as f64 / 1e3, begun.elapsed().as_secs_f64());
        let bar = bar(ended as f64 / f64::from(seeds));
        format!("swarm  {ended}/{seeds} seeds  {bar} {failed} failed  {speed}")
    }
}

/// What came of a seed, also if it did not come to its end.
fn outcome_of(seed: u64, ended: Ended<SwarmOutcome>) -> SwarmOutcome {
    ended.result.unwrap_or_else(|says| SwarmOutcome {
        seed,
        options: "not known, because of the panic".to_owned(),
        trace_hash: 0,
        virtual_s: 0.0,
        failure: Some(format!("the run panicked: {says}")),
        metrics: Default::default(),
        transcript: Vec::new(),
    })
}

fn print(args: &SwarmArgs, outcome: &SwarmOutcome) {
    if args.json {
        print_line(&as_json(outcome).to_string());
        return;
    }
    if let Some(failure) = &outcome.failure {
        let seed = outcome.seed;
        print_line(&format!("{}  seed {seed}: {failure}", verdict(false, is_coloured())));
        print_line(&format!("    options: {}", outcome.options));
        print_line(&format!("    again: ringmesh sim swarm --from {seed} --seeds 1"));
    }
    if args.transcript {
        outcome.transcript.iter().for_each(|line| print_line(line));
    }
}

fn as_json(outcome: &SwarmOutcome) -> Value {
    json!({
        "seed": outcome.seed,
        "passed": outcome.failure.is_none(),
        "trace_hash": format!("{:016x}", outcome.trace_hash),
        "virtual_s": outcome.virtual_s,
        "options": outcome.options,
        "failure": outcome.failure,
        "metrics": outcome.metrics,
    })
}
