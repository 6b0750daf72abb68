//! What an HTTP probe costs: the bare exchange beside the whole daemon, at one rate, in one run.
//!
//! ```text
//! cargo bench --profile fast --bench probes -- [--quick] [--rate 10000] [--rounds 5]
//! ```
//!
//! A responder in this process answers on fifty loopback addresses and counts the requests. Each
//! round runs two arms after each other, in alternating order, on the other CPU:
//!
//! - `bare`: this program again, doing nothing but the exchange: on ticks of 5 ms it starts the
//!   requests that are due, each a connect, a write, a read to the end of the head, a close, with
//!   the socket options rollcall uses;
//! - `rollcall`: the real binary with a generated configuration of as many instances as probes a
//!   second, each probed every second.
//!
//! CPU time is what the kernel says of the arm's threads (`/proc/PID/task/*/schedstat`) over a
//! window after a warm-up, divided by the requests the responder counted in that window. The
//! responder checks every request, so an arm that does less than it should is found out.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

const ADDRESSES: u8 = 50;
const TICK: Duration = Duration::from_millis(5);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

type Failure = Box<dyn std::error::Error>;

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rate: u32,
    rounds: usize,
    warm_up: Duration,
    window: Duration,
}

/// What one run of an arm cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// CPU of the whole process, microseconds a probe.
    process: f64,
    /// CPU of the threads that probe, microseconds a probe.
    probing: f64,
    /// Probes a second.
    rate: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u32>().ok()
    };
    let rate = value("--rate").unwrap_or(10_000);
    if let Some(port) = value("--bare") {
        return bare(u16::try_from(port)?, rate);
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let plan = Plan {
        rate,
        rounds: value("--rounds").map_or(if quick { 1 } else { 5 }, |n| n as usize),
        warm_up: Duration::from_secs(3),
        window: Duration::from_secs(if quick { 3 } else { 8 }),
    };
    compare(plan)
}

fn compare(plan: Plan) -> Result<(), Failure> {
    let responder = Responder::start()?;
    let folder = tempfile::tempdir()?;
    let config = write_config(folder.path(), responder.port, plan.rate)?;
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                bare.push(measure(&mut bare_arm(responder.port, plan.rate)?, &responder, plan)?);
            } else {
                let mut arm = rollcall_arm(&config, folder.path())?;
                whole.push(measure(&mut arm, &responder, plan)?);
            }
        }
    }
    let malformed = responder.malformed.load(Relaxed);
    if malformed > 0 {
        return Err(format!("{malformed} requests were not the one asked for").into());
    }
    report(&bare, &whole)
}

fn report(bare: &[Cost], whole: &[Cost]) -> Result<(), Failure> {
    let out = &mut std::io::stdout().lock();
    writeln!(out, "{:34} {:>10} {:>18}", "CPU per HTTP probe", "median", "min to max")?;
    let floor: Vec<f64> = bare.iter().map(|cost| cost.process).collect();
    let total: Vec<f64> = whole.iter().map(|cost| cost.process).collect();
    let probing: Vec<f64> = whole.iter().map(|cost| cost.probing).collect();
    let ratio = |ours: &[f64]| ours.iter().zip(&floor).map(|(a, b)| a / b).collect::<Vec<_>>();
    for (name, unit, figures) in [
        ("bare exchange", "us", floor.clone()),
        ("rollcall, whole process", "us", total.clone()),
        ("rollcall, prober thread", "us", probing.clone()),
        ("whole process / bare exchange", "x", ratio(&total)),
        ("prober thread / bare exchange", "x", ratio(&probing)),
        ("probes a second, bare", "", bare.iter().map(|cost| cost.rate).collect()),
        ("probes a second, rollcall", "", whole.iter().map(|cost| cost.rate).collect()),
    ] {
        let (median, low, high) = spread(&figures);
        writeln!(out, "{name:34} {median:>8.2} {unit:2} {low:>8.2} to {high:.2}")?;
    }
    Ok(())
}

fn spread(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(sorted.len() / 2), at(0), at(sorted.len().saturating_sub(1)))
}

/// An arm under way; killed when dropped.
struct Arm(Child);

impl Drop for Arm {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn measure(arm: &mut Arm, responder: &Responder, plan: Plan) -> Result<Cost, Failure> {
    thread::sleep(plan.warm_up);
    let pid = arm.0.id();
    let (cpu, counted) = (Cpu::read(pid)?, responder.requests.load(Relaxed));
    thread::sleep(plan.window);
    let (cpu, counted) = (Cpu::read(pid)?.since(&cpu), responder.requests.load(Relaxed) - counted);
    if let Some(status) = arm.0.try_wait()? {
        return Err(format!("the arm ended early: {status}").into());
    }
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let probes = counted as f64;
    if probes < f64::from(plan.rate) * plan.window.as_secs_f64() * 0.9 {
        return Err(format!("only {probes} requests in {:?}", plan.window).into());
    }
    Ok(Cost {
        process: cpu.process.as_secs_f64() * 1e6 / probes,
        probing: cpu.probing.as_secs_f64() * 1e6 / probes,
        rate: probes / plan.window.as_secs_f64(),
    })
}

/// CPU time used so far.
struct Cpu {
    process: Duration,
    probing: Duration,
}

impl Cpu {
    /// Sums what the kernel says of each thread: nanoseconds on a CPU come first in `schedstat`.
    fn read(pid: u32) -> Result<Self, Failure> {
        let mut cpu = Self { process: Duration::ZERO, probing: Duration::ZERO };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let stat = fs::read_to_string(task.join("schedstat"))?;
            let nanos = stat.split_ascii_whitespace().next().ok_or("schedstat is empty")?;
            let nanos = Duration::from_nanos(nanos.parse()?);
            cpu.process += nanos;
            if fs::read_to_string(task.join("comm"))?.trim() == "prober" {
                cpu.probing += nanos;
            }
        }
        Ok(cpu)
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            process: self.process.saturating_sub(before.process),
            probing: self.probing.saturating_sub(before.probing),
        }
    }
}

