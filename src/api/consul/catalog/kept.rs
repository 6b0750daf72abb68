//! What the agent answers for on our own node: nobody changes or removes it through the catalog,
//! by itself or in a transaction, except for tags that an instance leaves to the catalog.

use std::sync::Arc;

use crate::{
    agent::{ALIVE, CONSUL},
    store::{
        Tables, folded,
        row::{Check, Node, Service},
    },
};

/// Our own node, if a node of this name is it.
pub(in crate::api::consul) fn node(tables: &Tables, own: &str, name: &str) -> Option<Arc<Node>> {
    tables.node(name).filter(|_| folded(name) == folded(own)).cloned()
}

/// The instance of this id if our agent answers for it.
pub(in crate::api::consul) fn service(
    tables: &Tables,
    own: &str,
    node: &str,
    id: &str,
) -> Option<Arc<Service>> {
    let is_kept = |row: &&Arc<Service>| row.origin.is_local() || id == CONSUL;
    let held = tables.instance(node, id).filter(|_| folded(node) == folded(own));
    held.filter(is_kept).cloned()
}

/// The check of this id if our agent answers for it.
pub(in crate::api::consul) fn check(
    tables: &Tables,
    own: &str,
    node: &str,
    id: &str,
) -> Option<Arc<Check>> {
    let is_kept = |row: &&Arc<Check>| row.origin.is_local() || id == ALIVE;
    let held = tables.check(node, id).filter(|_| folded(node) == folded(own));
    held.filter(is_kept).cloned()
}

/// A kept instance with these tags, if it leaves them to the catalog; else as it is.
pub(in crate::api::consul) fn tagged(held: &Service, tags: Arc<[Arc<str>]>) -> Service {
    let mut row = held.clone();
    if held.extras.as_ref().is_some_and(|extras| extras.enable_tag_override) {
        Arc::make_mut(&mut row.shape).tags = tags;
    }
    row
}
