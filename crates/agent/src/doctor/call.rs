//! One call: a fresh connection to an address, from our mesh port or from a port nobody has heard from, and what it meets.
//!
//! A call always names the cluster, never the node, so that whoever answers can be told apart from who was meant. TLS
//! alerts say what is wrong with a certificate (RFC 8446 · 6.2); an alert that stands for two things is told apart by the
//! words that come with it. A connected UDP socket hears what the host or the network says about silence (RFC 1122 ·
//! 4.1.3.3 · full), which QUIC does not pass on.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::time::Instant;

use quinn::{Connection, ConnectionError, Endpoint, ReadToEndError, VarInt, WriteError};
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::wire::{self, Channel};

use super::message::{End, Question, Reply, Trouble, TroubleKind};
use crate::mesh::{DIAL_TIMEOUT, Mesh};
use crate::naming::STRANGERS;
use crate::pki::{Credentials, PeerIdentity, server_name_of_cluster};
use crate::quic;

/// How long a peer may take to say that it is there, once the handshake is done.
const ANSWERED_WITHIN: Duration = Duration::from_millis(700);
/// How long the host or the network may take to say that nobody listens, once a call found silence.
const SAID_WITHIN: Duration = Duration::from_millis(300);
/// How long a peer may take to call back, its answer included: a dial that fails, what the host says of it, the way back.
pub(super) const CALLED_BACK_WITHIN: Duration = Duration::from_millis(2_500);
/// Bytes of a reply at most.
const REPLY_BYTES_MAX: usize = 4 << 10;

/// Which port a call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// The mesh port, as all links do.
    Mesh,
    /// One that the peer has never heard from, so that no firewall takes the call for an answer.
    Fresh,
}

/// Makes calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    name: String,
}

/// Somebody who answered.
#[derive(Debug)]
pub(super) struct Called {
    connection: Connection,
    /// Keeps the fresh port open.
    _endpoint: Endpoint,
    /// Who it is.
    pub(super) peer: PeerIdentity,
    /// How long the handshake took.
    pub(super) handshake: Duration,
    /// What its clock said, in unix milliseconds.
    pub(super) wall_ms: u64,
    /// Which start of it this is.
    pub(super) epoch: Epoch,
}

impl Caller {
    /// Calls as whoever `credentials` say, from the port of `mesh`.
    ///
    /// # Errors
    /// If rustls refuses certificate or key.
    pub(crate) fn new(mesh: &Mesh, credentials: &Credentials) -> Result<Self, quic::QuicConfigError> {
        Ok(Self {
            endpoint: mesh.endpoint().clone(),
            config: quic::examiner_config(credentials)?,
            name: server_name_of_cluster(&credentials.cluster),
        })
    }

    /// Calls `addr`, where `wanted` should answer if somebody in particular should, and asks whether it is there. Takes
    /// 2.2 s at most.
    ///
    /// # Errors
    /// Why there is nobody to talk to.
    pub(super) async fn call(
        &self,
        addr: SocketAddr,
        wanted: Option<NodeId>,
        from: Port,
    ) -> Result<Called, Trouble> {
        let mut called = match tokio::time::timeout(DIAL_TIMEOUT, self.dial(addr, from)).await {
            Ok(dialled) => dialled?,
            Err(_) => return Err(silence(self.local_ip(), addr).await),
        };
        match tokio::time::timeout(ANSWERED_WITHIN, called.ask(Question::Here)).await {
            Ok(Ok(Reply::Here { wall_ms, epoch })) => (called.wall_ms, called.epoch) = (wall_ms, epoch),
            Ok(Ok(Reply::CalledBack(_))) => {
                return Err(ours(TroubleKind::Lost, "its answer is to another question"));
            }
            Ok(Err(trouble)) => return Err(trouble),
            Err(_) => return Err(ours(TroubleKind::Lost, "it shook hands and then said nothing in time")),
        }
        match wanted {
            Some(wanted) if wanted != called.peer.id => {
                let words = format!("node {} answers there", called.peer.name);
                Err(ours(TroubleKind::OtherNode, &words))
            }
            Some(_) | None => Ok(called),
        }
    }

