//! `grpc.health.v1` over the view.
//!
//! The empty name is this daemon, `web` is a service, `web/web-1` one of its instances. A service
//! serves while one instance at least is published as passing or warning. Asking (`Check`) for what is not
//! there is `NOT_FOUND`; watching it is allowed, and tells `SERVICE_UNKNOWN` until it appears:
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>. A watch is woken by every
//! change of the registry and tells only changes of its own answer.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status as Refused};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use super::{Limits, Readiness, View, guard::Rate, serve::Peer};
use crate::{model::Status, registry::Listed};

/// Most watches at once. Each costs a look-up at every change of the registry.
const MAX_WATCHES: usize = 10_000;

/// Largest request, in bytes: a service's and an instance's name are far shorter.
const MAX_REQUEST: usize = 4096;

/// Changes that follow each other quicker than this are told together, so that many watches and
/// many changes do not multiply.
const SETTLE: Duration = Duration::from_millis(20);

/// The health service.
pub(super) fn service(
    view: View,
    limits: &Limits,
    stop: CancellationToken,
) -> HealthServer<Answers> {
    HealthServer::new(Answers {
        view: Arc::new(view),
        rate: Arc::new(Rate::new(limits)),
        watches: Arc::new(Semaphore::new(MAX_WATCHES)),
        stop,
    })
    .max_decoding_message_size(MAX_REQUEST)
}

/// Answers for the daemon, its services and their instances.
#[derive(Debug)]
pub(super) struct Answers {
    view: Arc<View>,
    rate: Arc<Rate>,
    watches: Arc<Semaphore>,
    stop: CancellationToken,
}

type Told = Result<HealthCheckResponse, Refused>;

#[tonic::async_trait]
impl Health for Answers {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Refused> {
        self.admit(&request)?;
        match answer(&self.view, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Refused::not_found("unknown service")),
            status @ (ServingStatus::Unknown
            | ServingStatus::Serving
            | ServingStatus::NotServing) => Ok(Response::new(message(status))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Told> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Refused> {
        self.admit(&request)?;
        let place = Arc::clone(&self.watches).try_acquire_owned();
        let place = place.map_err(|_| Refused::resource_exhausted("too many watches"))?;
        let watcher = Watcher {
            name: request.into_inner().service,
            last: None,
            version: self.view.registry.version(),
            readiness: self.view.readiness.clone(),
            view: Arc::clone(&self.view),
            _place: place,
        };
        let told = stream::unfold(watcher, async |mut watcher| {
            let status = watcher.next().await;
            Some((Ok(message(status)), watcher))
        });
        let stop = self.stop.clone().cancelled_owned();
        let goodbye = stream::once(async { Err(Refused::unavailable("the daemon is stopping")) });
        Ok(Response::new(Box::pin(told.take_until(stop).chain(goodbye))))
    }
}

impl Answers {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Refused> {
        match request.extensions().get::<Peer>() {
            Some(peer) => self
                .rate
                .take(*peer)
                .map_err(|_| Refused::resource_exhausted("too many requests; slow down")),
            None => Ok(()),
        }
    }
}

/// One watch.
struct Watcher {
    name: String,
    last: Option<ServingStatus>,
    version: watch::Receiver<u64>,
    readiness: watch::Receiver<Readiness>,
    view: Arc<View>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// The first answer at once, then each that differs from the one before.
    async fn next(&mut self) -> ServingStatus {
        loop {
            // Marked as seen before looking, so that no change falls between.
            self.version.borrow_and_update();
            self.readiness.borrow_and_update();
            let status = answer(&self.view, &self.name);
            if self.last != Some(status) {
                self.last = Some(status);
                return status;
            }
            tokio::select! {
                Ok(()) = self.version.changed() => {}
                Ok(()) = self.readiness.changed() => {}
                // Both senders are gone: nothing will change any more.
                else => std::future::pending().await,
            }
            tokio::time::sleep(SETTLE).await;
        }
    }
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn answer(view: &View, name: &str) -> ServingStatus {
    if name.is_empty() {
        let readiness = *view.readiness.borrow();
        return match readiness {
            Readiness::Ready => ServingStatus::Serving,
            Readiness::Starting | Readiness::Stopping => ServingStatus::NotServing,
        };
    }
    let instances = view.registry.service(name);
    if instances.is_empty() {
        return instance(view, name).map_or(ServingStatus::ServiceUnknown, |listed| {
            serving([view.agent.published(&listed)])
        });
    }
    serving(instances.iter().map(|listed| view.agent.published(listed)))
}

/// The instance that `service/id` names. Both parts may hold slashes.
fn instance(view: &View, name: &str) -> Option<Listed> {
    name.match_indices('/').find_map(|(at, _)| {
        let (service, id) = (&name[..at], &name[at + 1..]);
        view.registry.instance(id).filter(|listed| listed.instance.service.as_str() == service)
    })
}

/// What instances of these statuses amount to.
fn serving(statuses: impl IntoIterator<Item = Status>) -> ServingStatus {
    let mut verdicts = 0_usize;
    for status in statuses {
        match status {
            Status::Passing | Status::Warning => return ServingStatus::Serving,
            Status::Critical | Status::Maintenance => verdicts += 1,
            Status::Unknown => {}
        }
    }
    if verdicts > 0 { ServingStatus::NotServing } else { ServingStatus::Unknown }
}
