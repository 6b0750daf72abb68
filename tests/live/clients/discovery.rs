//! Prometheus' own discovery of services, `consul_sd_configs`, and relabelling.
//!
//! Debian's Prometheus is built without it, so that it is Prometheus' library that runs, in the
//! program `prometheus/main.go`.

use std::{collections::BTreeSet, fs, process::Command, thread, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Clients;
use crate::{
    daemon::Daemon,
    http::put_json,
    rig::{Process, SOON, wait_for},
};

/// Prometheus asks anew at most this often.
const REFRESH: Duration = Duration::from_secs(1);

/// Prometheus takes what it has found over every five seconds, so a change cannot show sooner; a
/// watch adds next to nothing to that.
const QUICK: Duration = Duration::from_millis(7500);

/// The labels that the relabelling below sets.
const LABELS: [&str; 6] = ["__address__", "service", "id", "version", "team", "health"];

type Target = [String; 6];

struct Prometheus {
    process: Process,
}

pub(super) fn prometheus_finds_services(clients: &Clients) {
    let daemon = clients.fresh_daemon("discovery-daemon");
    register(&daemon, "web-1", &["scrape", "v1"], "passing");
    register(&daemon, "web-2", &["scrape", "v2"], "warning");
    register(&daemon, "hidden-1", &["v1"], "passing");
    let prometheus = Prometheus::start(clients, daemon.http);
    prometheus.shows(SOON, &[target("web-1", "v1", "passing"), target("web-2", "v2", "warning")]);

    // A service whose name is new, the end of one, and a status: each by a watch of its own.
    register(&daemon, "shop-1", &["scrape", "v3"], "passing");
    put_json(daemon.http, "/v1/agent/service/deregister/web-1", &Value::Null);
    put_json(daemon.http, "/v1/agent/check/fail/service:web-2", &Value::Null);
    let shop = || target("shop-1", "v3", "passing");
    prometheus.shows(QUICK, &[shop(), target("web-2", "v2", "critical")]);
    put_json(daemon.http, "/v1/agent/service/maintenance/web-2?enable=true", &Value::Null);
    prometheus.shows(QUICK, &[shop(), target("web-2", "v2", "maintenance")]);

    // It waits for changes, and does not ask again and again whether there are any.
    thread::sleep(REFRESH);
    let asked = questions(&daemon);
    thread::sleep(REFRESH * 3);
    assert_eq!(questions(&daemon), asked, "Prometheus asks though nothing has changed");
}

/// How often the daemon was asked for the services, and for the instances of one.
fn questions(daemon: &Daemon) -> [String; 2] {
    let metrics = daemon.metrics();
    ["/v1/catalog/services", "/v1/health/service/{name}"].map(|handler| {
        let answered = metrics.sum("rollcall_http_requests_total", &[("handler", handler)]);
        answered.expect("it was asked").to_string()
    })
}

/// A service whose name is the first part of its ID.
fn register(daemon: &Daemon, id: &str, tags: &[&str], status: &str) {
    let name = id.split('-').next();
    let service = json!({
        "ID": id,
        "Name": name,
        "Tags": tags,
        "Address": "127.0.0.1",
        "Port": 9,
        "Meta": { "team": "live" },
        "Check": { "CheckID": format!("service:{id}"), "TTL": "10m", "Status": status },
    });
    put_json(daemon.http, "/v1/agent/service/register", &service);
}

fn target(id: &str, version: &str, health: &str) -> Target {
    let name = id.split('-').next().unwrap();
    ["127.0.0.1:9", name, id, version, "live", health].map(ToOwned::to_owned)
}

impl Prometheus {
    fn start(clients: &Clients, daemon: u16) -> Self {
        let config = format!(
            r#"consul_sd_configs:
  - server: "127.0.0.1:{daemon}"
    refresh_interval: {}s
relabel_configs:
  - {{ source_labels: [__meta_consul_dc], regex: dc1, action: keep }}
  - {{ source_labels: [__meta_consul_tags], regex: ".*,scrape,.*", action: keep }}
  - {{ source_labels: [__meta_consul_tags], regex: ".*,(v[0-9]+),.*", target_label: version }}
  - {{ source_labels: [__meta_consul_service], target_label: service }}
  - {{ source_labels: [__meta_consul_service_id], target_label: id }}
  - {{ source_labels: [__meta_consul_service_metadata_team], target_label: team }}
  - {{ source_labels: [__meta_consul_health], target_label: health }}
"#,
            REFRESH.as_secs()
        );
        let file = clients.folder.join("discovery.yml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(clients.installed.join("prometheus/discover"));
        Self { process: Process::start(&clients.folder, "discovery", command.arg(file)) }
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

    /// What it has told last.
    fn targets(&self) -> BTreeSet<Target> {
        let said = self.process.said();
        let last = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = last.unwrap_or_else(|| json!([]));
        let labels = |target: &Value| {
            LABELS.map(|label| target[label].as_str().unwrap_or("none").to_owned())
        };
        last.as_array().unwrap().iter().map(labels).collect()
    }
}
