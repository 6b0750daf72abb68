//! What is probed: nginx, Redis, etcd, a gRPC health server, and a port where nobody listens.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::{
    http::{accepts, answers_ok},
    rig::{Process, free_ports, run, words},
};

/// How long the slow page takes; far more than any probe here waits.
const SLOW: Duration = Duration::from_secs(5);

/// The last day of the certificate that has expired, as seconds since 1970: 2020-01-01.
pub(crate) const EXPIRED_AT: f64 = 1_577_836_800.0;

/// Where the targets are.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) web: u16,
    pub(crate) tls_good: u16,
    pub(crate) tls_expired: u16,
    pub(crate) tls_self_signed: u16,
    pub(crate) redis: [u16; 2],
    pub(crate) grpc: u16,
    pub(crate) etcd: u16,
    pub(crate) closed: u16,
    slow: u16,
    etcd_peer: u16,
}

/// Everything that is probed, running.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) ports: Ports,
    /// The authority that signed the good and the expired certificate.
    pub(crate) authority: PathBuf,
    folder: PathBuf,
    redis: [Option<Process>; 2],
    /// Kept for their end.
    _others: Vec<Process>,
}

impl Ports {
    fn find() -> Self {
        let [
            web,
            tls_good,
            tls_expired,
            tls_self_signed,
            redis_1,
            redis_2,
            grpc,
            etcd,
            etcd_peer,
            closed,
            slow,
        ] = free_ports();
        let redis = [redis_1, redis_2];
        Self {
            web,
            tls_good,
            tls_expired,
            tls_self_signed,
            redis,
            grpc,
            etcd,
            closed,
            slow,
            etcd_peer,
        }
    }
}

impl Targets {
    /// Starts all of them and waits until they answer.
    pub(crate) fn start(folder: &Path, python: &Path) -> Self {
        let ports = Ports::find();
        let authority = write_certificates(folder);
        start_slow_server(ports.slow);
        let redis = [0, 1].map(|which| Some(start_redis(folder, which, ports.redis[which])));
        let others = vec![
            start_nginx(folder, &ports),
            start_etcd(folder, &ports),
            start_grpc(folder, python, ports.grpc),
        ];
        Self { ports, authority, folder: folder.to_owned(), redis, _others: others }
    }

    /// Kills one of the two Redis servers.
    pub(crate) fn kill_redis(&mut self, which: usize) {
        self.redis[which].take().expect("it is running").kill();
    }

    /// Starts it again, where it was.
    pub(crate) fn restart_redis(&mut self, which: usize) {
        if self.redis[which].is_none() {
            self.redis[which] = Some(start_redis(&self.folder, which, self.ports.redis[which]));
        }
    }
}

fn start_nginx(folder: &Path, ports: &Ports) -> Process {
    let tls = [
        ("good", ports.tls_good),
        ("expired", ports.tls_expired),
        ("self-signed", ports.tls_self_signed),
    ]
    .map(|(name, port)| {
        format!(
            "server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {name}.pem;
                ssl_certificate_key {name}.key;
                location / {{ return 200 \"all is well\\n\"; }}
            }}\n"
        )
    })
    .concat();
    let Ports { web, slow, .. } = ports;
    let config = format!(
        "daemon off;
        master_process off;
        pid nginx.pid;
        events {{ worker_connections 512; }}
        http {{
            access_log off;
            client_body_temp_path nginx-body;
            proxy_temp_path nginx-proxy;
            fastcgi_temp_path nginx-fastcgi;
            uwsgi_temp_path nginx-uwsgi;
            scgi_temp_path nginx-scgi;
            server {{
                listen 127.0.0.1:{web};
                location = /ok {{ return 200 \"all is well\\n\"; }}
                location = /fail {{ return 500; }}
                location = /busy {{ return 429; }}
                location = /redirect {{ return 302 /ok; }}
                location = /slow {{ proxy_pass http://127.0.0.1:{slow}; }}
            }}
            {tls}
        }}\n"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut nginx = Command::new("/usr/sbin/nginx");
    nginx.arg("-p").arg(folder).args(["-e", "stderr", "-c", "nginx.conf"]);
    let mut process = Process::start(folder, "nginx", &nginx);
    let tls = [ports.tls_good, ports.tls_expired, ports.tls_self_signed];
    process.wait_ready(|| answers_ok(ports.web, "/ok") && tls.into_iter().all(accepts));
    process
}

fn start_redis(folder: &Path, which: usize, port: u16) -> Process {
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    redis.args(["--port", &port.to_string()]);
    let mut process = Process::start(folder, &format!("redis-{}", which + 1), &redis);
    process.wait_ready(|| accepts(port));
    process
}

fn start_etcd(folder: &Path, ports: &Ports) -> Process {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(folder.join("etcd"));
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}")]);
    let mut process = Process::start(folder, "etcd", &etcd);
    process.wait_ready(|| answers_ok(ports.etcd, "/health"));
    process
}

fn start_grpc(folder: &Path, python: &Path, port: u16) -> Process {
    let mut server = Command::new(python);
    server.args([health_program(), "serve", &port.to_string()]);
    let mut process = Process::start(folder, "grpc-health", &server);
    process.wait_ready(|| accepts(port));
    process
}

/// The gRPC health server and client in Python.
pub(crate) fn health_program() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/health.py")
}

/// Asks a gRPC server about services, by the reference client.
pub(crate) fn ask_health(python: &Path, port: u16, services: &[&str]) -> serde_json::Value {
    let address = format!("127.0.0.1:{port}");
    let output =
        run(Command::new(python).args([health_program(), "check", &address]).args(services));
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Answers every request, after a long while.
fn start_slow_server(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client has gone long before; that is the point.
            thread::spawn(move || drop(answer_slowly(stream)));
        }
    });
}

fn answer_slowly(mut stream: TcpStream) -> std::io::Result<()> {
    let read = stream.read(&mut [0; 4096])?;
    thread::sleep(SLOW);
    if read == 0 {
        return Ok(());
    }
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// Writes an authority and three certificates with their keys; answers where the authority is.
fn write_certificates(folder: &Path) -> PathBuf {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Authority of the live stage");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let file = folder.join("authority.pem");
    fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(params, key);

    write_certificate(folder, "good", &leaf(2099), Some(&authority));
    write_certificate(folder, "expired", &leaf(2020), Some(&authority));
    write_certificate(folder, "self-signed", &leaf(2099), None);
    file
}

/// A certificate for loopback that ends on the first day of a year.
fn leaf(year: i32) -> CertificateParams {
    let names = ["localhost", "127.0.0.1"].map(ToOwned::to_owned);
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.not_before = date_time_ymd(2010, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    params
}

fn write_certificate(
    folder: &Path,
    name: &str,
    params: &CertificateParams,
    authority: Option<&Issuer<'_, KeyPair>>,
) {
    let key = KeyPair::generate().unwrap();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority),
        None => params.self_signed(&key),
    };
    fs::write(folder.join(format!("{name}.pem")), certificate.unwrap().pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}
