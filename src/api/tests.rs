//! The API over a registry whose probes the tests make up.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use futures_util::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;
use crate::tasks::Tasks;
use crate::{
    agent::pushed::Engine,
    judge::{Machine, Maintenance, Thresholds, Verdict},
    model::{Answer, Observation, Outcome, Pace, Phase, Phases, Reason, Schedule, Serving},
    monitor::Monitor,
    probe::{self, Probe},
    publish,
    registry::{
        Assigned, Check, Definition, Instance, Order, Orders, Registration, snapshot::Snapshot,
    },
    store::{Unwritten, row::Note},
    telemetry::Streams,
};

mod accepted;
mod agent;
mod catalog;
mod consul;
mod events;
mod explain;
mod filter;
mod fired;
mod grpc;
mod idempotency;
mod index;
mod kv;
mod metrics;
mod probing;
mod register;
mod routes;
mod serve;
mod session;
mod strange;
mod txn;

/// A view whose other ends the test holds.
struct Rig {
    view: View,
    monitor: Monitor,
    orders: mpsc::Receiver<Vec<Order>>,
    readiness: watch::Sender<Readiness>,
    reloads: ReloadRequests,
    keeper: Option<crate::leases::Keeper>,
    limits: Limits,
    stop: CancellationToken,
    _tasks: Tasks,
}

/// An answer with its body read.
struct Answered {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

impl Rig {
    /// `service instance check url` each.
    async fn new(instances: &[&str]) -> Self {
        let rig = Self::bare();
        rig.view.agent.start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        rig.register(instances).await;
        rig
    }

    /// Over a store without anything, not even our own node.
    fn bare() -> Self {
        let (sender, orders) = mpsc::channel(1000);
        let (pushed, told) = mpsc::channel(1000);
        let (reload, reloads) = reload_channel();
        let registry =
            Arc::new(Registry::new(Snapshot::default(), Orders { probed: sender, pushed }));
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let store = Arc::new(Store::in_memory());
        let put = store.write(|tx| Ok::<_, Unwritten>(tx.put(node_id())));
        put.now_or_never().unwrap().unwrap();
        let metrics = crate::metrics::Daemon::new();
        let events = event::Log::new(100);
        let (agent, heard) = Agent::new(
            "node-1".into(),
            Arc::clone(&store),
            Arc::clone(&registry),
            (metrics.clone(), events.clone()),
        );
        // What is published is what is observed, and nothing is told beside that.
        let off = publish::guard::Config { enabled: false, ..Default::default() };
        let never = publish::damping::Config { suppress: u32::MAX, ..Default::default() };
        agent.brake_by(off, never);
        let agent = Arc::new(agent);
        let (leases, keeper) = crate::leases::leases(Arc::clone(&store), metrics.clone());
        let view = View {
            agent: Arc::clone(&agent),
            store,
            leases,
            node_name: "node-1".into(),
            node_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            registry: Arc::clone(&registry),
            events,
            log: Streams::default(),
            metrics,
            doubt: Doubt::default(),
            asking: Asking::new(|_, _| Box::pin(std::future::pending())),
            metrics_config: crate::metrics::Config::default(),
            readiness: ready,
            leave: CancellationToken::new(),
            reload,
            started: Timestamp::from_seconds(1_795_183_200),
        };
        let monitor = Monitor::new(registry, view.events.clone(), view.metrics.clone());
        let mut tasks = Tasks::default();
        let stop = CancellationToken::new();
        let engine = Engine::new(Arc::clone(&view.agent), monitor.clone());
        tasks.spawn("heartbeats", engine.run(told, heard, stop.clone()));
        Self {
            monitor,
            _tasks: tasks,
            view,
            orders,
            readiness,
            reloads,
            keeper: Some(keeper),
            limits: Limits::default(),
            stop,
        }
    }

    async fn register(&self, instances: &[&str]) {
        let registrations = instances.iter().map(|text| registration(text)).collect();
        self.view.agent.configure(registrations).await;
    }

    fn router(&self) -> Router {
        router::router(self.view.clone(), &self.limits, self.stop.clone())
    }

    async fn ask(&self, method: Method, uri: &str) -> Answered {
        let request = Request::builder().method(method).uri(uri);
        answered(self.router(), request.body(Body::empty()).unwrap()).await
    }

