//! `ringmesh map` against real agents: what it shows is what the agents answer by HTTP and DNS, and what cannot be is refused with
//! its name.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::mesh::{Config, authority};
use support::{DOMAIN, Folder, Process, RINGMESH, alive_at, dig, has, http, try_http, within};

const MAP: &str = "/api/v1/maps/limiter";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a command comes to: its exit code, what it prints and what it complains about.
type Said = (Option<i32>, String, String);

/// Three agents with a limiter each, all of which follow one map of all three.
struct Scene {
    configs: Vec<Config>,
    agents: Vec<Process>,
    _folder: Folder,
}

impl Scene {
    /// `first` is the number of the first agent; its ports depend on it.
    fn start(first: u16) -> Self {
        let (folder, ca) = (Folder::new(&format!("maps-{first}")), authority("test"));
        let base = 30_200;
        let config = |index: u16| {
            let (seeds, extra) =
                (vec![format!("127.0.0.1:{}", base + first)], "[[map]]\nservice = \"limiter\"\n".to_owned());
            Config { seeds, extra, ..Config::local(base, index) }
        };
        let configs: Vec<Config> = (first..first + 3).map(config).collect();
        let agents = configs.iter().map(|config| config.start(&folder, &ca)).collect();
        let scene = Self { configs, agents, _folder: folder };
        within(secs(30), "all see all", || {
            scene.configs.iter().all(|config| alive_at(config.http_addr()) == 3)
        });
        // The first map waits for those who come within three seconds: however slow the start was, it has all three.
        for (config, index) in scene.configs.iter().zip(first..) {
            let endpoint = json!({ "transport": "tcp", "address": "127.0.0.1", "port": port(index) });
            let body =
                json!({ "id": format!("limiter-{index}"), "service": "limiter", "endpoints": [endpoint] });
            assert_eq!(http(config.http_addr(), "POST", "/api/v1/register", &body.to_string()).0, 200);
        }
        within(secs(40), "all follow one map of three hosts", || {
            let maps: Vec<Value> = scene.configs.iter().map(|config| shown(config.http_addr())).collect();
            let is_whole = |map: &Value| map["hosts"].as_array().is_some_and(|hosts| hosts.len() == 3);
            maps.iter().all(|map| is_whole(map) && map["digest"] == maps[0]["digest"])
        });
        scene
    }

    fn http(&self) -> SocketAddr {
        self.configs[0].http_addr()
    }

    fn map(&self, arguments: &[&str]) -> Said {
        self.map_with(arguments, &[], b"")
    }

    /// Runs a command with keys of any bytes behind it, and `input` to read.
    fn map_with(&self, arguments: &[&str], keys: &[&[u8]], input: &[u8]) -> Said {
        let mut command = Command::new(RINGMESH);
        command.arg("map").args(arguments).args(["--http", &self.http().to_string(), "--"]);
        command.args(keys.iter().map(|key| OsStr::from_bytes(key)));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        let (mut stdin, input) = (child.stdin.take().expect("is piped"), input.to_vec());
        let writer = std::thread::spawn(move || {
            // Whoever asks nothing reads nothing.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("ends");
        writer.join().expect("writes");
        let [says, complains] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), says, complains)
    }

    /// What a command prints, which succeeds.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let (code, says, complains) = self.map(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {says}{complains}");
        says
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let says = self.says(&[arguments, &["--json"]].concat());
        serde_json::from_str(&says).unwrap_or_else(|_| panic!("{arguments:?}: not JSON: {says}"))
    }

    /// Asserts that a command is refused with `code` and these words.
    #[track_caller]
    fn is_refused(&self, arguments: &[&str], code: i32, want: &[&str]) {
        let (found, says, complains) = self.map(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {says}{complains}");
        for want in want {
            assert!(complains.contains(want), "{arguments:?}: {want:?} should be in {complains:?}");
        }
    }
}

/// Where the limiter of an agent listens, or would.
fn port(index: u16) -> u16 {
    9_000 + index
}

fn shown(addr: SocketAddr) -> Value {
    try_http(addr, "GET", MAP, "").map(|(_, map)| map).unwrap_or_default()
}

