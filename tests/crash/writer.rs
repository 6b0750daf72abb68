//! A client that writes as quickly as it can and knows what it was told.
//!
//! It has things of its own, services, keys and pairs of keys that change together. Everything it
//! writes of a thing carries one version in several places, so that half of a write shows. Of each
//! thing it knows the last acknowledged version, and which write was under way when the daemon
//! went away: that one may have been made or not.

use std::{collections::BTreeMap, io};

use serde_json::{Value, json};

use crate::client::{Answer, Client};

/// Things of each kind.
const EACH: usize = 8;

/// Numbers that look like chance, the same for the same seed (`SplitMix64`; Steele, Lea, Flood,
/// 2014).
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    Key,
    Pair,
}

/// The version of a thing; nothing if it is not there.
pub(crate) type Version = Option<u64>;

#[derive(Debug, Clone, Default)]
struct Thing {
    known: Version,
    /// What was being made of it when no answer came, or one that nothing can be made of.
    doubt: Vec<Version>,
    /// Where a compare-and-set may start from.
    modified: u64,
}

/// What is wrong with what was found.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// An acknowledged write is not there.
    Lost(String),
    /// Something is there that was never written so.
    Inconsistent(String),
}

#[derive(Debug)]
pub(crate) struct Writer {
    name: String,
    chance: Chance,
    things: BTreeMap<(Kind, String), Thing>,
    last: u64,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Writes that were answered with an error.
    pub(crate) refused: u64,
    /// The largest index seen.
    pub(crate) index: u64,
}

/// When an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// While all is well, and it must hold.
    Well,
    /// While the power is being cut: where that is only played, a sync may succeed after it.
    Cut,
    /// When there is nothing more to write.
    Over,
}

/// What a writer does about a write that is answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// It stops; the write is in doubt.
    Stop,
    /// It goes on; the write must not have been made.
    GoOn,
}

impl Writer {
    pub(crate) fn new(number: usize, seed: u64) -> Self {
        let name = format!("w{number}");
        let kinds = [Kind::Service, Kind::Key, Kind::Pair];
        let things = kinds.into_iter().flat_map(|kind| {
            let of = |n| ((kind, format!("{name}{kind:?}{n}").to_lowercase()), Thing::default());
            (0..EACH).map(of).collect::<Vec<_>>()
        });
        Self {
            things: things.collect(),
            chance: Chance(seed),
            name,
            last: 0,
            acknowledged: 0,
            refused: 0,
            index: 0,
        }
    }

