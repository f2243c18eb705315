//! Answers that are kept while they pass: read at the cloud's pace, sent at the client's.
//!
//! The connection to the cloud is shared, and must not wait for one client. What is to be kept is in memory
//! anyway: a slow client is served from there. That memory is bounded (`cache/room.rs`); an answer that is too
//! large or finds no room is not kept, and goes on in a place among the bodies at a client's pace.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::flow::{Flow, Stuck};
use super::upstream::{SILENCE, WRITE_BOUND, pump};
use super::{Asked, Pipeline};
use crate::cache::{NotKept, Share};
use crate::cloud::{self, Identity, Received};
use crate::connectivity::Event;
use crate::respond::{self, Body};
use crate::tasks;

/// The room that an answer has to find before it begins, in bytes.
const FIRST: usize = 64 << 10;
/// Bytes that are sent in one piece.
const PIECE: usize = 64 << 10;
/// An answer does not wait longer until it is kept: a question who asks (1.8 s), and a store that works.
const KEEP_BOUND: Duration = Duration::from_secs(3);

/// What becomes of a whole answer.
pub(super) type Keep = Box<dyn FnOnce(Bytes) -> BoxFuture<'static, ()> + Send>;

/// An answer on its way to its client.
pub(super) struct Passed {
    /// The answer; its client may take of it what has come.
    pub(super) answer: Response<Body>,
    /// Hears when all has come, or goes on at the client's pace; is closed when it broke off before.
    pub(super) came: oneshot::Receiver<()>,
}

impl Pipeline {
    /// Passes an answer on as it comes, and gives it to `keep` when it is whole and of at most `max` bytes. The
    /// last bytes wait until it is kept, but not for a store that hangs.
    pub(super) async fn pass_and_keep(
        self: &Arc<Self>,
        asked: &Asked,
        answer: Response<Received>,
        max: usize,
        keep: Keep,
    ) -> Passed {
        let identity = asked.caller.identity();
        let mut share = self.cache.room.of_client(&identity);
        let (whole, came) = oneshot::channel();
        if let Err(reason) = share.grow(FIRST) {
            self.metrics.not_kept(reason);
            let _ = whole.send(());
            return Passed { answer: self.pass_on(asked, answer).await, came };
        }
        let (mut parts, body) = answer.into_parts();
        cloud::strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(respond::SOURCE, HeaderValue::from_static("cloud"));
        let (flow, stream) = Flow::new();
        let client = Client { flow, sent: 0 };
        let pipeline = Arc::clone(self);
        let passing =
            Passing { pipeline, identity, max, share, client, whole, bytes: Vec::new(), held_back: 0 };
        tasks::spawn("pass and keep", tasks::Failure::Local, passing.run(body, keep));
        Passed { answer: Response::from_parts(parts, stream), came }
    }

    /// Does `keeping` whoever waits for it, and waits for it as long as a store that works takes.
    pub(super) async fn keep_in_time(&self, keeping: impl Future<Output = ()> + Send + 'static) {
        let Some(kept) = self.keep_in_background(keeping) else { return };
        if tokio::time::timeout(KEEP_BOUND, kept).await.is_err() {
            self.metrics.not_kept(NotKept::SlowStore);
        }
    }

    /// Does `keeping` while nobody waits; the receiver hears of its end. `None` when too much waits already.
    pub(super) fn keep_in_background(
        &self,
        keeping: impl Future<Output = ()> + Send + 'static,
    ) -> Option<oneshot::Receiver<()>> {
        let Some(place) = self.cache.room.place() else {
            self.metrics.not_kept(NotKept::SlowStore);
            return None;
        };
        let (done, kept) = oneshot::channel();
        tasks::spawn("keep", tasks::Failure::Local, async move {
            keeping.await;
            drop(place);
            let _ = done.send(());
        });
        Some(kept)
    }
}

/// An answer that is read, kept and sent.
struct Passing {
    pipeline: Arc<Pipeline>,
    identity: Identity,
    max: usize,
    share: Share,
    client: Client,
    whole: oneshot::Sender<()>,
    bytes: Vec<u8>,
    /// Where the bytes begin that wait until all is kept.
    held_back: usize,
}

