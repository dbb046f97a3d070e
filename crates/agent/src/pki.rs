//! Makes and reads certificates: the cluster's authority, its nodes' certificates, and who a chain says somebody is.
//!
//! Every node certificate carries one URI name `spiffe://<cluster>/node/<name>`, which says who the node is, and two
//! DNS names for TLS: one follows from the node's id ([`server_name_of_node`]), the other is shared by all nodes of a
//! cluster ([`server_name_of_cluster`]), so that a seed can be dialled before its id is known. Reading a name proves
//! nothing: TLS or [`crate::seal::ChainChecker`] prove the chain. Revocation is not decided here.
//!
//! Sources: RFC 5280 · 4.2.1.6, 4.2.1.12 · partial; SPIFFE X.509-SVID · 2 · partial (DNS names beside the URI).

use core::time::Duration;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::{ClusterName, NameError, NodeName};
use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage};

use crate::quic::provider;

/// Ends every server name. Without it the cluster's name would be the last label, and a name that ends in a number (a
/// cluster called `2024`) is no DNS name to rustls, because it could be an IPv4 address.
const SERVER_NAME_SUFFIX: &str = "ringmesh";
/// How long before its making an authority is valid, for peers whose clocks are behind.
const AUTHORITY_BACKDATED_S: u64 = 3_600;
/// How long an authority is valid: 10 years of 365.25 days.
const AUTHORITY_LIFETIME_S: u64 = 315_576_000;
/// Characters of foreign text that an error repeats.
const QUOTED_CHARS_MAX: usize = 100;

/// Why a certificate or key cannot be made, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// One of our own files is wrong.
    #[error("{file}: {error}")]
    ConfigFile {
        /// The file's path, or what the text was meant to be.
        file: String,
        /// What is wrong with it.
        error: Box<PkiError>,
    },
    /// A file cannot be read.
    #[error("cannot be read: {0}")]
    ConfigUnreadable(io::Error),
    /// A file is not the PEM that was expected.
    #[error("is not the expected PEM: {0}")]
    ConfigPem(PemError),
    /// A private key cannot be used.
    #[error("holds a private key that cannot be used: {0}")]
    ConfigKey(rustls::Error),
    /// A private key belongs to another certificate.
    #[error("holds a private key that is not the certificate's")]
    ConfigKeyMismatch,
    /// An authority's certificate cannot be used.
    #[error("holds an authority that cannot be used: {0}")]
    ConfigRoot(rustls::Error),
    /// A moment is outside what a certificate can say.
    #[error("a certificate cannot say the moment {0} (unix seconds)")]
    MisuseMoment(u64),
    /// A certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    MisuseIssue(rcgen::Error),
    /// There is no certificate.
    #[error("there is no certificate")]
    CertificateMissing,
    /// A certificate cannot be read, or does not lead to an authority that is trusted.
    #[error("the certificate cannot be accepted: {0}")]
    Certificate(webpki::Error),
    /// A certificate does not say whose it is.
    #[error("the certificate needs exactly one URI name spiffe://<cluster>/node/<name>, it has {0:?}")]
    CertificateUri(String),
    /// A certificate says whose it is with a name that is none.
    #[error("the certificate's URI name {uri:?} is wrong: a name {error}")]
    CertificateName {
        /// The URI name.
        uri: String,
        /// What is wrong with a name in it.
        error: NameError,
    },
    /// A certificate lacks the DNS name that follows from its node's id.
    #[error("the certificate lacks the DNS name {0} that follows from its URI name")]
    CertificateNodeId(String),
    /// Our certificate lacks the name by which a node is dialled whose id is not known.
    #[error("the certificate lacks the DNS name {0}, by which others dial the nodes of the cluster as seeds")]
    ConfigClusterName(String),
    /// A certificate is not meant for what nodes do with it.
    #[error(
        "the certificate lacks the extended key usage {0}: nodes need clientAuth to dial, serverAuth to be dialled"
    )]
    CertificateUsage(&'static str),
}

/// The TLS server name of one node: `<node-id>.<cluster>.ringmesh`.
pub fn server_name_of_node(cluster: &ClusterName, id: &NodeId) -> String {
    format!("{id}.{cluster}.{SERVER_NAME_SUFFIX}")
}

