//! Connections that are kept between two probes.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::net::TcpStream;

use super::*;
use crate::{
    model::Observation,
    probe::{Held, Network, Plain, Prober, Ticket, egress, resolve},
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Asks targets as tasks, or all in one place as plain probes. Keeps one connection at most.
struct Asker {
    network: Network,
    plain: Option<RefCell<Thread>>,
}

/// What a prober thread has.
struct Thread {
    plain: Plain<Asked>,
    landed: Vec<(Asked, Observation)>,
}

struct Asked(Arc<Target>);

impl Ticket for Asked {
    fn target(&self) -> &Target {
        &self.0
    }
}

impl Thread {
    fn turn(&mut self) {
        self.landed.extend(self.plain.turn().map(|(asked, found)| (asked, found.unwrap())));
    }

    fn found(&mut self, target: &Arc<Target>) -> Option<Observation> {
        self.turn();
        let at = self.landed.iter().position(|(asked, _)| Arc::ptr_eq(&asked.0, target))?;
        Some(self.landed.swap_remove(at).1)
    }
}

impl Asker {
    fn of_tasks() -> Self {
        Self { network: Network::keeping(1, egress::Policy::default()), plain: None }
    }

    fn of_plain_probes() -> Self {
        let Self { network, .. } = Self::of_tasks();
        let plain = network.plain().unwrap().unwrap();
        let plain = Some(RefCell::new(Thread { plain, landed: Vec::new() }));
        Self { network, plain }
    }

    /// Another of the same kind.
    fn another(&self) -> Self {
        if self.plain.is_some() { Self::of_plain_probes() } else { Self::of_tasks() }
    }

    async fn ask(&self, target: &Arc<Target>) -> Observation {
        self.ask_within(target, testing::PATIENCE).await
    }

    async fn ask_within(&self, target: &Arc<Target>, timeout: Duration) -> Observation {
        let Some(thread) = &self.plain else { return self.network.probe(target, timeout).await };
        let asked = Asked(Arc::clone(target));
        thread.borrow_mut().turn();
        assert!(thread.borrow_mut().plain.start(asked, timeout).is_ok(), "it is no plain probe");
        loop {
            if let Some(found) = thread.borrow_mut().found(target) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn hold(&self, target: &Target, life: Duration) -> Held {
        let turns = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                if let Some(thread) = &self.plain {
                    thread.borrow_mut().turn();
                }
            }
        };
        tokio::select! {
            held = self.network.hold(target, testing::PATIENCE, life) => held,
            () = turns => unreachable!(),
        }
    }
}

/// Runs tests with either kind.
macro_rules! either_way {
    ($($name:ident)*) => {
        mod as_tasks {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Asker::of_tasks()).await;
            })*
        }
        mod as_plain_probes {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Asker::of_plain_probes()).await;
            })*
        }
    };
}

either_way! {
    a_connection_is_kept_only_if_asked_for
    a_connection_is_kept_after_every_answer_whose_end_is_known
    a_connection_is_not_kept_after_other_answers
    a_probe_on_a_kept_connection_has_no_phases_of_connecting
    a_request_on_a_kept_connection_does_not_ask_to_close_it
    a_connection_that_the_target_has_closed_is_opened_again
    a_failure_on_a_new_connection_or_after_an_answer_has_begun_is_the_targets
    a_second_attempt_is_within_the_same_deadline
    bytes_that_nobody_asked_for_end_a_kept_connection
    a_farewell_on_a_kept_connection_is_no_answer
    targets_share_a_bound_on_kept_connections
    a_kept_connection_is_not_used_for_ever
    the_kept_connection_is_the_tripwire_and_no_other_is_made
    nothing_is_sent_over_a_kept_connection_that_is_held
    a_probe_may_use_the_connection_that_is_held
    where_none_can_be_kept_a_bare_connection_is_held_until_one_is
}

fn http(json: Value, endpoint: Endpoint) -> Arc<Target> {
    Arc::new(super::http(json, endpoint))
}

