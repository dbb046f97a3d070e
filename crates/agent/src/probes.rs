//! Carries out health probes: what is sent and how replies are read is decided in `ringmesh_health`, here it crosses the
//! network. Every probe ends within its time-out.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::{Mutex, PoisonError};

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use ringmesh_health::monitor::Outcome;
use ringmesh_health::ng;
use ringmesh_health::sip::{self, OptionsRequest, ReplyClass, ReplyError, SipTransport};
use ringmesh_health::spec::{CheckKind, CheckSpec};
use ringmesh_types::service::{Endpoint, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::accepting::is_exhaustion;
use tokio::time::Instant;

/// Bytes of a reply at most.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// A request over UDP is sent again after this time, then twice as long, and so on (RFC 3261, 17.1.2.2: T1).
const T1: Duration = Duration::from_millis(250);

/// While checks cannot be made, that is said once in this time.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Probes `endpoint` as `spec` says. `token` must differ between probes.
pub async fn probe(endpoint: &Endpoint, spec: &CheckSpec, token: u64) -> Outcome {
    let begun = Instant::now();
    let probed = tokio::time::timeout(spec.timeout, run(endpoint, spec, token)).await;
    match probed {
        Ok(Ok(Answer::Good)) => Outcome::Good { latency: begun.elapsed() },
        Ok(Ok(Answer::Overloaded(detail))) => Outcome::Overloaded { detail },
        Ok(Ok(Answer::Bad(detail))) => Outcome::Bad { detail },
        Ok(Err(error)) if is_our_own(&error) => {
            say_untried(endpoint, &error);
            Outcome::Untried { detail: error.to_string() }
        }
        Ok(Err(error)) => Outcome::Bad { detail: format!("{endpoint}: {error}") },
        Err(_) => Outcome::Bad { detail: format!("no answer within {} ms", spec.timeout.as_millis()) },
    }
}

/// Says that a check could not be made, once a minute: when something is short, it is for all of them.
fn say_untried(endpoint: &Endpoint, error: &io::Error) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_none_or(|at| at.elapsed() >= SAID_EVERY) {
        *said = Some(Instant::now());
        tracing::warn!(%endpoint, %error, "checks cannot be made: the last state of what they check is kept");
    }
}

/// Whether this machine is short of something, which says nothing about the endpoint.
fn is_our_own(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    is_exhaustion(error) || matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::EAGAIN))
}

enum Answer {
    Good,
    Overloaded(String),
    Bad(String),
}

async fn run(endpoint: &Endpoint, spec: &CheckSpec, token: u64) -> io::Result<Answer> {
    let addr = endpoint.socket_addr();
    match &spec.kind {
        CheckKind::Sip { accept } if endpoint.transport == Transport::Udp => {
            sip_udp(addr, accept, token).await
        }
        CheckKind::Sip { accept } => sip_tcp(addr, accept, token).await,
        CheckKind::Rtpengine => rtpengine(addr, token).await,
        CheckKind::Http { path, expect } => http(addr, path, expect).await,
        CheckKind::Tcp => TcpStream::connect(addr).await.map(|_| Answer::Good),
        CheckKind::Exec { command } => exec(command).await,
        CheckKind::Ttl { .. } => Ok(Answer::Bad("a ttl check is not probed".to_owned())),
    }
}

async fn connected_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let local = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(addr).await?;
    Ok(socket)
}

/// Sends `request` and again while `read` finds no answer in what comes back.
async fn ask_udp<T>(
    socket: &UdpSocket,
    request: &[u8],
    mut read: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let mut buffer = vec![0; REPLY_BYTES_MAX];
    let mut wait = T1;
    loop {
        socket.send(request).await?;
        let again_at = Instant::now() + wait;
        wait *= 2;
        while let Ok(received) = tokio::time::timeout_at(again_at, socket.recv(&mut buffer)).await {
            if let Some(answer) = read(&buffer[..received?]) {
                return Ok(answer);
            }
        }
    }
}

async fn sip_udp(addr: SocketAddr, accept: &[u16], token: u64) -> io::Result<Answer> {
    let socket = connected_udp(addr).await?;
    let local = socket.local_addr()?;
    let request = OptionsRequest { target: addr, transport: SipTransport::Udp, local, token }.to_bytes();
    ask_udp(&socket, &request, |bytes| read_sip(bytes, accept, token)).await
}

/// What a SIP reply means; nothing if it is not the final reply to our request.
fn read_sip(bytes: &[u8], accept: &[u16], token: u64) -> Option<Answer> {
    match sip::parse_reply(bytes, token) {
        Ok(reply) => match sip::classify(&reply, accept) {
            ReplyClass::Healthy => Some(Answer::Good),
            ReplyClass::Overloaded { .. } => {
                Some(Answer::Overloaded(format!("SIP {} {} with Retry-After", reply.code, reply.reason)))
            }
            ReplyClass::Failure => Some(Answer::Bad(format!("SIP {} {}", reply.code, reply.reason))),
            ReplyClass::Provisional => None,
        },
        Err(ReplyError::NotOurs | ReplyError::NotAReply) => None,
        Err(error) => Some(Answer::Bad(format!("the reply is not SIP: {error}"))),
    }
}

async fn sip_tcp(addr: SocketAddr, accept: &[u16], token: u64) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(addr).await?;
    let local = stream.local_addr()?;
    let request = OptionsRequest { target: addr, transport: SipTransport::Tcp, local, token }.to_bytes();
    stream.write_all(&request).await?;
    let mut received = Vec::new();
    loop {
        let length = match sip::message_len(&received) {
            Ok(length) => length,
            Err(error) => return Ok(Answer::Bad(format!("the reply is not SIP: {error}"))),
        };
        if let Some(length) = length.filter(|length| *length <= received.len()) {
            let message: Vec<u8> = received.drain(..length).collect();
            if let Some(answer) = read_sip(&message, accept, token) {
                return Ok(answer);
            }
            continue;
        }
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await?;
        if count == 0 || received.len() + count > REPLY_BYTES_MAX {
            return Ok(Answer::Bad("the connection ended without a reply".to_owned()));
        }
        received.extend_from_slice(&buffer[..count]);
    }
}

