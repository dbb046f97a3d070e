//! `ringmesh sim` as a user types it: what it prints, what it writes, and how it says no.

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{Folder, RINGMESH};

/// Three hosts that know each other agree.
const AGREES: &str = r#"title = "Three hosts agree"
about = "Nothing happens."
seeds = 2
duration = "5s"

[topology]
nodes = 3
start = "converged"

[[expect]]
that = "converged"
by = "1s"
"#;

/// A dead host is expected to be served, from line 15 on.
const FAILS: &str = r#"title = "A dead host serves"
about = "It cannot."
seeds = 2
duration = "20s"

[topology]
nodes = 3
start = "converged"

[[timeline]]
at = "1s"
fault = "crash"
who = "node-2"

[[expect]]
that = "served"
who = "node-2"
from = "0s"
"#;

/// The key of line 4 is written wrongly.
const BROKEN: &str = r#"title = "Broken"
about = "A key that nobody knows."
duration = "5s"
sedes = 2

[topology]
nodes = 3
"#;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sim(arguments: &[&str]) -> Output {
    sim_in(&workspace(), arguments)
}

fn sim_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(RINGMESH).arg("sim").args(arguments).current_dir(folder).output().expect("it runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every line of the output as JSON.
fn objects(output: &Output) -> Vec<Value> {
    let as_json = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line:?}"));
    said(output).lines().map(as_json).collect()
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// It must fail with this code and say all of this.
fn refuses(arguments: &[&str], expected_code: i32, parts: &[&str]) {
    let output = sim(arguments);
    let says = complained(&output);
    assert_eq!(code(&output), expected_code, "{arguments:?}: {says}");
    for part in parts {
        assert!(says.contains(part), "{arguments:?}: {part:?} is not in {says}");
    }
}

/// What is in a folder, hidden or not.
fn entries(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(&folder.0).expect("is there");
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("is readable"))).collect();
    names.sort();
    names
}

#[test]
fn ctrl_c_ends_a_command_after_the_runs_under_way_and_leaves_nothing_behind() {
    let folder = Folder::new("sim-interrupt");
    let scenario = folder.write("agrees.toml", AGREES);
    let report = folder.0.join("report.html").display().to_string();
    let mut child = Command::new(RINGMESH)
        .args(["sim", "run", &scenario, "--seeds", "1000000", "--json", "--report", &report])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.next().expect("a run ends").expect("text");
    support::signal(child.id(), nix::sys::signal::Signal::SIGINT);
    let told = 1 + lines.count();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 130);
    let says = complained(&output);
    assert!(says.contains(&format!("interrupted after {told} of 1000000 runs")), "{says}");
    assert_eq!(entries(&folder), ["agrees.toml"]);
}

