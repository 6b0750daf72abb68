//! How to ask: one probe of one target, from name resolution to verdict.
//!
//! A probe cannot fail: whatever goes wrong is an [`Observation`] with a reason, within the
//! timeout, in bounded memory. A probe type is one file below this one with a `Spec` (what the
//! configuration says), a `Probe` (the same, made ready once and shared by all instances) and a
//! `probe` function. To add a type: write the file, then add its variants to [`Protocol`], [`Spec`]
//! and `Kind`, and its key to a check's in `config`; the compiler lists the rest.
//!
//! One deadline covers a whole probe, from before the name is resolved. What a probe has found out
//! is kept in a `trace::Trace` outside the future that the deadline may cut off.

pub mod certificate;
pub mod dial;
pub mod dns;
mod each;
pub mod egress;
mod endpoint;
pub mod etcd;
pub mod exec;
mod fault;
mod form;
pub mod grpc;
pub mod h2ping;
mod hold;
pub mod http;
mod http2;
pub mod icmp;
mod line;
mod memory;
mod network;
mod nonce;
mod pattern;
mod plain;
mod prepare;
mod protocol;
mod pushed;
mod resolve;
mod short;
pub mod tcp;
pub mod tls;
mod trace;
pub mod udp;
mod url;
mod words;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{future::Future, io, sync::Arc, time::Duration};

pub(crate) use self::resolve::ephemeral_ports;
use self::{egress::Origin, fault::Fault, memory::Memory, trace::Trace};
pub use self::{
    endpoint::{Endpoint, Host, HostError},
    form::Form,
    hold::Held,
    network::Network,
    pattern::{Pattern, PatternError},
    plain::{Plain, Ticket},
    prepare::PrepareError,
    protocol::Protocol,
    pushed::{Alias, Pushed},
    resolve::Close,
    short::parse_url,
    url::{HttpUrl, UrlError},
};
use crate::model::Observation;

/// Runs probes. The seam that tests replace.
pub trait Prober: Clone + Send + Sync + 'static {
    /// Runs one probe to its end, at the latest after `timeout`. Never fails: a failure is an
    /// [`Observation`].
    fn probe(&self, target: &Target, timeout: Duration)
    -> impl Future<Output = Observation> + Send;

    /// Holds an idle connection to a target, made within `within`, until the target ends it or
    /// `life` is over.
    fn hold(
        &self,
        target: &Target,
        within: Duration,
        life: Duration,
    ) -> impl Future<Output = Held> + Send;

    /// Where a thread has its plain probes made, which need no task each; nothing if all probes are
    /// to be made by [`Prober::probe`]. To be called on that thread, within its runtime.
    fn plain<T: Ticket>(&self) -> Option<io::Result<Plain<T>>> {
        None
    }
}

/// One probe type made ready to ask one endpoint.
#[derive(Debug)]
pub struct Target {
    probe: Arc<Probe>,
    endpoint: Endpoint,
    /// Boxed, since most checks keep nothing.
    memory: Option<Box<Memory>>,
}

/// What to ask, as the configuration says it.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are few, and only while a file is read")]
pub enum Spec {
    /// An HTTP request.
    Http(http::Spec),
    /// A TCP connection.
    Tcp(tcp::Spec),
    /// A call of `grpc.health.v1`.
    Grpc(grpc::Spec),
    /// A datagram.
    Udp(udp::Spec),
    /// An HTTP/2 ping.
    H2ping(h2ping::Spec),
    /// A TLS handshake for the certificate's sake.
    Certificate(certificate::Spec),
    /// A DNS question.
    Dns(dns::Spec),
    /// All members of an etcd cluster.
    Etcd(etcd::Spec),
    /// An echo request.
    Icmp(icmp::Spec),
    /// A program.
    Exec(exec::Spec),
    /// Nothing: the instance reports at least this often.
    Ttl(Duration),
    /// Nothing: the check follows others.
    Alias(Alias),
}

/// What to ask, made ready once: files read, TLS set up, request bytes rendered. Shared by all
/// instances of a check. Two are equal if they ask the same with the same files.
#[derive(Debug, PartialEq)]
pub struct Probe(Kind, Manner);

