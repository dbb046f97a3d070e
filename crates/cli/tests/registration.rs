//! Registering on a real agent: nonsense is refused with its field, and what was acknowledged survives anything.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::mesh::{Config, authority, lasting};
use support::{DOMAIN, Folder, Process, RINGMESH, dig, has, http, signal, try_http, within};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn good(id: &str) -> Value {
    json!({ "id": id, "service": "sip", "endpoints": [{ "transport": "udp", "address": "127.0.0.1", "port": 5060 }] })
}

/// An agent alone, and where it is.
fn agent(name: &str, base: u16, extra: &str) -> (Folder, Config, Process) {
    let folder = Folder::new(name);
    let ca = authority("test");
    let config = Config { extra: extra.to_owned(), seeds: Vec::new(), ..Config::local(base, 0) };
    let process = config.start(&folder, &ca);
    within(secs(5), "the agent answers", || try_http(config.http_addr(), "GET", "/healthz", "").is_some());
    (folder, config, process)
}

fn register(config: &Config, body: &str) -> (u16, Value) {
    http(config.http_addr(), "POST", "/api/v1/register", body)
}

fn instances(config: &Config) -> Vec<String> {
    let (_, answer) = http(config.http_addr(), "GET", "/api/v1/services/sip", "");
    let instances = answer["instances"].as_array().cloned().unwrap_or_default();
    instances.iter().filter_map(|instance| instance["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn nonsense_is_refused_with_its_field_and_changes_nothing() {
    let (_folder, config, _agent) = agent("nonsense", 29_000, "");
    assert_eq!(register(&config, &good("kept").to_string()).0, 200);
    assert_eq!(instances(&config), ["kept"]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = good("new");
        change(&mut body);
        body.to_string()
    };
    let check = |body: String, statuses: &[u16], names: &str| {
        let (status, answer) = register(&config, &body);
        let detail = answer["detail"].as_str().unwrap_or_default().to_owned();
        assert!(statuses.contains(&status), "{status} {answer} for {names}");
        assert!(detail.starts_with(names), "{detail:?} should begin with {names:?}");
        assert!(answer["error"].is_string(), "{answer}");
    };
    let named = [400, 409, 422];
    check(with(&|body| body["id"] = json!("")), &named, "id: ");
    check(with(&|body| body["service"] = json!("")), &named, "service: ");
    check(with(&|body| body["service"] = json!("a".repeat(64))), &named, "service: has 64 bytes");
    check(with(&|body| body["service"] = json!("all")), &named, "service: \"all\" is reserved");
    check(
        with(&|body| body["endpoints"][0]["port"] = json!(0)),
        &named,
        "endpoints[0].port: 0 is not allowed",
    );
    check(with(&|body| body["endpoints"][0]["port"] = json!("5060")), &named, "endpoints[0].port: ");
    check(with(&|body| body["endpoints"] = json!([])), &named, "endpoints: ");
    check(
        with(&|body| body["id"] = json!("kept")).replace("5060", "5061"),
        &[409],
        "id: kept is registered already",
    );
    check(with(&|body| body["colour"] = json!("red")), &named, "colour: unknown field");
    check("{".to_owned(), &named, "");
    check(format!("{{\"id\":\"{}\"}}", "x".repeat(10 << 20)), &[413], "a body may have");
    assert_eq!(instances(&config), ["kept"]);
    assert_eq!(register(&config, &good("kept").to_string()).0, 200, "the same again is no conflict");
    let (status, answer) = http(config.http_addr(), "POST", "/api/v1/deregister/unknown", "");
    assert_eq!(status, 404, "{answer}");
}

#[test]
fn an_address_outside_the_allowed_list_is_refused() {
    let folder = Folder::new("allowed");
    let ca = authority("test");
    let config = Config { seeds: Vec::new(), ..Config::local(29_300, 0) };
    let issued = ca.issue(&"test".parse().expect("a name"), &"node-0".parse().expect("a name"), lasting());
    let path = config.write(&folder, ca.cert_pem(), &issued.expect("issues"));
    let text = std::fs::read_to_string(&path).expect("is there");
    let text = text.replace("[tls]", "advertise_allowed = [\"127.0.0.0/8\"]\n[tls]");
    std::fs::write(&path, text).expect("writes");
    let _agent = support::mesh::start(&folder, "node-0", &path, &[]);
    within(secs(5), "the agent answers", || try_http(config.http_addr(), "GET", "/healthz", "").is_some());
    let (status, answer) = register(&config, &good("a").to_string().replace("127.0.0.1", "192.0.2.1"));
    assert_eq!(status, 422, "{answer}");
    let detail = answer["detail"].as_str().expect("a detail");
    assert!(
        detail.starts_with("endpoints[0].address: 192.0.2.1 is outside mesh.advertise_allowed"),
        "{detail}"
    );
}

#[test]
fn a_broken_configuration_names_every_mistake_at_once() {
    let folder = Folder::new("broken");
    let path = folder
        .write("a.toml", "[node]\nname = \"a_b\"\n[dns]\nttl = \"0s\"\ncolour = 1\n[http]\nlisten = 7\n");
    let output = Command::new(RINGMESH).args(["config", "check", &path]).output().expect("runs");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{says}");
    for part in [
        "a.toml:2: node.name: ",
        "a.toml:4: dns.ttl: \"0s\" is not allowed: 1s to 5m",
        "a.toml:5: dns.colour: is unknown",
        "a.toml:7: http.listen: ",
    ] {
        assert!(says.contains(part), "{part} in {says}");
    }
}

#[test]
fn a_certificate_of_somebody_else_or_of_another_time_is_noticed_before_the_start() {
    let (folder, ca) = (Folder::new("not-ours"), authority("test"));
    let check = |name: &str, from: u64, until: u64, code: i32, want: &str| {
        let config = Config { name: "node-0".to_owned(), ..Config::local(29_700, 0) };
        let (now, cluster) = (support::mesh::now(), config.cluster.parse().expect("a name"));
        let validity = ringmesh_agent::pki::Validity {
            not_before_unix_s: now - 800_000 + from,
            not_after_unix_s: now - 800_000 + until,
        };
        let issued = ca.issue(&cluster, &name.parse().expect("a name"), validity).expect("issues");
        let path = config.write(&folder, ca.cert_pem(), &issued);
        let output = Command::new(RINGMESH).args(["config", "check", &path]).output().expect("runs");
        let says =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.code() == Some(code) && says.contains(want), "{code}, {want}: {says}");
    };
    check("node-0", 0, 900_000, 0, "node-0.toml: valid\n");
    check(
        "node-1",
        0,
        900_000,
        2,
        "tls.certificate: it is for node node-1 of cluster test, the configuration says node node-0",
    );
    check(
        "node-0",
        0,
        300_000,
        0,
        "valid, but tls.certificate: it expired 5 days ago: peers refuse it, so renew it",
    );
    check("node-0", 803_000, 900_000, 0, "valid, but tls.certificate: it is valid in ");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (folder, ca) = (Folder::new("unread"), authority("test"));
    let extra = "[log]\nlevel = \"trace\"\n".to_owned();
    let config = Config { extra, seeds: Vec::new(), ..Config::local(29_750, 0) };
    let (cluster, name) = (config.cluster.parse().expect("a name"), config.name.parse().expect("a name"));
    let issued = ca.issue(&cluster, &name, lasting()).expect("issues");
    let path = config.write(&folder, ca.cert_pem(), &issued);
    let mut command = Command::new(RINGMESH);
    command.args(["agent", "--config", &path]).stdout(Stdio::null()).stderr(Stdio::piped());
    let _agent = Process::start(&mut command);
    within(secs(5), "the agent answers", || try_http(config.http_addr(), "GET", "/healthz", "").is_some());
    // Each writes some lines; a pipe holds 64 KiB.
    for number in 0..400 {
        let (status, answer) = register(&config, &good(&format!("i{}", number % 20)).to_string());
        assert_eq!(status, 200, "{number}: {answer}");
    }
    let lost = || {
        let metrics = http(config.http_addr(), "GET", "/metrics", "").1;
        let lost = metrics.as_str().and_then(|text| text.split("\nringmesh_log_lines_lost_total ").nth(1));
        lost.and_then(|rest| rest.lines().next()?.parse::<u64>().ok()).expect("the metric is there")
    };
    // Each writes a line and waits for no disk; some 4,000 wait to be written before the first is lost.
    let hold = || (0..100).for_each(|_| drop(try_http(config.http_addr(), "POST", "/api/v1/hold", "{}")));
    within(secs(60), "lines are counted as lost", || {
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(hold))));
        lost() > 0
    });
}

