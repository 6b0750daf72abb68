//! A connection that takes only so much from its target, and never so much at once that other
//! probes have to wait for it.
//!
//! The HTTP/2 library bounds what it keeps, not what it reads: pings, settings and window updates
//! may come for ever and are each handled and answered. What one exchange may read is bounded here,
//! so every such flood ends, whatever its frames are called.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that one exchange reads besides the body: the longest head, and as much again for frames
/// and settings.
const MOST: usize = 64 * 1024;

/// After so many bytes others have their turn: no more than some hundred frames.
const TURN: usize = 8 * 1024;

/// How many bytes a connection may still take; clones share it.
#[derive(Debug, Clone)]
pub(in crate::probe) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(in crate::probe) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(MOST)))
    }

    /// For the next exchange.
    pub(in crate::probe) fn renew(&self) {
        // A count and nothing else: no other memory depends on its order.
        self.0.store(MOST, Ordering::Relaxed);
    }

    /// So many bytes of a body have come: as many again may, and as many for their frames.
    pub(in crate::probe) fn credit(&self, body: usize) {
        self.0.store(self.left().saturating_add(2 * body), Ordering::Relaxed);
    }

    fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) {
        self.0.store(self.left().saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// A stream with an [`Allowance`]. When it is used up, reading is an error of the kind
/// `QuotaExceeded`.
#[derive(Debug)]
pub(in crate::probe) struct Guarded<S> {
    stream: S,
    allowance: Allowance,
    /// Bytes read since others had their turn.
    run: usize,
}

impl<S> Guarded<S> {
    pub(in crate::probe) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance, run: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.run >= TURN {
            self.run = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let left = self.allowance.left();
        if left == 0 {
            let text = format!("more than {} KiB besides the body", MOST / 1024);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, text)));
        }
        let most = buffer.remaining().min(left).min(TURN);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let read = part.filled().len();
        buffer.advance(read);
        self.allowance.take(read);
        match polled {
            Poll::Pending => self.run = 0,
            Poll::Ready(_) => self.run += read,
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, repeat};

    use super::*;

    #[tokio::test]
    async fn an_endless_stream_ends_at_the_allowance() {
        let allowance = Allowance::new();
        let mut stream = Guarded::new(repeat(7), allowance.clone());
        for _ in 0..2 {
            let mut taken = Vec::new();
            let error = stream.read_to_end(&mut taken).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
            assert_eq!(error.to_string(), "more than 64 KiB besides the body");
            assert_eq!(taken.len(), MOST);
            allowance.credit(50);
            assert_eq!(stream.read(&mut [0; 200]).await.unwrap(), 100);
            allowance.renew();
        }
    }

    #[tokio::test]
    async fn others_have_their_turn() {
        let mut stream = Guarded::new(repeat(7), Allowance::new());
        let mut buffer = vec![0; 2 * TURN];
        for _ in 0..3 {
            assert_eq!(stream.read(&mut buffer).now_or_never().unwrap().unwrap(), TURN);
            assert!(stream.read(&mut buffer).now_or_never().is_none());
        }
    }
}
