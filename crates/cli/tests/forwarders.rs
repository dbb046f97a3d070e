//! Resolvers between the agent and those who ask, set up with the very files of `deploy/dns`: unbound and dnsmasq, both
//! with what is known to get in the way (validation, rebind protection, caches for what exists and what does not).

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::mesh::{Config, authority, service};
use support::namespace::{Namespace, can_make_namespaces};
use support::{DOMAIN, Folder, Process, fragment, has, signal, unbound, within};

/// The least that is allowed: what is not there is asked for again after this time.
const DNS: &str = "negative_ttl = \"11s\"\n";
const TTL: Duration = Duration::from_secs(5);
const NEGATIVE_TTL: Duration = Duration::from_secs(11);
/// Caches count whole seconds; the rest is for a busy machine.
const SLACK: Duration = Duration::from_secs(2);

const AGENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8_600);
const RESOLVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 53);
const HOSTS: [&str; 3] = ["127.0.0.11", "127.0.0.12", "127.0.0.13"];
/// Too many for a UDP answer.
const MANY: usize = 60;

/// What stands around the file of `deploy/dns`: no loopback addresses. dnsmasq does not validate what a server for one domain
/// says.
const DNSMASQ: &str = "
listen-address=127.0.0.2
bind-interfaces
no-resolv
no-hosts
user=root
pid-file
stop-dns-rebind
bogus-priv
domain-needed
";

#[test]
fn unbound_passes_everything_on_and_forgets_in_time() {
    if !has("unbound") {
        return;
    }
    check("unbound", |folder| unbound::words(folder, RESOLVER.ip()));
}

#[test]
fn dnsmasq_passes_everything_on_and_forgets_in_time() {
    if !has("dnsmasq") {
        return;
    }
    check("dnsmasq", |folder| {
        let text = format!("{DNSMASQ}conf-file={}\n", fragment("dnsmasq.conf"));
        ["dnsmasq", "--keep-in-foreground", "-C", &folder.write("dnsmasq.conf", &text)]
            .map(str::to_owned)
            .into()
    });
}

/// `words` says how the resolver `name` is started, in the foreground and on [`RESOLVER`].
#[track_caller]
fn check(name: &str, words: impl Fn(&Folder) -> Vec<String>) {
    if !can_make_namespaces() || !has("dig") || !has("sipp") {
        return;
    }
    let scene = Scene::new(name);
    let mut hosts = HOSTS.map(|addr| scene.host(addr));
    within(Duration::from_secs(10), "all hosts pass", || scene.count("passing") == HOSTS.len());
    let words = words(&scene.folder);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let _resolver = scene.space.start(&scene.folder, "resolver.log", &words);
    within(Duration::from_secs(10), "the resolver listens", || {
        scene.space.run(&["ss", "-lun"]).contains(&RESOLVER.to_string())
    });
    scene.expect_what_the_agent_says();
    scene.expect_nothing_where_nothing_is();

    assert!(scene.says(RESOLVER, "_late._udp.late", "SRV").contains("status: NXDOMAIN"));
    let registered = scene.register_late();
    let died = Instant::now();
    signal(hosts[0].pid(), Signal::SIGKILL);
    hosts[0].wait();
    // Asked all the time, so that it always has an answer to remember.
    let served = || scene.ask(RESOLVER, "_sip._udp.sip", "SRV").len();
    within(Duration::from_secs(10), "the dead host fails", || served() > 0 && scene.count("failing") == 1);
    let known = Instant::now();
    let kept = asked_within(TTL + SLACK, known, || served() == HOSTS.len() - 1);
    let hidden = asked_within(NEGATIVE_TTL + SLACK, registered, || {
        !scene.ask(RESOLVER, "_late._udp.late", "SRV").is_empty()
    });
    println!(
        "{name}: death known after {:?} and kept for {kept:?}; a new name hidden for {hidden:?}",
        known - died
    );
}

/// Asks until the answer is right; one that is asked for `limit` after `since` must be. Says when it was asked for.
#[track_caller]
fn asked_within(limit: Duration, since: Instant, mut is_right: impl FnMut() -> bool) -> Duration {
    loop {
        let asked = since.elapsed();
        if is_right() {
            return asked;
        }
        assert!(asked < limit, "still the old answer after {asked:?}");
    }
}

/// An agent in a namespace, with a service of some hosts and one of many.
struct Scene {
    _agent: Process,
    config: Config,
    space: Namespace,
    folder: Folder,
}

