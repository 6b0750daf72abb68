//! What is acknowledged is on disk, and what cannot be put there has not happened.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::store::{
    Keeper, Key, Row, Seen, Store, Topic, Unwritten,
    log::{self, Disk, Os},
    replay,
    row::{Check, Coordinate, Health, Node, Pair, Service, ServiceShape, Stamp},
};

/// A disk that can be full.
#[derive(Debug, Default, Clone)]
struct Shaky(Arc<AtomicBool>);

impl Shaky {
    fn fails(&self, fails: bool) {
        self.0.store(fails, Relaxed);
    }

    fn step(&self) -> io::Result<()> {
        if self.0.load(Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for Shaky {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step().and_then(|()| Os.create(path))
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.step().and_then(|()| Os.write(file, bytes, offset))
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        // The tests end processes, not machines.
        self.step()
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step().and_then(|()| Os.rename(from, to))
    }

    fn sync_names(&self, _: &File) -> io::Result<()> {
        self.step()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }
}

/// A store whose log is cut into small pieces, with a snapshot every so many bytes.
fn open(directory: &Path, disk: &Shaky, snapshot_after: u64) -> (Arc<Store>, Keeper) {
    let options = log::Options { segment_bytes: 4096, ahead_bytes: 512 };
    let opened =
        replay::open(|each| log::open_on(Box::new(disk.clone()), directory, options, each));
    let (log, tables) = opened.unwrap();
    Store::on(log, tables, snapshot_after).unwrap()
}

/// All rows by their names: the store has no order for checks.
fn rows(store: &Store) -> Vec<Row> {
    let mut rows = store.read().rows();
    rows.sort_by_key(Row::key);
    rows
}

fn pair(key: &str, value: &str) -> Pair {
    Pair { key: key.into(), value: value.as_bytes().into(), ..Pair::default() }
}

async fn set(store: &Store, key: &str, value: &str) -> Result<(), Unwritten> {
    let written = store.write(|tx| {
        tx.put(pair(key, value));
        Ok(())
    });
    written.await
}

fn value(store: &Store, key: &str) -> Option<String> {
    let tables = store.read();
    tables.pair(key).map(|pair| String::from_utf8_lossy(&pair.value).into_owned())
}

#[tokio::test]
async fn a_write_that_cannot_be_put_on_disk_has_not_happened_and_the_next_may() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Shaky::default());
    let (store, keeper) = open(folder.path(), &disk, u64::MAX);
    set(&store, "a", "1").await.unwrap();
    let index = store.read().index();
    let mut listener = store.listen(&[Topic::Pair("a".into())]);
    disk.fails(true);
    let failed = set(&store, "a", "2").await.unwrap_err();
    assert!(failed.0.to_string().starts_with("cannot "), "{}", failed.0);
    assert_eq!(value(&store, "a").as_deref(), Some("1"), "it has been taken back");
    assert_eq!(store.read().index(), index);
    listener.changed().await;
    disk.fails(false);
    set(&store, "b", "3").await.unwrap();
    drop(keeper);
    drop(store);
    let (store, _keeper) = open(folder.path(), &disk, u64::MAX);
    assert_eq!(value(&store, "a").as_deref(), Some("1"));
    assert_eq!(value(&store, "b").as_deref(), Some("3"));
}

#[tokio::test]
async fn a_reader_of_what_is_taken_back_is_told_to_read_again() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Shaky::default());
    let (store, _keeper) = open(folder.path(), &disk, u64::MAX);
    set(&store, "a", "1").await.unwrap();
    let before = store.read().seen();
    assert!(store.settled(before).await, "what is on disk is settled");
    disk.fails(true);
    // The thread that writes may be done with it before we look further, or not.
    let seen = Seen { index: before.index + 1, ..before };
    let (written, settled) = tokio::join!(set(&store, "a", "2"), store.settled(seen));
    assert!(written.is_err());
    assert!(!settled);
    assert!(!store.settled(seen).await, "whoever asks late is told as well");
}

#[tokio::test]
async fn a_closed_store_takes_no_writes() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Shaky::default());
    let (store, keeper) = open(folder.path(), &disk, u64::MAX);
    drop(keeper);
    let refused = set(&store, "a", "1").await.unwrap_err();
    assert_eq!(refused.0.to_string(), "the store is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_and_snapshots_at_once_lose_nothing() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), Shaky::default());
    let (store, keeper) = open(folder.path(), &disk, 10_000);
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for n in 0..100 {
                set(&store, &format!("{writer}/{n}"), "x").await.unwrap();
                set(&store, &format!("{writer}"), &n.to_string()).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let (rows, index) = (rows(&store), store.read().index());
    assert_eq!(rows.len(), 16 * 101);
    drop(keeper);
    drop(store);
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let snapshots = names.filter(|name| name.to_string_lossy().starts_with("snapshot-")).count();
    assert!(snapshots > 0, "snapshots were taken meanwhile");
    let (store, _keeper) = open(folder.path(), &disk, 10_000);
    assert_eq!(self::rows(&store), rows);
    assert_eq!(store.read().index(), index);
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8),
    Unset(u8),
    Instance(u8, u8),
    Judge(u8, bool),
    Forget(u8),
    /// The node says where it is, in one of its segments.
    Place(u8, u8),
    /// The node goes, with all that is on it.
    Leave,
    /// The process ends in order.
    Close,
    /// The process ends without a word.
    Crash,
    /// The disk is full for one write.
    Full,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_u8, 0..9_u8).prop_map(|(key, value)| Step::Set(key, value)),
        2 => (0..5_u8).prop_map(Step::Unset),
        4 => (0..4_u8, 0..3_u8).prop_map(|(id, name)| Step::Instance(id, name)),
        4 => (0..4_u8, any::<bool>()).prop_map(|(id, passes)| Step::Judge(id, passes)),
        2 => (0..4_u8).prop_map(Step::Forget),
        2 => (0..2_u8, 0..5_u8).prop_map(|(segment, place)| Step::Place(segment, place)),
        1 => Just(Step::Leave),
        1 => Just(Step::Close),
        1 => Just(Step::Crash),
        1 => Just(Step::Full),
    ]
}

