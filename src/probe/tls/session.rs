//! What is kept of a target's last handshakes, so that the next one is short.
//!
//! A handshake that resumes a session costs less than half of a full one, and the target shows no
//! certificate in it: it proves only that it still has what it sealed in the ticket. So a session is
//! resumed only where little can have changed since a full handshake checked the certificate:
//!
//! - that was less than an hour ago, by the same address of the target;
//! - no probe of the target has failed since, nor a connection that was kept broken in a call;
//! - no certificate of the chain expires within the hour.
//!
//! Whatever the probe records of the certificate is then what the full handshake saw. A check that is
//! changed begins anew. A handshake that fails with a ticket in it may have failed for the ticket's
//! sake, so for an hour the target is shown none.
//!
//! One ticket is kept for a target, none where it gives none, and for no more targets than there are
//! places.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use rustls::{
    HandshakeKind, NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};
use tokio::time::Instant;

use super::verify::{Presented, Verifier};
use crate::{
    clock,
    model::Certificate,
    probe::grpc::{Place, Places},
};

/// From one full handshake to the next, at most. A certificate that has expired, been revoked or been
/// replaced since shows only in the next one. An hour is short beside the days of warning an expiry
/// needs, and makes handshakes a negligible cost.
pub(in crate::probe) const FULL_EVERY: Duration = Duration::from_secs(3600);

/// The session of one target. Its name is not asked for: a check has one.
#[derive(Debug, Default)]
pub(in crate::probe) struct Session {
    /// The library resumes only with the very verifier that has checked the certificate.
    verifier: OnceLock<Arc<Verifier>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    place: Option<Place>,
    ticket: Option<Ticket>,
    group: Option<NamedGroup>,
    full: Option<Full>,
    /// When the handshake under way began, and whether it has a ticket.
    began: Option<Instant>,
    has_offered: bool,
    /// Until when no ticket is shown.
    barred_until: Option<Instant>,
}

/// Boxed: most targets have none.
#[derive(Debug)]
enum Ticket {
    Tls12(Box<Tls12ClientSessionValue>),
    Tls13(Box<Tls13ClientSessionValue>),
}

/// The last handshake in which the certificate was checked.
#[derive(Debug)]
struct Full {
    at: Instant,
    peer: Option<SocketAddr>,
    certificate: Arc<Certificate>,
}

impl Full {
    fn is_good(&self, now: Instant, peer: Option<SocketAddr>) -> bool {
        let left = self.certificate.chain_expiry.since(clock::now());
        now - self.at < FULL_EVERY && self.peer == peer && left > FULL_EVERY
    }
}

impl Session {
    /// Whether there is a place for it.
    pub(in crate::probe) fn has_place(&self, places: &Places) -> bool {
        let state = &mut *self.state();
        if state.place.is_none() {
            state.place = places.take();
        }
        state.place.is_some()
    }

    /// A handshake with this address begins; `presented` is where the certificate is put down.
    pub(super) fn begin(
        &self,
        base: &Verifier,
        peer: Option<SocketAddr>,
        presented: Presented,
    ) -> Arc<Verifier> {
        let now = Instant::now();
        let state = &mut *self.state();
        let is_barred = state.barred_until.is_some_and(|until| now < until);
        let is_good = state.full.as_ref().is_some_and(|full| full.is_good(now, peer));
        if is_barred || !is_good {
            state.ticket = None;
        }
        (state.began, state.has_offered) = (Some(now), false);
        let verifier = self.verifier.get_or_init(|| Arc::new(base.recording(Arc::default())));
        verifier.record(presented);
        Arc::clone(verifier)
    }

    /// It has succeeded. Returns the certificate that was checked before if none was shown.
    pub(super) fn succeeded(
        &self,
        kind: Option<HandshakeKind>,
        peer: Option<SocketAddr>,
        presented: Option<Arc<Certificate>>,
    ) -> Option<Arc<Certificate>> {
        let state = &mut *self.state();
        state.has_offered = false;
        if kind == Some(HandshakeKind::Resumed) {
            return state.full.as_ref().map(|full| Arc::clone(&full.certificate));
        }
        let began = state.began.take();
        state.full = began.zip(presented).map(|(at, certificate)| Full { at, peer, certificate });
        None
    }

    /// Has the next handshake be a full one: something has failed.
    pub(in crate::probe) fn distrust(&self) {
        let state = &mut *self.state();
        (state.ticket, state.full) = (None, None);
        if state.has_offered {
            state.has_offered = false;
            state.barred_until = Some(Instant::now() + FULL_EVERY);
        }
    }

    /// When the certificate was checked last, if it was and nothing has failed since.
    pub(in crate::probe) fn checked(&self) -> Option<Instant> {
        self.state().full.as_ref().map(|full| full.at)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Session {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.state().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.state().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.state().ticket = Some(Ticket::Tls12(Box::new(value)));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let state = &mut *self.state();
        let Some(Ticket::Tls12(value)) = &state.ticket else { return None };
        state.has_offered = true;
        Some((**value).clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.state().ticket.take_if(|ticket| matches!(ticket, Ticket::Tls12(_)));
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.state().ticket = Some(Ticket::Tls13(Box::new(value)));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let state = &mut *self.state();
        match state.ticket.take() {
            Some(Ticket::Tls13(value)) => {
                state.has_offered = true;
                Some(*value)
            }
            other => {
                state.ticket = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
