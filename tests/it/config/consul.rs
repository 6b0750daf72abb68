//! Consul's service definition files, as its documentation shows them.

use std::fmt::Write;

use expect_test::{Expect, expect};

use super::Folder;

/// What the registrations are and what is said of the file.
#[track_caller]
fn check(json: &str, expected: Expect) {
    let folder = Folder::new(&[
        ("rollcall.yaml", "service_files: [\"services.d/*.json\"]\n"),
        ("services.d/a.json", json),
    ]);
    let mut out = String::new();
    match folder.load() {
        Ok(loaded) => {
            for registration in &loaded.config.registrations {
                let instance = &registration.instance;
                writeln!(
                    out,
                    "{} {} {} {:?} {:?}",
                    instance.service, instance.id, instance.endpoint, instance.tags, instance.meta
                )
                .unwrap();
                for check in &registration.checks {
                    let definition = &check.definition;
                    writeln!(
                        out,
                        "  {} {:?} {:?} {} every {:?} within {:?} {}/{}/{}",
                        definition.id,
                        definition.name.as_deref().unwrap_or_default(),
                        check.consul_id.as_deref().unwrap_or_default(),
                        check.endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
                        definition.schedule.interval,
                        definition.schedule.timeout,
                        definition.thresholds.success_before_passing(),
                        definition.thresholds.failures_before_warning(),
                        definition.thresholds.failures_before_critical(),
                    )
                    .unwrap();
                }
            }
            out.push_str(&folder.clean(&loaded.warnings.to_string()));
        }
        Err(rejected) => out.push_str(&folder.clean(&rejected.to_string())),
    }
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
        expect![[r#"
            redis redis 127.0.0.1:8000 ["primary"] {"meta": "for my service"}
              tcp "Service 'redis' check" "service:redis:2" 127.0.0.1:8000 every 10s within 1s 1/1/1
            warning: checks of the kind script are not run in this version
              --> services.d/a.json:13:9
               |
            13 |       { "args": ["/usr/local/bin/check_redis.py"], "interval": "10s" },
               |         ^^^^^^ the service is loaded without this check

            warning: 0 errors, 1 warning
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
        expect![[r#"
            redis red0 10.1.2.3:6000 [] {}
              alive "is it there" "alive" 10.1.2.3:6000 every 5s within 10s 1/2/2
              extra "extra" "extra" 10.1.2.3:1 every 1s within 10s 1/1/1
            redis red1 127.0.0.1:7000 [] {}
              http "Service 'redis' check" "service:red1:1" 10.1.2.3:7000 every 30s within 5s 1/1/1
              http-2 "Service 'redis' check" "service:red1:2" 10.1.2.3:7000 every 30s within 10s 1/1/1
            warning: services are not deregistered for being critical
             --> services.d/a.json:9:104
              |
            9 |         { "http": "http://10.1.2.3:7000/live", "interval": "30s", "deregister_critical_service_after": "90m" },
              |                                                                                                        ^^^^^ is not acted on in this version

            warning: checks of the kind TTL are not run in this version
              --> services.d/a.json:10:11
               |
            10 |         { "ttl": "30s" }, {}
               |           ^^^^^ the service is loaded without this check

            warning: an interval below 1s is raised to 1s
              --> services.d/a.json:13:101
               |
            13 |   "check": { "id": "extra", "name": "extra", "service_id": "red0", "tcp": "10.1.2.3:1", "interval": "100ms" }
               |                                                                                                     ^^^^^^^ 100ms
               |
               = help: Consul does the same; checks in our own format may ask faster

            warning: 0 errors, 3 warnings
        "#]],
    );
}

#[test]
fn kinds_of_check_that_are_not_run_are_named() {
    check(
        r#"{"service": {"name": "a", "port": 1, "checks": [
  {"ttl": "1m"}, {"docker_container_id": "x", "args": ["y"], "interval": "1s"}, {"alias_service": "b"},
  {"udp": "h:1", "interval": "1s"}, {"h2ping": "h:1", "interval": "1s"}, {"os_service": "s", "interval": "1s"}
]}, "checks": [{"name": "disk", "args": ["df"], "interval": "1m"}, {"name": "lost", "service_id": "q", "tcp": "h:1", "interval": "1m"},
  {"name": "node", "tcp": "h:1", "interval": "1m"}]}"#,
        expect![[r#"
            a a 127.0.0.1:1 [] {}
            warning: checks of the kind TTL are not run in this version
             --> services.d/a.json:2:4
              |
            2 |   {"ttl": "1m"}, {"docker_container_id": "x", "args": ["y"], "interval": "1s"}, {"alias_service": "b"},
              |    ^^^^^ the service is loaded without this check

            warning: checks of the kind Docker are not run in this version
             --> services.d/a.json:2:19
              |
            2 |   {"ttl": "1m"}, {"docker_container_id": "x", "args": ["y"], "interval": "1s"}, {"alias_service": "b"},
              |                   ^^^^^^^^^^^^^^^^^^^^^ the service is loaded without this check

            warning: checks of the kind alias are not run in this version
             --> services.d/a.json:2:82
              |
            2 |   {"ttl": "1m"}, {"docker_container_id": "x", "args": ["y"], "interval": "1s"}, {"alias_service": "b"},
              |                                                                                  ^^^^^^^^^^^^^^^ the service is loaded without this check

            warning: checks of the kind UDP are not run in this version
             --> services.d/a.json:3:4
              |
            3 |   {"udp": "h:1", "interval": "1s"}, {"h2ping": "h:1", "interval": "1s"}, {"os_service": "s", "interval": "1s"}
              |    ^^^^^ the service is loaded without this check

            warning: checks of the kind H2PING are not run in this version
             --> services.d/a.json:3:38
              |
            3 |   {"udp": "h:1", "interval": "1s"}, {"h2ping": "h:1", "interval": "1s"}, {"os_service": "s", "interval": "1s"}
              |                                      ^^^^^^^^ the service is loaded without this check

            warning: checks of the kind OS service are not run in this version
             --> services.d/a.json:3:75
              |
            3 |   {"udp": "h:1", "interval": "1s"}, {"h2ping": "h:1", "interval": "1s"}, {"os_service": "s", "interval": "1s"}
              |                                                                           ^^^^^^^^^^^^ the service is loaded without this check

            warning: checks of the kind script are not run in this version
             --> services.d/a.json:4:33
              |
            4 | ]}, "checks": [{"name": "disk", "args": ["df"], "interval": "1m"}, {"name": "lost", "service_id": "q", "tcp": "h:1", "interval": "1m"},
              |                                 ^^^^^^ the service is loaded without this check

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

            warning: 0 errors, 9 warnings
        "#]],
    );
}

#[test]
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
        expect![[r#"
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

            error: `often` is not a duration; write for example `250ms`, `5s` or `1m30s`
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

            error: a check asks by one of `http`, `tcp` and `grpc`
              --> services.d/a.json:12:6
               |
            12 |     {"interval": "1s"},
               |      ^^^^^^^^^^ asks by none of them

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
        expect![[r#"
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
