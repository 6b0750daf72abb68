//! What is kept of a target between two probes: a connection, a TLS session. Most targets keep nothing.

use std::sync::Arc;

use super::{Close, Kind, Probe, Target, grpc, http, tls};

/// What is kept of a target from one probe to the next.
#[derive(Debug)]
pub(super) enum Memory {
    Grpc(grpc::Kept, Option<Arc<tls::Session>>),
    Http(http::Kept, Option<Arc<tls::Session>>),
    Tls(Arc<tls::Session>),
}

impl Memory {
    /// Nothing yet, of one that is to be asked so.
    pub(super) fn of(probe: &Probe) -> Option<Self> {
        let session = probe.resumes().then(Arc::default);
        if let Kind::Grpc(probe) = &probe.0
            && (probe.spec().watch || probe.spec().keep_alive)
        {
            return Some(Self::Grpc(grpc::Kept::of(probe.spec().watch), session));
        }
        if let Kind::Http(probe) = &probe.0
            && probe.spec().keep_alive
        {
            return Some(Self::Http(http::Kept::default(), session));
        }
        session.map(Self::Tls)
    }

    pub(super) fn grpc(&self) -> Option<&grpc::Kept> {
        match self {
            Self::Grpc(kept, _) => Some(kept),
            Self::Http(..) | Self::Tls(_) => None,
        }
    }

    pub(super) fn http(&self) -> Option<&http::Kept> {
        match self {
            Self::Http(kept, _) => Some(kept),
            Self::Grpc(..) | Self::Tls(_) => None,
        }
    }

    pub(super) fn session(&self) -> Option<&Arc<tls::Session>> {
        match self {
            Self::Grpc(_, session) | Self::Http(_, session) => session.as_ref(),
            Self::Tls(session) => Some(session),
        }
    }
}

impl Target {
    /// Waits until the target says by itself that it has changed, or breaks a connection it should
    /// hold: time to ask it. For ever if it is not listened to (`watch` of gRPC checks). What happens
    /// while nobody waits is told to the next who does, once. May be dropped at any time.
    pub async fn woken(&self) {
        match self.grpc() {
            Some(kept) => kept.woken().await,
            None => std::future::pending().await,
        }
    }

    /// What an HTTP check keeps.
    pub(super) fn kept(&self) -> Option<&http::Kept> {
        self.memory.as_ref().and_then(|memory| memory.http())
    }

    /// What a gRPC check keeps.
    pub(super) fn grpc(&self) -> Option<&grpc::Kept> {
        self.memory.as_ref().and_then(|memory| memory.grpc())
    }
}

impl Probe {
    /// Whether its TLS sessions may be resumed from one probe to the next.
    fn resumes(&self) -> bool {
        let tls = match &self.0 {
            Kind::Http(probe) => probe.tls(),
            Kind::Tcp(probe) => probe.tls(),
            Kind::Grpc(probe) => probe.tls(),
            Kind::H2ping(probe) => probe.tls(),
            // One has the certificate for its purpose, the other asks several targets.
            Kind::Certificate(_)
            | Kind::Etcd(_)
            | Kind::Udp(_)
            | Kind::Icmp(_)
            | Kind::Dns(_)
            | Kind::Exec(_)
            | Kind::Ttl(_)
            | Kind::Alias(_) => None,
        };
        tls.is_some_and(tls::Client::resumes)
    }

    /// The same for a look aside: what comes of it is not compared with other looks.
    pub fn aside(self: &Arc<Self>) -> Arc<Self> {
        match &self.0 {
            Kind::Etcd(probe) => Arc::new(Self(Kind::Etcd(probe.aside()), self.1.clone())),
            Kind::Http(_)
            | Kind::Tcp(_)
            | Kind::Grpc(_)
            | Kind::Udp(_)
            | Kind::H2ping(_)
            | Kind::Certificate(_)
            | Kind::Dns(_)
            | Kind::Icmp(_)
            | Kind::Exec(_)
            | Kind::Ttl(_)
            | Kind::Alias(_) => Arc::clone(self),
        }
    }

    /// Whether its connections are kept from one probe to the next.
    pub fn keeps_connections(&self) -> bool {
        matches!(&self.0, Kind::Http(probe) if probe.spec().keep_alive)
            || matches!(&self.0, Kind::Grpc(probe) if probe.spec().keep_alive)
    }

    /// Whether each probe may leave a port of ours in `TIME_WAIT`.
    pub fn leaves_ports(&self) -> bool {
        matches!(&self.0, Kind::H2ping(_) | Kind::Certificate(_))
            || matches!(&self.0, Kind::Http(probe) if probe.spec().close == Close::Fin)
            || matches!(&self.0, Kind::Tcp(probe) if probe.close() == Close::Fin)
    }
}
