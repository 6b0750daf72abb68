//! What a probe knows so far.
//!
//! It lives outside the future that works on it, so that a probe cut off by its deadline still
//! tells how far it came: the phase it was in gives the reason.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};

use super::{
    dial,
    fault::Fault,
    http,
    resolve::{Gate, MAX_AGE},
    tls,
};
use crate::model::{Answer, Certificate, Phase, Phases, Reason};

/// No probe may take longer; keeps a deadline within what a clock can represent. As long as the
/// longest timeout that the configuration accepts.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a probe knows so far, where it may go, and its one buffer.
#[derive(Debug)]
pub(super) struct Trace {
    started: Instant,
    timeout: Duration,
    phase: Phase,
    phase_started: Instant,
    phases: Phases,
    pub(super) gate: Arc<Gate>,
    /// How addresses are found and reached, if anything is said of it.
    pub(super) dial: Option<Arc<dial::Spec>>,
    /// The one address to use of all that a name has, if it is this one alone that is asked.
    pub(super) pinned: Option<(Arc<str>, IpAddr)>,
    pub(super) answer: Answer,
    pub(super) peer: Option<SocketAddr>,
    /// The certificate of a connection that was made before.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Where a handshake puts the certificate as soon as it is presented.
    presented: Option<Arc<OnceLock<Arc<Certificate>>>>,
    /// The TLS session of the target, if it may be resumed.
    pub(super) session: Option<Arc<tls::Session>>,
    /// How long after this probe the target wants to be asked next.
    pub(super) ask_again: Option<Duration>,
    /// The ids of the trace that the target was told of.
    pub(super) ids: Option<Box<http::Ids>>,
    /// Holds the request on its way out, then the answer.
    pub(super) buffer: Vec<u8>,
    /// Bytes of the answer that came before those in the buffer and were not kept.
    pub(super) dropped: u64,
    received: bool,
    /// How far a dialogue has come.
    pub(super) step: u8,
}

impl Trace {
    pub(super) fn new(timeout: Duration, gate: Arc<Gate>) -> Self {
        let started = Instant::now();
        Self {
            started,
            timeout: timeout.min(LONGEST),
            phase: Phase::Resolve,
            phase_started: started,
            phases: Phases::default(),
            gate,
            dial: None,
            pinned: None,
            answer: Answer::None,
            peer: None,
            certificate: None,
            presented: None,
            session: None,
            ask_again: None,
            ids: None,
            buffer: Vec::new(),
            dropped: 0,
            received: false,
            step: 0,
        }
    }

    /// A probe of one address among those of a name: it goes on from here, to the same deadline.
    pub(super) fn branch(&self, name: Arc<str>, ip: IpAddr) -> Self {
        Self {
            started: self.started,
            phase: self.phase,
            phase_started: self.phase_started,
            phases: self.phases,
            dial: self.dial.clone(),
            pinned: Some((name, ip)),
            ..Self::new(self.timeout, Arc::clone(&self.gate))
        }
    }

    /// Ends the last phase of a branch.
    pub(super) fn end(&mut self) {
        self.enter(self.phase);
    }

    /// When the phase before ended; of a branch that has ended, its end.
    pub(super) fn ended(&self) -> Instant {
        self.phase_started
    }

    /// Takes up what one of its branches has found, which has ended some time ago.
    pub(super) fn adopt(&mut self, branch: Self) {
        *self = Self { phase_started: Instant::now(), pinned: None, ..branch };
    }

