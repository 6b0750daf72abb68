//! Slots read back what was put into them.

use std::sync::Arc;

use super::{class::BOUNDS_NANOS, *};
use crate::{judge::Maintenance, model::Certificate};

fn observation(outcome: Outcome, millis: u64) -> Observation {
    let started = Timestamp::from_seconds(100);
    Observation {
        answer: Answer::Http(200),
        detail: outcome.reason().map(|reason| reason.as_str().into()),
        ..Observation::new(started, Duration::from_millis(millis), outcome)
    }
}

#[test]
fn a_slot_overwritten_with_a_reading_reads_the_same() {
    let slot = Slot::default();
    let mut refused = observation(Outcome::Failure(Reason::TlsName), 7);
    refused.certificate = Some(Arc::new(Certificate {
        start: Timestamp::from_seconds(1),
        expiry: Timestamp::from_seconds(9),
        chain_expiry: Timestamp::from_seconds(8),
        is_for_name: false,
        subject: "CN=a".into(),
        issuer: "CN=b".into(),
    }));
    slot.record(&refused, 5);
    slot.judged(&Machine::restore(Verdict::Critical, Streak::Failures(3), Maintenance::Off));
    slot.changed(Timestamp::from_seconds(101));
    let facts = slot.read();
    assert_eq!(facts.failures, 1);
    assert_eq!(facts.certificate_expiry, Some(Timestamp::from_seconds(9)));
    assert_eq!(facts.chain_expiry, Some(Timestamp::from_seconds(8)));
    assert_eq!(facts.last_outcome, Some(Outcome::Failure(Reason::TlsName)));
    assert_eq!(facts.streak, Streak::Failures(3));
    let other = Slot::default();
    other.overwrite(&facts);
    assert_eq!(other.read(), facts);
    assert_eq!(other.attempts(), []);
    other.inherit(&slot);
    assert_eq!((other.read(), other.attempts()), (facts, slot.attempts()));
    assert_eq!(other.attempts().len(), 1);
}

#[test]
fn a_check_costs_little_beside_its_attempts() {
    assert_eq!(size_of::<Slot>(), 160);
}

#[test]
fn the_text_of_a_failure_goes_with_the_next_success() {
    let slot = Slot::default();
    slot.record(&observation(Outcome::Failure(Reason::Status), 1), 5);
    assert_eq!(slot.read().detail.as_deref(), Some("status"));
    slot.record(&observation(Outcome::Success, 1), 5);
    assert_eq!(slot.read().detail, None);
}

#[test]
fn the_text_of_a_success_goes_with_the_next_one_without() {
    let slot = Slot::default();
    let said = Observation { detail: Some("ok".into()), ..observation(Outcome::Success, 1) };
    slot.record(&said, 5);
    assert_eq!(slot.read().detail.as_deref(), Some("ok"));
    slot.record(&observation(Outcome::Success, 1), 5);
    assert_eq!(slot.read().detail, None);
}

#[test]
fn a_probe_that_says_anything_else_than_the_one_before_is_told_apart() {
    let slot = Slot::default();
    let saying = |text: Option<&str>| Observation {
        detail: text.map(Into::into),
        ..observation(Outcome::Success, 1)
    };
    let texts = [None, None, Some("a"), Some("a"), Some("b"), None, None];
    let told = texts.map(|text| slot.record(&saying(text), 5));
    assert_eq!(told, [true, false, true, false, true, true, false]);
    assert!(slot.record(&observation(Outcome::Failure(Reason::Status), 1), 5));
    assert!(!slot.record(&observation(Outcome::Failure(Reason::Status), 2), 5));
    assert!(slot.record(&observation(Outcome::Failure(Reason::TlsName), 2), 5));
}

#[test]
fn every_outcome_and_answer_survives_its_encoding() {
    let outcomes = Reason::ALL
        .iter()
        .flat_map(|r| [Outcome::Warning(*r), Outcome::Failure(*r), Outcome::Inconclusive(*r)])
        .chain([Outcome::Success]);
    for outcome in outcomes {
        assert_eq!(decode_outcome(encode_outcome(Some(outcome))), Some(outcome));
    }
    let answers = Serving::ALL.iter().map(|s| Answer::Grpc(*s)).chain([
        Answer::None,
        Answer::Http(1),
        Answer::Http(599),
        Answer::Http(u16::MAX),
    ]);
    for answer in answers {
        assert_eq!(decode_answer(encode_answer(answer)), answer);
    }
}

#[test]
fn durations_fall_into_their_buckets_with_bounds_inclusive() {
    let class = ClassSlot::default();
    for millis in [0, 5, 6, 30_000, 30_001] {
        class.record(&observation(Outcome::Success, millis));
    }
    let totals = class.read();
    assert_eq!(totals.buckets[0], 2);
    assert_eq!(totals.buckets[1], 1);
    assert_eq!(totals.buckets[11], 1);
    assert_eq!(totals.buckets[12], 1);
    assert_eq!(totals.total, Duration::from_millis(60_012));
    assert_eq!(totals.codes, [(200, 5)]);
    for (seconds, bound) in DURATION_BUCKETS.iter().zip(BOUNDS_NANOS) {
        assert_eq!(Duration::from_secs_f64(*seconds), Duration::from_nanos(bound));
    }
}

#[test]
fn codes_beyond_the_first_twenty_are_counted_together() {
    let class = ClassSlot::default();
    for code in 100..130 {
        let answer = Answer::Http(code);
        class.record(&Observation { answer, ..observation(Outcome::Success, 1) });
    }
    let codes = class.read().codes;
    assert_eq!(codes.first(), Some(&(0, 10)));
    assert_eq!(codes.len(), 21);
}

#[test]
fn turns_are_counted_until_they_are_taken_and_warnings_are_none() {
    let slot = Slot::default();
    let judged = |verdict| {
        slot.judged(&Machine::restore(verdict, Streak::None, Maintenance::Off));
    };
    judged(Verdict::Critical);
    assert_eq!(slot.take_flips(), 0, "the first verdict");
    for verdict in [Verdict::Passing, Verdict::Warning, Verdict::Critical, Verdict::Critical] {
        judged(verdict);
    }
    assert_eq!((slot.take_flips(), slot.take_flips()), (2, 0));
}

#[test]
fn a_probe_that_says_nothing_is_no_evidence() {
    let slot = Slot::default();
    slot.record(&observation(Outcome::Success, 1), 0);
    slot.grow_stale();
    let later = Timestamp::from_seconds(500);
    let void = Outcome::Inconclusive(Reason::Internal);
    slot.record(&Observation::new(later, Duration::ZERO, void), 0);
    let facts = slot.read();
    assert_eq!((facts.last_started, facts.stale), (Some(later), true));
    assert_eq!(facts.last_conclusive, Some(Timestamp::from_seconds(100)));
    slot.record(&observation(Outcome::Failure(Reason::Status), 1), 0);
    assert!(!slot.read().stale);
}
