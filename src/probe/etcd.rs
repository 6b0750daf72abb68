//! The etcd probe: every member of a cluster is asked; success is that all of them answer, know the
//! same leader in the same term, raise no alarm, have room, and are as fast as is asked.
//!
//! Each member is asked for its own view (`/v3/maintenance/status`), which also holds its alarms, and
//! if need be for its metrics, by JSON over HTTP on the port of its clients: that is there from etcd
//! 3.4 on, and needs no knowledge of etcd's messages. All are asked at the same time and with a part
//! of the probe's time, so that one that is stuck leaves time to say so. Where they do not agree they
//! are asked once more, for there may be an election under way.
//!
//! The cluster has failed if fewer members than make a majority are well and agree; what else is
//! wrong with single members is told with their names (`verdict`, which is pure).

mod latency;
mod member;
mod verdict;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use ::url::Url;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use self::{
    latency::Histories,
    member::{Member, Report},
};
use super::{
    PrepareError,
    endpoint::Endpoint,
    fault::Fault,
    http, tls,
    trace::Trace,
    udp,
    url::{self, UrlError},
};
use crate::{
    duration::Period,
    model::{Phase, Reason},
};

/// The port of clients (IANA).
const PORT: u16 = 2379;

/// Most members that are asked; etcd's own advice is seven at most.
const MAX_MEMBERS: usize = 16;

/// Members that do not agree are asked again after so much time at most: an election takes one to
/// two seconds with etcd's own settings, and is mostly over when it is noticed.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// A check of an etcd cluster, 3.4 or later, which asks every member, by HTTP on the port of its
/// clients. A failure if fewer members than a majority answer and agree on leader and raft term, and
/// if a database is nearly full; all else that is wrong is a warning that names the member.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Etcd")]
pub struct Spec {
    /// The members to ask, as `host:port`, at most 16. Default: those that the instance names when
    /// it is asked, by the first of the URLs that each of them advertises to clients.
    #[schemars(with = "Vec<String>")]
    pub members: Vec<Address>,
    /// Speak TLS with all members, and check their certificates so. Default: no TLS.
    pub tls: Option<tls::Spec>,
    /// What it means that a member does not answer, knows no leader, does not agree or raises an
    /// alarm, while a majority is well: `warning` or `failure`. Default: `warning`.
    pub sick_member: SickMember,
    /// The quota of the database in bytes, as etcd's `--quota-backend-bytes`. Default: what the
    /// members say, for which etcd before 3.6 is asked for its metrics at every probe.
    pub db_quota: Option<u64>,
    /// The share of its quota from which on a member's database is a warning, above 0, at most 1.
    /// Default: 0.8.
    pub db_warning: f64,
    /// The share of its quota from which on a member's database is a failure: at 1 the cluster takes
    /// no more writes. Default: 0.95.
    pub db_failure: f64,
    /// A warning if of all commits to a member's database in the last minute (in the last two probes
    /// if they are further apart) one in a hundred takes longer; not judged below ten commits. etcd
    /// advises 25ms. Default: not looked at.
    pub max_commit_latency: Option<Period>,
    /// The same of writes to a member's log (`fsync` of the WAL). etcd advises 10ms. Default: not
    /// looked at.
    pub max_fsync_latency: Option<Period>,
}

/// What a sick member means while a majority is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SickMember {
    /// A warning.
    #[default]
    Warning,
    /// A failure.
    Failure,
}

/// Where a member listens to clients.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Address(Endpoint);

impl TryFrom<String> for Address {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        let url = url::parse(&format!("etcd://{text}"))?;
        if !matches!(url.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        Ok(Self(url::endpoint_or(&url, PORT)?))
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            tls: None,
            sick_member: SickMember::default(),
            db_quota: None,
            db_warning: 0.8,
            db_failure: 0.95,
            max_commit_latency: None,
            max_fsync_latency: None,
        }
    }
}

/// An etcd check made ready.
#[derive(Debug)]
pub(super) struct Probe {
    spec: Spec,
    requests: Arc<Requests>,
    /// What the members of all clusters said of their latency before.
    histories: Histories,
}

/// What members are asked.
#[derive(Debug, PartialEq)]
struct Requests {
    list: http::Probe,
    status: http::Probe,
    metrics: http::Probe,
}

/// Equal if they ask the same; what they have heard does not count.
impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.requests == other.requests
    }
}

