//! What every part of the stage needs: programs that end with the test, free ports, waits with a
//! deadline, and the list of statements that were proved.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// For what should take a second or two: generous, because the machine may be busy. It costs
/// nothing unless something is wrong.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// How many lines of a log are shown when its program has failed.
const TAIL: usize = 30;

/// A program that runs until it is dropped, with its output in a file.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What was proved so far, and what was not.
#[derive(Debug)]
pub(crate) struct Proofs {
    began: Instant,
    proved: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Process {
    /// Starts a program, with its output in `<folder>/<name>.log`.
    ///
    /// It goes through `setpriv`, so that the kernel ends it also when the test is killed.
    pub(crate) fn start(folder: &Path, name: &str, command: &Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Waits until `ready` says so; fails at once if the program ends.
    pub(crate) fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + SOON;
        while !ready() {
            let ended = self.child.try_wait().unwrap();
            let (name, tail) = (&self.name, self.tail());
            assert!(ended.is_none(), "{name} has ended with {ended:?}; its log ends:\n{tail}");
            assert!(Instant::now() < deadline, "{name} is not ready; its log ends:\n{tail}");
            thread::sleep(PAUSE);
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Ends the program at once.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Waits for the program to end by itself.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait_for(&what, limit, || {
            self.child.try_wait().unwrap().ok_or_else(|| "it is still running".to_owned())
        })
    }

    /// All it has said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    fn tail(&self) -> String {
        let text = self.said();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn end(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Proofs {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), proved: 0, failed: Vec::new(), skipped: Vec::new() }
    }

    /// Runs a step and says whether it proved its statement. One that did not keeps the later ones
    /// from nothing: they are tried all the same.
    pub(crate) fn add(&mut self, statement: &str, step: impl FnOnce()) {
        let began = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(step)).is_ok();
        let (took, at) = (began.elapsed().as_secs_f64(), self.began.elapsed().as_secs_f64());
        println!(
            "{} [{took:5.1}s, at {at:5.1}s] {statement}",
            if passed { "ok  " } else { "FAIL" }
        );
        if passed {
            self.proved += 1;
        } else {
            self.failed.push(statement.to_owned());
        }
    }

    /// Leaves a statement out that cannot be tried here.
    pub(crate) fn skip(&mut self, statement: &str, reason: &str) {
        println!("SKIP {statement}: {reason}");
        self.skipped.push(format!("{statement}: {reason}"));
    }

    /// Fails if a statement was not proved. `folder` is where the logs are.
    pub(crate) fn conclude(self, folder: &Path) {
        let Self { proved, failed, skipped, .. } = self;
        println!("{proved} statements proved, {} not, {} not tried", failed.len(), skipped.len());
        for statement in skipped {
            println!("NOT TRIED: {statement}");
        }
        assert!(
            failed.is_empty(),
            "not proved:\n  {}\nthe logs are in {}",
            failed.join("\n  "),
            folder.display()
        );
    }
}

/// Looks until there is an answer; fails with the last reason why not.
#[track_caller]
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(answer) => return answer,
            Err(reason) => {
                assert!(
                    Instant::now() < deadline,
                    "waited {limit:?} in vain that {what}; at last: {reason}"
                );
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Waits until a statement holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || if holds() { Ok(()) } else { Err("not yet".to_owned()) });
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    command.output().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"))
}

/// What a program has written to its standard output and error.
pub(crate) fn words(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Ports on loopback that nobody uses; no port is given out twice.
///
/// They lie below those the kernel gives to clients. Above, a probe of a closed port could be given
/// that very port for its own end and connect to itself, and a server could not come back to its
/// port because some client has it.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let end: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    // Two stages on one machine should not try the same ones.
    let start = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    std::array::from_fn(|_| {
        let mut next = || start + TAKEN.fetch_add(1, Ordering::Relaxed);
        let mut candidates = std::iter::repeat_with(&mut next).take_while(|port| *port < end);
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        candidates.find(free).expect("a port is free")
    })
}

/// Where `tests/run.sh` has put a Python with gRPC; `LIVE_PYTHON` names another.
pub(crate) fn own_python() -> PathBuf {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("live-venv/bin/python");
    env::var_os("LIVE_PYTHON").map_or(own, PathBuf::from)
}

/// The folder of this run of a stage, in cargo's folder for tests; what the last run left is gone.
pub(crate) fn empty_folder(stage: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(stage);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The programs of the stage that this machine lacks.
pub(crate) fn missing(programs: &[&str]) -> Vec<String> {
    let found = |program: &str| {
        let path = env::var("PATH").unwrap_or_default();
        let mut folders = path.split(':').chain(["/usr/sbin"]);
        program.contains('/') && Path::new(program).exists()
            || folders.any(|folder| Path::new(folder).join(program).exists())
    };
    programs.iter().filter(|program| !found(program)).map(ToString::to_string).collect()
}