#[test]
fn every_scenario_of_the_project_is_listed() {
    let output = sim(&["list", "--json"]);
    assert_eq!(code(&output), 0, "{}", complained(&output));
    let mut names: Vec<String> = std::fs::read_dir(workspace().join("simulations"))
        .expect("is there")
        .filter_map(|entry| entry.expect("is readable").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    let listed = objects(&output);
    let listed_names: Vec<&str> = listed.iter().filter_map(|object| object["name"].as_str()).collect();
    assert_eq!(listed_names, names);
    for object in &listed {
        assert_eq!(keys(object), ["duration_s", "file", "name", "nodes", "seeds", "title"], "{object}");
    }
    let table = sim(&["list"]);
    assert_eq!(code(&table), 0);
    assert!(names.iter().all(|name| said(&table).contains(name.as_str())), "{}", said(&table));
}

#[test]
fn a_broken_file_is_listed_with_its_mistakes() {
    let folder = Folder::new("sim-list");
    folder.write("agrees.toml", AGREES);
    let broken = folder.write("broken.toml", BROKEN);
    let output = sim(&["list", &folder.0.display().to_string()]);
    assert_eq!(code(&output), 2);
    assert!(said(&output).contains("Three hosts agree") && said(&output).contains("broken"));
    let says = complained(&output);
    assert!(says.contains(&format!("{broken}:4: ")) && says.contains("seeds"), "{says}");
}

#[test]
fn a_run_is_one_object_and_a_seed_is_one_run() {
    let folder = Folder::new("sim-run");
    let agrees = folder.write("agrees.toml", AGREES);
    let output = sim(&["run", &agrees, "--json"]);
    assert_eq!(code(&output), 0, "{}", complained(&output));
    let runs = objects(&output);
    let shape =
        ["bounds", "failures", "metrics", "passed", "scenario", "seed", "trace_hash", "virtual_s", "wall_s"];
    for (index, run) in runs.iter().enumerate() {
        assert_eq!(keys(run), shape, "{run}");
        assert_eq!(run["scenario"], "agrees");
        assert_eq!(run["seed"], index + 1);
        assert_eq!(run["passed"], true, "{run}");
        assert_eq!(run["virtual_s"], 5.0);
        let hash = run["trace_hash"].as_str().expect("a text");
        assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    }
    assert_eq!(runs.len(), 2);
    assert_ne!(runs[0]["trace_hash"], runs[1]["trace_hash"], "seeds differ");
    let again = objects(&sim(&["run", &agrees, "--json", "--seed", "2", "--jobs", "1"]));
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["trace_hash"], runs[1]["trace_hash"], "the same seed is the same run");
}

#[test]
fn a_scenario_is_found_by_its_name() {
    let folder = Folder::new("sim-name");
    std::fs::create_dir(folder.0.join("simulations")).expect("can be made");
    folder.write("simulations/three-agree.toml", AGREES);
    let output = sim_in(&folder.0, &["run", "three-agree", "--seeds", "1", "--transcript"]);
    assert_eq!(code(&output), 0, "{}", complained(&output));
    let says = said(&output);
    assert!(says.starts_with("ok") && says.contains("three-agree") && says.contains("1 seed,"), "{says}");
    assert!(!says.contains('\u{1b}'), "colours are for terminals: {says:?}");
    let output = sim_in(&folder.0, &["run", "three-agrees"]);
    assert_eq!(code(&output), 2);
    let says = complained(&output);
    assert!(says.contains("three-agrees: there is no such scenario"), "{says}");
    assert!(says.contains("near in name, in simulations: three-agree"), "{says}");
}

#[test]
fn what_failed_is_named_with_its_line_and_how_to_see_it_again() {
    let folder = Folder::new("sim-fails");
    let fails = folder.write("fails.toml", FAILS);
    let agrees = folder.write("agrees.toml", AGREES);
    let objects = objects(&sim(&["run", &fails, "--seed", "2", "--json"]));
    assert_eq!(objects[0]["passed"], false);
    let failure = &objects[0]["failures"][0];
    let line = failure["line"].as_u64().expect("what failed is written somewhere");
    assert!((15..=18).contains(&line) && failure["says"].is_string(), "{failure}");
    let output = sim(&["run", &fails, &agrees]);
    assert_eq!(code(&output), 1);
    let says = said(&output);
    for part in [
        "FAILED  fails",
        &format!("{fails}:{line}: "),
        &format!("again: ringmesh sim run {fails} --seed 2"),
        "ok      agrees",
        "2 scenarios, 4 runs, 2 failed: ",
    ] {
        assert!(says.contains(part), "{part:?} is not in {says}");
    }
    let marked: Vec<&str> = says.lines().filter(|line| line.ends_with("  FAILED")).collect();
    assert!(marked.len() == 1 && marked[0].contains("served"), "{says}");
    assert!(complained(&output).contains("2 of 4 runs failed"), "{}", complained(&output));
}

#[test]
fn a_scenario_without_expectations_says_that_it_cannot_fail() {
    let folder = Folder::new("sim-nothing-expected");
    let (text, _) = AGREES.split_once("[[expect]]").expect("it expects something");
    let idle = folder.write("idle.toml", text);
    let output = sim(&["run", &idle, "--seeds", "1"]);
    assert_eq!(code(&output), 0, "{}", complained(&output));
    assert!(said(&output).contains("nothing is expected, so that nothing can fail"), "{}", said(&output));
}

