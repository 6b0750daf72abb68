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
use crate::probe::{Held, grpc::Place, line::Line};

/// The kept connection of one target; it has one of the places that all targets share.
#[derive(Debug, Default)]
pub(in crate::probe) struct Kept(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    state: State,
    /// Whoever waits, and for what.
    watcher: Option<(Event, Waker)>,
}

/// A connection between two probes.
#[derive(Debug)]
pub(in crate::probe) enum Idle {
    /// Of probes that are tasks.
    Session(Box<Connection>),
    /// Of plain probes.
    Plain(Box<Line>),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// That there is a connection.
    Start,
    /// That it is of no more use, or gone.
    End,
}

#[derive(Debug, Default)]
enum State {
    /// There is none.
    #[default]
    None,
    /// A probe has it.
    Taken,
    /// It has been idle since then.
    Idle(Idle, Place, Instant),
}

impl Kept {
    pub(in crate::probe) fn take(&self) -> Option<(Idle, Place)> {
        let mut slot = self.lock();
        match std::mem::take(&mut slot.state) {
            State::Idle(idle, place, _) => {
                slot.state = State::Taken;
                Some((idle, place))
            }
            state @ (State::None | State::Taken) => {
                slot.state = state;
                None
            }
        }
    }

    pub(in crate::probe) fn put(&self, idle: Idle, place: Place) {
        self.lock().turn(State::Idle(idle, place, Instant::now()));
    }

    /// Says that none is kept until the next is put.
    pub(in crate::probe) fn let_go(&self) {
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
                State::None | State::Taken => slot.wait(Event::Start, context),
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
        let Some((event, waker)) = self.watcher.take() else { return };
        // Whoever waits for the end need not be woken only to look at the same connection.
        if let (Event::End, State::Idle(Idle::Plain(line), ..)) = (event, &self.state)
            && line.poll_end(&Context::from_waker(&waker)).is_pending()
        {
            self.watcher = Some((event, waker));
        } else {
            waker.wake();
        }
    }

    fn wait<T>(&mut self, event: Event, context: &Context<'_>) -> Poll<T> {
        self.watcher = Some((event, context.waker().clone()));
        Poll::Pending
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Held> {
        match &mut self.state {
            State::None => return Poll::Ready(Held::Expired),
            State::Taken => {}
            State::Idle(idle, _, since) => {
                if idle.poll_end(context).is_ready() {
                    let lived = since.elapsed();
                    self.state = State::None;
                    return Poll::Ready(Held::Cut(lived));
                }
            }
        }
        self.wait(Event::End, context)
    }
}

impl Idle {
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Session(connection) => connection.poll_end(context),
            Self::Plain(line) => line.poll_end(context),
        }
    }
}
