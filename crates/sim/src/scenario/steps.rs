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
const FAULTS: [&str; 26] = [
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
    "forget",
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
const LIES: [&str; 5] = ["accuse", "forge", "forge-leave", "contradict", "replay"];
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
            hold: entry.required("hold", values::cycle),
            free: entry.required("free", values::cycle),
            length: entry.length(),
        },
        "clock" => read_clock(entry),
        "disk-full" => Fault::DiskFull { who: entry.who("who"), length: entry.length() },
        "clash" => {
            let (who, with) = (entry.one("who"), entry.one("with"));
            if who == with && who.is_one() && !who.is_random() {
                entry.reject("with", format!("{with} cannot clash with itself: name another host"));
            }
            Fault::Clash { who, with }
        }
        "lie" => Fault::Lie {
            who: entry.who("who"),
            about: entry.optional_who("about"),
            lie: read_lie(entry),
            length: entry.length(),
        },
        "forget" => Fault::Forget { who: entry.who("who") },
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
            up: entry.required("up", values::cycle),
            down: entry.required("down", values::cycle),
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
        "contradict" => Lie::Contradict,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Who, parse};

    /// Eight lines with nothing wrong in them.
    const LEAST: &str = r#"title = "t"
about = "a"
duration = "60s"
[topology]
nodes = 50
zones = ["a", "b", "c"]
[[topology.service]]
name = "sip"
"#;

    #[test]
    fn every_fault_is_known() {
        for fault in FAULTS {
            let text = format!("{LEAST}[[timeline]]\nat = \"1s\"\nfault = \"{fault}\"\n");
            let says = parse("x", &text).map_or_else(|mistakes| mistakes.to_string(), |_| String::new());
            assert!(!says.contains("unknown"), "{says}");
            assert_eq!(says.is_empty(), fault == "heal", "{fault} has a key that must be written: {says}");
        }
    }

    #[test]
    fn every_fault_is_read() {
        let fault = |lines: &str| -> Fault {
            let text = format!("{LEAST}[[timeline]]\nat = \"1s\"\n{lines}\n");
            parse("x", &text).expect(lines).timeline[0].fault.clone()
        };
        let secs = Duration::from_secs;
        let who = |text: &str| Who::parse(text).expect(text);
        let length = Some(secs(9));
        assert_eq!(
            fault("fault = \"roll\"\nwho = \"all\"\ndown = \"5s\"\nevery = \"8s\""),
            Fault::Roll { who: who("all"), down: secs(5), every: secs(8) }
        );
        assert_eq!(
            fault("fault = \"slow\"\nwho = \"node-1\"\nhold = \"2s\"\nfree = \"1s\"\nfor = \"9s\""),
            Fault::Slow { who: who("node-1"), hold: secs(2), free: secs(1), length }
        );
        assert_eq!(
            fault("fault = \"clock\"\nwho = \"node-1\"\nby = \"-1h\""),
            Fault::Clock { who: who("node-1"), by: secs(3_600), back: true }
        );
        assert_eq!(
            fault("fault = \"clash\"\nwho = \"node-1\"\nwith = \"random 1\""),
            Fault::Clash { who: who("node-1"), with: who("random 1") }
        );
        assert_eq!(
            fault("fault = \"one-way\"\nfrom = \"zone a\"\nto = \"zone b\"\nfor = \"9s\""),
            Fault::OneWay { from: who("zone a"), to: who("zone b"), length }
        );
        assert_eq!(
            fault("fault = \"flap\"\nservice = \"sip\"\nwho = \"all\"\nup = \"3s\"\ndown = \"2s\""),
            Fault::Flap {
                service: "sip".to_owned(),
                who: who("all"),
                up: secs(3),
                down: secs(2),
                length: None
            }
        );
        assert_eq!(
            fault("fault = \"churn\"\nservice = \"sip\"\nper_second = 5\nfor = \"9s\""),
            Fault::Churn { service: "sip".to_owned(), per_second: 5.0, length }
        );
    }

    #[test]
    fn mistakes_in_steps_are_reported() {
        let check_step = |lines: &str, want: &str| check(&format!("[[timeline]]\n{lines}"), want);
        check_step("at = 10\nfault = \"heal\"", "x.toml:10: timeline[0].at: 10 has no unit: write \"10s\"");
        check_step(
            "at = \"10\"\nfault = \"heal\"",
            "x.toml:10: timeline[0].at: 10 has no unit: write \"10s\"",
        );
        check_step(
            "at = \"1s\"\nfault = \"clash\"\nwho = \"node-1\"\nwith = \"node-1\"",
            "timeline[0].with: node-1 cannot clash with itself: name another host",
        );
        check_step(
            "at = \"1s\"\nfault = \"pause\"\nwho = \"node-1\"\nfor = \"0s\"",
            "timeline[0].for: is zero",
        );
        check_step("at = \"-1s\"\nfault = \"heal\"", "x.toml:10: timeline[0].at: -1s is negative");
        check_step(
            "at = \"60s\"\nfault = \"heal\"",
            "timeline[0].at: is not before the end of the scenario at 1m",
        );
        check_step(
            "at = \"61s\"\nfault = \"heal\"",
            "timeline[0].at: is not before the end of the scenario at 1m",
        );
        check_step("fault = \"heal\"", "x.toml:9: timeline[0].at: is missing");
        check_step("at = \"1s\"", "x.toml:9: timeline[0].fault: is missing");
        let check_fault =
            |lines: &str, want: &str| check_step(&format!("at = \"1s\"\nfault = {lines}"), want);
        check_fault(
            "\"crahs\"\nwho = \"all\"",
            "x.toml:11: timeline[0].fault: \"crahs\" is unknown: did you mean",
        );
        check_fault(
            "\"kill\"",
            "timeline[0].fault: \"kill\" is unknown: allowed are crash, start, restart, roll,",
        );
        check_fault("\"crash\"", "x.toml:9: timeline[0].who: is missing");
        check_fault("\"crash\"\nwho = 7", "x.toml:12: timeline[0].who: is of type integer: a text in quotes");
        let surplus = "x.toml:13: timeline[0].down: is unknown: allowed are at, as, fault, who";
        check_fault("\"crash\"\nwho = \"all\"\ndown = \"1s\"", surplus);
        check_fault("\"pause\"\nwho = \"all\"\nfor = \"0s\"", "x.toml:13: timeline[0].for: is zero");
        check_fault("\"split\"\nwho = \"all\"\nfor = \"0s\"", "x.toml:13: timeline[0].for: is zero");
        check_fault("\"clock\"\nwho = \"all\"\nby = \"1d\"", "\"1d\" has no sign: write \"+1d\" or \"-1d\"");
        check_fault(
            "\"clash\"\nwho = \"zone a\"\nwith = \"node-1\"",
            "timeline[0].who: \"zone a\" is not one host",
        );
        check_fault("\"lie\"\nwho = \"all\"\nlie = \"acuse\"", "did you mean \"accuse\"?");
        check_fault("\"loss\"\nwho = \"all\"\nshare = \"2\"", "timeline[0].share: \"2\" is no share");
        check_fault("\"loss\"\nwho = \"all\"\nshare = 1\ndirection = \"inn\"", "did you mean \"in\"?");
        check_fault("\"links\"", "x.toml:9: timeline[0]: says nothing: write one or more of latency, jitter");
        check_fault(
            "\"churn\"\nservice = \"sip\"\nper_second = 0",
            "0 is not allowed: more than 0, at most 10000",
        );
        check_fault(
            "\"churn\"\nservice = \"rtp\"\nper_second = 1",
            "service \"rtp\" does not exist: there are sip",
        );
    }

    #[test]
    fn hosts_that_do_not_exist_are_reported() {
        let check_who = |who: &str, want: &str| {
            check(&format!("[[timeline]]\nat = \"1s\"\nfault = \"crash\"\nwho = \"{who}\""), want);
        };
        check_who(
            "node-60",
            "x.toml:12: timeline[0].who: node-60 does not exist: there are node-0 to node-49",
        );
        check_who("node-40..node-60", "node-60 does not exist: there are node-0 to node-49");
        check_who("node-60, zone d", "node-0 to node-49; zone \"d\" does not exist: there are a, b, c");
        check_who("all but zone d", "zone \"d\" does not exist");
        check_who("random 51", "random 51 is more than there are: there are node-0 to node-49");
        check_who("@dead", "@dead does not exist: write as = \"dead\" into a step before");
        check_who("seed", "\"seed\" names no hosts: did you mean \"seeds\"?");
    }

    #[test]
    fn labels_are_set_before_they_are_named() {
        let step = |at: &str, who: &str, label: &str| {
            format!("[[timeline]]\nat = \"{at}\"\nfault = \"crash\"\nwho = \"{who}\"\nas = \"{label}\"\n")
        };
        let steps = |steps: [String; 2]| steps.concat();
        let sorted = steps([step("20s", "@dead", "more"), step("10s", "all", "dead")]);
        let scenario = parse("x", &format!("{LEAST}{sorted}")).expect("the second comes first");
        let labels: Vec<_> = scenario.timeline.iter().map(|step| step.label.as_deref()).collect();
        assert_eq!(labels, [Some("dead"), Some("more")]);

        let early = "@dead is not yet set here, only by the step at 20s in line 14";
        check(&steps([step("10s", "@dead", "more"), step("20s", "all", "dead")]), early);
        let same_time = "@dead is not yet set here, only by the step at 10s in line 14";
        check(&steps([step("10s", "@dead", "more"), step("10s", "all", "dead")]), same_time);
        let itself = "@dead is not yet set here, only by the step at 10s in line 9";
        check(&steps([step("10s", "@dead", "dead"), step("10s", "all", "more")]), itself);
        let unknown = "@daed does not exist: there are dead, more";
        check(&steps([step("10s", "all", "dead"), step("10s", "@daed", "more")]), unknown);
        let twice = "x.toml:18: timeline[1].as: @dead is already set in line 9: write another name";
        check(&steps([step("10s", "all", "dead"), step("11s", "all", "dead")]), twice);
        check(&step("10s", "all", "@dead"), "\"@dead\" is no label: write \"dead\" here");
        check(
            &step("10s", "all", "the dead"),
            "\"the dead\" is no label: letters, digits, '-' and '_' are allowed",
        );
        let nobody = "[[timeline]]\nat = \"1s\"\nfault = \"heal\"\nas = \"dead\"\n";
        check(nobody, "timeline[0].as: is of no use: \"heal\" is not done to certain hosts");
    }

    /// Checks a file with these lines from the ninth on, in which only one thing is wrong.
    fn check(lines: &str, want: &str) {
        let mistakes = parse("x", &format!("{LEAST}{lines}")).expect_err(want);
        let says = mistakes.to_string();
        assert!(says.contains(want), "wanted: {want}\nsaid: {says}");
        assert_eq!(mistakes.as_slice().len(), 1, "wanted only: {want}\nsaid: {says}");
    }
}