#[test]
fn a_disk_that_takes_nothing_is_said_once_with_its_cure_and_once_when_it_does_again() {
    let (folder, config, _agent) = agent("untaken", 32_520, "");
    let log = || std::fs::read_to_string(folder.file("node-0.log")).expect("is there");
    let in_the_way = folder.0.join("node-0.data/registrations.new");
    std::fs::create_dir(&in_the_way).expect("can be made");
    for number in 0..5 {
        let (status, answer) = register(&config, &good(&format!("i{number}")).to_string());
        assert_eq!(status, 507, "{answer}");
    }
    std::fs::remove_dir(&in_the_way).expect("is empty");
    assert_eq!(register(&config, &good("kept").to_string()).0, 200);
    within(secs(5), "it is said to work again", || log().contains("changes are kept there again"));
    let log = log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("changes are not kept there")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["WARN", "node-0.data/registrations", "Is a directory", "goes on from memory", "free space"] {
        assert!(lines[0].contains(part), "{part} should be in {}", lines[0]);
    }
}

#[test]
fn a_host_whose_disk_takes_nothing_can_be_drained() {
    if !has("dig") {
        return;
    }
    let (folder, config, _agent) = agent("drained", 32_750, "");
    for (id, port) in [("one", 5060), ("two", 5061)] {
        let mut body = good(id);
        body["endpoints"][0]["port"] = json!(port);
        assert_eq!(register(&config, &body.to_string()).0, 200);
    }
    std::fs::create_dir(folder.0.join("node-0.data/registrations.new")).expect("can be made");
    let srv = || dig(config.dns_addr(), &[&format!("_sip._udp.sip.{DOMAIN}"), "SRV"]);
    assert_eq!(srv().len(), 2);
    let drain = |body: &str| http(config.http_addr(), "POST", "/api/v1/drain", body);
    let undrain = |body: &str| http(config.http_addr(), "POST", "/api/v1/undrain", body);
    assert_eq!(drain("{\"instance\":\"two\"}").0, 200);
    assert_eq!(undrain("{\"instance\":\"two\"}").0, 200, "a mistake can be mended");
    let (status, answer) = drain("{\"instance\":\"one\"}");
    assert_eq!(status, 200, "{answer}");
    let says = answer["ok"].as_str().expect("a text");
    assert!(
        says.contains("instance one is draining") && says.contains("a restart of the agent forgets it"),
        "{says}"
    );
    let left = srv();
    assert!(left.len() == 1 && left[0].contains(" 5061 "), "{left:?}");
    assert_eq!(register(&config, &good("three").to_string()).0, 507, "other changes are refused");
    let (status, answer) = drain("{\"instance\":null}");
    assert_eq!(status, 400, "{answer}");
}

