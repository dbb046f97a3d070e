//! `cargo xtask bounds`: plays every scenario with many seeds, writes what was measured beside what is allowed into
//! `simulations/README.md`, and names bounds that are so loose that a change for the worse would hide in them.
//!
//! Of a moment, such as "all agree by 17 s", only the time after the last thing that happened before it is compared: if
//! that is a crash at 10 s, 7 s are allowed, however late in its file the crash stands.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ringmesh_sim::outcome::quantile;
use ringmesh_sim::scenario::{Fault, LinkSpec, Scenario, Start, Step, That};
use serde_json::Value;

use crate::golden::{ScenarioFile, failures_of, read_scenarios, simulate};

const USAGE: &str = "usage: cargo xtask bounds [--seeds 32] [--check]";
const README: &str = "simulations/README.md";
/// The table stands between these.
const MARKS: (&str, &str) = ("<!-- bounds -->", "<!-- /bounds -->");
const HEAD: &str = "| scenario | expectation | allowed | p50 | p99 | max | allowed ÷ p99 |\n\
                    | --- | --- | ---: | ---: | ---: | ---: | ---: |\n";
/// A bound may be so many times the p99.
const LOOSE: f64 = 1.5;
/// A suggested one is at least so many times the p99.
const ROOM: f64 = 1.25;
/// Times that are no longer than this, in seconds, are short enough for anybody.
const SHORT_S: f64 = 1.0;
/// More failures than this are counted and not shown.
const FAILURES_MAX: usize = 20;

/// A bound that was promised. It stands in scenarios as promised, however much better the figures are.
struct Budget {
    /// What the expectations are called that it is about.
    expectations: &'static [&'static str],
    /// Share of packets that get lost.
    loss: f64,
    allowed: f64,
    unit: &'static str,
}

/// What the design promises, as far as it is measured here: how long a death is not known, and what an idle host sends.
const BUDGETS: [Budget; 3] = [
    Budget { expectations: &["detected", "not-served", "wrong-seconds"], loss: 0.0, allowed: 6.0, unit: "s" },
    Budget {
        expectations: &["detected", "not-served", "wrong-seconds"],
        loss: 0.25,
        allowed: 10.0,
        unit: "s",
    },
    Budget { expectations: &["traffic"], loss: 0.0, allowed: 500.0, unit: "B/s" },
];

#[derive(Debug, PartialEq, Eq)]
struct Wishes {
    seeds: u32,
    is_check: bool,
}

impl Wishes {
    fn read(arguments: &[&str]) -> Result<Self> {
        let mut wishes = Self { seeds: 32, is_check: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--check" => wishes.is_check = true,
                "--seeds" => {
                    let text = arguments.next().context(USAGE)?;
                    let seeds = text.parse::<u32>().ok().filter(|seeds| *seeds > 0);
                    let wrong = || format!("--seeds {text}: write a number above 0");
                    wishes.seeds = seeds.with_context(wrong)?;
                }
                other => bail!("{other} is no option\n{USAGE}"),
            }
        }
        Ok(wishes)
    }
}

/// Measures, and writes the table or only checks.
///
/// # Errors
/// If a run fails, or if it is a check and a bound is too loose.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let wishes = Wishes::read(arguments)?;
    let files = read_scenarios()?;
    let runs = play(&files, wishes.seeds)?;
    let mut measured = Vec::new();
    for file in &files {
        let runs = runs.get(&file.scenario.name).map_or(&[][..], Vec::as_slice);
        measured.push((file, figures(&file.scenario, runs)?));
    }
    if !wishes.is_check {
        write(&measured, wishes.seeds)?;
    }
    let loose: Vec<String> = measured.iter().flat_map(|(file, figures)| loose(file, figures)).collect();
    loose.iter().for_each(|line| println!("{line}"));
    check_passed(&files, &runs)?;
    match loose.len() {
        0 => println!("bounds: none is looser than {LOOSE} times its p99"),
        count if wishes.is_check => bail!("{count} bounds are looser than {LOOSE} times their p99"),
        count => println!("bounds: {count} are looser than {LOOSE} times their p99"),
    }
    Ok(())
}

