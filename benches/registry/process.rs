//! What is measured: our own binary, and Debian's etcd.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    Failure,
    client::{self, Client, Etcd},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A process under way; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const CONFIG: &str = "\
listen: { http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\", dns: off }
limits: { requests_per_second: 1000000, request_burst: 1000000, max_connections: 20000,
          max_waiters: 20000, max_waiters_per_client: 20000 }
log: { format: json, filter: \"warn,rollcall::daemon=info\" }
";

impl Process {
    /// Starts rollcall on a data directory and waits until it is ready.
    pub(crate) async fn rollcall(folder: &Path) -> Result<Self, Failure> {
        let config = folder.join("rollcall.yml");
        fs::write(&config, CONFIG)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.args(["run", "--config"]).arg(config).arg("--data-dir").arg(folder.join("data"));
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let (said, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                let http = event["http"].as_str().and_then(|http| http.parse().ok());
                if let Some(http) = http {
                    // Asked for once.
                    said.send(http).ok();
                }
            }
        });
        let process = Self { address: address.recv_timeout(PATIENCE)?, child };
        let ready = client::request("GET", "/-/ready", "");
        let started = Instant::now();
        loop {
            if let Ok(mut client) = Client::connect(process.address).await
                && client.demand(&ready).await.is_ok()
            {
                return Ok(process);
            }
            if started.elapsed() > PATIENCE {
                return Err("rollcall does not get ready".into());
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Starts a member of etcd that is alone.
    pub(crate) async fn etcd(folder: &Path) -> Result<Self, Failure> {
        let port = || -> Result<SocketAddr, Failure> {
            Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
        };
        let (address, peer) = (port()?, port()?);
        let urls = (format!("http://{address}"), format!("http://{peer}"));
        let mut command = Command::new("etcd");
        command.args(["--log-level", "error", "--logger", "zap"]);
        command.arg("--data-dir").arg(folder.join("etcd"));
        command.args(["--listen-client-urls", &urls.0, "--advertise-client-urls", &urls.0]);
        command.args(["--listen-peer-urls", &urls.1, "--initial-advertise-peer-urls", &urls.1]);
        command.args(["--initial-cluster", &format!("default={}", urls.1)]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Self { child: child.spawn()?, address };
        let started = Instant::now();
        loop {
            if let Ok(mut etcd) = Etcd::connect(address).await
                && etcd.put(client::put("ready", "")).await.is_ok()
            {
                return Ok(process);
            }
            if started.elapsed() > PATIENCE {
                return Err("etcd does not get ready".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// CPU time used so far, by all threads.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let mut cpu = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = stat.split_ascii_whitespace().next().ok_or("schedstat is empty")?;
            cpu += Duration::from_nanos(nanos.parse()?);
        }
        Ok(cpu)
    }

    /// Bytes resident.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmRSS")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }
}
