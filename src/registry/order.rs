//! What the registry tells those that ask, and those that are told.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Check;
use crate::{
    judge::{Machine, Maintenance},
    model::CheckKey,
};

/// What the scheduler is told.
#[derive(Debug, Clone)]
pub enum Order {
    /// Run this check, in place of the check of the same key if there is one.
    Run(Arc<Check>, Start),
    /// Stop this check.
    Stop(CheckKey),
    /// An operator has taken the check's instance out, or put it back.
    Maintain {
        /// The check.
        key: CheckKey,
        /// Out or in.
        maintenance: Maintenance,
        /// What the operator said.
        reason: Arc<str>,
    },
    /// An operator wants to know how this check is now.
    Recheck(CheckKey),
}

/// Where a check starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From this state; what was known under its key was of another target.
    Afresh(Machine),
    /// From where the check of the same key is, whose target it shares.
    InPlace,
}

/// Where orders go, by who brings a check's results.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Those that are asked.
    pub probed: mpsc::Sender<Vec<Order>>,
    /// Those that are told: heartbeats and aliases.
    pub pushed: mpsc::Sender<Vec<Order>>,
}

#[cfg(test)]
impl Orders {
    /// Where only the orders for what is probed are looked at.
    pub(crate) fn probed(probed: mpsc::Sender<Vec<Order>>) -> Self {
        Self { probed, pushed: mpsc::channel(1).0 }
    }
}
