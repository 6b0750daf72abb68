//! The nouns: ids, what a probe found, what a check's status is, and how it changed.
//!
//! Nothing here is serialisable on purpose: every API, the store and every back end owns its wire
//! types, so that none of them freezes the domain. [`Reason`] and [`Status`] are closed sets whose
//! spelling ([`Reason::as_str`], [`Status::as_str`]) is shared by metrics, events, API and logs.

mod certificate;

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

pub use self::certificate::Certificate;
use crate::{clock::Timestamp, duration::Period};

/// Longest id or name accepted, in bytes; ids become metric labels.
pub const MAX_ID_LEN: usize = 128;

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

fn vet_id(text: &str) -> Result<Arc<str>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_LEN {
        return Err(IdError::TooLong(text.len()));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(IdError::Control(c)),
        None => Ok(Arc::from(text)),
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
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                vet_id(text).map(Self)
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

pub(crate) use closed_set;

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
    /// bytes; absent on a success. A program that was run is let speak also on a success, in lines
    /// and up to some four thousand bytes.
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

/// When a check runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// From one start to the next; more than zero.
    pub interval: Duration,
    /// The longest a probe may take, name resolution included; more than zero.
    pub timeout: Duration,
    /// How far a run may move from its place, as a share of the interval: 0.05 is ±5 %.
    pub jitter: f64,
    /// How long after registration the first run may start at the earliest.
    pub initial_delay: Duration,
}

impl Schedule {
    /// Shortest interval and timeout: the shortest tick of the scheduler.
    pub const SHORTEST: Duration = Duration::from_millis(1);

    /// Longest interval, timeout and delay. Clocks can add it without overflow, and what is asked
    /// less than once a week is not watched.
    pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

    /// How far a run moves from its place if nothing is said of it.
    pub const DEFAULT_JITTER: f64 = 0.05;

    /// Refuses a time that no interval and no timeout can be.
    pub fn vet(time: Duration) -> Result<(), TimeError> {
        if time < Self::SHORTEST {
            return Err(TimeError::Short);
        }
        if time > Self::LONGEST {
            return Err(TimeError::Long);
        }
        Ok(())
    }
}

/// A time that no schedule can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Too short.
    #[error("must be at least {}", Period::from(Schedule::SHORTEST))]
    Short,
    /// Too long.
    #[error("must be at most {}", Period::from(Schedule::LONGEST))]
    Long,
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
        }
    }

    /// What is said for people, if anything.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Probe { observation, .. } => observation.detail.as_deref(),
            Self::Operator { reason } => Some(reason),
            Self::Registration { detail, .. } => Some(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_when_empty_too_long_or_with_control_characters() {
        assert_eq!("".parse::<InstanceId>(), Err(IdError::Empty));
        assert_eq!("x".repeat(129).parse::<InstanceId>(), Err(IdError::TooLong(129)));
        assert_eq!("a\u{1b}[2J".parse::<InstanceId>(), Err(IdError::Control('\u{1b}')));
        assert_eq!(
            "web/1:a b".parse::<InstanceId>().map(|id| id.to_string()),
            Ok("web/1:a b".into())
        );
    }

    #[test]
    fn closed_sets_are_indexed_by_their_position() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(Reason::from_index(index), Some(*reason));
        }
        assert_eq!(Reason::from_index(Reason::COUNT), None);
    }

    #[test]
    fn phases_add_up_by_phase() {
        let mut phases = Phases::default();
        phases.add(Phase::Tls, Duration::from_millis(2));
        phases.add(Phase::Tls, Duration::from_millis(3));
        assert_eq!(phases.get(Phase::Tls), Duration::from_millis(5));
        assert_eq!(phases.get(Phase::Connect), Duration::ZERO);
    }
}
