//! STARTTLS against scripted servers: good ones, unwell ones, and those that put words in between.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    model::{Observation, Phase},
    probe::{
        Spec, Target,
        testing::{
            self, Server, ask, ask_within, hold, read_request, say_and_close, target, verdict,
        },
        tls::testing::{Authority, server_config},
    },
};

/// One turn of a script.
#[derive(Debug, Clone)]
enum Turn {
    /// The target says this.
    Says(Vec<u8>),
    /// The target expects to hear this.
    Hears(Vec<u8>),
    /// A handshake, and then this answer to a request.
    Serves(&'static str),
    /// The target is silent from now on.
    Waits,
}

use Turn::{Hears, Serves, Waits};

#[expect(non_snake_case, reason = "reads like the other turns")]
fn Says(bytes: impl AsRef<[u8]>) -> Turn {
    Turn::Says(bytes.as_ref().to_vec())
}

fn hears(bytes: impl AsRef<[u8]>) -> Turn {
    Hears(bytes.as_ref().to_vec())
}

const LDAP_REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
const POSTGRES_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

fn ldap_answer(id: u8, code: u8, text: &str) -> Vec<u8> {
    let result =
        [&[0x0a, 1, code, 4, 0, 4][..], &[u8::try_from(text.len()).unwrap()], text.as_bytes()];
    let result = result.concat();
    let length = u8::try_from(result.len()).unwrap();
    // The outer length in its long form, as OpenLDAP sends it for longer texts.
    [&[0x30, 0x82, 0, length + 5, 2, 1, id, 0x78, length][..], &result].concat()
}

fn mysql_greeting(capabilities: u16) -> Vec<u8> {
    let mut payload = b"\x0a8.4.3-log\0\x07\0\0\0saltsalt\0".to_vec();
    payload.extend(capabilities.to_le_bytes());
    payload.extend([45, 2, 0, 0xff, 0xdf, 21]);
    payload.resize(payload.len() + 23, 0);
    [&[u8::try_from(payload.len()).unwrap(), 0, 0, 0][..], &payload].concat()
}

fn mysql_request() -> Vec<u8> {
    let mut request = vec![32, 0, 0, 1, 0, 0x8a, 0, 0, 0, 0, 0, 1, 45];
    request.resize(36, 0);
    request
}

/// What a good server of each protocol says, up to the handshake.
fn good(protocol: &str) -> Vec<Turn> {
    match protocol {
        "smtp" => vec![
            Says("220-mx.example ready\r\n220 and waiting\r\n"),
            hears("EHLO [127.0.0.1]\r\n"),
            Says("250-mx.example\r\n250-SIZE 1000\r\n250-starttls\r\n250 8BITMIME\r\n"),
            hears("STARTTLS\r\n"),
            Says("220 2.0.0 go on\r\n"),
        ],
        "imap" => vec![
            Says("* OK [CAPABILITY IMAP4rev2 STARTTLS] ready\r\n"),
            hears("a1 STARTTLS\r\n"),
            Says("* CAPABILITY IMAP4rev2\r\na1 ok begin\r\n"),
        ],
        "pop3" => vec![Says("+OK ready <1@h>\r\n"), hears("STLS\r\n"), Says("+OK\r\n")],
        "ftp" => vec![
            Says("220-Hello\r\n anything\r\n221 in between\r\n220 ready\r\n"),
            hears("AUTH TLS\r\n"),
            Says("234 go on\r\n"),
        ],
        "postgres" => vec![hears(POSTGRES_REQUEST), Says("S")],
        "ldap" => vec![hears(LDAP_REQUEST), Says(ldap_answer(1, 0, ""))],
        "mysql" => vec![Says(mysql_greeting(0xffff)), hears(mysql_request())],
        other => panic!("{other}"),
    }
}

const ALL: [&str; 7] = ["smtp", "imap", "pop3", "ftp", "postgres", "ldap", "mysql"];

async fn play(mut stream: TcpStream, turns: Vec<Turn>, acceptor: TlsAcceptor) {
    for turn in turns {
        match turn {
            Turn::Says(bytes) => stream.write_all(&bytes).await.unwrap(),
            Hears(expected) => {
                let mut heard = vec![0; expected.len()];
                if stream.read_exact(&mut heard).await.is_err() {
                    return;
                }
                assert_eq!(heard, expected, "{}", String::from_utf8_lossy(&heard));
            }
            Serves(answer) => {
                let mut stream = acceptor.accept(stream).await.unwrap();
                read_request(&mut stream).await;
                return say_and_close(&mut stream, answer.as_bytes()).await;
            }
            Waits => return hold(&mut stream).await,
        }
    }
    say_and_close(&mut stream, b"").await;
}

/// A target that follows a script, and the specification that trusts it.
async fn scripted(protocol: &str, turns: Vec<Turn>, more: Value) -> (Server, Target) {
    let authority = Authority::new("ours");
    let (certificate, key) = authority.issue(|_| ());
    let config = server_config().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |stream| play(stream, turns.clone(), acceptor.clone())).await;
    let mut spec = json!({ "starttls": protocol, "tls": authority.trust(&json!({})) });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let target = target(&Spec::Tcp(testing::spec(spec)), server.endpoint());
    (server, target)
}

