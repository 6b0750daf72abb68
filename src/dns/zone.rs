//! What the answers have in common: the domains, our own names, and the settings.

use std::sync::Arc;

use hickory_proto::rr::Name;

use super::{Config, Domain};

/// The longest a record may be kept, in seconds: RFC 2181 section 8.
const MAX_TTL: u64 = 0x7fff_ffff;

/// What is answered for, and how.
#[derive(Debug, Clone)]
pub struct Zone {
    config: Config,
    /// The data centre of all that is known here, in lower case.
    pub(super) datacenter: Arc<str>,
    /// The node that is the name server: this one.
    pub(super) node: Arc<str>,
    /// Names of services in lower case, with a `*` at the end or not.
    ttls: Vec<(Box<str>, u32)>,
}

impl Zone {
    /// A zone as configured, of this data centre, answered for by this node.
    pub fn new(config: Config, datacenter: &str, node: Arc<str>) -> Self {
        let ttls = config.service_ttl.iter();
        let ttls = ttls.map(|(name, ttl)| (name.to_lowercase().into(), whole(ttl.get().as_secs())));
        let mut ttls: Vec<_> = ttls.collect();
        // Exact names go before patterns, long patterns before short ones.
        ttls.sort_by_key(|(name, _): &(Box<str>, u32)| {
            (name.ends_with('*'), std::cmp::Reverse(name.len()))
        });
        Self { datacenter: datacenter.to_lowercase().into(), node, ttls, config }
    }

    /// The domain a name is in, if it is in one of ours; the longest if in both.
    pub(super) fn domain_of(&self, name: &Name) -> Option<&Domain> {
        [Some(&self.config.domain), self.config.alt_domain.as_ref()]
            .into_iter()
            .flatten()
            .filter(|domain| domain.name().zone_of(name))
            .max_by_key(|domain| domain.name().iter().count())
    }

    /// The domain that names in answers are in when nothing was asked in any.
    pub(super) const fn domain(&self) -> &Domain {
        &self.config.domain
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn node_ttl(&self) -> u32 {
        whole(self.config.node_ttl.get().as_secs())
    }

    /// The time that records of a service, in lower case, may be kept.
    pub(super) fn service_ttl(&self, name: &str) -> u32 {
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        self.ttls.iter().find(|(pattern, _)| matches(pattern)).map_or(0, |(_, ttl)| *ttl)
    }
}

fn whole(seconds: u64) -> u32 {
    u32::try_from(seconds.min(MAX_TTL)).unwrap_or(u32::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::Period;

    #[test]
    fn the_exact_name_goes_before_the_longest_prefix_and_that_before_any() {
        let ttl = |pairs: &[(&str, u64)], name: &str| {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), Period::from_secs(*v)));
            let config = Config { service_ttl: pairs.collect(), ..Config::default() };
            Zone::new(config, "dc1", "n".into()).service_ttl(name)
        };
        let all = [("*", 1), ("we*", 2), ("web*", 3), ("Web", 4), ("web-longer", 5)];
        assert_eq!(ttl(&all, "web"), 4);
        assert_eq!(ttl(&all, "webx"), 3);
        assert_eq!(ttl(&all, "wex"), 2);
        assert_eq!(ttl(&all, "x"), 1);
        assert_eq!(ttl(&[("web", 9)], "other"), 0);
        assert_eq!(ttl(&[("*", u64::MAX)], "other"), 0x7fff_ffff);
    }
}
