//! What keeps DNS over UDP from being turned against others: which networks are trusted, how often the others are
//! answered, and the secret that cookies are made with. What follows from it is decided by `ringmesh_dns`.
//!
//! Only the agent that made a cookie reads it, so the time in it need not be the world's: it is that of the start, carried on
//! by the monotonic clock, and a step of the wall clock spoils no cookie.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ringmesh_dns::client::Client;
use ringmesh_dns::cookie::Secrets;
use ringmesh_dns::profile::Profile;
use ringmesh_dns::rate::{Limiter, Limits};
use ringmesh_types::time::{Instant, WallTime};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};

/// How long a secret is used (RFC 7873, 7.1). As the one before is still believed, no cookie is lost within its hour.
const SECRET_RENEWED_EVERY: Duration = Duration::from_secs(12 * 3_600);

/// Whom DNS over UDP trusts, and what it does about all others.
pub struct Guard {
    is_trusted: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    limits: Option<Limits>,
    secrets: ArcSwap<Secrets>,
    clock: Clock,
    started: WallTime,
}

impl Guard {
    /// A guard with a secret of its own, which trusts whom `is_trusted` says, and answers networks of others within
    /// `limits`, if there are any.
    pub fn new(is_trusted: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>, limits: Option<Limits>) -> Self {
        Self {
            is_trusted,
            limits,
            secrets: ArcSwap::from_pointee(Secrets::new(rand::random())),
            clock: Clock::start(),
            started: clock::wall_now(),
        }
    }

    /// What cookies are made with now.
    pub(crate) fn secrets(&self) -> arc_swap::Guard<Arc<Secrets>> {
        self.secrets.load()
    }

    /// The time that limits go by, and the time that cookies go by.
    pub(crate) fn now(&self) -> (Instant, WallTime) {
        let now = self.clock.now();
        (now, self.started.after(now.since(Instant::START)))
    }

