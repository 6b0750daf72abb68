//! Prometheus, Alertmanager and a blackbox exporter, with the configuration that is shipped.
//!
//! What is shipped is copied and changed in three ways only: addresses, intervals (seconds instead
//! of minutes) and one more scrape job, for the blackbox dashboard.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    http::{answers_ok, encode, get, get_json},
    rig::{Process, free_ports},
    sink::Sink,
};

/// How many seconds back panels look here. Everything they show has been there for longer.
const RANGE_SECONDS: f64 = 40.0;

/// The stack beside the daemon, running.
#[derive(Debug)]
pub(crate) struct Monitoring {
    pub(crate) sink: Sink,
    prometheus: u16,
    alertmanager: u16,
    /// Kept for their end.
    _processes: [Process; 3],
}

/// A series in the answer to a query.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: Value,
    pub(crate) values: Vec<f64>,
}

struct Ports {
    rollcall: u16,
    alertmanager: u16,
    blackbox: u16,
    sink: u16,
}

impl Monitoring {
    /// Starts the stack for a daemon. `pages` are the URLs that the blackbox exporter probes.
    pub(crate) fn start(folder: &Path, rollcall: u16, pages: &[String]) -> Self {
        let [prometheus, alertmanager, blackbox, sink] = free_ports();
        let ports = Ports { rollcall, alertmanager, blackbox, sink };
        write_rules(folder);
        write_prometheus(folder, &ports, pages);
        write_alertmanager(folder, &ports);
        write_blackbox(folder);
        let sink = Sink::start(ports.sink);
        let processes = [
            start_blackbox(folder, blackbox),
            start_alertmanager(folder, alertmanager),
            start_prometheus(folder, prometheus),
        ];
        Self { sink, prometheus, alertmanager, _processes: processes }
    }

    /// Evaluates an expression now.
    #[track_caller]
    pub(crate) fn query(&self, expr: &str) -> Vec<Series> {
        let data = self.api(&format!("query?query={}", encode(expr)));
        match data["resultType"].as_str().unwrap() {
            "scalar" => vec![Series { labels: Value::Null, values: vec![number(&data["result"])] }],
            _ => series(&data["result"], |one| vec![number(&one["value"])]),
        }
    }

    /// Evaluates an expression over the last while.
    #[track_caller]
    pub(crate) fn query_range(&self, expr: &str) -> Vec<Series> {
        let now = self.query("time()")[0].values[0];
        let data = self.api(&format!(
            "query_range?query={}&start={}&end={now}&step=5",
            encode(expr),
            now - RANGE_SECONDS
        ));
        series(&data["result"], |one| {
            one["values"].as_array().unwrap().iter().map(number).collect()
        })
    }

    /// The values of a label over the series that match.
    #[track_caller]
    pub(crate) fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let data = self.api(&format!("label/{label}/values?match[]={}", encode(selector)));
        let values = data.as_array().unwrap().iter();
        values.map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// All rules, recording and alerting.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let data = self.api("rules");
        let groups = data["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// The type that each metric family was declared with, by name.
    pub(crate) fn types(&self) -> BTreeMap<String, String> {
        let families = self.api("metadata");
        let families = families.as_object().unwrap().iter();
        let word = |family: &Value| family[0]["type"].as_str().unwrap().to_owned();
        families.map(|(name, family)| (name.clone(), word(family))).collect()
    }

    /// What Prometheus scrapes.
    pub(crate) fn scraped(&self) -> Vec<Value> {
        self.api("targets?state=active")["activeTargets"].as_array().unwrap().clone()
    }

    /// What Alertmanager knows of the alerts of a name.
    pub(crate) fn alerts(&self, name: &str) -> Vec<Value> {
        let filter = encode(&format!("alertname=\"{name}\""));
        let alerts = get_json(self.alertmanager, &format!("/api/v2/alerts?filter={filter}"));
        alerts.as_array().unwrap().clone()
    }

    /// The data of an answer that has no error and no warning.
    #[track_caller]
    fn api(&self, path: &str) -> Value {
        let answer = get(self.prometheus, &format!("/api/v1/{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let mut answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        assert!(answer["warnings"].is_null(), "{path}: {}", answer["warnings"]);
        answer["data"].take()
    }
}

fn series(result: &Value, values: impl Fn(&Value) -> Vec<f64>) -> Vec<Series> {
    let all = result.as_array().unwrap().iter();
    all.map(|one| Series { labels: one["metric"].clone(), values: values(one) }).collect()
}

/// The value of a pair of time and value.
fn number(pair: &Value) -> f64 {
    pair[1].as_str().unwrap().parse().unwrap()
}

/// What is shipped in `alerts/`.
pub(crate) fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replaces a text that must be there.
#[track_caller]
fn replace(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "the shipped file has no {old:?} any more:\n{text}");
    text.replace(old, new)
}

/// Rewrites the values of some keys, which stand on lines of their own.
fn rewrite(text: &str, value: impl Fn(&str, &str) -> Option<&'static str>) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let new = line.trim_start().split_once(": ").and_then(|(key, old)| {
            value(key, old)
                .map(|new| line.replace(&format!("{key}: {old}"), &format!("{key}: {new}")))
        });
        out += &new.unwrap_or_else(|| line.to_owned());
        out.push('\n');
        out
    })
}

