//! What the store says it has done is what it has done.

use std::sync::Arc;

use crate::store::{Rows, Store, Unwritten, row::Pair};

async fn put(store: &Store, key: &str) {
    let pair = Pair { key: key.into(), ..Pair::default() };
    let written = store.write(|tx| Ok::<_, Unwritten>(tx.put(pair)));
    written.await.unwrap();
}

#[tokio::test]
async fn changes_commits_and_the_log_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, keeper) = Store::open(folder.path()).unwrap();
    put(&store, "a").await;
    put(&store, "a").await;
    put(&store, "b").await;
    let totals = store.totals();
    assert_eq!(totals.changes, 2, "the second changed nothing");
    assert_eq!(totals.commits.counts.iter().sum::<u64>(), 2);
    assert_eq!(store.read().count(), Rows { pairs: 2, ..Rows::default() });
    assert_eq!((totals.failures, totals.snapshot_failures), (0, 0));
    drop(keeper);
    let written = store.totals().log_bytes;
    assert!(written > 0);
    drop(store);
    let (store, _keeper): (Arc<Store>, _) = Store::open(folder.path()).unwrap();
    assert_eq!(store.totals().log_bytes, written, "what a start has read counts too");
}
