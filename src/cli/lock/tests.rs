//! Locks against a store in memory, on a clock of their own; and what goes over the wire.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use anyhow::bail;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    super::{kv::Pair, testing::Daemon},
    acquire::acquire,
    keep::{renew, watch},
    store::{LOCK_FLAGS, Renewal, Since, State},
    *,
};

const TERMS: Terms = Terms { ttl: Duration::from_secs(15), margin: Duration::ZERO };

/// How the daemon does.
#[derive(Debug, Default, Clone, Copy)]
enum Mood {
    #[default]
    Well,
    Refuses,
    Hangs,
    /// Answers after three seconds.
    Slow,
    /// Does what it is asked, and then loses the answer, once.
    Swallows,
}

/// Sessions and keys as the daemon keeps them, and a log of the calls with their seconds.
#[derive(Clone, Default)]
struct Fake {
    world: Rc<RefCell<World>>,
    changed: Rc<Notify>,
}

#[derive(Default)]
struct World {
    mood: Mood,
    index: u64,
    pairs: BTreeMap<String, Pair>,
    sessions: BTreeSet<String>,
    delays: BTreeMap<String, Instant>,
    began: Option<Instant>,
    log: Vec<String>,
}

impl Fake {
    async fn enter(&self, what: &str) -> anyhow::Result<()> {
        let mood = {
            let mut world = self.world.borrow_mut();
            let began = *world.began.get_or_insert_with(Instant::now);
            let at = began.elapsed().as_millis();
            world.log.push(format!("{at} {what}"));
            world.mood
        };
        match mood {
            Mood::Well | Mood::Swallows => Ok(()),
            Mood::Refuses => bail!("connection refused"),
            Mood::Slow => {
                sleep(seconds(3)).await;
                Ok(())
            }
            Mood::Hangs => std::future::pending().await,
        }
    }

    fn set(&self, mood: Mood) {
        self.world.borrow_mut().mood = mood;
    }

    fn session(&self, id: &str) -> Claim {
        self.world.borrow_mut().sessions.insert(id.to_owned());
        Claim { key: "k".to_owned(), session: id.to_owned(), holder: format!("holder {id}") }
    }

    fn delete(&self) {
        let mut world = self.world.borrow_mut();
        world.index += 1;
        world.pairs.remove("k");
        self.changed.notify_waiters();
    }

    fn write(&self, session: Option<&str>, flags: u64) {
        let mut world = self.world.borrow_mut();
        world.index += 1;
        let index = world.index;
        let old = world.pairs.get("k").cloned();
        let lock_index = old.as_ref().map_or(0, |pair| pair.lock_index);
        let pair = Pair {
            lock_index: lock_index + u64::from(session.is_some()),
            key: "k".to_owned(),
            flags,
            value: None,
            session: session.map(str::to_owned),
            create_index: old.map_or(index, |pair| pair.create_index),
            modify_index: index,
        };
        world.pairs.insert("k".to_owned(), pair);
        self.changed.notify_waiters();
    }

    fn state(&self) -> State {
        let world = self.world.borrow();
        State { pair: world.pairs.get("k").cloned(), index: world.index.max(1) }
    }

    fn log(&self) -> Vec<String> {
        self.world.borrow_mut().log.drain(..).collect()
    }
}

impl Store for Fake {
    async fn create(&self, _: &NewSession) -> anyhow::Result<String> {
        bail!("not used")
    }

    async fn renew(&self, session: &str) -> anyhow::Result<Renewal> {
        self.enter("renew").await?;
        let known = self.world.borrow().sessions.contains(session);
        Ok(if known { Renewal::Renewed } else { Renewal::Gone })
    }

    async fn destroy(&self, session: &str) -> anyhow::Result<()> {
        self.world.borrow_mut().sessions.remove(session);
        if self.state().session() == Some(session) {
            let end = Instant::now() + Duration::from_secs(15);
            self.world.borrow_mut().delays.insert("k".to_owned(), end);
            self.write(None, LOCK_FLAGS);
        }
        Ok(())
    }

    async fn read(&self, _: &str, since: Option<Since>) -> anyhow::Result<State> {
        self.enter("read").await?;
        let Some(Since { index, wait }) = since else { return Ok(self.state()) };
        let changed = async {
            while self.state().index <= index {
                self.changed.notified().await;
            }
        };
        drop(timeout(wait, changed).await);
        Ok(self.state())
    }

