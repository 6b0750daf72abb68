//! Taking a configuration over, at the start and when asked to again.
//!
//! A configuration that cannot be used changes nothing: the one before stays, the problems are
//! logged and answered, and a gauge says so. Of one that can be used, instances, checks, the guard,
//! the damping and the log filter are taken over at once; a check that is the same goes on undisturbed. What is only
//! read at the start (listeners, DNS, data directory, node name, threads, limits, where probes may go) is named with the
//! advice to restart.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{signal::unix::Signal, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    agent::Agent,
    api::ReloadRequests,
    clock,
    config::{self, Config, Loaded, Overrides, Rejected},
    metrics,
    registry::{Difference, Registry},
    telemetry,
};

/// The name of the configuration as a source of instances.
const SOURCE: &str = "config";

/// How long to wait before writing again what could not be written.
const OWED: Duration = Duration::from_secs(5);

/// Reads the configuration again.
#[derive(Debug)]
pub struct Reloader {
    path: Option<PathBuf>,
    overrides: Overrides,
    log: Option<telemetry::Handle>,
    /// The configuration in force, without its registrations.
    current: Option<Config>,
}

impl Reloader {
    /// A reloader for this file, with these flags over it, and the log to change with it.
    pub fn new(
        path: Option<PathBuf>,
        overrides: Overrides,
        log: Option<telemetry::Handle>,
    ) -> Self {
        Self { path, overrides, log, current: None }
    }

    /// Where the log can be listened to.
    pub(super) fn streams(&self) -> telemetry::Streams {
        self.log.as_ref().map(telemetry::Handle::streams).unwrap_or_default()
    }

    /// Takes over the configuration that the daemon was started with.
    pub(super) async fn begin(
        &mut self,
        (agent, registry): (&Agent, &Registry),
        metrics: &metrics::Daemon,
        mut config: Config,
    ) {
        let registrations = std::mem::take(&mut config.registrations);
        let instances = registrations.len();
        let difference = agent.configure(registrations).await;
        if instances == 0 {
            info!(
                "Started with an empty registry; to fill it, name services in a file, see what \
                 `rollcall validate FILE` says of it, and start with `--config FILE`"
            );
        } else {
            let checks = registry.checks().len();
            info!(services = registry.services().len(), instances, checks, "Started");
        }
        self.current = Some(config);
        succeeded(metrics, difference);
        metrics.reload_successful.set(i64::from(!agent.owes()));
    }

    /// Reloads whenever it is asked to, by signal or request, until `stop`.
    pub(super) async fn run(
        mut self,
        (agent, metrics): (Arc<Agent>, metrics::Daemon),
        mut requests: ReloadRequests,
        mut hang_up: Signal,
        stop: CancellationToken,
    ) {
        let work = async {
            loop {
                tokio::select! {
                    _ = hang_up.recv() => drop(self.reload(&agent, &metrics).await),
                    Some(request) = requests.next() => {
                        request.answer(self.reload(&agent, &metrics).await);
                    }
                    () = sleep(OWED), if agent.owes() => settle(&agent, &metrics).await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Reads the configuration and takes it over if it can be used. Says for people what has
    /// changed, or what is wrong.
    async fn reload(&mut self, agent: &Agent, metrics: &metrics::Daemon) -> Result<String, String> {
        let (path, overrides) = (self.path.clone(), self.overrides.clone());
        let reading =
            tokio::task::spawn_blocking(move || config::load(path.as_deref(), &overrides));
        let loaded = match reading.await {
            Ok(loaded) => loaded,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        match loaded {
            Ok(loaded) => Ok(self.take_over(agent, metrics, loaded).await),
            Err(rejected) => Err(refused(metrics, &rejected)),
        }
    }

    async fn take_over(
        &mut self,
        agent: &Agent,
        metrics: &metrics::Daemon,
        Loaded { mut config, warnings }: Loaded,
    ) -> String {
        warnings.log();
        let registrations = std::mem::take(&mut config.registrations);
        agent.allow_programs(config.checks.exec.allows_api());
        agent.brake_by(config.guard.clone(), config.damping.clone());
        let difference = agent.configure(registrations).await;
        if let Some(log) = &self.log
            && let Err(error) = log.set_filter(&config.log.filter)
        {
            warn!(%error, "Log filter not changed");
        }
        let needs_restart = self.current.as_ref().map(|old| fixed_settings(old, &config));
        let needs_restart = needs_restart.unwrap_or_default();
        succeeded(metrics, difference);
        metrics.reload_successful.set(i64::from(!agent.owes()));
        let Difference { registered, deregistered, changed } = difference;
        info!(registered, deregistered, changed, ?needs_restart, "Configuration reloaded");
        let restart = if needs_restart.is_empty() {
            String::new()
        } else {
            let names = needs_restart.join(", ");
            format!("changed, but only read at the start: {names}; restart rollcall for these\n")
        };
        let owed = if agent.owes() {
            "not on disk yet, so that consumers are told as before; see the log; it is tried again\n"
        } else {
            ""
        };
        format!(
            "reloaded; instances registered: {registered}, deregistered: {deregistered}, \
             changed: {changed}\n{owed}{restart}"
        )
    }
}

/// The settings that differ but are only read at the start.
fn fixed_settings(old: &Config, new: &Config) -> Vec<&'static str> {
    let differ = [
        ("node_name", old.node_name != new.node_name),
        ("data_dir", old.data_dir != new.data_dir),
        ("listen", old.listen != new.listen),
        ("dns", old.dns != new.dns),
        ("limits", old.limits != new.limits),
        ("log.format", old.log.format != new.log.format),
        ("scheduler", old.scheduler != new.scheduler),
        ("self_health", old.self_health != new.self_health),
        ("egress", old.egress != new.egress),
        ("metrics", old.metrics != new.metrics),
        ("grace_period", old.grace_period != new.grace_period),
        ("event_history", old.event_history != new.event_history),
        ("explain_attempts", old.explain_attempts != new.explain_attempts),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Writes what could not be written when it was taken over.
async fn settle(agent: &Agent, metrics: &metrics::Daemon) {
    match agent.settle().await {
        Ok(()) => {
            info!("Configured instances stored");
            metrics.reload_successful.set(1);
        }
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "Configured instances not stored yet");
        }
    }
}

fn succeeded(metrics: &metrics::Daemon, difference: Difference) {
    let now = clock::now().seconds();
    let count = |action: &str, n: usize| {
        metrics.registrations.with_label_values(&[action]).inc_by(n as u64);
    };
    count("register", difference.registered);
    count("deregister", difference.deregistered);
    metrics.discovery_refreshes.with_label_values(&[SOURCE, "success"]).inc();
    metrics.discovery_last_success.with_label_values(&[SOURCE]).set(now);
    metrics.reload_successful.set(1);
    metrics.reload_time.set(now);
}

fn refused(metrics: &metrics::Daemon, rejected: &Rejected) -> String {
    metrics.discovery_refreshes.with_label_values(&[SOURCE, "failure"]).inc();
    metrics.reload_successful.set(0);
    let problems = rejected.problems.to_string();
    error!(%problems, "Configuration not reloaded; the one before stays in force");
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_probes_may_go_is_read_at_the_start_only() {
        let old = config::load(None, &Overrides::default()).unwrap().config;
        let mut new = old.clone();
        new.egress.deny.push("10.0.0.0/8".parse().unwrap());
        assert_eq!(fixed_settings(&old, &new), ["egress"]);
        assert_eq!(fixed_settings(&old, &old), [""; 0]);
    }
}