/// What is said of a check beside what it asks.
#[derive(Debug, Clone, PartialEq, Default)]
struct Manner {
    dial: Option<Arc<dial::Spec>>,
    origin: Origin,
}

#[derive(Debug, PartialEq)]
enum Kind {
    Http(http::Probe),
    Tcp(tcp::Probe),
    Grpc(grpc::Probe),
    Udp(udp::Probe),
    H2ping(h2ping::Probe),
    Certificate(certificate::Probe),
    Dns(dns::Probe),
    Etcd(etcd::Probe),
    Icmp(icmp::Probe),
    Exec(exec::Probe),
    Ttl(Duration),
    Alias(Alias),
}

impl Target {
    /// Says that `probe` is to ask `endpoint`.
    pub fn new(probe: Arc<Probe>, endpoint: Endpoint) -> Self {
        let memory = Memory::of(&probe).map(Box::new);
        Self { probe, endpoint, memory }
    }

    /// Who is asked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where the probe goes: to the endpoint, unless a URL of its own leads elsewhere; nowhere if it
    /// does not use the network.
    pub fn destination(&self) -> Option<&Endpoint> {
        self.probe.destination(&self.endpoint)
    }

    /// How it is asked.
    pub fn protocol(&self) -> Protocol {
        self.probe.protocol()
    }

    /// What is asked.
    pub fn probe(&self) -> &Arc<Probe> {
        &self.probe
    }

    async fn ask(&self, network: &Network, trace: &mut Trace) -> Result<(), Fault> {
        match each::name_of(self) {
            // Boxed: rare, and far larger than the rest.
            Some(name) => Box::pin(each::ask(self, name, network, trace)).await,
            None => self.ask_one(self.memory.as_deref(), network, trace).await,
        }
    }

    /// Asks one address; of a name, the first that takes the connection.
    async fn ask_one(
        &self,
        memory: Option<&Memory>,
        network: &Network,
        trace: &mut Trace,
    ) -> Result<(), Fault> {
        match &self.probe.0 {
            Kind::Http(probe) => {
                let kept = memory.and_then(Memory::http).map(|kept| (kept, &network.places));
                http::probe(probe, &self.endpoint, kept, trace).await
            }
            Kind::Tcp(probe) => {
                let result = tcp::probe(probe, &self.endpoint, trace).await;
                result.map_err(|fault| probe.describe(fault, trace))
            }
            // Boxed: far larger than the others, which would all have its size.
            Kind::Grpc(probe) => {
                let kept = memory.and_then(Memory::grpc).map(|kept| (kept, &network.places));
                Box::pin(grpc::probe(probe, &self.endpoint, kept, trace)).await
            }
            Kind::Udp(probe) => udp::probe(probe, &self.endpoint, trace).await,
            Kind::H2ping(probe) => Box::pin(h2ping::probe(probe, &self.endpoint, trace)).await,
            Kind::Certificate(probe) => {
                Box::pin(certificate::probe(probe, &self.endpoint, trace)).await
            }
            Kind::Dns(probe) => Box::pin(dns::probe(probe, &self.endpoint, trace)).await,
            Kind::Etcd(probe) => Box::pin(etcd::probe(probe, &self.endpoint, trace)).await,
            Kind::Icmp(probe) => Box::pin(icmp::probe(probe, &self.endpoint, trace)).await,
            Kind::Exec(probe) => Box::pin(exec::probe(probe, &network.programs, trace)).await,
            Kind::Ttl(_) | Kind::Alias(_) => {
                Err(Fault::ours("results of this check are pushed, not asked for"))
            }
        }
    }

    fn expired(&self, trace: &Trace) -> Fault {
        match &self.probe.0 {
            Kind::Tcp(probe) => probe.describe(trace.expired(), trace),
            Kind::Exec(_) => exec::expired(trace),
            Kind::Http(_)
            | Kind::Grpc(_)
            | Kind::Udp(_)
            | Kind::H2ping(_)
            | Kind::Certificate(_)
            | Kind::Etcd(_)
            | Kind::Icmp(_)
            | Kind::Dns(_)
            | Kind::Ttl(_)
            | Kind::Alias(_) => trace.expired(),
        }
    }
}

