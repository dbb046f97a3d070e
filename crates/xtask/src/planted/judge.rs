//! Lets the simulator judge a build: the scenarios first, then a swarm. The first failure ends it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::replica::Replica;

/// What judges, one after the other.
const SUITES: [&[&str]; 2] = [&["scenarios", "simulations", "4", "7000"], &["swarm", "1", "200"]];
/// A suite that has not ended after this time is ended.
pub(super) const ENDS_WITHIN: Duration = Duration::from_secs(600);
/// Kibibytes of data that a suite may hold: a storm of messages should end the suite and not the machine.
const MEMORY_KIB_MAX: u32 = 4 << 20;

/// What the simulator says of a build.
#[derive(Debug)]
pub(super) enum Judgement {
    /// Everything came as expected, in so many runs; the slowest suite took so long.
    Passed { runs: u64, slowest: Duration },
    /// Something did not.
    Killed(Kill),
}

/// What was noticed first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kill {
    /// A scenario or the swarm with the seed; `time` or `crash` if a suite did not end, or not by itself.
    pub(super) by: String,
    /// What was expected and what came.
    pub(super) says: String,
}

/// How reading the lines of a suite ended.
#[derive(Debug)]
enum End {
    Closed { runs: u64 },
    Failed(Kill),
    Late,
}

/// Judges what was built.
pub(super) fn judge(replica: &Replica) -> Result<Judgement> {
    let (mut runs, mut slowest) = (0, Duration::ZERO);
    for suite in SUITES {
        match play(replica, suite)? {
            Judgement::Passed { runs: more, slowest: took } => {
                runs += more;
                slowest = slowest.max(took);
            }
            Judgement::Killed(kill) => return Ok(Judgement::Killed(kill)),
        }
    }
    Ok(Judgement::Passed { runs, slowest })
}

fn play(replica: &Replica, suite: &[&str]) -> Result<Judgement> {
    let begun = Instant::now();
    let mut child = start(replica, suite)?;
    let end = watch(&lines(&mut child), begun + ENDS_WITHIN);
    if !matches!(end, End::Closed { .. }) {
        child.kill().context("the simulator cannot be ended")?;
    }
    let status = child.wait().context("the simulator cannot be waited for")?;
    let what = suite.join(" ");
    Ok(match end {
        End::Failed(kill) => Judgement::Killed(kill),
        End::Late => {
            let says = format!("{what} did not end within {} s", ENDS_WITHIN.as_secs());
            Judgement::Killed(Kill { by: "time".to_owned(), says })
        }
        End::Closed { .. } if !status.success() => {
            let says = format!("{what} ended with {status}: {}", last_words(&replica.complaints()));
            Judgement::Killed(Kill { by: "crash".to_owned(), says })
        }
        End::Closed { runs: 0 } => bail!("{what} gave no verdict at all"),
        End::Closed { runs } => Judgement::Passed { runs, slowest: begun.elapsed() },
    })
}

/// Starts a suite. The shell only sets the bound on memory and then becomes the suite.
fn start(replica: &Replica, suite: &[&str]) -> Result<Child> {
    let complaints = replica.complaints();
    let complaints = File::create(&complaints).with_context(|| complaints.display().to_string())?;
    let program = replica.program();
    Command::new("sh")
        .args(["-c", &format!("ulimit -d {MEMORY_KIB_MAX}; exec \"$@\""), "sh"])
        .arg(&program)
        .args(suite)
        .current_dir(replica.sources())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .spawn()
        .with_context(|| format!("{} cannot be run", program.display()))
}

/// The lines that a suite prints, as they come; the channel closes with its output.
fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stdout = child.stdout.take().expect("the output was asked for at the start");
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn watch(lines: &Receiver<String>, until: Instant) -> End {
    let mut runs = 0;
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => match verdict(&line) {
                Some(Err(kill)) => return End::Failed(kill),
                Some(Ok(())) => runs += 1,
                None => {}
            },
            Err(RecvTimeoutError::Timeout) => return End::Late,
            Err(RecvTimeoutError::Disconnected) => return End::Closed { runs },
        }
    }
}

/// What a line says of one run; nothing if it is about something else.
fn verdict(line: &str) -> Option<Result<(), Kill>> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value["passed"].as_bool()? {
        return Some(Ok(()));
    }
    let seed = &value["seed"];
    let seed = seed.as_str().map_or_else(|| seed.to_string(), str::to_owned);
    let by = format!("{} seed {seed}", value["scenario"].as_str().unwrap_or("swarm"));
    Some(Err(Kill { by, says: failure(&value) }))
}

/// The first failure of a run; the whole line if it has none that can be read.
fn failure(run: &Value) -> String {
    let first = &run["failures"][0];
    let texts = [&run["failure"], &first["says"], first];
    texts.into_iter().find_map(Value::as_str).map_or_else(|| run.to_string(), str::to_owned)
}

/// The last thing that a program complained about.
fn last_words(complaints: &Path) -> String {
    let text = fs::read(complaints).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let is_said = |line: &&str| !line.trim().is_empty() && !line.starts_with("note:");
    text.lines().rfind(is_said).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(by: &str, says: &str) -> Option<Result<(), Kill>> {
        Some(Err(Kill { by: by.to_owned(), says: says.to_owned() }))
    }

    #[test]
    fn a_line_says_who_failed_and_how() {
        let check = |line: &str, want: Option<Result<(), Kill>>| {
            assert_eq!(verdict(line), want, "{line}");
        };
        check(r#"{"scenario":"split","seed":3,"passed":true,"failures":[]}"#, Some(Ok(())));
        check(
            r#"{"scenario":"split","seed":3,"passed":false,"failures":[{"line":7,"says":"not served"}]}"#,
            kill("split seed 3", "not served"),
        );
        check(
            r#"{"scenario":"split","seed":4,"passed":false,"failures":["late","lost"]}"#,
            kill("split seed 4", "late"),
        );
        check(r#"{"seed":12,"passed":false,"failure":"lost"}"#, kill("swarm seed 12", "lost"));
        check(
            r#"{"seed":"0x1f","passed":false}"#,
            kill("swarm seed 0x1f", r#"{"passed":false,"seed":"0x1f"}"#),
        );
        check(r#"{"event":"progress","done":0.5}"#, None);
        check("not JSON", None);
    }

    #[test]
    fn lines_are_read_until_the_first_failure() {
        let (sender, receiver) = channel();
        for line in [r#"{"seed":1,"passed":true}"#, r#"{"seed":2,"passed":false,"failure":"lost"}"#] {
            sender.send(line.to_owned()).expect("somebody reads");
        }
        let until = Instant::now() + Duration::from_secs(60);
        assert!(matches!(watch(&receiver, until), End::Failed(kill) if kill.by == "swarm seed 2"));
        drop(sender);
        assert!(matches!(watch(&receiver, until), End::Closed { runs: 0 }));
    }

    #[test]
    fn a_suite_that_says_nothing_is_late_in_the_end() {
        let (sender, receiver) = channel();
        assert!(matches!(watch(&receiver, Instant::now()), End::Late));
        drop(sender);
    }
}