impl Passing {
    async fn run(mut self, mut body: Received, keep: Keep) {
        loop {
            let next = tokio::select! {
                next = body.frame() => next,
                () = self.client.feed(&self.bytes, self.held_back) => continue,
                () = tokio::time::sleep(SILENCE) => return self.broken_off(),
            };
            let chunk = match next.map(|frame| frame.map(http_body::Frame::into_data)) {
                None => return self.end(keep).await,
                Some(Ok(Ok(chunk))) => chunk,
                Some(Ok(Err(_trailers))) => continue,
                Some(Err(_)) => return self.broken_off(),
            };
            if let Err(reason) = self.take(&chunk) {
                self.pipeline.metrics.not_kept(reason);
                return self.go_on(chunk, body).await;
            }
        }
    }

    /// The rest does not come: what the client has of it does not look whole.
    fn broken_off(self) {
        self.pipeline.metrics.not_kept(NotKept::CutShort);
        self.pipeline.cloud.signal().report(Event::Doubtful);
    }

    fn take(&mut self, chunk: &Bytes) -> Result<(), NotKept> {
        let length = self.bytes.len() + chunk.len();
        if length > self.max {
            return Err(NotKept::TooLarge);
        }
        self.share.grow(length)?;
        self.held_back = self.bytes.len();
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// It is whole: kept first, whoever waits, then sent to its end.
    async fn end(self, keep: Keep) {
        let Passing { pipeline, share, mut client, mut bytes, held_back, whole: came, .. } = self;
        let _ = came.send(());
        // A page of a list waits for the next one in memory.
        bytes.shrink_to_fit();
        // The memory is taken until it is both kept and sent.
        let (whole, share) = (Bytes::from(bytes), Arc::new(share));
        let (keeping, shared) = (keep(whole.clone()), Arc::clone(&share));
        let mut kept = pin!(pipeline.keep_in_time(async move {
            keeping.await;
            drop(shared);
        }));
        tokio::select! {
            () = &mut kept => {}
            () = client.feed_all(&whole, held_back) => kept.await,
        }
        if client.finish(&whole).await == Ok(()) {
            client.flow.end();
        }
        drop(share);
    }

    /// It is not kept: what was read, and the rest as it comes, at the client's pace.
    async fn go_on(mut self, chunk: Bytes, body: Received) {
        let Some(place) = self.pipeline.cloud.pace(&self.identity).await else { return };
        let _ = self.whole.send(());
        if self.client.finish(&self.bytes).await.is_err() {
            return;
        }
        let Passing { client: Client { flow, .. }, bytes, share, .. } = self;
        drop((bytes, share));
        if flow.send_within(WRITE_BOUND, chunk).await.is_ok() {
            pump(body, flow, place).await;
        }
    }
}

/// Who is served from memory, and how far.
struct Client {
    flow: Flow,
    sent: usize,
}

impl Client {
    /// Sends one piece of what comes before `end`; waits for ever when there is none, or nobody to take it: that a
    /// client went away does not stop the keeping, the next one will ask the same.
    async fn feed(&mut self, bytes: &[u8], end: usize) {
        if self.sent >= end || self.piece(bytes, end).await.is_err() {
            std::future::pending().await
        }
    }

    /// Sends all that comes before `end`; returns at once when nobody is there to take it.
    async fn feed_all(&mut self, bytes: &[u8], end: usize) {
        while self.sent < end && self.piece(bytes, end).await.is_ok() {}
    }

    /// Sends the rest to a client that takes it.
    async fn finish(&mut self, bytes: &[u8]) -> Result<(), Stuck> {
        while self.sent < bytes.len() {
            let piece = self.piece(bytes, bytes.len());
            tokio::time::timeout(WRITE_BOUND, piece).await.unwrap_or(Err(Stuck))?;
        }
        Ok(())
    }

    async fn piece(&mut self, bytes: &[u8], end: usize) -> Result<(), Stuck> {
        let end = end.min(self.sent + PIECE);
        let piece = bytes.get(self.sent..end).unwrap_or_default();
        self.flow.send(|| Bytes::copy_from_slice(piece)).await?;
        self.sent = end;
        Ok(())
    }
}
