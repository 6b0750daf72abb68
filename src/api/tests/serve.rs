//! The accept loop on real connections.

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::*;

const SOON: Duration = Duration::from_secs(5);

struct Served {
    rig: Rig,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

async fn served(rig: Rig) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let (view, limits) = (rig.view.clone(), rig.limits.clone());
    tasks.spawn(super::super::serve::http(listener, view, limits, rig.stop.clone()));
    Served { rig, address, tasks }
}

impl Served {
    async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn ends(&mut self) {
        timeout(SOON, self.tasks.join_next()).await.expect("the listener ends").unwrap().unwrap();
    }
}

async fn until(stream: &mut TcpStream, what: &str) -> String {
    let mut text = String::new();
    while !text.contains(what) {
        let mut buffer = [0; 4096];
        let read = timeout(SOON, stream.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("no {what} in {text}")).unwrap();
        assert!(read > 0, "no {what} in {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

#[tokio::test]
async fn idle_connections_and_streams_end_at_once_on_stop() {
    let mut served = served(Rig::new(&[]).await).await;
    let mut idle = served.connect("GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(&mut idle, "alive").await;
    let mut events = "GET /v1/rollcall/events HTTP/1.1\r\nhost: x\r\n".to_owned();
    events.push_str("accept: text/event-stream\r\n\r\n");
    let mut events = served.connect(&events).await;
    until(&mut events, "id: 1795183200000-0").await;
    let _silent = served.connect("").await;
    served.rig.stop.cancel();
    served.ends().await;
    for stream in [&mut idle, &mut events] {
        timeout(SOON, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    }
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_stop() {
    let mut served = served(Rig::new(&[]).await).await;
    let put = "PUT /-/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let mut stream = served.connect(put).await;
    let request = served.rig.reloads.next().await.unwrap();
    served.rig.stop.cancel();
    tokio::time::sleep(Duration::from_millis(20)).await;
    request.answer(Ok("reloaded at last".into()));
    until(&mut stream, "reloaded at last").await;
    served.ends().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let mut rig = Rig::new(&[]).await;
    rig.limits.max_connections = Some(NonZeroU32::MIN);
    let served = served(rig).await;
    let healthy = "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = served.connect(healthy).await;
    until(&mut first, "alive").await;
    let mut second = served.connect(healthy).await;
    let early = timeout(Duration::from_millis(100), second.read(&mut [0; 1])).await;
    assert!(early.is_err(), "the second is served beside the first");
    drop(first);
    until(&mut second, "alive").await;
}

#[tokio::test]
async fn a_clients_address_is_what_its_rate_is_limited_by() {
    let mut rig = Rig::new(&[]).await;
    rig.limits.requests_per_second = NonZeroU32::MIN;
    rig.limits.request_burst = NonZeroU32::MIN;
    let served = served(rig).await;
    let index = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    until(&mut served.connect(index).await, "200 OK").await;
    until(&mut served.connect(index).await, "429 Too Many Requests").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let served = served(Rig::new(&[]).await).await;
    for head in ["", "GET / HTTP/1.1\r\nho"] {
        let mut stream = served.connect(head).await;
        // The clock runs ahead as soon as everybody waits.
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlives_the_pools_of_clients() {
    let served = served(Rig::new(&[]).await).await;
    let healthy = "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = served.connect("").await;
    // Go keeps a connection for 90 s, also one on which nothing has been asked yet.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(95)).await;
        stream.write_all(healthy.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("alive") {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }
    let idle = tokio::time::Instant::now();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let idle = idle.elapsed();
    assert!((Duration::from_secs(120)..Duration::from_secs(125)).contains(&idle), "{idle:?}");
}

async fn clumsy() -> &'static str {
    panic!("oh")
}

#[tokio::test]
async fn a_panic_is_that_requests_loss_only() {
    let rig = Rig::new(&[]).await;
    let app = Arc::new(router::App::new(rig.view.clone(), &rig.limits, rig.stop.clone()));
    let guard = axum::middleware::from_fn_with_state(app, guard::guard);
    let router = Router::new()
        .route("/clumsy", get(clumsy))
        .route("/well", get(async || "well"))
        .layer(guard);
    let ask = async |uri: &str| {
        answered(router.clone(), Request::get(uri).body(Body::empty()).unwrap()).await
    };
    let answer = ask("/clumsy").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (500, "internal error"));
    assert_eq!(ask("/well").await.status, 200);
    let text = rig.get("/metrics").await.body;
    assert!(text.contains(
        "rollcall_http_requests_total{code=\"500\",handler=\"/clumsy\",method=\"GET\"} 1\n"
    ));
}
