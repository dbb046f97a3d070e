//! How calls spread over the hosts of a service when a real SIP proxy finds them by SRV: Kamailio without and with its own
//! DNS cache, without and with its own load balancing, and what each of them does when a host dies.
//!
//! Kamailio itself tells where each call was sent, and that it was accepted.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use support::mesh::{Config, authority, service};
use support::namespace::{Namespace, can_make_namespaces};
use support::{Folder, Process, has, signal, unbound, within};

/// What the agent's DNS is told beside where it listens. Whoever keeps an answer keeps it for a second.
const DNS: &str = "ttl = \"1s\"\n";
const TTL: Duration = Duration::from_secs(1);
/// Kamailio counts time in sixteenths of a second, and an answer may be under way.
const SLACK: Duration = Duration::from_millis(500);

/// The hosts of the service and their weights. The first one dies.
const HOSTS: [(&str, u16); 3] = [("127.0.0.11", 100), ("127.0.0.12", 50), ("127.0.0.13", 50)];

/// Calls that are looked at before a host dies, and again when its death is known.
const CALLS: usize = 120;
const CALLS_PER_S: &str = "60";

/// How Kamailio is set up, and how many hosts that alone, with these weights, is sure to send calls to.
struct Mode {
    name: &'static str,
    /// The agent's `dns.profile`.
    profile: &'static str,
    /// Whether it asks unbound, which asks the agent.
    is_behind_unbound: bool,
    /// In the place of `use_dns_cache=off` in the example's configuration.
    settings: &'static str,
    next_hop: &'static str,
    /// How long an answer may serve further calls.
    kept: Duration,
    /// Of all three. Kamailio takes the first record of the greatest weight, unless it balances.
    hosts_min: usize,
    /// Of the two that are left, whose weights are equal: it takes the first record, and every answer is drawn anew.
    hosts_left_min: usize,
}

/// Added to the example's configuration: tells when an INVITE is sent to a host, not counting its repetitions, and when
/// one is accepted.
const WITNESS: &str = r#"
loadmodule "xlog.so"
onsend_route {
	if (method=="INVITE") {
		xlog("L_NOTICE", "call-sent $TV(Sn) $ci $sndto(ip)\n");
	}
}
reply_route {
	if (status=="200" && method=="INVITE") {
		xlog("L_NOTICE", "call-accepted $TV(Sn) $ci $si\n");
	}
}
"#;

#[test]
fn kamailio_without_a_cache_leaves_a_dead_host_as_soon_as_the_mesh_does() {
    check(&Mode {
        name: "no-cache",
        profile: "full",
        is_behind_unbound: false,
        settings: "use_dns_cache=off",
        next_hop: "sip:sip.ringmesh.internal",
        kept: Duration::ZERO,
        hosts_min: 1,
        hosts_left_min: 2,
    });
}

#[test]
fn kamailio_with_its_profile_sends_calls_to_all_hosts() {
    check(&Mode {
        name: "profile",
        profile: "kamailio",
        is_behind_unbound: false,
        settings: "use_dns_cache=off",
        next_hop: "sip:sip.ringmesh.internal",
        kept: Duration::ZERO,
        hosts_min: 3,
        hosts_left_min: 2,
    });
}

/// Each question gets the three in another order, so that equal weights mean equal shares.
#[test]
fn kamailio_behind_unbound_sends_calls_to_all_hosts() {
    if !has("unbound") {
        return;
    }
    check(&Mode {
        name: "behind-unbound",
        profile: "kamailio",
        is_behind_unbound: true,
        settings: "use_dns_cache=off",
        next_hop: "sip:sip.ringmesh.internal",
        // It counts whole seconds.
        kept: TTL * 2,
        hosts_min: 3,
        hosts_left_min: 2,
    });
}

#[test]
fn kamailio_with_its_cache_leaves_a_dead_host_one_ttl_later() {
    check(&Mode {
        name: "cache",
        profile: "full",
        is_behind_unbound: false,
        settings: "dns_srv_lb=off",
        next_hop: "sip:sip.ringmesh.internal",
        kept: TTL,
        hosts_min: 1,
        // One answer serves all calls of a second.
        hosts_left_min: 1,
    });
}

/// It draws by weight only where it also keeps the other hosts for later tries, so `dns_srv_lb` alone changes nothing.
#[test]
fn kamailio_that_balances_but_does_not_fail_over_leaves_a_dead_host_one_ttl_later() {
    check(&Mode {
        name: "balancing",
        profile: "full",
        is_behind_unbound: false,
        settings: "dns_srv_lb=on",
        next_hop: "sip:sip.ringmesh.internal",
        kept: TTL,
        hosts_min: 1,
        hosts_left_min: 1,
    });
}

