//! What a configuration says about an agent that does not answer: each check on its own, so that one that fails hides no
//! other. Nothing is sent but questions for the names of seeds.

use core::net::SocketAddr;
use std::net::UdpSocket;

use ringmesh_agent::agent::preflight;
use ringmesh_agent::clock::wall_now;
use ringmesh_agent::config::Config;
use ringmesh_agent::doctor;
use ringmesh_agent::pki::Credentials;
use ringmesh_types::time::WallTime;
use serde_json::{Value, json};

/// Days before its end at which a certificate is told of.
const ENDS_SOON_DAYS: u64 = 14;
const DAY_S: u64 = 86_400;

/// One check and what came of it.
pub(super) struct Check {
    what: &'static str,
    /// What is well, or what is wrong and what mends it.
    result: Result<String, String>,
}

impl Check {
    pub(super) fn row(&self) -> Vec<String> {
        let (is_ok, says) = match &self.result {
            Ok(says) => ("yes", says),
            Err(says) => ("no", says),
        };
        vec![self.what.to_owned(), is_ok.to_owned(), says.lines().collect::<Vec<_>>().join("; ")]
    }

    pub(super) fn to_json(&self) -> Value {
        let (Ok(says) | Err(says)) = &self.result;
        json!({ "check": self.what, "is_ok": self.result.is_ok(), "says": says })
    }
}

/// Checks the configuration of an agent that was asked at `asked` and did not answer.
pub(super) async fn check(config: &Config, asked: SocketAddr) -> Vec<Check> {
    let is_valid = preflight(config).map_err(|problems| problems.join("; "));
    let mut checks = vec![
        Check { what: "configuration", result: is_valid.map(|_| "an agent can start with it".to_owned()) },
        Check { what: "http.listen", result: http(config, asked) },
        Check { what: "mesh.listen", result: mesh(config.mesh.listen) },
    ];
    checks.extend(certificate(config));
    for seed in &config.mesh.seeds {
        let wrong = |why| format!("{seed} has no address: {why}. Correct mesh.seeds or the name in DNS");
        let result = doctor::resolve(seed).await.map_err(wrong);
        let says = |found: Vec<SocketAddr>| match seed.as_str().parse::<SocketAddr>() {
            Ok(addr) => format!("{addr} is an address"),
            Err(_) => format!("{seed} has {} addresses", found.len()),
        };
        checks.push(Check { what: "mesh.seeds", result: result.map(says) });
    }
    checks
}

/// Whether the agent was asked where it would listen.
fn http(config: &Config, asked: SocketAddr) -> Result<String, String> {
    let listen = config.http.listen;
    let is_there =
        listen.port() == asked.port() && (listen.ip() == asked.ip() || listen.ip().is_unspecified());
    if is_there {
        Ok(format!("{listen} is where it was asked"))
    } else {
        Err(format!("the agent listens on {listen} and was asked at {asked}: give --http {listen}"))
    }
}

/// Whether the mesh port is free: then no agent runs with this configuration.
fn mesh(listen: SocketAddr) -> Result<String, String> {
    match UdpSocket::bind(listen) {
        Ok(_) => Ok(format!("UDP {listen} is free: no agent runs there, start it")),
        Err(error) => Err(format!(
            "UDP {listen} cannot be bound: {error}. `ss -lunp` shows who has it: an agent that hangs or listens elsewhere \
             for HTTP, or another program"
        )),
    }
}

/// Whether the certificate is valid now and for the node that is configured. Files that cannot be read are named by the
/// check of the configuration.
fn certificate(config: &Config) -> Vec<Check> {
    let Some(tls) = &config.tls else {
        let says = "no certificate is configured: the agent runs with --dev only".to_owned();
        return vec![Check { what: "tls", result: Err(says) }];
    };
    let Ok(credentials) = Credentials::load(&tls.certificate, &tls.key, &tls.ca) else {
        return Vec::new();
    };
    let Credentials { name, cluster, .. } = &credentials;
    let is_ours = *name == config.node.name && *cluster == config.node.cluster;
    let owner = format!("it is for node {name} of cluster {cluster}");
    let owner = if is_ours {
        Ok(owner)
    } else {
        Err(format!(
            "{owner}, the configuration says node {} of cluster {}: correct one of them",
            config.node.name, config.node.cluster
        ))
    };
    let validity = validity(&credentials, wall_now().as_unix_millis() / 1_000);
    vec![
        Check { what: "tls.certificate owner", result: owner },
        Check { what: "tls.certificate dates", result: validity },
    ]
}

fn validity(credentials: &Credentials, now_s: u64) -> Result<String, String> {
    let (first, last) = (credentials.validity.not_before_unix_s, credentials.validity.not_after_unix_s);
    let moment = |unix_s: u64| WallTime::from_unix_millis(unix_s.saturating_mul(1_000));
    if now_s < first {
        return Err(format!(
            "it is valid from {} only, and it is {}: set the clock of this machine, or of the one that made it",
            moment(first),
            moment(now_s)
        ));
    }
    if now_s > last {
        let says = format!("it expired at {}, and it is {}: renew it", moment(last), moment(now_s));
        return Err(says);
    }
    let days = (last - now_s) / DAY_S;
    let soon = if days < ENDS_SOON_DAYS { ": renew it soon" } else { "" };
    Ok(format!("it is valid until {}, {days} days from now{soon}", moment(last)))
}

#[cfg(test)]
mod tests {
    use ringmesh_agent::pki::{Authority, Validity};

    use super::*;

    #[test]
    fn a_certificate_is_held_to_the_clock() {
        let validity = Validity { not_before_unix_s: 10 * DAY_S, not_after_unix_s: 40 * DAY_S };
        let (cluster, name) = ("test".parse().expect("a name"), "a".parse().expect("a name"));
        let ca = Authority::generate(&cluster, 10 * DAY_S).expect("an authority");
        let issued = ca.issue(&cluster, &name, validity).expect("a certificate");
        let credentials = Credentials::from_pem(&issued.cert_pem, &issued.key_pem, ca.cert_pem());
        let credentials = credentials.expect("is whole");
        let check = |day: u64, want: &str| {
            let (Ok(says) | Err(says)) = super::validity(&credentials, day * DAY_S);
            assert!(says.contains(want), "{says}");
        };
        check(9, "set the clock");
        check(20, "20 days from now");
        check(39, "renew it soon");
        check(41, "it expired at");
    }

    #[test]
    fn a_mesh_port_that_another_process_has_is_named() {
        let taken = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
        let addr = taken.local_addr().expect("is bound");
        assert!(mesh(addr).expect_err("is taken").contains("cannot be bound"));
        drop(taken);
        assert!(mesh(addr).is_ok());
    }
}
