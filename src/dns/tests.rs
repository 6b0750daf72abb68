//! Questions and answers, without sockets.

use std::{collections::BTreeSet, fmt::Write as _};

use expect_test::{Expect, expect};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use proptest::prelude::*;

use super::*;

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

#[test]
fn the_zone_says_who_serves_it() {
    check(
        &[
            ("consul.", "SOA"),
            ("consul.", "NS"),
            ("consul.", "A"),
            ("consul.", "ANY"),
            ("ns.consul.", "A"),
            ("service.consul.", "A"),
            ("dc1.consul.", "A"),
            ("node.dc1.consul.", "NS"),
            ("dc2.consul.", "A"),
            ("x.query.consul.", "A"),
            ("web.connect.consul.", "A"),
        ],
        &expect![[r"
            consul. SOA: No Error aa
            answer consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            consul. NS: No Error aa
            answer consul. 0 NS Node-1.node.dc1.consul.
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            consul. A: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            consul. ANY: No Error aa
            answer consul. 0 NS Node-1.node.dc1.consul.
            answer consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            more Node-1.node.dc1.consul. 0 A 10.0.0.1
            ns.consul. A: No Error aa
            answer ns.consul. 0 A 10.0.0.1
            service.consul. A: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            dc1.consul. A: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            node.dc1.consul. NS: No Error aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            dc2.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            x.query.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            web.connect.consul. A: Non-Existent Domain aa
            authority consul. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
        "]],
    );
}

#[test]
fn an_address_leads_back_to_the_node_or_the_service() {
    let six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    check(
        &[
            ("1.0.0.10.in-addr.arpa.", "PTR"),
            ("7.2.0.192.IN-ADDR.arpa.", "PTR"),
            (six, "PTR"),
            ("1.0.0.10.in-addr.arpa.", "A"),
            ("9.9.9.9.in-addr.arpa.", "PTR"),
            ("10.in-addr.arpa.", "PTR"),
            ("256.0.0.10.in-addr.arpa.", "PTR"),
            ("1.1.0.0.10.in-addr.arpa.", "PTR"),
        ],
        &expect![[r"
            1.0.0.10.in-addr.arpa. PTR: No Error aa
            answer 1.0.0.10.in-addr.arpa. 0 PTR Node-1.node.dc1.consul.
            7.2.0.192.IN-ADDR.arpa. PTR: No Error aa
            answer 7.2.0.192.IN-ADDR.arpa. 0 PTR mail.service.dc1.consul.
            7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR: No Error aa
            answer 7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 0 PTR six.service.dc1.consul.
            1.0.0.10.in-addr.arpa. A: No Error aa
            authority in-addr.arpa. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            9.9.9.9.in-addr.arpa. PTR: Non-Existent Domain aa
            authority in-addr.arpa. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            10.in-addr.arpa. PTR: No Error aa
            authority in-addr.arpa. 0 SOA ns.consul. hostmaster.consul. 1800000000 3600 600 86400 0
            256.0.0.10.in-addr.arpa. PTR: Query Refused
            1.1.0.0.10.in-addr.arpa. PTR: Query Refused
        "]],
    );
}

#[test]
fn what_is_not_ours_or_not_done_is_refused() {
    check(
        &[
            ("example.com.", "A"),
            ("notconsul.", "A"),
            (".", "NS"),
            ("home.arpa.", "A"),
            ("consul.", "AXFR"),
            ("consul.", "IXFR"),
        ],
        &expect![[r"
            example.com. A: Query Refused
            notconsul. A: Query Refused
            . NS: Query Refused
            home.arpa. A: Query Refused
            consul. AXFR: Not Implemented
            consul. IXFR: Not Implemented
        "]],
    );
    let mut chaos = query("version.bind.", "TXT");
    chaos.queries[0].set_query_class(DNSClass::CH);
    let answer = asked(Config::default(), &town(), &chaos, Transport::Udp);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn settings_change_the_answers() {
    let config = Config {
        domain: "Lan.Example".parse().unwrap(),
        alt_domain: Some("consul.".parse().unwrap()),
        only_passing: true,
        node_ttl: Period::from_secs(30),
        service_ttl: [("w*".to_owned(), Period::from_secs(5))].into(),
        ..Config::default()
    };
    check_with(
        &config,
        &[
            ("web.service.lan.example.", "SRV"),
            ("web.service.consul.", "SRV"),
            ("node-1.node.consul.", "A"),
            ("1.0.0.10.in-addr.arpa.", "PTR"),
            ("web.service.example.", "A"),
        ],
        &expect![[r#"
            web.service.lan.example. SRV: No Error aa
            answer web.service.lan.example. 5 SRV 1 10 8080 Node-1.node.dc1.lan.example.
            more Node-1.node.dc1.lan.example. 5 A 10.0.0.1
            more Node-1.node.dc1.lan.example. 5 TXT ["a`=b=c"]
            more Node-1.node.dc1.lan.example. 5 TXT ["hello"]
            more Node-1.node.dc1.lan.example. 5 TXT ["rack=r=1"]
            web.service.consul. SRV: No Error aa
            answer web.service.consul. 5 SRV 1 10 8080 Node-1.node.dc1.consul.
            more Node-1.node.dc1.consul. 5 A 10.0.0.1
            more Node-1.node.dc1.consul. 5 TXT ["a`=b=c"]
            more Node-1.node.dc1.consul. 5 TXT ["hello"]
            more Node-1.node.dc1.consul. 5 TXT ["rack=r=1"]
            node-1.node.consul. A: No Error aa
            answer node-1.node.consul. 30 A 10.0.0.1
            more node-1.node.consul. 30 TXT ["a`=b=c"]
            more node-1.node.consul. 30 TXT ["hello"]
            more node-1.node.consul. 30 TXT ["rack=r=1"]
            1.0.0.10.in-addr.arpa. PTR: No Error aa
            answer 1.0.0.10.in-addr.arpa. 0 PTR Node-1.node.dc1.lan.example.
            web.service.example. A: Query Refused
        "#]],
    );
}

/// So many instances, each on a node of its own.
fn crowd(instances: u32) -> Fixed {
    (0..instances).fold(Fixed::default(), |crowd, n| {
        let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes()).to_string();
        let crowd = crowd.node(&format!("node-{n}"), &address, &[("rack", "r1")]);
        crowd.has("web", ("", 8080), "", Health::Passing)
    })
}

fn with_size(size: u16, name: &str, kind: &str) -> Message {
    let mut message = query(name, kind);
    message.edns = Some(Edns::new());
    message.edns.as_mut().unwrap().set_max_payload(size);
    message
}

#[test]
fn an_answer_by_udp_is_cut_to_what_the_client_takes_and_says_so() {
    let plain = query("web.service.consul.", "A");
    for (instances, limit, sent, cut) in [(3, 3, 3, false), (4, 3, 3, true), (100, 8, 8, true)] {
        let config = Config { udp_answer_limit: limit, ..Config::default() };
        let answer = asked(config, &crowd(instances), &plain, Transport::Udp);
        assert_eq!((answer.answers.len(), answer.metadata.truncation), (sent, cut));
        assert!(answer.edns.is_none());
    }
    let counts = |size, kind| {
        let query = with_size(size, "web.service.consul.", kind);
        let bytes = bytes(Config::default(), &crowd(400), &query, Transport::Udp);
        assert!(bytes.len() <= usize::from(size.clamp(512, 4096)), "{}", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(answer.metadata.truncation && answer.edns.is_some());
        if kind == "SRV" {
            // An address for each target that is left, and for no other; no metadata.
            assert_eq!(answer.additionals.len(), answer.answers.len());
        }
        answer.answers.len()
    };
    // (512 - 12 - 24 - 11) / 16 and so on: nothing that would have fitted is left out.
    assert_eq!([0, 512, 1232, 4096, 65535].map(|size| counts(size, "A")), [29, 29, 74, 253, 253]);
    let srv = [512, 1232, 4096].map(|size| counts(size, "SRV"));
    assert!(srv[0] >= 3 && srv[1] >= 9 && srv[2] >= 35, "{srv:?}");
}

#[test]
fn an_answer_by_tcp_is_whole_up_to_64_kib() {
    let plain = query("web.service.consul.", "A");
    let answer = asked(Config::default(), &crowd(4000), &plain, Transport::Tcp);
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (4000, false));
    let bytes = bytes(Config::default(), &crowd(5000), &plain, Transport::Tcp);
    assert!(bytes.len() > 65_500 && bytes.len() <= 65_535);
    assert!(Message::from_vec(&bytes).unwrap().metadata.truncation);
    let config = Config { a_record_limit: 5, ..Config::default() };
    let answer = asked(config, &crowd(400), &plain, Transport::Tcp);
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (5, false));
}

#[test]
fn one_answer_that_is_too_large_goes_without_what_is_beside_it() {
    let meta = "m".repeat(512);
    let town = Fixed::default().node("node-1", "10.0.0.1", &[("a", &meta), ("b", &meta)]).has(
        "web",
        ("", 80),
        "",
        Health::Passing,
    );
    let ask = |name, kind| asked(Config::default(), &town, &query(name, kind), Transport::Udp);
    let answer = ask("web.service.consul.", "SRV");
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 1), "only the address");
    assert!(!answer.metadata.truncation);
    let answer = ask("node-1.node.consul.", "A");
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 0));
    assert!(!answer.metadata.truncation);
    let answer = ask("node-1.node.consul.", "TXT");
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (0, true));
    let answer =
        asked(Config::default(), &town, &query("node-1.node.consul.", "TXT"), Transport::Tcp);
    let RData::TXT(txt) = &answer.answers[0].data else { panic!("{answer}") };
    assert_eq!(txt.txt_data.iter().map(|part| part.len()).collect::<Vec<_>>(), [255, 255, 4]);
}

#[test]
fn one_answer_with_the_longest_names_goes_without_its_address() {
    let long = |last: usize| [63, 63, 63, last].map(|size| "t".repeat(size)).join(".");
    let town = Fixed::default().node(&long(10), "10.0.0.1", &[]).has(
        "web",
        ("", 80),
        &long(42),
        Health::Passing,
    );
    let srv = query(&format!("{}.web.service.consul.", long(42)), "SRV");
    let answer = asked(Config::default(), &town, &srv, Transport::Udp);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 0));
    assert!(!answer.metadata.truncation);
    let answer = asked(Config::default(), &town, &srv, Transport::Tcp);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 1));
}

