//! Targets that mean harm, over HTTP/1.1: each ends with its reason, in bounded time and memory.

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::*;
use crate::probe::testing::SLACK;

/// What a probe of a hostile target came to.
#[derive(Debug)]
pub(super) struct Suffered {
    /// As [`verdict`] tells it.
    pub(super) verdict: String,
    pub(super) detail: String,
    /// How much of the answer it had room for at the end.
    pub(super) capacity: usize,
}

/// Probes as the network does, and looks at what the probe has kept.
pub(super) async fn suffer(spec: Value, server: &Server, timeout: Duration) -> Suffered {
    let probe = Probe::prepare(&testing::spec(spec)).unwrap();
    let kept = Kept::default();
    let places = Places::new(1);
    let kept = probe.spec.keep_alive.then_some((&kept, &places));
    let mut trace = Trace::new(timeout, Arc::default());
    let endpoint = server.endpoint();
    let asked =
        timeout_at(trace.deadline(), super::super::probe(&probe, &endpoint, kept, &mut trace));
    let result = asked.await.unwrap_or_else(|_| Err(trace.expired()));
    let (outcome, detail) = match result {
        Ok(()) => ("success".to_owned(), String::new()),
        Err(Fault { outcome: Outcome::Failure(reason), detail }) => {
            (format!("failure {reason}"), detail)
        }
        Err(Fault { outcome, detail }) => (format!("{outcome:?}"), detail),
    };
    let verdict = match trace.answer {
        Answer::Http(status) => format!("{outcome} {status}"),
        Answer::None | Answer::Grpc(_) => outcome,
    };
    Suffered { verdict, detail, capacity: trace.buffer.capacity() }
}

