//! Configurations of QUIC: mutual TLS 1.3 always, and a transport for many links that are mostly silent.
//!
//! Who may connect is decided here (certificates of our authorities, valid now); who the peer is can be asked with
//! [`peer_of`]. Which links exist and how long they live is decided elsewhere. Sessions are never resumed, because a
//! resumed session is not checked against certificates again.
//!
//! Sources: RFC 9000, RFC 9001, RFC 9221 · full (by quinn); RFC 8446 · full without resumption (by rustls).

use core::time::Duration;
use std::sync::{Arc, LazyLock};

use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;

use crate::naming::Naming;
use crate::pki::{Credentials, PeerIdentity, PkiError, identity_of};
use crate::seal::derive;

/// The protocol that both ends must name in the handshake.
pub const ALPN: &[u8] = b"ringmesh/1";
/// The protocol of an examination ([`crate::doctor`]) instead: such a connection is never a link, so that it cannot
/// replace one.
pub const ALPN_EXAMINE: &[u8] = b"ringmesh-examine/1";

/// Closes a connection because this agent stops.
pub const CLOSE_SHUTDOWN: VarInt = VarInt::from_u32(0);
/// Closes a connection because the peer is of another cluster.
pub const CLOSE_CLUSTER: VarInt = VarInt::from_u32(1);
/// Closes a connection because the peer's certificate does not say who it is, or says another node than was dialled.
pub const CLOSE_NAME: VarInt = VarInt::from_u32(2);
/// Closes a connection because there is another one between the same two nodes.
pub const CLOSE_DUPLICATE: VarInt = VarInt::from_u32(3);
/// Closes a connection because it was the least used one of too many.
pub const CLOSE_EVICTED: VarInt = VarInt::from_u32(4);
/// Closes a connection because it reached its maximum age, or because certificates changed: dial again.
pub const CLOSE_AGED: VarInt = VarInt::from_u32(5);
/// Closes a connection because the peer sent what nobody may send.
pub const CLOSE_PROTOCOL: VarInt = VarInt::from_u32(6);
/// Closes a connection because too many examinations are under way.
pub const CLOSE_BUSY: VarInt = VarInt::from_u32(7);
/// Closes a connection because its examination is over.
pub const CLOSE_EXAMINED: VarInt = VarInt::from_u32(8);

/// After how much silence a link is gone, in milliseconds: long enough that links between probes stay open.
const IDLE_MS_MAX: VarInt = VarInt::from_u32(600_000);
/// What a round trip is taken for before it is measured: a lost first packet is repeated after three of them.
const INITIAL_RTT: Duration = Duration::from_millis(50);
/// The smallest MTU of QUIC, which every path has: discovery would triple the bytes of a short connection.
const MTU_BYTES: u16 = 1_200;
/// Datagrams that wait to be sent: little, because a stalled path shall drop stale packets and not replay them.
const DATAGRAM_SEND_BYTES_MAX: usize = 32 << 10;
const DATAGRAM_RECEIVE_BYTES_MAX: usize = 64 << 10;
const STREAM_WINDOW_BYTES: VarInt = VarInt::from_u32(256 << 10);
const CONNECTION_WINDOW_BYTES: VarInt = VarInt::from_u32(1 << 20);
const SEND_WINDOW_BYTES: u64 = 1 << 20;
const STREAMS_MAX: VarInt = VarInt::from_u32(16);
/// Handshakes that wait for this agent to take them; quinn's default of 65,536 would let strangers fill the memory.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL_MAX: u64 = 4 << 20;

const RESET_KEY_LABEL: &[u8] = b"ringmesh quic stateless reset 1";
const CONNECTION_ID_KEY_LABEL: &[u8] = b"ringmesh quic connection id 1";

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// Why credentials give no configuration.
#[derive(Debug, thiserror::Error)]
pub enum QuicConfigError {
    /// The authorities cannot be used.
    #[error(transparent)]
    ConfigRoots(#[from] VerifierBuilderError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    ConfigCertificate(#[from] rustls::Error),
    /// The provider lacks the cipher suite of QUIC's first packets.
    #[error(transparent)]
    MisuseProvider(#[from] NoInitialCipherSuite),
}

/// The one cryptography of this program. It is always named, because rustls panics when it has to choose between two.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// How this node accepts connections: from whoever has a certificate of a trusted authority that is valid now.
///
/// # Errors
/// If the credentials hold no authority or rustls refuses certificate or key.
pub fn server_config(credentials: &Credentials) -> Result<quinn::ServerConfig, QuicConfigError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&credentials.roots), provider()).build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Naming::new(credentials.cluster.clone(), verifier))
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    tls.alpn_protocols = vec![ALPN.to_vec(), ALPN_EXAMINE.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(transport())
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
    Ok(config)
}

