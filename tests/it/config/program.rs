//! What is said of checks that run a program.

use expect_test::{Expect, expect};
use rollcall::probe::exec::Allowed;

use super::{Folder, load, report, shown};

const CHECK: &str = "services:
- name: disk
  instances: [{ address: 169.254.169.254, port: 1 }]
  checks:
  - { interval: 1m, timeout: 5s, exec: { args: [/usr/lib/check_disk, -w, 10%] } }
";

const CONSUL: &str = r#"{ "service": { "name": "disk", "id": "d", "checks": [
  { "args": ["check_disk", "-w", "10%"], "interval": "1m" },
  { "ScriptArgs": ["check_disk"], "interval": "1m", "timeout": "5s" },
  { "h2ping": "10.0.0.1:1", "args": ["check_disk"], "interval": "1m", "timeout": "5s" },
  { "http": "http://10.0.0.1/", "args": ["check_disk"], "interval": "1m", "timeout": "5s" } ] } }"#;

#[track_caller]
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&report(&[("rollcall.yaml", text)]));
}

/// What is registered, or what is wrong.
#[track_caller]
fn check_loaded(files: &[(&str, &str)], expected: &Expect) {
    let folder = Folder::new(files);
    expected.assert_eq(&match folder.load() {
        Ok(loaded) => {
            let shown: String = loaded.config.registrations.iter().map(shown).collect();
            shown + &folder.clean(&loaded.warnings.to_string())
        }
        Err(rejected) => folder.clean(&rejected.to_string()),
    });
}

