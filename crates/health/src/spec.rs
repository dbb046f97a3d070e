//! What a check is: how it is written in JSON and TOML, and what that means.

use core::time::Duration;

use ringmesh_types::duration;
use ringmesh_types::service::{Endpoint, Transport};
use serde::{Deserialize, Serialize};

/// A check as it is written. Fields that its type does not know are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCheck {
    /// One of `sip`, `rtpengine`, `http`, `tcp`, `exec`, `ttl`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Time between the starts of two probes; default 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How long a probe may take; default 1s or the interval, whichever is smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Good results in a row until an endpoint passes again; default 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<u32>,
    /// Bad results in a row until it fails; default 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall: Option<u32>,
    /// Slower good results count as late; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_limit: Option<String>,
    /// `sip`: final status codes besides 2xx that prove health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<Vec<u16>>,
    /// `http`: what to ask for; default `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `http`: status codes that prove health; default any 2xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Vec<u16>>,
    /// `exec`: program and arguments; exit code 0 proves health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// `ttl`: the service must beat this often; default 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// OPTIONS over the endpoint's transport (RFC 3261, 11).
    Sip {
        /// Final status codes besides 2xx that prove health.
        accept: Vec<u16>,
    },
    /// NG ping over UDP.
    Rtpengine,
    /// GET.
    Http {
        /// What to ask for.
        path: String,
        /// Status codes that prove health; any 2xx if empty.
        expect: Vec<u16>,
    },
    /// A connection.
    Tcp,
    /// A program.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// The service beats by itself.
    Ttl {
        /// How often it must.
        ttl: Duration,
    },
}

/// A check with its timing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSpec {
    /// What a probe does.
    pub kind: CheckKind,
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Good results in a row until an endpoint passes again.
    pub rise: u32,
    /// Bad results in a row until it fails.
    pub fall: u32,
    /// Slower good results count as late.
    pub latency_limit: Option<Duration>,
}

/// A field that does not fit, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// Which field.
    pub field: String,
    /// Why, and what is allowed.
    pub why: String,
}

const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3_600));
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const COUNT_MAX: u32 = 100;

/// Collects problems while values are read.
struct Problems<'a> {
    at: &'a str,
    found: Vec<FieldProblem>,
}

impl Problems<'_> {
    fn add(&mut self, field: &str, why: impl Into<String>) {
        self.found.push(FieldProblem { field: format!("{}.{field}", self.at), why: why.into() });
    }

    fn duration(
        &mut self,
        field: &str,
        text: Option<&str>,
        default: Duration,
        range: (Duration, Duration),
    ) -> Duration {
        let Some(text) = text else {
            return default;
        };
        match duration::parse(text) {
            Ok(value) if (range.0..=range.1).contains(&value) => value,
            Ok(_) => {
                let (least, most) = (duration::format(range.0), duration::format(range.1));
                self.add(field, format!("{text:?} is not allowed: {least} to {most}"));
                default
            }
            Err(why) => {
                self.add(field, why);
                default
            }
        }
    }

    fn count(&mut self, field: &str, value: Option<u32>) -> u32 {
        let value = value.unwrap_or(2);
        if !(1..=COUNT_MAX).contains(&value) {
            self.add(field, format!("{value} is not allowed: 1 to {COUNT_MAX}"));
        }
        value.clamp(1, COUNT_MAX)
    }

    fn only_for(&mut self, field: &str, is_given: bool, kind: &str, wanted: &str) {
        if is_given && kind != wanted {
            self.add(field, format!("belongs to checks of type {wanted:?}, this is {kind:?}"));
        }
    }
}

impl RawCheck {
    /// Reads the check that stands at `at` and belongs to `endpoint`.
    ///
    /// # Errors
    /// All problems at once, each with its field.
    pub fn to_spec(&self, at: &str, endpoint: &Endpoint) -> Result<CheckSpec, Vec<FieldProblem>> {
        let mut problems = Problems { at, found: Vec::new() };
        let interval =
            problems.duration("interval", self.interval.as_deref(), Duration::from_secs(5), INTERVAL);
        let timeout_default = Duration::from_secs(1).min(interval);
        let timeout =
            problems.duration("timeout", self.timeout.as_deref(), timeout_default, (TIMEOUT_MIN, interval));
        let latency_limit = self.latency_limit.as_deref().map(|text| {
            problems.duration("latency_limit", Some(text), timeout, (Duration::from_millis(1), timeout))
        });
        let (rise, fall) = (problems.count("rise", self.rise), problems.count("fall", self.fall));
        self.check_ownership(&mut problems);
        let kind = self.to_kind(&mut problems, endpoint);
        match kind {
            Some(kind) if problems.found.is_empty() => {
                Ok(CheckSpec { kind, interval, timeout, rise, fall, latency_limit })
            }
            _ => Err(problems.found),
        }
    }

