//! The sections of the file: their keys, their defaults, and how they must fit together.

use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use core::time::Duration;

use ringmesh_dns::profile::Profile;
use ringmesh_types::limits;
use ringmesh_types::name::{NodeName, ServiceName};

use super::cidr::Cidr;
use super::knob::{self, Knob};
use super::maps;
use super::profiles::{Askers, Profiles, Rule};
use super::reader::{Reader, Table};
use super::services;
use super::values;
use super::{Config, Dns, Http, Log, LogFormat, LogLevel, Mesh, Node, Seed, Tls};

/// All sections.
const SECTIONS: [&str; 8] = ["node", "mesh", "tls", "dns", "http", "log", "service", "map"];
const NODE_KEYS: [&str; 6] = ["name", "zone", "region", "cluster", "data_dir", "addresses"];
const MESH_KEYS: [&str; 9] = [
    "listen",
    "advertise",
    "seeds",
    "probe_interval",
    "probe_timeout",
    "suspicion_min",
    "suspicion_max",
    "hold",
    "advertise_allowed",
];
const TLS_KEYS: [&str; 3] = ["certificate", "key", "ca"];
const DNS_KEYS: [&str; 11] = [
    "listen",
    "domain",
    "ttl",
    "negative_ttl",
    "default_sip_service",
    "allow",
    "profile",
    "profiles",
    "trusted",
    "rate_limit",
    "rate_burst",
];
const HTTP_KEYS: [&str; 2] = ["listen", "allow"];
const LOG_KEYS: [&str; 2] = ["level", "format"];

const MESH_LISTEN: &str = "0.0.0.0:7300";
const DNS_LISTEN: &str = "127.0.0.1:8600";
const HTTP_LISTEN: &str = "127.0.0.1:8500";
const DATA_DIR: &str = "/var/lib/ringmesh";
const DOMAIN: &str = "ringmesh.internal";
const DEFAULT_SIP_SERVICE: &str = "sip";
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Sockets that DNS listens on at most.
const LISTENERS_MAX: usize = 16;
/// Seeds at most: a few that are usually up are enough.
const SEEDS_MAX: usize = 64;
/// Networks in one list at most.
const NETWORKS_MAX: usize = 256;

/// Reads the whole file; nothing if something that has no default is missing or wrong.
pub(super) fn read<'a>(reader: &mut Reader<'a>, root: &Table<'a>) -> Option<Config> {
    reader.check_keys(root, &SECTIONS);
    let node_table = reader.section(root, "node", &NODE_KEYS);
    let addresses = read_addresses(reader, &node_table);
    let node = read_node(reader, &node_table);
    let mesh = read_mesh(reader, root, &addresses);
    let tls = read_tls(reader, root);
    let dns = read_dns(reader, root);
    let http = read_http(reader, root);
    let log = read_log(reader, root);
    let services = services::read(reader, root);
    let maps = maps::read(reader, root);
    let mesh = mesh?;
    let node = Node { addresses: all_addresses(addresses, &mesh), ..node? };
    Some(Config { node, mesh, tls, dns, http, log, services, maps })
}

fn read_node<'a>(reader: &mut Reader<'a>, table: &Table<'a>) -> Option<Node> {
    let name: Option<NodeName> = reader.required(table, "name", values::name);
    let zone = reader.optional(table, "zone", values::name);
    let region = reader.optional(table, "region", values::name);
    let cluster = reader.optional(table, "cluster", values::name);
    let data_dir = reader.optional(table, "data_dir", values::path);
    Some(Node {
        name: name?,
        zone: zone.unwrap_or_else(|| known("default")),
        region: region.unwrap_or_else(|| known("default")),
        cluster: cluster.unwrap_or_else(|| known("ringmesh")),
        data_dir: data_dir.unwrap_or_else(|| DATA_DIR.into()),
        addresses: Vec::new(),
    })
}

fn read_addresses<'a>(reader: &mut Reader<'a>, table: &Table<'a>) -> Vec<IpAddr> {
    reader.list(table, "addresses", limits::NODE_ADDRESSES_MAX, values::address).unwrap_or_default()
}

