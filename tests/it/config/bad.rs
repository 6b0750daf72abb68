//! Every rule broken at least once.

use expect_test::{Expect, expect};

use super::{load, report};

#[track_caller]
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&report(&[("rollcall.yaml", text)]));
}

#[test]
fn an_unknown_key_is_named_with_the_key_meant() {
    check(
        "data_dri: /var/lib/rollcall\n",
        &expect![[r#"
            error: unknown key `data_dri`
             --> rollcall.yaml:1:1
              |
            1 | data_dri: /var/lib/rollcall
              | ^^^^^^^^ not a key here
              |
              = help: did you mean `data_dir`?
              = help: the keys here are `node_name`, `data_dir`, `listen`, `insecure`, `limits`, `dns`, `log`, `scheduler`, `self_health`, `egress`, `checks`, `guard`, `damping`, `metrics`, `grace_period`, `event_history`, `explain_attempts`, `service_files`, `check_defaults`, `services`, `alertmanagers`

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn a_key_given_twice_is_shown_in_both_places() {
    check(
        "node_name: a\ninsecure: false\nnode_name: b\n",
        &expect![[r#"
        error: the key `node_name` is given twice
         --> rollcall.yaml:3:1
          |
        3 | node_name: b
          | ^^^^^^^^^ given again
          |
        note: it is given first here
         --> rollcall.yaml:1:1
          |
        1 | node_name: a
          | ^^^^^^^^^

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the expected text")]
fn all_problems_of_a_file_are_said_at_once() {
    check(
        "\
node_name: 7
listen:
  http: localhost:8500
  grcp: 127.0.0.1:1
log: { format: xml }
grace_period: 10
insecure: yes
event_history: -1
scheduler:
  tick: 1s
services:
  - name: web
    tags: frontend
    instances:
      - { id: web-1, address: 10.0.0.1, port: 0 }
      - { id: web-2, adress: 10.0.0.2, port: 8080 }
    checks:
      - http: { path: /healthz, expected_statsu: 200 }
        intervall: 5s
      - tcp: {}
        interval: 5 sec
        jitter: 80%
        slo_objective: 100%
      - {}
      - tcp: {}
        grpc: {}
  - tags: [a, 1]
",
        &expect![[r#"
            error: expected a text
             --> rollcall.yaml:1:12
              |
            1 | node_name: 7
              |            ^ found the number 7
              |
              = help: put it in quotes

            error: expected an address and a port
             --> rollcall.yaml:3:9
              |
            3 |   http: localhost:8500
              |         ^^^^^^^^^^^^^^ found the text `localhost:8500`
              |
              = help: write for example "127.0.0.1:8500" or "[::1]:8500"

            error: unknown key `grcp`
             --> rollcall.yaml:4:3
              |
            4 |   grcp: 127.0.0.1:1
              |   ^^^^ not a key here
              |
              = help: did you mean `grpc`?
              = help: the keys here are `http`, `grpc`, `dns`

            error: unknown value `xml`
             --> rollcall.yaml:5:16
              |
            5 | log: { format: xml }
              |                ^^^ not a value of this key
              |
              = help: the values are `auto`, `text`, `json`

            error: `10` has no unit; write `10s` for seconds or `10ms` for milliseconds
             --> rollcall.yaml:6:15
              |
            6 | grace_period: 10
              |               ^^ found the number 10

            error: expected `true` or `false`
             --> rollcall.yaml:7:11
              |
            7 | insecure: yes
              |           ^^^ found the text `yes`
              |
              = help: write `true`

            error: expected a whole number, not below zero
             --> rollcall.yaml:8:16
              |
            8 | event_history: -1
              |                ^^ found the number -1

            error: `tick` must be between 1ms and 100ms
              --> rollcall.yaml:10:9
               |
            10 |   tick: 1s
               |         ^^ 1s is given

            error: expected a list
              --> rollcall.yaml:13:11
               |
            13 |     tags: frontend
               |           ^^^^^^^^ found the text `frontend`

            error: expected a whole number from 1 to 65535
              --> rollcall.yaml:15:47
               |
            15 |       - { id: web-1, address: 10.0.0.1, port: 0 }
               |                                               ^ found the number 0

            error: unknown key `adress`
              --> rollcall.yaml:16:22
               |
            16 |       - { id: web-2, adress: 10.0.0.2, port: 8080 }
               |                      ^^^^^^ not a key here
               |
               = help: did you mean `address`?
               = help: the keys here are `id`, `address`, `port`, `tags`, `meta`, `checks`

            error: unknown key `expected_statsu`
              --> rollcall.yaml:18:33
               |
            18 |       - http: { path: /healthz, expected_statsu: 200 }
               |                                 ^^^^^^^^^^^^^^^ not a key here
               |
               = help: did you mean `expected_status`?
               = help: the keys here are `method`, `path`, `url`, `https`, `host`, `headers`, `auth`, `body`, `expected_status`, `expected_headers`, `body_contains`, `body_matches`, `body_json`, `follow_redirects`, `tls`, `close`, `version`, `keep_alive`, `traceparent`

            error: unknown key `intervall`
              --> rollcall.yaml:19:9
               |
            19 |         intervall: 5s
               |         ^^^^^^^^^ not a key here
               |
               = help: did you mean `interval`?
               = help: the keys here are `id`, `name`, `notes`, `http`, `tcp`, `grpc`, `udp`, `h2ping`, `certificate`, `dns`, `etcd`, `icmp`, `exec`, `interval`, `timeout`, `jitter`, `initial_delay`, `success_before_passing`, `failures_before_warning`, `failures_before_critical`, `confirm_probes`, `confirm_within`, `max_backoff`, `tripwire`, `slo_objective`, `allow_fast_interval`, `dial`

            error: `sec` is not a unit of time; use ms, s, m, h or d
              --> rollcall.yaml:21:19
               |
            21 |         interval: 5 sec
               |                   ^^^^^ found the text `5 sec`

            error: the jitter must be between 0% and 50%
              --> rollcall.yaml:22:17
               |
            22 |         jitter: 80%
               |                 ^^^ found the text `80%`

            error: the objective must be above 0 and below 1 (99% is 0.99)
              --> rollcall.yaml:23:24
               |
            23 |         slo_objective: 100%
               |                        ^^^^ found the text `100%`

            error: a check asks by exactly one of `http`, `tcp`, `grpc`, `udp`, `h2ping`, `certificate`, `dns`, `etcd`, `icmp` and `exec`
              --> rollcall.yaml:24:9
               |
            24 |       - {}
               |         ^^ asks by none of them
               |
               = help: add for example `http: { path: / }` or `tcp: {}`

            error: a check asks by exactly one of `http`, `tcp`, `grpc`, `udp`, `h2ping`, `certificate`, `dns`, `etcd`, `icmp` and `exec`
              --> rollcall.yaml:26:9
               |
            26 |         grpc: {}
               |         ^^^^ asks by `grpc` too
               |
               = help: make two checks of it
            note: it asks by `tcp` already
              --> rollcall.yaml:25:9
               |
            25 |       - tcp: {}
               |         ^^^

            error: expected a text
              --> rollcall.yaml:27:15
               |
            27 |   - tags: [a, 1]
               |               ^ found the number 1
               |
               = help: put it in quotes

            error: 19 errors, 0 warnings
        "#]],
    );
}

#[test]
fn more_attempts_than_can_be_kept_are_refused() {
    check(
        "explain_attempts: 33\n",
        &expect![[r#"
        error: at most 32 attempts of a check are kept
         --> rollcall.yaml:1:19
          |
        1 | explain_attempts: 33
          |                   ^^ found the number 33

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
fn a_place_is_right_after_letters_of_many_bytes() {
    check(
        "meta: { Größe: ☃ }\nnode_name: \"größer\" \nüber: 1\n",
        &expect![[r#"
            error: unknown key `meta`
             --> rollcall.yaml:1:1
              |
            1 | meta: { Größe: ☃ }
              | ^^^^ not a key here
              |
              = help: the keys here are `node_name`, `data_dir`, `listen`, `insecure`, `limits`, `dns`, `log`, `scheduler`, `self_health`, `egress`, `checks`, `guard`, `damping`, `metrics`, `grace_period`, `event_history`, `explain_attempts`, `service_files`, `check_defaults`, `services`, `alertmanagers`

            error: unknown key `über`
             --> rollcall.yaml:3:1
              |
            3 | über: 1
              | ^^^^ not a key here
              |
              = help: the keys here are `node_name`, `data_dir`, `listen`, `insecure`, `limits`, `dns`, `log`, `scheduler`, `self_health`, `egress`, `checks`, `guard`, `damping`, `metrics`, `grace_period`, `event_history`, `explain_attempts`, `service_files`, `check_defaults`, `services`, `alertmanagers`

            error: 2 errors, 0 warnings
        "#]],
    );
    check(
        "services: [{name: \"ü☃\", tag: 1}]",
        &expect![[r#"
        error: unknown key `tag`
         --> rollcall.yaml:1:25
          |
        1 | services: [{name: "ü☃", tag: 1}]
          |                         ^^^ not a key here
          |
          = help: did you mean `tags`?
          = help: the keys here are `name`, `tags`, `meta`, `instances`, `checks`, `check_defaults`

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
fn json_is_read_as_well() {
    check(
        "{\n\t\"node_name\": \"\\ud83d\\ude00\",\n\t\"services\": [\n\t\t{\"name\": \"a\\/b\", \"prot\": 1}\n\t]\n}\n",
        &expect![[r#"
            error: unknown key `prot`
             --> rollcall.yaml:4:20
              |
            4 |         {"name": "a\/b", "prot": 1}
              |                          ^^^^^^ not a key here
              |
              = help: the keys here are `name`, `tags`, `meta`, `instances`, `checks`, `check_defaults`

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn a_file_that_is_not_yaml_says_where() {
    check(
        "services:\n  - name: web\n  instances: []\n",
        &expect![[r#"
        error: this cannot be read as YAML
         --> rollcall.yaml:3:3
          |
        3 |   instances: []
          |   ^ while parsing a block collection, did not find expected '-' indicator

        error: 1 error, 0 warnings
    "#]],
    );
    check(
        "listen: { http: \"127.0.0.1:1\"\nnode_name: a\n",
        &expect![[r#"
        error: this cannot be read as YAML
         --> rollcall.yaml:2:1
          |
        2 | node_name: a
          | ^ while parsing a flow mapping, did not find expected ',' or '}'

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the expected text")]
fn the_traps_of_yaml_are_named() {
    check(
        "a: 1\n---\nb: 2\n",
        &expect![[r#"
        error: a file holds one document
         --> rollcall.yaml:2:1
          |
        2 | ---
          | ^^^ a second one starts here
          |
          = help: put it in a file of its own

        error: 1 error, 0 warnings
    "#]],
    );
    check(
        "base: &b { x: 1 }\nlisten: { <<: *b }\n",
        &expect![[r#"
            error: unknown key `base`
             --> rollcall.yaml:1:1
              |
            1 | base: &b { x: 1 }
              | ^^^^ not a key here
              |
              = help: the keys here are `node_name`, `data_dir`, `listen`, `insecure`, `limits`, `dns`, `log`, `scheduler`, `self_health`, `egress`, `checks`, `guard`, `damping`, `metrics`, `grace_period`, `event_history`, `explain_attempts`, `service_files`, `check_defaults`, `services`, `alertmanagers`

            error: merge keys are not part of YAML 1.2
             --> rollcall.yaml:2:11
              |
            2 | listen: { <<: *b }
              |           ^^ merges another mapping
              |
              = help: write the keys out; what checks have in common goes into `check_defaults`

            error: 2 errors, 0 warnings
        "#]],
    );
    check(
        "node_name: !secret x\n",
        &expect![[r#"
            error: tags are not used in this file
             --> rollcall.yaml:1:12
              |
            1 | node_name: !secret x
              |            ^^^^^^^ is a tag
              |
              = help: leave the tag out, or put a text in quotes

            error: 1 error, 0 warnings
        "#]],
    );
    check(
        "? [a, b]\n: c\n",
        &expect![[r#"
        error: a key is a text
         --> rollcall.yaml:1:3
          |
        1 | ? [a, b]
          |   ^ a list or mapping as a key

        error: 1 error, 0 warnings
    "#]],
    );
    check(
        "- a\n- b\n",
        &expect![[r#"
        error: expected a mapping
         --> rollcall.yaml:1:1
          |
        1 | - a
          | ^^^ found a list of 2 items

        error: 1 error, 0 warnings
    "#]],
    );
    check(
        "services:\n  - &a [ *a ]\n",
        &expect![[r#"
        error: an alias cannot stand within what it names
         --> rollcall.yaml:2:10
          |
        2 |   - &a [ *a ]
          |          ^^ refers to a value that is not complete here

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
fn a_key_without_a_value_is_not_a_missing_key() {
    check(
        "node_name:\ndata_dir: ~\n",
        &expect![[r#"
            error: expected a text
             --> rollcall.yaml:1:10
              |
            1 | node_name:
              |          ^ found nothing
              |
              = help: give the key a value, or leave it out

            error: expected a path
             --> rollcall.yaml:2:11
              |
            2 | data_dir: ~
              |           ^ found nothing
              |
              = help: give the key a value, or leave it out

            error: 2 errors, 0 warnings
        "#]],
    );
}

#[test]
fn ids_and_names_are_unique() {
    check(
        "\
services:
  - name: web
    instances:
      - { address: 10.0.0.1, port: 80 }
      - { address: 10.0.0.1, port: 80 }
    checks:
      - http: {}
      - http: {}
  - name: web
    instances:
      - address: 10.0.0.9
        port: 80
        checks: [{ id: x, tcp: {} }, { id: x, tcp: {} }]
",
        &expect![[r#"
            error: the instance id `web-10.0.0.1-80` is used twice
             --> rollcall.yaml:5:20
              |
            5 |       - { address: 10.0.0.1, port: 80 }
              |                    ^^^^^^^^ used again
              |
              = help: ids are unique on a node, over all services and files; give one `id`
            note: it is used first here
             --> rollcall.yaml:4:20
              |
            4 |       - { address: 10.0.0.1, port: 80 }
              |                    ^^^^^^^^

            error: the check id `http` is used twice
             --> rollcall.yaml:8:9
              |
            8 |       - http: {}
              |         ^^^^ used again
              |
              = help: give each check of a service an `id` of its own
            note: it is used first here
             --> rollcall.yaml:7:9
              |
            7 |       - http: {}
              |         ^^^^

            error: the service `web` is defined twice
             --> rollcall.yaml:9:11
              |
            9 |   - name: web
              |           ^^^ defined again
              |
              = help: put all its instances under one name
            note: it is defined first here
             --> rollcall.yaml:2:11
              |
            2 |   - name: web
              |           ^^^

            error: the check id `x` is used twice
              --> rollcall.yaml:13:44
               |
            13 |         checks: [{ id: x, tcp: {} }, { id: x, tcp: {} }]
               |                                            ^ used again
               |
               = help: give each check of a service an `id` of its own
            note: it is used first here
              --> rollcall.yaml:13:24
               |
            13 |         checks: [{ id: x, tcp: {} }, { id: x, tcp: {} }]
               |                        ^

            error: 4 errors, 0 warnings
        "#]],
    );
}

#[test]
fn an_instance_cannot_take_the_id_of_a_check_of_its_service() {
    check(
        "\
services:
  - name: web
    instances:
      - { address: 10.0.0.9, port: 80, checks: [{ tcp: {} }] }
    checks:
      - tcp: {}
",
        &expect![[r#"
            error: the check id `tcp` is used twice
             --> rollcall.yaml:4:51
              |
            4 |       - { address: 10.0.0.9, port: 80, checks: [{ tcp: {} }] }
              |                                                   ^^^ used again
              |
              = help: give each check of a service an `id` of its own
            note: it is used first here
             --> rollcall.yaml:6:9
              |
            6 |       - tcp: {}
              |         ^^^

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn thresholds_and_times_must_make_sense() {
    check(
        "\
services:
  - name: web
    checks:
      - { tcp: {}, failures_before_warning: 4 }
      - { id: b, tcp: {}, failures_before_critical: 0 }
      - { id: c, tcp: {}, interval: 0s }
      - { id: d, tcp: {}, timeout: 0 }
      - { id: e, tcp: {}, interval: 99999999d, initial_delay: 8d }
",
        &expect![[r#"
            error: failures_before_warning (4) is higher than failures_before_critical (3)
             --> rollcall.yaml:4:45
              |
            4 |       - { tcp: {}, failures_before_warning: 4 }
              |                                             ^ a check would be critical before it is warning
              |
              = help: lower `failures_before_warning` or leave it out

            error: expected a whole number above zero
             --> rollcall.yaml:5:53
              |
            5 |       - { id: b, tcp: {}, failures_before_critical: 0 }
              |                                                     ^ found the number 0

            error: `interval` must be at least 1ms
             --> rollcall.yaml:6:37
              |
            6 |       - { id: c, tcp: {}, interval: 0s }
              |                                     ^^ 0s is given

            error: `timeout` must be at least 1ms
             --> rollcall.yaml:7:36
              |
            7 |       - { id: d, tcp: {}, timeout: 0 }
              |                                    ^ 0s is given

            error: `interval` must be at most 7d
             --> rollcall.yaml:8:37
              |
            8 |       - { id: e, tcp: {}, interval: 99999999d, initial_delay: 8d }
              |                                     ^^^^^^^^^ 99999999d is given

            error: `initial_delay` must be at most 7d
             --> rollcall.yaml:8:63
              |
            8 |       - { id: e, tcp: {}, interval: 99999999d, initial_delay: 8d }
              |                                                               ^^ 8d is given

            error: 6 errors, 0 warnings
        "#]],
    );
}

#[test]
fn defaults_hold_only_what_checks_have_in_common() {
    check(
        "check_defaults: { id: x, interval: 1x }\n",
        &expect![[r#"
        error: `id` cannot be common to all checks
         --> rollcall.yaml:1:19
          |
        1 | check_defaults: { id: x, interval: 1x }
          |                   ^^ belongs to a single check

        error: `x` is not a unit of time; use ms, s, m, h or d
         --> rollcall.yaml:1:36
          |
        1 | check_defaults: { id: x, interval: 1x }
          |                                    ^^ found the text `1x`

        error: 2 errors, 0 warnings
    "#]],
    );
}

#[test]
fn an_open_listener_must_be_meant() {
    check(
        "listen:\n  http: 0.0.0.0:8500\n",
        &expect![[r#"
        error: `listen.http` is open to other hosts without TLS and without a token
         --> rollcall.yaml:2:9
          |
        2 |   http: 0.0.0.0:8500
          |         ^^^^^^^^^^^^ 0.0.0.0:8500 is given
          |
          = help: listen on 127.0.0.1 or [::1] and put a proxy before it
          = help: if it is meant, say `insecure: true`

        error: 1 error, 0 warnings
    "#]],
    );
    check(
        "listen: { http: \"[::1]:9\", grpc: \"[::1]:9\" }\n",
        &expect![[r#"
        error: `listen.http` and `listen.grpc` need different ports
         --> rollcall.yaml:1:34
          |
        1 | listen: { http: "[::1]:9", grpc: "[::1]:9" }
          |                                  ^^^^^^^^^ [::1]:9 is given for both

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
fn dns_is_vetted() {
    check(
        "listen: { http: \"127.0.0.1:9\", dns: \"127.0.0.1:9\" }\n\
         dns: { udp_answer_limit: 9 }\n",
        &expect![[r#"
            error: `listen.http` and `listen.dns` need different ports
             --> rollcall.yaml:1:37
              |
            1 | listen: { http: "127.0.0.1:9", dns: "127.0.0.1:9" }
              |                                     ^^^^^^^^^^^^^ 127.0.0.1:9 is given for both

            error: `udp_answer_limit` must be between 1 and 8
             --> rollcall.yaml:2:26
              |
            2 | dns: { udp_answer_limit: 9 }
              |                          ^ 9 is given

            error: 2 errors, 0 warnings
        "#]],
    );
    check(
        "listen: { dns: 0.0.0.0:8600 }\n",
        &expect![[r#"
        error: `listen.dns` is open to other hosts without TLS and without a token
         --> rollcall.yaml:1:16
          |
        1 | listen: { dns: 0.0.0.0:8600 }
          |                ^^^^^^^^^^^^ 0.0.0.0:8600 is given
          |
          = help: listen on 127.0.0.1 or [::1] and put a proxy before it
          = help: if it is meant, say `insecure: true`

        error: 1 error, 0 warnings
    "#]],
    );
    check(
        "listen: { dns: yes }\ndns: { domain: a..b }\n",
        &expect![[r#"
        error: this is neither an address with a port, such as `127.0.0.1:8600`, nor `off`
         --> rollcall.yaml:1:16
          |
        1 | listen: { dns: yes }
          |                ^^^ found the text `yes`

        error: `a..b` is not a domain: write labels of letters, digits, hyphens and underscores with dots between, such as `consul`; 100 bytes at most
         --> rollcall.yaml:2:16
          |
        2 | dns: { domain: a..b }
          |                ^^^^ found the text `a..b`

        error: 2 errors, 0 warnings
    "#]],
    );
}

#[test]
fn alertmanagers_come_later() {
    check(
        "alertmanagers: [\"http://am:9093\"]\n",
        &expect![[r#"
        error: alerts cannot be pushed to Alertmanagers yet
         --> rollcall.yaml:1:16
          |
        1 | alertmanagers: ["http://am:9093"]
          |                ^^^^^^^^^^^^^^^^^^ names some
          |
          = help: leave the list empty; the Prometheus rules in `alerts/` raise the same alerts

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
fn a_bad_filter_is_said() {
    check(
        "log: { filter: \"rollcall=loud\" }\n",
        &expect![[r#"
            error: this log filter cannot be read: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
             --> rollcall.yaml:1:16
              |
            1 | log: { filter: "rollcall=loud" }
              |                ^^^^^^^^^^^^^^^ "rollcall=loud" is given
              |
              = help: write a level, such as `info`, or `rollcall=debug,info`

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn ids_are_there_and_printable() {
    check(
        "services: [{name: \"\"}, {name: \"a\\e[2J\"}]\nnode_name: \"\"\n",
        &expect![[r#"
            error: this id cannot be used: it is empty
             --> rollcall.yaml:1:19
              |
            1 | services: [{name: ""}, {name: "a\e[2J"}]
              |                   ^^ found an empty text

            error: this id cannot be used: it holds the control character '\u{1b}'
             --> rollcall.yaml:1:31
              |
            1 | services: [{name: ""}, {name: "a\e[2J"}]
              |                               ^^^^^^^^ found the text `a\u{1b}[2J`

            error: this node name cannot be used: it is empty
             --> rollcall.yaml:2:12
              |
            2 | node_name: ""
              |            ^^ "" is given

            error: 3 errors, 0 warnings
        "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the expected text")]
fn what_a_probe_asks_is_read_as_strictly() {
    check(
        "\
services:
  - name: web
    checks:
      - { id: a, http: { path: healthz, method: \"G T\", expected_status: [2xx, 99], body_matches: \"(\" } }
      - { id: b, http: { headers: { Connection: close }, close: rest } }
      - { id: c, tcp: { tls: { ca_file: /nowhere.pem } } }
      - { id: d, http: { url: \"http://10.0.0.1/\", https: true } }
      - { id: e, grpc: { metadata: { grpc-x: y } } }
      - { id: f, htpp: {} }
",
        &expect![[r#"
            error: the path must start with `/`
             --> rollcall.yaml:4:32
              |
            4 |       - { id: a, http: { path: healthz, method: "G T", expected_status: [2xx, 99], body_matches: "(" } }
              |                                ^^^^^^^ found the text `healthz`

            error: `G T` is not a method a probe can use; write GET, HEAD, POST …
             --> rollcall.yaml:4:49
              |
            4 |       - { id: a, http: { path: healthz, method: "G T", expected_status: [2xx, 99], body_matches: "(" } }
              |                                                 ^^^^^ found the text `G T`

            error: 99 is not an HTTP status; they go from 200 to 999
             --> rollcall.yaml:4:79
              |
            4 |       - { id: a, http: { path: healthz, method: "G T", expected_status: [2xx, 99], body_matches: "(" } }
              |                                                                               ^^ found the number 99

            error: not a regular expression: unclosed group
             --> rollcall.yaml:4:98
              |
            4 |       - { id: a, http: { path: healthz, method: "G T", expected_status: [2xx, 99], body_matches: "(" } }
              |                                                                                                  ^^^ found the text `(`

            error: the header `Connection` is set by rollcall itself; leave it out
             --> rollcall.yaml:5:37
              |
            5 |       - { id: b, http: { headers: { Connection: close }, close: rest } }
              |                                     ^^^^^^^^^^

            error: unknown value `rest`
             --> rollcall.yaml:5:65
              |
            5 |       - { id: b, http: { headers: { Connection: close }, close: rest } }
              |                                                                 ^^^^ not a value of this key
              |
              = help: did you mean `reset`?
              = help: the values are `reset`, `fin`

            error: cannot read the PEM file /nowhere.pem: No such file or directory (os error 2)
             --> rollcall.yaml:6:18
              |
            6 |       - { id: c, tcp: { tls: { ca_file: /nowhere.pem } } }
              |                  ^^^ cannot be made ready

            error: `https` is set, but the url starts with http://; use https://
             --> rollcall.yaml:7:18
              |
            7 |       - { id: d, http: { url: "http://10.0.0.1/", https: true } }
              |                  ^^^^ cannot be made ready

            error: metadata that starts with `grpc-` is gRPC's own; leave it out
             --> rollcall.yaml:8:38
              |
            8 |       - { id: e, grpc: { metadata: { grpc-x: y } } }
              |                                      ^^^^^^

            error: unknown key `htpp`
             --> rollcall.yaml:9:18
              |
            9 |       - { id: f, htpp: {} }
              |                  ^^^^ not a key here
              |
              = help: did you mean `http`?
              = help: the keys here are `id`, `name`, `notes`, `http`, `tcp`, `grpc`, `udp`, `h2ping`, `certificate`, `dns`, `etcd`, `icmp`, `exec`, `interval`, `timeout`, `jitter`, `initial_delay`, `success_before_passing`, `failures_before_warning`, `failures_before_critical`, `confirm_probes`, `confirm_within`, `max_backoff`, `tripwire`, `slo_objective`, `allow_fast_interval`, `dial`

            error: 10 errors, 0 warnings
        "#]],
    );
}

#[test]
fn an_address_is_a_name_or_an_address() {
    check(
        "services: [{ name: a, instances: [{ address: \"10.0.0.1:80\", port: 80 }, { address: 10.0.0, port: 65536 }] }]\n",
        &expect![[r#"
            error: `10.0.0.1:80` is not an IPv6 address; if it ends in a port, give that separately; zones such as %eth0 are not supported
             --> rollcall.yaml:1:46
              |
            1 | services: [{ name: a, instances: [{ address: "10.0.0.1:80", port: 80 }, { address: 10.0.0, port: 65536 }] }]
              |                                              ^^^^^^^^^^^^^ found the text `10.0.0.1:80`

            error: `10.0.0` is neither a name nor an IPv4 address of four decimal numbers
             --> rollcall.yaml:1:84
              |
            1 | services: [{ name: a, instances: [{ address: "10.0.0.1:80", port: 80 }, { address: 10.0.0, port: 65536 }] }]
              |                                                                                    ^^^^^^ found the text `10.0.0`

            error: expected a whole number from 1 to 65535
             --> rollcall.yaml:1:98
              |
            1 | services: [{ name: a, instances: [{ address: "10.0.0.1:80", port: 80 }, { address: 10.0.0, port: 65536 }] }]
              |                                                                                                  ^^^^^ found the number 65536

            error: 3 errors, 0 warnings
        "#]],
    );
}

#[test]
fn a_long_line_is_not_quoted() {
    let long = "x".repeat(5000);
    check(
        &format!("{{ node_name: a, zzz: [{long}] }}"),
        &expect![[r#"
            error: unknown key `zzz`
            --> rollcall.yaml:1:17
             = note: not a key here
             = help: the keys here are `node_name`, `data_dir`, `listen`, `insecure`, `limits`, `dns`, `log`, `scheduler`, `self_health`, `egress`, `checks`, `guard`, `damping`, `metrics`, `grace_period`, `event_history`, `explain_attempts`, `service_files`, `check_defaults`, `services`, `alertmanagers`

            error: 1 error, 0 warnings
        "#]],
    );
}

#[test]
fn very_many_problems_are_counted_and_not_all_shown() {
    let lines: Vec<_> = (0..250).map(|n| format!("- {{ name: a{n}, key: 1 }}\n")).collect();
    let said = report(&[("rollcall.yaml", &format!("services:\n{}", lines.concat()))]);
    assert_eq!(said.matches("unknown key").count(), 100);
    assert!(said.ends_with("error: 250 errors, 0 warnings; the first 100 are shown\n"), "{said}");
}

#[test]
fn a_file_of_something_else_is_given_up_soon() {
    let lines: Vec<_> = (0..50_000).map(|n| format!("key{n}: 1\n")).collect();
    let said = report(&[("rollcall.yaml", &lines.concat())]);
    assert!(said.contains("too much is wrong with this part of the file"), "{said}");
    assert!(said.contains("given up after 100 problems"), "{said}");
}

#[test]
fn an_interval_that_the_scheduler_cannot_keep() {
    let text = |tick: &str, interval: &str| {
        format!(
            "scheduler: {{ tick: {tick} }}\nservices:\n- name: web\n  instances: [{{ address: ::1, port: 1 }}]\n  \
             checks:\n  - {{ tcp: {{}}, interval: {interval}, allow_fast_interval: true }}\n"
        )
    };
    check(
        &text("5ms", "9ms"),
        &expect![[r#"
        error: `interval` must be at least two ticks of the scheduler
         --> rollcall.yaml:6:26
          |
        6 |   - { tcp: {}, interval: 9ms, allow_fast_interval: true }
          |                          ^^^ 9ms is given, two ticks are 10ms
          |
          = help: raise `interval`, or shorten `scheduler.tick`, to 1ms at the least

        error: 1 error, 0 warnings
    "#]],
    );
    for (tick, interval) in [("5ms", "10ms"), ("100ms", "200ms"), ("1ms", "2ms")] {
        let loaded = load(&text(tick, interval)).unwrap();
        assert_eq!(loaded.warnings.to_string(), "");
    }
    assert!(load(&text("100ms", "199ms")).is_err());
    // A tick that cannot be is the only thing wrong.
    check(
        &text("500ms", "100ms"),
        &expect![[r#"
        error: `tick` must be between 1ms and 100ms
         --> rollcall.yaml:1:20
          |
        1 | scheduler: { tick: 500ms }
          |                    ^^^^^ 500ms is given

        error: 1 error, 0 warnings
    "#]],
    );
    assert!(load(&text("0s", "1ms")).is_err());
}

#[test]
fn a_guard_that_holds_for_days_and_damping_that_never_damps_are_refused() {
    check(
        "guard: { hold_at_most: 2d, release_after: 3d, max_share: 120% }\n",
        &expect![[r#"
        error: `hold_at_most` must not be above 1d
         --> rollcall.yaml:1:24
          |
        1 | guard: { hold_at_most: 2d, release_after: 3d, max_share: 120% }
          |                        ^^ 2d is given

        error: `release_after` must not be above `hold_at_most`
         --> rollcall.yaml:1:43
          |
        1 | guard: { hold_at_most: 2d, release_after: 3d, max_share: 120% }
          |                                           ^^ 3d is given
          |
          = help: nothing is held for longer than `hold_at_most`

        error: the share must be between 0% and 100%
         --> rollcall.yaml:1:58
          |
        1 | guard: { hold_at_most: 2d, release_after: 3d, max_share: 120% }
          |                                                          ^^^^ found the text `120%`

        error: 3 errors, 0 warnings
    "#]],
    );
    check(
        "guard: { hold_at_most: 2d, release_after: 3d }\n",
        &expect![[r#"
        error: `hold_at_most` must not be above 1d
         --> rollcall.yaml:1:24
          |
        1 | guard: { hold_at_most: 2d, release_after: 3d }
          |                        ^^ 2d is given

        error: `release_after` must not be above `hold_at_most`
         --> rollcall.yaml:1:43
          |
        1 | guard: { hold_at_most: 2d, release_after: 3d }
          |                                           ^^ 3d is given
          |
          = help: nothing is held for longer than `hold_at_most`

        error: 2 errors, 0 warnings
    "#]],
    );
    check(
        "damping: { suppress: 20000, hold_at_most: 25h }\n",
        &expect![[r#"
        error: `hold_at_most` must not be above 1d
         --> rollcall.yaml:1:43
          |
        1 | damping: { suppress: 20000, hold_at_most: 25h }
          |                                           ^^^ 1d1h is given

        error: 1 error, 0 warnings
    "#]],
    );
    check(
        "damping:\n  reuse: 6000\n",
        &expect![[r#"
        error: with these figures no check is ever found flapping
         --> rollcall.yaml:2:3
          |
        2 |   reuse: 6000
          |   ^^^^^^^^^^^ the figures are here
          |
          = help: `reuse` must be below `suppress`
          = help: points never exceed what falls below `reuse` within `hold_at_most`; `suppress` must be below that: make `half_life` shorter or `hold_at_most` longer

        error: 1 error, 0 warnings
    "#]],
    );
}
