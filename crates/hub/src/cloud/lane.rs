//! One HTTP/2 connection that is made when needed and replaced when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify};
use tokio_rustls::client::TlsStream;

use crate::connectivity::{Event, Failure, Signal};
use crate::tasks;

/// An HTTP/2 ping is sent when nothing has been received for this long.
const PING_EVERY: Duration = Duration::from_millis(1500);
/// The connection is dead when a ping is not answered within this time.
const PING_BOUND: Duration = Duration::from_millis(1500);

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

pub(super) type Sender = SendRequest<Full<Bytes>>;

/// The place of one connection.
#[derive(Default)]
pub(super) struct Slot {
    sender: ArcSwapOption<Open>,
    connecting: Mutex<()>,
}

struct Open {
    sender: Sender,
    close: Arc<Notify>,
}

impl Slot {
    /// The connection if it stands.
    pub(super) fn get(&self) -> Option<Sender> {
        let open = self.sender.load();
        open.as_ref().filter(|o| !o.sender.is_closed()).map(|o| o.sender.clone())
    }

    /// Held while one task connects, so that the others wait for its connection instead of making theirs.
    pub(super) async fn lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.connecting.lock().await
    }

    /// Speaks HTTP/2 on `stream` from now on.
    pub(super) async fn fill(
        &self,
        stream: TlsStream<TcpStream>,
        lane: Lane,
        signal: Signal,
        count: Arc<AtomicU64>,
    ) -> Result<Sender, hyper::Error> {
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
        self.sender.store(Some(Arc::new(Open { sender: sender.clone(), close })));
        Ok(sender)
    }

    /// Ends the connection and all that runs on it.
    pub(super) fn close(&self) {
        if let Some(open) = self.sender.swap(None) {
            open.close.notify_one();
        }
    }

    /// No new request uses the connection; it ends with its last stream.
    pub(super) fn retire(&self) {
        self.sender.store(None);
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