/// The TLS server name that every node of a cluster answers to: `<cluster>.ringmesh`.
pub fn server_name_of_cluster(cluster: &ClusterName) -> String {
    format!("{cluster}.{SERVER_NAME_SUFFIX}")
}

/// From when until when a certificate is valid, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second, in unix seconds.
    pub not_before_unix_s: u64,
    /// The last second, in unix seconds.
    pub not_after_unix_s: u64,
}

/// A node's certificate and its private key, fresh from the authority.
pub struct Issued {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PKCS#8 in PEM.
    pub key_pem: String,
}

/// A cluster's certificate authority, with its private key.
#[derive(Debug)]
pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority of `cluster` (ECDSA P-256), valid from an hour before `now_unix_s` for ten years.
    ///
    /// # Errors
    /// If `now_unix_s` is no moment of the calendar or the system gives no randomness.
    pub fn generate(cluster: &ClusterName, now_unix_s: u64) -> Result<Self, PkiError> {
        let validity = Validity {
            not_before_unix_s: now_unix_s.saturating_sub(AUTHORITY_BACKDATED_S),
            not_after_unix_s: now_unix_s.saturating_add(AUTHORITY_LIFETIME_S),
        };
        let mut params = parameters(format!("ringmesh {cluster} CA"), Vec::new(), validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(PkiError::MisuseIssue)?;
        let certificate = params.self_signed(&key).map_err(PkiError::MisuseIssue)?;
        Ok(Self { cert_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// Reads an authority that [`Authority::cert_pem`] and [`Authority::key_pem`] wrote.
    ///
    /// # Errors
    /// If a text is not what it should be, or the key is not the certificate's.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let chain = certificates(cert_pem.as_bytes())?;
        key_of(&chain, key_pem.as_bytes())?;
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::MisuseIssue)?;
        let issuer = Issuer::from_ca_cert_der(&chain[0], key).map_err(PkiError::MisuseIssue)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), issuer })
    }

    /// The authority's certificate, PEM: what every node trusts.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's private key, PKCS#8 in PEM: whoever has it can be any node.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key and a certificate for the node called `name` in `cluster`, for both ends of a connection.
    ///
    /// # Errors
    /// If `validity` is outside the calendar or the system gives no randomness.
    pub fn issue(
        &self,
        cluster: &ClusterName,
        name: &NodeName,
        validity: Validity,
    ) -> Result<Issued, PkiError> {
        let id = NodeId::derive(cluster, name);
        let dns_names = vec![server_name_of_node(cluster, &id), server_name_of_cluster(cluster)];
        let mut params = parameters(format!("{name}.{cluster}"), dns_names, validity)?;
        let uri = Ia5String::try_from(spiffe_uri(cluster, name)).map_err(PkiError::MisuseIssue)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(PkiError::MisuseIssue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::MisuseIssue)?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

/// What a node needs to prove who it is and to check others.
#[derive(Debug)]
pub struct Credentials {
    /// Its certificate, then the intermediate ones.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of its certificate.
    pub key: PrivateKeyDer<'static>,
    /// The authorities it trusts; more than one while authorities are changed.
    pub roots: Arc<RootCertStore>,
    /// Its name, as the certificate says.
    pub name: NodeName,
    /// Its cluster, as the certificate says.
    pub cluster: ClusterName,
    /// Its id, which follows from the two.
    pub id: NodeId,
    /// When its certificate is valid. That it is valid now is for the peers to check.
    pub validity: Validity,
}

impl Credentials {
    /// Reads credentials from PEM texts: certificate (then intermediate ones), private key, trusted authorities.
    ///
    /// # Errors
    /// Names the text that is wrong and what is wrong with it. An expired certificate is not an error.
    pub fn from_pem(certificate: &str, key: &str, ca: &str) -> Result<Self, PkiError> {
        let part = |file: &str, pem: &str| Part { file: file.to_owned(), pem: pem.as_bytes().to_vec() };
        Self::from_parts(
            &part("the certificate", certificate),
            &part("the private key", key),
            &part("the CA certificate", ca),
        )
    }

    /// Reads credentials from three PEM files, as [`Credentials::from_pem`] does from texts.
    ///
    /// # Errors
    /// Names the file that is wrong and what is wrong with it. An expired certificate is not an error.
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Self, PkiError> {
        Self::from_parts(&Part::read(certificate)?, &Part::read(key)?, &Part::read(ca)?)
    }

    fn from_parts(certificate: &Part, key: &Part, ca: &Part) -> Result<Self, PkiError> {
        let chain = certificates(&certificate.pem).map_err(|error| certificate.blame(error))?;
        let roots = roots(&ca.pem).map_err(|error| ca.blame(error))?;
        let identity = identity_of(&chain).map_err(|error| certificate.blame(error))?;
        let validity = verify_chain(&chain, &roots).map_err(|error| certificate.blame(error))?;
        check_dialled(&chain, &roots, &identity.cluster, validity)
            .map_err(|error| certificate.blame(error))?;
        let private_key = key_of(&chain, &key.pem).map_err(|error| key.blame(error))?;
        let PeerIdentity { cluster, name, id } = identity;
        Ok(Self { chain, key: private_key, roots: Arc::new(roots), name, cluster, id, validity })
    }
}

/// Who the far end of a connection, or the speaker of a document, is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its name.
    pub name: NodeName,
    /// Its id, which follows from the two.
    pub id: NodeId,
}

