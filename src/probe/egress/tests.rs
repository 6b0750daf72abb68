//! Which addresses are denied, and what is said of it.

use serde_json::json;

use super::*;
use crate::probe::testing::spec;

mod naive;
mod spelling;

fn config(allow: &[&str], deny: &[&str]) -> Config {
    spec(json!({ "allow": allow, "deny": deny }))
}

#[track_caller]
fn check(config: &Config, ip: &str, expected: &str) {
    let said = match Policy::new(config).vet(ip.parse().unwrap()) {
        Ok(()) => "allowed".to_owned(),
        Err(denied) => format!("{denied}; {}", denied.remedy()),
    };
    assert_eq!(said.strip_prefix("probes may not go to ").unwrap_or(&said), expected);
}

#[test]
fn what_is_meant_is_allowed() {
    let start = Config::default();
    for ip in ["127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.100.100.201"] {
        check(&start, ip, "allowed");
    }
    for ip in ["1.1.1.1", "2001:db8::1", "2606:4700::1111", "fd00::1", "::ffff:10.0.0.1"] {
        check(&start, ip, "allowed");
    }
    for ip in ["64:ff9b:1::8.8.8.8", "64:ff9b:1:808:8:800::", "64:ff9b:2::169.254.169.254"] {
        check(&start, ip, "allowed");
    }
    for ip in ["64:ff9b::8.8.8.8", "2002:808:808::1", "169.253.255.255", "169.255.0.0", "fec0::1"] {
        check(&start, ip, "allowed");
    }
}

#[test]
fn a_denial_says_which_rule_and_what_to_do() {
    let said = "`169.254.169.254`: cloud metadata (169.254.169.254/32); \
                add 169.254.169.254/32 to `egress.allow` if it is meant";
    check(&Config::default(), "169.254.169.254", said);
    let said = "`64:ff9b::a9fe:101`, which stands for `169.254.1.1`: link-local (169.254.0.0/16); \
                add 169.254.1.1/32 to `egress.allow` if it is meant";
    check(&Config::default(), "64:ff9b::a9fe:101", said);
    let said = "`10.1.2.3`: `egress.deny` has 10.0.0.0/8; \
                change 10.0.0.0/8 in `egress.deny` if it is meant";
    check(&config(&["10.1.2.3"], &["10.0.0.0/8"]), "10.1.2.3", said);
}

#[test]
fn a_list_of_all_that_is_allowed_leaves_nothing_else() {
    let config: Config = spec(json!({ "only": ["10.0.0.0/8", "169.254.0.0/16", "fd00::/8"] }));
    for ip in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"] {
        check(&config, ip, "allowed");
    }
    let said = "`11.0.0.1`: not in `egress.only`; add 11.0.0.1/32 to `egress.only` if it is meant";
    check(&config, "11.0.0.1", said);
    let said = "`169.254.1.1`: link-local (169.254.0.0/16); \
                add 169.254.1.1/32 to `egress.allow` if it is meant";
    check(&config, "169.254.1.1", said);
    // What carries an address must be allowed itself, too.
    let denied = |ip: &str| Policy::new(&config).vet(ip.parse().unwrap()).is_err();
    for ip in ["64:ff9b::10.1.2.3", "2002:a01:203::", "127.0.0.1", "::1", "::ffff:11.0.0.1"] {
        assert!(denied(ip), "{ip}");
    }
    check(&spec(json!({ "only": ["10.0.0.0/8", "64:ff9b::/96"] })), "64:ff9b::a01:203", "allowed");
    assert!(Policy::new(&spec(json!({ "only": [] }))).vet("10.0.0.1".parse().unwrap()).is_err());
}

#[test]
fn checks_of_the_api_have_a_stricter_policy() {
    let config: Config = spec(json!({
        "allow": ["169.254.1.1", "169.254.1.2"],
        "api": { "allow": ["169.254.1.2", "169.254.1.3"], "deny": ["127.0.0.0/8"] },
    }));
    let verdicts = |ip: &str| {
        let ip = ip.parse().unwrap();
        [Policy::new(&config), Policy::for_api(&config)].map(|policy| policy.vet(ip).is_ok())
    };
    assert_eq!(verdicts("169.254.1.1"), [true, false]);
    assert_eq!(verdicts("169.254.1.2"), [true, true]);
    assert_eq!(verdicts("169.254.1.3"), [false, false]);
    assert_eq!(verdicts("127.0.0.1"), [true, false]);
    assert_eq!(verdicts("10.0.0.1"), [true, true]);
    let denied = Policy::for_api(&config).vet("127.0.0.1".parse().unwrap()).unwrap_err();
    assert_eq!(
        format!("{denied}; {}", denied.remedy()),
        "probes may not go to `127.0.0.1`: `egress.api.deny` has 127.0.0.0/8; \
         change 127.0.0.0/8 in `egress.api.deny` if it is meant"
    );
}

#[test]
fn an_exception_must_name_what_it_opens() {
    let denied = |allow: &[&str], ip: &str| {
        Policy::new(&config(allow, &[])).vet(ip.parse().unwrap()).is_err()
    };
    assert!(denied(&["0.0.0.0/0", "::/0"], "169.254.1.1"));
    assert!(denied(&["169.254.0.0/15"], "169.254.1.1"));
    assert!(!denied(&["169.254.0.0/16"], "169.254.1.1"));
    assert!(!denied(&["169.254.0.0/16"], "::ffff:169.254.1.1"));
    assert!(!denied(&["::ffff:169.254.0.0/112"], "169.254.1.1"));
    assert!(denied(&["169.254.0.0/16"], "169.254.169.254"));
    assert!(!denied(&["169.254.169.254"], "169.254.169.254"));
    assert!(denied(&["169.254.169.254"], "169.254.169.253"));
    assert!(denied(&["100.64.0.0/10"], "100.100.100.200"));
    assert!(denied(&["fd00::/8"], "fd00:ec2::254"));
    assert!(!denied(&["fd00:ec2::254/128"], "fd00:ec2::254"));
}

#[test]
fn a_network_is_read_strictly() {
    let read = |text: &str| match text.parse::<Cidr>() {
        Ok(cidr) => cidr.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(read("10.0.0.0/8"), "10.0.0.0/8");
    assert_eq!(read("10.0.0.1"), "10.0.0.1/32");
    assert_eq!(read("0.0.0.0/0"), "0.0.0.0/0");
    assert_eq!(read("::/0"), "::/0");
    assert_eq!(read("fe80::/10"), "fe80::/10");
    assert_eq!(read("::ffff:10.0.0.0/104"), "10.0.0.0/8");
    let host_bits = |right: &str| {
        format!("bits are set beyond the prefix; write {right}, or the address without a slash")
    };
    assert_eq!(read("10.0.0.1/8"), host_bits("10.0.0.0/8"));
    assert_eq!(read("::ffff:10.0.0.1/104"), host_bits("10.0.0.0/8"));
    for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/-1"] {
        assert_eq!(read(text), "the number after the slash must be from 0 to 32", "{text}");
    }
    assert_eq!(read("fe80::/129"), "the number after the slash must be from 0 to 128");
    for text in ["", "/8", "10.0.0/8", "host", "010.0.0.0/8", "fe80::%eth0/10", "*"] {
        assert!(read(text).contains("is not a network: write for example"), "{text}");
    }
}
