//! Serves DNS on UDP and TCP from the current snapshot. What is answered is decided by `ringmesh_dns`; here it is
//! received, counted and sent.
//!
//! UDP is that of [`dns_udp`]: nothing is kept per asker, so nothing can pile up. TCP is that of [`dns_tcp`]: connections
//! are kept within bounds.
//!
//! Invariant: an agent always answers. A failed receive or accept is waited out, never the end.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use ringmesh_dns::answer::{self, Via};
use ringmesh_dns::client::Client;
use ringmesh_dns::cookie::Secrets;
use ringmesh_dns::hot;
use ringmesh_dns::profile::Profile;
use ringmesh_dns::urn::mix;
use ringmesh_dns::zone::ZoneConfig;
use ringmesh_types::snapshot::Snapshot;
use ringmesh_types::time::WallTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::Profiles;
use crate::dns_guard::Guard;
use crate::dns_tcp::{self, Limits};
use crate::dns_udp::{self, Workers};
use crate::inherited::{Given, Inherited};
use crate::listen::Listen;

pub use crate::dns_udp::workers;

/// What was asked and answered since the start.
#[derive(Debug, Default)]
pub struct DnsStats {
    /// Requests of any kind.
    pub queries: AtomicU64,
    /// How many of them came over TCP.
    pub over_tcp: AtomicU64,
    /// How many of them were usual ones over UDP, answered from encoded records.
    pub hot: AtomicU64,
    /// Unusual requests over UDP that were dropped because too many waited.
    pub dropped: AtomicU64,
    /// Requests over UDP that got no response because their network had asked for too many.
    pub rate_limited: AtomicU64,
    /// Requests over UDP that were told to come by TCP, or with a cookie, because their network had asked for too many.
    pub slipped: AtomicU64,
    /// Requests over UDP, from networks that are not trusted, with a cookie that is not ours or is too old.
    pub cookies_bad: AtomicU64,
    /// Requests that got no response at all: fragments of messages, and responses sent to us.
    pub unanswered: AtomicU64,
    /// Responses that a name does not exist.
    pub nxdomain: AtomicU64,
    /// Responses that a name is none of our business, or an asker none of our clients.
    pub refused: AtomicU64,
    /// Responses that a request cannot be read.
    pub formerr: AtomicU64,
    /// Responses that send the asker to TCP because what it asked for is too long, for it or for anybody.
    pub truncated: AtomicU64,
    /// Responses that could not be sent.
    pub unsent: AtomicU64,
    /// Connections over TCP that are open now.
    pub connections: AtomicU64,
    /// Connections that were closed at once because there were too many, in all or from their source.
    pub connections_refused: AtomicU64,
    /// Idle connections that were closed in favour of new ones.
    pub connections_displaced: AtomicU64,
    /// Connections that were closed because they were idle, or too slow to ask or to take responses.
    pub connections_timed_out: AtomicU64,
}

impl DnsStats {
    fn count(&self, code: ResponseCode, is_truncated: bool) {
        let counters = [
            (code == ResponseCode::NXDomain, &self.nxdomain),
            (code == ResponseCode::Refused, &self.refused),
            (code == ResponseCode::FormErr, &self.formerr),
            (is_truncated, &self.truncated),
        ];
        for (_, counter) in counters.into_iter().filter(|(applies, _)| *applies) {
            increment(counter);
        }
    }
}

/// Counts one more.
pub(crate) fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Answers requests; cheap to clone, all clones count together.
#[derive(Clone)]
pub struct DnsHandler {
    shared: Arc<Shared>,
    profiles: Arc<Profiles>,
}

struct Shared {
    snapshot: Arc<ArcSwap<Snapshot>>,
    zone: Arc<ArcSwap<hot::Zone>>,
    config: Arc<ZoneConfig>,
    is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    guard: Guard,
    draws: AtomicU64,
    stats: DnsStats,
}

