//! HTTP/2 connections that are made when needed and replaced when they are gone.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::client::TlsStream;

use super::CloudError;
use super::health;
use super::line::{Heard, LAST_BOUND, Line, Listening, PING_EVERY};
use super::received::Stream;
use crate::connectivity::{Event, Failure};
use crate::tasks;

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
    /// How to close those that only end their streams.
    draining: Mutex<Vec<Arc<Notify>>>,
    /// Grows when connections from before are not to be used any more.
    generation: AtomicU64,
}

/// How the making of a connection ended, as soon as it has.
pub(super) type Connecting = watch::Receiver<Option<Result<(), CloudError>>>;

struct Open {
    sender: SendRequest<Full<Bytes>>,
    close: Arc<Notify>,
    streams: Arc<AtomicUsize>,
    /// Set when the hub itself has let go of it.
    over: Arc<AtomicBool>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// How a connection ended.
enum End {
    /// The hub closed it.
    Closed,
    /// The hub has let go of it.
    Ours,
    /// The server went away in peace (GOAWAY).
    Peace,
    /// Nothing was heard on it any more.
    Silence,
    Broken,
}

impl Slot {
    /// Whether a connection stands.
    pub(super) fn is_open(&self) -> bool {
        self.lock_open().iter().any(|o| !o.sender.is_closed())
    }

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
        line: &Arc<Line>,
    ) -> Result<(), hyper::Error> {
        let (window, connection_window) = lane.windows();
        let own = Arc::new(Heard::default());
        let stream = Listening::new(stream, Arc::clone(line), Arc::clone(&own));
        let (sender, connection) = Builder::new(tasks::Spawner)
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(connection_window)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(LAST_BOUND)
            .keep_alive_while_idle(true)
            .max_send_buf_size(64 << 10)
            .handshake(TokioIo::new(stream))
            .await?;
        if generation != self.generation() {
            return Ok(());
        }
        let (close, over) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (closed, let_go, line) = (Arc::clone(&close), Arc::clone(&over), Arc::clone(line));
        line.connections.fetch_add(1, Ordering::Relaxed);
        tasks::spawn("upstream connection", tasks::Failure::Local, async move {
            attend(connection, &own, &line, &closed, &let_go).await;
            own.kill();
            line.connections.fetch_sub(1, Ordering::Relaxed);
        });
        self.lock_open().push(Open { sender, close, streams: Arc::default(), over });
        Ok(())
    }

    /// Ends the connections and all that runs on them.
    pub(super) fn close(&self) {
        self.retire();
        for close in self.lock_draining().drain(..) {
            close.notify_one();
        }
    }

    /// No new request uses the connections; each ends with its last stream.
    pub(super) fn retire(&self) {
        self.begin_anew();
        let mut draining = self.lock_draining();
        // Whose task has ended is over.
        draining.retain(|close| Arc::strong_count(close) > 1);
        draining.extend(self.lock_open().drain(..).map(|open| Arc::clone(&open.close)));
    }

    fn lock_draining(&self) -> MutexGuard<'_, Vec<Arc<Notify>>> {
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is being made is not waited for any more.
    fn begin_anew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        *self.connecting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Stays with a connection until it is closed, and reports how it ended.
async fn attend(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    own: &Heard,
    line: &Line,
    closed: &Notify,
    let_go: &AtomicBool,
) {
    let ended = tokio::select! {
        ended = connection => match ended {
            Ok(()) if let_go.load(Ordering::Relaxed) => End::Ours,
            Ok(()) => End::Peace,
            Err(error) if error.is_timeout() => End::Silence,
            Err(_) => End::Broken,
        },
        () = line.death(own) => End::Silence,
        () = closed.notified() => End::Closed,
    };
    // One that takes no more requests goes on until its last stream has ended.
    let goes_on = matches!(ended, End::Ours | End::Peace);
    report(ended, line);
    if goes_on {
        tokio::select! {
            () = own.ended() => {}
            () = line.death(own) => report(End::Silence, line),
            () = closed.notified() => {}
        }
    }
}

fn report(end: End, line: &Line) {
    match end {
        End::Closed | End::Ours => {}
        // Worth a look, no more.
        End::Peace => line.signal.report(Event::Doubtful),
        End::Silence => {
            if line.is_silent() {
                line.note(health::Event::Failed);
            }
            line.signal.report(Event::Failed(Failure::Timeout));
        }
        End::Broken => line.signal.report(Event::Failed(Failure::Refused)),
    }
}
