//! Ids, closed sets, phases.

use super::*;

#[test]
fn an_id_is_refused_when_empty_too_long_or_with_control_characters() {
    assert_eq!("".parse::<InstanceId>(), Err(IdError::Empty));
    assert_eq!("x".repeat(513).parse::<InstanceId>(), Err(IdError::TooLong(513)));
    assert!("x".repeat(512).parse::<InstanceId>().is_ok());
    assert_eq!("a\u{1b}[2J".parse::<InstanceId>(), Err(IdError::Control('\u{1b}')));
    assert_eq!("web/1:a b".parse::<InstanceId>().map(|id| id.to_string()), Ok("web/1:a b".into()));
}

#[test]
fn closed_sets_are_indexed_by_their_position() {
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(reason.index(), index);
        assert_eq!(Reason::from_index(index), Some(*reason));
    }
    assert_eq!(Reason::from_index(Reason::COUNT), None);
}

#[test]
fn phases_add_up_by_phase() {
    let mut phases = Phases::default();
    phases.add(Phase::Tls, Duration::from_millis(2));
    phases.add(Phase::Tls, Duration::from_millis(3));
    assert_eq!(phases.get(Phase::Tls), Duration::from_millis(5));
    assert_eq!(phases.get(Phase::Connect), Duration::ZERO);
}
