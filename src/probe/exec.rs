//! The exec probe: a program is run, and its exit code is the answer, as Nagios has it.
//!
//! 0 is a success, 1 a warning, anything else and a death by signal a failure. No shell is involved:
//! the arguments reach the program as they are written. The program runs as the daemon's user, in
//! the daemon's working directory, with nothing to read and with next to none of the daemon's
//! environment, which may hold secrets.
//!
//! It is the leader of a process group of its own, and no process of the group outlives the probe:
//! when the program exits, when the time is up, and when the probe is dropped, the group is killed.
//! What has made a session of its own escapes that, but is not waited for, although it may hold the
//! pipe open: what the program itself wrote is in the pipe when it exits.
//!
//! A program is started on a thread where it may block, for the kernel reads the file first.

#[cfg(test)]
mod tests;

use std::{
    env, io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    process::{Child, Command},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::{
    PrepareError,
    fault::{self, Fault, printable},
    trace::Trace,
};
use crate::model::{Phase, Reason};

/// Most programs that run at once: each costs a process, and a host that is short of something makes
/// all of them slow at once.
const MOST: usize = 32;

/// Most bytes of the output that are kept, the last ones; as many as Consul keeps.
const KEPT: usize = 4096;

/// Most bytes that are read at once.
const CHUNK: usize = 4096;

/// What a pipe holds.
const PIPE: usize = 64 << 10;

/// What a program gets of the daemon's environment.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// A check by a program of the daemon's host: exit code 0 is a success, 1 a warning, anything else a
/// failure. `checks.exec` must allow it. What it writes is shown, the last 4096 bytes of it. It runs
/// as the daemon's user, in the daemon's working directory, without input, and of the daemon's
/// environment with `PATH`, `HOME`, `LANG`, `LC_ALL` and `TZ` only. At the timeout it is killed with
/// all that it started, and so is what it leaves behind in its process group when it exits. At most
/// 32 programs run at once; further ones wait, within their timeout.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Exec")]
pub struct Spec {
    /// The program and its arguments, which no shell reads: `[/usr/lib/check_disk, -w, "10%"]`. The
    /// program is an absolute path, or a name to be found in the daemon's `PATH`. Required.
    pub args: Vec<String>,
}

/// What checks may do beyond asking over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who may make the daemon run programs as checks (`exec`, and `args` in Consul's files): nobody
    /// (`off`), whoever writes the configuration and the service files (`files`), or whoever reaches
    /// the API as well (`api`), which hands the daemon's rights to all of them. Default: `off`.
    pub exec: Allowed,
}

/// From where a check that runs a program may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Allowed {
    /// From nowhere.
    #[default]
    Off,
    /// From files.
    Files,
    /// From files and from the API.
    Api,
}

impl Allowed {
    /// Whether a file may hold one.
    pub const fn allows_files(self) -> bool {
        match self {
            Self::Off => false,
            Self::Files | Self::Api => true,
        }
    }

    /// Whether one may be registered by the API.
    pub const fn allows_api(self) -> bool {
        match self {
            Self::Off | Self::Files => false,
            Self::Api => true,
        }
    }
}

impl From<Spec> for super::Spec {
    fn from(spec: Spec) -> Self {
        Self::Exec(spec)
    }
}

/// An exec check made ready.
#[derive(Debug, PartialEq)]
pub(super) struct Probe {
    spec: Arc<Spec>,
}

/// Room for programs; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        let program = spec.args.first().map(String::as_str).unwrap_or_default();
        if program.is_empty() {
            return Err(PrepareError::Conflict("`args` names no program"));
        }
        if program.contains('/') && !program.starts_with('/') {
            return Err(PrepareError::Conflict(
                "the program in `args` must be an absolute path, or a name without a slash",
            ));
        }
        if spec.args.iter().any(|arg| arg.contains('\0')) {
            return Err(PrepareError::Conflict("`args` holds a zero byte"));
        }
        Ok(Self { spec: Arc::new(spec.clone()) })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The program without its arguments, which may hold secrets.
    pub(super) fn program(&self) -> String {
        let program = self.spec.args.first().map(String::as_str).unwrap_or_default();
        printable(program.as_bytes(), fault::DETAIL_LEN / 2)
    }

    /// What went wrong, with what the program wrote.
    pub(super) fn detail(&self, fault: &Fault, trace: &Trace) -> Box<str> {
        let detail = printable(fault.detail.as_bytes(), fault::DETAIL_LEN / 2);
        let output = output(trace).map(|output| format!(": {output}")).unwrap_or_default();
        format!("{}: {detail}{output}", self.program()).into()
    }
}

