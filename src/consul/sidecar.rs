//! The proxy that a service may have registered beside it, as Consul fills its definition in.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{CheckDefinition, DecodeError, ServiceDefinition, Time, decode_json, same_key};
use crate::model::{InstanceId, ServiceName};

/// What the id of a proxy has after that of its service.
const SUFFIX: &str = "-sidecar-proxy";

/// How often Consul looks whether something listens there.
const INTERVAL: Duration = Duration::from_secs(10);

/// The id of the proxy of a service.
pub fn sidecar_id(service: &str) -> String {
    format!("{service}{SUFFIX}")
}

/// The definition of the proxy within what a service says of its mesh; nothing if it wants none.
pub fn sidecar_of(connect: &Value) -> Option<&Value> {
    let (_, sidecar) =
        connect.as_object()?.iter().find(|(key, _)| same_key(key, "sidecar_service"))?;
    sidecar.is_object().then_some(sidecar)
}

impl ServiceDefinition {
    /// The proxy to register beside it, if it asks for one: on the port that `port` names for its
    /// id, if it names none itself. Without checks of its own it has two: that something listens
    /// there, and that the service passes.
    pub fn sidecar(
        &self,
        port: impl FnOnce(&str) -> u16,
    ) -> Result<Option<ServiceDefinition>, DecodeError> {
        let (Some(id), Some(name), Some(given)) =
            (self.instance_id(), &self.name, self.connect.as_ref().and_then(sidecar_of))
        else {
            return Ok(None);
        };
        let mut sidecar: ServiceDefinition = decode_json(given.to_string().as_bytes())?;
        let own_id = sidecar_id(id.as_str());
        if sidecar.port == 0 {
            sidecar.port = port(&own_id);
        }
        sidecar.id = own_id.parse().ok();
        sidecar.name = sidecar.name.or_else(|| sidecar_id(name.as_str()).parse().ok());
        sidecar.kind = Some("connect-proxy".to_owned());
        sidecar.connect = None;
        if sidecar.tags.is_empty() {
            sidecar.tags.clone_from(&self.tags);
        }
        if sidecar.meta.is_empty() {
            sidecar.meta.clone_from(&self.meta);
        }
        sidecar.proxy = Some(self.proxy_for(&id, sidecar.proxy.take()));
        if sidecar.all_checks().next().is_none() {
            sidecar.checks = sidecar.usual_checks(&id);
        }
        Ok(Some(sidecar))
    }

    /// What a proxy stands for.
    fn proxy_for(&self, id: &InstanceId, given: Option<Value>) -> Value {
        let mut proxy = match given {
            Some(Value::Object(proxy)) => proxy,
            _ => Map::new(),
        };
        let mut default = |key: &str, value: Value| {
            if !proxy.keys().any(|held| same_key(held, key)) {
                proxy.insert(key.to_owned(), value);
            }
        };
        default("DestinationServiceName", json!(self.name.as_ref().map(ServiceName::as_str)));
        default("DestinationServiceID", json!(id.as_str()));
        if self.port != 0 {
            default("LocalServiceAddress", json!("127.0.0.1"));
            default("LocalServicePort", json!(self.port));
        }
        Value::Object(proxy)
    }

    fn usual_checks(&self, service: &InstanceId) -> Vec<CheckDefinition> {
        let listening = CheckDefinition {
            name: Some("Connect Sidecar Listening".to_owned()),
            tcp: Some(self.endpoint().to_string()),
            interval: Some(Time(INTERVAL)),
            ..CheckDefinition::default()
        };
        let passing = CheckDefinition {
            name: Some(format!("Connect Sidecar Aliasing {service}")),
            alias_service: Some(service.clone()),
            ..CheckDefinition::default()
        };
        vec![listening, passing]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(definition: &Value) -> Option<Value> {
        let text = definition.to_string();
        let definition: ServiceDefinition = decode_json(text.as_bytes()).unwrap();
        let sidecar = definition.sidecar(|_| 21_000).unwrap();
        sidecar.map(|sidecar| serde_json::to_value(sidecar).unwrap())
    }

    #[test]
    fn a_proxy_is_filled_in_from_its_service() {
        let plain = json!({"Name": "web", "ID": "w", "Port": 80, "Tags": ["a"],
                           "Connect": {"SidecarService": {}}});
        let expected = json!({
            "id": "w-sidecar-proxy", "name": "web-sidecar-proxy", "kind": "connect-proxy",
            "tags": ["a"], "port": 21_000,
            "proxy": {"DestinationServiceName": "web", "DestinationServiceID": "w",
                      "LocalServiceAddress": "127.0.0.1", "LocalServicePort": 80},
            "checks": [
                {"name": "Connect Sidecar Listening", "tcp": "127.0.0.1:21000", "interval": "10s"},
                {"name": "Connect Sidecar Aliasing w", "alias_service": "w"},
            ],
        });
        assert_eq!(sidecar(&plain), Some(expected));
    }

    #[test]
    fn what_a_proxy_says_of_itself_stays() {
        let told = json!({"Name": "web", "connect": {"sidecar_service": {
            "Port": 1, "Tags": ["b"], "Check": {"TTL": "10s"},
            "Proxy": {"DestinationServiceName": "other"}}}});
        let shown = sidecar(&told).unwrap();
        assert_eq!((&shown["port"], &shown["tags"]), (&json!(1), &json!(["b"])));
        assert_eq!(shown["proxy"]["DestinationServiceName"], "other");
        assert_eq!((&shown["check"]["ttl"], &shown["checks"]), (&json!("10s"), &Value::Null));
    }

    #[test]
    fn most_services_have_none() {
        for connect in [json!(null), json!({}), json!({"SidecarService": null}), json!([])] {
            assert_eq!(sidecar(&json!({"Name": "web", "Connect": connect})), None);
        }
    }
}