    fn check_ownership(&self, problems: &mut Problems<'_>) {
        problems.only_for("accept", self.accept.is_some(), &self.kind, "sip");
        problems.only_for("path", self.path.is_some(), &self.kind, "http");
        problems.only_for("expect", self.expect.is_some(), &self.kind, "http");
        problems.only_for("command", self.command.is_some(), &self.kind, "exec");
        problems.only_for("ttl", self.ttl.is_some(), &self.kind, "ttl");
    }

    fn to_kind(&self, problems: &mut Problems<'_>, endpoint: &Endpoint) -> Option<CheckKind> {
        match self.kind.as_str() {
            "sip" => self.to_sip(problems, endpoint),
            "rtpengine" => {
                if endpoint.transport != Transport::Udp {
                    problems.add("type", "rtpengine is pinged over udp, this endpoint is not udp");
                }
                Some(CheckKind::Rtpengine)
            }
            "http" => self.to_http(problems),
            "tcp" => {
                if endpoint.transport == Transport::Udp {
                    problems.add("type", "a tcp check needs a tcp or tls endpoint, this one is udp");
                }
                Some(CheckKind::Tcp)
            }
            "exec" => match &self.command {
                Some(command) if command.first().is_some_and(|program| !program.is_empty()) => {
                    Some(CheckKind::Exec { command: command.clone() })
                }
                _ => {
                    problems.add("command", "an exec check needs a program and its arguments");
                    None
                }
            },
            "ttl" => {
                let range = (Duration::from_secs(1), Duration::from_secs(86_400));
                let ttl = problems.duration("ttl", self.ttl.as_deref(), Duration::from_secs(30), range);
                Some(CheckKind::Ttl { ttl })
            }
            other => {
                problems.add(
                    "type",
                    format!("{other:?} is no check: allowed are sip, rtpengine, http, tcp, exec, ttl"),
                );
                None
            }
        }
    }

    fn to_sip(&self, problems: &mut Problems<'_>, endpoint: &Endpoint) -> Option<CheckKind> {
        if endpoint.transport == Transport::Tls {
            problems.add("type", "sip checks go over udp or tcp: give a tls endpoint a tcp check");
        }
        let accept = self.accept.clone().unwrap_or_else(|| crate::sip::DEFAULT_ACCEPT.to_vec());
        if let Some(bad) = accept.iter().find(|code| !(200..700).contains(*code)) {
            problems.add("accept", format!("{bad} is no final SIP status code: 200 to 699"));
        }
        Some(CheckKind::Sip { accept })
    }

    fn to_http(&self, problems: &mut Problems<'_>) -> Option<CheckKind> {
        let path = self.path.clone().unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/')
            || path.len() > 1_024
            || path.bytes().any(|byte| byte <= b' ' || byte == 127)
        {
            problems.add("path", "must begin with '/' and hold at most 1,024 bytes without spaces");
        }
        let expect = self.expect.clone().unwrap_or_default();
        if let Some(bad) = expect.iter().find(|code| !(100..600).contains(*code)) {
            problems.add("expect", format!("{bad} is no HTTP status code: 100 to 599"));
        }
        Some(CheckKind::Http { path, expect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            protocol: "sip".parse().expect("a name"),
            transport: Transport::Udp,
            address: core::net::IpAddr::from([127, 0, 0, 1]),
            port: 5060,
        }
    }

    fn raw(kind: &str) -> RawCheck {
        RawCheck { kind: kind.to_owned(), ..RawCheck::default() }
    }

    #[test]
    fn defaults_are_five_seconds_one_second_two_and_two() {
        let spec = raw("sip").to_spec("checks[0]", &endpoint()).expect("valid");
        assert_eq!((spec.interval, spec.timeout), (Duration::from_secs(5), Duration::from_secs(1)));
        assert_eq!((spec.rise, spec.fall), (2, 2));
    }

    #[test]
    fn every_problem_is_named_with_its_field() {
        let check = RawCheck {
            interval: Some("1ms".to_owned()),
            rise: Some(0),
            command: Some(vec!["true".to_owned()]),
            accept: Some(vec![100]),
            ..raw("sip")
        };
        let problems = check.to_spec("checks[0]", &endpoint()).expect_err("four mistakes");
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["checks[0].interval", "checks[0].rise", "checks[0].command", "checks[0].accept"]);
    }

    #[test]
    fn a_check_must_fit_its_endpoint() {
        assert!(raw("tcp").to_spec("c", &endpoint()).is_err());
        assert!(raw("ping").to_spec("c", &endpoint()).is_err());
        assert!(raw("exec").to_spec("c", &endpoint()).is_err());
    }
}
