//! Probes that were made ready a moment ago.
//!
//! Checks that are registered one after the other most often ask the same of another address, and to
//! make a probe ready is a good part of a registration: it may hold a client of TLS.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{Arc, Weak},
};

use crate::probe::{PrepareError, Probe, Spec, egress::Origin};

/// Probes that a thread looks through for one that is the same.
const KEPT: usize = 8;

thread_local! {
    /// The latest, the last one first. They live as long as somebody asks them.
    static LATEST: RefCell<VecDeque<(Spec, Origin, Weak<Probe>)>> = RefCell::default();
}

/// A probe made ready, or one that was and is in use. None of them reads files: what is registered
/// in Consul's form names none.
pub(super) fn probe(spec: Spec, origin: Origin) -> Result<Arc<Probe>, PrepareError> {
    LATEST.with_borrow_mut(|latest| {
        let same = latest.iter().position(|(held, by, _)| *by == origin && *held == spec);
        let same = same.and_then(|place| latest.remove(place));
        let live = same.as_ref().and_then(|(_, _, probe)| probe.upgrade());
        let probe = match live {
            Some(probe) => probe,
            None => Arc::new(Probe::prepare(&spec)?.wanted_by(origin)),
        };
        latest.truncate(KEPT - 1);
        latest.push_front((spec, origin, Arc::downgrade(&probe)));
        Ok(probe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::parse_url;

    fn spec(path: usize) -> Spec {
        parse_url(&format!("http://10.0.0.1/{path}")).unwrap().0
    }

    #[test]
    fn a_probe_in_use_is_shared_with_who_asks_the_same_on_the_same_authority() {
        let first = probe(spec(1), Origin::Api).unwrap();
        assert!(Arc::ptr_eq(&first, &probe(spec(1), Origin::Api).unwrap()));
        assert!(!Arc::ptr_eq(&first, &probe(spec(1), Origin::Configuration).unwrap()));
        assert!(!Arc::ptr_eq(&first, &probe(spec(2), Origin::Api).unwrap()));
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_none(), "nothing is kept alive");
        assert_eq!(
            *probe(spec(1), Origin::Api).unwrap(),
            Probe::prepare(&spec(1)).unwrap().wanted_by(Origin::Api)
        );
    }

    #[test]
    fn few_are_looked_through() {
        let probes: Vec<_> = (0..=KEPT).map(|n| probe(spec(n), Origin::Api).unwrap()).collect();
        assert_eq!(LATEST.with_borrow(VecDeque::len), KEPT);
        assert!(Arc::ptr_eq(&probes[1], &probe(spec(1), Origin::Api).unwrap()));
        assert!(!Arc::ptr_eq(&probes[0], &probe(spec(0), Origin::Api).unwrap()));
    }
}
