//! Peers that mean harm, over real QUIC: a liar with a valid certificate, and strangers with certificates that are not.

mod support;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foca::{Header, Member, Message, State};
use quinn::Connection;
use ringmesh_agent::pki::{Credentials, Validity, server_name_of_cluster};
use ringmesh_agent::quic;
use ringmesh_agent::seal::{DocumentSealer, trust_body};
use ringmesh_gossip::codec::Peer;
use ringmesh_gossip::message::{Datagram, Push, Request, Response, Standing};
use ringmesh_types::body::{NodeBody, Standing as NodeStanding};
use ringmesh_types::document::{Document, Key, Topic};
use ringmesh_types::ids::{Epoch, Identity, NodeId, Version};
use ringmesh_types::sealed::{Accusation, Evidence, MakeSeal as _, Seal, Statement};
use ringmesh_types::time::WallTime;
use ringmesh_types::wire::{self, Channel};
use support::mesh::{Config, authority, lasting, now};
use support::{Folder, Process, alive_at, http, within};

const AGENTS: u16 = 4;

/// A member that says whatever it likes.
struct Liar {
    endpoint: quinn::Endpoint,
    sealer: DocumentSealer,
    identity: Identity,
    trust: Vec<u8>,
    credentials: Credentials,
}

impl Liar {
    fn new(folder: &Folder, ca: &ringmesh_agent::pki::Authority, addr: SocketAddr) -> Self {
        let _ = folder;
        let (cluster, name) = ("test".parse().expect("a name"), "liar".parse().expect("a name"));
        let issued = ca.issue(&cluster, &name, lasting()).expect("issues");
        let credentials =
            Credentials::from_pem(&issued.cert_pem, &issued.key_pem, ca.cert_pem()).expect("is whole");
        let sealer = DocumentSealer::from_secret(&[9; 32]);
        let trust = trust_body(&credentials, &sealer).expect("vouches");
        let server = quic::server_config(&credentials).expect("configures");
        let endpoint = quinn::Endpoint::server(server, addr).expect("binds");
        let identity =
            Identity { id: credentials.id, epoch: Epoch(now() * 1_000), revival: 0, addr: addr.into() };
        Self { endpoint, sealer, identity, trust, credentials }
    }

    fn document(&self, owner: NodeId, topic: Topic, epoch: Epoch, sequence: u64, body: Vec<u8>) -> Document {
        let key = Key { owner, topic };
        let version = Version { epoch, sequence };
        let seal = self.sealer.seal(&Document::sealed_bytes(&key, version, &body));
        Document { key, version, body: body.into(), seal }
    }

    fn node_body(&self, name: &str, addr: SocketAddr) -> Vec<u8> {
        let body = NodeBody {
            name: name.parse().expect("a name"),
            zone: "z".parse().expect("a name"),
            region: "r".parse().expect("a name"),
            mesh: addr.into(),
            addresses: vec![addr.ip()],
            agent_version: "liar".to_owned(),
            standing: NodeStanding::Serving,
            revival: 0,
            incarnation: 0,
            started: WallTime::from_unix_millis(now() * 1_000),
        };
        body.to_bytes().expect("fits")
    }

    async fn join(&self, addr: SocketAddr) -> (Connection, Identity) {
        let client = quic::client_config(&self.credentials).expect("configures");
        let name = server_name_of_cluster(&self.credentials.cluster);
        let connection =
            self.endpoint.connect_with(client, addr, &name).expect("dials").await.expect("is let in");
        let id = self.identity.id;
        let epoch = self.identity.epoch;
        let documents = vec![
            self.document(id, Topic::of(Topic::TRUST), epoch, 1, self.trust.clone()),
            self.document(
                id,
                Topic::of(Topic::NODE),
                epoch,
                1,
                self.node_body("liar", self.identity.addr.into()),
            ),
        ];
        let hello = Request::Hello { from: self.identity, you_are: Standing::Unknown, documents };
        let answer = ask(&connection, &hello).await;
        let Response::Hello { from, .. } = answer else { panic!("no welcome: {answer:?}") };
        (connection, from)
    }

