//! How checks ask, by name.

use std::fmt;

use crate::model::{Phase, closed_set};

closed_set! {
    /// How a check asks.
    Protocol {
        /// HTTP/1.1, over TLS or not.
        Http = "http",
        /// A TCP connection, with TLS or a dialogue if asked for.
        Tcp = "tcp",
        /// `grpc.health.v1`.
        Grpc = "grpc",
        /// A datagram.
        Udp = "udp",
        /// An HTTP/2 ping, over TLS or not.
        H2ping = "h2ping",
        /// A TLS handshake for the certificate's sake.
        Certificate = "certificate",
        /// A DNS question.
        Dns = "dns",
        /// All members of an etcd cluster.
        Etcd = "etcd",
        /// An ICMP echo request (ping).
        Icmp = "icmp",
        /// A program of this host.
        Exec = "exec",
        /// Not at all: the instance itself reports in time.
        Ttl = "ttl",
        /// Not at all: it follows other checks.
        Alias = "alias",
    }
}

impl Protocol {
    /// The protocol of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|protocol| protocol.as_str() == name)
    }

    /// Those that ask; the others wait for results to be pushed.
    pub fn probed() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|protocol| protocol.is_probed())
    }

    /// Whether it asks, and does not wait for results to be pushed.
    pub const fn is_probed(self) -> bool {
        match self {
            Self::Http
            | Self::Tcp
            | Self::Grpc
            | Self::Udp
            | Self::H2ping
            | Self::Certificate
            | Self::Dns
            | Self::Etcd
            | Self::Icmp
            | Self::Exec => true,
            Self::Ttl | Self::Alias => false,
        }
    }

    /// The phases of this protocol with the names its metrics give them.
    pub const fn phases(self) -> &'static [(Phase, &'static str)] {
        match self {
            Self::Http => &[
                (Phase::Resolve, "resolve"),
                (Phase::Connect, "connect"),
                (Phase::Tls, "tls"),
                (Phase::Exchange, "processing"),
                (Phase::Transfer, "transfer"),
            ],
            Self::Tcp => &[
                (Phase::Resolve, "resolve"),
                (Phase::Connect, "connect"),
                (Phase::Tls, "tls"),
                (Phase::Exchange, "exchange"),
            ],
            Self::Grpc => &[
                (Phase::Resolve, "resolve"),
                (Phase::Connect, "connect"),
                (Phase::Tls, "tls"),
                (Phase::Exchange, "check"),
            ],
            Self::Udp | Self::Icmp => &[(Phase::Resolve, "resolve"), (Phase::Exchange, "exchange")],
            Self::H2ping => &[
                (Phase::Resolve, "resolve"),
                (Phase::Connect, "connect"),
                (Phase::Tls, "tls"),
                (Phase::Exchange, "ping"),
            ],
            // What comes before the handshake is STARTTLS.
            Self::Certificate => &[
                (Phase::Resolve, "resolve"),
                (Phase::Connect, "connect"),
                (Phase::Exchange, "starttls"),
                (Phase::Tls, "tls"),
            ],
            Self::Dns => &[
                (Phase::Resolve, "resolve"),
                (Phase::Connect, "connect"),
                (Phase::Exchange, "exchange"),
            ],
            Self::Etcd => &[(Phase::Exchange, "exchange")],
            // It resolves nothing: that phase is the wait for its turn.
            Self::Exec => &[(Phase::Resolve, "wait"), (Phase::Exchange, "run")],
            Self::Ttl | Self::Alias => &[],
        }
    }

    /// Whether it asks without a connection.
    pub const fn uses_datagrams(self) -> bool {
        matches!(self, Self::Udp | Self::Dns | Self::Icmp)
    }

    /// Whether something is sent to another program at an address.
    pub const fn uses_network(self) -> bool {
        match self {
            Self::Http
            | Self::Tcp
            | Self::Grpc
            | Self::Udp
            | Self::H2ping
            | Self::Certificate
            | Self::Dns
            | Self::Etcd
            | Self::Icmp => true,
            Self::Exec | Self::Ttl | Self::Alias => false,
        }
    }

    /// Whether the target listens for TCP connections, and it matters that it does at any time.
    pub const fn waits_for_tcp(self) -> bool {
        matches!(self, Self::Http | Self::Tcp | Self::Grpc | Self::H2ping)
    }

    /// Whether a program is run here, with the rights of the daemon.
    pub const fn runs_program(self) -> bool {
        match self {
            Self::Exec => true,
            Self::Http
            | Self::Tcp
            | Self::Grpc
            | Self::Udp
            | Self::H2ping
            | Self::Certificate
            | Self::Dns
            | Self::Etcd
            | Self::Icmp
            | Self::Ttl
            | Self::Alias => false,
        }
    }

    /// Whether targets answer with a [`Serving`](crate::model::Serving) status.
    pub const fn has_serving_status(self) -> bool {
        match self {
            Self::Http
            | Self::Tcp
            | Self::Udp
            | Self::H2ping
            | Self::Certificate
            | Self::Dns
            | Self::Etcd
            | Self::Icmp
            | Self::Exec
            | Self::Ttl
            | Self::Alias => false,
            Self::Grpc => true,
        }
    }
}
