//! `rollcall validate FILE`: what is wrong with a configuration, or what would run, what that asks
//! of this host, and what may be expected of it.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{Exit, many, show};
use crate::{
    config::{
        self, Config, Loaded, Overrides,
        budget::{Budget, Busiest, Means},
        diagnostic::{Place, Problem, Report, Severity},
        noticed::{self, Manner},
    },
    duration::Period,
    registry::Definition,
};

/// Most rows of the table; the totals below it count all.
const MAX_ROWS: usize = 50;

/// The share of probes that are taken to fail by chance where false alarms are told.
const BY_CHANCE: f64 = 0.01;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
    /// Print JSON: problems, checks and the budget.
    #[arg(long)]
    json: bool,
}

/// Shows problems, and writes what would run to `out` if the file can be used. With `strict` a file
/// with warnings cannot.
pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let (config, problems) = match config::load(Some(&args.file), &Overrides::default()) {
        Ok(Loaded { config, warnings }) => {
            let lacking = lacking(&config, |definition| definition.probe.obstacle());
            let problems = Report::new([warnings.problems(), lacking.as_slice()].concat());
            (Some(config), problems)
        }
        Err(rejected) => (None, rejected.problems),
    };
    let usable = config.filter(|_| !args.strict || problems.is_empty());
    let plan = usable.as_ref().map(Plan::of);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &Answer::new(plan.as_ref(), &problems))?;
        writeln!(out)?;
    } else {
        show(&problems)?;
        if let Some(plan) = &plan {
            out.write_all(plan.summary().as_bytes())?;
        }
    }
    Ok(if plan.is_some() { Exit::Ok } else { Exit::Usage })
}

/// What would run.
struct Plan<'a> {
    services: usize,
    instances: usize,
    rows: Vec<Row<'a>>,
    budget: Budget,
}

/// What whoever runs this cannot ask on this host, if so.
fn lacking(config: &Config, obstacle: impl Fn(&Definition) -> Option<String>) -> Option<Problem> {
    let rows = rows(config);
    let (row, obstacle) = rows.iter().find_map(|row| Some((row, obstacle(row.definition)?)))?;
    let (check, service) = (&row.definition.id, row.service);
    let told =
        format!("the check `{check}` of `{service}` cannot be made on this host: {obstacle}");
    let help = "this is so for whoever runs this command; the daemon may have other rights";
    Some(Problem::warning(told).help(help))
}

/// One check of one service, with how many instances it asks.
struct Row<'a> {
    service: &'a str,
    definition: &'a Arc<Definition>,
    instances: u32,
}

impl<'a> Plan<'a> {
    fn of(config: &'a Config) -> Self {
        let services: std::collections::HashSet<_> =
            config.registrations.iter().map(|r| &r.instance.service).collect();
        Self {
            services: services.len(),
            instances: config.registrations.len(),
            rows: rows(config),
            budget: Budget::of(&config.registrations, &config.scheduler, &Means::read()),
        }
    }

    /// A table of checks, and what they ask of the host.
    fn summary(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "SERVICE",
            "CHECK",
            "BY",
            "INSTANCES",
            "EVERY",
            "WITHIN",
            "FAILURES",
            "NOTICED P50",
            "P99",
            "FALSE A YEAR",
        ]);
        for row in self.rows.iter().take(MAX_ROWS) {
            table.add_row(row.cells());
        }
        for column in 3..10 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        if !self.rows.is_empty() {
            for line in table.trim_fmt().lines() {
                text.extend([line.strip_prefix(' ').unwrap_or(line), "\n"]);
            }
        }
        if self.rows.len() > MAX_ROWS {
            text.extend(["and ", &(self.rows.len() - MAX_ROWS).to_string(), " more\n"]);
        }
        text.push_str(&self.totals());
        text
    }

    fn totals(&self) -> String {
        let checks = self.rows.iter().map(|row| row.instances as usize).sum();
        let Budget {
            probes_per_second: probes,
            connections_per_second: connections,
            hung,
            max_in_flight,
            open_files,
            time_wait,
            busiest,
            ..
        } = &self.budget;
        let mut lines = vec![format!(
            "{}, {}, {}: {probes:.1} probes and {connections:.1} new connections a second\n",
            many(self.services, "service"),
            many(self.instances, "instance"),
            many(checks, "check"),
        )];
        if *hung > 0.0 {
            lines.push(format!(
                "if all targets hang: {hung} probes under way; {max_in_flight} may be, and \
                 {open_files} files open\n"
            ));
        }
        if let (Some(Busiest { destination, ports }), Some(most)) = (busiest, self.budget.ports) {
            lines.push(format!(
                "ports in TIME_WAIT: {time_wait}; to {destination} {ports} of {most}\n"
            ));
        }
        if let (Some(tracked), Some(most)) = (self.budget.tracked, self.budget.max_tracked) {
            lines.push(format!("connections the firewall tracks: {tracked} of {most}\n"));
        }
        lines.concat()
    }
}

fn rows(config: &Config) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for registration in &config.registrations {
        let service = registration.instance.service.as_str();
        for check in &registration.checks {
            let key = (service, Arc::as_ptr(&check.definition));
            let index = *known.entry(key).or_insert_with(|| {
                rows.push(Row { service, definition: &check.definition, instances: 0 });
                rows.len() - 1
            });
            rows[index].instances += 1;
        }
    }
    rows
}

