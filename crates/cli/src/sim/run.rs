//! `ringmesh sim run`: plays scenarios with their seeds and says whether everything came as expected.

use core::ops::ControlFlow;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, value_parser};
use ringmesh_sim::outcome::{Failure as PlayFailure, Outcome as Played};
use ringmesh_sim::play::{Options, play};
use ringmesh_sim::report;
use ringmesh_sim::scenario::{Scenario, with_nodes};
use serde_json::{Value, json};

use super::board::{Board, Label};
use super::files::{self, ScenarioFile};
use super::interrupt;
use super::pool::{self, Ended};
use super::report_file::ReportFile;
use super::summary::{Look, Summary};
use super::{count, is_coloured, jobs_or_cores, speed};
use crate::progress::{Form, Progress};
use crate::table::print_line;
use crate::{Failure, Outcome};

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Scenario files, folders with such files, or names of scenarios in the folder "simulations".
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Play this seed only.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play the seeds 1 to N, whatever the files say.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    seeds: Option<u32>,
    /// Play with so many nodes, whatever the files say.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=20_000))]
    nodes: Option<u32>,
    /// Print one JSON object for each run, a line each.
    #[arg(long)]
    json: bool,
    /// Write a page with figures and curves for a browser.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Do so many runs side by side; default one on each core.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_024))]
    jobs: Option<u32>,
    /// Print what happened in the run, line by line; for one seed.
    #[arg(long)]
    transcript: bool,
}

/// One run to do.
#[derive(Clone, Copy)]
struct Play {
    file: usize,
    seed: u64,
}

pub(crate) fn run(args: &RunArgs) -> Outcome {
    let files = files::read_all(&args.files)?;
    let plays = plays(&files, args);
    if args.transcript && plays.windows(2).any(|two| two[0].file == two[1].file) {
        return Err(Failure::usage("--transcript is for one seed: choose it with --seed"));
    }
    let report_file = args.report.as_deref().map(ReportFile::create).transpose()?;
    let begun = Instant::now();
    let told = play_all(args, &files, &plays);
    if let Some(refused) = told.refused {
        return Err(refused);
    }
    if !args.json {
        print_line(&told.total.line(files.len(), begun.elapsed()));
    }
    if interrupt::is_asked() {
        let says = format!("interrupted after {} of {}", told.total.runs, count(plays.len(), "run"));
        return Err(Failure { code: interrupt::EXIT_CODE, says });
    }
    if let Some((file, path)) = report_file.zip(args.report.as_ref()) {
        // Played with another number of nodes, a scenario is another one.
        let as_played = |scenario: Scenario| match args.nodes {
            Some(nodes) => with_nodes(&scenario, nodes as usize).unwrap_or(scenario),
            None => scenario,
        };
        let scenarios = files.into_iter().map(|file| as_played(file.scenario));
        file.write(&report::page(&scenarios.zip(told.kept).collect::<Vec<_>>()))?;
        if !args.json {
            print_line(&format!("report: {}", path.display()));
        }
    }
    match told.total.failed {
        0 => Ok(()),
        failed => Err(Failure::refused(format!("{failed} of {} failed", count(told.total.runs, "run")))),
    }
}

fn plays(files: &[ScenarioFile], args: &RunArgs) -> Vec<Play> {
    let mut plays = Vec::new();
    for (file, ScenarioFile { scenario, .. }) in files.iter().enumerate() {
        let seeds = match args.seed {
            Some(seed) => seed..=seed,
            None => 1..=u64::from(args.seeds.unwrap_or(scenario.seeds)),
        };
        plays.extend(seeds.map(|seed| Play { file, seed }));
    }
    plays
}

fn play_all(args: &RunArgs, files: &[ScenarioFile], plays: &[Play]) -> Told {
    let jobs = jobs_or_cores(args.jobs).min(plays.len());
    let board = Arc::new(Board::new(labels(args, files, plays), jobs));
    let drawn = Arc::clone(&board);
    let progress = Progress::start(Form::of(args.json), move || drawn.line());
    let nodes = args.nodes.map(|nodes| nodes as usize);
    let work = |worker: usize, index: usize| {
        let Play { file, seed } = plays[index];
        let seat = board.sit(worker, index);
        play(&files[file].scenario, Options { seed, nodes }, &mut |at| seat.is_at(at))
    };
    let mut teller = Teller::new(args, files, plays, &progress);
    pool::in_order(plays.len(), jobs, work, |index, ended| teller.take(index, ended));
    teller.close();
    teller.told
}

fn labels(args: &RunArgs, files: &[ScenarioFile], plays: &[Play]) -> Vec<Label> {
    let label = |play: &Play| {
        let scenario = &files[play.file].scenario;
        let seed = match args.seed {
            Some(seed) => format!("seed {seed}"),
            None => format!("seed {}/{}", play.seed, args.seeds.unwrap_or(scenario.seeds)),
        };
        Label { scenario: scenario.name.clone(), seed, virtual_s: scenario.duration.as_secs_f64() }
    };
    plays.iter().map(label).collect()
}

