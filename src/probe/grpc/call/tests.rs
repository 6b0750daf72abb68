//! What a connection knows, without one.

use proptest::prelude::*;

use super::*;
use crate::probe::{
    grpc::answer::Said,
    http2::{GOAWAY, HEADERS},
    testing,
};

const SETTINGS_FRAME: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// `:status: 200`, a message that says `SERVING`, `grpc-status: 0`.
const SERVING: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x01\x88\
    \0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08\x01\
    \0\0\x0f\x01\x05\0\0\0\x01\0\x0bgrpc-status\x010";

fn probe(service: &str) -> Probe {
    Probe::prepare(&testing::spec(serde_json::json!({ "service": service }))).unwrap()
}

fn begun(state: &mut State, probe: &Probe) -> (Answer, Vec<u8>) {
    let mut out = Vec::new();
    let endpoint = testing::endpoint(([127, 0, 0, 1], 50_051).into());
    let answer = state.begin(probe, &endpoint, &mut out);
    (answer, out)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    http2::write(&mut frame, kind, 0, 0, payload);
    frame
}

/// What comes of a first call if the target says this.
fn come_of(parts: &[&[u8]]) -> (State, Result<Option<Reply>, String>) {
    let mut state = State::default();
    let (mut answer, _) = begun(&mut state, &probe(""));
    let taken = state.take_all(&parts.concat(), &mut answer, &mut 0);
    (state, taken.map(|(_, reply)| reply).map_err(|fault| fault.detail))
}

#[track_caller]
fn check_fault(parts: &[&[u8]], expected: &str) {
    let fault = come_of(parts).1.expect_err(expected);
    assert!(fault.contains(expected), "{fault}");
}

#[test]
fn a_call_is_written_in_one_piece() {
    let mut state = State::default();
    let (_, out) = begun(&mut state, &probe("shop"));
    let rest = out.strip_prefix(http2::PREFACE).unwrap();
    let mut frames = Vec::new();
    let mut rest = rest;
    while let Some((head, payload)) = http2::first(rest).unwrap() {
        rest = &rest[HEAD_LEN + payload.len()..];
        frames.push((head.kind, head.flags, head.stream, payload));
    }
    assert!(rest.is_empty());
    let [settings, headers, data] = frames[..] else { panic!("{frames:?}") };
    assert_eq!(settings, (SETTINGS, 0, 0, &b"\0\x02\0\0\0\0\0\x06\0\0\x40\0"[..]));
    assert_eq!((headers.0, headers.1, headers.2), (HEADERS, http2::END_HEADERS, 1));
    let mut list = Vec::new();
    Decoder::default()
        .decode(headers.3, 4096, |name, value| {
            list.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        })
        .unwrap();
    let agent = concat!("user-agent: rollcall/", env!("CARGO_PKG_VERSION"));
    let expected = [
        ":method: POST",
        ":scheme: http",
        ":path: /grpc.health.v1.Health/Check",
        ":authority: 127.0.0.1:50051",
        "content-type: application/grpc",
        "te: trailers",
        agent,
    ];
    assert_eq!(list, expected);
    assert_eq!(data, (http2::DATA, http2::END_STREAM, 1, &b"\0\0\0\0\x06\x0a\x04shop"[..]));
    // The next one has neither preface nor settings.
    let (_, out) = begun(&mut state, &probe("shop"));
    let (head, _) = http2::first(&out).unwrap().unwrap();
    assert_eq!((head.kind, head.stream), (HEADERS, 3));
}

#[test]
fn what_is_owed_goes_out_with_the_next_call() {
    let ping = frame(PING, b"opaque!!");
    let (mut state, reply) = come_of(&[SETTINGS_FRAME, &ping, SERVING]);
    assert_eq!(reply.unwrap().unwrap().said, Said::Status(1));
    state.taken = GIVE_BACK;
    let (_, out) = begun(&mut state, &probe(""));
    let mut expected = Vec::new();
    http2::write(&mut expected, SETTINGS, ACK, 0, &[]);
    http2::write(&mut expected, PING, ACK, 0, b"opaque!!");
    http2::write(&mut expected, WINDOW_UPDATE, 0, 0, &GIVE_BACK.to_be_bytes());
    assert!(out.starts_with(&expected), "{out:?}");
    assert_eq!(state.taken, 0);
}

#[test]
fn what_an_answer_took_is_counted() {
    assert_eq!(come_of(&[SETTINGS_FRAME, SERVING]).0.taken, 7);
}