    async fn dial(&self, addr: SocketAddr, from: Port) -> Result<Called, Trouble> {
        let endpoint = match from {
            Port::Mesh => self.endpoint.clone(),
            Port::Fresh => Endpoint::client(SocketAddr::new(self.local_ip(), 0))
                .map_err(|error| ours(TroubleKind::Lost, &format!("no port can be opened: {error}")))?,
        };
        let begun = Instant::now();
        let connecting = endpoint
            .connect_with(self.config.clone(), addr, &self.name)
            .map_err(|error| ours(TroubleKind::NoRoute, &error.to_string()))?;
        let connection = connecting.await.map_err(|error| trouble_of(&error))?;
        let handshake = begun.elapsed();
        let peer =
            quic::peer_of(&connection).map_err(|error| ours(TroubleKind::Certificate, &error.to_string()))?;
        Ok(Called { connection, _endpoint: endpoint, peer, handshake, wall_ms: 0, epoch: Epoch(0) })
    }

    fn local_ip(&self) -> IpAddr {
        self.endpoint.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip())
    }
}

impl Called {
    /// The time a packet takes there and back.
    pub(super) fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    /// Asks; the caller bounds the time.
    pub(super) async fn ask(&self, question: Question) -> Result<Reply, Trouble> {
        let frame = |error: wire::WireError| ours(TroubleKind::Lost, &error.to_string());
        let bytes = wire::encode(Channel::Stream, &question).map_err(frame)?;
        let (mut send, mut receive) = self.connection.open_bi().await.map_err(|error| trouble_of(&error))?;
        if let Err(error) = send.write_all(&bytes).await {
            return Err(match error {
                WriteError::ConnectionLost(error) => trouble_of(&error),
                WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                    ours(TroubleKind::Lost, &error.to_string())
                }
            });
        }
        let _ = send.finish();
        match receive.read_to_end(REPLY_BYTES_MAX).await {
            Ok(bytes) => wire::decode(Channel::Stream, &bytes).map_err(frame),
            Err(ReadToEndError::Read(quinn::ReadError::ConnectionLost(error))) => Err(trouble_of(&error)),
            Err(error) => Err(ours(TroubleKind::Lost, &error.to_string())),
        }
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.connection.close(quic::CLOSE_EXAMINED, b"the examination is over");
    }
}

fn ours(kind: TroubleKind, words: &str) -> Trouble {
    Trouble::new(kind, End::Dialler, words)
}