    /// Writes until the daemon does not answer any more, or until `moment` says so.
    pub(crate) fn write(
        &mut self,
        client: &mut Client,
        on_error: OnError,
        moment: &dyn Fn() -> Moment,
    ) -> Result<(), Wrong> {
        let all: Vec<_> = self.things.keys().cloned().collect();
        while moment() != Moment::Over {
            let some = self.chance.below(all.len() as u64);
            let (kind, id) = &all[usize::try_from(some).unwrap()];
            let held = self.things[&(*kind, id.clone())].clone();
            self.last += 1;
            let deletes = held.known.is_some() && self.chance.below(4) == 0;
            let version = (!deletes).then_some(self.last);
            self.thing(*kind, id).doubt.push(version);
            let asked = self.ask(client, (*kind, id), version, held.modified);
            let Ok(answer) = asked else { return Ok(()) };
            if moment() == Moment::Cut {
                continue;
            }
            match (answer.status, on_error) {
                (200, _) if answer.body == b"false" => {
                    let text = format!("{id}: a comparison with {} failed", held.modified);
                    return Err(Wrong::Inconsistent(text));
                }
                (200, _) => {
                    self.acknowledged += 1;
                    *self.thing(*kind, id) =
                        Thing { known: version, doubt: Vec::new(), modified: 0 };
                }
                (500..=599, OnError::Stop) => {
                    self.refused += 1;
                    return Ok(());
                }
                (500..=599, OnError::GoOn) => {
                    self.refused += 1;
                    self.thing(*kind, id).doubt.clear();
                }
                (status, _) => {
                    let text = format!("{id}: {status} {}", answer.text());
                    return Err(Wrong::Inconsistent(text));
                }
            }
            if self.look(client, (*kind, id), on_error)?.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn thing(&mut self, kind: Kind, id: &str) -> &mut Thing {
        self.things.get_mut(&(kind, id.to_owned())).expect("all things are there from the start")
    }

    /// Now and then looks at what it has written: what is shown must be what was acknowledged, and
    /// the index must not go back. Nothing if there was no answer.
    fn look(
        &mut self,
        client: &mut Client,
        (kind, id): (Kind, &str),
        on_error: OnError,
    ) -> Result<Option<()>, Wrong> {
        if kind != Kind::Key || self.chance.below(3) > 0 {
            return Ok(Some(()));
        }
        let Ok(answer) = client.ask("GET", &format!("/v1/kv/{id}"), b"") else { return Ok(None) };
        if let Some(index) = answer.index {
            self.index = self.index.max(index);
        }
        let shown = shown_pairs(&answer.json());
        let known = self.things[&(kind, id.to_owned())].known;
        let found = shown.get(id).map(|found| found.version.clone());
        if answer.status < 500 && found.clone().transpose() != Ok(known) {
            let text = format!("{id}: {found:?} is shown, {known:?} was written ({on_error:?})");
            return Err(Wrong::Inconsistent(text));
        }
        self.thing(kind, id).modified = shown.get(id).map_or(0, |found| found.modified);
        Ok(Some(()))
    }

    fn ask(
        &mut self,
        client: &mut Client,
        (kind, id): (Kind, &str),
        version: Version,
        modified: u64,
    ) -> io::Result<Answer> {
        // What was known of the index is void after any write.
        self.thing(kind, id).modified = 0;
        match (kind, version) {
            (Kind::Service, Some(version)) => {
                let body = service(&self.name, id, version).to_string();
                let path = "/v1/agent/service/register?replace-existing-checks=true";
                client.ask("PUT", path, body.as_bytes())
            }
            (Kind::Service, None) => {
                client.ask("PUT", &format!("/v1/agent/service/deregister/{id}"), b"")
            }
            (Kind::Key, version) => {
                let cas = if modified == 0 { String::new() } else { format!("?cas={modified}") };
                let path = format!("/v1/kv/{id}{cas}");
                match version {
                    Some(version) => client.ask("PUT", &path, value(version).as_bytes()),
                    None => client.ask("DELETE", &path, b""),
                }
            }
            (Kind::Pair, version) => {
                let step = |half: &str| match version {
                    Some(version) => json!({ "KV": { "Verb": "set", "Key": format!("{id}/{half}"),
                        "Value": base64(value(version).as_bytes()) } }),
                    None => json!({ "KV": { "Verb": "delete", "Key": format!("{id}/{half}") } }),
                };
                let body = json!([step("a"), step("b")]).to_string();
                client.ask("PUT", "/v1/txn", body.as_bytes())
            }
        }
    }

    /// Compares what the daemon shows after a restart with what was acknowledged, and goes on from
    /// what is there.
    pub(crate) fn compare(&mut self, shown: &BTreeMap<(Kind, String), Found>) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        for (of, thing) in &mut self.things {
            let found = shown.get(of).map(|found| found.version.clone()).transpose();
            let found = match found {
                Ok(found) => found,
                Err(half) => {
                    wrong.push(Wrong::Inconsistent(format!("{of:?}: {half}")));
                    continue;
                }
            };
            if found != thing.known && !thing.doubt.contains(&found) {
                let text =
                    format!("{of:?}: {found:?}, not {:?} nor {:?}", thing.known, thing.doubt);
                wrong.push(if found < thing.known {
                    Wrong::Lost(text)
                } else {
                    Wrong::Inconsistent(text)
                });
            }
            *thing = Thing { known: found, doubt: Vec::new(), modified: 0 };
        }
        wrong
    }
}

/// A service every part of which says the version.
fn service(writer: &str, id: &str, version: u64) -> Value {
    let check = |which: &str| {
        json!({ "CheckID": format!("{id}:{which}"), "Name": which, "Notes": version.to_string(),
            "TTL": "1h" })
    };
    json!({
        "ID": id, "Name": writer, "Port": 1 + version % 60_000, "Tags": [version.to_string()],
        "Meta": { "version": version.to_string() }, "Checks": [check("a"), check("b")],
    })
}

/// A value that says the version at both ends. Some are large, so that the log soon is worth a
/// snapshot.
fn value(version: u64) -> String {
    let length = match version % 16 {
        0 => 100_000,
        1..=4 => 4000,
        _ => 40,
    };
    format!("{version}:{}:{version}", ".".repeat(length))
}

fn version_of(value: &str) -> Result<u64, String> {
    let version = value.split(':').next().and_then(|version| version.parse().ok());
    match version {
        Some(version) if self::value(version) == value => Ok(version),
        _ => Err(format!("a value that was never written: {value:.40}")),
    }
}

/// A thing as the daemon shows it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What is wrong with it if its parts do not agree.
    pub(crate) version: Result<u64, String>,
    modified: u64,
}

