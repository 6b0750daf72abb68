//! The nouns: ids, what a probe found, what a check's status is, and how it changed.
//!
//! Nothing here is serialisable on purpose: every API, the store and every back end owns its wire
//! types, so that none of them freezes the domain. [`Reason`] and [`Status`] are closed sets whose
//! spelling ([`Reason::as_str`], [`Status::as_str`]) is shared by metrics, events, API and logs.

mod certificate;

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

pub use self::certificate::Certificate;
use crate::clock::Timestamp;

/// Longest id or name accepted, in bytes. Consul knows no bound, and who makes ids of what others have
/// named, as Nomad does, comes to 200 and more; but ids become metric labels.
pub const MAX_ID_LEN: usize = 512;

/// An id that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text is longer than [`MAX_ID_LEN`].
    #[error("it is {0} bytes long; at most {MAX_ID_LEN} are allowed")]
    TooLong(usize),
    /// The text holds a control character, which logs and terminals would obey.
    #[error("it holds the control character {0:?}")]
    Control(char),
}

fn vet_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_LEN {
        return Err(IdError::TooLong(text.len()));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(IdError::Control(c)),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text of the id, shared.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl TryFrom<Arc<str>> for $name {
            type Error = IdError;
            fn try_from(text: Arc<str>) -> Result<Self, IdError> {
                vet_id(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                vet_id(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The name under which instances register.
    ServiceName
}
id! {
    /// One registered endpoint of a service; unique on its node.
    InstanceId
}
id! {
    /// A check's id within its service.
    CheckId
}

/// Names one check of one instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckKey {
    /// The instance asked.
    pub instance: InstanceId,
    /// The check asked of it.
    pub check: CheckId,
}

/// `instance:check`, as people type it and the Consul API shows it.
impl fmt::Display for CheckKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.instance, self.check)
    }
}

/// A fieldless enum with a word for each member.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
        }

        impl $name {
            /// Every member, in declaration order; `ALL[x.index()] == x`.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// How many members there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The word used in metrics, events, API and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The position in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The member at a position of [`Self::ALL`], if there is one.
            pub fn from_index(index: usize) -> Option<Self> {
                Self::ALL.get(index).copied()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

mod schedule;

pub(crate) use closed_set;
pub use schedule::{Extra, Pace, Schedule, TimeError, Tripwire, Turn};

closed_set! {
    /// Why a probe did not succeed. The set is closed: it is a metric label.
    Reason {
        /// The name did not resolve, or not in time.
        Dns = "dns",
        /// The target refused the connection.
        ConnectionRefused = "connection_refused",
        /// The target reset or closed the connection before it had answered.
        ConnectionReset = "connection_reset",
        /// No route to the target's host or network.
        Unreachable = "unreachable",
        /// The connection was not made in time.
        TimeoutConnect = "timeout_connect",
        /// The TLS handshake did not end in time.
        TimeoutTls = "timeout_tls",
        /// The answer did not come, or not whole, in time.
        TimeoutResponse = "timeout_response",
        /// The certificate is not signed by a trusted authority.
        TlsUntrusted = "tls_untrusted",
        /// The certificate has expired or is not valid yet.
        TlsExpired = "tls_expired",
        /// The certificate is for another name.
        TlsName = "tls_name",
        /// The TLS handshake failed in another way.
        TlsOther = "tls_other",
        /// The answer breaks its protocol.
        Protocol = "protocol",
        /// The answer's status is not an expected one.
        Status = "status",
        /// The body is not as expected.
        Body = "body",
        /// A header is not as expected.
        Header = "header",
        /// A gRPC server says that it does not serve.
        NotServing = "not_serving",
        /// Our egress policy forbids the address; nothing was sent there.
        Denied = "denied",
        /// Our own fault, never the target's.
        Internal = "internal",
    }
}

closed_set! {
    /// The parts of a probe's time. Which of them a probe has, and what it calls them, is the
    /// business of its type.
    Phase {
        /// Turning the name into addresses; for a program the wait for its turn (`wait`).
        Resolve = "resolve",
        /// Making the TCP connection.
        Connect = "connect",
        /// The TLS handshake.
        Tls = "tls",
        /// From the request's first byte out to the answer's first byte in; for TCP the whole
        /// dialogue (`exchange`), for gRPC the whole call (`check`), for a program its run (`run`).
        Exchange = "processing",
        /// From the answer's first byte to its last.
        Transfer = "transfer",
    }
}

closed_set! {
    /// What a check says of its instance.
    Status {
        /// No verdict yet.
        Unknown = "unknown",
        /// Well.
        Passing = "passing",
        /// Well enough to be used, but somebody should look.
        Warning = "warning",
        /// Not to be used.
        Critical = "critical",
        /// Taken out by an operator, whatever the probes say.
        Maintenance = "maintenance",
    }
}

closed_set! {
    /// The answers of `grpc.health.v1`, and `Unimplemented` for servers without that service.
    Serving {
        /// The server does not know.
        Unknown = "UNKNOWN",
        /// It serves.
        Serving = "SERVING",
        /// It does not serve.
        NotServing = "NOT_SERVING",
        /// It does not know the service asked for.
        ServiceUnknown = "SERVICE_UNKNOWN",
        /// It does not implement the health service.
        Unimplemented = "UNIMPLEMENTED",
    }
}

/// What one probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As expected.
    Success,
    /// The target answered that it is struggling (HTTP 429, exit code 1, as Consul has it).
    Warning(Reason),
    /// Not as expected.
    Failure(Reason),
    /// Nothing is learnt of the target, because the fault is ours: judged as if it had never been.
    Inconclusive(Reason),
}

impl Outcome {
    /// Why, if it was not a plain success.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Success => None,
            Self::Warning(reason) | Self::Failure(reason) | Self::Inconclusive(reason) => {
                Some(reason)
            }
        }
    }
}

