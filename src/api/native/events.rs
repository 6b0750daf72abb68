//! The events: those remembered as a list, those to come as a stream.
//!
//! The stream is `text/event-stream`. Every event carries its [`Place`] as its id, so a client that
//! reconnects with `Last-Event-ID` goes on where it was. Sequence numbers begin anew with every
//! process, so a place names its process too; a client that comes with the place of another one is
//! told all that this one remembers. A client that fell behind is told with an event `missed` how
//! many it did not get, and goes on with the oldest still there.

use std::{
    collections::VecDeque, convert::Infallible, fmt, str::FromStr, sync::Arc, time::Duration,
};

use axum::{
    Json,
    extract::{RawQuery, State},
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::Params;
use crate::{
    api::router::{App, Refusal},
    clock::Timestamp,
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
    /// Why, in one word: a reason, `ok`, or `operator`; of the check `_registration` what has become
    /// of the registration: `conflict`, `expired`, `restored`.
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
    /// What else the certificate presented says, also if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// What a certificate says, beside its expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whose it is: `CN=shop.example`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Whether it is for the name that was asked for.
    pub is_for_name: bool,
    /// When it becomes valid (RFC 3339).
    pub start: String,
    /// When the first certificate of the chain that was presented expires (RFC 3339).
    pub chain_expiry: String,
}

/// What a slow reader of the stream did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many events.
    pub missed: u64,
}

/// Lists the events, or streams them to a client that asks for a stream.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref());
    let after = params.has("after").then(|| params.number("after")).transpose()?;
    if wants_stream(&headers) {
        // The header is of the newer connection; a query stays the same over reconnects.
        let seen = headers.get("last-event-id").map(|id| Place::seen(id, app.view.started));
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

/// Whether a client asks for a stream: it lists `text/event-stream`, and likes JSON no better. One
/// that takes anything (`*/*`) gets the list, which ends.
fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .map(range)
        .collect();
    let quality = |media: &str| {
        accepted.iter().find(|(range, _)| range.eq_ignore_ascii_case(media)).map(|(_, q)| *q)
    };
    let stream = quality("text/event-stream").unwrap_or(0.0);
    // The most specific range decides (RFC 9110, 12.5.1).
    let list = ["application/json", "application/*", "*/*"].into_iter().find_map(quality);
    stream > 0.0 && stream >= list.unwrap_or(0.0)
}

/// A media range and how much it is liked: `text/html;q=0.5`. A weight that is none counts as 1.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("q").then(|| value.parse().ok())?
    });
    (media, weight.unwrap_or(1.0))
}

/// A place in the history of this process; one beyond its end is of a process before this one,
/// whose successor has told nothing yet.
fn since_restart(log: &event::Log, after: u64) -> u64 {
    if after > log.last() { 0 } else { after }
}

/// A place in the history of one process, as `1795183200000-4`: the moment that process started,
/// in milliseconds, and the sequence number of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    boot: Timestamp,
    sequence: u64,
}

impl Place {
    /// The sequence number to go on from for a client that has seen the event with this id. What
    /// was seen of another process, or is no id of ours, says nothing of this process: from zero.
    fn seen(id: &HeaderValue, boot: Timestamp) -> u64 {
        let place = id.to_str().ok().and_then(|id| id.parse::<Self>().ok());
        place.filter(|place| place.boot == boot).map_or(0, |place| place.sequence)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot.millis(), self.sequence)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (boot, sequence) = text.split_once('-').ok_or(())?;
        let boot = Timestamp::from_millis(boot.parse().map_err(drop)?);
        Ok(Self { boot, sequence: sequence.parse().map_err(drop)? })
    }
}

/// What a stream is going to say.
struct Reader {
    boot: Timestamp,
    /// The sequence number up to which all is told, be it as missed.
    told: u64,
    /// That of the last event when the stream began; a log that remembers none may be ahead.
    last: u64,
    past: VecDeque<Arc<event::Event>>,
    coming: Subscription,
}

/// What a stream says.
enum Told {
    Event(Arc<event::Event>),
    Missed(u64),
}

fn stream_from(app: &App, after: Option<u64>) -> Response {
    let log = &app.view.events;
    let last = log.last();
    let after = after.map_or(last, |after| since_restart(log, after));
    let (past, coming) = log.follow(after);
    let reader = Reader { boot: app.view.started, told: after, last, past: past.into(), coming };
    let stop = app.stop.clone().cancelled_owned();
    // An id alone is no event for a client, but the place to go on from if the connection is lost
    // before the first one.
    let place = stream::iter([Ok(sse::Event::default().id(reader.place().to_string()))]);
    Sse::new(place.chain(told(reader)).take_until(stop))
        .keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive"))
        .into_response()
}

fn told(reader: Reader) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(reader, async |mut reader| {
        let event = match reader.next().await? {
            Told::Event(event) => sse::Event::default()
                .id(reader.place().to_string())
                .event("transition")
                .data(json(&Event::of(&event))),
            Told::Missed(missed) => {
                sse::Event::default().event("missed").data(json(&Missed { missed }))
            }
        };
        Some((Ok(event), reader))
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers under string keys are JSON")
}

impl Reader {
    fn place(&self) -> Place {
        Place { boot: self.boot, sequence: self.told }
    }

    /// The next event; before it, once, how many between it and the one before are lost.
    async fn next(&mut self) -> Option<Told> {
        let event = match self.past.pop_front() {
            Some(event) => event,
            None if self.told < self.last => return Some(self.skip_to(self.last)),
            None => self.coming().await?,
        };
        let before = event.sequence - 1;
        if self.told < before {
            self.past.push_front(event);
            return Some(self.skip_to(before));
        }
        self.told = event.sequence;
        Some(Told::Event(event))
    }

    fn skip_to(&mut self, sequence: u64) -> Told {
        let missed = sequence - self.told;
        self.told = sequence;
        Told::Missed(missed)
    }

    async fn coming(&mut self) -> Option<Arc<event::Event>> {
        loop {
            // What was missed shows in the sequence number of the next one.
            if let Ok(event) = self.coming.next().await? {
                return Some(event);
            }
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
            Cause::Operator { .. } | Cause::Registration { .. } => (None, None),
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
