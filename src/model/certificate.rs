//! What a target's certificates say of themselves.

use super::Observation;
use crate::clock::Timestamp;

/// What the certificates say that a target presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// When the target's own certificate, the first of the chain, becomes valid.
    pub start: Timestamp,
    /// When it expires.
    pub expiry: Timestamp,
    /// When the first certificate of the chain that was presented expires.
    pub chain_expiry: Timestamp,
    /// Whether it is for the name that was asked for.
    pub is_for_name: bool,
    /// Whose it is, in one printable line of at most 128 bytes: `CN=shop.example`.
    pub subject: Box<str>,
    /// Who signed it, in the same form.
    pub issuer: Box<str>,
}

impl Observation {
    /// When the target's own certificate expires, if it presented one.
    pub fn certificate_expiry(&self) -> Option<Timestamp> {
        self.certificate.as_ref().map(|certificate| certificate.expiry)
    }

    /// When the first certificate of the chain that was presented expires.
    pub fn chain_expiry(&self) -> Option<Timestamp> {
        self.certificate.as_ref().map(|certificate| certificate.chain_expiry)
    }
}