/// Plays the files with so many seeds, and those that take long with at most as many as they ask for. Gives the runs of
/// each scenario.
fn play(files: &[ScenarioFile], seeds: u32) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut groups: BTreeMap<u32, Vec<&Path>> = BTreeMap::new();
    for file in files {
        let seeds = if file.is_slow() { seeds.min(file.scenario.seeds) } else { seeds };
        groups.entry(seeds).or_default().push(&file.path);
    }
    let mut runs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (seeds, paths) in groups {
        eprintln!("bounds: playing {} scenarios, seeds 1 to {seeds}", paths.len());
        for run in simulate(&paths, ["--seeds", &seeds.to_string()])? {
            let name = run["scenario"].as_str().context("a run without a scenario")?.to_owned();
            runs.entry(name).or_default().push(run);
        }
    }
    Ok(runs)
}

fn check_passed(files: &[ScenarioFile], runs: &BTreeMap<String, Vec<Value>>) -> Result<()> {
    let mut failures = Vec::new();
    for file in files {
        for run in runs.get(&file.scenario.name).into_iter().flatten() {
            let failed = failures_of(&file.path, run);
            failures.extend(failed.into_iter().map(|says| format!("{says} (seed {})", run["seed"])));
        }
    }
    failures.iter().take(FAILURES_MAX).for_each(|says| println!("{says}"));
    if failures.is_empty() { Ok(()) } else { bail!("expected otherwise: {} times", failures.len()) }
}

/// Where in a file a bound stands.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    line: usize,
    that: &'static str,
    key: &'static str,
    /// What is allowed and measured counts from here, in seconds; zero for everything but moments.
    since_s: f64,
}

/// The places of all bounds of a scenario, in the order in which its runs tell of them.
fn places(scenario: &Scenario) -> Vec<Place> {
    let mut places = Vec::new();
    for expectation in &scenario.expect {
        let (that, keys) = name_and_keys(&expectation.that);
        let since_s = moment(&expectation.that).map_or(0.0, |at| happened_before(scenario, at).as_secs_f64());
        let line = expectation.line;
        places.extend(keys.into_iter().map(|key| Place { line, that, key, since_s }));
    }
    places
}

/// What an expectation is called in files, and its keys that are a bound.
fn name_and_keys(that: &That) -> (&'static str, Vec<&'static str>) {
    match that {
        That::Converged { .. } => ("converged", vec!["by"]),
        That::Delivered { .. } => ("delivered", vec!["by"]),
        That::NotServed { .. } => ("not-served", vec!["from"]),
        That::Served { .. } => ("served", vec!["from"]),
        That::Seen { .. } => ("seen", vec!["at"]),
        That::NeverRemoved { .. } => ("never-removed", vec!["who"]),
        That::NeverEmpty { .. } => ("never-empty", vec!["from"]),
        That::NoGhost { .. } => ("no-ghost", vec!["from"]),
        That::Detected { .. } => ("detected", vec!["within"]),
        That::Disseminated { .. } => ("disseminated", vec!["within"]),
        That::WrongSeconds { .. } => ("wrong-seconds", vec!["at_most"]),
        That::WrongShare { .. } => ("wrong-share", vec!["at_most"]),
        That::FalsePositives { .. } => ("false-positives", vec!["at_most"]),
        That::Changes { .. } => ("changes", vec!["at_most"]),
        That::ViewEvents { .. } => ("view-events", vec!["at_most"]),
        That::Traffic { bytes_per_s, messages_per_s } => {
            let bytes = bytes_per_s.map(|_| "bytes_per_s");
            let messages = messages_per_s.map(|_| "messages_per_s");
            ("traffic", bytes.into_iter().chain(messages).collect())
        }
    }
}

/// The moment that an expectation is about, if something is measured against it.
fn moment(that: &That) -> Option<Duration> {
    if let That::Converged { by: at } | That::Delivered { by: at } | That::NotServed { from: at, .. } = that {
        return Some(*at);
    }
    None
}

