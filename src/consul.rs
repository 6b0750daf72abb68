//! Consul's definitions of services and checks: what may be written, and what it means here.
//!
//! The same definitions come from service files, from request bodies and from the store. A
//! [`ServiceDefinition`] or [`CheckDefinition`] is what was written, with nothing filled in: it is
//! written back as compact JSON of the fields that are set, so that two can be compared and stored.
//! [`CheckDefinition::assigned`] says what a check means; an [`Invalid`] names the field that is in
//! the way, for a place in a file or a text of an API.
//!
//! Fields have their names in snake case. Whoever reads a definition takes any case of a key, with
//! or without underscores ([`same_key`]), passes over keys that are not known, and takes `null` for
//! absent; [`decode_json`] does so for request bodies.

mod ask;
mod assign;
mod check;
mod json;
mod node;
mod prepared;
mod scalar;
mod service;
mod sidecar;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use self::{
    assign::{Naming, Programs, add, numbered},
    check::{CheckDefinition, InvalidCheck, Kind, Status, type_word},
    json::{DecodeError, decode_json, same_key},
    scalar::Time,
    service::{ServiceAddress, ServiceDefinition, Weights},
    sidecar::{sidecar_id, sidecar_of},
};

/// A definition that cannot be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// The field that is in the way; empty if it is the whole.
    pub field: &'static str,
    /// The rule that is broken.
    pub message: String,
    /// What the field has to do with it, in a few words; may be empty.
    pub note: Cow<'static, str>,
}

impl Invalid {
    fn new(field: &'static str, message: impl Into<String>, note: &'static str) -> Self {
        Self { field, message: message.into(), note: note.into() }
    }
}
