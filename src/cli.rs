//! The command line: arguments, and one file per subcommand.
//!
//! Exit codes are the same for all of them: see [`Exit`].

#![expect(clippy::print_stderr, reason = "errors of a command line tool go to standard error")]

use std::{
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod client;
mod explain;
mod kv;
mod lock;
mod ls;
mod maint;
mod probe;
mod recheck;
mod register;
mod run;
mod schema;
#[cfg(test)]
mod testing;
mod validate;
mod watch;

use crate::config::diagnostic::{Paint, Report};

/// Health checks, service registry and RED metrics in one daemon.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run(run::Args),
    /// Check a configuration file and show what would run.
    Validate(validate::Args),
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Probe one target once and show every phase.
    ///
    /// Goes wherever it is sent: the `egress` settings of a daemon's configuration do not apply, but
    /// with `--check`, where the daemon asks.
    Probe(probe::Args),
    /// List services, instances and checks with their status.
    Ls(ls::Args),
    /// Say why a check is as it is, and what would change it.
    Explain(explain::Args),
    /// Show changes of status as they happen.
    Watch(watch::Args),
    /// Register an instance of a service, from a file or from options.
    ///
    /// An id that is registered already is replaced, and keeps the status of its checks.
    Register(register::Args),
    /// Deregister instances.
    Deregister(register::Deregistration),
    /// Bring back an instance that the daemon has deregistered by itself.
    Undo(register::Undo),
    /// Have targets asked now, beyond their schedule; what is found counts.
    Recheck(recheck::Args),
    /// Take an instance or the node out of service, or put it back.
    Maint(maint::Args),
    /// Read and write the key-value store.
    Kv(kv::Args),
    /// Run a command while holding a lock.
    ///
    /// The command gets `ROLLCALL_LOCK_KEY`, `ROLLCALL_LOCK_SESSION` and `ROLLCALL_LOCK_INDEX` in its
    /// environment. The last is a fencing token: it grows with every holder of the lock, so that
    /// whatever the command writes to can refuse a holder of the past. The exit code is the
    /// command's, or 128 and the signal that ended it; 69: the lock was not free in time; 75: the
    /// lock was lost and the command was stopped.
    Lock(lock::Args),
    #[command(hide = true, name = "lock-exec")]
    LockExec(lock::exec::Args),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `probe`: the target is well.
    Ok,
    /// Failed; for `probe`: the target answers but is struggling.
    Failure,
    /// The command line or the configuration is wrong; for `probe`: the target is not well.
    Usage,
    /// Stopped at once by a second signal.
    Interrupted,
    /// For `lock`: the lock was not free in time, nothing was run.
    Unavailable,
    /// For `lock`: the lock was lost, and what ran under it was stopped.
    Lost,
    /// For `lock`: as what ran under the lock ended.
    Code(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Interrupted => 130,
            // EX_UNAVAILABLE and EX_TEMPFAIL of sysexits.h.
            Exit::Unavailable => 69,
            Exit::Lost => 75,
            Exit::Code(code) => code,
        })
    }
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.execute() {
        Ok(exit) => exit.into(),
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            Exit::Failure.into()
        }
    }
}

impl Command {
    fn execute(self) -> anyhow::Result<Exit> {
        let out = &mut io::stdout().lock();
        let exit = match self {
            Self::Run(args) => run::run(args),
            Self::Validate(args) => validate::run(&args, out),
            Self::Schema => schema::run(out),
            Self::Probe(args) => asynchronously(probe::run(args, out)),
            Self::Ls(args) => asynchronously(ls::run(args, out)),
            Self::Explain(args) => asynchronously(explain::run(args, out)),
            Self::Watch(args) => asynchronously(watch::run(args, out)),
            Self::Register(args) => asynchronously(register::run(args, out)),
            Self::Deregister(args) => asynchronously(register::deregister(args, out)),
            Self::Undo(args) => asynchronously(register::undo(args, out)),
            Self::Recheck(args) => asynchronously(recheck::run(args, out)),
            Self::Maint(args) => asynchronously(maint::run(args, out)),
            Self::Kv(args) => asynchronously(kv::run(args, out)),
            Self::Lock(args) => asynchronously(lock::run(args)),
            Self::LockExec(args) => lock::exec::run(&args),
        }?;
        out.flush()?;
        Ok(exit)
    }
}

fn asynchronously(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Whether to colour what goes to a stream: on a terminal, unless `NO_COLOR` is set
/// (<https://no-color.org>).
fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Shows problems of a configuration on standard error.
fn show(report: &Report) -> io::Result<()> {
    let mut out = io::stderr().lock();
    let paint = if colour(&out) { Paint::Colour } else { Paint::Plain };
    out.write_all(report.render(paint).as_bytes())
}

/// So many of something.
fn many(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