    fn accusation(&self, accuser: NodeId, subject: Identity, incarnation: u16) -> Accusation {
        let mut accusation = Accusation {
            accuser,
            subject: subject.id,
            epoch: subject.epoch,
            revival: subject.revival,
            incarnation,
            evidence: Evidence::ProbeUnanswered,
            sequence: 1,
            seal: Seal([0; 64]),
        };
        accusation.seal = self.sealer.seal(&accusation.sealed_bytes());
        accusation
    }
}

async fn ask(connection: &Connection, request: &Request) -> Response {
    let (mut send, mut receive) = connection.open_bi().await.expect("opens");
    send.write_all(&wire::encode(Channel::Stream, request).expect("fits")).await.expect("writes");
    send.finish().expect("finishes");
    let bytes = receive.read_to_end(4 << 20).await.expect("is answered");
    wire::decode(Channel::Stream, &bytes).expect("decodes")
}

fn send(connection: &Connection, src: Identity, dst: Peer, message: Message<Peer>, updates: &[Member<Peer>]) {
    let header = Header { src: Peer::from(src), src_incarnation: 0, dst, message };
    let mut packet = Vec::new();
    wire::encode_into(&mut packet, &header).expect("fits");
    if header.message != Message::TurnUndead {
        packet.extend_from_slice(&u16::try_from(updates.len()).expect("few").to_be_bytes());
        for update in updates {
            wire::encode_into(&mut packet, update).expect("fits");
        }
    }
    let bytes = wire::encode(Channel::Datagram, &Datagram::Packet { at: src.addr, packet }).expect("fits");
    let _ = connection.send_datagram(bytes.into());
}

async fn push(connection: &Connection, statements: Vec<Statement>) {
    if let Ok(mut stream) = connection.open_uni().await {
        let bytes = wire::encode(Channel::Stream, &Push::Statements(statements)).expect("fits");
        let _ = stream.write_all(&bytes).await;
        let _ = stream.finish();
    }
}

/// Answers pings, so that the liar is taken for a healthy member.
async fn answer_pings(connection: Connection, me: Identity) {
    while let Ok(bytes) = connection.read_datagram().await {
        let Ok(Datagram::Packet { packet, .. }) = wire::decode(Channel::Datagram, &bytes) else {
            continue;
        };
        if let Ok((header, _)) = wire::decode_prefix::<Header<Peer>>(Channel::Datagram, &packet)
            && let Message::Ping(number) = header.message
        {
            send(&connection, me, header.src, Message::Ack(number), &[]);
        }
    }
}

/// Everything that a liar can form, once, to each agent about each of the others.
async fn lie(liar: &Liar, links: &[(Connection, Identity)], round: u16) {
    for (connection, told) in links {
        let others: Vec<Identity> =
            links.iter().map(|(_, identity)| *identity).filter(|other| other != told).collect();
        let claims: Vec<Member<Peer>> = others
            .iter()
            .flat_map(|other| {
                [State::Suspect, State::Down].map(|state| Member::new((*other).into(), round, state))
            })
            .collect();
        for message in [Message::Ping(1), Message::Gossip] {
            send(connection, liar.identity, (*told).into(), message, &claims);
        }
        send(connection, liar.identity, (*told).into(), Message::TurnUndead, &[]);
        send(connection, others[0], (*told).into(), Message::Ping(1), &claims);
        let mut statements = Vec::new();
        for other in others.iter().chain([told]) {
            statements.push(Statement::Accusation(liar.accusation(liar.identity.id, *other, round % 8)));
            statements.push(Statement::Accusation(liar.accusation(others[0].id, *other, round % 8)));
            let body = liar.node_body("liar", liar.identity.addr.into());
            let stolen = liar.document(other.id, Topic::of(Topic::NODE), other.epoch.next(), 1, body);
            statements.push(Statement::Document(stolen));
            let trust =
                liar.document(other.id, Topic::of(Topic::TRUST), other.epoch.next(), 1, liar.trust.clone());
            statements.push(Statement::Document(trust));
        }
        push(connection, statements).await;
    }
}

fn metric(agent: &Config, name: &str) -> u64 {
    let (_, page) = http(agent.http_addr(), "GET", "/metrics", "");
    let page = page.as_str().expect("text").to_owned();
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("ringmesh_{name} ")))
        .expect("is there")
        .to_owned();
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

