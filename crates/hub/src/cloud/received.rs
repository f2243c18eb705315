//! The body of an answer, which holds its stream's place on a connection until it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// One stream of an HTTP/2 connection, counted as long as this lives.
#[derive(Debug)]
pub(super) struct Stream(Arc<AtomicUsize>);

impl Stream {
    /// Takes a place among at most `limit`; `None` when all are taken.
    pub(super) fn open(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |n: usize| (n < limit).then_some(n + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Stream(Arc::clone(count)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer of the cloud.
#[derive(Debug)]
pub struct Received {
    body: Incoming,
    _stream: Option<Stream>,
}

impl Received {
    pub(super) fn on(body: Incoming, stream: Stream) -> Self {
        Received { body, _stream: Some(stream) }
    }

    /// Of a connection that has only this one.
    pub(super) fn alone(body: Incoming) -> Self {
        Received { body, _stream: None }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
