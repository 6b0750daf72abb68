//! The system's resolver: what its errors mean, and how look-ups share their places.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::{FutureExt as _, future::join_all};

use super::*;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn system(asking: fn(&str) -> io::Result<Vec<IpAddr>>) -> System {
    System { asking, ..System::default() }
}

#[test]
fn only_a_name_that_is_not_there_counts_against_the_target() {
    let said = |text: &str| {
        judge("shop", Err(io::Error::other(format!("failed to look up: {text}")))).unwrap_err()
    };
    for text in [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ] {
        assert!(matches!(said(text), Miss::Absent(_)), "{text}");
    }
    for text in [
        "Temporary failure in name resolution",
        "Non-recoverable failure in name resolution",
        "Try again",
        "System error",
        "what nobody has seen yet",
    ] {
        assert!(matches!(said(text), Miss::Unknown(_)), "{text}");
    }
    let files = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
    assert!(matches!(judge("shop", Err(files)), Err(Miss::Unknown(_))));
    assert!(matches!(judge("shop", Ok(Vec::new())), Err(Miss::Absent(_))));
}

#[tokio::test]
async fn look_ups_wait_for_one_another_when_too_many_are_under_way() {
    let system = System::default();
    let held = Arc::clone(&system.places).acquire_many_owned(64).await.unwrap();
    let name = "a".repeat(64).into();
    let mut found = Box::pin(system.find(&name));
    assert!((&mut found).now_or_never().is_none());
    drop(held);
    // No resolver need be asked: no label is this long.
    let missed = found.await;
    assert!(missed.is_err(), "{missed:?}");
    while system.places.available_permits() < MAX_RUNNING {
        task::yield_now().await;
    }
    assert!(lock(&system.under_way).is_empty());
}

#[tokio::test]
async fn all_who_ask_for_a_name_wait_for_one_look_up() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let system = system(|_| {
        ASKED.fetch_add(1, Relaxed);
        Ok(vec![HOME])
    });
    let held = Arc::clone(&system.places).acquire_many_owned(64).await.unwrap();
    let name = Arc::from("shop.example");
    let mut all = Box::pin(join_all([system.find(&name), system.find(&name), system.find(&name)]));
    assert!((&mut all).now_or_never().is_none());
    drop(held);
    assert_eq!(all.await, vec![Ok(vec![HOME]); 3]);
    assert_eq!(ASKED.load(Relaxed), 1);
}

#[tokio::test]
async fn who_waits_for_a_look_up_that_nobody_begins_begins_it() {
    let system = system(|_| Ok(vec![HOME]));
    let held = Arc::clone(&system.places).acquire_many_owned(64).await.unwrap();
    let name = Arc::from("shop.example");
    let (mut first, mut second) = (Box::pin(system.find(&name)), Box::pin(system.find(&name)));
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    drop((first, held));
    assert_eq!(second.await, Ok(vec![HOME]));
}

#[tokio::test]
async fn a_slow_look_up_takes_one_place_however_often_its_name_is_asked_for() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static BLOCKED: Mutex<()> = Mutex::new(());
    let system = system(|_| {
        drop(BLOCKED.lock().unwrap());
        ASKED.fetch_add(1, Relaxed);
        Ok(vec![HOME])
    });
    let name = Arc::from("slow.example");
    let mut last = Box::pin(system.find(&name));
    {
        let _blocked = BLOCKED.lock().unwrap();
        for _ in 0..3 {
            // Their probes run out of time.
            assert!(system.find(&name).now_or_never().is_none());
        }
        assert!((&mut last).now_or_never().is_none());
        assert_eq!(system.places.available_permits(), MAX_RUNNING - 1);
    }
    assert_eq!(last.await, Ok(vec![HOME]));
    assert_eq!(ASKED.load(Relaxed), 1);
}

#[tokio::test]
async fn names_of_the_api_leave_half_the_places() {
    static BLOCKED: Mutex<()> = Mutex::new(());
    let system = system(|name| {
        if name.starts_with("slow") {
            drop(BLOCKED.lock().unwrap());
        }
        Ok(vec![HOME])
    });
    let api = system.for_api();
    {
        let _blocked = BLOCKED.lock().unwrap();
        for n in 0..MAX_RUNNING {
            let name = Arc::from(format!("slow{n}.example"));
            assert!(api.find(&name).now_or_never().is_none());
        }
        assert_eq!(system.places.available_permits(), MAX_RUNNING / 2);
        // Of the same name, too: it is not behind the API's.
        assert!(system.find(&Arc::from("slow63.example")).now_or_never().is_none());
        assert_eq!(system.places.available_permits(), MAX_RUNNING / 2 - 1);
    }
    assert_eq!(system.find(&Arc::from("shop.example")).await, Ok(vec![HOME]));
}
