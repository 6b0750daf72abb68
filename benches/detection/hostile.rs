//! Targets that mean harm beside good ones: how late the good ones are asked, and what memory the
//! daemon takes.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{Failure, Plan, daemon::Daemon, harm, report::Report};

/// Good targets.
const GOOD: usize = 200;

/// Hostile targets of each kind.
const EACH: usize = 20;

const INTERVAL: Duration = Duration::from_secs(1);

/// Of all of them. Every run is on its place of the grid, so that lateness can be told from outside.
const RHYTHM: &str = "interval: 1s, timeout: 900ms, jitter: 0%, allow_fast_interval: true";

/// When good targets were asked, by their number.
type Asked = Arc<Mutex<Vec<(usize, Instant)>>>;

/// What one trial brought about.
struct Measured {
    runs: usize,
    half: Duration,
    most: Duration,
    all: Duration,
    /// Memory in MB: soon after all is asked, at its highest, at the end.
    memory: [f64; 3],
}

pub(crate) async fn measure(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let (addresses, asked) = good()?;
    let kinds = harm::all();
    let hostile = harm::start(&kinds, EACH)?;
    let mut config = String::from("scheduler: { max_in_flight_per_host: 5000 }\nservices:\n");
    service(&mut config, "good", "http: {}", &addresses)?;
    let calm = trial(plan, &config, &asked).await?;
    for (kind, targets) in kinds.iter().zip(&hostile) {
        service(&mut config, kind.name, kind.check, targets)?;
    }
    let rough = trial(plan, &config, &asked).await?;
    report.title(
        "200 good targets asked every second",
        &["runs", "p50 late", "p99 late", "max late", "MB, begin", "MB, most", "MB, end"],
    );
    report.row("alone", &calm.cells());
    report.row(&format!("beside {} hostile ones", kinds.len() * EACH), &rough.cells());
    let moved = (rough.most.as_secs_f64() - calm.most.as_secs_f64()) * 1000.0;
    report.say(&format!("p99 moves by {moved:.1} ms; goal: less than 20 ms"));
    Ok(())
}

impl Measured {
    fn cells(&self) -> [String; 7] {
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let [begin, most, end] = self.memory.map(|bytes| format!("{bytes:.1}"));
        let [half, p99, all] = [self.half, self.most, self.all].map(millis);
        [self.runs.to_string(), half, p99, all, begin, most, end]
    }
}

fn service(
    config: &mut String,
    name: &str,
    check: &str,
    targets: &[SocketAddr],
) -> Result<(), Failure> {
    writeln!(config, "- name: {name}\n  checks: [{{ id: c, {check}, {RHYTHM} }}]\n  instances:")?;
    for (n, at) in targets.iter().enumerate() {
        let (ip, port) = (at.ip(), at.port());
        writeln!(config, "  - {{ id: {name}-{n}, address: {ip}, port: {port} }}")?;
    }
    Ok(())
}

async fn trial(plan: Plan, config: &str, asked: &Asked) -> Result<Measured, Failure> {
    let daemon = Daemon::start(config)?;
    // Until all are judged, and those that are dead are asked as they always are.
    sleep(Duration::from_secs(10)).await;
    let take = || std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner));
    drop(take());
    let mut memory = Vec::new();
    for _ in 0..plan.hostile_seconds {
        memory.push(daemon.metrics().await?.sum("process_resident_memory_bytes", "") / 1e6);
        sleep(Duration::from_secs(1)).await;
    }
    let mut late = lateness(&take());
    let well = daemon.metrics().await?;
    let well = well.targets("1").filter(|target| target.starts_with("good-")).count();
    if well != GOOD {
        return Err(format!("{well} of {GOOD} good targets are well").into());
    }
    late.sort_unstable();
    let at = |percent: usize| {
        let place = (late.len() * percent).div_ceil(100).saturating_sub(1);
        late.get(place).copied().unwrap_or_default()
    };
    let highest = memory.iter().copied().fold(0.0, f64::max);
    let (first, last) = (memory.first().copied(), memory.last().copied());
    Ok(Measured {
        runs: late.len(),
        half: at(50),
        most: at(99),
        all: at(100),
        memory: [first.unwrap_or(0.0), highest, last.unwrap_or(0.0)],
    })
}

/// How late each request was: after the place on its target's grid, which is where the earliest of
/// them puts it.
fn lateness(asked: &[(usize, Instant)]) -> Vec<Duration> {
    let Some((_, start)) = asked.first().copied() else { return Vec::new() };
    let mut late = Vec::new();
    for target in 0..GOOD {
        let times = asked.iter().filter(|(of, _)| *of == target).map(|(_, at)| *at - start);
        let offsets: Vec<Duration> = times.map(offset).collect();
        // Those that begin near the end of an interval are counted from half an interval before.
        let is_split = offsets.iter().any(|at| *at < INTERVAL / 4)
            && offsets.iter().any(|at| *at > INTERVAL * 3 / 4);
        let turned = |at: &Duration| if is_split { offset(*at + INTERVAL / 2) } else { *at };
        let offsets: Vec<Duration> = offsets.iter().map(turned).collect();
        let earliest = offsets.iter().min().copied().unwrap_or_default();
        late.extend(offsets.iter().map(|at| at.saturating_sub(earliest)));
    }
    late
}

/// The place of a moment within its interval.
fn offset(time: Duration) -> Duration {
    let micros = time.as_micros() % INTERVAL.as_micros();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Starts the good targets, which write down when they are asked.
fn good() -> Result<(Vec<SocketAddr>, Asked), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut listeners = Vec::new();
    for _ in 0..GOOD {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        listeners.push(TcpListener::from_std(listener)?);
    }
    drop(inside);
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    let asked = Asked::default();
    let record = Arc::clone(&asked);
    thread::spawn(move || {
        runtime.block_on(async {
            let mut serving = JoinSet::new();
            for (number, listener) in listeners.into_iter().enumerate() {
                serving.spawn(serve(listener, number, Arc::clone(&record)));
            }
            while serving.join_next().await.is_some() {}
        });
    });
    Ok((addresses, asked))
}

async fn serve(listener: TcpListener, number: usize, record: Asked) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        open.spawn(answer(stream, number, Arc::clone(&record)));
        while open.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream, number: usize, record: Asked) -> io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let mut request = [0; 512];
    if stream.read(&mut request).await? > 0 {
        let now = Instant::now();
        record.lock().unwrap_or_else(PoisonError::into_inner).push((number, now));
        stream.write_all(ANSWER).await?;
        // The client closes first.
        drop(stream.read(&mut request).await);
    }
    Ok(())
}
