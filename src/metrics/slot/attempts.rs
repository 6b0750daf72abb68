//! The last attempts of a check, packed, for whoever asks why it is as it is.
//!
//! A ring of 48 bytes an attempt, allocated once, with the first of them. What seldom changes from
//! one attempt to the next (the address asked, the certificate, the text of what went wrong) is
//! held beside it once and shared by attempts in a row that are alike, so that a target that is
//! well, or not well in the same way, costs a comparison and no allocation.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    clock::Timestamp,
    model::{Certificate, Observation, Outcome, Phase, Phases},
};

use super::{decode_answer, decode_outcome, encode_answer, encode_outcome};

/// Most of what went wrong that is kept of each attempt, in bytes; the whole text of the last one
/// is in the slot.
const MAX_TEXT: usize = 160;

/// How many of the last attempts of each check are kept: 0 to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kept(u8);

impl Kept {
    const MOST: u8 = 32;

    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// Enough for a usual threshold and the success before it.
impl Default for Kept {
    fn default() -> Self {
        Self(5)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)?.try_into() {
            Ok(kept) if kept <= Self::MOST => Ok(Self(kept)),
            Ok(_) | Err(_) => Err(D::Error::custom("at most 32 attempts of a check are kept")),
        }
    }
}

impl JsonSchema for Kept {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Kept".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": Self::MOST })
    }
}

/// The ring. Holds at most as many as [`Attempts::push`] is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    ring: Vec<Packed>,
    /// Where the next one goes once the ring is full: the oldest.
    oldest: usize,
}

#[derive(Debug, Clone)]
struct Packed {
    started: i64,
    aside: Option<Arc<Aside>>,
    /// Times in microseconds: up to 71 minutes, longer ones are held as that.
    duration: u32,
    phases: [u32; Phase::COUNT],
    answer: u32,
    outcome: u8,
}

/// What seldom changes.
#[derive(Debug, PartialEq, Eq, Default)]
struct Aside {
    peer: Option<SocketAddr>,
    certificate: Option<Arc<Certificate>>,
    ask_again: Option<Duration>,
    text: Option<Box<str>>,
}

impl Attempts {
    /// Puts an attempt down, in place of the oldest if there are `most` already. `most` is the same
    /// every time.
    pub(super) fn push(&mut self, observation: &Observation, most: usize) {
        if most == 0 {
            return;
        }
        let aside = self.aside(observation);
        let packed = Packed::of(observation, aside);
        if self.ring.len() < most {
            self.ring.reserve_exact(most - self.ring.len());
            self.ring.push(packed);
        } else {
            self.ring[self.oldest] = packed;
            self.oldest = (self.oldest + 1) % most;
        }
    }

    /// All that are held, oldest first. Times are exact to the microsecond; texts are cut, and there
    /// are none of successes.
    pub(super) fn read(&self) -> Vec<Observation> {
        let (newer, older) = self.ring.split_at(self.oldest);
        older.iter().chain(newer).filter_map(Packed::unpacked).collect()
    }

    /// What there is to hold beside an attempt: shared with the one before if it is the same.
    fn aside(&self, observation: &Observation) -> Option<Arc<Aside>> {
        let text = text_of(observation);
        let newest = match self.oldest {
            0 => self.ring.last(),
            oldest => self.ring.get(oldest - 1),
        };
        let held = newest.and_then(|newest| newest.aside.as_ref()).filter(|held| {
            held.peer == observation.peer
                && held.certificate == observation.certificate
                && held.ask_again == observation.ask_again
                && held.text.as_deref() == text
        });
        if let Some(held) = held {
            return Some(Arc::clone(held));
        }
        let aside = Aside {
            peer: observation.peer,
            certificate: observation.certificate.clone(),
            ask_again: observation.ask_again,
            text: text.map(Into::into),
        };
        (aside != Aside::default()).then(|| Arc::new(aside))
    }
}

impl Packed {
    fn of(observation: &Observation, aside: Option<Arc<Aside>>) -> Self {
        let mut phases = [0; Phase::COUNT];
        for phase in Phase::ALL {
            phases[phase.index()] = micros(observation.phases.get(*phase));
        }
        Self {
            started: observation.started.millis(),
            aside,
            duration: micros(observation.duration),
            phases,
            answer: encode_answer(observation.answer),
            outcome: encode_outcome(Some(observation.outcome)),
        }
    }

    fn unpacked(&self) -> Option<Observation> {
        let outcome = decode_outcome(self.outcome)?;
        let mut phases = Phases::default();
        for phase in Phase::ALL {
            phases.add(*phase, from_micros(self.phases[phase.index()]));
        }
        let aside = self.aside.as_deref();
        let started = Timestamp::from_millis(self.started);
        Some(Observation {
            phases,
            answer: decode_answer(self.answer),
            peer: aside.and_then(|aside| aside.peer),
            certificate: aside.and_then(|aside| aside.certificate.clone()),
            ask_again: aside.and_then(|aside| aside.ask_again),
            detail: aside.and_then(|aside| aside.text.clone()),
            ..Observation::new(started, from_micros(self.duration), outcome)
        })
    }
}

