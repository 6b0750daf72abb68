//! How large answers are, and what is no question at all.

use super::*;

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