/// When the last thing happened before a moment: a step, the end of one, the last start of a cold mesh.
fn happened_before(scenario: &Scenario, moment: Duration) -> Duration {
    let begun = match scenario.topology.start {
        Start::Cold { within } => within,
        Start::Converged => Duration::ZERO,
    };
    let times = scenario.timeline.iter().flat_map(|step| {
        let end = length(scenario, &step.fault).map(|length| step.at.saturating_add(length));
        [Some(step.at), end].into_iter().flatten()
    });
    times.chain([begun]).filter(|at| *at < moment).max().unwrap_or_default()
}

/// How long what a fault does lasts, if it ends by itself.
fn length(scenario: &Scenario, fault: &Fault) -> Option<Duration> {
    let is_stop = matches!(fault, Fault::Stop { .. });
    if is_stop { Some(scenario.topology.hold) } else { fault.length() }
}

/// The largest share of packets that ever gets lost anywhere.
fn loss(scenario: &Scenario) -> f64 {
    let lost = |spec: &LinkSpec| spec.loss.unwrap_or_default();
    let lost_by = |step: &Step| {
        if let Fault::Links { spec, .. } = &step.fault {
            return lost(spec);
        }
        if let Fault::Loss { share, .. } = &step.fault { *share } else { 0.0 }
    };
    let between = scenario.links.between.iter().map(|(_, _, spec)| lost(spec));
    let most = between.fold(lost(&scenario.links.default), f64::max);
    scenario.timeline.iter().map(lost_by).fold(most, f64::max)
}

/// What was measured against one bound.
#[derive(Debug)]
struct Figures {
    place: Place,
    /// The expectation, in words.
    what: String,
    unit: String,
    allowed: f64,
    /// In order; without the seeds in which there was nothing to measure.
    measured: Vec<f64>,
}

/// The figures of all bounds of a scenario against which anything was measured.
fn figures(scenario: &Scenario, runs: &[Value]) -> Result<Vec<Figures>> {
    let places = places(scenario);
    let has_bounds = |run: &&Value| run["bounds"].as_array().is_some_and(|bounds| !bounds.is_empty());
    // A run that panicked has none.
    let runs: Vec<&Value> = runs.iter().filter(has_bounds).collect();
    let is_other = |run: &&Value| run["bounds"].as_array().map(Vec::len) != Some(places.len());
    if runs.iter().any(is_other) {
        bail!("{}: the simulator tells of other bounds than the file has", scenario.name);
    }
    let Some(first) = runs.first() else {
        return Ok(Vec::new());
    };
    let figures = places.into_iter().enumerate().map(|(index, place)| {
        let measured = runs.iter().filter_map(|run| run["bounds"][index]["measured"].as_f64());
        let mut measured: Vec<f64> = measured.map(|value| (value - place.since_s).max(0.0)).collect();
        measured.sort_by(f64::total_cmp);
        let bound = &first["bounds"][index];
        let text = |key: &str| bound[key].as_str().unwrap_or_default().to_owned();
        let allowed = bound["allowed"].as_f64().unwrap_or_default() - place.since_s;
        Figures { what: text("what"), unit: text("unit"), place, allowed, measured }
    });
    Ok(figures.filter(|figures| !figures.measured.is_empty()).collect())
}

impl Figures {
    /// The least measured value that `share` of all do not exceed (nearest rank).
    fn quantile(&self, share: f64) -> f64 {
        quantile(&self.measured, share).unwrap_or_default()
    }

    /// Whether nothing was allowed, and nothing came.
    fn is_nothing(&self) -> bool {
        self.allowed <= 0.0 && self.quantile(1.0) <= 0.0
    }

    /// A row of the table.
    fn row(&self, name: &str) -> String {
        let written = |value: f64| written(value, &self.unit);
        let since = if self.place.since_s > 0.0 {
            format!("{} + ", written(self.place.since_s))
        } else {
            String::new()
        };
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        let ratio = if p99 > 0.0 { rounded_to_tenths(self.allowed / p99) } else { "-".to_owned() };
        let (what, allowed) = (&self.what, written(self.allowed));
        let (p50, p99, max) = (written(p50), written(p99), written(max));
        format!("| {name} | {what} | {since}{allowed} | {p50} | {p99} | {max} | {ratio} |\n")
    }

