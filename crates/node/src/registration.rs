//! Registrations: how an instance is written in JSON and TOML, and what makes it valid.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringmesh_health::spec::{CheckKind, CheckSpec, FieldProblem, RawCheck};
use ringmesh_types::body::ToldMap;
use ringmesh_types::limits;
use ringmesh_types::name::{InstanceId, ServiceName};
use ringmesh_types::service::{Endpoint, Instance};
use serde::{Deserialize, Serialize};

/// An instance as it is written. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRegistration {
    /// Unique on this node.
    pub id: String,
    /// What it is a copy of.
    pub service: String,
    /// Where it listens.
    pub endpoints: Vec<RawEndpoint>,
    /// Its share among its equals; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
    /// Free labels to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// An endpoint as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEndpoint {
    /// What is spoken there; default the service's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// An IP address.
    pub address: String,
    /// 1 to 65535.
    pub port: u64,
    /// How to check it; without any it is taken to be well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<RawCheck>,
}

/// What is registered on a node, as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedState {
    /// The instances that came by HTTP.
    pub registrations: Vec<RawRegistration>,
    /// Which instances are draining.
    #[serde(default)]
    pub draining: Vec<InstanceId>,
    /// Whether the whole node is.
    #[serde(default)]
    pub is_node_draining: bool,
    /// What operators said about maps.
    #[serde(default)]
    pub maps: BTreeMap<ServiceName, ToldMap>,
}

/// Where a registration came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file, which alone may name programs to run.
    File,
    /// The HTTP API.
    Http,
}

/// A valid registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// As it was written.
    pub raw: RawRegistration,
    /// What is published of it.
    pub instance: Instance,
    /// The checks of each endpoint.
    pub checks: Vec<Vec<Arc<CheckSpec>>>,
    /// Where it came from.
    pub origin: Origin,
}

struct Problems(Vec<FieldProblem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push(FieldProblem { field: field.into(), why: why.into() });
    }

    fn parse<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: core::str::FromStr,
        T::Err: ToString,
    {
        text.parse().map_err(|error: T::Err| self.add(field, error.to_string())).ok()
    }
}

