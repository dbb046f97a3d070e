//! Joining a large mesh keeps nobody waiting: one process plays a seed whose catalogue holds 1,000 nodes and 5,000
//! instances, and pings the joiner all the while.

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foca::{Header, Message};
use quinn::Connection;
use ringmesh_agent::pki::{Authority, Credentials};
use ringmesh_agent::quic;
use ringmesh_agent::seal::{DocumentSealer, trust_body};
use ringmesh_gossip::codec::Peer;
use ringmesh_gossip::message::{Datagram, MapAnswer, Request, Response, Standing};
use ringmesh_types::body::{
    EndpointHealth, HealthBody, InstanceHealth, NodeBody, ServicesBody, Standing as NodeStanding,
};
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::ids::{Epoch, Identity, NodeId, Version};
use ringmesh_types::sealed::MakeSeal as _;
use ringmesh_types::service::{Endpoint, HealthState, Instance, Transport};
use ringmesh_types::time::WallTime;
use ringmesh_types::wire::{self, Channel};
use support::mesh::{Config, authority, lasting, now};
use support::{Folder, http, within};

const NODES: usize = 1_000;
const INSTANCES_PER_NODE: usize = 5;
const SEED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 28_500);

/// Everything that one owner says.
struct Owner {
    id: NodeId,
    documents: Vec<Document>,
}

fn sealed(sealer: &DocumentSealer, owner: NodeId, topic: &'static str, body: Vec<u8>) -> Document {
    let key = Key { owner, topic: Topic::of(topic) };
    let version = Version { epoch: Epoch(now() * 1_000), sequence: 1 };
    let seal = sealer.seal(&Document::sealed_bytes(&key, version, &body));
    Document { key, version, body: body.into(), seal }
}

fn instances(number: usize) -> Vec<Instance> {
    let instance = |index: usize| Instance {
        id: format!("sip-{number}-{index}").parse().expect("an id"),
        service: format!("svc-{}", (number * INSTANCES_PER_NODE + index) % 250).parse().expect("a name"),
        endpoints: vec![Endpoint {
            protocol: "sip".parse().expect("a name"),
            transport: Transport::Udp,
            address: std::net::IpAddr::from([
                10,
                1,
                u8::try_from(number / 250).expect("small"),
                u8::try_from(number % 250).expect("small"),
            ]),
            port: 5_060 + u16::try_from(index).expect("small"),
        }],
        weight: 100,
        tags: vec!["edge".to_owned()],
        is_draining: false,
    };
    (0..INSTANCES_PER_NODE).map(instance).collect()
}

fn owner(ca: &Authority, number: usize, addr: SocketAddr) -> (Owner, Credentials) {
    let (cluster, name) =
        ("test".parse().expect("a name"), format!("peer-{number}").parse().expect("a name"));
    let issued = ca.issue(&cluster, &name, lasting()).expect("issues");
    let credentials =
        Credentials::from_pem(&issued.cert_pem, &issued.key_pem, ca.cert_pem()).expect("is whole");
    let sealer = DocumentSealer::from_secret(&[u8::try_from(number % 251).expect("small"); 32]);
    let node = NodeBody {
        name,
        zone: format!("zone-{}", number % 3).parse().expect("a name"),
        region: "r".parse().expect("a name"),
        mesh: addr.into(),
        addresses: vec![addr.ip()],
        agent_version: "test".to_owned(),
        standing: NodeStanding::Serving,
        revival: 0,
        incarnation: 0,
        started: WallTime::from_unix_millis(now() * 1_000),
    };
    let instances = instances(number);
    let passing = EndpointHealth { state: HealthState::Passing, since: WallTime::from_unix_millis(1) };
    let health =
        instances.iter().map(|instance| InstanceHealth { id: instance.id.clone(), endpoints: vec![passing] });
    let health = HealthBody { instances: health.collect() };
    let services =
        ServicesBody { instances: instances.into_iter().map(Arc::new).collect(), is_node_draining: false };
    let id = credentials.id;
    let documents = vec![
        sealed(&sealer, id, Topic::TRUST, trust_body(&credentials, &sealer).expect("vouches")),
        sealed(&sealer, id, Topic::NODE, node.to_bytes().expect("fits")),
        sealed(&sealer, id, Topic::SERVICES, services.to_bytes().expect("fits")),
        sealed(&sealer, id, Topic::HEALTH, health.to_bytes().expect("fits")),
    ];
    (Owner { id, documents }, credentials)
}

