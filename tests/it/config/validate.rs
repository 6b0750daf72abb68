//! `rollcall validate`, as a person meets it.

use expect_test::expect;
use rollcall::{
    cli::validate::{self, Args},
    config::{diagnostic::Paint, reference::EXAMPLE},
};

use super::Folder;

#[derive(Clone, Copy)]
enum Strict {
    No,
    Yes,
}

/// Exit code, standard output and standard error.
fn validate(text: &str, strict: Strict) -> (u8, String, String) {
    let folder = Folder::new(&[("rollcall.yaml", text)]);
    let strict = matches!(strict, Strict::Yes);
    let args = Args { file: folder.path("rollcall.yaml"), strict };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = validate::run(&args, Paint::Plain, &mut out, &mut err).expect("memory takes all");
    let text = |bytes: Vec<u8>| folder.clean(&String::from_utf8_lossy(&bytes));
    (code, text(out), text(err))
}

#[test]
fn a_good_file_shows_what_would_run() {
    let (code, out, err) = validate(EXAMPLE, Strict::Yes);
    assert_eq!((code, err.as_str()), (0, ""));
    expect![[r#"
        SERVICE  CHECK  BY    INSTANCES  EVERY  WITHIN  FAILURES  NOTICED AFTER
        web      http   http          2     5s      1s         3          ≤ 16s
        web      port   tcp           2    10s      2s         3          ≤ 32s
        cart     grpc   grpc          1    10s      2s         3          ≤ 32s
        cart     own    tcp           1     1m      1s         3         ≤ 3m1s
        2 services, 3 instances, 6 checks: 0.7 probes and 0.6 new connections a second
    "#]]
    .assert_eq(&out);
}

#[test]
fn an_empty_file_runs_nothing() {
    let (code, out, _) = validate("", Strict::No);
    assert_eq!(code, 0);
    expect![[r#"
        0 services, 0 instances, 0 checks: 0.0 probes and 0.0 new connections a second
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_bad_file_shows_its_problems_and_fails() {
    let (code, out, err) = validate("a: 1", Strict::No);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with("error: unknown key `a`"), "{err}");
}

#[test]
fn warnings_fail_only_if_asked_to() {
    let text = "service_files: [\"*.json\"]";
    let (code, out, err) = validate(text, Strict::No);
    assert_eq!(code, 0);
    assert!(err.starts_with("warning: no file matches"), "{err}");
    assert!(!out.is_empty());
    assert_eq!(validate(text, Strict::Yes).0, 2);
}
