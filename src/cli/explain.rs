//! `rollcall explain`: why a check is as it is, to be read in ten seconds.
//!
//! The verdict in one sentence; then what consumers are told, who holds it, and what comes next;
//! then the evidence, newest last.

use std::io::Write;

use anyhow::bail;
use http::StatusCode;

use crate::{
    api::native::{self, Attempt, Explanation},
    clock::{self, Timestamp},
    duration::Period,
};

use super::{
    Exit,
    client::{Call, Client, escape},
    ls::{age, millis, paint},
};

mod table;
#[cfg(test)]
mod tests;

/// Arguments of `rollcall explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    client: Client,
    /// A check as `instance:check`, its id in Consul's API, or an instance for all its checks.
    #[arg(value_name = "ID")]
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Asks the daemon, and shows what it knows.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let explained = ask(&args.client, &args.id).await?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &explained)?;
        writeln!(out)?;
        return Ok(Exit::Ok);
    }
    let colour = super::colour(&std::io::stdout());
    if explained.is_empty() {
        writeln!(out, "{} has no checks: it counts as passing", args.id)?;
    }
    for (at, explanation) in explained.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        write!(out, "{gap}{}", show(explanation, clock::now(), colour))?;
    }
    Ok(Exit::Ok)
}

/// What the daemon knows of the check of this id, or of all of an instance.
pub(super) async fn ask(client: &Client, id: &str) -> anyhow::Result<Vec<Explanation>> {
    let path = format!("{}{}", native::EXPLAIN, escape(id));
    let answer = client.call(&Call::get(&path)).await?;
    if answer.status == StatusCode::NOT_FOUND {
        bail!("{}", String::from_utf8_lossy(&answer.body).trim());
    }
    answer.json()
}

fn show(explained: &Explanation, now: Timestamp, colour: bool) -> String {
    let mut text = format!("{}\n\n", verdict(explained, now, colour));
    let facts = [
        ("asked", vec![asked(explained)]),
        ("published", vec![published(explained, now)]),
        (
            "held by",
            explained.holding.iter().map(|h| format!("{}: {}", h.source, h.text)).collect(),
        ),
        ("next", vec![next(explained)]),
        ("certificate", certificate(explained, now)),
        ("counted", vec![counted(explained)]),
    ];
    for (name, lines) in facts {
        for (at, line) in lines.iter().filter(|line| !line.is_empty()).enumerate() {
            let name = if at == 0 { name } else { "" };
            text.extend([format!("  {name:<12} {line}\n")]);
        }
    }
    text + &table::attempts(explained, now) + &table::transitions(explained, now)
}

/// The verdict in one sentence.
fn verdict(explained: &Explanation, now: Timestamp, colour: bool) -> String {
    let observed = &explained.observed;
    let word = observed.status.to_uppercase();
    let paint = if colour { (paint(&observed.status), "\u{1b}[0m") } else { ("", "") };
    let word = format!("{}{word}{}", paint.0, paint.1);
    let since = observed.since.as_deref().map(|at| format!(" since {}", moment(at, now)));
    let stale = if observed.stale { " (stale)" } else { "" };
    let since = since.unwrap_or_default();
    format!("{} is {word}{stale}{since}: {}", explained.id, because(explained))
}

fn because(explained: &Explanation) -> String {
    let observed = &explained.observed;
    match &*observed.status {
        "maintenance" => {
            format!("an operator has taken it out; its probes say {}", observed.verdict)
        }
        "critical" => match observed.consecutive_successes {
            0 => row_of_failures(explained),
            _ => recovering(explained),
        },
        "warning" => match (observed.consecutive_failures, &observed.reason) {
            (0, Some(_)) => format!("it answers that it is struggling{}", last(explained)),
            (0, None) => recovering(explained),
            (_, _) => row_of_failures(explained),
        },
        "passing" => match observed.consecutive_failures {
            0 => format!(
                "{}{}",
                in_a_row(observed.consecutive_successes, "success"),
                took(explained)
            ),
            _ => row_of_failures(explained),
        },
        _ => match (observed.consecutive_failures, observed.consecutive_successes) {
            (0, 0) => format!("it has no result yet{}", last(explained)),
            (0, _) => recovering(explained),
            (_, _) => row_of_failures(explained),
        },
    }
}

/// `5 failures in a row (threshold 3), last: …`, or `2 of 3 failures in a row, last: …`.
fn row_of_failures(explained: &Explanation) -> String {
    let (held, thresholds) = (explained.observed.consecutive_failures, &explained.thresholds);
    let critical = thresholds.failures_before_critical;
    let needed = match &*explained.observed.status {
        "warning" if held < critical => thresholds.failures_before_warning,
        "critical" | "warning" => critical,
        _ => thresholds.failures_before_warning.max(held + 1).min(critical),
    };
    let is_critical = explained.observed.status == "critical";
    let row = match held < needed {
        true if is_critical => in_a_row(held, "failure"),
        true => format!("{held} of {needed} failures in a row"),
        false => format!("{} (threshold {needed})", in_a_row(held, "failure")),
    };
    row + &last(explained)
}