/// Answers every request of every connection so, and leaves the connection open.
async fn patient(answer: &'static str) -> Server {
    Server::start(move |mut stream| async move {
        while read_request(&mut stream).await.ends_with("\r\n\r\n") {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    })
    .await
}

/// How many connections three probes make, all of which find this.
async fn connections_of_three(
    asker: Asker,
    answer: &'static str,
    spec: Value,
    expected: &str,
) -> usize {
    let server = patient(answer).await;
    let target = http(spec, server.endpoint());
    for _ in 0..3 {
        assert_eq!(verdict(&asker.ask(&target).await), expected, "{answer:?}");
    }
    server.connections()
}

async fn a_connection_is_kept_only_if_asked_for(asker: Asker) {
    assert_eq!(
        connections_of_three(asker.another(), OK, json!({ "keep_alive": true }), "success 200")
            .await,
        1
    );
    assert_eq!(connections_of_three(asker.another(), OK, json!({}), "success 200").await, 3);
}

async fn a_connection_is_kept_after_every_answer_whose_end_is_known(asker: Asker) {
    let keep = || json!({ "keep_alive": true });
    for (answer, expected) in [
        ("HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\nok", "failure status 500"),
        ("HTTP/1.1 204 x\r\n\r\n", "success 204"),
        (
            "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
            "success 200",
        ),
        ("HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", "success 200"),
    ] {
        assert_eq!(
            connections_of_three(asker.another(), answer, keep(), expected).await,
            1,
            "{answer:?}"
        );
    }
    let head = json!({ "keep_alive": true, "method": "HEAD" });
    let answer = "HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(connections_of_three(asker.another(), answer, head, "success 200").await, 1);
}

async fn a_connection_is_not_kept_after_other_answers(asker: Asker) {
    let keep = || json!({ "keep_alive": true });
    for answer in [
        "HTTP/1.0 200 x\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 x\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nok",
        // More than the answer: the next one would be read from it.
        "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 x\r\n\r\nok",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx",
    ] {
        let expected = if answer.contains("204") { "success 204" } else { "success 200" };
        assert_eq!(
            connections_of_three(asker.another(), answer, keep(), expected).await,
            3,
            "{answer:?}"
        );
    }
}

async fn a_probe_on_a_kept_connection_has_no_phases_of_connecting(asker: Asker) {
    let server = patient(OK).await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    let first = asker.ask(&target).await;
    assert!(!first.phases.get(Phase::Connect).is_zero(), "{first:?}");
    let second = asker.ask(&target).await;
    assert_eq!(verdict(&second), "success 200");
    assert_eq!(second.peer, Some(server.address));
    assert_eq!(second.phases.get(Phase::Connect), Duration::ZERO);
    assert_eq!(second.phases.get(Phase::Tls), Duration::ZERO);
    let sum: Duration = Phase::ALL.iter().map(|phase| second.phases.get(*phase)).sum();
    assert_eq!(sum, second.duration);
}

async fn a_request_on_a_kept_connection_does_not_ask_to_close_it(asker: Asker) {
    let (server, requests) = Server::recording(OK).await;
    asker.ask(&http(json!({ "keep_alive": true }), server.endpoint())).await;
    let request = requests.lock().unwrap()[0].clone();
    assert!(!request.contains("Connection"), "{request}");
}

/// Each connection serves as the script of its number says.
async fn scripted<F>(script: impl Fn(usize, TcpStream) -> F + Clone + Send + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    Server::start(move |stream| script(count.fetch_add(1, Ordering::Relaxed), stream)).await
}

async fn answer_once(stream: &mut TcpStream) {
    read_request(stream).await;
    stream.write_all(OK.as_bytes()).await.unwrap();
}

async fn a_connection_that_the_target_has_closed_is_opened_again(asker: Asker) {
    // The target closes at once after its answer, or when it sees the second request, in order or
    // with a reset.
    for waits in [false, true] {
        for resets in [false, true] {
            let server = scripted(move |_, mut stream| async move {
                answer_once(&mut stream).await;
                if waits {
                    read_request(&mut stream).await;
                }
                if resets {
                    stream.set_zero_linger().unwrap();
                }
            })
            .await;
            let target = http(json!({ "keep_alive": true }), server.endpoint());
            let asker = asker.another();
            for expected in 1..=3 {
                let observation = asker.ask(&target).await;
                assert_eq!(verdict(&observation), "success 200", "{waits} {resets}");
                assert_eq!(server.connections(), expected, "{waits} {resets}");
            }
        }
    }
}

async fn a_failure_on_a_new_connection_or_after_an_answer_has_begun_is_the_targets(asker: Asker) {
    // The first connection serves once and then breaks off in its answer.
    let server = scripted(|_, mut stream| async move {
        answer_once(&mut stream).await;
        read_request(&mut stream).await;
        say_and_close(&mut stream, b"HTTP/1.1 200 OK\r\n").await;
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    assert_eq!(verdict(&asker.ask(&target).await), "success 200");
    assert_eq!(verdict(&asker.ask(&target).await), "failure connection_reset");
    assert_eq!(server.connections(), 1);

    // The first connection serves once; further ones are closed at once: tried twice, not more.
    let server = scripted(|number, mut stream| async move {
        if number == 0 {
            answer_once(&mut stream).await;
        }
        read_request(&mut stream).await;
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    assert_eq!(verdict(&asker.ask(&target).await), "success 200");
    assert_eq!(verdict(&asker.ask(&target).await), "failure connection_reset");
    assert_eq!(server.connections(), 2);
}

async fn a_second_attempt_is_within_the_same_deadline(asker: Asker) {
    let server = scripted(|number, mut stream| async move {
        if number == 0 {
            answer_once(&mut stream).await;
            read_request(&mut stream).await;
            tokio::time::sleep(SHORT / 2).await;
        } else {
            hold(&mut stream).await;
        }
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    asker.ask(&target).await;
    let observation = asker.ask_within(&target, SHORT).await;
    assert_eq!(verdict(&observation), "failure timeout_response");
    assert!(observation.duration < SHORT + testing::SLACK, "{observation:?}");
    assert_eq!(server.connections(), 2);
}

async fn bytes_that_nobody_asked_for_end_a_kept_connection(asker: Asker) {
    let server = scripted(|number, mut stream| async move {
        answer_once(&mut stream).await;
        if number == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let poison = b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(poison).await.unwrap();
        }
        hold(&mut stream).await;
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    asker.ask(&target).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(verdict(&asker.ask(&target).await), "success 200");
    assert_eq!(server.connections(), 2);
}

async fn a_farewell_on_a_kept_connection_is_no_answer(asker: Asker) {
    const FAREWELL: &[u8] = b"HTTP/1.1 408 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let server = scripted(|number, mut stream| async move {
        if number < 2 {
            answer_once(&mut stream).await;
        }
        read_request(&mut stream).await;
        say_and_close(&mut stream, FAREWELL).await;
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    assert_eq!(verdict(&asker.ask(&target).await), "success 200");
    assert_eq!(verdict(&asker.ask(&target).await), "success 200");
    assert_eq!(server.connections(), 2);
    // On a connection of its own it is one.
    assert_eq!(verdict(&asker.ask(&target).await), "failure status 408");
    assert_eq!(server.connections(), 3);
}

async fn targets_share_a_bound_on_kept_connections(asker: Asker) {
    let (one, other) = (patient(OK).await, patient(OK).await);
    let spec = || json!({ "keep_alive": true });
    let (first, second) = (http(spec(), one.endpoint()), http(spec(), other.endpoint()));
    for _ in 0..3 {
        asker.ask(&first).await;
        asker.ask(&second).await;
    }
    assert_eq!((one.connections(), other.connections()), (1, 3));
    drop(first);
    asker.ask(&second).await;
    asker.ask(&second).await;
    assert_eq!(other.connections(), 4);
}

async fn a_kept_connection_is_not_used_for_ever(asker: Asker) {
    let server = patient(OK).await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    asker.ask(&target).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(599)).await;
    tokio::time::resume();
    asker.ask(&target).await;
    assert_eq!(server.connections(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    asker.ask(&target).await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_redirect_is_followed_on_a_connection_of_its_own() {
    let (goal, requests) = Server::recording(OK).await;
    let location = redirect(302, &format!("http://{}/", goal.address));
    let location: &'static str = location.leak();
    let server = patient(location).await;
    let spec = json!({ "keep_alive": true, "follow_redirects": 1 });
    let target = http(spec, server.endpoint());
    let asker = Asker::of_tasks();
    for _ in 0..2 {
        assert_eq!(verdict(&asker.ask(&target).await), "success 200");
    }
    assert_eq!((server.connections(), goal.connections()), (1, 2));
    assert!(requests.lock().unwrap()[0].contains("Connection: close"));
}

/// Holds what is kept of a target after a probe.
async fn hold_after_a_probe(asker: &Asker, target: &Arc<Target>, life: Duration) -> Held {
    assert_eq!(verdict(&asker.ask(target).await), "success 200");
    asker.hold(target, life).await
}

async fn the_kept_connection_is_the_tripwire_and_no_other_is_made(asker: Asker) {
    for resets in [false, true] {
        let server = scripted(move |_, mut stream| async move {
            answer_once(&mut stream).await;
            tokio::time::sleep(SHORT).await;
            if resets {
                stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let target = http(json!({ "keep_alive": true }), server.endpoint());
        let Held::Cut(lived) = hold_after_a_probe(&asker, &target, testing::PATIENCE).await else {
            panic!("not cut");
        };
        assert!(lived + Duration::from_millis(20) >= SHORT && lived < testing::PATIENCE);
        assert_eq!(server.connections(), 1);
    }
}

async fn nothing_is_sent_over_a_kept_connection_that_is_held(asker: Asker) {
    let (sender, mut said) = tokio::sync::mpsc::channel(1);
    let server = scripted(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            answer_once(&mut stream).await;
            let mut rest = Vec::new();
            drop(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await);
            sender.send(rest).await.unwrap();
        }
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    assert_eq!(hold_after_a_probe(&asker, &target, SHORT).await, Held::Expired);
    assert_eq!(server.connections(), 1);
    drop(target);
    assert_eq!(said.recv().await.unwrap(), b"");
}

async fn a_probe_may_use_the_connection_that_is_held(asker: Asker) {
    let server = scripted(|_, mut stream| async move {
        for _ in 0..3 {
            answer_once(&mut stream).await;
        }
        tokio::time::sleep(SHORT).await;
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    asker.ask(&target).await;
    let end = asker.hold(&target, testing::PATIENCE);
    let asks = async {
        for _ in 0..2 {
            tokio::time::sleep(SHORT / 10).await;
            assert_eq!(verdict(&asker.ask(&target).await), "success 200");
        }
    };
    let (end, ()) = tokio::join!(end, asks);
    assert!(matches!(end, Held::Cut(_)), "{end:?}");
    assert_eq!(server.connections(), 1);
}

async fn where_none_can_be_kept_a_bare_connection_is_held_until_one_is(asker: Asker) {
    let closing = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let server = scripted(move |number, mut stream| async move {
        read_request(&mut stream).await;
        let answer = if number == 0 { closing } else { OK };
        stream.write_all(answer.as_bytes()).await.unwrap();
        hold(&mut stream).await;
    })
    .await;
    let target = http(json!({ "keep_alive": true }), server.endpoint());
    asker.ask(&target).await;
    let held = asker.hold(&target, testing::PATIENCE);
    let asks = async {
        while server.connections() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        asker.ask(&target).await;
    };
    let (held, ()) = tokio::join!(held, asks);
    assert_eq!(held, Held::Expired, "to be held anew, as the one that is kept");
    assert_eq!(server.connections(), 3);
    assert_eq!(asker.hold(&target, SHORT / 2).await, Held::Expired);
    assert_eq!(server.connections(), 3);
}

/// That it is, and that the other half is enough, needs a firewall that forgets.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_kept_connection_is_given_up_when_nobody_acknowledges_for_half_the_deadline() {
    let server = patient(OK).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    resolve::give_up_after(Duration::from_secs(1), &stream);
    let set = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
    assert_eq!(set, Some(Duration::from_secs(1)));
}