#[test]
fn kamailio_that_asks_naptr_balances_and_fails_over_sends_calls_to_all_hosts() {
    check(&Mode {
        name: "naptr-balancing-failover",
        profile: "full",
        is_behind_unbound: false,
        settings: "dns_try_naptr=on\ndns_srv_lb=on\nuse_dns_failover=on",
        next_hop: "sip:ringmesh.internal",
        kept: TTL,
        hosts_min: 3,
        hosts_left_min: 2,
    });
}

#[track_caller]
fn check(mode: &Mode) {
    if !can_make_namespaces() || !has("kamailio") || !has("sipp") {
        return;
    }
    let course = Stack::new(mode).observe(mode);
    let (before, after) = (course.spread(Duration::ZERO, course.died), course.spread_at_last());
    let says = format!("{}: {}", mode.name, course.report());
    println!("{says}");
    assert!(before.len() >= mode.hosts_min, "{says}");
    assert!(after.len() >= mode.hosts_left_min, "{says}");
    assert!(!after.contains_key(HOSTS[0].0), "the dead host still gets calls: {says}");
    assert_eq!(course.unanswered(course.settled), 0, "{says}");
}

/// An agent that has the hosts in its catalogue.
struct Stack {
    _agent: Process,
    config: Config,
    space: Namespace,
    folder: Folder,
}

impl Stack {
    fn new(mode: &Mode) -> Self {
        let (folder, space) = (Folder::new(mode.name), Namespace::new(mode.name));
        space.resolve_at("127.0.0.1");
        let dns = if mode.is_behind_unbound { 8_600 } else { 53 };
        let mut config = Config { seeds: Vec::new(), dns, ..Config::local(27_000, 0) };
        let hosts = HOSTS.map(|(addr, weight)| {
            service(addr, "sip", "sip", addr, 5_060, "sip")
                .replace("service = \"sip\"\n", &format!("service = \"sip\"\nweight = {weight}\n"))
        });
        config.extra = format!("{DNS}profile = \"{}\"\n{}", mode.profile, hosts.concat());
        let agent = space.agent(&folder, &config, &authority("test"));
        Self { _agent: agent, config, space, folder }
    }

    /// Lets calls go through Kamailio while the first host dies.
    fn observe(&self, mode: &Mode) -> Course {
        let mut hosts = HOSTS.map(|(addr, _)| self.host(addr));
        within(Duration::from_secs(10), "all hosts pass", || self.passing() == HOSTS.len());
        let _resolver = mode.is_behind_unbound.then(|| self.unbound());
        let _proxy = self.proxy(mode);
        let mut caller = self.caller();
        self.wait_for_calls(Duration::ZERO);

        let died = now();
        signal(hosts[0].pid(), Signal::SIGKILL);
        hosts[0].wait();
        let failing = (HOSTS[0].0.to_owned(), "failing".to_owned());
        let states = || self.space.states(&self.config, "sip");
        within(Duration::from_secs(10), "the dead host fails", || states().contains(&failing));
        let known = now();
        let settled = known + mode.kept + SLACK;
        self.wait_for_calls(settled);
        // It ends the calls that are under way, and begins no more.
        signal(caller.pid(), Signal::SIGUSR1);
        caller.wait();
        Course { died, known, settled, events: self.events() }
    }

    fn host(&self, addr: &str) -> Process {
        let words = ["sipp", "-sn", "uas", "-aa", "-i", addr, "-p", "5060", "-nostdin"];
        self.space.start(&self.folder, &format!("{addr}.log"), &words)
    }

    fn passing(&self) -> usize {
        self.space.states(&self.config, "sip").iter().filter(|(_, state)| state == "passing").count()
    }

