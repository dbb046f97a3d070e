use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::sync::mpsc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::*;
use crate::dns_server::DnsStats;
use crate::dns_server::tests::{handler, question};

/// What never takes that long.
const PATIENCE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3_600);
/// Time-outs that do not come during a test.
const PATIENT: Limits = Limits {
    connections: 256,
    connections_per_source: 16,
    is_exempt: IpAddr::is_loopback,
    idle: NEVER,
    message_within: NEVER,
    write_within: NEVER,
};
const A: [u8; 4] = [127, 0, 0, 1];
const B: [u8; 4] = [127, 0, 0, 2];

#[tokio::test]
async fn rfc_7766_6_2_1_1_pipelined_requests_are_all_answered_in_order() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    client.send(&requests(0..100)).await;
    client.takes(0..100).await;
    assert_eq!(server.count(|stats| &stats.over_tcp), 100);
    assert_eq!(server.count(|stats| &stats.nxdomain), 100);
}

#[tokio::test]
async fn rfc_7766_6_2_1_1_more_requests_than_fit_one_write_are_all_answered() {
    let server = Server::start(PATIENT);
    let (mut reader, mut writer) = server.connect(A).await.0.into_split();
    let sending = tokio::spawn(async move {
        writer.write_all(&requests(0..20_000)).await.expect("it is taken");
        writer
    });
    for id in 0..20_000 {
        assert_eq!(response(&mut reader).await.metadata.id, id);
    }
    soon(sending).await.expect("it ends");
}

#[tokio::test]
async fn rfc_7766_8_messages_may_be_cut_anywhere() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    client.0.set_nodelay(true).expect("it is a connection");
    for length in [1, 2, 3, 17] {
        for part in requests(0..5).chunks(length) {
            client.send(part).await;
            tokio::task::yield_now().await;
        }
        client.takes(0..5).await;
    }
}

#[tokio::test]
async fn rfc_7766_8_length_and_message_leave_together() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    client.send(&requests(0..3)).await;
    let mut buffer = [0; 2_048];
    let read = soon(client.0.read(&mut buffer)).await.expect("it is open");
    let length = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
    assert_eq!(read, 3 * (2 + length), "three responses in one write");
}

#[tokio::test]
async fn rfc_7766_6_2_1_a_connection_is_not_closed_after_an_answer() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    for _ in 0..3 {
        client.asks().await;
    }
    assert_eq!(server.count(|stats| &stats.connections), 1);
    client.0.shutdown().await.expect("it is open");
    assert!(client.is_closed().await);
    assert_eq!(server.count(|stats| &stats.connections), 0);
}

#[tokio::test]
async fn rfc_7766_8_a_message_may_have_65535_bytes() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    let mut longest = request(7);
    longest.resize(2 + usize::from(u16::MAX), 0);
    longest[..2].copy_from_slice(&u16::MAX.to_be_bytes());
    client.send(&[longest, request(8)].concat()).await;
    client.takes(7..9).await;
}

#[tokio::test]
async fn rfc_7766_6_2_4_what_was_asked_before_a_half_close_is_answered() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    client.send(&requests(0..500)).await;
    client.send(&request(500)[..5]).await;
    client.0.shutdown().await.expect("it is open");
    client.takes(0..500).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn rfc_7766_6_2_3_a_connection_that_asks_nothing_is_closed() {
    let server = Server::start(Limits { idle: Duration::from_millis(50), ..PATIENT });
    let mut silent = server.connect(A).await;
    assert!(silent.is_closed().await);
    let mut done = server.connect(A).await;
    done.asks().await;
    assert!(done.is_closed().await);
    assert_eq!(server.count(|stats| &stats.connections_timed_out), 2);
}