    /// Whether the bound is one that was promised under this loss.
    fn is_budget(&self, loss: f64) -> bool {
        let is_equal = |one: f64, other: f64| (one - other).abs() < 1e-9;
        BUDGETS.iter().any(|budget| {
            budget.expectations.contains(&self.place.that)
                && budget.unit == self.unit
                && is_equal(budget.allowed, self.allowed)
                && is_equal(budget.loss, loss)
        })
    }

    /// What the bound could be, if it is too loose.
    fn could_be(&self, loss: f64) -> Option<f64> {
        let p99 = self.quantile(0.99);
        if self.is_budget(loss) || is_tight(self.allowed, p99, &self.unit) {
            return None;
        }
        let room = if self.unit == "s" { (p99 * ROOM).max(p99 + 0.3) } else { p99 * ROOM };
        // Nor may a seed fail that passes now.
        Some(rounded_up(room.max(self.quantile(1.0)), &self.unit)).filter(|bound| *bound < self.allowed)
    }

    /// Says that the bound could be this.
    fn says(&self, path: &Path, could_be: f64) -> String {
        let Place { line, that, key, since_s } = &self.place;
        let in_toml = |value: f64| in_toml(value + since_s, &self.unit);
        let (now, then) = (in_toml(self.allowed), in_toml(could_be));
        let p99 = written(self.quantile(0.99), &self.unit);
        let after = if *since_s > 0.0 { format!(" after {}", written(*since_s, "s")) } else { String::new() };
        format!("{}:{line}: {that}: {key} = {now} could be {then}: p99 is {p99}{after}", path.display())
    }
}

/// Whether a bound is near enough to what is measured, or allows next to nothing.
fn is_tight(allowed: f64, p99: f64, unit: &str) -> bool {
    let is_near = match unit {
        "s" => allowed <= SHORT_S || allowed <= p99 + 0.5,
        "share" => allowed <= p99 + 0.001,
        "" => allowed <= p99 + 1.0,
        _ => false,
    };
    is_near || allowed <= 0.0 || p99 <= 0.0 || allowed <= p99 * LOOSE
}

/// The next value that a person would write.
fn rounded_up(value: f64, unit: &str) -> f64 {
    let step = match unit {
        "s" if value < 1.0 => 0.1,
        "s" if value < 10.0 => 0.5,
        "s" | "" => 1.0,
        // Two digits.
        _ => 10.0_f64.powf(value.log10().floor() - 1.0),
    };
    // What is one already must not go up because of the last bit of a float.
    (value / step - 1e-9).ceil() * step
}

fn loose(file: &ScenarioFile, figures: &[Figures]) -> Vec<String> {
    let loss = loss(&file.scenario);
    let says = |one: &Figures| one.could_be(loss).map(|could_be| one.says(&file.path, could_be));
    figures.iter().filter_map(says).collect()
}

fn write(measured: &[(&ScenarioFile, Vec<Figures>)], seeds: u32) -> Result<()> {
    let mut table = format!("Seeds 1 to {seeds}.\n\n{HEAD}");
    for (file, figures) in measured {
        table.push_str(&rows(&file.scenario.name, figures));
    }
    let readme = fs::read_to_string(README).context(README)?;
    let readme = with_table(&readme, &table).with_context(|| format!("{README}: {MARKS:?} are missing"))?;
    fs::write(README, readme).context(README)
}

/// The rows of a scenario; its name stands in the first.
fn rows(name: &str, figures: &[Figures]) -> String {
    let shown = figures.iter().filter(|figures| !figures.is_nothing()).enumerate();
    shown.map(|(index, figures)| figures.row(if index == 0 { name } else { "" })).collect()
}

/// The text with another table in it; nothing if it has no place for one.
fn with_table(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    Some(format!("{before}{}\n{table}{}{after}", MARKS.0, MARKS.1))
}

/// A figure with its unit, for people.
fn written(value: f64, unit: &str) -> String {
    match unit {
        "" => rounded(value),
        "share" => format!("{} %", rounded(value * 100.0)),
        "s" if value > 0.0 && value < 1.0 => format!("{} ms", rounded(value * 1_000.0)),
        unit => format!("{} {unit}", rounded(value)),
    }
}

