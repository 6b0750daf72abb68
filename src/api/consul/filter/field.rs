//! The fields that can be filtered by, for each kind of object; as Consul documents them. Its
//! indexes and the definitions of checks are none.

use serde_json::{Value, json};

/// The fields of an object, by name.
pub(in crate::api::consul) type Fields = &'static [(&'static str, Kind)];

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(in crate::api::consul) enum Kind {
    Text,
    Number,
    Flag,
    Texts,
    /// Under keys that are not ours to know.
    Map(&'static Kind),
    Object(Fields),
    Objects(Fields),
}

use Kind::{Flag, Map, Number, Object, Objects, Text, Texts};

impl Kind {
    /// What such a field is like when it is left out.
    pub(super) fn blank(self) -> Value {
        match self {
            Text => json!(""),
            Number => json!(0),
            Flag => json!(false),
            Texts | Objects(_) => json!([]),
            Map(_) | Object(_) => json!({}),
        }
    }
}

const WEIGHTS: Kind = Object(&[("Passing", Number), ("Warning", Number)]);

const ADDRESSES: Kind = Map(&Object(&[("Address", Text), ("Port", Number)]));

const CONNECT: Kind = Object(&[("Native", Flag)]);

const PROXY: Kind = Object(&[
    ("DestinationServiceID", Text),
    ("DestinationServiceName", Text),
    ("LocalServiceAddress", Text),
    ("LocalServicePort", Number),
    ("MeshGateway", Object(&[("Mode", Text)])),
    ("Mode", Text),
]);

/// Of catalog/nodes.
pub(in crate::api::consul) const NODE: Fields = &[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", Map(&Text)),
    ("Meta", Map(&Text)),
    ("PeerName", Text),
];

/// Of the services of catalog/node and catalog/node-services, and of agent/services.
pub(in crate::api::consul) const SERVICE: Fields = &[
    ("ID", Text),
    ("Kind", Text),
    ("Service", Text),
    ("Tags", Texts),
    ("Address", Text),
    ("TaggedAddresses", ADDRESSES),
    ("Meta", Map(&Text)),
    ("Port", Number),
    ("SocketPath", Text),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Flag),
    ("Datacenter", Text),
    ("PeerName", Text),
    ("Proxy", PROXY),
    ("Connect", CONNECT),
];

/// Of catalog/service, catalog/connect and, before they are summed up, catalog/services.
pub(in crate::api::consul) const SERVICE_NODE: Fields = &[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", Map(&Text)),
    ("NodeMeta", Map(&Text)),
    ("ServiceKind", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", Texts),
    ("ServiceAddress", Text),
    ("ServiceTaggedAddresses", ADDRESSES),
    ("ServiceMeta", Map(&Text)),
    ("ServicePort", Number),
    ("ServiceSocketPath", Text),
    ("ServiceWeights", WEIGHTS),
    ("ServiceEnableTagOverride", Flag),
    ("PeerName", Text),
    ("ServiceProxy", PROXY),
    ("ServiceConnect", CONNECT),
];

/// Of health/checks, health/node, health/state and agent/checks.
pub(in crate::api::consul) const CHECK: Fields = &[
    ("Node", Text),
    ("CheckID", Text),
    ("Name", Text),
    ("Status", Text),
    ("Notes", Text),
    ("Output", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", Texts),
    ("Type", Text),
    ("Interval", Text),
    ("Timeout", Text),
    ("ExposedPort", Number),
    ("PeerName", Text),
];

/// Of health/service and its like.
pub(in crate::api::consul) const SERVICE_ENTRY: Fields =
    &[("Node", Object(NODE)), ("Service", Object(SERVICE)), ("Checks", Objects(CHECK))];

/// Of agent/members.
pub(in crate::api::consul) const MEMBER: Fields = &[
    ("Name", Text),
    ("Addr", Text),
    ("Port", Number),
    ("Tags", Map(&Text)),
    ("Status", Number),
    ("ProtocolMin", Number),
    ("ProtocolMax", Number),
    ("ProtocolCur", Number),
    ("DelegateMin", Number),
    ("DelegateMax", Number),
    ("DelegateCur", Number),
];
