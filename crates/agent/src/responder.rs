//! Services that do nothing but answer their health check, so that a demonstration has something to discover:
//! a SIP server (OPTIONS over UDP and TCP) and a media engine (rtpengine's NG ping).
//!
//! It decides nothing about the mesh. A responder serves until its future is dropped; HTTP connections that
//! are open then end with their next answer. Whoever calls is a stranger: messages, connections and waits are
//! bounded.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringmesh_health::{ng, sip};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Bytes of a message at most; longer datagrams get no answer, longer messages on a stream end it.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// SIP connections at one time at most; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
/// How long a SIP connection may stay silent, or take to accept an answer.
const IO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to rest after a socket failed, lest a lasting failure spins.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// One service to imitate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Responder {
    /// A SIP server.
    Sip {
        /// Where it listens, over UDP and TCP.
        udp_tcp: SocketAddr,
    },
    /// A media engine.
    Rtpengine {
        /// Where it listens for NG commands, over UDP.
        ng: SocketAddr,
    },
}

/// A responder whose addresses are bound: whoever asks from now on is answered once it serves.
#[derive(Debug)]
pub enum Bound {
    /// [`Responder::Sip`].
    Sip(UdpSocket, TcpListener),
    /// [`Responder::Rtpengine`].
    Rtpengine(UdpSocket),
}

/// Binds what `responder` listens on.
///
/// # Errors
/// An address cannot be bound; the text names the address and the cause. Nothing is bound then.
pub async fn bind(responder: Responder) -> io::Result<Bound> {
    Ok(match responder {
        Responder::Sip { udp_tcp } => Bound::Sip(bind_udp(udp_tcp).await?, bind_tcp(udp_tcp).await?),
        Responder::Rtpengine { ng } => Bound::Rtpengine(bind_udp(ng).await?),
    })
}

impl Bound {
    /// Serves until the future is dropped.
    pub async fn serve(self) {
        match self {
            Self::Sip(datagrams, streams) => serve_sip(&datagrams, &streams).await,
            Self::Rtpengine(datagrams) => serve_datagrams(&datagrams, ng::pong).await,
        }
    }
}

/// Serves `responder` until the future is dropped.
///
/// # Errors
/// As [`bind`].
pub async fn run(responder: Responder) -> io::Result<()> {
    bind(responder).await?.serve().await;
    Ok(())
}

async fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).await.map_err(|error| bind_error("udp", address, &error))
}

async fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| bind_error("tcp", address, &error))
}

fn bind_error(transport: &str, address: SocketAddr, cause: &io::Error) -> io::Error {
    io::Error::new(cause.kind(), format!("cannot bind {transport} {address}: {cause}"))
}

async fn serve_sip(datagrams: &UdpSocket, streams: &TcpListener) {
    tokio::join!(serve_datagrams(datagrams, answer_sip), serve_streams(streams));
}

fn answer_sip(request: &[u8]) -> Option<Vec<u8>> {
    sip::options_response(request, 200, "OK")
}

/// Answers every datagram that `answer` understands, to where it came from.
async fn serve_datagrams(socket: &UdpSocket, answer: fn(&[u8]) -> Option<Vec<u8>>) {
    // One byte more than allowed, to tell a message that is too long from one that just fits.
    let mut buffer = vec![0; MESSAGE_BYTES_MAX + 1];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "responder cannot receive");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let reply = if len > MESSAGE_BYTES_MAX { None } else { answer(&buffer[..len]) };
        let Some(reply) = reply else {
            tracing::debug!(%from, len, "responder ignores a datagram");
            continue;
        };
        if let Err(error) = socket.send_to(&reply, from).await {
            tracing::debug!(%error, %from, "responder cannot answer");
        }
    }
}

async fn serve_streams(listener: &TcpListener) {
    // Dropping the set ends its connections, so none outlives the responder.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_stream(stream));
                }
                Err(error) => {
                    tracing::debug!(%error, "responder cannot accept");
                    sleep(ERROR_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Ok(Err(error)) = ended {
                    tracing::debug!(%error, "responder ended a connection");
                }
            }
        }
    }
}

async fn serve_stream(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(message) = next_message(&mut stream, &mut buffer).await? {
        if let Some(reply) = answer_sip(&message) {
            timeout(IO_TIMEOUT, stream.write_all(&reply)).await??;
        }
    }
    Ok(())
}

