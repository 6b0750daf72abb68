//! Hundreds of targets that mean harm beside a few good ones: the good ones do not notice.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::support::{Rollcall, Web, wait_for};

/// Instances of each kind of hostile target.
const EACH: usize = 25;

/// Good instances.
const GOOD: usize = 20;

/// How a target answers: once, then again and again.
const HOSTILE: &[(&str, &[u8], &[u8])] = &[
    ("silent", b"", b""),
    ("garbage", b"\xff\xfe\xfd garbage", b"\0\0\0\0"),
    ("headers", b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    ("interim", b"", b"HTTP/1.1 103 x\r\n\r\n"),
    ("body", b"HTTP/1.1 200 OK\r\n\r\n", b"xxxxxxxxxxxxxxxx"),
    ("extensions", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;eeee\r\nx\r\n"),
    ("unended", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nx", b""),
    // An HTTP/2 server that sends PING after PING.
    ("pings", b"\0\0\0\x04\0\0\0\0\0", b"\0\0\x08\x06\0\0\0\0\x0012345678"),
];

/// A target that answers every connection so, for as long as the other side bears it.
fn hostile(once: &'static [u8], again: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || harm(stream.unwrap(), once, again));
        }
    });
    address
}

fn harm(mut stream: TcpStream, once: &[u8], again: &[u8]) {
    let mut request = [0; 2048];
    let Ok(1..) = stream.read(&mut request) else { return };
    let mut sent = stream.write_all(once);
    let flood = again.repeat(256);
    while sent.is_ok() && !flood.is_empty() {
        sent = stream.write_all(&flood);
    }
    // One that says no more waits until the other side has had enough.
    while matches!(stream.read(&mut request), Ok(1..)) {}
}

fn service(text: &mut String, name: &str, http: &str, timing: &str, targets: &[SocketAddr]) {
    writeln!(
        text,
        "  - name: {name}\n    checks:\n      - {{ id: http, http: {http}, {timing} }}\n    instances:"
    )
    .unwrap();
    for (number, address) in targets.iter().enumerate() {
        let port = address.port();
        writeln!(text, "      - {{ id: {name}-{number}, address: 127.0.0.1, port: {port} }}")
            .unwrap();
    }
}

/// Runs so far, and those of them that were not more than a tenth of a second late.
fn runs(daemon: &Rollcall) -> (f64, f64) {
    let read = |series: &str| daemon.metric(series).unwrap_or_default();
    let on_time = "rollcall_scheduler_lag_seconds_bucket{le=\"0.1\"}";
    (read("rollcall_scheduler_lag_seconds_count"), read(on_time))
}

/// The part of all runs of the next seconds that is late.
fn late_part(daemon: &Rollcall, seconds: u64) -> f64 {
    let (all_before, on_time_before) = runs(daemon);
    thread::sleep(Duration::from_secs(seconds));
    let (all, on_time) = runs(daemon);
    assert!(all > all_before, "nothing ran");
    1.0 - (on_time - on_time_before) / (all - all_before)
}

#[test]
fn hundreds_of_hostile_targets_do_not_delay_the_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollcall.yml");
    let web = Web::start();
    let mut text =
        String::from("scheduler: { threads: 1, max_in_flight_per_host: 1000 }\nservices:\n");
    service(&mut text, "good", "{}", "interval: 2s, timeout: 1900ms", &[web.address; GOOD]);
    fs::write(&path, &text).unwrap();
    let daemon = Rollcall::start(folder.path(), Some(&path));
    let events = |daemon: &Rollcall| daemon.transitions().len();
    wait_for("the good ones are passing", || events(&daemon) == GOOD);
    let late_before = late_part(&daemon, 3);

    for (name, once, again) in HOSTILE {
        let http = if *name == "pings" { "{ version: 2 }" } else { "{}" };
        let targets = [hostile(once, again); EACH];
        service(&mut text, name, http, "interval: 2s, timeout: 1900ms", &targets);
    }
    fs::write(&path, &text).unwrap();
    assert_eq!(daemon.request("POST", "/-/reload").0, 200);
    let all = GOOD + EACH * HOSTILE.len();
    wait_for("all are judged", || events(&daemon) >= all);
    let late = late_part(&daemon, 6);

    assert!(late < late_before + 0.05, "{late} of the runs are late, {late_before} were before");
    let transitions = daemon.transitions();
    let of_good: Vec<_> = transitions.iter().filter(|line| line.starts_with("good-")).collect();
    assert_eq!(of_good.len(), GOOD, "{of_good:?}");
    let judged = |name: &str, verdict: &str| {
        let is_so = |line: &&String| line.starts_with(name) && line.ends_with(verdict);
        assert_eq!(transitions.iter().filter(is_so).count(), EACH, "{name}: {transitions:?}");
    };
    judged("silent-", "critical timeout_response");
    judged("headers-", "critical protocol");
    judged("pings-", "critical protocol");
    judged("body-", "passing ok");
    let memory = daemon.metric("process_resident_memory_bytes").unwrap();
    assert!(memory < 300e6, "{memory} bytes");
}
