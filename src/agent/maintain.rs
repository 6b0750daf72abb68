//! Maintenance: what operators take out of service and put back.
//!
//! It stands in the store as a critical check beside those that are run, of the instance or of the
//! node, as Consul has it, and there it survives a restart. The registry holds the same for what
//! it shows itself.

use std::sync::Arc;

use super::{Agent, NODE_MAINTENANCE, SERVICE_MAINTENANCE, rows};
use crate::{
    clock::Timestamp,
    model::InstanceId,
    registry::UnknownInstance,
    store::{
        Key, Tables, Tx, Unwritten,
        row::{Check, CheckShape, Health, Origin},
    },
};

/// Why an instance is out when nobody says why.
pub const NO_SERVICE_REASON: &str = "Maintenance mode is enabled for this service, but no reason \
                                     was provided. This is a default message.";

/// Why the node is out when nobody says why.
pub const NO_NODE_REASON: &str = "Maintenance mode is enabled for this node, but no reason was \
                                  provided. This is a default message.";

/// Why something could not be taken out or put back.
#[derive(Debug, thiserror::Error)]
pub enum Unmaintained {
    /// There is no such instance.
    #[error(transparent)]
    Unknown(#[from] UnknownInstance),
    /// It could not be put on disk.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
}

impl Agent {
    /// Takes an instance out of service with a reason, or puts it back with none.
    pub async fn maintain(&self, id: &str, reason: Option<Arc<str>>) -> Result<(), Unmaintained> {
        let _turn = self.turn.write().await;
        let written = self.store.write(|tx| {
            let held = tx.instance(&self.node, id).filter(|row| row.origin.is_local());
            if held.is_none() {
                return Err(UnknownInstance(id.to_owned()).into());
            }
            self.put_maintenance(tx, id, reason.as_ref());
            Ok::<_, Unmaintained>(())
        });
        written.await?;
        // What is not asked has nothing that would have to be told.
        drop(self.registry.maintain(id, reason).await);
        Ok(())
    }

    /// Takes the whole node out of service with a reason, or puts it back with none.
    pub async fn maintain_node(&self, reason: Option<Arc<str>>) -> Result<(), Unwritten> {
        let _turn = self.turn.write().await;
        let written = self.store.write(|tx| {
            self.put_maintenance(tx, "", reason.as_ref());
            Ok::<_, Unwritten>(())
        });
        written.await?;
        self.registry.maintain_node(reason).await;
        Ok(())
    }

    /// Lets the registry know what the rows say is out, before anything is registered.
    pub(super) fn restore_maintenance(&self) {
        let tables = self.store.read();
        // What the state file says besides is of a daemon before there were rows, or older.
        if tables.note(rows::NODE_ID).is_some() {
            self.registry.forget_maintenance();
        }
        let node = tables.check(&self.node, NODE_MAINTENANCE).map(|row| Arc::clone(&row.notes));
        let checks = tables.each_check_on(&self.node).map(|row| &**row);
        let instances: Vec<_> = taken_out(checks).collect();
        drop(tables);
        self.registry.take_out(node, instances);
    }

    /// Makes the row that says whether an instance is out, or the node if there is no id, be so.
    pub(super) fn put_maintenance(&self, tx: &mut Tx<'_>, id: &str, reason: Option<&Arc<str>>) {
        let Some(reason) = reason else {
            let key = Key::Check(Arc::clone(&self.node), check_id(id).into());
            tx.delete(key);
            return;
        };
        let row = self.maintenance(id, reason, tx.now());
        let since = tx.check(&self.node, &row.id).map_or(row.since, |held| held.since);
        tx.put(Check { since, ..row });
    }

    fn maintenance(&self, id: &str, reason: &Arc<str>, now: Timestamp) -> Check {
        let name = if id.is_empty() { "Node Maintenance Mode" } else { "Service Maintenance Mode" };
        let shape = CheckShape {
            node: Arc::clone(&self.node),
            name: name.into(),
            notes: Arc::clone(reason),
            kind: rows::MAINTENANCE.into(),
            origin: Origin::Agent,
            ..CheckShape::default()
        };
        Check {
            id: check_id(id).into(),
            service: id.into(),
            status: Health::Critical,
            judged: true,
            since: now.millis(),
            shape: shape.into(),
            ..Check::default()
        }
    }
}

/// The instances that checks say are out, and why.
pub(super) fn taken_out<'a>(
    checks: impl IntoIterator<Item = &'a Check>,
) -> impl Iterator<Item = (InstanceId, Arc<str>)> {
    checks.into_iter().filter_map(|check| {
        let id = check.id.strip_prefix(SERVICE_MAINTENANCE)?.parse().ok()?;
        Some((id, Arc::clone(&check.notes)))
    })
}

/// Whether operators have taken an instance out, or the node with all its instances.
pub(super) fn is_out(tables: &Tables, node: &str, instance: &str) -> bool {
    [instance, ""].iter().any(|out| tables.check(node, &check_id(out)).is_some())
}

/// The id of the check that takes an instance out, or the node if there is no id.
fn check_id(instance: &str) -> String {
    match instance {
        "" => NODE_MAINTENANCE.to_owned(),
        id => format!("{SERVICE_MAINTENANCE}{id}"),
    }
}
