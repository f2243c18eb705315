//! The connections to the apiservers and what travels on them.
//!
//! Owns sockets, TLS and health per server. Never decides whether a request should go upstream, and
//! never reads what an answer means beyond "is this Kubernetes speaking".
//!
//! Four HTTP/2 connections while each has streams left: for the node's identity and for callers who bring their own
//! (a connection with a client certificate would lend them the node's), one that the hub itself
//! always drains (reflectors) and one for requests. On the latter, bodies that go at a client's pace
//! are limited so that their stream windows together stay below the connection's: stalled readers
//! cannot freeze it by arithmetic. Upgrades get HTTP/1.1 connections of their own.

mod backend;
mod forward;
mod lane;
mod probe;
mod received;
mod trouble;
mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tokio::sync::Semaphore;

pub use backend::ServerAddress;
pub use forward::{outgoing, strip_hop_by_hop};
pub use lane::Lane;
pub use received::Received;

use crate::connectivity::{Event, Failure, Signal};
use crate::credential::Credentials;
use backend::Backend;
use trouble::Trouble;

/// Bodies at a client's pace at one time on one connection: times the stream window (128 KiB) this
/// stays under the connection's window (4 MiB).
const PACED_STREAMS: usize = 24;

/// In whose name a request travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The node's client certificate.
    Node,
    /// The caller's own `Authorization` header, untouched.
    Bearer(HeaderValue),
    /// Nobody.
    Anonymous,
}

impl Identity {
    /// Whether it travels on the connections that show the node's certificate.
    pub fn is_node(&self) -> bool {
        matches!(self, Identity::Node)
    }
}

/// Why the cloud gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CloudError {
    /// No server could be connected to; nothing was sent.
    #[error("no apiserver can be reached: {0}")]
    Unreachable(String),
    /// The request may have been sent, its answer is lost.
    #[error("the connection was lost before the answer: {0}")]
    Lost(String),
    /// A connection is being made, and takes long; nothing was sent.
    #[error("no connection to an apiserver in time: {0}")]
    Connecting(String),
    /// Every stream of every connection is taken.
    #[error("too many requests are on their way to the cloud")]
    Busy,
    /// The node's certificate or the cluster's CA cannot be used.
    #[error("{0}")]
    Credential(String),
}

/// All apiservers, as one.
pub struct Cloud {
    backends: Vec<Backend>,
    preferred: AtomicUsize,
    credentials: Arc<Credentials>,
    signal: Signal,
    paced: [Arc<Semaphore>; 2],
    connections: Arc<AtomicU64>,
    trouble: Trouble,
}

impl Cloud {
    /// The cloud behind `servers` (at least one), reached with `credentials`.
    pub fn new(servers: &[ServerAddress], credentials: Arc<Credentials>, signal: Signal) -> Self {
        Cloud {
            backends: servers.iter().cloned().map(Backend::new).collect(),
            preferred: AtomicUsize::new(0),
            credentials,
            signal,
            paced: std::array::from_fn(|_| Arc::new(Semaphore::new(PACED_STREAMS))),
            connections: Arc::new(AtomicU64::new(0)),
            trouble: Trouble::default(),
        }
    }

    /// Sends a request and returns the head of the answer. The next server is tried while no byte was sent.
    pub async fn send(
        &self,
        identity: &Identity,
        lane: Lane,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Received>, CloudError> {
        let mut request = request;
        let mut last = CloudError::Unreachable("no server is configured".to_owned());
        for backend in self.in_order() {
            match backend.send(self, identity.is_node(), lane, request).await {
                Ok(answer) => return Ok(answer),
                Err(backend::SendError::NotSent(back, error)) => {
                    request = *back;
                    last = error;
                }
                Err(backend::SendError::Sent(error)) => return Err(error),
            }
        }
        match last {
            // These say nothing about the link.
            CloudError::Busy | CloudError::Credential(_) => {}
            CloudError::Connecting(_) => self.signal.report(Event::Doubtful),
            _ => self.signal.report(Event::Failed(Failure::Refused)),
        }
        Err(last)
    }

    /// A place for a body that goes at a client's pace, held as long as it flows; waits for a free one.
    pub async fn pace(&self, identity: &Identity) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let [node, other] = &self.paced;
        let places = if identity.is_node() { node } else { other };
        let wait = tokio::time::timeout(Duration::from_secs(5), Arc::clone(places).acquire_owned());
        wait.await.ok()?.ok()
    }

    /// Closes all connections; streams on them end with an error.
    pub fn disconnect(&self) {
        self.backends.iter().for_each(Backend::disconnect);
    }

    /// Lets connections with the old certificates run dry; the next request makes new ones.
    pub fn renew(&self) {
        self.backends.iter().for_each(Backend::renew);
    }

    /// HTTP/2 connections open now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What is wrong with the link now, in words.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.now()
    }

    /// Where doubts about the link are reported.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    fn in_order(&self) -> impl Iterator<Item = &Backend> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.backends.len();
        (0..count).filter_map(move |i| self.backends.get((first + i) % count))
    }

    fn prefer(&self, backend: &Backend) {
        if let Some(index) = self.backends.iter().position(|b| std::ptr::eq(b, backend)) {
            self.preferred.store(index, Ordering::Relaxed);
        }
    }
}
