//! Statements on DNS, by the word of BIND's `dig`.

use std::{fmt::Write as _, process::Command};

use crate::{
    rig::{run, words},
    stage::Stage,
};

/// How many instances the service `many` has, each at an address of its own.
const MANY: usize = 40;

/// Two services that nothing asks, and which therefore pass.
pub(crate) fn services() -> String {
    let mut out = String::from(
        "services:
  - name: web
    instances:
      - { id: web-1, address: 127.0.2.1, port: 8080, tags: [blue] }
      - { id: web-2, address: 127.0.2.2, port: 8081, tags: [green, v1.2] }
  - name: many
    instances:\n",
    );
    for n in 1..=MANY {
        writeln!(out, "      - {{ id: many-{n}, address: 127.0.1.{n}, port: 80 }}").unwrap();
    }
    out
}

/// What `dig` says.
#[track_caller]
fn dig(stage: &Stage, args: &str) -> String {
    let port = stage.names.dns.to_string();
    let mut command = Command::new("dig");
    command.args(["-r", "@127.0.0.1", "-p", &port, "+time=5", "+tries=1", "+norecurse"]);
    let output = run(command.args(args.split(' ')));
    let said = words(&output);
    assert_eq!(output.status.code(), Some(0), "{args}: {said}");
    for complaint in ["WARNING", "Warning", "malformed", "extra bytes", "parse"] {
        assert!(!said.contains(complaint), "{args}: {said}");
    }
    said
}

pub(crate) fn dig_finds_what_there_is(stage: &mut Stage) {
    let first = "1 1 8080 7f000201.addr.dc1.consul.";
    let second = "1 1 8081 7f000202.addr.dc1.consul.";
    for (question, expected) in [
        ("web.service.consul A", vec!["127.0.2.1", "127.0.2.2"]),
        ("WEB.service.dc1.consul A", vec!["127.0.2.1", "127.0.2.2"]),
        ("web.service.consul SRV", vec![first, second]),
        ("blue.web.service.consul SRV", vec![first]),
        ("v1.2.web.service.consul A", vec!["127.0.2.2"]),
        ("_web._tcp.service.consul SRV", vec![first, second]),
        ("_web._green.consul SRV", vec![second]),
        ("7f000201.addr.dc1.consul A", vec!["127.0.2.1"]),
        ("names.node.consul A", vec!["127.0.0.1"]),
        ("consul NS", vec!["names.node.dc1.consul."]),
        ("-x 127.0.0.1", vec!["names.node.dc1.consul."]),
        ("-x 127.0.2.1", vec!["web.service.dc1.consul."]),
        ("web.service.consul AAAA", vec![]),
    ] {
        for transport in ["+notcp", "+tcp", "+noedns", "+bufsize=4096"] {
            let said = dig(stage, &format!("+short {transport} {question}"));
            let mut lines: Vec<&str> = said.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines, expected, "{transport} {question}");
        }
    }
    // The addresses of the targets come along.
    let said = dig(stage, "+noall +additional web.service.consul SRV");
    for line in ["7f000201.addr.dc1.consul.", "127.0.2.1", "7f000202.addr.dc1.consul."] {
        assert!(said.contains(line), "{said}");
    }
}

pub(crate) fn dig_is_told_what_is_missing(stage: &mut Stage) {
    for (question, status, flags, answers) in [
        ("+noedns +ignore many.service.consul", "NOERROR", "qr aa tc", 3),
        ("+bufsize=512 +ignore many.service.consul", "NOERROR", "qr aa tc", 29),
        ("+bufsize=1232 +ignore many.service.consul", "NOERROR", "qr aa", MANY),
        // Without `+ignore` dig does what clients do, and asks again by TCP.
        ("+noedns many.service.consul", "NOERROR", "qr aa", MANY),
        ("+tcp many.service.consul", "NOERROR", "qr aa", MANY),
        ("none.service.consul", "NXDOMAIN", "qr aa", 0),
        ("web.service.dc2.consul", "NXDOMAIN", "qr aa", 0),
        ("web.service.consul AAAA", "NOERROR", "qr aa", 0),
        ("example.com", "REFUSED", "qr", 0),
        ("+edns=1 +noednsneg web.service.consul", "BADVERS", "qr", 0),
        ("+noedns +opcode=NOTIFY web.service.consul", "NOTIMP", "qr", 0),
    ] {
        let said = dig(stage, question);
        for part in [
            format!("status: {status},"),
            format!("flags: {flags};"),
            format!("ANSWER: {answers},"),
        ] {
            assert!(said.contains(&part), "{question}: no {part} in {said}");
        }
    }
    let said = dig(stage, "+noall +authority none.service.consul");
    assert!(said.contains("SOA\tns.consul. hostmaster.consul. "), "{said}");
}