/// `1 of 2 successes in a row`.
fn recovering(explained: &Explanation) -> String {
    let held = explained.observed.consecutive_successes;
    let needed = explained.thresholds.success_before_passing;
    format!("{held} of {needed} successes in a row{}", last(explained))
}

fn in_a_row(n: u32, what: &str) -> String {
    let ending = match (n, what) {
        (1, _) => "",
        (_, "success") => "es",
        (_, _) => "s",
    };
    format!("{n} {what}{ending} in a row")
}

/// What the last probe was not content with.
fn last(explained: &Explanation) -> String {
    let observed = &explained.observed;
    let Some(reason) = &observed.reason else { return String::new() };
    let detail = observed.detail.as_deref().map(|detail| said(detail, &explained.target));
    let attempt = explained.attempts.last().filter(|last| last.reason.as_ref() == Some(reason));
    let peer = attempt.and_then(|last| last.probe.peer.as_deref());
    let by = peer.map(|peer| format!(" ({peer})")).unwrap_or_default();
    format!(", last: {}{by}", detail.unwrap_or_else(|| reason.clone()))
}

/// A detail on one line, without what was asked, which is told elsewhere.
fn said(detail: &str, target: &str) -> String {
    let what = detail.split_once(&format!("{target}: ")).map_or(detail, |(_, what)| what);
    what.replace('\n', " ")
}

fn took(explained: &Explanation) -> String {
    let last = explained.attempts.last().map(|attempt| attempt.probe.duration_seconds);
    last.map_or_else(String::new, |seconds| format!(", the last in {}", millis(seconds)))
}

/// `14:02:11Z (3m20s)`, with the day if it is another one.
fn moment(at: &str, now: Timestamp) -> String {
    let ago = age(at, now).map(|ago| format!(" ({ago})")).unwrap_or_default();
    format!("{}{ago}", short(at, now))
}

/// A moment to the second, without the day if it is today's.
fn short(at: &str, now: Timestamp) -> String {
    let (day, time) = at.split_once('T').unwrap_or(("", at));
    let time = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    let day = if now.to_string().starts_with(day) { "" } else { day };
    format!("{day} {time}Z").trim_start().to_owned()
}

fn asked(explained: &Explanation) -> String {
    let period = |seconds: f64| {
        // A time from an answer may be anything.
        let time = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Period::from(time).to_string()
    };
    let (interval, timeout) =
        (period(explained.interval_seconds), period(explained.timeout_seconds));
    let what = format!("{} {}", explained.protocol, explained.target);
    format!("{what}, every {interval}, timeout {timeout}; service {}", explained.service)
}

fn published(explained: &Explanation, now: Timestamp) -> String {
    match &explained.published {
        Some(told) if told.judged => format!("{} since {}", told.status, moment(&told.since, now)),
        Some(told) => format!("{}, as registered {}", told.status, moment(&told.since, now)),
        None => "nothing".to_owned(),
    }
}

/// `critical after 1 more failure, passing after 2 more successes; next probe in 1.2s`.
fn next(explained: &Explanation) -> String {
    let ahead = explained.ahead.iter().map(|ahead| {
        let row = in_a_row(ahead.more, &ahead.result);
        let row = row.replacen(' ', " more ", 1);
        let row = if ahead.more == 1 { row.trim_end_matches(" in a row") } else { &row };
        format!("{} after {row}", ahead.status)
    });
    let ahead = ahead.collect::<Vec<_>>().join(", ");
    let why = match explained.next_probe_reason.as_deref() {
        None | Some("schedule") => "",
        Some("confirm") => " to confirm the failure",
        Some("back_off") => ", less often than its interval",
        Some("asked") => ", as the target asks",
        Some("tripwire") => ", for the target has told of a change",
        Some("operator") => ", as an operator asks",
        Some(_) => ", beyond its schedule",
    };
    let when =
        explained.next_probe_seconds.map(|seconds| format!("next probe in {seconds:.1}s{why}"));
    [Some(ahead).filter(|text| !text.is_empty()), when]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

/// Of the last probe that was shown one; its expiry alone, if that was too long ago.
fn certificate(explained: &Explanation, now: Timestamp) -> Vec<String> {
    let mut seen = explained.attempts.iter().rev().map(|attempt| &attempt.probe);
    if let Some(probe) = seen.find(|probe| probe.certificate_expiry.is_some()) {
        return super::probe::certificate(probe, now);
    }
    let expiry = explained.observed.certificate_expiry.as_deref();
    let expiry = expiry.and_then(super::probe::moment);
    expiry.map(|expiry| super::probe::expires(expiry, now)).into_iter().collect()
}

fn counted(explained: &Explanation) -> String {
    let observed = &explained.observed;
    let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let inconclusive = match observed.inconclusive {
        0 => String::new(),
        n => format!(", {n} inconclusive"),
    };
    let probes = count(observed.probes, "probe");
    let changes = count(observed.changes.into(), "change");
    format!("{probes}, {} failed{inconclusive}; {changes} of status", observed.failures)
}
