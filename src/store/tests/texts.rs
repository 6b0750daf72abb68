//! What rows have in common is held once.

use std::sync::Arc;

use crate::store::{
    Store, Unwritten,
    row::{Check, Service, ServiceShape},
};

fn service(id: &str) -> Service {
    let text = |text: &str| Arc::<str>::from(text);
    let shape = ServiceShape {
        node: text("n"),
        name: text("web"),
        tags: [text("primary")].into(),
        ..ServiceShape::default()
    };
    Service {
        id: text(id),
        meta: Arc::new([(text("zone"), text("a"))].into()),
        shape: shape.into(),
        ..Service::default()
    }
}

#[tokio::test]
async fn names_tags_and_metadata_of_many_instances_are_held_once() {
    let store = Store::in_memory();
    let put = store.write(|tx| {
        tx.put(service("1"));
        tx.put(service("2"));
        Ok::<_, Unwritten>(())
    });
    put.await.unwrap();
    let tables = store.read();
    let [one, two] = ["1", "2"].map(|id| Arc::clone(tables.instance("n", id).unwrap()));
    assert_eq!((&*two.name, &*two.tags[0], &*two.meta["zone"]), ("web", "primary", "a"));
    assert!(Arc::ptr_eq(&one.shape, &two.shape));
    assert!(Arc::ptr_eq(&one.node, &two.node));
    assert!(Arc::ptr_eq(&one.name, &two.name));
    assert!(Arc::ptr_eq(&one.tags[0], &two.tags[0]));
    assert!(Arc::ptr_eq(&one.meta["zone"], &two.meta["zone"]));
}

#[tokio::test]
async fn what_subscribers_are_told_is_what_is_held() {
    let store = Store::in_memory();
    let mut told = store.subscribe_now();
    let put = store.write(|tx| {
        tx.put(service("1"));
        Ok::<_, Unwritten>(())
    });
    put.await.unwrap();
    let told = told.next().await.unwrap();
    let Some(crate::store::Row::Service(told)) = &told.changes[0].after else { panic!("{told:?}") };
    assert!(Arc::ptr_eq(told, store.read().instance("n", "1").unwrap()), "a second copy is kept");
}

#[test]
fn rows_stay_small() {
    assert_eq!((size_of::<Service>(), size_of::<Check>()), (80, 128));
}
