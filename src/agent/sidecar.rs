//! Where the proxies of services listen that name no port.

use std::collections::HashSet;

use crate::store::Tables;

/// Where Consul puts them.
const PORTS: std::ops::RangeInclusive<u16> = 21_000..=21_255;

/// The port of a proxy: that which it has, or the first of Consul's that no instance has. To be put
/// in the same write: another would choose the same.
pub(super) fn port(tables: &Tables, node: &str, id: &str) -> u16 {
    let held = tables.instance(node, id).map(|held| held.port);
    let taken: HashSet<u16> = tables.each_instance_on(node).map(|row| row.port).collect();
    held.or_else(|| PORTS.into_iter().find(|port| !taken.contains(port))).unwrap_or(0)
}
