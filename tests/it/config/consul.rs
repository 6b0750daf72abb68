//! Consul's service definition files, as its documentation shows them.

use expect_test::{Expect, expect};
use rollcall::config::Loaded;

use super::{Folder, shown};

/// What the registrations are and what is said of the file.
#[track_caller]
fn check(json: &str, expected: &Expect) {
    let folder = Folder::new(&[
        ("rollcall.yaml", "checks: { exec: files }\nservice_files: [\"services.d/*.json\"]\n"),
        ("services.d/a.json", json),
    ]);
    let out = match folder.load() {
        Ok(Loaded { config, warnings }) => {
            let shown: String = config.registrations.iter().map(shown).collect();
            shown + &folder.clean(&warnings.to_string())
        }
        Err(rejected) => folder.clean(&rejected.to_string()),
    };
    expected.assert_eq(&out);
}

#[test]
fn a_service_with_one_check() {
    check(
        r#"{
  "service": {
    "id": "redis",
    "name": "redis",
    "tags": ["primary"],
    "address": "",
    "meta": { "meta": "for my service" },
    "tagged_addresses": { "lan": { "address": "192.168.0.55", "port": 8000 } },
    "port": 8000,
    "socket_path": "/tmp/redis.sock",
    "enable_tag_override": false,
    "checks": [
      { "args": ["/usr/local/bin/check_redis.py"], "interval": "10s" },
      { "tcp": "127.0.0.1:8000", "interval": "10s", "Timeout": "1s" }
    ],
    "kind": "connect-proxy",
    "weights": { "passing": 5, "warning": 1 }
  }
}"#,
        &expect![[r#"
            redis redis 127.0.0.1:8000 ["primary"] Pairs([("meta", "for my service")])
              exec "Service 'redis' check" exec as service:redis:1: every 10s ±0.05 within 30s after 0ns, 1/1/1, 0.99
              tcp "Service 'redis' check" tcp at 127.0.0.1:8000 as service:redis:2: every 10s ±0.05 within 1s after 0ns, 1/1/1, 0.99
        "#]],
    );
}

#[test]
fn many_services_in_camel_case_with_nulls() {
    check(
        r#"{
  "Services": [
    { "ID": "red0", "Name": "redis", "Address": "10.1.2.3", "Port": 6000, "Tags": null, "Meta": null,
      "Check": { "CheckID": "alive", "Name": "is it there", "GRPC": "10.1.2.3:6000/redis.v1", "Interval": "5s",
        "FailuresBeforeCritical": 2, "SuccessBeforePassing": 0, "Checks": null } },
    { "id": "red1", "name": "redis", "port": 7000,
      "checks": [
        { "http": "http://10.1.2.3:7000/ready?x=1", "interval": "30s", "timeout": "5s" },
        { "http": "http://10.1.2.3:7000/live", "interval": "30s", "deregister_critical_service_after": "90m" },
        { "ttl": "30s" }, {}
      ] }
  ],
  "check": { "id": "extra", "name": "extra", "service_id": "red0", "tcp": "10.1.2.3:1", "interval": "100ms" }
}"#,
        &expect![[r#"
            redis red0 10.1.2.3:6000 [] Pairs([])
              alive "is it there" grpc at 10.1.2.3:6000 as alive: every 5s ±0.05 within 10s after 0ns, 1/2/2, 0.99
              extra "extra" tcp at 10.1.2.3:1 as extra: every 1s ±0.05 within 10s after 0ns, 1/1/1, 0.99
            redis red1 127.0.0.1:7000 [] Pairs([])
              http "Service 'redis' check" http at 10.1.2.3:7000 as service:red1:1: every 30s ±0.05 within 5s after 0ns, 1/1/1, 0.99
              http-2 "Service 'redis' check" http at 10.1.2.3:7000 as service:red1:2: every 30s ±0.05 within 10s after 0ns, 1/1/1, 0.99
              ttl "Service 'redis' check" ttl as service:red1:3: every 30s ±0 within 10s after 0ns, 1/1/1, 0.99
            warning: services are not deregistered for being critical
             --> services.d/a.json:9:104
              |
            9 |         { "http": "http://10.1.2.3:7000/live", "interval": "30s", "deregister_critical_service_after": "90m" },
              |                                                                                                        ^^^^^ is not acted on in this version

            warning: an interval below 1s is raised to 1s
              --> services.d/a.json:13:101
               |
            13 |   "check": { "id": "extra", "name": "extra", "service_id": "red0", "tcp": "10.1.2.3:1", "interval": "100ms" }
               |                                                                                                     ^^^^^^^ 100ms
               |
               = help: Consul does the same; checks in our own format may ask faster

            warning: 0 errors, 2 warnings
        "#]],
    );
}

#[test]
fn kinds_of_check_that_are_not_run_are_named() {
    check(
        r#"{"service": {"name": "a", "port": 1, "checks": [
  {"ttl": "1m"}, {"docker_container_id": "x", "args": ["y"], "interval": "1s"}, {"alias_service": "b"},
  {"h2ping": "h:1", "args": ["y"], "interval": "1s"}, {"os_service": "s", "interval": "1s"}
]}, "checks": [{"name": "disk", "args": ["df"], "interval": "1m"}, {"name": "lost", "service_id": "q", "tcp": "h:1", "interval": "1m"},
  {"name": "node", "tcp": "h:1", "interval": "1m"}]}"#,
        &expect![[r#"
            a a 127.0.0.1:1 [] Pairs([])
              ttl "Service 'a' check" ttl as service:a:1: every 60s ±0 within 10s after 0ns, 1/1/1, 0.99
              alias "Service 'a' check" alias as service:a:3: every 60s ±0 within 10s after 0ns, 1/1/1, 0.99
              exec "Service 'a' check" exec as service:a:4: every 1s ±0.05 within 30s after 0ns, 1/1/1, 0.99
            warning: checks of the kind Docker are not run in this version
             --> services.d/a.json:2:19
              |
            2 |   {"ttl": "1m"}, {"docker_container_id": "x", "args": ["y"], "interval": "1s"}, {"alias_service": "b"},
              |                   ^^^^^^^^^^^^^^^^^^^^^ the service is loaded without this check

            warning: checks of the kind OS service are not run in this version
             --> services.d/a.json:3:56
              |
            3 |   {"h2ping": "h:1", "args": ["y"], "interval": "1s"}, {"os_service": "s", "interval": "1s"}
              |                                                        ^^^^^^^^^^^^ the service is loaded without this check

            warning: a check of the node itself is not run
             --> services.d/a.json:4:17
              |
            4 | ]}, "checks": [{"name": "disk", "args": ["df"], "interval": "1m"}, {"name": "lost", "service_id": "q", "tcp": "h:1", "interval": "1m"},
              |                 ^^^^^^ has no `service_id`
              |
              = help: put it into the service it tells of, or name that with `service_id`

            warning: no instance has the id `q`
             --> services.d/a.json:4:69
              |
            4 | ]}, "checks": [{"name": "disk", "args": ["df"], "interval": "1m"}, {"name": "lost", "service_id": "q", "tcp": "h:1", "interval": "1m"},
              |                                                                     ^^^^^^ the check is not run

            warning: a check of the node itself is not run
             --> services.d/a.json:5:4
              |
            5 |   {"name": "node", "tcp": "h:1", "interval": "1m"}]}
              |    ^^^^^^ has no `service_id`
              |
              = help: put it into the service it tells of, or name that with `service_id`

            warning: 0 errors, 5 warnings
        "#]],
    );
}