#[test]
fn instances_come_in_an_order_of_chance() {
    let crowd = crowd(4);
    let plain = query("web.service.consul.", "A").to_vec().unwrap();
    let zone = zone(Config::default());
    let order = |seed| {
        let asking = Asking { query: &plain, transport: Transport::Tcp, seed, now: 0 };
        let answer = answer(&zone, &crowd, asking).unwrap();
        let answer = Message::from_vec(&answer.message).unwrap();
        answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(order(1), order(1));
    let orders: BTreeSet<_> = (0..500).map(order).collect();
    assert_eq!(orders.len(), 24, "every order there is");
}

#[test]
fn edns_is_answered_with_edns_and_a_later_version_refused() {
    let mut query = with_size(1232, "web.service.consul.", "A");
    query.edns.as_mut().unwrap().set_dnssec_ok(true);
    let answer = asked(Config::default(), &town(), &query, Transport::Udp);
    let edns = answer.edns.as_ref().unwrap();
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, 4096, true));
    query.edns.as_mut().unwrap().set_version(1);
    let answer = asked(Config::default(), &town(), &query, Transport::Udp);
    // BADVERS, which the reader takes for BADSIG, of the same number.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
    assert!(answer.answers.is_empty());
}

/// The header of the answer to raw bytes.
fn raw(query: &[u8]) -> Option<Vec<u8>> {
    let asking = Asking { query, transport: Transport::Udp, seed: 1, now: 0 };
    Some(answer(&zone(Config::default()), &town(), asking)?.message)
}