async fn rtpengine(addr: SocketAddr, token: u64) -> io::Result<Answer> {
    let socket = connected_udp(addr).await?;
    let cookie = format!("ringmesh{token:016x}");
    ask_udp(&socket, &ng::ping(&cookie), |bytes| match ng::parse_pong(bytes, &cookie) {
        Ok(_) => Some(Answer::Good),
        Err(ng::NgError::NotOurs) => None,
        Err(error) => Some(Answer::Bad(format!("NG: {error}"))),
    })
    .await
}

async fn http(addr: SocketAddr, path: &str, expect: &[u16]) -> io::Result<Answer> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = hyper::Request::get(path)
        .header("host", addr.to_string())
        .header("user-agent", "ringmesh")
        .header("connection", "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let answered = sender.send_request(request).await;
    connection.abort();
    let status = answered.map_err(io::Error::other)?.status().as_u16();
    let is_good = if expect.is_empty() { (200..300).contains(&status) } else { expect.contains(&status) };
    Ok(if is_good { Answer::Good } else { Answer::Bad(format!("HTTP {status}")) })
}

async fn exec(command: &[String]) -> io::Result<Answer> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(Answer::Bad("no program is given".to_owned()));
    };
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .status()
        .await?;
    Ok(if status.success() { Answer::Good } else { Answer::Bad(format!("{program}: {status}")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::responder::{Responder, bind};

    fn spec(kind: CheckKind, timeout_ms: u64) -> CheckSpec {
        CheckSpec {
            kind,
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(timeout_ms),
            rise: 1,
            fall: 1,
            latency_limit: None,
        }
    }

    fn endpoint(transport: Transport, addr: SocketAddr) -> Endpoint {
        let protocol = "sip".parse().expect("a name");
        Endpoint { protocol, transport, address: addr.ip(), port: addr.port() }
    }

    /// A port that is free over UDP and TCP.
    async fn free() -> SocketAddr {
        loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
            let addr = udp.local_addr().expect("is bound");
            if tokio::net::TcpListener::bind(addr).await.is_ok() {
                return addr;
            }
        }
    }

    /// Serves a responder that is bound when this returns: what comes before it serves waits in its socket.
    async fn serve(responder: Responder) {
        tokio::spawn(bind(responder).await.expect("binds").serve());
    }

    async fn is_good(endpoint: &Endpoint, spec: &CheckSpec) -> bool {
        matches!(probe(endpoint, spec, 1).await, Outcome::Good { .. })
    }

    #[tokio::test]
    async fn every_kind_of_service_is_found_well() {
        let (sip, ng, web) = (free().await, free().await, free().await);
        serve(Responder::Sip { udp_tcp: sip }).await;
        serve(Responder::Rtpengine { ng }).await;
        let pages = tokio::net::TcpListener::bind(web).await.expect("is free");
        let healthy = axum::Router::new().route("/health", axum::routing::get(|| async { "well" }));
        tokio::spawn(async move { axum::serve(pages, healthy).await });
        let accept = || CheckKind::Sip { accept: Vec::new() };
        assert!(is_good(&endpoint(Transport::Udp, sip), &spec(accept(), 5_000)).await, "sip over udp");
        assert!(is_good(&endpoint(Transport::Tcp, sip), &spec(accept(), 5_000)).await, "sip over tcp");
        assert!(
            is_good(&endpoint(Transport::Udp, ng), &spec(CheckKind::Rtpengine, 5_000)).await,
            "rtpengine"
        );
        assert!(is_good(&endpoint(Transport::Tcp, web), &spec(CheckKind::Tcp, 5_000)).await, "tcp");
        let get = |path: &str, expect| CheckKind::Http { path: path.to_owned(), expect };
        let web = endpoint(Transport::Tcp, web);
        assert!(is_good(&web, &spec(get("/health", Vec::new()), 5_000)).await, "http");
        assert!(is_good(&web, &spec(get("/nowhere", vec![404]), 5_000)).await, "an expected 404");
        let outcome = probe(&web, &spec(get("/nowhere", Vec::new()), 500), 1).await;
        assert_eq!(outcome, Outcome::Bad { detail: "HTTP 404".to_owned() });
        let run = |command: &str| CheckKind::Exec { command: vec![command.to_owned()] };
        assert!(is_good(&web, &spec(run("true"), 2_000)).await, "exec");
        assert!(matches!(probe(&web, &spec(run("false"), 2_000), 1).await, Outcome::Bad { .. }));
    }

    #[tokio::test]
    async fn silence_ends_at_the_time_out_and_a_closed_port_at_once() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let addr = silent.local_addr().expect("is bound");
        let outcome = probe(&endpoint(Transport::Udp, addr), &spec(CheckKind::Rtpengine, 50), 1).await;
        assert_eq!(outcome, Outcome::Bad { detail: "no answer within 50 ms".to_owned() });
        drop(silent);
        let begun = Instant::now();
        let sip = spec(CheckKind::Sip { accept: Vec::new() }, 60_000);
        let outcome = probe(&endpoint(Transport::Udp, addr), &sip, 1).await;
        assert!(matches!(outcome, Outcome::Bad { .. }), "{outcome:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "the system said that nobody listens");
    }
}
