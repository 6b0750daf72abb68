//! Answers frame by frame: as servers give them, as they may, and as they may not.

use proptest::prelude::*;

use super::*;
use crate::probe::http2::{self, PADDED, PRIORITIZED, hpack};

const OK: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
const OPEN: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/grpc")];
const DONE: &[(&str, &str)] = &[("grpc-status", "0")];

fn block(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        hpack::write_header(&mut block, name, value, hpack::Secrecy::Open);
    }
    block
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    http2::write(&mut frame, kind, flags, stream, payload);
    frame
}

fn head(list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &block(list))
}

fn data(payload: &[u8]) -> Vec<u8> {
    frame(DATA, 0, 1, payload)
}

fn last(list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(list))
}

/// What comes of these frames: the answer, a fault, or that there must be more.
fn come_of(frames: &[Vec<u8>]) -> Result<Option<Reply>, String> {
    let (mut answer, mut decoder) = (Answer::new(1), Decoder::default());
    let bytes = frames.concat();
    let mut rest = &bytes[..];
    while let Some((head, payload)) = http2::first(rest).unwrap() {
        rest = &rest[http2::HEAD_LEN + payload.len()..];
        let reply = answer.take(head, payload, &mut decoder).map_err(|fault| fault.detail)?;
        if reply.is_some() {
            return Ok(reply);
        }
    }
    Ok(None)
}

#[track_caller]
fn said(frames: &[Vec<u8>]) -> Said {
    come_of(frames).unwrap().expect("an answer").said
}

#[track_caller]
fn check_broken(frames: &[Vec<u8>], expected: &str) {
    match said(frames) {
        Said::Broken(problem) => assert!(problem.contains(expected), "{problem}"),
        other @ (Said::Status(_) | Said::Refused(..)) => panic!("{other:?}; expected {expected}"),
    }
}

#[track_caller]
fn check_fault(frames: &[Vec<u8>], expected: &str) {
    let fault = come_of(frames).expect_err(expected);
    assert!(fault.contains(expected), "{fault}");
}

#[test]
fn an_answer_may_come_in_many_pieces() {
    let serving = Said::Status(1);
    assert_eq!(said(&[head(OPEN), data(&OK), last(DONE)]), serving);
    // A byte at a time, with padding, with nothing, and with credit for what was sent.
    let mut pieces = vec![head(OPEN), data(&[]), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9])];
    pieces.extend(OK.iter().map(|byte| frame(DATA, PADDED, 1, &[2, *byte, 0, 0])));
    pieces.push(last(DONE));
    assert_eq!(said(&pieces), serving);
    // Headers in three frames, the first with a priority.
    let open = block(OPEN);
    let (first, rest) = open.split_at(3);
    let prioritized = [&[0; 5], first].concat();
    let pieces = [
        frame(HEADERS, PRIORITIZED, 1, &prioritized),
        frame(CONTINUATION, 0, 1, rest),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
        data(&OK),
        frame(HEADERS, END_STREAM, 1, &block(DONE)),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
    ];
    assert_eq!(said(&pieces), serving);
    // Interim answers, and what is left of calls before.
    let pieces = [head(&[(":status", "103"), ("link", "x")]), head(OPEN), data(&OK), last(DONE)];
    assert_eq!(said(&pieces), serving);
}

#[test]
fn a_refusal_needs_no_more_than_headers() {
    let alone = [(":status", "200"), ("grpc-status", "14"), ("grpc-message", "a%20b%%3")];
    let refused = |code, text: &str| Said::Refused(code, text.to_owned());
    assert_eq!(said(&[last(&alone)]), refused(Code::Unavailable, "a b%%3"));
    let trailers = [("grpc-status", "5"), ("grpc-message", "no%0asuch")];
    assert_eq!(said(&[head(OPEN), last(&trailers)]), refused(Code::NotFound, "no\nsuch"));
    // A message before a refusal does not count, nor does the status's details.
    let details = [("grpc-status", "7"), ("grpc-status-details-bin", "!")];
    assert_eq!(said(&[head(OPEN), data(&OK), last(&details)]), refused(Code::PermissionDenied, ""));
    for odd in ["99", "x", "", "-1"] {
        assert_eq!(
            said(&[last(&[(":status", "200"), ("grpc-status", odd)])]),
            refused(Code::Unknown, "")
        );
    }
}

