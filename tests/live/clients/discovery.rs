//! Prometheus' own discovery of services, `consul_sd_configs`.

use std::{collections::BTreeSet, fs, process::Command, thread, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Clients;
use crate::{
    daemon::{Daemon, Metrics},
    http::{answers_ok, get, get_json, put_json},
    rig::{Process, SOON, free_ports, wait_for},
};

/// Prometheus asks anew at most this often.
const REFRESH: Duration = Duration::from_secs(2);

/// Prometheus takes what it has found over every five seconds, so a change cannot show sooner; a
/// watch adds next to nothing to that.
const QUICK: Duration = Duration::from_millis(7500);

/// A target as the relabelling below shows it.
type Target = (String, String, String, String, String);

struct Prometheus {
    port: u16,
    _process: Process,
}

pub(super) fn prometheus_finds_services(clients: &Clients) {
    let daemon = clients.fresh_daemon("discovery-daemon");
    register(&daemon, "web-1", &["scrape", "v1"], "passing");
    register(&daemon, "web-2", &["scrape", "v2"], "warning");
    register(&daemon, "hidden", &["v1"], "passing");
    let prometheus = Prometheus::start(clients, daemon.http);
    prometheus.shows(SOON, &[target("web-1", "v1", "passing"), target("web-2", "v2", "warning")]);

    // A service whose name is new, the end of one, and a status: each by a watch of its own.
    register(&daemon, "shop-1", &["scrape", "v3"], "passing");
    let shop = || target("shop-1", "v3", "passing");
    prometheus.shows(QUICK, &[
        shop(),
        target("web-1", "v1", "passing"),
        target("web-2", "v2", "warning"),
    ]);
    put_json(daemon.http, "/v1/agent/service/deregister/web-1", &Value::Null);
    put_json(daemon.http, "/v1/agent/check/fail/service:web-2", &Value::Null);
    prometheus.shows(QUICK, &[shop(), target("web-2", "v2", "critical")]);
    put_json(daemon.http, "/v1/agent/service/maintenance/web-2?enable=true", &Value::Null);
    prometheus.shows(QUICK, &[shop(), target("web-2", "v2", "maintenance")]);

    prometheus.waits_while_nothing_changes();
}

/// A service whose name is the first part of its ID.
fn register(daemon: &Daemon, id: &str, tags: &[&str], status: &str) {
    let service = json!({
        "ID": id,
        "Name": id.split('-').next(),
        "Tags": tags,
        "Address": "127.0.0.1",
        "Port": 9,
        "Meta": { "team": "live" },
        "Check": { "TTL": "10m", "Status": status },
    });
    put_json(daemon.http, "/v1/agent/service/register", &service);
}

fn target(id: &str, version: &str, health: &str) -> Target {
    let name = id.split('-').next().unwrap();
    [name, id, version, "live", health].map(ToOwned::to_owned).into()
}

impl Prometheus {
    fn start(clients: &Clients, daemon: u16) -> Self {
        let [port] = free_ports();
        let config = format!(
            r#"scrape_configs:
  - job_name: found
    scrape_interval: 1h
    consul_sd_configs:
      - server: "127.0.0.1:{daemon}"
        refresh_interval: {}s
    relabel_configs:
      - {{ source_labels: [__meta_consul_tags], regex: ".*,scrape,.*", action: keep }}
      - {{ source_labels: [__meta_consul_tags], regex: ".*,(v[0-9]+),.*", target_label: version }}
      - {{ source_labels: [__meta_consul_service], target_label: service }}
      - {{ source_labels: [__meta_consul_service_id], target_label: id }}
      - {{ source_labels: [__meta_consul_service_metadata_team], target_label: team }}
      - {{ source_labels: [__meta_consul_health], target_label: health }}
"#,
            REFRESH.as_secs()
        );
        let file = clients.folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", clients.folder.join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::start(&clients.folder, "prometheus", &command);
        process.wait_ready(|| answers_ok(port, "/-/ready"));
        Self { port, _process: process }
    }

    /// Waits until exactly these targets are shown.
    #[track_caller]
    fn shows(&self, limit: Duration, targets: &[Target]) {
        let wanted: BTreeSet<Target> = targets.iter().cloned().collect();
        let began = Instant::now();
        wait_for("Prometheus has the targets", limit, || {
            let shown = self.targets();
            if shown == wanted { Ok(()) } else { Err(format!("{shown:?}, and not {wanted:?}")) }
        });
        println!("     {} targets after {:.1} s", wanted.len(), began.elapsed().as_secs_f64());
    }

    fn targets(&self) -> BTreeSet<Target> {
        let answer = get_json(self.port, "/api/v1/targets?state=active");
        let targets = answer["data"]["activeTargets"].as_array().unwrap().clone();
        let shown = targets.iter().map(|target| {
            let label = |name: &str| target["labels"][name].as_str().unwrap_or("none").to_owned();
            assert_eq!(target["discoveredLabels"]["__address__"], "127.0.0.1:9");
            assert_eq!(target["discoveredLabels"]["__meta_consul_dc"], "dc1");
            (label("service"), label("id"), label("version"), label("team"), label("health"))
        });
        shown.collect()
    }

    /// It waits for changes, and does not ask again and again whether there are any.
    #[track_caller]
    fn waits_while_nothing_changes(&self) {
        thread::sleep(REFRESH);
        let before = self.questions();
        thread::sleep(REFRESH * 2);
        assert_eq!(self.questions(), before, "Prometheus asks though nothing has changed");
    }

    /// How often it has asked and was answered.
    fn questions(&self) -> [f64; 2] {
        let metrics = Metrics::of(get(self.port, "/metrics").body);
        let answered = |call: &str| {
            metrics.sum("prometheus_sd_consul_rpc_duration_seconds_count", &[("call", call)]).unwrap()
        };
        ["services", "service"].map(answered)
    }
}
