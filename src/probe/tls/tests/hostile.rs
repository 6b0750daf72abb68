//! Targets that speak TLS badly on purpose: each has its reason, in bounded time and memory.

use std::sync::Arc;

use rcgen::CustomExtension;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::probe::tls::testing::{provider, serve, server_config};

/// A target that reads the beginning of the hello, says this, and waits.
async fn saying(bytes: &[u8]) -> Server {
    let bytes: Arc<[u8]> = bytes.into();
    Server::start(move |mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            let mut hello = [0; 64];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut hello).await.unwrap();
            if stream.write_all(&bytes).await.is_ok() {
                hold(&mut stream).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_broken_handshake_has_its_reason() {
    let handshake_of = |length: u32| {
        // Records of a ServerHello that claims this length.
        let [_, high, middle, low] = length.to_be_bytes();
        let mut records = vec![22, 3, 3, 0x40, 0, 2, high, middle, low];
        records.resize(5 + 0x4000, 0);
        for _ in 0..8 {
            records.extend([22, 3, 3, 0x40, 0]);
            records.resize(records.len() + 0x4000, 0);
        }
        records
    };
    let cases: [(&str, Vec<u8>); 8] = [
        ("garbage", vec![0xa5; 400]),
        ("an SSLv3 alert", vec![21, 3, 0, 0, 2, 2, 40]),
        ("a fatal alert", vec![21, 3, 3, 0, 2, 2, 80]),
        ("application data", vec![23, 3, 3, 0, 2, 1, 0]),
        ("an oversized record", vec![22, 3, 3, 0xff, 0xff, 2]),
        ("an endless hello", handshake_of(0x00ff_ffff)),
        ("empty records", [22, 3, 3, 0, 0].repeat(4000)),
        ("a hello of the wrong form", vec![22, 3, 3, 0, 5, 2, 0, 0, 1, 0]),
    ];
    for (name, bytes) in cases {
        let server = saying(&bytes).await;
        let target = https(&json!({}), server.endpoint());
        let observation = ask_within(&target, Duration::from_secs(2)).await;
        assert_eq!(verdict(&observation), "failure tls_other", "{name}: {observation:?}");
    }
}

#[tokio::test]
async fn warnings_without_end_end_with_the_probe() {
    let server = saying(&[21, 3, 3, 0, 2, 1, 90].repeat(20_000)).await;
    let target = https(&json!({}), server.endpoint());
    let observation = ask_within(&target, Duration::from_secs(2)).await;
    assert_eq!(verdict(&observation), "failure tls_other", "{observation:?}");
}

/// A server with a chain of so many certificates besides its own.
async fn chain_of(authority: &Authority, others: usize) -> Server {
    let (certificate, key) = authority.issue(|_| ());
    let mut chain = vec![certificate];
    chain.extend((0..others).map(|_| authority.issuer.der().clone()));
    let config = server_config().with_no_client_auth();
    serve("HTTP/1.1 200 OK\r\n\r\nwell", config.with_single_cert(chain, key).unwrap()).await
}

#[tokio::test]
async fn a_long_chain_is_no_trouble_and_an_overlong_one_is_refused() {
    let authority = Authority::new("ours");
    let trust = authority.trust(&json!({}));
    let server = chain_of(&authority, 99).await;
    let observation = ask_within(&https(&trust, server.endpoint()), Duration::from_secs(2)).await;
    check(&observation, "success 200", Some(EXPIRY), "");
    // Nobody who knows none of a hundred authorities searches them for long.
    let observation =
        ask_within(&https(&json!({}), server.endpoint()), Duration::from_secs(2)).await;
    check(&observation, "failure tls_untrusted", Some(EXPIRY), "");
    let server = chain_of(&authority, 400).await;
    let observation = ask_within(&https(&trust, server.endpoint()), Duration::from_secs(2)).await;
    check(&observation, "failure tls_other", None, "");
}

#[tokio::test]
async fn a_goodbye_during_the_handshake_is_a_reset() {
    let server = Server::start(|mut stream| async move {
        say_and_close(&mut stream, &[21, 3, 3, 0, 2, 1, 0]).await;
    })
    .await;
    let observation = ask(&https(&json!({}), server.endpoint())).await;
    check(&observation, "failure connection_reset", None, "");
}

/// A server that shows this certificate, which it does not look at.
async fn showing(certificate: Vec<u8>, key: &PrivateKeyDer<'_>) -> Server {
    let config = server_config().with_no_client_auth();
    let signer = provider().key_provider.load_private_key(key.clone_key()).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![CertificateDer::from(certificate)], signer);
    let shown = rustls::sign::SingleCertAndKey::from(shown);
    serve("HTTP/1.1 200 OK\r\n\r\nwell", config.with_cert_resolver(Arc::new(shown))).await
}

#[tokio::test]
async fn a_certificate_of_64_kib_is_refused_and_one_of_half_of_it_is_read() {
    let authority = Authority::new("ours");
    let trust = authority.trust(&json!({}));
    for (kib, expected, expiry) in
        [(32, "success 200", Some(EXPIRY)), (64, "failure tls_other", None)]
    {
        let (certificate, key) = authority.issue(|params| {
            let stuffing = vec![0x5a; kib * 1024];
            let oid = [1, 3, 6, 1, 4, 1, 1, 1];
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, stuffing));
        });
        let server = showing(certificate.to_vec(), &key).await;
        let target = https(&trust, server.endpoint());
        let observation = ask_within(&target, Duration::from_secs(2)).await;
        check(&observation, expected, expiry, "");
    }
}

#[tokio::test]
async fn a_certificate_that_is_none_is_refused() {
    let (own, key) = Authority::new("ours").issue(|_| ());
    let cut = own[..own.len() / 2].to_vec();
    for broken in [cut, vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], vec![0; 64]] {
        let server = showing(broken, &key).await;
        for tls in [json!({}), json!({ "insecure_skip_verify": true })] {
            let target = https(&tls, server.endpoint());
            let observation = ask_within(&target, Duration::from_secs(2)).await;
            check(&observation, "failure tls_other", None, "");
        }
    }
}
