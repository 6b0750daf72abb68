//! Sessions and the locks that hang on them, at moments the tests choose.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Timestamp,
    store::{
        Key, Tables, Tx,
        kv::Entry,
        row::{Behavior, Check, Health, Node, Session},
        session::Untenable,
    },
};

/// Makes a change at a second of the epoch.
fn at<T>(tables: &mut Tables, second: i64, change: impl FnOnce(&mut Tx<'_>) -> T) -> T {
    let mut tx = Tx::new(tables, Timestamp::from_seconds(second));
    let value = change(&mut tx);
    tx.finish();
    value
}

fn entry(key: &str) -> Entry {
    Entry { key: key.into(), value: Arc::new([]), flags: 0 }
}

fn session(id: &str, delay: Duration) -> Session {
    Session {
        id: id.into(),
        node: "n".into(),
        lock_delay: u64::try_from(delay.as_nanos()).unwrap(),
        ..Session::default()
    }
}

fn check(id: &str, status: Health) -> Check {
    Check { id: id.into(), status, ..Check::default() }.on(&"n".into())
}

fn with_node() -> Tables {
    let mut tables = Tables::default();
    at(&mut tables, 0, |tx| {
        tx.put(Node { name: "n".into(), ..Node::default() });
        tx.put(check("well", Health::Passing));
        tx.put(check("ill", Health::Critical));
    });
    tables
}

/// How long a key held by a session with this lock-delay cannot be acquired after its end.
#[track_caller]
fn delays(given: Duration, seconds: i64) {
    let mut tables = with_node();
    at(&mut tables, 100, |tx| {
        tx.create_session(session("a", given)).unwrap();
        tx.create_session(session("b", given)).unwrap();
        assert_eq!(tx.acquire(entry("k"), "a"), Ok(true));
        tx.destroy_session("a");
        assert_eq!(tx.acquire(entry("k"), "b"), Ok(seconds == 0));
    });
    if seconds > 0 {
        let acquire = |tx: &mut Tx<'_>| tx.acquire(entry("k"), "b");
        assert_eq!(at(&mut tables, 99 + seconds, acquire), Ok(false));
        assert_eq!(at(&mut tables, 100 + seconds, acquire), Ok(true));
    }
}

#[test]
fn a_lock_delay_lasts_as_long_as_asked_and_a_minute_at_most() {
    delays(Duration::ZERO, 0);
    delays(Duration::from_secs(15), 15);
    delays(Duration::from_secs(60), 60);
    delays(Duration::from_secs(3600), 60);
    delays(Duration::from_nanos(u64::MAX), 60);
}

#[test]
fn lock_delays_that_have_passed_are_forgotten_without_a_change() {
    let mut tables = with_node();
    at(&mut tables, 100, |tx| {
        for (id, key, delay) in [("a", "short", 10), ("b", "long", 30)] {
            tx.create_session(session(id, Duration::from_secs(delay))).unwrap();
            assert_eq!(tx.acquire(entry(key), id), Ok(true));
            tx.destroy_session(id);
        }
    });
    let index = tables.index();
    at(&mut tables, 110, |tx| {
        tx.sweep_delays();
    });
    let left: Vec<_> = tables.notes("").map(|note| &*note.name).collect();
    assert_eq!((left, tables.index()), (vec!["delay/long"], index));
}

#[test]
fn an_explicit_release_delays_nobody() {
    let mut tables = with_node();
    at(&mut tables, 100, |tx| {
        for id in ["a", "b"] {
            tx.create_session(session(id, Duration::from_secs(15))).unwrap();
        }
        assert_eq!(tx.acquire(entry("k"), "a"), Ok(true));
        assert!(tx.release(entry("k"), "a"));
        assert_eq!(tx.acquire(entry("k"), "b"), Ok(true));
    });
    assert_eq!(tables.pair("k").unwrap().lock_index, 2);
}

#[test]
fn a_session_that_could_not_live_is_not_made() {
    let mut tables = with_node();
    let index = tables.index();
    let of = |change: &dyn Fn(&mut Session)| {
        let mut session = session("s", Duration::ZERO);
        change(&mut session);
        session
    };
    let refused = [
        (of(&|s| s.node = "other".into()), Untenable::Node),
        (of(&|s| s.node_checks = vec!["x".into()]), Untenable::Check("x".into())),
        (of(&|s| s.service_checks = vec!["x".into()]), Untenable::Check("x".into())),
        (of(&|s| s.node_checks = vec!["ill".into()]), Untenable::Critical("ill".into())),
        (of(&|s| s.ttl = "9999ms".into()), Untenable::TtlOutside(9_999_000_000)),
        (of(&|s| s.ttl = "24h1s".into()), Untenable::TtlOutside(86_401_000_000_000)),
    ];
    for (session, why) in refused {
        assert_eq!(at(&mut tables, 0, |tx| tx.create_session(session)), Err(why));
    }
    assert_eq!(tables.index(), index);
    for ttl in ["", "0s", "10s", "24h"] {
        let session = of(&|s| s.ttl = ttl.into());
        assert_eq!(at(&mut tables, 0, |tx| tx.create_session(session)), Ok(()), "{ttl}");
    }
}

#[test]
fn a_session_ends_with_what_it_is_bound_to_in_the_same_change() {
    let ends: [&dyn Fn(&mut Tx<'_>) -> bool; 3] = [
        &|tx| tx.put(check("well", Health::Critical)),
        &|tx| tx.delete(Key::Check("n".into(), "well".into())),
        &|tx| tx.delete(Key::Node("n".into())),
    ];
    for behavior in [Behavior::Release, Behavior::Delete] {
        for end in ends {
            let mut tables = with_node();
            at(&mut tables, 0, |tx| {
                let bound = Session {
                    behavior,
                    node_checks: vec!["well".into()],
                    ..session("s", Duration::ZERO)
                };
                tx.create_session(bound).unwrap();
                tx.acquire(entry("k"), "s").unwrap();
            });
            let index = tables.index();
            at(&mut tables, 0, |tx| tx.put(check("well", Health::Warning)));
            assert!(tables.session("s").is_some());
            at(&mut tables, 0, end);
            assert!(tables.session("s").is_none());
            assert_eq!(tables.index(), index + 2);
            let left = tables.pair("k").map(|pair| (&*pair.session, pair.stamp.modify));
            let expected = (behavior == Behavior::Release).then_some(("", index + 2));
            assert_eq!(left, expected);
        }
    }
}
