//! Tiny targets for the tests of all probe types: real sockets on port 0.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep_until,
};

pub(super) mod dns;

use super::{Endpoint, Network, Plain, Probe, Prober, Spec, Target, Ticket};
use crate::model::{Answer, Observation, Outcome};

/// Long enough never to matter in a test that does not wait for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How much later than its timeout a probe may end on a busy machine.
pub(super) const SLACK: Duration = Duration::from_millis(500);

/// A target that does as its script says to every connection; ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Runs `script` on every connection.
    pub(super) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                spawn(script(stream));
            }
        });
        Self { address, connections, task }
    }

    /// Reads one request, then says `answer` and closes the connection.
    pub(super) async fn answering(answer: impl AsRef<[u8]>) -> Self {
        let (server, _) = Self::recording(answer).await;
        server
    }

    /// As [`Self::answering`], and keeps the requests.
    pub(super) async fn recording(answer: impl AsRef<[u8]>) -> (Self, Arc<Mutex<Vec<String>>>) {
        let answer: Arc<[u8]> = answer.as_ref().into();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&requests);
        let server = Self::start(move |mut stream| {
            let (answer, record) = (Arc::clone(&answer), Arc::clone(&record));
            async move {
                let request = read_request(&mut stream).await;
                record.lock().unwrap().push(request);
                say_and_close(&mut stream, &answer).await;
            }
        })
        .await;
        (server, requests)
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        endpoint(self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

#[expect(clippy::disallowed_methods, reason = "targets of a test end with its runtime")]
pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(super::Host::Ip(address.ip()), address.port())
}

/// Reads to the end of a request's head, or of the connection.
pub(super) async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// Writes, ends its side, and waits for the other side to end, so that nothing is lost in a reset.
pub(super) async fn say_and_close<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, text: &[u8]) {
    if stream.write_all(text).await.is_ok() && stream.shutdown().await.is_ok() {
        hold(stream).await;
    }
}

/// Keeps a connection open until the other side ends it.
pub(super) async fn hold<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut sink = [0; 1024];
    while matches!(stream.read(&mut sink).await, Ok(1..)) {}
}

/// An address where nobody listens.
pub(super) fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that drops every attempt to connect: its queue is full.
pub(super) struct Deaf {
    pub(super) address: SocketAddr,
    _listener: socket2::Socket,
    _queue: Vec<socket2::Socket>,
}

impl Deaf {
    pub(super) fn new() -> Self {
        use socket2::{Domain, Socket, Type};
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let started = socket.connect(&address);
            assert!(started.is_ok() || started.is_err_and(|error| error.raw_os_error().is_some()));
            socket
        };
        let queue = (0..4).map(connect).collect();
        Self { address: address.as_socket().unwrap(), _listener: listener, _queue: queue }
    }
}

/// Reads a specification as the configuration would.
#[track_caller]
pub(super) fn spec<T: DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// A target for a specification.
#[track_caller]
pub(super) fn target(spec: &Spec, endpoint: Endpoint) -> Target {
    Target::new(Arc::new(Probe::prepare(spec).unwrap()), endpoint)
}

/// The same, whose address is found and reached as `dial` says.
#[track_caller]
pub(super) fn target_dialing(asked: &Spec, endpoint: Endpoint, dial: serde_json::Value) -> Target {
    let probe = Probe::prepare(asked).unwrap().dialing(&spec(dial));
    Target::new(Arc::new(probe), endpoint)
}

/// Probes once, with all the time it needs.
pub(super) async fn ask(target: &Target) -> Observation {
    probe(target, PATIENCE).await
}

/// A target to be asked without a task.
struct Asked<'a>(&'a Target);

impl Ticket for Asked<'_> {
    fn target(&self) -> &Target {
        self.0
    }
}

/// Probes as a prober thread does: without a task, if it is a plain probe.
async fn probe(target: &Target, timeout: Duration) -> Observation {
    let network = Network::default();
    let mut plain = network.plain().unwrap().unwrap();
    if plain.start(Asked(target), timeout).is_err() {
        return network.probe(target, timeout).await;
    }
    landed(&mut plain).await.remove(0).1.unwrap()
}

/// Waits until plain probes have ended.
pub(super) async fn landed<T: Ticket>(plain: &mut Plain<T>) -> Vec<(T, Option<Observation>)> {
    loop {
        let landed: Vec<_> = plain.turn().collect();
        if !landed.is_empty() {
            return landed;
        }
        let deadline = plain.next_deadline().unwrap();
        tokio::select! {
            () = plain.ready() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Probes once, and checks that the timeout was kept.
pub(super) async fn ask_within(target: &Target, timeout: Duration) -> Observation {
    let observation = probe(target, timeout).await;
    assert!(observation.duration < timeout + SLACK, "{observation:?}");
    observation
}

/// The verdict in a few words: `success 200`, `failure status 500`, `failure dns`.
pub(super) fn verdict(observation: &Observation) -> String {
    let outcome = match observation.outcome {
        Outcome::Success => "success".to_owned(),
        Outcome::Warning(reason) => format!("warning {reason}"),
        Outcome::Failure(reason) => format!("failure {reason}"),
        Outcome::Inconclusive(reason) => format!("inconclusive {reason}"),
    };
    assert_eq!(observation.detail.is_none(), observation.outcome == Outcome::Success);
    if let Some(detail) = &observation.detail {
        assert!(
            detail.len() <= 256 && detail.bytes().all(|b| matches!(b, b' '..=b'~')),
            "{detail}"
        );
    }
    match observation.answer {
        Answer::None => outcome,
        Answer::Http(status) => format!("{outcome} {status}"),
        Answer::Grpc(serving) => format!("{outcome} {serving}"),
    }
}
