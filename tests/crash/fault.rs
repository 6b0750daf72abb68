//! Disks that fail: what cannot be written is refused, and what was acknowledged stays.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    client::Client,
    daemon::Daemon,
    writer::{self, Moment, OnError, Writer, Wrong},
};

/// Ends the writing, also when a test fails meanwhile.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Lets writers write while something is done to the disk. What is refused must not have been made.
fn write_during(daemon: &Daemon, writers: &mut [Writer], what: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let wrong: Vec<Wrong> = thread::scope(|scope| {
        let writing: Vec<_> = writers
            .iter_mut()
            .map(|writer| {
                let (mut client, is_over) = (daemon.connect(), &is_over);
                scope.spawn(move || {
                    let moment = || if is_over.load(Relaxed) { Moment::Over } else { Moment::Well };
                    writer.write(&mut client, OnError::GoOn, &moment)
                })
            })
            .collect();
        let end = End(&is_over);
        what();
        drop(end);
        writing.into_iter().filter_map(|writing| writing.join().unwrap().err()).collect()
    });
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// After a kill all must be as it was acknowledged.
fn compare_after_kill(mut daemon: Daemon, data: &Path, writers: &mut [Writer]) {
    daemon.kill();
    let daemon = Daemon::start(data);
    let (shown, _) = writer::shown(&mut daemon.connect());
    let wrong: Vec<_> = writers.iter_mut().flat_map(|writer| writer.compare(&shown)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn writers() -> Vec<Writer> {
    (0..4).map(|number| Writer::new(number, 1 + number as u64)).collect()
}

fn totals(writers: &[Writer]) -> (u64, u64) {
    let acknowledged = writers.iter().map(|writer| writer.acknowledged).sum();
    (acknowledged, writers.iter().map(|writer| writer.refused).sum())
}

fn is_there(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    let status = command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The last sync of a file that failed is not asked again: what was written is taken back, the
/// writer is told, and the log goes on in a new file.
#[test]
fn a_sync_that_fails_is_a_write_refused() {
    if !is_there("strace", "-V") {
        println!("skipped: needs strace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut writers = writers();
    let failing = "inject=fdatasync:error=EIO:when=40+9";
    // Detached (-D), so that our child is the daemon itself.
    let by =
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", failing];
    let daemon = Daemon::start_by(&by, &data);
    write_during(&daemon, &mut writers, || thread::sleep(Duration::from_secs(3)));
    let (acknowledged, refused) = totals(&writers);
    println!("syncs that fail: {acknowledged} writes acknowledged, {refused} refused, none lost");
    assert!(acknowledged > 50 && refused > 10, "{acknowledged} acknowledged, {refused} refused");
    compare_after_kill(daemon, &data, &mut writers);
}

/// A file system of a few megabytes, gone when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "rollcall-crash"]).arg(path);
        mount.stderr(Stdio::null()).status().ok()?.success().then_some(Self(path))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().unwrap();
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(folder.path()) else {
        println!("skipped: needs root to mount a small file system");
        return;
    };
    let data = small.0.join("data");
    let mut writers = writers();
    let daemon = Daemon::start(&data);
    write_during(&daemon, &mut writers, || thread::sleep(Duration::from_millis(200)));
    let (before, refused) = totals(&writers);
    assert_eq!(refused, 0);
    let ballast = small.0.join("ballast");
    // As much as there is room for.
    fs::write(&ballast, vec![1; 12 << 20]).unwrap_err();
    let mut client = daemon.connect();
    write_during(&daemon, &mut writers, || {
        thread::sleep(Duration::from_millis(500));
        assert_reads_go_on(&mut client);
    });
    let (during, refused) = totals(&writers);
    assert!(refused > 10, "{during} acknowledged, {refused} refused");
    let answer = client.ask("PUT", "/v1/kv/large", &vec![b'x'; 100_000]).unwrap();
    assert_eq!(
        (answer.status, answer.text().contains("on disk")),
        (500, true),
        "{}",
        answer.text()
    );
    fs::remove_file(&ballast).unwrap();
    write_during(&daemon, &mut writers, || thread::sleep(Duration::from_millis(200)));
    let (after, refused_after) = totals(&writers);
    println!(
        "full disk: {before} acknowledged before, {refused} refused during, {} after",
        after - during
    );
    assert_eq!(refused_after, refused, "it has recovered");
    assert!(after > during + 10, "it writes again");
    compare_after_kill(daemon, &data, &mut writers);
}

fn assert_reads_go_on(client: &mut Client) {
    for path in ["/-/healthy", "/v1/agent/services", "/v1/kv/?recurse&keys", "/metrics"] {
        assert_eq!(client.ask("GET", path, b"").unwrap().status, 200, "{path}");
    }
}
