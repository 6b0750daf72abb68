//! Refuses checks of addresses that probes may not go to.
//!
//! Only literals can be judged here; what a name resolves to, and where a redirect leads, is judged
//! when the connection is made.

use super::{
    diagnostic::{Place, Problem},
    read::Reader,
    tree::Node,
};
use crate::probe::{Host, egress::Cidr};

/// Reports a host whose address is denied.
pub(super) fn vet(reader: &mut Reader<'_>, host: &Host, place: Place) {
    let Host::Ip(ip) = host else { return };
    if let Err(denied) = reader.may.egress.vet(*ip) {
        reader.report(
            Problem::error(denied.to_string())
                .at(place, "every probe would be denied")
                .help(denied.remedy()),
        );
    }
}

/// Warns of exceptions that are none: `allow` is easily taken for a list of all that is allowed.
pub(super) fn warn(reader: &mut Reader<'_>, root: &Node) {
    let egress = root.get("egress");
    let sections = [egress, egress.and_then(|egress| egress.get("api"))].into_iter().flatten();
    let lists = sections.filter_map(|section| section.get("allow"));
    for node in lists.flat_map(Node::items) {
        let cidr = node.as_str().and_then(|text| text.parse::<Cidr>().ok());
        if cidr.is_some_and(|cidr| !cidr.is_exception()) {
            let place = reader.place(&node.span);
            reader.report(
                Problem::warning("this exception changes nothing")
                    .at(place, "is not within one of the networks denied from the start")
                    .help("what is not denied is allowed; to forbid more, use `egress.deny`"),
            );
        }
    }
}
