//! What stands before every handler: the rate limit, the size limit, the panic net, the counting.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::DefaultKeyedStateStore,
};
use http::{Method, StatusCode, header};
use tokio::time::Instant;
use tracing::error;

use super::{
    Limits, idempotency, native,
    router::{App, Refusal},
    serve::Peer,
};

/// Largest body of a request that has no [limit](max_body) of its own.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Largest value of a key, and largest transaction: Consul's limit. So large may registrations be as
/// well, and what is said of a check: its output is cut, not refused.
pub(super) const MAX_VALUE: usize = 512 * 1024;

/// Clients remembered are gone through after so many requests, so that those whose allowance is
/// full again are forgotten: the table then holds no more than the clients of a burst.
const SWEEP_EVERY: u32 = 4096;

/// Lets each client make so many requests a second.
#[derive(Debug)]
pub(super) struct Rate {
    limiter: RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, DefaultClock>,
    clock: DefaultClock,
    requests: AtomicU32,
}

impl Rate {
    pub(super) fn new(limits: &Limits) -> Self {
        let quota = Quota::per_second(limits.requests_per_second).allow_burst(limits.request_burst);
        Self {
            limiter: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            requests: AtomicU32::new(0),
        }
    }

    /// Takes one request of a client's allowance, or says how long to wait for it.
    pub(super) fn take(&self, peer: Peer) -> Result<(), Duration> {
        if self.requests.fetch_add(1, Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter
            .check_key(&client(peer.0))
            .map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// Whom an address stands for: an IPv6 client owns a whole /64.
fn client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

/// The route a request matched, as its metrics name it.
fn handler(matched: Option<&MatchedPath>) -> Cow<'_, str> {
    match matched.map(MatchedPath::as_str) {
        None => "unmatched".into(),
        Some(path) if path.contains('*') => path.replace("{*", "{").into(),
        Some(path) => path.into(),
    }
}

/// Requests that must be answered also when a client asks too much: the daemon's own health, and
/// signs of life. All programs of a machine share one address, and one that asks too much must not
/// let the heartbeats and the locks of the others expire.
fn is_exempt(handler: &str) -> bool {
    matches!(
        handler,
        "/-/healthy"
            | "/-/ready"
            | "/metrics"
            | "/v1/agent/check/pass/{id}"
            | "/v1/agent/check/warn/{id}"
            | "/v1/agent/check/fail/{id}"
            | "/v1/agent/check/update/{id}"
            | "/v1/session/renew/{id}"
    )
}

/// The largest body that a route takes.
fn max_body(handler: &str) -> usize {
    match handler {
        "/v1/kv/{key}"
        | "/v1/txn"
        | "/v1/agent/check/register"
        | "/v1/agent/check/update/{id}"
        | "/v1/agent/service/register"
        | "/v1/catalog/register"
        | native::REGISTER => MAX_VALUE,
        _ => MAX_BODY,
    }
}

/// A method as a metric label, which is a closed set.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [(&Method, &str); 7] = [
        (&Method::GET, "GET"),
        (&Method::HEAD, "HEAD"),
        (&Method::PUT, "PUT"),
        (&Method::POST, "POST"),
        (&Method::DELETE, "DELETE"),
        (&Method::PATCH, "PATCH"),
        (&Method::OPTIONS, "OPTIONS"),
    ];
    KNOWN.iter().find(|(known, _)| *known == method).map_or("other", |(_, label)| label)
}

/// The middleware round every route, and round the answer to unknown paths.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let handler = handler(matched.as_ref());
    let method = method_label(request.method());
    let response = match admit(&app, &handler, &request) {
        Ok(()) => answer(&app, &handler, request, next).await,
        Err(refusal) => refusal.into_response(),
    };
    let code = response.status();
    app.view.metrics.http_requests.with_label_values(&[&*handler, method, code.as_str()]).inc();
    let took = started.elapsed().as_secs_f64();
    app.view.metrics.http_duration.with_label_values(&[&*handler]).observe(took);
    response
}

fn admit(app: &App, handler: &str, request: &Request) -> Result<(), Refusal> {
    if let Some(peer) = request.extensions().get::<Peer>()
        && !is_exempt(handler)
    {
        app.rate.take(*peer).map_err(Refusal::too_many)?;
    }
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let most = max_body(handler);
    if length.is_some_and(|length| length > most as u64) {
        let text = format!("the body is larger than {most} bytes");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    Ok(())
}

/// Runs the handler. Its panic is this request's loss only.
async fn answer(app: &App, handler: &str, request: Request, next: Next) -> Response {
    let answer = idempotency::idempotent(&app.answers, request, next);
    if let Ok(response) = AssertUnwindSafe(answer).catch_unwind().await {
        return response;
    }
    // The panic's own message and place have been logged by the panic hook.
    error!(handler, "Answering a request panicked");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_clients_share_the_allowance_of_their_network() {
        let limits = Limits {
            requests_per_second: 1.try_into().unwrap(),
            request_burst: 2.try_into().unwrap(),
            ..Limits::default()
        };
        let rate = Rate::new(&limits);
        let take = |ip: &str| rate.take(Peer(ip.parse().unwrap()));
        assert_eq!(take("2001:db8::1"), Ok(()));
        assert_eq!(take("2001:db8::2"), Ok(()));
        assert!(take("2001:db8::3").unwrap_err() <= Duration::from_secs(1));
        assert_eq!(take("2001:db8:0:1::1"), Ok(()));
        assert_eq!(take("127.0.0.1"), Ok(()));
    }

    #[test]
    fn clients_that_have_gone_are_forgotten() {
        let limits = Limits {
            requests_per_second: 1_000_000.try_into().unwrap(),
            request_burst: 1.try_into().unwrap(),
            ..Limits::default()
        };
        let rate = Rate::new(&limits);
        for n in 0..3 * SWEEP_EVERY {
            assert_eq!(rate.take(Peer(IpAddr::from(n.to_be_bytes()))), Ok(()));
        }
        assert!(rate.limiter.len() <= SWEEP_EVERY as usize, "{}", rate.limiter.len());
    }
}
