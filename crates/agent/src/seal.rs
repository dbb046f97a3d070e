//! Seals of the agent: Ed25519 over documents and accusations, and the proof that a document key is a node's.
//!
//! A node's `trust` document holds its certificate chain, its document key, and its TLS key's signature over that.
//! A checker believes it if the chain leads to the cluster's authority, names the owner, and its key made the
//! signature. Expiry does not matter here and revocation is not decided here: a document stays what its owner said,
//! and whether it is served is decided elsewhere.
//!
//! Sources: RFC 8032 · 5.1 · full (by ring); RFC 2104 · full (by ring), for keys derived from the node's secret.

use std::sync::Arc;

use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use ringmesh_types::body::TrustBody;
use ringmesh_types::fields::FieldError;
use ringmesh_types::ids::NodeId;
use ringmesh_types::name::ClusterName;
use ringmesh_types::sealed::{CheckSeal, DocumentKey, MakeSeal, Seal};
use ringmesh_types::wire::WireError;
use rustls::pki_types::CertificateDer;
use rustls::{RootCertStore, SignatureScheme};

use crate::pki::{Credentials, PkiError, identity_of, leaf_of, verify_chain};
use crate::quic::provider;

/// Says what the key that follows from the node's secret is for, so that no two uses share one.
const DOCUMENT_KEY_LABEL: &[u8] = b"ringmesh document key seed 1";

/// Why a `trust` body cannot be made or believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Our TLS key cannot be used.
    #[error("the private key cannot vouch for the document key: {0}")]
    ConfigKey(rustls::Error),
    /// Our TLS key is of another kind than `trust` bodies hold.
    #[error("the private key is not ECDSA P-256, the only kind that can vouch for a document key")]
    ConfigKeyKind,
    /// Our body does not fit.
    #[error("the trust document cannot be written: {0}")]
    ConfigBody(WireError),
    /// The body is unreadable.
    #[error("{0}")]
    PeerBody(FieldError),
    /// The chain names nobody or leads nowhere.
    #[error("{0}")]
    PeerChain(PkiError),
    /// The chain is of another cluster.
    #[error("the certificate is of cluster {theirs:?}, this is cluster {ours:?}")]
    PeerCluster {
        /// The certificate's cluster.
        theirs: ClusterName,
        /// The checker's cluster.
        ours: ClusterName,
    },
    /// The chain is somebody else's.
    #[error("the certificate is that of node {proven}, the document's owner is node {claimed}")]
    PeerOwner {
        /// Whose document it is.
        claimed: NodeId,
        /// Whose certificate it is.
        proven: NodeId,
    },
    /// The certificate's key did not sign the document key.
    #[error("the certificate's key does not vouch for the document key: {0}")]
    PeerVouching(webpki::Error),
}

/// 32 bytes that follow from a node's secret and say nothing about it or about those of other labels.
pub(crate) fn derive(secret: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label);
    let mut key = [0; 32];
    key.copy_from_slice(tag.as_ref());
    key
}

/// Seals what this node says.
#[derive(Debug)]
pub struct DocumentSealer {
    pair: Ed25519KeyPair,
}

impl DocumentSealer {
    /// The sealer whose key follows from the node's secret: it outlives restarts and certificates.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let seed = derive(secret, DOCUMENT_KEY_LABEL);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed");
        Self { pair }
    }

    /// The key that others check the seals with.
    pub fn public_key(&self) -> DocumentKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        key
    }
}

impl MakeSeal for DocumentSealer {
    fn seal(&self, bytes: &[u8]) -> Seal {
        let mut seal = [0; 64];
        seal.copy_from_slice(self.pair.sign(bytes).as_ref());
        Seal(seal)
    }
}

