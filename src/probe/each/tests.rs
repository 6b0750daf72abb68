//! Several addresses together.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::*;
use crate::{
    model::Observation,
    probe::{
        Endpoint, Prober as _, Spec, grpc as grpc_probe, http, tcp,
        testing::{
            self, PATIENCE, SLACK, Server,
            dns::{Resolver, Way},
            hold, read_request, say_and_close, spawn, spec, target_dialing, verdict,
        },
        udp,
    },
};

/// What addresses say, one letter each: well, struggling, unknown, failing.
#[track_caller]
fn check(require: Value, said: &str, expected: &str) {
    let fault = |letter: char| match letter {
        'w' => None,
        's' => Some(Fault::warning(Reason::Status, "busy")),
        'u' => Some(Fault::inconclusive(Reason::Internal, "no socket")),
        'f' => Some(Fault::new(Reason::ConnectionRefused, "refused")),
        _ => panic!("{letter}"),
    };
    let faults: Vec<_> = said.chars().map(fault).collect();
    let answers = faults
        .iter()
        .enumerate()
        .map(|(n, fault)| (IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()]), fault.as_ref()));
    let verdict = match judge(spec(require), answers) {
        Ok(()) => "success".to_owned(),
        Err(Fault { outcome, .. }) => match outcome {
            Outcome::Success => panic!("a success is no fault"),
            Outcome::Warning(reason) => format!("warning {reason}"),
            Outcome::Inconclusive(reason) => format!("inconclusive {reason}"),
            Outcome::Failure(reason) => format!("failure {reason}"),
        },
    };
    assert_eq!(verdict, expected, "{said}");
}

#[test]
fn enough_addresses_must_be_well() {
    let refused = "failure connection_refused";
    check(json!("all"), "www", "success");
    check(json!("all"), "wfw", refused);
    check(json!("all"), "wsw", "warning status");
    check(json!("all"), "wuw", "inconclusive internal");
    check(json!("all"), "wuf", refused);
    check(json!("all"), "sfw", refused);
    check(json!("all"), "suw", "inconclusive internal");
    check(json!("any"), "ffw", "success");
    check(json!("any"), "fff", refused);
    check(json!("any"), "ffs", "warning status");
    check(json!("any"), "ffu", "inconclusive internal");
    check(json!(2), "wwf", "success");
    check(json!(2), "wff", refused);
    check(json!(2), "wsf", "warning status");
    check(json!(2), "wuf", "inconclusive internal");
    check(json!(2), "w", "failure dns");
    check(json!(3), "ww", "failure dns");
    check(json!(3), "wu", "failure dns");
    check(json!(3), "wf", refused);
}

#[test]
fn the_addresses_that_fail_are_named() {
    let faults = [
        None,
        Some(Fault::new(Reason::Status, "503")),
        Some(Fault::inconclusive(Reason::Internal, "no socket")),
    ];
    let answers = faults
        .iter()
        .enumerate()
        .map(|(n, fault)| (IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()]), fault.as_ref()));
    let fault = judge(Require::All, answers).unwrap_err();
    let said = "1 of 3 addresses are well, 3 must be; 10.0.0.1: 503; 10.0.0.2: no socket";
    assert_eq!(fault.detail, said);
}

/// Web servers on 127.0.0.1 and following, all on one port, that answer with these statuses; no
/// status is a server that says nothing.
async fn servers(statuses: &[u16]) -> u16 {
    let bind = async || {
        let mut listeners = vec![TcpListener::bind("127.0.0.1:0").await.ok()?];
        let port = listeners[0].local_addr().ok()?.port();
        for n in 2..=statuses.len() {
            let address = SocketAddr::from(([127, 0, 0, u8::try_from(n).ok()?], port));
            listeners.push(TcpListener::bind(address).await.ok()?);
        }
        Some((listeners, port))
    };
    let (listeners, port) = loop {
        if let Some(bound) = bind().await {
            break bound;
        }
    };
    for (listener, status) in listeners.into_iter().zip(statuses.to_vec()) {
        spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if status == 0 {
                    spawn(async move { hold(&mut stream).await });
                    continue;
                }
                let request = read_request(&mut stream).await;
                assert!(request.contains("Host: shop.example"), "{request}");
                let answer = format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n");
                say_and_close(&mut stream, answer.as_bytes()).await;
            }
        });
    }
    port
}

async fn ask_each(statuses: &[u16], require: &Value, within: Duration) -> Observation {
    let port = servers(statuses).await;
    let ips: Vec<_> = (1..=statuses.len()).map(|n| format!("127.0.0.{n}")).collect();
    let ips: Vec<_> = ips.iter().map(String::as_str).collect();
    let resolver = Resolver::knowing(&ips).await;
    let dial = json!({ "resolver": resolver.address, "addresses": "each", "require": require });
    let endpoint = Endpoint::new("shop.example".parse().unwrap(), port);
    let target = target_dialing(&Spec::Http(http::Spec::default()), endpoint, dial);
    Network::default().probe(&target, within).await
}

#[tokio::test]
async fn every_address_of_a_name_is_asked() {
    let seen = ask_each(&[200, 200, 200], &json!("all"), PATIENCE).await;
    assert_eq!(verdict(&seen), "success 200", "{seen:?}");
    let sum: Duration = Phase::ALL.iter().map(|phase| seen.phases.get(*phase)).sum();
    assert!(sum <= seen.duration, "{seen:?}");

    let seen = ask_each(&[200, 503, 200], &json!("all"), PATIENCE).await;
    assert_eq!(verdict(&seen), "failure status 503", "{seen:?}");
    assert_eq!(seen.peer.unwrap().ip().to_string(), "127.0.0.2");
    let detail = seen.detail.unwrap();
    assert!(detail.contains("2 of 3 addresses are well, 3 must be; 127.0.0.2: "), "{detail}");

    assert_eq!(verdict(&ask_each(&[200, 503, 200], &json!(2), PATIENCE).await), "success 200");
    assert_eq!(verdict(&ask_each(&[503, 503, 200], &json!("any"), PATIENCE).await), "success 200");
    assert_eq!(verdict(&ask_each(&[200], &json!(2), PATIENCE).await), "failure dns");
}

