//! What a file says that cannot be so, though each key by itself can be read.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    File, Overrides, brakes, diagnostic::Problem, read::Reader, series, tree::Node, vantage,
};
use crate::model;

/// What a tick of the scheduler may be.
pub(super) const TICKS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(100);

/// A value that may come from a flag: where it is written, if it is.
pub(super) struct Setting<'a> {
    pub(super) root: &'a Node,
    pub(super) path: [&'a str; 2],
    pub(super) flag: bool,
}

impl Setting<'_> {
    /// Puts a problem at the setting's place, or says that a flag is to blame.
    pub(super) fn blame(&self, reader: &mut Reader<'_>, problem: Problem, label: &str) {
        let [section, key] = self.path;
        let node = match key {
            "" => self.root.get(section),
            key => self.root.get(section).and_then(|node| node.get(key)),
        };
        let problem = match node {
            _ if self.flag => problem.help(format!("{label} by a flag of the command line")),
            Some(node) => problem.at(reader.place(&node.span), label),
            None => problem.help(format!("{label} by default")),
        };
        reader.report(problem);
    }
}

/// Checks what no single key can tell.
pub(super) fn file(reader: &mut Reader<'_>, root: &Node, file: &File, overrides: &Overrides) {
    listeners(reader, root, file, overrides);
    let setting = |section, key, flag| Setting { root, path: [section, key], flag };
    if let Some(name) = overrides.node_name.as_ref().or(file.node_name.as_ref())
        && let Err(error) = name.parse::<model::InstanceId>()
    {
        let problem = Problem::error(format!("this node name cannot be used: {error}"));
        setting("node_name", "", overrides.node_name.is_some()).blame(
            reader,
            problem,
            &format!("{name:?} is given"),
        );
    }
    let filter = overrides.log_filter.as_ref().unwrap_or(&file.log.filter);
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(filter) {
        let problem = Problem::error(format!("this log filter cannot be read: {error}"))
            .help("write a level, such as `info`, or `rollcall=debug,info`");
        setting("log", "filter", overrides.log_filter.is_some()).blame(
            reader,
            problem,
            &format!("{filter:?} is given"),
        );
    }
    if !file.alertmanagers.is_empty() {
        let problem = Problem::error("alerts cannot be pushed to Alertmanagers yet")
            .help("leave the list empty; the Prometheus rules in `alerts/` raise the same alerts");
        setting("alertmanagers", "", false).blame(reader, problem, "names some");
    }
    bounds(reader, root, file);
    brakes::vet(reader, root, file);
    series::warn(reader, root, &file.metrics);
    vantage::vet(reader, root, &file.self_health);
}

/// Checks the numbers of the file that have bounds.
fn bounds(reader: &mut Reader<'_>, root: &Node, file: &File) {
    let setting = |section, key| Setting { root, path: [section, key], flag: false };
    if !TICKS.contains(&file.scheduler.tick.get()) {
        let problem = Problem::error("`tick` must be between 1ms and 100ms");
        let label = format!("{} is given", file.scheduler.tick);
        setting("scheduler", "tick").blame(reader, problem, &label);
    }
    if file.scheduler.threads.get() > 256 {
        let problem = Problem::error("`threads` must not be above 256");
        let label = format!("{} are given", file.scheduler.threads);
        setting("scheduler", "threads").blame(reader, problem, &label);
    }
    if file.grace_period.get() > Duration::from_secs(3600) {
        let problem = Problem::error("`grace_period` must not be above 1h");
        let label = format!("{} is given", file.grace_period);
        setting("grace_period", "").blame(reader, problem, &label);
    }
    if !(1..=8).contains(&file.dns.udp_answer_limit) {
        let problem = Problem::error("`udp_answer_limit` must be between 1 and 8");
        let label = format!("{} is given", file.dns.udp_answer_limit);
        setting("dns", "udp_answer_limit").blame(reader, problem, &label);
    }
    if file.event_history > 1_000_000 {
        let problem = Problem::error("`event_history` must not be above 1,000,000");
        let label = format!("{} are given", file.event_history);
        setting("event_history", "").blame(reader, problem, &label);
    }
}

fn listeners(reader: &mut Reader<'_>, root: &Node, file: &File, overrides: &Overrides) {
    let insecure = overrides.insecure.unwrap_or(file.insecure);
    let (listen, dns) = (&file.listen, overrides.dns.unwrap_or(file.listen.dns));
    let all = [
        ("http", overrides.http.is_some(), overrides.http.or(Some(listen.http))),
        ("grpc", overrides.grpc.is_some(), overrides.grpc.or(Some(listen.grpc))),
        ("dns", overrides.dns.is_some(), dns.address()),
    ];
    let listening = |(key, flag, address): (_, _, Option<_>)| Some((key, flag, address?));
    let listening: Vec<_> = all.into_iter().filter_map(listening).collect();
    for (at, (key, flag, address)) in listening.iter().copied().enumerate() {
        let setting = Setting { root, path: ["listen", key], flag };
        if !address.ip().is_loopback() && !insecure {
            let problem = Problem::error(format!(
                "`listen.{key}` is open to other hosts without TLS and without a token"
            ))
            .help("listen on 127.0.0.1 or [::1] and put a proxy before it")
            .help("if it is meant, say `insecure: true`");
            setting.blame(reader, problem, &format!("{address} is given"));
        }
        let mut before = listening[..at].iter();
        if let Some((first, ..)) = before.find(|(.., other)| *other == address)
            && address.port() != 0
        {
            let problem =
                Problem::error(format!("`listen.{first}` and `listen.{key}` need different ports"));
            setting.blame(reader, problem, &format!("{address} is given for both"));
        }
    }
}
