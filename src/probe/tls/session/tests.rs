//! When a handshake may resume, and what is known of the certificate then.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::date_time_ymd;
use rustls::{ServerConfig, pki_types::PrivateKeyDer, server::ProducesTickets};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    model::Observation,
    probe::{
        Network, Prober, Spec, Target, egress,
        resolve::MAX_AGE,
        testing::{self, PATIENCE, Server, ask, hold, read_request, say_and_close, verdict},
        tls::{
            self,
            testing::{Authority, provider, server_config},
        },
        trace::Trace,
    },
};

/// A server over TLS, and how many handshakes of each kind it has made.
struct Counting {
    server: Server,
    authority: Authority,
    full: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    /// What it answers next.
    status: Arc<AtomicUsize>,
}

impl Counting {
    async fn start(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let authority = Authority::new("ours");
        let (certificate, key) = authority.issue(|_| ());
        Self::with(authority, server_config(), (certificate, key), change).await
    }

    async fn with(
        authority: Authority,
        config: rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>,
        (certificate, key): (rustls::pki_types::CertificateDer<'static>, PrivateKeyDer<'static>),
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config =
            config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        change(&mut config);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let counts: [Arc<AtomicUsize>; 2] = Default::default();
        let status = Arc::new(AtomicUsize::new(200));
        let [full, resumed] = counts.clone();
        let next = Arc::clone(&status);
        let server = Server::start(move |stream| {
            let (acceptor, counts) = (acceptor.clone(), counts.clone());
            let status = next.load(Ordering::Relaxed);
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let is_resumed =
                    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                counts[usize::from(is_resumed)].fetch_add(1, Ordering::Relaxed);
                if status == 0 {
                    return hold(&mut stream).await;
                }
                read_request(&mut stream).await;
                let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                say_and_close(&mut stream, answer.as_bytes()).await;
            }
        })
        .await;
        Self { server, authority, full, resumed, status }
    }

    fn target(&self, more: &Value) -> Target {
        let json = json!({ "tls": self.authority.trust(more) });
        testing::target(&Spec::Http(testing::spec(json)), self.server.endpoint())
    }

    /// How many full and resumed handshakes there were.
    fn counts(&self) -> (usize, usize) {
        (self.full.load(Ordering::Relaxed), self.resumed.load(Ordering::Relaxed))
    }
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn ask_well(target: &Target) -> Observation {
    let observation = ask(target).await;
    assert_eq!(verdict(&observation), "success 200", "{observation:?}");
    observation
}

#[tokio::test]
async fn a_session_is_resumed_and_the_certificate_still_known() {
    let counting = Counting::start(|_| ()).await;
    let target = counting.target(&json!({}));
    let first = ask_well(&target).await.certificate;
    assert!(first.is_some());
    for n in 1..4 {
        assert_eq!(ask_well(&target).await.certificate, first);
        assert_eq!(counting.counts(), (1, n));
    }
    // Another check of the same target knows nothing of it.
    ask_well(&counting.target(&json!({}))).await;
    assert_eq!(counting.counts(), (2, 3));
}

#[tokio::test]
async fn sessions_of_tls12_are_resumed_too() {
    let authority = Authority::new("ours");
    let issued = authority.issue(|_| ());
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap();
    let counting = Counting::with(authority, config, issued, |_| ()).await;
    let target = counting.target(&json!({}));
    let first = ask_well(&target).await.certificate;
    assert_eq!(ask_well(&target).await.certificate, first);
    assert_eq!(counting.counts(), (1, 1));
}

#[tokio::test]
async fn the_certificate_is_checked_at_least_every_hour() {
    let counting = Counting::start(|_| ()).await;
    let target = counting.target(&json!({}));
    for _ in 0..2 {
        ask_well(&target).await;
        pass(Duration::from_secs(1700)).await;
    }
    assert_eq!(counting.counts(), (1, 1));
    pass(Duration::from_secs(300)).await;
    ask_well(&target).await;
    assert_eq!(counting.counts(), (2, 1));
    ask_well(&target).await;
    assert_eq!(counting.counts(), (2, 2));
}

#[tokio::test]
async fn the_certificate_is_checked_after_a_failure() {
    let counting = Counting::start(|_| ()).await;
    let target = counting.target(&json!({}));
    ask_well(&target).await;
    for (status, expected) in [(503, "failure status 503"), (429, "warning status 429")] {
        counting.status.store(status, Ordering::Relaxed);
        assert_eq!(verdict(&ask(&target).await), expected);
        let (full, resumed) = counting.counts();
        counting.status.store(200, Ordering::Relaxed);
        ask_well(&target).await;
        ask_well(&target).await;
        assert_eq!(counting.counts(), (full + 1, resumed + 1));
    }
    counting.status.store(0, Ordering::Relaxed);
    let short = Duration::from_millis(150);
    assert_eq!(verdict(&testing::ask_within(&target, short).await), "failure timeout_response");
    counting.status.store(200, Ordering::Relaxed);
    let (full, resumed) = counting.counts();
    ask_well(&target).await;
    assert_eq!(counting.counts(), (full + 1, resumed));
}

