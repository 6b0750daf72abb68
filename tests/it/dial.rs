//! Where the program's probes go, and what they make of a host that is cut off.

use std::{net::TcpListener, process::Command};

use super::support::Web;

/// The verdict that `rollcall probe` prints, run by a command that ends in it.
fn verdict(mut command: Command, url: &str) -> String {
    let output = command.args(["--json", "--timeout", "2s", url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    format!("{} {}", json["outcome"], json["reason"]).replace('"', "")
}

fn probe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.arg("probe");
    command
}

#[test]
fn proxies_of_the_environment_are_ignored() {
    let (web, tripwire) = (Web::start(), TcpListener::bind("127.0.0.1:0").unwrap());
    tripwire.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", tripwire.local_addr().unwrap());
    let mut command = probe();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"] {
        command.env(name, &proxy);
    }
    assert_eq!(verdict(command, &format!("http://{}/", web.address)), "success null");
    assert_eq!(tripwire.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_host_without_a_route_says_nothing_of_its_targets() {
    let apart = |url: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", env!("CARGO_BIN_EXE_rollcall")]);
        command.arg("probe");
        verdict(command, url)
    };
    let may = Command::new("unshare").args(["--user", "--map-root-user", "--net", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        // Not everybody may have a network of his own.
        return;
    }
    for url in
        ["tcp://192.0.2.1:80", "http://192.0.2.1/", "udp://192.0.2.1:53", "h2://192.0.2.1:443"]
    {
        assert_eq!(apart(url), "inconclusive unreachable", "{url}");
    }
    // There is not even an IPv6 address to come from, which Linux says first.
    assert_eq!(apart("tcp://[2001:db8::1]:80"), "inconclusive internal");
    assert_eq!(apart("tcp://shop.invalid:80"), "failure dns");
    // The resolver is not there either.
    assert_eq!(apart("tcp://shop.example:80"), "inconclusive dns");
}
