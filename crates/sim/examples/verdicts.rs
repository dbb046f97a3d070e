//! Plays scenarios or swarm seeds and prints one JSON object for each run: what tools judge a build by that want neither
//! the agent nor its libraries in it. Usage: `verdicts scenarios FOLDER SEEDS HOST_SECONDS_MAX` or `verdicts swarm FROM SEEDS`.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringmesh_sim::play::{Options, play};
use ringmesh_sim::scenario::{Scenario, parse};
use ringmesh_sim::swarm::swarm;
use serde_json::{Value, json};

/// Runs go on side by side on so many threads.
const THREADS: usize = 2;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["scenarios", folder, seeds, most] => {
            let (seeds, most) = (number(seeds)?, number(most)?);
            let mut scenarios = read(folder)?;
            scenarios.retain(|scenario| scenario.topology.nodes as u64 * scenario.duration.as_secs() <= most);
            let plays: Vec<(u64, &Scenario)> =
                (1..=seeds).flat_map(|seed| scenarios.iter().map(move |scenario| (seed, scenario))).collect();
            side_by_side(plays.len(), |index| verdict(plays[index].1, plays[index].0));
            Ok(())
        }
        ["swarm", from, seeds] => {
            let from = number(from)?;
            let seeds = usize::try_from(number(seeds)?).map_err(|error| error.to_string())?;
            side_by_side(seeds, |index| {
                let outcome = swarm(from + index as u64);
                let is_passed = outcome.failure.is_none();
                json!({"seed": outcome.seed, "passed": is_passed, "failure": outcome.failure})
            });
            Ok(())
        }
        _ => Err("usage: verdicts scenarios FOLDER SEEDS HOST_SECONDS_MAX | swarm FROM SEEDS".to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn read(folder: &str) -> Result<Vec<Scenario>, String> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .map_err(|error| format!("{folder}: {error}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let one = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        parse(&name, &text).map_err(|mistakes| mistakes.to_string())
    };
    paths.iter().map(one).collect()
}

fn verdict(scenario: &Scenario, seed: u64) -> Value {
    match play(scenario, Options { seed, nodes: None }, &mut |_| {}) {
        Ok(outcome) => {
            let failures: Vec<Value> = outcome
                .failures
                .iter()
                .map(|failure| json!({"line": failure.line, "says": failure.says}))
                .collect();
            json!({
                "scenario": outcome.scenario,
                "seed": seed,
                "passed": outcome.is_passed(),
                "failures": failures,
            })
        }
        Err(says) => json!({"scenario": scenario.name, "seed": seed, "passed": false, "failures": [says]}),
    }
}

/// Prints what `work` gives for each index, as it comes.
fn side_by_side(count: usize, work: impl Fn(usize) -> Value + Sync) {
    let next = AtomicUsize::new(0);
    let output = Mutex::new(std::io::stdout());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let line = work(index).to_string();
                    let mut output = output.lock().expect("nobody panics while printing");
                    if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}