impl Spec {
    /// What `etcd://host:port` and `etcds://host:port` ask.
    pub(super) fn of_url(url: &Url) -> Result<(Self, Endpoint), UrlError> {
        if !matches!(url.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        let tls = (url.scheme() == "etcds").then(tls::Spec::default);
        Ok((Self { tls, ..Self::default() }, url::endpoint_or(url, PORT)?))
    }

    fn vet(&self) -> Result<(), PrepareError> {
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        if !is_share(self.db_warning) || !is_share(self.db_failure) {
            let rule = "`db_warning` and `db_failure` are shares: above 0, and at most 1";
            return Err(PrepareError::Conflict(rule));
        }
        if self.db_warning > self.db_failure {
            let rule = "`db_warning` is above `db_failure`, so that there would be no warning";
            return Err(PrepareError::Conflict(rule));
        }
        if self.members.len() > MAX_MEMBERS {
            return Err(PrepareError::Conflict("`members` has more than 16 members"));
        }
        Ok(())
    }

    /// A request of a member.
    fn request(&self, method: &str, path: &str, body: &str) -> Result<http::Probe, PrepareError> {
        let conflict = PrepareError::Conflict("a request of etcd cannot be sent");
        let (Ok(method), Ok(path)) = (method.parse(), path.parse()) else { return Err(conflict) };
        let (body, tls) = (body.to_owned(), self.tls.clone());
        http::Probe::prepare(&http::Spec { method, path, body, tls, ..http::Spec::default() })
    }
}

impl Probe {
    pub(super) fn prepare(spec: &Spec) -> Result<Self, PrepareError> {
        spec.vet()?;
        let requests = Arc::new(Requests {
            list: spec.request("POST", "/v3/cluster/member/list", "{}")?,
            status: spec.request("POST", "/v3/maintenance/status", "{}")?,
            metrics: spec.request("GET", "/metrics", "")?,
        });
        Ok(Self { spec: spec.clone(), requests, histories: Histories::default() })
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The same, for a look that those of the check are not to be compared with.
    pub(super) fn aside(&self) -> Self {
        let requests = Arc::clone(&self.requests);
        Self { spec: self.spec.clone(), requests, histories: self.histories.copy() }
    }
}

/// Asks all members, and judges what they say.
pub(super) async fn probe(
    probe: &Probe,
    endpoint: &Endpoint,
    trace: &mut Trace,
) -> Result<(), Fault> {
    trace.enter(Phase::Exchange);
    let end = udp::silent_after(Instant::now(), trace.deadline());
    let members = members(probe, endpoint, end, trace).await?;
    // As long again for a second look, if one is needed.
    let reports = survey(probe, &members, part(end, 2), trace).await;
    let judged = verdict::judge(&probe.spec, &reports);
    if judged.is_settled() {
        return judged.result;
    }
    sleep(part(end, 4).min(MAX_PAUSE)).await;
    let reports = survey(probe, &members, part(end, 1), trace).await;
    verdict::judge(&probe.spec, &reports).result
}

/// One of so many parts of the time that is left, in whole milliseconds, for people read it.
fn part(end: Instant, of: u32) -> Duration {
    let left = end.saturating_duration_since(Instant::now()) / of;
    Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

/// Whom to ask.
async fn members(
    probe: &Probe,
    endpoint: &Endpoint,
    end: Instant,
    trace: &mut Trace,
) -> Result<Vec<Member>, Fault> {
    if !probe.spec.members.is_empty() {
        let listed = probe.spec.members.iter();
        return Ok(listed.map(|Address(endpoint)| Member::at(endpoint.clone())).collect());
    }
    let mut own = trace.apart(part(end, 3));
    let members = member::list(probe, endpoint, &mut own).await;
    take_over(&own, trace);
    let members = members?;
    if members.len() > MAX_MEMBERS {
        let detail = format!("{} members; at most {MAX_MEMBERS} are asked", members.len());
        return Err(Fault::new(Reason::Protocol, detail));
    }
    Ok(members)
}

/// Asks all members at once.
async fn survey(
    probe: &Probe,
    members: &[Member],
    timeout: Duration,
    trace: &mut Trace,
) -> Vec<Report> {
    let asked = members.iter().map(|member| {
        let mut own = trace.apart(timeout);
        async move {
            let report = member.ask(probe, &mut own).await;
            (report, own)
        }
    });
    let mut reports = Vec::with_capacity(members.len());
    for (report, own) in join_all(asked).await {
        take_over(&own, trace);
        reports.push(report);
    }
    reports
}

/// Keeps what concerns the probe as a whole: who was asked first, and the certificate that expires
/// first.
fn take_over(own: &Trace, trace: &mut Trace) {
    trace.peer = trace.peer.or(own.peer);
    let certificates = trace.certificate().into_iter().chain(own.certificate());
    let first = certificates.min_by_key(|certificate| certificate.expiry);
    trace.set_certificate(first);
}
