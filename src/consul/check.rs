//! One check as Consul defines it, and Consul's own rules for it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

use super::scalar::{Time, parsed, text};
use crate::{
    judge::Verdict,
    model::{CheckId, InstanceId},
    probe::{Form, Protocol},
};

/// Most bytes of an output that Consul keeps.
const MAX_OUTPUT: u16 = 4096;

/// Consul raises shorter times to this before it deregisters a service.
const MIN_DEREGISTER: Duration = Duration::from_secs(60);

/// A check as Consul defines it, with the fields that are set. Texts are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are Consul's")]
#[expect(missing_docs, reason = "the fields are Consul's")]
pub struct CheckDefinition {
    #[serde(alias = "check_id", with = "parsed", skip_serializing_if = "Option::is_none")]
    pub id: Option<CheckId>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    #[serde(with = "parsed", skip_serializing_if = "Option::is_none")]
    pub service_id: Option<InstanceId>,
    #[serde(deserialize_with = "status", skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Time>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, Vec<String>>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub disable_redirects: bool,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_use_tls: bool,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub udp: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub grpc_use_tls: bool,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub h2ping: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub h2ping_use_tls: Option<bool>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub docker_container_id: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    #[serde(alias = "script_args", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub os_service: Option<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub alias_node: Option<String>,
    #[serde(with = "parsed", skip_serializing_if = "Option::is_none")]
    pub alias_service: Option<InstanceId>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub tls_skip_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub success_before_passing: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub failures_before_warning: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub failures_before_critical: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deregister_critical_service_after: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub output_max_size: i64,
    /// Not Consul's, which passes it over: most probes that confirm the first failure of a check that
    /// was well, beyond its runs.
    #[serde(skip_serializing_if = "is_default")]
    pub confirm_probes: u32,
    /// Not Consul's either: whether an idle connection to the target is held, so that it is asked when
    /// that closes.
    #[serde(skip_serializing_if = "is_default")]
    pub tripwire: bool,
}

/// The status a check starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Well.
    Passing,
    /// Well enough.
    Warning,
    /// Not well.
    Critical,
}

impl From<Status> for Verdict {
    fn from(status: Status) -> Self {
        match status {
            Status::Passing => Self::Passing,
            Status::Warning => Self::Warning,
            Status::Critical => Self::Critical,
        }
    }
}

/// How a check finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is told, in time.
    Ttl,
    /// By HTTP.
    Http,
    /// By a TCP connection.
    Tcp,
    /// By a datagram.
    Udp,
    /// By the gRPC health protocol.
    Grpc,
    /// By a command in a container.
    Docker,
    /// By the state of a service of the operating system.
    OsService,
    /// By a command, with the rights of the daemon.
    Script,
    /// By an HTTP/2 ping.
    H2ping,
    /// It follows other checks.
    Alias,
}

/// The order in which Consul's agent prefers kinds if a check has several.
const PREFERENCE: [Kind; 10] = [
    Kind::Ttl,
    Kind::Http,
    Kind::Tcp,
    Kind::Udp,
    Kind::Grpc,
    Kind::Docker,
    Kind::OsService,
    Kind::Script,
    Kind::H2ping,
    Kind::Alias,
];

/// The order in which Consul looks for the word that it shows, which is another.
const SHOWN: [Kind; 10] = [
    Kind::Grpc,
    Kind::Http,
    Kind::Ttl,
    Kind::Tcp,
    Kind::Udp,
    Kind::Alias,
    Kind::Docker,
    Kind::Script,
    Kind::H2ping,
    Kind::OsService,
];

/// What Consul refuses a check for, in Consul's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum InvalidCheck {
    #[error("Interval and TTL cannot both be specified")]
    IntervalAndTtl,
    #[error("Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks")]
    NoInterval,
    #[error("Interval cannot be set for Alias checks")]
    AliasInterval,
    #[error("TTL must be not be set for Alias checks")]
    AliasTtl,
    #[error("TTL must be > 0 for TTL checks")]
    NoTtl,
    #[error("MaxOutputMaxSize must be positive")]
    OutputMaxSize,
    #[error("FailuresBeforeWarning can't be higher than FailuresBeforeCritical")]
    Failures,
}