/// How this node dials: whoever answers must have a certificate of a trusted authority that is valid now and for the
/// name that was dialled ([`crate::pki::server_name_of_node`] or [`crate::pki::server_name_of_cluster`]).
///
/// # Errors
/// If rustls refuses certificate or key.
pub fn client_config(credentials: &Credentials) -> Result<quinn::ClientConfig, QuicConfigError> {
    dialler_config(credentials, ALPN)
}

/// How this node dials to examine a path: as [`client_config`] does, but for a connection that is no link.
///
/// # Errors
/// If rustls refuses certificate or key.
pub fn examiner_config(credentials: &Credentials) -> Result<quinn::ClientConfig, QuicConfigError> {
    dialler_config(credentials, ALPN_EXAMINE)
}

fn dialler_config(
    credentials: &Credentials,
    protocol: &[u8],
) -> Result<quinn::ClientConfig, QuicConfigError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&credentials.roots), provider()).build()?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Naming::new(credentials.cluster.clone(), verifier))
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = Resumption::disabled();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

/// What all connections of this node share. The keys follow from the node's secret, so that an agent that was
/// restarted recognises packets of connections it lost and resets them, and its peers need not wait for a time-out.
pub fn endpoint_config(secret: &[u8; 32]) -> quinn::EndpointConfig {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, RESET_KEY_LABEL));
    let [a, b, c, d, e, f, g, h, ..] = derive(secret, CONNECTION_ID_KEY_LABEL);
    let connection_id_key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut config = quinn::EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_id_key)));
    config
}

/// The one transport of all links: quinn cannot change it on a live connection, and a link may change its role.
pub fn transport() -> Arc<quinn::TransportConfig> {
    let mut config = quinn::TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_MS_MAX)))
        .keep_alive_interval(None)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(None)
        .initial_mtu(MTU_BYTES)
        .min_mtu(MTU_BYTES)
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES_MAX)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES_MAX))
        .stream_receive_window(STREAM_WINDOW_BYTES)
        .receive_window(CONNECTION_WINDOW_BYTES)
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_uni_streams(STREAMS_MAX)
        .max_concurrent_bidi_streams(STREAMS_MAX);
    Arc::new(config)
}

/// Who the far end of a connection has proven to be. Its cluster is still to be compared with ours: an authority may
/// serve several.
///
/// # Errors
/// If its certificate does not say who it is.
pub fn peer_of(connection: &quinn::Connection) -> Result<PeerIdentity, PkiError> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(PkiError::CertificateMissing)?;
    identity_of(&chain)
}

/// The server name that the dialler of a connection asked for; nothing on connections that this node dialled.
pub fn requested_name(connection: &quinn::Connection) -> Option<String> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    data.server_name
}

