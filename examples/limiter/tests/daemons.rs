//! Daemons on this machine, each with an agent of its own that tells what the test says.

#[path = "../../../crates/client/tests/fake/mod.rs"]
mod fake;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake::{FakeAgent, FakeHost};
use ringmesh_limiter::bucket::Quota;
use ringmesh_limiter::check::{Report, check, read};
use ringmesh_limiter::load::{self, LoadConfig};
use ringmesh_limiter::peers::{Peers, Reply};
use ringmesh_limiter::server::{GENERATION_HEADER, HOPS_HEADER, ROLE_HEADER};
use ringmesh_limiter::{Config, ConfigError, Limiter};
use ringmesh_partition::map::{Dedicated, Map, Parts, Seat, Seats};
use ringmesh_partition::place::Candidate;
use ringmesh_partition::plan::{PlanConfig, first};
use ringmesh_partition::position::Strategy;
use ringmesh_types::ids::NodeId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const KEY: &str = "acme";
const QUOTA: Quota = Quota { rate: 50.0, burst: 100.0 };
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_moves_under_load_gets_its_quota_once_and_only_owners_grant() {
    let mut world = World::start(2, "moves").await;
    let begun = Instant::now();
    let mut load = Hammer::start(&world, &[0, 1]);
    load.until_granted(1, &[0], 10).await;
    for round in 0..8_u16 {
        // One of them hears of it later than the other, in turn.
        let (owner, first) = (1 - round % 2, usize::from(round / 2 % 2));
        let next = world.owned_by(owner);
        world.tell(first, &next);
        load.until_answered(20).await;
        world.tell(1 - first, &next);
        load.until_granted(next.parts().generation, &[owner], 10).await;
        world.map = next;
    }
    let report = world.report_after(load, begun).await;
    assert_eq!(report.moves, 8, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_that_come_and_go_under_load_get_one_quota_together() {
    let mut world = World::start(3, "shares").await;
    let begun = Instant::now();
    let mut load = Hammer::start(&world, &[0, 1, 2]);
    load.until_granted(1, &[0], 10).await;
    for owners in [&[0, 1, 2][..], &[1, 2], &[2], &[2, 0], &[0]] {
        let next = world.shared_by(owners);
        for daemon in 0..3 {
            world.tell(daemon, &next);
            load.until_answered(10).await;
        }
        load.until_granted(next.parts().generation, owners, 5).await;
        world.map = next;
    }
    world.report_after(load, begun).await;
}

#[tokio::test]
async fn who_does_not_own_the_account_asks_the_owner() {
    let world = World::start(2, "forwards").await;
    let (owner, other) = world.owner_and_other();
    let direct = world.take(owner, 1.0, &[]).await;
    assert_eq!((direct.status, role(&direct)), (200, "owner".to_owned()));
    let forwarded = world.take(other, 1.0, &[]).await;
    assert_eq!((forwarded.status, role(&forwarded)), (200, "forwarded".to_owned()));
    let said = said(&forwarded);
    assert_eq!((said["granted"].clone(), said["generation"].clone()), (json!(true), json!(1)));
    assert_eq!(said["by"], json!(host_name(owner as u16)));
    let hopped = world.take(other, 1.0, &[(HOPS_HEADER, "1".to_owned())]).await;
    assert_eq!(hopped.status, 503, "nobody forwards twice");
    assert_eq!(hopped.headers.get("retry-after").and_then(|value| value.to_str().ok()), Some("1"));
}

#[tokio::test]
async fn who_hears_of_its_key_later_than_others_waits_for_the_map() {
    let world = World::start(2, "waits").await;
    let (owner, other) = world.owner_and_other();
    let next = world.owned_by(other as u16);
    world.tell(owner, &next);
    let asked = async { world.take(other, 1.0, &[(GENERATION_HEADER, "2".to_owned())]).await };
    let told = async {
        sleep(Duration::from_millis(100)).await;
        world.tell(other, &next);
    };
    let (reply, ()) = tokio::join!(asked, told);
    assert_eq!((reply.status, role(&reply)), (200, "owner".to_owned()));
    assert_eq!(said(&reply)["generation"], json!(2));
    let behind = world.take(other, 1.0, &[(GENERATION_HEADER, "9".to_owned())]).await;
    assert_eq!(behind.status, 200, "it still owns the account by the map that it has");
}

#[tokio::test]
async fn without_the_owner_before_an_account_begins_empty() {
    let world = World::start(2, "lost").await;
    let (owner, other) = world.owner_and_other();
    world.daemons[owner].stop().await;
    let next = world.owned_by(other as u16);
    world.tell(other, &next);
    world.until_generation(other, 2).await;
    let reply = said(&world.take(other, QUOTA.burst, &[]).await);
    assert_eq!(reply["granted"], json!(false), "{reply}");
    let retry = reply["retry_ms"].as_u64().expect("is a number");
    assert!((1..=2_000).contains(&retry), "it fills in 2 s: {reply}");
}

#[tokio::test]
async fn an_account_moves_with_what_it_has() {
    let world = World::start(2, "level").await;
    let (owner, other) = world.owner_and_other();
    let spent = said(&world.take(owner, 90.0, &[]).await);
    assert_eq!((spent["granted"].clone(), spent["left"].clone()), (json!(true), json!(10.0)));
    let next = world.owned_by(other as u16);
    world.tell(owner, &next);
    world.tell(other, &next);
    world.until_generation(other, 2).await;
    let moved = said(&world.take(other, 5.0, &[]).await);
    let left = moved["left"].as_f64().expect("is granted");
    assert!((5.0..60.0).contains(&left), "{moved}");
}

#[tokio::test]
async fn what_cannot_be_a_request_is_refused_with_the_field_named() {
    let world = World::start(1, "bad").await;
    let check = async |body: String, status: u16, want: &str| {
        let reply = world.post(0, "/take", &[], body).await;
        let detail = said(&reply)["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(reply.status, status, "{detail}");
        assert!(detail.starts_with(want), "{detail}");
    };
    check(json!({ "account": "", "cost": 1 }).to_string(), 400, "account: has 0 bytes").await;
    check(json!({ "account": "a".repeat(1_025) }).to_string(), 400, "account: has 1025 bytes").await;
    check(json!({ "account": "a", "cost": 0 }).to_string(), 400, "cost: 0 is not allowed").await;
    check(json!({ "account": "a", "cost": 101 }).to_string(), 400, "cost: 101 is not allowed").await;
    check(json!({ "account": "a", "price": 1 }).to_string(), 400, "unknown field `price`").await;
    check("a".repeat(5_000), 413, "").await;
    let bad = Quota { rate: 0.0, ..QUOTA };
    let refused =
        Limiter::bind(config(world.daemons[0].addr, SocketAddr::from(([127, 0, 0, 1], 9)), None, bad)).await;
    assert!(matches!(refused, Err(ConfigError::Quota { field: "rate", .. })), "{refused:?}");
}

#[tokio::test]
async fn a_daemon_that_knows_no_map_says_so_and_one_that_was_here_before_starts_empty() {
    let agent = FakeAgent::start().await;
    let log = log_path("again", 0);
    let daemon = Daemon::start(agent.addr(), Some(log.clone())).await;
    let reply = post(daemon.addr, "/take", &[], json!({ "account": KEY }).to_string()).await;
    assert_eq!(reply.status, 503);
    let map = map(1);
    let hosts = [FakeHost { id: node(0), is_live: true, endpoint: daemon.addr }];
    agent.tell_map(&map, None, node(0), &hosts);
    // An agent without a map closes a watch, so that it takes a while to be asked again.
    let granted = until(async || {
        let reply = post(daemon.addr, "/take", &[], json!({ "account": KEY, "cost": 60 }).to_string()).await;
        (reply.status == 200).then(|| said(&reply)["granted"] == json!(true))
    })
    .await;
    assert!(granted, "the first owner starts full");
    daemon.stop().await;
    let again = Daemon::start(agent.addr(), Some(log)).await;
    let granted = until(async || {
        let reply = post(again.addr, "/take", &[], json!({ "account": KEY, "cost": 60 }).to_string()).await;
        (reply.status == 200).then(|| said(&reply)["granted"] == json!(true))
    })
    .await;
    assert!(!granted, "it may have granted before");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_that_looks_up_owners_goes_to_them_and_blind_load_does_not() {
    let world = World::start(2, "load").await;
    let config = |agent| LoadConfig {
        daemons: world.daemons.iter().map(|daemon| daemon.addr).collect(),
        agent,
        service: "limiter".parse().expect("a name"),
        accounts: 50,
        zipf: 1.1,
        per_second: 300.0,
        duration: Duration::from_secs(1),
        noisy: None,
        cost: 1.0,
        seed: 1,
    };
    let informed = load::run(config(Some(world.agents[0].addr())), |_| {}).await.expect("is allowed");
    assert_eq!((informed.requests, informed.errors, informed.forwarded), (300, 0, 0), "{informed:?}");
    assert_eq!(informed.granted + informed.refused, 300);
    let blind = load::run(config(None), |_| {}).await.expect("is allowed");
    assert_eq!((blind.requests, blind.errors), (300, 0), "{blind:?}");
    assert!((60..240).contains(&blind.forwarded), "{blind:?}");
    let report = world.report().await;
    assert!(report.is_good() && report.accounts <= 50, "{report:?}");
}

/// A daemon that serves.
struct Daemon {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Daemon {
    async fn start(agent: SocketAddr, log: Option<PathBuf>) -> Self {
        let config = config(SocketAddr::from(([127, 0, 0, 1], 0)), agent, log, QUOTA);
        let limiter = Limiter::bind(config).await.expect("can be bound");
        Self { addr: limiter.addr(), task: tokio::spawn(limiter.serve()) }
    }

    async fn stop(&self) {
        self.task.abort();
        until(async || self.task.is_finished().then_some(())).await;
    }
}

fn config(listen: SocketAddr, agent: SocketAddr, grant_log: Option<PathBuf>, quota: Quota) -> Config {
    Config { listen, agent, service: "limiter".parse().expect("a name"), quota, grant_log, register: None }
}

struct World {
    agents: Vec<FakeAgent>,
    daemons: Vec<Daemon>,
    hosts: Vec<FakeHost>,
    logs: Vec<PathBuf>,
    map: Map,
}

impl World {
    async fn start(count: u16, name: &str) -> Self {
        let (mut agents, mut daemons, mut logs) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let agent = FakeAgent::start().await;
            let log = log_path(name, number);
            daemons.push(Daemon::start(agent.addr(), Some(log.clone())).await);
            agents.push(agent);
            logs.push(log);
        }
        let host = |(number, daemon): (usize, &Daemon)| FakeHost {
            id: node(number as u16),
            is_live: true,
            endpoint: daemon.addr,
        };
        let hosts = daemons.iter().enumerate().map(host).collect();
        let mut world = Self { agents, daemons, hosts, logs, map: map(count) };
        world.map = world.owned(0, 1);
        for daemon in 0..world.daemons.len() {
            let agent = &world.agents[daemon];
            agent.tell_map(&world.map, None, node(daemon as u16), &world.hosts);
            world.until_generation(daemon, 1).await;
        }
        world
    }

    /// An agent tells its daemon that `map` comes after the present one.
    fn tell(&self, daemon: usize, map: &Map) {
        self.agents[daemon].tell_map(map, Some(&self.map), node(daemon as u16), &self.hosts);
    }

    fn owned(&self, owner: u16, generation: u64) -> Map {
        let at = Strategy::Hash.position(KEY.as_bytes()).expect("a key");
        let index = self.map.partition_of(at).expect("has partitions");
        let mut parts = self.map.parts().clone();
        parts.seats[index] = Seats::of(Seat(owner));
        let previous = if generation == 1 { [0; 32] } else { self.map.digest() };
        Map::new(Parts { generation, previous, dedicated: vec![], ..parts }).expect("is a map")
    }

    /// The generation after the present one, in which a daemon owns the key.
    fn owned_by(&self, owner: u16) -> Map {
        self.owned(owner, self.map.parts().generation + 1)
    }

    /// The same, in which some share it.
    fn shared_by(&self, owners: &[u16]) -> Map {
        let at = Strategy::Hash.position(KEY.as_bytes()).expect("a key");
        let parts = self.map.parts().clone();
        let dedicated = vec![Dedicated { at, owners: owners.iter().map(|owner| Seat(*owner)).collect() }];
        let generation = parts.generation + 1;
        Map::new(Parts { generation, previous: self.map.digest(), dedicated, ..parts }).expect("is a map")
    }

    fn owner_and_other(&self) -> (usize, usize) {
        let found = self.map.lookup(KEY.as_bytes()).expect("a key").expect("has partitions");
        let owner = found.seats[0].index();
        (owner, (owner + 1) % self.daemons.len())
    }

    async fn post(
        &self,
        daemon: usize,
        path: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Reply {
        post(self.daemons[daemon].addr, path, headers, body).await
    }

    async fn take(&self, daemon: usize, cost: f64, headers: &[(&'static str, String)]) -> Reply {
        self.post(daemon, "/take", headers, json!({ "account": KEY, "cost": cost }).to_string()).await
    }

    async fn until_generation(&self, daemon: usize, generation: u64) {
        let addr = self.daemons[daemon].addr;
        until(async || (healthz(addr).await["generation"].as_u64() >= Some(generation)).then_some(())).await;
    }

    /// What the logs say once the load has ended, of which nothing may be wrong.
    async fn report_after(&self, load: Hammer, begun: Instant) -> Report {
        load.stop().await;
        let most = QUOTA.burst + QUOTA.rate * begun.elapsed().as_secs_f64();
        let report = self.report().await;
        assert!(report.is_good() && report.granted as f64 <= most, "{report:?}, at most {most:.0}");
        report
    }

    /// What the logs say, once the daemons have ended.
    async fn report(&self) -> Report {
        for daemon in &self.daemons {
            daemon.stop().await;
        }
        // The logs are whole once their writers have nothing left to write.
        let length =
            || self.logs.iter().map(|log| std::fs::metadata(log).map_or(0, |log| log.len())).sum::<u64>();
        let mut before = u64::MAX;
        until(async || {
            let is_still = core::mem::replace(&mut before, length()) == before;
            sleep(Duration::from_millis(100)).await;
            is_still.then_some(())
        })
        .await;
        check(read(self.logs.iter().map(PathBuf::as_path)).expect("are grant logs"), &QUOTA)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.daemons.iter().for_each(|daemon| daemon.task.abort());
    }
}

/// Requests for the key, as fast as they are answered.
struct Hammer {
    is_over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    answers: watch::Receiver<Answers>,
}

/// What the load was told so far.
#[derive(Default)]
struct Answers {
    all: u64,
    /// By generation and by whom.
    granted: BTreeMap<(u64, String), u64>,
}

impl Hammer {
    fn start(world: &World, daemons: &[usize]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (heard, answers) = watch::channel(Answers::default());
        let hammer = |addr: SocketAddr| {
            let (is_over, heard) = (Arc::clone(&is_over), heard.clone());
            tokio::spawn(async move {
                let peers = Peers::default();
                while !is_over.load(Ordering::Relaxed) {
                    let body = json!({ "account": KEY, "cost": 1 }).to_string();
                    // What cannot be answered just now is asked again.
                    if let Ok(reply) = peers.post(addr, "/take", &[], body.into(), PATIENCE).await {
                        heard.send_modify(|answers| answers.add(&said(&reply)));
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            })
        };
        let addrs = daemons.iter().flat_map(|daemon| [world.daemons[*daemon].addr; 3]);
        let tasks = addrs.map(hammer).collect();
        Self { is_over, tasks, answers }
    }

    async fn until(&mut self, is_so: impl FnMut(&Answers) -> bool) {
        let heard = tokio::time::timeout(4 * PATIENCE, self.answers.wait_for(is_so));
        heard.await.expect("it comes to pass").expect("the load goes on");
    }

    async fn until_answered(&mut self, more: u64) {
        let want = self.answers.borrow().all + more;
        self.until(|answers| answers.all >= want).await;
    }

    /// Until each of these has granted so many in this generation.
    async fn until_granted(&mut self, generation: u64, owners: &[u16], count: u64) {
        let keys: Vec<(u64, String)> = owners.iter().map(|owner| (generation, host_name(*owner))).collect();
        self.until(|answers| keys.iter().all(|key| answers.granted.get(key) >= Some(&count))).await;
    }

    async fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("nobody panics");
        }
    }
}

impl Answers {
    fn add(&mut self, said: &Value) {
        self.all += 1;
        if said["granted"] == json!(true)
            && let (Some(generation), Some(by)) = (said["generation"].as_u64(), said["by"].as_str())
        {
            *self.granted.entry((generation, by.to_owned())).or_default() += 1;
        }
    }
}

fn host_name(number: u16) -> String {
    format!("host-{}", node(number).as_u64())
}

fn node(number: u16) -> NodeId {
    NodeId::from_bytes((u64::from(number) + 1).to_be_bytes())
}

fn map(hosts: u16) -> Map {
    let candidate = |number| Candidate {
        node: node(number),
        zone: "a".parse().expect("a name"),
        capacity: 100,
        is_live: true,
    };
    let candidates: Vec<Candidate> = (0..hosts).map(candidate).collect();
    let service = "limiter".parse().expect("a name");
    first(service, Strategy::Hash, node(0), &candidates, &PlanConfig::default()).expect("somebody serves")
}

/// A log that nobody has written to.
fn log_path(name: &str, number: u16) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("grants-{name}-{number}.log"));
    let _ = std::fs::remove_file(&path);
    path
}

async fn post(addr: SocketAddr, path: &str, headers: &[(&'static str, String)], body: String) -> Reply {
    Peers::default().post(addr, path, headers, body.into(), PATIENCE).await.expect("is answered")
}

fn said(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

fn role(reply: &Reply) -> String {
    reply.headers.get(ROLE_HEADER).and_then(|role| role.to_str().ok()).unwrap_or_default().to_owned()
}

async fn healthz(addr: SocketAddr) -> Value {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("is listening");
    let request = b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("is text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default()).expect("is JSON")
}

/// Asks until there is an answer.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < 4 * PATIENCE, "it does not come to pass");
        sleep(Duration::from_millis(20)).await;
    }
}