#[test]
fn a_full_disk_for_the_output_is_named() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let output = Command::new(RINGMESH).args(["sim", "list"]).current_dir(workspace()).stdout(full).output();
    let output = output.expect("it runs");
    assert_eq!(code(&output), 1);
    assert!(complained(&output).contains("standard output cannot be written"), "{}", complained(&output));
}

#[test]
fn mistakes_are_named_with_file_and_line_and_nothing_is_played() {
    let folder = Folder::new("sim-broken");
    folder.write("agrees.toml", AGREES);
    let broken = folder.write("broken.toml", BROKEN);
    let output = sim(&["run", &folder.0.display().to_string()]);
    let says = complained(&output);
    assert_eq!(code(&output), 2, "{says}");
    assert!(says.contains(&format!("{broken}:4: ")) && says.contains("seeds"), "{says}");
    assert_eq!(said(&output), "");
}

#[test]
fn wrong_usage_is_refused() {
    let folder = Folder::new("sim-usage");
    let agrees = folder.write("agrees.toml", AGREES);
    let text = folder.write("notes.txt", "not a scenario");
    let no_toml = folder.write("noise.toml", "{ this is no TOML");
    std::fs::create_dir(folder.0.join("empty")).expect("can be made");
    refuses(&["run", &agrees, "--nodes", "0"], 2, &["--nodes", "0 is not in 1..=20000"]);
    refuses(&["run", &agrees, "--seeds", "0"], 2, &["--seeds", "0 is not in 1..="]);
    refuses(&["run", &agrees, "--jobs", "0"], 2, &["--jobs", "0 is not in 1..="]);
    refuses(&["run", &agrees, "--seed", "1", "--seeds", "2"], 2, &["cannot be used with"]);
    refuses(&["run", &agrees, "--transcript"], 2, &["--transcript is for one seed"]);
    refuses(&["run"], 2, &["<FILE>"]);
    refuses(&["run", &folder.file("agree.toml")], 2, &["agree.toml: there is no such scenario", "agrees"]);
    refuses(&["run", &text], 2, &["notes.txt: is no scenario"]);
    refuses(&["run", &no_toml], 2, &["noise.toml:1: "]);
    refuses(&["run", &folder.file("empty")], 2, &["empty: there is no scenario (*.toml) in it"]);
    refuses(&["list", &folder.file("nowhere")], 2, &["nowhere: cannot be read"]);
    refuses(&["swarm", "--seeds", "0"], 2, &["--seeds"]);
    refuses(&["bench", "--nodes", "0"], 2, &["--nodes"]);
    refuses(&["bench", "--loss", "200%"], 2, &["--loss", "0% to 100%"]);
    refuses(&["bench", "--for", "0s"], 2, &["--for"]);
    refuses(&["bench", "--nodes", "10", "--deaths", "6"], 2, &["--deaths 6: of 10 nodes at most 5 may die"]);
    refuses(&["run", &folder.file("agrees")], 2, &["do you mean", "agrees.toml?"]);
    let elsewhere = sim_in(&folder.0, &["run", "vm-dies"]);
    assert!(
        complained(&elsewhere).contains("a folder simulations, which is not here"),
        "{}",
        complained(&elsewhere)
    );
}

