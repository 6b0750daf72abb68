//! What the durable registry does in a second, and what it takes: registrations beside etcd's
//! puts, a restart with 100,000 instances, reads, and changes that wake many.
//!
//! ```text
//! cargo bench --profile fast --bench registry [-- [--quick] [--only write,restart,read,wake]]
//! ```
//!
//! It prints a table, and the same figures as JSON in one line. The load comes from one thread of
//! this process, over connections that are kept; it shares the machine with what it measures, so
//! that throughput is what both reach together. What the server alone takes is its CPU time.
//!
//! - `write`: from 64 connections, each with one request under way: registrations of a service with
//!   and without a check (`PUT /v1/agent/service/register`), and puts of the same bytes into etcd,
//!   over HTTP and JSON as here (`POST /v3/kv/put`), and over gRPC; data on the same disk, in turns.
//! - `restart`: 100,000 instances of 1,000 services with an HTTP check each; killed, and started.
//! - `read`: `GET /v1/health/service/NAME?passing` of 100 instances from 64 connections.
//! - `wake`: blocking queries on one service, and one change of it; times are from the moment the
//!   change is sent, which its own acknowledgement is a part of.

mod client;
mod process;

use std::{fs, io::Write as _, path::PathBuf, time::Duration};

use futures_util::future::try_join_all;
use tokio::{
    runtime,
    time::{Instant, sleep},
};

use self::{
    client::{Client, Etcd, request},
    process::Process,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CONNECTIONS: u32 = 64;

/// More requests than a connection gets answered in a second.
const MOST_A_SECOND: u32 = 1500;

/// Where data is kept, on the disk that the build is on.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    window: Duration,
    instances: u32,
    watchers: u32,
}

/// A figure with its unit.
struct Figure {
    name: &'static str,
    unit: &'static str,
    values: Vec<f64>,
}

#[derive(Default)]
struct Report(Vec<Figure>);

impl Report {
    fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure { name, unit, values: vec![value] }),
        }
    }

    fn print(mut self) -> Result<(), Failure> {
        let out = &mut std::io::stdout().lock();
        writeln!(out, "{:58} {:>12} {:>10} {:>24}", "", "median", "", "min to max")?;
        let mut json = serde_json::Map::new();
        for Figure { name, unit, values } in &mut self.0 {
            values.sort_by(f64::total_cmp);
            let (low, high) = (values[0], values[values.len() - 1]);
            let median = values[values.len() / 2];
            writeln!(out, "{name:58} {median:>12.2} {unit:10} {low:>12.2} to {high:.2}")?;
            let figure = serde_json::json!({ "unit": unit, "median": median, "all": values });
            json.insert((*name).to_owned(), figure);
        }
        writeln!(out, "{}", serde_json::Value::Object(json))?;
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|at| arguments.get(at + 1)).map_or("", String::as_str);
    let plan = Plan {
        rounds: if quick { 1 } else { 3 },
        window: Duration::from_secs(if quick { 2 } else { 5 }),
        instances: if quick { 20_000 } else { 100_000 },
        watchers: if quick { 2000 } else { 10_000 },
    };
    raise_limit_of_files();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut report = Report::default();
        let wanted = |what: &str| only.is_empty() || only.split(',').any(|one| one == what);
        if wanted("write") {
            write(plan, &mut report).await?;
        }
        if wanted("restart") {
            restart(plan, &mut report).await?;
        }
        if wanted("read") {
            read(plan, &mut report).await?;
        }
        if wanted("wake") {
            wake(plan.watchers, 10, &mut report).await?;
            for instances in [10, 100] {
                wake(plan.watchers.min(2000), instances, &mut report).await?;
            }
        }
        report.print()
    })
}

/// As many open files as may be: each watcher takes one here and one there.
fn raise_limit_of_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If not, connecting says so.
    setrlimit(Resource::Nofile, limit).ok();
}

/// An empty folder, deleted when dropped.
fn folder() -> Result<tempfile::TempDir, Failure> {
    fs::create_dir_all(PathBuf::from(FOLDER))?;
    Ok(tempfile::tempdir_in(FOLDER)?)
}

