//! The stream in which a server tells of changes by itself (`grpc.health.v1.Health/Watch`).
//!
//! The stream never answers for the target: it only says when to ask. What it tells may be late, it
//! may be silent because it is broken, and it is the server's word alone; a call that is answered is
//! proof. So a change that it tells of, and its own end, wake whoever waits in
//! [`Target::woken`](crate::probe::Target::woken), and `Check` decides. Without a stream everything is
//! as without `watch`, which is the fall-back of servers that have no `Watch`.
//!
//! ```text
//!           after a probe, on its kept connection
//! closed ───────────────────────────────────────────▶ open ── changed: wake
//!    ▲  ▲                                              │ │
//!    │  └────── ended: wake, and not before 10 s ◀─────┘ │
//!    └───────── UNIMPLEMENTED: not before 10 min ◀───────┘
//! ```

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use super::{
    answer::{Reply, Said},
    channel::Client,
};
use crate::probe::http::Allowance;

/// From one opening of a stream to the next. Servers end streams in order after minutes, to spread
/// their clients; one that ends them at once must not have us ask without pause.
const REOPEN: Duration = Duration::from_secs(10);

/// How long a server without `Watch` is left alone. It may be replaced by one that has it.
const ABSENT: Duration = Duration::from_secs(600);

/// The time each message is given, so that a flood of them costs nothing: what is not read fills the
/// stream's window, and the server must wait. What it may send meanwhile is bounded ([`Allowance`]);
/// beyond that, the connection breaks.
const PACE: Duration = Duration::from_secs(1);

/// What one target's streams have in common, one after the other.
#[derive(Debug, Default)]
pub(super) struct Watch {
    news: Notify,
    /// Whether the target tells of changes, as far as is known.
    tells: watch::Sender<bool>,
    /// When a stream may be opened; at any time if nothing is said.
    not_before: Mutex<Option<Instant>>,
}

/// An open stream; closed when it is dropped.
#[derive(Debug)]
pub(super) struct Stream(JoinHandle<()>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stream {
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Watch {
    /// Waits until a stream has told of a change or has ended. What happened while nobody waited is
    /// told at once, and only once.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether the target tells of changes, as far as is known: a stream was opened, and it does not
    /// say that it has none.
    pub(super) fn tells(&self) -> bool {
        *self.tells.borrow()
    }

    /// Waits until that is as told here.
    pub(super) async fn until(&self, tells: bool) {
        // It fails only when the sender is gone, which is this.
        drop(self.tells.subscribe().wait_for(|now| *now == tells).await);
    }

    /// Opens a stream if it is time. `seen` is what the target said just now: the stream's first
    /// message is news if it differs.
    pub(super) fn open(
        self: &Arc<Self>,
        (client, allowance): (Client, Allowance),
        request: tonic::Request<HealthCheckRequest>,
        seen: Option<i32>,
    ) -> Option<Stream> {
        let now = Instant::now();
        {
            let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
            if not_before.is_some_and(|moment| now < moment) {
                return None;
            }
            *not_before = Some(now + REOPEN);
        }
        self.tells.send_replace(true);
        let watch = Arc::clone(self);
        Some(Stream(spawn(async move {
            watch.follow(watch.listen((client, allowance), request, seen)).await;
        })))
    }

    /// Listens to the end, and says what the end means.
    async fn follow(&self, listening: impl Future<Output = Result<(), tonic::Status>>) {
        // A panic would be the library's, over something that the target said.
        match AssertUnwindSafe(listening).catch_unwind().await {
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
                *not_before = Some(Instant::now() + ABSENT);
                self.tells.send_replace(false);
            }
            // In the middle of a connection this is how a target's death is seen first.
            Ok(Ok(()) | Err(_)) => self.news.notify_one(),
            Err(_panic) => {
                self.tells.send_replace(false);
                self.news.notify_one();
            }
        }
    }

    async fn listen(
        &self,
        (mut client, allowance): (Client, Allowance),
        request: tonic::Request<HealthCheckRequest>,
        mut seen: Option<i32>,
    ) -> Result<(), tonic::Status> {
        let mut stream = client.watch(request).await?.into_inner();
        while let Some(HealthCheckResponse { status }) = stream.message().await? {
            if seen.replace(status).is_some_and(|before| before != status) {
                self.news.notify_one();
            }
            sleep(PACE).await;
            allowance.renew();
        }
        Ok(())
    }
}

/// What a stream would say of a target that has answered a call so.
pub(super) fn seen(reply: &Reply) -> Option<i32> {
    match reply.said {
        Said::Status(status) => Some(status),
        // A call for a service that is not there is refused; a stream tells of it.
        Said::Refused(Code::NotFound, _) => Some(ServingStatus::ServiceUnknown.into()),
        Said::Refused(..) | Said::Broken(_) => None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task belongs to its channel, which aborts it; its end is news to be asked about"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_end_like_any_other_and_nothing_is_told_any_more() {
        let watch = Watch::default();
        watch.tells.send_replace(true);
        watch.follow(async { panic!("over something that the target said") }).await;
        assert!(!watch.tells());
        assert_eq!(watch.news().now_or_never(), Some(()));
    }
}
