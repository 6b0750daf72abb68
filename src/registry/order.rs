//! What the registry tells those that ask, and those that are told.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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

/// Orders on their way, in the order of the changes they come from: they are left here while the
/// changes are made, and sent when there is time to wait for those who are to obey.
#[derive(Debug)]
pub(super) struct Outbox {
    to: Orders,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    probed: Vec<Order>,
    pushed: Vec<Order>,
}

impl Outbox {
    pub(super) fn new(to: Orders) -> Self {
        Self { to, left: Mutex::default() }
    }

    /// Leaves orders. To be called while what they come from is held.
    pub(super) fn leave(&self, orders: Vec<Order>) {
        if orders.is_empty() {
            return;
        }
        let mut left = self.left();
        for order in orders {
            match &order {
                Order::Run(check, _) if check.definition.probe.pushed().is_some() => {
                    left.pushed.push(order);
                }
                Order::Run(..) | Order::Recheck(_) => left.probed.push(order),
                Order::Stop(_) | Order::Maintain { .. } => {
                    left.pushed.push(order.clone());
                    left.probed.push(order);
                }
            }
        }
    }

    /// Sends what is left, if nobody else has done so. Dropped meanwhile, it leaves it to the next.
    pub(super) async fn send(&self) {
        self.send_some(&self.to.probed, |left| &mut left.probed).await;
        self.send_some(&self.to.pushed, |left| &mut left.pushed).await;
    }

    async fn send_some(
        &self,
        to: &mpsc::Sender<Vec<Order>>,
        some: impl Fn(&mut Left) -> &mut Vec<Order>,
    ) {
        if some(&mut self.left()).is_empty() {
            return;
        }
        let place = to.reserve().await;
        let mut left = self.left();
        let orders = mem::take(some(&mut left));
        // They hang up only when the daemon stops; then there is nobody to tell. Another may have
        // sent them meanwhile.
        if let Ok(place) = place
            && !orders.is_empty()
        {
            // While the rest is held: what is left later must not overtake it.
            place.send(orders);
        }
        drop(left);
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Orders {
    /// Where only the orders for what is probed are looked at.
    pub(crate) fn probed(probed: mpsc::Sender<Vec<Order>>) -> Self {
        Self { probed, pushed: mpsc::channel(1).0 }
    }
}