/// The next whole message of `stream`, `None` at its end; `buffer` keeps what was read beyond it.
async fn next_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        let framed = sip::message_len(buffer);
        match framed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Some(len) if len > MESSAGE_BYTES_MAX => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too large"));
            }
            Some(len) if len <= buffer.len() => {
                let rest = buffer.split_off(len);
                return Ok(Some(std::mem::replace(buffer, rest)));
            }
            Some(_) | None => {}
        }
        let mut chunk = [0; 2_048];
        let read = timeout(IO_TIMEOUT, stream.read(&mut chunk)).await??;
        if read == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: u64 = 7;
    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn options_over_udp_is_answered() {
        let (datagrams, streams) = (udp().await, tcp().await);
        let target = datagrams.local_addr().expect("is bound");
        tokio::spawn(async move { serve_sip(&datagrams, &streams).await });
        let client = udp().await;
        let local = client.local_addr().expect("is bound");
        let request = sip::OptionsRequest { target, transport: sip::SipTransport::Udp, local, token: TOKEN };
        client.send_to(b"no request", target).await.expect("is sent");
        let answer = ask(&client, target, &request.to_bytes()).await;
        assert_eq!(sip::parse_reply(&answer, TOKEN).map(|reply| reply.code), Ok(200));
    }

    #[tokio::test]
    async fn options_over_tcp_is_answered_however_it_is_cut() {
        let (datagrams, streams) = (udp().await, tcp().await);
        let target = streams.local_addr().expect("is bound");
        tokio::spawn(async move { serve_sip(&datagrams, &streams).await });
        let mut client = TcpStream::connect(target).await.expect("is listening");
        let local = client.local_addr().expect("is bound");
        let request = sip::OptionsRequest { target, transport: sip::SipTransport::Tcp, local, token: TOKEN };
        let twice = request.to_bytes().repeat(2);
        let (head, tail) = twice.split_at(100);
        client.write_all(head).await.expect("is sent");
        client.write_all(tail).await.expect("is sent");
        let mut buffer = Vec::new();
        for _ in 0..2 {
            let answer = timeout(PATIENCE, next_message(&mut client, &mut buffer)).await;
            let answer = answer.expect("comes in time").expect("is framed").expect("is a message");
            assert_eq!(sip::parse_reply(&answer, TOKEN).map(|reply| reply.code), Ok(200));
        }
    }

    #[tokio::test]
    async fn a_stream_that_cannot_be_framed_is_closed() {
        let (datagrams, streams) = (udp().await, tcp().await);
        let target = streams.local_addr().expect("is bound");
        tokio::spawn(async move { serve_sip(&datagrams, &streams).await });
        let mut client = TcpStream::connect(target).await.expect("is listening");
        client.write_all(b"OPTIONS sip:a SIP/2.0\r\nl: 8192\r\n\r\n").await.expect("is sent");
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("ends in time");
        assert_eq!(read.expect("is closed in order"), 0);
    }

    #[tokio::test]
    async fn an_ng_ping_is_answered() {
        let server = udp().await;
        let target = server.local_addr().expect("is bound");
        tokio::spawn(async move { serve_datagrams(&server, ng::pong).await });
        let answer = ask(&udp().await, target, &ng::ping("7f_1")).await;
        assert_eq!(ng::parse_pong(&answer, "7f_1"), Ok(ng::Pong));
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let (datagrams, streams) = (udp().await, tcp().await);
        let ng = datagrams.local_addr().expect("is bound");
        let udp_tcp = streams.local_addr().expect("is bound");
        for (responder, transport, address) in
            [(Responder::Rtpengine { ng }, "udp", ng), (Responder::Sip { udp_tcp }, "tcp", udp_tcp)]
        {
            let error = run(responder).await.expect_err("the address is taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let text = error.to_string();
            assert!(text.starts_with(&format!("cannot bind {transport} {address}: ")), "{text}");
        }
    }

    async fn udp() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.expect("loopback can be bound")
    }

    async fn tcp() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound")
    }

    async fn ask(client: &UdpSocket, target: SocketAddr, request: &[u8]) -> Vec<u8> {
        client.send_to(request, target).await.expect("is sent");
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let received = timeout(PATIENCE, client.recv_from(&mut buffer)).await.expect("comes in time");
        let (len, _) = received.expect("is received");
        buffer.truncate(len);
        buffer
    }
}