#[test]
fn windows_are_kept() {
    let size = probe("").request.size();
    let (mut state, _) = come_of(&[SETTINGS_FRAME, SERVING]);
    assert!(state.has_room(size));
    state.credit = i64::try_from(size).unwrap() - WINDOW;
    assert!(state.has_room(size) && !state.has_room(size + 1));
    state.take_all(&frame(WINDOW_UPDATE, &[0, 0, 0, 1]), &mut Answer::after(1), &mut 0).unwrap();
    assert!(state.has_room(size + 1));
    // A window of 4 for each stream.
    let small = frame(SETTINGS, b"\0\x04\0\0\0\x04");
    let (state, _) = come_of(&[&small, SERVING]);
    assert!(state.has_room(4) && !state.has_room(5));
    check_fault(&[&frame(SETTINGS, b"\0\x04\x80\0\0\0")], "too large");
    let most = frame(WINDOW_UPDATE, &[0x7f, 0xff, 0xff, 0xff]);
    check_fault(&[SETTINGS_FRAME, &most, &most], "too large");
    check_fault(&[SETTINGS_FRAME, &frame(WINDOW_UPDATE, &[0; 4])], "cannot be here");
}

#[test]
fn a_target_that_ends_may_still_answer() {
    let ending = frame(GOAWAY, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let (state, reply) = come_of(&[SETTINGS_FRAME, &ending, SERVING]);
    assert_eq!(reply.unwrap().unwrap().said, Said::Status(1));
    assert!(!state.has_room(0));
    check_fault(&[SETTINGS_FRAME, &frame(GOAWAY, &[0; 8])], "GOAWAY with the error code 0");
    let calm = [&[0, 0, 0, 1, 0, 0, 0, 11], &b"calm"[..]].concat();
    check_fault(&[SETTINGS_FRAME, &frame(GOAWAY, &calm)], "the error code 11: calm");
}

#[test]
fn a_smaller_header_table_is_acknowledged() {
    let (mut state, _) = come_of(&[&frame(SETTINGS, b"\0\x01\0\0\0\0"), SERVING]);
    let (_, out) = begun(&mut state, &probe(""));
    let (_, owed) = http2::first(&out).unwrap().unwrap();
    let headers = &out[HEAD_LEN + owed.len() + HEAD_LEN..];
    assert_eq!(headers.first(), Some(&0x20));
}

#[test]
fn frames_have_an_order_and_an_end() {
    check_fault(&[SERVING], "first frame is not SETTINGS");
    check_fault(&[SETTINGS_FRAME, &frame(PING, &[0; 7])], "not of 8 bytes");
    check_fault(&[SETTINGS_FRAME, b"\0\0\x08\x06\x01\0\0\0\0opaque!!"], "was not sent");
    // A ping amid headers.
    let amid = b"\0\0\x01\x01\0\0\0\0\x01\x88";
    check_fault(&[SETTINGS_FRAME, amid, &frame(PING, &[0; 8])], "cannot be here");
    check_fault(&[SETTINGS_FRAME, b"\0\0\x04\x05\x04\0\0\0\x01\0\0\0\x02"], "type 0x5");
    check_fault(&[&SETTINGS_FRAME.repeat(129)], "in 128 frames");
    check_fault(&[b"HTTP/1.1 400"], "speaks HTTP/1");
    check_fault(&[SETTINGS_FRAME, b"\x01\0\0\0\0\0\0\0\x01"], "a frame of 65536 bytes");
}

proptest! {
    #[test]
    fn any_bytes_come_to_something(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        cut in 0..SERVING.len(),
        is_whole in any::<bool>(),
    ) {
        let middle = if is_whole { SERVING } else { &SERVING[..cut] };
        for parts in [[SETTINGS_FRAME, &bytes, middle], [SETTINGS_FRAME, middle, &bytes]] {
            let (state, _) = come_of(&parts);
            prop_assert!(state.owed.len() <= bytes.len() + 9);
        }
    }
}

/// A connection that a firewall has forgotten must leave time for another one; that half is enough
/// needs such a firewall.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_to_be_kept_is_given_up_after_half_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = testing::endpoint(listener.local_addr().unwrap());
    let mut set = Vec::new();
    for close in [Close::Fin, Close::Reset] {
        let mut trace = Trace::new(std::time::Duration::from_secs(2), Arc::default());
        let connection = Connection::open(&probe(""), &endpoint, close, &mut trace).await.unwrap();
        let Either::Left(stream) = &connection.stream else { panic!("in plain text") };
        set.push(socket2::SockRef::from(stream).tcp_user_timeout().unwrap());
    }
    assert_eq!(set, [Some(std::time::Duration::from_secs(1)), None]);
}