#[test]
fn what_is_acknowledged_is_in_the_next_answer_however_many_changes_came_before() {
    if !has("dig") {
        return;
    }
    let (_folder, config, _agent) = agent("burst", 30_650, "");
    let ports = |name: &str| dig(config.dns_addr(), &[&format!("_sip._udp.{name}.{DOMAIN}"), "SRV"]).len();
    let ask = |path: &str, body: &str| http(config.http_addr(), "POST", path, body);
    for number in 0..25 {
        let name = format!("burst-{number}");
        let mut body = good(&name);
        body["service"] = json!(name);
        body["endpoints"][0]["protocol"] = json!("sip");
        assert_eq!(register(&config, &body.to_string()).0, 200);
        assert_eq!(ports(&name), 1, "{name} is registered");
        assert_eq!(ask(&format!("/api/v1/deregister/{name}"), "").0, 200);
        assert_eq!(ports(&name), 0, "{name} is no longer registered");
    }
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let (folder, config, _agent) = agent("in-use", 29_600, "");
    let ca = authority("test");
    let setting = |change: fn(&mut Config, &Config)| {
        let mut other = Config { seeds: Vec::new(), ..Config::local(29_650, 1) };
        change(&mut other, &config);
        let issued =
            ca.issue(&"test".parse().expect("a name"), &"node-1".parse().expect("a name"), lasting());
        let path = other.write(&folder, ca.cert_pem(), &issued.expect("issues"));
        let output = Command::new(RINGMESH).args(["agent", "--config", &path]).output().expect("runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mesh = setting(|other, taken| other.mesh = taken.mesh);
    assert!(mesh.contains("mesh.listen: 127.0.0.1:29600 cannot be bound"), "{mesh}");
    let dns = setting(|other, taken| other.dns = taken.dns);
    assert!(dns.contains("dns.listen: 127.0.0.1:29800 cannot be bound"), "{dns}");
    let web = setting(|other, taken| other.http = taken.http);
    assert!(web.contains("http.listen: 127.0.0.1:29700 cannot be bound"), "{web}");
}

#[test]
fn a_second_agent_with_the_same_name_is_noticed_and_named() {
    let folder = Folder::new("twins");
    let ca = authority("test");
    let configs: Vec<Config> = (0..3).map(|index| Config::local(29_900, index)).collect();
    let _agents: Vec<Process> = configs.iter().map(|config| config.start(&folder, &ca)).collect();
    within(secs(10), "three agree", || {
        configs.iter().all(|config| support::alive_at(config.http_addr()) == 3)
    });
    let elsewhere = Folder::new("twins-elsewhere");
    let twin = Config { name: "node-2".to_owned(), ..Config::local(29_900, 5) };
    let _twin = twin.start(&elsewhere, &ca);
    let sees_clash = |config: &Config| {
        let members = try_http(config.http_addr(), "GET", "/api/v1/members", "").map(|(_, members)| members);
        let members = members.and_then(|members| members.as_array().cloned()).unwrap_or_default();
        members.iter().any(|member| member["node"] == "node-2" && member["clash"].is_string())
    };
    within(secs(20), "somebody's members name it", || configs.iter().any(sees_clash));
    let logs: String = (0..3)
        .filter_map(|index| std::fs::read_to_string(folder.0.join(format!("node-{index}.log"))).ok())
        .collect();
    assert!(logs.contains("two agents are named") && logs.contains("rename one of them"), "{logs}");
}

#[test]
fn a_reload_takes_over_services_and_keeps_known_health() {
    let folder = Folder::new("reload");
    let ca = authority("test");
    let mut config = Config { seeds: Vec::new(), ..Config::local(30_900, 0) };
    let declare = |id: &str, port: u16| {
        format!(
            "[[service]]\nid = \"{id}\"\nservice = \"sip\"\n[[service.endpoint]]\ntransport = \"tcp\"\n\
             address = \"127.0.0.1\"\nport = {port}\n[[service.endpoint.check]]\ntype = \"tcp\"\ninterval = \"1h\"\n"
        )
    };
    config.extra = declare("first", config.http);
    let agent = config.start(&folder, &ca);
    let state = |id: &str| {
        let answer =
            try_http(config.http_addr(), "GET", "/api/v1/services/sip", "").map(|(_, answer)| answer);
        let instances = answer.and_then(|answer| answer["instances"].as_array().cloned()).unwrap_or_default();
        let instance = instances.iter().find(|instance| instance["id"] == id);
        instance.and_then(|instance| instance["state"].as_str()).unwrap_or_default().to_owned()
    };
    within(secs(5), "it passes", || state("first") == "passing");
    let path = folder.file("node-0.toml");
    let text = std::fs::read_to_string(&path).expect("is there");
    std::fs::write(&path, format!("{text}{}", declare("second", config.http))).expect("writes");
    signal(agent.pid(), Signal::SIGHUP);
    within(secs(5), "the new one is there", || state("second") == "passing");
    assert_eq!(state("first"), "passing", "its next check is an hour away: its state was kept");
    std::fs::write(&path, format!("{text}[nonsense]\n")).expect("writes");
    signal(agent.pid(), Signal::SIGHUP);
    let log = || std::fs::read_to_string(folder.0.join("node-0.log")).unwrap_or_default();
    within(secs(5), "it says why not", || log().contains("the configuration is not taken over"));
    assert_eq!(state("second"), "passing", "a broken file changes nothing");
    std::fs::write(&path, text).expect("writes");
    signal(agent.pid(), Signal::SIGHUP);
    within(secs(5), "the second is gone", || state("second").is_empty() && state("first") == "passing");
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_agent_is_killed_fifty_times() {
    let (folder, config, mut agent) = agent("killed", 30_300, "");
    let path = folder.file("node-0.toml");
    let mut acknowledged: Vec<String> = Vec::new();
    let mut total = 0;
    for round in 0..50 {
        let pid = agent.pid();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5 + round * 7 % 40));
            signal(pid, Signal::SIGKILL);
        });
        for number in 0.. {
            let id = format!("i-{round}-{number}");
            match try_http(config.http_addr(), "POST", "/api/v1/register", &good(&id).to_string()) {
                Some((200, _)) => acknowledged.push(id),
                Some((409, answer)) => {
                    assert!(
                        answer["detail"].as_str().is_some_and(|detail| detail.contains("512")),
                        "{answer}"
                    );
                    break;
                }
                Some((status, answer)) => panic!("{status} {answer}"),
                None => break,
            }
            if number > 20 {
                break;
            }
        }
        killer.join().expect("kills");
        agent.wait();
        agent = support::mesh::start(&folder, "node-0", &path, &[]);
        within(secs(10), "it answers again", || {
            try_http(config.http_addr(), "GET", "/healthz", "").is_some()
        });
        let kept = instances(&config);
        for id in &acknowledged {
            assert!(kept.contains(id), "round {round}: {id} was acknowledged and is gone");
        }
        total += acknowledged.len();
        for id in acknowledged.drain(..) {
            let (status, answer) = http(config.http_addr(), "POST", &format!("/api/v1/deregister/{id}"), "");
            assert_eq!(status, 200, "{answer}");
        }
    }
    println!("{total} registrations were acknowledged in 50 lives, none was lost");
    assert!(total > 50);
}

