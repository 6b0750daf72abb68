//! What takes root: a firewall chain that swallows packets to targets, and a control group that
//! holds a process to a share of a CPU. Both are taken away when dropped; a chain that a killed run
//! has left is taken away by the next.

use std::{fs, path::PathBuf, process::Command};

use crate::Failure;

const CHAIN: &str = "ROLLCALL-BENCH";

/// All networks of targets: `127.64.0.0` to `127.79.255.255`.
const TARGETS: &str = "127.64.0.0/12";

/// Swallows packets to addresses.
pub(crate) struct Wall {
    chain: &'static str,
}

impl Wall {
    /// `None` where there is no iptables, or no right to use it.
    pub(crate) fn raise() -> Option<Self> {
        tear_down();
        iptables(&["-N", CHAIN]).ok()?;
        let wall = Self { chain: CHAIN };
        iptables(&["-I", "OUTPUT", "-d", TARGETS, "-j", CHAIN]).ok()?;
        Some(wall)
    }

    /// Drops all packets to an address or network from now on.
    pub(crate) fn swallow(&self, network: &str) -> Result<(), Failure> {
        iptables(&["-A", self.chain, "-d", network, "-j", "DROP"])
    }

    /// Lets packets to it through again.
    pub(crate) fn heal(&self, network: &str) -> Result<(), Failure> {
        iptables(&["-D", self.chain, "-d", network, "-j", "DROP"])
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        tear_down();
    }
}

/// Each step may find nothing to do.
fn tear_down() {
    drop(iptables(&["-D", "OUTPUT", "-d", TARGETS, "-j", CHAIN]));
    drop(iptables(&["-F", CHAIN]));
    drop(iptables(&["-X", CHAIN]));
}

fn iptables(arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("iptables").arg("-w").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

/// A process held to a tenth of one CPU: 10 ms in each 100 ms.
pub(crate) struct Starved {
    folder: PathBuf,
    pid: u32,
}

impl Starved {
    /// Takes hold of a process; fails without the right to, or without control groups.
    pub(crate) fn hold(pid: u32) -> Result<Self, Failure> {
        let (first, second) =
            (PathBuf::from("/sys/fs/cgroup/cpu"), PathBuf::from("/sys/fs/cgroup"));
        let name = format!("rollcall-bench-{pid}");
        let starved = if first.join("cpu.cfs_quota_us").exists() {
            let starved = Self::make(first.join(name), pid)?;
            fs::write(starved.folder.join("cpu.cfs_quota_us"), "10000")?;
            starved
        } else {
            // Fails where the group has it already in use otherwise; the next step tells.
            fs::write(second.join("cgroup.subtree_control"), "+cpu").ok();
            let starved = Self::make(second.join(name), pid)?;
            fs::write(starved.folder.join("cpu.max"), "10000 100000")?;
            starved
        };
        fs::write(starved.folder.join("cgroup.procs"), pid.to_string())?;
        Ok(starved)
    }

    fn make(folder: PathBuf, pid: u32) -> Result<Self, Failure> {
        fs::create_dir(&folder)?;
        Ok(Self { folder, pid })
    }

    /// Periods in which the process had to wait, of all.
    pub(crate) fn throttled(&self) -> Result<(u64, u64), Failure> {
        let stat = fs::read_to_string(self.folder.join("cpu.stat"))?;
        let figure = |name: &str| {
            let value = stat.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        Ok((figure("nr_throttled "), figure("nr_periods ")))
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        if let Some(parent) = self.folder.parent() {
            // The process may have ended.
            fs::write(parent.join("cgroup.procs"), self.pid.to_string()).ok();
        }
        fs::remove_dir(&self.folder).ok();
    }
}
