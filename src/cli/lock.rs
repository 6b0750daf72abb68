//! `rollcall lock`: runs a command while holding a lock.
//!
//! ```text
//!  session ──▶ wait for the key ──▶ command ──▶ release ──▶ destroy the session
//!     │                               ▲
//!     └── renewed at a third of the TTL, from the first moment to the last;
//!         the key is watched: whatever says that the lock is lost stops the command
//! ```
//!
//! The lock is that of Consul's Go client: the same flags on the same key, so that both contend for
//! it. What makes it safe is in two numbers. The session counts as lost one TTL after the *start* of
//! its last renewal, which is before the daemon may drop it. And the command is gone within the
//! grace, which ends before the lock-delay does: nobody else gets the lock before that.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    pin::{Pin, pin},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use crate::duration::Period;

use super::{Exit, client::Client};

use acquire::Acquired;
use group::{Group, Signals};
use keep::{Lost, Terms};
use store::{Claim, NewSession, Store};

mod acquire;
pub(super) mod exec;
mod group;
mod keep;
mod store;

/// How long giving the lock back may take; without it the lock is free when the TTL is over.
const GOODBYE: Duration = Duration::from_secs(5);

/// Arguments of `rollcall lock`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    client: Client,
    /// The key that is the lock. The lock of `consul lock PREFIX` is `PREFIX/.lock`.
    #[arg(value_name = "KEY")]
    key: String,
    /// How long the lock outlives us if we vanish.
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    ttl: Period,
    /// How long nobody gets the lock after it was lost.
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    lock_delay: Period,
    /// Who we are, for people who look who holds the lock [default: the host and the process].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long to wait for the lock.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: Period,
    /// Do not wait: give up if the lock is not free.
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// How long the command may take to end when it must, before it is killed.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    shutdown_grace: Period,
    /// The command and its arguments; no shell is in between.
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

/// How the command came to its end.
enum Ended {
    ByItself(ExitStatus),
    Lost(Lost),
}

/// Runs the command under the lock.
pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let terms = match args.terms() {
        Ok(terms) => terms,
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            return Ok(Exit::Usage);
        }
    };
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let holder = args.name.clone().unwrap_or_else(holder);
    let created = Instant::now();
    let wanted = NewSession::new(&holder, args.ttl, args.lock_delay);
    let session = args.client.create(&wanted).await.context("cannot create a session")?;
    let claim = Claim { key: args.key.clone(), session, holder };
    let renewing = pin!(keep::renew(&args.client, &claim.session, terms, created));
    let exit = args.work(&claim, renewing, &mut signals).await;
    // Also if the lock was never had: a claim that was under way may have been granted.
    let destroyed = timeout(GOODBYE, args.client.destroy(&claim.session)).await;
    if !matches!(destroyed, Ok(Ok(()))) {
        eprintln!("rollcall: the session {} is left to its TTL", claim.session);
    }
    exit
}

impl Args {
    /// What the durations amount to; fails if they do not fit together.
    fn terms(&self) -> anyhow::Result<Terms> {
        let (ttl, delay) = (self.ttl.get(), self.lock_delay.get());
        if self.key.is_empty() {
            bail!("the key is empty");
        }
        if ttl.is_zero() {
            bail!("--ttl must be more than zero");
        }
        // What of the grace the lock-delay does not cover is taken from the TTL.
        let margin = self.shutdown_grace.get().saturating_sub(delay);
        if margin > ttl / 3 {
            bail!(
                "--shutdown-grace {} is too long: at most --lock-delay and a third of --ttl, {}",
                self.shutdown_grace,
                Period::from(delay + ttl / 3)
            );
        }
        Ok(Terms { ttl, margin })
    }

    /// Waits for the lock, then runs the command. Ends only when nothing of it runs any more.
    async fn work(
        &self,
        claim: &Claim,
        mut renewing: Pin<&mut impl Future<Output = Lost>>,
        signals: &mut Signals,
    ) -> anyhow::Result<Exit> {
        let patience = if self.no_wait { Duration::ZERO } else { self.timeout.get() };
        let acquired = tokio::select! {
            lost = &mut renewing => bail!("gave up waiting for {:?}: {lost}", self.key),
            signal = signals.next() => return Ok(Exit::Code(group::code_of(signal))),
            acquired = acquire::acquire(&self.client, claim, patience) => acquired?,
        };
        let index = match acquired {
            Acquired::Index(index) => index,
            Acquired::Busy(why) => {
                eprintln!("rollcall: {:?} was not to be had: {why}", self.key);
                return Ok(Exit::Unavailable);
            }
        };
        let watching = keep::watch(&self.client, claim, index);
        let lost = pin!(async {
            tokio::select! {
                lost = renewing => lost,
                lost = watching => lost,
            }
        });
        match self.run_under(claim, index, lost, signals).await? {
            Ended::ByItself(status) => {
                let released = timeout(GOODBYE, self.client.release(claim)).await;
                if !matches!(released, Ok(Ok(true))) {
                    eprintln!("rollcall: {:?} could not be released", self.key);
                }
                Ok(Exit::Code(group::code(status)))
            }
            Ended::Lost(why) => {
                eprintln!("rollcall: the command is stopped: {:?} is lost: {why}", self.key);
                Ok(Exit::Lost)
            }
        }
    }

    /// Runs the command until it ends or the lock is lost, and sees to it that nothing is left.
    async fn run_under(
        &self,
        claim: &Claim,
        index: u64,
        mut lost: Pin<&mut impl Future<Output = Lost>>,
        signals: &mut Signals,
    ) -> anyhow::Result<Ended> {
        let grace = self.shutdown_grace.get();
        let mut group = Group::start(self.command(claim, index))
            .with_context(|| format!("cannot run {}", self.command[0].display()))?;
        let ended = loop {
            tokio::select! {
                // Losing the lock is not to be overlooked for a signal.
                biased;
                lost = &mut lost => break Ended::Lost(lost),
                status = group.wait() => break Ended::ByItself(status?),
                signal = signals.next() => group.signal(signal),
            }
        };
        let mut ending = pin!(group.end(grace));
        tokio::select! {
            gone = &mut ending => gone?,
            // The session is needed until nothing runs; if it is gone there is only to go on.
            _ = lost, if matches!(ended, Ended::ByItself(_)) => ending.await?,
        }
        Ok(ended)
    }

    fn command(&self, claim: &Claim, index: u64) -> Command {
        let mut command = Command::from(exec::command(&self.command));
        command
            .env("ROLLCALL_LOCK_KEY", &claim.key)
            .env("ROLLCALL_LOCK_SESSION", &claim.session)
            .env("ROLLCALL_LOCK_INDEX", index.to_string());
        // A group that is not in the foreground is stopped when it reads from the terminal.
        if io::stdin().is_terminal() {
            command.stdin(Stdio::null());
        }
        command
    }
}

fn holder() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}

#[cfg(test)]
mod tests;
