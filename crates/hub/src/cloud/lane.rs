//! HTTP/2 connections that are made when needed and replaced when they are gone.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::client::TlsStream;

use super::CloudError;
use super::received::Stream;
use crate::connectivity::{Event, Failure, Signal};
use crate::tasks;

/// An HTTP/2 ping is sent when nothing has been received for this long.
const PING_EVERY: Duration = Duration::from_millis(1500);
/// The connection is dead when a ping is not answered within this time.
const PING_BOUND: Duration = Duration::from_millis(1500);

/// Streams on one connection: what an apiserver allows (`k8s.io/apiserver/pkg/server/secure_serving.go`).
/// One more would wait unsent until another ends, and watches do not end.
const STREAMS: usize = 100;
/// Connections of one identity and lane at the most.
const MAX_CONNECTIONS: usize = 12;

/// Who drains the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The hub itself, always and at once.
    Reflect,
    /// Requests of local clients.
    Requests,
}

impl Lane {
    /// HTTP/2 windows in bytes: of a stream, of the connection.
    fn windows(self) -> (u32, u32) {
        match self {
            Lane::Reflect => (512 << 10, 4 << 20),
            Lane::Requests => (128 << 10, 4 << 20),
        }
    }
}

/// A connection to send one request on, and the stream that it takes.
pub(super) type Place = (SendRequest<Full<Bytes>>, Stream);

/// The connections of one identity and lane: one, and more only while its streams are all taken.
#[derive(Default)]
pub(super) struct Slot {
    open: Mutex<Vec<Open>>,
    connecting: Mutex<Option<Connecting>>,
    /// Grows when connections from before are not to be used any more.
    generation: AtomicU64,
}

/// How the making of a connection ended, as soon as it has.
pub(super) type Connecting = watch::Receiver<Option<Result<(), CloudError>>>;

struct Open {
    sender: SendRequest<Full<Bytes>>,
    close: Arc<Notify>,
    streams: Arc<AtomicUsize>,
}

impl Slot {
    /// A place on a connection that stands; connections that are over, or idle beside another, go.
    pub(super) fn get(&self) -> Option<Place> {
        let mut open = self.lock_open();
        open.retain(|o| !o.sender.is_closed());
        let place = open.iter().find_map(|o| Some((o.sender.clone(), Stream::open(&o.streams, STREAMS)?)));
        if place.is_some() && open.len() > 1 {
            let mut first = true;
            open.retain(|o| std::mem::take(&mut first) || o.streams.load(Ordering::Relaxed) > 0);
        }
        place
    }

    /// The generation of a connection that is begun now; to be asked before the credentials for it.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether no further connection may be made.
    pub(super) fn is_full(&self) -> bool {
        self.lock_open().len() >= MAX_CONNECTIONS
    }

    fn lock_open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that is being made; `make` makes one when there is none. It goes on without whoever waits.
    pub(super) fn connecting<F>(&self, make: impl FnOnce() -> F) -> Connecting
    where
        F: Future<Output = Result<(), CloudError>> + Send + 'static,
    {
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |c: &&Connecting| c.borrow().is_none() && c.has_changed().is_ok();
        if let Some(running) = connecting.as_ref().filter(running) {
            return running.clone();
        }
        let (ended, receiver) = watch::channel(None);
        let making = make();
        tasks::spawn("connecting", tasks::Failure::Local, async move {
            ended.send_replace(Some(making.await));
        });
        connecting.insert(receiver).clone()
    }

    /// Speaks HTTP/2 on `stream` from now on. One that was begun before the connections were closed or retired is
    /// dropped: it would bring back what is over, an old certificate or a link that was given up.
    pub(super) async fn fill(
        &self,
        generation: u64,
        stream: TlsStream<TcpStream>,
        lane: Lane,
        signal: Signal,
        count: Arc<AtomicU64>,
    ) -> Result<(), hyper::Error> {
        let (window, connection_window) = lane.windows();
        let (sender, connection) = Builder::new(tasks::Spawner)
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(connection_window)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_BOUND)
            .keep_alive_while_idle(true)
            .max_send_buf_size(64 << 10)
            .handshake(TokioIo::new(stream))
            .await?;
        if generation != self.generation() {
            return Ok(());
        }
        let close = Arc::new(Notify::new());
        let closed = Arc::clone(&close);
        count.fetch_add(1, Ordering::Relaxed);
        tasks::spawn("upstream connection", tasks::Failure::Local, async move {
            let ended = tokio::select! {
                ended = connection => Some(ended),
                () = closed.notified() => None,
            };
            count.fetch_sub(1, Ordering::Relaxed);
            report_end(ended, &signal);
        });
        self.lock_open().push(Open { sender, close, streams: Arc::default() });
        Ok(())
    }

    /// Ends the connections and all that runs on them.
    pub(super) fn close(&self) {
        self.begin_anew();
        for open in self.lock_open().drain(..) {
            open.close.notify_one();
        }
    }

    /// No new request uses the connections; each ends with its last stream.
    pub(super) fn retire(&self) {
        self.begin_anew();
        self.lock_open().clear();
    }

    /// What is being made is not waited for any more.
    fn begin_anew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        *self.connecting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn report_end(ended: Option<Result<(), hyper::Error>>, signal: &Signal) {
    match ended {
        // Closed by us.
        None => {}
        // A server that goes away in peace (GOAWAY) is worth a look, no more.
        Some(Ok(())) => signal.report(Event::Doubtful),
        Some(Err(error)) if error.is_timeout() => signal.report(Event::Failed(Failure::Timeout)),
        Some(Err(_)) => signal.report(Event::Failed(Failure::Refused)),
    }
}
