//! One member of a cluster: where it is, and what it says of itself.

use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};

use super::{PORT, Probe, latency};
use crate::{
    model::Reason,
    probe::{
        endpoint::Endpoint,
        fault::{Fault, printable},
        http,
        trace::Trace,
        url,
    },
};

/// Most bytes of a member's name, of an alarm or of an error that are shown.
const SHOWN: usize = 64;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// What it is called; harmless to show.
    name: String,
    /// The same with where it is.
    place: String,
    /// Where it listens, if it says so.
    endpoint: Option<Endpoint>,
    role: Role,
}

/// Whether a member counts when a majority is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Voter,
    Learner,
}

/// What asking a member brought.
#[derive(Debug)]
pub(super) struct Report {
    /// What the member is called; harmless to show.
    pub(super) name: String,
    /// The same with where it is, if that is known.
    pub(super) place: String,
    pub(super) role: Role,
    pub(super) status: Result<Status, Fault>,
    /// Why its metrics are not known although they were needed.
    pub(super) no_metrics: Option<Fault>,
    /// The quota of its database in bytes, if it is limited and known.
    pub(super) quota: Option<u64>,
    pub(super) latency: latency::Latency,
}

/// A member's view of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) cluster: u64,
    pub(super) id: u64,
    /// The leader's id; 0 if it knows none.
    pub(super) leader: u64,
    pub(super) term: u64,
    pub(super) db_size: u64,
    /// Alarms, and that there is no leader; harmless to show.
    pub(super) errors: Vec<String>,
}

/// A number as the gateway writes it: 64 bits as a text, as Protobuf's JSON has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
struct Number(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Plain(u64),
}

impl TryFrom<Written> for Number {
    type Error = std::num::ParseIntError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Text(text) => text.parse().map(Self),
            Written::Plain(number) => Ok(Self(number)),
        }
    }
}

/// The answer of `/v3/cluster/member/list`.
#[derive(Deserialize)]
struct ListBody {
    members: Vec<Listed>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Listed {
    #[serde(rename = "ID")]
    id: Number,
    name: String,
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner")]
    is_learner: bool,
}

/// The answer of `/v3/maintenance/status`; the gateway leaves out what is zero.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody {
    header: Header,
    #[serde(default)]
    leader: Number,
    #[serde(default)]
    raft_term: Number,
    #[serde(default)]
    db_size: Number,
    /// From etcd 3.6 on.
    #[serde(default)]
    db_size_quota: Option<Number>,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct Header {
    cluster_id: Number,
    member_id: Number,
}

/// Asks a member for all members.
pub(super) async fn list(
    probe: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<Vec<Member>, Fault> {
    let body: ListBody =
        within(&probe.requests.list, endpoint, trace).await.and_then(|()| read(trace))?;
    if body.members.is_empty() {
        return Err(Fault::new(Reason::Protocol, "the member knows no members"));
    }
    Ok(body.members.iter().map(Member::listed).collect())
}

/// Asks within the time of the trace.
async fn within(
    request: &http::Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    let answer = timeout_at(trace.deadline(), http::fetch(request, endpoint, trace)).await;
    answer.unwrap_or_else(|_elapsed| Err(trace.expired()))
}

fn read<T: DeserializeOwned>(trace: &Trace) -> Result<T, Fault> {
    let wrong = |error: serde_json::Error| format!("the answer is not etcd's: {error}");
    serde_json::from_slice(&trace.buffer)
        .map_err(|error| Fault::new(Reason::Protocol, wrong(error)))
}

impl Member {
    /// One of which nothing is known but where it is.
    pub(super) fn at(endpoint: Endpoint) -> Self {
        let name = endpoint.to_string();
        Self { place: name.clone(), name, endpoint: Some(endpoint), role: Role::Voter }
    }

    fn listed(listed: &Listed) -> Self {
        let role = if listed.is_learner { Role::Learner } else { Role::Voter };
        let endpoint = listed.client_urls.iter().find_map(|text| {
            let url = url::parse(text).ok()?;
            url::endpoint_or(&url, PORT).ok()
        });
        let name = match listed.name.as_str() {
            // It has none before it has started for the first time.
            "" => format!("member {:x}", listed.id.0),
            name => printable(name.as_bytes(), SHOWN),
        };
        let place = match &endpoint {
            Some(endpoint) => format!("{name} ({endpoint})"),
            None => name.clone(),
        };
        Self { name, place, endpoint, role }
    }

    /// Asks it for its view and, if need be, for its metrics.
    pub(super) async fn ask(&self, probe: &Probe, trace: &mut Trace) -> Report {
        let mut report = Report {
            name: self.name.clone(),
            place: self.place.clone(),
            role: self.role,
            status: Err(Fault::new(Reason::Unreachable, "it advertises no URL to clients")),
            no_metrics: None,
            quota: probe.spec.db_quota,
            latency: latency::Latency::default(),
        };
        let Some(endpoint) = &self.endpoint else { return report };
        let body = within(&probe.requests.status, endpoint, trace).await;
        let status = match body.and_then(|()| read::<StatusBody>(trace)) {
            Ok(body) => report.take(&body),
            Err(fault) => {
                report.status = Err(fault);
                return report;
            }
        };
        let limits = (&probe.spec.max_commit_latency, &probe.spec.max_fsync_latency);
        if report.quota.is_none() || limits != (&None, &None) {
            match within(&probe.requests.metrics, endpoint, trace).await {
                Ok(()) => report.measure(probe, &status, &trace.buffer),
                Err(fault) => report.no_metrics = Some(fault),
            }
        }
        report.quota = report.quota.filter(|quota| *quota > 0);
        report.status = Ok(status);
        report
    }
}

impl Report {
    /// Takes what a member says over, and gives its view.
    fn take(&mut self, body: &StatusBody) -> Status {
        if body.is_learner {
            self.role = Role::Learner;
        }
        self.quota = self.quota.or(body.db_size_quota.map(|Number(quota)| quota));
        Status {
            cluster: body.header.cluster_id.0,
            id: body.header.member_id.0,
            leader: body.leader.0,
            term: body.raft_term.0,
            db_size: body.db_size.0,
            errors: body.errors.iter().map(|e| printable(e.trim().as_bytes(), SHOWN)).collect(),
        }
    }

    /// Takes over what is in its metrics.
    fn measure(&mut self, probe: &Probe, status: &Status, text: &[u8]) {
        let metrics = latency::parse(text);
        self.quota = self.quota.or(metrics.quota);
        if self.quota.is_none() {
            let detail = "the quota is not in what was read of them; give it as `db_quota`";
            self.no_metrics = Some(Fault::new(Reason::Protocol, detail));
        }
        let whose = (status.cluster, status.id);
        self.latency = probe.histories.observe(whose, Instant::now(), metrics.disk);
    }
}