    async fn get(&self, uri: &str) -> Answered {
        self.ask(Method::GET, uri).await
    }

    async fn put(&self, uri: &str, body: impl AsRef<[u8]>) -> Answered {
        let request = Request::put(uri).body(Body::from(body.as_ref().to_owned()));
        answered(self.router(), request.unwrap()).await
    }

    /// Registers with the catalog what must be taken.
    async fn catalog(&self, body: Value) {
        let answer = self.put("/v1/catalog/register", &body.to_string()).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, "true"));
    }

    /// The index of the last change.
    fn index(&self) -> u64 {
        self.view.store.read().index()
    }

    fn check(&self, instance: &str) -> Arc<Check> {
        Arc::clone(&self.view.registry.instance(instance).unwrap().checks[0])
    }

    /// Lets a probe of the first check of an instance end like this.
    fn observe(&self, instance: &str, outcome: Outcome, answer: Answer) {
        let check = self.check(instance);
        let facts = check.slot.read();
        let mut machine = Machine::restore(facts.verdict, facts.streak, Maintenance::Off);
        self.monitor.observe(&check, &mut machine, observation(outcome, answer));
        let changed = self.view.registry.news().take_changed();
        self.view.agent.tell(changed).now_or_never().unwrap().unwrap();
    }

    fn pass(&self, instance: &str) {
        self.observe(instance, Outcome::Success, Answer::Http(200));
    }

    fn fail(&self, instance: &str) {
        self.observe(instance, Outcome::Failure(Reason::ConnectionRefused), Answer::None);
    }

    /// Does what the scheduler does with the operators' words.
    fn obey(&mut self) {
        while let Ok(orders) = self.orders.try_recv() {
            for order in orders {
                if let Order::Maintain { key, maintenance, reason } = order {
                    let check = self.check(key.instance.as_str());
                    let facts = check.slot.read();
                    let before = if facts.status == crate::model::Status::Maintenance {
                        Maintenance::On
                    } else {
                        Maintenance::Off
                    };
                    let mut machine = Machine::restore(facts.verdict, facts.streak, before);
                    self.monitor.maintain(&check, &mut machine, maintenance, reason);
                }
            }
        }
    }
}

impl Answered {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The note by which our node has the same id in every test.
fn node_id() -> Note {
    let text = "e696ecc2-2078-89c3-9b08-af0eece84688".into();
    Note { name: "node-id".into(), text, ..Note::default() }
}

async fn answered(router: Router, request: Request<Body>) -> Answered {
    let response = router.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answered { status: head.status, headers: head.headers, body }
}

fn registration(text: &str) -> Registration {
    let words: Vec<_> = text.split(' ').collect();
    let [service, id, check, url] = words[..] else { panic!("{text}") };
    let (spec, endpoint) = probe::parse_url(url).unwrap();
    let one = NonZeroU32::MIN;
    let definition = Definition {
        id: check.parse().unwrap(),
        name: None,
        notes: Some("a note".into()),
        probe: Arc::new(Probe::prepare(&spec).unwrap()),
        schedule: Schedule {
            interval: Duration::from_secs(90),
            timeout: Duration::from_millis(500),
            jitter: 0.0,
            initial_delay: Duration::ZERO,
            pace: Pace::default(),
        },
        thresholds: Thresholds::new(one, one, one).unwrap(),
        slo_objective: 0.99,
    };
    Registration {
        instance: Instance {
            id: id.parse().unwrap(),
            service: service.parse().unwrap(),
            endpoint,
            tags: ["Blue".into()].into(),
            meta: Arc::new([("team".into(), "shop".into())].into()),
        },
        checks: vec![Assigned {
            definition: definition.into(),
            endpoint: None,
            consul_id: None,
            initial: Verdict::Unknown,
        }],
    }
}

fn observation(outcome: Outcome, answer: Answer) -> Observation {
    let mut phases = Phases::default();
    phases.add(Phase::Connect, Duration::from_millis(2));
    let started = Timestamp::from_seconds(1_795_183_201);
    Observation {
        phases,
        answer,
        peer: Some(SocketAddr::from(([10, 0, 0, 1], 80))),
        detail: outcome.reason().map(|reason| format!("GET it: {reason}").into()),
        ..Observation::new(started, Duration::from_millis(12), outcome)
    }
}