/// The node's addresses as they are written, or else the one that its mesh port is known by.
fn all_addresses(written: Vec<IpAddr>, mesh: &Mesh) -> Vec<IpAddr> {
    if !written.is_empty() {
        return written;
    }
    let listen = mesh.listen.ip();
    vec![if listen.is_unspecified() { mesh.advertise.ip() } else { listen }]
}

fn read_mesh<'a>(reader: &mut Reader<'a>, root: &Table<'a>, addresses: &[IpAddr]) -> Option<Mesh> {
    let table = reader.section(root, "mesh", &MESH_KEYS);
    let listen = reader.optional(&table, "listen", values::socket).unwrap_or_else(|| known(MESH_LISTEN));
    let advertise = read_advertise(reader, &table, listen, addresses);
    let mut duration = |key: &str, knob: &Knob<Duration>| {
        reader.duration(&table, key, |text| knob.read(text)).unwrap_or(knob.default)
    };
    let probe_interval = duration("probe_interval", &knob::PROBE_INTERVAL);
    let probe_timeout = duration("probe_timeout", &knob::PROBE_TIMEOUT);
    let suspicion_min = duration("suspicion_min", &knob::SUSPICION_MIN);
    let suspicion_max = duration("suspicion_max", &knob::SUSPICION_MAX);
    let hold = duration("hold", &knob::HOLD);
    let mesh = Mesh {
        listen,
        advertise: advertise.unwrap_or(listen),
        seeds: reader.list(&table, "seeds", SEEDS_MAX, Seed::from_str).unwrap_or_default(),
        probe_interval,
        probe_timeout,
        suspicion_min,
        suspicion_max,
        hold,
        advertise_allowed: read_networks(reader, &table, "advertise_allowed", &EVERYWHERE),
    };
    check_mesh(reader, &table, &mesh);
    advertise.map(|_| mesh)
}

/// Where peers reach this node: as written, or where it listens, or at its main address.
fn read_advertise<'a>(
    reader: &mut Reader<'a>,
    table: &Table<'a>,
    listen: SocketAddr,
    addresses: &[IpAddr],
) -> Option<SocketAddr> {
    if reader.has(table, "advertise") {
        return reader.optional(table, "advertise", values::reachable_socket);
    }
    if !listen.ip().is_unspecified() {
        return Some(listen);
    }
    if let Some(main) = addresses.first() {
        return Some(SocketAddr::new(*main, listen.port()));
    }
    if !reader.is_rejected("node.addresses") && !reader.is_rejected("mesh.listen") {
        let every = listen.ip();
        let why = format!("is missing: {every} is no address to reach, so write it or node.addresses");
        reader.reject_key(table, "advertise", why);
    }
    None
}

/// How the fields of `[mesh]` must fit together.
fn check_mesh<'a>(reader: &mut Reader<'a>, table: &Table<'a>, mesh: &Mesh) {
    if mesh.probe_timeout >= mesh.probe_interval {
        let key = if reader.has(table, "probe_timeout") { "probe_timeout" } else { "probe_interval" };
        let why = "does not fit: mesh.probe_timeout must be less than mesh.probe_interval";
        reader.reject_key(table, key, why);
    }
    if mesh.suspicion_max < mesh.suspicion_min {
        let key = if reader.has(table, "suspicion_max") { "suspicion_max" } else { "suspicion_min" };
        let why = "does not fit: mesh.suspicion_max must be at least mesh.suspicion_min";
        reader.reject_key(table, key, why);
    }
    let advertised = mesh.advertise.ip();
    let is_allowed = mesh.advertise_allowed.iter().any(|network| network.contains(advertised));
    if !advertised.is_unspecified() && !is_allowed && !reader.is_rejected("mesh.advertise_allowed") {
        let why = format!("does not allow {advertised}, at which this node itself is to be reached");
        reader.reject_key(table, "advertise_allowed", why);
    }
}

fn read_tls<'a>(reader: &mut Reader<'a>, root: &Table<'a>) -> Option<Tls> {
    let table = reader.section(root, "tls", &TLS_KEYS);
    let written = TLS_KEYS.map(|key| reader.has(&table, key));
    if written == [false; 3] {
        return None;
    }
    let [certificate, key, ca] = TLS_KEYS.map(|key| reader.required(&table, key, values::path));
    Some(Tls { certificate: certificate?, key: key?, ca: ca? })
}