fn service(name: &str, id: &str, number: u32, check: &str) -> String {
    let (a, b) = (number / 250 % 250, number % 250);
    format!(
        "{{\"ID\":\"{id}\",\"Name\":\"{name}\",\"Address\":\"127.1.{a}.{b}\",\"Port\":8080,\
         \"Tags\":[\"primary\",\"v1\"],\"Meta\":{{\"version\":\"1.2.3\",\"zone\":\"a\"}}{check}}}"
    )
}

fn registration(name: &str, id: &str, number: u32, check: &str) -> Vec<u8> {
    request("PUT", "/v1/agent/service/register", &service(name, id, number, check))
}

const TTL: &str = ",\"Check\":{\"TTL\":\"24h\",\"Status\":\"passing\"}";

/// A check that is asked once an hour, and so hardly while this runs.
fn hourly(number: u32) -> String {
    let (a, b) = (number / 250 % 250, number % 250);
    format!(
        ",\"Check\":{{\"HTTP\":\"http://127.1.{a}.{b}:8080/health\",\"Interval\":\"1h\",\
         \"Timeout\":\"1s\",\"Status\":\"passing\"}}"
    )
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn a_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// What a window of load came to.
struct Load {
    rate: f64,
    /// CPU of the server in microseconds a request.
    cpu: f64,
}

async fn write(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    for _ in 0..plan.rounds {
        let bare = registrations(plan.window, "").await?;
        let checked = registrations(plan.window, TTL).await?;
        let http = puts_by_http(plan.window).await?;
        let grpc = puts(plan.window).await?;
        report.add("registrations, 64 connections", "/s", bare.rate);
        report.add("registrations with a check", "/s", checked.rate);
        report.add("etcd puts of the same bytes by HTTP", "/s", http.rate);
        report.add("etcd puts of the same bytes by gRPC", "/s", grpc.rate);
        report.add("registrations / etcd puts by HTTP", "x", bare.rate / http.rate);
        report.add("registrations / etcd puts by gRPC", "x", bare.rate / grpc.rate);
        report.add("registrations with a check / etcd puts by HTTP", "x", checked.rate / http.rate);
        report.add("server CPU, a registration", "us", bare.cpu);
        report.add("server CPU, a registration with a check", "us", checked.cpu);
        report.add("server CPU, a put into etcd by HTTP", "us", http.cpu);
        report.add("server CPU, a put into etcd by gRPC", "us", grpc.cpu);
    }
    Ok(())
}

/// New instances, each connection as quickly as it is answered.
async fn registrations(window: Duration, check: &str) -> Result<Load, Failure> {
    let folder = folder()?;
    let rollcall = Process::rollcall(folder.path()).await?;
    let make = |connection: u32, number: u32| {
        let (name, id) = (format!("svc-{}", number / 2), format!("svc-{connection}-{number}"));
        registration(&name, &id, number, check)
    };
    asked(&rollcall, window, make).await
}

/// The same bytes under new keys of etcd, over HTTP.
async fn puts_by_http(window: Duration) -> Result<Load, Failure> {
    let folder = folder()?;
    let etcd = Process::etcd(folder.path()).await?;
    let make = |connection: u32, number: u32| {
        let id = format!("svc-{connection}-{number}");
        let value = service(&format!("svc-{}", number / 2), &id, number, "");
        let body = client::json_put(&format!("/services/{id}"), &value);
        request("POST", "/v3/kv/put", &body)
    };
    asked(&etcd, window, make).await
}

/// Requests that are made before, so that their making takes nothing of the machine meanwhile, and
/// asked by each connection as quickly as it is answered.
async fn asked(
    process: &Process,
    window: Duration,
    make: impl Fn(u32, u32) -> Vec<u8>,
) -> Result<Load, Failure> {
    let most = u32::try_from(window.as_secs())? * MOST_A_SECOND;
    let make = |connection| (0..most).map(|number| make(connection, number)).collect();
    let requests: Vec<Vec<_>> = (0..CONNECTIONS).map(make).collect();
    let until = Instant::now() + window;
    let writer = async |requests: &Vec<Vec<u8>>| {
        let mut client = Client::connect(process.address).await?;
        for (answered, request) in (0..).zip(requests) {
            if Instant::now() >= until {
                return Ok::<u64, Failure>(answered);
            }
            client.demand(request).await?;
        }
        Err("there were not enough requests for so quick a server".into())
    };
    load(process, requests.iter().map(writer)).await
}

/// The same over gRPC.
async fn puts(window: Duration) -> Result<Load, Failure> {
    let folder = folder()?;
    let etcd = Process::etcd(folder.path()).await?;
    let until = Instant::now() + window;
    let writer = async |connection: u32| {
        let mut client = Etcd::connect(etcd.address).await?;
        let mut count = 0;
        while Instant::now() < until {
            let number = u32::try_from(count).unwrap_or(0);
            let id = format!("svc-{connection}-{number}");
            let value = service(&format!("svc-{}", number / 2), &id, number, "");
            client.put(client::put(&format!("/services/{id}"), &value)).await?;
            count += 1;
        }
        Ok::<u64, Failure>(count)
    };
    load(&etcd, (0..CONNECTIONS).map(writer)).await
}

/// Lets all make their requests and sums them up.
async fn load<F>(process: &Process, all: impl Iterator<Item = F>) -> Result<Load, Failure>
where
    F: Future<Output = Result<u64, Failure>>,
{
    let (before, began) = (process.cpu()?, Instant::now());
    let count = try_join_all(all).await?.into_iter().sum();
    let cpu = process.cpu()?.saturating_sub(before);
    Ok(Load { rate: a_second(count, began.elapsed()), cpu: each(cpu, count) })
}

async fn restart(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let folder = folder()?;
    let rollcall = Process::rollcall(folder.path()).await?;
    let empty = rollcall.resident()?;
    fill(&rollcall, plan.instances).await?;
    // What was only needed to take them in is let go.
    sleep(Duration::from_secs(2)).await;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let each =
        |resident: u64| resident.saturating_sub(empty) as f64 / f64::from(plan.instances) / 1024.0;
    report.add("resident, nothing registered", "MiB", mebibytes(empty));
    report.add(
        "resident an instance with its check, registered",
        "KiB",
        each(rollcall.resident()?),
    );
    drop(rollcall);
    report.add("log and snapshots", "MiB", mebibytes(size_of_files(&folder.path().join("data"))?));
    for _ in 0..plan.rounds {
        let began = Instant::now();
        let rollcall = Process::rollcall(folder.path()).await?;
        report.add(
            "killed, to ready with all instances",
            "ms",
            began.elapsed().as_secs_f64() * 1e3,
        );
        let mut client = Client::connect(rollcall.address).await?;
        let asked = request("GET", "/v1/health/service/svc-9", "");
        let answer = client.demand(&asked).await?;
        let shown = answer.body.windows(10).filter(|text| text == b"\"svc-9-99\"");
        if shown.count() == 0 {
            return Err("an instance is missing".into());
        }
        sleep(Duration::from_secs(2)).await;
        let name = "resident an instance with its check, after a restart";
        report.add(name, "KiB", each(rollcall.resident()?));
    }
    Ok(())
}

/// Registers so many instances, a hundred each service.
async fn fill(rollcall: &Process, instances: u32) -> Result<(), Failure> {
    let writer = async |connection: u32| {
        let mut client = Client::connect(rollcall.address).await?;
        for number in (0..instances).filter(|number| number % CONNECTIONS == connection) {
            let name = format!("svc-{}", number / 100);
            let id = format!("{name}-{}", number % 100);
            client.demand(&registration(&name, &id, number, &hourly(number))).await?;
        }
        Ok::<(), Failure>(())
    };
    try_join_all((0..CONNECTIONS).map(writer)).await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn size_of_files(folder: &std::path::Path) -> Result<u64, Failure> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let held = entry.metadata()?;
        size += if held.is_dir() { size_of_files(&entry.path())? } else { held.len() };
    }
    Ok(size)
}