impl RawRegistration {
    /// Checks every field.
    ///
    /// # Errors
    /// All problems at once, each with the field, why, and what is allowed.
    pub fn validate(
        &self,
        origin: Origin,
        is_allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Registration, Vec<FieldProblem>> {
        let mut problems = Problems(Vec::new());
        let id: Option<InstanceId> = problems.parse("id", &self.id);
        let service: Option<ServiceName> = problems.parse("service", &self.service);
        let weight = self.validate_weight(&mut problems);
        self.validate_tags(&mut problems);
        let (endpoints, checks) = self.validate_endpoints(&mut problems, origin, is_allowed);
        match (id, service) {
            (Some(id), Some(service)) if problems.0.is_empty() => {
                let tags = self.tags.clone();
                let instance = Instance { id, service, endpoints, weight, tags, is_draining: false };
                Ok(Registration { raw: self.clone(), instance, checks, origin })
            }
            _ => Err(problems.0),
        }
    }

    fn validate_weight(&self, problems: &mut Problems) -> u16 {
        match u16::try_from(self.weight.unwrap_or(100)) {
            Ok(weight) if weight > 0 => weight,
            _ => {
                problems.add("weight", format!("{} is not allowed: 1 to 65535", self.weight.unwrap_or(0)));
                1
            }
        }
    }

    fn validate_tags(&self, problems: &mut Problems) {
        if self.tags.len() > limits::TAGS_PER_INSTANCE_MAX {
            problems.add(
                "tags",
                format!(
                    "{} are given, at most {} are allowed",
                    self.tags.len(),
                    limits::TAGS_PER_INSTANCE_MAX
                ),
            );
        }
        for (index, tag) in self.tags.iter().enumerate() {
            if tag.is_empty() || tag.len() > limits::TAG_BYTES_MAX || tag.chars().any(char::is_control) {
                problems.add(format!("tags[{index}]"), "must be 1 to 64 bytes without control characters");
            }
        }
    }

    fn validate_endpoints(
        &self,
        problems: &mut Problems,
        origin: Origin,
        is_allowed: &dyn Fn(IpAddr) -> bool,
    ) -> (Vec<Endpoint>, Vec<Vec<Arc<CheckSpec>>>) {
        if self.endpoints.is_empty() || self.endpoints.len() > limits::ENDPOINTS_PER_INSTANCE_MAX {
            let count = self.endpoints.len();
            problems.add(
                "endpoints",
                format!("{count} are given, 1 to {} are allowed", limits::ENDPOINTS_PER_INSTANCE_MAX),
            );
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let mut checks = Vec::new();
        for (index, raw) in self.endpoints.iter().take(limits::ENDPOINTS_PER_INSTANCE_MAX).enumerate() {
            let at = format!("endpoints[{index}]");
            if let Some(endpoint) = raw.validate(problems, &at, &self.service, is_allowed) {
                if endpoints.contains(&endpoint) {
                    problems.add(&at, format!("{endpoint} is given twice"));
                }
                checks.push(raw.validate_checks(problems, &at, &endpoint, origin));
                endpoints.push(endpoint);
            }
        }
        (endpoints, checks)
    }
}

impl RawEndpoint {
    fn validate(
        &self,
        problems: &mut Problems,
        at: &str,
        service: &str,
        is_allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Option<Endpoint> {
        let protocol = problems.parse(&format!("{at}.protocol"), self.protocol.as_deref().unwrap_or(service));
        let transport = problems.parse(&format!("{at}.transport"), &self.transport);
        let address: Option<IpAddr> = self
            .address
            .parse()
            .map_err(|_| {
                problems.add(format!("{at}.address"), format!("{:?} is no IP address", self.address));
            })
            .ok();
        if let Some(address) = address.filter(|address| !is_of_one_host(address)) {
            problems.add(format!("{at}.address"), format!("{address} is not an address of one host"));
        } else if let Some(address) = address.filter(|address| !is_allowed(*address)) {
            let why =
                format!("{address} is outside mesh.advertise_allowed, which says what may be advertised");
            problems.add(format!("{at}.address"), why);
        }
        let port = u16::try_from(self.port).ok().filter(|port| *port > 0);
        if port.is_none() {
            problems.add(format!("{at}.port"), format!("{} is not allowed: 1 to 65535", self.port));
        }
        Some(Endpoint { protocol: protocol?, transport: transport?, address: address?, port: port? })
    }

    fn validate_checks(
        &self,
        problems: &mut Problems,
        at: &str,
        endpoint: &Endpoint,
        origin: Origin,
    ) -> Vec<Arc<CheckSpec>> {
        if self.checks.len() > limits::CHECKS_PER_ENDPOINT_MAX {
            let count = self.checks.len();
            problems.add(
                format!("{at}.checks"),
                format!("{count} are given, at most {} are allowed", limits::CHECKS_PER_ENDPOINT_MAX),
            );
        }
        let mut specs = Vec::new();
        for (index, check) in self.checks.iter().take(limits::CHECKS_PER_ENDPOINT_MAX).enumerate() {
            let at = format!("{at}.checks[{index}]");
            match check.to_spec(&at, endpoint) {
                Ok(spec) if matches!(spec.kind, CheckKind::Exec { .. }) && origin == Origin::Http => problems
                    .add(
                        format!("{at}.type"),
                        "exec checks run programs, so they are taken from the configuration file only",
                    ),
                Ok(spec) => specs.push(Arc::new(spec)),
                Err(found) => problems.0.extend(found),
            }
        }
        specs
    }
}

/// Whether an address can be one host's, seen from another: no wildcard, group, broadcast, reserved or link-local
/// address, and no IPv4 address in IPv6 clothes (RFC 1122 3.2.1.3, RFC 4291 2.5).
fn is_of_one_host(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] >= 240
                || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => {
            let is_mapped = v6.to_ipv4_mapped().is_some();
            !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || is_mapped)
        }
    }
}

