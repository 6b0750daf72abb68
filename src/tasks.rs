//! Spawning, supervising and shutting down.
//!
//! Every long-lived task has a name and is spawned here, so that the daemon learns when one ends.
//! A task that ends before it was told to is a fault, whatever it returned: the daemon then stops
//! in order, names it, and exits with a failure.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use tokio::{
    runtime,
    sync::oneshot,
    task::{self, JoinSet},
};

/// Most threads of a prober thread's runtime for what blocks: `getaddrinfo`, of which 64 are under
/// way at most, over all of them, and the start of programs, to which a dead resolver so leaves some.
/// They are made when they are needed, and end when they are not.
const BLOCKING_THREADS: usize = 80;

/// By how much threads that must be on time are less nice than others (`nice(2)`): they get a CPU
/// nearly at once, whatever the threads beside them do, and a few times their share of it.
const AHEAD: i32 = -10;

/// Puts the calling thread ahead of others, if that is permitted: it takes `CAP_SYS_NICE`, or a
/// `LimitNICE=` in the unit. Says whether it was.
pub fn step_ahead() -> bool {
    // On Linux niceness is a thread's own, and no process is named: the caller is meant.
    cfg!(target_os = "linux") && rustix::process::setpriority_process(None, AHEAD).is_ok()
}

/// The long-lived tasks of the daemon.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<Result<(), String>>,
    names: HashMap<task::Id, &'static str>,
}

/// A task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// How.
    pub how: How,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By returning.
    Returned,
    /// By a panic, or because it could not start, with what was said.
    Failed(String),
}

impl Tasks {
    /// Runs a future on the runtime of the caller.
    pub fn spawn(&mut self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(async move {
            future.await;
            Ok(())
        });
        self.names.insert(handle.id(), name);
    }

    /// Runs a future on a thread and a single-threaded runtime of its own, so that nothing else
    /// delays it. `make` is called on that thread.
    pub fn spawn_thread<F: Future<Output = ()>>(
        &mut self,
        name: &'static str,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let (sender, ended) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async { make().await });
            // Look-ups that hang must not hold up the end.
            runtime.shutdown_background();
            // Nobody waits any more when the daemon is ending at once.
            sender.send(()).unwrap_or(());
        })?;
        let handle =
            self.set.spawn(async move { ended.await.map_err(|_| "it panicked".to_owned()) });
        self.names.insert(handle.id(), name);
        Ok(())
    }

    /// Waits for the next task to end; nothing if there is none left.
    pub async fn next_ended(&mut self) -> Option<Ended> {
        let (id, how) = match self.set.join_next_with_id().await? {
            Ok((id, Ok(()))) => (id, How::Returned),
            Ok((id, Err(said))) => (id, How::Failed(said)),
            Err(error) => (error.id(), How::Failed(error.to_string())),
        };
        Some(Ended { name: self.names.remove(&id).unwrap_or("unnamed"), how })
    }

    /// The names of the tasks still running.
    pub fn running(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.names.values().copied().collect();
        names.sort_unstable();
        names
    }
}

/// Runs a future to its end, also if whoever waits for it goes away: what he has begun goes on as a
/// task then. Until then it is none, for a task costs as much as a small request.
pub async fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    Finishing(Some(Box::pin(work))).await
}

struct Finishing<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> Future for Finishing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Out of the way of `drop` meanwhile: what panics is at its end.
        let mut work = self.0.take().expect("a future is not polled after its end");
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Finishing<F> {
    fn drop(&mut self) {
        // Without a runtime nothing goes on.
        if let Some(work) = self.0.take()
            && let Ok(runtime) = runtime::Handle::try_current()
        {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("quick", async {});
        let ended = tasks.next_ended().await;
        assert_eq!(ended, Some(Ended { name: "quick", how: How::Returned }));
        assert_eq!(tasks.next_ended().await, None);
    }

    #[tokio::test]
    async fn a_panic_is_told_with_the_name_of_the_task() {
        let mut tasks = Tasks::default();
        tasks.spawn("clumsy", async { panic!("oh") });
        let ended = tasks.next_ended().await.unwrap();
        assert_eq!(ended.name, "clumsy");
        assert!(matches!(ended.how, How::Failed(_)));
    }

    #[tokio::test]
    async fn what_is_begun_is_finished_also_when_nobody_waits_any_more() {
        let (go_on, may) = oneshot::channel::<()>();
        let (done, mut end) = oneshot::channel();
        let mut work = Box::pin(finish(async move {
            may.await.unwrap();
            done.send(7).unwrap();
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go_on.send(()).unwrap();
        task::yield_now().await;
        assert_eq!(end.try_recv(), Ok(7));
    }

    #[tokio::test]
    async fn what_is_waited_for_is_no_task_and_its_panic_is_the_callers() {
        let begun = runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(
            finish(async { runtime::Handle::current().metrics().num_alive_tasks() }).await,
            begun
        );
        let panics = std::panic::AssertUnwindSafe(finish(async { panic!("oh") }));
        assert!(futures_util::FutureExt::catch_unwind(panics).await.is_err());
        assert_eq!(runtime::Handle::current().metrics().num_alive_tasks(), begun);
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_told_too() {
        let mut tasks = Tasks::default();
        tasks.spawn_thread("thread", || async { panic!("oh") }).unwrap();
        assert_eq!(tasks.running(), ["thread"]);
        let ended = tasks.next_ended().await.unwrap();
        assert_eq!(ended, Ended { name: "thread", how: How::Failed("it panicked".into()) });
    }
}
