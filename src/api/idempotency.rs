//! Requests that are made again are answered as the first time, and nothing is done again.
//!
//! A client that has not seen the answer of a write asks once more under the same name: an
//! `Idempotency-Key`, which stands for one request and no other, or, where something is
//! registered, an `X-Request-Id`. What is begun is finished, also if the client goes away
//! meanwhile; who asks again then waits for it.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest as _, Request},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use tokio::{sync::watch, time::Instant};

use super::{consul::register::token, native, params::Params, router::Refusal};
use crate::tasks;

/// How long an answer is remembered.
const LIFE: Duration = Duration::from_secs(300);

/// Most answers remembered; the oldest go.
const MAX_ANSWERS: usize = 10_000;

/// Most bytes of bodies remembered; the oldest go.
const MAX_BYTES: usize = 16 << 20;

/// Largest body that is remembered.
const MAX_BODY: u64 = 64 << 10;

/// Longest name of a request.
const MAX_NAME: usize = 255;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Where a request id names a request: what many clients send without a thought must not bring
/// back the answer of another kind of write.
const REGISTRATIONS: [&str; 4] = [
    native::REGISTER,
    "/v1/agent/service/register",
    "/v1/agent/check/register",
    "/v1/catalog/register",
];

/// The name of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    /// A hash of the client's token; zero if it has none.
    token: u64,
    text: Box<[u8]>,
    /// A hash of the request, where the text alone does not name it.
    request: Option<u64>,
}

/// An answer that is given again.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    kind: Option<HeaderValue>,
    body: Bytes,
}

impl Answer {
    fn response(&self) -> Response {
        let mut response = (self.status, self.body.clone()).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        headers.extend(self.kind.clone().map(|kind| (header::CONTENT_TYPE, kind)));
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// The answers remembered, and the requests under way.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: Mutex<Kept>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Name, Entry>,
    /// Those that are answered, the oldest first.
    order: VecDeque<(Instant, Name)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// A hash of the request.
    request: u64,
    state: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Under way; the other end goes when it is not any more.
    Running(watch::Receiver<()>),
    Done(Arc<Answer>),
}

/// What is to become of a request.
enum Begun {
    /// It is the first.
    First(Running),
    /// The first is under way.
    Wait(watch::Receiver<()>),
    /// The first is answered.
    Again(Arc<Answer>),
    /// The name is another request's.
    Taken,
}

/// A request under way, from its beginning until its answer is remembered or will not be.
#[derive(Debug)]
struct Running {
    answers: Arc<Answers>,
    name: Name,
    answer: Option<Arc<Answer>>,
    _ended: watch::Sender<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut kept = self.answers.lock();
        match self.answer.take() {
            Some(answer) => kept.keep(&self.name, answer),
            None => drop(kept.entries.remove(&self.name)),
        }
    }
}

impl Running {
    /// Takes down what is answered, if it is to be given again.
    async fn answered(mut self, response: Response) -> Response {
        let (status, size) = (response.status(), response.body().size_hint().exact());
        let is_final = !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS;
        if !is_final || size.is_none_or(|size| size > MAX_BODY) {
            return response;
        }
        let (head, body) = response.into_parts();
        let Ok(body) = to_bytes(body, usize::MAX).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let kind = head.headers.get(header::CONTENT_TYPE).cloned();
        self.answer = Some(Arc::new(Answer { status, kind, body: body.clone() }));
        Response::from_parts(head, Body::from(body))
    }
}

impl Answers {
    fn begin(self: &Arc<Self>, name: &Name, request: u64) -> Begun {
        let mut kept = self.lock();
        kept.forget_before(Instant::now());
        match kept.entries.get(name) {
            Some(entry) if entry.request != request => Begun::Taken,
            Some(Entry { state: Stage::Done(answer), .. }) => Begun::Again(Arc::clone(answer)),
            Some(Entry { state: Stage::Running(ended), .. }) => Begun::Wait(ended.clone()),
            None => {
                let (ended, end) = watch::channel(());
                let entry = Entry { request, state: Stage::Running(end) };
                kept.entries.insert(name.clone(), entry);
                let (answers, name) = (Arc::clone(self), name.clone());
                Begun::First(Running { answers, name, answer: None, _ended: ended })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, name: &Name, answer: Arc<Answer>) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.bytes += answer.body.len();
        entry.state = Stage::Done(answer);
        self.order.push_back((Instant::now(), name.clone()));
        while self.order.len() > MAX_ANSWERS || self.bytes > MAX_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_before(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= LIFE) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, name)) = self.order.pop_front() else { return };
        if let Some(Entry { state: Stage::Done(answer), .. }) = self.entries.remove(&name) {
            self.bytes -= answer.body.len();
        }
    }
}

