//! `cargo xtask golden`: plays every scenario with seed 1 and compares what came with what somebody has read before.
//!
//! Usually this program plays them itself, as it was built for development. With `--release` the program that users
//! have plays them, and must have delivered the very same: a run does not depend on how it was built. Scenarios that
//! take long are left out, by a rule.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ringmesh_sim::outcome::Outcome;
use ringmesh_sim::play::{Options, play};
use ringmesh_sim::scenario::{self, Scenario};
use serde_json::Value;

const USAGE: &str = "usage: cargo xtask golden [--update | --release]";
const FOLDER: &str = "simulations";
const GOLDEN: &str = "simulations/golden";
const SEED: u64 = 1;
/// Scenarios with more hosts take long.
const NODES_MAX: usize = 200;
/// So do those whose hosts have more virtual seconds than this, all together.
const HOST_SECONDS_MAX: f64 = 20_000.0;
/// Equal lines that are shown before and after those that differ.
const AROUND: usize = 3;
/// More lines than this, of before or of now, are counted and not shown.
const SHOWN_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Compare,
    Update,
    Release,
}

/// Compares, or writes what is to be compared with next time.
///
/// # Errors
/// If a scenario fails, or gives something else than before and that is not to be written.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let mode = match arguments {
        [] => Mode::Compare,
        ["--update"] => Mode::Update,
        ["--release"] => Mode::Release,
        _ => bail!("{USAGE}"),
    };
    let mut files = read_scenarios()?;
    files.retain(|file| !file.is_slow());
    let findings = match mode {
        Mode::Compare | Mode::Update => compare_all(mode, &files)?,
        Mode::Release => compare_release(&files)?,
    };
    findings.conclude(mode, files.len())
}

/// A scenario and where it was read from.
pub(crate) struct ScenarioFile {
    pub(crate) path: PathBuf,
    pub(crate) scenario: Scenario,
}

impl ScenarioFile {
    /// Whether to play it once takes longer than to play many others.
    pub(crate) fn is_slow(&self) -> bool {
        is_slow(self.scenario.topology.nodes, self.scenario.duration)
    }

    fn golden(&self) -> PathBuf {
        Path::new(GOLDEN).join(format!("{}.txt", self.scenario.name))
    }
}

fn is_slow(nodes: usize, duration: Duration) -> bool {
    nodes > NODES_MAX || nodes as f64 * duration.as_secs_f64() > HOST_SECONDS_MAX
}

/// All scenarios, by name.
pub(crate) fn read_scenarios() -> Result<Vec<ScenarioFile>> {
    let (mut files, mut mistakes) = (Vec::new(), Vec::new());
    for path in files_in(Path::new(FOLDER), "toml")? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        match scenario::parse(&stem(&path), &text) {
            Ok(scenario) => files.push(ScenarioFile { path, scenario }),
            Err(why) => mistakes.push(why.to_string()),
        }
    }
    if !mistakes.is_empty() {
        bail!("{FOLDER}: nothing is played, because of mistakes:\n{}", mistakes.join("\n"));
    }
    if files.is_empty() {
        bail!("{FOLDER}: there is no scenario in it");
    }
    Ok(files)
}

