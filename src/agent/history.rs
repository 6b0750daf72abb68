//! The last transitions, kept over restarts.
//!
//! They stand in the store as notes in a ring as large as the event log's; a note has no index, so
//! nobody is woken by it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Agent;
use crate::{
    clock::Timestamp,
    event::{self, Event},
    model::{
        Answer, Cause, CheckKey, Observation, Outcome, Phase, Phases, Publication, Reason,
        Registered, Serving, Status, Transition,
    },
    store::{Key, Unwritten, row::Note},
};

/// What the names of the notes begin with.
const NAME: &str = "event/";

/// Transitions written in one go.
const CHUNK: usize = 512;

/// The wait before what could not be written is tried again.
const PAUSE: Duration = Duration::from_secs(1);

impl Agent {
    /// Gives the log the transitions that were kept, oldest first.
    pub fn recall(&self, events: &event::Log) {
        let kept: Vec<Event> = {
            let tables = self.store.read();
            let kept = tables.notes(NAME).map(|note| serde_json::from_str::<Kept>(&note.text));
            kept.filter_map(|kept| kept.ok()?.read()).collect()
        };
        events.resume(kept);
    }

    /// Keeps the transitions after the one of this sequence until `stop`, and then what is left of
    /// them. What cannot be written is written later: it is taken from the log, which remembers as
    /// much as is kept here.
    pub async fn keep_history(
        self: Arc<Self>,
        mut written: u64,
        capacity: usize,
        stop: CancellationToken,
    ) {
        if capacity == 0 {
            return stop.cancelled().await;
        }
        if let Err(error) = self.trim_history(capacity).await {
            warn!(error = &error as &dyn std::error::Error, "History not trimmed");
        }
        let (_, mut coming) = self.events.follow(written);
        loop {
            written = self.catch_up(written, capacity, &stop).await;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // Whether it is one, or many were missed: the log has them.
                event = coming.next() => if event.is_none() { break },
            }
        }
        self.catch_up(written, capacity, &stop).await;
    }

    /// Writes down what the log has after a sequence, however often that takes, but once only after
    /// `stop`. Returns the sequence up to which all is written.
    async fn catch_up(&self, mut written: u64, capacity: usize, stop: &CancellationToken) -> u64 {
        loop {
            let events = self.events.after(written);
            if events.is_empty() {
                return written;
            }
            for some in events.chunks(CHUNK) {
                if let Err(error) = self.write_down(some, capacity).await {
                    warn!(error = &error as &dyn std::error::Error, "Transitions not kept yet");
                    if stop.is_cancelled() {
                        return written;
                    }
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                    break;
                }
                written = some.last().map_or(written, |event| event.sequence);
            }
        }
    }

    async fn write_down(&self, events: &[Arc<Event>], capacity: usize) -> Result<(), Unwritten> {
        self.store
            .write(|tx| {
                for event in events {
                    let place = event.sequence % u64::try_from(capacity).unwrap_or(u64::MAX);
                    let text = serde_json::to_string(&Kept::of(event)).unwrap_or_default().into();
                    tx.put(Note {
                        name: format!("{NAME}{place:08}").into(),
                        text,
                        ..Note::default()
                    });
                }
                Ok(())
            })
            .await
    }

    /// Forgets transitions beyond the capacity, which may have become less.
    async fn trim_history(&self, capacity: usize) -> Result<(), Unwritten> {
        let end = format!("{NAME}{capacity:08}");
        self.store
            .write(|tx| {
                let beyond = tx.notes(NAME).filter(|note| *note.name >= *end);
                let beyond: Vec<_> = beyond.map(|note| Arc::clone(&note.name)).collect();
                for name in beyond {
                    tx.delete(Key::Note(name));
                }
                Ok(())
            })
            .await
    }
}

/// A transition as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    sequence: u64,
    service: String,
    instance: String,
    check: String,
    from: String,
    to: String,
    at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probe: Option<Probe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registered: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published: Option<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Probe {
    consecutive: u32,
    started: i64,
    nanos: u64,
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Box<str>>,
    #[serde(default)]
    phases: Vec<u64>,
}