/// Answers a request; a write that has a name is done once.
pub(super) async fn idempotent(answers: &Arc<Answers>, request: Request, next: Next) -> Response {
    if ![Method::PUT, Method::POST, Method::DELETE].contains(request.method()) {
        return next.run(request).await;
    }
    let done = match text(request.method(), request.uri().path(), request.headers()) {
        Ok(None) => Ok(tasks::finish(next.run(request)).await),
        Ok(Some((text, is_key))) => once(answers, (text, is_key), request, next).await,
        Err(refusal) => Err(refusal),
    };
    done.unwrap_or_else(Refusal::into_response)
}

/// What names a request, and whether it stands for no other request.
type Text = (Box<[u8]>, bool);

/// What names a request, if anything does.
fn text(method: &Method, path: &str, headers: &HeaderMap) -> Result<Option<Text>, Refusal> {
    let fits = |text: &&HeaderValue| (1..=MAX_NAME).contains(&text.len());
    if let Some(key) = headers.get(KEY) {
        let key = Some(key).filter(fits).ok_or_else(|| {
            Refusal::bad(format!("Idempotency-Key must have 1 to {MAX_NAME} characters"))
        })?;
        return Ok(Some((key.as_bytes().into(), true)));
    }
    if *method != Method::PUT || !REGISTRATIONS.contains(&path) {
        return Ok(None);
    }
    let id = headers.get(REQUEST_ID).filter(fits);
    Ok(id.map(|id| (id.as_bytes().into(), false)))
}

/// Does a request, or gives the answer it had.
async fn once(
    answers: &Arc<Answers>,
    (text, is_key): Text,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let body = match Bytes::from_request(Request::from_parts(head.clone(), body), &()).await {
        Ok(body) => body,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let place = head.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    let hash = answers.hasher.hash_one((&head.method, place, &body));
    let token = token(&Params::parse(head.uri.query()), &head.headers);
    let name = Name { token, text, request: (!is_key).then_some(hash) };
    let running = loop {
        match answers.begin(&name, hash) {
            Begun::First(running) => break running,
            // It ends when the first goes, whatever came of it.
            Begun::Wait(mut ended) => drop(ended.changed().await),
            Begun::Again(answer) => return Ok(answer.response()),
            Begun::Taken => {
                let text = "this Idempotency-Key was used for another request less than 5 minutes \
                            ago; a new request needs a new key";
                return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text));
            }
        }
    };
    let request = Request::from_parts(head, Body::from(body));
    Ok(tasks::finish(async move { running.answered(next.run(request).await).await }).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(answers: &Arc<Answers>, text: &str, size: usize) {
        let Begun::First(mut running) = answers.begin(&name(text), 0) else { panic!("{text}") };
        let body = vec![b'x'; size].into();
        running.answer = Some(Arc::new(Answer { status: StatusCode::OK, kind: None, body }));
    }

    fn name(text: &str) -> Name {
        Name { token: 0, text: text.as_bytes().into(), request: None }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answers_go_when_there_are_too_many() {
        let answers = Arc::new(Answers::default());
        let Begun::First(_running) = answers.begin(&name("running"), 0) else { panic!() };
        for n in 0..=MAX_ANSWERS {
            answer(&answers, &n.to_string(), 1);
        }
        assert!(matches!(answers.begin(&name("1"), 0), Begun::Again(_)));
        assert!(matches!(answers.begin(&name("running"), 0), Begun::Wait(_)));
        assert!(matches!(answers.begin(&name("0"), 0), Begun::First(_)));
        let kept = answers.lock();
        assert_eq!((kept.order.len(), kept.bytes), (MAX_ANSWERS, MAX_ANSWERS));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answers_go_when_they_are_too_large() {
        let answers = Arc::new(Answers::default());
        for text in ["a", "b", "c"] {
            answer(&answers, text, MAX_BYTES / 2);
        }
        assert!(matches!(answers.begin(&name("b"), 0), Begun::Again(_)));
        assert!(matches!(answers.begin(&name("a"), 0), Begun::First(_)));
        assert_eq!(answers.lock().bytes, MAX_BYTES);
    }
}
