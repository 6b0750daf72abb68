//! `rollcall ls`: services, instances and checks with their status.

use std::{collections::BTreeMap, fmt::Write as _, io::Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{
    api::native::{self, Check, Instance, Service},
    clock,
    duration::Period,
};

use super::{Exit, client::Client};

/// Longest text shown in the last column, in characters; `--json` has all of it.
const MAX_DETAIL: usize = 100;

/// Arguments of `rollcall ls`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    client: Client,
    /// Show this service only.
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Show only checks with this status; may be given more than once.
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Vec<Status>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Status {
    Unknown,
    Passing,
    Warning,
    Critical,
    Maintenance,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Maintenance => "maintenance",
        }
    }
}

/// Lists what the daemon knows.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let path = match &args.service {
        Some(name) => {
            let query = url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
            format!("{}?service={query}", native::SERVICES)
        }
        None => native::SERVICES.to_owned(),
    };
    let mut services: Vec<Service> = args.client.json(&path).await?;
    if let (Some(name), true) = (&args.service, services.is_empty()) {
        anyhow::bail!("{} knows no service {name:?}", args.client);
    }
    keep(&mut services, &args.status);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &services)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table(&services, clock::now(), super::colour(&std::io::stdout())))?;
    }
    Ok(Exit::Ok)
}

/// Drops the checks of other statuses, and what is left without any.
fn keep(services: &mut Vec<Service>, wanted: &[Status]) {
    if wanted.is_empty() {
        return;
    }
    let is_wanted = |status: &str| wanted.iter().any(|wanted| wanted.as_str() == status);
    for service in &mut *services {
        for instance in &mut service.instances {
            instance.checks.retain(|check| is_wanted(&check.status));
        }
        service.instances.retain(|i| !i.checks.is_empty() || is_wanted(&i.status));
    }
    services.retain(|service| !service.instances.is_empty());
}

/// One line for each check, the status first, and a sum below.
fn table(services: &[Service], now: clock::Timestamp, colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["STATUS", "SERVICE", "INSTANCE", "CHECK", "SINCE", "LATENCY", "REASON"]);
    if let Some(latency) = table.column_mut(5) {
        latency.set_cell_alignment(CellAlignment::Right);
    }
    let (mut statuses, mut instances) = (Vec::new(), 0);
    for service in services {
        instances += service.instances.len();
        for instance in &service.instances {
            for cells in rows(service, instance, now) {
                statuses.push(cells[0].clone());
                table.add_row(cells);
            }
        }
    }
    if statuses.is_empty() {
        return "nothing to show\n".to_owned();
    }
    let mut text = String::new();
    for (index, line) in table.trim_fmt().lines().enumerate() {
        // The cells' own padding is not wanted at the left edge.
        let line = line.strip_prefix(' ').unwrap_or(line);
        let status = index.checked_sub(1).and_then(|row| statuses.get(row));
        match status.filter(|_| colour) {
            Some(status) => {
                let rest = line.strip_prefix(status.as_str()).unwrap_or(line);
                let _ = writeln!(text, "{}{status}\u{1b}[0m{rest}", paint(status));
            }
            // Writing into a String cannot fail, here and below.
            None => drop(writeln!(text, "{line}")),
        }
    }
    let _ = writeln!(text, "\n{}", summary(services.len(), instances, &statuses));
    text
}

fn rows(service: &Service, instance: &Instance, now: clock::Timestamp) -> Vec<[String; 7]> {
    let row = |status: &str, [check, since, latency, reason]: [String; 4]| {
        let (service, instance) = (service.name.clone(), instance.id.clone());
        [status.to_owned(), service, instance, check, since, latency, reason]
    };
    if instance.checks.is_empty() {
        let reason = instance.maintenance.clone().unwrap_or_default();
        let dash = || "-".to_owned();
        return vec![row(&instance.status, [dash(), dash(), dash(), reason])];
    }
    let of_check = |check: &Check| {
        let since = check.since.as_deref().and_then(|at| age(at, now));
        let latency = check.latency_seconds.map(millis);
        row(
            &check.status,
            [
                check.id.clone(),
                since.unwrap_or_else(|| "-".to_owned()),
                latency.unwrap_or_else(|| "-".to_owned()),
                reason(check, instance),
            ],
        )
    };
    instance.checks.iter().map(of_check).collect()
}

fn reason(check: &Check, instance: &Instance) -> String {
    let text = match (&check.reason, &check.detail, &instance.maintenance) {
        (_, _, Some(operator)) => operator.clone(),
        (Some(reason), Some(detail), None) => format!("{reason}: {detail}"),
        (Some(reason), None, None) => reason.clone(),
        (None, _, None) => String::new(),
    };
    match text.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// How long ago a moment was, in its two largest units: `3m12s`, `2d4h`.
fn age(at: &str, now: clock::Timestamp) -> Option<String> {
    let at = at.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    let seconds = now.since(clock::Timestamp::from_millis(at)).as_secs();
    let grain = match seconds {
        0..3600 => 1,
        3600..86400 => 60,
        86400.. => 3600,
    };
    Some(Period::from_secs(seconds / grain * grain).to_string())
}

/// A latency in milliseconds with three digits or so.
pub(super) fn millis(seconds: f64) -> String {
    let millis = seconds * 1000.0;
    let digits = match millis {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{millis:.digits$}ms")
}

fn summary(services: usize, instances: usize, statuses: &[String]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(status, n)| format!("{n} {status}")).collect();
    let many = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "{}, {}, {}: {}",
        many(services, "service"),
        many(instances, "instance"),
        many(statuses.len(), "check"),
        counts.join(", ")
    )
}

/// The escape sequence that starts a status's colour.
pub(super) fn paint(status: &str) -> &'static str {
    match status {
        "passing" => "\u{1b}[32m",
        "warning" => "\u{1b}[33m",
        "critical" => "\u{1b}[31m",
        "maintenance" => "\u{1b}[36m",
        _ => "\u{1b}[2m",
    }
}