async fn read(plan: Plan, report: &mut Report) -> Result<(), Failure> {
    let folder = folder()?;
    let rollcall = Process::rollcall(folder.path()).await?;
    register(&rollcall, 100).await?;
    let asked = request("GET", "/v1/health/service/watched?passing", "");
    let bytes = Client::connect(rollcall.address).await?.demand(&asked).await?.body.len();
    for _ in 0..plan.rounds {
        let until = Instant::now() + plan.window;
        let reader = async |_| {
            let mut client = Client::connect(rollcall.address).await?;
            let mut count = 0;
            while Instant::now() < until {
                client.demand(&asked).await?;
                count += 1;
            }
            Ok::<u64, Failure>(count)
        };
        let load = load(&rollcall, (0..CONNECTIONS).map(reader)).await?;
        report.add("health reads of 100 instances, 64 connections", "/s", load.rate);
        report.add("server CPU, a health read", "us", load.cpu);
    }
    report.add("bytes of a health read", "KiB", mebibytes(bytes as u64) * 1024.0);
    Ok(())
}

/// Registers instances of the service that is watched.
async fn register(rollcall: &Process, instances: u32) -> Result<(), Failure> {
    let mut client = Client::connect(rollcall.address).await?;
    for number in 0..instances {
        let id = format!("watched-{number}");
        client.demand(&registration("watched", &id, number, TTL)).await?;
    }
    Ok(())
}