/// The body of this node's `trust` document.
///
/// # Errors
/// If the credentials' key is not ECDSA P-256, or the system gives no randomness.
pub fn trust_body(credentials: &Credentials, sealer: &DocumentSealer) -> Result<Vec<u8>, TrustError> {
    let document_key = sealer.public_key();
    let key = provider()
        .key_provider
        .load_private_key(credentials.key.clone_key())
        .map_err(TrustError::ConfigKey)?;
    let signer =
        key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).ok_or(TrustError::ConfigKeyKind)?;
    let vouched = signer
        .sign(&TrustBody::vouched_bytes(credentials.id, &document_key))
        .map_err(TrustError::ConfigKey)?;
    let chain = credentials.chain.iter().map(|certificate| certificate.to_vec()).collect();
    TrustBody { chain, document_key, vouched }.to_bytes().map_err(TrustError::ConfigBody)
}

/// Checks seals, and `trust` bodies against the authorities of one cluster.
#[derive(Debug, Clone)]
pub struct ChainChecker {
    cluster: ClusterName,
    roots: Arc<RootCertStore>,
}

impl ChainChecker {
    /// A checker for `cluster` that believes chains to `roots`.
    pub fn new(cluster: ClusterName, roots: Arc<RootCertStore>) -> Self {
        Self { cluster, roots }
    }

    /// The document key that a `trust` body vouches for.
    ///
    /// # Errors
    /// Why the body does not prove that `owner` holds that key.
    pub fn check_trust(&self, owner: NodeId, trust_body: &[u8]) -> Result<DocumentKey, TrustError> {
        let body = TrustBody::from_bytes(trust_body).map_err(TrustError::PeerBody)?;
        let chain: Vec<CertificateDer<'_>> =
            body.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        self.check_owner(owner, &chain)?;
        verify_chain(&chain, &self.roots).map_err(TrustError::PeerChain)?;
        let leaf = leaf_of(&chain).map_err(TrustError::PeerChain)?;
        let vouched_bytes = TrustBody::vouched_bytes(owner, &body.document_key);
        leaf.verify_signature(webpki::ring::ECDSA_P256_SHA256, &vouched_bytes, &body.vouched)
            .map_err(TrustError::PeerVouching)?;
        Ok(body.document_key)
    }

    fn check_owner(&self, owner: NodeId, chain: &[CertificateDer<'_>]) -> Result<(), TrustError> {
        let peer = identity_of(chain).map_err(TrustError::PeerChain)?;
        if peer.cluster != self.cluster {
            return Err(TrustError::PeerCluster { theirs: peer.cluster, ours: self.cluster.clone() });
        }
        if peer.id != owner {
            return Err(TrustError::PeerOwner { claimed: owner, proven: peer.id });
        }
        Ok(())
    }
}

impl CheckSeal for ChainChecker {
    fn is_sealed_by(&self, key: &DocumentKey, bytes: &[u8], seal: &Seal) -> bool {
        UnparsedPublicKey::new(&ED25519, key).verify(bytes, &seal.0).is_ok()
    }

