//! The connections to the apiservers and what travels on them.
//!
//! Owns sockets, TLS and health per server. Never decides whether a request should go upstream, and
//! never reads what an answer means beyond "is this Kubernetes speaking".
//!
//! Four HTTP/2 connections to a server while each has streams left: for the node's identity and for callers who bring their own
//! (a connection with a client certificate would lend them the node's), one that the hub itself
//! always drains (reflectors) and one for requests. On the latter, bodies that go at a client's pace
//! are limited so that their stream windows together stay below the connection's: stalled readers
//! cannot freeze it by arithmetic. Upgrades get HTTP/1.1 connections of their own.

mod backend;
mod forward;
mod health;
mod lane;
mod line;
mod names;
mod pace;
mod probe;
mod received;
mod trouble;
mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tokio::sync::{Semaphore, watch};

pub use backend::{ServerAddress, ServerStatus};
pub use forward::{outgoing, strip_hop_by_hop};
pub use health::Mode;
pub use lane::Lane;
pub use received::Received;

use crate::connectivity::{Event, Failure, Signal};
use crate::credential::Credentials;
use backend::{Backend, SendError};
use health::Health;
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

/// Which server an answer came from; among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(usize);

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
    mode: Mode,
    /// Where this node's reflectors are at home when servers take turns.
    home: usize,
    turn: AtomicUsize,
    /// Grows with every server that falls ill or gets well.
    changes: watch::Sender<u64>,
    credentials: Arc<Credentials>,
    signal: Signal,
    paced: [Arc<Semaphore>; 2],
    trouble: Trouble,
}

impl Cloud {
    /// The cloud behind `servers` (at least one), reached with `credentials`. The node's name spreads the nodes
    /// over servers that take turns.
    pub fn new(
        servers: &[ServerAddress],
        mode: Mode,
        node: &str,
        credentials: Arc<Credentials>,
        signal: Signal,
    ) -> Self {
        Cloud {
            backends: servers.iter().map(|s| Backend::new(s.clone(), signal.clone())).collect(),
            mode,
            home: node.bytes().fold(0, |sum: usize, b| sum.wrapping_mul(31).wrapping_add(usize::from(b))),
            turn: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
            credentials,
            signal,
            paced: std::array::from_fn(|_| Arc::new(Semaphore::new(PACED_STREAMS))),
            trouble: Trouble::default(),
        }
    }

