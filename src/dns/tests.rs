//! Questions and answers, without sockets.

use std::{collections::BTreeSet, fmt::Write as _};

use expect_test::{Expect, expect};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use proptest::prelude::*;

use super::*;

mod limits;
mod zone;

/// A directory that is written out.
#[derive(Debug, Clone, Default)]
pub(super) struct Fixed {
    nodes: Vec<Arc<Node>>,
    services: Vec<(String, Instance)>,
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

fn host(text: &str) -> Option<Host> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

impl Fixed {
    fn node(mut self, name: &str, address: &str, meta: &[(&str, &str)]) -> Self {
        let meta = meta.iter().map(|(key, value)| (text(key), text(value))).collect();
        self.nodes.push(Arc::new(Node { name: text(name), address: host(address), meta }));
        self
    }

    /// An instance on the node put last.
    fn has(mut self, name: &str, at: (&str, u16), tags: &str, health: Health) -> Self {
        let instance = Instance {
            node: Arc::clone(self.nodes.last().unwrap()),
            address: host(at.0),
            port: at.1,
            tags: tags.split_whitespace().map(text).collect(),
            health,
            weight_passing: 10,
            weight_warning: 2,
        };
        self.services.push((name.to_owned(), instance));
        self
    }
}

impl Directory for Fixed {
    fn service(&self, name: &str) -> Vec<Instance> {
        let found = self.services.iter().filter(|(known, _)| known.to_lowercase() == name);
        found.map(|(_, instance)| instance.clone()).collect()
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.iter().find(|node| node.name.to_lowercase() == name).cloned()
    }

    fn nodes_at(&self, address: IpAddr) -> Vec<Arc<str>> {
        let here = self.nodes.iter().filter(|node| node.address == Some(Host::Ip(address)));
        here.map(|node| Arc::clone(&node.name)).collect()
    }

    fn services_at(&self, address: IpAddr) -> Vec<Arc<str>> {
        let here = |instance: &Instance| instance.address == Some(Host::Ip(address));
        let names = self.services.iter().filter(|(_, instance)| here(instance));
        names.map(|(name, _)| text(name)).collect()
    }
}

/// Three nodes with all kinds of services on them.
fn town() -> Fixed {
    use Health::{Critical, Passing, Warning};
    Fixed::default()
        .node("Node-1", "10.0.0.1", &[("rack", "r=1"), ("a=b", "c"), ("rfc1035-note", "hello")])
        .has("Web", ("", 8080), "Blue v1.2", Passing)
        .has("mail", ("192.0.2.7", 25), "", Passing)
        .has("six", ("2001:db8::7", 53), "", Passing)
        .has("ext", ("www.example.com", 443), "", Passing)
        .has("down", ("", 1), "", Critical)
        .has("loop", ("loop.service.consul", 7), "", Passing)
        .node("b.two", "10.0.0.2", &[])
        .has("web", ("", 8080), "v1.2", Warning)
        .has("ext", ("other.example.com", 443), "", Critical)
        .node("far", "far.example.com", &[("x", "y")])
        .has("far", ("", 9), "", Passing)
        .node("nowhere", "", &[])
        .has("lost", ("", 9), "", Passing)
}

fn zone(config: Config) -> Zone {
    Zone::new(config, "dc1", "Node-1".into())
}

fn named(name: &str) -> Name {
    let labels = name.split('.').filter(|label| !label.is_empty());
    Name::from_labels(labels.map(str::as_bytes)).unwrap()
}

fn query(name: &str, kind: &str) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let kind = if kind == "IXFR" { RecordType::IXFR } else { kind.parse().unwrap() };
    message.add_query(Query::query(named(name), kind));
    message
}

fn bytes(config: Config, directory: &Fixed, query: &Message, transport: Transport) -> Vec<u8> {
    let query = query.to_vec().unwrap();
    let asking = Asking { query: &query, transport, seed: 1, now: 1_800_000_000 };
    answer(&zone(config), directory, asking).unwrap().message
}