/// Who the first certificate of `chain` says it is. Whether the chain can be believed is not checked here.
///
/// # Errors
/// If there is no certificate, it does not say exactly one node, or it lacks the DNS name of that node.
pub fn identity_of(chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, PkiError> {
    let leaf = leaf_of(chain)?;
    let mut uris = leaf.valid_uri_names();
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        let presented: Vec<&str> = leaf.valid_uri_names().collect();
        return Err(PkiError::CertificateUri(quoted(&presented.join(" "))));
    };
    let identity = identity_in(uri)?;
    let wanted = server_name_of_node(&identity.cluster, &identity.id);
    if !leaf.valid_dns_names().any(|presented| presented.eq_ignore_ascii_case(&wanted)) {
        return Err(PkiError::CertificateNodeId(wanted));
    }
    Ok(identity)
}

/// The first certificate of `chain`, parsed.
///
/// # Errors
/// If there is none or it does not parse.
pub(crate) fn leaf_of<'a>(chain: &'a [CertificateDer<'a>]) -> Result<EndEntityCert<'a>, PkiError> {
    let leaf = chain.first().ok_or(PkiError::CertificateMissing)?;
    EndEntityCert::try_from(leaf).map_err(PkiError::Certificate)
}

/// Checks that `chain` leads to one of `roots`, and says when its first certificate is valid.
///
/// The check is made for the first moment of that validity, not for now: what a chain once proved about documents it
/// goes on proving after it expires, and the answer depends on no clock. Whether a peer may connect now is for TLS to
/// say.
///
/// # Errors
/// If the chain does not parse, does not lead to a root, or is not meant for clients.
pub(crate) fn verify_chain(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Result<Validity, PkiError> {
    let leaf = leaf_of(chain)?;
    let validity = validity_of(&leaf)?;
    verify_usage(&leaf, &chain[1..], roots, validity, Usage::Client)?;
    Ok(validity)
}

/// Checks that peers can dial who shows `chain`: as a server, and by the name of `cluster` while its id is not known.
fn check_dialled(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    cluster: &ClusterName,
    validity: Validity,
) -> Result<(), PkiError> {
    let leaf = leaf_of(chain)?;
    verify_usage(&leaf, &chain[1..], roots, validity, Usage::Server)?;
    let wanted = server_name_of_cluster(cluster);
    let is_named = ServerName::try_from(wanted.as_str())
        .is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok());
    if is_named { Ok(()) } else { Err(PkiError::ConfigClusterName(wanted)) }
}

/// Which end of a connection a certificate is shown at.
#[derive(Debug, Clone, Copy)]
enum Usage {
    Client,
    Server,
}

/// Checks that `leaf` leads to one of `roots` and is meant for `usage`, at the first moment of `validity`.
fn verify_usage(
    leaf: &EndEntityCert<'_>,
    intermediate: &[CertificateDer<'_>],
    roots: &RootCertStore,
    validity: Validity,
    usage: Usage,
) -> Result<(), PkiError> {
    let (purpose, words) = match usage {
        Usage::Client => (KeyUsage::client_auth(), "clientAuth"),
        Usage::Server => (KeyUsage::server_auth(), "serverAuth"),
    };
    let algorithms = provider().signature_verification_algorithms.all;
    let moment = UnixTime::since_unix_epoch(Duration::from_secs(validity.not_before_unix_s));
    match leaf.verify_for_usage(algorithms, &roots.roots, intermediate, moment, purpose, None, None) {
        Ok(_) => Ok(()),
        Err(webpki::Error::RequiredEkuNotFoundContext(_)) => Err(PkiError::CertificateUsage(words)),
        Err(error) => Err(PkiError::Certificate(error)),
    }
}

/// When a certificate is valid. webpki does not hand that out, but it checks it first and names the bound that is
/// broken, so it is asked about the first and about the last moment of all.
fn validity_of(leaf: &EndEntityCert<'_>) -> Result<Validity, PkiError> {
    let complaint_at = |since_epoch: Duration| {
        let moment = UnixTime::since_unix_epoch(since_epoch);
        leaf.verify_for_usage(&[], &[], &[], moment, KeyUsage::client_auth(), None, None).err()
    };
    let not_after_unix_s = match complaint_at(Duration::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        Some(error) => return Err(PkiError::Certificate(error)),
        None => return Err(PkiError::Certificate(webpki::Error::InvalidCertValidity)),
    };
    let not_before_unix_s =
        if let Some(webpki::Error::CertNotValidYet { not_before, .. }) = complaint_at(Duration::ZERO) {
            not_before.as_secs()
        } else {
            0
        };
    Ok(Validity { not_before_unix_s, not_after_unix_s })
}

fn spiffe_uri(cluster: &ClusterName, name: &NodeName) -> String {
    format!("spiffe://{cluster}/node/{name}")
}

fn identity_in(uri: &str) -> Result<PeerIdentity, PkiError> {
    let (cluster, name) = uri
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once("/node/"))
        .ok_or_else(|| PkiError::CertificateUri(quoted(uri)))?;
    let wrong = |error| PkiError::CertificateName { uri: quoted(uri), error };
    let cluster: ClusterName = cluster.parse().map_err(wrong)?;
    let name: NodeName = name.parse().map_err(wrong)?;
    let id = NodeId::derive(&cluster, &name);
    Ok(PeerIdentity { cluster, name, id })
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

fn parameters(
    common_name: String,
    dns_names: Vec<String>,
    validity: Validity,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(dns_names).map_err(PkiError::MisuseIssue)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = moment(validity.not_before_unix_s)?;
    params.not_after = moment(validity.not_after_unix_s)?;
    Ok(params)
}

fn moment(unix_s: u64) -> Result<OffsetDateTime, PkiError> {
    i64::try_from(unix_s)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(PkiError::MisuseMoment(unix_s))
}

/// A PEM text and what to call it when it is wrong.
struct Part {
    file: String,
    pem: Vec<u8>,
}

impl Part {
    fn read(path: &Path) -> Result<Self, PkiError> {
        let mut part = Self { file: path.display().to_string(), pem: Vec::new() };
        part.pem = fs::read(path).map_err(|error| part.blame(PkiError::ConfigUnreadable(error)))?;
        Ok(part)
    }

    fn blame(&self, error: PkiError) -> PkiError {
        PkiError::ConfigFile { file: self.file.clone(), error: Box::new(error) }
    }
}

/// The certificates of a PEM text, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, PemError>>().map_err(PkiError::ConfigPem)?;
    if chain.is_empty() {
        return Err(PkiError::CertificateMissing);
    }
    Ok(chain)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(PkiError::ConfigRoot)?;
    }
    Ok(roots)
}

