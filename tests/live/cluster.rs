//! A third stage: a real etcd cluster of three members, asked by `rollcall probe` while its members
//! are stopped, killed and filled up.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    clients,
    daemon::rollcall,
    http::{answers_ok, post_json},
    rig::{Process, Proofs, SOON, empty_folder, free_ports, missing, run, wait_for, words},
};

/// Bytes of a database here; three large values fill it.
const QUOTA: u32 = 4 << 20;

/// A value of a mebibyte, as JSON has bytes: three of four are written.
const LARGE: usize = (1 << 20) / 3 * 4;

/// A member of the cluster.
#[derive(Debug)]
struct Member {
    name: String,
    client: u16,
    process: Option<Process>,
}

/// The cluster.
#[derive(Debug)]
struct Cluster {
    folder: PathBuf,
    members: [Member; 3],
}

/// A statement, and what proves it.
type Statement = (&'static str, fn(&mut Cluster));

const STATEMENTS: &[Statement] = &[
    ("a cluster whose members are well is well, whichever is asked", all_is_well),
    ("a stopped member is a warning that names it", a_stopped_member_is_named),
    ("a killed member is a warning that names it", a_killed_member_is_named),
    ("a cluster that has no room raises an alarm, and fails", a_full_cluster_fails),
    ("without a majority the cluster has failed", a_majority_is_missed),
];

#[test]
fn an_etcd_cluster_is_judged_as_a_whole() {
    let _alone = clients::alone();
    let missing = missing(&["etcd", "setpriv"]);
    assert!(missing.is_empty(), "this stage lacks {}; see tests/run.sh", missing.join(", "));
    let mut proofs = Proofs::new();
    let mut cluster = Cluster::start();
    for (statement, step) in STATEMENTS {
        proofs.add(statement, || step(&mut cluster));
    }
    proofs.conclude(&cluster.folder);
}

impl Cluster {
    fn start() -> Self {
        let folder = empty_folder("cluster");
        let [clients, peers]: [[u16; 3]; 2] = [free_ports(), free_ports()];
        let peer = |n: usize| format!("etcd-{n}=http://127.0.0.1:{}", peers[n]);
        let all = [0, 1, 2].map(peer).join(",");
        let mut members = [0, 1, 2].map(|n| {
            let (client, name) = (clients[n], format!("etcd-{n}"));
            let process = start(&folder, &name, [client, peers[n]], &all);
            Member { name, client, process: Some(process) }
        });
        for member in &mut members {
            let client = member.client;
            let process = member.process.as_mut().unwrap();
            process.wait_ready(|| answers_ok(client, "/health"));
        }
        Self { folder, members }
    }

    /// Asks the cluster by its first member until the exit code is this one, and what is said holds
    /// this.
    #[track_caller]
    fn is_judged(&self, code: i32, said: &[&str]) {
        wait_for(&format!("the probe exits with {code}"), SOON, || {
            let url = format!("etcd://127.0.0.1:{}", self.members[0].client);
            let output = run(rollcall().args(["probe", &url, "--timeout", "2s"]));
            let words = words(&output);
            let is_said = said.iter().all(|part| words.contains(part));
            if output.status.code() == Some(code) && is_said {
                println!("     {}", words.lines().last().unwrap_or_default().trim());
                return Ok(());
            }
            Err(words)
        });
    }
}

fn start(folder: &Path, name: &str, [client, peer]: [u16; 2], all: &str) -> Process {
    let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
    let mut etcd = Command::new("etcd");
    etcd.args(["--name", name, "--data-dir"]).arg(folder.join(name));
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", all, "--quota-backend-bytes", &QUOTA.to_string()]);
    Process::start(folder, name, &etcd)
}

fn all_is_well(cluster: &mut Cluster) {
    cluster.is_judged(0, &["success"]);
    for Member { client, .. } in &cluster.members {
        let url = format!("etcd://127.0.0.1:{client}");
        let output = run(rollcall().args(["probe", &url]));
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    }
}

fn a_stopped_member_is_named(cluster: &mut Cluster) {
    let Member { name, client, process } = &cluster.members[1];
    let process = process.as_ref().unwrap();
    process.signal(Signal::STOP);
    let said = format!("{name} (127.0.0.1:{client}): no answer within ");
    cluster.is_judged(1, &["warning: timeout_response", &said]);
    process.signal(Signal::CONT);
    cluster.is_judged(0, &["success"]);
}

fn a_killed_member_is_named(cluster: &mut Cluster) {
    cluster.members[1].process.take().unwrap().kill();
    let Member { name, client, .. } = &cluster.members[1];
    let said = format!("{name} (127.0.0.1:{client}): Connection refused");
    cluster.is_judged(1, &["warning: connection_refused", &said]);
}

fn a_full_cluster_fails(cluster: &mut Cluster) {
    let value = "A".repeat(LARGE);
    let put = |key: &str| {
        let body = json!({ "key": key, "value": value });
        post_json(cluster.members[0].client, "/v3/kv/put", &body).status
    };
    let taken = ["YQ==", "Yg==", "Yw==", "ZA==", "ZQ==", "Zg=="].map(put);
    assert!(taken.contains(&200) && taken.iter().any(|status| *status != 200), "{taken:?}");
    let said = ["failure: status", "alarm NOSPACE", "of its quota"];
    cluster.is_judged(2, &said);
}

fn a_majority_is_missed(cluster: &mut Cluster) {
    cluster.members[2].process.take().unwrap().kill();
    cluster.is_judged(2, &["only 0 of 3 members are well and agree"]);
}
