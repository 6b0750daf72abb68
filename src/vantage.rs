//! Where this daemon stands: can it reach itself, and what is known to be always there?
//!
//! Every second it opens a connection to a listener of its own, the canary, as every probe does:
//! with a new socket, a descriptor and a port. That fails when those run out, whatever the targets
//! do. Anchors are what the operator knows to be well as long as the network is: a gateway, a
//! resolver, a neighbour's health page. What comes of both goes to [`Doubt`], which thinks again
//! every second, and so does how many descriptors and ports are in use.
//!
//! It runs on a thread of its own, so that a busy API is not taken for an illness.

mod anchor;
mod room;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::anchor::{Anchor, AnchorError};
use crate::{
    doubt::{Change, DEFAULT_ABSTAIN_AT, Doubt, Report, Seen, Sight, Symptom},
    duration::Period,
    metrics,
    model::Outcome,
    probe::{Prober, Target},
};

/// From one review to the next, and from one probe of the canary to the next.
const REVIEW: Duration = Duration::from_secs(1);

/// How long the canary may take to answer.
const CANARY_TIMEOUT: Duration = Duration::from_millis(500);

/// How long it waits after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the daemon watches itself, and when it stops trusting what it sees.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What answers as long as the network is there, as URLs that `rollcall probe` takes: a gateway,
    /// a resolver, a neighbour's health page; at most 16, best three or more. While none of them
    /// answers, failures of targets count for nothing. They are asked within the bounds of `egress`.
    pub anchors: Vec<Anchor>,
    /// How often the anchors are asked; 500ms to 1m. A network that is lost is noticed after this, the
    /// timeout and a second at the latest: what fails until then still counts.
    pub interval: Period,
    /// How long an anchor may take to answer; at most the interval.
    pub timeout: Period,
    /// From which score of its own ill health on the daemon abstains, so that failures of targets
    /// count for nothing; 1 to 8.
    pub abstain_at: u8,
}

impl Config {
    /// Most anchors: they are asked all at once.
    pub const MOST_ANCHORS: usize = 16;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            anchors: Vec::new(),
            interval: Period::from_secs(2),
            timeout: Period::from_secs(1),
            abstain_at: DEFAULT_ABSTAIN_AT,
        }
    }
}

/// Who looks after the daemon itself.
#[derive(Debug)]
pub struct Vantage<P> {
    /// Asks the canary; must be let go to the loopback.
    pub own: P,
    /// Asks the anchors, as targets are asked.
    pub prober: P,
    /// What is looked at is put down here.
    pub doubt: Doubt,
    /// And here.
    pub metrics: metrics::Daemon,
}

/// The anchors as they were seen last, and whether that is new since the last review.
#[derive(Debug, Default)]
struct Round {
    seen: Vec<Seen>,
    fresh: bool,
}

impl<P: Prober> Vantage<P> {
    /// Looks until `stop`.
    pub async fn run(self, config: Config, stop: CancellationToken) {
        let targets: Vec<_> = config.anchors.iter().map(Anchor::target).collect();
        let unseen =
            targets.iter().map(|target| Seen { what: target.url().into(), ..Seen::default() });
        let round = Mutex::new(Round { seen: unseen.collect(), fresh: false });
        let canary = Canary::open().await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.ask(&targets, &config, &round) => {}
            () = self.look(canary, &round) => {}
        }
    }

    /// Asks the anchors again and again.
    async fn ask(&self, targets: &[Target], config: &Config, round: &Mutex<Round>) {
        if targets.is_empty() {
            return std::future::pending().await;
        }
        let mut ticks = interval(config.interval.get());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let timeout = config.timeout.get();
            let all = targets.iter().map(|target| see(&self.prober, target, timeout));
            let seen = join_all(all).await;
            *lock(round) = Round { seen, fresh: true };
        }
    }

    /// Asks the canary and thinks again, every second.
    async fn look(&self, mut canary: Canary, round: &Mutex<Round>) {
        let mut ticks = interval(REVIEW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = ticks.tick().await;
            self.doubt.woke(due.elapsed());
            if let Canary::Shut(_) = canary {
                // Descriptors may have run out only for a while.
                canary = Canary::open().await;
            }
            let canary = tokio::select! {
                seen = canary.see(&self.own) => seen,
                never = canary.answer() => match never {},
            };
            self.metrics.doubt.canary(canary.sight, canary.took);
            let anchors = {
                let mut round = lock(round);
                (round.seen.clone(), std::mem::take(&mut round.fresh))
            };
            self.doubt.has(room::look());
            let now = Instant::now();
            let change = self.doubt.review(now, canary, anchors);
            let report = self.doubt.report(now);
            self.metrics.doubt.show(&report);
            tell(change, &report);
        }
    }
}

fn lock(round: &Mutex<Round>) -> std::sync::MutexGuard<'_, Round> {
    round.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(change: Option<Change>, report: &Report) {
    let symptoms: Vec<_> = report.symptoms.iter().map(Symptom::as_str).collect();
    match change {
        Some(Change::Abstains) => {
            let score = report.score;
            warn!(score, ?symptoms, "Abstaining: failures of targets count for nothing");
        }
        Some(Change::Resumes(after)) => {
            info!(?after, "No longer abstaining: failures of targets count again");
        }
        None => {}
    }
}

/// Asks once.
async fn see<P: Prober>(prober: &P, target: &Target, timeout: Duration) -> Seen {
    let found = prober.probe(target, timeout).await;
    Seen {
        what: target.url().into(),
        sight: match found.outcome {
            Outcome::Success | Outcome::Warning(_) => Sight::Answers,
            Outcome::Failure(_) => Sight::Fails,
            Outcome::Inconclusive(_) => Sight::Unknown,
        },
        took: found.duration,
        detail: found.detail.as_deref().map(Into::into),
    }
}

/// A listener of our own that is asked as targets are.
#[derive(Debug)]
enum Canary {
    Open {
        listener: TcpListener,
        target: Target,
    },
    /// It could not be opened: then it is known to fail.
    Shut(Arc<str>),
}

impl Canary {
    async fn open() -> Self {
        let opened = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            io::Result::Ok((listener, address))
        };
        let (listener, address) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return Self::shut(&error),
        };
        match Anchor::try_from(format!("tcp://{address}")) {
            Ok(itself) => Self::Open { listener, target: itself.target() },
            Err(error) => Self::shut(&error),
        }
    }

    fn shut(error: &(dyn std::error::Error + 'static)) -> Self {
        warn!(error, "The daemon cannot listen for itself; it is in doubt until it can");
        Self::Shut(format!("cannot be opened: {error}").into())
    }

    /// Takes every connection and closes it. Those that come while nobody does are few, and wait.
    async fn answer(&self) -> Infallible {
        let Self::Open { listener, .. } = self else { return std::future::pending().await };
        loop {
            match listener.accept().await {
                Ok(accepted) => drop(accepted),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn see<P: Prober>(&self, prober: &P) -> Seen {
        match self {
            Self::Open { target, .. } => match see(prober, target, CANARY_TIMEOUT).await {
                // What is our own fault is just what the canary is there to find.
                Seen { sight: Sight::Unknown, what, took, detail } => {
                    Seen { sight: Sight::Fails, what, took, detail }
                }
                seen => seen,
            },
            Self::Shut(reason) => {
                Seen { sight: Sight::Fails, detail: Some(Arc::clone(reason)), ..Seen::default() }
            }
        }
    }
}