#[tokio::test]
async fn whoever_does_not_want_it_has_full_handshakes() {
    let counting = Counting::start(|_| ()).await;
    let target = counting.target(&json!({ "resume": false }));
    for n in 1..4 {
        ask_well(&target).await;
        assert_eq!(counting.counts(), (n, 0));
    }
    let certificate =
        json!({ "tls": counting.authority.trust(&json!({})), "critical_before": "1d" });
    let spec = Spec::Certificate(testing::spec(certificate));
    let target = testing::target(&spec, counting.server.endpoint());
    for n in 4..6 {
        assert_eq!(verdict(&ask(&target).await), "success");
        for _ in 0..100 {
            if counting.counts().0 == n {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counting.counts(), (n, 0));
    }
}

#[tokio::test]
async fn a_target_without_tickets_is_asked_as_ever() {
    let counting = Counting::start(|config| {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    })
    .await;
    let target = counting.target(&json!({}));
    for n in 1..4 {
        ask_well(&target).await;
        assert_eq!(counting.counts(), (n, 0));
    }
}

#[tokio::test]
async fn a_certificate_that_soon_expires_is_checked_each_time() {
    let authority = Authority::new("ours");
    let soon = clock::now().millis() / 1000 + 3500;
    let expiry = date_time_ymd(1970, 1, 1) + Duration::from_secs(soon.unsigned_abs());
    let issued = authority.issue(|params| params.not_after = expiry);
    let counting = Counting::with(authority, server_config(), issued, |_| ()).await;
    let target = counting.target(&json!({}));
    for n in 1..4 {
        ask_well(&target).await;
        assert_eq!(counting.counts(), (n, 0));
    }
}

#[tokio::test]
async fn no_more_sessions_are_kept_than_there_are_places() {
    let counting = Counting::start(|_| ()).await;
    let network = Network::keeping_sessions(1, egress::Policy::default());
    let (first, second) = (counting.target(&json!({})), counting.target(&json!({})));
    for target in [&first, &first, &second, &second] {
        assert_eq!(verdict(&network.clone().probe(target, PATIENCE).await), "success 200");
    }
    assert_eq!(counting.counts(), (3, 1));
    drop(first);
    for _ in 0..2 {
        network.clone().probe(&second, PATIENCE).await;
    }
    assert_eq!(counting.counts(), (4, 2));
}

/// Seals nothing that it could open again.
#[derive(Debug)]
struct Forgetful;

impl ProducesTickets for Forgetful {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        3600
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        Some(plain.to_vec())
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[tokio::test]
async fn a_ticket_that_is_not_taken_costs_nothing_else() {
    let counting = Counting::start(|config| config.ticketer = Arc::new(Forgetful)).await;
    let target = counting.target(&json!({}));
    for n in 1..4 {
        assert!(ask_well(&target).await.certificate.is_some());
        assert_eq!(counting.counts(), (n, 0));
    }
}

#[tokio::test]
async fn a_target_that_cannot_bear_tickets_is_shown_none_for_an_hour() {
    let authority = Authority::new("ours");
    let (certificate, key) = authority.issue(|_| ());
    let mut config =
        server_config().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let first = Arc::new(AtomicUsize::new(usize::MAX));
    let server = Server::start(move |mut stream| {
        let (acceptor, first) = (acceptor.clone(), Arc::clone(&first));
        async move {
            // The hello of whoever resumes is longer, by the ticket.
            let length = stream.peek(&mut [0; 1024]).await.unwrap();
            if length > first.fetch_min(length, Ordering::Relaxed).saturating_add(50) {
                return say_and_close(&mut stream, b"").await;
            }
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            hold(&mut stream).await;
        }
    })
    .await;
    let json = json!({ "tls": authority.trust(&json!({})) });
    let target = testing::target(&Spec::Http(testing::spec(json)), server.endpoint());
    ask_well(&target).await;
    assert_eq!(verdict(&ask(&target).await), "failure connection_reset");
    for _ in 0..4 {
        ask_well(&target).await;
    }
    pass(FULL_EVERY).await;
    ask_well(&target).await;
    assert_eq!(verdict(&ask(&target).await), "failure connection_reset");
}

#[test]
fn a_session_is_good_for_one_address() {
    let certificate = Certificate {
        start: clock::now(),
        expiry: clock::Timestamp::from_seconds(4_000_000_000),
        chain_expiry: clock::Timestamp::from_seconds(4_000_000_000),
        is_for_name: true,
        subject: "".into(),
        issuer: "".into(),
    };
    let at = Instant::now();
    let peer = |last| Some(SocketAddr::from(([127, 0, 0, last], 443)));
    let full = Full { at, peer: peer(1), certificate: Arc::new(certificate) };
    assert!(full.is_good(at, peer(1)));
    assert!(!full.is_good(at, peer(2)));
    assert!(!full.is_good(at + FULL_EVERY, peer(1)));
}

/// One that is kept after a resumed handshake has not shown the certificate for as long as that of the
/// full handshake before.
#[tokio::test]
async fn a_kept_connection_shows_the_certificate_again_an_hour_after_it_was_checked() {
    let counting = Counting::start(|_| ()).await;
    let spec = testing::spec(counting.authority.trust(&json!({})));
    let client = tls::Client::prepare(&spec, None).unwrap();
    let endpoint = counting.server.endpoint();
    let session = Arc::new(Session::default());
    let mut until = Vec::new();
    for _ in 0..2 {
        let mut trace = Trace::new(PATIENCE, Arc::default());
        trace.session = Some(Arc::clone(&session));
        trace.peer = Some(counting.server.address);
        let stream = TcpStream::connect(counting.server.address).await.unwrap();
        let mut stream = client.connect(&endpoint.host, stream, &mut trace).await.unwrap();
        until.push(trace.fit_until());
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // The ticket comes with it; how the server ends the connection does not matter.
        drop(stream.read_to_end(&mut answer).await);
        pass(Duration::from_secs(3300)).await;
    }
    assert_eq!(counting.counts(), (1, 1));
    // The first for as long as any, the second until the hour is over, which is sooner.
    let between = until[1] - until[0];
    assert!(between + MAX_AGE <= FULL_EVERY, "{between:?}");
}