impl Kept {
    fn of(event: &Event) -> Self {
        let transition = &event.transition;
        let (mut operator, mut probe, mut registered, mut published) = (None, None, None, None);
        match &transition.cause {
            Cause::Probe { observation, consecutive } => {
                probe = Some(Probe::of(observation, *consecutive));
            }
            Cause::Operator { reason } => operator = Some(reason.to_string()),
            Cause::Registration { what, detail } => {
                registered = Some((what.to_string(), detail.to_string()));
            }
            Cause::Publication { what, detail } => {
                published = Some((what.to_string(), detail.to_string()));
            }
        }
        Self {
            sequence: event.sequence,
            service: transition.service.to_string(),
            instance: transition.key.instance.to_string(),
            check: transition.key.check.to_string(),
            from: transition.from.to_string(),
            to: transition.to.to_string(),
            at: transition.at.millis(),
            operator,
            probe,
            registered,
            published,
        }
    }

    /// The transition with its place; nothing if this version cannot make sense of it.
    fn read(self) -> Option<Event> {
        let status = |word: &str| Status::ALL.iter().copied().find(|s| s.as_str() == word);
        let registered = |word: &str| Registered::ALL.iter().copied().find(|r| r.as_str() == word);
        let published = |word: &str| Publication::ALL.iter().copied().find(|p| p.as_str() == word);
        let cause = match (self.probe, self.registered, self.published) {
            (Some(probe), ..) => probe.read()?,
            (None, Some((what, detail)), _) => {
                Cause::Registration { what: registered(&what)?, detail: detail.into() }
            }
            (None, None, Some((what, detail))) => {
                Cause::Publication { what: published(&what)?, detail: detail.into() }
            }
            (None, None, None) => {
                Cause::Operator { reason: self.operator.unwrap_or_default().into() }
            }
        };
        let transition = Transition {
            service: self.service.parse().ok()?,
            key: CheckKey {
                instance: self.instance.parse().ok()?,
                check: self.check.parse().ok()?,
            },
            from: status(&self.from)?,
            to: status(&self.to)?,
            at: Timestamp::from_millis(self.at),
            cause,
        };
        Some(Event { sequence: self.sequence, transition })
    }
}

impl Probe {
    fn of(observation: &Observation, consecutive: u32) -> Self {
        let (outcome, reason) = match observation.outcome {
            Outcome::Success => ("success", None),
            Outcome::Warning(reason) => ("warning", Some(reason)),
            Outcome::Failure(reason) => ("failure", Some(reason)),
            Outcome::Inconclusive(reason) => ("inconclusive", Some(reason)),
        };
        let (http, grpc) = match observation.answer {
            Answer::None => (None, None),
            Answer::Http(code) => (Some(code), None),
            Answer::Grpc(serving) => (None, Some(serving.to_string())),
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            consecutive,
            started: observation.started.millis(),
            nanos: nanos(observation.duration),
            outcome: outcome.to_owned(),
            reason: reason.map(|reason| reason.to_string()),
            http,
            grpc,
            peer: observation.peer,
            detail: observation.detail.clone(),
            phases: Phase::ALL.iter().map(|p| nanos(observation.phases.get(*p))).collect(),
        }
    }

    fn read(self) -> Option<Cause> {
        let reason = || {
            let word = self.reason.as_deref()?;
            Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
        };
        let serving = |word: &str| Serving::ALL.iter().copied().find(|s| s.as_str() == word);
        let mut phases = Phases::default();
        for (phase, nanos) in Phase::ALL.iter().zip(&self.phases) {
            phases.add(*phase, Duration::from_nanos(*nanos));
        }
        let outcome = match &*self.outcome {
            "success" => Outcome::Success,
            "warning" => Outcome::Warning(reason()?),
            "inconclusive" => Outcome::Inconclusive(reason()?),
            _ => Outcome::Failure(reason()?),
        };
        let (started, took) =
            (Timestamp::from_millis(self.started), Duration::from_nanos(self.nanos));
        let observation = Observation {
            phases,
            answer: match (self.http, self.grpc.as_deref()) {
                (Some(code), _) => Answer::Http(code),
                (None, Some(word)) => serving(word).map_or(Answer::None, Answer::Grpc),
                (None, None) => Answer::None,
            },
            peer: self.peer,
            detail: self.detail.clone(),
            ..Observation::new(started, took, outcome)
        };
        Some(Cause::Probe { observation: Box::new(observation), consecutive: self.consecutive })
    }
}
