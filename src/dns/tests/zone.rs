//! The zone itself, names of addresses, what is not ours, and the settings.

use super::*;

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
