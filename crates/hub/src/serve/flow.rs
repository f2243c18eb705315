//! A body on its way to a client: sent to its end, or cut so that the client cannot take a part for the whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::respond::{self, Body, BoxError};

/// Pieces that wait for the client; beyond them the sender waits.
const PIECES: usize = 2;

/// The end of a body into which it is filled. Dropped without [`Flow::end`] it breaks the body off.
pub(super) struct Flow {
    pieces: mpsc::Sender<Result<Bytes, BoxError>>,
    whole: Arc<AtomicBool>,
}

/// The client has gone, or takes nothing for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stuck;

impl Flow {
    /// A flow and the body that comes of it.
    pub(super) fn new() -> (Self, Body) {
        let (pieces, receiver) = mpsc::channel(PIECES);
        let whole = Arc::new(AtomicBool::new(false));
        let stream = futures_util::stream::unfold((receiver, Some(Arc::clone(&whole))), next);
        (Flow { pieces, whole }, respond::streaming(stream))
    }

    /// Sends a piece as soon as the client takes one. Nothing is sent when this is dropped before.
    pub(super) async fn send(&self, piece: impl FnOnce() -> Bytes) -> Result<(), Stuck> {
        let place = self.pieces.reserve().await.map_err(|_| Stuck)?;
        place.send(Ok(piece()));
        Ok(())
    }

    /// Sends a piece to a client that must take it within `bound`.
    pub(super) async fn send_within(&self, bound: Duration, piece: Bytes) -> Result<(), Stuck> {
        tokio::time::timeout(bound, self.send(|| piece)).await.unwrap_or(Err(Stuck))
    }

    /// Waits until the client has taken all that was sent, which must not take longer than `bound`.
    pub(super) async fn taken_within(&self, bound: Duration) -> Result<(), Stuck> {
        let all = self.pieces.reserve_many(PIECES);
        tokio::time::timeout(bound, all).await.map_err(|_| Stuck)?.map(drop).map_err(|_| Stuck)
    }

    /// Waits until the client has gone.
    pub(super) async fn closed(&self) {
        self.pieces.closed().await;
    }

    /// The body was sent to its end.
    pub(super) fn end(self) {
        self.whole.store(true, Ordering::Release);
    }
}

type Pieces = (mpsc::Receiver<Result<Bytes, BoxError>>, Option<Arc<AtomicBool>>);

async fn next((mut receiver, whole): Pieces) -> Option<(Result<Bytes, BoxError>, Pieces)> {
    let ending = whole.as_ref()?;
    match receiver.recv().await {
        Some(piece) => Some((piece, (receiver, whole))),
        None if ending.load(Ordering::Acquire) => None,
        None => Some((Err("the answer was broken off".into()), (receiver, None))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const BOUND: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn a_body_that_is_broken_off_does_not_look_whole() {
        for whole in [true, false] {
            let (flow, body) = Flow::new();
            assert_eq!(flow.send_within(BOUND, Bytes::from_static(b"abc")).await, Ok(()));
            if whole {
                flow.end();
            } else {
                drop(flow);
            }
            let read = body.collect().await.ok().map(|b| b.to_bytes());
            assert_eq!(read, whole.then(|| Bytes::from_static(b"abc")));
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_or_has_gone_is_noticed() {
        let (flow, mut body) = Flow::new();
        for _ in 0..PIECES {
            assert_eq!(flow.send_within(BOUND, Bytes::new()).await, Ok(()));
        }
        assert_eq!(flow.send_within(BOUND, Bytes::new()).await, Err(Stuck));
        assert_eq!(flow.taken_within(BOUND).await, Err(Stuck));
        for _ in 0..PIECES {
            assert!(body.frame().await.is_some());
        }
        assert_eq!(flow.taken_within(BOUND).await, Ok(()));
        drop(body);
        flow.closed().await;
        assert_eq!(flow.send(Bytes::new).await, Err(Stuck));
    }
}