/// A bound as it stands in a file.
fn in_toml(value: f64, unit: &str) -> String {
    let millis = (value * 1_000.0).round() as u64;
    match unit {
        "s" if millis.is_multiple_of(1_000) => format!("\"{}s\"", millis / 1_000),
        "s" => format!("\"{millis}ms\""),
        "share" => format!("\"{}%\"", rounded(value * 100.0)),
        _ => rounded(value),
    }
}

/// As many digits as anybody wants to compare.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 100.0 => return format!("{value:.0}"),
        large if large >= 10.0 => 1,
        usual if usual >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn rounded_to_tenths(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0}") } else { format!("{ratio:.1}") }
}

#[cfg(test)]
mod tests {
    use ringmesh_sim::scenario::parse;
    use serde_json::json;

    use super::*;

    const SCENARIO: &str = r#"title = "t"
about = "a"
duration = "60s"
[topology]
nodes = 5
start = "converged"
[[timeline]]
at = "10s"
fault = "split"
who = "node-1"
for = "20s"
[[expect]]
that = "detected"
within = "6s"
[[expect]]
that = "converged"
by = "40s"
[[expect]]
that = "false-positives"
at_most = 0
[[expect]]
that = "traffic"
bytes_per_s = 500
messages_per_s = 2.5
"#;

    #[test]
    fn figures_of_all_seeds_become_rows_and_suggestions() {
        let measured =
            figures(&scenario(), &[run([3.2, 33.0, 0.0, 210.0, 2.1]), run([4.1, 31.0, 0.0, 221.0, 1.9])])
                .expect("the bounds are those of the file");
        let want = "| x | a death known to all within | 6 s | 3.2 s | 4.1 s | 4.1 s | 1.5 |\n\
                    |  | all agree by | 30 s + 10 s | 1 s | 3 s | 3 s | 3.3 |\n\
                    |  | a host sends | 500 B/s | 210 B/s | 221 B/s | 221 B/s | 2.3 |\n\
                    |  | a host sends | 2.5 messages/s | 1.9 messages/s | 2.1 messages/s | 2.1 messages/s | 1.2 |\n";
        assert_eq!(rows("x", &measured), want);
        let file = ScenarioFile { path: "simulations/x.toml".into(), scenario: scenario() };
        let want = "simulations/x.toml:15: converged: by = \"40s\" could be \"34s\": p99 is 3 s after 30 s";
        assert_eq!(loose(&file, &measured), [want]);
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let mut panicked = run([0.0; 5]);
        panicked["bounds"] = json!([]);
        let mut dull = run([0.0; 5]);
        dull["bounds"][0]["measured"] = Value::Null;
        let measured = figures(&scenario(), &[panicked, dull]).expect("the bounds are those of the file");
        let lines: Vec<usize> = measured.iter().map(|figures| figures.place.line).collect();
        assert_eq!(lines, [15, 18, 21, 21]);
        assert!(figures(&scenario(), &[json!({ "bounds": [{}] })]).is_err());
    }

    #[test]
    fn a_moment_counts_from_what_happened_before_it() {
        let check = |moment_s: u64, want_s: u64| {
            let before = happened_before(&scenario(), Duration::from_secs(moment_s));
            assert_eq!(before, Duration::from_secs(want_s), "{moment_s}");
        };
        check(5, 0);
        check(10, 0);
        check(11, 10);
        check(30, 10);
        check(60, 30);
    }

    #[test]
    fn bounds_are_loose_if_much_more_is_allowed_than_comes() {
        let check = |allowed: f64, p99: f64, unit: &str, want: Option<&str>| {
            let could_be = of(allowed, p99, unit).could_be(0.0).map(|bound| in_toml(bound, unit));
            assert_eq!(could_be.as_deref(), want, "{allowed} {p99} {unit}");
        };
        check(4.5, 3.0, "s", None);
        check(4.6, 3.0, "s", Some("\"4s\""));
        check(40.0, 13.0, "s", Some("\"17s\""));
        check(1.0, 0.1, "s", None);
        check(1.1, 0.7, "s", None);
        check(5.0, 0.0, "s", None);
        check(0.0, 0.0, "", None);
        check(2.0, 1.0, "", None);
        check(80.0, 41.0, "", Some("52"));
        check(0.01, 0.002, "share", Some("\"0.25%\""));
        check(800.0, 221.0, "B/s", Some("280"));
    }

