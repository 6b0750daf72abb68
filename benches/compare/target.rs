//! The targets: each has a loopback address of its own.

use std::net::Ipv4Addr;

/// The address of the first target.
const FIRST: u32 = 0x7f01_0000;

/// The most targets there can be: the last address is a broadcast.
pub(super) const MOST: u32 = 0x7fff_ffff - FIRST;

/// The address of a target.
pub(super) fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + index % MOST)
}

/// The target of an address.
pub(super) fn index(address: Ipv4Addr) -> Option<usize> {
    usize::try_from(u32::from(address).checked_sub(FIRST)?).ok()
}