async fn make(store: &Store, step: &Step) {
    let node: Arc<str> = "n".into();
    let id = |id: &u8| -> Arc<str> { format!("web-{id}").into() };
    let written = store.write(|tx| {
        tx.put(Node { name: Arc::clone(&node), ..Node::default() });
        match step {
            Step::Set(key, value) => {
                tx.put(pair(&key.to_string(), &value.to_string()));
            }
            Step::Unset(key) => {
                tx.delete(Key::Pair(key.to_string().into()));
            }
            Step::Instance(n, name) => {
                let name = format!("service-{name}").into();
                let shape = ServiceShape { name, ..ServiceShape::default() };
                let shape = shape.into();
                tx.put(Service { id: id(n), shape, ..Service::default() }.on(&node));
            }
            Step::Judge(n, passes) if tx.instance("n", &id(n)).is_some() => {
                let status = if *passes { Health::Passing } else { Health::Critical };
                let (check, service) = (format!("check-{n}").into(), id(n));
                tx.put(Check { id: check, service, status, ..Check::default() }.on(&node));
            }
            Step::Forget(n) => {
                tx.delete(Key::Service(Arc::clone(&node), id(n)));
            }
            Step::Place(segment, place) => {
                let (node, segment) = (Arc::clone(&node), segment.to_string().into());
                let vec = vec![f64::from(*place) / 3.0; 8];
                tx.put(Coordinate { node, segment, vec, ..Coordinate::default() });
            }
            Step::Leave => {
                tx.delete(Key::Node(Arc::clone(&node)));
            }
            Step::Judge(..) | Step::Close | Step::Crash | Step::Full => {}
        }
        Ok::<_, Unwritten>(())
    });
    written.await.unwrap();
}

/// What a process that ends now leaves behind. Snapshots are written meanwhile: a copy during which
/// files came and went is of no moment, and made again.
fn leave(from: &Path) -> TempDir {
    let names = || -> BTreeSet<_> {
        fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    loop {
        let (to, before) = (tempfile::tempdir().unwrap(), names());
        let mut copies = before.iter().map(|name| fs::copy(from.join(name), to.path().join(name)));
        if copies.all(|copied| copied.is_ok()) && names() == before {
            return to;
        }
    }
}

/// Everything that can be looked up must be found by every way to it.
fn check_lookups(store: &Store) {
    let tables = store.read();
    for row in tables.rows() {
        assert_eq!(tables.row(&row.key()), Some(row.clone()));
        if let Row::Check(check) = row {
            let of_instance = tables.instance_checks("n", &check.service);
            assert!(of_instance.into_iter().any(|found| found.id == check.id), "{check:?}");
        }
    }
    assert_eq!(tables.services().count(), tables.instances_on("n").count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The model is a store that keeps nothing on disk and never ends.
    #[test]
    fn a_store_that_ends_and_begins_is_one_that_never_ended(steps in vec(step(), 1..60)) {
        let disk = Shaky::default();
        let mut folder = tempfile::tempdir().unwrap();
        let model = Store::in_memory();
        let mut opened = Some(open(folder.path(), &disk, 2000));
        let store = |opened: &Option<(Arc<Store>, Keeper)>| Arc::clone(&opened.as_ref().unwrap().0);
        Runtime::new().unwrap().block_on(async {
            for step in &steps {
                let index = store(&opened).read().index();
                match step {
                    Step::Close => {
                        drop(opened.take());
                        opened = Some(open(folder.path(), &disk, 2000));
                    }
                    Step::Crash => {
                        let left = leave(folder.path());
                        drop(opened.take());
                        folder = left;
                        opened = Some(open(folder.path(), &disk, 2000));
                    }
                    Step::Full => {
                        disk.fails(true);
                        set(&store(&opened), "never", "written").await.unwrap_err();
                        disk.fails(false);
                    }
                    Step::Set(..)
                    | Step::Unset(_)
                    | Step::Instance(..)
                    | Step::Judge(..)
                    | Step::Forget(_)
                    | Step::Place(..)
                    | Step::Leave => {
                        make(&model, step).await;
                        make(&store(&opened), step).await;
                    }
                }
                assert!(store(&opened).read().index() >= index, "the index goes back after {step:?}");
            }
        });
        let opened = store(&opened);
        check_lookups(&opened);
        let bare = |store: &Store| -> Vec<Row> {
            rows(store).into_iter().map(|row| row.stamped(Stamp::default())).collect()
        };
        prop_assert_eq!(bare(&opened), bare(&model));
    }
}
