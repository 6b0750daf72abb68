//! Checks that nobody asks: their results are pushed by whoever runs them.

use std::{fmt, sync::Arc, time::Duration};

use crate::model::InstanceId;

/// Where the results of a check come from that nobody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed<'a> {
    /// From the instance, at least this often; one that is silent for longer is critical.
    Ttl(Duration),
    /// From other checks.
    Alias(&'a Alias),
}

/// The checks that an alias follows: those of an instance and of its node, or those of a node alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alias {
    /// The node; our own if there is none.
    pub node: Option<Arc<str>>,
    /// The instance; if there is none, the node's own checks are followed.
    pub service: Option<InstanceId>,
}

/// For people: the instance and its node, as far as they are given.
impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.service, &self.node) {
            (Some(service), Some(node)) => write!(f, "{service} on {node}"),
            (Some(service), None) => service.fmt(f),
            (None, Some(node)) => f.write_str(node),
            (None, None) => f.write_str("this node"),
        }
    }
}
