//! The programs that are compared, each on the CPU that the responder is not on.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Failure, Kind, Pace, floor::Floor, target};

/// `HAProxy`'s servers: more than some ten thousand it refuses where few files may be open.
pub(super) const SERVERS: u32 = 2000;

/// A program under way; killed when dropped.
pub(super) struct Arm {
    name: &'static str,
    child: Child,
}

impl Arm {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the program has ended.
    pub(super) fn lives(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("{} has ended early: {status}", self.name).into()),
            None => Ok(()),
        }
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pinned(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Whether a program can be found, and where.
fn found(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut all = std::env::split_paths(&folders).chain(usual);
    all.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

/// This program again, as the floor.
pub(super) fn floor(floor: Floor) -> Result<Arm, Failure> {
    let mut command = pinned(std::env::current_exe()?);
    command.args(["--floor", floor.kind.as_str(), "--port", &floor.port.to_string()]);
    command.args(["--targets", &floor.targets.to_string()]);
    match floor.pace {
        Pace::Rate { rate, tick } => {
            command.args(["--rate", &rate.to_string(), "--tick", &tick.as_millis().to_string()])
        }
        Pace::Saturated { flights } => command.args(["--flights", &flights.to_string()]),
    };
    Ok(Arm { name: "the floor", child: command.spawn()? })
}

/// What rollcall is told to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleet {
    pub(super) kind: Kind,
    pub(super) port: u16,
    pub(super) checks: u32,
    pub(super) interval: Duration,
    pub(super) api: u16,
}

/// The real program, with as many instances as there are to be checks.
pub(super) fn rollcall(fleet: Fleet, folder: &Path) -> Result<Arm, Failure> {
    let config = folder.join("rollcall.yml");
    write_fleet(fleet, &config)?;
    let data = folder.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let mut command = pinned(env!("CARGO_BIN_EXE_rollcall"));
    command.arg("run").arg("--config").arg(&config).arg("--data-dir").arg(&data);
    command.args(["--log-filter", "warn"]).stderr(Stdio::inherit());
    Ok(Arm { name: "rollcall", child: command.spawn()? })
}

fn write_fleet(fleet: Fleet, path: &Path) -> Result<(), Failure> {
    let Fleet { kind, port, checks, interval, api } = fleet;
    let what = match kind {
        Kind::Http => "http: { path: /health }",
        Kind::Kept => "http: { path: /health, keep_alive: true }",
        Kind::Tcp => "tcp: {}",
    };
    let interval = interval.as_millis();
    let timeout = (interval * 4 / 5).min(2000);
    let fast = if interval < 1000 { ", allow_fast_interval: true" } else { "" };
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    write!(
        file,
        "listen: {{ http: \"127.0.0.1:{api}\", grpc: \"127.0.0.1:0\" }}\n\
         scheduler: {{ max_in_flight: 8000 }}\n\
         metrics: {{ per_target: off }}\n\
         services:\n\
         - name: bench\n\
         \x20 checks: [{{ {what}, interval: {interval}ms, timeout: {timeout}ms{fast} }}]\n\
         \x20 instances:\n"
    )?;
    for index in 0..checks {
        let address = target::address(index);
        writeln!(file, "  - {{ id: i{index}, address: {address}, port: {port} }}")?;
    }
    Ok(file.flush()?)
}

/// `HAProxy` with as many servers as it takes to make `rate` checks a second; nothing if it is not
/// there.
pub(super) fn haproxy(
    kind: Kind,
    port: u16,
    rate: u32,
    folder: &Path,
) -> Result<Option<Arm>, Failure> {
    let Some(program) = found("haproxy") else { return Ok(None) };
    let interval = u64::from(SERVERS) * 1000 / u64::from(rate);
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 100\n\
         defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 2s\n  timeout server 2s\n\
         \x20 timeout check 2s\n\
         frontend idle\n  bind unix@{}\n  default_backend bench\n\
         backend bench\n\
         \x20 default-server check inter {interval} fastinter {interval} downinter {interval}\n",
        folder.join("haproxy.sock").display()
    );
    if kind == Kind::Http {
        text.push_str(
            "  option httpchk\n  http-check send meth GET uri /health ver HTTP/1.1 hdr Host 127.1.0.0\n\
             \x20 http-check expect status 200\n",
        );
    }
    for index in 0..SERVERS {
        writeln!(text, "  server s{index} {}:{port}", target::address(index))?;
    }
    let config = folder.join("haproxy.cfg");
    fs::write(&config, text)?;
    let mut command = pinned(program);
    command.arg("-db").arg("-f").arg(&config).stderr(Stdio::null());
    Ok(Some(Arm { name: "HAProxy", child: command.spawn()? }))
}

/// `blackbox_exporter` on a port of its own, with one thread for its goroutines; nothing if it is not
/// there.
pub(super) fn blackbox(port: u16, folder: &Path) -> Result<Option<Arm>, Failure> {
    let Some(program) = found("prometheus-blackbox-exporter") else { return Ok(None) };
    let config = folder.join("blackbox.yml");
    fs::write(
        &config,
        "modules:\n\
         \x20 http_2xx: { prober: http, timeout: 2s, http: { preferred_ip_protocol: ip4 } }\n\
         \x20 tcp_connect: { prober: tcp, timeout: 2s, tcp: { preferred_ip_protocol: ip4 } }\n",
    )?;
    let mut command = pinned(program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.env("GOMAXPROCS", "1").stderr(Stdio::null());
    Ok(Some(Arm { name: "blackbox_exporter", child: command.spawn()? }))
}
