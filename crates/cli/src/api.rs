//! Commands that ask the agent's HTTP API and show what it says.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use ringmesh_agent::client::{self, Answer, encode};
use ringmesh_types::time::WallTime;
use serde_json::{Value, json};

use crate::table::{Table, print_line};
use crate::{Ask, Failure, Outcome};

/// What to register.
#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// A file with the registration as JSON; - for standard input.
    #[arg(long, conflicts_with_all = ["id", "service", "endpoint"])]
    file: Option<PathBuf>,
    /// The instance's id, unique on this node.
    #[arg(long, required_unless_present = "file")]
    id: Option<String>,
    /// What it is a copy of.
    #[arg(long, required_unless_present = "file")]
    service: Option<String>,
    /// Where it listens: TRANSPORT:ADDRESS:PORT, such as udp:192.0.2.1:5060; may be repeated.
    #[arg(long, required_unless_present = "file", value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// How to check every endpoint: sip, rtpengine, http, tcp or ttl; may be repeated.
    #[arg(long, value_name = "TYPE")]
    check: Vec<String>,
    /// Time between two checks.
    #[arg(long, value_name = "DURATION")]
    interval: Option<String>,
    /// What is spoken at the endpoints; default the service's name.
    #[arg(long)]
    protocol: Option<String>,
    /// Its share among its equals.
    #[arg(long)]
    weight: Option<u64>,
    /// A label to filter by; may be repeated.
    #[arg(long)]
    tag: Vec<String>,
    /// Replace another instance with the same id.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    ask: Ask,
}

/// Asks, and turns a refusal into a failure.
pub(crate) async fn ask(ask: &Ask, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let answer = client::ask(ask.http, method, path, body).await.map_err(|error| unreachable(ask, &error))?;
    body_of(ask, answer)
}

/// The agent does not answer.
pub(crate) fn unreachable(ask: &Ask, error: &std::io::Error) -> Failure {
    Failure::unreachable(format!(
        "the agent at {} does not answer: {error}. Does it run? Give another address with --http",
        ask.http
    ))
}

/// What an answer says; a refusal is a failure.
pub(crate) fn body_of(ask: &Ask, answer: Answer) -> Result<Value, Failure> {
    let Answer { status, body } = answer;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    if ask.json {
        print_line(&body.to_string());
    }
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    Err(Failure::refused(format!("{}: {}", text("error"), text("detail"))))
}

pub(crate) fn text(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value[field].to_string(),
    }
}

pub(crate) fn moment(value: &Value, field: &str) -> String {
    match value[field].as_u64() {
        None | Some(0) => "-".to_owned(),
        Some(millis) => WallTime::from_unix_millis(millis).to_string(),
    }
}

pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) async fn members(args: &Ask) -> Outcome {
    let answer = ask(args, "GET", "/api/v1/members", None).await?;
    if args.json {
        print_line(&answer.to_string());
        return Ok(());
    }
    members_table(&answer).print();
    for member in items(&answer).iter().filter(|member| member["clash"].is_string()) {
        print_line(&format!(
            "warning: two agents are named {}, the other one runs at {}: rename one of them",
            text(member, "node"),
            text(member, "clash")
        ));
    }
    Ok(())
}

/// The members as a table.
pub(crate) fn members_table(answer: &Value) -> Table {
    let mut table = Table::new(&["NODE", "STATE", "ZONE", "REGION", "MESH", "SINCE", "CAUSE"]);
    for member in items(answer) {
        table.row(vec![
            text(member, "node"),
            text(member, "state"),
            text(member, "zone"),
            text(member, "region"),
            text(member, "mesh"),
            moment(member, "since"),
            match member["demoted"].as_str() {
                Some(why) => format!("{}; {why}: last in answers", text(member, "cause")),
                None => text(member, "cause"),
            },
        ]);
    }
    table
}