#[test]
fn what_is_no_question_has_no_answer_or_an_error() {
    let good = query("web.service.consul.", "A").to_vec().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        raw(&bytes)
    };
    assert_eq!(raw(&good[..11]), None, "too short");
    assert_eq!(with(2, 0x81), None, "an answer");
    assert_eq!(with(2, 0x21).unwrap(), [0, 7, 0xa1, 4, 0, 0, 0, 0, 0, 0, 0, 0], "UPDATE-like");
    let form_error = [0, 7, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(with(5, 2).unwrap(), form_error, "two questions announced");
    assert_eq!(with(5, 0).unwrap(), form_error, "none");
    assert_eq!(raw(&good[..20]).unwrap(), form_error, "cut off");
    assert_eq!(raw(&good[..12]).unwrap(), form_error, "a bare header");
    let mut pointer = good[..12].to_vec();
    pointer.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(raw(&pointer).unwrap(), form_error, "a name that points to itself");
}

#[test]
fn names_are_compressed_and_keep_the_case_they_were_asked_in() {
    let query = query("wEb.SERVICE.consul.", "A");
    let bytes = bytes(Config::default(), &town(), &query, Transport::Udp);
    assert_eq!(bytes.windows(3).filter(|part| part.eq_ignore_ascii_case(b"web")).count(), 1);
    assert!(bytes.windows(3).any(|part| part == b"wEb"));
}

#[test]
fn a_domain_is_vetted() {
    for good in ["consul", "Consul.", "a.b-c._d"] {
        assert!(good.parse::<Domain>().is_ok(), "{good}");
    }
    let long = "x".repeat(64);
    for bad in ["", ".", "a..b", "a b", "é", "a\\.b", ".a", &long, &["ab."; 40].concat()] {
        assert!(bad.parse::<Domain>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some(answer) = raw(&bytes) {
            prop_assert!(answer.len() <= 4096);
            prop_assert_eq!(&answer[..2], &bytes[..2]);
            prop_assert_eq!(answer[2] & 0x80, 0x80);
        }
    }

    /// Whole questions with something broken in them go deeper than noise.
    #[test]
    fn no_broken_question_can_do_harm(
        labels in prop::collection::vec(prop::sample::select(vec![
            "web", "service", "node", "addr", "dc1", "dc", "consul", "_tcp", "_web", "in-addr",
            "arpa", "10", "0a000001", "ns", "query", "*", "\u{e9}", "x y",
        ]), 0..8),
        kind in prop::sample::select(vec![1_u16, 28, 33, 16, 255, 6, 2, 12, 252, 41, 250, 65535]),
        size in any::<u16>(),
        broken in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let name = Name::from_labels(labels.iter().map(|label| label.as_bytes())).unwrap();
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name, RecordType::from(kind)));
        message.edns = Some(Edns::new());
        message.edns.as_mut().unwrap().set_max_payload(size);
        let mut bytes = message.to_vec().unwrap();
        for (at, byte) in broken {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(answer) = raw(&bytes) {
            prop_assert!(answer.len() <= 4096);
            let answer = Message::from_vec(&answer).unwrap();
            prop_assert!(answer.metadata.message_type == MessageType::Response);
            prop_assert!(!answer.metadata.recursion_available);
        }
    }
}
