//! The HTTP API's routes, and the daemon's own: health, readiness, reload, metrics.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    handler::Handler,
    middleware,
    response::{IntoResponse, Response},
    routing::{self, MethodRouter},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Limits, Readiness, View, consul, exposition, guard, idempotency, native};
use crate::{build, store::Unwritten};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What every handler gets.
#[derive(Debug)]
pub(super) struct App {
    pub(super) view: View,
    pub(super) rate: guard::Rate,
    pub(super) waiters: consul::read::Waiters,
    pub(super) kept: consul::read::Kept,
    pub(super) fired: consul::event::Fired,
    pub(super) answers: Arc<idempotency::Answers>,
    pub(super) stop: CancellationToken,
}

impl App {
    pub(super) fn new(view: View, limits: &Limits, stop: CancellationToken) -> Self {
        Self {
            waiters: consul::read::Waiters::new(limits, &view.metrics),
            view,
            rate: guard::Rate::new(limits),
            kept: consul::read::Kept::default(),
            fired: consul::event::Fired::default(),
            answers: Arc::default(),
            stop,
        }
    }
}

/// An answer that is no success: a status and a text for people.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), header: None }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// What clients ask that Consul answers with 500, though nothing is wrong with the daemon.
    pub(super) fn failed(error: &impl std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    /// The text for people.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let header = Some((header::RETRY_AFTER, HeaderValue::from(seconds.max(1))));
        let text = "too many requests; slow down".to_owned();
        Self { status: StatusCode::TOO_MANY_REQUESTS, text, header }
    }
}

impl From<Unwritten> for Refusal {
    fn from(unwritten: Unwritten) -> Self {
        let text = format!("{unwritten}: {}", unwritten.cause());
        error!(error = text, "Change not written");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(header::CONTENT_TYPE, TEXT)], self.text).into_response();
        response.headers_mut().extend(self.header);
        response
    }
}

/// The whole HTTP API.
pub(super) fn router(view: View, limits: &Limits, stop: CancellationToken) -> Router {
    let app = Arc::new(App::new(view, limits, stop));
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(async || "rollcall is alive\n"))
        .route("/-/ready", get(ready))
        .route("/-/reload", only("OPTIONS,PUT,POST", routing::put(reload).post(reload)))
        .merge(native::routes())
        .merge(consul::routes())
        .fallback(unknown)
        // Together, for each layer is boxed anew with every request.
        .layer((
            middleware::from_fn_with_state(Arc::clone(&app), guard::guard),
            DefaultBodyLimit::max(guard::MAX_BODY),
        ))
        .with_state(app)
}

/// A route that is read.
pub(super) fn get<H, T>(handler: H) -> MethodRouter<Arc<App>>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    only("OPTIONS,GET", routing::get(handler))
}

/// A route that is written to.
pub(super) fn put<H, T>(handler: H) -> MethodRouter<Arc<App>>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    only("OPTIONS,PUT", routing::put(handler))
}

/// A route that is written to with bodies as large as the largest value of a key.
pub(super) fn put_large<H, T>(handler: H) -> MethodRouter<Arc<App>>
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    put(handler).layer(DefaultBodyLimit::max(guard::MAX_VALUE))
}

/// Answers other methods as Consul does: `OPTIONS` with what is allowed, the rest with 405.
pub(super) fn only(allow: &'static str, route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    route.fallback(async move |method: Method| {
        let allow = [(header::ALLOW, HeaderValue::from_static(allow))];
        if method == Method::OPTIONS {
            return (allow, ()).into_response();
        }
        let text = format!("method {method} not allowed");
        (allow, Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text)).into_response()
    })
}

async fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no such page; GET / lists what there is\n")
}

async fn index(State(app): State<Arc<App>>) -> String {
    const PATHS: &[(&str, &str)] = &[
        ("/metrics", "metrics for Prometheus"),
        ("/-/healthy", "200 while the daemon lives"),
        ("/-/ready", "200 while the daemon is ready, else 503"),
        ("/-/reload", "PUT or POST: read the configuration again"),
        (native::SERVICES, "all services, instances and checks"),
        ("/v1/rollcall/explain/ID", "why a check, or all of an instance, is as it is"),
        (
            "/v1/rollcall/probe/ID",
            "PUT or POST: asks the target of a check now, and keeps nothing of it",
        ),
        (native::EVENTS, "the last changes of status; live as text/event-stream"),
        (
            native::SELF,
            "whether the daemon trusts itself: score, symptoms, descriptors, ports, canary, anchors",
        ),
        ("/v1/health/service/NAME", "the instances of a service; ?passing: those to use"),
        ("/v1/health/checks/NAME", "the checks of a service"),
        ("/v1/health/node/NODE", "the checks of a node"),
        ("/v1/health/state/STATE", "the checks in a state: any, passing, warning, critical"),
        ("/v1/catalog/services", "the names of all services"),
        ("/v1/catalog/service/NAME", "the instances of a service, without their checks"),
        ("/v1/catalog/nodes", "all nodes"),
        ("/v1/catalog/node/NODE", "a node with its instances"),
        ("/v1/catalog/register", "PUT: what others answer for; deregister: removes it"),
        (
            "/v1/agent/service/register",
            "PUT: an instance with its checks; deregister/ID: removes it",
        ),
        ("/v1/agent/check/register", "PUT: a check; pass/ID, warn/ID, fail/ID: its result by TTL"),
        ("/v1/agent/checks", "the checks registered here"),
        ("/v1/agent/services", "the instances registered here"),
        ("/v1/agent/service/ID", "one of them"),
        ("/v1/agent/health/service/id/ID", "its health by the status of the answer"),
        ("/v1/agent/self", "this node"),
        ("/v1/agent/members", "this node as a member of its cluster"),
        ("/v1/agent/maintenance", "PUT ?enable=true|false&reason=: the whole node out, or back"),
        ("/v1/agent/service/maintenance/ID", "the same for one instance"),
        ("/v1/kv/KEY", "PUT, GET, DELETE: keys and values; ?recurse, ?keys, ?cas=, ?acquire="),
        ("/v1/session/create", "PUT: a session to hold locks with; also renew, destroy, list"),
        ("/v1/txn", "PUT: several operations, all or none"),
        ("/v1/event/list", "user events; PUT /v1/event/fire/NAME fires one"),
        ("/v1/agent/leave", "PUT: stops the daemon"),
        ("/v1/status/leader", "this node's address"),
    ];
    let View { node_name, started, .. } = &app.view;
    let head = format!("rollcall {} on {node_name}, up since {started}\n\n", build::VERSION);
    let lines = PATHS.iter().map(|(path, meaning)| format!("{path:<32} {meaning}\n"));
    head + &lines.collect::<String>()
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let unready = |text| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    let readiness = *app.view.readiness.borrow();
    match readiness {
        Readiness::Ready => "rollcall is ready\n".into_response(),
        Readiness::Starting => unready("starting: not every source has been listed yet\n"),
        Readiness::Stopping => unready("stopping\n"),
    }
}

async fn reload(State(app): State<Arc<App>>) -> Result<String, Refusal> {
    let report = app.view.reload.reload().await;
    report.map_err(|text| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text))
}

async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    exposition::answer(&app.view, &headers)
}
