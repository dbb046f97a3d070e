//! `[[timeline]]`: what happens, and when.

use core::time::Duration;
use std::collections::BTreeMap;

use super::entry::Entry;
use super::nodes;
use super::reader::{Reader, Table};
use super::stage::{Mark, Moment, Stage};
use super::values;
use super::{Direction, Fault, Lie, Step};

/// Everything that can happen.
const FAULTS: [&str; 25] = [
    "crash",
    "start",
    "restart",
    "roll",
    "stop",
    "leave",
    "wipe",
    "pause",
    "slow",
    "clock",
    "disk-full",
    "clash",
    "lie",
    "newer",
    "split",
    "one-way",
    "loss",
    "links",
    "heal",
    "service-down",
    "flap",
    "service-slow",
    "churn",
    "drain",
    "register",
];
const LIES: [&str; 4] = ["accuse", "forge", "forge-leave", "replay"];
const DIRECTIONS: [&str; 3] = ["in", "out", "both"];

/// The labels that steps set, and where each is set first in the file. A label whose step has no readable time counts as
/// set from the begin, because that mistake is reported where it is.
pub(super) fn labels(tables: &[Table<'_>]) -> BTreeMap<String, Mark> {
    let mut labels = BTreeMap::new();
    for (index, table) in tables.iter().enumerate() {
        let at = table.peek("at").and_then(|value| values::time(value).ok()).unwrap_or_default();
        if let Some(label) = table.peek("as").and_then(|value| values::label(value).ok()) {
            labels.entry(label).or_insert(Mark { moment: Moment(at, index), line: table.line });
        }
    }
    labels
}

/// Reads the steps, and sorts them by time; steps of one time keep the order of the file.
pub(super) fn read(reader: &mut Reader<'_>, stage: &Stage, tables: Vec<Table<'_>>) -> Vec<Step> {
    let tables = tables.into_iter().enumerate();
    let mut steps: Vec<Step> =
        tables.map(|(index, table)| read_step(Entry::new(reader, stage, table), index)).collect();
    steps.sort_by_key(|step| step.at);
    steps
}

fn read_step(mut entry: Entry<'_, '_, '_>, index: usize) -> Step {
    let stage = entry.stage;
    let at: Option<Duration> = entry.required("at", |value| stage.time_of_step(value).map(Some));
    if let Some(at) = at {
        entry.set_moment(Moment(at, index));
    }
    let label = read_label(&mut entry, index);
    let fault = read_fault(&mut entry).unwrap_or(Fault::Heal);
    Step { at: at.unwrap_or_default(), fault, label, line: entry.line() }
}

fn read_label(entry: &mut Entry<'_, '_, '_>, index: usize) -> Option<String> {
    let label = entry.optional("as", values::label)?;
    let first = entry.stage.labels.get(&label).filter(|mark| mark.moment.1 != index);
    if let Some(line) = first.map(|mark| mark.line) {
        entry.reject("as", format!("@{label} is already set in line {line}: write another name"));
    }
    Some(label)
}

/// Reads what happens; nothing, which is reported, if it is not said or unknown. Then the keys are unknown as well.
fn read_fault(entry: &mut Entry<'_, '_, '_>) -> Option<Fault> {
    let name: Option<String> = entry.required("fault", |value| values::text(value).map(Some));
    let name = name?;
    let fault = fault_of_machines(entry, &name)
        .or_else(|| fault_of_links(entry, &name))
        .or_else(|| fault_of_services(entry, &name));
    let Some(fault) = fault else {
        entry.reject("fault", format!("{name:?} is unknown: {}", values::suggestion(&name, &FAULTS)));
        return None;
    };
    if entry.has("as") && nodes::named_by_fault(&fault).is_empty() {
        entry.reject("as", format!("is of no use: {name:?} is not done to certain hosts"));
    }
    entry.check_keys();
    Some(fault)
}

fn fault_of_machines(entry: &mut Entry<'_, '_, '_>, name: &str) -> Option<Fault> {
    Some(match name {
        "crash" => Fault::Crash { who: entry.who("who") },
        "start" => Fault::Start { who: entry.who("who") },
        "restart" => Fault::Restart { who: entry.who("who"), down: entry.required("down", values::time) },
        "roll" => Fault::Roll {
            who: entry.who("who"),
            down: entry.required("down", values::time),
            every: entry.required("every", values::time),
        },
        "stop" => Fault::Stop { who: entry.who("who") },
        "leave" => Fault::Leave { who: entry.who("who") },
        "wipe" => Fault::Wipe { who: entry.who("who") },
        "pause" => Fault::Pause { who: entry.who("who"), length: entry.required("for", values::length) },
        "slow" => Fault::Slow {
            who: entry.who("who"),
            hold: entry.required("hold", values::length),
            free: entry.required("free", values::length),
            length: entry.length(),
        },
        "clock" => read_clock(entry),
        "disk-full" => Fault::DiskFull { who: entry.who("who"), length: entry.length() },
        "clash" => Fault::Clash { who: entry.one("who"), with: entry.one("with") },
        "lie" => Fault::Lie { who: entry.who("who"), lie: read_lie(entry), length: entry.length() },
        "newer" => Fault::Newer { who: entry.who("who") },
        _ => return None,
    })
}

fn fault_of_links(entry: &mut Entry<'_, '_, '_>, name: &str) -> Option<Fault> {
    Some(match name {
        "split" => Fault::Split { who: entry.who("who"), length: entry.length() },
        "one-way" => Fault::OneWay { from: entry.who("from"), to: entry.who("to"), length: entry.length() },
        "loss" => Fault::Loss {
            who: entry.who("who"),
            share: entry.required("share", values::share),
            direction: read_direction(entry),
            length: entry.length(),
        },
        "links" => Fault::Links { spec: entry.link_spec(), length: entry.length() },
        "heal" => Fault::Heal,
        _ => return None,
    })
}

fn fault_of_services(entry: &mut Entry<'_, '_, '_>, name: &str) -> Option<Fault> {
    Some(match name {
        "service-down" => {
            Fault::ServiceDown { service: entry.service(), who: entry.who("who"), length: entry.length() }
        }
        "flap" => Fault::Flap {
            service: entry.service(),
            who: entry.who("who"),
            up: entry.required("up", values::length),
            down: entry.required("down", values::length),
            length: entry.length(),
        },
        "service-slow" => Fault::ServiceSlow {
            service: entry.service(),
            who: entry.who("who"),
            latency: entry.required("latency", values::time),
            length: entry.length(),
        },
        "churn" => Fault::Churn {
            service: entry.service(),
            per_second: entry.required("per_second", values::per_second),
            length: entry.length(),
        },
        "drain" => Fault::Drain { who: entry.who("who"), length: entry.length() },
        "register" => Fault::Register {
            service: entry.service(),
            who: entry.who("who"),
            per_second: entry.required("per_second", values::per_second),
            length: entry.required("for", values::length),
        },
        _ => return None,
    })
}

fn read_clock(entry: &mut Entry<'_, '_, '_>) -> Fault {
    let who = entry.who("who");
    let (by, back) = entry.required("by", values::jump);
    Fault::Clock { who, by, back }
}

fn read_lie(entry: &mut Entry<'_, '_, '_>) -> Lie {
    match entry.required("lie", |value| values::word(value, &LIES)) {
        "forge" => Lie::Forge,
        "forge-leave" => Lie::ForgeLeave,
        "replay" => Lie::Replay,
        _ => Lie::Accuse,
    }
}

fn read_direction(entry: &mut Entry<'_, '_, '_>) -> Direction {
    match entry.optional("direction", |value| values::word(value, &DIRECTIONS)) {
        Some("in") => Direction::In,
        Some("out") => Direction::Out,
        _ => Direction::Both,
    }
}