impl DnsHandler {
    /// A handler that answers from whatever snapshot is current, and from the `zone` that is encoded of it, to whom
    /// `is_allowed` allows; others are refused. Over UDP, `guard` says who is trusted; `profiles` says who is which stack.
    /// Agents with different `seed` draw targets in different orders.
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        zone: Arc<ArcSwap<hot::Zone>>,
        config: Arc<ZoneConfig>,
        is_allowed: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
        guard: Guard,
        profiles: Profiles,
        seed: u64,
    ) -> Self {
        let (draws, stats) = (AtomicU64::new(seed), DnsStats::default());
        let shared = Shared { snapshot, zone, config, is_allowed, guard, draws, stats };
        Self { shared: Arc::new(shared), profiles: Arc::new(profiles) }
    }

    /// The same for those who ask `listener`.
    fn on(&self, listener: SocketAddr) -> Self {
        Self { shared: Arc::clone(&self.shared), profiles: Arc::new(self.profiles.on(listener)) }
    }

    /// How somebody is answered about whom nothing else is known.
    pub fn default_profile(&self) -> Profile {
        self.profiles.default
    }

    /// Somebody who asks at `now`.
    pub(crate) fn client<'a>(&self, from: IpAddr, now: WallTime, secrets: &'a Secrets) -> Client<'a> {
        self.shared.guard.client(from, self.profiles.of(from), now, secrets)
    }

    /// What was asked and answered so far.
    pub fn stats(&self) -> &DnsStats {
        &self.shared.stats
    }

    /// What usual questions are answered from.
    pub(crate) fn zone(&self) -> arc_swap::Guard<Arc<hot::Zone>> {
        self.shared.zone.load()
    }

    /// Whether anybody at this address may ask.
    pub(crate) fn is_allowed(&self, from: IpAddr) -> bool {
        (self.shared.is_allowed)(from)
    }

    /// Whom UDP trusts, and what it does about others.
    pub(crate) fn guard(&self) -> &Guard {
        &self.shared.guard
    }

    /// A response could not be sent.
    pub(crate) fn on_unsent(&self, error: &dyn core::fmt::Display) {
        increment(&self.stats().unsent);
        debug!(%error, "dns response not sent");
    }

    fn draw(&self) -> u64 {
        mix(self.shared.draws.fetch_add(1, Ordering::Relaxed))
    }

    /// The response to a message, if it gets one.
    pub(crate) fn answer_message(&self, bytes: &[u8], from: IpAddr, via: Via) -> Option<Vec<u8>> {
        let Shared { snapshot, config, is_allowed, guard, stats, .. } = &*self.shared;
        increment(&stats.queries);
        if via == Via::Tcp {
            increment(&stats.over_tcp);
        }
        let secrets = guard.secrets();
        let client = self.client(from, guard.now().1, &secrets);
        let response = if is_allowed(from) {
            answer::respond(config, &snapshot.load(), &client, bytes, via, self.draw())
        } else {
            answer::refuse(&client, bytes)
        };
        match response.as_deref() {
            // RFC 1035, 4.1.1: TC and the response code are in the third and fourth byte.
            Some([_, _, flags, code, ..]) => {
                stats.count(ResponseCode::from_low(*code), flags & 0b10 != 0);
            }
            Some(_) | None => increment(&stats.unanswered),
        }
        response
    }
}

/// Why DNS cannot be served on an address.
#[derive(Debug, thiserror::Error)]
#[error("dns.listen: {addr} cannot be bound over {transport}: {source}. {}", cure(.in_the_way.as_ref()))]
pub struct ConfigBindError {
    /// The address.
    pub addr: SocketAddr,
    /// What does not work there.
    pub transport: &'static str,
    /// What the system says.
    pub source: io::Error,
    /// The socket of the service manager that has the address, if one has.
    pub in_the_way: Option<Given>,
}

fn cure(in_the_way: Option<&Given>) -> String {
    match in_the_way {
        Some(given) => format!(
            "The service manager gave a socket that takes it, {given}: name that address in dns.listen instead, or change the socket unit"
        ),
        None => "Is another program listening there? Change dns.listen".to_owned(),
    }
}

/// Where requests arrive: one address, both transports (RFC 7766, 5: TCP is not optional).
#[derive(Debug)]
pub struct DnsSockets {
    /// The address, with the port that the system chose if it was asked to.
    pub addr: SocketAddr,
    udp: dns_udp::Sockets,
    tcp: TcpListener,
}

/// Listens at `listen` by UDP, with so many threads, and by TCP, but for what is inherited.
///
/// # Errors
/// If either is taken or not allowed; nothing stays open then.
pub fn bind(
    listen: Listen,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<DnsSockets, ConfigBindError> {
    let addr = listen.addr;
    let (udp, tcp) = (inherited.udp(addr), inherited.tcp(addr));
    let failed = |transport| {
        let in_the_way = inherited.in_the_way(listen, transport);
        move |source| ConfigBindError { addr, transport, source, in_the_way }
    };
    let udp = dns_udp::bind(listen, workers, udp).map_err(failed("udp"))?;
    let addr = udp.addr;
    let tcp = dns_tcp::bind(Listen { addr, ..listen }, tcp).map_err(failed("tcp"))?;
    Ok(DnsSockets { addr, udp, tcp })
}

/// How often it is said that askers were held to the rate limit.
const LIMITS_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Says once a minute how many requests the rate limit kept back, if it did, until `shutdown`.
pub(crate) async fn tell_of_limits(handler: DnsHandler, shutdown: CancellationToken) {
    let mut before = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LIMITS_TOLD_EVERY) => {}
        }
        let stats = handler.stats();
        let now = stats.rate_limited.load(Ordering::Relaxed) + stats.slipped.load(Ordering::Relaxed);
        if now > before {
            warn!(requests = now - before, "dns: networks asked faster than dns.rate_limit allows");
        }
        before = now;
    }
}

