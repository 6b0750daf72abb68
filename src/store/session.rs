//! Sessions: leases that locks hang on.

use std::{sync::Arc, time::Duration};

use super::{
    row::{Behavior, Health, Key, Note, Pair, Session},
    tx::Tx,
};
use crate::{clock::Timestamp, duration::Period};

/// Notes of this kind say until when a key must not be acquired.
const DELAY: &str = "delay/";

/// The longest lock-delay; a longer one is cut to it.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The time to live that Consul allows.
const TTL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));

/// A session that cannot be made, in Consul's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untenable {
    /// Its node is not registered.
    #[error("Missing node registration")]
    Node,
    /// A check it is to be bound to is not registered.
    #[error("Missing check '{0}' registration")]
    Check(Arc<str>),
    /// A check it is to be bound to is critical.
    #[error("Check '{0}' is in critical state")]
    Critical(Arc<str>),
    /// Its time to live is no duration.
    #[error("Session TTL '{0}' invalid: {1}")]
    Ttl(Arc<str>, crate::duration::ParseError),
    /// Its time to live, in nanoseconds, is too short or too long.
    #[error("Invalid Session TTL '{0}', must be between [10s=24h0m0s]")]
    TtlOutside(u128),
}

impl Session {
    /// How long it lives without being renewed, as given; nothing if until it is destroyed.
    pub fn lifetime(&self) -> Result<Option<Duration>, Untenable> {
        if self.ttl.is_empty() {
            return Ok(None);
        }
        let ttl = self.ttl.parse::<Period>();
        let ttl = ttl.map_err(|error| Untenable::Ttl(Arc::clone(&self.ttl), error))?.get();
        match ttl {
            Duration::ZERO => Ok(None),
            ttl if ttl < TTL.0 || ttl > TTL.1 => Err(Untenable::TtlOutside(ttl.as_nanos())),
            ttl => Ok(Some(ttl)),
        }
    }
}

impl Tx<'_> {
    /// Makes a session, if its node and its checks are there and none of them is critical.
    pub fn create_session(&mut self, mut session: Session) -> Result<(), Untenable> {
        session.lifetime()?;
        let node = self.node(&session.node).ok_or(Untenable::Node)?;
        session.node = Arc::clone(&node.name);
        for id in session.node_checks.iter().chain(&session.service_checks) {
            match self.check(&session.node, id) {
                None => return Err(Untenable::Check(Arc::clone(id))),
                Some(check) if check.status == Health::Critical => {
                    return Err(Untenable::Critical(Arc::clone(id)));
                }
                Some(_) => {}
            }
        }
        self.put(session);
        Ok(())
    }

    /// Ends the session of this id, if there is one.
    pub fn destroy_session(&mut self, id: &str) {
        if let Some(session) = self.session(id).cloned() {
            self.end_session(&session);
        }
    }

    /// Ends a session: its locks are released or deleted by its behaviour, and nobody may acquire
    /// them before its lock-delay has passed.
    pub fn end_session(&mut self, session: &Session) {
        let held: Vec<Arc<Pair>> = self.held_by(&session.id).cloned().collect();
        let delay = Duration::from_nanos(session.lock_delay).min(MAX_DELAY);
        let until = self.now().millis() + i64::try_from(delay.as_millis()).unwrap_or(0);
        for pair in held {
            if !delay.is_zero() {
                let name = format!("{DELAY}{}", pair.key).into();
                self.put(Note { name, text: until.to_string().into(), ..Note::default() });
            }
            match session.behavior {
                Behavior::Release => {
                    let released = Pair { session: "".into(), ..Pair::clone(&pair) };
                    self.put(released);
                }
                Behavior::Delete => drop(self.delete(Key::Pair(Arc::clone(&pair.key)))),
            }
        }
        self.delete(Key::Session(Arc::clone(&session.id)));
    }

    /// Until when a key must not be acquired, if there is a lock-delay on it.
    pub fn delayed_until(&self, key: &str) -> Option<Timestamp> {
        let until = until(self.note(&format!("{DELAY}{key}"))?);
        (until > self.now()).then_some(until)
    }

    /// Forgets the lock-delays that have passed.
    pub fn sweep_delays(&mut self) {
        let now = self.now();
        let passed = self.notes(DELAY).filter(|note| until(note) <= now);
        let passed: Vec<_> = passed.map(|note| Arc::clone(&note.name)).collect();
        for name in passed {
            self.delete(Key::Note(name));
        }
    }
}

fn until(note: &Note) -> Timestamp {
    Timestamp::from_millis(note.text.parse().unwrap_or(0))
}