    /// The phase the probe is in.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// How long the probe may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When the probe must have ended.
    pub(super) fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    /// Ends the current phase and begins the next one.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase == Phase::Exchange {
            self.received = false;
        }
        let now = Instant::now();
        self.phases.add(self.phase, now - self.phase_started);
        self.phase = phase;
        self.phase_started = now;
    }

    /// A trace of its own for a part of the probe, which may go where the whole may: a name that is
    /// pinned is so for its parts as well.
    pub(super) fn apart(&self, timeout: Duration) -> Self {
        let (dial, pinned) = (self.dial.clone(), self.pinned.clone());
        Self { dial, pinned, ..Self::new(timeout, Arc::clone(&self.gate)) }
    }

    /// The address of ours to use, if the check names one.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.dial.as_ref().and_then(|dial| dial.source_address)
    }

    /// Where the next handshake is to put the certificate it is shown.
    pub(super) fn expect_certificate(&mut self) -> Arc<OnceLock<Arc<Certificate>>> {
        self.certificate = self.certificate();
        let presented = Arc::new(OnceLock::new());
        self.presented = Some(Arc::clone(&presented));
        presented
    }

    /// The certificate presented last, whatever came after it.
    pub(super) fn certificate(&self) -> Option<Arc<Certificate>> {
        let presented = self.presented.as_ref().and_then(|presented| presented.get());
        presented.or(self.certificate.as_ref()).cloned()
    }

    /// Puts a certificate in the place of all that were presented.
    pub(super) fn set_certificate(&mut self, certificate: Option<Arc<Certificate>>) {
        self.presented = None;
        self.certificate = certificate;
    }

    /// When a connection that has just been made may serve no longer. With TLS that may be sooner than
    /// without, for the target must show its certificate again: in the handshake of a session that was
    /// resumed it has shown none.
    pub(super) fn fit_until(&self) -> Instant {
        let checked = self.session.as_ref().and_then(|session| session.checked());
        let now = Instant::now();
        (checked.unwrap_or(now) + tls::FULL_EVERY).min(now + MAX_AGE)
    }

    /// Has the next TLS handshake be a full one: what was known of the target is in doubt.
    pub(super) fn distrust(&self) {
        if let Some(session) = &self.session {
            session.distrust();
        }
    }

    /// Forgets what came of a request that is to be made again on another connection.
    pub(super) fn begin_again(&mut self) {
        self.distrust();
        self.answer = Answer::None;
        self.buffer.clear();
        self.received = false;
    }

    /// Says that some of the answer to the current request has come.
    pub(super) fn answer_begins(&mut self) {
        self.received = true;
    }

    /// Whether any of the answer to the current request has come.
    pub(super) fn has_answer_begun(&self) -> bool {
        self.received
    }

    /// Ends the last phase; returns all of them and the time from the start.
    pub(super) fn finish(&mut self) -> (Phases, Duration) {
        self.end();
        (self.phases, self.phase_started - self.started)
    }

    /// Makes room for what is to be read next.
    pub(super) fn make_room(&mut self) {
        /// Below this a system call is not worth its price.
        const LEAST: usize = 256;
        if self.buffer.capacity() - self.buffer.len() < LEAST {
            self.buffer.reserve(LEAST);
        }
    }

    /// Reads what there is of an answer to the end of the buffer; 0 is the end of the connection.
    pub(super) async fn fill<S>(&mut self, stream: &mut S) -> Result<usize, Fault>
    where
        S: AsyncRead + Unpin,
    {
        self.make_room();
        let read = match stream.read_buf(&mut self.buffer).await {
            Ok(read) => read,
            // A TLS peer that closes without saying so; many do.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(Fault::exchange(&error)),
        };
        self.received |= read > 0;
        Ok(read)
    }

    /// What it means that the deadline struck now.
    pub(super) fn expired(&self) -> Fault {
        let within = self.timeout;
        match self.phase {
            // Who cannot say does not say that there is nothing.
            Phase::Resolve => {
                let detail = format!("name not resolved within {within:?}");
                Fault::inconclusive(Reason::Dns, detail)
            }
            Phase::Connect => {
                let detail = match self.peer {
                    Some(peer) => format!("no connection to {peer} within {within:?}"),
                    None => format!("no connection within {within:?}"),
                };
                Fault::new(Reason::TimeoutConnect, detail)
            }
            Phase::Tls => Fault::new(
                Reason::TimeoutTls,
                format!("TLS handshake not completed within {within:?}"),
            ),
            Phase::Exchange | Phase::Transfer if self.received => Fault::new(
                Reason::TimeoutResponse,
                format!("answer not complete within {within:?}"),
            ),
            Phase::Exchange | Phase::Transfer => {
                Fault::new(Reason::TimeoutResponse, format!("no answer within {within:?}"))
            }
        }
    }
}