pub(crate) async fn services(args: &Ask) -> Outcome {
    let answer = ask(args, "GET", "/api/v1/services", None).await?;
    if args.json {
        print_line(&answer.to_string());
        return Ok(());
    }
    let mut table = Table::new(&[
        "SERVICE",
        "INSTANCES",
        "PASSING",
        "GREYLISTED",
        "UNKNOWN",
        "FAILING",
        "DRAINING",
        "TAGS",
    ]);
    for service in items(&answer) {
        let fields =
            ["service", "instances", "passing", "greylisted", "unknown", "failing", "draining", "tags"];
        table.row(fields.iter().map(|field| text(service, field)).collect());
    }
    table.print();
    Ok(())
}

pub(crate) async fn service(args: &Ask, name: &str, filters: &[(&str, Option<String>)]) -> Outcome {
    let mut path = format!("/api/v1/services/{}", encode(name));
    let given = filters.iter().filter_map(|(field, value)| Some((field, value.as_ref()?)));
    for (index, (field, value)) in given.enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        path.push_str(&format!("{separator}{field}={}", encode(value)));
    }
    let answer = ask(args, "GET", &path, None).await?;
    if args.json {
        print_line(&answer.to_string());
        return Ok(());
    }
    instances_table(&answer["instances"]).print();
    Ok(())
}

/// Instances of a service as a table, a row per endpoint.
pub(crate) fn instances_table(instances: &Value) -> Table {
    let mut table = Table::new(&[
        "INSTANCE", "NODE", "ZONE", "ENDPOINT", "STATE", "SINCE", "MEMBER", "WEIGHT", "DRAINING",
    ]);
    for instance in items(instances) {
        for endpoint in items(&instance["endpoints"]) {
            let at = format!(
                "{}/{} {}:{}",
                text(endpoint, "protocol"),
                text(endpoint, "transport"),
                text(endpoint, "address"),
                text(endpoint, "port")
            );
            let draining = if instance["is_draining"] == true { "draining" } else { "" };
            table.row(vec![
                text(instance, "id"),
                text(instance, "node"),
                text(instance, "zone"),
                at,
                text(endpoint, "state"),
                moment(endpoint, "since"),
                text(instance, "member_state"),
                text(instance, "weight"),
                draining.to_owned(),
            ]);
        }
    }
    table
}

pub(crate) async fn explain(args: &Ask, name: &str, qtype: Option<&str>, profile: Option<&str>) -> Outcome {
    let mut path = format!("/api/v1/explain?name={}", encode(name));
    for (key, value) in [("type", qtype), ("profile", profile)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", encode(value)));
        }
    }
    let answer = ask(args, "GET", &path, None).await?;
    if args.json {
        print_line(&answer.to_string());
    } else {
        show_explained(&answer);
    }
    if text(&answer, "rcode") == "NOERROR" { Ok(()) } else { Err(Failure::refused(outcome_of(&answer))) }
}

/// The question and what comes of it.
fn outcome_of(answer: &Value) -> String {
    format!("{} {}: {}", text(answer, "name"), text(answer, "qtype"), text(answer, "rcode"))
}

fn show_explained(answer: &Value) {
    print_line(&outcome_of(answer));
    print_line(&format!("understood as: {}", text(answer, "understood")));
    if text(answer, "qtype") == "SRV" {
        print_line(&format!("profile {}: {}", text(answer, "profile"), text(answer, "targets")));
    }
    if answer["floor"].is_string() {
        print_line(&format!("floor: {}", text(answer, "floor")));
    }
    let mut table = Table::new(&[
        "IN", "INSTANCE", "NODE", "ZONE", "ENDPOINT", "STATE", "SINCE", "MEMBER", "PRIO", "WEIGHT", "SENT",
        "SHARE", "REASON",
    ]);
    for candidate in items(&answer["candidates"]) {
        let share = candidate["share"].as_f64().unwrap_or_default() * 100.0;
        let is_in = if candidate["in_answer"] == true { "yes" } else { "no" };
        table.row(vec![
            is_in.to_owned(),
            text(candidate, "instance"),
            text(candidate, "node"),
            text(candidate, "zone"),
            text(candidate, "endpoint"),
            text(candidate, "state"),
            moment(candidate, "since"),
            text(candidate, "member_state"),
            text(candidate, "priority"),
            text(candidate, "weight"),
            text(candidate, "sent_weight"),
            format!("{share:.0} %"),
            text(candidate, "reason"),
        ]);
    }
    table.print();
}