/// What went wrong, cut; what a success had to say is not kept.
fn text_of(observation: &Observation) -> Option<&str> {
    match observation.outcome {
        Outcome::Success => None,
        Outcome::Warning(_) | Outcome::Failure(_) | Outcome::Inconclusive(_) => {
            let text = observation.detail.as_deref()?;
            let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            Some(&text[..end.unwrap_or(0)])
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

fn from_micros(micros: u32) -> Duration {
    Duration::from_micros(u64::from(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Answer, Reason};

    fn attempt(second: i64, outcome: Outcome) -> Observation {
        let mut phases = Phases::default();
        phases.add(Phase::Connect, Duration::from_micros(184));
        phases.add(Phase::Transfer, Duration::from_micros(7));
        Observation {
            phases,
            answer: Answer::Http(503),
            peer: Some(SocketAddr::from(([10, 0, 0, 1], 80))),
            certificate: Some(Arc::new(Certificate {
                start: Timestamp::from_seconds(1),
                expiry: Timestamp::from_seconds(900),
                chain_expiry: Timestamp::from_seconds(800),
                is_for_name: true,
                subject: "CN=a".into(),
                issuer: "CN=b".into(),
            })),
            ask_again: Some(Duration::from_millis(2500)),
            detail: outcome.reason().map(|reason| reason.as_str().into()),
            ..Observation::new(
                Timestamp::from_seconds(second),
                Duration::from_micros(1234),
                outcome,
            )
        }
    }

    fn seconds(attempts: &Attempts) -> Vec<f64> {
        attempts.read().iter().map(|attempt| attempt.started.seconds()).collect()
    }

    #[test]
    fn an_attempt_reads_back_as_it_was() {
        let mut attempts = Attempts::default();
        let bare = Observation::new(
            Timestamp::from_seconds(3),
            Duration::ZERO,
            Outcome::Inconclusive(Reason::Internal),
        );
        let made =
            [attempt(1, Outcome::Success), attempt(2, Outcome::Failure(Reason::Status)), bare];
        for made in &made {
            attempts.push(made, 3);
        }
        assert_eq!(attempts.read(), made);
    }

    #[test]
    fn the_oldest_attempt_goes_when_there_are_enough() {
        let mut attempts = Attempts::default();
        for second in 1..=3 {
            attempts.push(&attempt(second, Outcome::Success), 3);
        }
        assert_eq!(seconds(&attempts), [1.0, 2.0, 3.0]);
        for second in 4..=5 {
            attempts.push(&attempt(second, Outcome::Success), 3);
        }
        assert_eq!(seconds(&attempts), [3.0, 4.0, 5.0]);
        for second in 6..=9 {
            attempts.push(&attempt(second, Outcome::Success), 3);
        }
        assert_eq!(seconds(&attempts), [7.0, 8.0, 9.0]);
    }

    #[test]
    fn none_are_kept_where_none_are_wanted() {
        let mut attempts = Attempts::default();
        attempts.push(&attempt(1, Outcome::Success), 0);
        assert_eq!((attempts.read().len(), attempts.ring.capacity()), (0, 0));
    }

    #[test]
    fn attempts_in_a_row_that_are_alike_share_what_seldom_changes() {
        let mut attempts = Attempts::default();
        for second in 1..=4 {
            attempts.push(&attempt(second, Outcome::Failure(Reason::Status)), 3);
        }
        attempts.push(&attempt(5, Outcome::Success), 3);
        let aside = |index: usize| attempts.ring[index].aside.as_ref().unwrap();
        // Over the edge of the ring, too: the fourth stands where the first was.
        assert!(Arc::ptr_eq(aside(0), aside(2)));
        assert!(!Arc::ptr_eq(aside(0), aside(1)), "a success has no text");
        assert_eq!(size_of::<Packed>(), 48);
        assert_eq!(attempts.ring.capacity(), 3, "allocated once, and no more than is needed");
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let mut attempts = Attempts::default();
        let said = Observation {
            detail: Some("x".repeat(MAX_TEXT - 1).as_str().to_owned().into()),
            ..attempt(1, Outcome::Failure(Reason::Body))
        };
        attempts.push(&said, 2);
        let long = format!("{}é and more", "x".repeat(MAX_TEXT - 1));
        attempts.push(&Observation { detail: Some(long.into()), ..said.clone() }, 2);
        let read = attempts.read();
        assert_eq!(read[0].detail, said.detail);
        assert_eq!(read[1].detail, said.detail);
    }

    #[test]
    fn a_probe_of_hours_is_held_as_the_longest_there_is() {
        let mut attempts = Attempts::default();
        let long =
            Observation { duration: Duration::from_secs(7200), ..attempt(1, Outcome::Success) };
        attempts.push(&long, 1);
        assert_eq!(attempts.read()[0].duration, Duration::from_micros(u64::from(u32::MAX)));
    }
}