fn asked(config: Config, directory: &Fixed, query: &Message, transport: Transport) -> Message {
    let answer = Message::from_vec(&bytes(config, directory, query, transport)).unwrap();
    assert_eq!(answer.metadata.id, 7);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert!(answer.metadata.recursion_desired && !answer.metadata.recursion_available);
    answer
}

fn line(section: &str, record: &Record) -> String {
    let data = if let RData::TXT(txt) = &record.data {
        let strings = txt.txt_data.iter().map(|s| String::from_utf8_lossy(s).into_owned());
        format!("{:?}", strings.collect::<Vec<_>>())
    } else {
        record.data.to_string()
    };
    format!("{section} {} {} {} {data}\n", record.name, record.ttl, record.record_type())
}

/// An answer as text: code, flags, records in a fixed order.
fn shown(answer: &Message) -> String {
    let mut out = answer.metadata.response_code.to_string();
    for (set, word) in [(answer.metadata.authoritative, " aa"), (answer.metadata.truncation, " tc")]
    {
        out.push_str(if set { word } else { "" });
    }
    out.push('\n');
    let sections = [
        ("answer", &answer.answers),
        ("authority", &answer.authorities),
        ("more", &answer.additionals),
    ];
    for (name, records) in sections {
        let lines: BTreeSet<String> = records.iter().map(|record| line(name, record)).collect();
        out.extend(lines);
    }
    out
}

#[track_caller]
fn check(questions: &[(&str, &str)], expected: &Expect) {
    check_with(&Config::default(), questions, expected);
}

/// Asks by TCP, so that nothing is cut.
#[track_caller]
fn check_with(config: &Config, questions: &[(&str, &str)], expected: &Expect) {
    let mut out = String::new();
    for (name, kind) in questions {
        let answer = asked(config.clone(), &town(), &query(name, kind), Transport::Tcp);
        assert!(answer.queries[0].name().eq_case(&named(name)));
        write!(out, "{name} {kind}: {}", shown(&answer)).unwrap();
    }
    expected.assert_eq(&out);
}