/// The catalogue in pages of some 40 owners, by id.
fn page(catalogue: &[Owner], after: Option<NodeId>) -> Response {
    let rest: Vec<&Owner> =
        catalogue.iter().filter(|owner| after.is_none_or(|after| owner.id > after)).collect();
    let documents = rest.iter().take(40).flat_map(|owner| owner.documents.clone()).collect();
    let next = if rest.len() > 40 { Some(rest[39].id) } else { None };
    Response::Page { documents, next }
}

async fn answer_requests(connection: Connection, catalogue: Arc<Vec<Owner>>, me: Identity) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let catalogue = catalogue.clone();
        tokio::spawn(async move {
            let bytes = receive.read_to_end(4 << 20).await.unwrap_or_default();
            let response = match wire::decode(Channel::Stream, &bytes) {
                Ok(Request::Hello { .. }) => Response::Hello {
                    from: me,
                    you_are: Standing::Unknown,
                    epoch_known: None,
                    refused: None,
                    documents: catalogue
                        .iter()
                        .find(|owner| owner.id == me.id)
                        .map(|owner| owner.documents[..2].to_vec())
                        .unwrap_or_default(),
                },
                Ok(Request::Page { after }) => page(&catalogue, after),
                Ok(Request::Digest { .. }) => Response::Same,
                Ok(Request::Look { life }) => Response::Here { life },
                Ok(Request::Compare { .. }) => {
                    Response::Difference { documents: Vec::new(), wanted: Vec::new() }
                }
                Ok(Request::Pull { .. }) => Response::Documents(Vec::new()),
                Ok(Request::Map { .. }) => Response::Map(MapAnswer::Digest(None)),
                Err(_) => return,
            };
            let _ = send.write_all(&wire::encode(Channel::Stream, &response).expect("fits")).await;
            let _ = send.finish();
            let _ = send.stopped().await;
        });
    }
}