/// All that the daemon shows, and the index that it says.
pub(crate) fn shown(client: &mut Client) -> (BTreeMap<(Kind, String), Found>, u64) {
    let services = client.ask("GET", "/v1/agent/services", b"").unwrap().json();
    let checks = client.ask("GET", "/v1/agent/checks", b"").unwrap().json();
    let pairs = client.ask("GET", "/v1/kv/?recurse", b"").unwrap();
    let mut found = shown_services(&services, &checks);
    let mut halves: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for (key, pair) in shown_pairs(&pairs.json()) {
        match key.split_once('/') {
            Some((id, _)) => halves.entry(id.to_owned()).or_default().push(pair),
            None => drop(found.insert((Kind::Key, key), pair)),
        }
    }
    for (id, halves) in halves {
        let whole = match &halves[..] {
            [a, b] if a.version == b.version => a.clone(),
            halves => {
                Found { version: Err(format!("half a transaction: {halves:?}")), modified: 0 }
            }
        };
        found.insert((Kind::Pair, id), whole);
    }
    (found, pairs.index.unwrap_or(0))
}

fn shown_services(services: &Value, checks: &Value) -> BTreeMap<(Kind, String), Found> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for check in checks.as_object().into_iter().flat_map(|checks| checks.values()) {
        said.entry(text(&check["ServiceID"])).or_default().push(text(&check["Notes"]));
    }
    let mut found = BTreeMap::new();
    for (id, service) in
        services.as_object().into_iter().flatten().filter(|(id, _)| *id != "consul")
    {
        let version = text(&service["Meta"]["version"]);
        let notes = said.remove(id).unwrap_or_default();
        let number: u64 = version.parse().unwrap_or(0);
        let is_whole = notes == [version.clone(), version.clone()]
            && text(&service["Tags"][0]) == version
            && service["Port"] == 1 + number % 60_000;
        let half = || format!("half a registration: {service} with {notes:?}");
        let version = if is_whole { Ok(number) } else { Err(half()) };
        found.insert((Kind::Service, id.clone()), Found { version, modified: 0 });
    }
    for (id, notes) in said.into_iter().filter(|(id, _)| !id.is_empty()) {
        let version = Err(format!("checks without their service: {notes:?}"));
        found.insert((Kind::Service, id), Found { version, modified: 0 });
    }
    found
}

fn shown_pairs(pairs: &Value) -> BTreeMap<String, Found> {
    let pairs = pairs.as_array().into_iter().flatten();
    pairs
        .map(|pair| {
            let value = from_base64(pair["Value"].as_str().unwrap_or_default());
            let modified = pair["ModifyIndex"].as_u64().unwrap_or(0);
            let found = Found { version: version_of(&value), modified };
            (pair["Key"].as_str().unwrap_or_default().to_owned(), found)
        })
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