impl Spec {
    /// How this asks.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Http(_) => Protocol::Http,
            Self::Tcp(_) => Protocol::Tcp,
            Self::Grpc(_) => Protocol::Grpc,
            Self::Udp(_) => Protocol::Udp,
            Self::H2ping(_) => Protocol::H2ping,
            Self::Certificate(_) => Protocol::Certificate,
            Self::Dns(_) => Protocol::Dns,
            Self::Etcd(_) => Protocol::Etcd,
            Self::Icmp(_) => Protocol::Icmp,
            Self::Exec(_) => Protocol::Exec,
            Self::Ttl(_) => Protocol::Ttl,
            Self::Alias(_) => Protocol::Alias,
        }
    }

    /// Whether it makes a TLS handshake.
    pub fn uses_tls(&self) -> bool {
        self.clone().tls_mut().is_some()
    }

    /// Whether what it asks about changes over days and is known long before it matters, so that
    /// asking seldom is no fault.
    pub fn changes_slowly(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }

    /// Has it speak in these words, if it has any of its own.
    pub fn speak_as(&mut self, form: Form) {
        match self {
            Self::Http(spec) => spec.form = form,
            Self::Grpc(spec) => spec.form = form,
            Self::Tcp(_)
            | Self::Udp(_)
            | Self::H2ping(_)
            | Self::Certificate(_)
            | Self::Dns(_)
            | Self::Etcd(_)
            | Self::Icmp(_)
            | Self::Exec(_)
            | Self::Ttl(_)
            | Self::Alias(_) => {}
        }
    }

    /// How certificates are checked, to be changed; nothing if it makes no TLS handshake.
    pub fn tls_mut(&mut self) -> Option<&mut tls::Spec> {
        match self {
            Self::Http(spec) => spec.tls_mut(),
            Self::Tcp(spec) => spec.tls_mut(),
            Self::Grpc(spec) => spec.tls.as_mut(),
            Self::Dns(_)
            | Self::Icmp(_)
            | Self::Udp(_)
            | Self::Exec(_)
            | Self::Ttl(_)
            | Self::Alias(_) => None,
            Self::H2ping(spec) => spec.tls_mut(),
            Self::Certificate(spec) => Some(spec.tls_mut()),
            Self::Etcd(spec) => spec.tls.as_mut(),
        }
    }
}