/// On the CPU that the responder is not on, if the machine has two.
fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn bare_arm(port: u16, rate: u32) -> Result<Arm, Failure> {
    let mut command = pinned(&std::env::current_exe()?);
    command.args(["--bare", &port.to_string(), "--rate", &rate.to_string()]);
    Ok(Arm(command.spawn()?))
}

fn rollcall_arm(config: &Path, folder: &Path) -> Result<Arm, Failure> {
    let mut command = pinned(Path::new(env!("CARGO_BIN_EXE_rollcall")));
    command.arg("run").arg("--config").arg(config).arg("--data-dir").arg(folder.join("data"));
    command.args(["--log-filter", "warn"]).stderr(Stdio::inherit());
    Ok(Arm(command.spawn()?))
}

fn write_config(folder: &Path, port: u16, rate: u32) -> Result<PathBuf, Failure> {
    let path = folder.join("rollcall.yml");
    let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
    writeln!(file, "listen: {{ http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\" }}")?;
    writeln!(file, "scheduler: {{ max_in_flight_per_host: 10000 }}")?;
    writeln!(file, "services:\n  - name: bench\n    checks:")?;
    writeln!(file, "      - {{ http: {{ path: /health }}, interval: 1s, timeout: 900ms }}")?;
    writeln!(file, "    instances:")?;
    for n in 0..rate {
        let address = address(n);
        writeln!(file, "      - {{ id: i{n}, address: {address}, port: {port} }}")?;
    }
    file.flush()?;
    Ok(path)
}

fn address(n: u32) -> Ipv4Addr {
    let last = u8::try_from(n % u32::from(ADDRESSES)).unwrap_or(0) + 1;
    Ipv4Addr::new(127, 0, 0, last)
}

/// Answers, counts and checks requests, on a thread of its own.
struct Responder {
    port: u16,
    requests: Arc<AtomicU64>,
    malformed: Arc<AtomicU64>,
}

impl Responder {
    fn start() -> Result<Self, Failure> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let requests = Arc::new(AtomicU64::new(0));
        let malformed = Arc::new(AtomicU64::new(0));
        let inside = runtime.enter();
        let first = listen(SocketAddr::from((address(0), 0)))?;
        let port = first.local_addr()?.port();
        let mut listeners = vec![first];
        for n in 1..u32::from(ADDRESSES) {
            listeners.push(listen(SocketAddr::from((address(n), port)))?);
        }
        drop(inside);
        let counters = (Arc::clone(&requests), Arc::clone(&malformed));
        thread::spawn(move || runtime.block_on(serve(listeners, counters)));
        Ok(Self { port, requests, malformed })
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

async fn serve(listeners: Vec<TcpListener>, counters: (Arc<AtomicU64>, Arc<AtomicU64>)) {
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let counters = counters.clone();
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, malformed) = counters.clone();
                open.spawn(async move {
                    match answer(stream).await {
                        Ok(Request::AsAsked) => requests.fetch_add(1, Relaxed),
                        Ok(Request::Other) => malformed.fetch_add(1, Relaxed),
                        // An arm that is killed leaves connections without a request behind; they
                        // are not counted.
                        Ok(Request::None) | Err(_) => 0,
                    };
                });
                while open.try_join_next().is_some() {}
            }
        });
    }
    while accepting.join_next().await.is_some() {}
}

/// What came over a connection.
enum Request {
    AsAsked,
    Other,
    None,
}

/// Answers one request; says whether it was the one asked for.
async fn answer(mut stream: TcpStream) -> std::io::Result<Request> {
    let mut request = [0; 512];
    let read = stream.read(&mut request).await?;
    stream.write_all(ANSWER).await?;
    let request = &request[..read];
    Ok(if request.is_empty() {
        Request::None
    } else if request.starts_with(b"GET /health HTTP/1.1\r\n") && request.ends_with(b"\r\n\r\n") {
        Request::AsAsked
    } else {
        Request::Other
    })
}

/// Makes `rate` exchanges a second for ever, and does nothing else.
fn bare(port: u16, rate: u32) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let start = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut flights = JoinSet::new();
        let mut made = 0_u32;
        loop {
            ticks.tick().await;
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)).min(f64::from(u32::MAX));
            #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
            #[expect(clippy::cast_sign_loss, reason = "time goes forward")]
            let due = due as u32;
            while made < due {
                made += 1;
                flights.spawn(exchange(SocketAddr::from((address(made), port))));
            }
            while let Some(done) = flights.try_join_next() {
                done??;
            }
            // Slow starts must not become a burst.
            if due == u32::MAX {
                sleep(TICK).await;
            }
        }
    })
}

async fn exchange(target: SocketAddr) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket2::SockRef::from(&socket).set_tcp_quickack(false)?;
    socket.set_zero_linger()?;
    let mut stream = socket.connect(target).await?;
    let request = format!(
        "GET /health HTTP/1.1\r\nHost: {target}\r\nUser-Agent: rollcall\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 512];
    let mut read = 0;
    while !answer[..read].ends_with(b"\r\n\r\nok") {
        match stream.read(&mut answer[read..]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    Ok(())
}