    async fn acquire(&self, claim: &Claim) -> anyhow::Result<bool> {
        self.enter("acquire").await?;
        let delayed = self.world.borrow().delays.get("k").is_some_and(|end| Instant::now() < *end);
        if delayed || self.state().session().is_some_and(|holder| holder != claim.session) {
            return Ok(false);
        }
        self.write(Some(&claim.session), LOCK_FLAGS);
        if matches!(self.world.borrow().mood, Mood::Swallows) {
            self.world.borrow_mut().mood = Mood::Well;
            bail!("connection reset");
        }
        Ok(true)
    }

    async fn release(&self, claim: &Claim) -> anyhow::Result<bool> {
        let holds = self.state().session() == Some(&claim.session);
        if holds {
            self.write(None, LOCK_FLAGS);
        }
        Ok(holds)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn index_of(fake: &Fake, claim: &Claim) -> u64 {
    match acquire(fake, claim, Duration::ZERO).await.unwrap() {
        Acquired::Index(index) => index,
        Acquired::Busy(why) => panic!("{why}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_free_lock_is_had_at_once() {
    let fake = Fake::default();
    let claim = fake.session("s-1");
    assert_eq!(index_of(&fake, &claim).await, 1);
    assert_eq!(fake.log(), ["0 read", "0 acquire", "0 read"]);
    let pair = fake.state().pair.unwrap();
    assert_eq!((pair.session.as_deref(), pair.flags), (Some("s-1"), LOCK_FLAGS));
}

#[tokio::test(start_paused = true)]
async fn who_waits_sleeps_until_the_lock_is_free() {
    let fake = Fake::default();
    let (first, second) = (fake.session("s-1"), fake.session("s-2"));
    let held = index_of(&fake, &first).await;
    fake.log();
    let leave = async {
        sleep(seconds(20)).await;
        assert!(fake.release(&first).await.unwrap());
    };
    let (got, ()) = tokio::join!(acquire(&fake, &second, seconds(30)), leave);
    assert_eq!(got.unwrap(), Acquired::Index(held + 2));
    assert_eq!(fake.log(), ["0 read", "100 read", "20000 acquire", "20000 read"]);
}

#[tokio::test(start_paused = true)]
async fn the_token_grows_even_if_the_key_was_deleted() {
    let fake = Fake::default();
    let mut last = 0;
    for session in ["s-1", "s-2", "s-3"] {
        let claim = fake.session(session);
        let index = index_of(&fake, &claim).await;
        assert!(index > last, "{index} after {last}");
        last = index;
        fake.release(&claim).await.unwrap();
        fake.delete();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_gives_up_in_time() {
    let fake = Fake::default();
    let (first, second) = (fake.session("s-1"), fake.session("s-2"));
    index_of(&fake, &first).await;
    for patience in [0, 30, 150] {
        let start = Instant::now();
        let got = acquire(&fake, &second, seconds(patience)).await.unwrap();
        assert_eq!(got, Acquired::Busy("session s-1 holds it".to_owned()));
        assert_eq!(start.elapsed(), seconds(patience));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_the_lock_is_had_when_its_delay_is_over() {
    let fake = Fake::default();
    let (first, second) = (fake.session("s-1"), fake.session("s-2"));
    index_of(&fake, &first).await;
    fake.destroy("s-1").await.unwrap();
    let start = Instant::now();
    let got = acquire(&fake, &second, Duration::ZERO).await.unwrap();
    assert_eq!(got, Acquired::Busy("its lock-delay is not over".to_owned()));
    let got = acquire(&fake, &second, seconds(30)).await.unwrap();
    assert!(matches!(got, Acquired::Index(_)));
    assert_eq!(start.elapsed(), seconds(15));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_no_lock_is_left_alone() {
    let fake = Fake::default();
    fake.write(None, 7);
    let error = acquire(&fake, &fake.session("s-1"), seconds(30)).await.unwrap_err();
    assert!(error.to_string().starts_with("\"k\" is not a lock: its flags are 7"), "{error}");
    assert_eq!(fake.log(), ["0 read"]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_answer_was_lost_is_found() {
    let fake = Fake::default();
    fake.set(Mood::Swallows);
    let got = acquire(&fake, &fake.session("s-1"), seconds(30)).await.unwrap();
    assert_eq!(got, Acquired::Index(1));
    assert_eq!(fake.log(), ["0 read", "0 acquire", "1000 read"]);
}

#[tokio::test(start_paused = true)]
async fn errors_are_outlived_while_there_is_time() {
    let fake = Fake::default();
    let claim = fake.session("s-1");
    fake.set(Mood::Refuses);
    let start = Instant::now();
    let error = acquire(&fake, &claim, seconds(3)).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), start.elapsed()), ("connection refused", seconds(3)));
    let recover = async {
        sleep(seconds(5)).await;
        fake.set(Mood::Well);
    };
    let (got, ()) = tokio::join!(acquire(&fake, &claim, seconds(30)), recover);
    assert_eq!(got.unwrap(), Acquired::Index(1));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_at_thirds_of_its_ttl() {
    let fake = Fake::default();
    let claim = fake.session("s-1");
    let start = Instant::now();
    fake.world.borrow_mut().began = Some(start);
    let renewing = renew(&fake, &claim.session, TERMS, start);
    assert!(timeout(seconds(21), renewing).await.is_err());
    assert_eq!(fake.log(), ["5000 renew", "10000 renew", "15000 renew", "20000 renew"]);
}

/// Loses the daemon behind the renewal at 10 s, and tells when and how the lock is lost.
async fn lost_after(mood: Mood, margin: u64) -> (u64, String) {
    let fake = Fake::default();
    let claim = fake.session("s-1");
    let start = Instant::now();
    let terms = Terms { margin: seconds(margin), ..TERMS };
    let vanish = async {
        sleep(seconds(11)).await;
        fake.set(mood);
    };
    let (lost, ()) = tokio::join!(renew(&fake, &claim.session, terms, start), vanish);
    (start.elapsed().as_secs(), lost.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_daemon_out_of_reach_costs_the_lock_one_ttl_after_the_last_renewal() {
    let refused = "its session could not be renewed for 15s: connection refused";
    assert_eq!(lost_after(Mood::Refuses, 0).await, (25, refused.to_owned()));
    let hangs = "its session could not be renewed for 15s: the daemon does not answer";
    assert_eq!(lost_after(Mood::Hangs, 0).await, (25, hangs.to_owned()));
    assert_eq!(lost_after(Mood::Refuses, 5).await.0, 20);
}

#[tokio::test(start_paused = true)]
async fn what_counts_is_when_a_renewal_was_sent() {
    let fake = Fake::default();
    fake.set(Mood::Slow);
    let claim = fake.session("s-1");
    let start = Instant::now();
    let vanish = async {
        sleep(seconds(14)).await;
        fake.set(Mood::Refuses);
    };
    tokio::join!(renew(&fake, &claim.session, TERMS, start), vanish);
    assert_eq!(start.elapsed(), seconds(25));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_was_asleep_does_not_ask_first() {
    let fake = Fake::default();
    let start = Instant::now();
    fake.session("s-1");
    // We were asleep for longer than the session lasts.
    tokio::time::advance(seconds(15)).await;
    let lost = renew(&fake, "s-1", TERMS, start).await;
    assert!(matches!(lost, Lost::Silent { .. }), "{lost}");
    assert!(fake.log().is_empty(), "the command is stopped before anybody is asked");
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_outlived() {
    let fake = Fake::default();
    let claim = fake.session("s-1");
    let start = Instant::now();
    fake.world.borrow_mut().began = Some(start);
    let outage = async {
        sleep(seconds(9)).await;
        fake.set(Mood::Refuses);
        sleep(Duration::from_millis(2500)).await;
        fake.set(Mood::Well);
    };
    let renewing = timeout(seconds(18), renew(&fake, &claim.session, TERMS, start));
    assert!(tokio::join!(renewing, outage).0.is_err());
    let times = ["5000 renew", "10000 renew", "11000 renew", "12000 renew", "17000 renew"];
    assert_eq!(fake.log(), times);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_gone_is_noticed_at_the_next_renewal() {
    let fake = Fake::default();
    let start = Instant::now();
    assert_eq!(renew(&fake, "unknown", TERMS, start).await, Lost::Session);
    assert_eq!(start.elapsed(), seconds(5));
}

/// Holds the lock, does this after 40 s, and tells when and how the loss is noticed.
async fn noticed(change: impl AsyncFn(&Fake)) -> (u64, Lost) {
    let fake = Fake::default();
    let claim = fake.session("s-1");
    let index = index_of(&fake, &claim).await;
    let start = Instant::now();
    let change = async {
        sleep(seconds(40)).await;
        change(&fake).await;
    };
    let (lost, ()) = tokio::join!(watch(&fake, &claim, index), change);
    (start.elapsed().as_secs(), lost)
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_noticed_at_once() {
    let taken = noticed(async |fake| fake.write(Some("s-2"), LOCK_FLAGS)).await;
    assert_eq!(taken, (40, Lost::Taken("s-2".to_owned())));
    assert_eq!(noticed(async |fake| fake.delete()).await, (40, Lost::Deleted));
    let destroyed = noticed(async |fake| fake.destroy("s-1").await.unwrap()).await;
    assert_eq!(destroyed, (40, Lost::Released));
}

#[tokio::test(start_paused = true)]
async fn neither_errors_nor_other_writes_are_a_loss() {
    let lost = noticed(async |fake| {
        fake.write(Some("s-1"), LOCK_FLAGS);
        sleep(seconds(1)).await;
        fake.set(Mood::Refuses);
        sleep(seconds(60)).await;
        fake.set(Mood::Well);
        sleep(seconds(19)).await;
        fake.delete();
    })
    .await;
    assert_eq!(lost, (120, Lost::Deleted));
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn terms(options: &str) -> Result<Terms, String> {
    use clap::Parser as _;
    let line = format!("lock k {options} -- true");
    Line::parse_from(line.split_whitespace()).args.terms().map_err(|error| error.to_string())
}

#[test]
fn the_grace_that_the_delay_does_not_cover_is_taken_from_the_ttl() {
    assert_eq!(terms(""), Ok(TERMS));
    let early = Terms { margin: seconds(5), ..TERMS };
    assert_eq!(terms("--lock-delay 0s"), Ok(early));
    assert_eq!(
        terms("--lock-delay 1s --shutdown-grace 10s").unwrap_err(),
        "--shutdown-grace 10s is too long: at most --lock-delay and a third of --ttl, 6s"
    );
    assert_eq!(terms("--ttl 0s").unwrap_err(), "--ttl must be more than zero");
}

#[tokio::test]
async fn over_the_wire_it_is_consuls_api() {
    let pair = r#"[{"LockIndex":1,"Key":"k","Flags":3304740253564472344,"Value":null,
        "CreateIndex":10,"ModifyIndex":17}]"#;
    let daemon = Daemon::answering(&[
        (200, r#"{"ID":"s-1"}"#),
        (200, pair),
        (200, "true"),
        (404, ""),
        (200, "[]"),
        (404, "Session id 's-1' not found"),
        (500, "No cluster leader"),
        (200, "false"),
        (200, "true"),
    ])
    .await;
    let client = daemon.client();
    let wanted = NewSession::new("me", seconds(90), Duration::ZERO);
    assert_eq!(client.create(&wanted).await.unwrap(), "s-1");
    let claim = Claim { key: "a/k".into(), session: "s-1".into(), holder: "me".into() };
    let state = client.read("a/k", None).await.unwrap();
    assert_eq!((state.session(), state.index), (None, 42));
    assert!(client.acquire(&claim).await.unwrap());
    let since = Since { index: 17, wait: Duration::ZERO };
    assert!(client.read("a/k", Some(since)).await.unwrap().pair.is_none());
    assert_eq!(client.renew("s-1").await.unwrap(), Renewal::Renewed);
    assert_eq!(client.renew("s-1").await.unwrap(), Renewal::Gone);
    let error = client.renew("s-1").await.unwrap_err().to_string();
    assert!(error.ends_with("answered 500 Internal Server Error: No cluster leader"), "{error}");
    assert!(!client.release(&claim).await.unwrap());
    client.destroy("s-1").await.unwrap();
    let flags = "flags=3304740253564472344";
    assert_eq!(
        daemon.asked(),
        [
            r#"PUT /v1/session/create {"Name":"me","TTL":"90s","LockDelay":"0s","Behavior":"release"}"#,
            "GET /v1/kv/a%2Fk?consistent=",
            &format!("PUT /v1/kv/a%2Fk?acquire=s-1&{flags} me"),
            "GET /v1/kv/a%2Fk?consistent=&index=17&wait=1ms",
            "PUT /v1/session/renew/s-1",
            "PUT /v1/session/renew/s-1",
            "PUT /v1/session/renew/s-1",
            &format!("PUT /v1/kv/a%2Fk?release=s-1&{flags} me"),
            "PUT /v1/session/destroy/s-1",
        ]
    );
}