#[test]
fn a_liar_with_a_valid_certificate_removes_nobody_and_is_counted() {
    let folder = Folder::new("liar");
    let ca = authority("test");
    let configs: Vec<Config> = (0..AGENTS).map(|index| Config::local(27_000, index)).collect();
    let _agents: Vec<Process> = configs.iter().map(|config| config.start(&folder, &ca)).collect();
    within(Duration::from_secs(10), "the agents agree", || {
        configs.iter().all(|config| alive_at(config.http_addr()) == usize::from(AGENTS))
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let liar = Arc::new(Liar::new(&folder, &ca, SocketAddr::from(([127, 0, 0, 1], 27_050))));
        let mut links = Vec::new();
        for config in &configs {
            links.push(liar.join(config.mesh_addr()).await);
        }
        for (connection, _) in &links {
            tokio::spawn(answer_pings(connection.clone(), liar.identity));
        }
        let begun = Instant::now();
        let mut round = 0;
        while begun.elapsed() < Duration::from_secs(15) {
            lie(&liar, &links, round).await;
            round = round.wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    for config in &configs {
        let (_, events) = http(config.http_addr(), "GET", "/api/v1/events", "");
        for event in events.as_array().expect("events") {
            let is_agent = event["subject"].as_str().is_some_and(|subject| subject.starts_with("node-"));
            assert!(!(is_agent && event["kind"] == "member" && event["to"] == "Down"), "{event}");
        }
        let names = (0..AGENTS)
            .all(|index| support::state_of(config.http_addr(), &format!("node-{index}")) != "Down");
        assert!(names, "somebody is Down at {}", config.name);
        assert!(metric(config, "node_impostors_total") > 0, "impostors at {}", config.name);
        assert!(metric(config, "claims_removed_total") > 0, "claims at {}", config.name);
        assert!(metric(config, "seals_rejected_total") > 0, "seals at {}", config.name);
    }
    let told = configs.iter().map(|config| metric(config, "accusations_counted_total")).sum::<u64>();
    assert!(told > 0, "the liar was heard, so the test means something");
}

/// Starts a newcomer with `issued` beside one agent of cluster `test`, and returns what each of the two recorded.
fn refused(
    test: &str,
    base: u16,
    newcomer: Config,
    ca_pem: &str,
    issued: &ringmesh_agent::pki::Issued,
) -> (String, String) {
    let folder = Folder::new(test);
    let ca = authority("test");
    let host = Config::local(base, 0);
    let _host = host.start(&folder, &ca);
    let path = newcomer.write(&folder, ca_pem, issued);
    let _newcomer = support::mesh::start(&folder, &newcomer.name, &path, &[]);
    let said = |config: &Config, to: &str| {
        let Some((_, events)) = support::try_http(config.http_addr(), "GET", "/api/v1/events", "") else {
            return String::new();
        };
        let events = events.as_array().cloned().unwrap_or_default();
        let event = events.iter().find(|event| event["kind"] == "refused" && event["to"] == to);
        event.and_then(|event| event["cause"].as_str()).unwrap_or_default().to_owned()
    };

    within(Duration::from_secs(10), "both sides say why", || {
        !said(&host, "refused").is_empty() && !said(&newcomer, "not reached").is_empty()
    });
    assert_eq!(alive_at(host.http_addr()), 1);
    (said(&host, "refused"), said(&newcomer, "not reached"))
}

#[test]
fn a_certificate_of_another_authority_is_refused_with_a_reason_on_both_sides() {
    let other = authority("test");
    let newcomer = Config::local(27_300, 1);
    let issued = other.issue(&"test".parse().expect("a name"), &"node-1".parse().expect("a name"), lasting());
    let (host, guest) = refused("other-ca", 27_300, newcomer, other.cert_pem(), &issued.expect("issues"));
    for side in [&host, &guest] {
        assert!(side.contains("certificate"), "{side}");
    }
}

#[test]
fn a_certificate_of_another_cluster_is_refused_by_name_on_both_sides() {
    let other = authority("prod");
    let newcomer = Config { cluster: "prod".to_owned(), ..Config::local(27_600, 1) };
    let issued = other.issue(&"prod".parse().expect("a name"), &"node-1".parse().expect("a name"), lasting());
    let (host, guest) =
        refused("other-cluster", 27_600, newcomer, other.cert_pem(), &issued.expect("issues"));
    println!("host: {host}\nguest: {guest}");
    for side in [&host, &guest] {
        assert!(
            side.contains("cluster test") && side.contains("cluster prod"),
            "both clusters are named: {side}"
        );
    }
}

#[test]
fn a_certificate_whose_name_is_not_the_nodes_is_refused_with_a_reason_on_both_sides() {
    let folder = Folder::new("other-id");
    let ca = authority("test");
    let host = Config::local(28_000, 0);
    let _host = host.start(&folder, &ca);
    within(Duration::from_secs(5), "the agent answers", || alive_at(host.http_addr()) == 1);
    let honest = ca.issue(&"test".parse().expect("a name"), &"node-8".parse().expect("a name"), lasting());
    let honest = honest.expect("issues");
    let mut credentials =
        Credentials::from_pem(&honest.cert_pem, &honest.key_pem, ca.cert_pem()).expect("is whole");
    let id = credentials.id;
    let names = vec![format!("{id}.test.ringmesh"), "test.ringmesh".to_owned()];
    let mut leaf = rcgen::CertificateParams::new(names).expect("names");
    let uri = "spiffe://test/node/node-9".to_owned().try_into().expect("a uri");
    leaf.subject_alt_names.push(rcgen::SanType::URI(uri));
    leaf.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let signer = rcgen::KeyPair::from_pem(&ca.key_pem()).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(ca.cert_pem(), signer).expect("an issuer");
    let key = rcgen::KeyPair::from_pem(&honest.key_pem).expect("a key");
    credentials.chain = vec![leaf.signed_by(&key, &issuer).expect("signs").der().clone()];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let told = runtime.block_on(async {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let client = quic::client_config(&credentials).expect("configures");
        let name = server_name_of_cluster(&credentials.cluster);
        match endpoint.connect_with(client, host.mesh_addr(), &name).expect("dials").await {
            Ok(connection) => connection.closed().await.to_string(),
            Err(error) => error.to_string(),
        }
    });
    assert!(told.contains("lacks the DNS name"), "the peer is told why: {told}");
    let (_, events) = http(host.http_addr(), "GET", "/api/v1/events", "");
    assert!(events.to_string().contains("lacks the DNS name"), "the host says why: {events}");
}

/// The head of a first packet of QUIC version 1, and nothing sealed behind it (RFC 9000, 17.2.2). Of every four, one is
/// taken for a packet until its seal is looked at.
fn unsealed_first_packet(destination: u8) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend([destination; 8]);
    // No source id, no token, 1,182 bytes more.
    packet.extend([0, 0, 0x44, 0x9e]);
    packet.resize(1_200, 7);
    packet
}

/// Where to send what should come to `to` while nothing comes back. Says each time that something has passed.
async fn mute_relay(to: SocketAddr) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let [inner, outer] = [(); 2].map(|()| tokio::net::UdpSocket::bind("127.0.0.1:0"));
    let (inner, outer) = (inner.await.expect("binds"), outer.await.expect("binds"));
    let addr = inner.local_addr().expect("is bound");
    let (tell, passed) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut packet = [0; 2_048];
        while let Ok(length) = inner.recv(&mut packet).await {
            outer.send_to(&packet[..length], to).await.expect("sends");
            let _ = tell.send(());
        }
    });
    (addr, passed)
}