/// Answers on `sockets` until `shutdown`, over TCP to so many connections at once.
///
/// # Errors
/// If the system gives no threads; nothing is answered then.
pub fn serve(
    sockets: DnsSockets,
    handler: &DnsHandler,
    connections: usize,
    shutdown: CancellationToken,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let DnsSockets { addr, udp, tcp } = sockets;
    let handler = handler.on(addr);
    let workers = Workers::start(udp, &handler)?;
    Ok(async move {
        dns_tcp::serve(async move || tcp.accept().await, &handler, Limits::of(connections), &shutdown).await;
        if let Err(error) = tokio::task::spawn_blocking(move || workers.stop()).await {
            debug!(%error, "dns over udp did not stop cleanly");
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    use ringmesh_types::ids::{Epoch, Identity, MeshAddr, NodeId};
    use ringmesh_types::snapshot::{MemberState, MemberView};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UdpSocket};

    #[tokio::test]
    async fn rfc_7766_udp_and_tcp_give_the_same_answer() {
        let (addr, handler, shutdown) = start(true);
        let (udp, tcp) = (ask_udp(addr).await, ask_tcp(addr).await);
        assert_eq!(udp, tcp);
        assert_eq!((udp.answers.len(), udp.additionals.len()), (1, 1));
        assert!(udp.metadata.authoritative && !udp.metadata.truncation);
        assert_eq!(udp.queries[0].name.to_ascii(), "M.tEsT.", "0x20");
        assert_eq!(handler.stats().queries.load(Ordering::Relaxed), 2);
        assert_eq!(handler.stats().over_tcp.load(Ordering::Relaxed), 1);
        shutdown.cancel();
    }

    #[tokio::test]
    async fn strangers_are_refused() {
        let (addr, handler, shutdown) = start(false);
        for response in [ask_udp(addr).await, ask_tcp(addr).await] {
            assert_eq!(response.metadata.response_code, ResponseCode::Refused);
            assert!(response.answers.is_empty());
        }
        assert_eq!(handler.stats().refused.load(Ordering::Relaxed), 2);
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_response_leaves_from_the_address_that_was_asked() {
        for (listen, asked) in [("0.0.0.0:0", "127.0.0.5"), ("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
            let (addr, handler, shutdown) = start_on(listen.parse().expect("an address"), true);
            // The socket is connected: it takes nothing that comes from elsewhere.
            let asked = SocketAddr::new(asked.parse().expect("an address"), addr.port());
            let usual = ask_udp_about(asked, &question("nosuch.m.test.", RecordType::A)).await;
            assert_eq!(usual.metadata.response_code, ResponseCode::NXDomain, "{asked}");
            assert_eq!(handler.stats().hot.load(Ordering::Relaxed), 1, "{asked}");
            let unusual = ask_udp_about(asked, &question("m.test.", RecordType::NS)).await;
            assert_eq!(unusual.answers.len(), 1, "{asked}");
            shutdown.cancel();
        }
    }

    #[tokio::test]
    async fn many_at_once_are_all_answered_and_the_threads_end() {
        let (handler, shutdown) = (handler(|_| true), CancellationToken::new());
        let sockets = bind(ANY.into(), 3, &mut Inherited::default()).expect("loopback has a free port");
        let addr = sockets.addr;
        let serving = tokio::spawn(
            serve(sockets, &handler, dns_tcp::CONNECTIONS_MAX, shutdown.clone())
                .expect("threads can be started"),
        );
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback has a free port");
        socket.connect(addr).await.expect("loopback is there");
        let usual = question("nosuch.m.test.", RecordType::SRV);
        for round in 0..20_u8 {
            for id in 0..100 {
                let mut request = usual.clone();
                request[..2].copy_from_slice(&[round, id]);
                socket.send(&request).await.expect("loopback sends");
            }
            let mut missing: std::collections::BTreeSet<u8> = (0..100).collect();
            let mut buffer = [0; 512];
            while !missing.is_empty() {
                let length = socket.recv(&mut buffer).await.expect("a response arrives");
                assert!(length > usual.len() && buffer[0] == round && missing.remove(&buffer[1]));
            }
        }
        assert_eq!(handler.stats().hot.load(Ordering::Relaxed), 2_000);
        assert_eq!(handler.stats().nxdomain.load(Ordering::Relaxed), 2_000);
        shutdown.cancel();
        serving.await.expect("it ends");
    }

    #[tokio::test]
    async fn an_address_that_somebody_listens_on_is_taken() {
        let (addr, _, shutdown) = start(true);
        let error = bind(addr.into(), 2, &mut Inherited::default()).expect_err("it is taken").to_string();
        assert!(error.contains("over udp") && error.contains("Is another program listening"), "{error}");
        shutdown.cancel();
    }

    #[tokio::test]
    async fn the_wildcard_addresses_of_both_families_share_a_port() {
        let free = std::net::TcpListener::bind("[::]:0").expect("there is a free port");
        let port = free.local_addr().expect("is bound").port();
        drop(free);
        let addrs = ["0.0.0.0", "::"].map(|ip| SocketAddr::new(ip.parse().expect("an address"), port));
        let mut bound = Vec::new();
        for listen in Listen::all(&addrs) {
            bound.push(bind(listen, 2, &mut Inherited::default()).expect("neither is in the other's way"));
        }
        assert_eq!(bound.iter().map(|sockets| sockets.addr).collect::<Vec<_>>(), addrs);
    }

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 0);

    fn start(is_allowed: bool) -> (SocketAddr, DnsHandler, CancellationToken) {
        start_on(ANY, is_allowed)
    }

    fn start_on(listen: SocketAddr, is_allowed: bool) -> (SocketAddr, DnsHandler, CancellationToken) {
        let (handler, shutdown) = (handler(move |_| is_allowed), CancellationToken::new());
        let sockets = bind(listen.into(), 2, &mut Inherited::default()).expect("there is a free port");
        let addr = sockets.addr;
        tokio::spawn(
            serve(sockets, &handler, dns_tcp::CONNECTIONS_MAX, shutdown.clone())
                .expect("threads can be started"),
        );
        (addr, handler, shutdown)
    }

    /// A handler of `m.test`, which has one node and no services.
    pub(crate) fn handler(is_allowed: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> DnsHandler {
        let config = ZoneConfig::new("m.test", 5, 15, "sip".parse().expect("a name")).expect("a valid zone");
        let (config, snapshot) = (Arc::new(config), snapshot());
        let zone = Arc::new(ArcSwap::from_pointee(hot::Zone::new(config.clone(), &snapshot)));
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let guard = Guard::new(Arc::new(|_| true), None);
        DnsHandler::new(snapshot, zone, config, Arc::new(is_allowed), guard, Profiles::default(), 1)
    }

    pub(crate) fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let name = Name::from_ascii(name).expect("a domain name");
        let mut request = Message::new(7, MessageType::Query, OpCode::Query);
        request.queries = vec![Query::query(name, kind)];
        request.to_vec().expect("a request can be written")
    }

    async fn ask_udp(addr: SocketAddr) -> Message {
        ask_udp_about(addr, &question("M.tEsT.", RecordType::NS)).await
    }

    async fn ask_udp_about(addr: SocketAddr, question: &[u8]) -> Message {
        let local = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).await.expect("there is a free port");
        socket.connect(addr).await.expect("loopback is there");
        socket.send(question).await.expect("loopback sends");
        let mut buffer = vec![0; 1_500];
        let length = socket.recv(&mut buffer).await.expect("a response arrives");
        Message::from_vec(&buffer[..length]).expect("a response can be read")
    }

    async fn ask_tcp(addr: SocketAddr) -> Message {
        let mut stream = TcpStream::connect(addr).await.expect("the agent listens");
        let question = question("M.tEsT.", RecordType::NS);
        let length = u16::try_from(question.len()).expect("a question is short");
        let framed = [length.to_be_bytes().as_slice(), question.as_slice()].concat();
        stream.write_all(&framed).await.expect("loopback sends");
        let length = stream.read_u16().await.expect("a response arrives");
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await.expect("a response arrives");
        Message::from_vec(&buffer).expect("a response can be read")
    }

    fn snapshot() -> Snapshot {
        let address = IpAddr::from([10, 0, 0, 1]);
        let local = Arc::new(MemberView {
            demoted: None,
            name: "a".parse().expect("a name"),
            identity: Identity {
                id: NodeId::from_bytes([0; 8]),
                epoch: Epoch(1),
                revival: 0,
                addr: MeshAddr::from(SocketAddr::new(address, 7300)),
            },
            zone: "z".parse().expect("a name"),
            region: "r".parse().expect("a name"),
            addresses: vec![address],
            agent_version: "0.1.0".to_owned(),
            state: MemberState::Alive,
            since: WallTime::from_unix_millis(1),
            cause: "test".into(),
            incarnation: 0,
            clash: None,
            is_self: true,
        });
        Snapshot {
            serial: 1,
            cluster: "test".parse().expect("a name"),
            members: BTreeMap::from([(local.name.clone(), Arc::clone(&local))]),
            services: BTreeMap::new(),
            hosts: Arc::new(BTreeMap::from([(address, vec![local.name.clone()])])),
            maps: Arc::default(),
            local,
            isolated_since: None,
            made: WallTime::from_unix_millis(1),
        }
    }
}
