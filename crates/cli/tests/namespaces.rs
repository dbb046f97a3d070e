//! Real programs and real splits, in network namespaces that the tests make and remove: Kamailio and sipp find their next
//! hop by SRV, rtpengine is checked, and a mesh of fifteen is cut in two and heals.

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::mesh::{Config, authority, service};
use support::namespace::{Namespace, can_make_namespaces, run};
use support::{Folder, Process, has, signal, within};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn kamailio_finds_its_next_hop_by_srv_and_calls_go_on_when_one_host_dies() {
    if !can_make_namespaces() || !has("kamailio") || !has("sipp") {
        return;
    }
    let folder = Folder::new("kamailio");
    let space = Namespace::new("sip");
    space.resolve_at("127.0.0.1");

    let mut config = Config { seeds: Vec::new(), dns: 53, ..Config::local(27_000, 0) };
    config.extra = [("uas-1", "127.0.0.11"), ("uas-2", "127.0.0.12")]
        .map(|(id, address)| service(id, "sip", "sip", address, 5_060, "sip"))
        .concat();
    let uas = |name: &str, address: &str| {
        let words =
            ["sipp", "-sn", "uas", "-aa", "-i", address, "-p", "5060", "-nostdin", "-trace_stat", "-fd", "1"];
        space.start(&folder, &format!("{name}.log"), &words)
    };
    let first = uas("uas-1", "127.0.0.11");
    let _second = uas("uas-2", "127.0.0.12");
    let _agent = space.agent(&folder, &config, &authority("test"));
    within(secs(10), "both hosts pass", || {
        space.states(&config, "sip").iter().filter(|(_, state)| state == "passing").count() == 2
    });

    let routing = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/kamailio/kamailio.cfg");
    let state = folder.file("run");
    std::fs::create_dir_all(&state).expect("a folder");
    // Its workers end with it, however this test ends.
    let alone = ["unshare", "--pid", "--fork", "--kill-child"];
    let words =
        ["kamailio", "-f", routing, "-A", "LISTEN_ADDRESS=udp:127.0.0.1:5080", "-DD", "-E", "-Y", &state];
    let words = [&alone[..], &words].concat();
    let _proxy = space.start(&folder, "kamailio.log", &words);
    within(secs(10), "the proxy listens", || space.run(&["ss", "-lun"]).contains("127.0.0.1:5080"));

    let calls = folder.file("calls.csv");
    let words = [
        "sipp",
        "-sn",
        "uac",
        "127.0.0.1:5080",
        "-i",
        "127.0.0.1",
        "-p",
        "5090",
        "-m",
        "120",
        "-r",
        "15",
        "-d",
        "50",
        "-nostdin",
        "-timeout",
        "60s",
        "-trace_stat",
        "-stf",
        &calls,
        "-fd",
        "1",
    ];
    let mut caller = space.start(&folder, "uac.log", &words);
    let begun = Instant::now();
    within(secs(5), "calls are under way", || begun.elapsed() > secs(3));
    signal(first.pid(), Signal::SIGKILL);
    caller.wait();
    let log = std::fs::read_to_string(folder.0.join("uac.log")).unwrap_or_default();
    let successful = statistic(&calls, "SuccessfulCall(C)");
    println!("{successful} of 120 calls succeeded, one of two hosts was killed after 3 of 8 s");
    assert!(successful >= 117, "{successful} of 120 calls\n{log}");
    within(secs(3), "the dead host fails", || {
        space.states(&config, "sip").contains(&("uas-1".to_owned(), "failing".to_owned()))
    });
}