/// Pings the joiner every 2 ms until it knows everybody. How long each ping waited that was answered, and how many were
/// not: the first ones may not be, for until the joiner has a seed's documents it is a stranger.
async fn ping(
    connection: &Connection,
    me: Identity,
    joiner: Identity,
    is_done: impl Fn() -> bool,
) -> (Vec<Duration>, usize) {
    let mut waits = Vec::new();
    let mut sent: HashMap<u8, Instant> = HashMap::new();
    let mut lost = 0;
    let mut number = 0_u8;
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let last_words = Duration::from_secs(1);
    let mut done = None;
    while done.is_none_or(|done: Instant| done.elapsed() < last_words && !sent.is_empty()) {
        tokio::select! {
            _ = ticks.tick() => {
                if is_done() && waits.len() > 10 {
                    done.get_or_insert_with(Instant::now);
                    continue;
                }
                number = number.wrapping_add(1);
                let header = Header::<Peer> {
                    src: me.into(),
                    src_incarnation: 0,
                    dst: joiner.into(),
                    message: Message::Ping(number),
                };
                let mut packet = Vec::new();
                wire::encode_into(&mut packet, &header).expect("fits");
                packet.extend_from_slice(&[0, 0]);
                let datagram = Datagram::Packet { at: me.addr, packet };
                let bytes = wire::encode(Channel::Datagram, &datagram).expect("fits");
                lost += usize::from(sent.insert(number, Instant::now()).is_some());
                connection.send_datagram(bytes.into()).expect("sends");
            }
            bytes = connection.read_datagram() => {
                let bytes = bytes.expect("the link is open");
                let Ok(Datagram::Packet { packet, .. }) = wire::decode(Channel::Datagram, &bytes) else {
                    continue;
                };
                let header = wire::decode_prefix::<Header<Peer>>(Channel::Datagram, &packet);
                if let Ok((Header { message: Message::Ack(number), .. }, _)) = header {
                    waits.extend(sent.remove(&number).map(|sent| sent.elapsed()));
                }
            }
        }
    }
    (waits, lost + sent.len())
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_joiner_of_a_thousand_nodes_answers_pings_all_the_while() {
    let folder = Folder::new("join");
    let ca = authority("test");
    let mut catalogue = Vec::new();
    let mut seed = None;
    for number in 0..NODES {
        // Nobody listens where the others are said to be: the joiner's probes of them fail, as after a disaster.
        let addr = if number == 0 {
            SEED
        } else {
            SocketAddr::from(([127, 77, 0, 1], 1_000 + u16::try_from(number).expect("small")))
        };
        let (owner, credentials) = owner(&ca, number, addr);
        if number == 0 {
            seed = Some(credentials);
        }
        catalogue.push(owner);
    }
    catalogue.sort_by_key(|owner| owner.id);
    let catalogue = Arc::new(catalogue);
    let credentials = seed.expect("is made");
    let me = Identity { id: credentials.id, epoch: Epoch(0), revival: 0, addr: SEED.into() };
    let version = catalogue.iter().find(|owner| owner.id == me.id).map(|owner| owner.documents[1].version);
    let me = Identity { epoch: version.expect("is there").epoch, ..me };

    let config = Config { seeds: vec![SEED.to_string()], ..Config::local(28_600, 0) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let server = quic::server_config(&credentials).expect("configures");
        let endpoint = quinn::Endpoint::server(server, SEED).expect("binds");
        let agent = config.start(&folder, &ca);
        let begun = Instant::now();
        let connection = endpoint.accept().await.expect("is dialled").await.expect("shakes hands");
        tokio::spawn(answer_requests(connection.clone(), catalogue.clone(), me));
        let http_addr = config.http_addr();
        let about = move || support::try_http(http_addr, "GET", "/api/v1/agent", "").map(|(_, about)| about);
        let joiner = tokio::task::spawn_blocking(move || {
            within(Duration::from_secs(10), "it answers", || about().is_some());
            about().expect("answers")
        });
        let joiner = joiner.await.expect("answers");
        let identity = Identity {
            id: joiner["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"),
            epoch: Epoch(joiner["epoch"].as_u64().expect("an epoch")),
            revival: 0,
            addr: config.mesh_addr().into(),
        };
        let is_whole = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let watcher = {
            let is_whole = is_whole.clone();
            tokio::task::spawn_blocking(move || {
                let took = within(Duration::from_secs(60), "it knows everybody", || {
                    about().is_some_and(|about| about["members"] == NODES + 1 && about["services"] == 250)
                });
                is_whole.store(true, std::sync::atomic::Ordering::Relaxed);
                took
            })
        };
        let pings = ping(&connection, me, identity, || is_whole.load(std::sync::atomic::Ordering::Relaxed));
        let pinged = tokio::time::timeout(Duration::from_secs(60), pings).await;
        let (mut waits, lost) = pinged.expect("pings are answered");
        watcher.await.expect("it knew everybody");
        waits.sort();
        let at = |share: usize| waits[(waits.len() - 1) * share / 1_000];
        println!(
            "complete {:?} after its start; {} pings, {lost} lost: median {:?}, p99 {:?}, max {:?}",
            begun.elapsed(),
            waits.len(),
            at(500),
            at(990),
            at(1_000)
        );
        assert!(lost * 20 < waits.len().max(200), "{lost} pings of {} lost", waits.len() + lost);
        let (_, page) = http(config.http_addr(), "GET", "/metrics", "");
        let page = page.as_str().expect("text").to_owned();
        let memory = resident_kib(agent.pid());
        println!("{memory} KiB resident");
        assert!(memory < 32 * 1024, "{memory} KiB resident");
        let longest = page.lines().find(|line| line.starts_with("ringmesh_node_turn_microseconds_max "));
        println!("{}", longest.unwrap_or_default());
        // The rest is the machine's noise; the figures above are what counts on a quiet one.
        assert!(at(900) < Duration::from_millis(20), "p90 {:?}", at(900));
    });
}