/// One change of a service of so many instances that so many watch.
async fn wake(watchers: u32, instances: u32, report: &mut Report) -> Result<(), Failure> {
    let folder = folder()?;
    let rollcall = Process::rollcall(folder.path()).await?;
    register(&rollcall, instances).await?;
    let mut clients = Vec::new();
    for _ in 0..watchers {
        clients.push(Client::connect(rollcall.address).await?);
    }
    let path = "/v1/health/service/watched?passing";
    let mut client = Client::connect(rollcall.address).await?;
    let index = client.demand(&request("GET", path, "")).await?.number("x-consul-index");
    let index = index.ok_or("no index")?;
    let blocking = request("GET", &format!("{path}&index={index}&wait=5m"), "");
    let blocking = &blocking;
    let watch = |mut client: Client| async move {
        let answer = client.demand(blocking).await?;
        match answer.number("x-consul-index") {
            Some(now) if now > index => Ok::<Instant, Failure>(Instant::now()),
            now => Err(format!("woken at {now:?} from {index}").into()),
        }
    };
    let change = async {
        // All of them have asked by then, and the server is quiet.
        sleep(Duration::from_secs(2)).await;
        let before = rollcall.cpu()?;
        let body = service("watched", "watched-0", 0, TTL).replace("1.2.3", "1.2.4");
        let changed = request("PUT", "/v1/agent/service/register", &body);
        let sent = Instant::now();
        client.demand(&changed).await?;
        Ok::<_, Failure>((sent, before))
    };
    let woken = try_join_all(clients.into_iter().map(watch));
    let (woken, (sent, before)) = tokio::try_join!(woken, change)?;
    let cpu = rollcall.cpu()?.saturating_sub(before);
    let mut waits: Vec<f64> = woken
        .iter()
        .map(|woken| woken.saturating_duration_since(sent).as_secs_f64() * 1e3)
        .collect();
    waits.sort_by(f64::total_cmp);
    let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
    let names = match (watchers, instances) {
        (2000, 10) => ["2,000 watchers, 10 instances: p50", "p99", "server CPU a watcher"],
        (2000, _) => ["2,000 watchers, 100 instances: p50", "p99 ", "server CPU a watcher "],
        (_, _) => ["10,000 watchers, 10 instances: p50", "p99  ", "server CPU a watcher  "],
    };
    report.add(names[0], "ms", at(50));
    report.add(names[1], "ms", at(99));
    report.add(names[2], "us", each(cpu, u64::from(watchers)));
    Ok(())
}
