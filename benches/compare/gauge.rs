//! What the kernel says of a process, and of the network.

use std::{fs, time::Duration};

use super::Failure;

/// CPU time used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// By all threads.
    pub(super) process: Duration,
    /// By the threads that probe.
    pub(super) probing: Duration,
}

impl Cpu {
    /// Sums what the kernel says of each thread: nanoseconds on a CPU come first in `schedstat`.
    pub(super) fn read(pid: u32) -> Result<Self, Failure> {
        let mut cpu = Self { process: Duration::ZERO, probing: Duration::ZERO };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let Ok(stat) = fs::read_to_string(task.join("schedstat")) else { continue };
            let nanos = stat.split_ascii_whitespace().next().ok_or("schedstat is empty")?;
            let nanos = Duration::from_nanos(nanos.parse()?);
            cpu.process += nanos;
            if fs::read_to_string(task.join("comm"))?.trim() == "prober" {
                cpu.probing += nanos;
            }
        }
        Ok(cpu)
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            process: self.process.saturating_sub(before.process),
            probing: self.probing.saturating_sub(before.probing),
        }
    }
}

/// Memory of a process in bytes: resident now, and the most it ever was.
pub(super) fn memory(pid: u32) -> Result<(u64, u64), Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64, Failure> {
        let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such field")?;
        let kilobytes = line.split_ascii_whitespace().nth(1).ok_or("no value")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// How many connections were begun in this network name space.
pub(super) fn connections() -> Result<u64, Failure> {
    let snmp = fs::read_to_string("/proc/net/snmp")?;
    let mut tcp = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().ok_or("no names")?, tcp.next().ok_or("no values")?);
    let mut both = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    let (_, value) = both.find(|(name, _)| *name == "ActiveOpens").ok_or("no ActiveOpens")?;
    Ok(value.parse()?)
}
