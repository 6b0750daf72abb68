//! Certificates and TLS servers for the tests of all probe types.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::probe::testing::{Server, hold, read_request, say_and_close};

/// An authority, and a file with its certificate.
pub(in crate::probe) struct Authority {
    pub(in crate::probe) issuer: CertifiedIssuer<'static, KeyPair>,
    pub(in crate::probe) file: tempfile::NamedTempFile,
}

impl Authority {
    pub(in crate::probe) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// What `tls:` says to trust this authority, with more fields.
    pub(in crate::probe) fn trust(&self, more: &Value) -> Value {
        let mut tls = json!({ "ca_file": self.file.path() });
        tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        tls
    }

    /// A target with a certificate of this authority.
    pub(in crate::probe) async fn serve(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Server {
        self.serve_saying("HTTP/1.1 200 OK\r\n\r\nwell", change).await
    }

    /// A target with a certificate of this authority that answers every request so.
    pub(in crate::probe) async fn serve_saying(
        &self,
        answer: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Server {
        let (certificate, key) = self.issue(change);
        let config = server_config().with_no_client_auth();
        serve(answer, config.with_single_cert(vec![certificate], key).unwrap()).await
    }

    /// A target with a certificate of this authority that asks for one of `clients`.
    pub(in crate::probe) async fn serve_asking(&self, answer: &str, clients: &Self) -> Server {
        let mut roots = RootCertStore::empty();
        roots.add(clients.issuer.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let (certificate, key) = self.issue(|_| ());
        let mut config = server_config()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        serve(answer, config).await
    }

    /// Files with a certificate of this authority and its key.
    pub(in crate::probe) fn identity(&self) -> (tempfile::TempDir, Value) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["rollcall".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&cert_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        (folder, json!({ "cert_file": cert_file, "key_file": key_file }))
    }

    pub(in crate::probe) fn issue(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let names = vec!["127.0.0.1".to_owned(), "shop.example".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(2040, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

pub(in crate::probe) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(in crate::probe) fn server_config() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>
{
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap()
}

/// A target that answers every request so, over TLS.
pub(in crate::probe) async fn serve(answer: &str, config: ServerConfig) -> Server {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answer: Arc<str> = answer.into();
    Server::start(move |stream| {
        let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
        async move {
            match acceptor.accept(stream).into_fallible().await {
                Ok(mut stream) => {
                    read_request(&mut stream).await;
                    say_and_close(&mut stream, answer.as_bytes()).await;
                }
                // Closed at once, a reset could overtake the alert.
                Err((_, mut stream)) => hold(&mut stream).await,
            }
        }
    })
    .await
}
