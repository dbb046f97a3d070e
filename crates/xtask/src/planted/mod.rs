//! Shows that the simulator catches bugs: plants one after another into a copy of the sources and lets the scenarios and
//! a swarm judge the result. Product code carries no switches for this.
//!
//! A mutation is killed by the first run that fails, by a suite that ends in any other way than it should, or by time. One
//! that nothing notices survives, which is a hole in what the simulations look at. A mutation that does not build proves
//! nothing either; both make the command fail. One that does not apply is found before anything is built.

mod judge;
mod replica;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use judge::{ENDS_WITHIN, Judgement};
use replica::Replica;
use table::{Mutation, TABLE};

/// Characters of a failure in the table.
const WORDS_MAX: usize = 72;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Json,
}

/// What became of a mutation.
#[derive(Debug)]
struct Row<'a> {
    mutation: &'a Mutation,
    /// What the simulator says, or why there is nothing that it could judge.
    built: Result<Judgement, String>,
    seconds: f64,
}

/// Plants the mutations that `arguments` name, or all, and fails if any survives.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (format, chosen) = read(arguments)?;
    let root = root()?;
    for mutation in &chosen {
        mutation.apply(&source(&root, mutation)?)?;
    }
    let replica = Replica::make(&root)?;
    judge_unmutated(&replica)?;
    let report = Report::new(format, &chosen);
    report.head();
    let (mut survivors, mut unbuilt) = (Vec::new(), Vec::new());
    for mutation in chosen {
        let row = judge_mutation(&replica, mutation)?;
        report.row(&row);
        match row.built {
            Ok(Judgement::Passed { .. }) => survivors.push(mutation.name),
            Ok(Judgement::Killed(_)) => {}
            Err(_) => unbuilt.push(mutation.name),
        }
    }
    let complaints: Vec<String> =
        [("nothing noticed", survivors), ("stale, for they do not build:", unbuilt)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what} {} of the mutations: {}", names.len(), names.join(", ")))
            .collect();
    if !complaints.is_empty() {
        bail!("{}", complaints.join("; "));
    }
    Ok(())
}

fn read(arguments: &[&str]) -> Result<(Format, Vec<&'static Mutation>)> {
    let mut format = Format::Table;
    let mut chosen = Vec::new();
    for argument in arguments {
        if *argument == "--json" {
            format = Format::Json;
            continue;
        }
        match TABLE.iter().find(|mutation| mutation.name == *argument) {
            Some(mutation) => chosen.push(mutation),
            None => {
                let known: Vec<&str> = TABLE.iter().map(|mutation| mutation.name).collect();
                bail!("there is no mutation {argument:?}; there are: {}", known.join(", "));
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(TABLE);
    }
    Ok((format, chosen))
}

/// The repository's root.
fn root() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    path.canonicalize().with_context(|| path.display().to_string())
}

/// What the file of a mutation says in the repository.
fn source(root: &Path, mutation: &Mutation) -> Result<String> {
    let path = root.join(mutation.file);
    std::fs::read_to_string(&path)
        .with_context(|| format!("mutation {} is stale: {} cannot be read", mutation.name, mutation.file))
}

/// What fails without a mutation says nothing about one.
fn judge_unmutated(replica: &Replica) -> Result<()> {
    eprintln!("building and judging the sources as they are");
    replica.build().context("the sources do not build")?;
    let begun = Instant::now();
    match judge::judge(replica)? {
        Judgement::Passed { runs, slowest } => {
            eprintln!("all {runs} runs of the sources as they are passed, in {:.0} s", seconds(begun));
            if slowest > ENDS_WITHIN / 2 {
                eprintln!(
                    "one suite took {:.0} s of the {} s that it may take: a mutation that is killed by time may only be slow",
                    slowest.as_secs_f64(),
                    ENDS_WITHIN.as_secs()
                );
            }
            Ok(())
        }
        Judgement::Killed(kill) => bail!("the sources as they are fail: {}: {}", kill.by, kill.says),
    }
}

fn judge_mutation<'a>(replica: &Replica, mutation: &'a Mutation) -> Result<Row<'a>> {
    let before = replica.plant(mutation)?;
    let judged = build_and_judge(replica, mutation);
    replica.revert(mutation, &before)?;
    judged
}

fn build_and_judge<'a>(replica: &Replica, mutation: &'a Mutation) -> Result<Row<'a>> {
    let begun = Instant::now();
    if let Err(why) = replica.build() {
        return Ok(Row { mutation, built: Err(first_error(&why.to_string())), seconds: seconds(begun) });
    }
    let begun = Instant::now();
    let judgement = judge::judge(replica).with_context(|| format!("mutation {}", mutation.name))?;
    Ok(Row { mutation, built: Ok(judgement), seconds: seconds(begun) })
}