/// The private key of a PEM text, which must be that of the first certificate of `chain`.
fn key_of(chain: &[CertificateDer<'static>], pem: &[u8]) -> Result<PrivateKeyDer<'static>, PkiError> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(PkiError::ConfigPem)?;
    let signing = provider().key_provider.load_private_key(key.clone_key()).map_err(PkiError::ConfigKey)?;
    let certified = CertifiedKey::new(chain.to_vec(), signing);
    certified.keys_match().map_err(|_| PkiError::ConfigKeyMismatch)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::test_support::{EXPIRED, LASTING, authority, credentials};
    use super::*;

    #[test]
    fn issued_credentials_say_who_the_node_is() {
        let ca = authority("alpha");
        let node = credentials(&ca, "alpha", "one", LASTING);
        assert_eq!((node.cluster.as_str(), node.name.as_str()), ("alpha", "one"));
        assert_eq!(node.id, NodeId::derive(&node.cluster, &node.name));
        assert_eq!(node.validity, LASTING);
        let identity = identity_of(&node.chain).expect("an identity");
        assert_eq!((identity.id, identity.name), (node.id, node.name));
    }

    #[test]
    fn an_authority_survives_its_files() {
        let ca = authority("alpha");
        let again = Authority::from_pem(ca.cert_pem(), &ca.key_pem()).expect("an authority");
        let (cluster, name) = ("alpha".parse().expect("a name"), "one".parse().expect("a name"));
        let issued = again.issue(&cluster, &name, LASTING).expect("a certificate");
        assert!(Credentials::from_pem(&issued.cert_pem, &issued.key_pem, ca.cert_pem()).is_ok());
        let other_key = authority("alpha").key_pem();
        assert!(matches!(Authority::from_pem(ca.cert_pem(), &other_key), Err(PkiError::ConfigKeyMismatch)));
    }

    #[test]
    fn an_expired_certificate_still_loads() {
        let node = credentials(&authority("alpha"), "alpha", "one", EXPIRED);
        assert_eq!(node.validity, EXPIRED);
    }

    #[test]
    fn a_cluster_named_like_a_number_has_server_names() {
        let cluster: ClusterName = "2024".parse().expect("a name");
        let id = NodeId::from_bytes([0; 8]);
        for name in [server_name_of_cluster(&cluster), server_name_of_node(&cluster, &id)] {
            assert!(rustls::pki_types::DnsName::try_from(name.as_str()).is_ok(), "{name}");
        }
        assert_eq!(credentials(&authority("2024"), "2024", "7", LASTING).cluster, cluster);
    }

    #[test]
    fn wrong_credentials_are_named() {
        let ca = authority("alpha");
        let issue = |name: &str| {
            let (cluster, name) = ("alpha".parse().expect("a name"), name.parse().expect("a name"));
            ca.issue(&cluster, &name, LASTING).expect("a certificate")
        };
        let (one, two, stranger) = (issue("one"), issue("two"), authority("alpha"));
        let check = |cert: &str, key: &str, ca: &str, want: &str| {
            let error = Credentials::from_pem(cert, key, ca).expect_err(want).to_string();
            assert!(error.starts_with(want), "{error}");
        };
        let (cert, key, root) = (&one.cert_pem, &one.key_pem, ca.cert_pem());
        check("nothing", key, root, "the certificate: there is no certificate");
        check(cert, "nothing", root, "the private key: is not the expected PEM");
        check(cert, &two.key_pem, root, "the private key: holds a private key that is not the certificate's");
        check(cert, key, "nothing", "the CA certificate: there is no certificate");
        check(cert, key, stranger.cert_pem(), "the certificate: the certificate cannot be accepted");
        check(root, key, root, "the certificate: the certificate needs exactly one URI name");
    }

    #[test]
    fn credentials_that_nobody_could_dial_are_refused() {
        let ca = authority("alpha");
        let (cluster, name) = ("alpha".parse().expect("a name"), "one".parse().expect("a name"));
        let id = NodeId::derive(&cluster, &name);
        let (of_node, of_cluster) = (server_name_of_node(&cluster, &id), server_name_of_cluster(&cluster));
        let load = |dns_names: &[&str], usages: &[ExtendedKeyUsagePurpose]| {
            let dns_names = dns_names.iter().map(|&name| name.to_owned()).collect();
            let mut params = parameters("one".to_owned(), dns_names, LASTING).expect("parameters");
            let uri = Ia5String::try_from(spiffe_uri(&cluster, &name)).expect("ASCII");
            params.subject_alt_names.push(SanType::URI(uri));
            params.extended_key_usages = usages.to_vec();
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &ca.issuer).expect("a certificate");
            Credentials::from_pem(&certificate.pem(), &key.serialize_pem(), ca.cert_pem())
        };
        let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        let both = [server.clone(), client.clone()];
        let refused = |dns_names: &[&str], usages: &[ExtendedKeyUsagePurpose], want: &str| {
            let error = load(dns_names, usages).expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        };
        for usages in [&both[..], &[]] {
            let loaded = load(&[&of_node, &of_cluster], usages).expect("no usage named is every usage");
            assert_eq!((loaded.id, &loaded.cluster, &loaded.name), (id, &cluster, &name));
        }
        refused(&[&of_node], &both, "lacks the DNS name alpha.ringmesh, by which others dial");
        refused(&[&of_node, "beta.ringmesh"], &both, "lacks the DNS name alpha.ringmesh");
        refused(&[&of_node, &of_cluster], &[client], "lacks the extended key usage serverAuth");
        refused(&[&of_node, &of_cluster], &[server], "lacks the extended key usage clientAuth");
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = Path::new("no/such/file.pem");
        let error = Credentials::load(missing, missing, missing).expect_err("no such file").to_string();
        assert!(error.starts_with("no/such/file.pem: cannot be read: "), "{error}");
    }

    #[test]
    fn a_certificate_that_names_no_single_node_has_no_identity() {
        let check = |dns: &str, uris: &[&str], want: &str| {
            let error = identity_of(&[certificate(dns, uris)]).expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        };
        let right = "spiffe://alpha/node/one";
        let identity = identity_in(right).expect("an identity");
        let dns = server_name_of_node(&identity.cluster, &identity.id);
        assert_eq!(identity_of(&[certificate(&dns, &[right])]).expect("an identity"), identity);
        check(&dns, &[], "exactly one URI name");
        check(&dns, &[right, "spiffe://alpha/node/two"], "exactly one URI name");
        check(&dns, &["https://alpha/node/one"], "exactly one URI name");
        check(&dns, &["spiffe://alpha/node/o_ne"], "is wrong");
        check(&dns, &["spiffe://alpha/node/two"], "lacks the DNS name");
        check("alpha.ringmesh", &[right], "lacks the DNS name");
        assert!(matches!(identity_of(&[]), Err(PkiError::CertificateMissing)));
    }

    fn certificate(dns: &str, uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).expect("a DNS name");
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(Ia5String::try_from(*uri).expect("ASCII")));
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }
}

