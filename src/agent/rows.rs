//! What the registry knows, as rows of the store.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{ALIVE, CONSUL, CONSUL_VERSION, SERVER_PORT, pushed::MAX_OUTPUT};
use crate::{
    clock::Timestamp,
    consul::{CheckDefinition, Naming, ServiceDefinition, Status, Time, type_word},
    judge::{Machine, Maintenance, Streak, Verdict},
    metrics::Facts,
    model::Outcome,
    probe::{Endpoint, Host},
    publish::Brake,
    registry::{self, Assigned},
    store::row::{
        Check, CheckShape, Extras, Health, Map, Node, Origin, Place, Service, ServiceShape, Weights,
    },
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
    let shape =
        ServiceShape { node: Arc::clone(node), name: CONSUL.into(), ..ServiceShape::default() };
    Service { id: CONSUL.into(), port: SERVER_PORT, shape: shape.into(), ..Service::default() }
}

/// The check that says that the node is alive.
pub(super) fn alive(node: &Arc<str>, now: Timestamp) -> Check {
    let name = "Serf Health Status".into();
    Check {
        id: ALIVE.into(),
        shape: CheckShape { node: Arc::clone(node), name, ..CheckShape::default() }.into(),
        status: Health::Passing,
        judged: true,
        since: now.millis(),
        output: "Agent alive and reachable".into(),
        ..Check::default()
    }
}

/// An instance of the configuration.
pub(super) fn service(node: &Arc<str>, instance: &registry::Instance) -> Service {
    let shape = ServiceShape {
        node: Arc::clone(node),
        name: instance.service.shared(),
        tags: Arc::clone(&instance.tags),
        origin: Origin::Config,
        ..ServiceShape::default()
    };
    Service {
        id: instance.id.shared(),
        address: host(&instance.endpoint.host),
        port: instance.endpoint.port,
        meta: Arc::clone(&instance.meta),
        shape: shape.into(),
        ..Service::default()
    }
}

/// The id that the Consul API shows of a check of the configuration.
pub(super) fn public_id(instance: &registry::Instance, assigned: &Assigned) -> Arc<str> {
    match &assigned.consul_id {
        Some(id) => Arc::clone(id),
        None => format!("{}:{}", instance.id, assigned.definition.id).into(),
    }
}

/// A check of the configuration, as yet without a result.
pub(super) fn check(
    node: &Arc<str>,
    instance: &registry::Instance,
    assigned: &Assigned,
    now: Timestamp,
) -> Check {
    let (definition, service) = (&assigned.definition, instance.service.as_str());
    let is_asked = definition.probe.pushed().is_none();
    let shown = |time| if is_asked { Time(time).to_string().into() } else { Arc::default() };
    let shape = CheckShape {
        node: Arc::clone(node),
        name: match &definition.name {
            Some(name) => Arc::clone(name),
            None => format!("Service '{service}' check").into(),
        },
        run: definition.id.shared(),
        notes: definition.notes.clone().unwrap_or_default(),
        kind: type_word(definition.probe.protocol()).into(),
        interval: shown(definition.schedule.interval),
        timeout: shown(definition.schedule.timeout),
        origin: Origin::Config,
        ..CheckShape::default()
    };
    Check {
        id: public_id(instance, assigned),
        service: instance.id.shared(),
        status: health(assigned.initial).unwrap_or_default(),
        since: now.millis(),
        output: if is_asked { NOTHING_YET.into() } else { Arc::default() },
        shape: shape.into(),
        ..Check::default()
    }
}

/// An instance as it was registered; nothing without a name.
pub(super) fn registered(
    node: &Arc<str>,
    definition: &ServiceDefinition,
    token: u64,
) -> Option<Service> {
    let weights = definition.weights.unwrap_or_default();
    let bounded = |weight: i64| u32::try_from(weight).unwrap_or(0);
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    let extras = Extras {
        tagged_addresses: definition
            .tagged_addresses
            .iter()
            .map(|(kind, at)| {
                (kind.as_str().into(), Place { address: at.address.as_str().into(), port: at.port })
            })
            .collect(),
        kind: text(&definition.kind),
        socket_path: text(&definition.socket_path),
        proxy: definition.proxy.clone(),
        connect: definition.connect.clone(),
        locality: definition.locality.clone(),
        enable_tag_override: definition.enable_tag_override,
        token,
    };
    let shape = ServiceShape {
        node: Arc::clone(node),
        name: definition.name.as_ref()?.shared(),
        tags: definition.tags.iter().map(|tag| tag.as_str().into()).collect(),
        weights: Weights { passing: bounded(weights.passing), warning: bounded(weights.warning) },
        origin: Origin::Agent,
    };
    Some(Service {
        id: definition.instance_id()?.shared(),
        address: definition.address.as_ref().map(host).unwrap_or_default(),
        port: definition.port,
        meta: Arc::new(pairs(&definition.meta)),
        extras: (extras != Extras::default()).then(|| Box::new(extras)),
        shape: shape.into(),
        ..Service::default()
    })
}

