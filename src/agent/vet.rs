//! What Consul refuses of a definition, in its words.

use super::{
    ALIVE, CONSUL, NODE_MAINTENANCE, SERVICE_MAINTENANCE, register::Refused, rows::NODE_INSTANCE,
};
use crate::{
    consul::{CheckDefinition, Kind, Naming, Programs, ServiceDefinition},
    probe::{Host, egress::Policy},
    registry::Assigned,
    store::row::Service,
};

/// Most pieces of metadata.
const MAX_META: usize = 64;

/// Longest key and value of metadata, in bytes.
const MAX_META_KEY: usize = 128;
const MAX_META_VALUE: usize = 512;

/// Keys that begin so are Consul's own.
const RESERVED: &str = "consul-";

pub(super) fn service(definition: &ServiceDefinition) -> Result<(), Refused> {
    let refuse = |text: String| Err(Refused::Invalid(text));
    if definition.name.is_none() {
        return refuse("Missing service name".to_owned());
    }
    let id = definition.instance_id();
    if let Some(id) = id.filter(|id| [CONSUL, NODE_INSTANCE].contains(&id.as_str())) {
        return refuse(format!("Invalid service ID: {:?} is the daemon's own", id.as_str()));
    }
    if let Some(Host::Ip(ip)) = &definition.address
        && ip.is_unspecified()
    {
        return refuse("Invalid service address".to_owned());
    }
    if let Some(weights) = &definition.weights {
        if !(1..=65_535).contains(&weights.passing) {
            return refuse("Invalid Weights: Passing must be greater than 0".to_owned());
        }
        if !(0..=65_535).contains(&weights.warning) {
            return refuse("Invalid Weights: Warning must be greater or equal than 0".to_owned());
        }
    }
    if definition.meta.len() > MAX_META {
        let found = definition.meta.len();
        return refuse(format!(
            "Invalid Service Meta: Node metadata cannot contain more than {MAX_META} key/value \
             pairs, found {found}"
        ));
    }
    for (key, value) in &definition.meta {
        if let Err(text) = meta(key, value) {
            return refuse(format!(
                "Invalid Service Meta: Couldn't load metadata pair ('{key}', '{value}'): {text}"
            ));
        }
    }
    Ok(())
}

fn meta(key: &str, value: &str) -> Result<(), String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if key.is_empty() {
        return Err("Key cannot be blank".to_owned());
    }
    if !key.chars().all(is_word) {
        return Err("Key contains invalid characters".to_owned());
    }
    if key.len() > MAX_META_KEY {
        return Err(format!("Key is too long (limit: {MAX_META_KEY} characters)"));
    }
    if key.starts_with(RESERVED) {
        return Err(format!("Key prefix '{RESERVED}' is reserved for internal use"));
    }
    if value.len() > MAX_META_VALUE {
        return Err(format!("Value is too long (limit: {MAX_META_VALUE} characters)"));
    }
    Ok(())
}

pub(super) fn check(
    definition: &CheckDefinition,
    id: &str,
    programs: Programs,
) -> Result<(), Refused> {
    let refuse = |text: String| Err(Refused::Invalid(format!("Invalid check: {text}")));
    if let Err(error) = definition.validate() {
        return refuse(error.to_string());
    }
    if let Some(Kind::Script | Kind::Docker) = definition.kind()
        && programs == Programs::Refused
    {
        return Err(Refused::Scripts);
    }
    if [ALIVE, NODE_MAINTENANCE].contains(&id) || id.starts_with(SERVICE_MAINTENANCE) {
        return refuse(format!("the id {id:?} is the daemon's own"));
    }
    Ok(())
}

/// The checks of a definition with their names, if none is refused.
pub(super) fn checks<'a>(
    definition: &'a ServiceDefinition,
    row: &Service,
    programs: Programs,
) -> Result<Vec<(&'a CheckDefinition, Naming)>, Refused> {
    let count = definition.all_checks().count();
    let mut checks = Vec::with_capacity(count);
    for (index, given) in definition.all_checks().enumerate() {
        let (Ok(id), Ok(name)) = (row.id.parse(), row.name.parse()) else { continue };
        let mut naming = Naming::within(&id, &name, index, count);
        if let Some(id) = &given.id {
            naming.id = id.to_string();
        }
        if let Some(name) = &given.name {
            naming.name.clone_from(name);
        }
        check(given, &naming.id, programs)?;
        checks.push((given, naming));
    }
    Ok(checks)
}

/// Refuses a check whose every probe would be denied, for where it goes or for what it says. Where it
/// goes by a name, that is judged when the name is resolved.
pub(super) fn destination(assigned: &Assigned, egress: Option<&Policy>) -> Result<(), Refused> {
    let probe = &assigned.definition.probe;
    egress.map_or(Ok(()), |egress| probe.is_proper(egress)).map_err(Refused::Improper)?;
    let destination = assigned.endpoint.as_ref().and_then(|at| probe.destination(at));
    match (destination.map(|at| &at.host), egress) {
        (Some(Host::Ip(ip)), Some(egress)) => egress.vet(*ip).map_err(Refused::Denied),
        (Some(Host::Ip(_) | Host::Name(_)) | None, _) => Ok(()),
    }
}
