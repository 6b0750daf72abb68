//! The real binary with a configuration of the bench's, and what its metrics say.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{Failure, client};

const PATIENCE: Duration = Duration::from_secs(60);

const TARGETS_OF_A_SERVICE: usize = 100;

const HEAD: &str = "\
listen: { http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", dns: off }
limits: { requests_per_second: 1000000, request_burst: 1000000 }
guard: { enabled: false }
log: { format: json, filter: \"warn,rollcall::daemon=info\" }
services:
";

/// The name of the service of check `n`.
pub(crate) fn service(n: usize) -> String {
    format!("service-{:04}", n / TARGETS_OF_A_SERVICE)
}

/// One HTTP check of each address.
pub(crate) fn config(
    addresses: impl Iterator<Item = Ipv4Addr>,
    port: u16,
    (interval, timeout): (Duration, Duration),
) -> String {
    let mut text = HEAD.to_owned();
    let (interval, timeout) = (interval.as_millis(), timeout.as_millis());
    for (n, address) in addresses.enumerate() {
        let name = service(n);
        if n % TARGETS_OF_A_SERVICE == 0 {
            let check = format!(
                "{{ id: main, http: {{}}, interval: {interval}ms, timeout: {timeout}ms, \
                 tripwire: false }}"
            );
            writeln!(text, "- name: {name}\n  checks: [{check}]\n  instances:").unwrap_or_default();
        }
        writeln!(text, "  - {{ id: {name}-{n}, address: {address}, port: {port} }}")
            .unwrap_or_default();
    }
    text
}

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
    pub(crate) fn start(config: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let path = folder.path().join("rollcall.yml");
        fs::write(&path, config)?;
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

    /// Reads all metrics, and lets them go.
    pub(crate) async fn scrape(&self, headers: &str) -> Result<Vec<u8>, Failure> {
        client::get(self.address, "/metrics", headers).await
    }

    /// How late probes were while something else went on.
    pub(crate) async fn lag_while(&self, work: impl Future<Output = ()>) -> Result<Lag, Failure> {
        let before = self.lag().await?;
        work.await;
        Ok(self.lag().await?.since(&before))
    }

    async fn lag(&self) -> Result<Lag, Failure> {
        let text = String::from_utf8(self.scrape("").await?)?;
        let buckets = text
            .lines()
            .filter_map(|line| line.strip_prefix("rollcall_scheduler_lag_seconds_bucket{le=\""));
        let read = |bucket: &str| {
            let (bound, count) = bucket.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        };
        Ok(Lag(buckets.filter_map(read).collect()))
    }

    /// Runs left out so far, for whatever reason.
    pub(crate) async fn skipped(&self) -> Result<f64, Failure> {
        let text = String::from_utf8(self.scrape("").await?)?;
        let lines =
            text.lines().filter(|l| l.starts_with("rollcall_scheduler_skipped_runs_total{"));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// CPU time used so far, by all threads, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        let mut cpu = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = stat.split_ascii_whitespace().next().ok_or("schedstat is empty")?;
            cpu += nanos.parse::<f64>()? / 1e9;
        }
        Ok(cpu)
    }
}

/// Probes by how late they were: upper bounds in seconds, with how many were within.
pub(crate) struct Lag(Vec<(f64, f64)>);

impl Lag {
    fn since(self, before: &Self) -> Self {
        let pairs = self.0.into_iter().zip(&before.0);
        Self(pairs.map(|((bound, now), (_, then))| (bound, now - then)).collect())
    }

    pub(crate) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// That share of probes was no later, in seconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = self.count() * share;
        let (mut below, mut within) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                let part = if *count > within { (rank - within) / (count - within) } else { 1.0 };
                return if bound.is_finite() { below + (bound - below) * part } else { below };
            }
            (below, within) = (*bound, *count);
        }
        below
    }
}
