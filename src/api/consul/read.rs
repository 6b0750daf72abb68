//! Reads with an index: answered at once, or held until what they show has changed.
//!
//! An answer is made and encoded once for all who ask the same at the same index, so that a change
//! costs each waiting client no more than the sending. A client whose index is from the future,
//! as after a restart from a lost disk, is answered at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::{DATACENTER, DEFAULT_POLICY};
use crate::{
    api::{
        Limits,
        params::Params,
        router::{App, Refusal},
        serve::Peer,
    },
    clock,
    store::{Index, Seen, Tables, Topic},
};

/// Most bytes of answers kept for those who ask the same; all are forgotten when there are more.
const KEPT_BYTES: usize = 32 * 1024 * 1024;

/// Parameters that do not bear on what an answer says.
const BESIDE_THE_POINT: &[&str] =
    &["index", "wait", "token", "stale", "consistent", "leader", "cached", "max_stale", "dc"];

/// What a request asks for, without its body.
#[derive(Debug)]
pub(in crate::api) struct Asked {
    pub(super) params: Params,
    /// As sent, without the query.
    path: String,
    peer: Option<IpAddr>,
    cache_control: Option<HeaderValue>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self {
            params: Params::parse(parts.uri.query()),
            path: parts.uri.path().to_owned(),
            peer: parts.extensions.get::<Peer>().map(|peer| peer.0),
            cache_control: parts.headers.get(header::CACHE_CONTROL).cloned(),
        })
    }
}

impl Asked {
    /// Whom it counts for.
    pub(super) fn client(&self) -> IpAddr {
        self.peer.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into())
    }

    /// Refuses what cannot be meant. What is answered is always fresh, so that how old it may be
    /// does not matter.
    fn vet(&self) -> Result<(), Refusal> {
        self.params.vet_read(DATACENTER)?;
        let Some(wishes) = &self.cache_control else { return Ok(()) };
        let wishes = wishes.to_str().unwrap_or_default().to_ascii_lowercase();
        let is_wrong = wishes.split(',').any(|wish| match wish.trim().split_once('=') {
            Some(("max-age" | "stale-if-error", seconds)) => seconds.parse::<u64>().is_err(),
            Some(_) | None => false,
        });
        if is_wrong { Err(Refusal::bad("Invalid Cache-Control header.")) } else { Ok(()) }
    }

    /// The same for all requests that get the same answer at the same index.
    fn point(&self) -> String {
        let mut point = self.path.clone();
        for (name, value) in self.params.iter().filter(|(name, _)| !BESIDE_THE_POINT.contains(name))
        {
            point.extend(["\0", name, "\0", value]);
        }
        point
    }
}

/// An answer, encoded.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: HeaderValue,
    pub(super) body: Bytes,
    /// What was asked for is not there: as long as it stays so, nobody is woken.
    pub(super) absent: bool,
}

impl Answer {
    /// A value as JSON.
    pub(super) fn json(params: &Params, value: &impl Serialize) -> Self {
        let content_type = HeaderValue::from_static("application/json");
        let body = super::encode(params, value).into();
        Self { status: StatusCode::OK, content_type, body, absent: false }
    }

    /// Bytes as they are.
    pub(super) fn raw(body: Bytes) -> Self {
        let content_type = HeaderValue::from_static("text/plain");
        Self { status: StatusCode::OK, content_type, body, absent: false }
    }

    /// 404 without a text.
    pub(super) fn nothing() -> Self {
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        let (status, body) = (StatusCode::NOT_FOUND, Bytes::new());
        Self { status, content_type, body, absent: true }
    }

    /// The same, of something that is not there.
    pub(super) fn absent(self) -> Self {
        Self { absent: true, ..self }
    }
}

/// Answers by what they answer.
#[derive(Debug, Default)]
pub(in crate::api) struct Kept(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    answers: HashMap<String, (Index, Answer), foldhash::fast::RandomState>,
    bytes: usize,
}

impl Kept {
    fn get(&self, point: &str, index: Index) -> Option<Answer> {
        let kept = self.lock();
        let (at, answer) = kept.answers.get(point)?;
        (*at == index).then(|| answer.clone())
    }