#[tokio::test]
async fn rfc_7766_10_a_message_that_comes_too_slowly_ends_its_connection() {
    let server = Server::start(Limits { message_within: Duration::from_secs(1), ..PATIENT });
    let mut client = server.connect(A).await;
    // What comes together with the last whole message is begun as well.
    client.send(&[request(1), vec![0xff]].concat()).await;
    client.takes(1..2).await;
    let (mut reader, mut writer) = client.0.into_split();
    let trickle = async {
        let mut ticks = interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            if writer.write_all(&[0xff]).await.is_err() {
                break;
            }
        }
        // Ends with the reader.
        core::future::pending::<()>().await;
    };
    tokio::select! {
        () = trickle => {}
        ended = soon(reader.read_u8()) => assert!(ended.is_err(), "nothing is answered"),
    }
    assert_eq!(server.count(|stats| &stats.connections_timed_out), 1);
    assert_eq!(server.count(|stats| &stats.over_tcp), 1);
}

#[tokio::test]
async fn rfc_7766_10_a_reader_that_takes_nothing_is_cut_off_and_not_read_from() {
    let server = Server::start(Limits { write_within: Duration::from_millis(200), ..PATIENT });
    let mut client = server.connect(A).await;
    let many = requests(0..1_000);
    let mut sent = 0;
    while let Ok(()) = soon(client.0.write_all(&many)).await {
        sent += many.len();
        assert!(sent < 64 << 20, "it goes on reading");
    }
    assert_eq!(server.count(|stats| &stats.unsent), 1);
    assert_eq!(server.count(|stats| &stats.connections_timed_out), 1);
    assert_eq!(server.count(|stats| &stats.connections), 0);
    // Whoever else asks is answered.
    server.connect(A).await.asks().await;
}

#[tokio::test]
async fn rfc_9210_4_2_a_source_has_so_many_connections_and_no_more() {
    let server = Server::start(Limits { connections_per_source: 2, is_exempt: |_| false, ..PATIENT });
    let (mut first, mut second) = (server.connect(A).await, server.connect(A).await);
    second.asks().await;
    first.asks().await;
    let mut other = server.connect(B).await;
    other.asks().await;
    let mut third = server.connect(A).await;
    third.asks().await;
    assert!(second.is_closed().await, "its own that was idle longest makes room");
    assert_eq!(server.count(|stats| &stats.connections_displaced), 1);
    first.asks().await;
    third.asks().await;
    other.asks().await;
    assert_eq!(server.count(|stats| &stats.connections), 3);
}

#[tokio::test]
async fn loopback_has_as_many_connections_as_there_are() {
    let server = Server::start(Limits::of(CONNECTIONS_MAX));
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = server.connect(A).await;
        client.asks().await;
        clients.push(client);
    }
    assert_eq!(server.count(|stats| &stats.connections), 40);
}

