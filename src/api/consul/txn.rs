//! Transactions: several operations, all or none.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DATACENTER, decode, kv::KvPair, read::Asked};
use crate::{
    api::router::{App, Refusal},
    store::{Index, Tx, Unwritten},
};

mod catalog;
mod kv;

/// Most operations of a transaction: Consul's limit.
const MAX_OPS: usize = 128;

/// One operation: one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Op {
    #[serde(rename = "KV")]
    kv: Option<kv::Op>,
    #[serde(rename = "Node")]
    node: Option<catalog::NodeOp>,
    #[serde(rename = "Service")]
    service: Option<catalog::ServiceOp>,
    #[serde(rename = "Check")]
    check: Option<catalog::CheckOp>,
}

/// What an operation gives back.
#[derive(Debug, Serialize)]
enum Given {
    #[serde(rename = "KV")]
    Kv(KvPair),
    Node(Value),
    Service(Value),
    Check(Value),
}

impl Op {
    fn is_read(&self) -> bool {
        let Self { kv, node, service, check } = self;
        kv.as_ref().is_none_or(kv::Op::is_read)
            && node.as_ref().is_none_or(|op| op.verb == "get")
            && service.as_ref().is_none_or(|op| op.verb == "get")
            && check.as_ref().is_none_or(|op| op.verb == "get")
    }

    fn apply(&self, tx: &mut Tx<'_>, own: &str) -> Result<Vec<Given>, String> {
        if let Some(op) = &self.kv {
            let pairs = op.apply(tx)?;
            return Ok(pairs.into_iter().map(Given::Kv).collect());
        }
        let given = if let Some(op) = &self.node {
            op.apply(tx, own)?.map(Given::Node)
        } else if let Some(op) = &self.service {
            op.apply(tx, own)?.map(Given::Service)
        } else if let Some(op) = &self.check {
            op.apply(tx, own)?.map(Given::Check)
        } else {
            return Err("no operation specified".to_owned());
        };
        Ok(given.into_iter().collect())
    }
}

/// An operation that failed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct OpError {
    op_index: usize,
    what: String,
}

/// Why nothing was done.
#[derive(Debug)]
enum Failure {
    Ops(Vec<OpError>),
    Refused(Refusal),
}

impl From<Unwritten> for Failure {
    fn from(unwritten: Unwritten) -> Self {
        Self::Refused(unwritten.into())
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    results: Option<Vec<Given>>,
    errors: Option<Vec<OpError>>,
}

/// What the answer to a transaction that only reads has besides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReadOutcome {
    #[serde(flatten)]
    outcome: Outcome,
    index: Index,
    last_contact: u64,
    known_leader: bool,
    consistency_level: &'static str,
    not_modified: bool,
    backend: u64,
    #[serde(rename = "ResultsFilteredByACLs")]
    results_filtered: bool,
}

/// Does all operations; all errors are told, not only the first. `own` is our own node.
fn apply(tx: &mut Tx<'_>, own: &str, ops: &[Op]) -> Result<(Vec<Given>, Index), Failure> {
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for (op_index, op) in ops.iter().enumerate() {
        match op.apply(tx, own) {
            Ok(given) => results.extend(given),
            Err(what) => errors.push(OpError { op_index, what }),
        }
    }
    if errors.is_empty() { Ok((results, tx.index())) } else { Err(Failure::Ops(errors)) }
}

pub(super) async fn commit(
    State(app): State<Arc<App>>,
    asked: Asked,
    body: Bytes,
) -> Result<Response, Refusal> {
    let params = &asked.params;
    params.vet_read(DATACENTER)?;
    let ops: Vec<Op> = decode(&body)
        .map_err(|refusal| Refusal::bad(format!("Failed to parse body: {}", refusal.text())))?;
    if ops.len() > MAX_OPS {
        let text = format!("Transaction contains too many operations ({} > {MAX_OPS})", ops.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let is_read = ops.iter().all(Op::is_read);
    let own = &app.view.node_name;
    let (results, index) = match app.view.store.write(|tx| apply(tx, own, &ops)).await {
        Ok(done) => done,
        Err(Failure::Refused(refusal)) => return Err(refusal),
        Err(Failure::Ops(errors)) => {
            let outcome = Outcome { results: None, errors: Some(errors) };
            return Ok((StatusCode::CONFLICT, super::json(params, &outcome)).into_response());
        }
    };
    let results = Some(results).filter(|results| !results.is_empty());
    let outcome = Outcome { results, errors: None };
    Ok(if is_read {
        let outcome = ReadOutcome {
            outcome,
            index,
            last_contact: 0,
            known_leader: true,
            consistency_level: super::consistency(params),
            not_modified: false,
            backend: 0,
            results_filtered: false,
        };
        let fixed = [("x-consul-knownleader", "true"), ("x-consul-lastcontact", "0")];
        let fixed = fixed
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        (fixed, super::json(params, &outcome)).into_response()
    } else {
        super::json(params, &outcome)
    })
}