#[test]
fn a_report_is_one_page_and_leaves_nothing_beside_it() {
    let folder = Folder::new("sim-report");
    let agrees = folder.write("agrees.toml", AGREES);
    let fails = folder.write("fails.toml", FAILS);
    let page = folder.write("page.html", "an old report");
    folder.write(".page.html.part", "left by an interrupted run");
    let output = sim(&["run", &agrees, "--report", &page]);
    assert_eq!(code(&output), 0, "{}", complained(&output));
    assert_eq!(entries(&folder), ["agrees.toml", "fails.toml", "page.html"]);
    let html = std::fs::read_to_string(&page).expect("is there").to_lowercase();
    assert!(html.starts_with("<!doctype html>"), "{html:.80}");
    assert!(html.contains("three hosts agree"));
    let output = sim(&["run", &agrees, &fails, "--seeds", "1", "--report", &page, "--json"]);
    assert_eq!(code(&output), 1, "one of them fails, and there is a report all the same");
    let html = std::fs::read_to_string(&page).expect("is there").to_lowercase();
    assert!(html.contains("three hosts agree"), "both scenarios are on the page");
    assert!(html.contains("a dead host serves") && html.trim_end().ends_with("</html>"));
}

#[test]
fn a_report_that_cannot_be_written_is_refused_with_its_cure() {
    let folder = Folder::new("sim-no-report");
    let agrees = folder.write("agrees.toml", AGREES);
    let nowhere = folder.file("nowhere/page.html");
    let parts = [nowhere.as_str(), "No such file or directory", "make its folder first"];
    refuses(&["run", &agrees, "--report", &nowhere], 2, &parts);
    let output = sim(&["run", &agrees, "--report", &nowhere]);
    assert_eq!(said(&output), "", "it shows before anything is played");
    let itself = folder.0.display().to_string();
    refuses(&["run", &agrees, "--report", &itself], 2, &["the name of a file in it"]);
    let parts = ["/dev/full: the report cannot be written: No space left on device", "free some space"];
    refuses(&["run", &agrees, "--report", "/dev/full"], 2, &parts);
    assert!(!Path::new("/dev/full").is_file() && !Path::new("/dev/.full.part").exists());
    assert_eq!(entries(&folder), ["agrees.toml"]);
}

#[test]
fn a_swarm_is_one_object_for_each_seed() {
    let output = sim(&["swarm", "--seeds", "2", "--from", "7", "--json"]);
    let seeds = objects(&output);
    assert_eq!(seeds.len(), 2, "{}", complained(&output));
    let shape = ["failure", "metrics", "options", "passed", "seed", "trace_hash", "virtual_s"];
    for (seed, number) in seeds.iter().zip(7_u64..) {
        assert_eq!(keys(seed), shape, "{seed}");
        assert_eq!(seed["seed"], number);
        assert_eq!(seed["passed"], true, "{seed}");
        assert!(seed["virtual_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{seed}");
    }
    assert_eq!(code(&output), 0);
    assert!(complained(&output).contains("2 seeds, 0 failed"), "{}", complained(&output));
    let again = objects(&sim(&["swarm", "--seeds", "1", "--from", "8", "--json"]));
    assert_eq!(again[0]["trace_hash"], seeds[1]["trace_hash"], "the same seed is the same run");
}

#[test]
fn a_benchmark_is_one_object() {
    let arguments = ["bench", "--nodes", "20", "--for", "5s", "--instances", "1", "--loss", "0%"];
    let output = sim(&[&arguments[..], &["--json"]].concat());
    assert_eq!(code(&output), 0, "{}", complained(&output));
    let objects = objects(&output);
    let shape = [
        "deaths_noticed",
        "first_accusation_mean_s",
        "first_probe_mean_s",
        "messages",
        "messages_per_node_per_s",
        "nodes",
        "pair_bytes",
        "rss_mib",
        "setup_s",
        "speed",
        "virtual_s",
        "wall_s",
    ];
    assert_eq!(objects.len(), 1);
    assert_eq!(keys(&objects[0]), shape, "{}", objects[0]);
    assert_eq!(objects[0]["nodes"], 20);
    assert!(objects[0]["messages"].as_u64().is_some_and(|messages| messages > 0), "{}", objects[0]);
    assert!(objects[0]["virtual_s"].as_f64().is_some_and(|seconds| seconds >= 5.0), "{}", objects[0]);
    let output = sim(&arguments);
    assert!(said(&output).starts_with("nodes           20\n"), "{}", said(&output));
}