/// Problems as one line: `port: 0 is not allowed: 1 to 65535; …`.
pub fn describe(problems: &[FieldProblem]) -> String {
    let lines: Vec<_> =
        problems.iter().map(|problem| format!("{}: {}", problem.field, problem.why)).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawRegistration {
        RawRegistration {
            id: "sip-1".to_owned(),
            service: "sip".to_owned(),
            endpoints: vec![RawEndpoint {
                transport: "udp".to_owned(),
                address: "127.0.0.1".to_owned(),
                port: 5060,
                ..RawEndpoint::default()
            }],
            ..RawRegistration::default()
        }
    }

    fn problems_of(change: impl FnOnce(&mut RawRegistration)) -> String {
        let mut raw = raw();
        change(&mut raw);
        match raw.validate(Origin::Http, &|address| address.is_loopback()) {
            Ok(_) => String::new(),
            Err(problems) => describe(&problems),
        }
    }

    #[test]
    fn a_registration_takes_its_protocol_from_its_service() {
        let registration = raw().validate(Origin::Http, &|_| true).expect("valid");
        assert_eq!(registration.instance.endpoints[0].to_string(), "sip/udp 127.0.0.1:5060");
        assert_eq!(registration.instance.weight, 100);
    }

    #[test]
    fn nonsense_is_refused_with_field_and_reason() {
        let check = |change: fn(&mut RawRegistration), want: &str| {
            assert!(problems_of(change).starts_with(want), "{:?} for {want}", problems_of(change));
        };
        check(|raw| raw.id.clear(), "id: must not be empty");
        check(|raw| raw.service = "a".repeat(64), "service: has 64 bytes, at most 63");
        check(|raw| raw.service = "all".to_owned(), "service: \"all\" is reserved");
        check(|raw| raw.endpoints[0].port = 0, "endpoints[0].port: 0 is not allowed: 1 to 65535");
        check(|raw| raw.endpoints[0].port = 65_536, "endpoints[0].port: 65536 is not allowed");
        check(
            |raw| raw.endpoints[0].address = "10.0.0.1".to_owned(),
            "endpoints[0].address: 10.0.0.1 is outside",
        );
        check(
            |raw| raw.endpoints[0].address = "0.0.0.0".to_owned(),
            "endpoints[0].address: 0.0.0.0 is not an address",
        );
        check(
            |raw| raw.endpoints[0].address = "here".to_owned(),
            "endpoints[0].address: \"here\" is no IP address",
        );
        check(
            |raw| raw.endpoints[0].transport = "sctp".to_owned(),
            "endpoints[0].transport: \"sctp\" is no transport",
        );
        check(|raw| raw.endpoints.clear(), "endpoints: 0 are given");
        check(|raw| raw.weight = Some(0), "weight: 0 is not allowed");
        check(|raw| raw.tags = vec![String::new()], "tags[0]: must be 1 to 64 bytes");
        check(
            |raw| raw.endpoints.push(raw.endpoints[0].clone()),
            "endpoints[1]: sip/udp 127.0.0.1:5060 is given twice",
        );
    }

    #[test]
    fn an_address_must_be_one_that_a_host_can_have() {
        for text in
            ["255.255.255.255", "240.0.0.1", "224.0.0.1", "0.1.2.3", "fe80::1", "::ffff:127.0.0.1", "::"]
        {
            let mut raw = raw();
            raw.endpoints[0].address = text.to_owned();
            assert!(raw.validate(Origin::Http, &|_| true).is_err(), "{text}");
        }
    }

    #[test]
    fn programs_are_run_for_the_configuration_file_only() {
        let mut raw = raw();
        raw.endpoints[0].checks.push(RawCheck {
            kind: "exec".to_owned(),
            command: Some(vec!["true".to_owned()]),
            ..RawCheck::default()
        });
        assert!(raw.validate(Origin::File, &|_| true).is_ok());
        let problems = raw.validate(Origin::Http, &|_| true).expect_err("refused");
        assert_eq!(problems[0].field, "endpoints[0].checks[0].type");
    }
}