/// Runs the program until it exits.
pub(super) async fn probe(
    Probe { spec }: &Probe,
    Places(places): &Places,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(|error| Fault::ours(error.to_string()))?;
    let spec = Arc::clone(spec);
    let started = spawn_blocking(move || Running::start(&spec, place)).await;
    let mut running = started
        .map_err(|error| Fault::ours(error.to_string()))?
        .map_err(|error| not_started(&error))?;
    trace.enter(Phase::Exchange);
    match running.exit(trace).await {
        Ok(status) => judge(status),
        Err(error) => Err(Fault::ours(error.to_string())),
    }
}

/// What it means that the deadline struck now.
pub(super) fn expired(trace: &Trace) -> Fault {
    let within = trace.timeout();
    if trace.phase() == Phase::Resolve {
        let detail = format!("not started within {within:?}; at most {MOST} programs run at once");
        return Fault::ours(detail);
    }
    Fault::new(Reason::TimeoutResponse, format!("did not exit within {within:?} and was killed"))
}

/// What the program wrote, harmless to show, with its line breaks; nothing if it wrote nothing.
pub(super) fn output(trace: &Trace) -> Option<String> {
    let lines: Vec<_> =
        trace.buffer.split(|byte| *byte == b'\n').map(|line| printable(line, KEPT)).collect();
    let text = lines.join("\n");
    let text = text.trim_end();
    if trace.dropped == 0 {
        return (!text.is_empty()).then(|| text.to_owned());
    }
    let kept = trace.buffer.len();
    let written = trace.dropped.saturating_add(kept as u64);
    Some(format!("Captured {kept} of {written} bytes\n...\n{text}"))
}

fn not_started(error: &io::Error) -> Fault {
    let said = format!("cannot be started: {error}");
    if fault::is_shortage(error) { Fault::ours(said) } else { Fault::new(Reason::Protocol, said) }
}

fn judge(status: ExitStatus) -> Result<(), Fault> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(1), _) => Err(Fault::warning(Reason::Status, "exit code 1")),
        (Some(code), _) => Err(Fault::new(Reason::Status, format!("exit code {code}"))),
        (None, Some(signal)) => {
            Err(Fault::new(Reason::Status, format!("killed by signal {signal}")))
        }
        (None, None) => Err(Fault::new(Reason::Status, status.to_string())),
    }
}

/// A program that runs. Dropped before it has exited, its group is killed, and the runtime reaps it.
#[derive(Debug)]
struct Running {
    child: Child,
    output: pipe::Receiver,
    _place: OwnedSemaphorePermit,
}

impl Running {
    /// Starts the program. May block.
    fn start(spec: &Spec, place: OwnedSemaphorePermit) -> io::Result<Self> {
        let [program, args @ ..] = &spec.args[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (reader, writer) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(reader.into())?;
        let environment = ENVIRONMENT.iter().filter_map(|name| Some((name, env::var_os(name)?)));
        // Its ends of the pipe are closed here at the end of this function.
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, output, _place: place })
    }

    /// Takes what the program writes until it exits; then kills what is left of its group.
    async fn exit(&mut self, trace: &mut Trace) -> io::Result<ExitStatus> {
        let group = self.child.id();
        let mut open = true;
        let status = loop {
            trace.buffer.reserve(CHUNK);
            tokio::select! {
                biased;
                status = self.child.wait() => break status?,
                read = self.output.read_buf(&mut trace.buffer), if open => {
                    open = read? > 0;
                    shorten(trace);
                }
            }
        };
        // The leader's number is free from here on, but the kernel gives out all others first.
        group.into_iter().for_each(kill_group);
        self.drain(trace);
        Ok(status)
    }

    /// Takes what is in the pipe, and no more than a pipe holds: others may still be writing.
    fn drain(&self, trace: &mut Trace) {
        let mut chunk = [0; CHUNK];
        for _ in 0..PIPE / CHUNK {
            match rustix::io::read(&self.output, &mut chunk) {
                Ok(read @ 1..) => trace.buffer.extend_from_slice(&chunk[..read]),
                Ok(0) | Err(_) => break,
            }
            shorten(trace);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has no number any more once it has been reaped.
        self.child.id().into_iter().for_each(kill_group);
    }
}

/// Forgets all but the last bytes of what was written.
fn shorten(trace: &mut Trace) {
    let excess = trace.buffer.len().saturating_sub(KEPT);
    trace.buffer.drain(..excess);
    trace.dropped += excess as u64;
}

/// Kills a group, unless it has ended already.
fn kill_group(leader: u32) {
    if let Some(leader) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        kill_process_group(leader, Signal::KILL).unwrap_or(());
    }
}
