//! A service as Consul defines it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{
    CheckDefinition, Invalid, Naming, Programs, add,
    check::is_default,
    scalar::{parsed, text},
};
use crate::{
    model::{InstanceId, ServiceName},
    probe::{Endpoint, Host},
    registry::Assigned,
};

/// A service as Consul defines it, with the fields that are set. Texts are not empty. What belongs
/// to the mesh is kept as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are Consul's")]
pub struct ServiceDefinition {
    #[serde(with = "parsed", skip_serializing_if = "Option::is_none")]
    pub id: Option<InstanceId>,
    #[serde(with = "parsed", skip_serializing_if = "Option::is_none")]
    pub name: Option<ServiceName>,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    #[serde(with = "parsed", skip_serializing_if = "Option::is_none")]
    pub address: Option<Host>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    #[serde(skip_serializing_if = "is_default")]
    pub port: u16,
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    #[serde(deserialize_with = "check", skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckDefinition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckDefinition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    #[serde(skip_serializing_if = "is_default")]
    pub enable_tag_override: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<Value>,
}

/// An address of a service under a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAddress {
    /// As it is written.
    pub address: String,
    /// The port; none is 0.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u16,
}

/// How much a service is to be asked for, by its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Weights {
    /// While it passes.
    pub passing: i64,
    /// While it warns.
    pub warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

impl ServiceDefinition {
    /// Its id: its name, if it has no other.
    pub fn instance_id(&self) -> Option<InstanceId> {
        self.id.clone().or_else(|| self.name.as_ref()?.as_str().parse().ok())
    }

    /// Where it is: on this host, where Consul's agent runs as well, if it has no address.
    pub fn endpoint(&self) -> Endpoint {
        let host = self.address.clone().unwrap_or(Host::Ip(Ipv4Addr::LOCALHOST.into()));
        Endpoint { host, port: self.port }
    }

    /// Its checks, `check` before `checks`.
    pub fn all_checks(&self) -> impl Iterator<Item = &CheckDefinition> {
        self.check.iter().chain(&self.checks)
    }

    /// What is asked of it by checks of its own; their ids differ.
    ///
    /// Reads no file, but sets TLS up where a check needs it.
    pub fn assigned(&self, programs: Programs) -> Result<Vec<Assigned>, Invalid> {
        let missing = || Invalid::new("name", "a service needs a name", "has no `name`");
        let name = self.name.as_ref().ok_or_else(missing)?;
        let id = self.instance_id().ok_or_else(missing)?;
        let count = self.all_checks().count();
        let mut all = Vec::new();
        for (index, check) in self.all_checks().enumerate() {
            add(&mut all, check.assigned(&Naming::within(&id, name, index, count), programs)?);
        }
        Ok(all)
    }
}

/// A check, where one without any field is none.
fn check<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CheckDefinition>, D::Error> {
    let check = Option::<CheckDefinition>::deserialize(deserializer)?;
    Ok(check.filter(|check| !check.is_empty()))
}
