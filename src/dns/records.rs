//! The records that answer what is asked for.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
    },
};

use super::{
    Directory, Domain, Health, Instance, Node, Zone,
    name::{Asked, hex},
    reply::{Found, Reply},
};
use crate::{compact::Pairs, probe::Host};

/// Longest string within a TXT record, by RFC 1035.
const MAX_STRING: usize = 255;

/// A question and what it is answered from.
pub(super) struct Question<'a> {
    pub(super) zone: &'a Zone,
    pub(super) directory: &'a dyn Directory,
    /// The name asked for, in the case of letters it was asked in.
    pub(super) name: &'a Name,
    pub(super) kind: RecordType,
    /// The domain that names in the answer are in.
    pub(super) domain: &'a Domain,
    /// The wall clock in seconds, the serial number of the zone.
    pub(super) serial: u32,
}

impl Question<'_> {
    /// The answer for a name in our zone; `shuffle` puts instances in an order of its own.
    pub(super) fn answer(&self, asked: Asked, shuffle: impl FnOnce(&mut [Instance])) -> Reply {
        match asked {
            Asked::Apex => self.apex(),
            Asked::NameServer => match self.directory.node(&self.zone.node.to_lowercase()) {
                Some(node) => self.addresses(self.host_records(self.name, node.address.as_ref())),
                None => self.missing(),
            },
            Asked::Above => self.nothing(),
            Asked::Nothing => self.missing(),
            Asked::Service { name, tag } => self.service(&name, tag.as_deref(), shuffle),
            Asked::Node(name) => match self.directory.node(&name) {
                Some(node) => self.node(&node),
                None => self.missing(),
            },
            Asked::Address(address) => self.address(address),
        }
    }

    /// The names at an address; `zone` is where reverse names of its kind are.
    pub(super) fn reverse(&self, zone: &Name, address: IpAddr) -> Reply {
        let nodes = self.directory.nodes_at(address);
        let mut names: Vec<Name> = nodes.iter().filter_map(|name| self.node_name(name)).collect();
        if names.is_empty() {
            let services = self.directory.services_at(address);
            names.extend(services.iter().filter_map(|name| self.name([name], "service")));
        }
        match (names.is_empty(), self.wants(RecordType::PTR)) {
            (true, _) => Reply::none(ResponseCode::NXDomain, self.soa(zone)),
            (false, false) => Reply::none(ResponseCode::NoError, self.soa(zone)),
            (false, true) => {
                let record = |name| self.own(0, RData::PTR(PTR(name))).into();
                Reply::found(names.into_iter().map(record).collect())
            }
        }
    }

    fn service(
        &self,
        name: &str,
        tag: Option<&str>,
        shuffle: impl FnOnce(&mut [Instance]),
    ) -> Reply {
        let mut instances = self.directory.service(name);
        instances.retain(|instance| self.may_show(instance) && has_tag(instance, tag));
        if instances.is_empty() {
            // `_tcp` alone is above `_web._tcp`.
            return if name.starts_with('_') { self.nothing() } else { self.missing() };
        }
        shuffle(&mut instances);
        let ttl = self.zone.service_ttl(name);
        if self.kind != RecordType::SRV {
            return self.found(self.service_addresses(&instances, ttl));
        }
        let mut reply = self.found(self.srv(&instances, ttl));
        if self.zone.config().node_meta_txt && !reply.found.is_empty() {
            let nodes: BTreeMap<_, _> =
                instances.iter().map(|instance| (&instance.node.name, &*instance.node)).collect();
            reply.asides = nodes.into_values().flat_map(|node| self.meta(node, ttl)).collect();
        }
        reply
    }

    fn may_show(&self, instance: &Instance) -> bool {
        match instance.health {
            Health::Passing => true,
            Health::Warning => !self.zone.config().only_passing,
            Health::Critical => false,
        }
    }

    /// The addresses of instances, each once. A host name is given only where there is no address
    /// at all, since an alias stands alone.
    fn service_addresses(&self, instances: &[Instance], ttl: u32) -> Vec<Found> {
        let mut seen = HashSet::new();
        let hosts: Vec<&Host> =
            instances.iter().filter_map(|instance| self.host(instance)).collect();
        let addresses = hosts.iter().filter_map(|host| ip(host));
        let any = hosts.iter().any(|host| ip(host).is_some());
        if !any {
            let alias = hosts.iter().find_map(|host| self.alias(self.name, host, ttl));
            return alias.into_iter().map(Found::from).collect();
        }
        let most = match usize::from(self.zone.config().a_record_limit) {
            0 => usize::MAX,
            limit => limit,
        };
        addresses
            .map(|address| address_record(self.name, ttl, address))
            .filter(|record| self.wants(record.record_type()) && seen.insert(record.data.clone()))
            .take(most)
            .map(Found::from)
            .collect()
    }

    fn srv(&self, instances: &[Instance], ttl: u32) -> Vec<Found> {
        let mut seen = HashSet::new();
        let instances = instances.iter().filter(|instance| {
            seen.insert((&instance.node.name, self.host(instance), instance.port))
        });
        instances.filter_map(|instance| self.srv_of(instance, ttl)).collect()
    }

    fn srv_of(&self, instance: &Instance, ttl: u32) -> Option<Found> {
        let host = self.host(instance)?;
        let own = self.own_host(instance).is_some();
        let node = self.node_name(&instance.node.name).filter(|_| !own);
        let (target, address) = match (host, node) {
            (Host::Name(name), _) => (external(name)?, None),
            (Host::Ip(address), Some(node)) => (node, Some(*address)),
            (Host::Ip(address), None) => (self.name([&hex(*address)], "addr")?, Some(*address)),
        };
        let weight = match instance.health {
            Health::Warning => instance.weight_warning,
            Health::Passing | Health::Critical => instance.weight_passing,
        };
        let extras =
            address.into_iter().map(|address| address_record(&target, ttl, address)).collect();
        let record = self.own(ttl, RData::SRV(SRV::new(1, weight, instance.port, target)));
        Some(Found { record, extras })
    }

    /// A node's address and metadata. The name of a node that is elsewhere is an alias, which
    /// stands alone; its metadata is given to those who ask for nothing else.
    fn node(&self, node: &Node) -> Reply {
        let mut reply = self.addresses(self.host_records(self.name, node.address.as_ref()));
        let meta = txt(&node.meta).map(|txt| self.own(self.zone.node_ttl(), RData::TXT(txt)));
        let meta: Vec<Record> = meta.collect();
        let alias = reply.found.iter().any(|found| found.record.record_type() == RecordType::CNAME);
        if self.kind == RecordType::TXT {
            return self.found(meta.into_iter().map(Found::from).collect());
        }
        if !alias && self.kind == RecordType::ANY {
            let all = reply.found.into_iter().chain(meta.into_iter().map(Found::from));
            return self.found(all.collect());
        }
        if !alias && self.zone.config().node_meta_txt && !reply.found.is_empty() {
            reply.asides = meta;
        }
        reply
    }

    fn address(&self, address: IpAddr) -> Reply {
        let record = address_record(self.name, self.zone.node_ttl(), address);
        if self.wants(record.record_type()) {
            return Reply::found(vec![record.into()]);
        }
        Reply { asides: vec![record], ..self.nothing() }
    }

    fn apex(&self) -> Reply {
        let apex = self.domain.name();
        let mut found = Vec::new();
        if self.wants(RecordType::SOA) {
            found.push(self.soa(apex).into());
        }
        if self.wants(RecordType::NS)
            && let Some(target) = self.node_name(&self.zone.node)
        {
            let node = self.directory.node(&self.zone.node.to_lowercase());
            let address = node.as_ref().and_then(|node| node.address.as_ref());
            let extras = self.host_records(&target, address);
            let record = self.own(self.zone.node_ttl(), RData::NS(NS(target)));
            found.push(Found { record, extras });
        }
        self.found(found)
    }

    /// The records of a host under a name: its address, or the name it is an alias of.
    fn host_records(&self, name: &Name, host: Option<&Host>) -> Vec<Record> {
        let ttl = self.zone.node_ttl();
        let address = host.and_then(ip).map(|address| address_record(name, ttl, address));
        address.or_else(|| self.alias(name, host?, ttl)).into_iter().collect()
    }

    /// Of these records those that are asked for; an alias always is.
    fn addresses(&self, records: Vec<Record>) -> Reply {
        let wanted = |record: &Record| {
            let kind = record.record_type();
            kind == RecordType::CNAME || self.wants(kind)
        };
        self.found(records.into_iter().filter(wanted).map(Found::from).collect())
    }

    /// These records, or that there are none.
    fn found(&self, found: Vec<Found>) -> Reply {
        if found.is_empty() { self.nothing() } else { Reply::found(found) }
    }

    /// The name is there, without records of the type asked for.
    pub(super) fn nothing(&self) -> Reply {
        Reply::none(ResponseCode::NoError, self.soa(self.domain.name()))
    }

    fn missing(&self) -> Reply {
        Reply::none(ResponseCode::NXDomain, self.soa(self.domain.name()))
    }

    fn wants(&self, kind: RecordType) -> bool {
        self.kind == kind || self.kind == RecordType::ANY
    }

    /// Where an instance is: by its own address or its node's.
    fn host<'i>(&self, instance: &'i Instance) -> Option<&'i Host> {
        self.own_host(instance).or(instance.node.address.as_ref())
    }

    /// Its own address, unless that is the very name that is asked for.
    fn own_host<'i>(&self, instance: &'i Instance) -> Option<&'i Host> {
        let circular = |host: &Host| match host {
            Host::Ip(_) => false,
            Host::Name(name) => external(name).is_some_and(|name| name == *self.name),
        };
        instance.address.as_ref().filter(|host| !circular(host))
    }

    fn alias(&self, name: &Name, host: &Host, ttl: u32) -> Option<Record> {
        let Host::Name(target) = host else { return None };
        let target = external(target).filter(|target| target != self.name)?;
        Some(Record::from_rdata(name.clone(), ttl, RData::CNAME(CNAME(target))))
    }

    /// The metadata of a node, under the node's name.
    fn meta(&self, node: &Node, ttl: u32) -> Vec<Record> {
        // An alias stands alone.
        let alias = matches!(node.address, Some(Host::Name(_)));
        let Some(name) = self.node_name(&node.name).filter(|_| !alias) else { return Vec::new() };
        txt(&node.meta).map(|txt| Record::from_rdata(name.clone(), ttl, RData::TXT(txt))).collect()
    }

    /// A record of the name asked for.
    fn own(&self, ttl: u32, data: RData) -> Record {
        Record::from_rdata(self.name.clone(), ttl, data)
    }

    pub(super) fn soa(&self, zone: &Name) -> Record {
        let below = |label: &str| self.domain.name().prepend_label(label);
        let (server, mailbox) = match (below("ns"), below("hostmaster")) {
            (Ok(server), Ok(mailbox)) => (server, mailbox),
            (Err(_), _) | (_, Err(_)) => (zone.clone(), zone.clone()),
        };
        let soa = SOA::new(server, mailbox, self.serial, 3600, 600, 86_400, 0);
        Record::from_rdata(zone.clone(), 0, RData::SOA(soa))
    }

    fn node_name(&self, node: &str) -> Option<Name> {
        let labels: Vec<&str> = node.split('.').collect();
        self.name(labels, "node")
    }

    /// `<labels>.<kind>.<dc>.<domain>`; none if that is no name.
    fn name<'l>(
        &self,
        labels: impl IntoIterator<Item = impl AsRef<str> + 'l>,
        kind: &str,
    ) -> Option<Name> {
        let mut name = Name::new();
        for label in labels {
            name = name.append_label(label.as_ref().as_bytes()).ok()?;
        }
        let name = name.append_label(kind.as_bytes()).ok()?;
        let name = name.append_label(self.zone.datacenter.as_bytes()).ok()?;
        name.append_name(self.domain.name()).ok()
    }
}

