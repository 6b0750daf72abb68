//! Servers that tell of changes by themselves, that cannot, and that stop.

use std::sync::atomic::AtomicBool;

use futures_util::{FutureExt, StreamExt};
use tokio::{net::TcpStream, sync::Notify, time::timeout};

use super::*;
use crate::probe;

/// A health server with a stream, and how it behaves.
#[derive(Debug, Clone)]
struct Telling {
    status: Sender<i32>,
    /// How often a stream was asked for.
    asked: Arc<AtomicUsize>,
    asked_now: Arc<Notify>,
    is_absent: Arc<AtomicBool>,
    ends_at_once: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl Health for Telling {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: *self.status.borrow() }))
    }

    type WatchStream = Pin<
        Box<dyn futures_util::Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>,
    >;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.asked_now.notify_one();
        if self.is_absent.load(Ordering::Relaxed) {
            return Err(Status::unimplemented("no Watch here"));
        }
        let all = tokio_stream::wrappers::WatchStream::new(self.status.subscribe());
        let all = all.map(|status| Ok(HealthCheckResponse { status }));
        let length = if self.ends_at_once.load(Ordering::Relaxed) { 1 } else { usize::MAX };
        Ok(Response::new(Box::pin(all.take(length))))
    }
}

/// A server, its behaviour, and how to cut its connections.
struct Watched {
    server: Server,
    telling: Telling,
    cut: Sender<()>,
    target: Target,
}

fn telling() -> Telling {
    Telling {
        status: channel(1).0,
        asked: Arc::default(),
        asked_now: Arc::default(),
        is_absent: Arc::default(),
        ends_at_once: Arc::default(),
    }
}

async fn watched() -> Watched {
    let telling = telling();
    let (cut, cuts) = channel(());
    let server = serve_cut(HealthServer::new(telling.clone()), cuts).await;
    let target = grpc(json!({ "watch": true }), server.endpoint());
    Watched { server, telling, cut, target }
}

impl Watched {
    async fn ask(&self) -> String {
        verdict(&ask(&self.target).await)
    }

    /// Waits until a stream has been asked for.
    async fn asked(&self) {
        timeout(PATIENCE, self.telling.asked_now.notified()).await.expect("a stream is asked for");
    }

    async fn woken(&self) {
        timeout(PATIENCE, self.target.woken()).await.expect("the target wakes us");
    }