#[test]
fn who_gives_up_or_sends_garbage_is_counted_and_no_event() {
    const GIVEN_UP: u64 = 5;
    let folder = Folder::new("gives-up");
    let ca = authority("test");
    let host = Config::local(33_000, 0);
    let _host = host.start(&folder, &ca);
    within(Duration::from_secs(10), "the agent answers", || alive_at(host.http_addr()) == 1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let dialler = Liar::new(&folder, &ca, SocketAddr::from(([127, 0, 0, 1], 33_050)));
        let name = server_name_of_cluster(&dialler.credentials.cluster);
        for _ in 0..GIVEN_UP {
            let client = quic::client_config(&dialler.credentials).expect("configures");
            let (relay, mut passed) = mute_relay(host.mesh_addr()).await;
            let dial = dialler.endpoint.connect_with(client, relay, &name).expect("dials");
            passed.recv().await.expect("the dial began");
            drop(dial);
        }
        dialler.endpoint.wait_idle().await;
    });
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    for destination in 0..32 {
        stranger.send_to(&unsealed_first_packet(destination), host.mesh_addr()).expect("sends");
    }
    within(Duration::from_secs(10), "all are counted", || metric(&host, "mesh_refused_total") > GIVEN_UP);
    let (_, events) = http(host.http_addr(), "GET", "/api/v1/events", "");
    let refused: Vec<_> =
        events.as_array().expect("events").iter().filter(|event| event["kind"] == "refused").collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn an_agent_whose_certificate_is_for_another_name_does_not_start_and_says_so() {
    let folder = Folder::new("other-name");
    let ca = authority("test");
    let config = Config::local(27_900, 0);
    let issued = ca.issue(&"test".parse().expect("a name"), &"somebody".parse().expect("a name"), lasting());
    let path = config.write(&folder, ca.cert_pem(), &issued.expect("issues"));
    let output = std::process::Command::new(support::RINGMESH)
        .args(["agent", "--config", &path])
        .output()
        .expect("runs");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{says}");
    assert!(says.contains("tls.certificate: it is for node somebody of cluster test"), "{says}");
}

