//! Who exists: services, their instances, and the checks asked of them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    judge::Thresholds,
    model::{CheckId, InstanceId, Schedule, ServiceName},
    probe::{Endpoint, Probe},
};

/// One registered endpoint of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Unique on this node.
    pub id: InstanceId,
    /// The service it belongs to.
    pub service: ServiceName,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Tags, in the order given.
    pub tags: Vec<Arc<str>>,
    /// Metadata.
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
}

/// What is asked of every instance a check applies to, how, how often, with which thresholds.
/// Shared by all those instances.
#[derive(Debug, PartialEq)]
pub struct Definition {
    /// Unique within the service.
    pub id: CheckId,
    /// For people.
    pub name: Option<Arc<str>>,
    /// For people; never changed by results.
    pub notes: Option<Arc<str>>,
    /// How to ask.
    pub probe: Arc<Probe>,
    /// When to ask.
    pub schedule: Schedule,
    /// How many results in a row change the status.
    pub thresholds: Thresholds,
    /// The share of probes that should succeed, for the error budget; 0.99 is 99 %.
    pub slo_objective: f64,
}

/// An instance with what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// The instance.
    pub instance: Instance,
    /// The checks asked of it; their ids differ.
    pub checks: Vec<Assigned>,
}

/// A check asked of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// What is asked.
    pub definition: Arc<Definition>,
    /// Where, if not at the instance's own endpoint (a Consul check names its own address).
    pub endpoint: Option<Endpoint>,
    /// The check's id in the Consul API, if it was given one; otherwise `instance:check`.
    pub consul_id: Option<Arc<str>>,
}