#[test]
fn checks_that_are_told_are_loaded_with_their_first_status() {
    check(
        r#"{"service": {"name": "a", "port": 1, "checks": [
  {"ttl": "30s", "status": "passing"}, {"alias_service": "b", "name": "like b"}, {"alias_node": "n"},
  {"tcp": "10.0.0.1:1", "interval": "1m", "timeout": "5s", "status": "warning"},
  {"TTL": "720h", "failures_before_critical": 3, "timeout": "1h"}
]}}"#,
        &expect![[r#"
            a a 127.0.0.1:1 [] Pairs([])
              ttl "Service 'a' check" ttl as service:a:1, first passing: every 30s ±0 within 10s after 0ns, 1/1/1, 0.99
              like b "like b" alias as service:a:2: every 60s ±0 within 10s after 0ns, 1/1/1, 0.99
              alias "Service 'a' check" alias as service:a:3: every 60s ±0 within 10s after 0ns, 1/1/1, 0.99
              tcp "Service 'a' check" tcp at 10.0.0.1:1 as service:a:4, first warning: every 60s ±0.05 within 5s after 0ns, 1/1/1, 0.99
              ttl-2 "Service 'a' check" ttl as service:a:5: every 2592000s ±0 within 10s after 0ns, 1/1/1, 0.99
        "#]],
    );
}

