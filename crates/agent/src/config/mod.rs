//! What an agent is told to do: one TOML file, overridden by environment variables, checked as a whole.
//!
//! [`Config::parse`] is pure: it opens no file and reads no environment. It reports every violation at once, each with
//! its line. What a field means, why its default is what it is, and what more or less of it does is said in one place,
//! the commented reference `config/agent.toml`, which the tests hold equal to the defaults.
//!
//! Not decided here: whether ports are free, files exist, or a declared service is acceptable to this node's registry.

mod cidr;
mod error;
pub mod knob;
mod maps;
mod profiles;
mod reader;
mod sections;
mod services;
mod values;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;

use ringmesh_types::map_spec::MapSpec;
use ringmesh_types::name::{ClusterName, NodeName, RegionName, ServiceName, ZoneName};
use serde_json::Value;
use toml::de::DeTable;

pub use cidr::Cidr;
pub use error::{ConfigError, ConfigErrors, Place};
pub use profiles::{Askers, Profiles, Rule};
use reader::{Reader, Table};

/// Bytes of a host name at most (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Everything an agent is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[node]`: who this node is.
    pub node: Node,
    /// `[mesh]`: how it talks to its peers.
    pub mesh: Mesh,
    /// `[tls]`: its certificate; without one an agent runs with `--dev` only.
    pub tls: Option<Tls>,
    /// `[dns]`: what it answers, and to whom.
    pub dns: Dns,
    /// `[http]`: where its API is, and for whom.
    pub http: Http,
    /// `[log]`: what it says.
    pub log: Log,
    /// `[[service]]`: what runs on this node.
    pub services: Vec<DeclaredService>,
    /// `[[map]]`: how the keys of services are spread.
    pub maps: BTreeMap<ServiceName, MapSpec>,
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// Its failure domain.
    pub zone: ZoneName,
    /// The zones near it.
    pub region: RegionName,
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// The folder for what it must not forget.
    pub data_dir: PathBuf,
    /// Its addresses, the main one first; 1 to 16.
    pub addresses: Vec<IpAddr>,
}

/// How the node talks to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// Where it listens for QUIC.
    pub listen: SocketAddr,
    /// Where peers reach it.
    pub advertise: SocketAddr,
    /// Whom it asks to join, in no order.
    pub seeds: Vec<Seed>,
    /// Time between the starts of two probes.
    pub probe_interval: Duration,
    /// How long a direct probe may take; less than the interval.
    pub probe_timeout: Duration,
    /// How long a member stays suspect at least.
    pub suspicion_min: Duration,
    /// How long a member stays suspect when nobody else agrees; at least the minimum.
    pub suspicion_max: Duration,
    /// How long others wait for this agent when it announced its restart.
    pub hold: Duration,
    /// Which addresses peers and endpoints may advertise.
    pub advertise_allowed: Vec<Cidr>,
}

/// Whom to ask to join: `<address>:<port>` or `<host>:<port>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(String);

impl Seed {
    /// The seed as it was written, ready to be resolved.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
        let is_seed = match text.parse::<SocketAddr>() {
            Ok(socket) => socket.port() != 0,
            Err(_) => text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port)),
        };
        if is_seed {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{text:?} is no seed: write 192.0.2.1:7300, [2001:db8::1]:7300 or host.example:7300"))
    }
}

/// Whether `text` is a host name; one that ends in a number would be an address with a mistake (RFC 1123, 2.1).
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= HOST_BYTES_MAX
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where the node's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The node's certificate chain, PEM, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key, PEM.
    pub key: PathBuf,
    /// The cluster's authorities, PEM.
    pub ca: PathBuf,
}

