//! Checks a certificate, and writes down what it says before it judges it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

/// Where what is presented in one handshake is put down.
pub(super) type Presented = Arc<OnceLock<Arc<Certificate>>>;

/// Checks certificates, or accepts any; the signature of the handshake is checked either way.
#[derive(Debug, Clone)]
pub(super) struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    /// For the handshake under way.
    presented: Arc<Mutex<Presented>>,
}

impl Verifier {
    pub(super) fn checking(
        inner: Arc<WebPkiServerVerifier>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { inner: Some(inner), provider, presented: Arc::default() }
    }

    pub(super) fn accept_all(provider: Arc<CryptoProvider>) -> Self {
        Self { inner: None, provider, presented: Arc::default() }
    }

    /// The same for the handshakes of one target, of which the first is to be put down there.
    pub(super) fn recording(&self, presented: Presented) -> Self {
        Self { presented: Arc::new(Mutex::new(presented)), ..self.clone() }
    }

    /// Puts down the next handshake's certificate there.
    pub(super) fn record(&self, presented: Presented) {
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = presented;
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
        if let Some(facts) = facts::of(end_entity, intermediates, server_name) {
            let presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
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