/// Files of a folder with this ending, by name.
fn files_in(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is not as it was, or not as it should be; a paragraph each.
#[derive(Default)]
struct Findings {
    failed: Vec<String>,
    different: Vec<String>,
}

impl Findings {
    fn conclude(self, mode: Mode, played: usize) -> Result<()> {
        for paragraph in self.failed.iter().chain(&self.different) {
            println!("{paragraph}\n");
        }
        let (failed, different) = (self.failed.len(), self.different.len());
        let mut wrong = Vec::new();
        if failed > 0 {
            wrong.push(format!("{failed} of {played} scenarios failed: a golden file is of one that passes"));
        }
        if different > 0 && mode == Mode::Compare {
            wrong.push(format!(
                "{different} golden files are not what is given now; read what differs, and if that is meant \
                 accept it with: cargo xtask golden --update"
            ));
        }
        if different > 0 && mode == Mode::Release {
            wrong.push(format!(
                "{different} runs of the release build are not those of the golden files, which \
                 `cargo xtask golden` compares with the development build"
            ));
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
        println!("golden: {played} scenarios played, {different} files changed");
        Ok(())
    }
}

fn compare_all(mode: Mode, files: &[ScenarioFile]) -> Result<Findings> {
    eprintln!("golden: playing {} scenarios", files.len());
    if mode == Mode::Update {
        fs::create_dir_all(GOLDEN).context(GOLDEN)?;
    }
    let mut findings = Findings::default();
    for (file, played) in files.iter().zip(play_all(files)) {
        let got = match played {
            Ok(got) => got,
            Err(failures) => {
                findings.failed.push(failures.join("\n"));
                continue;
            }
        };
        let path = file.golden();
        let Some(how) = difference(known(&path)?.as_deref(), &got) else {
            continue;
        };
        findings.different.push(format!("{}: {how}", path.display()));
        if mode == Mode::Update {
            fs::write(&path, got).with_context(|| path.display().to_string())?;
        }
    }
    for path in stale(files)? {
        findings.different.push(format!("{}: no scenario gives this any more", path.display()));
        if mode == Mode::Update {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(findings)
}

/// Plays each once. Gives, in their order, what belongs into the golden files, or what went wrong.
fn play_all(files: &[ScenarioFile]) -> Vec<Result<String, Vec<String>>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut played = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(index) else {
                return played;
            };
            played.push((index, play_one(file)));
        }
    };
    let mut played: Vec<_> = thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        let ended = workers.map(|worker| worker.join().expect("a run that panics is caught"));
        ended.into_iter().flatten().collect()
    });
    played.sort_by_key(|(index, _)| *index);
    played.into_iter().map(|(_, played)| played).collect()
}

fn play_one(file: &ScenarioFile) -> Result<String, Vec<String>> {
    let options = Options { seed: SEED, nodes: None };
    let outcome = match catch_unwind(|| play(&file.scenario, options, &mut |_| {})) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => return Err(vec![located(&file.path, None, &why)]),
        Err(_) => return Err(vec![located(&file.path, None, "the run panicked, as it says above")]),
    };
    if outcome.is_passed() {
        return Ok(written(&outcome));
    }
    let failures = outcome.failures.iter();
    Err(failures.map(|failure| located(&file.path, failure.line, &failure.says)).collect())
}