fn write_rules(folder: &Path) {
    for name in ["rollcall.rules.yml", "rollcall.alerts.yml", "blackbox-compat.rules.yml"] {
        let rules = rewrite(&shipped(name), |key, old| match (key, old) {
            ("for", "0m") => None,
            ("for", "1m") | ("keep_firing_for", _) => Some("2s"),
            ("for", _) => Some("5s"),
            ("interval", _) => Some("1s"),
            _ => None,
        });
        fs::write(folder.join(name), rules).unwrap();
    }
}

fn write_prometheus(folder: &Path, ports: &Ports, pages: &[String]) {
    let config = rewrite(&shipped("prometheus.yml"), |key, _| match key {
        "scrape_interval" | "scrape_timeout" | "evaluation_interval" => Some("1s"),
        _ => None,
    });
    let config = replace(&config, "127.0.0.1:9093", &format!("127.0.0.1:{}", ports.alertmanager));
    let config = replace(&config, "127.0.0.1:8500", &format!("127.0.0.1:{}", ports.rollcall));
    let blackbox = format!(
        "
  - job_name: blackbox
    metrics_path: /probe
    params: {{ module: [http] }}
    static_configs: [{{ targets: {pages:?} }}]
    relabel_configs:
      - {{ source_labels: [__address__], target_label: __param_target }}
      - {{ source_labels: [__param_target], target_label: instance }}
      - {{ target_label: __address__, replacement: \"127.0.0.1:{}\" }}
",
        ports.blackbox
    );
    fs::write(folder.join("prometheus.yml"), config + &blackbox).unwrap();
}

fn write_alertmanager(folder: &Path, ports: &Ports) {
    let config = rewrite(&shipped("alertmanager.yml"), |key, old| match (key, old) {
        ("group_wait" | "repeat_interval", "30s" | "50s") => Some("1s"),
        ("group_interval", _) => Some("2s"),
        _ => None,
    });
    let config = replace(&config, "127.0.0.1:9099", &format!("127.0.0.1:{}", ports.sink));
    fs::write(folder.join("alertmanager.yml"), config).unwrap();
}

/// The certificates of the pages are those of the stage's own authority.
fn write_blackbox(folder: &Path) {
    let config = "modules:
  http:
    prober: http
    timeout: 800ms
    http:
      preferred_ip_protocol: ip4
      tls_config: { ca_file: authority.pem }\n";
    fs::write(folder.join("blackbox.yml"), config).unwrap();
}

fn start_blackbox(folder: &Path, port: u16) -> Process {
    start(
        folder,
        "prometheus-blackbox-exporter",
        port,
        "/-/healthy",
        &["--config.file=blackbox.yml"],
    )
}

fn start_alertmanager(folder: &Path, port: u16) -> Process {
    let args = [
        "--config.file=alertmanager.yml",
        "--storage.path=alertmanager",
        "--cluster.listen-address=",
    ];
    start(folder, "prometheus-alertmanager", port, "/-/ready", &args)
}

fn start_prometheus(folder: &Path, port: u16) -> Process {
    let args = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=prometheus",
        "--rules.alert.resend-delay=5s",
    ];
    start(folder, "prometheus", port, "/-/ready", &args)
}

fn start(folder: &Path, program: &str, port: u16, ready: &str, args: &[&str]) -> Process {
    let mut command = Command::new(program);
    command.args(args).arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut process = Process::start(folder, program, &command);
    process.wait_ready(|| answers_ok(port, ready));
    process
}

/// Where the dashboards are.
pub(crate) fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}