    #[test]
    fn budgets_are_never_loose_under_the_loss_that_they_are_for() {
        let is_budget = |allowed: f64, loss: f64| of(allowed, 1.0, "s").is_budget(loss);
        assert!(is_budget(6.0, 0.0) && is_budget(10.0, 0.25));
        assert!(!is_budget(10.0, 0.0) && !is_budget(6.0, 0.25) && !is_budget(7.0, 0.0));
        assert_eq!(loss(&scenario()), 0.0);
        let lossy = SCENARIO.replace("fault = \"split\"", "fault = \"loss\"\nshare = \"25%\"");
        assert_eq!(loss(&parse("x", &lossy).expect("is right")), 0.25);
        let lossy = SCENARIO.replace("[[timeline]]", "[links]\nloss = \"25%\"\n[[timeline]]");
        assert_eq!(loss(&parse("x", &lossy).expect("is right")), 0.25);
    }

    #[test]
    fn values_are_written_for_people_and_for_files() {
        let check = |value: f64, unit: &str, people: &str, file: &str| {
            assert_eq!((written(value, unit).as_str(), in_toml(value, unit).as_str()), (people, file));
        };
        check(0.0, "s", "0 s", "\"0s\"");
        check(0.084, "s", "84 ms", "\"84ms\"");
        check(14.0, "s", "14 s", "\"14s\"");
        check(3.25, "s", "3.25 s", "\"3250ms\"");
        check(92_140.0, "s", "92140 s", "\"92140s\"");
        check(0.001, "share", "0.1 %", "\"0.1%\"");
        check(150.0, "", "150", "150");
        check(2.5, "messages/s", "2.5 messages/s", "2.5");
    }

    #[test]
    fn the_table_replaces_the_one_before() {
        let text = "a\n<!-- bounds -->\nold\n<!-- /bounds -->\nb\n";
        let want = "a\n<!-- bounds -->\nnew\n<!-- /bounds -->\nb\n";
        assert_eq!(with_table(text, "new\n").as_deref(), Some(want));
        assert_eq!(with_table("a\n<!-- bounds -->\n", "new\n"), None);
        assert!(with_table(include_str!("../../../simulations/README.md"), "new\n").is_some());
    }

    #[test]
    fn wishes_are_read_and_what_is_none_is_refused() {
        let read = |arguments: &[&str]| Wishes::read(arguments).ok();
        assert_eq!(read(&[]), Some(Wishes { seeds: 32, is_check: false }));
        assert_eq!(read(&["--check", "--seeds", "8"]), Some(Wishes { seeds: 8, is_check: true }));
        for wrong in [&["--seeds"][..], &["--seeds", "0"], &["--seeds", "many"], &["--fast"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    fn scenario() -> Scenario {
        parse("x", SCENARIO).expect("nothing is wrong with it")
    }

    /// What the simulator says of a run of the scenario in which this was measured.
    fn run(measured: [f64; 5]) -> Value {
        let allowed = [6.0, 40.0, 0.0, 500.0, 2.5];
        let units = ["s", "s", "", "B/s", "messages/s"];
        let whats = [
            "a death known to all within",
            "all agree by",
            "healthy members declared Down",
            "a host sends",
            "a host sends",
        ];
        let bound = |index: usize| {
            json!({
                "what": whats[index],
                "allowed": allowed[index],
                "measured": measured[index],
                "unit": units[index],
            })
        };
        json!({ "scenario": "x", "seed": 1, "bounds": [bound(0), bound(1), bound(2), bound(3), bound(4)] })
    }

    fn of(allowed: f64, p99: f64, unit: &str) -> Figures {
        let place = Place { line: 1, that: "detected", key: "within", since_s: 0.0 };
        Figures { place, what: String::new(), unit: unit.to_owned(), allowed, measured: vec![p99] }
    }
}