/// What an error of a dial means.
fn trouble_of(error: &ConnectionError) -> Trouble {
    match error {
        ConnectionError::TransportError(error) => refusal(u64::from(error.code), &error.reason, End::Dialler),
        ConnectionError::ConnectionClosed(close) => {
            let words = String::from_utf8_lossy(&close.reason);
            refusal(u64::from(close.error_code), &words, End::Dialled)
        }
        ConnectionError::ApplicationClosed(close) => {
            let kind = kind_of_close(close.error_code);
            Trouble::new(kind, End::Dialled, &String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::VersionMismatch => ours(TroubleKind::Protocol, &error.to_string()),
        ConnectionError::TimedOut => ours(TroubleKind::Silent, &error.to_string()),
        ConnectionError::Reset | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            ours(TroubleKind::Lost, &error.to_string())
        }
    }
}

fn kind_of_close(code: VarInt) -> TroubleKind {
    match code {
        quic::CLOSE_CLUSTER => TroubleKind::Cluster,
        quic::CLOSE_NAME => TroubleKind::Certificate,
        quic::CLOSE_BUSY => TroubleKind::Busy,
        _ => TroubleKind::Lost,
    }
}

/// RFC 9000, 20.1: a server that does not take connections now.
const CONNECTION_REFUSED: u64 = 0x2;
/// RFC 9001, 4.8: TLS alerts begin here.
const CRYPTO_ERROR: u64 = 0x100;

/// What it means that `by` refused with this code of QUIC.
fn refusal(code: u64, words: &str, by: End) -> Trouble {
    let is_about_certificate = words.contains("peer certificate");
    let kind = match code.checked_sub(CRYPTO_ERROR) {
        _ if words.contains(STRANGERS) => TroubleKind::Cluster,
        None if code == CONNECTION_REFUSED => TroubleKind::Busy,
        // RFC 8446, 6.2: "certificate_expired: A certificate has expired or is not currently valid."
        Some(45) if words.contains("not valid yet") => TroubleKind::NotYetValid,
        Some(45) => TroubleKind::Expired,
        Some(44) => TroubleKind::Revoked,
        // An authority of the same name has another key: then it is the signature that does not fit.
        Some(48) => TroubleKind::OtherAuthority,
        Some(51) if is_about_certificate => TroubleKind::OtherAuthority,
        Some(120) => TroubleKind::Protocol,
        Some(42 | 43 | 46 | 116) => TroubleKind::Certificate,
        Some(_) | None if is_about_certificate => TroubleKind::Certificate,
        Some(_) | None => TroubleKind::Lost,
    };
    // rustls says this before every refusal that is not one of its own.
    Trouble::new(kind, by, words.trim_start_matches("unexpected error: "))
}

/// Why nothing came back, as far as the host at `addr` or the network says so.
async fn silence(from: IpAddr, addr: SocketAddr) -> Trouble {
    let said = tokio::time::timeout(SAID_WITHIN, touch(from, addr)).await;
    let error = said.ok().and_then(Result::err);
    match error.map(|error| (error.kind(), error.to_string())) {
        Some((io::ErrorKind::ConnectionRefused, words)) => ours(TroubleKind::Closed, &words),
        Some((
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied,
            words,
        )) => ours(TroubleKind::NoRoute, &words),
        Some(_) | None => {
            ours(TroubleKind::Silent, &format!("no answer within {} ms", DIAL_TIMEOUT.as_millis()))
        }
    }
}

/// Sends one byte, which no agent answers, and waits for an error.
async fn touch(from: IpAddr, addr: SocketAddr) -> io::Result<()> {
    // An IPv6 socket may serve IPv4 peers too; this one cannot.
    let from = match addr.ip() {
        _ if from.is_ipv4() == addr.is_ipv4() => from,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = tokio::net::UdpSocket::bind(SocketAddr::new(from, 0)).await?;
    socket.connect(addr).await?;
    socket.send(&[0]).await?;
    socket.recv(&mut [0; 1]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_alert_and_its_words() {
        let check = |code: u64, words: &str, want: TroubleKind| {
            assert_eq!(refusal(code, words, End::Dialled).kind, want, "{code:#x} {words}");
        };
        let invalid = |what: &str| format!("invalid peer certificate: {what}");
        check(0x100 + 45, &invalid("certificate expired: …"), TroubleKind::Expired);
        check(0x100 + 45, &invalid("certificate not valid yet: …"), TroubleKind::NotYetValid);
        check(0x100 + 44, &invalid("Revoked"), TroubleKind::Revoked);
        check(0x100 + 48, &invalid("UnknownIssuer"), TroubleKind::OtherAuthority);
        check(0x100 + 51, &invalid("BadSignature"), TroubleKind::OtherAuthority);
        check(0x100 + 51, "cannot decrypt peer's message", TroubleKind::Lost);
        check(0x100 + 42, &invalid("BadEncoding"), TroubleKind::Certificate);
        check(
            0x100 + 80,
            "node b of cluster y and cluster x do not know each other: …",
            TroubleKind::Cluster,
        );
        check(0x100 + 120, "no application protocol", TroubleKind::Protocol);
        check(CONNECTION_REFUSED, "", TroubleKind::Busy);
        check(0x1, "", TroubleKind::Lost);
    }

    #[test]
    fn what_the_peer_closes_with_says_why() {
        assert_eq!(kind_of_close(quic::CLOSE_BUSY), TroubleKind::Busy);
        assert_eq!(kind_of_close(quic::CLOSE_CLUSTER), TroubleKind::Cluster);
        assert_eq!(kind_of_close(quic::CLOSE_SHUTDOWN), TroubleKind::Lost);
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_told_from_one_that_is_silent() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let silent = std::net::UdpSocket::bind((ip, 0)).expect("a free port");
        let at = silent.local_addr().expect("is bound");
        assert_eq!(silence(ip, at).await.kind, TroubleKind::Silent);
        drop(silent);
        for from in [ip, IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            assert_eq!(silence(from, at).await.kind, TroubleKind::Closed);
        }
    }
}