/// The first error that the compiler names.
fn first_error(complaint: &str) -> String {
    let errors = complaint.lines().map(str::trim).filter(|line| line.starts_with("error"));
    errors.map(str::to_owned).next().unwrap_or_else(|| complaint.trim().to_owned())
}

fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}

/// Prints rows as they come.
#[derive(Debug)]
struct Report {
    format: Format,
    name_width: usize,
    breaks_width: usize,
}

impl Report {
    fn new(format: Format, chosen: &[&Mutation]) -> Self {
        let longest = |text: fn(&Mutation) -> &str| {
            chosen.iter().map(|mutation| text(mutation).chars().count()).max().unwrap_or_default()
        };
        Self {
            format,
            name_width: longest(|mutation| mutation.name),
            breaks_width: longest(|mutation| mutation.breaks),
        }
    }

    fn head(&self) {
        if self.format == Format::Table {
            println!("{}", self.line("MUTATION", "WHAT IT BREAKS", "SECONDS", "KILLED BY"));
        }
    }

    fn row(&self, row: &Row<'_>) {
        match self.format {
            Format::Json => println!("{}", row.to_json()),
            Format::Table => {
                let seconds = format!("{:.1}", row.seconds);
                println!("{}", self.line(row.mutation.name, row.mutation.breaks, &seconds, &row.killed_by()));
            }
        }
    }

    fn line(&self, name: &str, breaks: &str, seconds: &str, killed_by: &str) -> String {
        let (name_width, breaks_width) = (self.name_width, self.breaks_width);
        format!("{name:<name_width$}  {breaks:<breaks_width$}  {seconds:>7}  {killed_by}")
    }
}

impl Row<'_> {
    fn killed_by(&self) -> String {
        match &self.built {
            Ok(Judgement::Passed { .. }) => "nothing: it survived".to_owned(),
            Ok(Judgement::Killed(kill)) => {
                let words: String = kill.says.chars().take(WORDS_MAX).collect();
                format!("{}: {words}", kill.by)
            }
            Err(why) => format!("nothing: it does not build: {why}"),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let kill = match &self.built {
            Ok(Judgement::Killed(kill)) => Some(kill),
            Ok(Judgement::Passed { .. }) | Err(_) => None,
        };
        json!({
            "mutation": self.mutation.name,
            "breaks": self.mutation.breaks,
            "built": self.built.is_ok(),
            "killed": kill.is_some(),
            "by": kill.map(|kill| &kill.by),
            "says": kill.map(|kill| &kill.says),
            "seconds": self.seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutation_still_applies() {
        let root = root().expect("the repository is there");
        for mutation in TABLE {
            let text = source(&root, mutation).expect("its file is there");
            let mutated = mutation.apply(&text).expect("its text stands there once");
            assert_ne!(mutated, text, "{} changes nothing", mutation.name);
            let tests = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
            let at = text.find(mutation.find).expect("it was just found");
            assert!(at < tests, "{} changes only tests", mutation.name);
        }
    }

    #[test]
    fn of_a_compiler_s_complaint_the_first_error_is_told() {
        let complaint =
            "   Compiling x v0.1.0\n    error[E0616]: field `id` is private\n --> a.rs:1:2\nerror: two\n";
        assert_eq!(first_error(complaint), "error[E0616]: field `id` is private");
        assert_eq!(first_error(" cargo cannot be run\n"), "cargo cannot be run");
    }

    #[test]
    fn every_mutation_has_its_own_name_and_says_what_it_breaks() {
        let names: BTreeSet<&str> = TABLE.iter().map(|mutation| mutation.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for mutation in TABLE {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(mutation.name.bytes().all(is_plain), "{}", mutation.name);
            assert!(mutation.breaks.ends_with('.'), "{}", mutation.name);
        }
    }

    #[test]
    fn a_mutation_whose_text_has_gone_is_stale() {
        let mutation = &TABLE[0];
        for text in [String::new(), format!("{}{}", mutation.find, mutation.find)] {
            let error = mutation.apply(&text).expect_err("stale").to_string();
            assert!(error.starts_with(&format!("mutation {} is stale", mutation.name)), "{error}");
        }
    }

    #[test]
    fn arguments_choose_mutations_and_the_format() {
        let (format, all) = read(&[]).expect("nothing is wrong with it");
        assert_eq!((format, all.len()), (Format::Table, TABLE.len()));
        let (format, one) = read(&["--json", TABLE[1].name]).expect("nothing is wrong with it");
        assert_eq!((format, one), (Format::Json, vec![&TABLE[1]]));
        assert!(read(&["no-such-bug"]).is_err());
        assert!(read(&["--jsno"]).is_err());
    }
}