async fn ask_scripted(protocol: &str, turns: Vec<Turn>) -> Observation {
    let (_server, target) = scripted(protocol, turns, json!({})).await;
    ask(&target).await
}

#[track_caller]
fn check(observation: &Observation, expected: &str, detail: &str) {
    assert_eq!(verdict(observation), expected, "{observation:?}");
    let shown = observation.detail.as_deref().unwrap_or_default();
    assert!(shown.contains(detail), "{shown}");
}

#[tokio::test]
async fn each_protocol_goes_over_to_tls_and_its_dialogue_follows() {
    for protocol in ALL {
        let turns = [good(protocol), vec![Serves("well\r\n")]].concat();
        let more = json!({ "send": "how\\r\\n\\r\\n", "expect": "well" });
        let (_server, target) = scripted(protocol, turns, more).await;
        let observation = ask(&target).await;
        assert_eq!(verdict(&observation), "success", "{protocol}: {observation:?}");
        assert!(observation.certificate.is_some());
        assert!(!observation.phases.get(Phase::Tls).is_zero());
    }
}

#[tokio::test]
async fn starttls_implies_tls() {
    let turns = [good("postgres"), vec![Serves("")]].concat();
    let (server, _) = scripted("postgres", turns, json!({})).await;
    let spec = Spec::Tcp(testing::spec(json!({ "starttls": "postgres" })));
    assert!(spec.uses_tls());
    let observation = ask(&target(&spec, server.endpoint())).await;
    check(&observation, "failure tls_untrusted", "");
    assert!(observation.certificate.is_some());
}

#[tokio::test]
async fn what_comes_with_the_consent_is_refused() {
    for (protocol, injected) in [
        ("smtp", "250 forged\r\n"),
        ("imap", "* OK forged\r\n"),
        ("pop3", "+OK forged\r\n"),
        ("ftp", "230 forged\r\n"),
        ("postgres", "R\0\0\0\x08\0\0\0\0"),
        ("ldap", "forged"),
        ("mysql", "\x07\0\0\x02\0\0\0\x02\0\0\0"),
    ] {
        let mut turns = good(protocol);
        // Of MySQL the consent is the greeting.
        let at = turns.iter().rposition(|turn| matches!(turn, Turn::Says(_))).unwrap();
        let Turn::Says(consent) = &mut turns[at] else { panic!() };
        consent.extend(injected.as_bytes());
        turns.push(Waits);
        let observation = ask_scripted(protocol, turns).await;
        check(&observation, "failure protocol", "plain text after the consent to TLS");
    }
}

