//! `ringmesh doctor`: what is blocked between this agent and its peers, and what mends it. If the agent does not answer,
//! what can be said without it.

mod offline;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::path::PathBuf;

use clap::Args;
use ringmesh_agent::client;
use ringmesh_agent::config::Config;
use serde_json::{Value, json};

use crate::agent::{environment, read};
use crate::api::{body_of, items, text, unreachable};
use crate::table::{Table, print_line};
use crate::{Ask, Failure, Outcome};

/// An examination of 64 targets that are all silent takes 8 s, and 14 s if all of them have links.
const USUAL_WITHIN: Duration = Duration::from_secs(40);
/// One of 1,024 targets takes sixteen times as long.
const ALL_WITHIN: Duration = Duration::from_secs(300);

/// Whom to examine.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Examine every member, at most 1,024, and not just seeds and some members.
    #[arg(long)]
    all: bool,
    /// The agent's configuration: the agent is asked where it listens, and if it does not answer the file is checked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's HTTP address; default that of the configuration, or 127.0.0.1:8500.
    #[arg(long, env = "RINGMESH_HTTP", value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Where an agent listens unless something else is configured.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_500);

impl DoctorArgs {
    fn ask(&self, config: Option<&Config>) -> Ask {
        let configured = |config: &Config| {
            let listen = config.http.listen;
            let ip = if listen.ip().is_unspecified() { HTTP_DEFAULT.ip() } else { listen.ip() };
            SocketAddr::new(ip, listen.port())
        };
        Ask { http: self.http.or_else(|| config.map(configured)).unwrap_or(HTTP_DEFAULT), json: self.json }
    }
}

pub(crate) async fn run(args: DoctorArgs) -> Outcome {
    let (path, limit) =
        if args.all { ("/api/v1/doctor?all=true", ALL_WITHIN) } else { ("/api/v1/doctor", USUAL_WITHIN) };
    let config = args.config.as_ref().map(|path| read(path, &environment())).transpose()?;
    let ask = args.ask(config.as_ref());
    match client::ask_patiently(ask.http, path, limit).await {
        Ok(answer) => {
            let examination = body_of(&ask, answer)?;
            check_who_answers(&ask, config.as_ref(), &examination)?;
            show(&ask, &examination)
        }
        Err(error) => {
            let failure = unreachable(&ask, &error);
            examine_alone(config.as_ref(), &ask, &failure.says).await;
            Err(failure)
        }
    }
}

/// An examination by another agent than the one that the configuration is of says nothing about that one.
fn check_who_answers(ask: &Ask, config: Option<&Config>, examination: &Value) -> Outcome {
    let Some(meant) = config.map(|config| config.node.name.to_string()) else { return Ok(()) };
    let answers = text(examination, "node");
    if answers == meant {
        return Ok(());
    }
    let http = ask.http;
    Err(Failure::refused(format!(
        "at {http} {} answers, and the file is of {meant}: give --http",
        visible(&answers)
    )))
}

/// Shows an examination; what is not well makes it a failure.
fn show(ask: &Ask, examination: &Value) -> Outcome {
    if ask.json {
        print_line(&examination.to_string());
    } else {
        report(examination);
    }
    let targets = items(&examination["targets"]);
    let ill = targets.iter().filter(|target| !items(&target["findings"]).is_empty()).count();
    match ill {
        0 => Ok(()),
        _ => Err(Failure::refused(format!("something is wrong at {ill} of {} targets", targets.len()))),
    }
}

fn report(examination: &Value) {
    let targets = items(&examination["targets"]);
    if targets.is_empty() {
        print_line("there is nobody to examine: no seed but this agent itself, and no other member");
        return;
    }
    table(targets).print();
    for target in targets {
        for finding in items(&target["findings"]) {
            let node = text(target, "node");
            let who = if node.is_empty() { text(target, "address") } else { node };
            print_line(&format!("{who}: {}", visible(&text(finding, "says"))));
            print_line(&format!("  cure: {}", visible(&text(finding, "cure"))));
        }
    }
    if examination["left_out"] != 0 {
        print_line(&format!("{} more were left out: --all examines them", text(examination, "left_out")));
    }
}

fn table(targets: &[Value]) -> Table {
    let mut table = Table::new(&["NODE", "ADDRESS", "WE → IT", "IT → US", "ROUND TRIP", "CLOCK", "FINDING"]);
    for target in targets {
        let findings: Vec<String> =
            items(&target["findings"]).iter().map(|finding| text(finding, "kind")).collect();
        let finding = if findings.is_empty() { "well".to_owned() } else { findings.join(" ") };
        table.row(vec![
            or_dash(text(target, "node")),
            text(target, "address"),
            text(target, "to_peer"),
            text(target, "from_peer"),
            or_dash(target["round_trip_us"].as_f64().map(millis).unwrap_or_default()),
            or_dash(target["clock_difference_ms"].as_i64().map(apart).unwrap_or_default()),
            finding,
        ]);
    }
    table
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn millis(micros: f64) -> String {
    format!("{:.1} ms", micros / 1_000.0)
}

/// How far a clock is ahead: below a second nobody needs to know it better.
fn apart(millis: i64) -> String {
    match millis {
        -999..=999 => "< 1 s".to_owned(),
        _ => format!("{:+.1} s", Duration::from_millis(millis.unsigned_abs()).as_secs_f64() * signum(millis)),
    }
}

fn signum(millis: i64) -> f64 {
    if millis < 0 { -1.0 } else { 1.0 }
}

/// What a peer says must not steer the terminal.
fn visible(text: &str) -> String {
    text.chars().map(crate::table::visible).collect()
}

/// Says what can be said without the agent.
async fn examine_alone(config: Option<&Config>, ask: &Ask, why: &str) {
    let checks = match config {
        Some(config) => offline::check(config, ask.http).await,
        None => Vec::new(),
    };
    if ask.json {
        let checks: Vec<Value> = checks.iter().map(offline::Check::to_json).collect();
        print_line(&json!({ "error": "unreachable", "detail": why, "checks": checks }).to_string());
        return;
    }
    if config.is_none() {
        print_line("with --config FILE, doctor checks what can be checked while no agent answers");
    }
    let mut table = Table::new(&["CHECK", "OK", "FINDING"]);
    for check in &checks {
        table.row(check.row());
    }
    if !checks.is_empty() {
        table.print();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_examination_is_a_table_of_directions() {
        let targets = [
            json!({
                "node": "node-1", "address": "10.0.0.7:7300", "to_peer": "open", "from_peer": "open",
                "round_trip_us": 340, "clock_difference_ms": -999, "findings": [],
            }),
            json!({
                "node": null, "address": "10.0.0.8:7300", "to_peer": "blocked", "from_peer": "unknown",
                "round_trip_us": null, "clock_difference_ms": null,
                "findings": [{ "kind": "udp", "says": "nothing", "cure": "open" }],
            }),
        ];
        assert_eq!(
            table(&targets).lines(false),
            [
                "NODE    ADDRESS        WE → IT  IT → US  ROUND TRIP  CLOCK  FINDING",
                "node-1  10.0.0.7:7300  open     open     0.3 ms      < 1 s  well",
                "-       10.0.0.8:7300  blocked  unknown  -           -      udp",
            ]
        );
    }

    #[test]
    fn clocks_say_which_way_they_are_off() {
        assert_eq!([apart(5_200), apart(-61_000), apart(3)], ["+5.2 s", "-61.0 s", "< 1 s"]);
    }
}