    fn times_asked(&self) -> usize {
        self.telling.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_change_wakes_whoever_waits() {
    let watched = watched().await;
    assert_eq!(watched.ask().await, "success SERVING");
    watched.asked().await;
    assert_eq!(watched.ask().await, "success SERVING");
    assert_eq!(watched.target.woken().now_or_never(), None, "nothing has changed");
    watched.telling.status.send_replace(2);
    watched.woken().await;
    assert_eq!(watched.ask().await, "failure not_serving NOT_SERVING");
    watched.telling.status.send_replace(1);
    watched.woken().await;
    assert_eq!(watched.ask().await, "success SERVING");
    assert_eq!((watched.times_asked(), watched.server.connections()), (1, 1));
}

#[tokio::test]
async fn a_change_between_the_answer_and_the_stream_is_not_missed() {
    let watched = watched().await;
    assert_eq!(watched.ask().await, "success SERVING");
    watched.telling.status.send_replace(2);
    watched.woken().await;
}

#[tokio::test]
async fn the_end_of_the_connection_wakes_too() {
    let watched = watched().await;
    assert_eq!(watched.ask().await, "success SERVING");
    watched.asked().await;
    watched.cut.send(()).unwrap();
    watched.woken().await;
    assert_eq!(watched.ask().await, "success SERVING");
    assert_eq!(watched.server.connections(), 2);
}

#[tokio::test]
async fn a_flood_between_two_probes_breaks_the_connection() {
    let (telling, flood) = (telling(), Arc::new(Notify::new()));
    let (service, begins) = (HealthServer::new(telling.clone()), Arc::clone(&flood));
    let server = Server::start(move |stream| {
        let (service, begins) = (service.clone(), Arc::clone(&begins));
        async move {
            let stream = stream.into_std().unwrap();
            let mut beside = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
            let stream = TokioIo::new(TcpStream::from_std(stream).unwrap());
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(stream, TowerToHyperService::new(service));
            let pings = async {
                begins.notified().await;
                let pings = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0".repeat(4096);
                while beside.write_all(&pings).await.is_ok() {}
            };
            drop(tokio::join!(serving, pings));
        }
    })
    .await;
    let target = grpc(json!({ "watch": true }), server.endpoint());
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    timeout(PATIENCE, telling.asked_now.notified()).await.unwrap();
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    flood.notify_one();
    timeout(PATIENCE, target.woken()).await.expect("the connection breaks");
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_server_without_watch_is_asked_as_ever_and_tried_again_later() {
    let watched = watched().await;
    watched.telling.is_absent.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(watched.ask().await, "success SERVING");
    }
    watched.asked().await;
    assert_eq!(watched.ask().await, "success SERVING");
    assert_eq!(watched.target.woken().now_or_never(), None, "it is no news that there is none");
    watched.telling.is_absent.store(false, Ordering::Relaxed);
    pass(Duration::from_secs(590)).await;
    assert_eq!(watched.ask().await, "success SERVING");
    assert_eq!(watched.times_asked(), 1);
    pass(Duration::from_secs(11)).await;
    assert_eq!(watched.ask().await, "success SERVING");
    watched.asked().await;
    watched.telling.status.send_replace(2);
    watched.woken().await;
}

#[tokio::test]
async fn a_stream_that_ends_at_once_is_not_opened_without_pause() {
    let watched = watched().await;
    watched.telling.ends_at_once.store(true, Ordering::Relaxed);
    assert_eq!(watched.ask().await, "success SERVING");
    watched.woken().await;
    for _ in 0..3 {
        assert_eq!(watched.ask().await, "success SERVING");
    }
    assert_eq!(watched.times_asked(), 1);
    pass(Duration::from_secs(10)).await;
    assert_eq!(watched.ask().await, "success SERVING");
    watched.woken().await;
    assert_eq!(watched.times_asked(), 2);
}

#[tokio::test]
async fn the_stream_ends_with_the_target() {
    let Watched { server, telling, target, cut } = watched().await;
    assert_eq!(verdict(&ask(&target).await), "success SERVING");
    timeout(PATIENCE, telling.asked_now.notified()).await.unwrap();
    drop(target);
    timeout(PATIENCE, telling.status.closed()).await.expect("the server's stream ends");
    drop((server, cut));
}

#[tokio::test]
async fn without_watch_nothing_is_kept_open_and_nobody_is_woken() {
    let watched = watched().await;
    let target = grpc(json!({}), watched.server.endpoint());
    for _ in 0..2 {
        assert_eq!(verdict(&ask(&target).await), "success SERVING");
    }
    assert_eq!(watched.times_asked(), 0);
    assert_eq!(target.woken().now_or_never(), None);
}

#[tokio::test]
async fn a_target_without_a_stream_is_held_as_any_other() {
    let watched = watched().await;
    watched.telling.is_absent.store(true, Ordering::Relaxed);
    let network = Network::default();
    assert_eq!(watched.ask().await, "success SERVING");
    let held = network.hold(&watched.target, PATIENCE, PATIENCE).await;
    assert_eq!(held, probe::Held::Expired, "the stream was refused");
    assert!(!watched.target.is_listened_to());
    let before = watched.server.connections();
    let held = network.hold(&watched.target, PATIENCE, PATIENCE);
    let cuts = async {
        while watched.server.connections() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        watched.cut.send_replace(());
    };
    let (held, ()) = tokio::join!(held, cuts);
    assert!(matches!(held, probe::Held::Cut(_)), "{held:?}");
}
