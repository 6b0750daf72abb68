//! The last attempts of a check, packed, for whoever asks why it is as it is.
//!
//! A line of bytes, oldest first: of an attempt some 20, for most of its times fit into two bytes and
//! most of its phases have not been. What seldom is there at all (the certificate, the text of what
//! went wrong, the wish to be asked at another time) is held beside it, and shared by attempts in a
//! row that are alike.

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::model::{Certificate, Observation, Outcome};

mod bytes;

use bytes::Packed;

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

/// The attempts. There are at most as many as [`Attempts::push`] is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    packed: Packed,
    /// Beside each attempt, if there is anything beside one of them.
    asides: Option<Box<Asides>>,
}

type Asides = VecDeque<Option<Arc<Aside>>>;

/// What seldom is there.
#[derive(Debug, PartialEq, Eq, Default)]
struct Aside {
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
        let held = self.packed.push(observation, most);
        if aside.is_none() && self.asides.is_none() {
            return;
        }
        let asides = self.asides.get_or_insert_default();
        asides.push_back(aside);
        while asides.len() > held {
            asides.pop_front();
        }
        while asides.len() < held {
            asides.push_front(None);
        }
        if asides.iter().all(Option::is_none) {
            self.asides = None;
        }
    }

    /// All that are held, oldest first. Times are exact to the microsecond; texts are cut, and there
    /// are none of successes.
    pub(super) fn read(&self) -> Vec<Observation> {
        let mut all = self.packed.read();
        for (attempt, aside) in all.iter_mut().zip(self.asides.iter().flat_map(|all| &**all)) {
            if let Some(aside) = aside {
                attempt.certificate.clone_from(&aside.certificate);
                attempt.ask_again = aside.ask_again;
                attempt.detail.clone_from(&aside.text);
            }
        }
        all
    }

    /// What there is to hold beside an attempt: shared with the one before if it is the same.
    fn aside(&self, observation: &Observation) -> Option<Arc<Aside>> {
        let text = text_of(observation);
        let Observation { certificate, ask_again, .. } = observation;
        if text.is_none() && certificate.is_none() && ask_again.is_none() {
            return None;
        }
        let newest = self.asides.as_ref().and_then(|asides| asides.back()?.as_ref());
        let held = newest.filter(|held| {
            held.certificate == *certificate
                && held.ask_again == *ask_again
                && held.text.as_deref() == text
        });
        Some(held.map_or_else(
            || {
                Arc::new(Aside {
                    certificate: certificate.clone(),
                    ask_again: *ask_again,
                    text: text.map(Into::into),
                })
            },
            Arc::clone,
        ))
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        clock::Timestamp,
        model::{Answer, Phase, Phases, Reason},
    };

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
        assert_eq!((attempts.read().len(), attempts.packed.capacity()), (0, 0));
    }

    #[test]
    fn attempts_in_a_row_that_are_alike_share_what_seldom_changes() {
        let mut attempts = Attempts::default();
        for second in 1..=4 {
            attempts.push(&attempt(second, Outcome::Failure(Reason::Status)), 3);
        }
        attempts.push(&attempt(5, Outcome::Success), 3);
        let aside = |index: usize| attempts.asides.as_ref().unwrap()[index].as_ref().unwrap();
        assert!(Arc::ptr_eq(aside(0), aside(1)));
        assert!(!Arc::ptr_eq(aside(1), aside(2)), "a success has no text");
    }

    #[test]
    fn what_is_well_takes_little_and_has_nothing_beside() {
        let well = |second| Observation {
            certificate: None,
            ask_again: None,
            ..attempt(second, Outcome::Success)
        };
        let mut attempts = Attempts::default();
        (1..=20).for_each(|second| attempts.push(&well(second), 5));
        assert_eq!(attempts.read(), (16..=20).map(well).collect::<Vec<_>>());
        assert!(attempts.asides.is_none());
        assert!(attempts.packed.capacity() <= 120, "{}", attempts.packed.capacity());
        assert_eq!(size_of::<Attempts>(), 32);
        attempts.push(&attempt(21, Outcome::Failure(Reason::Status)), 5);
        assert_eq!(attempts.read()[4], attempt(21, Outcome::Failure(Reason::Status)));
        assert_eq!(attempts.read()[3], well(20));
        (22..=26).for_each(|second| attempts.push(&well(second), 5));
        assert!(attempts.asides.is_none(), "what went wrong is forgotten with its attempt");
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
