//! Targets that misuse HTTP/2, frame by frame.

use tokio::net::TcpStream;

use super::{
    hostile::{self, Suffered},
    *,
};

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const UNKNOWN: u8 = 0x42;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// `:status: 200` (RFC 7541, appendix A).
const STATUS_200: &[u8] = &[0x88];

/// `:status: 103`, written out.
const STATUS_103: &[u8] = b"\x08\x03103";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

fn ok_head(flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, 1, STATUS_200)
}

/// What a target does after it has read the start of a request.
#[derive(Debug, Clone)]
struct Script {
    /// What it says once.
    once: Vec<u8>,
    /// What it says again and again afterwards.
    again: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Close,
    Hold,
}

fn says(frames: &[Vec<u8>]) -> Script {
    Script { once: frames.concat(), again: Vec::new(), then: Then::Hold }
}

fn floods(frames: &[Vec<u8>], again: Vec<u8>) -> Script {
    Script { again, ..says(frames) }
}

fn closes(frames: &[Vec<u8>]) -> Script {
    Script { then: Then::Close, ..says(frames) }
}

async fn play(mut stream: TcpStream, script: Script) {
    read_request(&mut stream).await;
    let mut sent = stream.write_all(&script.once).await;
    let flood = script.again.repeat(100);
    while sent.is_ok() && !flood.is_empty() {
        sent = stream.write_all(&flood).await;
        // The other side's answers must not make it wait.
        drop(stream.try_read(&mut [0; 8192]));
    }
    match script.then {
        Then::Close => say_and_close(&mut stream, b"").await,
        Then::Hold => hold(&mut stream).await,
    }
}

/// Probes a target that does so.
async fn suffer(spec: Value, script: Script, timeout: Duration) -> Suffered {
    let mut spec = spec;
    spec["version"] = json!(2);
    let server = Server::start(move |stream| play(stream, script.clone())).await;
    hostile::suffer(spec, &server, timeout).await
}

#[track_caller]
fn check(name: &str, suffered: &Suffered, expected: &str) {
    assert_eq!(suffered.verdict, expected, "{name}: {}", suffered.detail);
    assert!(suffered.capacity <= 2 * body::MAX_BODY, "{name}: {} bytes", suffered.capacity);
}

