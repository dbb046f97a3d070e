//! Certificate verifiers that say whom they refuse: rustls knows why a certificate is wrong, but not that it belongs to a
//! node of another cluster. What is checked is decided by the verifier inside; here a refusal gets names.

use std::sync::Arc;

use ringmesh_types::name::ClusterName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::pki::identity_of;

/// What every refusal says that names two clusters.
pub(crate) const STRANGERS: &str = "do not know each other";

/// Checks as `inner` does, and names both clusters when it refuses a certificate of another one.
#[derive(Debug)]
pub(crate) struct Naming<V: ?Sized> {
    cluster: ClusterName,
    inner: Arc<V>,
}

impl<V: ?Sized> Naming<V> {
    pub(crate) fn new(cluster: ClusterName, inner: Arc<V>) -> Arc<Self> {
        Arc::new(Self { cluster, inner })
    }

    /// The refusal, with names if the certificate is one of another cluster. The names are what the peer claims; they
    /// are only shown.
    fn named(&self, refusal: Error, leaf: &CertificateDer<'_>) -> Error {
        match identity_of(std::slice::from_ref(leaf)) {
            Ok(peer) if peer.cluster != self.cluster => Error::General(format!(
                "node {} of cluster {} and cluster {} {STRANGERS}: {refusal}",
                peer.name, peer.cluster, self.cluster
            )),
            Ok(_) | Err(_) => refusal,
        }
    }
}

impl<V: ServerCertVerifier + ?Sized> ServerCertVerifier for Naming<V> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner
            .verify_server_cert(leaf, intermediates, name, ocsp, now)
            .map_err(|refusal| self.named(refusal, leaf))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl<V: ClientCertVerifier + ?Sized> ClientCertVerifier for Naming<V> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner.verify_client_cert(leaf, intermediates, now).map_err(|refusal| self.named(refusal, leaf))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