    /// Sends a request and returns the head of the answer. The next server is tried while no byte was sent, and
    /// also after that when the request changes nothing (RFC 9110 section 9.2.2).
    pub async fn send(
        &self,
        identity: &Identity,
        lane: Lane,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Received>, CloudError> {
        let spare = (self.backends.len() > 1 && request.method().is_safe()).then(|| request.clone());
        let mut request = request;
        let mut last = CloudError::Unreachable("no server is configured".to_owned());
        for backend in self.in_order(lane) {
            match backend.send(self, identity.is_node(), lane, request).await {
                Ok(mut answer) => {
                    self.note(backend, health::Event::Worked);
                    answer.extensions_mut().insert(self.server_of(backend));
                    return Ok(answer);
                }
                Err(SendError::NotSent(back, error)) => {
                    self.failed(backend, &error);
                    (request, last) = (*back, error);
                }
                Err(SendError::Sent(error)) => {
                    let Some(spare) = &spare else { return Err(error) };
                    (request, last) = (spare.clone(), error);
                }
            }
        }
        match last {
            // These say nothing about the link, or their connection has said it.
            CloudError::Busy | CloudError::Credential(_) | CloudError::Lost(_) => {}
            CloudError::Connecting(_) => self.signal.report(Event::Doubtful),
            CloudError::Unreachable(_) => self.signal.report(Event::Failed(Failure::Refused)),
        }
        Err(last)
    }

    /// Asks every server the same, and returns those answers that began within `bound`, each with its server.
    pub async fn ask_each(
        &self,
        identity: &Identity,
        request: &Request<Full<Bytes>>,
        bound: Duration,
    ) -> Vec<(usize, Response<Received>)> {
        let asking = self.backends.iter().enumerate().map(|(index, backend)| async move {
            let sent = backend.send(self, identity.is_node(), Lane::Requests, request.clone());
            Some((index, tokio::time::timeout(bound, sent).await.ok()?.ok()?))
        });
        let answers = futures_util::future::join_all(asking).await.into_iter().flatten().collect();
        self.tidy();
        answers
    }

    /// Waits until an answer of this server would rather be another one's, and still is after `pause`.
    pub async fn outranked(&self, server: Server, pause: Duration) {
        let Some(backend) = self.backends.get(server.0) else { return std::future::pending().await };
        let mut changes = self.changes.subscribe();
        let better = || !self.is_used(backend) && self.backends.iter().any(|b| b.health() == Health::Well);
        loop {
            if better() {
                tokio::time::sleep(pause).await;
                if better() {
                    return;
                }
            }
            if changes.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    fn server_of(&self, backend: &Backend) -> Server {
        Server(self.backends.iter().position(|b| std::ptr::eq(b, backend)).unwrap_or(0))
    }

    /// A server answers with what is older than others have shown.
    pub fn lags(&self, server: usize) {
        if let Some(backend) = self.backends.get(server) {
            self.note(backend, health::Event::Lags);
        }
    }

    /// Whether there is nobody else to ask.
    pub fn has_one_server(&self) -> bool {
        self.backends.len() == 1
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
        // What comes back may be another link.
        self.backends.iter().for_each(|b| b.line.pace.forget());
    }

    /// Lets connections with the old certificates run dry; the next request makes new ones.
    pub fn renew(&self) {
        self.backends.iter().for_each(Backend::renew);
    }

    /// HTTP/2 connections open now.
    pub fn connections(&self) -> u64 {
        self.backends.iter().map(|b| b.line.connections.load(Ordering::Relaxed)).sum()
    }

    /// Every server, in the order of the setting.
    pub fn servers(&self) -> Vec<ServerStatus> {
        self.backends.iter().map(|b| b.status(self.is_used(b), self.has_one_server())).collect()
    }

    /// How several servers are used.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What is wrong with the link now, in words.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.now()
    }

    /// Where doubts about the link are reported.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    fn in_order(&self, lane: Lane) -> impl Iterator<Item = &Backend> {
        let turn = match lane {
            Lane::Reflect => self.home,
            Lane::Requests => self.home.wrapping_add(self.turn.fetch_add(1, Ordering::Relaxed)),
        };
        self.order(turn).into_iter().filter_map(|i| self.backends.get(i))
    }

    fn order(&self, turn: usize) -> Vec<usize> {
        if self.backends.len() == 1 {
            return vec![0];
        }
        let healths: Vec<_> = self.backends.iter().map(Backend::health).collect();
        health::order(self.mode, &healths, turn)
    }

    /// Whether requests are sent to this server now.
    fn is_used(&self, backend: &Backend) -> bool {
        let first = self.order(0).first().and_then(|i| self.backends.get(*i));
        match self.mode {
            Mode::Priority => first.is_some_and(|first| std::ptr::eq(first, backend)),
            Mode::RoundRobin => {
                backend.health() == Health::Well || first.is_some_and(|first| first.health() != Health::Well)
            }
        }
    }

    fn failed(&self, backend: &Backend, error: &CloudError) {
        if matches!(error, CloudError::Unreachable(_) | CloudError::Connecting(_)) {
            self.note(backend, health::Event::Failed);
        }
    }

    fn note(&self, backend: &Backend, event: health::Event) {
        if !backend.note(event) || self.backends.len() == 1 {
            return;
        }
        let well = backend.health() == Health::Well;
        self.changes.send_modify(|n| *n += 1);
        tracing::info!(server = backend.authority(), well, because = ?event, "the health of an apiserver changed");
        self.tidy();
    }

    /// Servers that are not in use keep the streams that they have, and get no new ones.
    fn tidy(&self) {
        self.backends.iter().filter(|b| !self.is_used(b)).for_each(Backend::renew);
    }
}