/// The last value of a column of sipp's statistics.
fn statistic(path: &str, column: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines();
    let index = lines.next().and_then(|head| head.split(';').position(|name| name == column));
    let last = lines.last().unwrap_or_default();
    index.and_then(|index| last.split(';').nth(index)).and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[test]
fn rtpengine_is_checked_and_its_death_is_seen() {
    if !can_make_namespaces() || !has("rtpengine") {
        return;
    }
    let folder = Folder::new("rtpengine");
    let space = Namespace::new("rtp");
    let mut config = Config { seeds: Vec::new(), ..Config::local(27_000, 0) };
    config.extra = service("media-1", "media", "ng", "127.0.0.1", 22_223, "rtpengine");
    let words = [
        "rtpengine",
        "--table=-1",
        "--interface=127.0.0.1",
        "--listen-ng=127.0.0.1:22223",
        "--foreground",
        "--log-stderr",
    ];
    let engine = space.start(&folder, "rtpengine.log", &words);
    let _agent = space.agent(&folder, &config, &authority("test"));
    let is = |wanted: &str| space.states(&config, "media") == [("media-1".to_owned(), wanted.to_owned())];
    within(secs(15), "it passes", || is("passing"));
    signal(engine.pid(), Signal::SIGKILL);
    let took = within(secs(3), "it fails", || is("failing"));
    println!("the death of rtpengine was seen after {took:?}");
}

/// Three namespaces behind one bridge, five agents in each.
struct Split {
    sides: Vec<Namespace>,
    agents: Vec<(usize, Config, Process)>,
    _hub: Namespace,
    _folder: Folder,
}

impl Split {
    fn new() -> Self {
        let folder = Folder::new("split");
        let hub = Namespace::new("hub");
        run(&["ip", "-n", &hub.0, "link", "add", "bridge", "type", "bridge"]);
        run(&["ip", "-n", &hub.0, "link", "set", "bridge", "up"]);
        let sides: Vec<Namespace> = ["a", "b", "c"].map(Namespace::new).into();
        for (index, side) in sides.iter().enumerate() {
            let port = format!("port{index}");
            run(&[
                "ip", "-n", &hub.0, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &side.0,
            ]);
            run(&["ip", "-n", &hub.0, "link", "set", &port, "master", "bridge", "up"]);
            run(&["ip", "-n", &side.0, "addr", "add", &format!("10.77.0.{}/24", index + 1), "dev", "eth0"]);
            run(&["ip", "-n", &side.0, "link", "set", "eth0", "up"]);
        }
        let ca = authority("test");
        let mut agents = Vec::new();
        for (side, space) in sides.iter().enumerate() {
            for index in 0..5 {
                let mut config = Config::local(27_000, index);
                config.name = format!("{}-{index}", ["a", "b", "c"][side]);
                config.zone = ["a", "b", "c"][side].to_owned();
                config.ip = format!("10.77.0.{}", side + 1);
                config.seeds = vec!["10.77.0.1:27000".to_owned(), "10.77.0.3:27000".to_owned()];
                if index == 0 {
                    let id = format!("sip-{}", config.zone);
                    config.extra = service(&id, "sip", "sip", &config.ip, 5_060, "sip");
                    config.extra = config
                        .extra
                        .split("[[service.endpoint.check]]")
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                }
                let process = space.agent(&folder, &config, &ca);
                agents.push((side, config, process));
            }
        }
        Self { sides, agents, _hub: hub, _folder: folder }
    }

    fn all_see(&self, alive: usize, of: impl Fn(usize) -> bool) -> bool {
        let mut those = self.agents.iter().filter(|(side, ..)| of(*side));
        those.all(|(side, config, _)| self.sides[*side].alive(config) == alive)
    }
}

#[test]
fn a_third_of_the_mesh_that_was_cut_off_agrees_again_within_ten_seconds_of_the_heal() {
    if !can_make_namespaces() {
        return;
    }
    let split = Split::new();
    within(secs(20), "all fifteen agree", || split.all_see(15, |_| true));
    let cut = &split.sides[2];
    cut.run(&["nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; \
               add rule inet cut in iifname eth0 drop; add chain inet cut out { type filter hook output priority 0; }; \
               add rule inet cut out oifname eth0 drop"]);
    let begun = Instant::now();
    within(secs(30), "each side sees itself alone", || {
        split.all_see(10, |side| side < 2) && split.all_see(5, |side| side == 2)
    });
    println!("each side saw itself alone after {:?}", begun.elapsed());
    let served = |index: usize| {
        let (side, config, _) = &split.agents[index];
        let states = split.sides[*side].states(config, "sip");
        states.into_iter().filter(|(_, state)| state == "passing").map(|(id, _)| id).collect::<Vec<_>>()
    };
    within(secs(10), "both sides serve what they can reach", || {
        served(3) == ["sip-a", "sip-b"] && served(12) == ["sip-c"]
    });
    within(secs(31), "the cut has lasted 30 s", || begun.elapsed() > secs(30));
    cut.run(&["nft", "delete", "table", "inet", "cut"]);
    let took = within(secs(10), "all fifteen agree again", || split.all_see(15, |_| true));
    println!("all fifteen agreed again {took:?} after the heal");
    assert_eq!(served(7).len(), 3);
}
