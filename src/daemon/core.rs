//! What the parts share, and starting those that work with it.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Fault, ORDER_DEPTH, stops::Stops};
use crate::{
    agent::{
        Agent,
        pushed::{Engine, Heard},
    },
    api::{Asking, Readiness, ReloadHandle, View},
    clock,
    config::Config,
    doubt::Doubt,
    event,
    leases::{self, Renewer},
    metrics,
    monitor::Monitor,
    probe::{Network, Prober as _, egress::Policy},
    registry::{Order, Orders, Registry, snapshot::Snapshot},
    scheduler::{Pulse, Scheduler},
    store::{Keeper, Store},
    tasks::Tasks,
    telemetry::Streams,
    vantage::Vantage,
};

/// The far ends of the registry's orders.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) probed: mpsc::Receiver<Vec<Order>>,
    pub(super) pushed: mpsc::Receiver<Vec<Order>>,
    pub(super) heard: mpsc::Receiver<Heard>,
    pub(super) sessions: leases::Keeper,
}

/// What the parts share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) store: Arc<Store>,
    pub(super) agent: Arc<Agent>,
    pub(super) leases: Renewer,
    pub(super) registry: Arc<Registry>,
    pub(super) events: event::Log,
    pub(super) metrics: metrics::Daemon,
    pub(super) doubt: Doubt,
    pub(super) readiness: watch::Sender<Readiness>,
    /// Told by the API that the daemon is to stop.
    pub(super) leave: CancellationToken,
    attempts: metrics::Kept,
    network: Network,
}

impl Core {
    pub(super) fn new(config: &Config, store: Arc<Store>, remembered: Snapshot) -> (Self, Ordered) {
        let (probed, orders) = mpsc::channel(ORDER_DEPTH);
        let (pushed, told) = mpsc::channel(ORDER_DEPTH);
        let registry = Arc::new(Registry::new(remembered, Orders { probed, pushed }));
        let node = config.node_name.as_str().into();
        let metrics = metrics::Daemon::new();
        let events = event::Log::new(config.event_history);
        let doubt = Doubt::new(config.self_health.abstain_at);
        let (agent, heard) = Agent::new(
            node,
            Arc::clone(&store),
            Arc::clone(&registry),
            (metrics.clone(), events.clone()),
        );
        let agent = agent.trusting(doubt.clone());
        agent.brake_by(config.guard.clone(), config.damping.clone());
        let (leases, sessions) = leases::leases(Arc::clone(&store), metrics.clone());
        let core = Self {
            agent: Arc::new(agent),
            store,
            leases,
            registry,
            events,
            metrics,
            doubt,
            readiness: watch::Sender::new(Readiness::Starting),
            leave: CancellationToken::new(),
            attempts: config.explain_attempts,
            network: Network::new(Policy::new(&config.egress))
                .with_api_egress(Policy::for_api(&config.egress)),
        };
        (core, Ordered { probed: orders, pushed: told, heard, sessions })
    }

    pub(super) fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.registry), self.events.clone(), self.metrics.clone())
            .keeping(self.attempts)
    }

    pub(super) fn start_scheduler(
        &self,
        config: &Config,
        orders: mpsc::Receiver<Vec<Order>>,
        stops: &Stops,
        tasks: &mut Tasks,
    ) -> Result<Pulse, Fault> {
        let (monitor, metrics) = (self.monitor(), self.metrics.clone());
        let doubt = self.doubt.clone();
        Scheduler { prober: self.network.clone(), monitor, metrics, doubt }
            .start(&config.scheduler, orders, (stops.probing.clone(), &stops.cut), tasks)
            .map_err(Fault::Thread)
    }

    /// Lets the daemon watch itself, on a thread of its own.
    pub(super) fn start_vantage(
        &self,
        config: &Config,
        stop: CancellationToken,
        tasks: &mut Tasks,
    ) -> Result<(), Fault> {
        let vantage = Vantage {
            own: Network::new(Policy::unrestricted()),
            prober: Network::new(Policy::new(&config.egress)),
            doubt: self.doubt.clone(),
            metrics: self.metrics.clone(),
        };
        let config = config.self_health.clone();
        tasks.spawn_thread("vantage", move || vantage.run(config, stop)).map_err(Fault::Thread)
    }

    /// Lets the agent take up what was registered before, and starts what it does beside that.
    pub(super) async fn start_agent(
        &self,
        config: &Config,
        (pushed, heard): (mpsc::Receiver<Vec<Order>>, mpsc::Receiver<Heard>),
        keeper: &mut Keeper,
        (stops, tasks): (&Stops, &mut Tasks),
    ) -> Result<(), Fault> {
        let end = || stops.listening.clone();
        let agent = || Arc::clone(&self.agent);
        let (ended, stop) = (keeper.ended(), end());
        tasks.spawn("store", async move {
            tokio::select! {
                () = ended => {}
                () = stop.cancelled() => {}
            }
        });
        self.agent.recall(&self.events);
        let (kept, capacity) = (self.events.last(), config.event_history);
        tasks.spawn("history", agent().keep_history(kept, capacity, end()));
        let engine = Engine::new(agent(), self.monitor());
        tasks.spawn("heartbeats", engine.run(pushed, heard, end()));
        tasks.spawn("publisher", agent().publish(end()));
        self.agent.limit_egress(Policy::for_api(&config.egress));
        self.agent.allow_programs(config.checks.exec.allows_api());
        self.agent.start(config.node_address()).await.map_err(Fault::Store)?;
        tasks.spawn("sweeper", agent().sweep(end()));
        tasks.spawn("reaper", agent().reap(end()));
        tasks.spawn("stale", agent().mark_stale(end()));
        Ok(())
    }

    /// Lets the API have a target asked, by the same policy and within the same bounds.
    fn asking(&self) -> Asking {
        let network = self.network.clone();
        Asking::new(move |target, timeout| {
            let network = network.clone();
            Box::pin(async move { network.probe(&target, timeout).await })
        })
    }

    pub(super) fn view(&self, config: &Config, log: Streams, reload: ReloadHandle) -> View {
        View {
            node_name: config.node_name.as_str().into(),
            node_address: config.node_address(),
            agent: Arc::clone(&self.agent),
            store: Arc::clone(&self.store),
            leases: self.leases.clone(),
            registry: Arc::clone(&self.registry),
            events: self.events.clone(),
            log,
            metrics: self.metrics.clone(),
            doubt: self.doubt.clone(),
            asking: self.asking(),
            metrics_config: config.metrics.clone(),
            readiness: self.readiness.subscribe(),
            leave: self.leave.clone(),
            reload,
            started: clock::now(),
        }
    }
}
