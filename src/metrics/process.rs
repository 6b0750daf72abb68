//! What the kernel says of this process, read from `/proc/self` at scrape time; and when it started,
//! which is told from outside because the boot time may be hidden from us (`ProcSubset=pid`).
//!
//! The names are those every Prometheus client library uses. The `prometheus` crate's own
//! collector is not used because it brings two more crates for these seven numbers.

use std::{fs, str::FromStr};

use super::{
    catalogue::{
        Family, PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_RESIDENT, PROCESS_START,
        PROCESS_THREADS, PROCESS_VIRTUAL,
    },
    text::{Value, Writer},
};
use crate::clock::Timestamp;

/// Kernel clock ticks a second as `/proc` counts them: `USER_HZ`, 100 on every Linux architecture
/// this crate builds for (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what is known; what cannot be read is left out.
pub(super) fn write(writer: &mut Writer, started: Timestamp) {
    gauge(writer, &PROCESS_START, started.seconds());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; fields are counted from behind it (proc(5)).
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |index: usize| number::<f64>(&fields, index);
    if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
        gauge(writer, &PROCESS_CPU, (user + system) / TICKS_PER_SECOND);
    }
    if let Some(threads) = ticks(17) {
        gauge(writer, &PROCESS_THREADS, threads);
    }
    if let Some(bytes) = ticks(20) {
        gauge(writer, &PROCESS_VIRTUAL, bytes);
    }
    if let Some(kib) = status_kib("VmRSS:") {
        gauge(writer, &PROCESS_RESIDENT, kib * 1024.0);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The directory itself is open while it is read.
        writer.family(&PROCESS_FDS);
        writer.count(PROCESS_FDS.name, &[], open.count().saturating_sub(1) as u64);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    writer.family(&PROCESS_MAX_FDS);
    writer.count(PROCESS_MAX_FDS.name, &[], limit.unwrap_or(u64::MAX));
}

fn gauge(writer: &mut Writer, family: &Family, value: f64) {
    writer.family(family);
    writer.sample(family.name, &[], Value::Number(value));
}

fn number<T: FromStr>(fields: &[&str], index: usize) -> Option<T> {
    fields.get(index)?.parse().ok()
}

fn status_kib(key: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let rest = status.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_seven_are_read_on_linux() {
        let mut writer = Writer::default();
        write(&mut writer, Timestamp::from_seconds(1));
        let text = writer.take();
        for family in [
            &PROCESS_CPU,
            &PROCESS_THREADS,
            &PROCESS_START,
            &PROCESS_VIRTUAL,
            &PROCESS_RESIDENT,
            &PROCESS_FDS,
            &PROCESS_MAX_FDS,
        ] {
            assert!(
                format!("\n{text}").contains(&format!("\n{} ", family.name)),
                "{} in {text}",
                family.name
            );
        }
    }
}