#[test]
fn what_no_grpc_server_said_is_known_by_its_http_status() {
    for (status, code) in [
        ("400", Code::Internal),
        ("401", Code::Unauthenticated),
        ("403", Code::PermissionDenied),
        ("404", Code::Unimplemented),
        ("429", Code::Unavailable),
        ("503", Code::Unavailable),
        ("302", Code::Unknown),
        ("500", Code::Unknown),
    ] {
        let page = [(":status", status), ("content-type", "text/html")];
        let end = frame(DATA, END_STREAM, 1, b"</html>");
        let Said::Refused(seen, text) = said(&[head(&page), data(b"<html>"), end]) else {
            panic!("{status}")
        };
        assert_eq!((seen, text), (code, format!("no grpc-status; HTTP status {status}")));
    }
}

#[test]
fn what_is_http2_but_not_grpc_is_broken() {
    check_broken(&[head(OPEN), frame(DATA, END_STREAM, 1, &OK)], "without grpc-status");
    check_broken(&[last(OPEN)], "without grpc-status");
    check_broken(&[head(OPEN), last(DONE)], "without a message");
    check_broken(&[last(&[(":status", "200"), ("grpc-status", "0")])], "without a message");
    check_broken(&[head(OPEN), data(&OK[..6]), last(DONE)], "cut short");
    check_broken(&[head(OPEN), data(&[OK, OK].concat())], "more than one message");
    check_broken(&[head(OPEN), data(&[1, 0, 0, 0, 2, 8, 1])], "compressed");
    check_broken(&[head(OPEN), data(&[0, 0, 0, 0x10, 1])], "a message of 4097 bytes");
    check_broken(&[head(OPEN), data(&[0, 0, 0, 0, 2, 0xff, 0xff]), last(DONE)], "cannot be read");
    let html = [(":status", "200"), ("content-type", "text/html")];
    check_broken(&[head(&html)], "not application/grpc");
    // An empty message is one all the same: a status of 0.
    assert_eq!(said(&[head(OPEN), data(&[0; 5]), last(DONE)]), Said::Status(0));
}

#[test]
fn what_is_not_http2_is_a_fault() {
    check_fault(&[data(&OK)], "a body before the headers");
    check_fault(&[head(DONE)], "without a status");
    check_fault(&[head(OPEN), head(DONE)], "in the middle");
    check_fault(&[head(OPEN), last(&[(":status", "200")])], "in the middle");
    check_fault(&[head(&[(":status", "200"), (":status", "200")])], "forbids");
    check_fault(&[head(&[("a", "b"), (":status", "200")])], "forbids");
    check_fault(&[head(&[(":status", "200"), (":path", "/")])], "forbids");
    check_fault(&[head(&[(":status", "2x0")])], "forbids");
    check_fault(&[head(&[(":status", "0200")])], "forbids");
    check_fault(&[head(&[(":status", "200"), ("Grpc-Status", "0")])], "forbids");
    check_fault(&[head(&[(":status", "200"), ("a", "b\r\nc")])], "forbids");
    check_fault(&[frame(HEADERS, END_HEADERS, 1, &[0x80])], "an index that nothing is at");
    check_fault(&[last(&[(":status", "100")])], "interim");
    check_fault(&vec![head(&[(":status", "103")]); 9], "interim");
    check_fault(&[frame(CONTINUATION, END_HEADERS, 1, b"")], "cannot be here: type 0x9");
    let amid = frame(HEADERS, 0, 1, &block(OPEN));
    check_fault(&[amid.clone(), data(&OK)], "cannot be here: type 0x0");
    check_fault(&[amid.clone(), amid.clone()], "cannot be here: type 0x1");
    check_fault(&[amid, frame(CONTINUATION, 0, 1, &[0; 16_384])], "headers of more than");
    check_fault(
        &[head(OPEN), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])],
        "reset the call with the error code 8",
    );
    check_fault(&[frame(RST_STREAM, 0, 1, &[0])], "cannot be here");
    check_fault(&[frame(DATA, PADDED, 1, &[1])], "more padding");
    check_fault(&[frame(HEADERS, END_HEADERS, 3, &block(OPEN))], "stream 3");
    check_fault(&[frame(HEADERS, END_HEADERS, 2, &block(OPEN))], "stream 2");
}