/// Credentials for the tests of this crate.
#[cfg(test)]
pub(crate) mod test_support {
    use super::{Authority, Credentials, Validity};

    /// 2020-01-01 to 2100-01-01.
    pub(crate) const LASTING: Validity =
        Validity { not_before_unix_s: 1_577_836_800, not_after_unix_s: 4_102_444_800 };
    /// 2020-01-01 to 2021-01-01.
    pub(crate) const EXPIRED: Validity =
        Validity { not_before_unix_s: 1_577_836_800, not_after_unix_s: 1_609_459_200 };

    pub(crate) fn authority(cluster: &str) -> Authority {
        let cluster = cluster.parse().expect("a cluster name");
        Authority::generate(&cluster, LASTING.not_before_unix_s).expect("an authority")
    }

    pub(crate) fn credentials(ca: &Authority, cluster: &str, name: &str, validity: Validity) -> Credentials {
        credentials_trusting(ca, cluster, name, validity, ca.cert_pem())
    }

    pub(crate) fn credentials_trusting(
        ca: &Authority,
        cluster: &str,
        name: &str,
        validity: Validity,
        trusted_pem: &str,
    ) -> Credentials {
        let (cluster, name) = (cluster.parse().expect("a name"), name.parse().expect("a name"));
        let issued = ca.issue(&cluster, &name, validity).expect("a certificate");
        Credentials::from_pem(&issued.cert_pem, &issued.key_pem, trusted_pem).expect("credentials")
    }
}
