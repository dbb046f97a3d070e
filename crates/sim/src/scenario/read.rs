//! From a scenario file to a [`Scenario`]: the file as a whole, its topology, and how large it may be.
//!
//! Reading is pure: it opens no file. It reports every mistake at once, each with its line. What happens and what is
//! expected is read by `steps` and `expect`.

use core::time::Duration;
use std::collections::BTreeSet;

use ringmesh_types::name::{ServiceName, ZoneName};
use toml::de::{DeTable, DeValue};

use super::error::Mistakes;
use super::nodes::NODES_MAX;
use super::reader::{Reader, Table};
use super::stage::{Moment, Stage};
use super::who::Who;
use super::{Scenario, ServicePlan, Start, Topology};
use super::{expect, links, steps, values};

/// Bytes of a file at most.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Steps, and expectations, at most.
const ENTRIES_MAX: usize = 1_000;
const SERVICES_MAX: usize = 64;
const ZONES_MAX: usize = 64;
const INSTANCES_MAX: usize = 64;
/// Instances of all services in a mesh, were they on all hosts: each is simulated, checks and all.
const ALL_INSTANCES_MAX: usize = 2_000_000;
const DAYS_MAX: u64 = 7;
const DURATION_MAX: Duration = Duration::from_secs(DAYS_MAX * 86_400);

/// Runs unless the file says otherwise, and at most.
const SEEDS: u32 = 8;
const SEEDS_MAX: u32 = 1_000;
/// What a topology is unless the file says otherwise.
const ZONE: &str = "a";
const SEED_NODES: usize = 2;
const HOLD: Duration = Duration::from_secs(20);
const START_WITHIN: Duration = Duration::from_secs(1);

const STARTS: [&str; 2] = ["cold", CONVERGED];
const CONVERGED: &str = "converged";

