//! The evidence: the last attempts with their phases, and the last changes of status.

use std::collections::BTreeSet;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{Attempt, Explanation, Timestamp, age, millis, said, short};
use crate::{model::Phase, probe::Protocol};

/// Longest text in the last column, in characters; `--json` has all of it.
const MAX_DETAIL: usize = 80;

/// The last attempts, newest last; nothing if there are none.
pub(super) fn attempts(explained: &Explanation, now: Timestamp) -> String {
    if explained.attempts.is_empty() {
        return String::new();
    }
    let phases = phases(explained);
    let mut header = vec!["  AGO".to_owned(), "RESULT".to_owned(), "TOOK".to_owned()];
    header.extend(phases.iter().map(|(_, name)| name.to_uppercase()));
    header.extend(["CODE", "ADDRESS", "DETAIL"].map(str::to_owned));
    let rows = explained.attempts.iter().map(|attempt| {
        let mut row = vec![
            format!("  {}", age(&attempt.probe.started, now).unwrap_or_default()),
            attempt.reason.clone().unwrap_or_else(|| "ok".to_owned()),
            millis(attempt.probe.duration_seconds),
        ];
        row.extend(phases.iter().map(|(phase, _)| {
            attempt.probe.phases.get(phase.as_str()).copied().map_or_else(dash, millis)
        }));
        row.push(attempt.probe.code.clone().unwrap_or_else(dash));
        row.push(attempt.probe.peer.clone().unwrap_or_else(dash));
        row.push(detail(attempt, &explained.target));
        row
    });
    let title = latest(explained.attempts.len(), "attempts", "attempt");
    let right = 2..3 + phases.len();
    format!("\n  {title}\n{}", table(header, rows.collect(), right))
}

/// The last changes of status, newest last; nothing if there are none.
pub(super) fn transitions(explained: &Explanation, now: Timestamp) -> String {
    if explained.transitions.is_empty() {
        return String::new();
    }
    let header = ["  AT", "AGO", "FROM", "TO", "REASON", "DETAIL"].map(str::to_owned).to_vec();
    let rows = explained.transitions.iter().map(|event| {
        let detail = event.detail.as_deref().map(|text| cut(said(text, &explained.target)));
        vec![
            format!("  {}", short(&event.at, now)),
            age(&event.at, now).unwrap_or_default(),
            event.from.clone(),
            event.to.clone(),
            event.reason.clone(),
            detail.unwrap_or_default(),
        ]
    });
    let title = latest(explained.transitions.len(), "changes of status", "change of status");
    format!("\n  {title}\n{}", table(header, rows.collect(), 0..0))
}

/// The phases that took time in some attempt, in their order, as their protocol calls them.
fn phases(explained: &Explanation) -> Vec<(Phase, &'static str)> {
    let spent: BTreeSet<&str> = explained
        .attempts
        .iter()
        .flat_map(|attempt| attempt.probe.phases.keys().map(String::as_str))
        .collect();
    let all = Protocol::named(&explained.protocol).map_or(&[][..], Protocol::phases);
    all.iter().filter(|(phase, _)| spent.contains(phase.as_str())).copied().collect()
}

fn detail(attempt: &Attempt, target: &str) -> String {
    let asks = attempt.ask_again_seconds.map(|wait| format!("asks to be left for {wait}s"));
    let said = attempt.detail.as_deref().map(|detail| said(detail, target));
    cut(said.into_iter().chain(asks).collect::<Vec<_>>().join("; "))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn latest(n: usize, many: &str, one: &str) -> String {
    if n == 1 { format!("last {one}") } else { format!("last {n} {many}") }
}

fn dash() -> String {
    "-".to_owned()
}

fn table(header: Vec<String>, rows: Vec<Vec<String>>, right: std::ops::Range<usize>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows);
    for column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.trim_fmt();
    // The cells' own padding is not wanted at the left edge.
    let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
