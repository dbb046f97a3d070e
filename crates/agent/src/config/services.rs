//! `[[service]]`: what runs on this node, turned into the bodies that an HTTP client would send to register it.
//!
//! Names, numbers and checks are judged here, with their lines; whether the whole is acceptable (addresses that may be
//! advertised, ids that are already taken over HTTP) is for the node's registry.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::RangeInclusive;
use core::str::FromStr;
use std::collections::BTreeMap;

use ringmesh_health::spec::RawCheck;
use ringmesh_types::limits;
use ringmesh_types::name::{InstanceId, ProtocolName, ServiceName};
use ringmesh_types::service::{Endpoint, Transport};
use serde_json::{Value, json};

use super::DeclaredService;
use super::error::Place;
use super::knob;
use super::reader::{Reader, Table};
use super::values;

const SERVICE_KEYS: [&str; 5] = ["id", "service", "tags", "weight", "endpoint"];
const ENDPOINT_KEYS: [&str; 5] = ["protocol", "transport", "address", "port", "check"];
const CHECK_KEYS: [&str; 11] = [
    "type",
    "interval",
    "timeout",
    "rise",
    "fall",
    "latency_limit",
    "accept",
    "path",
    "expect",
    "command",
    "ttl",
];

/// Ports that something can listen on.
const PORTS: RangeInclusive<u16> = 1..=u16::MAX;
/// Status codes that end a SIP transaction (RFC 3261, 7.2).
const SIP_CODES: RangeInclusive<u16> = 200..=699;
/// Status codes of HTTP (RFC 9110, 15).
const HTTP_CODES: RangeInclusive<u16> = 100..=599;
/// Codes in one list at most.
const CODES_MAX: usize = 32;
/// Words of a command at most.
const WORDS_MAX: usize = 64;

/// Reads all declared services, without those that are wrong.
pub(super) fn read<'a>(reader: &mut Reader<'a>, root: &Table<'a>) -> Vec<DeclaredService> {
    let mut lines_by_id = BTreeMap::new();
    let mut services = Vec::new();
    for table in reader.tables(root, "service", limits::INSTANCES_PER_NODE_MAX) {
        let line = line_of(&table);
        let Some((id, body)) = read_service(reader, &table) else {
            continue;
        };
        match lines_by_id.get(&id) {
            Some(first) => {
                let why = format!("\"{id}\" is already the id of the service at line {first}");
                reader.reject_key(&table, "id", why);
            }
            None => {
                lines_by_id.insert(id, line);
                services.push(DeclaredService { line, body });
            }
        }
    }
    services
}

/// Tables stand in the file and nowhere else.
fn line_of(table: &Table<'_>) -> usize {
    match table.place {
        Place::Line(line) => line,
        Place::File | Place::Variable(_) => 0,
    }
}

fn read_service<'a>(reader: &mut Reader<'a>, table: &Table<'a>) -> Option<(InstanceId, Value)> {
    reader.check_keys(table, &SERVICE_KEYS);
    let id: Option<InstanceId> = reader.required(table, "id", values::name);
    let service: Option<ServiceName> = reader.required(table, "service", values::name);
    let tags = reader.list(table, "tags", limits::TAGS_PER_INSTANCE_MAX, values::tag).unwrap_or_default();
    let weight = reader.number(table, "weight", &knob::WEIGHT.range()).unwrap_or(knob::WEIGHT.default);
    let mut endpoints = Vec::new();
    for endpoint in reader.tables(table, "endpoint", limits::ENDPOINTS_PER_INSTANCE_MAX) {
        endpoints.extend(read_endpoint(reader, &endpoint));
    }
    if endpoints.is_empty() && !reader.is_rejected(&format!("{}.endpoint", table.path)) {
        reader.reject_missing(table, "endpoint");
    }
    let (id, service) = (id?, service?);
    let body = json!({
        "id": id.as_str(),
        "service": service.as_str(),
        "tags": tags,
        "weight": weight,
        "endpoints": endpoints,
    });
    Some((id, body))
}

fn read_endpoint<'a>(reader: &mut Reader<'a>, table: &Table<'a>) -> Option<Value> {
    reader.check_keys(table, &ENDPOINT_KEYS);
    let protocol: Option<ProtocolName> = reader.optional(table, "protocol", values::name);
    let transport: Option<Transport> = reader.required(table, "transport", Transport::from_str);
    let address: Option<IpAddr> = reader.required(table, "address", values::address);
    if !reader.has(table, "port") {
        reader.reject_missing(table, "port");
    }
    let port: Option<u16> = reader.number(table, "port", &PORTS);
    let mut checks = Vec::new();
    for check in reader.tables(table, "check", limits::CHECKS_PER_ENDPOINT_MAX) {
        checks.extend(read_check(reader, &check, transport));
    }
    let (transport, address, port) = (transport?, address?, port?);
    Some(json!({
        "protocol": protocol.as_ref().map(ProtocolName::as_str),
        "transport": transport.as_str(),
        "address": address.to_string(),
        "port": port,
        "checks": checks,
    }))
}

fn read_check<'a>(reader: &mut Reader<'a>, table: &Table<'a>, transport: Option<Transport>) -> Option<Value> {
    reader.check_keys(table, &CHECK_KEYS);
    let kind = reader.required(table, "type", values::any);
    let is_typed = kind.is_some();
    let check = RawCheck {
        kind: kind.unwrap_or_default(),
        interval: reader.duration(table, "interval", values::any),
        timeout: reader.duration(table, "timeout", values::any),
        rise: reader.number(table, "rise", &knob::IN_A_ROW.range()),
        fall: reader.number(table, "fall", &knob::IN_A_ROW.range()),
        latency_limit: reader.duration(table, "latency_limit", values::any),
        accept: reader.numbers(table, "accept", CODES_MAX, &SIP_CODES),
        path: reader.optional(table, "path", values::any),
        expect: reader.numbers(table, "expect", CODES_MAX, &HTTP_CODES),
        command: reader.list(table, "command", WORDS_MAX, values::any),
        ttl: reader.duration(table, "ttl", values::any),
    };
    if !is_typed {
        return None;
    }
    judge(reader, table, &check, transport);
    serde_json::to_value(check).ok()
}

/// Reports what is wrong with the check as a whole. Only an endpoint's transport matters to its checks.
fn judge<'a>(reader: &mut Reader<'a>, table: &Table<'a>, check: &RawCheck, transport: Option<Transport>) {
    let endpoint = Endpoint {
        protocol: stand_in_protocol(),
        transport: transport.unwrap_or_else(|| usual_transport(&check.kind)),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: *PORTS.start(),
    };
    for problem in check.to_spec(&table.path, &endpoint).err().unwrap_or_default() {
        let key = problem.field.rsplit('.').next().unwrap_or_default();
        if !reader.is_rejected(&problem.field) {
            reader.reject_key(table, key, problem.why);
        }
    }
}

fn stand_in_protocol() -> ProtocolName {
    "any".parse().expect("a host-name label")
}

/// What a check of this type can be about, so that an endpoint without a transport is reported once and not twice.
fn usual_transport(kind: &str) -> Transport {
    if kind == "tcp" { Transport::Tcp } else { Transport::Udp }
}
