//! Those that ask: how they are started, and what they cost.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{Failure, Plan, responder::Responder};

/// How many loopback addresses are asked, so that ports do not run out.
pub(crate) const ADDRESSES: u8 = 50;

/// Who asks, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arm {
    TonicFresh,
    H2Fresh,
    BareKept,
    GrpcFresh,
    GrpcKept,
    HttpsFull,
    HttpsResumed,
    HttpKept,
}

/// What one run of an arm cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU of the whole process, microseconds a probe.
    pub(crate) cpu: f64,
    /// Probes a second.
    pub(crate) rate: f64,
}

/// Something that runs; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Arm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TonicFresh => "tonic, fresh channel",
            Self::H2Fresh => "h2 library, fresh",
            Self::BareKept => "bare exchange, kept",
            Self::GrpcFresh => "rollcall gRPC, fresh",
            Self::GrpcKept => "rollcall gRPC, kept",
            Self::HttpsFull => "rollcall HTTPS, full",
            Self::HttpsResumed => "rollcall HTTPS, resumed",
            Self::HttpKept => "rollcall HTTP, kept",
        }
    }

    /// What rollcall is configured to ask.
    fn check(self, authority: &Path) -> Option<String> {
        let https = |resume| {
            let tls = format!("{{ ca_file: {}, resume: {resume} }}", authority.display());
            format!("http: {{ path: /health, https: true, tls: {tls} }}")
        };
        match self {
            Self::TonicFresh | Self::H2Fresh | Self::BareKept => None,
            Self::GrpcFresh => Some("grpc: { keep_alive: false }".to_owned()),
            Self::GrpcKept => Some("grpc: {}".to_owned()),
            Self::HttpsFull => Some(https(false)),
            Self::HttpsResumed => Some(https(true)),
            Self::HttpKept => Some("http: { path: /health, keep_alive: true }".to_owned()),
        }
    }

    fn is_kept(self) -> bool {
        matches!(self, Self::GrpcKept | Self::HttpKept | Self::BareKept)
    }

    pub(crate) fn measure(
        self,
        responder: &Responder,
        rate: u32,
        folder: &Path,
        plan: Plan,
    ) -> Result<Cost, Failure> {
        let mut running = self.start(responder.port, rate, folder)?;
        thread::sleep(plan.warm_up);
        let pid = running.0.id();
        let (cpu, counted) = (cpu(pid)?, responder.counted());
        thread::sleep(plan.window);
        let (cpu, counted) = (self::cpu(pid)?.saturating_sub(cpu), responder.counted() - counted);
        if let Some(status) = running.0.try_wait()? {
            return Err(format!("{} ended early: {status}", self.name()).into());
        }
        if counted.malformed > 0 {
            let bad = counted.malformed;
            return Err(format!("{}: {bad} requests were not as asked for", self.name()).into());
        }
        let probes = figure(counted.requests);
        if probes < f64::from(rate) * plan.window.as_secs_f64() * 0.9 {
            return Err(format!("{}: only {probes} in {:?}", self.name(), plan.window).into());
        }
        let (connections, resumed) = (figure(counted.connections), figure(counted.resumed));
        if self.is_kept() != (connections < probes / 100.0) {
            return Err(format!("{}: {connections} connections for {probes}", self.name()).into());
        }
        if (self == Self::HttpsResumed) != (resumed > probes * 0.98) {
            return Err(format!("{}: {resumed} resumed of {probes}", self.name()).into());
        }
        Ok(Cost { cpu: cpu.as_secs_f64() * 1e6 / probes, rate: probes / plan.window.as_secs_f64() })
    }

    fn start(self, port: u16, rate: u32, folder: &Path) -> Result<Running, Failure> {
        let drive = |kind| -> Result<Command, Failure> {
            let mut command = pinned(&std::env::current_exe()?);
            command.args(["--drive", kind, "--port", &port.to_string()]);
            command.args(["--rate", &rate.to_string()]);
            Ok(command)
        };
        let mut command = match self {
            Self::TonicFresh => drive("tonic")?,
            Self::H2Fresh => drive("h2")?,
            Self::BareKept => drive("bare")?,
            Self::GrpcFresh
            | Self::GrpcKept
            | Self::HttpsFull
            | Self::HttpsResumed
            | Self::HttpKept => {
                let check = self.check(&folder.join("ca.pem")).unwrap_or_default();
                let config = write_config(folder, &check, port, rate)?;
                let mut command = pinned(Path::new(env!("CARGO_BIN_EXE_rollcall")));
                command.arg("run").arg("--config").arg(config);
                command.arg("--data-dir").arg(folder.join("data"));
                command.args(["--log-filter", "warn"]).stderr(Stdio::inherit());
                command
            }
        };
        Ok(Running(command.spawn()?))
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn figure(count: u64) -> f64 {
    count as f64
}

/// On the CPU that the responder is not on.
fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// CPU time so far: nanoseconds on a CPU come first in each thread's `schedstat`.
fn cpu(pid: u32) -> Result<Duration, Failure> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = stat.split_ascii_whitespace().next().ok_or("schedstat is empty")?;
        sum += Duration::from_nanos(nanos.parse()?);
    }
    Ok(sum)
}

fn write_config(folder: &Path, check: &str, port: u16, rate: u32) -> Result<PathBuf, Failure> {
    // What was learnt by the arm before must not help this one.
    if let Err(error) = fs::remove_dir_all(folder.join("data"))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error.into());
    }
    let path = folder.join("rollcall.yml");
    let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
    writeln!(file, "listen: {{ http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\" }}")?;
    writeln!(file, "scheduler: {{ max_in_flight_per_host: 10000, max_tripwires: 0 }}")?;
    writeln!(file, "services:\n  - name: bench\n    checks:")?;
    writeln!(file, "      - {{ {check}, interval: 1s, timeout: 900ms }}")?;
    writeln!(file, "    instances:")?;
    for n in 0..rate {
        writeln!(file, "      - {{ id: i{n}, address: {}, port: {port} }}", address(n))?;
    }
    file.flush()?;
    Ok(path)
}

pub(crate) fn address(n: u32) -> Ipv4Addr {
    let last = u8::try_from(n % u32::from(ADDRESSES)).unwrap_or(0) + 1;
    Ipv4Addr::new(127, 0, 0, last)
}
