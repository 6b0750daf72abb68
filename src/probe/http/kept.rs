//! The connection of one target between two probes.

use std::sync::{Mutex, PoisonError};

use super::session::Connection;
use crate::probe::grpc::Place;

/// The kept connection of one target; it has one of the places that all targets share.
#[derive(Debug, Default)]
pub(in crate::probe) struct Kept(Mutex<Option<(Box<Connection>, Place)>>);

impl Kept {
    pub(super) fn take(&self) -> Option<(Box<Connection>, Place)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, connection: Box<Connection>, place: Place) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((connection, place));
    }
}