#[test]
fn checks_that_are_told_and_asked_are_refused_as_by_consul() {
    check(
        r#"{"service": {"name": "a", "port": 1, "checks": [
  {"ttl": "30s", "interval": "10s"},
  {"alias_service": "b", "ttl": "10s"},
  {"ttl": "0s"}
]}}"#,
        &expect![[r#"
            error: Interval and TTL cannot both be specified
             --> services.d/a.json:2:4
              |
            2 |   {"ttl": "30s", "interval": "10s"},
              |    ^^^^^

            error: TTL must be not be set for Alias checks
             --> services.d/a.json:3:26
              |
            3 |   {"alias_service": "b", "ttl": "10s"},
              |                          ^^^^^

            error: a check asks by one of `http`, `tcp`, `udp`, `grpc`, `args` and `h2ping`, or is told by `ttl`, `alias_service` or `alias_node`
             --> services.d/a.json:4:4
              |
            4 |   {"ttl": "0s"}
              |    ^^^^^ has none of them

            error: 3 errors, 0 warnings
        "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the expected text")]
fn wrong_types_and_values_are_errors_with_their_place() {
    check(
        r#"{"service": {
  "name": "a",
  "port": "80",
  "tags": ["x", 1],
  "check": {
    "http": "ftp://x/",
    "interval": "often"
  },
  "checks": [
    {"tcp": "10.0.0.1:80"},
    {"tcp": "10.0.0.1", "interval": "1s"},
    {"interval": "1s"},
    {"tcp": "10.0.0.1:1", "interval": "1s", "failures_before_warning": 3, "failures_before_critical": 2}
  ]
}, "services": [{"port": 1}, 5]}"#,
        &expect![[r#"
            error: expected a whole number from 0 to 65535
             --> services.d/a.json:3:11
              |
            3 |   "port": "80",
              |           ^^^^ found the text `80`

            error: expected a text
             --> services.d/a.json:4:17
              |
            4 |   "tags": ["x", 1],
              |                 ^ found the number 1
              |
              = help: put it in quotes

            error: invalid duration `often`; write for example `250ms`, `5s` or `1m30s`
             --> services.d/a.json:7:17
              |
            7 |     "interval": "often"
              |                 ^^^^^^^ found the text `often`

            error: a check needs an `interval` above zero
              --> services.d/a.json:10:6
               |
            10 |     {"tcp": "10.0.0.1:80"},
               |      ^^^^^ has none

            error: the URL needs a port from 1 to 65535, as in tcp://10.0.0.1:6379
              --> services.d/a.json:11:13
               |
            11 |     {"tcp": "10.0.0.1", "interval": "1s"},
               |             ^^^^^^^^^^ cannot be used

            error: a check asks by one of `http`, `tcp`, `udp`, `grpc`, `args` and `h2ping`, or is told by `ttl`, `alias_service` or `alias_node`
              --> services.d/a.json:12:6
               |
            12 |     {"interval": "1s"},
               |      ^^^^^^^^^^ has none of them

            error: failures_before_warning (3) is higher than failures_before_critical (2)
              --> services.d/a.json:13:72
               |
            13 |     {"tcp": "10.0.0.1:1", "interval": "1s", "failures_before_warning": 3, "failures_before_critical": 2}
               |                                                                        ^

            error: a service needs a name
              --> services.d/a.json:15:18
               |
            15 | }, "services": [{"port": 1}, 5]}
               |                  ^^^^^^ has no `name`

            error: expected a mapping
              --> services.d/a.json:15:30
               |
            15 | }, "services": [{"port": 1}, 5]}
               |                              ^ found the number 5

            error: 9 errors, 0 warnings
        "#]],
    );
    check(
        "[]",
        &expect![[r#"
        error: a service file is a mapping
         --> services.d/a.json:1:1
          |
        1 | []
          | ^^ is something else

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
fn an_id_in_two_files_is_shown_in_both() {
    let folder = Folder::new(&[
        (
            "rollcall.yaml",
            "service_files: [\"*.json\", \"*.hcl\"]\nservices:\n- name: web\n  instances: [{ id: w, address: ::1, port: 1 }]\n",
        ),
        ("a.json", r#"{"service": {"id": "w", "name": "web", "port": 2}}"#),
        ("b.hcl", "service {}"),
    ]);
    let rejected = folder.load().unwrap_err();
    expect![[r#"
        error: `b.hcl` is HCL, which is not read
         |
         = help: convert it to JSON, or let the pattern match `*.json` only

        error: the instance id `w` is used twice
         --> a.json:1:20
          |
        1 | {"service": {"id": "w", "name": "web", "port": 2}}
          |                    ^^^ used again
          |
          = help: ids are unique on a node, over all services and files; give one `id`
        note: it is used first here
         --> rollcall.yaml:4:21
          |
        4 |   instances: [{ id: w, address: ::1, port: 1 }]
          |                     ^

        error: 2 errors, 0 warnings
    "#]]
    .assert_eq(&folder.clean(&rejected.to_string()));
}

#[test]
fn what_an_http_check_says_is_asked_so() {
    let folder = Folder::new(&[
        ("rollcall.yaml", "service_files: [a.json]\n"),
        (
            "a.json",
            r#"{"service": {"name": "web", "checks": [
  {"name": "one", "http": "https://10.0.0.1/a?b=c", "method": "POST", "body": "x", "interval": "5s",
   "header": {"X-Token": ["1", "2"], "Host": ["web.example"]},
   "tls_skip_verify": true, "tls_server_name": "web.example", "disable_redirects": true},
  {"name": "two", "grpc": "10.0.0.1:1/s", "grpc_use_tls": true, "interval": "5s"},
  {"name": "three", "tcp": "[::1]:1", "tcp_use_tls": true, "tls_skip_verify": true, "interval": "5s"},
  {"name": "four", "http": "http://10.0.0.1/", "interval": "5s"},
  {"name": "five", "udp": "10.0.0.1:53", "grpc": "10.0.0.1:1", "interval": "5s"},
  {"name": "six", "H2PING": "10.0.0.1:443", "tls_server_name": "web.example", "interval": "5s"},
  {"name": "seven", "h2ping": "10.0.0.1:80", "H2PingUseTLS": false, "interval": "5s"}
]}}"#,
        ),
    ]);
    let config = folder.load().unwrap().config;
    let specs: Vec<_> = config.registrations[0]
        .checks
        .iter()
        .map(|check| format!("{:?}", check.definition.probe.spec()))
        .collect();
    expect![[r#"
        Http(Spec { method: Method(POST), path: Path("/a?b=c"), url: None, https: true, host: Some(Authority("web.example")), headers: {HeaderName("X-Token"): HeaderValues([HeaderValue(..), HeaderValue(..)])}, auth: None, body: "x", expected_status: StatusSet(200-299), expected_headers: {}, body_contains: None, body_matches: None, body_json: [], follow_redirects: 0, tls: Some(Spec { ca_file: None, insecure_skip_verify: true, cert_file: None, key_file: None, server_name: Some(Name(DnsName("web.example"))), resume: true }), close: Reset, version: Http1, keep_alive: false, traceparent: Off, form: Consul { shown: 4096 } })
        Grpc(Spec { service: "s", tls: Some(Spec { ca_file: None, insecure_skip_verify: false, cert_file: None, key_file: None, server_name: None, resume: true }), metadata: {}, authority: None, keep_alive: true, watch: false, form: Consul { shown: 4096 } })
        Tcp(Spec { tls: Some(Spec { ca_file: None, insecure_skip_verify: true, cert_file: None, key_file: None, server_name: None, resume: true }), starttls: None, send: None, expect: None, expect_matches: None, dialogue: [], close: Reset })
        Http(Spec { method: Method(GET), path: Path("/"), url: None, https: false, host: None, headers: {}, auth: None, body: "", expected_status: StatusSet(200-299), expected_headers: {}, body_contains: None, body_matches: None, body_json: [], follow_redirects: 10, tls: None, close: Reset, version: Http1, keep_alive: false, traceparent: Off, form: Consul { shown: 4096 } })
        Udp(Spec { send: None, expect: None, expect_matches: None, require_answer: false })
        H2ping(Spec { tls: Some(Spec { ca_file: None, insecure_skip_verify: false, cert_file: None, key_file: None, server_name: Some(Name(DnsName("web.example"))), resume: true }), plaintext: false })
        H2ping(Spec { tls: None, plaintext: true })"#]].assert_eq(&specs.join("\n"));
}

#[test]
fn an_address_that_nothing_can_ask_is_shown_with_a_warning() {
    check(
        r#"{"service": {"name": "web", "address": "10.0.0.1:80", "check": {"tcp": ":80", "interval": "5s"}}}"#,
        &expect![[r#"
            web web 10.0.0.1:80:0 [] Pairs([])
              tcp "Service 'web' check" tcp at localhost:80 as service:web: every 5s ±0.05 within 10s after 0ns, 1/1/1, 0.99
            warning: the address can only be shown: `10.0.0.1:80` is not an IPv6 address; if it ends in a port, give that separately; zones such as %eth0 are not supported
             --> services.d/a.json:1:22
              |
            1 | {"service": {"name": "web", "address": "10.0.0.1:80", "check": {"tcp": ":80", "interval": "5s"}}}
              |                      ^^^^^ is at an address that nothing can ask

            warning: 0 errors, 1 warning
        "#]],
    );
}

#[test]
fn a_silent_udp_target_does_not_take_longer_than_its_interval() {
    check(
        r#"{"service": {"name": "dns", "checks": [
  {"udp": "10.0.0.1:53", "interval": "5s"}, {"udp": "10.0.0.1:53", "interval": "5s", "timeout": "1s"},
  {"udp": "10.0.0.1:53", "interval": "1m"}
]}}"#,
        &expect![[r#"
            dns dns 127.0.0.1:0 [] Pairs([])
              udp "Service 'dns' check" udp at 10.0.0.1:53 as service:dns:1: every 5s ±0.05 within 4s after 0ns, 1/1/1, 0.99
              udp-2 "Service 'dns' check" udp at 10.0.0.1:53 as service:dns:2: every 5s ±0.05 within 1s after 0ns, 1/1/1, 0.99
              udp-3 "Service 'dns' check" udp at 10.0.0.1:53 as service:dns:3: every 60s ±0.05 within 10s after 0ns, 1/1/1, 0.99
        "#]],
    );
}

#[test]
fn what_cannot_be_sent_is_an_error_at_its_key() {
    check(
        r#"{"service": {"name": "web", "checks": [
  {"http": "http://10.0.0.1:0/", "interval": "5s"},
  {"http": "http://10.0.0.1/", "interval": "5s", "method": "G T"},
  {"http": "http://10.0.0.1/", "interval": "5s", "header": {"Connection": ["close"]}},
  {"http": "https://10.0.0.1/", "interval": "5s", "tls_server_name": "a b"},
  {"http": "http://10.0.0.1/", "interval": "5s", "status": "fine"}
]}}"#,
        &expect![[r#"
            error: the URL needs a port from 1 to 65535, as in tcp://10.0.0.1:6379
             --> services.d/a.json:2:12
              |
            2 |   {"http": "http://10.0.0.1:0/", "interval": "5s"},
              |            ^^^^^^^^^^^^^^^^^^^^ cannot be used

            error: `G T` is not a method a probe can use; write GET, HEAD, POST …
             --> services.d/a.json:3:60
              |
            3 |   {"http": "http://10.0.0.1/", "interval": "5s", "method": "G T"},
              |                                                            ^^^^^ cannot be used

            error: the header `Connection` is set by rollcall itself; leave it out
             --> services.d/a.json:4:60
              |
            4 |   {"http": "http://10.0.0.1/", "interval": "5s", "header": {"Connection": ["close"]}},
              |                                                            ^^^^^^^^^^^^^^^^^^^^^^^^^ cannot be used

            error: a server name must be a DNS name or an IP address, without port or brackets
             --> services.d/a.json:5:70
              |
            5 |   {"http": "https://10.0.0.1/", "interval": "5s", "tls_server_name": "a b"},
              |                                                                      ^^^^^ cannot be used

            error: unknown value `fine`
             --> services.d/a.json:6:60
              |
            6 |   {"http": "http://10.0.0.1/", "interval": "5s", "status": "fine"}
              |                                                            ^^^^^^ not a value of this key
              |
              = help: the values are `passing`, `warning`, `critical`

            error: 5 errors, 0 warnings
        "#]],
    );
}

#[test]
fn long_ids_get_their_number_too() {
    let long = "ü".repeat(256);
    let json = format!(
        r#"{{"service": {{"name": "a", "checks": [
            {{"id": "{long}", "tcp": "h:1", "interval": "1s"}}, {{"id": "{long}", "tcp": "h:1", "interval": "1s"}}
        ]}}}}"#
    );
    let folder = Folder::new(&[("rollcall.yaml", "service_files: [a.json]\n"), ("a.json", &json)]);
    let config = folder.load().unwrap().config;
    let second = &config.registrations[0].checks[1].definition.id;
    assert_eq!(second.as_str(), format!("{}-2", "ü".repeat(255)));
}
