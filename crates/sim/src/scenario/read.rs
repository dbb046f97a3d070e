//! From a scenario file to a [`Scenario`]: the file as a whole, its topology, and how large it may be.
//!
//! Reading is pure: it opens no file. It reports every mistake at once, each with its line. What happens and what is
//! expected is read by `steps` and `expect`.

use core::time::Duration;

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
    tables.into_iter().map(|table| read_service(reader, table, stage)).collect()
}

fn read_service(reader: &mut Reader<'_>, mut table: Table<'_>, stage: &Stage) -> ServicePlan {
    let instances = |value: &DeValue<'_>| values::whole(value, &(1..=INSTANCES_MAX));
    let service = ServicePlan {
        name: reader.required(&mut table, "name", values::name::<ServiceName>).unwrap_or_default(),
        on: read_who(reader, &mut table, "on", stage),
        instances: reader.optional(&mut table, "instances", instances).unwrap_or(1),
        check_every: reader.optional(&mut table, "check_every", values::length),
    };
    reader.check_keys(&table);
    service
}

/// The services' names; nothing if one of them could not be read.
fn names_of(services: &[ServicePlan]) -> Option<Vec<String>> {
    let is_read = services.iter().all(|service| !service.name.is_empty());
    is_read.then(|| services.iter().map(|service| service.name.clone()).collect())
}
