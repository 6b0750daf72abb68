//! Checks a certificate, and writes down what it says before it judges it.

use std::sync::{Arc, OnceLock};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::facts;
use crate::model::Certificate;

/// Checks certificates, or accepts any; the signature of the handshake is checked either way.
#[derive(Debug, Clone)]
pub(super) struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    /// Where what is presented is put down, in the verifier of one handshake.
    presented: Option<Arc<OnceLock<Arc<Certificate>>>>,
}

impl Verifier {
    pub(super) fn checking(
        inner: Arc<WebPkiServerVerifier>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { inner: Some(inner), provider, presented: None }
    }

    pub(super) fn accept_all(provider: Arc<CryptoProvider>) -> Self {
        Self { inner: None, provider, presented: None }
    }

    /// The same for one handshake, whose certificate it puts down there.
    pub(super) fn recording(&self, presented: Arc<OnceLock<Arc<Certificate>>>) -> Self {
        Self { presented: Some(presented), ..self.clone() }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(presented) = &self.presented
            && let Some(facts) = facts::of(end_entity, intermediates, server_name)
        {
            presented.get_or_init(|| Arc::new(facts));
        }
        match &self.inner {
            None => Ok(ServerCertVerified::assertion()),
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