impl Row<'_> {
    fn cells(&self) -> [String; 10] {
        let Definition { id, probe, schedule, thresholds, .. } = &**self.definition;
        let shown = |duration: Duration| Period::from(duration).to_string();
        let [p50, p99, alarms] = if probe.pushed().is_some() {
            // Whoever pushes is not asked.
            [const { String::new() }; 3]
        } else {
            let noticed = |percent| coarse(self.noticed(Manner::Silent, percent));
            [shown(noticed(50)), shown(noticed(99)), format!("{:.1}", self.false_alarms())]
        };
        [
            self.service.to_owned(),
            id.to_string(),
            probe.protocol().to_string(),
            self.instances.to_string(),
            shown(schedule.interval),
            shown(schedule.timeout),
            thresholds.failures_before_critical().to_string(),
            p50,
            p99,
            alarms,
        ]
    }

    fn noticed(&self, manner: Manner, percent: u8) -> Duration {
        noticed::noticed(&self.definition.schedule, &self.definition.thresholds, manner, percent)
    }

    /// Over all instances.
    fn false_alarms(&self) -> f64 {
        let Definition { schedule, thresholds, .. } = &**self.definition;
        f64::from(self.instances) * noticed::false_alarms(schedule, thresholds, BY_CHANCE)
    }
}

/// To a tenth of a second.
fn coarse(duration: Duration) -> Duration {
    let tenths = duration.saturating_add(Duration::from_millis(50)).as_millis() / 100;
    Duration::from_millis(u64::try_from(tenths).unwrap_or(u64::MAX / 100) * 100)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    problems: Vec<Found<'a>>,
    services: usize,
    instances: usize,
    checks: Vec<Shown<'a>>,
    budget: Option<&'a Budget>,
}

#[derive(Serialize)]
struct Found<'a> {
    severity: &'static str,
    message: &'a str,
    file: Option<&'a str>,
    line: Option<usize>,
    column: Option<usize>,
    label: &'a str,
    help: &'a [String],
}

#[derive(Serialize)]
struct Shown<'a> {
    service: &'a str,
    check: &'a str,
    protocol: &'static str,
    instances: u32,
    interval_seconds: f64,
    timeout_seconds: f64,
    failures_before_critical: u32,
    /// A target that says nothing any more, and one that refuses.
    noticed_seconds: Option<Noticed>,
    /// If one of a hundred probes fails by chance.
    false_alarms_a_year: Option<f64>,
}

#[derive(Serialize)]
struct Noticed {
    silent: Spread,
    refusing: Spread,
}

#[derive(Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
}

impl<'a> Answer<'a> {
    fn new(plan: Option<&'a Plan<'a>>, problems: &'a Report) -> Self {
        Self {
            problems: problems.problems().iter().map(Found::new).collect(),
            services: plan.map_or(0, |plan| plan.services),
            instances: plan.map_or(0, |plan| plan.instances),
            checks: plan.map_or(&[][..], |plan| &plan.rows).iter().map(Shown::new).collect(),
            budget: plan.map(|plan| &plan.budget),
        }
    }
}

impl<'a> Found<'a> {
    fn new(problem: &'a Problem) -> Self {
        let position = problem.place.as_ref().map(Place::position);
        Self {
            severity: match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            message: &problem.message,
            file: problem.place.as_ref().map(|place| place.source().name()),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            label: &problem.label,
            help: &problem.help,
        }
    }
}

impl<'a> Shown<'a> {
    fn new(row: &'a Row<'a>) -> Self {
        let Definition { id, probe, schedule, thresholds, .. } = &**row.definition;
        let is_asked = probe.pushed().is_none();
        let spread = |manner| Spread {
            p50: row.noticed(manner, 50).as_secs_f64(),
            p99: row.noticed(manner, 99).as_secs_f64(),
        };
        Self {
            service: row.service,
            check: id.as_str(),
            protocol: probe.protocol().as_str(),
            instances: row.instances,
            interval_seconds: schedule.interval.as_secs_f64(),
            timeout_seconds: schedule.timeout.as_secs_f64(),
            failures_before_critical: thresholds.failures_before_critical(),
            noticed_seconds: is_asked.then(|| Noticed {
                silent: spread(Manner::Silent),
                refusing: spread(Manner::Refusing),
            }),
            false_alarms_a_year: is_asked.then(|| row.false_alarms()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_cannot_ask_is_warned_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rollcall.yaml");
        let yaml = "services:\n- name: web\n  checks:\n  - { id: a, icmp: {} }\n  \
                    - { id: b, icmp: {} }\n  instances: [{ address: 10.0.0.1, port: 80 }]\n";
        std::fs::write(&file, yaml).unwrap();
        let Loaded { config, .. } = config::load(Some(&file), &Overrides::default()).unwrap();
        let refused = |_: &Definition| Some("no right".to_owned());
        let told = Report::new(lacking(&config, refused).into_iter().collect()).to_string();
        assert!(told.contains("`a` of `web` cannot be made on this host: no right"), "{told}");
        assert!(!told.contains("`b`"), "{told}");
        assert_eq!(lacking(&config, |_| None), None);
    }
}