/// Reads the file `name.toml`, which contains `text`.
///
/// # Errors
/// All mistakes at once, each with its line, what is wrong, and what would be right.
pub fn parse(name: &str, text: &str) -> Result<Scenario, Mistakes> {
    let mut reader = Reader::new(name, text);
    if text.len() > FILE_BYTES_MAX {
        reader.reject(1, "", format!("has {} bytes: at most {FILE_BYTES_MAX} are allowed", text.len()));
        return reader.finish(None);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    reader.reject_syntax(&errors);
    if reader.is_unreadable() {
        return reader.finish(None);
    }
    let scenario = read(&mut reader, name, Table::root(document.get_ref()));
    reader.finish(Some(scenario))
}

/// Reads the whole file. What is wrong or missing is reported and stands as nothing.
fn read(reader: &mut Reader<'_>, name: &str, mut root: Table<'_>) -> Scenario {
    let title = reader.required(&mut root, "title", values::one_line).unwrap_or_default();
    let about = reader.required(&mut root, "about", values::text).unwrap_or_default();
    let seeds = reader.optional(&mut root, "seeds", |value| values::whole(value, &(1..=SEEDS_MAX)));
    let duration = reader.required(&mut root, "duration", read_duration);
    let mut place = reader.table(&mut root, "topology");
    let timeline = reader.tables(&mut root, "timeline", ENTRIES_MAX);
    let expected = reader.tables(&mut root, "expect", ENTRIES_MAX);

    let nodes = reader.required(&mut place, "nodes", |value| values::whole(value, &(1..=NODES_MAX)));
    let zones = read_zones(reader, &mut place);
    let mut stage = Stage { nodes, zones, services: None, duration, labels: steps::labels(&timeline) };
    let topology = read_topology(reader, place, &stage);
    stage.services = names_of(&topology.services);

    let scenario = Scenario {
        name: name.to_owned(),
        title,
        about,
        seeds: seeds.unwrap_or(SEEDS),
        duration: duration.unwrap_or_default(),
        topology,
        links: links::read(reader, &mut root, &stage),
        timeline: steps::read(reader, &stage, timeline),
        expect: expect::read(reader, &stage, expected),
    };
    reader.check_keys(&root);
    scenario
}

fn read_duration(value: &DeValue<'_>) -> Result<Duration, String> {
    let duration = values::length(value)?;
    if duration > DURATION_MAX {
        return Err(format!("is too long: at most \"{DAYS_MAX}d\" is allowed"));
    }
    Ok(duration)
}

/// Reads the zones; nothing, which is reported, if one of them is wrong.
fn read_zones(reader: &mut Reader<'_>, table: &mut Table<'_>) -> Option<Vec<String>> {
    let zones = reader.list(table, "zones", ZONES_MAX, values::name::<ZoneName>);
    if table.peek("zones").is_none() {
        return Some(vec![ZONE.to_owned()]);
    }
    let zones = zones?;
    if zones.is_empty() {
        reader.reject_key(table, "zones", "is empty: name a zone, or leave it out");
        return None;
    }
    Some(zones)
}

fn read_topology(reader: &mut Reader<'_>, mut table: Table<'_>, stage: &Stage) -> Topology {
    let nodes = stage.nodes.unwrap_or(NODES_MAX);
    let seeds = reader.optional(&mut table, "seeds", |value| values::whole(value, &(1..=nodes)));
    let topology = Topology {
        nodes,
        zones: stage.zones.clone().unwrap_or_default(),
        seeds: seeds.unwrap_or(SEED_NODES.min(nodes)),
        start: read_start(reader, &mut table),
        running: read_who(reader, &mut table, "running", stage),
        hold: reader.optional(&mut table, "hold", values::time).unwrap_or(HOLD),
        services: read_services(reader, &mut table, stage),
    };
    reader.check_keys(&table);
    topology
}

fn read_start(reader: &mut Reader<'_>, table: &mut Table<'_>) -> Start {
    let start = reader.optional(table, "start", |value| values::word(value, &STARTS));
    let within = reader.optional(table, "start_within", values::time);
    if start != Some(CONVERGED) {
        return Start::Cold { within: within.unwrap_or(START_WITHIN) };
    }
    if within.is_some() {
        let why = "is of no use with start = \"converged\": leave it out, or write start = \"cold\"";
        reader.reject_key(table, "start_within", why);
    }
    Start::Converged
}

/// Hosts at the begin, where no label is set; all of them unless the file says otherwise.
fn read_who(reader: &mut Reader<'_>, table: &mut Table<'_>, key: &'static str, stage: &Stage) -> Who {
    reader.optional(table, key, |value| stage.who(value, Moment::BEGIN)).unwrap_or_else(Who::all)
}

fn read_services(reader: &mut Reader<'_>, table: &mut Table<'_>, stage: &Stage) -> Vec<ServicePlan> {
    let tables = reader.tables(table, "service", SERVICES_MAX);
    let mut names = BTreeSet::new();
    let mut instances = 0;
    let mut services = Vec::new();
    for table in tables {
        let line = table.line;
        let service = read_service(reader, table, stage);
        let is_new = service.name.is_empty() || names.insert(service.name.clone());
        if !is_new {
            reader.reject(
                line,
                "topology.service",
                format!("{:?} is there twice: name each once", service.name),
            );
        }
        instances += service.instances * stage.nodes.unwrap_or_default();
        services.push(service);
        if instances > ALL_INSTANCES_MAX {
            let why = format!("more than {ALL_INSTANCES_MAX} instances, were they on all hosts: take fewer");
            reader.reject(line, "topology.service", why);
            break;
        }
    }
    services
}

fn read_service(reader: &mut Reader<'_>, mut table: Table<'_>, stage: &Stage) -> ServicePlan {
    let instances = |value: &DeValue<'_>| values::whole(value, &(1..=INSTANCES_MAX));
    let service = ServicePlan {
        name: reader.required(&mut table, "name", values::name::<ServiceName>).unwrap_or_default(),
        on: read_who(reader, &mut table, "on", stage),
        instances: reader.optional(&mut table, "instances", instances).unwrap_or(1),
        check_every: reader.optional(&mut table, "check_every", values::length),
        has_map: reader.optional(&mut table, "map", values::flag).unwrap_or_default(),
    };
    reader.check_keys(&table);
    service
}

/// The services' names; nothing if one of them could not be read.
fn names_of(services: &[ServicePlan]) -> Option<Vec<String>> {
    let is_read = services.iter().all(|service| !service.name.is_empty());
    is_read.then(|| services.iter().map(|service| service.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Direction, Expectation, Fault, Lie, LinkPlan, LinkSpec, Place, Step, That};

    /// Eight lines with nothing wrong in them; the last is the service's.
    const LEAST: &str = r#"title = "A VM dies"
about = "What it stands for."
duration = "60s"
[topology]
nodes = 50
zones = ["a", "b", "c"]
[[topology.service]]
name = "sip"
"#;

    const FULL: &str = r#"
title = "A VM dies"
about = """
What it stands for,
and where it was seen.
"""
seeds = 32
duration = "2m"

[topology]
nodes = 50
zones = ["a", "B"]
seeds = 3
start = "converged"
running = "all but node-49"
hold = "30s"

[[topology.service]]
name = "sip"
on = "zone a"
instances = 4
check_every = "1s"
map = true

[[topology.service]]
name = "media"

[links]
latency = "300us"
jitter = "400us"
loss = "1%"
duplication = 0.001
reordering = "0.5%"
bandwidth = "1Gbit/s"

[[links.between]]
zones = ["a", "b"]
latency = "20ms"

[[timeline]]
at = "30s"
fault = "loss"
who = "@dead, random 5%"
share = "25%"
direction = "in"
for = "10s"

[[timeline]]
at = "10s"
fault = "crash"
who = "node-7"
as = "dead"

[[timeline]]
at = "10s"
fault = "lie"
who = "@dead"
lie = "forge-leave"

[[expect]]
that = "not-served"
who = "@dead"
from = "16s"

[[expect]]
that = "traffic"
bytes_per_s = 4000
"#;

    #[test]
    fn a_whole_file_is_read() {
        let want = Scenario {
            name: "vm-dies".to_owned(),
            title: "A VM dies".to_owned(),
            about: "What it stands for,\nand where it was seen.".to_owned(),
            seeds: 32,
            duration: Duration::from_secs(120),
            topology: full_topology(),
            links: full_links(),
            timeline: full_timeline(),
            expect: full_expectations(),
        };
        assert_eq!(parse("vm-dies", FULL), Ok(want));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let scenario = parse("x", LEAST).expect("valid");
        let topology = &scenario.topology;
        assert_eq!((scenario.seeds, topology.seeds), (8, 2));
        assert_eq!(topology.start, Start::Cold { within: Duration::from_secs(1) });
        assert_eq!((topology.hold, &topology.running), (Duration::from_secs(20), &Who::all()));
        assert_eq!((topology.services[0].instances, topology.services[0].check_every), (1, None));
        assert_eq!(scenario.links, LinkPlan::default());

        let one = "title = \"t\"\nabout = \"a\"\nduration = \"1s\"\n[topology]\nnodes = 1\n";
        let topology = parse("x", one).expect("valid").topology;
        assert_eq!((topology.zones, topology.seeds), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_their_lines() {
        let text = r#"titel = "A VM dies"
about = ""
duration = 60
[topology]
nodes = 50
zones = ["a", "b_c"]
[[timeline]]
at = "10s"
fault = "crash"
whom = "node-60"
[[timeline]]
fault = "restart"
who = "node-60"
down = 3.5
[[expect]]
that = "seen"
who = "@dead"
state = "dead"
at = "soon"
"#;
        let want = [
            "x.toml:1: title: is missing: it must be written",
            "x.toml:1: titel: is unknown: did you mean \"title\"?",
            "x.toml:2: about: is empty: write something",
            "x.toml:3: duration: 60 has no unit: write \"60s\"",
            "x.toml:6: topology.zones[1]: \"b_c\" cannot be a name: has the character '_': allowed are letters, \
             digits and '-'",
            "x.toml:7: timeline[0].who: is missing: it must be written",
            "x.toml:10: timeline[0].whom: is unknown: did you mean \"who\"?",
            "x.toml:11: timeline[1].at: is missing: it must be written",
            "x.toml:13: timeline[1].who: node-60 does not exist: there are node-0 to node-49",
            "x.toml:14: timeline[1].down: 3.5 has no unit: write a whole number and a unit, such as \"10s\"",
            "x.toml:17: expect[0].who: @dead does not exist: write as = \"dead\" into a step before",
            "x.toml:18: expect[0].state: \"dead\" is unknown: allowed are Alive, Suspect, Holding, Down, Left",
            "x.toml:19: expect[0].at: \"soon\" is no time: write a whole number and one of ns us ms s m h d, such \
             as \"10s\"",
        ];
        let mistakes = parse("x", text).expect_err("thirteen mistakes");
        assert_eq!(mistakes.to_string(), want.join("\n"));
    }

    #[test]
    fn mistakes_of_the_file_as_a_whole_are_reported() {
        let check_with = |written: &str, instead: &str, want: &str| {
            check(&LEAST.replace(written, instead), want);
        };
        check_with("title = \"A VM dies\"\n", "", "x.toml:1: title: is missing");
        check_with("A VM dies", "A\\nB", "x.toml:1: title: has more than one line");
        check_with("\"60s\"", "\"8d\"", "x.toml:3: duration: is too long: at most \"7d\" is allowed");
        check_with("\"60s\"", "\"0s\"", "x.toml:3: duration: is zero");
        check_with("nodes = 50\n", "", "x.toml:4: topology.nodes: is missing");
        check_with("nodes = 50", "nodes = 0", "x.toml:5: topology.nodes: 0 is not allowed: 1 to 20000");
        check_with("nodes = 50", "nodes = 20001", "x.toml:5: topology.nodes: 20001 is not allowed");
        check_with("nodes = 50", "nodes = \"50\"", "is of type string: a whole number is allowed");
        check_with(
            "nodes = 50",
            "nodes = 50\nseeds = 51",
            "x.toml:6: topology.seeds: 51 is not allowed: 1 to 50",
        );
        check_with("\"a\", \"b\", \"c\"", "", "x.toml:6: topology.zones: is empty");
        check_with("\"a\", \"b\", \"c\"", &"\"a\", ".repeat(65), "has 65 entries: at most 64 are allowed");
        check_with("\"sip\"", "\"all\"", "x.toml:8: topology.service[0].name: \"all\" cannot be a name");
        check_with("name = \"sip\"", "", "x.toml:7: topology.service[0].name: is missing");
        check_with("duration", "seeds = 0\nduration", "x.toml:3: seeds: 0 is not allowed: 1 to 1000");
        check_with("duration", "about = \"\"\nduration", "x.toml:3: about: is given twice: leave one out");
        check_with("nodes", "start = \"warm\"\nnodes", "\"warm\" is unknown: allowed are cold, converged");
        let late = "start = \"converged\"\nstart_within = \"1s\"\nnodes";
        check_with("nodes", late, "x.toml:6: topology.start_within: is of no use");
    }

    #[test]
    fn a_file_has_a_largest_size() {
        check(&"#".repeat(FILE_BYTES_MAX + 1), "x.toml:1: has 1048577 bytes: at most 1048576 are allowed");
        let many = |entry: &str, count: usize| format!("{LEAST}{}", entry.repeat(count));
        let step = "[[timeline]]\nat = \"1s\"\nfault = \"heal\"\n";
        let expectation = "[[expect]]\nthat = \"detected\"\nwithin = \"10s\"\n";
        check(&many(step, 1_001), "x.toml:9: timeline: has 1001 entries: at most 1000 are allowed");
        check(&many(expectation, 1_001), "x.toml:9: expect: has 1001 entries: at most 1000 are allowed");
        let services: String =
            (0..64).map(|index| format!("[[topology.service]]\nname = \"media-{index}\"\n")).collect();
        check(&many(&services, 1), "topology.service: has 65 entries: at most 64 are allowed");
        assert!(parse("x", &many(step, 1_000)).is_ok());
    }

    #[test]
    fn a_text_that_is_no_toml_is_reported_with_its_line() {
        let mistakes =
            parse("x", "title = \"t\"\nabout = \"a\nduration = \"60s\"\n").expect_err("an open quote");
        assert_eq!((mistakes.as_slice()[0].line, mistakes.as_slice()[0].field.as_str()), (2, ""));
    }

    #[test]
    fn mistakes_in_services_and_links_are_reported() {
        let check_more = |more: &str, want: &str| check(&format!("{LEAST}{more}"), want);
        let twice = "[[topology.service]]\nname = \"sip\"\n";
        check_more(twice, "topology.service: \"sip\" is there twice: name each once");
        check_more("instances = 65", "x.toml:9: topology.service[0].instances: 65 is not allowed: 1 to 64");
        check_more("on = \"zone d\"", "service[0].on: zone \"d\" does not exist: there are a, b, c");
        check_more("on = \"@dead\"", "service[0].on: @dead is not yet set here: at the begin no label is");
        check_more("chek_every = \"1s\"", "service[0].chek_every: is unknown: did you mean \"check_every\"?");
        check_more("check_every = \"0s\"", "service[0].check_every: is zero");
        check_more("[link]", "x.toml:9: link: is unknown: did you mean \"links\"?");
        check_more("[links]\nloss = \"101%\"", "x.toml:10: links.loss: \"101%\" is not allowed");
        check_more("[links]\nloss = 1.5", "x.toml:10: links.loss: 1.5 is not allowed: 0 to 1");
        check_more("[links]\nlatency = 20", "x.toml:10: links.latency: 20 has no unit: write \"20s\"");
        check_more("[links]\nbandwidth = \"10\"", "links.bandwidth: \"10\" is no bandwidth");
        let check_pair = |lines: &str, want: &str| check_more(&format!("[[links.between]]\n{lines}"), want);
        check_pair("latency = \"1ms\"", "x.toml:9: links.between[0].zones: is missing");
        check_pair(
            "zones = [\"a\", \"b\"]",
            "x.toml:9: links.between[0]: says nothing: write one or more of",
        );
        check_pair("zones = [\"a\"]\nloss = 1", "x.toml:10: links.between[0].zones: must name two zones");
        check_pair("zones = [\"a\", \"d\"]\nloss = 1", "between[0].zones[1]: zone \"d\" does not exist");
    }

    fn check(text: &str, want: &str) {
        let mistakes = parse("x", text).expect_err(want);
        let says = mistakes.to_string();
        assert!(says.contains(want), "wanted: {want}\nsaid: {says}");
        assert_eq!(mistakes.as_slice().len(), 1, "wanted only: {want}\nsaid: {says}");
    }

    fn who(text: &str) -> Who {
        Who::parse(text).expect(text)
    }

    fn full_topology() -> Topology {
        let sip = ServicePlan {
            name: "sip".to_owned(),
            on: who("zone a"),
            instances: 4,
            check_every: Some(Duration::from_secs(1)),
            has_map: true,
        };
        let media = ServicePlan {
            name: "media".to_owned(),
            on: Who::all(),
            instances: 1,
            check_every: None,
            has_map: false,
        };
        Topology {
            nodes: 50,
            zones: vec!["a".to_owned(), "b".to_owned()],
            seeds: 3,
            start: Start::Converged,
            running: who("all but node-49"),
            hold: Duration::from_secs(30),
            services: vec![sip, media],
        }
    }

    fn full_links() -> LinkPlan {
        let default = LinkSpec {
            latency: Some(Duration::from_micros(300)),
            jitter: Some(Duration::from_micros(400)),
            loss: Some(0.01),
            duplication: Some(0.001),
            reordering: Some(0.005),
            bandwidth: Some(1_000_000_000),
        };
        let far = LinkSpec { latency: Some(Duration::from_millis(20)), ..LinkSpec::default() };
        LinkPlan { default, between: vec![("a".to_owned(), "b".to_owned(), far)] }
    }

    fn full_timeline() -> Vec<Step> {
        let crash = Fault::Crash { who: who("node-7") };
        let lie = Fault::Lie { who: who("@dead"), about: None, lie: Lie::ForgeLeave, length: None };
        let loss = Fault::Loss {
            who: who("@dead, random 5%"),
            share: 0.25,
            direction: Direction::In,
            length: Some(Duration::from_secs(10)),
        };
        let step = |at: u64, fault: Fault, label: Option<&str>, text: &str| {
            let line = line_of(&format!("fault = \"{text}\"")) - 2;
            Step { at: Duration::from_secs(at), fault, label: label.map(str::to_owned), line }
        };
        vec![step(10, crash, Some("dead"), "crash"), step(10, lie, None, "lie"), step(30, loss, None, "loss")]
    }

    fn full_expectations() -> Vec<Expectation> {
        let expectation = |that: That, text: &str| {
            let line = line_of(&format!("that = \"{text}\"")) - 1;
            Expectation { that, line }
        };
        let from = Duration::from_secs(16);
        vec![
            expectation(
                That::NotServed {
                    who: who("@dead"),
                    asked: Who::all(),
                    from,
                    until: None,
                    place: Place::First,
                },
                "not-served",
            ),
            expectation(That::Traffic { bytes_per_s: Some(4000.0), messages_per_s: None }, "traffic"),
        ]
    }

    /// The line of the full file that reads so.
    fn line_of(text: &str) -> usize {
        1 + FULL.lines().position(|line| line == text).expect(text)
    }
}