#[test]
fn a_program_is_refused_unless_it_is_allowed() {
    check(
        CHECK,
        &expect![[r#"
        error: this check runs a program, which `checks.exec` does not allow
         --> rollcall.yaml:5:34
          |
        5 |   - { interval: 1m, timeout: 5s, exec: { args: [/usr/lib/check_disk, -w, 10%] } }
          |                                  ^^^^ would run with the rights of the daemon
          |
          = help: if it is meant, say `checks: { exec: files }` in the configuration
          = help: if not, take the check out

        error: 1 error, 0 warnings
    "#]],
    );
}

#[test]
fn a_program_of_a_consul_file_is_refused_alike() {
    let config = "checks: { exec: off }\nservice_files: [a.json]\n";
    check_loaded(
        &[("rollcall.yaml", config), ("a.json", CONSUL)],
        &expect![[r#"
        error: this check runs a program, which `checks.exec` does not allow
         --> a.json:2:5
          |
        2 |   { "args": ["check_disk", "-w", "10%"], "interval": "1m" },
          |     ^^^^^^ would run with the rights of the daemon
          |
          = help: if it is meant, say `checks: { exec: files }` in the configuration
          = help: if not, take the check out

        error: this check runs a program, which `checks.exec` does not allow
         --> a.json:3:5
          |
        3 |   { "ScriptArgs": ["check_disk"], "interval": "1m", "timeout": "5s" },
          |     ^^^^^^^^^^^^ would run with the rights of the daemon
          |
          = help: if it is meant, say `checks: { exec: files }` in the configuration
          = help: if not, take the check out

        error: this check runs a program, which `checks.exec` does not allow
         --> a.json:4:29
          |
        4 |   { "h2ping": "10.0.0.1:1", "args": ["check_disk"], "interval": "1m", "timeout": "5s" },
          |                             ^^^^^^ would run with the rights of the daemon
          |
          = help: if it is meant, say `checks: { exec: files }` in the configuration
          = help: if not, take the check out

        error: 3 errors, 0 warnings
    "#]],
    );
}

#[test]
fn a_program_that_is_allowed_may_belong_to_an_instance_anywhere() {
    let text = format!("checks: {{ exec: files }}\n{CHECK}");
    check_loaded(
        &[("rollcall.yaml", &text)],
        &expect![[r#"
            disk disk-169.254.169.254-1 169.254.169.254:1 [] Pairs([])
              exec "" exec: every 60s ±0.05 within 5s after 0ns, 1/3/3, 0.99
        "#]],
    );
    assert_eq!(load(&text).unwrap().config.checks.exec, Allowed::Files);
    assert_eq!(load("checks: { exec: api }").unwrap().config.checks.exec, Allowed::Api);
    assert_eq!(load("").unwrap().config.checks.exec, Allowed::Off);
}

#[test]
fn programs_of_consul_files_come_after_the_kinds_that_consul_prefers() {
    let config = "checks: { exec: api }\nservice_files: [a.json]\n";
    check_loaded(
        &[("rollcall.yaml", config), ("a.json", CONSUL)],
        &expect![[r#"
            disk d 127.0.0.1:0 [] Pairs([])
              exec "Service 'disk' check" exec as service:d:1: every 60s ±0.05 within 30s after 0ns, 1/1/1, 0.99
              exec-2 "Service 'disk' check" exec as service:d:2: every 60s ±0.05 within 5s after 0ns, 1/1/1, 0.99
              exec-3 "Service 'disk' check" exec as service:d:3: every 60s ±0.05 within 5s after 0ns, 1/1/1, 0.99
              http "Service 'disk' check" http at 10.0.0.1:80 as service:d:4: every 60s ±0.05 within 5s after 0ns, 1/1/1, 0.99
        "#]],
    );
}

#[test]
fn a_text_for_a_shell_is_not_run() {
    let config = "checks: { exec: files }\nservice_files: [a.json]\n";
    let json = r#"{ "service": { "name": "a", "checks": [{ "script": "df -h | grep /", "interval": "1m" },
  { "tcp": "10.0.0.1:1", "interval": "1m", "timeout": "5s" }] } }"#;
    check_loaded(
        &[("rollcall.yaml", config), ("a.json", json)],
        &expect![[r#"
            a a 127.0.0.1:0 [] Pairs([])
              tcp "Service 'a' check" tcp at 10.0.0.1:1 as service:a:2: every 60s ±0.05 within 5s after 0ns, 1/1/1, 0.99
            warning: checks of the kind script are not run in this version
             --> a.json:1:42
              |
            1 | { "service": { "name": "a", "checks": [{ "script": "df -h | grep /", "interval": "1m" },
              |                                          ^^^^^^^^ the service is loaded without this check
              |
              = help: no shell is run: write the program and its arguments as a list, `args`

            warning: 0 errors, 1 warning
        "#]],
    );
}

#[test]
fn a_program_that_is_badly_named_is_shown() {
    check(
        "checks: { exec: files, shell: true }
services:
- name: a
  instances: [{ address: 10.0.0.1, port: 1 }]
  checks:
  - { id: a, exec: {} }
  - { id: b, exec: { args: [] } }
  - { id: c, exec: { args: bin/check } }
  - { id: d, exec: { args: [bin/check] } }
  - { id: e, exec: { args: [check], script: x } }
",
        &expect![[r#"
            error: unknown key `shell`
             --> rollcall.yaml:1:24
              |
            1 | checks: { exec: files, shell: true }
              |                        ^^^^^ not a key here
              |
              = help: the keys here are `exec`

            error: the key `args` is missing
             --> rollcall.yaml:6:20
              |
            6 |   - { id: a, exec: {} }
              |                    ^^ has no `args`

            error: `args` names no program
             --> rollcall.yaml:7:14
              |
            7 |   - { id: b, exec: { args: [] } }
              |              ^^^^ cannot be made ready

            error: expected a list
             --> rollcall.yaml:8:28
              |
            8 |   - { id: c, exec: { args: bin/check } }
              |                            ^^^^^^^^^ found the text `bin/check`

            error: the program in `args` must be an absolute path, or a name without a slash
             --> rollcall.yaml:9:14
              |
            9 |   - { id: d, exec: { args: [bin/check] } }
              |              ^^^^ cannot be made ready

            error: unknown key `script`
              --> rollcall.yaml:10:37
               |
            10 |   - { id: e, exec: { args: [check], script: x } }
               |                                     ^^^^^^ not a key here
               |
               = help: the keys here are `args`

            error: 6 errors, 0 warnings
        "#]],
    );
    check(
        "checks: { exec: yes }\n",
        &expect![[r#"
        error: unknown value `yes`
         --> rollcall.yaml:1:17
          |
        1 | checks: { exec: yes }
          |                 ^^^ not a value of this key
          |
          = help: the values are `off`, `files`, `api`

        error: 1 error, 0 warnings
    "#]],
    );
}