/// The target's own code for its answer, if it got so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Answer {
    /// None, or the protocol has no code.
    #[default]
    None,
    /// An HTTP status code.
    Http(u16),
    /// A `grpc.health.v1` serving status.
    Grpc(Serving),
}

/// How long each phase of a probe took; zero where it did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases([Duration; Phase::COUNT]);

impl Phases {
    /// How long a phase took.
    pub const fn get(&self, phase: Phase) -> Duration {
        self.0[phase.index()]
    }

    /// Adds time to a phase.
    pub fn add(&mut self, phase: Phase, time: Duration) {
        self.0[phase.index()] += time;
    }
}

/// The facts one probe brought home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// When the probe started.
    pub started: Timestamp,
    /// From its start to its verdict.
    pub duration: Duration,
    /// What it found.
    pub outcome: Outcome,
    /// Where its time went.
    pub phases: Phases,
    /// The target's own code.
    pub answer: Answer,
    /// The address asked, once known.
    pub peer: Option<SocketAddr>,
    /// The certificate presented, also if it was refused or the handshake failed after it.
    pub certificate: Option<Arc<Certificate>>,
    /// How long after this probe the target wants to be asked next, if it said so.
    pub ask_again: Option<Duration>,
    /// For people: what was wrong, with what was seen. Printable, in one line, at most a few hundred
    /// bytes; absent on a success. A program that was run, and in Consul's form an HTTP target, is
    /// let speak also on a success, in lines and up to some four thousand bytes.
    pub detail: Option<Box<str>>,
}

impl Observation {
    /// One that began then, took so long and found this, and of which nothing else is known.
    pub fn new(started: Timestamp, duration: Duration, outcome: Outcome) -> Self {
        Self {
            started,
            duration,
            outcome,
            phases: Phases::default(),
            answer: Answer::None,
            peer: None,
            certificate: None,
            ask_again: None,
            detail: None,
        }
    }
}

/// A change of a check's status, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The service of the instance.
    pub service: ServiceName,
    /// Which check of which instance.
    pub key: CheckKey,
    /// The status before.
    pub from: Status,
    /// The status now.
    pub to: Status,
    /// When it changed.
    pub at: Timestamp,
    /// What tipped the scale.
    pub cause: Cause,
}

closed_set! {
    /// What has become of a registration, beside what its checks say.
    Registered {
        /// Another owner has registered the same id over it.
        Conflict = "conflict",
        /// It was deregistered for being critical too long.
        Expired = "expired",
        /// It was brought back after that.
        Restored = "restored",
    }
}

closed_set! {
    /// What has become of a status on its way to consumers, where they are not told it at once.
    Publication {
        /// It is critical, and consumers are told what they were told before.
        Held = "held",
        /// It is well but comes and goes, and consumers are told that it is critical.
        Damped = "damped",
        /// Consumers are told again what is observed.
        Released = "released",
        /// It has begun to come and go.
        Flapping = "flapping",
        /// It has settled.
        Steady = "steady",
    }
}

/// What tipped the scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A probe, the last of as many like it in a row as `consecutive` says.
    Probe {
        /// What the probe found.
        observation: Box<Observation>,
        /// How many results in a row point this way.
        consecutive: u32,
    },
    /// An operator's word.
    Operator {
        /// What the operator gave as the reason.
        reason: Arc<str>,
    },
    /// The instance as a whole, under the check [`Cause::REGISTRATION`]; its status may stay.
    Registration {
        /// What has become of it.
        what: Registered,
        /// The same for people.
        detail: Arc<str>,
    },
    /// Not a change of what is observed but of what consumers are told: the statuses are those
    /// published.
    Publication {
        /// What has become of it.
        what: Publication,
        /// The same for people.
        detail: Arc<str>,
    },
}

impl Cause {
    /// The check that stands for the registration of an instance in transitions.
    pub const REGISTRATION: &str = "_registration";

    /// The reason in one word: a probe's [`Reason`], `ok` for a success, `operator`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Probe { observation, .. } => {
                observation.outcome.reason().map_or("ok", Reason::as_str)
            }
            Self::Operator { .. } => "operator",
            Self::Registration { what, .. } => what.as_str(),
            Self::Publication { what, .. } => what.as_str(),
        }
    }

    /// What is said for people, if anything.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Probe { observation, .. } => observation.detail.as_deref(),
            Self::Operator { reason } => Some(reason),
            Self::Registration { detail, .. } | Self::Publication { detail, .. } => Some(detail),
        }
    }
}

#[cfg(test)]
mod tests;
