//! What the daemon thinks of itself.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use tokio::time::Instant;

use super::App;
use crate::doubt::{MAX_SCORE, Report, Seen, Symptom, Taken};

/// What the daemon thinks of itself, as of the last second.
#[derive(Debug, Serialize)]
pub(super) struct Own {
    /// From 0, well, to `max_score`.
    score: u8,
    max_score: u8,
    /// The score from which on it abstains.
    abstain_at: u8,
    /// Whether failures count for nothing now.
    abstaining: bool,
    /// For how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    abstaining_seconds: Option<f64>,
    /// `doubtful`, `clear` or `confirmed`.
    confidence: &'static str,
    /// What is wrong now.
    symptoms: Vec<&'static str>,
    /// Open files of the process: so many at least, and the limit.
    descriptors: Use,
    /// TCP sockets of the network name space, and the ports for those that connect.
    ports: Use,
    /// How it sees itself.
    canary: Sighting,
    /// How it sees what it was told is always there.
    anchors: Vec<Sighting>,
}

/// How much is in use of something.
#[derive(Debug, Serialize)]
struct Use {
    used: u64,
    /// Left out if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
}

/// What was seen of one that was asked.
#[derive(Debug, Serialize)]
struct Sighting {
    target: String,
    /// `unknown`, `answers` or `fails`.
    state: &'static str,
    latency_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

pub(super) async fn show(State(app): State<Arc<App>>) -> Json<Own> {
    Json(Own::of(&app.view.doubt.report(Instant::now())))
}

impl Own {
    fn of(report: &Report) -> Self {
        Self {
            score: report.score,
            max_score: MAX_SCORE,
            abstain_at: report.abstain_at,
            abstaining: report.abstaining.is_some(),
            abstaining_seconds: report.abstaining.map(|since| since.as_secs_f64()),
            confidence: report.confidence.as_str(),
            symptoms: report.symptoms.iter().map(Symptom::as_str).collect(),
            descriptors: Use::of(report.room.descriptors),
            ports: Use::of(report.room.ports),
            canary: Sighting::of(&report.canary),
            anchors: report.anchors.iter().map(Sighting::of).collect(),
        }
    }
}

impl Use {
    fn of(taken: Taken) -> Self {
        Self { used: taken.used, max: Some(taken.most).filter(|most| *most > 0) }
    }
}

impl Sighting {
    fn of(seen: &Seen) -> Self {
        Self {
            target: seen.what.to_string(),
            state: seen.sight.as_str(),
            latency_seconds: seen.took.as_secs_f64(),
            detail: seen.detail.as_ref().map(ToString::to_string),
        }
    }
}
