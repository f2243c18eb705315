//! What all connections to one server share: its health, what was heard of it, how quick it is, how many they are.
//!
//! A connection is dead when nothing was heard on it for a ping and its answer. On a slow link the answer may wait
//! behind other connections' bytes; so as long as those flow, silence proves nothing.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::health::{Event, Health, step};
use super::pace::{PING, Pace};
use crate::clock;
use crate::connectivity::Signal;

/// An HTTP/2 ping is sent when nothing has been received for this long.
pub(super) const PING_EVERY: Duration = Duration::from_millis(1500);
/// Whatever else is heard: a ping that was not answered within this time ends its connection.
pub(super) const LAST_BOUND: Duration = Duration::from_secs(20);
/// As many bytes within one bound are more than answers to pings: the link is at work. In bytes.
const BULK: u64 = 4 << 10;

/// Bytes that were received, and when the last were.
#[derive(Debug)]
pub(super) struct Heard {
    since: Instant,
    bytes: AtomicU64,
    /// Milliseconds after `since`.
    last: AtomicU64,
    dead: AtomicBool,
    reader: AtomicWaker,
    gone: Notify,
}

impl Default for Heard {
    fn default() -> Self {
        Heard {
            since: clock::monotonic(),
            bytes: AtomicU64::new(0),
            last: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            gone: Notify::new(),
        }
    }
}

impl Heard {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let after = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(after, Ordering::Relaxed);
    }

    /// All bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Nothing more is heard on this connection: hyper keeps one that was dropped as long as it has streams.
    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Waits until the connection is closed.
    pub(super) async fn ended(&self) {
        self.gone.notified().await;
    }

    fn alive(&self) -> io::Result<()> {
        match self.dead.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    /// How long nothing has been heard.
    fn silence(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Shared by all connections to one server.
pub(super) struct Line {
    pub(super) heard: Heard,
    pub(super) pace: Pace,
    pub(super) signal: Signal,
    /// Connections that stand.
    pub(super) connections: AtomicU64,
    health: Mutex<Health>,
}

impl Line {
    pub(super) fn new(signal: Signal) -> Self {
        Line {
            heard: Heard::default(),
            pace: Pace::default(),
            signal,
            connections: AtomicU64::new(0),
            health: Mutex::new(Health::Well),
        }
    }

    pub(super) fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what happened to the server; true when it is well from now on and was not, or the reverse.
    pub(super) fn note(&self, event: Event) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *health;
        *health = step(before, event, clock::monotonic());
        (before == Health::Well) != (*health == Health::Well)
    }

    /// Whether so much came since `before` (of [`Heard::bytes`]) that the link is evidently at work.
    pub(super) fn is_at_work_since(&self, before: u64) -> bool {
        self.heard.bytes().saturating_sub(before) >= BULK
    }

    /// Whether nothing was heard of the server on any connection for as long as a ping takes.
    pub(super) fn is_silent(&self) -> bool {
        self.heard.silence() >= self.bound()
    }

    fn bound(&self) -> Duration {
        PING_EVERY + self.pace.bound(PING)
    }

    /// Waits until a connection, of which `own` was heard, is dead.
    pub(super) async fn death(&self, own: &Heard) {
        let (mut before, mut grace) = (self.heard.bytes(), Duration::ZERO);
        let mut seen = own.bytes();
        loop {
            let left = (self.bound() + grace).saturating_sub(own.silence());
            if !left.is_zero() {
                tokio::time::sleep(left).await;
            }
            if own.bytes() != seen {
                (before, grace, seen) = (self.heard.bytes(), Duration::ZERO, own.bytes());
            } else if own.silence() >= self.bound() + grace {
                if !self.is_at_work_since(before) {
                    return;
                }
                before = self.heard.bytes();
                grace += self.bound();
            }
        }
    }
}

/// A stream whose received bytes are counted, its own and the server's.
pub(super) struct Listening<S> {
    stream: S,
    line: Arc<Line>,
    own: Arc<Heard>,
}

impl<S> Listening<S> {
    pub(super) fn new(stream: S, line: Arc<Line>, own: Arc<Heard>) -> Self {
        Listening { stream, line, own }
    }
}

impl<S> Drop for Listening<S> {
    fn drop(&mut self) {
        self.own.gone.notify_one();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.own.reader.register(cx.waker());
        self.own.alive()?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = buf.filled().len().saturating_sub(before);
        if bytes > 0 {
            self.line.heard.add(bytes);
            self.own.add(bytes);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.own.alive()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
