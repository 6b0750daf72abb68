//! Which checks an id means, and what somebody may have meant by one that means none.

use std::sync::Arc;

use http::StatusCode;

use crate::{
    api::router::Refusal,
    model::{CheckKey, ServiceName},
    registry::{Check, Registry},
    spelling,
};

/// Most ids that are suggested.
const MAX_SUGGESTED: usize = 5;

/// Most ids that an unknown one is compared with: it is asked for by mistake, and must not cost much.
const MAX_COMPARED: usize = 10_000;

/// The checks that an id means: of `instance:check` and of a Consul check id one, of an instance id
/// all of that instance.
pub(in crate::api::native) fn checks(
    registry: &Registry,
    id: &str,
) -> Result<Vec<Arc<Check>>, Refusal> {
    let check = by_key(registry, id).or_else(|| by_consul_id(registry, id));
    if let Some(check) = check {
        return Ok(vec![check]);
    }
    match registry.instance(id) {
        Some(listed) => Ok(listed.checks),
        None => Err(unknown(registry, id)),
    }
}

/// Ids may hold colons themselves: every colon may be the one between instance and check.
fn by_key(registry: &Registry, id: &str) -> Option<Arc<Check>> {
    id.match_indices(':').find_map(|(at, colon)| {
        let instance = id[..at].parse().ok()?;
        let check = id[at + colon.len()..].parse().ok()?;
        registry.check(&CheckKey { instance, check })
    })
}

fn by_consul_id(registry: &Registry, id: &str) -> Option<Arc<Check>> {
    let mut key = None;
    registry.each_check(|check| {
        if check.consul_id.as_deref() == Some(id) {
            key = Some(check.key.clone());
        }
    });
    registry.check(&key?)
}

fn unknown(registry: &Registry, id: &str) -> Refusal {
    let (instances, what) = match id.parse::<ServiceName>() {
        Ok(name) => (registry.service(name.as_str()), "it is a service; its instances are"),
        Err(_) => (Vec::new(), ""),
    };
    let (ids, what) = if instances.is_empty() {
        (near(registry, id), "did you mean")
    } else {
        let ids = instances.iter().take(MAX_SUGGESTED).map(|l| l.instance.id.to_string());
        (ids.collect(), what)
    };
    let hint = match ids.join(", ") {
        ids if ids.is_empty() => String::new(),
        ids => format!("; {what} {ids}"),
    };
    let text = format!("there is no check and no instance {id:?}{hint}");
    Refusal::new(StatusCode::NOT_FOUND, text)
}

/// The ids that look like this one, the likeliest first.
fn near(registry: &Registry, id: &str) -> Vec<String> {
    let wanted = id.to_lowercase();
    // A third of the letters may differ: more is another name.
    let most = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<_> = names(registry)
        .into_iter()
        .map(|name| match name.to_lowercase() {
            lower if lower.contains(&wanted) => (0, name),
            lower => (spelling::distance(&wanted, &lower), name),
        })
        .filter(|(apart, _)| *apart <= most)
        .collect();
    near.sort();
    near.into_iter().take(MAX_SUGGESTED).map(|(_, id)| id).collect()
}

/// The ids that there are, or as many of them as are compared.
fn names(registry: &Registry) -> Vec<String> {
    let mut names = Vec::new();
    let mut last = None;
    registry.each_check(|check| {
        if names.len() >= MAX_COMPARED {
            return;
        }
        if last.as_ref() != Some(&check.key.instance) {
            last = Some(check.key.instance.clone());
            names.push(check.key.instance.to_string());
        }
        names.push(check.public_id().into_owned());
    });
    names
}
