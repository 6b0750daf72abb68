//! The gRPC health service through a client on a real connection.

use tokio::{net::TcpListener, task::JoinSet};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::*;

struct Served {
    rig: Rig,
    client: HealthClient<Channel>,
    tasks: JoinSet<()>,
}

async fn served(rig: Rig) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let (view, limits) = (rig.view.clone(), rig.limits.clone());
    tasks.spawn(super::super::serve::grpc(listener, view, limits, rig.stop.clone()));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let client = HealthClient::new(channel.connect().await.unwrap());
    Served { rig, client, tasks }
}

impl Served {
    async fn check(&mut self, service: &str) -> Result<ServingStatus, Code> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = self.client.check(request).await;
        answer.map(|answer| answer.get_ref().status()).map_err(|refused| refused.code())
    }

    async fn watch(&mut self, service: &str) -> Watched {
        let request = HealthCheckRequest { service: service.to_owned() };
        self.client.watch(request).await.unwrap().into_inner()
    }
}

type Watched = tonic::Streaming<tonic_health::pb::HealthCheckResponse>;

async fn next(watched: &mut Watched) -> ServingStatus {
    watched.message().await.unwrap().unwrap().status()
}

const WEB: &[&str] = &["web web-1 http http://10.0.0.1/", "web a/b http http://10.0.0.2/"];

#[tokio::test]
async fn a_service_serves_while_one_instance_does() {
    let mut served = served(Rig::new(WEB).await).await;
    assert_eq!(served.check("web").await, Ok(ServingStatus::Unknown));
    served.rig.fail("web-1");
    assert_eq!(served.check("web").await, Ok(ServingStatus::NotServing));
    served.rig.observe("a/b", Outcome::Warning(Reason::Status), Answer::Http(429));
    assert_eq!(served.check("web").await, Ok(ServingStatus::Serving));
    assert_eq!(served.check("web/web-1").await, Ok(ServingStatus::NotServing));
    assert_eq!(served.check("web/a/b").await, Ok(ServingStatus::Serving));
    for unknown in ["other", "other/web-1", "web/", "/web-1"] {
        assert_eq!(served.check(unknown).await, Err(Code::NotFound), "{unknown}");
    }
    served.rig.view.registry.maintain_node(Some("test".into())).await;
    assert_eq!(served.check("web").await, Ok(ServingStatus::NotServing));
}

#[tokio::test]
async fn the_empty_name_is_the_daemon_itself() {
    let mut served = served(Rig::new(&[]).await).await;
    assert_eq!(served.check("").await, Ok(ServingStatus::Serving));
    served.rig.readiness.send_replace(Readiness::Stopping);
    assert_eq!(served.check("").await, Ok(ServingStatus::NotServing));
}

#[tokio::test]
async fn a_watch_of_what_is_not_there_waits_for_it() {
    let mut served = served(Rig::new(&[]).await).await;
    let mut told = served.watch("web").await;
    assert_eq!(next(&mut told).await, ServingStatus::ServiceUnknown);
    served.rig.register(WEB).await;
    assert_eq!(next(&mut told).await, ServingStatus::Unknown);
    served.rig.pass("web-1");
    assert_eq!(next(&mut told).await, ServingStatus::Serving);
    // No news of the service: not told.
    served.rig.fail("a/b");
    served.rig.register(&[]).await;
    assert_eq!(next(&mut told).await, ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn a_watch_tells_each_change_of_what_it_watches() {
    let mut served = served(Rig::new(WEB).await).await;
    let mut daemon = served.watch("").await;
    let mut service = served.watch("web").await;
    let mut instance = served.watch("web/web-1").await;
    assert_eq!(next(&mut daemon).await, ServingStatus::Serving);
    assert_eq!(next(&mut service).await, ServingStatus::Unknown);
    assert_eq!(next(&mut instance).await, ServingStatus::Unknown);
    served.rig.fail("web-1");
    assert_eq!(next(&mut service).await, ServingStatus::NotServing);
    assert_eq!(next(&mut instance).await, ServingStatus::NotServing);
    served.rig.pass("a/b");
    assert_eq!(next(&mut service).await, ServingStatus::Serving);
    served.rig.pass("web-1");
    assert_eq!(next(&mut instance).await, ServingStatus::Serving);
    served.rig.readiness.send_replace(Readiness::Stopping);
    assert_eq!(next(&mut daemon).await, ServingStatus::NotServing);
}

#[tokio::test]
async fn a_watch_ends_when_the_daemon_stops() {
    let mut served = served(Rig::new(&[]).await).await;
    let mut told = served.watch("").await;
    assert_eq!(next(&mut told).await, ServingStatus::Serving);
    served.rig.stop.cancel();
    assert_eq!(told.message().await.unwrap_err().code(), Code::Unavailable);
    drop((told, served.client));
    let ended = tokio::time::timeout(Duration::from_secs(5), served.tasks.join_next()).await;
    ended.expect("the listener ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_asks_too_much_is_refused() {
    let mut rig = Rig::new(&[]).await;
    rig.limits.requests_per_second = NonZeroU32::MIN;
    rig.limits.request_burst = NonZeroU32::MIN;
    let mut served = served(rig).await;
    assert_eq!(served.check("").await, Ok(ServingStatus::Serving));
    assert_eq!(served.check("").await, Err(Code::ResourceExhausted));
}