/// Says what came of the runs, one after the other.
struct Teller<'a> {
    args: &'a RunArgs,
    files: &'a [ScenarioFile],
    plays: &'a [Play],
    progress: &'a Progress,
    look: Look,
    /// Of the file whose runs come in now, if some came.
    open: Option<(usize, Summary)>,
    told: Told,
}

/// What is left to say at the end.
struct Told {
    total: Total,
    /// The runs of each file, if a report is wanted.
    kept: Vec<Vec<Played>>,
    /// Why nothing more is played.
    refused: Option<Failure>,
}

#[derive(Default)]
struct Total {
    runs: usize,
    failed: usize,
    virtual_s: f64,
}

impl<'a> Teller<'a> {
    fn new(args: &'a RunArgs, files: &'a [ScenarioFile], plays: &'a [Play], progress: &'a Progress) -> Self {
        let names = files.iter().map(|file| file.scenario.name.chars().count());
        let look = Look {
            name_width: names.max().unwrap_or(0),
            is_coloured: is_coloured(),
            replay_with: args.nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default(),
        };
        let kept = files.iter().map(|_| Vec::new()).collect();
        let told = Told { total: Total::default(), kept, refused: None };
        Self { args, files, plays, progress, look, open: None, told }
    }

    /// Takes the next run, in the order of the plays.
    fn take(&mut self, index: usize, ended: Ended<Result<Played, String>>) -> ControlFlow<()> {
        if self.told.refused.is_some() {
            return ControlFlow::Break(());
        }
        let play = self.plays[index];
        let file = &self.files[play.file];
        let played = match ended.result {
            Ok(Ok(played)) => played,
            Ok(Err(why)) => {
                let with = self.args.nodes.map(|nodes| format!("with --nodes {nodes} ")).unwrap_or_default();
                self.told.refused = Some(Failure::usage(format!("{}: {with}{why}", file.path.display())));
                return ControlFlow::Break(());
            }
            Err(says) => panicked(file, play.seed, &says),
        };
        self.told.total.add(&played);
        self.open.get_or_insert_with(|| (play.file, Summary::default())).1.add(&played, ended.wall);
        if self.args.json {
            let line = as_json(&played, ended.wall, self.args.transcript).to_string();
            self.progress.step_aside(|| print_line(&line));
        } else if self.plays.get(index + 1).is_none_or(|next| next.file != play.file) {
            self.close();
        }
        if self.args.transcript && !self.args.json {
            self.progress.step_aside(|| played.transcript.iter().for_each(|line| print_line(line)));
        }
        if self.args.report.is_some() {
            self.told.kept[play.file].push(played);
        }
        ControlFlow::Continue(())
    }

    /// Tells people of the file whose runs came in.
    fn close(&mut self) {
        if let Some((file, summary)) = self.open.take().filter(|_| !self.args.json) {
            let lines = summary.lines(&self.files[file], &self.look);
            self.progress.step_aside(|| lines.iter().for_each(|line| print_line(line)));
        }
    }
}

impl Total {
    fn add(&mut self, played: &Played) {
        self.runs += 1;
        self.failed += usize::from(!played.is_passed());
        self.virtual_s += played.virtual_s;
    }

    fn line(&self, files: usize, wall: Duration) -> String {
        let (scenarios, runs) = (count(files, "scenario"), count(self.runs, "run"));
        let wall_s = wall.as_secs_f64();
        let speed = speed(self.virtual_s, wall_s);
        let (failed, virtual_s) = (self.failed, self.virtual_s);
        format!("{scenarios}, {runs}, {failed} failed: {virtual_s:.0} s in {wall_s:.1} s, {speed}")
    }
}

/// A run that did not come to its end.
fn panicked(file: &ScenarioFile, seed: u64, says: &str) -> Played {
    Played {
        scenario: file.scenario.name.clone(),
        seed,
        failures: vec![PlayFailure { line: None, says: format!("the run panicked: {says}") }],
        ..Played::default()
    }
}

fn as_json(played: &Played, wall: Duration, with_transcript: bool) -> Value {
    let failures: Vec<Value> =
        played.failures.iter().map(|failure| json!({ "line": failure.line, "says": failure.says })).collect();
    let bounds: Vec<Value> = played
        .bounds
        .iter()
        .map(|bound| {
            json!({
                "what": bound.what,
                "allowed": bound.allowed,
                "measured": bound.measured,
                "unit": bound.unit,
            })
        })
        .collect();
    let mut object = json!({
        "scenario": played.scenario,
        "seed": played.seed,
        "passed": played.is_passed(),
        "trace_hash": format!("{:016x}", played.trace_hash),
        "virtual_s": played.virtual_s,
        "wall_s": wall.as_secs_f64(),
        "failures": failures,
        "metrics": played.metrics,
        "bounds": bounds,
    });
    if with_transcript {
        object["transcript"] = json!(played.transcript);
    }
    object
}
