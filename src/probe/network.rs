//! The prober: bounds that all probes share, where they may go, and one probe from start to end.

use std::{io, sync::Arc, time::Duration};

use tokio::time::timeout_at;

use super::{
    Held, Plain, Probe, Prober, Target, Ticket,
    egress::{self, Origin},
    exec,
    fault::Fault,
    grpc,
    resolve::Gate,
    trace::Trace,
};
use crate::{
    clock::{self, Timestamp},
    model::{Observation, Outcome},
};

/// Most TLS sessions that are kept to be resumed. Each holds a ticket and the target's certificates, 2
/// to 6 KiB; a target beyond that has a full handshake each time.
const MAX_SESSIONS: usize = 20_000;

/// The prober that uses the network, as far as its policy lets it, and runs programs. Clones share the
/// bounds on kept connections, on TLS sessions and on programs.
#[derive(Debug, Clone)]
pub struct Network {
    pub(super) places: grpc::Places,
    /// For TLS sessions.
    sessions: grpc::Places,
    pub(super) programs: exec::Places,
    /// For checks of the configuration, and for those registered through the API.
    gates: [Arc<Gate>; 2],
}

impl Network {
    /// A prober that goes where `egress` lets it. It keeps connections for a quarter of the
    /// open-files limit at most: half of it is for the probes under way, the last quarter for the
    /// API and the daemon's own files.
    pub fn new(egress: egress::Policy) -> Self {
        /// Where nothing is limited.
        const MOST: u64 = 100_000;
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let max_kept = files.map_or(MOST, |files| (files / 4).min(MOST));
        Self::keeping(usize::try_from(max_kept).unwrap_or(usize::MAX), egress)
    }

    /// A prober that keeps at most `max_kept` connections open between probes, over all targets. A
    /// target beyond that is asked over a new connection each time.
    pub(super) fn keeping(max_kept: usize, egress: egress::Policy) -> Self {
        let gate = Gate { egress, ..Gate::default() };
        let api = gate.for_api(gate.egress.clone());
        Self {
            places: grpc::Places::new(max_kept),
            sessions: grpc::Places::new(MAX_SESSIONS),
            programs: exec::Places::default(),
            gates: [gate, api].map(Arc::new),
        }
    }

    /// A prober that keeps so many TLS sessions at most.
    #[cfg(test)]
    pub(super) fn keeping_sessions(max_sessions: usize, egress: egress::Policy) -> Self {
        Self { sessions: grpc::Places::new(max_sessions), ..Self::new(egress) }
    }

    /// Holds checks that were registered through the API to another policy.
    #[must_use]
    pub fn with_api_egress(mut self, egress: egress::Policy) -> Self {
        let [configured, api] = &mut self.gates;
        *api = Arc::new(configured.for_api(egress));
        self
    }

    /// A trace of something that asks a target, in the manner of its check.
    pub(super) fn trace(&self, target: &Target, timeout: Duration) -> Trace {
        let Probe(_, manner) = &*target.probe;
        let mut trace = Trace::new(timeout, self.gate(manner.origin));
        trace.dial.clone_from(&manner.dial);
        trace
    }

    /// Where a check may go that comes from there.
    fn gate(&self, origin: Origin) -> Arc<Gate> {
        let [configured, api] = &self.gates;
        Arc::clone(match origin {
            Origin::Configuration => configured,
            Origin::Api => api,
        })
    }
}

/// With the policy that stands when nothing is configured.
impl Default for Network {
    fn default() -> Self {
        Self::new(egress::Policy::default())
    }
}

/// What a probe has found that began then and has ended now.
pub(super) fn observe(
    target: &Target,
    trace: &mut Trace,
    started: Timestamp,
    result: Result<(), Fault>,
) -> Observation {
    let (phases, duration) = trace.finish();
    let (outcome, detail) = match result {
        Ok(()) => (Outcome::Success, target.remark(trace)),
        Err(fault) => (fault.outcome, Some(target.detail(&fault, trace))),
    };
    Observation {
        phases,
        answer: trace.answer,
        peer: trace.peer,
        certificate: trace.certificate(),
        ask_again: trace.ask_again,
        detail,
        ..Observation::new(started, duration, outcome)
    }
}

impl Prober for Network {
    async fn probe(&self, target: &Target, timeout: Duration) -> Observation {
        let started = clock::now();
        let mut trace = self.trace(target, timeout);
        let session = target.memory.as_ref().and_then(|memory| memory.session());
        trace.session = session.filter(|session| session.has_place(&self.sessions)).cloned();
        let result = match timeout_at(trace.deadline(), target.ask(self, &mut trace)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(target.expired(&trace)),
        };
        if result.is_err() {
            trace.distrust();
        }
        observe(target, &mut trace, started, result)
    }

    fn plain<T: Ticket>(&self) -> Option<io::Result<Plain<T>>> {
        Some(Plain::new(self.clone()))
    }

    async fn hold(&self, target: &Target, within: Duration, life: Duration) -> Held {
        self.keep_watch(target, within, life).await
    }
}
