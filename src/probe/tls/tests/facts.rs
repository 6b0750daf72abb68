//! What a certificate says is known whatever becomes of the handshake.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::io::AsyncReadExt;

use super::*;
use crate::{
    model::Certificate,
    probe::tls::testing::{provider, serve, server_config},
};

const fn date(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn facts(observation: &Observation) -> Certificate {
    observation.certificate.as_deref().unwrap().clone()
}

/// A server that shows its own certificate, which names nobody but 127.0.0.1 and lives until 2040,
/// and those of an intermediate that ends in 2030.
fn chained(authority: &Authority) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "between");
    params.not_after = date_time_ymd(2030, 1, 1);
    let between = params.signed_by(&key, &authority.issuer).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "shop\u{1b}[2J\n".to_owned());
    let own = params.signed_by(&key, &issuer).unwrap();
    let chain: Vec<CertificateDer<'_>> = vec![own.der().clone(), between.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    server_config().with_no_client_auth().with_single_cert(chain, key).unwrap()
}

fn tls12() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
}

#[tokio::test]
async fn a_chain_says_when_its_first_certificate_ends() {
    let authority = Authority::new("ours");
    let server = serve("HTTP/1.1 200 OK\r\n\r\nwell", chained(&authority)).await;
    let observation = ask(&https(&authority.trust(&json!({})), server.endpoint())).await;
    assert_eq!(verdict(&observation), "success 200");
    let expected = Certificate {
        start: date(1_577_836_800),
        expiry: EXPIRY,
        chain_expiry: date(1_893_456_000),
        is_for_name: true,
        subject: "CN=shop?[2J ".into(),
        issuer: "CN=between".into(),
    };
    assert_eq!(facts(&observation), Certificate { issuer: facts(&observation).issuer, ..expected });
    assert!(facts(&observation).issuer.contains("CN=between"), "{observation:?}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_also_where_nobody_minds() {
    let authority = Authority::new("ours");
    let server = authority.serve(|_| ()).await;
    for (name, is_for_name) in [("shop.example", true), ("else.example", false)] {
        let tls = json!({ "insecure_skip_verify": true, "server_name": name });
        let observation = ask(&https(&tls, server.endpoint())).await;
        assert_eq!(verdict(&observation), "success 200");
        assert_eq!(facts(&observation).is_for_name, is_for_name);
    }
    let other = Authority::new("other");
    let tls = other.trust(&json!({ "server_name": "else.example" }));
    let observation = ask(&https(&tls, server.endpoint())).await;
    assert_eq!(verdict(&observation), "failure tls_untrusted");
    assert!(!facts(&observation).is_for_name);
}

#[tokio::test]
async fn what_a_certificate_says_outlives_a_handshake_that_fails_after_it() {
    let authority = Authority::new("ours");
    // TLS 1.2, where the server wants our certificate before it ends the handshake.
    let server = {
        let (certificate, key) = authority.issue(|_| ());
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let config = tls12()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        serve("", config).await
    };
    let observation = ask(&https(&authority.trust(&json!({})), server.endpoint())).await;
    check(&observation, "failure tls_other", Some(EXPIRY), "");
}

#[tokio::test]
async fn what_a_certificate_says_outlives_a_handshake_that_never_ends() {
    let authority = Authority::new("ours");
    let (certificate, key) = authority.issue(|_| ());
    let config = tls12().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let config = Arc::new(config);
    // Says all that it has to say up to our turn, and then no more.
    let server = Server::start(move |mut stream| {
        let config = Arc::clone(&config);
        async move {
            let mut connection = rustls::ServerConnection::new(config).unwrap();
            let mut hello = vec![0; 4096];
            while !connection.wants_write() {
                let read = stream.read(&mut hello).await.unwrap();
                connection.read_tls(&mut &hello[..read]).unwrap();
                connection.process_new_packets().unwrap();
            }
            let mut flight = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut flight).unwrap();
            }
            stream.write_all(&flight).await.unwrap();
            hold(&mut stream).await;
        }
    })
    .await;
    let target = https(&authority.trust(&json!({})), server.endpoint());
    let observation = ask_within(&target, Duration::from_millis(400)).await;
    check(&observation, "failure timeout_tls", Some(EXPIRY), "");
}
