//! `[[expect]]`: what must come of it.

use core::time::Duration;

use super::entry::Entry;
use super::reader::{Reader, Table};
use super::stage::Stage;
use super::values;
use super::{Expectation, Place, That};

/// Everything that can be expected.
const THATS: [&str; 17] = [
    "converged",
    "delivered",
    "not-served",
    "not-named",
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
    "view-events",
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
        "not-served" => read_not_served(entry, Place::First),
        "not-named" => read_not_served(entry, Place::Any),
        "served" => {
            let (from, until) = read_window(entry);
            That::Served { who: entry.expected_who("who"), from, until }
        }
        "seen" => {
            let at = entry.expected_at("at");
            That::Seen { who: entry.expected_who("who"), state: read_state(entry), at }
        }
        "never-removed" => That::NeverRemoved { who: entry.expected_who_or_all("who") },
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
        "view-events" => That::ViewEvents { at_most: read_count(entry) },
        "traffic" => read_traffic(entry),
        _ => return None,
    })
}

fn read_not_served(entry: &mut Entry<'_, '_, '_>, place: Place) -> That {
    let (from, until) = read_window(entry);
    let asked = entry.expected_who_or_all("asked");
    That::NotServed { who: entry.expected_who("who"), asked, from, until, place }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    /// Twelve lines with nothing wrong in them.
    const LEAST: &str = r#"title = "t"
about = "a"
duration = "60s"
[topology]
nodes = 50
[[topology.service]]
name = "sip"
[[timeline]]
at = "10s"
fault = "crash"
who = "node-7"
as = "dead"
"#;

    #[test]
    fn every_expectation_is_known() {
        for that in THATS {
            let says = mistakes_of(&format!("that = \"{that}\""));
            assert!(!says.contains("unknown"), "{says}");
            let has_defaults = that == "never-removed";
            assert_eq!(says.is_empty(), has_defaults, "{that} has a key that must be written: {says}");
        }
    }

    #[test]
    fn every_expectation_is_read() {
        let lines = [
            "that = \"converged\"\nby = \"60s\"",
            "that = \"delivered\"\nby = \"60s\"",
            "that = \"not-served\"\nwho = \"@dead\"\nfrom = \"10s\"",
            "that = \"not-served\"\nwho = \"@dead\"\nasked = \"all but node-3\"\nfrom = \"10s\"",
            "that = \"served\"\nwho = \"all but @dead\"\nfrom = \"16s\"\nuntil = \"16s\"",
            "that = \"seen\"\nwho = \"@dead\"\nstate = \"Down\"\nat = \"20s\"",
            "that = \"never-removed\"\nwho = \"all but @dead\"",
            "that = \"never-empty\"\nservice = \"sip\"",
            "that = \"no-ghost\"\nfrom = \"20s\"",
            "that = \"detected\"\nwithin = \"6s\"",
            "that = \"disseminated\"\nwithin = \"1s\"",
            "that = \"wrong-seconds\"\nat_most = \"0s\"",
            "that = \"wrong-share\"\nat_most = \"1%\"",
            "that = \"false-positives\"\nat_most = 0",
            "that = \"changes\"\nat_most = 3",
            "that = \"view-events\"\nat_most = 3",
            "that = \"traffic\"\nbytes_per_s = 4000\nmessages_per_s = 2.5",
        ];
        for lines in lines {
            assert_eq!(mistakes_of(lines), "", "{lines}");
        }
    }

    #[test]
    fn mistakes_in_expectations_are_reported() {
        check("by = \"1s\"", "x.toml:13: expect[0].that: is missing");
        check(
            "that = \"converge\"",
            "x.toml:14: expect[0].that: \"converge\" is unknown: did you mean \"converged\"?",
        );
        check("that = \"quick\"", "\"quick\" is unknown: allowed are converged, delivered, not-served,");
        check("that = \"converged\"\nby = 10", "x.toml:15: expect[0].by: 10 has no unit: write \"10s\"");
        check("that = \"converged\"\nby = \"61s\"", "expect[0].by: is after the end of the scenario at 1m");
        check(
            "that = \"no-ghost\"\nfrom = \"61s\"",
            "expect[0].from: is after the end of the scenario at 1m",
        );
        check(
            "that = \"converged\"\nby = \"1s\"\nfrom = \"1s\"",
            "expect[0].from: is unknown: allowed are that, by",
        );
        check("that = \"traffic\"", "x.toml:13: expect[0]: says nothing: write bytes_per_s");
        check("that = \"traffic\"\nbytes_per_s = -1", "expect[0].bytes_per_s: -1 is negative");
        check("that = \"wrong-share\"\nat_most = \"200%\"", "expect[0].at_most: \"200%\" is not allowed");
        check("that = \"changes\"\nat_most = -1", "expect[0].at_most: -1 is not allowed: 0 to 1000000000");
        check("that = \"never-empty\"\nservice = \"rtp\"", "service \"rtp\" does not exist: there are sip");
        let check_served = |lines: &str, want: &str| check(&format!("that = \"served\"\n{lines}"), want);
        check_served("who = \"all\"", "x.toml:13: expect[0].from: is missing");
        check_served("who = \"node-60\"\nfrom = \"1s\"", "expect[0].who: node-60 does not exist");
        check_served("who = \"random 3\"\nfrom = \"1s\"", "\"random 3\" would draw hosts of its own");
        check_served("who = \"all but random 5%\"\nfrom = \"1s\"", "\"all but random 5%\" would draw hosts");
        check_served("who = \"@daed\"\nfrom = \"20s\"", "@daed does not exist: there are dead");
        check_served(
            "who = \"@dead\"\nfrom = \"9s\"",
            "@dead is not yet set here, only by the step at 10s in line 8",
        );
        check_served("who = \"all\"\nfrom = \"20s\"\nuntil = \"19s\"", "expect[0].until: is before \"from\"");
        check_served("who = \"all\"\nfrom = \"1s\"\nuntil = \"61s\"", "expect[0].until: is after the end");
        check(
            "that = \"not-served\"\nwho = \"@dead\"\nfrom = \"20s\"\nasked = \"node-60\"",
            "expect[0].asked: node-60 does not exist",
        );
        let state = "that = \"seen\"\nwho = \"@dead\"\nat = \"20s\"\nstate = \"alive\"";
        check(state, "x.toml:17: expect[0].state: \"alive\" is unknown: did you mean \"Alive\"?");
    }

    /// Checks a file with this expectation, in which only one thing is wrong.
    fn check(lines: &str, want: &str) {
        let says = mistakes_of(lines);
        assert!(says.contains(want), "wanted: {want}\nsaid: {says}");
        assert_eq!(says.lines().count(), 1, "wanted only: {want}\nsaid: {says}");
    }

    fn mistakes_of(lines: &str) -> String {
        let text = format!("{LEAST}[[expect]]\n{lines}\n");
        parse("x", &text).map_or_else(|mistakes| mistakes.to_string(), |_| String::new())
    }
}
