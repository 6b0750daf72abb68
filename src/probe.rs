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
pub enum Spec {}

/// What to ask, made ready once: expressions compiled, files read, request bytes rendered.
#[derive(Debug, PartialEq)]
pub enum Probe {}

impl Probe {
    /// How this probe asks.
    pub fn protocol(&self) -> Protocol {
        match *self {}
    }
}
