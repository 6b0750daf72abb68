//! Changes that could not be put on disk.

use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::store::{Closed, Store, Tables, Topic, Unwritten, row::Node};

#[tokio::test]
async fn what_is_taken_back_never_settles_and_leaves_no_index_behind() {
    let store = Store::of(Tables::default(), true);
    let mut writing = Box::pin(store.write(|tx| {
        tx.put(Node { name: "a".into(), ..Node::default() });
        Ok::<_, Unwritten>(())
    }));
    assert!((&mut writing).now_or_never().is_none(), "it waits for the disk");
    let seen = store.read().index_of(&[Topic::Nodes]);
    store.take_back(store.queue.take(), &Unwritten(Arc::new(Closed)));
    assert!(writing.await.is_err());
    assert!(!store.settled(seen).await, "who has seen it must look again");
    assert!(store.read().node("a").is_none());
    let now = store.read().index_of(&[Topic::Nodes]);
    assert!(now > seen, "two states have one index");
    assert!(store.settled(now).await);
}