/// Sends this after the request, then the piece until the probe hangs up.
async fn flood(head: &str, piece: &str) -> Server {
    let (head, pieces) = (head.to_owned(), piece.repeat(1 + 8192 / piece.len()));
    Server::start(move |mut stream| {
        let (head, pieces) = (head.clone(), pieces.clone());
        async move {
            read_request(&mut stream).await;
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(pieces.as_bytes()).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_flood_is_ended_long_before_the_deadline() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("1;{}\r\nx\r\n", "e".repeat(250));
    let seen = || json!({ "body_contains": "y" });
    for (name, spec, head, piece, expected) in [
        ("headers", json!({}), "HTTP/1.1 200 OK\r\n", "a: b\r\n", "failure protocol"),
        ("one header", json!({}), "HTTP/1.1 200 OK\r\na: ", "b", "failure protocol"),
        ("a status line", json!({}), "HTTP/1.1 200 ", "O", "failure protocol"),
        ("interim answers", json!({}), "", "HTTP/1.1 103 x\r\n\r\n", "failure protocol"),
        ("NUL", json!({}), "HTTP/1.1 200 OK\r\na: ", "\0", "failure protocol"),
        ("line feeds", json!({}), "HTTP/1.1 200 OK\r\n", "\n", "failure protocol"),
        ("a body", seen(), "HTTP/1.1 200 OK\r\n\r\n", "x", "failure body 200"),
        (
            "10 GiB",
            seen(),
            "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n",
            "x",
            "failure body 200",
        ),
        ("chunks", seen(), CHUNKED, "1\r\nx\r\n", "failure body 200"),
        ("zeros of a chunk's size", seen(), CHUNKED, "0", "failure protocol 200"),
        ("one extension", seen(), &format!("{CHUNKED}1;"), "x", "failure protocol 200"),
        ("extensions", seen(), CHUNKED, &extension, "failure protocol 200"),
        (
            "trailers",
            json!({ "keep_alive": true }),
            &format!("{CHUNKED}0\r\n"),
            "a: b\r\n",
            "failure protocol 200",
        ),
        (
            "trailers that nobody reads",
            json!({}),
            &format!("{CHUNKED}0\r\n"),
            "a: b\r\n",
            "success 200",
        ),
        ("after no content", json!({}), "HTTP/1.1 204 x\r\n\r\n", "x", "success 204"),
    ] {
        let server = flood(head, piece).await;
        let started = Instant::now();
        let suffered = suffer(spec, &server, testing::PATIENCE).await;
        assert_eq!(suffered.verdict, expected, "{name}: {}", suffered.detail);
        assert!(suffered.capacity <= 3 * body::MAX_BODY, "{name}: {} bytes", suffered.capacity);
        assert!(started.elapsed() < testing::PATIENCE / 2, "{name}: {:?}", started.elapsed());
    }
}

/// 64 KiB that gzip turns into 64 MiB would look so.
#[tokio::test]
async fn a_bomb_is_not_unpacked() {
    for encoding in ["gzip", "br", "zstd", "gzip, gzip, gzip"] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 65536\r\n\r\n"
        );
        let bomb = [head.as_bytes(), &[0x1f, 0x8b, 8, 0], &vec![0; 65_532]].concat();
        let server = Server::answering(&bomb).await;
        let suffered = suffer(json!({}), &server, testing::PATIENCE).await;
        assert_eq!(suffered.verdict, "success 200");
        let server = Server::answering(&bomb).await;
        let suffered = suffer(json!({ "body_contains": "x" }), &server, testing::PATIENCE).await;
        assert_eq!(suffered.verdict, "failure body 200");
        let said = format!("the body is encoded ({encoding}), unasked");
        assert!(suffered.detail.contains(&said), "{}", suffered.detail);
        assert!(suffered.capacity <= 3 * body::MAX_BODY, "{} bytes", suffered.capacity);
    }
}

/// Sends byte after byte, far too slowly to come to an end.
async fn drip(stream: &mut TcpStream, text: &str) {
    for byte in text.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_drip_does_not_outlast_the_deadline() {
    let long = "x".repeat(10_000);
    for (name, at_once, slowly, expected) in [
        ("a status line", "", format!("HTTP/1.1 200 {long}"), "failure timeout_response"),
        ("a head", "HTTP/1.1 200 OK\r\n", format!("a: {long}"), "failure timeout_response"),
        ("interim answers", "", "HTTP/1.1 103 x\r\n\r\n".repeat(100), "failure timeout_response"),
        ("a body", "HTTP/1.1 200 OK\r\n\r\n", long.clone(), "failure timeout_response 200"),
        (
            "a chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            format!("FFFF\r\n{long}"),
            "failure timeout_response 200",
        ),
    ] {
        let server = Server::start(move |mut stream| {
            let slowly = slowly.clone();
            async move {
                read_request(&mut stream).await;
                stream.write_all(at_once.as_bytes()).await.unwrap();
                drip(&mut stream, &slowly).await;
            }
        })
        .await;
        let started = Instant::now();
        let suffered = suffer(json!({}), &server, SHORT).await;
        assert_eq!(suffered.verdict, expected, "{name}");
        assert!(started.elapsed() < SHORT + SLACK, "{name}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_reset_in_any_phase_is_told_as_one() {
    for (name, reads, says, expected) in [
        ("at once", false, "", "failure connection_reset"),
        ("after the request", true, "", "failure connection_reset"),
        ("in the status line", true, "HTTP/1.1 2", "failure connection_reset"),
        ("in the head", true, "HTTP/1.1 200 OK\r\na: b\r\n", "failure connection_reset"),
        ("in the body", true, "HTTP/1.1 200 OK\r\n\r\nok", "failure connection_reset 200"),
        (
            "in a chunk",
            true,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
            "failure connection_reset 200",
        ),
    ] {
        for https in [false, true] {
            let server = Server::start(move |mut stream| async move {
                if reads {
                    drop(stream.readable().await);
                }
                stream.write_all(says.as_bytes()).await.unwrap();
                // So that what was said is read before the reset, which throws it away.
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.set_zero_linger().unwrap();
            })
            .await;
            let suffered = suffer(json!({ "https": https }), &server, testing::PATIENCE).await;
            // To TLS a head in plain text is garbage, whatever comes after it.
            let expected = match https {
                true if says.is_empty() => "failure connection_reset",
                true => "failure tls_other",
                false => expected,
            };
            assert_eq!(suffered.verdict, expected, "{name}: {}", suffered.detail);
        }
    }
}

#[tokio::test]
async fn a_target_that_does_not_take_the_request_ends_with_the_deadline() {
    let spec = json!({ "method": "POST", "body": "x".repeat(16 << 20) });
    let deaf = Server::start(|stream| async move {
        tokio::time::sleep(testing::PATIENCE).await;
        drop(stream);
    })
    .await;
    let started = Instant::now();
    let suffered = suffer(spec.clone(), &deaf, SHORT).await;
    assert_eq!(suffered.verdict, "failure timeout_response");
    assert!(started.elapsed() < SHORT + SLACK, "{:?}", started.elapsed());

    let closing = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let suffered = suffer(spec, &closing, testing::PATIENCE).await;
    assert_eq!(suffered.verdict, "failure connection_reset", "{}", suffered.detail);
}

#[tokio::test]
async fn an_answer_just_within_the_deadline_is_a_success() {
    let slow = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        say_and_close(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
    })
    .await;
    let target = http(json!({}), slow.endpoint());
    let observation = ask_within(&target, Duration::from_secs(5)).await;
    assert_eq!(verdict(&observation), "success 200");
    assert!(observation.phases.get(Phase::Exchange) >= Duration::from_millis(590));
}