#[test]
fn an_expired_certificate_is_refused_with_a_reason_on_both_sides() {
    let folder = Folder::new("expired");
    let ca = authority("test");
    let host = Config::local(28_200, 0);
    let _host = host.start(&folder, &ca);
    let expired = Validity { not_before_unix_s: now() - 7_200, not_after_unix_s: now() - 60 };
    let newcomer = Config::local(28_200, 1);
    let issued = ca.issue(&"test".parse().expect("a name"), &"node-1".parse().expect("a name"), expired);
    let path = newcomer.write(&folder, ca.cert_pem(), &issued.expect("issues"));
    let _newcomer = support::mesh::start(&folder, "node-1", &path, &[]);
    let said = |config: &Config| {
        let events = support::try_http(config.http_addr(), "GET", "/api/v1/events", "");
        let events = events.and_then(|(_, events)| events.as_array().cloned()).unwrap_or_default();
        let refused = events.iter().filter(|event| event["kind"] == "refused");
        refused.map(|event| event["cause"].to_string()).collect::<String>()
    };
    within(Duration::from_secs(10), "both say that it is expired", || {
        said(&host).to_lowercase().contains("expired") && said(&newcomer).to_lowercase().contains("expired")
    });
}

/// What is sent back to a request of which nothing more comes than this.
fn answer_to(addr: SocketAddr, head_and_begin: &str) -> String {
    let mut stream = std::net::TcpStream::connect(addr).expect("the agent listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out can be set");
    stream.write_all(head_and_begin.as_bytes()).expect("loopback sends");
    let mut answer = [0; 4_096];
    let length = stream.read(&mut answer).expect("an answer comes");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn who_sends_half_a_body_is_let_go_and_keeps_nobody_out() {
    let folder = Folder::new("half-bodies");
    let ca = authority("test");
    let config = Config::local(28_700, 0);
    let _agent = config.start(&folder, &ca);
    let addr = config.http_addr();
    within(Duration::from_secs(5), "the agent answers", || alive_at(addr) == 1);
    let head = |length: u64| {
        format!("POST /api/v1/register HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {length}\r\n\r\n{{")
    };
    let half = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..300).map(|_| scope.spawn(|| answer_to(addr, &head(1_000)))).collect();
        assert!(answer_to(addr, &head(99_999_999_999)).starts_with("HTTP/1.1 413"));
        assert_eq!(alive_at(addr), 1, "others are answered meanwhile");
        waiting.into_iter().map(|thread| thread.join().expect("it is answered")).collect::<Vec<_>>()
    });
    for answer in half {
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("did not come within"), "{answer}");
    }
}