    fn unbound(&self) -> Process {
        let words = unbound::words(&self.folder, "127.0.0.1".parse().expect("an address"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let resolver = self.space.start(&self.folder, "unbound.log", &words);
        self.wait_for_listener("127.0.0.1:53");
        resolver
    }

    fn wait_for_listener(&self, addr: &str) {
        let listens = || self.space.run(&["ss", "-lun"]).contains(addr);
        within(Duration::from_secs(10), "somebody listens", listens);
    }

    /// Kamailio, as in the example but for how it asks DNS.
    fn proxy(&self, mode: &Mode) -> Process {
        let example = include_str!("../../../examples/kamailio/kamailio.cfg");
        assert!(example.contains("\nuse_dns_cache=off\n"), "the example has changed");
        let text = example.replace("use_dns_cache=off", mode.settings) + WITNESS;
        let routing = self.folder.write("kamailio.cfg", &text);
        let state = self.folder.file("run");
        std::fs::create_dir_all(&state).expect("a folder");
        // Its workers end with it, however this test ends.
        let alone = ["unshare", "--pid", "--fork", "--kill-child"];
        let (listen, hop) = ("LISTEN_ADDRESS=udp:127.0.0.1:5080", format!("NEXT_HOP=\"{}\"", mode.next_hop));
        let words = ["kamailio", "-f", &routing, "-A", listen, "-A", &hop, "-DD", "-E", "-Y", &state];
        let proxy = self.space.start(&self.folder, "kamailio.log", &[&alone[..], &words].concat());
        self.wait_for_listener("127.0.0.1:5080");
        proxy
    }

    fn caller(&self) -> Process {
        let words = ["sipp", "-sn", "uac", "127.0.0.1:5080", "-i", "127.0.0.1", "-p", "5090", "-nostdin"];
        // With a limit far above what is used: sipp's own would hold calls back while others wait for an answer.
        let pace = ["-r", CALLS_PER_S, "-m", "5000", "-l", "2000", "-timeout", "60s"];
        self.space.start(&self.folder, "caller.log", &[&words[..], &pace].concat())
    }

    /// What Kamailio has told so far.
    fn events(&self) -> Vec<Event> {
        let log = std::fs::read_to_string(self.folder.0.join("kamailio.log")).unwrap_or_default();
        log.lines().filter_map(Event::parse).collect()
    }

    fn wait_for_calls(&self, since: Duration) {
        within(Duration::from_secs(15), "calls are sent", || calls(&self.events(), since).len() >= CALLS);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sent,
    Accepted,
}

/// An INVITE that Kamailio sent to a host, or that a host accepted. Times are since 1970.
struct Event {
    kind: Kind,
    at: Duration,
    call: String,
    host: String,
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_once("<script>: ")?.1.split_whitespace();
        let kind = match words.next()? {
            "call-sent" => Kind::Sent,
            "call-accepted" => Kind::Accepted,
            _ => return None,
        };
        let at = words.next()?.parse().ok().map(Duration::from_secs_f64)?;
        Some(Self { kind, at, call: words.next()?.to_owned(), host: words.next()?.to_owned() })
    }
}

/// Calls that were first sent at `since` or later.
fn calls(events: &[Event], since: Duration) -> BTreeSet<&str> {
    let mut first = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == Kind::Sent) {
        first.entry(event.call.as_str()).or_insert(event.at);
    }
    first.into_iter().filter(|(_, at)| *at >= since).map(|(call, _)| call).collect()
}

/// What became of the calls, and when the first host died, when the mesh knew it, and when nobody may remember it.
struct Course {
    died: Duration,
    known: Duration,
    settled: Duration,
    events: Vec<Event>,
}

impl Course {
    /// How many INVITEs each host got.
    fn spread(&self, from: Duration, to: Duration) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        let sent = self.events.iter().filter(|event| event.kind == Kind::Sent);
        for event in sent.filter(|event| (from..to).contains(&event.at)) {
            *counts.entry(event.host.as_str()).or_default() += 1;
        }
        counts
    }

    fn spread_at_last(&self) -> BTreeMap<&str, usize> {
        self.spread(self.settled, Duration::MAX)
    }

    /// Calls first sent at `since` or later that nobody accepted.
    fn unanswered(&self, since: Duration) -> usize {
        let accepted = self.events.iter().filter(|event| event.kind == Kind::Accepted);
        let accepted: BTreeSet<&str> = accepted.map(|event| event.call.as_str()).collect();
        calls(&self.events, since).difference(&accepted).count()
    }

    fn report(&self) -> String {
        let show = |counts: BTreeMap<&str, usize>| {
            HOSTS.map(|(addr, _)| counts.get(addr).unwrap_or(&0).to_string()).join(":")
        };
        format!(
            "INVITEs {} while all lived; {} until the death was known after {:?}; {} while it was remembered; {} \
             then. {} calls, {} of them never answered",
            show(self.spread(Duration::ZERO, self.died)),
            show(self.spread(self.died, self.known)),
            self.known - self.died,
            show(self.spread(self.known, self.settled)),
            show(self.spread_at_last()),
            calls(&self.events, Duration::ZERO).len(),
            self.unanswered(Duration::ZERO),
        )
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}
