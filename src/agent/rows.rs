//! What the registry knows, as rows of the store.

use std::{net::IpAddr, sync::Arc};

use super::{ALIVE, CONSUL, CONSUL_VERSION, SERVER_PORT};
use crate::{
    clock::Timestamp,
    duration,
    judge::{Machine, Maintenance, Streak, Verdict},
    metrics::Facts,
    model::Outcome,
    probe::Host,
    registry,
    store::row::{Check, Health, Map, Node, Origin, Service},
};

/// The note with our node's id.
pub(super) const NODE_ID: &str = "node-id";

/// The instance that checks of the node itself are run for, in the registry's words.
pub(super) const NODE_INSTANCE: &str = "_node";

/// The kind of the checks that take something out.
pub(super) const MAINTENANCE: &str = "maintenance";

/// Our own node.
pub(super) fn own_node(name: &Arc<str>, id: Arc<str>, address: IpAddr) -> Node {
    let address: Arc<str> = address.to_string().into();
    let (lan, wan) =
        if address.contains(':') { ("lan_ipv6", "wan_ipv6") } else { ("lan_ipv4", "wan_ipv4") };
    let tagged: Map =
        ["lan", lan, "wan", wan].map(|kind| (kind.into(), Arc::clone(&address))).into();
    let meta: Map = [("consul-network-segment", ""), ("consul-version", CONSUL_VERSION)]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    Node {
        name: Arc::clone(name),
        id,
        address,
        tagged_addresses: Some(tagged),
        meta: Some(meta),
        ..Node::default()
    }
}

/// The service that Consul itself is.
pub(super) fn own_service(node: &Arc<str>) -> Service {
    Service {
        node: Arc::clone(node),
        id: CONSUL.into(),
        name: CONSUL.into(),
        port: SERVER_PORT,
        ..Service::default()
    }
}

/// The check that says that the node is alive.
pub(super) fn alive(node: &Arc<str>, now: Timestamp) -> Check {
    Check {
        node: Arc::clone(node),
        id: ALIVE.into(),
        name: "Serf Health Status".into(),
        status: Health::Passing,
        judged: true,
        since: now.millis(),
        output: "Agent alive and reachable".into(),
        ..Check::default()
    }
}

/// An instance of the configuration.
pub(super) fn service(node: &Arc<str>, instance: &registry::Instance) -> Service {
    Service {
        node: Arc::clone(node),
        id: instance.id.as_str().into(),
        name: instance.service.as_str().into(),
        address: match &instance.endpoint.host {
            Host::Ip(ip) => ip.to_string().into(),
            Host::Name(name) => Arc::from(&**name),
        },
        port: instance.endpoint.port,
        tags: instance.tags.clone(),
        meta: instance.meta.clone(),
        origin: Origin::Config,
        ..Service::default()
    }
}

/// A check of the configuration, as yet without a result.
pub(super) fn check(node: &Arc<str>, check: &registry::Check, now: Timestamp) -> Check {
    let (definition, service) = (&check.definition, check.instance.service.as_str());
    Check {
        node: Arc::clone(node),
        id: (&*check.public_id()).into(),
        name: match &definition.name {
            Some(name) => Arc::clone(name),
            None => format!("Service '{service}' check").into(),
        },
        service: check.instance.id.as_str().into(),
        run: check.key.check.as_str().into(),
        since: now.millis(),
        notes: definition.notes.clone().unwrap_or_default(),
        kind: definition.probe.protocol().as_str().into(),
        interval: duration::go(definition.schedule.interval).into(),
        timeout: duration::go(definition.schedule.timeout).into(),
        origin: Origin::Config,
        output: NOTHING_YET.into(),
        ..Check::default()
    }
}

/// What is shown before the first result.
const NOTHING_YET: &str = "No probe has finished yet.";

/// A check that is registered again goes on with the status it has.
pub(super) fn going_on(row: Check, held: Option<&Check>) -> Check {
    match held {
        Some(held) => Check {
            status: held.status.clone(),
            judged: held.judged,
            since: held.since,
            output: Arc::clone(&held.output),
            ..row
        },
        None => row,
    }
}

/// The registry's name of the instance a check is of.
pub(super) fn instance_of(check: &Check) -> &str {
    if check.service.is_empty() { NODE_INSTANCE } else { &check.service }
}

/// What has been judged of a check, if anything has.
pub(super) fn verdict(check: &Check) -> Option<Verdict> {
    check.judged.then_some(match check.status {
        Health::Passing => Verdict::Passing,
        Health::Warning => Verdict::Warning,
        Health::Critical | Health::Other(_) => Verdict::Critical,
    })
}

/// What consumers are told for a verdict; nothing while there is none.
pub(super) fn health(verdict: Verdict) -> Option<Health> {
    match verdict {
        Verdict::Unknown => None,
        Verdict::Passing => Some(Health::Passing),
        Verdict::Warning => Some(Health::Warning),
        Verdict::Critical => Some(Health::Critical),
    }
}

/// The name of the note that says how a check's results stand on their way to another status.
pub(super) fn mark_name(check: &str) -> String {
    format!("mark/{check}")
}

/// How results stand on their way from a verdict to another, written down.
pub(super) fn mark(verdict: Verdict, streak: Streak) -> Option<String> {
    let is_wavering = Machine::restore(verdict, streak, Maintenance::Off).is_wavering();
    let sign = if streak.failures() > 0 { '-' } else { '+' };
    is_wavering.then(|| format!("{verdict} {sign}{}", streak.len()))
}

/// The streak of a mark, if it is on the way from this verdict.
pub(super) fn streak(mark: &str, verdict: Verdict) -> Option<Streak> {
    let (from, streak) = mark.split_once(' ')?;
    if from != verdict.as_str() {
        return None;
    }
    match streak.split_at_checked(1)? {
        ("+", n) => n.parse().ok().map(Streak::Successes),
        ("-", n) => n.parse().ok().map(Streak::Failures),
        _ => None,
    }
}

/// What Consul writes of the last result; nothing if there is nothing new to say.
pub(super) fn output(check: &registry::Check, facts: &Facts) -> Option<String> {
    match facts.last_outcome? {
        Outcome::Success => Some(match &facts.detail {
            Some(said) => said.to_string(),
            None => check.target.success(facts.answer),
        }),
        Outcome::Warning(reason) | Outcome::Failure(reason) => {
            Some(facts.detail.as_deref().unwrap_or(reason.as_str()).to_owned())
        }
    }
}