#[tokio::test]
async fn a_flood_of_frames_is_ended_long_before_the_deadline() {
    let many_pieces = json!({ "body_contains": "y" });
    let none = || json!({});
    let head = frame(HEADERS, 0, 1, STATUS_200);
    for (name, spec, script, expected) in [
        ("settings", none(), floods(&[settings()], settings()), "failure protocol"),
        ("pings", none(), floods(&[settings()], frame(PING, 0, 0, &[7; 8])), "failure protocol"),
        (
            "window updates",
            none(),
            floods(&[settings()], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
            "failure protocol",
        ),
        (
            "priorities",
            none(),
            floods(&[settings()], frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9])),
            "failure protocol",
        ),
        (
            "unknown frames",
            none(),
            floods(&[settings()], frame(UNKNOWN, 0, 0, &[0; 99])),
            "failure protocol",
        ),
        (
            "continuations",
            none(),
            floods(&[settings(), head.clone()], frame(CONTINUATION, 0, 1, b"\x40\x01a\x01b")),
            "failure protocol",
        ),
        (
            "empty continuations",
            none(),
            floods(&[settings(), head], frame(CONTINUATION, 0, 1, &[])),
            "failure protocol",
        ),
        (
            "interim answers",
            none(),
            floods(&[settings()], frame(HEADERS, END_HEADERS, 1, STATUS_103)),
            "failure protocol",
        ),
        (
            "empty data",
            none(),
            floods(&[settings(), ok_head(0)], frame(DATA, 0, 1, &[])),
            "failure protocol 200",
        ),
        (
            "data of one byte",
            many_pieces.clone(),
            floods(&[settings(), ok_head(0)], frame(DATA, 0, 1, b"x")),
            "failure protocol 200",
        ),
        (
            "resets of streams that are none",
            none(),
            floods(&[settings()], frame(RST_STREAM, 0, 3, &[0; 4])),
            "failure protocol",
        ),
    ] {
        let started = tokio::time::Instant::now();
        let suffered = suffer(spec, script, testing::PATIENCE).await;
        check(name, &suffered, expected);
        assert!(started.elapsed() < testing::PATIENCE / 2, "{name}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_and_judged_by_its_start() {
    let endless = floods(&[settings(), ok_head(0)], frame(DATA, 0, 1, &[b'x'; 8192]));
    // It does not care for the window: that is against the rules.
    let suffered = suffer(json!({}), endless.clone(), testing::PATIENCE).await;
    assert!(
        ["success 200", "failure protocol 200"].contains(&&*suffered.verdict),
        "{}",
        suffered.verdict
    );
    assert!(suffered.capacity <= 2 * body::MAX_BODY);
}

#[tokio::test]
async fn a_misuse_of_the_protocol_is_told_as_such() {
    let entry = [b"\x40\x01a\x7f\xb1\x16".as_slice(), &[b'v'; 3000]].concat();
    let bomb = [STATUS_200, &entry, &[0xbe; 12_000]].concat();
    let upper = [STATUS_200, b"\x40\x01A\x01b"].concat();
    let length = [STATUS_200, b"\x0f\x0d\x015"].concat();
    let both = [STATUS_200, b"\x0f\x0d\x012", b"\x0f\x0d\x013"].concat();
    let calm = [0, 0, 0, 0, 0, 0, 0, 0xb];
    let head = |fields: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, fields);
    for (name, script, expected) in [
        ("the other version", says(&[b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()]), "failure protocol"),
        ("garbage", says(&[vec![0xff; 64]]), "failure protocol"),
        ("a bomb of headers", says(&[settings(), head(&bomb)]), "failure protocol"),
        ("a broken table", says(&[settings(), head(&[0xff, 0xff, 0x7f])]), "failure protocol"),
        ("a name in upper case", says(&[settings(), head(&upper)]), "failure protocol"),
        ("no status", says(&[settings(), head(b"\x40\x01a\x01b")]), "failure protocol"),
        (
            "a stream of ours",
            says(&[settings(), frame(HEADERS, 5, 3, STATUS_200)]),
            "failure protocol",
        ),
        ("data of no stream", says(&[settings(), frame(DATA, 0, 0, b"x")]), "failure protocol"),
        ("data first", says(&[settings(), frame(DATA, 0, 1, b"x")]), "failure protocol"),
        (
            "a push",
            says(&[settings(), frame(PUSH_PROMISE, 4, 1, b"\0\0\0\x02\x82")]),
            "failure protocol",
        ),
        ("an alert", says(&[settings(), frame(GOAWAY, 0, 0, &calm)]), "failure protocol"),
        ("two lengths", says(&[settings(), head(&both)]), "failure protocol"),
        (
            "a wrong length",
            says(&[
                settings(),
                frame(HEADERS, END_HEADERS, 1, &length),
                frame(DATA, END_STREAM, 1, b"ok"),
            ]),
            "failure protocol 200",
        ),
        (
            "a giant frame",
            says(&[settings(), vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]]),
            "failure protocol",
        ),
        (
            "a window that overflows",
            says(&[settings(), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
            "failure protocol",
        ),
    ] {
        check(name, &suffer(json!({}), script, testing::PATIENCE).await, expected);
    }
}

#[tokio::test]
async fn an_answer_broken_off_is_a_reset() {
    let internal = frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]);
    let in_order = frame(GOAWAY, 0, 0, &[0; 8]);
    for (name, script, expected) in [
        ("closed at once", closes(&[]), "failure connection_reset"),
        ("closed after settings", closes(&[settings()]), "failure connection_reset"),
        ("closed in a frame", closes(&[settings()[..5].to_vec()]), "failure connection_reset"),
        ("closed in the body", closes(&[settings(), ok_head(0)]), "failure connection_reset 200"),
        ("a reset", says(&[settings(), internal.clone()]), "failure connection_reset"),
        (
            "a reset in the body",
            says(&[settings(), ok_head(0), internal]),
            "failure connection_reset 200",
        ),
        ("a farewell", says(&[settings(), in_order.clone()]), "failure connection_reset"),
        (
            "a farewell before the answer",
            says(&[settings(), frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), ok_head(1)]),
            "success 200",
        ),
    ] {
        check(name, &suffer(json!({}), script, testing::PATIENCE).await, expected);
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_ends_with_the_deadline() {
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let no_streams = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0]);
    let post = json!({ "method": "POST", "body": "x".repeat(100_000) });
    for (name, spec, script, expected) in [
        ("silence", json!({}), says(&[]), "failure timeout_response"),
        ("settings only", json!({}), says(&[settings()]), "failure timeout_response"),
        ("half a frame", json!({}), says(&[settings()[..5].to_vec()]), "failure timeout_response"),
        ("no window", post.clone(), says(&[no_window]), "failure timeout_response"),
        ("no streams", json!({}), says(&[no_streams]), "failure timeout_response"),
        (
            "half a head",
            json!({}),
            says(&[settings(), frame(HEADERS, 0, 1, STATUS_200)]),
            "failure timeout_response",
        ),
        ("no end", json!({}), says(&[settings(), ok_head(0)]), "failure timeout_response 200"),
        (
            "no trailers",
            json!({}),
            says(&[settings(), ok_head(0), frame(DATA, 0, 1, b"ok")]),
            "failure timeout_response 200",
        ),
    ] {
        let started = tokio::time::Instant::now();
        check(name, &suffer(spec, script, SHORT).await, expected);
        assert!(started.elapsed() < SHORT + testing::SLACK, "{name}: {:?}", started.elapsed());
    }
}
