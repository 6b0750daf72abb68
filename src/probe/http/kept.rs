//! The connection of one target between two probes, which is its tripwire as well.
//!
//! Whoever waits for its end and whoever asks over it take turns: the one looks at it only while it
//! lies here, the other takes it away. Nothing is sent over it while it lies here, but for what
//! HTTP/2 demands (the answer to a ping of the target), within the bounds of one exchange.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::session::Connection;
use crate::probe::{Held, grpc::Place};

/// The kept connection of one target; it has one of the places that all targets share.
#[derive(Debug, Default)]
pub(in crate::probe) struct Kept(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    state: State,
    /// Whoever waits for the end of it.
    watcher: Option<Waker>,
}

#[derive(Debug, Default)]
enum State {
    /// There is none.
    #[default]
    None,
    /// A probe has it.
    Taken,
    /// It has been idle since then.
    Idle(Box<Connection>, Place, Instant),
}

impl Kept {
    pub(super) fn take(&self) -> Option<(Box<Connection>, Place)> {
        let mut slot = self.lock();
        match std::mem::take(&mut slot.state) {
            State::Idle(connection, place, _) => {
                slot.state = State::Taken;
                Some((connection, place))
            }
            state @ (State::None | State::Taken) => {
                slot.state = state;
                None
            }
        }
    }

    pub(super) fn put(&self, connection: Box<Connection>, place: Place) {
        self.lock().turn(State::Idle(connection, place, Instant::now()));
    }

    /// Says that none is kept until the next is put.
    pub(super) fn let_go(&self) {
        self.lock().turn(State::None);
    }

    /// Whether there is one, also if a probe has it now.
    pub(in crate::probe) fn is_there(&self) -> bool {
        !matches!(self.lock().state, State::None)
    }

    /// Waits until the target ends it while it is idle, or until none is kept any more. May be
    /// dropped at any time.
    pub(in crate::probe) async fn until_its_end(&self) -> Held {
        poll_fn(|context| self.lock().poll_end(context)).await
    }

    /// Waits until there is one.
    pub(in crate::probe) async fn until_it_is_there(&self) {
        poll_fn(|context| {
            let mut slot = self.lock();
            match slot.state {
                State::None | State::Taken => slot.wait(context),
                State::Idle(..) => Poll::Ready(()),
            }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn turn(&mut self, state: State) {
        self.state = state;
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        self.watcher = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Held> {
        match &mut self.state {
            State::None => return Poll::Ready(Held::Expired),
            State::Taken => {}
            State::Idle(connection, _, since) => {
                if connection.poll_end(context).is_ready() {
                    let lived = since.elapsed();
                    self.state = State::None;
                    return Poll::Ready(Held::Cut(lived));
                }
            }
        }
        self.wait(context)
    }
}
