//! The events: those remembered as a list, those to come as a stream.
//!
//! The stream is `text/event-stream`. Every event carries its sequence number as its id, so a
//! client that reconnects with `Last-Event-ID` goes on where it was. A client that fell behind is
//! told with an event `missed` how many it did not get, and goes on with the oldest still there.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{RawQuery, State},
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use super::Params;
use crate::{
    api::router::{App, Refusal},
    event::{self, Subscription},
    model::Cause,
};

/// How often a silent stream shows that it still lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A change of status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in this process's history.
    pub sequence: u64,
    /// When it happened (RFC 3339).
    pub at: String,
    /// The service.
    pub service: String,
    /// The instance.
    pub instance: String,
    /// The check.
    pub check: String,
    /// The status before.
    pub from: String,
    /// The status now.
    pub to: String,
    /// Why, in one word: a reason, `ok`, or `operator`.
    pub reason: String,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How many results in a row point this way; absent if an operator spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
    /// The last of the probes that tipped the scale; absent if an operator spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// When it started (RFC 3339).
    pub started: String,
    /// From its start to its verdict.
    pub duration_seconds: f64,
    /// The address asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The target's own code: an HTTP status or a serving status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Where its time went, in seconds.
    pub phases: std::collections::BTreeMap<String, f64>,
    /// When the certificate presented expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expiry: Option<String>,
}

/// What a slow reader of the stream did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many events.
    pub missed: u64,
}

/// Lists the events, or streams them to a client that accepts nothing but a stream.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref());
    let wants_stream = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let after = params.has("after").then(|| params.number("after")).transpose()?;
    if wants_stream {
        // The header is of the newer connection; a query stays the same over reconnects.
        let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        return Ok(stream_from(&app, seen.or(after)));
    }
    let limit = match params.number("limit")? {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let log = &app.view.events;
    let mut events = log.after(after.map_or(0, |after| since_restart(log, after)));
    if after.is_some() {
        events.truncate(limit);
    } else {
        events.drain(..events.len().saturating_sub(limit));
    }
    let events: Vec<_> = events.iter().map(|event| Event::of(event)).collect();
    Ok(Json(events).into_response())
}

/// A place in the history of this process; one beyond its end is of a process before this one,
/// whose successor has told nothing yet.
fn since_restart(log: &event::Log, after: u64) -> u64 {
    if after > log.last() { 0 } else { after }
}

/// What a stream is going to say.
struct Reader {
    missed: Option<u64>,
    past: VecDeque<Arc<event::Event>>,
    coming: Subscription,
}

fn stream_from(app: &App, after: Option<u64>) -> Response {
    let log = &app.view.events;
    let after = after.map_or_else(|| log.last(), |after| since_restart(log, after));
    let (past, coming) = log.follow(after);
    let missed = past.first().map(|first| first.sequence - after - 1);
    let reader = Reader { missed: missed.filter(|n| *n > 0), past: past.into(), coming };
    let stop = app.stop.clone().cancelled_owned();
    // An id alone is no event for a client, but the place to go on from if the connection is lost
    // before the first one.
    let place = stream::iter([Ok(sse::Event::default().id(after.to_string()))]);
    Sse::new(place.chain(told(reader)).take_until(stop))
        .keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive"))
        .into_response()
}

fn told(reader: Reader) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(reader, async |mut reader| {
        let event = match reader.next().await? {
            Ok(event) => sse::Event::default()
                .id(event.sequence.to_string())
                .event("transition")
                .data(json(&Event::of(&event))),
            Err(missed) => {
                sse::Event::default().event("missed").data(json(&Missed { missed: missed.0 }))
            }
        };
        Some((Ok(event), reader))
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers under string keys are JSON")
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Arc<event::Event>, event::Missed>> {
        if let Some(missed) = self.missed.take() {
            return Some(Err(event::Missed(missed)));
        }
        match self.past.pop_front() {
            Some(event) => Some(Ok(event)),
            None => self.coming.next().await,
        }
    }
}

impl Event {
    fn of(event: &event::Event) -> Self {
        let transition = &event.transition;
        let (consecutive, probe) = match &transition.cause {
            Cause::Probe { observation, consecutive } => {
                (Some(*consecutive), Some(Probe::of(observation)))
            }
            Cause::Operator { .. } => (None, None),
        };
        Self {
            sequence: event.sequence,
            at: transition.at.to_string(),
            service: transition.service.to_string(),
            instance: transition.key.instance.to_string(),
            check: transition.key.check.to_string(),
            from: transition.from.to_string(),
            to: transition.to.to_string(),
            reason: transition.cause.word().to_owned(),
            detail: transition.cause.detail().map(str::to_owned),
            consecutive,
            probe,
        }
    }
}
