//! `rollcall lock-exec`: becomes the command, bound to die with the process that holds the lock.
//!
//! A holder that is killed cannot stop its command, and the lock is free when the TTL is over. The
//! kernel can: it kills a process whose parent has died, if that process has asked for it. Asking
//! is lasting, so it is done before the command takes our place.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{self, Command},
};

use super::Exit;

/// The exit codes of a shell for a command that is not there, and one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Arguments of `rollcall lock-exec`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The process that holds the lock.
    #[arg(long)]
    holder: u32,
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// A command that dies with this process, as the thread that starts it does.
pub(super) fn command(words: &[OsString]) -> Command {
    // The program as it runs now, even if its file was replaced or deleted.
    let program = if cfg!(target_os = "linux") {
        Ok(PathBuf::from("/proc/self/exe"))
    } else {
        std::env::current_exe()
    };
    let mut command = Command::new(program.unwrap_or_else(|_| "rollcall".into()));
    command.arg0("rollcall");
    command.args(["lock-exec", "--holder", &process::id().to_string(), "--"]).args(words);
    command
}

/// Becomes the command. Comes back only if it cannot be run.
pub(in crate::cli) fn run(args: &Args) -> anyhow::Result<Exit> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The holder may have died before we asked.
    if std::os::unix::process::parent_id() != args.holder {
        anyhow::bail!("the holder of the lock is gone");
    }
    let error = Command::new(&args.command[0]).args(&args.command[1..]).exec();
    eprintln!("rollcall: cannot run {}: {error}", args.command[0].display());
    let found = error.kind() != io::ErrorKind::NotFound;
    Ok(Exit::Code(if found { NOT_EXECUTABLE } else { NOT_FOUND }))
}
