//! Connections that plain probes keep. Each stays known to the poller of its thread from one probe to
//! the next, so a probe over it is a write and a read, and its end is news also while nobody asks.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use mio::{Token, net::TcpStream};
use tokio::time::Instant;

/// An open connection to one target. Closed when it is dropped, wherever that is.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    /// What the poller calls it.
    pub(super) token: Token,
    row: usize,
    fit_until: Instant,
    end: Arc<End>,
    home: Arc<Home>,
}

/// Says that a connection is of no more use.
#[derive(Debug, Default)]
struct End {
    has_come: AtomicBool,
    waiter: AtomicWaker,
}

/// Where the rows of connections go that are dropped.
#[derive(Debug, Default)]
struct Home(Mutex<Vec<usize>>);

/// The kept connections of one thread, in use or not.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rows: Vec<Option<Row>>,
    free: Vec<usize>,
    home: Arc<Home>,
}

#[derive(Debug)]
struct Row {
    token: Token,
    end: Arc<End>,
    /// Which probe uses it; nothing while it is idle.
    user: Option<usize>,
}

impl Line {
    /// Whether another request may be made on it: nothing has come from the target that was not
    /// asked for, not even the end, and it is not too old.
    pub(super) fn is_fit(&self) -> bool {
        // What the flag says is all there is to know: no other memory depends on it.
        !self.end.has_come.load(Ordering::Relaxed) && Instant::now() < self.fit_until
    }

    /// Whether no other request may be made on it, while nobody asks. To be woken, else.
    pub(super) fn poll_end(&self, context: &Context<'_>) -> Poll<()> {
        self.end.waiter.register(context.waker());
        if self.end.has_come.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.row);
    }
}

impl Lines {
    /// How many there have been at most at a time.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row for one more.
    pub(super) fn room(&mut self) -> usize {
        if self.free.is_empty() {
            std::mem::swap(
                &mut self.free,
                &mut self.home.0.lock().unwrap_or_else(PoisonError::into_inner),
            );
        }
        self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            self.rows.len() - 1
        })
    }

    /// Takes in a connection that may serve until then, in a row from [`Lines::room`]; `user` uses it.
    pub(super) fn open(
        &mut self,
        (row, token): (usize, Token),
        (socket, peer): (TcpStream, SocketAddr),
        fit_until: Instant,
        user: usize,
    ) -> Line {
        let end = Arc::<End>::default();
        self.rows[row] = Some(Row { token, end: Arc::clone(&end), user: Some(user) });
        let home = Arc::clone(&self.home);
        Line { socket, peer, token, row, fit_until, end, home }
    }

    /// Says which probe uses a connection from now on. Fails if it is another thread's.
    pub(super) fn lend(&mut self, line: &Line, user: usize) -> bool {
        let is_ours = Arc::ptr_eq(&line.home, &self.home);
        if is_ours && let Some(row) = &mut self.rows[line.row] {
            row.user = Some(user);
        }
        is_ours
    }

    /// Says that nobody uses a connection from now on.
    pub(super) fn rest(&mut self, line: &Line) {
        if let Some(row) = &mut self.rows[line.row] {
            row.user = None;
        }
    }

    /// Who uses the connection of this row and token, if it still is that.
    pub(super) fn user(&self, row: usize, token: Token) -> Option<usize> {
        self.row(row, token)?.user
    }

    /// Takes in that the target has ended a connection, or says what nobody asked for.
    pub(super) fn ended(&self, row: usize, token: Token) {
        if let Some(row) = self.row(row, token) {
            row.end.has_come.store(true, Ordering::Release);
            row.end.waiter.wake();
        }
    }

    fn row(&self, row: usize, token: Token) -> Option<&Row> {
        self.rows.get(row)?.as_ref().filter(|row| row.token == token)
    }
}
