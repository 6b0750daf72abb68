//! What is said of addresses that probes may not go to.

use expect_test::{Expect, expect};

use super::{load, report};

#[track_caller]
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&report(&[("rollcall.yaml", text)]));
}

/// One service with this instance and this check.
fn service(address: &str, check: &str) -> String {
    format!(
        "services:\n- name: web\n  instances:\n  - {{ address: \"{address}\", port: 80 }}\n  \
         checks:\n  - {check}\n"
    )
}

#[test]
fn an_instance_at_a_denied_address_is_refused() {
    check(
        &service("::ffff:169.254.169.254", "tcp: {}"),
        &expect![[r#"
            error: probes may not go to `::ffff:169.254.169.254`, which stands for `169.254.169.254`: cloud metadata (169.254.169.254/32)
             --> rollcall.yaml:4:16
              |
            4 |   - { address: "::ffff:169.254.169.254", port: 80 }
              |                ^^^^^^^^^^^^^^^^^^^^^^^^ every probe would be denied
              |
              = help: add 169.254.169.254/32 to `egress.allow` if it is meant

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn a_url_with_a_denied_address_is_refused_however_it_is_spelt() {
    check(
        &service("10.0.0.1", "http: { url: \"http://0xa9fea9fe/latest/meta-data/\" }"),
        &expect![[r#"
            error: probes may not go to `169.254.169.254`: cloud metadata (169.254.169.254/32)
             --> rollcall.yaml:6:18
              |
            6 |   - http: { url: "http://0xa9fea9fe/latest/meta-data/" }
              |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ every probe would be denied
              |
              = help: add 169.254.169.254/32 to `egress.allow` if it is meant

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn what_the_file_denies_is_refused_whatever_it_allows() {
    let lists = "egress: { allow: [169.254.7.1], deny: [169.254.7.0/24] }\n";
    check(
        &format!("{lists}{}", service("169.254.7.1", "tcp: {}")),
        &expect![[r#"
            error: probes may not go to `169.254.7.1`: `egress.deny` has 169.254.7.0/24
             --> rollcall.yaml:5:16
              |
            5 |   - { address: "169.254.7.1", port: 80 }
              |                ^^^^^^^^^^^^^ every probe would be denied
              |
              = help: change 169.254.7.0/24 in `egress.deny` if it is meant

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn a_check_of_a_consul_file_is_refused_alike() {
    let json = r#"{ "service": { "name": "web", "address": "169.254.1.1", "port": 80, "checks": [
  { "tcp": "100.100.100.200:80", "interval": "10s", "timeout": "1s" },
  { "http": "http://[::]:8080/", "interval": "10s", "timeout": "1s" } ] } }"#;
    let files = [("rollcall.yaml", "service_files: [a.json]\n"), ("a.json", json)];
    expect![[r#"
        error: probes may not go to `100.100.100.200`: cloud metadata (100.100.100.200/32)
         --> a.json:2:12
          |
        2 |   { "tcp": "100.100.100.200:80", "interval": "10s", "timeout": "1s" },
          |            ^^^^^^^^^^^^^^^^^^^^ every probe would be denied
          |
          = help: add 100.100.100.200/32 to `egress.allow` if it is meant

        error: probes may not go to `::`: unspecified (::/128)
         --> a.json:3:13
          |
        3 |   { "http": "http://[::]:8080/", "interval": "10s", "timeout": "1s" } ] } }
          |             ^^^^^^^^^^^^^^^^^^^ every probe would be denied
          |
          = help: add ::/128 to `egress.allow` if it is meant

        error: 2 errors, 0 warnings
    "#]]
    .assert_eq(&report(&files));
}

#[test]
fn an_address_that_nothing_asks_and_a_name_are_not_judged() {
    let elsewhere = service("169.254.7.1", "http: { url: \"http://10.0.0.1/\" }");
    let allowed =
        format!("egress: {{ allow: [169.254.0.0/16] }}\n{}", service("169.254.7.1", "tcp: {}"));
    let name = service("metadata.example", "tcp: {}");
    let unasked = "services:\n- { name: web, instances: [{ address: 169.254.7.1, port: 80 }] }\n";
    for text in [elsewhere.as_str(), &allowed, &name, unasked] {
        assert!(load(text).is_ok(), "{text}{}", load(text).unwrap_err());
    }
}

#[test]
fn a_network_that_is_none_is_shown() {
    check(
        "egress: { allow: [169.254.1.1/16, 10/8, fe80::/129], deny: [example.org], every: [] }\n",
        &expect![[r#"
            error: bits are set beyond the prefix; write 169.254.0.0/16, or the address without a slash
             --> rollcall.yaml:1:19
              |
            1 | egress: { allow: [169.254.1.1/16, 10/8, fe80::/129], deny: [example.org], every: [] }
              |                   ^^^^^^^^^^^^^^ found the text `169.254.1.1/16`

            error: `10/8` is not a network: write for example 10.0.0.0/8, fd00::/8 or 10.0.0.1
             --> rollcall.yaml:1:35
              |
            1 | egress: { allow: [169.254.1.1/16, 10/8, fe80::/129], deny: [example.org], every: [] }
              |                                   ^^^^ found the text `10/8`

            error: the number after the slash must be from 0 to 128
             --> rollcall.yaml:1:41
              |
            1 | egress: { allow: [169.254.1.1/16, 10/8, fe80::/129], deny: [example.org], every: [] }
              |                                         ^^^^^^^^^^ found the text `fe80::/129`

            error: `example.org` is not a network: write for example 10.0.0.0/8, fd00::/8 or 10.0.0.1
             --> rollcall.yaml:1:61
              |
            1 | egress: { allow: [169.254.1.1/16, 10/8, fe80::/129], deny: [example.org], every: [] }
              |                                                             ^^^^^^^^^^^ found the text `example.org`

            error: unknown key `every`
             --> rollcall.yaml:1:75
              |
            1 | egress: { allow: [169.254.1.1/16, 10/8, fe80::/129], deny: [example.org], every: [] }
              |                                                                           ^^^^^ not a key here
              |
              = help: the keys here are `allow`, `deny`, `only`, `api`

            error: 5 errors, 0 warnings
        "#]],
    );
}

#[test]
fn an_exception_from_nothing_is_warned_of() {
    check(
        "egress: { allow: [169.254.7.0/24, 10.0.0.0/8, 0.0.0.0/0] }\n",
        &expect![[r#"
        warning: this exception changes nothing
         --> rollcall.yaml:1:35
          |
        1 | egress: { allow: [169.254.7.0/24, 10.0.0.0/8, 0.0.0.0/0] }
          |                                   ^^^^^^^^^^ is not within one of the networks denied from the start
          |
          = help: what is not denied is allowed; to forbid more, use `egress.deny`

        warning: this exception changes nothing
         --> rollcall.yaml:1:47
          |
        1 | egress: { allow: [169.254.7.0/24, 10.0.0.0/8, 0.0.0.0/0] }
          |                                               ^^^^^^^^^ is not within one of the networks denied from the start
          |
          = help: what is not denied is allowed; to forbid more, use `egress.deny`

        warning: 0 errors, 2 warnings
    "#]],
    );
}