    fn vouched_key(&self, owner: NodeId, trust_body: &[u8]) -> Result<DocumentKey, String> {
        self.check_trust(owner, trust_body).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::test_support::{EXPIRED, LASTING, authority, credentials};

    #[test]
    fn a_seal_is_that_of_its_key_over_its_bytes() {
        let (sealer, other) = (DocumentSealer::from_secret(&[1; 32]), DocumentSealer::from_secret(&[2; 32]));
        let checker = checker_of(&credentials(&authority("alpha"), "alpha", "one", LASTING));
        let seal = sealer.seal(b"hello");
        assert!(checker.is_sealed_by(&sealer.public_key(), b"hello", &seal));
        assert!(!checker.is_sealed_by(&sealer.public_key(), b"hullo", &seal));
        assert!(!checker.is_sealed_by(&other.public_key(), b"hello", &seal));
        let mut bent = seal;
        bent.0[63] ^= 1;
        assert!(!checker.is_sealed_by(&sealer.public_key(), b"hello", &bent));
    }

    #[test]
    fn keys_of_other_labels_and_secrets_differ() {
        assert_eq!(derive(&[1; 32], b"a"), derive(&[1; 32], b"a"));
        assert_ne!(derive(&[1; 32], b"a"), derive(&[1; 32], b"b"));
        assert_ne!(derive(&[1; 32], b"a"), derive(&[2; 32], b"a"));
    }

    #[test]
    fn trust_is_believed_by_nodes_of_the_same_authority() {
        let (ca, sealer) = (authority("alpha"), DocumentSealer::from_secret(&[1; 32]));
        let one = credentials(&ca, "alpha", "one", LASTING);
        let two = credentials(&ca, "alpha", "two", LASTING);
        let body = trust_body(&one, &sealer).expect("a body");
        assert_eq!(checker_of(&two).vouched_key(one.id, &body), Ok(sealer.public_key()));
    }

    #[test]
    fn trust_outlives_its_certificate() {
        let (ca, sealer) = (authority("alpha"), DocumentSealer::from_secret(&[1; 32]));
        let one = credentials(&ca, "alpha", "one", EXPIRED);
        let body = trust_body(&one, &sealer).expect("a body");
        assert_eq!(checker_of(&one).vouched_key(one.id, &body), Ok(sealer.public_key()));
    }

    #[test]
    fn trust_of_others_is_refused() {
        let ca = authority("alpha");
        let one = credentials(&ca, "alpha", "one", LASTING);
        let two = credentials(&ca, "alpha", "two", LASTING);
        let beta = credentials(&ca, "beta", "one", LASTING);
        let stranger = credentials(&authority("alpha"), "alpha", "one", LASTING);
        let body = trust_body(&one, &DocumentSealer::from_secret(&[1; 32])).expect("a body");
        let check = |checker: &ChainChecker, owner: NodeId, want: &str| {
            let error = checker.vouched_key(owner, &body).expect_err(want);
            assert!(error.contains(want), "{error}");
        };
        check(&checker_of(&one), two.id, "the document's owner is node");
        check(&checker_of(&beta), one.id, "is of cluster \"alpha\", this is cluster \"beta\"");
        check(&checker_of(&stranger), one.id, "cannot be accepted");
    }

    #[test]
    fn bent_trust_is_refused() {
        let ca = authority("alpha");
        let one = credentials(&ca, "alpha", "one", LASTING);
        let two = credentials(&ca, "alpha", "two", LASTING);
        let other = readable_trust(&two);
        check_bent(&one, |body| body.document_key = [9; 32], "does not vouch");
        check_bent(&one, |body| body.vouched.clone_from(&other.vouched), "does not vouch");
        check_bent(&one, |body| body.vouched.clear(), "does not vouch");
        check_bent(&one, |body| body.chain.clone_from(&other.chain), "the document's owner is node");
        check_bent(&one, |body| body.chain.clear(), "there is no certificate");
        check_bent(&one, |body| body.chain[0].truncate(9), "cannot be accepted");
        assert!(checker_of(&one).vouched_key(one.id, b"nonsense").is_err());
    }

    /// Checks that a node's `trust` body is refused because of `want` after `bend`.
    fn check_bent(node: &Credentials, bend: impl FnOnce(&mut TrustBody), want: &str) {
        let mut body = readable_trust(node);
        bend(&mut body);
        let bytes = body.to_bytes().expect("fits");
        let error = checker_of(node).vouched_key(node.id, &bytes).expect_err(want);
        assert!(error.contains(want), "{error}");
    }

    fn readable_trust(node: &Credentials) -> TrustBody {
        let bytes = trust_body(node, &DocumentSealer::from_secret(&[1; 32])).expect("a body");
        TrustBody::from_bytes(&bytes).expect("readable")
    }

    fn checker_of(credentials: &Credentials) -> ChainChecker {
        ChainChecker::new(credentials.cluster.clone(), credentials.roots.clone())
    }
}
