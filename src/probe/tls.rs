//! TLS for probes: which authorities are trusted, the handshake, and what its failures mean.
//!
//! A handshake resumes the session before where that hides little for a short time (`session`), for
//! half the cost; it does not show the certificate. At least every hour, and after anything that went
//! wrong, it is a full one. A check of the certificate itself never resumes.
//!
//! What the presented certificates say is recorded before they are judged, so it is known also when
//! they are refused, when the handshake fails after them, and when it does not end in time: each
//! handshake has a verifier (`verify`) that writes it down.

mod facts;
mod identity;
mod session;
mod starttls;
mod verify;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, CipherSuite, ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::CryptoProvider,
    pki_types::ServerName,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(super) use self::session::{FULL_EVERY, Session};
pub use self::starttls::Starttls;
use self::{identity::Identity, verify::Verifier};
use super::{endpoint::Host, fault::Fault, trace::Trace};
use crate::model::{Phase, Reason};

/// How the target's certificate is checked.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Tls")]
pub struct Spec {
    /// PEM file with the certificates of the authorities to trust, instead of the system's; read
    /// at start and at reload. Default: the system's authorities, or Mozilla's where the system
    /// has none.
    #[schemars(with = "Option<String>")]
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate, whoever signed it and whatever its name and dates. The expiry is
    /// still measured. Default: false.
    pub insecure_skip_verify: bool,
    /// PEM file with the certificate, and those that lead from it to its authority, that we show to
    /// a target that asks; read at start and at reload. Needs `key_file`; not shown to another
    /// origin after a redirect. Default: none.
    #[schemars(with = "Option<String>")]
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of `cert_file`. Default: none.
    #[schemars(with = "Option<String>")]
    pub key_file: Option<PathBuf>,
    /// The name asked for (SNI) and expected in the certificate. Default: the host that is probed.
    pub server_name: Option<Name>,
    /// Resume the TLS session of the probe before, at half the cost: the target does not show its
    /// certificate then. The handshake is a full one, with the certificate checked, at least every
    /// hour, after any failure, for another address of the target, and when a certificate of the chain
    /// expires within the hour; `false` makes every one full. A `certificate` check never resumes.
    /// Default: true.
    pub resume: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            ca_file: None,
            insecure_skip_verify: false,
            cert_file: None,
            key_file: None,
            server_name: None,
            resume: true,
        }
    }
}

/// A name or address that a certificate can be issued for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Name(ServerName<'static>);

/// A text that is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a server name must be a DNS name or an IP address, without port or brackets")]
pub struct NameError;

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        ServerName::try_from(text).map(|name| Self(name.to_owned())).map_err(|_| NameError)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

/// A certificate or key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The file cannot be read.
    #[error("cannot read the PEM file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file has no PEM certificate.
    #[error(
        "{path} holds no certificate; it must be PEM, with lines `-----BEGIN CERTIFICATE-----`"
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file's PEM is broken.
    #[error("the PEM in {path} is broken: {problem}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate cannot be used as an authority.
    #[error("a certificate in {path} cannot be used as an authority")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// One of certificate and key without the other.
    #[error("`cert_file` and `key_file` need each other; set both or none")]
    Pair,
    /// The file has no private key.
    #[error("{path} holds no private key; it must be PEM, not encrypted")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// A certificate and a key that cannot be used together.
    #[error("the certificate in {path} cannot be used with the key in `key_file`")]
    Identity {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// No authority is known at all.
    #[error("cannot build the certificate verifier")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// The TLS library refuses its own defaults.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// TLS made ready once.
pub(super) struct Client {
    config: Arc<ClientConfig>,
    /// The same without our certificate, for whom it is not meant.
    anonymous: Arc<ClientConfig>,
    verifier: Verifier,
    server_name: Option<ServerName<'static>>,
    /// What [`Spec::ca_file`] held, so that a changed file makes a different client.
    ca: Option<Vec<u8>>,
    identity: Option<Identity>,
    resumes: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Equal specifications with equal files; the specification itself is compared by its owner.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.server_name == other.server_name
            && self.ca == other.ca
            && self.identity == other.identity
    }
}

impl Client {
    /// Reads the files and builds the configuration; `alpn` names the protocol to agree on.
    pub(super) fn prepare(spec: &Spec, alpn: Option<&[u8]>) -> Result<Self, PrepareError> {
        let provider = default_provider();
        let (roots, ca) = match &spec.ca_file {
            Some(path) => {
                let pem = read_file(path)?;
                (Arc::new(read_roots(path, &pem)?), Some(pem))
            }
            None => (default_roots(), None),
        };
        let verifier = if spec.insecure_skip_verify {
            Verifier::accept_all(Arc::clone(&provider))
        } else {
            let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(PrepareError::Verifier)?;
            Verifier::checking(inner, Arc::clone(&provider))
        };
        let build = |identity: Option<&Identity>| {
            let mut config = client_config(&provider, &verifier, identity)?;
            config.resumption = Resumption::disabled();
            config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
            Ok(Arc::new(config))
        };
        let identity = Identity::read(spec)?;
        let anonymous = build(None)?;
        let config = match &identity {
            Some(identity) => build(Some(identity))?,
            None => Arc::clone(&anonymous),
        };
        let server_name = spec.server_name.as_ref().map(|name| name.0.clone());
        let resumes = spec.resume;
        Ok(Self { config, anonymous, verifier, server_name, ca, identity, resumes })
    }

    /// The same, but it offers these protocols to agree on (ALPN), the dearest first.
    pub(super) fn offering(mut self, protocols: &[&[u8]]) -> Self {
        for config in [&mut self.config, &mut self.anonymous] {
            let protocols = protocols.iter().map(|protocol| protocol.to_vec());
            Arc::make_mut(config).alpn_protocols = protocols.collect();
        }
        self
    }

