//! TLS for probes: which authorities are trusted, the handshake, and what its failures mean.
//!
//! Every probe makes a full handshake. Resuming a session would cost half as much, but it skips
//! the certificate, and a probe that misses a bad certificate is not worth its price.
//!
//! The expiry of the presented certificate is recorded also when the certificate is refused: the
//! verifier in `verify` carries it in its error.

mod verify;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    endpoint::Host,
    fault::{self, Fault},
    trace::Trace,
};
use crate::model::{Phase, Reason};

/// How the target's certificate is checked.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
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
    /// The name asked for (SNI) and expected in the certificate. Default: the host that is probed.
    pub server_name: Option<Name>,
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
    #[error("cannot read the certificates in {path}")]
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
    server_name: Option<ServerName<'static>>,
    /// What [`Spec::ca_file`] held, so that a changed file makes a different client.
    ca: Option<Vec<u8>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Equal specifications with equal files; the specification itself is compared by its owner.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.server_name == other.server_name && self.ca == other.ca
    }
}

impl Client {
    /// Reads the files and builds the configuration; `alpn` names the protocol to agree on.
    pub(super) fn prepare(spec: &Spec, alpn: Option<&[u8]>) -> Result<Self, PrepareError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (roots, ca) = match &spec.ca_file {
            Some(path) => {
                let pem = std::fs::read(path)
                    .map_err(|source| PrepareError::Read { path: path.clone(), source })?;
                (Arc::new(read_roots(path, &pem)?), Some(pem))
            }
            None => (default_roots(), None),
        };
        let verifier = if spec.insecure_skip_verify {
            verify::Verifier::accept_all(Arc::clone(&provider))
        } else {
            let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(PrepareError::Verifier)?;
            verify::Verifier::checking(inner, Arc::clone(&provider))
        };
        let mut config = client_config(provider, verifier)?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        let server_name = spec.server_name.as_ref().map(|name| name.0.clone());
        Ok(Self { config: Arc::new(config), server_name, ca })
    }

    /// The handshake, with the configured server name, else with `host`.
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
        self.handshake(name, stream, trace).await
    }

    /// The handshake with `host` as the server name, whatever is configured.
    pub(super) async fn connect_as(
        &self,
        host: &Host,
        stream: TcpStream,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        self.handshake(server_name(host)?, stream, trace).await
    }

    async fn handshake(
        &self,
        name: ServerName<'static>,
        stream: TcpStream,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        trace.enter(Phase::Tls);
        let connector = TlsConnector::from(Arc::clone(&self.config));
        match connector.connect(name, stream).await {
            Ok(stream) => {
                let (_, connection) = stream.get_ref();
                let leaf = connection.peer_certificates().and_then(<[_]>::first);
                trace.certificate_expiry = leaf.and_then(verify::expiry);
                Ok(stream)
            }
            Err(error) => Err(refused(&error, trace)),
        }
    }
}

/// The fault a TLS error inside an I/O error stands for, if there is one: in TLS 1.3 a server may
/// refuse us (for want of a client certificate) only after the handshake.
pub(super) fn alert(error: &io::Error) -> Option<Fault> {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .map(|error| Fault::new(Reason::TlsOther, error.to_string()))
}

fn refused(error: &io::Error, trace: &mut Trace) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
            match fault::find_cause::<verify::Rejected>(&*other.0) {
                Some(rejected) => {
                    trace.certificate_expiry = rejected.expiry;
                    certificate_fault(&rejected.cause)
                }
                None => Fault::new(Reason::TlsOther, other.to_string()),
            }
        }
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
    provider: Arc<CryptoProvider>,
    verifier: verify::Verifier,
) -> Result<ClientConfig, PrepareError> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(PrepareError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

fn read_roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, PrepareError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| PrepareError::Pem {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
        roots
            .add(certificate)
            .map_err(|source| PrepareError::Authority { path: path.to_owned(), source })?;
    }
    if roots.is_empty() {
        return Err(PrepareError::Empty { path: path.to_owned() });
    }
    Ok(roots)
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
