//! `rollcall ls`: services, instances and checks with their status.

use std::{collections::BTreeMap, io::Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{
    api::native::{self, Check, Instance, Service},
    clock,
    duration::Period,
};

use super::{Exit, client::Client, many};

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
    let (mut statuses, mut instances, mut checks) = (Vec::new(), 0, Vec::new());
    for service in services {
        instances += service.instances.len();
        for instance in &service.instances {
            checks.extend(instance.checks.iter().map(|check| check.status.as_str()));
            for cells in rows(service, instance, now) {
                statuses.push(cells[0].split(' ').next().unwrap_or_default().to_owned());
                table.add_row(cells);
            }
        }
    }
    if statuses.is_empty() {
        return "nothing to show\n".to_owned();
    }
    let painted = table
        .trim_fmt()
        .lines()
        .enumerate()
        .map(|(index, line)| {
            // The cells' own padding is not wanted at the left edge.
            let line = line.strip_prefix(' ').unwrap_or(line);
            let status = index.checked_sub(1).and_then(|row| statuses.get(row));
            match status.and_then(|status| Some((status, line.strip_prefix(status.as_str())?))) {
                Some((status, rest)) if colour => {
                    format!("{}{status}\u{1b}[0m{rest}\n", paint(status))
                }
                Some(_) | None => format!("{line}\n"),
            }
        })
        .collect::<String>();
    format!("{painted}\n{}\n", summary(services.len(), instances, &checks))
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
            &marked(check),
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

/// The status, with what is to be known of it behind.
fn marked(check: &Check) -> String {
    let told = check.published.as_ref().map(|status| format!("published {status}"));
    let marks: Vec<String> = [
        check.stale.then(|| "stale".to_owned()),
        check.flapping.then(|| "flapping".to_owned()),
        told,
    ]
    .into_iter()
    .flatten()
    .collect();
    if marks.is_empty() {
        return check.status.clone();
    }
    format!("{} ({})", check.status, marks.join(", "))
}

fn reason(check: &Check, instance: &Instance) -> String {
    let text = match (&check.reason, &check.detail, &instance.maintenance) {
        (_, _, Some(operator)) => operator.clone(),
        (Some(reason), Some(detail), None) => format!("{reason}: {detail}").replace('\n', " "),
        (Some(reason), None, None) => reason.clone(),
        (None, _, None) => String::new(),
    };
    match text.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// How long ago a moment was, in its two largest units: `3m12s`, `2d4h`.
pub(super) fn age(at: &str, now: clock::Timestamp) -> Option<String> {
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

fn summary(services: usize, instances: usize, statuses: &[&str]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(status, n)| format!("{n} {status}")).collect();
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn check(id: &str, status: &str) -> Check {
        Check {
            id: id.into(),
            protocol: "http".into(),
            target: "http://10.0.0.1/".into(),
            status: status.into(),
            since: Some("2026-11-20T13:56:48.500Z".into()),
            last_probe: Some("2026-11-20T13:59:59.000Z".into()),
            latency_seconds: Some(0.001_234),
            reason: None,
            detail: None,
            code: Some("200".into()),
            consecutive_failures: 0,
            stale: false,
            published: None,
            flapping: false,
            certificate_expiry: None,
            interval_seconds: 10.0,
        }
    }

    fn services() -> Vec<Service> {
        let instance = |id: &str, status: &str, checks| Instance {
            id: id.into(),
            address: "10.0.0.1:80".into(),
            status: status.into(),
            maintenance: None,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            checks,
        };
        let refused = Check {
            reason: Some("connection_refused".into()),
            detail: Some(format!("GET http://10.0.0.1/:\n{}", "refused ".repeat(20))),
            latency_seconds: Some(1.5),
            ..check("http", "critical")
        };
        let old = Check { stale: true, ..check("old", "passing") };
        let told = Check {
            published: Some("passing".to_owned()),
            flapping: true,
            ..check("told", "critical")
        };
        let fresh = Check { since: None, latency_seconds: None, ..check("a-long-name", "unknown") };
        let mut out = instance("web-2", "maintenance", vec![check("http", "maintenance")]);
        out.maintenance = Some("moving house".into());
        let service = |name: &str, instances| Service {
            name: name.into(),
            status: "passing".into(),
            instances,
        };
        vec![
            service("redis", vec![instance("redis-1", "critical", vec![refused, told])]),
            service(
                "web",
                vec![
                    instance("web-1", "passing", vec![fresh, check("http", "passing"), old]),
                    out,
                    instance("web-3", "passing", vec![]),
                ],
            ),
        ]
    }

    fn now() -> clock::Timestamp {
        clock::Timestamp::from_seconds(1_795_183_200)
    }

    #[test]
    fn every_check_is_a_line() {
        expect![[r"
            STATUS                                  SERVICE  INSTANCE  CHECK        SINCE  LATENCY  REASON
            critical                                redis    redis-1   http         3m11s   1500ms  connection_refused: GET http://10.0.0.1/: refused refused refused refused refused refused refused re...
            critical (flapping, published passing)  redis    redis-1   told         3m11s   1.23ms
            unknown                                 web      web-1     a-long-name  -            -
            passing                                 web      web-1     http         3m11s   1.23ms
            passing (stale)                         web      web-1     old          3m11s   1.23ms
            maintenance                             web      web-2     http         3m11s   1.23ms  moving house
            passing                                 web      web-3     -            -            -

            2 services, 4 instances, 6 checks: 2 critical, 1 maintenance, 2 passing, 1 unknown
        "]].assert_eq(&table(&services(), now(), false));
    }

    #[test]
    fn colours_are_all_that_a_terminal_gets_more() {
        let plain = table(&services(), now(), false);
        let mut coloured = table(&services(), now(), true);
        assert!(coloured.contains("\n\u{1b}[31mcritical\u{1b}[0m "), "{coloured}");
        for sequence in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[36m", "\u{1b}[2m", "\u{1b}[0m"] {
            assert!(coloured.contains(sequence), "{sequence:?}");
            coloured = coloured.replace(sequence, "");
        }
        assert_eq!(coloured, plain);
    }

    #[test]
    fn other_statuses_are_dropped_with_what_is_left_empty() {
        let mut services = services();
        keep(&mut services, &[Status::Critical]);
        assert_eq!(services.len(), 1);
        assert_eq!(services[0].name, "redis");
        keep(&mut services, &[Status::Maintenance]);
        assert_eq!(table(&services, now(), false), "nothing to show\n");
    }

    #[test]
    fn ages_and_latencies_are_short() {
        let age = |seconds: i64| {
            let at = clock::Timestamp::from_seconds(1_795_183_200 - seconds).to_string();
            age(&at, now()).unwrap()
        };
        assert_eq!((&*age(0), &*age(192), &*age(7384)), ("0s", "3m12s", "2h3m"));
        assert_eq!(age(2 * 86400 + 4 * 3600 + 59), "2d4h");
        assert_eq!(
            (&*millis(0.000_512), &*millis(0.0123), &*millis(1.5)),
            ("0.51ms", "12.3ms", "1500ms")
        );
    }
}