fn percent(key: &[u8]) -> String {
    key.iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// RFC 4648 7, without padding, in labels of at most 63 digits.
fn base32hex_labels(key: &[u8]) -> String {
    let bits: Vec<u8> = key.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let digit = |five: &[u8]| {
        let value = (0..5).fold(0, |value, bit| value << 1 | five.get(bit).copied().unwrap_or(0));
        char::from(b"0123456789abcdefghijklmnopqrstuv"[usize::from(value)])
    };
    let digits: Vec<char> = bits.chunks(5).map(digit).collect();
    digits.chunks(63).map(|label| label.iter().collect::<String>()).collect::<Vec<_>>().join(".")
}

#[test]
fn a_map_is_listed_and_shown_as_the_agent_has_it() {
    let scene = Scene::start(50);
    let list = scene.says(&["list"]);
    assert!(list.starts_with("MAP      STRATEGY  MODE  GENERATION  AUTHOR"), "{list}");
    assert!(list.contains("limiter  hash      auto  "), "{list}");
    assert_eq!(scene.json(&["list"]), http(scene.http(), "GET", "/api/v1/maps", "").1);
    assert_eq!(scene.json(&["show", "limiter"]), shown(scene.http()));

    let show = scene.says(&["show", "limiter", "--partitions"]);
    assert!(!show.contains('\u{1b}'), "no colour without a terminal: {show}");
    let bars: Vec<&str> = show.lines().filter(|line| line.len() == 80 && !line.contains(' ')).collect();
    let [bar] = bars.as_slice() else { panic!("one bar of 80 columns: {show}") };
    assert_eq!(bar.chars().collect::<BTreeSet<char>>(), "ABC".chars().collect(), "{show}");
    assert!(!show.contains('▁'), "nobody reports load: {show}");
    for (letter, node) in ["A  node-50", "B  node-51", "C  node-52"].iter().zip(50..) {
        let host = show.lines().find(|line| line.starts_with(letter)).expect("has a line");
        assert!(
            host.contains("live   100") && host.ends_with(&format!("127.0.0.1:{}", port(node))),
            "{host}"
        );
    }
    assert_eq!(show.lines().filter(|line| line.contains("00000000  1.67 %")).count(), 60, "{show}");

    within(
        secs(10),
        "all know when the first generation was made, also those who heard of it from others",
        || {
            let made = |config: &Config| {
                let (_, history) = http(config.http_addr(), "GET", &format!("{MAP}/history"), "");
                history.as_array().is_some_and(|all| all.iter().all(|one| one["made"].is_u64()))
            };
            scene.configs.iter().all(made)
        },
    );
    let history = scene.says(&["history", "limiter"]);
    assert!(history.contains("generation 1 by node-5"), "{history}");
    assert_eq!(scene.json(&["history", "limiter", "--limit", "0"]), json!([]));
    let plan = scene.says(&["plan", "limiter"]);
    assert!(
        plan.contains("auto: plans are carried out every ten seconds\n\nDone last:\ngeneration "),
        "{plan}"
    );
    assert_eq!(scene.json(&["plan", "limiter"])["mode"], "auto");
}

#[test]
fn load_is_shown_once_it_is_reported_and_nonsense_is_refused() {
    let scene = Scene::start(55);
    let heat = scene.says(&["heat", "limiter"]);
    assert!(heat.contains("nobody reports any: every part of the space is taken to cost the same"), "{heat}");
    let map = shown(scene.http());
    let partition = |cost: &str, which: usize| {
        let start = map["partitions"][which]["start"].as_str().expect("a position");
        format!("{{\"start\":\"{start}\",\"cost\":{cost},\"median\":\"{start}\"}}")
    };
    let body = |partitions: &[String], hot: &str| {
        let partitions = partitions.join(",");
        format!(
            "{{\"reporter\":\"test\",\"report\":{{\"measured_ms\":60000,\"partitions\":[{partitions}],\"hot\":[{hot}]}}}}"
        )
    };
    let post = |body: &str| http(scene.http(), "POST", &format!("{MAP}/heat"), body);
    for (cost, words) in
        [("-1", "-1 is not allowed: 0 to 1e9"), ("NaN", "expected value"), ("1e999", "out of range")]
    {
        let (status, answer) = post(&body(&[partition("1", 0), partition(cost, 1)], ""));
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(matches!(status, 400 | 422), "{status} {answer}");
        assert!(
            detail.starts_with("report") && detail.contains("partitions[1].cost: ") && detail.contains(words),
            "{answer}"
        );
    }
    let hot = "{\"at\":\"00000000000000ff\",\"cost\":30.5}";
    let (status, answer) = post(&body(&[partition("75.0", 0), partition("25.0", 30)], hot));
    assert_eq!(status, 200, "{answer}");
    within(secs(40), "the load has come to the author", || {
        scene.json(&["heat", "limiter"])["is_even"] == false
    });
    let heat = scene.says(&["heat", "limiter"]);
    for want in
        ["load    100/s", "100.0 %  [####", "-             00000000000000ff  30.5/s  30.5 %  with others"]
    {
        assert!(heat.contains(want), "{want} in {heat}");
    }
    let show = scene.says(&["show", "limiter"]);
    assert!(show.lines().any(|line| line.starts_with('█')), "{show}");
    assert!(show.contains("LOAD") && show.contains("TO FAIR"), "{show}");
}

#[test]
fn a_key_has_the_same_owner_by_command_by_http_and_by_dns() {
    let scene = Scene::start(60);
    let long = "x".repeat(1_024);
    let keys: Vec<&[u8]> = vec![
        b"+4930123@Sip.Example.COM",
        b"+49 30.123",
        b"UPPER",
        b"upper",
        b"a.b.c",
        "süß/%&=?#".as_bytes(),
        b"\xff\x00\xfe".split(|byte| *byte == 0).next().expect("a part"),
        b"key-of-more-than-39-bytes-which-takes-a-second-label",
        long.as_bytes(),
    ];
    for key in &keys {
        let name = String::from_utf8_lossy(key);
        let (code, says, complains) = scene.map_with(&["lookup", "limiter", "--json"], &[key], b"");
        assert_eq!(code, Some(0), "{name}: {complains}");
        let found: Value = serde_json::from_str(&says).expect("JSON");
        let (_, by_http) = http(scene.http(), "GET", &format!("{MAP}/lookup?key={}", percent(key)), "");
        assert_eq!(found, by_http, "{name}");
        let hash = scene.json(&["lookup", "limiter", "--hash", found["at"].as_str().expect("a position")]);
        assert_eq!((&hash["owner"], &hash["key"]), (&found["owner"], &Value::Null), "{name}");
        if key.len() < 120 && has("dig") {
            let qname = format!("_limiter._tcp.{}.kx.limiter.{DOMAIN}.", base32hex_labels(key));
            let endpoint = found["owner"]["endpoints"][0].as_str().expect("an endpoint");
            let port = endpoint.rsplit_once(':').expect("a port").1;
            let records = dig(scene.configs[0].dns_addr(), &[&qname, "SRV"]);
            let first = records.first().map(String::as_str).unwrap_or_default();
            assert!(first.starts_with("0 ") && first.contains(&format!(" {port} ")), "{name}: {records:?}");
        }
    }
    let text = scene.map_with(&["lookup", "limiter"], &keys[..1], b"").1;
    for want in
        ["key       +4930123@Sip.Example.COM\n", "\nowner     node-6", "\nstandbys  node-6", "\ntoken     "]
    {
        assert!(text.contains(want), "{want:?} in {text}");
    }

    let (code, says, complains) = scene.map_with(&["lookup", "limiter"], &keys, b"");
    assert_eq!((code, says.lines().count()), (Some(0), 1 + keys.len()), "{says}{complains}");
}

#[test]
fn keys_are_read_from_a_stream_of_any_length() {
    let scene = Scene::start(65);
    let lines: String = (0..2_500).map(|number| format!("+4930{number}@A.b\n")).collect();
    let (code, says, complains) =
        scene.map_with(&["lookup", "limiter"], &[b"first", b"-", b"last"], lines.as_bytes());
    assert_eq!(code, Some(0), "{complains}");
    let found: Vec<&str> = says.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((found.len(), found[0], found[1]), (1 + 2_502, "KEY", "first"));
    assert_eq!((found[2], found[2_501], found[2_502]), ("+49300@A.b", "+49302499@A.b", "last"));

    let long = "x".repeat(1_000);
    let wide: String = (0..200).map(|number| format!("{long}{number}\n")).collect();
    let (code, says, complains) = scene.map_with(&["lookup", "limiter", "--json"], &[b"-"], wide.as_bytes());
    assert_eq!(code, Some(0), "a request has 64 KiB at most: {complains}");
    let answers = says.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let found: usize = answers.map(|answer| answer["found"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(found, 200);

    let mixed = format!("good\n\n{}\n\u{e4}\n", "y".repeat(1_025));
    let (code, says, complains) = scene.map_with(&["lookup", "limiter"], &[b"-"], mixed.as_bytes());
    assert_eq!((code, says.lines().count()), (Some(1), 5), "{says}{complains}");
    assert!(says.contains("the key is empty: it must have 1 to 1024 bytes"), "{says}");
    assert!(says.contains("the key has 1025 bytes: it must have 1 to 1024"), "{says}");
    assert!(complains.contains("2 of 4 keys have no owner"), "{complains}");
}

#[test]
fn what_cannot_be_is_refused_with_its_name() {
    let scene = Scene::start(70);
    let long = "x".repeat(1_025);
    let unknown = ["nosuch has no map: declare one", "ringmesh map declare"];
    for command in ["show", "heat", "plan", "apply", "history", "withdraw"] {
        scene.is_refused(&[command, "nosuch"], 1, &unknown);
    }
    scene.is_refused(&["lookup", "nosuch", "a"], 1, &unknown);
    scene.is_refused(&["lookup", "nosuch", "a", "b"], 1, &unknown);
    scene.is_refused(&["lookup", "nosuch", "-"], 1, &unknown);
    scene.is_refused(&["split", "nosuch", "0000000000000000"], 1, &unknown);
    scene.is_refused(&["dedicate", "nosuch", "a"], 1, &unknown);
    scene.is_refused(&["lookup", "limiter", ""], 1, &["key: the key is empty: it must have 1 to 1024 bytes"]);
    scene.is_refused(
        &["lookup", "limiter", &long],
        1,
        &["key: the key has 1025 bytes: it must have 1 to 1024"],
    );
    scene.is_refused(&["lookup", "limiter", "a", ""], 1, &["1 of 2 keys have no owner"]);
    scene.is_refused(&["lookup", "limiter"], 2, &["<KEY>"]);
    scene.is_refused(&["lookup", "limiter", "--hash", "12"], 2, &["--hash", "16 hexadecimal digits"]);
    scene.is_refused(&["lookup", "a_b", "x"], 2, &["<MAP>", "'_'"]);
    scene.is_refused(
        &["declare", "limiter", "--strategy", "geo"],
        1,
        &["strategy: \"geo\" is not built yet"],
    );
    scene.is_refused(&["declare", "limiter", "--mode", "manual"], 1, &["mode: \"manual\" is none"]);
    scene.is_refused(&["declare", "limiter", "--standbys", "4"], 1, &["standbys: 4 is not 0 to 3"]);
    scene.is_refused(
        &["declare", "limiter", "--pin", "=node-70"],
        2,
        &["--pin \"=node-70\": the key is empty"],
    );
    scene.is_refused(&["declare", "limiter", "--pin", &long], 1, &["pins[0].key: the key has 1025 bytes"]);
    scene.is_refused(&["dedicate", "limiter", ""], 1, &["pins[0].key: the key is empty"]);
    scene.is_refused(&["dedicate", "limiter", "a", "--undo"], 1, &["no key \"a\" is pinned"]);
    scene.is_refused(&["split", "limiter", "xyz"], 2, &["START: \"xyz\" names no partition"]);
    scene.is_refused(
        &["split", "limiter", "0"],
        1,
        &["START: 4 partitions begin with 0", "write more digits"],
    );
    scene.is_refused(&["merge", "limiter", "fffffff"], 1, &["no partition begins with fffffff"]);
    scene.is_refused(
        &["merge", "limiter", "0123456789abcdef"],
        1,
        &["no partition starts at 0123456789abcdef"],
    );
    let start = shown(scene.http())["partitions"][3]["start"].as_str().expect("a position").to_owned();
    scene.is_refused(&["split", "limiter", &start, "--at", "0000000000000001"], 1, &["is no possible cut"]);
    scene.is_refused(&["apply", "limiter"], 1, &["nothing waits for approval"]);
    let (code, _, complains) = {
        let output =
            Command::new(RINGMESH).args(["map", "list", "--http", "127.0.0.1:1"]).output().expect("runs");
        (output.status.code(), (), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(code, Some(3), "{complains}");
    let (code, says, _) = scene.map(&["show", "nosuch", "--json"]);
    assert_eq!(code, Some(1), "{says}");
    assert!(says.contains("\"detail\":\"nosuch has no map"), "a program reads why: {says}");
}

#[test]
fn operators_cut_merge_pin_and_declare() {
    let scene = Scene::start(75);
    let partitions = || shown(scene.http())["partitions"].as_array().map_or(0, Vec::len);
    assert_eq!(partitions(), 60);
    // 60 partitions: the first digits that only one begins with.
    let start = shown(scene.http())["partitions"][30]["start"].as_str().expect("a position").to_owned();
    let says = scene.says(&["split", "limiter", &start[..4]]);
    assert!(says.contains("of limiter does it, in one step"), "{says}");
    within(secs(10), "it is cut", || partitions() == 61);
    let cut = shown(scene.http())["partitions"][31]["start"].as_str().expect("a position").to_owned();
    assert!(scene.says(&["history", "limiter", "--limit", "1"]).contains(&format!("split {start} at {cut}")));
    scene.says(&["merge", "limiter", &cut[..8].to_ascii_uppercase()]);
    within(secs(10), "it is whole again", || partitions() == 60);

    scene.says(&["dedicate", "limiter", "+49@Acme", "--to", "node-76"]);
    within(secs(40), "the key is served by whom it is pinned to", || {
        let found = scene.says(&["lookup", "limiter", "+49@Acme"]);
        found.contains("\nowner     node-76 ") && found.contains("\nplace     a partition of its own")
    });
    assert!(scene.says(&["show", "limiter"]).contains("\"+49@Acme\""));

    let spec = || shown(scene.http())["spec"].clone();
    scene.says(&["declare", "limiter", "--standbys", "2", "--pin", "a=b=", "--pin", "c=node-75"]);
    let pins = json!([
        { "key": "+49@Acme", "node": "node-76" }, { "key": "a=b", "node": null }, { "key": "c", "node": "node-75" }
    ]);
    within(secs(10), "what was not named is kept", || {
        spec()["standbys"] == 2 && spec()["pins"] == pins && spec()["mode"] == "auto"
    });
    scene.says(&["dedicate", "limiter", "+49@Acme", "--undo"]);
    within(secs(10), "it is pinned no more", || {
        spec()["pins"].as_array().is_some_and(|pins| pins.len() == 2)
    });
    let (_, _, complains) = scene.map(&["declare", "limiter", "--mode", "approve"]);
    assert_eq!(complains, "", "the strategy is the same");
    within(secs(10), "plans wait", || {
        scene.says(&["plan", "limiter"]).contains("wait for an operator\n\nNothing waits for approval.")
    });
    let (code, _, complains) = scene.map(&["declare", "limiter", "--strategy", "name"]);
    assert_eq!(code, Some(0), "{complains}");
    assert!(complains.contains("the strategy was hash: the map begins anew"), "{complains}");
    within(secs(10), "another strategy counts", || shown(scene.http())["strategy"] == "name");
    scene.says(&["withdraw", "limiter"]);
    within(secs(10), "the configuration counts again", || {
        let map = shown(scene.http());
        map["strategy"] == "hash" && map["declared"].is_null()
    });
    let show = scene.says(&["show", "limiter"]);
    assert!(show.contains("by          the configuration of node-7"), "{show}");
}

#[test]
fn a_host_that_drains_is_told_to_have_no_capacity() {
    let scene = Scene::start(80);
    let drains = scene.configs[2].http_addr();
    let body = json!({ "instance": "limiter-82" }).to_string();
    assert_eq!(http(drains, "POST", "/api/v1/drain", &body).0, 200);
    within(secs(30), "a generation says so", || {
        let map = shown(scene.http());
        let hosts = map["hosts"].as_array().cloned().unwrap_or_default();
        hosts.iter().any(|host| host["name"] == "node-82" && host["capacity"] == 0)
    });
    let show = scene.says(&["show", "limiter"]);
    let host = show.lines().find(|line| line.contains("node-82  z")).expect("has a line");
    assert!(host.contains("live   0 "), "{show}");
}

#[test]
fn a_lookup_names_a_live_host_instead_of_one_that_was_killed() {
    let mut scene = Scene::start(85);
    let owner = |scene: &Scene, key: &str| scene.json(&["lookup", "limiter", key])["owner"]["name"].clone();
    let key = (0..100).map(|number| format!("key-{number}")).find(|key| owner(&scene, key) == "node-87");
    let key = key.expect("it owns a third");
    drop(scene.agents.pop());
    within(secs(30), "somebody else serves the key", || owner(&scene, &key) != "node-87");
    let found = scene.json(&["lookup", "limiter", &key]);
    assert_eq!(found["owner"]["is_live"], true, "{found}");
    let name = found["owner"]["name"].as_str().expect("a name");
    assert!(
        scene.says(&["lookup", "limiter", &key]).contains(&format!("\nowner     {name} in z: 127.0.0.1:"))
    );
    within(secs(30), "a generation without it is made", || {
        let history = scene.says(&["history", "limiter"]);
        history.contains("node-87 is lost")
    });
}
