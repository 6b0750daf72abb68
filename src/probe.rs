//! How to ask: one probe of one target, from name resolution to verdict.
//!
//! A probe cannot fail: whatever goes wrong is an [`Observation`] with a reason, within the
//! timeout, in bounded memory. A probe type is one file below this one with a `Spec` (what the
//! configuration says), a `Probe` (the same, made ready once and shared by all instances) and a
//! `probe` function. To add a type: write the file, then add a variant to [`Spec`] and [`Probe`];
//! the compiler lists the rest.

use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use crate::model::{Observation, Protocol};

/// Runs probes. The seam that tests replace.
pub trait Prober: Clone + Send + Sync + 'static {
    /// Runs one probe to its end, at the latest after `timeout`. Never fails: a failure is an
    /// [`Observation`].
    fn probe(&self, target: &Target, timeout: Duration)
    -> impl Future<Output = Observation> + Send;
}

/// The prober that uses the network.
#[derive(Debug, Clone, Default)]
pub struct Network {}

/// Where an instance listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// A host as it was registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address literal.
    Ip(IpAddr),
    /// A name, to be resolved at every probe.
    Name(Arc<str>),
}

/// One probe type made ready to ask one endpoint.
#[derive(Debug)]
pub struct Target {
    probe: Arc<Probe>,
    endpoint: Endpoint,
}

/// What to ask, as the configuration says it.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// HTTP.
    Http(http::Spec),
    /// TCP.
    Tcp(tcp::Spec),
    /// gRPC.
    Grpc(grpc::Spec),
}

/// What to ask, made ready once.
#[derive(Debug, PartialEq)]
pub struct Probe(Spec);

/// Cannot be made ready.
#[derive(Debug, thiserror::Error)]
#[error("no")]
pub struct PrepareError;

/// A host that cannot be probed.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a host")]
pub struct HostError(String);

impl std::str::FromStr for Host {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.is_empty() || text.contains(' ') {
            return Err(HostError(text.into()));
        }
        Ok(text.parse().map_or_else(|_| Self::Name(text.into()), Self::Ip))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Probe {
    /// Makes ready.
    pub fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        Ok(Self(spec.clone()))
    }

    /// How this probe asks.
    pub fn protocol(&self) -> Protocol {
        match self.0 {
            Spec::Http(_) => Protocol::Http,
            Spec::Tcp(_) => Protocol::Tcp,
            Spec::Grpc(_) => Protocol::Grpc,
        }
    }
}

/// HTTP.
pub mod http {
    /// An HTTP check.
    #[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    #[schemars(title = "Http")]
    pub struct Spec {
        /// The path. Default: `/`.
        pub path: String,
        /// Speak TLS. Default: false.
        pub https: bool,
        /// How many redirects to follow. Default: 0.
        pub follow_redirects: u8,
        /// How to check the target's certificate. Default: by the system's authorities.
        pub tls: Option<super::tls::Spec>,
    }
}

/// TCP.
pub mod tcp {
    /// A TCP check.
    #[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    #[schemars(title = "Tcp")]
    pub struct Spec {
        /// How to check the target's certificate. Default: none.
        pub tls: Option<super::tls::Spec>,
    }
}

/// gRPC.
pub mod grpc {
    /// A gRPC check.
    #[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    #[schemars(title = "Grpc")]
    pub struct Spec {
        /// The service. Default: empty.
        pub service: String,
        /// How to check the target's certificate. Default: none.
        pub tls: Option<super::tls::Spec>,
    }
}

/// TLS.
pub mod tls {
    /// How the target's certificate is checked.
    #[derive(Debug, Clone, PartialEq, Default, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    #[schemars(title = "Tls")]
    pub struct Spec {
        /// Accept any certificate. Default: false.
        pub insecure_skip_verify: bool,
        /// The name asked for. Default: the host that is probed.
        pub server_name: Option<String>,
    }
}

/// Reads a URL.
pub fn parse_url(text: &str) -> Result<(Spec, Endpoint), HostError> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| HostError(text.into()))?;
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.rsplit_once(':').ok_or_else(|| HostError(text.into()))?;
    let spec = match scheme {
        "http" => Spec::Http(http::Spec::default()),
        "grpc" => Spec::Grpc(grpc::Spec::default()),
        _ => Spec::Tcp(tcp::Spec::default()),
    };
    Ok((
        spec,
        Endpoint { host: host.parse()?, port: port.parse().map_err(|_| HostError(text.into()))? },
    ))
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Target {
    /// Aims a probe at an endpoint.
    pub fn new(probe: Arc<Probe>, endpoint: Endpoint) -> Self {
        Self { probe, endpoint }
    }

    /// Where it is aimed.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What is aimed.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }
}
