//! `rollcall validate FILE`: what is wrong with a configuration, or what would run.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    config::{self, Config, Loaded, Overrides, diagnostic::Paint},
    duration::Period,
    registry::Definition,
};

/// Exit code of a configuration that cannot be used.
const UNUSABLE: u8 = 2;

/// Most rows of the table; the totals below it count all.
const MAX_ROWS: usize = 50;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Fail on warnings too.
    #[arg(long)]
    pub strict: bool,
}

/// Writes problems to `err`, and what would run to `out` if the file can be used. Returns the exit
/// code: 0, or 2 if the file cannot be used (with `strict`, if there is anything to say of it).
pub fn run(
    args: &Args,
    paint: Paint,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    match config::load(Some(&args.file), &Overrides::default()) {
        Ok(Loaded { config, warnings }) => {
            err.write_all(warnings.render(paint).as_bytes())?;
            if args.strict && !warnings.is_empty() {
                return Ok(UNUSABLE);
            }
            out.write_all(summary(&config).as_bytes())?;
            Ok(0)
        }
        Err(rejected) => {
            err.write_all(rejected.problems.render(paint).as_bytes())?;
            Ok(UNUSABLE)
        }
    }
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
        text.push_str(&table.trim_fmt());
        text.push('\n');
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
    // The first failing probe starts up to one interval after the target has gone.
    let noticed = schedule.interval.saturating_mul(failures).saturating_add(schedule.timeout);
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
    let checks: u32 = rows.iter().map(|row| row.instances).sum();
    let rate: f64 = rows
        .iter()
        .map(|row| f64::from(row.instances) / row.definition.schedule.interval.as_secs_f64())
        .sum();
    format!(
        "{} services, {} instances, {checks} checks: {rate:.1} probes and as many connections a second\n",
        services.len(),
        config.registrations.len(),
    )
}
