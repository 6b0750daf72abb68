//! `rollcall validate FILE`: what is wrong with a configuration, or what would run.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use comfy_table::{CellAlignment, Table, presets};

use super::{Exit, many, show};
use crate::{
    config::{
        self, Config, Loaded, Overrides,
        check::runs_per_hang,
        diagnostic::{Problem, Report},
    },
    duration::Period,
    registry::Definition,
};

/// Most rows of the table; the totals below it count all.
const MAX_ROWS: usize = 50;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
}

/// Shows problems, and writes what would run to `out` if the file can be used. With `strict` a file
/// with warnings cannot.
pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    match config::load(Some(&args.file), &Overrides::default()) {
        Ok(Loaded { config, warnings }) => {
            let lacking = lacking(&config, |definition| definition.probe.obstacle());
            let warnings = Report::new([warnings.problems(), lacking.as_slice()].concat());
            show(&warnings)?;
            if args.strict && !warnings.is_empty() {
                return Ok(Exit::Usage);
            }
            out.write_all(summary(&config).as_bytes())?;
            Ok(Exit::Ok)
        }
        Err(rejected) => {
            show(&rejected.problems)?;
            Ok(Exit::Usage)
        }
    }
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

/// What would run: a table of checks and the load that they are.
fn summary(config: &Config) -> String {
    let rows = rows(config);
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
        "NOTICED AFTER",
    ]);
    for row in rows.iter().take(MAX_ROWS) {
        table.add_row(cells(row));
    }
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    if !rows.is_empty() {
        for line in table.trim_fmt().lines() {
            text.extend([line.strip_prefix(' ').unwrap_or(line), "\n"]);
        }
    }
    if rows.len() > MAX_ROWS {
        text.extend(["and ", &(rows.len() - MAX_ROWS).to_string(), " more\n"]);
    }
    text.push_str(&totals(config, &rows));
    text
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

fn cells(row: &Row<'_>) -> [String; 8] {
    let Definition { id, probe, schedule, thresholds, .. } = &**row.definition;
    let failures = thresholds.failures_before_critical();
    // The first failing probe starts up to one interval after the target has gone, each further one
    // after those that are skipped because the one before still waits.
    let further = (failures - 1).saturating_mul(runs_per_hang(schedule));
    let intervals = further.saturating_add(1);
    let noticed = schedule.interval.saturating_mul(intervals).saturating_add(schedule.timeout);
    let shown = |duration: Duration| Period::from(duration).to_string();
    [
        row.service.to_owned(),
        id.to_string(),
        probe.protocol().to_string(),
        row.instances.to_string(),
        shown(schedule.interval),
        shown(schedule.timeout),
        failures.to_string(),
        format!("≤ {}", shown(noticed)),
    ]
}

fn totals(config: &Config, rows: &[Row<'_>]) -> String {
    let services: std::collections::HashSet<_> =
        config.registrations.iter().map(|r| &r.instance.service).collect();
    let checks = rows.iter().map(|row| row.instances as usize).sum();
    let rate = |rows: &mut dyn Iterator<Item = &Row<'_>>| {
        rows.map(|row| f64::from(row.instances) / row.definition.schedule.interval.as_secs_f64())
            .fold(0.0, |sum, rate| sum + rate)
    };
    let probes = rate(&mut rows.iter());
    let connects = |row: &&Row<'_>| !row.definition.probe.keeps_connections();
    let connections = rate(&mut rows.iter().filter(connects));
    format!(
        "{}, {}, {}: {probes:.1} probes and {connections:.1} new connections a second\n",
        many(services.len(), "service"),
        many(config.registrations.len(), "instance"),
        many(checks, "check"),
    )
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
