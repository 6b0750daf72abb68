//! The form of instances and checks in files: flat, whatever they share in memory.
//!
//! Rows that have much in common stand beside each other in a file. So each thread that reads them
//! compares what they may share with that of the row before, in place: most often it is the same, and
//! nothing has to be made that would be thrown away at once.

use std::{borrow::Cow, cell::RefCell, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use super::{
    Check, CheckShape, Extras, Health, Map, Origin, Service, ServiceShape, Stamp, Weights,
};

/// An instance.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ServiceForm<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    address: Cow<'a, str>,
    port: u16,
    #[serde(borrow, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Lent<'a>>,
    #[serde(borrow, skip_serializing_if = "Fields::is_empty")]
    meta: Fields<'a>,
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
            tags: tags.iter().map(|tag| Lent(Cow::Borrowed(tag))).collect(),
            meta: Fields::of(&self.meta),
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
        let (shape, meta) = LATEST.with_borrow_mut(|latest| latest.service(&form));
        Ok(Self {
            id: shared(&form.id),
            address: shared(&form.address),
            port: form.port,
            meta,
            extras: form.extras.map(|extras| Box::new(extras.into_owned())),
            stamp: form.stamp,
            shape,
        })
    }
}

/// A check.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CheckForm<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    service: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    run: Cow<'a, str>,
    status: Health,
    judged: bool,
    since: i64,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    notes: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    output: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    kind: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    definition: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    interval: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    timeout: Cow<'a, str>,
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
        let shape = LATEST.with_borrow_mut(|latest| latest.check(&form));
        Ok(Self {
            id: shared(&form.id),
            service: shared(&form.service),
            status: form.status,
            judged: form.judged,
            since: form.since,
            output: shared(&form.output),
            definition: shared(&form.definition),
            stamp: form.stamp,
            shape,
        })
    }
}

/// Metadata as it is read: in the order of the file, without texts of its own.
#[derive(Debug, Default)]
struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    fn of(map: &'a Map) -> Self {
        Self(map.iter().map(|(k, v)| (Cow::Borrowed(&**k), Cow::Borrowed(&**v))).collect())
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is(&self, map: &Map) -> bool {
        map.len() == self.0.len()
            && map.iter().zip(&self.0).all(|((k, v), (key, value))| **k == **key && **v == **value)
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts under names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Lent(key), Lent(value))) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

/// A text that is lent by what is read, where it stands there as it is. That is done for a field whose
/// type is written `Cow` alone.
#[derive(Debug, Serialize, Deserialize)]
struct Lent<'a>(#[serde(borrow)] Cow<'a, str>);

/// What rows that a thread has read lately may share.
#[derive(Debug, Default)]
struct Latest {
    service: Arc<ServiceShape>,
    meta: Arc<Map>,
    check: Arc<CheckShape>,
}

thread_local! {
    static LATEST: RefCell<Latest> = RefCell::default();
}

impl Latest {
    fn service(&mut self, form: &ServiceForm<'_>) -> (Arc<ServiceShape>, Arc<Map>) {
        let ServiceShape { node, name, tags, weights, origin } = &*self.service;
        let is_same = **node == *form.node
            && **name == *form.name
            && tags.iter().map(|tag| &**tag).eq(form.tags.iter().map(|Lent(tag)| &**tag))
            && (*weights, *origin) == (form.weights, form.origin);
        if !is_same {
            self.service = Arc::new(ServiceShape {
                node: shared(&form.node),
                name: shared(&form.name),
                tags: form.tags.iter().map(|Lent(tag)| shared(tag)).collect(),
                weights: form.weights,
                origin: form.origin,
            });
        }
        if !form.meta.is(&self.meta) {
            let pairs = form.meta.0.iter();
            self.meta = Arc::new(pairs.map(|(key, value)| (shared(key), shared(value))).collect());
        }
        (Arc::clone(&self.service), Arc::clone(&self.meta))
    }

    fn check(&mut self, form: &CheckForm<'_>) -> Arc<CheckShape> {
        let CheckShape {
            node,
            name,
            run,
            notes,
            kind,
            interval,
            timeout,
            deregister_after,
            origin,
        } = &*self.check;
        let is_same =
            [node, name, run, notes, kind, interval, timeout].into_iter().map(|text| &**text).eq([
                &form.node,
                &form.name,
                &form.run,
                &form.notes,
                &form.kind,
                &form.interval,
                &form.timeout,
            ]
            .map(|text| &**text))
                && (*deregister_after, *origin) == (form.deregister_after, form.origin);
        if !is_same {
            self.check = Arc::new(CheckShape {
                node: shared(&form.node),
                name: shared(&form.name),
                run: shared(&form.run),
                notes: shared(&form.notes),
                kind: shared(&form.kind),
                interval: shared(&form.interval),
                timeout: shared(&form.timeout),
                deregister_after: form.deregister_after,
                origin: form.origin,
            });
        }
        Arc::clone(&self.check)
    }
}

fn shared(text: &str) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}