/// What the node answers to DNS questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where it listens, UDP and TCP; nowhere if empty.
    pub listen: Vec<SocketAddr>,
    /// The domain it answers for, in lower case, without the last dot.
    pub domain: String,
    /// How long answers may be kept; whole seconds.
    pub ttl: Duration,
    /// How long negative answers may be kept; whole seconds.
    pub negative_ttl: Duration,
    /// The service that questions for the bare domain are about.
    pub default_sip_service: ServiceName,
    /// Who is answered.
    pub allow: Vec<Cidr>,
    /// Which stack somebody who asks is.
    pub profiles: Profiles,
    /// Whose addresses nobody can forge.
    pub trusted: Vec<Cidr>,
    /// Responses a second over UDP to each network that is not trusted; 0 for as many as it asks for.
    pub rate_limit: u32,
    /// How many of them at once after a rest.
    pub rate_burst: u32,
}

/// Where the node's HTTP API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who is served.
    pub allow: Vec<Cidr>,
}

/// What the node logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important that is written.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Somebody may have to get up.
    Warn,
    /// The state changed in a way that an operator cares about.
    Info,
    /// A decision was made.
    Debug,
    /// A packet came or went.
    Trace,
}

impl LogLevel {
    /// All of them, the most important first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The level as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
}

impl LogFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The format as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// A service that the file declares, in the shape of the body of an HTTP registration.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredService {
    /// Where it is declared, for errors that are found later.
    pub line: usize,
    /// What an HTTP client would send to register it.
    pub body: Value,
}

