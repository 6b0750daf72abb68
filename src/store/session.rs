//! Sessions: leases that locks hang on.

use std::{sync::Arc, time::Duration};

use super::{
    row::{Behavior, Key, Note, Pair, Session},
    tx::Tx,
};
use crate::clock::Timestamp;

/// Notes of this kind say until when a key must not be acquired.
const DELAY: &str = "delay/";

impl Tx<'_> {
    /// Ends a session: its locks are released or deleted by its behaviour, and nobody may acquire
    /// them before its lock-delay has passed.
    pub fn end_session(&mut self, session: &Session) {
        let held: Vec<Arc<Pair>> =
            self.pairs("").filter(|pair| pair.session == session.id).cloned().collect();
        let until = self.now().millis()
            + i64::try_from(Duration::from_nanos(session.lock_delay).as_millis()).unwrap_or(0);
        for pair in held {
            if session.lock_delay > 0 {
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
        let note = self.note(&format!("{DELAY}{key}"))?;
        let until = Timestamp::from_millis(note.text.parse().ok()?);
        (until > self.now()).then_some(until)
    }
}
