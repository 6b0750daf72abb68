//! Consul's user events: fired by one client, seen by all who list them.
//!
//! The latest are kept in memory and are gone after a restart. The index of a list is made of the
//! newest event's id, so that it says which event it is and not how many there were; a request with
//! that index is held until there is another one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::{Path, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::StatusCode;
use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    DATACENTER,
    read::{Answer, Asked, respond},
};
use crate::{
    api::{
        View,
        params::Params,
        router::{App, Refusal},
    },
    clock,
};

/// Events kept: as many as Consul keeps.
const KEPT: usize = 256;

/// Most bytes of an event's name, payload and filters: what Consul lets through its gossip.
const MAX_SIZE: usize = 512;

/// Most bytes that the filter of an event may take when it is compiled.
const MAX_FILTER: usize = 1 << 20;

/// An event as Consul shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(rename = "ID", serialize_with = "as_text")]
    id: Uuid,
    name: String,
    payload: Option<String>,
    node_filter: String,
    service_filter: String,
    tag_filter: String,
    version: u32,
    #[serde(rename = "LTime")]
    ltime: u64,
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl Event {
    fn index(&self) -> u64 {
        let (high, low) = self.id.as_u64_pair();
        high ^ low
    }
}

/// The latest events.
#[derive(Debug, Default)]
pub(in crate::api) struct Fired {
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    clock: u64,
}

impl Fired {
    fn push(&self, event: Event) {
        {
            let mut ring = self.lock();
            ring.clock += 1;
            let event = Event { ltime: ring.clock, ..event };
            ring.events.push_back(event.into());
            if ring.events.len() > KEPT {
                ring.events.pop_front();
            }
        }
        self.changed.send_replace(());
    }

    /// The events of a name, or all, the oldest first.
    fn list(&self, name: Option<&str>) -> Vec<Arc<Event>> {
        let ring = self.lock();
        let wanted = |event: &&Arc<Event>| name.is_none_or(|name| event.name == name);
        ring.events.iter().filter(wanted).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For whom an event is; nobody is left out by a filter that is not there.
struct Filters {
    node: Option<Regex>,
    service: Option<Regex>,
    tag: Option<Regex>,
}

impl Filters {
    fn parse(params: &Params) -> Result<Self, Refusal> {
        let filter = |name: &str| {
            let text = params.get(name).filter(|text| !text.is_empty());
            let compile = |text| RegexBuilder::new(text).size_limit(MAX_FILTER).build();
            let invalid = |error| Refusal::bad(format!("Invalid {name} filter: {error}"));
            text.map(|text| compile(text).map_err(invalid)).transpose()
        };
        let filters =
            Self { node: filter("node")?, service: filter("service")?, tag: filter("tag")? };
        if filters.tag.is_some() && filters.service.is_none() {
            return Err(Refusal::bad("Cannot provide tag filter without service filter"));
        }
        Ok(filters)
    }

    /// Whether the event is for this node.
    fn admit(&self, view: &View) -> bool {
        if self.node.as_ref().is_some_and(|node| !node.is_match(&view.node_name)) {
            return false;
        }
        let Some(name) = &self.service else { return true };
        let tagged = |tags: &[Arc<str>]| {
            self.tag.as_ref().is_none_or(|tag| tags.iter().any(|given| tag.is_match(given)))
        };
        let tables = view.store.read();
        tables
            .instances_on(&view.node_name)
            .any(|service| name.is_match(&service.name) && tagged(&service.tags))
    }
}

pub(super) async fn missing_name() -> Refusal {
    Refusal::bad("Missing name")
}

pub(super) async fn fire(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
    payload: Bytes,
) -> Result<Response, Refusal> {
    let params = &asked.params;
    params.vet_read(DATACENTER)?;
    let filters = Filters::parse(params)?;
    let text = |name: &str| params.get(name).unwrap_or_default().to_owned();
    let event = Event {
        id: Uuid::new_v4(),
        name,
        payload: (!payload.is_empty()).then(|| STANDARD.encode(&payload)),
        node_filter: text("node"),
        service_filter: text("service"),
        tag_filter: text("tag"),
        version: 1,
        ltime: 0,
    };
    let texts = [&event.name, &event.node_filter, &event.service_filter, &event.tag_filter];
    if payload.len() + texts.iter().map(|text| text.len()).sum::<usize>() > MAX_SIZE {
        let text = format!("user event exceeds configured limit of {MAX_SIZE} bytes");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let response = super::json(params, &event);
    if filters.admit(&app.view) {
        app.fired.push(event);
    }
    Ok(response)
}

pub(super) async fn list(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    let params = &asked.params;
    params.vet_read(DATACENTER)?;
    let known = params.number("index")?;
    let deadline = Instant::now() + params.wait(clock::now().millis().unsigned_abs())?;
    let name = params.get("name").filter(|name| !name.is_empty());
    let mut changed = app.fired.changed.subscribe();
    let mut place = None;
    loop {
        changed.mark_unchanged();
        let events = app.fired.list(name);
        let index = events.last().map_or(1, |event| event.index());
        if index != known || Instant::now() >= deadline || app.stop.is_cancelled() {
            return Ok(respond(&asked, index, Answer::json(params, &events)));
        }
        if place.is_none() {
            place = Some(app.waiters.enter(asked.client())?);
        }
        tokio::select! {
            // The sender lives as long as the app.
            _ = changed.changed() => {}
            () = sleep_until(deadline) => {}
            () = app.stop.cancelled() => {}
        }
    }
}
