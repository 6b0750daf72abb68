//! Keys and values, and locks on keys.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{
    DATACENTER,
    read::{Answer, Asked, read},
};
use crate::{
    api::{
        params::Params,
        router::{App, Refusal},
    },
    store::{Topic, Tx, kv::Entry, row},
};

/// A key as Consul shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KvPair {
    lock_index: u64,
    key: Arc<str>,
    flags: u64,
    value: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    session: Arc<str>,
    create_index: u64,
    modify_index: u64,
}

impl From<&row::Pair> for KvPair {
    fn from(pair: &row::Pair) -> Self {
        Self {
            lock_index: pair.lock_index,
            key: Arc::clone(&pair.key),
            flags: pair.flags,
            value: (!pair.value.is_empty()).then(|| STANDARD.encode(&pair.value)),
            session: Arc::clone(&pair.session),
            create_index: pair.stamp.create,
            modify_index: pair.stamp.modify,
        }
    }
}

impl KvPair {
    /// The same without what is stored, as transactions give back what they were told.
    pub(super) fn without_value(self) -> Self {
        Self { value: None, ..self }
    }
}

/// The key a request names: all that follows the prefix.
type Named = Option<Path<String>>;

fn key(named: Named) -> Arc<str> {
    named.map_or_else(|| "".into(), |Path(key)| key.into())
}

fn some_key(named: Named) -> Result<Arc<str>, Refusal> {
    Some(key(named)).filter(|key| !key.is_empty()).ok_or_else(|| Refusal::bad("Missing key name"))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    named: Named,
    asked: Asked,
) -> Result<Response, Refusal> {
    let params = &asked.params;
    if params.has("keys") {
        keys(&app, &asked, &key(named)).await
    } else if params.has("recurse") {
        recurse(&app, &asked, &key(named)).await
    } else {
        one(&app, &asked, &some_key(named)?).await
    }
}

async fn one(app: &App, asked: &Asked, key: &Arc<str>) -> Result<Response, Refusal> {
    let raw = asked.params.has("raw");
    let topics = [Topic::Pair(Arc::clone(key))];
    let shape = |pair: Option<Arc<row::Pair>>| {
        Ok(match pair {
            None => Answer::nothing(),
            Some(pair) if raw => Answer::raw(Bytes::copy_from_slice(&pair.value)),
            Some(pair) => Answer::json(&asked.params, &[KvPair::from(&*pair)]),
        })
    };
    let mut response =
        read(app, asked, &topics, |tables| Ok(tables.pair(key).cloned()), shape).await?;
    if raw && response.status() == StatusCode::OK {
        // What clients have stored must not run as ours in a browser.
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
    Ok(response)
}

async fn recurse(app: &App, asked: &Asked, prefix: &Arc<str>) -> Result<Response, Refusal> {
    let topics = [Topic::Prefix(Arc::clone(prefix))];
    let shape = |pairs: Vec<Arc<row::Pair>>| {
        if pairs.is_empty() {
            return Ok(Answer::nothing());
        }
        let pairs: Vec<_> = pairs.iter().map(|pair| KvPair::from(&**pair)).collect();
        Ok(Answer::json(&asked.params, &pairs))
    };
    read(app, asked, &topics, |tables| Ok(tables.pairs(prefix).cloned().collect()), shape).await
}

async fn keys(app: &App, asked: &Asked, prefix: &Arc<str>) -> Result<Response, Refusal> {
    let params = &asked.params;
    // The second is what Consul's first clients wrote.
    let separator = params.get("separator").or_else(|| params.get("seperator"));
    let separator = separator.unwrap_or_default();
    let topics = [Topic::Prefix(Arc::clone(prefix))];
    let gather = |tables: &crate::store::Tables| {
        let mut keys: Vec<Arc<str>> = Vec::new();
        for pair in tables.pairs(prefix) {
            let cut = up_to(&pair.key, prefix.len(), separator);
            if keys.last().is_none_or(|last| **last != *cut) {
                keys.push(cut.into());
            }
        }
        Ok(keys)
    };
    let shape = |keys: Vec<Arc<str>>| {
        Ok(match (keys.is_empty(), prefix.is_empty()) {
            (true, true) => Answer::json(params, &keys).absent(),
            (true, false) => Answer::nothing(),
            (false, _) => Answer::json(params, &keys),
        })
    };
    read(app, asked, &topics, gather, shape).await
}

/// A key up to and with the first separator after its first `start` bytes.
fn up_to<'a>(key: &'a str, start: usize, separator: &str) -> &'a str {
    if separator.is_empty() {
        return key;
    }
    match key[start..].find(separator) {
        Some(at) => &key[..start + at + separator.len()],
        None => key,
    }
}

