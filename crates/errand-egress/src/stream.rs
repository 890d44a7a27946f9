//! A connection that is counted while it streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::{Budget, Pulse, Way};

/// Most bytes of one read.
pub(crate) const PIECE_BYTES: usize = 128 << 10;

/// A stream whose bytes are noted, and, on the outer side, charged. When nothing is left to charge it fails.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    pulse: Arc<Pulse>,
    budget: Option<Arc<Budget>>,
}

impl<S> Counted<S> {
    /// The box's side: what passes there is what passes outside, so it is not charged twice.
    pub(crate) fn inside(inner: S, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, budget: None }
    }

    /// The outer side.
    pub(crate) fn outside(inner: S, pulse: Arc<Pulse>, budget: Arc<Budget>) -> Self {
        Self { inner, pulse, budget: Some(budget) }
    }
}

fn used_up() -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, "the bytes granted are used up")
}

/// Whether this error, or one it was made of, says that nothing is left to charge.
pub(crate) fn is_used_up(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::QuotaExceeded) || error.source().is_some_and(is_used_up)
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let wanted = buffer.remaining().min(PIECE_BYTES);
        let reserved = this.budget.as_ref().map_or(wanted, |budget| budget.reserve(wanted));
        if reserved == 0 && wanted > 0 {
            return Poll::Ready(Err(used_up()));
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(reserved));
        let polled = Pin::new(&mut this.inner).poll_read(cx, &mut part);
        let count = part.filled().len();
        if let Some(budget) = &this.budget {
            budget.settle(Way::Down, reserved, count);
        }
        ready!(polled)?;
        buffer.advance(count);
        this.pulse.beat(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let reserved = this.budget.as_ref().map_or(bytes.len(), |budget| budget.reserve(bytes.len()));
        if reserved == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(used_up()));
        }
        let polled = Pin::new(&mut this.inner).poll_write(cx, &bytes[..reserved]);
        let count = if let Poll::Ready(Ok(count)) = &polled { *count } else { 0 };
        if let Some(budget) = &this.budget {
            budget.settle(Way::Up, reserved, count);
        }
        this.pulse.beat(count);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