pub(crate) async fn events(args: &Ask, since: u64, limit: usize) -> Outcome {
    let answer = ask(args, "GET", &format!("/api/v1/events?since={since}&limit={limit}"), None).await?;
    if args.json {
        print_line(&answer.to_string());
        return Ok(());
    }
    let mut table = Table::new(&["NUMBER", "TIME", "KIND", "SUBJECT", "FROM", "TO", "CAUSE"]);
    for event in items(&answer) {
        table.row(vec![
            text(event, "sequence"),
            moment(event, "time"),
            text(event, "kind"),
            text(event, "subject"),
            text(event, "from"),
            text(event, "to"),
            text(event, "cause"),
        ]);
    }
    table.print();
    Ok(())
}

/// Posts a wish and says what came of it.
pub(crate) async fn post(args: &Ask, path: &str, body: Option<&Value>) -> Outcome {
    order(args, "POST", path, body).await
}

/// Tells the agent to do something and says what came of it.
pub(crate) async fn order(args: &Ask, method: &str, path: &str, body: Option<&Value>) -> Outcome {
    let answer = ask(args, method, path, body).await?;
    if args.json {
        print_line(&answer.to_string());
    } else {
        print_line(&text(&answer, "ok"));
    }
    Ok(())
}

pub(crate) async fn deregister(args: &Ask, id: &str) -> Outcome {
    post(args, &format!("/api/v1/deregister/{}", encode(id)), None).await
}

pub(crate) async fn drain(args: &Ask, verb: &str, instance: Option<String>) -> Outcome {
    let body = instance.map_or_else(|| json!({}), |id| json!({ "instance": id }));
    post(args, &format!("/api/v1/{verb}"), Some(&body)).await
}

pub(crate) async fn hold(args: &Ask, length: Option<String>) -> Outcome {
    let body = length.map_or_else(|| json!({}), |length| json!({ "for": length }));
    post(args, "/api/v1/hold", Some(&body)).await
}

pub(crate) async fn forget(args: &Ask, node: &str) -> Outcome {
    post(args, &format!("/api/v1/forget/{}", encode(node)), None).await
}

pub(crate) async fn register(args: RegisterArgs) -> Outcome {
    let body = match &args.file {
        Some(path) => read_registration(path)?,
        None => registration(&args)?,
    };
    let path = if args.replace { "/api/v1/register?replace=true" } else { "/api/v1/register" };
    post(&args.ask, path, Some(&body)).await
}

fn read_registration(path: &PathBuf) -> Result<Value, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    } else {
        text = std::fs::read_to_string(path).map_err(unreadable)?;
    }
    serde_json::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn registration(args: &RegisterArgs) -> Result<Value, Failure> {
    let mut endpoints = Vec::new();
    for written in &args.endpoint {
        let wrong = || {
            let says =
                format!("--endpoint {written:?}: write TRANSPORT:ADDRESS:PORT, such as udp:192.0.2.1:5060");
            Failure::usage(says)
        };
        let (transport, at) = written.split_once(':').ok_or_else(wrong)?;
        let at: core::net::SocketAddr = at.parse().map_err(|_| wrong())?;
        let checks: Vec<Value> = args
            .check
            .iter()
            .map(|kind| match &args.interval {
                Some(interval) => json!({ "type": kind, "interval": interval }),
                None => json!({ "type": kind }),
            })
            .collect();
        let mut endpoint =
            json!({ "transport": transport, "address": at.ip(), "port": at.port(), "checks": checks });
        if let Some(protocol) = &args.protocol {
            endpoint["protocol"] = json!(protocol);
        }
        endpoints.push(endpoint);
    }
    let mut body =
        json!({ "id": args.id, "service": args.service, "endpoints": endpoints, "tags": args.tag });
    if let Some(weight) = args.weight {
        body["weight"] = json!(weight);
    }
    Ok(body)
}