    /// Somebody who asks at `now`, with such a stack.
    pub(crate) fn client<'a>(
        &self,
        from: IpAddr,
        profile: Profile,
        now: WallTime,
        secrets: &'a Secrets,
    ) -> Client<'a> {
        Client { address: from, is_trusted: (self.is_trusted)(from), now, profile, secrets: Some(secrets) }
    }

    /// A thread's own count of who is answered how often; none if there are no limits.
    pub(crate) fn limiter(&self) -> Option<Limiter> {
        self.limits.map(|limits| Limiter::new(limits, rand::random()))
    }

    /// Makes a new secret; the one before is still believed.
    fn renew(&self) {
        self.secrets.store(Arc::new(self.secrets.load().renewed(rand::random())));
    }

    /// Renews the secret from time to time, until `shutdown`.
    pub(crate) async fn keep_renewing(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(SECRET_RENEWED_EVERY) => self.renew(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddr};
    use core::num::NonZeroU32;
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::bench_zone::{self, BenchZone, DOMAIN};
    use crate::config::Profiles;
    use crate::dns_server::{self, DnsHandler};
    use crate::inherited::Inherited;
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    use hickory_proto::rr::{Name, RecordType};
    use ringmesh_dns::hot;
    use ringmesh_dns::zone::ZoneConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UdpSocket};

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn a_flood_from_one_network_takes_no_answer_from_another() {
        let served = serve(nobody(), Some(limits(1, 20)));
        let (flood, modest) = (served.socket("127.0.1.1").await, served.socket("127.0.2.1").await);
        let request = request("nosuch", RecordType::A, None);
        let (mut answered, mut told, mut buffer) = (0, 0, [0; 1_500]);
        for round in 1..=20 {
            for _ in 0..100 {
                flood.send(&request).await.expect("loopback sends");
            }
            let response = exchange(&modest, &request).await;
            assert_eq!(response.metadata.response_code, ResponseCode::NXDomain);
            assert!(!response.metadata.truncation && response.authorities.len() == 1);
            while served.count(|stats| &stats.queries) < round * 101 {
                tokio::task::yield_now().await;
            }
            while let Ok(length) = flood.try_recv(&mut buffer) {
                let response = Message::from_vec(&buffer[..length]).expect("a response can be read");
                assert!(length <= request.len() || !response.metadata.truncation);
                let count = if response.metadata.truncation { &mut told } else { &mut answered };
                *count += 1;
            }
        }
        let slipped = served.count(|stats| &stats.slipped);
        let dropped = served.count(|stats| &stats.rate_limited);
        // A burst, and one for each second that it may have taken.
        assert!((1_940..=1_980).contains(&(slipped + dropped)), "{slipped} told, {dropped} dropped");
        assert!(slipped.abs_diff(dropped) <= 1, "{slipped} told, {dropped} dropped");
        assert!((1..=60).contains(&answered) && (1..=slipped).contains(&told), "{answered}, {told}");
        served.shutdown.cancel();
    }

    #[tokio::test]
    async fn who_is_trusted_is_never_limited() {
        let served = serve(everybody(), Some(limits(1, 1)));
        let socket = served.socket("127.0.1.1").await;
        for _ in 0..200 {
            let response = exchange(&socket, &request("_sip._udp.svc001", RecordType::SRV, None)).await;
            assert!(!response.metadata.truncation && response.answers.len() == 3);
        }
        assert_eq!(served.count(|stats| &stats.slipped) + served.count(|stats| &stats.rate_limited), 0);
        served.shutdown.cancel();
    }

    #[tokio::test]
    async fn who_is_told_to_come_by_tcp_is_answered_there() {
        let served = serve(nobody(), Some(limits(1, 1)));
        let socket = served.socket("127.0.1.1").await;
        let request = request("_sip._udp.svc001", RecordType::SRV, None);
        // The first is over three times its request, the second too much.
        for _ in 0..2 {
            let response = exchange(&socket, &request).await;
            assert!(response.metadata.truncation && response.answers.is_empty());
        }
        assert_eq!((served.count(|stats| &stats.truncated), served.count(|stats| &stats.slipped)), (1, 1));
        let response = exchange_over_tcp(served.addr, &request).await;
        assert_eq!((response.answers.len(), response.metadata.truncation), (3, false));
        served.shutdown.cancel();
    }

    #[tokio::test]
    async fn a_cookie_lifts_both_limits_until_its_secret_was_renewed_twice() {
        let served = serve(nobody(), Some(limits(1, 1)));
        let socket = served.socket("127.0.1.1").await;
        let srv = |cookie: &[u8]| request("_sip._udp.svc001", RecordType::SRV, Some(cookie));
        let first = exchange(&socket, &srv(&[7; 8])).await;
        assert!(first.metadata.truncation, "over three times its request");
        let told = exchange(&socket, &srv(&[7; 8])).await;
        assert_eq!(told.metadata.response_code, ResponseCode::BADCOOKIE);
        let cookie = cookie(&told);
        assert_eq!(cookie[..8], [7; 8]);
        for _ in 0..100 {
            let response = exchange(&socket, &srv(&cookie)).await;
            assert_eq!((response.answers.len(), response.metadata.truncation), (3, false));
        }
        // What is not usual goes another way, and is the same.
        let text = exchange(&socket, &request("all.svc001", RecordType::TXT, Some(&cookie))).await;
        assert_eq!(text.answers.len(), 1);
        served.handler.guard().renew();
        let renewed = exchange(&socket, &srv(&cookie)).await;
        assert_eq!(renewed.answers.len(), 3);
        assert_ne!(self::cookie(&renewed), cookie);
        assert_eq!(served.count(|stats| &stats.cookies_bad), 0);
        served.handler.guard().renew();
        // The bucket is empty, so the first of these is dropped and the second told.
        socket.send(&srv(&cookie)).await.expect("loopback sends");
        let bad = exchange(&socket, &srv(&cookie)).await;
        assert_eq!((bad.metadata.response_code, bad.answers.len()), (ResponseCode::BADCOOKIE, 0));
        assert_eq!(served.count(|stats| &stats.cookies_bad), 2);
        served.shutdown.cancel();
    }

    struct Served {
        addr: SocketAddr,
        handler: DnsHandler,
        shutdown: CancellationToken,
    }

    impl Served {
        /// A socket on this address that asks here.
        async fn socket(&self, from: &str) -> UdpSocket {
            let from: IpAddr = from.parse().expect("an address");
            let socket = UdpSocket::bind((from, 0)).await.expect("loopback has a free port");
            socket.connect(self.addr).await.expect("loopback is there");
            socket
        }

        fn count(&self, counter: impl Fn(&dns_server::DnsStats) -> &AtomicU64) -> u64 {
            counter(self.handler.stats()).load(Ordering::Relaxed)
        }
    }

    fn serve(is_trusted: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>, limits: Option<Limits>) -> Served {
        let config = ZoneConfig::new(DOMAIN, 60, 60, "svc001".parse().expect("a name")).expect("a zone");
        let config = Arc::new(config);
        let bench = BenchZone { services: 1, targets: 3, listen: ANY, threads: 2, changes: 0 };
        let snapshot = bench_zone::snapshot(&bench).expect("names are valid");
        let zone = Arc::new(ArcSwap::from_pointee(hot::Zone::new(config.clone(), &snapshot)));
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let guard = Guard::new(is_trusted, limits);
        let handler = DnsHandler::new(snapshot, zone, config, everybody(), guard, Profiles::default(), 1);
        let sockets = dns_server::bind(ANY.into(), bench.threads, &mut Inherited::default())
            .expect("loopback has a free port");
        let (addr, shutdown) = (sockets.addr, CancellationToken::new());
        tokio::spawn(
            dns_server::serve(sockets, &handler, crate::dns_tcp::CONNECTIONS_MAX, shutdown.clone())
                .expect("threads can be started"),
        );
        Served { addr, handler, shutdown }
    }

    fn nobody() -> Arc<dyn Fn(IpAddr) -> bool + Send + Sync> {
        Arc::new(|_| false)
    }

    fn everybody() -> Arc<dyn Fn(IpAddr) -> bool + Send + Sync> {
        Arc::new(|_| true)
    }

    fn limits(rate: u32, burst: u32) -> Limits {
        let some = |number| NonZeroU32::new(number).expect("not zero");
        Limits { rate: some(rate), burst: some(burst) }
    }

    fn request(name: &str, kind: RecordType, cookie: Option<&[u8]>) -> Vec<u8> {
        let mut request = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii(format!("{name}.{DOMAIN}.")).expect("a domain name");
        request.queries = vec![Query::query(name, kind)];
        request.edns = cookie.map(|cookie| {
            let mut edns = Edns::new();
            edns.set_max_payload(1_232);
            edns.options_mut().insert(EdnsOption::Unknown(10, cookie.to_vec()));
            edns
        });
        request.to_vec().expect("a request can be written")
    }

    fn cookie(response: &Message) -> Vec<u8> {
        let edns = response.edns.as_ref().expect("a request with OPT gets one");
        let Some(EdnsOption::Unknown(10, cookie)) = edns.option(EdnsCode::Cookie) else {
            panic!("no cookie in {edns:?}");
        };
        cookie.clone()
    }

    async fn exchange(socket: &UdpSocket, request: &[u8]) -> Message {
        socket.send(request).await.expect("loopback sends");
        let mut buffer = [0; 1_500];
        let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
        let length = received.expect("a response arrives in time").expect("a response arrives");
        Message::from_vec(&buffer[..length]).expect("a response can be read")
    }

    async fn exchange_over_tcp(addr: SocketAddr, request: &[u8]) -> Message {
        let mut stream = TcpStream::connect(addr).await.expect("the agent listens");
        let length = u16::try_from(request.len()).expect("a request is short");
        let framed = [length.to_be_bytes().as_slice(), request].concat();
        stream.write_all(&framed).await.expect("loopback sends");
        let length = stream.read_u16().await.expect("a response arrives");
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await.expect("a response arrives");
        Message::from_vec(&buffer).expect("a response can be read")
    }
}