/// Whether a connection was opened for an examination and is no link.
pub fn is_examination(connection: &quinn::Connection) -> bool {
    connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .is_some_and(|data| data.protocol.as_deref() == Some(ALPN_EXAMINE))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use quinn::{Connection, ConnectionError, Endpoint, TokioRuntime};

    use super::*;
    use crate::pki::test_support::{EXPIRED, LASTING, authority, credentials, credentials_trusting};
    use crate::pki::{server_name_of_cluster, server_name_of_node};

    #[tokio::test]
    async fn two_nodes_of_one_authority_meet_and_know_each_other() {
        let ca = authority("alpha");
        let one = credentials(&ca, "alpha", "one", LASTING);
        let two = credentials(&ca, "alpha", "two", LASTING);
        for name in [server_name_of_cluster(&one.cluster), server_name_of_node(&one.cluster, &one.id)] {
            let (dialled, accepted) = meet(&one, &two, &name).await;
            let (dialled, accepted) = (dialled.expect("a connection"), accepted.expect("a connection"));
            assert_eq!(peer_of(&dialled).expect("a peer").name, one.name);
            assert_eq!(peer_of(&accepted).expect("a peer").id, two.id);
            assert_eq!(requested_name(&accepted), Some(name));
            assert_eq!(requested_name(&dialled), None);
        }
    }

    #[tokio::test]
    async fn a_datagram_holds_a_gossip_packet_at_the_smallest_mtu() {
        let ca = authority("alpha");
        let one = credentials(&ca, "alpha", "one", LASTING);
        let two = credentials(&ca, "alpha", "two", LASTING);
        let (dialled, _accepted) = meet(&one, &two, &server_name_of_cluster(&one.cluster)).await;
        let room = dialled.expect("a connection").max_datagram_size().expect("datagrams");
        assert!((1_160..usize::from(MTU_BYTES)).contains(&room), "{room}");
    }

    #[tokio::test]
    async fn a_server_of_another_authority_is_refused() {
        let one = credentials(&authority("alpha"), "alpha", "one", LASTING);
        let two = credentials(&authority("alpha"), "alpha", "two", LASTING);
        check_refused(&one, &two, "invalid peer certificate").await;
    }

    #[tokio::test]
    async fn a_client_of_another_authority_is_refused() {
        let (ca, other) = (authority("alpha"), authority("alpha"));
        let one = credentials(&ca, "alpha", "one", LASTING);
        let both = format!("{}{}", ca.cert_pem(), other.cert_pem());
        let two = credentials_trusting(&other, "alpha", "two", LASTING, &both);
        check_refused(&one, &two, "invalid peer certificate").await;
    }

    #[tokio::test]
    async fn expired_certificates_are_refused_by_either_side() {
        let ca = authority("alpha");
        let lasting = credentials(&ca, "alpha", "one", LASTING);
        let expired = credentials(&ca, "alpha", "two", EXPIRED);
        check_refused(&lasting, &expired, "certificate expired").await;
        check_refused(&expired, &lasting, "certificate expired").await;
    }

    #[tokio::test]
    async fn a_node_of_another_cluster_is_refused_with_both_names() {
        let ca = authority("alpha");
        let alpha = credentials(&ca, "alpha", "one", LASTING);
        let beta = credentials(&ca, "beta", "two", LASTING);
        let (dialled, accepted) = meet(&alpha, &beta, &server_name_of_cluster(&beta.cluster)).await;
        for reason in [reason_of(dialled).await, reason_of(accepted).await] {
            assert!(reason.contains("beta.ringmesh") && reason.contains("alpha.ringmesh"), "{reason}");
        }
    }

    /// Checks that the two do not meet and that both sides learn `want`.
    async fn check_refused(listening: &Credentials, dialling: &Credentials, want: &str) {
        let (dialled, accepted) =
            meet(listening, dialling, &server_name_of_cluster(&listening.cluster)).await;
        for reason in [reason_of(dialled).await, reason_of(accepted).await] {
            assert!(reason.contains(want), "{reason}");
        }
    }

    type Outcome = Result<Connection, ConnectionError>;

    /// What the dialling and the listening side get when one dials the other as `name`.
    async fn meet(listening: &Credentials, dialling: &Credentials, name: &str) -> (Outcome, Outcome) {
        let (listener, dialler) = (endpoint(listening, [1; 32]), endpoint(dialling, [2; 32]));
        let addr = listener.local_addr().expect("a bound socket");
        let config = client_config(dialling).expect("usable credentials");
        let dial = dialler.connect_with(config, addr, name).expect("a server name");
        let accept = async { listener.accept().await.expect("an open endpoint").await };
        tokio::join!(dial, accept)
    }

    /// Why a connection failed. A dialler may see its handshake succeed before the listener has refused it.
    async fn reason_of(outcome: Outcome) -> String {
        let error = match outcome {
            Ok(connection) => tokio::time::timeout(Duration::from_secs(10), connection.closed())
                .await
                .expect("a refusal in time"),
            Err(error) => error,
        };
        error.to_string()
    }

    fn endpoint(credentials: &Credentials, secret: [u8; 32]) -> Endpoint {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
        let server = server_config(credentials).expect("usable credentials");
        Endpoint::new(endpoint_config(&secret), Some(server), socket, Arc::new(TokioRuntime))
            .expect("an endpoint")
    }
}