/// A number that must be one if it is there; Consul answers anything else with 500.
fn number(params: &Params, name: &str) -> Result<Option<u64>, Refusal> {
    let text = || format!("Invalid value for ?{name}");
    let invalid = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text());
    params.get(name).map(|text| text.parse().map_err(invalid)).transpose()
}

/// Refuses flags of which only one may be there.
fn vet_exclusive(params: &Params, names: &[&str]) -> Result<(), Refusal> {
    let given: Vec<_> = names.iter().copied().filter(|name| params.has(name)).collect();
    match given.len() {
        0 | 1 => Ok(()),
        _ => Err(Refusal::bad(format!("Conflicting flags: {}", given.join("&")))),
    }
}

/// What is done to a key.
enum Put<'a> {
    Set,
    Cas(u64),
    Acquire(&'a str),
    Release(&'a str),
}

impl<'a> Put<'a> {
    fn parse(params: &'a Params) -> Result<Self, Refusal> {
        vet_exclusive(params, &["cas", "acquire", "release"])?;
        let session = |name| match params.get(name) {
            Some("") => Err(Refusal::bad("Missing session")),
            session => Ok(session),
        };
        Ok(match (number(params, "cas")?, session("acquire")?, session("release")?) {
            (Some(index), _, _) => Self::Cas(index),
            (_, Some(session), _) => Self::Acquire(session),
            (_, _, Some(session)) => Self::Release(session),
            (None, None, None) => Self::Set,
        })
    }

    fn apply(&self, tx: &mut Tx<'_>, entry: Entry) -> Result<bool, Refusal> {
        Ok(match *self {
            Self::Set => {
                tx.set(entry);
                true
            }
            Self::Cas(index) => tx.cas(entry, index),
            Self::Acquire(session) => {
                tx.acquire(entry, session).map_err(|error| Refusal::failed(&error))?
            }
            Self::Release(session) => tx.release(entry, session),
        })
    }
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    named: Named,
    asked: Asked,
    value: Bytes,
) -> Result<Response, Refusal> {
    let params = &asked.params;
    params.vet_read(DATACENTER)?;
    let key = some_key(named)?;
    let flags = number(params, "flags")?.unwrap_or(0);
    let put = Put::parse(params)?;
    let entry = Entry { key, value: (*value).into(), flags };
    let done = app.view.store.write(|tx| put.apply(tx, entry)).await?;
    Ok(super::json(params, &done))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    named: Named,
    asked: Asked,
) -> Result<Response, Refusal> {
    let params = &asked.params;
    params.vet_read(DATACENTER)?;
    vet_exclusive(params, &["recurse", "cas"])?;
    let tree = params.has("recurse");
    let key = if tree { key(named) } else { some_key(named)? };
    let cas = number(params, "cas")?;
    let delete = |tx: &mut Tx<'_>| {
        Ok::<_, Refusal>(match cas {
            Some(index) => tx.delete_cas(&key, index),
            None if tree => {
                tx.delete_tree(&key);
                true
            }
            None => {
                tx.delete(row::Key::Pair(key));
                true
            }
        })
    };
    let done = app.view.store.write(delete).await?;
    Ok(super::json(params, &done))
}