impl Scene {
    fn new(name: &str) -> Self {
        let (folder, space) = (Folder::new(name), Namespace::new(name));
        let mut config = Config { seeds: Vec::new(), dns: AGENT.port(), ..Config::local(27_000, 0) };
        let hosts = HOSTS.map(|addr| service(addr, "sip", "sip", addr, 5_060, "sip"));
        config.extra = format!("{DNS}{}{}", hosts.concat(), many());
        let agent = space.agent(&folder, &config, &authority("test"));
        Self { _agent: agent, config, space, folder }
    }

    fn host(&self, addr: &str) -> Process {
        let words = ["sipp", "-sn", "uas", "-aa", "-i", addr, "-p", "5060", "-nostdin"];
        self.space.start(&self.folder, &format!("{addr}.log"), &words)
    }

    /// How many hosts are in `state`.
    fn count(&self, state: &str) -> usize {
        self.space.states(&self.config, "sip").iter().filter(|(_, is)| is == state).count()
    }

    /// All that dig says.
    fn says(&self, at: SocketAddr, name: &str, qtype: &str) -> String {
        let (server, port) = (format!("@{}", at.ip()), at.port().to_string());
        let name = if name.is_empty() { DOMAIN.to_owned() } else { format!("{name}.{DOMAIN}") };
        self.space.run(&["dig", &server, "-p", &port, "+tries=2", "+time=3", &name, qtype])
    }

    /// The records of an answer, without their TTL, which is checked.
    fn ask(&self, at: SocketAddr, name: &str, qtype: &str) -> Vec<String> {
        let says = self.says(at, name, qtype);
        let answer = says.split(";; ANSWER SECTION:\n").nth(1).unwrap_or_default();
        let mut records = Vec::new();
        for line in answer.lines().take_while(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ttl = words[1].parse().map(Duration::from_secs).expect("a TTL");
            let longest = if words[3] == "SOA" { NEGATIVE_TTL } else { TTL };
            assert!(ttl <= longest, "{line}");
            records.push([&words[..1], &words[2..]].concat().join(" "));
        }
        records.sort();
        records
    }

    fn expect_what_the_agent_says(&self) {
        let same = |name: &str, qtype: &str, count: usize| {
            let records = self.ask(AGENT, name, qtype);
            assert_eq!(records.len(), count, "{name} {qtype}: {records:?}");
            assert_eq!(self.ask(RESOLVER, name, qtype), records, "{name} {qtype}");
            records
        };
        same("sip", "A", HOSTS.len());
        same("", "NAPTR", 1);
        same("", "SOA", 1);
        same("node-0.n", "A", 1);
        same("_sip._udp", "SRV", HOSTS.len());
        same("_many._udp.all.many", "SRV", MANY);
        for record in same("_sip._udp.sip", "SRV", HOSTS.len()) {
            let target =
                record.rsplit(' ').next().and_then(|target| target.strip_suffix(".ringmesh.internal."));
            same(target.expect("is in the domain"), "A", 1);
        }
    }

    /// Nothing of this type, nothing but names below, nothing at all: each with a SOA that says how long.
    fn expect_nothing_where_nothing_is(&self) {
        for (name, qtype, status) in [
            ("sip", "AAAA", "NOERROR"),
            ("_udp.sip", "SRV", "NOERROR"),
            ("nothing", "A", "NXDOMAIN"),
            ("_sip._udp.nothing", "SRV", "NXDOMAIN"),
        ] {
            let says = self.says(RESOLVER, name, qtype);
            assert!(says.contains(&format!("status: {status}")) && says.contains("ANSWER: 0,"), "{says}");
            let soa = says.lines().find(|line| line.contains("\tSOA\t")).unwrap_or_else(|| panic!("{says}"));
            let ttl = soa.split_whitespace().nth(1).and_then(|ttl| ttl.parse().ok()).map(Duration::from_secs);
            assert!(ttl.expect("a TTL") <= NEGATIVE_TTL, "{soa}");
        }
    }

    /// Registers a service that was asked for before it was there; says when.
    fn register_late(&self) -> Instant {
        let words = ["register", "--id", "late", "--service", "late", "--endpoint", "udp:127.0.0.14:5060"];
        self.space.ask(&self.config, &words).expect("is registered");
        let registered = Instant::now();
        within(Duration::from_secs(5), "the agent names it", || {
            self.ask(AGENT, "_late._udp.late", "SRV").len() == 1
        });
        registered
    }
}

/// Instances that count as healthy, because nobody checks them.
fn many() -> String {
    let one = |port: usize| {
        format!(
            "\n[[service]]\nid = \"many-{port}\"\nservice = \"many\"\n[[service.endpoint]]\ntransport = \"udp\"\n\
             address = \"127.0.0.1\"\nport = {port}\n"
        )
    };
    (0..MANY).map(|index| one(10_000 + index)).collect()
}