#[tokio::test]
async fn a_target_that_declines_has_no_tls() {
    let ehlo = || hears("EHLO [127.0.0.1]\r\n");
    let refused = [ldap_answer(1, 2, "unsupported extended operation"), ldap_answer(1, 52, "")];
    for (protocol, turns, detail) in [
        ("smtp", vec![Says("220 h\r\n"), ehlo(), Says("250-h\r\n250 HELP\r\n")], "does not offer"),
        (
            "smtp",
            [&good("smtp")[..4], &[Says("454 TLS not available\r\n")]].concat(),
            "454 TLS not available",
        ),
        ("imap", vec![Says("* PREAUTH you are in\r\n")], "PREAUTH"),
        ("imap", [&good("imap")[..2], &[Says("a1 BAD what?\r\n")]].concat(), "a1 BAD what?"),
        ("pop3", [&good("pop3")[..2], &[Says("-ERR what?\r\n")]].concat(), "-ERR what?"),
        ("ftp", [&good("ftp")[..2], &[Says("502 what?\r\n")]].concat(), "502 what?"),
        ("postgres", vec![hears(POSTGRES_REQUEST), Says("N")], "declines"),
        ("ldap", vec![hears(LDAP_REQUEST), Says(&refused[0])], "result code 2 unsupported"),
        ("ldap", vec![hears(LDAP_REQUEST), Says(&refused[1])], "result code 52"),
        ("mysql", vec![Says(mysql_greeting(0xf7ff))], "does not offer"),
    ] {
        check(&ask_scripted(protocol, turns).await, "failure tls_other", detail);
    }
}

#[tokio::test]
async fn a_target_that_cannot_serve_says_so() {
    let blocked = b"\x0e\0\0\0\xff\x69\x04#is blocked".to_vec();
    for (protocol, turns, detail) in [
        ("smtp", vec![Says("421 too busy\r\n")], "421 too busy"),
        ("imap", vec![Says("* BYE full\r\n")], "* BYE full"),
        ("pop3", vec![Says("-ERR in use\r\n")], "-ERR in use"),
        ("ftp", vec![Says("120 in 5 minutes\r\n")], "120 in 5"),
        ("ldap", vec![hears(LDAP_REQUEST), Says(ldap_answer(0, 52, "going"))], "going"),
        ("mysql", vec![Says(blocked)], "blocked"),
    ] {
        check(&ask_scripted(protocol, turns).await, "failure status", detail);
    }
}

#[tokio::test]
async fn a_target_of_another_protocol_is_told_apart() {
    for protocol in ALL {
        for other in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\u{0}\u{0}\u{0}\n\u{ff}\n", "\r\n\r\n"] {
            let observation = ask_scripted(protocol, vec![Says(other), Waits]).await;
            check(&observation, "failure protocol", "");
        }
        let observation = ask_scripted(protocol, Vec::new()).await;
        check(&observation, "failure connection_reset", "before the TLS handshake");
    }
    for wrong in [
        &b"\x30\x80"[..],
        b"\x30\x85\0\0\0\0\x01",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x03\x02\x01\x01",
    ] {
        let turns = vec![hears(LDAP_REQUEST), Says(wrong), Waits];
        check(&ask_scripted("ldap", turns).await, "failure protocol", "");
    }
    for wrong in [&b"\x02\0\0\0\x0a8"[..], b"\x04\0\0\0\x0a8\0\0", b"\xff\xff\xff\0", b"\0\0\0\0"] {
        check(&ask_scripted("mysql", vec![Says(wrong), Waits]).await, "failure protocol", "");
    }
}

#[tokio::test]
async fn a_preamble_without_end_is_cut() {
    let flood = |line: &str| Says(line.repeat(70_000 / line.len()));
    for (protocol, turns) in [
        ("smtp", vec![flood("220-x\r\n"), Waits]),
        ("smtp", vec![flood("2"), Waits]),
        ("ftp", vec![Says("220-\r\n"), flood("x\r\n"), Waits]),
        ("imap", [&good("imap")[..2], &[flood("* x\r\n"), Waits]].concat()),
        ("pop3", vec![flood("+OK"), Waits]),
    ] {
        check(&ask_scripted(protocol, turns).await, "failure protocol", "more than 16384 bytes");
    }
}

#[tokio::test]
async fn a_silent_target_costs_no_more_than_the_timeout() {
    let ask_in_time = async |protocol: &'static str| {
        let timeout = Duration::from_millis(400);
        let (_server, target) = scripted(protocol, vec![Waits], json!({})).await;
        check(&ask_within(&target, timeout).await, "failure timeout_response", "no answer");
        let turns = [good(protocol), vec![Waits]].concat();
        let (_server, target) = scripted(protocol, turns, json!({})).await;
        check(&ask_within(&target, timeout).await, "failure timeout_tls", "");
    };
    futures_util::future::join_all(ALL.map(ask_in_time)).await;
}