    /// Whether sessions may be resumed.
    pub(super) fn resumes(&self) -> bool {
        self.resumes
    }

    /// The handshake, with the configured server name, else with `host`, and with our certificate
    /// for a target that asks.
    pub(super) async fn connect(
        &self,
        host: &Host,
        stream: TcpStream,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        let session = trace.session.clone().filter(|_| self.resumes);
        let Some(session) = session else {
            return self.handshake(&self.config, name, stream, trace).await;
        };
        trace.enter(Phase::Tls);
        let presented = trace.expect_certificate();
        let mut config = (*self.config).clone();
        let verifier = session.begin(&self.verifier, trace.peer, Arc::clone(&presented));
        config.dangerous().set_certificate_verifier(verifier);
        config.resumption = Resumption::store(Arc::<Session>::clone(&session));
        let stream = shake_hands(config, name, stream).await?;
        let kind = stream.get_ref().1.handshake_kind();
        let known = session.succeeded(kind, trace.peer, presented.get().cloned());
        if let Some(certificate) = known {
            presented.get_or_init(|| certificate);
        }
        Ok(stream)
    }

    /// The handshake with `host` as the server name, whatever is configured, and without our
    /// certificate.
    pub(super) async fn connect_as(
        &self,
        host: &Host,
        stream: TcpStream,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        self.handshake(&self.anonymous, server_name(host)?, stream, trace).await
    }

    /// A full handshake.
    async fn handshake(
        &self,
        config: &ClientConfig,
        name: ServerName<'static>,
        stream: TcpStream,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        trace.enter(Phase::Tls);
        // A copy costs less than a thousandth of what follows.
        let mut config = config.clone();
        let verifier = self.verifier.recording(trace.expect_certificate());
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        shake_hands(config, name, stream).await
    }
}

async fn shake_hands(
    config: ClientConfig,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Fault> {
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| refused(&error))
}

/// The fault a TLS error inside an I/O error stands for, if there is one: in TLS 1.3 a server may
/// refuse us (for want of a client certificate) only after the handshake.
pub(super) fn alert(error: &io::Error) -> Option<Fault> {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .map(|error| Fault::new(Reason::TlsOther, error.to_string()))
}

/// For those who speak HTTP/2 and nothing else.
pub(super) fn agrees_on_h2(stream: &TlsStream<TcpStream>) -> Result<(), Fault> {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return Ok(());
    }
    Err(Fault::new(Reason::TlsOther, "the target's TLS does not offer HTTP/2 (ALPN h2)"))
}

fn refused(error: &io::Error) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(error) => certificate_fault(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Fault::new(
            Reason::ConnectionReset,
            "the target closed the connection during the TLS handshake",
        ),
        None => Fault::exchange(error),
    }
}

fn certificate_fault(error: &rustls::Error) -> Fault {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return Fault::new(Reason::TlsOther, error.to_string());
    };
    let reason = certificate_reason(certificate);
    let advice = if is_ca_as_leaf(certificate) {
        "the certificate is marked as an authority (CA:TRUE) and cannot be used by a server; issue \
         one without that mark, or set tls.insecure_skip_verify"
            .to_owned()
    } else if *certificate == CertificateError::UnknownIssuer {
        "its issuer is unknown; name the authority in tls.ca_file".to_owned()
    } else {
        certificate.to_string()
    };
    Fault::new(reason, format!("certificate refused: {advice}"))
}

fn certificate_reason(error: &CertificateError) -> Reason {
    if matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    ) {
        Reason::TlsExpired
    } else if matches!(
        error,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ) {
        Reason::TlsName
    } else if matches!(
        error,
        CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::Revoked
            | CertificateError::InvalidPurpose
            | CertificateError::InvalidPurposeContext { .. }
    ) || is_ca_as_leaf(error)
    {
        Reason::TlsUntrusted
    } else {
        Reason::TlsOther
    }
}

fn is_ca_as_leaf(error: &CertificateError) -> bool {
    // The error's type belongs to a crate of rustls's own; its text is all there is to compare.
    let CertificateError::Other(other) = error else { return false };
    other.to_string().contains("CaUsedAsEndEntity")
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Fault> {
    match host {
        Host::Ip(ip) => Ok(ServerName::from(*ip)),
        Host::Name(name) => {
            let plain = name.strip_suffix('.').unwrap_or(name);
            ServerName::try_from(plain.to_owned()).map_err(|_| {
                Fault::new(Reason::TlsName, format!("no certificate can be issued for `{name}`"))
            })
        }
    }
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: &Verifier,
    identity: Option<&Identity>,
) -> Result<ClientConfig, PrepareError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(PrepareError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier.clone()));
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(identity.certificates(), identity.key())
            .map_err(|error| identity.refused(error)),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, PrepareError> {
    std::fs::read(path).map_err(|source| PrepareError::Read { path: path.to_owned(), source })
}

fn read_roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, PrepareError> {
    let mut roots = RootCertStore::empty();
    for certificate in identity::certificates(path, pem)? {
        roots
            .add(certificate)
            .map_err(|source| PrepareError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// The cryptography of all clients, made once.
fn default_provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !is_quick(suite.suite()));
        Arc::new(provider)
    }))
}

/// Whether the keys of a session are derived with SHA-256, which processors do in hardware, rather
/// than SHA-384: a probe derives keys more than it does anything else. Preferred, where the target
/// leaves the choice to us.
const fn is_quick(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

/// The system's authorities, or Mozilla's where the system has none; read once.
fn default_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    });
    Arc::clone(roots)
}