/// What belongs into the golden file of a run.
fn written(outcome: &Outcome) -> String {
    let Outcome { trace_hash, virtual_s, transcript, .. } = outcome;
    let mut text = format!("trace_hash {trace_hash:016x}\npassed after {virtual_s} s\n");
    for line in transcript {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// `file:line: what`, so that editors find it.
fn located(path: &Path, line: Option<usize>, says: &str) -> String {
    let path = path.display();
    match line {
        Some(line) => format!("{path}:{line}: {says}"),
        None => format!("{path}: {says}"),
    }
}

/// What a golden file says, if it is there.
fn known(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    fs::read_to_string(path).map(Some).with_context(|| path.display().to_string())
}

/// Golden files that no scenario gives.
fn stale(files: &[ScenarioFile]) -> Result<Vec<PathBuf>> {
    let folder = Path::new(GOLDEN);
    let mut paths = if folder.is_dir() { files_in(folder, "txt")? } else { Vec::new() };
    paths.retain(|path| !files.iter().any(|file| file.scenario.name == stem(path)));
    Ok(paths)
}

/// How what is given now differs from what is known, if it does.
fn difference(known: Option<&str>, got: &str) -> Option<String> {
    let Some(known) = known else {
        return Some("was not there".to_owned());
    };
    let (known, got): (Vec<&str>, Vec<&str>) = (known.lines().collect(), got.lines().collect());
    if known == got {
        return None;
    }
    // The hash, in the first line, differs whenever anything does.
    let (known_rest, got_rest) = (known.get(1..).unwrap_or_default(), got.get(1..).unwrap_or_default());
    if known_rest == got_rest {
        let (before, now) = (known.first().unwrap_or(&""), got.first().unwrap_or(&""));
        return Some(format!("what was delivered differs, and nothing else: {now}, before {before:?}"));
    }
    Some(first_difference(known_rest, got_rest).join("\n"))
}

/// The first lines that differ, `-` as before and `+` as now, and some around them that do not.
fn first_difference(known: &[&str], got: &[&str]) -> Vec<String> {
    let equal = known.iter().zip(got).take_while(|(one, other)| one == other).count();
    let (gone, come) = until_equal(&known[equal..], &got[equal..]);
    // Lines are counted from 1, and the hash comes before these.
    let mut lines = vec![format!("differs from line {} on:", equal + 2)];
    lines.extend(marked(' ', &known[equal.saturating_sub(AROUND)..equal]));
    lines.extend(marked('-', &known[equal..equal + gone]));
    lines.extend(marked('+', &got[equal..equal + come]));
    let after = &known[equal + gone..];
    lines.extend(marked(' ', &after[..after.len().min(AROUND)]));
    lines
}

/// How many lines of each come before one that both have; all if none is.
fn until_equal(known: &[&str], got: &[&str]) -> (usize, usize) {
    let sums = 0..known.len() + got.len();
    let mut pairs = sums.flat_map(|sum| (0..=sum).map(move |gone| (gone, sum - gone)));
    let is_equal = |gone: usize, come: usize| {
        known.get(gone).zip(got.get(come)).is_some_and(|(one, other)| one == other)
    };
    pairs.find(|(gone, come)| is_equal(*gone, *come)).unwrap_or((known.len(), got.len()))
}

fn marked(mark: char, lines: &[&str]) -> Vec<String> {
    let mut marked: Vec<String> = lines.iter().take(SHOWN_MAX).map(|line| format!("{mark} {line}")).collect();
    if lines.len() > SHOWN_MAX {
        marked.push(format!("{mark} and {} lines more", lines.len() - SHOWN_MAX));
    }
    marked
}

/// Lets the release build play, and compares what it delivered.
fn compare_release(files: &[ScenarioFile]) -> Result<Findings> {
    let paths: Vec<&Path> = files.iter().map(|file| file.path.as_path()).collect();
    let runs = simulate(&paths, ["--seed", &SEED.to_string()])?;
    let mut findings = Findings::default();
    for file in files {
        let name = file.scenario.name.as_str();
        let run = runs.iter().find(|run| run["scenario"] == name);
        let run = run.with_context(|| format!("the simulator says nothing of {name}"))?;
        let failures = failures_of(&file.path, run);
        if !failures.is_empty() {
            findings.failed.push(failures.join("\n"));
            continue;
        }
        let (path, got) = (file.golden(), run["trace_hash"].as_str().unwrap_or_default());
        let how = hash_difference(known(&path)?.as_deref(), got);
        findings.different.extend(how.map(|how| format!("{}: {how}", path.display())));
    }
    Ok(findings)
}

fn hash_difference(known: Option<&str>, got: &str) -> Option<String> {
    let Some(known) = known else {
        return Some("is not there".to_owned());
    };
    let first = known.lines().next().unwrap_or_default();
    let known = first.strip_prefix("trace_hash ").unwrap_or_default();
    (known != got).then(|| format!("trace_hash {got} of the release build, {known:?} in this file"))
}

/// Builds the program that users have and lets it play files with the seeds that two words choose. Gives what it says
/// of each run. A run that failed is no error here.
pub(crate) fn simulate(files: &[&Path], seeds: [&str; 2]) -> Result<Vec<Value>> {
    crate::run("cargo", &["build", "--release"], &[])?;
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let program = Path::new(&folder).join("release/ringmesh");
    let output = Command::new(&program)
        .args(["sim", "run"])
        .args(files)
        .args(seeds)
        .arg("--json")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    let text = String::from_utf8(output.stdout).context("what the simulator says")?;
    let read = |line: &str| serde_json::from_str::<Value>(line).context("what the simulator says of a run");
    let runs: Vec<Value> = text.lines().map(read).collect::<Result<_>>()?;
    if !output.status.success() && runs.iter().all(|run| run["passed"] == true) {
        bail!("the simulator ended with {}", output.status);
    }
    Ok(runs)
}

/// What failed in a run that the simulator told of.
pub(crate) fn failures_of(path: &Path, run: &Value) -> Vec<String> {
    let failures = run["failures"].as_array().map_or(&[][..], Vec::as_slice);
    let says = |failure: &Value| {
        let line = failure["line"].as_u64().and_then(|line| usize::try_from(line).ok());
        located(path, line, failure["says"].as_str().unwrap_or_default())
    };
    failures.iter().map(says).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_takes_long_is_left_out() {
        let check = |nodes: usize, seconds: u64, want: bool| {
            assert_eq!(is_slow(nodes, Duration::from_secs(seconds)), want, "{nodes} nodes, {seconds} s");
        };
        check(30, 600, false);
        check(200, 100, false);
        check(200, 101, true);
        check(201, 1, true);
        check(6, 26 * 3_600, true);
    }

    #[test]
    fn a_golden_file_has_the_hash_the_verdict_and_the_transcript() {
        let outcome = Outcome {
            trace_hash: 0xab,
            virtual_s: 60.0,
            transcript: vec!["10.0000 * crash node-1".to_owned(), "13.0000 node-2: gone".to_owned()],
            ..Outcome::default()
        };
        let want =
            "trace_hash 00000000000000ab\npassed after 60 s\n10.0000 * crash node-1\n13.0000 node-2: gone\n";
        assert_eq!(written(&outcome), want);
    }

    #[test]
    fn a_difference_is_shown_with_what_is_around_it() {
        let check = |known: &str, got: &str, want: &str| {
            let (known, got) = (known.replace(' ', "\n"), got.replace(' ', "\n"));
            assert_eq!(difference(Some(&known), &got).unwrap_or_default(), want, "{known} {got}");
        };
        check("h a b c", "h a b c", "");
        check("h a b c", "h a b c ", "");
        check("h a b", "g a b", "what was delivered differs, and nothing else: g, before \"h\"");
        check("", "g", "what was delivered differs, and nothing else: g, before \"\"");
        check(
            "h a b c d e f g i j k",
            "g a b c d x y f g i j k",
            "differs from line 6 on:\n  b\n  c\n  d\n- e\n+ x\n+ y\n  f\n  g\n  i",
        );
        check("h a b", "g a", "differs from line 3 on:\n  a\n- b");
        check("h a", "g a b", "differs from line 3 on:\n  a\n+ b");
        check(
            "h",
            "g 1 2 3 4 5 6 7 8 9 10",
            "differs from line 2 on:\n+ 1\n+ 2\n+ 3\n+ 4\n+ 5\n+ 6\n+ 7\n+ 8\n+ and 2 lines more",
        );
        assert_eq!(difference(None, "h"), Some("was not there".to_owned()));
    }

    #[test]
    fn the_release_build_must_give_the_same_hash() {
        assert_eq!(hash_difference(Some("trace_hash 0a\npassed"), "0a"), None);
        for known in [None, Some("trace_hash 0b\npassed"), Some("")] {
            assert!(hash_difference(known, "0a").is_some(), "{known:?}");
        }
    }

    #[test]
    fn failures_are_told_with_file_and_line() {
        let run = json!({ "failures": [{ "line": 41, "says": "late" }, { "line": null, "says": "lost" }] });
        let want = ["simulations/x.toml:41: late", "simulations/x.toml: lost"];
        assert_eq!(failures_of(Path::new("simulations/x.toml"), &run), want);
        assert!(failures_of(Path::new("x.toml"), &json!({ "failures": [] })).is_empty());
    }
}