/// A check of a name with so many addresses, of which all lead to one server, and how many it saw.
async fn ask_many(count: usize) -> (Observation, usize) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = |n: usize| format!("127.1.{}.{}", n / 256, n % 256);
    let ips: Vec<_> = (0..count).map(address).collect();
    let resolver = Resolver::start(move |question, way, _| {
        let mut answer = testing::dns::addresses(question, ips.iter().map(String::as_str));
        if way == Way::Udp {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        vec![answer.to_vec().unwrap()]
    });
    let resolver = resolver.await;
    let dial = json!({ "resolver": resolver.address, "addresses": "each" });
    let endpoint = Endpoint::new("shop.example".parse().unwrap(), port);
    let target = target_dialing(&Spec::Http(http::Spec::default()), endpoint, dial);
    let mut taken = HashSet::new();
    let serve = async {
        while let Ok((mut stream, _)) = listener.accept().await {
            taken.insert(stream.local_addr().unwrap().ip());
            read_request(&mut stream).await;
            say_and_close(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    };
    let network = Network::default();
    let seen = tokio::select! {
        seen = network.probe(&target, PATIENCE) => seen,
        () = serve => panic!("the server has ended"),
    };
    (seen, taken.len())
}

#[tokio::test]
async fn all_addresses_are_asked_or_none() {
    let (seen, taken) = ask_many(MAX_ASKED).await;
    assert_eq!((verdict(&seen).as_str(), taken), ("success 200", MAX_ASKED), "{seen:?}");
    let (seen, taken) = ask_many(MAX_ASKED + 1).await;
    assert_eq!((verdict(&seen).as_str(), taken), ("inconclusive dns", 0), "{seen:?}");
    let detail = seen.detail.unwrap();
    assert!(detail.contains("has 257 addresses; at most 256 can be asked each"), "{detail}");
}

/// A connection that is kept leads to one address, and says nothing of the others.
#[tokio::test]
async fn a_kept_connection_answers_for_no_other_address() {
    let one = Server::start(|mut stream| async move {
        while read_request(&mut stream).await.ends_with("\r\n\r\n") {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                break;
            }
        }
    })
    .await;
    // Nobody listens at the second.
    let resolver = Resolver::knowing(&["127.0.0.1", "127.0.0.77"]).await;
    let dial = json!({ "resolver": resolver.address, "addresses": "each" });
    let endpoint = Endpoint::new("shop.example".parse().unwrap(), one.address.port());
    let kept = Spec::Http(http::Spec { keep_alive: true, ..http::Spec::default() });
    let (target, network) = (target_dialing(&kept, endpoint, dial), Network::default());
    for _ in 0..3 {
        let seen = network.probe(&target, PATIENCE).await;
        assert_eq!(verdict(&seen), "failure connection_refused", "{seen:?}");
    }
    assert_eq!(one.connections(), 3);
}

#[tokio::test]
async fn an_address_that_is_silent_does_not_take_the_time_of_the_others() {
    let within = Duration::from_millis(700);
    let seen = ask_each(&[0, 200, 0], &json!("all"), within).await;
    assert_eq!(verdict(&seen), "failure timeout_response", "{seen:?}");
    assert!(seen.duration < within + SLACK, "{seen:?}");
    let detail = seen.detail.unwrap();
    assert!(detail.contains("1 of 3 addresses are well"), "{detail}");
    assert!(detail.contains("127.0.0.1: no answer within 700ms"), "{detail}");
    assert!(detail.contains("127.0.0.3: no answer within 700ms"), "{detail}");
    assert_eq!(verdict(&ask_each(&[0, 200], &json!("any"), within).await), "success 200");
}

#[tokio::test]
async fn every_probe_type_asks_every_address() {
    let silent = Server::start(|mut stream| async move { hold(&mut stream).await }).await;
    let all = [
        Spec::Http(http::Spec::default()),
        Spec::Tcp(tcp::Spec::default()),
        Spec::Grpc(grpc_probe::Spec::default()),
        Spec::Udp(udp::Spec::default()),
    ];
    let resolver = Resolver::knowing(&["127.0.0.1", "169.254.169.254", "127.0.0.77"]).await;
    for asked in all {
        let dial = json!({ "resolver": resolver.address, "addresses": "each" });
        let endpoint = Endpoint::new("shop.example".parse().unwrap(), silent.address.port());
        let target = target_dialing(&asked, endpoint, dial);
        let seen = Network::default().probe(&target, Duration::from_millis(500)).await;
        let detail = seen.detail.unwrap();
        // Nobody may go to the second; nobody listens at the third.
        assert!(detail.contains("of 3 addresses are well, 3 must be"), "{detail}");
        assert!(detail.contains("169.254.169.254"), "{detail}");
    }
}

#[tokio::test]
async fn an_address_as_such_is_asked_as_ever() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let dial = json!({ "addresses": "each", "require": 1 });
    let target = target_dialing(&Spec::Http(http::Spec::default()), server.endpoint(), dial);
    let seen = Network::default().probe(&target, PATIENCE).await;
    assert_eq!((verdict(&seen).as_str(), seen.peer), ("success 200", Some(server.address)));
}
