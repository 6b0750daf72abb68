//! What is said of how a check finds its target.

use std::sync::Arc;

use expect_test::{Expect, expect};

use super::{load, report};

fn service(checks: &str) -> String {
    format!(
        "services:\n- name: web\n  instances:\n  - {{ address: shop.example, port: 80 }}\n  \
         checks:\n{checks}"
    )
}

#[track_caller]
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&report(&[("rollcall.yaml", text)]));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    check(
        &format!(
            "checks: {{ exec: files }}\n{}",
            service(
                "  - { id: a, tcp: {}, dial: { require: 2 } }
  - { id: b, tcp: {}, dial: { source_address: 10.0.0.5, family: ipv6 } }
  - { id: c, exec: { args: [/bin/true] }, dial: { family: ipv6 } }
  - { id: d, tcp: {}, dial: { resolver: 10.0.0.53:0 } }
  - { id: e, tcp: {}, dial: { addresses: each, require: 257 } }
  - { id: f, tcp: {}, dial: { resolver: 10.0.0.53 } }
"
            )
        ),
        &expect![[r#"
            error: `require` needs `addresses: each`
             --> rollcall.yaml:7:31
              |
            7 |   - { id: a, tcp: {}, dial: { require: 2 } }
              |                               ^^^^^^^ only one address is asked

            error: `source_address` and `family` contradict each other
             --> rollcall.yaml:8:31
              |
            8 |   - { id: b, tcp: {}, dial: { source_address: 10.0.0.5, family: ipv6 } }
              |                               ^^^^^^^^^^^^^^ no address could be used

            error: `dial` is for checks that use the network
             --> rollcall.yaml:9:51
              |
            9 |   - { id: c, exec: { args: [/bin/true] }, dial: { family: ipv6 } }
              |                                                   ^^^^^^ a program finds its own way

            error: `resolver` needs a port, such as 53
              --> rollcall.yaml:10:31
               |
            10 |   - { id: d, tcp: {}, dial: { resolver: 10.0.0.53:0 } }
               |                               ^^^^^^^^ has port 0

            error: expected `all`, `any`, or a number from 1 to 256
              --> rollcall.yaml:11:57
               |
            11 |   - { id: e, tcp: {}, dial: { addresses: each, require: 257 } }
               |                                                         ^^^ found the number 257

            error: expected an address and a port
              --> rollcall.yaml:12:41
               |
            12 |   - { id: f, tcp: {}, dial: { resolver: 10.0.0.53 } }
               |                                         ^^^^^^^^^ found the text `10.0.0.53`
               |
               = help: write for example "127.0.0.1:8500" or "[::1]:8500"

            error: 6 errors, 0 warnings
        "#]],
    );
}

#[test]
fn what_is_said_for_all_is_used_by_those_that_can() {
    let text = format!(
        "checks: {{ exec: files }}\ncheck_defaults: {{ dial: {{ family: prefer_ipv4 }} }}\n{}",
        service(
            "  - { tcp: {} }\n  - { exec: { args: [/bin/true] } }\n  - { http: {}, dial: {} }\n"
        )
    );
    let probes = |text: &str| {
        let registrations = load(text).unwrap().config.registrations;
        let checks = registrations.into_iter().flat_map(|registration| registration.checks);
        checks.map(|check| Arc::clone(&check.definition.probe)).collect::<Vec<_>>()
    };
    let (with, without) = (probes(&text), probes(&text.replace("prefer_ipv4", "any")));
    assert_ne!(with[0], without[0]);
    assert_eq!(with[1..], without[1..]);
}
