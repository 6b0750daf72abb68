//! A command and all it starts: a process group that is signalled and ended as one.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind},
    time::{sleep, timeout},
};

/// How often it is seen whether a group is empty: the kernel does not tell.
const LOOK: Duration = Duration::from_millis(20);

/// How long those that were killed may stay; zombies that nobody fetches stay forever.
const BURIAL: Duration = Duration::from_secs(1);

/// A running command, the leader of a group of its own. Killed with the group when dropped.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    id: Pid,
    ended: bool,
}

impl Group {
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let leader = command.process_group(0).spawn()?;
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("the process has no id"))?;
        Ok(Self { leader, id, ended: false })
    }

    /// Waits for the leader; others of the group may go on.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Sends a signal to all of the group.
    pub(super) fn signal(&self, signal: Signal) {
        // Fails only if nobody is left.
        kill_process_group(self.id, signal).unwrap_or_default();
    }

    /// Ends all of the group: asks, and after the grace kills. Afterwards none of it runs.
    pub(super) async fn end(&mut self, grace: Duration) -> io::Result<()> {
        self.signal(Signal::TERM);
        // One that is stopped cannot hear.
        self.signal(Signal::CONT);
        if timeout(grace, self.gone()).await.is_err() {
            self.signal(Signal::KILL);
            self.wait().await?;
            drop(timeout(BURIAL, self.gone()).await);
        }
        self.ended = true;
        Ok(())
    }

    async fn gone(&mut self) -> io::Result<()> {
        self.wait().await?;
        while test_kill_process_group(self.id).is_ok() {
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
        }
    }
}

/// The exit code that a shell would give.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The exit code of whoever a signal has ended.
pub(super) fn code_of(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(1)
}

/// The signals that are meant for the command.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
    /// Taken and forgotten: stopped, we could not renew the session while the command runs on.
    _stop: unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
            quit: unix::signal(SignalKind::quit())?,
            _stop: unix::signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(std::process::Stdio::piped());
        command
    }

    /// Waits until the script has said something.
    async fn said(group: &mut Group) {
        let out = group.leader.stdout.as_mut().unwrap();
        assert_ne!(out.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_exit_code_is_passed_on() {
        for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
            let mut group = Group::start(shell(script)).unwrap();
            assert_eq!(code(group.wait().await.unwrap()), expected, "{script}");
            group.end(Duration::ZERO).await.unwrap();
        }
        assert_eq!(code_of(Signal::INT), 130);
    }

    #[tokio::test]
    async fn a_signal_reaches_the_command() {
        let mut group =
            Group::start(shell("trap 'exit 9' USR1; echo; while :; do sleep 0.01; done")).unwrap();
        said(&mut group).await;
        group.signal(Signal::USR1);
        assert_eq!(code(group.wait().await.unwrap()), 9);
    }

    #[tokio::test]
    async fn who_does_not_listen_is_killed() {
        let mut group =
            Group::start(shell("trap '' TERM; echo; while :; do sleep 0.01; done")).unwrap();
        said(&mut group).await;
        group.end(Duration::from_millis(50)).await.unwrap();
        assert_eq!(code(group.wait().await.unwrap()), 137);
    }

    #[tokio::test]
    async fn nobody_is_left_behind() {
        let mut group = Group::start(shell("sleep 600 & echo; exit 0")).unwrap();
        said(&mut group).await;
        group.wait().await.unwrap();
        assert!(test_kill_process_group(group.id).is_ok(), "the background job runs");
        group.end(Duration::from_secs(60)).await.unwrap();
        assert!(test_kill_process_group(group.id).is_err());
    }

    #[tokio::test]
    async fn a_group_that_is_forgotten_is_killed() {
        let mut group = Group::start(shell("trap '' TERM; echo; exec sleep 600")).unwrap();
        said(&mut group).await;
        let id = group.id;
        let mut out = group.leader.stdout.take().unwrap();
        drop(group);
        // Its end of the pipe is closed when the process is gone.
        let rest = timeout(Duration::from_secs(60), out.read(&mut [0; 16])).await;
        assert_eq!(rest.unwrap().unwrap(), 0, "{id:?}");
    }
}