fn pairs(meta: &BTreeMap<String, String>) -> Map {
    meta.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// A check as it was registered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) definition: &'a CheckDefinition,
    pub(super) naming: &'a Naming,
    /// What Consul shows of a time that was not given: nothing if the check came with its instance,
    /// `0s` if it came alone.
    pub(super) unset: &'static str,
}

/// A check as it was registered for an instance and is run under a name, with its first status.
pub(super) fn registered_check(
    node: &Arc<str>,
    (service, run): (&str, Arc<str>),
    Given { definition, naming, unset }: Given<'_>,
    now: Timestamp,
) -> Check {
    let shown = |time: Option<Time>| -> Arc<str> {
        let given = time.filter(|time| !time.is_zero());
        given.map_or_else(|| unset.into(), |time| time.to_string().into())
    };
    let deregister_after = definition.deregister_after().map_or(0, |after| after.as_secs());
    let shape = CheckShape {
        node: Arc::clone(node),
        name: naming.name.as_str().into(),
        run,
        notes: definition.notes.as_deref().unwrap_or_default().into(),
        kind: definition.type_word().into(),
        interval: shown(definition.interval),
        timeout: shown(definition.timeout),
        deregister_after: u32::try_from(deregister_after).unwrap_or(u32::MAX),
        origin: Origin::Agent,
    };
    Check {
        id: naming.id.as_str().into(),
        service: service.into(),
        status: match definition.initial_status() {
            Status::Passing => Health::Passing,
            Status::Warning => Health::Warning,
            Status::Critical => Health::Critical,
        },
        since: now.millis(),
        definition: serde_json::to_string(definition).unwrap_or_default().into(),
        shape: shape.into(),
        ..Check::default()
    }
}

/// Most of a pushed output that is kept, in bytes.
pub(super) fn max_output(check: &Check) -> usize {
    // Few have it, and heartbeats are many.
    if !check.definition.contains("output_max_size") {
        return MAX_OUTPUT;
    }
    let definition: CheckDefinition = serde_json::from_str(&check.definition).unwrap_or_default();
    definition.max_output().into()
}

/// Who answers for an instance that is registered through the API: the configuration goes on doing
/// so for what is its, and puts it right at the next reload.
pub(super) fn answered_for(mut row: Service, held: Option<&Service>) -> Service {
    let origin = match held.map(|held| held.origin) {
        Some(Origin::Config) => Origin::Config,
        Some(Origin::Agent | Origin::Catalog) | None => Origin::Agent,
    };
    if row.origin != origin {
        Arc::make_mut(&mut row.shape).origin = origin;
    }
    row
}

/// Whether two registrations of one id come from one owner: they are for the same place, or share
/// a token or the meta key `owner`.
pub(super) fn same_owner(held: &Service, new: &Service) -> bool {
    let token = |row: &Service| row.extras.as_ref().map_or(0, |extras| extras.token);
    let owner = |row: &Service| row.meta.get("owner").cloned();
    (held.port == new.port && held.address == new.address)
        || (token(held) != 0 && token(held) == token(new))
        || (owner(held).is_some() && owner(held) == owner(new))
}

/// The registry's name of an instance, or of the node if the id is empty.
pub(super) fn instance_id(service: &str) -> &str {
    if service.is_empty() { NODE_INSTANCE } else { service }
}

/// An instance in the registry's words; nothing if its names cannot be used there.
pub(super) fn instance(row: &Service, node: &Node) -> Option<registry::Instance> {
    let address = if row.address.is_empty() { &node.address } else { &row.address };
    Some(registry::Instance {
        id: Arc::clone(&row.id).try_into().ok()?,
        service: Arc::clone(&row.name).try_into().ok()?,
        endpoint: Endpoint { host: Host::as_written(address), port: row.port },
        tags: Arc::clone(&row.tags),
        meta: Arc::clone(&row.meta),
    })
}

/// What stands for the node itself in the registry's words.
pub(super) fn node_instance(node: &Node) -> Option<registry::Instance> {
    Some(registry::Instance {
        id: NODE_INSTANCE.parse().ok()?,
        service: NODE_INSTANCE.parse().ok()?,
        endpoint: Endpoint { host: node.address.parse().ok()?, port: 0 },
        tags: Arc::default(),
        meta: Arc::default(),
    })
}

