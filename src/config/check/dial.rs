//! Refuses settings of `dial` that contradict each other, or that no probe would heed.

use super::head;
use crate::{
    config::{diagnostic::Problem, read::Reader, tree::Node},
    probe::{
        Protocol,
        dial::{Addresses, Family, Require, Spec},
    },
};

/// Judges how a check of a protocol is to find its target. What comes from defaults is not held
/// against a check that has no use for it.
pub(super) fn vet(
    reader: &mut Reader<'_>,
    node: &Node,
    dial: Option<&Spec>,
    protocol: Protocol,
) -> Option<()> {
    let (Some(dial), Some(written)) = (dial, node.get("dial")) else { return Some(()) };
    let Err((rule, label)) = judge(dial, protocol) else { return Some(()) };
    let place = reader.place(&head(written));
    reader.report(Problem::error(rule).at(place, label));
    None
}

fn judge(dial: &Spec, protocol: Protocol) -> Result<(), (&'static str, &'static str)> {
    if !protocol.uses_network() {
        return Err(("`dial` is for checks that use the network", "a program finds its own way"));
    }
    if dial.require != Require::default() && dial.addresses != Addresses::Each {
        let label = "only one address is asked";
        return Err(("`require` needs `addresses: each`", label));
    }
    let family = dial.family;
    if let Some(source) = dial.source_address
        && (source.is_ipv4() && family == Family::Ipv6
            || source.is_ipv6() && family == Family::Ipv4)
    {
        let rule = "`source_address` and `family` contradict each other";
        return Err((rule, "no address could be used"));
    }
    if dial.resolver.is_some_and(|resolver| resolver.port() == 0) {
        return Err(("`resolver` needs a port, such as 53", "has port 0"));
    }
    Ok(())
}