#[test]
fn a_registration_is_on_disk_file_and_folder_before_it_is_acknowledged() {
    if !has("strace") {
        return;
    }
    let folder = Folder::new("strace");
    let ca = authority("test");
    let config = Config { seeds: Vec::new(), ..Config::local(30_600, 0) };
    let issued = ca.issue(&"test".parse().expect("a name"), &"node-0".parse().expect("a name"), lasting());
    let path = config.write(&folder, ca.cert_pem(), &issued.expect("issues"));
    let trace = folder.file("trace");
    let calls = "trace=openat,fsync,fdatasync,rename,renameat,renameat2,sendto,write,writev";
    let strace = ["strace", "-D", "-f", "-y", "-s", "64", "-o", &trace, "-e", calls];
    let mut agent = support::mesh::start(&folder, "node-0", &path, &strace);
    within(secs(20), "the agent answers", || try_http(config.http_addr(), "GET", "/healthz", "").is_some());
    let (status, answer) = register(&config, &good("traced").to_string());
    assert_eq!(status, 200, "{answer}");
    let lines = || std::fs::read_to_string(&trace).unwrap_or_default();
    within(secs(5), "the trace is written", || lines().contains("traced is registered"));
    let _ = agent.0.kill();
    let text = lines();
    let lines: Vec<&str> = text.lines().collect();
    let after = |from: usize, what: &dyn Fn(&str) -> bool, name: &str| {
        let found = lines.iter().enumerate().skip(from).find(|(_, line)| what(line));
        found.map(|(index, _)| index).unwrap_or_else(|| panic!("no {name} after line {from}:\n{text}"))
    };
    let data = "node-0.data";
    let written = after(
        0,
        &|line| line.contains("registrations.new") && line.contains("openat"),
        "open of the new file",
    );
    let synced = after(
        written,
        &|line| line.contains("sync(") && line.contains("registrations.new"),
        "fsync of the file",
    );
    let renamed =
        after(synced, &|line| line.contains("rename") && line.contains("registrations.new"), "rename");
    let folder_synced = after(
        renamed,
        &|line| line.contains("sync(") && line.contains(&format!("{data}>")),
        "fsync of the folder",
    );
    let answered = after(written, &|line| line.contains("HTTP/1.1 200"), "answer");
    assert!(
        folder_synced < answered,
        "answered in line {answered}, folder synced in line {folder_synced}:\n{text}"
    );
}
