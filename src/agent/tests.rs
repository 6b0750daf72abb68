//! What is registered, stored and published.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::{Agent, register::Terms};
use crate::{
    consul, metrics,
    registry::{Orders, Registry, snapshot::Snapshot},
    store::Store,
};

#[tokio::test]
async fn what_somebody_registers_who_goes_away_is_asked_all_the_same() {
    let ((probed, _asked), (pushed, _told)) = (mpsc::channel(8), mpsc::channel(8));
    let registry = Arc::new(Registry::new(Snapshot::default(), Orders { probed, pushed }));
    let store = Arc::new(Store::in_memory());
    let (agent, _heard) =
        Agent::new("here".into(), store, Arc::clone(&registry), metrics::Daemon::new());
    agent.start("127.0.0.1".parse().unwrap()).await.unwrap();
    let web: consul::ServiceDefinition = consul::decode_json(br#"{"Name":"web"}"#).unwrap();
    {
        let _others_turn = agent.asking.lock().await;
        assert!(agent.register(&web, Terms::default()).now_or_never().is_none());
    }
    assert!(agent.store.read().instance("here", "web").is_some(), "it is registered");
    assert!(registry.instance("web").is_none(), "and not asked yet");
    agent.ask_left().await;
    assert!(registry.instance("web").is_some());
}
