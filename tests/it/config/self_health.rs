//! How the daemon is to watch itself.

use expect_test::expect;

use super::{load, report};

#[test]
fn anchors_are_urls_as_probes_take_them() {
    let text = "self_health: { anchors: [tcp://10.0.0.1:53, https://status.example/healthz], \
                interval: 500ms, timeout: 500ms, abstain_at: 8 }\n";
    let own = load(text).unwrap().config.self_health;
    let urls: Vec<_> = own.anchors.iter().map(|anchor| anchor.target().url()).collect();
    assert_eq!(urls, ["10.0.0.1:53", "https://status.example/healthz"]);
    assert_eq!(own.abstain_at, 8);
}

#[test]
fn what_cannot_be_so_is_told_with_its_place() {
    let text = "self_health:\n  anchors: [tcp://10.0.0.1:53, http://169.254.169.254/]\n  \
                interval: 100ms\n  timeout: 2s\n  abstain_at: 9\n";
    let told = report(&[("rollcall.yaml", text)]);
    expect![[r#"
        error: probes may not go to `169.254.169.254`: cloud metadata (169.254.169.254/32)
         --> rollcall.yaml:2:32
          |
        2 |   anchors: [tcp://10.0.0.1:53, http://169.254.169.254/]
          |                                ^^^^^^^^^^^^^^^^^^^^^^^ every probe would be denied
          |
          = help: add 169.254.169.254/32 to `egress.allow` if it is meant

        error: `interval` must be between 500ms and 1m
         --> rollcall.yaml:3:13
          |
        3 |   interval: 100ms
          |             ^^^^^ 100ms is given

        error: `timeout` must be above zero and at most the `interval`
         --> rollcall.yaml:4:12
          |
        4 |   timeout: 2s
          |            ^^ 2s is given

        error: `abstain_at` must be between 1 and 8
         --> rollcall.yaml:5:15
          |
        5 |   abstain_at: 9
          |               ^ 9 is given

        error: 4 errors, 0 warnings
    "#]]
    .assert_eq(&told);
}

#[test]
fn an_anchor_that_is_no_url_is_told_what_it_could_be() {
    let told = report(&[("rollcall.yaml", "self_health: { anchors: [10.0.0.1] }\n")]);
    expect![[r#"
        error: not a URL: relative URL without a base; write for example http://10.0.0.1:8080/healthz
         --> rollcall.yaml:1:26
          |
        1 | self_health: { anchors: [10.0.0.1] }
          |                          ^^^^^^^^ found the text `10.0.0.1`

        error: 1 error, 0 warnings
    "#]].assert_eq(&told);
}
