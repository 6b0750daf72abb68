//! The daemon under test: its configuration, its API, its metrics.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    http::{answers_ok, get, get_json},
    rig::{Process, free_ports, run},
    targets::Targets,
};

/// How many failures in a row make a check critical here.
pub(crate) const FAILURES: u32 = 3;

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) process: Process,
    pub(crate) http: u16,
    pub(crate) grpc: u16,
    pub(crate) dns: u16,
    config: PathBuf,
}

/// One answer of `/metrics`.
#[derive(Debug)]
pub(crate) struct Metrics(String);

/// What the API says of one check of one instance.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) check: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) consecutive_failures: u64,
}

impl Daemon {
    /// Starts a daemon with these services and waits until it is ready. `settings` are further
    /// lines of the configuration.
    pub(crate) fn start(folder: &Path, name: &str, settings: &str, services: &str) -> Self {
        let [http, grpc, dns] = free_ports();
        let config = folder.join(format!("{name}.yml"));
        let settings = format!(
            "node_name: {name}
data_dir: {name}-data
listen: {{ http: \"127.0.0.1:{http}\", grpc: \"127.0.0.1:{grpc}\", dns: \"127.0.0.1:{dns}\" }}
log: {{ format: text }}
metrics: {{ metadata_labels: [team] }}
{settings}\n"
        );
        fs::write(folder.join(format!("{name}.settings")), &settings).unwrap();
        fs::write(&config, format!("{settings}{services}")).unwrap();
        let mut command = rollcall();
        command.arg("run").arg("--config").arg(&config);
        let mut process = Process::start(folder, name, &command);
        process.wait_ready(|| answers_ok(http, "/-/ready"));
        Self { process, http, grpc, dns, config }
    }

    /// Writes the configuration anew with other services; the daemon does not know yet.
    pub(crate) fn rewrite(&self, services: &str) {
        let settings = fs::read_to_string(self.config.with_extension("settings")).unwrap();
        fs::write(&self.config, format!("{settings}{services}")).unwrap();
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics(get(self.http, "/metrics").body)
    }

    /// The state of every check.
    pub(crate) fn states(&self) -> Vec<State> {
        let mut states = Vec::new();
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        for service in items(&get_json(self.http, "/v1/rollcall/services")) {
            for instance in items(&service["instances"]) {
                for check in items(&instance["checks"]) {
                    states.push(State {
                        service: text(&service["name"]).unwrap(),
                        instance: text(&instance["id"]).unwrap(),
                        check: text(&check["id"]).unwrap(),
                        status: text(&check["status"]).unwrap(),
                        reason: text(&check["reason"]),
                        consecutive_failures: check["consecutive_failures"].as_u64().unwrap(),
                    });
                }
            }
        }
        states
    }

    /// The names of all services, in order.
    pub(crate) fn services(&self) -> Vec<String> {
        let services = get_json(self.http, "/v1/rollcall/services");
        items(&services).iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The events of an instance, oldest first.
    pub(crate) fn events(&self, instance: &str) -> Vec<Value> {
        let events = get_json(self.http, "/v1/rollcall/events");
        items(&events).iter().filter(|event| event["instance"] == instance).cloned().collect()
    }

    /// Runs `rollcall` as a client of this daemon.
    pub(crate) fn client(&self, args: &[&str]) -> Output {
        run(rollcall().args(args).args(self.address()))
    }

    /// The arguments that point a client at this daemon.
    pub(crate) fn address(&self) -> [String; 2] {
        ["--http-addr".to_owned(), format!("127.0.0.1:{}", self.http)]
    }
}

impl Metrics {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The sum over all series of a name that have these labels; nothing if there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let values: Vec<f64> = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter(|rest| wanted.iter().all(|pair| has_label(rest, pair)))
            .map(|rest| rest.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

/// Whether a series, written from its labels on, has a label. The values here need no escapes and
/// hold no commas.
fn has_label(series: &str, pair: &str) -> bool {
    let labels = series.strip_prefix('{').and_then(|series| series.rsplit_once('}'));
    labels.is_some_and(|(labels, _)| labels.split(',').any(|label| label == pair))
}

/// The elements of an array.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}"))
}

/// The program under test.
pub(crate) fn rollcall() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rollcall"))
}

/// The settings of the stage's daemon.
pub(crate) fn settings() -> String {
    format!(
        "check_defaults: {{ interval: 1s, timeout: 800ms, failures_before_critical: {FAILURES} }}"
    )
}

/// One service for every answer a target can give.
pub(crate) fn services(targets: &Targets) -> String {
    let ports = &targets.ports;
    let authority = targets.authority.display();
    let page = |name: &str, checks: &str| service(name, &[(name, ports.web)], checks);
    let secure = |name: &str, port: u16| {
        let check = format!("{{ http: {{ path: /, tls: {{ ca_file: {authority} }} }} }}");
        service(name, &[(name, port)], &check)
    };
    let alone = |name: &str, port: u16, checks: &str| service(name, &[(name, port)], checks);
    [
        "services:\n".to_owned(),
        page("ok", "{ http: { path: /ok, body_contains: all is well } }"),
        page("fail", "{ http: { path: /fail } }"),
        page("busy", "{ http: { path: /busy } }"),
        page("slow", "{ http: { path: /slow } }"),
        page(
            "redirect",
            "{ id: judged, http: { path: /redirect } }, \
             { id: followed, http: { path: /redirect, follow_redirects: 1 } }",
        ),
        secure("tls-good", ports.tls_good),
        secure("tls-expired", ports.tls_expired),
        secure("tls-self-signed", ports.tls_self_signed),
        service(
            "cache",
            &[("redis-1", ports.redis[0]), ("redis-2", ports.redis[1])],
            r"{ id: redis, success_before_passing: 2, tcp: { send: 'PING\r\n', expect: '+PONG' } }",
        ),
        alone(
            "shop",
            ports.grpc,
            "{ id: server, grpc: {} }, { id: cart, grpc: { service: shop.Cart } }, \
             { id: down, grpc: { service: shop.Down } }, { id: other, grpc: { service: shop.Other } }",
        ),
        alone("etcd", ports.etcd, "{ grpc: {} }"),
        alone("closed", ports.closed, "{ tcp: {} }"),
    ]
    .concat()
}

/// A service on loopback, as the configuration has it.
pub(crate) fn service(name: &str, instances: &[(&str, u16)], checks: &str) -> String {
    let instances: Vec<String> = instances
        .iter()
        .map(|(id, port)| format!("{{ id: {id}, address: 127.0.0.1, port: {port} }}"))
        .collect();
    format!(
        "  - name: {name}
    meta: {{ team: live }}
    instances: [{}]
    checks: [{checks}]\n",
        instances.join(", ")
    )
}
