//! `ringmesh doctor` with real agents: a mesh that is well, and each way in which a path can be blocked that needs no
//! firewall.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output};
use std::time::Duration;

use ringmesh_agent::pki::{Authority, Validity};
use serde_json::Value;
use support::mesh::{Config, authority, lasting, now, start};
use support::{Folder, Process, RINGMESH, alive_at, http, within};

const SOON: Duration = Duration::from_secs(20);

fn doctor(config: &Config, arguments: &[&str]) -> Output {
    let http = config.http_addr().to_string();
    Command::new(RINGMESH).args(["doctor", "--http", &http]).args(arguments).output().expect("runs")
}

/// Examines as `config`'s agent: the exit code and what was found.
fn examine(config: &Config) -> (Option<i32>, Value) {
    let output = doctor(config, &["--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text:?}")))
}

/// What was found at `address`.
fn at<'a>(examination: &'a Value, address: &str) -> &'a Value {
    let mut targets = examination["targets"].as_array().expect("targets").iter();
    targets.find(|target| target["address"] == address).unwrap_or_else(|| panic!("{address}: {examination}"))
}

/// The kinds of findings at `address`.
fn kinds(examination: &Value, address: &str) -> Vec<String> {
    let findings = at(examination, address)["findings"].as_array().expect("findings").iter();
    findings.map(|finding| finding["kind"].as_str().expect("text").to_owned()).collect()
}