impl Probe {
    /// Makes a check ready. Reads the files it names, so it may block.
    pub fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        let kind = match spec {
            Spec::Http(spec) => Kind::Http(http::Probe::prepare(spec)?),
            Spec::Tcp(spec) => Kind::Tcp(tcp::Probe::prepare(spec)?),
            Spec::Grpc(spec) => Kind::Grpc(grpc::Probe::prepare(spec)?),
            Spec::Udp(spec) => Kind::Udp(udp::Probe::prepare(spec)?),
            Spec::H2ping(spec) => Kind::H2ping(h2ping::Probe::prepare(spec)?),
            Spec::Certificate(spec) => Kind::Certificate(certificate::Probe::prepare(spec)?),
            Spec::Dns(spec) => Kind::Dns(dns::Probe::prepare(spec)?),
            Spec::Etcd(spec) => Kind::Etcd(etcd::Probe::prepare(spec)?),
            Spec::Icmp(spec) => Kind::Icmp(icmp::Probe::prepare(spec)?),
            Spec::Exec(spec) => Kind::Exec(exec::Probe::prepare(spec)?),
            Spec::Ttl(ttl) => Kind::Ttl(*ttl),
            Spec::Alias(alias) => Kind::Alias(alias.clone()),
        };
        Ok(Self(kind, Manner::default()))
    }

    /// Has the target's address found and reached in this way; of no use to what does not use the
    /// network.
    #[must_use]
    pub fn dialing(mut self, dial: &dial::Spec) -> Self {
        let is_heeded = self.protocol().uses_network() && *dial != dial::Spec::default();
        self.1.dial = is_heeded.then(|| Arc::new(dial.clone()));
        self
    }

    /// Says who wants this asked, for where it may go depends on it.
    #[must_use]
    pub fn wanted_by(mut self, origin: Origin) -> Self {
        self.1.origin = origin;
        self
    }

    /// Where it goes when it is aimed at an endpoint: there, unless a URL of its own leads elsewhere;
    /// nowhere if it does not use the network.
    pub fn destination<'a>(&'a self, endpoint: &'a Endpoint) -> Option<&'a Endpoint> {
        self.protocol().uses_network().then(|| self.url_endpoint().unwrap_or(endpoint))
    }

    /// Where a URL of its own leads, if it has one.
    pub fn url_endpoint(&self) -> Option<&Endpoint> {
        self.http()?.url_endpoint()
    }

    /// What it asks by HTTP, if it does.
    fn http(&self) -> Option<&http::Spec> {
        match &self.0 {
            Kind::Http(probe) => Some(probe.spec()),
            Kind::Tcp(_)
            | Kind::Grpc(_)
            | Kind::Udp(_)
            | Kind::H2ping(_)
            | Kind::Certificate(_)
            | Kind::Etcd(_)
            | Kind::Icmp(_)
            | Kind::Dns(_)
            | Kind::Exec(_)
            | Kind::Ttl(_)
            | Kind::Alias(_) => None,
        }
    }

    /// Where results come from if nobody asks for them.
    pub fn pushed(&self) -> Option<Pushed<'_>> {
        match &self.0 {
            Kind::Http(_)
            | Kind::Tcp(_)
            | Kind::Grpc(_)
            | Kind::Udp(_)
            | Kind::H2ping(_)
            | Kind::Certificate(_)
            | Kind::Etcd(_)
            | Kind::Icmp(_)
            | Kind::Dns(_)
            | Kind::Exec(_) => None,
            Kind::Ttl(ttl) => Some(Pushed::Ttl(*ttl)),
            Kind::Alias(alias) => Some(Pushed::Alias(alias)),
        }
    }

    /// What it was made from.
    pub fn spec(&self) -> Spec {
        match &self.0 {
            Kind::Http(probe) => Spec::Http(probe.spec().clone()),
            Kind::Tcp(probe) => Spec::Tcp(probe.spec().clone()),
            Kind::Grpc(probe) => Spec::Grpc(probe.spec().clone()),
            Kind::Udp(probe) => Spec::Udp(probe.spec().clone()),
            Kind::H2ping(probe) => Spec::H2ping(probe.spec().clone()),
            Kind::Certificate(probe) => Spec::Certificate(probe.spec().clone()),
            Kind::Dns(probe) => Spec::Dns(probe.spec().clone()),
            Kind::Etcd(probe) => Spec::Etcd(probe.spec().clone()),
            Kind::Icmp(probe) => Spec::Icmp(probe.spec().clone()),
            Kind::Exec(probe) => Spec::Exec(probe.spec().clone()),
            Kind::Ttl(ttl) => Spec::Ttl(*ttl),
            Kind::Alias(alias) => Spec::Alias(alias.clone()),
        }
    }

    /// Why whoever asks this cannot make it on this host, if that can be told beforehand.
    pub fn obstacle(&self) -> Option<String> {
        matches!(self.0, Kind::Icmp(_)).then(icmp::obstacle)?
    }

    /// How this probe asks.
    pub fn protocol(&self) -> Protocol {
        match self.0 {
            Kind::Http(_) => Protocol::Http,
            Kind::Tcp(_) => Protocol::Tcp,
            Kind::Grpc(_) => Protocol::Grpc,
            Kind::Udp(_) => Protocol::Udp,
            Kind::H2ping(_) => Protocol::H2ping,
            Kind::Certificate(_) => Protocol::Certificate,
            Kind::Dns(_) => Protocol::Dns,
            Kind::Etcd(_) => Protocol::Etcd,
            Kind::Icmp(_) => Protocol::Icmp,
            Kind::Exec(_) => Protocol::Exec,
            Kind::Ttl(_) => Protocol::Ttl,
            Kind::Alias(_) => Protocol::Alias,
        }
    }
}