fn read_dns<'a>(reader: &mut Reader<'a>, root: &Table<'a>) -> Dns {
    let table = reader.section(root, "dns", &DNS_KEYS);
    let sip: Option<ServiceName> = reader.optional(&table, "default_sip_service", values::name);
    let sip = sip.unwrap_or_else(|| known(DEFAULT_SIP_SERVICE));
    let listen = reader.list(&table, "listen", LISTENERS_MAX, values::socket);
    let domain = reader.optional(&table, "domain", |text| values::domain(text, &sip));
    let ttl = reader.duration(&table, "ttl", |text| knob::TTL.read_seconds(text));
    let negative_ttl = reader.duration(&table, "negative_ttl", |text| knob::NEGATIVE_TTL.read_seconds(text));
    let listen = listen.unwrap_or_else(|| vec![known(DNS_LISTEN)]);
    let rate_limit = reader.number(&table, "rate_limit", &knob::RATE_LIMIT.range());
    let rate_burst = reader.number(&table, "rate_burst", &knob::RATE_BURST.range());
    Dns {
        profiles: read_profiles(reader, &table, &listen),
        listen,
        domain: domain.unwrap_or_else(|| DOMAIN.to_owned()),
        ttl: ttl.unwrap_or(knob::TTL.default),
        negative_ttl: negative_ttl.unwrap_or(knob::NEGATIVE_TTL.default),
        default_sip_service: sip,
        allow: read_networks(reader, &table, "allow", &LOOPBACK),
        trusted: read_networks(reader, &table, "trusted", &LOOPBACK),
        rate_limit: rate_limit.unwrap_or(knob::RATE_LIMIT.default),
        rate_burst: rate_burst.unwrap_or(knob::RATE_BURST.default),
    }
}

fn read_profiles<'a>(reader: &mut Reader<'a>, table: &Table<'a>, listen: &[SocketAddr]) -> Profiles {
    let default = reader.optional(table, "profile", Profile::read).unwrap_or_default();
    let read = |text: &str| {
        let rule: Rule = text.parse()?;
        match rule.askers {
            Askers::Of(listener) if !listen.contains(&listener) => {
                Err(format!("{text:?} is about {listener}, where dns.listen does not listen"))
            }
            Askers::Of(_) | Askers::In(_) => Ok(rule),
        }
    };
    let rules = reader.list(table, "profiles", NETWORKS_MAX, read).unwrap_or_default();
    Profiles { default, rules }
}

fn read_http<'a>(reader: &mut Reader<'a>, root: &Table<'a>) -> Http {
    let table = reader.section(root, "http", &HTTP_KEYS);
    let listen = reader.optional(&table, "listen", values::socket);
    Http {
        listen: listen.unwrap_or_else(|| known(HTTP_LISTEN)),
        allow: read_networks(reader, &table, "allow", &LOOPBACK),
    }
}

fn read_log<'a>(reader: &mut Reader<'a>, root: &Table<'a>) -> Log {
    let table = reader.section(root, "log", &LOG_KEYS);
    let level =
        reader.optional(&table, "level", |text| values::one_of(text, &LogLevel::ALL, LogLevel::as_str));
    let format =
        reader.optional(&table, "format", |text| values::one_of(text, &LogFormat::ALL, LogFormat::as_str));
    Log { level: level.unwrap_or(LogLevel::Info), format: format.unwrap_or(LogFormat::Text) }
}

fn read_networks<'a>(
    reader: &mut Reader<'a>,
    table: &Table<'a>,
    key: &str,
    default: &[&'static str],
) -> Vec<Cidr> {
    reader
        .list(table, key, NETWORKS_MAX, Cidr::from_str)
        .unwrap_or_else(|| default.iter().copied().map(known).collect())
}

/// What one of our own constants means.
fn known<T: FromStr>(text: &'static str) -> T {
    match text.parse() {
        Ok(value) => value,
        Err(_) => unreachable!("the default {text} is valid"),
    }
}
