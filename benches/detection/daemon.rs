//! The real binary with a configuration of the bench's, and what its metrics say.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::{Failure, client::get};

const PATIENCE: Duration = Duration::from_secs(60);

const HEAD: &str = "\
listen: { http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", dns: off }
limits: { requests_per_second: 1000000, request_burst: 1000000 }
metrics: { per_target: state }
log: { format: json, filter: \"warn,rollcall::daemon=info\" }
";

/// A daemon under way; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Daemon {
    /// Starts one with the configuration given, behind what all have in common.
    pub(crate) fn start(config: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let path = folder.path().join("rollcall.yml");
        fs::write(&path, format!("{HEAD}{config}"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.args(["run", "--config"]).arg(path);
        command.arg("--data-dir").arg(folder.path().join("data"));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let (said, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(http) = event["http"].as_str().and_then(|http| http.parse().ok()) {
                    // Asked for once.
                    said.send(http).ok();
                }
            }
        });
        Ok(Self { address: address.recv_timeout(PATIENCE)?, child, _folder: folder })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).ok_or("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    pub(crate) async fn metrics(&self) -> Result<Metrics, Failure> {
        Ok(Metrics(get(self.address, "/metrics").await?.body))
    }

    /// How many checks consumers are told are critical.
    pub(crate) async fn published_criticals(&self) -> Result<usize, Failure> {
        let answer = get(self.address, "/v1/health/state/critical").await?;
        Ok(answer.body.matches("\"CheckID\"").count())
    }

    /// Waits until so many targets are observed, and all of them are well.
    pub(crate) async fn is_well(&self, targets: usize, within: Duration) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let metrics = self.metrics().await?;
            let (well, dead) = (metrics.targets("1").count(), metrics.targets("0").count());
            if (well, dead) == (targets, 0) {
                return Ok(());
            }
            if began.elapsed() > within {
                return Err(format!("{well} of {targets} targets are well, {dead} dead").into());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One scrape.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of the series of a family whose labels contain `labels`.
    pub(crate) fn sum(&self, family: &str, labels: &str) -> f64 {
        let series = self.0.lines().filter_map(|line| line.strip_prefix(family));
        let series = series.filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels));
        series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The targets whose health is given so: `1` well, `0` critical.
    pub(crate) fn targets<'a>(&'a self, health: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix("rollcall_target_healthy{")?;
            let (labels, value) = rest.rsplit_once("} ")?;
            let (_, target) = labels.split_once("target=\"")?;
            (value == health).then(|| target.split('"').next()).flatten()
        })
    }
}

/// A configuration of one service for each list of instances.
pub(crate) fn services(
    check: &str,
    services: impl IntoIterator<Item = (String, Vec<(String, SocketAddr)>)>,
) -> String {
    let one = |(name, instances): (String, Vec<(String, SocketAddr)>)| {
        let instances = instances.into_iter().map(|(id, at)| {
            format!("  - {{ id: {id}, address: {}, port: {} }}\n", at.ip(), at.port())
        });
        let instances: Vec<_> = instances.collect();
        let check = format!("{{ http: {{ path: /health }}, {check} }}");
        format!("- name: {name}\n  checks: [{check}]\n  instances:\n{}", instances.concat())
    };
    let services: Vec<_> = services.into_iter().map(one).collect();
    format!("services:\n{}", services.concat())
}

/// Where data is kept must be there.
pub(crate) fn prepare() -> Result<(), Failure> {
    Ok(fs::create_dir_all(Path::new(env!("CARGO_TARGET_TMPDIR")))?)
}