#[tokio::test]
async fn rfc_7766_6_2_3_the_connection_that_was_idle_longest_makes_room() {
    let server = Server::start(Limits { connections: 2, ..PATIENT });
    let (mut first, mut second) = (server.connect(A).await, server.connect(A).await);
    first.asks().await;
    second.asks().await;
    first.asks().await;
    let mut third = server.connect(A).await;
    third.asks().await;
    assert!(second.is_closed().await);
    first.asks().await;
    third.asks().await;
    assert_eq!(server.count(|stats| &stats.connections_displaced), 1);
    assert_eq!(server.count(|stats| &stats.connections_refused), 0);
    assert_eq!(server.count(|stats| &stats.connections), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc_9210_4_2_a_connection_that_is_owed_a_response_is_not_closed_for_another() {
    let (calls, asked, (go, gone)) = (AtomicUsize::new(0), Arc::new(Notify::new()), mpsc::channel());
    let (notify, gone) = (asked.clone(), Mutex::new(gone));
    let is_allowed = move |_| {
        // The first call is about the connection, the second about its request.
        if calls.fetch_add(1, Ordering::Relaxed) == 1 {
            notify.notify_one();
            let gone = gone.lock().expect("nobody fails");
            tokio::task::block_in_place(|| gone.recv()).expect("it is told");
        }
        true
    };
    let server = Server::start_for(is_allowed, Limits { connections: 1, ..PATIENT });
    let mut first = server.connect(A).await;
    first.send(&request(1)).await;
    soon(asked.notified()).await;
    assert!(server.connect(A).await.is_closed().await);
    assert_eq!(server.count(|stats| &stats.connections_refused), 1);
    go.send(()).expect("somebody waits");
    first.takes(1..2).await;
}

#[tokio::test]
async fn who_does_not_take_its_responses_makes_room_for_another() {
    let server = Server::start_for(|_| true, Limits { connections: 1, ..PATIENT });
    let mut silent = server.connect(A).await;
    let socket = SockRef::from(&silent.0);
    socket.set_recv_buffer_size(4 << 10).expect("can be made small");
    socket.set_send_buffer_size(4 << 10).expect("can be made small");
    let mut is_stalled = false;
    // More than the buffers of both sides hold; then its requests are not read any more either.
    for round in 0..60 {
        let bytes = requests(round * 1_000..(round + 1) * 1_000);
        is_stalled = timeout(STALLS_WITHIN, silent.0.write_all(&bytes)).await.is_err();
        if is_stalled {
            break;
        }
    }
    assert!(is_stalled, "it is owed more than it takes");
    let displaced = async {
        loop {
            let mut client = server.connect(A).await;
            let is_asked = client.0.write_all(&request(1)).await.is_ok();
            if is_asked && client.0.read_u16().await.is_ok() {
                break;
            }
        }
    };
    soon(displaced).await;
    assert_eq!(server.count(|stats| &stats.connections_displaced), 1);
}

#[tokio::test]
async fn who_may_not_ask_takes_no_place_of_who_may() {
    let limits = Limits { connections: 1, is_exempt: |_| false, ..PATIENT };
    let server = Server::start_for(|ip| ip == IpAddr::from(A), limits);
    let mut stranger = server.connect(B).await;
    let mut client = server.connect(A).await;
    client.asks().await;
    assert!(stranger.is_closed().await);
    assert!(server.connect(B).await.is_closed().await);
    client.asks().await;
    assert_eq!(server.count(|stats| &stats.connections_displaced), 1);
    assert_eq!(server.count(|stats| &stats.connections_refused), 1);
}

#[tokio::test]
async fn who_may_not_ask_is_refused_all_it_asked_and_then_closed() {
    let server = Server::start_for(|_| false, PATIENT);
    let mut client = server.connect(A).await;
    client.send(&requests(0..50)).await;
    for id in 0..50 {
        let response = response(&mut client.0).await;
        assert_eq!((response.metadata.id, response.metadata.response_code), (id, ResponseCode::Refused));
    }
    assert!(client.is_closed_in_order().await);
    assert_eq!(server.count(|stats| &stats.refused), 50);
}

#[tokio::test]
async fn messages_without_a_header_end_their_connection_behind_what_was_asked() {
    let server = Server::start(PATIENT);
    for (count, garbage) in
        [&[0_u8, 0][..], &[0, 1, 9], &[0, 11, 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0]].into_iter().enumerate()
    {
        let mut client = server.connect(A).await;
        // More than is read at once is left unread.
        client.send(&[&request(1), garbage, &requests(2..1_000)].concat()).await;
        client.takes(1..2).await;
        assert!(client.is_closed_in_order().await);
        assert_eq!(server.count(|stats| &stats.unanswered), count as u64 + 1);
    }
}

#[tokio::test]
async fn responses_are_not_answered_and_many_end_their_connection() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    let mut response = request(1);
    response[4] |= 0x80;
    client.send(&[response.repeat(7), request(2)].concat()).await;
    client.takes(2..3).await;
    client.send(&[response, request(3)].concat()).await;
    assert!(client.is_closed().await);
    assert_eq!(server.count(|stats| &stats.unanswered), 8);
}

#[tokio::test]
async fn whatever_is_sent_the_next_one_is_answered() {
    let server = Server::start(Limits { message_within: Duration::from_millis(50), ..PATIENT });
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0xff; 9_000], &[0, 12, 0, 7, 1, 0, 0xff, 0xff]]
    {
        let mut client = server.connect(A).await;
        client.send(garbage).await;
        assert!(client.is_closed().await);
        server.connect(A).await.asks().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_aborted_leaves_no_trace() {
    let server = Server::start(Limits { connections: 1, ..PATIENT });
    for _ in 0..20 {
        let mut client = server.connect(A).await;
        client.send(&requests(0..50)).await;
        client.0.set_zero_linger().expect("it is a connection");
    }
    server.connect(A).await.asks().await;
    assert_eq!(server.count(|stats| &stats.connections), 1);
}

#[tokio::test]
async fn no_failed_accept_ends_the_loop() {
    let listener = bind(SocketAddr::from((A, 0)).into(), None).expect("loopback has a free port");
    let addr = listener.local_addr().expect("it is bound");
    let failures = Mutex::new(vec![Errno::MFILE, Errno::CONNABORTED, Errno::NOMEM]);
    let accept = async move || {
        let failure = failures.lock().expect("nobody fails").pop();
        match failure {
            Some(failure) => Err(failure.into()),
            None => listener.accept().await,
        }
    };
    let (handler, shutdown) = (handler(|_| true), CancellationToken::new());
    let serving = {
        let (handler, shutdown) = (handler.clone(), shutdown.clone());
        tokio::spawn(async move { serve(accept, &handler, PATIENT, &shutdown).await })
    };
    let server = Server { addr, handler, shutdown, serving };
    server.connect(A).await.asks().await;
}

#[tokio::test]
async fn an_idle_connection_gives_its_descriptor_up_when_there_is_none_left() {
    let listener = bind(SocketAddr::from((A, 0)).into(), None).expect("loopback has a free port");
    let addr = listener.local_addr().expect("it is bound");
    let calls = AtomicUsize::new(0);
    let accept = async move || {
        if calls.fetch_add(1, Ordering::Relaxed) == 1 {
            Err(Errno::MFILE.into())
        } else {
            listener.accept().await
        }
    };
    let (handler, shutdown) = (handler(|_| true), CancellationToken::new());
    let serving = {
        let (handler, shutdown) = (handler.clone(), shutdown.clone());
        tokio::spawn(async move { serve(accept, &handler, PATIENT, &shutdown).await })
    };
    let server = Server { addr, handler, shutdown, serving };
    let mut idle = server.connect(A).await;
    assert!(idle.is_closed().await);
    server.connect(A).await.asks().await;
    assert_eq!(server.count(|stats| &stats.connections_displaced), 1);
}

#[tokio::test]
async fn what_has_been_received_when_the_agent_stops_is_answered() {
    let (calls, shutdown) = (AtomicUsize::new(0), CancellationToken::new());
    let stop = shutdown.clone();
    let is_allowed = move |_| {
        // The first two calls are about the connections, the third is about the first request. Behind it are more than
        // are read at once.
        if calls.fetch_add(1, Ordering::Relaxed) == 2 {
            stop.cancel();
        }
        true
    };
    let server = Server::start_with(handler(is_allowed), PATIENT, shutdown);
    let (mut silent, mut client) = (server.connect(A).await, server.connect(A).await);
    client.send(&requests(0..1_000)).await;
    client.takes(0..1_000).await;
    assert!(client.is_closed().await && silent.is_closed().await);
    soon(server.serving).await.expect("it ends");
}

#[tokio::test]
async fn an_agent_that_stops_waits_a_second_for_slow_readers() {
    let server = Server::start(PATIENT);
    let mut client = server.connect(A).await;
    let many = requests(0..20_000).repeat(20);
    let sending = async { soon(client.0.write_all(&many)).await };
    let stopping = async {
        while server.count(|stats| &stats.over_tcp) < 1_000 {
            tokio::task::yield_now().await;
        }
        server.shutdown.cancel();
    };
    let (sent, ()) = tokio::join!(sending, soon(stopping));
    assert!(sent.is_err(), "it is cut off");
    assert_eq!(server.count(|stats| &stats.connections), 0);
    soon(server.serving).await.expect("it ends");
}

#[test]
fn a_source_is_an_ipv4_address_or_a_64_of_ipv6() {
    let source = |ip: &str| Source::of(ip.parse().expect("an address"));
    assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:ffff:ffff:ffff"));
    assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
}

/// The server of one test.
struct Server {
    addr: SocketAddr,
    handler: DnsHandler,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        Self::start_for(|_| true, limits)
    }

    fn start_for(is_allowed: impl Fn(IpAddr) -> bool + Send + Sync + 'static, limits: Limits) -> Self {
        Self::start_with(handler(is_allowed), limits, CancellationToken::new())
    }

    fn start_with(handler: DnsHandler, limits: Limits, shutdown: CancellationToken) -> Self {
        let listener = bind(SocketAddr::from((A, 0)).into(), None).expect("loopback has a free port");
        let addr = listener.local_addr().expect("it is bound");
        let serving = {
            let (handler, shutdown) = (handler.clone(), shutdown.clone());
            let accept = async move || listener.accept().await;
            tokio::spawn(async move { serve(accept, &handler, limits, &shutdown).await })
        };
        Self { addr, handler, shutdown, serving }
    }

    /// A connection from `ip`.
    async fn connect(&self, ip: [u8; 4]) -> Client {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.bind(SocketAddr::from((ip, 0))).expect("loopback has a free port");
        Client(soon(socket.connect(self.addr)).await.expect("the server listens"))
    }

    fn count(&self, counter: impl Fn(&DnsStats) -> &AtomicU64) -> u64 {
        counter(self.handler.stats()).load(Ordering::Relaxed)
    }
}