impl Config {
    /// Reads the file called `file_name` with the contents `text`, overridden by `environment`.
    ///
    /// # Errors
    /// All violations at once, each with its line or variable, its field, and what is allowed.
    pub fn parse(
        file_name: &str,
        text: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigErrors> {
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader::new(file_name, text, environment);
        reader.reject_syntax(&syntax_errors);
        if reader.is_unreadable() {
            return reader.finish(None);
        }
        let config = sections::read(&mut reader, &Table::root(document.get_ref()));
        reader.finish(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmesh_types::map_spec::Pin;

    const REFERENCE: &str = include_str!("../../../../config/agent.toml");
    const LEAST: &str = "[node]\nname = \"sip-1\"\naddresses = [\"192.0.2.10\"]\n";

    #[test]
    fn the_reference_says_what_holds_without_it() {
        let least = parse(LEAST).expect("a name and an address are enough");
        assert_eq!(parse(REFERENCE), Ok(least));
    }

    #[test]
    fn the_commented_lines_of_the_reference_are_valid_too() {
        let config = parse(&uncommented(REFERENCE)).expect("every example is valid");
        assert!(config.tls.is_some());
        let ids: Vec<_> = config.services.iter().map(|service| service.body["id"].clone()).collect();
        assert_eq!(ids, ["sip-1", "media-1", "limiter-1"]);
        let maps: Vec<_> = config.maps.iter().map(|(service, map)| (service.as_str(), map)).collect();
        let pins = vec![Pin { key: "big-customer".to_owned(), node: Some(config.node.name.clone()) }];
        assert_eq!(maps, [("limiter", &MapSpec { pins, ..MapSpec::default() })]);
        let check = &config.services[0].body["endpoints"][0]["checks"][0];
        assert_eq!((&check["type"], &check["interval"]), (&Value::from("sip"), &Value::from("5s")));
    }

    #[test]
    fn what_is_wrong_with_a_map_is_said_with_its_line() {
        let text = format!(
            "{LEAST}\n[[map]]\nservice = \"limiter\"\nstrategy = \"geo\"\nmode = \"manual\"\n\n[[map]]\nservice = \"a\"\n\
             standbys = 4\n\n[[map.pin]]\nkey = \"\"\n\n[[map]]\nservice = \"b\"\n\n[[map]]\nservice = \"b\"\n"
        );
        let errors = parse(&text).expect_err("is wrong").to_string();
        for want in [
            "agent.toml:7: map[0].strategy: \"geo\" is not built yet: hash and name are",
            "agent.toml:8: map[0].mode: \"manual\" is none: auto and approve are",
            "agent.toml:12: map[1].standbys: 4 is not allowed: 0 to 3",
            "map[1].pin: the key is empty",
            "map[3].service: the map of b is declared already",
        ] {
            assert!(errors.contains(want), "{want}\n{errors}");
        }
    }

    #[test]
    fn six_mistakes_are_reported_at_once_with_their_lines() {
        let text = r#"[node]
name = "sip_1"
addresses = ["192.0.2.10", "192.0.2.256"]

[mesh]
probe_timeout = "2s"

[dns]
ttl = "0s"
domian = "voip.internal"

[[service]]
id = "sip-1"
service = "sip"

[[service.endpoint]]
protocol = "sip"
transport = "udp"
address = "192.0.2.10"
port = 70000
"#;
        let errors = parse(text).expect_err("six mistakes");
        let want = [
            "agent.toml:2: node.name: \"sip_1\" has the character '_': allowed are letters, digits and '-'",
            "agent.toml:3: node.addresses[1]: \"192.0.2.256\" is no address: write it as 192.0.2.1 or \
             2001:db8::1",
            "agent.toml:6: mesh.probe_timeout: does not fit: mesh.probe_timeout must be less than \
             mesh.probe_interval",
            "agent.toml:9: dns.ttl: \"0s\" is not allowed: 1s to 5m",
            "agent.toml:10: dns.domian: is unknown: did you mean domain? allowed are listen, domain, ttl, \
             negative_ttl, default_sip_service, allow, profile, profiles, trusted, rate_limit, rate_burst",
            "agent.toml:20: service[0].endpoint[0].port: 70000 is not allowed: 1 to 65535",
        ];
        assert_eq!(errors.to_string(), want.join("\n"));
    }

    #[test]
    fn a_refusal_says_what_is_allowed() {
        let check = |lines: &str, want: &str| {
            let errors = parse(&format!("{LEAST}[dns]\n{lines}\n")).expect_err(lines);
            assert_eq!(errors.to_string(), format!("agent.toml:5: dns.{want}"));
        };
        let duration = "a duration in quotes, such as \"5s\", is allowed";
        check("ttl = 5", &format!("ttl: is of type integer: {duration}"));
        check("negative_ttl = 1.5", &format!("negative_ttl: is of type float: {duration}"));
        let labels = "labels of 1 to 63 letters, digits, '-' or '_' are allowed, with a dot between two";
        for domain in ["voip..internal", ".internal", "voip internal", &"a".repeat(64)] {
            let lines = format!("domain = \"{domain}\"");
            check(&lines, &format!("domain: \"{domain}\" is no domain name: {labels}"));
        }
    }

    #[test]
    fn a_check_is_judged_as_a_whole() {
        let text = format!(
            "{LEAST}[[service]]\nid = \"a\"\nservice = \"limiter\"\n\
             [[service.endpoint]]\nprotocol = \"http\"\n\
             transport = \"tcp\"\naddress = \"192.0.2.10\"\nport = 80\n[[service.endpoint.check]]\n\
             type = \"http\"\ninterval = \"1s\"\ntimeout = \"2s\"\naccept = [404]\n"
        );
        let fields = fields_of(&text);
        let at = "service[0].endpoint[0].check[0]";
        assert_eq!(fields, [(15, format!("{at}.timeout")), (16, format!("{at}.accept"))]);
    }

    #[test]
    fn what_must_be_written_is_missed() {
        assert_eq!(fields_of(""), [(0, "node.name".to_owned()), (0, "mesh.advertise".to_owned())]);
        let halved = format!("{LEAST}[tls]\nkey = \"key.pem\"\n");
        assert_eq!(fields_of(&halved), [(4, "tls.certificate".to_owned()), (4, "tls.ca".to_owned())]);
    }

    #[test]
    fn a_text_that_is_no_toml_is_reported_with_its_line() {
        let errors = parse("[node]\nname = \"sip-1\nzone = \"a\"\n").expect_err("an open quote");
        assert_eq!(errors.as_slice()[0].place, Place::Line(2));
        assert_eq!(errors.as_slice()[0].field, "");
    }

    #[test]
    fn a_key_that_is_there_twice_is_reported_beside_other_mistakes() {
        let fields = fields_of(&format!("{LEAST}name = \"b\"\n[log]\nlevel = \"loud\"\n"));
        assert_eq!(fields, [(4, "name".to_owned()), (6, "log.level".to_owned())]);
    }

    #[test]
    fn an_id_that_is_there_twice_is_reported() {
        let service = "[[service]]\nid = \"a\"\nservice = \"sip\"\n[[service.endpoint]]\nprotocol = \"sip\"\n\
                       transport = \"udp\"\naddress = \"192.0.2.10\"\nport = 5060\n";
        let fields = fields_of(&format!("{LEAST}{service}{service}"));
        assert_eq!(fields, [(13, "service[1].id".to_owned())]);
    }

    #[test]
    fn variables_outrank_the_file_and_are_named_in_errors() {
        let environment = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let good = environment(&[
            ("RINGMESH_NODE_NAME", "sip-2"),
            ("RINGMESH_DNS_LISTEN", "127.0.0.1:53, [::1]:53"),
            ("RINGMESH_DNS_SERVICE_HOST", "10.0.0.1"),
            ("RINGMESH_DNS_RATE_LIMIT", "0"),
        ]);
        let config = Config::parse("agent.toml", LEAST, &good).expect("valid");
        assert_eq!(config.node.name.as_str(), "sip-2");
        assert_eq!((config.dns.listen.len(), config.dns.rate_limit), (2, 0));

        let bad = environment(&[
            ("RINGMESH_DNS_TTL", "0s"),
            ("RINGMESH_DNS_RATE_BURST", "many"),
            ("RINGMESH_HTTP_LISTN", "127.0.0.1:1"),
        ]);
        let errors = Config::parse("agent.toml", LEAST, &bad).expect_err("three mistakes").to_string();
        assert_eq!(
            errors,
            "RINGMESH_DNS_RATE_BURST: dns.rate_burst: many is not allowed: 1 to 100000\n\
             RINGMESH_DNS_TTL: dns.ttl: \"0s\" is not allowed: 1s to 5m\n\
             RINGMESH_HTTP_LISTN: http.listn: is unknown: did you mean listen? allowed are listen, allow"
        );
    }

    #[test]
    fn a_node_is_reached_where_it_listens_or_at_its_main_address() {
        let check = |lines: &str, advertise: &str, address: &str| {
            let config = parse(&format!("[node]\nname = \"a\"\n{lines}")).expect("valid");
            assert_eq!(config.mesh.advertise.to_string(), advertise);
            assert_eq!(config.node.addresses[0].to_string(), address);
        };
        check("[mesh]\nlisten = \"192.0.2.1:7301\"\n", "192.0.2.1:7301", "192.0.2.1");
        check("addresses = [\"192.0.2.2\"]\n", "192.0.2.2:7300", "192.0.2.2");
        check("[mesh]\nadvertise = \"192.0.2.3:7000\"\n", "192.0.2.3:7000", "192.0.2.3");
    }

    #[test]
    fn seeds_are_addresses_or_host_names_with_a_port() {
        for text in ["192.0.2.1:7300", "[2001:db8::1]:7300", "seed.example:7300", "localhost:1"] {
            assert!(text.parse::<Seed>().is_ok(), "{text}");
        }
        let wrong =
            ["", "192.0.2.1", "192.0.2.1:0", "192.0.2.256:7300", "a_b:1", "2001:db8::1:7", ":1", "a.:1"];
        for text in wrong {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
    }

    fn parse(text: &str) -> Result<Config, ConfigErrors> {
        Config::parse("agent.toml", text, &BTreeMap::new())
    }

    fn fields_of(text: &str) -> Vec<(usize, String)> {
        let errors = parse(text).expect_err("mistakes");
        let line = |error: &ConfigError| match error.place {
            Place::Line(line) => line,
            Place::File | Place::Variable(_) => 0,
        };
        errors.as_slice().iter().map(|error| (line(error), error.field.clone())).collect()
    }

    /// The reference with its examples switched on: `#key` is an example, `# text` is a comment.
    fn uncommented(text: &str) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(example) if !example.is_empty() && !example.starts_with(' ') => format!("{example}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }
}
