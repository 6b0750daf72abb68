//! Operations on nodes, instances and checks within a transaction.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    api::consul::{DATACENTER, catalog::kept},
    store::{
        Index, Key, Row, Tx, folded,
        row::{
            self, CheckShape, Extras, Health, Node, Origin, Place, Service, ServiceShape, Weights,
        },
    },
};

/// What is done to a node.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NodeOp {
    pub(super) verb: String,
    node: NodeBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NodeBody {
    #[serde(rename = "ID")]
    id: Arc<str>,
    node: Arc<str>,
    address: Arc<str>,
    tagged_addresses: Option<row::Map>,
    meta: Option<row::Map>,
    modify_index: Index,
}

/// What is done to an instance.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ServiceOp {
    pub(super) verb: String,
    node: Arc<str>,
    service: ServiceBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ServiceBody {
    #[serde(rename = "ID")]
    id: Arc<str>,
    service: Arc<str>,
    tags: Vec<Arc<str>>,
    address: Arc<str>,
    port: u16,
    tagged_addresses: BTreeMap<Arc<str>, Address>,
    meta: row::Map,
    weights: Option<Weighed>,
    enable_tag_override: bool,
    kind: Arc<str>,
    socket_path: Arc<str>,
    proxy: Option<Value>,
    connect: Option<Value>,
    locality: Option<Value>,
    modify_index: Index,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Address {
    address: Arc<str>,
    port: u16,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Weighed {
    passing: u32,
    warning: u32,
}

/// What is done to a check.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct CheckOp {
    pub(super) verb: String,
    check: CheckBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CheckBody {
    node: Arc<str>,
    #[serde(rename = "CheckID")]
    check_id: Arc<str>,
    name: Arc<str>,
    status: String,
    notes: Arc<str>,
    output: Arc<str>,
    #[serde(rename = "ServiceID")]
    service_id: Arc<str>,
    #[serde(rename = "Type")]
    kind: Arc<str>,
    interval: Arc<str>,
    timeout: Arc<str>,
    definition: Map<String, Value>,
    modify_index: Index,
}

/// Which row, in the words of errors, and its index as the client knows it.
struct Target {
    called: String,
    key: Key,
    index: Index,
    /// The agent answers for it: it is not deleted.
    is_kept: bool,
}

/// Does to a row what a verb says; gives back the row as it then is.
fn act(
    tx: &mut Tx<'_>,
    (kind, verb): (&str, &str),
    Target { called, key, index, is_kept }: Target,
    make: impl FnOnce(&Tx<'_>) -> Result<Row, String>,
) -> Result<Option<Row>, String> {
    let before = tx.row(&key);
    let at = before.as_ref().map_or(0, |row| row.stamp().modify);
    match verb {
        "get" if before.is_none() => return Err(format!("{called} doesn't exist")),
        "cas" if at != index => return Err(format!("failed to set {called}, index is stale")),
        "delete-cas" if before.is_none() || at != index => {
            return Err(format!("failed to delete {called}, index is stale"));
        }
        "get" => {}
        "set" | "cas" => {
            let row = make(tx)?;
            tx.put(row);
        }
        "delete" | "delete-cas" => {
            if !is_kept {
                tx.delete(key);
            }
            return Ok(None);
        }
        _ => return Err(format!("unknown {kind} verb {verb:?}")),
    }
    Ok(tx.row(&key))
}

impl NodeOp {
    /// Does it; the node it gives back, or why it cannot be done.
    pub(super) fn apply(&self, tx: &mut Tx<'_>, own: &str) -> Result<Option<Value>, String> {
        let body = &self.node;
        let known = tx.node_by_id(&body.id).map(|node| Arc::clone(&node.name));
        let given = Some(Arc::clone(&body.node)).filter(|name| !name.is_empty());
        let name = given
            .or_else(|| known.clone())
            .filter(|name| !name.is_empty())
            .ok_or("Must provide node")?;
        let called = format!("node {name:?}");
        let key = Key::Node(Arc::clone(&name));
        let held = kept::node(tx, own, &name);
        let target = Target { called, key, index: body.modify_index, is_kept: held.is_some() };
        let row = act(tx, ("Node", &self.verb), target, |_| {
            if let Some(held) = held {
                return Ok(Row::Node(held));
            }
            if known.is_some_and(|known| folded(&known) == folded(own)) {
                let id = &body.id;
                return Err(format!(
                    "Node ID {id} for node {name:?} aliases existing node {own:?}"
                ));
            }
            if body.address.is_empty() {
                return Err("Must provide address".to_owned());
            }
            Ok(Row::from(Node {
                name,
                id: body.id.to_lowercase().into(),
                address: Arc::clone(&body.address),
                tagged_addresses: body.tagged_addresses.clone(),
                meta: body.meta.clone(),
                ..Node::default()
            }))
        })?;
        Ok(row
            .and_then(|row| if let Row::Node(node) = row { Some(show_node(&node)) } else { None }))
    }
}

fn show_node(node: &Node) -> Value {
    json!({
        "ID": node.id,
        "Node": node.name,
        "Address": node.address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": node.tagged_addresses,
        "Meta": node.meta,
        "CreateIndex": node.stamp.create,
        "ModifyIndex": node.stamp.modify,
    })
}

impl ServiceOp {
    /// Does it; the instance it gives back, or why it cannot be done.
    pub(super) fn apply(&self, tx: &mut Tx<'_>, own: &str) -> Result<Option<Value>, String> {
        let body = &self.service;
        let id = if body.id.is_empty() { &body.service } else { &body.id };
        if self.node.is_empty() || id.is_empty() {
            return Err("Must provide node and service ID".to_owned());
        }
        let called = format!("service {id:?} on node {:?}", self.node);
        let key = Key::Service(Arc::clone(&self.node), Arc::clone(id));
        let held = kept::service(tx, own, &self.node, id);
        let target = Target { called, key, index: body.modify_index, is_kept: held.is_some() };
        let row = act(tx, ("Service", &self.verb), target, |tx| match held {
            Some(held) => Ok(kept::tagged(&held, body.tags.as_slice().into()).into()),
            None => self.row(tx, id),
        })?;
        Ok(row.and_then(|row| {
            if let Row::Service(service) = row { Some(show_service(&service)) } else { None }
        }))
    }

    /// The row as it is to be.
    fn row(&self, tx: &Tx<'_>, id: &Arc<str>) -> Result<Row, String> {
        let body = &self.service;
        let node = tx.node(&self.node).ok_or("Missing node registration")?;
        if body.service.is_empty() {
            return Err("Must provide service name with ID".to_owned());
        }
        let place = |at: &Address| Place { address: Arc::clone(&at.address), port: at.port };
        let places = body.tagged_addresses.iter();
        let extras = Extras {
            tagged_addresses: places.map(|(kind, at)| (Arc::clone(kind), place(at))).collect(),
            kind: Arc::clone(&body.kind),
            socket_path: Arc::clone(&body.socket_path),
            proxy: body.proxy.clone(),
            connect: body.connect.clone(),
            locality: body.locality.clone(),
            enable_tag_override: body.enable_tag_override,
            token: 0,
        };
        // Go's client sends zeros for weights that nobody set.
        let weights = body.weights.filter(|weights| weights.passing > 0);
        let weights = weights.map(|w| Weights { passing: w.passing, warning: w.warning });
        let shape = ServiceShape {
            node: Arc::clone(&node.name),
            name: Arc::clone(&body.service),
            tags: body.tags.as_slice().into(),
            weights: weights.unwrap_or_default(),
            origin: Origin::Catalog,
        };
        Ok(Row::from(Service {
            id: Arc::clone(id),
            address: Arc::clone(&body.address),
            port: body.port,
            meta: body.meta.clone().into(),
            shape: shape.into(),
            extras: (extras != Extras::default()).then(|| Box::new(extras)),
            ..Service::default()
        }))
    }
}

fn show_service(service: &Service) -> Value {
    let none = Extras::default();
    let extras = service.extras.as_deref().unwrap_or(&none);
    let place = |at: &Place| json!({ "Address": at.address, "Port": at.port });
    let places: Map<String, Value> =
        extras.tagged_addresses.iter().map(|(kind, at)| (kind.to_string(), place(at))).collect();
    let mut shown = json!({
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Address": service.address,
        "Meta": service.meta,
        "Port": service.port,
        "Weights": { "Passing": service.weights.passing, "Warning": service.weights.warning },
        "EnableTagOverride": extras.enable_tag_override,
        "Proxy": extras.proxy.clone()
            .unwrap_or_else(|| json!({ "Mode": "", "MeshGateway": {}, "Expose": {} })),
        "Connect": extras.connect.clone().unwrap_or_else(|| json!({})),
        "PeerName": "",
        "CreateIndex": service.stamp.create,
        "ModifyIndex": service.stamp.modify,
    });
    if !places.is_empty() {
        shown["TaggedAddresses"] = places.into();
    }
    for (name, text) in [("Kind", &extras.kind), ("SocketPath", &extras.socket_path)] {
        if !text.is_empty() {
            shown[name] = json!(text);
        }
    }
    shown
}

impl CheckOp {
    /// Does it; the check it gives back, or why it cannot be done.
    pub(super) fn apply(&self, tx: &mut Tx<'_>, own: &str) -> Result<Option<Value>, String> {
        let body = &self.check;
        let id = if body.check_id.is_empty() { &body.name } else { &body.check_id };
        if body.node.is_empty() || id.is_empty() {
            return Err("Must provide node and check ID".to_owned());
        }
        let called = format!("check {id:?} on node {:?}", body.node);
        let key = Key::Check(Arc::clone(&body.node), Arc::clone(id));
        let held = kept::check(tx, own, &body.node, id);
        let target = Target { called, key, index: body.modify_index, is_kept: held.is_some() };
        let row = act(tx, ("Check", &self.verb), target, |tx| match held {
            Some(held) => Ok(Row::Check(held)),
            None => body.row(tx, id),
        })?;
        let Some(Row::Check(check)) = row else { return Ok(None) };
        Ok(Some(show_check(&check, tx.instance(&check.node, &check.service).map(|row| &**row))))
    }
}

impl CheckBody {
    /// The row as it is to be.
    fn row(&self, tx: &Tx<'_>, id: &Arc<str>) -> Result<Row, String> {
        let node = tx.node(&self.node).ok_or("Missing node registration")?;
        if !self.service_id.is_empty() && tx.instance(&self.node, &self.service_id).is_none() {
            return Err("Missing service registration".to_owned());
        }
        let status = Health::from(&*self.status);
        let before = tx.check(&self.node, id).filter(|row| row.status == status);
        let since = before.map_or_else(|| tx.now().millis(), |row| row.since);
        let definition: Map<_, _> = self.definition.clone().into_iter().filter(is_set).collect();
        let text = |name: &str| definition.get(name).and_then(Value::as_str).unwrap_or_default();
        let or = |given: &Arc<str>, name| {
            if given.is_empty() { text(name).into() } else { Arc::clone(given) }
        };
        let kind = Some(Arc::clone(&self.kind)).filter(|kind| !kind.is_empty());
        let shape = CheckShape {
            node: Arc::clone(&node.name),
            name: Arc::clone(&self.name),
            notes: Arc::clone(&self.notes),
            kind: kind.unwrap_or_else(|| kind_of(&definition).into()),
            interval: or(&self.interval, "Interval"),
            timeout: or(&self.timeout, "Timeout"),
            ..CheckShape::default()
        };
        Ok(Row::from(row::Check {
            id: Arc::clone(id),
            service: Arc::clone(&self.service_id),
            status,
            since,
            output: Arc::clone(&self.output),
            shape: shape.into(),
            definition: if definition.is_empty() {
                "".into()
            } else {
                Value::Object(definition).to_string().into()
            },
            ..row::Check::default()
        }))
    }
}

/// Consul's word for how a check is asked.
fn kind_of(definition: &Map<String, Value>) -> &'static str {
    const KINDS: &[(&str, &str)] = &[
        ("HTTP", "http"),
        ("TCP", "tcp"),
        ("UDP", "udp"),
        ("H2PING", "h2ping"),
        ("GRPC", "grpc"),
        ("TTL", "ttl"),
        ("DockerContainerID", "docker"),
        ("ScriptArgs", "script"),
        ("OSService", "os_service"),
        ("AliasNode", "alias"),
        ("AliasService", "alias"),
    ];
    KINDS.iter().find(|(field, _)| definition.contains_key(*field)).map_or("", |(_, kind)| kind)
}

/// Whether a field of a definition says anything: Go's client sends them all.
fn is_set((_, value): &(String, Value)) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "0s",
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn show_check(check: &row::Check, service: Option<&Service>) -> Value {
    // What is run here is not shown, as Consul does not.
    let shown = Some(&*check.definition).filter(|_| !check.origin.is_local());
    let definition = shown.and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "Node": check.node,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status.as_str(),
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service,
        "ServiceName": service.map_or("", |service| &service.name),
        "ServiceTags": service.filter(|service| !service.tags.is_empty()).map(|service| &service.tags),
        "Type": check.kind,
        "Interval": check.interval,
        "Timeout": check.timeout,
        "ExposedPort": 0,
        "Definition": definition.unwrap_or_else(|| json!({})),
        "CreateIndex": check.stamp.create,
        "ModifyIndex": check.stamp.modify,
    })
}
