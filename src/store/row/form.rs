//! The form of instances and checks in files: flat, whatever they share in memory.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Check, CheckShape, Extras, Health, Map, Origin, Service, ServiceShape, Stamp, Weights,
};

type Text<'a> = Cow<'a, str>;

/// An instance.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ServiceForm<'a> {
    #[serde(borrow)]
    node: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    address: Text<'a>,
    port: u16,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: Cow<'a, [Arc<str>]>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    meta: Cow<'a, Map>,
    weights: Weights,
    origin: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    extras: Option<Cow<'a, Extras>>,
    stamp: Stamp,
}

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ServiceShape { node, name, tags, weights, origin } = &*self.shape;
        let form = ServiceForm {
            node: Cow::Borrowed(node),
            id: Cow::Borrowed(&self.id),
            name: Cow::Borrowed(name),
            address: Cow::Borrowed(&self.address),
            port: self.port,
            tags: Cow::Borrowed(tags),
            meta: Cow::Borrowed(&self.meta),
            weights: *weights,
            origin: *origin,
            extras: self.extras.as_deref().map(Cow::Borrowed),
            stamp: self.stamp,
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = ServiceForm::deserialize(deserializer)?;
        let shape = ServiceShape {
            node: shared(&form.node),
            name: shared(&form.name),
            tags: form.tags.into(),
            weights: form.weights,
            origin: form.origin,
        };
        Ok(Self {
            id: shared(&form.id),
            address: shared(&form.address),
            port: form.port,
            meta: if form.meta.is_empty() { Arc::default() } else { form.meta.into_owned().into() },
            extras: form.extras.map(|extras| Box::new(extras.into_owned())),
            stamp: form.stamp,
            shape: shape.into(),
        })
    }
}

/// A check.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CheckForm<'a> {
    #[serde(borrow)]
    node: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    service: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    run: Text<'a>,
    status: Health,
    judged: bool,
    since: i64,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    notes: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    output: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    kind: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    definition: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    interval: Text<'a>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    timeout: Text<'a>,
    deregister_after: u32,
    origin: Origin,
    stamp: Stamp,
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let CheckShape { node, name, run, notes, kind, interval, timeout, .. } = &*self.shape;
        let form = CheckForm {
            node: Cow::Borrowed(node),
            id: Cow::Borrowed(&self.id),
            name: Cow::Borrowed(name),
            service: Cow::Borrowed(&self.service),
            run: Cow::Borrowed(run),
            status: self.status.clone(),
            judged: self.judged,
            since: self.since,
            notes: Cow::Borrowed(notes),
            output: Cow::Borrowed(&self.output),
            kind: Cow::Borrowed(kind),
            definition: Cow::Borrowed(&self.definition),
            interval: Cow::Borrowed(interval),
            timeout: Cow::Borrowed(timeout),
            deregister_after: self.deregister_after,
            origin: self.origin,
            stamp: self.stamp,
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = CheckForm::deserialize(deserializer)?;
        let shape = CheckShape {
            node: shared(&form.node),
            name: shared(&form.name),
            run: shared(&form.run),
            notes: shared(&form.notes),
            kind: shared(&form.kind),
            interval: shared(&form.interval),
            timeout: shared(&form.timeout),
            deregister_after: form.deregister_after,
            origin: form.origin,
        };
        Ok(Self {
            id: shared(&form.id),
            service: shared(&form.service),
            status: form.status,
            judged: form.judged,
            since: form.since,
            output: shared(&form.output),
            definition: shared(&form.definition),
            stamp: form.stamp,
            shape: shape.into(),
        })
    }
}

fn shared(text: &str) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}