/// A connection of a test.
struct Client(TcpStream);

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.expect("it is open");
    }

    /// Takes the responses to what has these ids.
    async fn takes(&mut self, ids: core::ops::Range<u16>) {
        for id in ids {
            let response = response(&mut self.0).await;
            assert_eq!(response.metadata.id, id);
        }
    }

    async fn asks(&mut self) {
        self.send(&request(42)).await;
        self.takes(42..43).await;
    }

    /// Whether the connection is closed with nothing more to read, and not reset.
    async fn is_closed_in_order(&mut self) -> bool {
        matches!(soon(self.0.read(&mut [0; 1])).await, Ok(0))
    }

    /// Whether the connection is closed with nothing more to read.
    async fn is_closed(&mut self) -> bool {
        !matches!(soon(self.0.read(&mut [0; 1])).await, Ok(1))
    }
}

/// A write that takes longer than this is not taken.
const STALLS_WITHIN: Duration = Duration::from_millis(200);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes in time")
}

async fn response(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Message {
    let length = soon(stream.read_u16()).await.expect("a response comes");
    let mut message = vec![0; usize::from(length)];
    soon(stream.read_exact(&mut message)).await.expect("it is complete");
    Message::from_vec(&message).expect("a response can be read")
}

/// A request as it is sent on a stream.
fn request(id: u16) -> Vec<u8> {
    let mut message = question("nosuch.m.test.", RecordType::A);
    message[..2].copy_from_slice(&id.to_be_bytes());
    let length = u16::try_from(message.len()).expect("a question is short");
    [length.to_be_bytes().as_slice(), message.as_slice()].concat()
}

fn requests(ids: core::ops::Range<u16>) -> Vec<u8> {
    ids.flat_map(request).collect()
}