    fn put(&self, point: &str, index: Index, answer: &Answer) {
        let mut kept = self.lock();
        let size = |answer: &Answer| answer.body.len() + point.len();
        kept.bytes += size(answer);
        if kept.bytes > KEPT_BYTES {
            *kept = Shelf { bytes: size(answer), ..Shelf::default() };
        }
        if let Some((_, old)) = kept.answers.insert(point.to_owned(), (index, answer.clone())) {
            kept.bytes = kept.bytes.saturating_sub(size(&old));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bounds how many requests are held, in all and of one client.
#[derive(Debug)]
pub(in crate::api) struct Waiters {
    held: Mutex<HashMap<IpAddr, u32>>,
    most: u32,
    most_per_client: u32,
}

/// A place among those held.
#[derive(Debug)]
pub(super) struct Place<'a> {
    waiters: &'a Waiters,
    client: IpAddr,
}

impl Waiters {
    pub(in crate::api) fn new(limits: &Limits) -> Self {
        let (most, most_per_client) =
            (limits.max_waiters.get(), limits.max_waiters_per_client.get());
        Self { held: Mutex::default(), most, most_per_client }
    }

    /// How many requests are held.
    pub(in crate::api) fn held(&self) -> u32 {
        self.lock().values().sum()
    }

    /// Takes a place for a request that is to be held.
    pub(super) fn enter(&self, client: IpAddr) -> Result<Place<'_>, Refusal> {
        let mut held = self.lock();
        let all: u32 = held.values().sum();
        let own = held.entry(client).or_default();
        let full = match (all >= self.most, *own >= self.most_per_client) {
            (true, _) => Some(("all clients", self.most)),
            (_, true) => Some(("this client", self.most_per_client)),
            (false, false) => None,
        };
        if let Some((whose, most)) = full {
            if *own == 0 {
                held.remove(&client);
            }
            let text = format!("too many blocking queries: {whose} may hold {most} at once");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, text));
        }
        *own += 1;
        Ok(Place { waiters: self, client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.waiters.lock();
        if let Some(own) = held.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.client);
            }
        }
    }
}

/// Answers a read that depends on `topics`, held as long as the client asks for. `gather` takes
/// what it needs out of the tables, quickly; `shape` makes the answer of it.
pub(super) async fn read<T>(
    app: &App,
    asked: &Asked,
    topics: &[Topic],
    gather: impl Fn(&Tables) -> Result<T, Refusal>,
    shape: impl Fn(T) -> Result<Answer, Refusal>,
) -> Result<Response, Refusal> {
    asked.vet()?;
    let known = asked.params.number("index")?;
    let wait = asked.params.wait(clock::now().millis().unsigned_abs())?;
    let deadline = Instant::now() + wait;
    let point = asked.point();
    let mut listener = app.view.store.listen(topics);
    let mut place = None;
    let mut was_absent = false;
    loop {
        let (index, seen, answer) = look(app, &point, topics, (&gather, &shape))?;
        let newest = seen.index;
        // What it shows has not changed since its own index.
        if !app.view.store.settled(Seen { index: index.min(newest), ..seen }).await {
            continue;
        }
        app.kept.put(&point, index, &answer);
        let is_news = known == 0 || index > known || known > newest.max(1);
        let stays_absent = was_absent && answer.absent;
        let is_over = Instant::now() >= deadline || app.stop.is_cancelled();
        if is_over || (is_news && !stays_absent) {
            return Ok(respond(asked, index, answer));
        }
        was_absent = answer.absent;
        if place.is_none() {
            place = Some(app.waiters.enter(asked.client())?);
        }
        tokio::select! {
            () = listener.changed() => {}
            () = sleep_until(deadline) => {}
            () = app.stop.cancelled() => {}
        }
    }
}

/// What is to be answered now, its index, and the state of the store it was seen in.
fn look<T>(
    app: &App,
    point: &str,
    topics: &[Topic],
    (gather, shape): (
        &impl Fn(&Tables) -> Result<T, Refusal>,
        &impl Fn(T) -> Result<Answer, Refusal>,
    ),
) -> Result<(Index, Seen, Answer), Refusal> {
    let (index, seen, gathered) = {
        let tables = app.view.store.read();
        let (index, seen) = (tables.index_of(topics), tables.seen());
        if let Some(answer) = app.kept.get(point, index) {
            return Ok((index, seen, answer));
        }
        (index, seen, gather(&tables)?)
    };
    Ok((index, seen, shape(gathered)?))
}

/// An answer with all the headers of a read.
pub(super) fn respond(asked: &Asked, index: Index, answer: Answer) -> Response {
    let mut response = (answer.status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, answer.content_type);
    headers.insert(DEFAULT_POLICY.0, DEFAULT_POLICY.1);
    let fixed = [
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "0"),
        ("x-consul-effective-consistency", super::consistency(&asked.params)),
    ];
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if asked.params.has("cached") {
        headers.insert("x-cache", HeaderValue::from_static("MISS"));
        headers.insert(header::AGE, HeaderValue::from(0));
    }
    headers.insert("x-consul-index", HeaderValue::from(index));
    response
}