#[test]
fn of_calls_before_only_their_end_may_be_told() {
    let take = |kind, stream, payload: &[u8]| {
        let frame = Head { length: payload.len(), kind, flags: 0, stream };
        Answer::after(3).take(frame, payload, &mut Decoder::default()).map_err(|fault| fault.detail)
    };
    for stream in [1, 3] {
        assert_eq!(take(RST_STREAM, stream, &[0; 4]), Ok(None));
        assert_eq!(take(WINDOW_UPDATE, stream, &[0, 0, 0, 1]), Ok(None));
        assert!(take(DATA, stream, &[]).is_err());
        assert!(take(HEADERS, stream, &[0x88]).is_err());
    }
    for stream in [2, 4, 5] {
        assert!(take(RST_STREAM, stream, &[0; 4]).is_err(), "{stream}");
    }
}

#[test]
fn how_long_an_answer_holds_is_told_in_headers_or_trailers() {
    let ttl = |open: &[(&str, &str)], done: &[(&str, &str)]| {
        let (open, done) = ([OPEN, open].concat(), [DONE, done].concat());
        come_of(&[head(&open), data(&OK), last(&done)])
            .unwrap()
            .unwrap()
            .ttl
            .map(|ttl| ttl.as_secs())
    };
    assert_eq!(ttl(&[("ttl_seconds", "30")], &[]), Some(30));
    assert_eq!(ttl(&[], &[("ttl_seconds", "30")]), Some(30));
    assert_eq!(ttl(&[("ttl-seconds", "5")], &[("ttl_seconds", "30")]), Some(30));
    assert_eq!(ttl(&[("ttl_seconds", "x")], &[("ttl_seconds", "30")]), None);
}

/// Frames of a stream, well formed or not.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let lists = prop::sample::select(vec![
        block(OPEN),
        block(DONE),
        block(&[(":status", "404")]),
        block(&[("grpc-status", "14"), ("grpc-message", "%")]),
        block(&[(":status", "100")]),
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let payload = prop_oneof![lists, bytes, Just(OK.to_vec()), Just(OK[..3].to_vec())];
    let kind = prop::sample::select(vec![DATA, HEADERS, CONTINUATION, RST_STREAM, WINDOW_UPDATE]);
    (kind, prop_oneof![Just(0), Just(END_HEADERS), Just(5), any::<u8>()], 0..5_u32, payload)
        .prop_map(|(kind, flags, stream, payload)| {
            frame(kind, flags, if stream < 4 { 1 } else { 3 }, &payload)
        })
}

proptest! {
    #[test]
    fn any_frames_come_to_something(frames in prop::collection::vec(any_frame(), 0..12)) {
        let (mut answer, mut decoder) = (Answer::new(1), Decoder::default());
        for bytes in frames {
            let (head, payload) = http2::first(&bytes).unwrap().unwrap();
            match answer.take(head, payload, &mut decoder) {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => break,
            }
        }
        prop_assert!(answer.message.len() <= PREFIX + MAX_MESSAGE + 20);
    }
}