/// A counter or gauge of an agent.
fn metric(config: &Config, name: &str) -> u64 {
    let (_, page) = http(config.http_addr(), "GET", "/metrics", "");
    let page = page.as_str().expect("text").to_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("ringmesh_{name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_mesh_that_is_well_is_well_and_keeps_its_links() {
    let folder = Folder::new("doctor-well");
    let ca = authority("test");
    let [host, guest] = [0, 1].map(|index| Config::local(31_000, index));
    let _agents = [&host, &guest].map(|config| config.start(&folder, &ca));
    let is_whole = || {
        [&host, &guest]
            .iter()
            .all(|config| alive_at(config.http_addr()) == 2 && metric(config, "mesh_links") == 1)
    };
    within(SOON, "both are there", is_whole);
    let links = |config: &Config| {
        ["mesh_links", "mesh_dials_total", "mesh_accepted_total", "mesh_refused_total"]
            .map(|name| metric(config, name))
    };
    let before = [links(&host), links(&guest)];
    for (from, to) in [(&host, &guest), (&guest, &host)] {
        let (code, found) = examine(from);
        assert_eq!((code, &found["node"]), (Some(0), &Value::from(from.name.as_str())), "{found}");
        let target = at(&found, &to.mesh_addr().to_string());
        assert_eq!(target["node"], to.name, "{found}");
        assert_eq!((&target["to_peer"], &target["from_peer"]), (&"open".into(), &"open".into()), "{found}");
        assert_eq!(target["is_seed"], *to.name == host.name, "{found}");
        assert!(target["round_trip_us"].as_u64().is_some_and(|us| us < 1_500_000), "{found}");
        assert!(target["clock_difference_ms"].as_i64().is_some_and(|ms| ms.abs() < 1_000), "{found}");
    }
    assert_eq!([links(&host), links(&guest)], before, "no link was opened or replaced");
    // Each was called once and called back twice: from the mesh port and from another.
    assert_eq!([&host, &guest].map(|config| metric(config, "mesh_examined_total")), [3, 3]);
    let guests = folder.0.join(format!("{}.toml", guest.name));
    let guests = guests.to_str().expect("a text");
    let output = doctor(&host, &["--config", guests]);
    assert_eq!(output.status.code(), Some(1), "another agent answers than the one of the file");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(says.contains(&host.name) && says.contains(&format!("the file is of {}", guest.name)), "{says}");
    let output = doctor(&host, &["--config", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(2), "what cannot be read is not left out");
}

#[test]
fn each_seed_that_is_blocked_is_named_with_its_cure() {
    let folder = Folder::new("doctor-blocked");
    let ca = authority("test");
    let stranger = Config { name: "stranger".to_owned(), ..Config::local(31_300, 1) };
    let prod = Config { name: "prod-1".to_owned(), cluster: "prod".to_owned(), ..Config::local(31_300, 2) };
    let late = Config { name: "late".to_owned(), ..Config::local(31_300, 3) };
    let silent = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let silent_addr = silent.local_addr().expect("is bound").to_string();
    let nobody = "127.0.0.1:31399".to_owned();
    let mut host = Config::local(31_300, 0);
    host.seeds.extend([&stranger, &prod, &late].map(|config| config.mesh_addr().to_string()));
    host.seeds.extend([silent_addr.clone(), nobody.clone()]);
    let expired = Validity { not_before_unix_s: now() - 7_200, not_after_unix_s: now() - 60 };
    let issued = ca.issue(&"test".parse().expect("a name"), &"late".parse().expect("a name"), expired);
    let path = late.write(&folder, ca.cert_pem(), &issued.expect("issues"));
    let agents = [&host, &stranger, &prod, &late].map(|config| config.http_addr());
    let _agents = [
        host.start(&folder, &ca),
        stranger.start(&folder, &authority("test")),
        prod.start(&folder, &authority("prod")),
        start(&folder, "late", &path, &[]),
    ];
    within(SOON, "they answer", || agents.iter().all(|agent| alive_at(*agent) == 1));

    let (code, found) = examine(&host);
    assert_eq!(code, Some(1), "{found}");
    let check = |address: &str, kind: &str, want: &[&str]| {
        assert_eq!(kinds(&found, address), [kind], "{address}: {found}");
        let target = at(&found, address);
        let text = format!("{} {}", target["findings"][0]["says"], target["findings"][0]["cure"]);
        for part in want {
            assert!(text.contains(part), "{address}: {text} lacks {part:?}");
        }
    };
    check(&nobody, "port", &["nobody listens on UDP 127.0.0.1:31399"]);
    check(&silent_addr, "udp", &["nothing comes back", "open UDP"]);
    check(
        &stranger.mesh_addr().to_string(),
        "certificate",
        &["node-0 refuses", "another authority", "tls.ca"],
    );
    check(&prod.mesh_addr().to_string(), "cluster", &["cluster prod", "cluster test"]);
    check(&late.mesh_addr().to_string(), "certificate", &["node-0 refuses", "has expired", "renew"]);

    let shown = String::from_utf8_lossy(&doctor(&host, &[]).stdout).into_owned();
    assert!(shown.contains("WE → IT") && shown.contains("  cure: open UDP"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours but on terminals: {shown}");

    let (code, found) = examine(&late);
    assert_eq!(code, Some(1), "{found}");
    let says = at(&found, &host.mesh_addr().to_string())["findings"][0]["says"].to_string();
    assert!(says.contains("127.0.0.1:31300 refuses the certificate of late"), "{says}");

    let ask = || http(host.http_addr(), "GET", "/api/v1/doctor", "").0;
    let asked = std::thread::spawn({
        let addr = host.http_addr();
        move || http(addr, "GET", "/api/v1/doctor", "").0
    });
    let mut statuses = [ask(), asked.join().expect("is answered")];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "one examination at a time");
}

/// A host and a guest, which advertises another address than its own, once they know each other.
fn start_both(
    folder: &Folder,
    ca: &Authority,
    [host, guest]: [&Config; 2],
    advertised: SocketAddr,
) -> [Process; 2] {
    let host_process = host.start(folder, ca);
    let issued = ca.issue(&"test".parse().expect("a name"), &"node-1".parse().expect("a name"), lasting());
    let path = guest.write(folder, ca.cert_pem(), &issued.expect("issues"));
    let advertise = format!("RINGMESH_MESH_ADVERTISE={advertised}");
    let guest_process = start(folder, "node-1", &path, &["env", &advertise]);
    within(SOON, "the host knows the guest", || alive_at(host.http_addr()) == 2);
    [host_process, guest_process]
}

#[test]
fn a_peer_that_cannot_call_back_is_named() {
    let folder = Folder::new("doctor-one-way");
    let ca = authority("test");
    let [host, guest] = [0, 1].map(|index| Config::local(31_600, index));
    let silent = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let advertised = silent.local_addr().expect("is bound");
    let _both = start_both(&folder, &ca, [&host, &guest], advertised);

    let (code, found) = examine(&guest);
    assert_eq!(code, Some(1), "{found}");
    let address = host.mesh_addr().to_string();
    assert_eq!(kinds(&found, &address), ["one_way"], "{found}");
    let target = at(&found, &address);
    assert_eq!((&target["to_peer"], &target["from_peer"]), (&"open".into(), &"blocked".into()), "{found}");
    let text = target["findings"][0].to_string();
    assert!(text.contains(&advertised.to_string()) && text.contains("mesh.advertise of node-1"), "{text}");

    // The other way: what is advertised cannot be dialled, yet the link that the guest dialled is heard.
    let (_, found) = examine(&host);
    assert_eq!(kinds(&found, &advertised.to_string()), ["one_way"], "{found}");
    let target = at(&found, &advertised.to_string());
    assert_eq!((&target["to_peer"], &target["from_peer"]), (&"blocked".into(), &"open".into()), "{found}");
}

/// Lets through what comes from `friend` and the answers to it, as a firewall does that takes `friend` for known.
fn guard(friend: SocketAddr, guarded: SocketAddr) -> SocketAddr {
    let socket = || UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let (front, back) = (socket(), socket());
    let addr = front.local_addr().expect("is bound");
    let (front_out, back_in) = (front.try_clone().expect("clones"), back.try_clone().expect("clones"));
    std::thread::spawn(move || {
        let mut bytes = [0; 2_048];
        while let Ok((length, from)) = front.recv_from(&mut bytes) {
            if from == friend {
                let _ = back.send_to(&bytes[..length], guarded);
            }
        }
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 2_048];
        while let Ok((length, _)) = back_in.recv_from(&mut bytes) {
            let _ = front_out.send_to(&bytes[..length], friend);
        }
    });
    addr
}

#[test]
fn a_firewall_that_lets_only_known_ports_through_is_named() {
    let folder = Folder::new("doctor-guarded");
    let ca = authority("test");
    let [host, guest] = [0, 1].map(|index| Config::local(32_200, index));
    let advertised = guard(host.mesh_addr(), guest.mesh_addr());
    let _both = start_both(&folder, &ca, [&host, &guest], advertised);

    let (code, found) = examine(&guest);
    assert_eq!(code, Some(1), "{found}");
    let address = host.mesh_addr().to_string();
    assert_eq!(kinds(&found, &address), ["one_way"], "{found}");
    let target = at(&found, &address);
    assert_eq!((&target["to_peer"], &target["from_peer"]), (&"open".into(), &"guarded".into()), "{found}");
    assert!(target["findings"][0]["says"].to_string().contains("mesh port only"), "{found}");
}

#[test]
fn without_an_agent_the_configuration_is_checked() {
    let folder = Folder::new("doctor-alone");
    let ca = authority("test");
    let config = Config::local(31_900, 0);
    let expired = Validity { not_before_unix_s: now() - 7_200, not_after_unix_s: now() - 60 };
    let issued = ca.issue(&"test".parse().expect("a name"), &"node-0".parse().expect("a name"), expired);
    let path = config.write(&folder, ca.cert_pem(), &issued.expect("issues"));
    let output = doctor(&config, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--config FILE"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not answer"));

    let _taken = UdpSocket::bind(config.mesh_addr()).expect("is free");
    let output = doctor(&config, &["--config", &path, "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let check = |what: &str| {
        let checks = found["checks"].as_array().expect("checks").iter();
        checks
            .clone()
            .find(|check| check["check"] == what)
            .unwrap_or_else(|| panic!("{what}: {found}"))
            .clone()
    };
    assert_eq!(check("configuration")["is_ok"], true, "{found}");
    assert_eq!(check("http.listen")["is_ok"], true, "{found}");
    assert!(check("tls.certificate dates")["says"].to_string().contains("expired at"), "{found}");
    assert!(check("mesh.listen")["says"].to_string().contains("cannot be bound"), "{found}");
}