fn host(host: &Host) -> Arc<str> {
    match host {
        Host::Ip(ip) => ip.to_string().into(),
        Host::Name(name) => Arc::from(&**name),
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

/// What has been judged of a check, if anything has.
pub(super) fn verdict(check: &Check) -> Option<Verdict> {
    check.judged.then(|| told(check))
}

/// What consumers are told by a row, whoever put it there.
pub(super) fn told(check: &Check) -> Verdict {
    match check.status {
        Health::Passing => Verdict::Passing,
        Health::Warning => Verdict::Warning,
        Health::Critical | Health::Other(_) => Verdict::Critical,
    }
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

/// What the names of marks begin with.
pub(super) const MARK: &str = "mark/";

/// The name of the note that says how a check's results stand on their way to another status.
pub(super) fn mark_name(check: &str) -> String {
    format!("{MARK}{check}")
}

/// How results stand on their way from a verdict to another, and when the last of them began,
/// written down.
pub(super) fn mark(facts: &Facts) -> Option<String> {
    let Facts { verdict, streak, .. } = *facts;
    let is_wavering = Machine::restore(verdict, streak, Maintenance::Off).is_wavering();
    let sign = if streak.failures() > 0 { '-' } else { '+' };
    let last = facts.last_conclusive.filter(|_| is_wavering)?;
    Some(format!("{verdict} {sign}{} {}", streak.len(), last.millis()))
}

/// The streak of a mark with the beginning of its last result, if it is on the way from this
/// verdict.
pub(super) fn streak(mark: &str, verdict: Verdict) -> Option<(Streak, Timestamp)> {
    let mut words = mark.split(' ');
    if words.next()? != verdict.as_str() {
        return None;
    }
    let streak = match words.next()?.split_at_checked(1)? {
        ("+", n) => n.parse().ok().map(Streak::Successes),
        ("-", n) => n.parse().ok().map(Streak::Failures),
        _ => None,
    };
    Some((streak?, Timestamp::from_millis(words.next()?.parse().ok()?)))
}

/// What Consul writes of the last result; nothing if there is nothing new to say.
pub(super) fn output(check: &registry::Check, facts: &Facts) -> Option<String> {
    match facts.last_outcome? {
        Outcome::Success => Some(check.target.success(facts.answer, facts.detail.as_deref())),
        Outcome::Warning(reason) | Outcome::Failure(reason) | Outcome::Inconclusive(reason) => {
            Some(facts.detail.as_deref().unwrap_or(reason.as_str()).to_owned())
        }
    }
}

/// What the note on old results begins with.
const STALE: &str = "\n(stale: ";

/// An output with the note that it is old.
pub(super) fn with_note(output: &str, last: Option<Timestamp>) -> String {
    match last {
        Some(last) => format!("{output}{STALE}the last result is of {last})"),
        None => format!("{output}{STALE}there has been no result since the daemon started)"),
    }
}

/// What the note on a status that is not published begins with.
const HELD: &str = "\n(held: ";

/// An output with the note that consumers are told otherwise than is observed.
pub(super) fn with_hold(output: &str, brake: Brake) -> String {
    let why = match brake {
        Brake::Guard => "it is critical, and too much is at once for all of it to be believed",
        Brake::Damping => "it is well, and has come and gone too often to be believed",
    };
    format!("{output}{HELD}{why})")
}

/// An output without these notes.
pub(super) fn without_note(output: &str) -> &str {
    let output = output.split_once(HELD).map_or(output, |(said, _)| said);
    output.split_once(STALE).map_or(output, |(said, _)| said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::{Programs, decode_json};

    /// The row of a check that is defined so.
    fn row(definition: &str) -> Check {
        let definition: CheckDefinition = decode_json(definition.as_bytes()).unwrap();
        let naming =
            Naming { id: "service:web".to_owned(), name: "Service 'web' check".to_owned() };
        let instance = registry::Instance {
            id: "web".parse().unwrap(),
            service: "web".parse().unwrap(),
            endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 },
            tags: Arc::default(),
            meta: Arc::default(),
        };
        let assigned = definition.assigned(&naming, Programs::Allowed).unwrap();
        check(&"here".into(), &instance, &assigned, Timestamp::from_seconds(7))
    }

    #[test]
    fn a_check_has_the_status_it_is_defined_with_until_it_is_judged() {
        let bare = row(r#"{"tcp":"10.0.0.1:80","interval":"10s"}"#);
        assert_eq!((&bare.status, bare.judged, bare.since), (&Health::Critical, false, 7000));
        let defined = row(r#"{"tcp":"10.0.0.1:80","interval":"10s","status":"passing"}"#);
        assert_eq!((&defined.status, verdict(&defined)), (&Health::Passing, None));
        assert_eq!((&*defined.interval, &*defined.timeout), ("10s", "10s"));
    }

    #[test]
    fn a_check_that_is_told_has_no_interval() {
        let ttl = row(r#"{"ttl":"30s","status":"warning"}"#);
        assert_eq!((&ttl.status, &*ttl.kind), (&Health::Warning, "ttl"));
        assert_eq!((&*ttl.interval, &*ttl.timeout, &*ttl.output), ("", "", ""));
    }

    #[test]
    fn a_program_is_a_script_in_consuls_word() {
        let program = row(r#"{"args":["df"],"interval":"10s"}"#);
        assert_eq!((&*program.kind, &*program.timeout), ("script", "30s"));
    }
}
