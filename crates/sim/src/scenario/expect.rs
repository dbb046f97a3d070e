//! `[[expect]]`: what must come of it.

use core::time::Duration;

use super::entry::Entry;
use super::reader::{Reader, Table};
use super::stage::Stage;
use super::values;
use super::{Expectation, That};

/// Everything that can be expected.
const THATS: [&str; 15] = [
    "converged",
    "delivered",
    "not-served",
    "served",
    "seen",
    "never-removed",
    "never-empty",
    "detected",
    "disseminated",
    "wrong-seconds",
    "wrong-share",
    "false-positives",
    "changes",
    "traffic",
    "no-ghost",
];
const STATES: [&str; 5] = ["Alive", "Suspect", "Holding", "Down", "Left"];
/// No run counts as far as this.
const COUNT_MAX: u64 = 1_000_000_000;

/// Reads the expectations, in the order of the file.
pub(super) fn read(reader: &mut Reader<'_>, stage: &Stage, tables: Vec<Table<'_>>) -> Vec<Expectation> {
    tables.into_iter().filter_map(|table| read_expectation(Entry::new(reader, stage, table))).collect()
}

/// Reads one; nothing, which is reported, if it is not said what it is or that is unknown. Then the keys are unknown as
/// well.
fn read_expectation(mut entry: Entry<'_, '_, '_>) -> Option<Expectation> {
    let name: Option<String> = entry.required("that", |value| values::text(value).map(Some));
    let name = name?;
    let that = that_of_members(&mut entry, &name).or_else(|| that_of_figures(&mut entry, &name));
    let Some(that) = that else {
        entry.reject("that", format!("{name:?} is unknown: {}", values::suggestion(&name, &THATS)));
        return None;
    };
    entry.check_keys();
    Some(Expectation { that, line: entry.line() })
}

fn that_of_members(entry: &mut Entry<'_, '_, '_>, name: &str) -> Option<That> {
    Some(match name {
        "converged" => That::Converged { by: entry.expected_at("by") },
        "delivered" => That::Delivered { by: entry.expected_at("by") },
        "not-served" => {
            let (from, until) = read_window(entry);
            That::NotServed { who: entry.who("who"), from, until }
        }
        "served" => {
            let (from, until) = read_window(entry);
            That::Served { who: entry.who("who"), from, until }
        }
        "seen" => {
            let at = entry.expected_at("at");
            That::Seen { who: entry.who("who"), state: read_state(entry), at }
        }
        "never-removed" => That::NeverRemoved { who: entry.who_or_all("who") },
        "never-empty" => That::NeverEmpty { service: entry.service(), from: read_begin(entry) },
        "no-ghost" => That::NoGhost { from: entry.expected_at("from") },
        _ => return None,
    })
}

fn that_of_figures(entry: &mut Entry<'_, '_, '_>, name: &str) -> Option<That> {
    Some(match name {
        "detected" => That::Detected { within: entry.required("within", values::time) },
        "disseminated" => That::Disseminated { within: entry.required("within", values::time) },
        "wrong-seconds" => That::WrongSeconds { at_most: entry.required("at_most", values::time) },
        "wrong-share" => That::WrongShare { at_most: entry.required("at_most", values::share) },
        "false-positives" => That::FalsePositives { at_most: read_count(entry) },
        "changes" => That::Changes { at_most: read_count(entry) },
        "traffic" => read_traffic(entry),
        _ => return None,
    })
}

/// From when until when something is expected; until the end if that is nothing.
fn read_window(entry: &mut Entry<'_, '_, '_>) -> (Duration, Option<Duration>) {
    let from = entry.expected_at("from");
    let stage = entry.stage;
    let until = entry.optional("until", |value| stage.time_until_end(value));
    if until.is_some_and(|until| until < from) {
        entry.reject("until", "is before \"from\": write a later time");
    }
    (from, until)
}

fn read_begin(entry: &mut Entry<'_, '_, '_>) -> Duration {
    let stage = entry.stage;
    entry.optional("from", |value| stage.time_until_end(value)).unwrap_or_default()
}

fn read_state(entry: &mut Entry<'_, '_, '_>) -> String {
    entry.required("state", |value| values::word(value, &STATES)).to_owned()
}

fn read_count(entry: &mut Entry<'_, '_, '_>) -> u64 {
    entry.required("at_most", |value| values::whole(value, &(0..=COUNT_MAX)))
}

fn read_traffic(entry: &mut Entry<'_, '_, '_>) -> That {
    let bytes_per_s = entry.optional("bytes_per_s", values::amount);
    let messages_per_s = entry.optional("messages_per_s", values::amount);
    if !entry.has("bytes_per_s") && !entry.has("messages_per_s") {
        entry.reject("", "says nothing: write bytes_per_s, messages_per_s or both");
    }
    That::Traffic { bytes_per_s, messages_per_s }
}
