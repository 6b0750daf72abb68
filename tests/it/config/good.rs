//! What good files mean.

use std::{fmt::Write, fs, path::Path, time::Duration};

use expect_test::expect;
use proptest::prelude::*;
use rollcall::config::{self, Overrides, diagnostic::Source, tree};

use super::{Folder, load, shown};

/// The issue's example.
const EXAMPLE: &str = "\
node_name: node-1
data_dir: /var/lib/rollcall
listen: { http: \"127.0.0.1:8500\", grpc: \"127.0.0.1:8502\" }
services:
  - name: web
    tags: [frontend]
    meta: { team: shop, tier: \"1\" }
    instances:
      - { id: web-1, address: 10.0.0.1, port: 8080 }
      - { address: web.example, port: 8080, tags: [canary], meta: { tier: \"2\" }, checks: [{ id: own, tcp: , interval: 1m }] }
    checks:
      - id: http
        http: { path: /healthz }
        interval: 5s
        timeout: 1s
        success_before_passing: 1
        failures_before_critical: 3
      - { id: port, tcp: {}, interval: 10s }
      - { id: rpc, grpc: { service: shop.v1.Cart }, interval: 10s }
alertmanagers: []
";

#[test]
fn the_example_means_what_it_says() {
    let loaded = load(EXAMPLE).unwrap();
    assert_eq!(loaded.warnings.to_string(), "");
    let config = loaded.config;
    let shown: String = config.registrations.iter().map(shown).collect();
    let out = format!(
        "{} {} {} {}\n{shown}",
        config.node_name,
        config.data_dir.display(),
        config.listen.http,
        config.listen.grpc
    );
    expect![[r#"
        node-1 /var/lib/rollcall 127.0.0.1:8500 127.0.0.1:8502
        web web-1 10.0.0.1:8080 ["frontend"] Pairs([("team", "shop"), ("tier", "1")])
          http "" http: every 5s ±0.05 within 1s after 0ns, 1/3/3, 0.99
          port "" tcp: every 10s ±0.05 within 2s after 0ns, 1/3/3, 0.99
          rpc "" grpc: every 10s ±0.05 within 2s after 0ns, 1/3/3, 0.99
        web web-web.example-8080 web.example:8080 ["frontend", "canary"] Pairs([("team", "shop"), ("tier", "2")])
          http "" http: every 5s ±0.05 within 1s after 0ns, 1/3/3, 0.99
          port "" tcp: every 10s ±0.05 within 2s after 0ns, 1/3/3, 0.99
          rpc "" grpc: every 10s ±0.05 within 2s after 0ns, 1/3/3, 0.99
          own "" tcp: every 60s ±0.05 within 2s after 0ns, 1/3/3, 0.99
    "#]].assert_eq(&out);
}

#[test]
fn every_key_has_a_default() {
    for text in ["", "# nothing\n", "{}", "services:\n", "---\n...\n"] {
        let loaded = load(text).unwrap();
        assert_eq!(loaded.config, config::load(None, &Overrides::default()).unwrap().config);
    }
    let config = load("").unwrap().config;
    assert!(!config.node_name.is_empty());
    assert_eq!(config.data_dir, Path::new("./rollcall-data"));
    assert_eq!(config.grace_period, Duration::from_secs(10));
    assert_eq!(config.event_history, 1000);
    assert_eq!(config.explain_attempts.get(), 5);
}

#[test]
fn flags_go_before_the_file() {
    let folder = Folder::new(&[("rollcall.yaml", EXAMPLE)]);
    let overrides = Overrides {
        node_name: Some("other".to_owned()),
        data_dir: Some("/tmp/x".into()),
        http: Some("127.0.0.1:1".parse().unwrap()),
        log_filter: Some("debug".to_owned()),
        ..Overrides::default()
    };
    let config = config::load(Some(&folder.path("rollcall.yaml")), &overrides).unwrap().config;
    assert_eq!(config.node_name, "other");
    assert_eq!(config.data_dir, Path::new("/tmp/x"));
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:1");
    assert_eq!(config.listen.grpc.to_string(), "127.0.0.1:8502");
    assert_eq!(config.log.filter, "debug");
}

#[test]
fn dns_may_be_off_by_file_and_by_flag() {
    let off = load("listen: { dns: off }\n").unwrap().config.listen.dns;
    assert_eq!((off.to_string(), off.address()), ("off".to_owned(), None));
    let folder = Folder::new(&[("rollcall.yaml", "listen: { dns: \"0.0.0.0:1\" }\n")]);
    let overrides = Overrides { dns: Some("off".parse().unwrap()), ..Overrides::default() };
    let config = config::load(Some(&folder.path("rollcall.yaml")), &overrides).unwrap().config;
    assert_eq!(config.listen.dns.address(), None);
}

#[test]
fn a_flag_that_is_wrong_is_blamed() {
    let overrides = Overrides { http: Some("0.0.0.0:1".parse().unwrap()), ..Overrides::default() };
    let rejected = config::load(None, &overrides).unwrap_err();
    expect![[r#"
        error: `listen.http` is open to other hosts without TLS and without a token
         |
         = help: listen on 127.0.0.1 or [::1] and put a proxy before it
         = help: if it is meant, say `insecure: true`
         = help: 0.0.0.0:1 is given by a flag of the command line

        error: 1 error, 0 warnings
    "#]]
    .assert_eq(&rejected.to_string());
    let overrides = Overrides { insecure: Some(true), ..overrides };
    assert!(config::load(None, &overrides).is_ok());
}

#[test]
fn the_nearest_default_counts() {
    let config = load(
        "\
check_defaults: { interval: 7s, timeout: 1s, failures_before_critical: 5 }
services:
  - name: a
    check_defaults: { interval: 8s }
    instances: [{ address: ::1, port: 1 }]
    checks: [{ tcp: {} }, { id: b, tcp: {}, interval: 9s }]
",
    )
    .unwrap()
    .config;
    let found: Vec<_> = config.registrations[0]
        .checks
        .iter()
        .map(|check| {
            let definition = &check.definition;
            (
                definition.schedule.interval.as_secs(),
                definition.schedule.timeout.as_secs(),
                definition.thresholds.failures_before_critical(),
            )
        })
        .collect();
    assert_eq!(found, [(8, 1, 5), (9, 1, 5)]);
}

#[test]
fn the_default_timeout_leaves_room_before_the_next_run() {
    for (interval, timeout) in [("1s", 800), ("2s", 1600), ("2500ms", 2000), ("10s", 2000)] {
        let config = load(&format!(
            "services:\n- name: a\n  instances: [{{ address: ::1, port: 1 }}]\n  \
             checks: [{{ tcp: {{}}, interval: {interval} }}]\n"
        ));
        let config = config.unwrap().config;
        let schedule = config.registrations[0].checks[0].definition.schedule;
        assert_eq!(schedule.timeout, Duration::from_millis(timeout));
    }
}

#[test]
fn an_alias_stands_for_what_it_names() {
    let config = load(
        "\
services:
  - { name: a, instances: [{ address: 10.0.0.1, port: 1 }], checks: &checks [{ tcp: {} }] }
  - { name: b, instances: [{ address: 10.0.0.1, port: 1 }], checks: *checks }
",
    )
    .unwrap()
    .config;
    assert_eq!(config.registrations[1].checks.len(), 1);
}

#[test]
fn an_unreadable_file_is_a_problem_too() {
    let folder = Folder::new(&[("rollcall.yaml", "")]);
    fs::write(folder.path("rollcall.yaml"), b"node_name: a\nx: \xff\n").unwrap();
    let said = folder.clean(&folder.load().unwrap_err().to_string());
    expect![[r#"
        error: the file is not UTF-8
         --> rollcall.yaml:2:4
          |
        2 | x: 
          |    ^ the first byte that is not is here
          |
          = help: save it in UTF-8

        error: 1 error, 0 warnings
    "#]]
    .assert_eq(&said);
    let rejected = config::load(Some(Path::new("/nowhere.yaml")), &Overrides::default());
    expect![[r#"
        error: cannot read `/nowhere.yaml`: No such file or directory (os error 2)

        error: 1 error, 0 warnings
    "#]]
    .assert_eq(&rejected.unwrap_err().to_string());
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert_eq!(load("\u{feff}node_name: a\n").unwrap().config.node_name, "a");
}

#[test]
fn many_instances_share_their_checks() {
    // So many are more than some machines have files for if all of them hang.
    let mut text = String::from(
        "scheduler: { max_in_flight: 100 }\n\
         services:\n- name: web\n  checks: [{ tcp: {} }]\n  instances:\n",
    );
    for n in 0..100_000 {
        let (a, b) = (n / 250, n % 250);
        writeln!(text, "  - {{ id: web-{n}, address: 10.0.{}.{b}, port: {} }}", a % 250, 1 + a)
            .unwrap();
    }
    let started = tokio::time::Instant::now();
    let loaded = load(&text).unwrap();
    // Some three seconds without optimisation on a slow machine; a quadratic step takes minutes.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let config = loaded.config;
    assert_eq!(config.registrations.len(), 100_000);
    let first = &config.registrations[0].checks[0].definition;
    assert!(
        config.registrations.iter().all(|r| std::sync::Arc::ptr_eq(&r.checks[0].definition, first))
    );
}

#[test]
fn many_checks_of_one_service_are_read_in_time() {
    let mut text = String::from("services:\n- name: web\n  checks:\n");
    for n in 0..20_000 {
        writeln!(text, "  - {{ id: c{n}, tcp: {{}} }}").unwrap();
    }
    text.push_str("  instances: [{ address: 10.0.0.1, port: 1 }]\n");
    let started = tokio::time::Instant::now();
    assert_eq!(load(&text).unwrap().config.registrations[0].checks.len(), 20_000);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_billion_laughs_are_not_laughed() {
    let mut text = String::from("a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for (name, of) in "bcdefghi".chars().zip("abcdefgh".chars()) {
        let nine = vec![format!("*{of}"); 9].join(", ");
        writeln!(text, "{name}: &{name} [{nine}]").unwrap();
    }
    let (tree, problems) = tree::parse(&Source::new("laughs.yaml", text));
    assert!(tree.is_none());
    assert_eq!(problems[0].message, "the file's aliases stand for too much");
}

#[test]
fn depth_is_bounded_also_through_aliases() {
    let (tree, _) = tree::parse(&Source::new("deep.yaml", "[".repeat(100_000)));
    assert!(tree.is_none());
    let mut text = String::from("a0: &a0 [x]\n");
    for n in 1..2000 {
        writeln!(text, "a{n}: &a{n} [*a{}]", n - 1).unwrap();
    }
    let (tree, _) = tree::parse(&Source::new("deep.yaml", text));
    assert!(tree.is_none());
}

#[test]
fn scalars_are_read_by_the_core_schema() {
    let text = "[~, null, true, False, yes, 1, -7, 0x1F, 0o17, 1.5, 1e3, .5, .inf, 1.2.3, 10s, '5', 99999999999999999999, !!str 5, 1-2, 0x-1]";
    let (tree, problems) = tree::parse(&Source::new("x.yaml", text));
    assert_eq!(problems, []);
    expect![[r#"[null,null,true,false,"yes",1,-7,31,15,1.5,1000.0,0.5,null,"1.2.3","10s","5",1e+20,"5","1-2","0x-1"]"#]].assert_eq(&tree.unwrap().to_json().to_string());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = Folder::new(&[]);
        fs::write(folder.path("rollcall.yaml"), bytes).unwrap();
        if let Err(rejected) = folder.load() {
            prop_assert!(!rejected.to_string().is_empty());
        }
    }

    #[test]
    fn no_text_makes_it_panic(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "services", "checks", "instances", ":", " ", "\n", "  ", "- ", "{", "}", "[", "]", ",",
                "name", "http", "tcp", "interval", "5s", "&a ", "*a", "'", "\"", "|", ">", "#", "ü",
                "\t", "!!str ", "? ", "1", "~", "---\n", "<<", "\r\n", "\u{0}", "check_defaults",
            ]),
            0..60,
        ),
    ) {
        let text = parts.concat();
        if let Err(rejected) = load(&text) {
            prop_assert!(!rejected.to_string().is_empty());
        }
    }

    #[test]
    fn no_service_file_makes_it_panic(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"service\":", "\"services\":", "\"check\":", "\"checks\":",
                "\"id\":", "\"Name\":", "\"http\":", "\"tcp\":", "\"grpc\":", "\"http://h:1/\"", "\"h:1\"",
                "\"interval\":", "\"1s\"", "1", "null", "\"\"", "\"ttl\":", "\"service_id\":", "\"port\":", "true",
            ]),
            0..40,
        ),
    ) {
        let text = parts.concat();
        let folder = Folder::new(&[("rollcall.yaml", "service_files: [a.json]\n"), ("a.json", &text)]);
        if let Err(rejected) = folder.load() {
            prop_assert!(!rejected.to_string().is_empty());
        }
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let written = config::reference::markdown();
    expect_test::expect_file!["../../../docs/configuration.md"].assert_eq(&written);
}

#[test]
fn the_example_of_the_reference_is_good() {
    let loaded = load(config::reference::EXAMPLE).unwrap();
    assert_eq!(loaded.warnings.to_string(), "");
    assert_eq!(loaded.config.registrations.len(), 3);
}

#[test]
fn a_pipe_is_read_like_a_file() {
    assert!(config::load(Some(Path::new("/dev/null")), &Overrides::default()).is_ok());
}

#[test]
fn the_schema_describes_what_is_read() {
    let schema = config::schema::schema();
    let text = schema.to_string();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let names: Vec<_> = schema["$defs"].as_object().unwrap().keys().map(String::as_str).collect();
    expect!["Auth Basic Certificate Check CheckDefaults Checks Damping Dial Dns DnsQuery Duration Egress EgressApi Etcd Exec Format Grpc Guard H2ping HeaderExpectation Http Icmp Instance JsonExpectation Limits Listen Log Metrics PerTarget Scheduler SelfHealth Service Tcp TcpStep Tls Udp"].assert_eq(&names.join(" "));
    let check = &schema["$defs"]["Check"];
    let ways = rollcall::probe::Protocol::probed().count();
    assert_eq!(check["oneOf"].as_array().map(Vec::len), Some(ways));
    assert!(schema["$defs"]["CheckDefaults"]["properties"].get("http").is_none());
    assert!(!text.contains("null"), "{text}");
}