/// Whether an instance has a tag, in any case of letters.
fn has_tag(instance: &Instance, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| instance.tags.iter().any(|tag| tag.to_lowercase() == wanted))
}

const fn ip(host: &Host) -> Option<IpAddr> {
    match host {
        Host::Ip(address) => Some(*address),
        Host::Name(_) => None,
    }
}

fn external(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn address_record(name: &Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name.clone(), ttl, data)
}

/// Metadata as RFC 1464 writes it: `key=value`, the key escaped. Keys that begin with `rfc1035-`
/// stand for plain texts: their values alone.
fn txt(meta: &Pairs) -> impl Iterator<Item = TXT> {
    meta.iter().map(|(key, value)| {
        let text = if key.to_ascii_lowercase().starts_with("rfc1035-") {
            value.to_string()
        } else {
            format!("{}={value}", escaped(key))
        };
        let strings: Vec<&[u8]> = match text.as_bytes() {
            [] => vec![&[]],
            bytes => bytes.chunks(MAX_STRING).collect(),
        };
        TXT::from_bytes(strings)
    })
}

/// An equals sign or a grave accent, and a blank at either end, are marked by a grave accent.
fn escaped(key: &str) -> String {
    let begins = key.len() - key.trim_start_matches([' ', '\t']).len();
    let ends = key.trim_end_matches([' ', '\t']).len();
    let mut out = String::with_capacity(key.len());
    for (at, letter) in key.char_indices() {
        let blank = at < begins || at >= ends;
        if blank || matches!(letter, '=' | '`') {
            out.push('`');
        }
        out.push(letter);
    }
    out
}