#[test]
fn a_service_has_the_addresses_of_its_instances_that_are_not_critical() {
    check(
        &[
            ("web.service.consul.", "A"),
            ("WEB.Service.Consul.", "A"),
            ("web.service.dc1.consul.", "A"),
            ("web.service.DC1.dc.consul.", "ANY"),
            ("web.service.consul.", "AAAA"),
            ("web.service.consul.", "TXT"),
            ("six.service.consul.", "AAAA"),
            ("six.service.consul.", "A"),
            ("down.service.consul.", "A"),
            ("none.service.consul.", "A"),
            ("web.service.dc2.consul.", "A"),
            ("web.service.dc1.x.consul.", "A"),
        ],
        &expect![[r"
            web.service.consul. A: No Error aa
            answer web.service.consul. 0 A 10.0.0.1
            answer web.service.consul. 0 A 10.0.0.2
            WEB.Service.Consul. A: No Error aa
            answer WEB.Service.Consul. 0 A 10.0.0.1
            answer WEB.Service.Consul. 0 A 10.0.0.2
            web.service.dc1.consul. A: No Error aa
            answer web.service.dc1.consul. 0 A 10.0.0.1
            answer web.service.dc1.consul. 0 A 10.0.0.2
            web.service.DC1.dc.consul. ANY: No Error aa
            answer web.service.DC1.dc.consul. 0 A 10.0.0.1
            answer web.service.DC1.dc.consul. 0 A 10.0.0.2
            web.service.consul. AAAA: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            web.service.consul. TXT: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            six.service.consul. AAAA: No Error aa
            answer six.service.consul. 0 AAAA 2001:db8::7
            six.service.consul. A: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            down.service.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            none.service.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            web.service.dc2.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            web.service.dc1.x.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
        "]],
    );
}

#[test]
fn a_host_name_is_an_alias_unless_it_is_the_name_itself() {
    check(
        &[
            ("ext.service.consul.", "A"),
            ("ext.service.consul.", "SRV"),
            ("loop.service.consul.", "A"),
            ("far.service.consul.", "A"),
            ("far.service.consul.", "SRV"),
            ("far.node.consul.", "A"),
            ("far.node.consul.", "ANY"),
            ("lost.service.consul.", "A"),
            ("lost.service.consul.", "SRV"),
        ],
        &expect![[r#"
            ext.service.consul. A: No Error aa
            answer ext.service.consul. 0 CNAME www.example.com.
            ext.service.consul. SRV: No Error aa
            answer ext.service.consul. 0 SRV 1 10 443 www.example.com.
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            loop.service.consul. A: No Error aa
            answer loop.service.consul. 0 A 10.0.0.1
            far.service.consul. A: No Error aa
            answer far.service.consul. 0 CNAME far.example.com.
            far.service.consul. SRV: No Error aa
            answer far.service.consul. 0 SRV 1 10 9 far.example.com.
            far.node.consul. A: No Error aa
            answer far.node.consul. 0 CNAME far.example.com.
            far.node.consul. ANY: No Error aa
            answer far.node.consul. 0 CNAME far.example.com.
            lost.service.consul. A: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            lost.service.consul. SRV: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
        "#]],
    );
}

#[test]
fn srv_records_name_the_node_or_the_address_and_say_where_that_is() {
    check(
        &[
            ("web.service.consul.", "SRV"),
            ("mail.service.consul.", "SRV"),
            ("six.service.consul.", "SRV"),
            ("_web._tcp.consul.", "SRV"),
            ("_web._tcp.dc1.consul.", "SRV"),
            ("_web._tcp.service.consul.", "SRV"),
            ("_web._blue.service.consul.", "A"),
            ("_web._tcp.consul.", "A"),
            ("_none._tcp.consul.", "SRV"),
            ("_tcp.service.consul.", "A"),
        ],
        &expect![[r#"
            web.service.consul. SRV: No Error aa
            answer web.service.consul. 0 SRV 1 10 8080 Node-1.node.dc1.consul.
            answer web.service.consul. 0 SRV 1 2 8080 b.two.node.dc1.consul.
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            more b.two.node.dc1.consul. 0 A 10.0.0.2
            mail.service.consul. SRV: No Error aa
            answer mail.service.consul. 0 SRV 1 10 25 c0000207.addr.dc1.consul.
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            more c0000207.addr.dc1.consul. 0 A 192.0.2.7
            six.service.consul. SRV: No Error aa
            answer six.service.consul. 0 SRV 1 10 53 20010db8000000000000000000000007.addr.dc1.consul.
            more 20010db8000000000000000000000007.addr.dc1.consul. 0 AAAA 2001:db8::7
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            _web._tcp.consul. SRV: No Error aa
            answer _web._tcp.consul. 0 SRV 1 10 8080 Node-1.node.dc1.consul.
            answer _web._tcp.consul. 0 SRV 1 2 8080 b.two.node.dc1.consul.
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            more b.two.node.dc1.consul. 0 A 10.0.0.2
            _web._tcp.dc1.consul. SRV: No Error aa
            answer _web._tcp.dc1.consul. 0 SRV 1 10 8080 Node-1.node.dc1.consul.
            answer _web._tcp.dc1.consul. 0 SRV 1 2 8080 b.two.node.dc1.consul.
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            more b.two.node.dc1.consul. 0 A 10.0.0.2
            _web._tcp.service.consul. SRV: No Error aa
            answer _web._tcp.service.consul. 0 SRV 1 10 8080 Node-1.node.dc1.consul.
            answer _web._tcp.service.consul. 0 SRV 1 2 8080 b.two.node.dc1.consul.
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            more b.two.node.dc1.consul. 0 A 10.0.0.2
            _web._blue.service.consul. A: No Error aa
            answer _web._blue.service.consul. 0 A 10.0.0.1
            _web._tcp.consul. A: No Error aa
            answer _web._tcp.consul. 0 A 10.0.0.1
            answer _web._tcp.consul. 0 A 10.0.0.2
            _none._tcp.consul. SRV: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            _tcp.service.consul. A: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
        "#]],
    );
}

#[test]
fn a_tag_picks_instances_and_may_have_dots() {
    check(
        &[
            ("blue.web.service.consul.", "A"),
            ("v1.2.web.service.consul.", "A"),
            ("v1.web.service.consul.", "A"),
            ("_web._blue.consul.", "SRV"),
        ],
        &expect![[r#"
            blue.web.service.consul. A: No Error aa
            answer blue.web.service.consul. 0 A 10.0.0.1
            v1.2.web.service.consul. A: No Error aa
            answer v1.2.web.service.consul. 0 A 10.0.0.1
            answer v1.2.web.service.consul. 0 A 10.0.0.2
            v1.web.service.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            _web._blue.consul. SRV: No Error aa
            answer _web._blue.consul. 0 SRV 1 10 8080 Node-1.node.dc1.consul.
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            more Node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 0 TXT ["hello"]
            more Node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
        "#]],
    );
}

#[test]
fn a_node_has_its_address_and_its_metadata() {
    check(
        &[
            ("node-1.node.consul.", "A"),
            ("node-1.node.consul.", "AAAA"),
            ("node-1.node.dc1.consul.", "TXT"),
            ("node-1.node.consul.", "ANY"),
            ("b.two.node.consul.", "A"),
            ("b.two.node.consul.", "TXT"),
            ("nowhere.node.consul.", "A"),
            ("none.node.consul.", "A"),
        ],
        &expect![[r#"
            node-1.node.consul. A: No Error aa
            answer node-1.node.consul. 0 A 10.0.0.1
            more node-1.node.consul. 0 TXT ["a`=b=c"]
            more node-1.node.consul. 0 TXT ["hello"]
            more node-1.node.consul. 0 TXT ["rack=r=1"]
            node-1.node.consul. AAAA: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            node-1.node.dc1.consul. TXT: No Error aa
            answer node-1.node.dc1.consul. 0 TXT ["a`=b=c"]
            answer node-1.node.dc1.consul. 0 TXT ["hello"]
            answer node-1.node.dc1.consul. 0 TXT ["rack=r=1"]
            node-1.node.consul. ANY: No Error aa
            answer node-1.node.consul. 0 A 10.0.0.1
            answer node-1.node.consul. 0 TXT ["a`=b=c"]
            answer node-1.node.consul. 0 TXT ["hello"]
            answer node-1.node.consul. 0 TXT ["rack=r=1"]
            b.two.node.consul. A: No Error aa
            answer b.two.node.consul. 0 A 10.0.0.2
            b.two.node.consul. TXT: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            nowhere.node.consul. A: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            none.node.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
        "#]],
    );
    let config = Config { node_meta_txt: false, ..Config::default() };
    check_with(
        &config,
        &[("node-1.node.consul.", "A"), ("web.service.consul.", "SRV")],
        &expect![[r"
            node-1.node.consul. A: No Error aa
            answer node-1.node.consul. 0 A 10.0.0.1
            web.service.consul. SRV: No Error aa
            answer web.service.consul. 0 SRV 1 10 8080 Node-1.node.dc1.consul.
            answer web.service.consul. 0 SRV 1 2 8080 b.two.node.dc1.consul.
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            more b.two.node.dc1.consul. 0 A 10.0.0.2
        "]],
    );
}

#[test]
fn an_address_may_be_spelt_out() {
    check(
        &[
            ("0a000001.addr.consul.", "A"),
            ("20010db8000000000000000000000007.addr.dc1.consul.", "AAAA"),
            ("0a000001.addr.consul.", "SRV"),
            ("0a00001.addr.consul.", "A"),
            ("+a000001.addr.consul.", "A"),
            ("x.0a000001.addr.consul.", "A"),
        ],
        &expect![[r"
            0a000001.addr.consul. A: No Error aa
            answer 0a000001.addr.consul. 0 A 10.0.0.1
            20010db8000000000000000000000007.addr.dc1.consul. AAAA: No Error aa
            answer 20010db8000000000000000000000007.addr.dc1.consul. 0 AAAA 2001:db8::7
            0a000001.addr.consul. SRV: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            more 0a000001.addr.consul. 0 A 10.0.0.1
            0a00001.addr.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            +a000001.addr.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            x.0a000001.addr.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
        "]],
    );
}