impl Kind {
    /// Consul's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Grpc => "grpc",
            Self::Docker => "docker",
            Self::OsService => "os_service",
            Self::Script => "script",
            Self::H2ping => "h2ping",
            Self::Alias => "alias",
        }
    }

    /// Whether its results are pushed rather than asked for.
    pub const fn is_pushed(self) -> bool {
        matches!(self, Self::Ttl | Self::Alias)
    }

    /// The fields that make a check one of this kind, the weightiest first.
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Ttl => &["ttl"],
            Self::Http => &["http"],
            Self::Tcp => &["tcp"],
            Self::Udp => &["udp"],
            Self::Grpc => &["grpc"],
            Self::Docker => &["docker_container_id"],
            Self::OsService => &["os_service"],
            Self::Script => &["args", "script_args"],
            Self::H2ping => &["h2ping"],
            Self::Alias => &["alias_service", "alias_node"],
        }
    }
}

/// Consul's word for how a check asks.
pub const fn type_word(protocol: Protocol) -> &'static str {
    if protocol.runs_program() { Kind::Script.as_str() } else { protocol.as_str() }
}

impl CheckDefinition {
    /// Whether nothing is set: Consul takes `"check": {}` for no check.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How it finds out: the kind that Consul prefers if it has several, nothing if it has none.
    pub fn kind(&self) -> Option<Kind> {
        PREFERENCE.into_iter().find(|kind| self.is(*kind))
    }

    /// What Consul shows as its `Type`; empty if it has none.
    pub fn type_word(&self) -> &'static str {
        SHOWN.into_iter().find(|kind| self.is(*kind)).map_or("", Kind::as_str)
    }

    fn is(&self, kind: Kind) -> bool {
        match kind {
            Kind::Ttl => set(self.ttl).is_some(),
            Kind::Http => self.http.is_some(),
            Kind::Tcp => self.tcp.is_some(),
            Kind::Udp => self.udp.is_some(),
            Kind::Grpc => self.grpc.is_some(),
            Kind::Docker => self.docker_container_id.is_some() && !self.args.is_empty(),
            Kind::OsService => self.os_service.is_some(),
            Kind::Script => self.docker_container_id.is_none() && !self.args.is_empty(),
            Kind::H2ping => self.h2ping.is_some(),
            Kind::Alias => self.alias_node.is_some() || self.alias_service.is_some(),
        }
    }

    /// Refuses what Consul's API refuses.
    pub fn validate(&self) -> Result<(), InvalidCheck> {
        let (interval, ttl) = (set(self.interval).is_some(), self.is(Kind::Ttl));
        let alias = self.is(Kind::Alias);
        let active = !self.args.is_empty()
            || [Kind::Http, Kind::Tcp, Kind::Udp, Kind::Grpc, Kind::H2ping, Kind::OsService]
                .into_iter()
                .any(|kind| self.is(kind));
        let rules = [
            (interval && ttl, InvalidCheck::IntervalAndTtl),
            (active && !interval, InvalidCheck::NoInterval),
            // An interval alone is let pass: it is the other kind that Consul looks at.
            (alias && active, InvalidCheck::AliasInterval),
            (alias && ttl, InvalidCheck::AliasTtl),
            (!active && !alias && !ttl, InvalidCheck::NoTtl),
            (self.output_max_size < 0, InvalidCheck::OutputMaxSize),
            (self.failures_before_warning > self.failures_before_critical, InvalidCheck::Failures),
        ];
        rules.into_iter().find_map(|(broken, rule)| broken.then_some(Err(rule))).unwrap_or(Ok(()))
    }

    /// After how long in the critical state its service is to be deregistered, if it ever is; at
    /// least a minute.
    pub fn deregister_after(&self) -> Option<Duration> {
        set(self.deregister_critical_service_after).map(|time| time.max(MIN_DEREGISTER))
    }

    /// Most bytes of an output that are kept.
    pub fn max_output(&self) -> u16 {
        match u16::try_from(self.output_max_size) {
            Ok(0) | Err(_) => MAX_OUTPUT,
            Ok(size) => size.min(MAX_OUTPUT),
        }
    }

    /// In whose words it speaks.
    pub(super) fn form(&self) -> Form {
        Form::Consul { shown: self.max_output() }
    }

    /// The status it starts with.
    pub fn initial_status(&self) -> Status {
        self.status.unwrap_or(Status::Critical)
    }
}

/// The time, if it is more than nothing: zero is absent.
pub(super) fn set(time: Option<Time>) -> Option<Duration> {
    time.filter(|time| !time.is_zero()).map(|time| time.0)
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A status, where an empty text is none.
fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Status>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Text {
        Passing,
        Warning,
        Critical,
        #[serde(rename = "")]
        None,
    }
    Ok(match Text::deserialize(deserializer)? {
        Text::Passing => Some(Status::Passing),
        Text::Warning => Some(Status::Warning),
        Text::Critical => Some(Status::Critical),
        Text::None => None,
    })
}
