//! Every request that reached the server, for tests that count.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::SystemTime,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde_json::{Value, json};

/// How many requests are remembered.
const KEPT: usize = 200_000;

/// One request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Number of the request, from 0.
    pub id: u64,
    /// Number of the TCP connection, from 1.
    pub connection: u64,
    /// The connection spoke HTTP/2.
    pub http2: bool,
    /// When it arrived.
    pub at: SystemTime,
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query, "" for none.
    pub query: String,
    /// Authenticated user; "" when authentication failed.
    pub user: String,
    /// `User-Agent`.
    pub user_agent: String,
    /// `Accept`.
    pub accept: String,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// HTTP status; 0 = not answered yet.
    pub status: u16,
    /// Bytes of the answer's body so far.
    pub response_bytes: u64,
    /// It was a watch.
    pub watch: bool,
    /// The answer has ended, or the client has gone.
    pub finished: bool,
}

impl Entry {
    /// "GET /path?query".
    pub fn line(&self) -> String {
        let question = if self.query.is_empty() { "" } else { "?" };
        format!("{} {}{question}{}", self.method, self.path, self.query)
    }

    /// As JSON, for another process.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id, "connection": self.connection, "http2": self.http2, "method": self.method, "path": self.path,
            "query": self.query, "user": self.user, "userAgent": self.user_agent, "status": self.status,
            "requestBytes": self.request_bytes, "responseBytes": self.response_bytes, "watch": self.watch,
            "finished": self.finished,
        })
    }
}

/// The trail.
#[derive(Debug, Default)]
pub struct Audit {
    entries: Mutex<VecDeque<Entry>>,
    next: AtomicU64,
}

impl Audit {
    /// Records a new request; returns its number.
    pub fn begin(&self, mut entry: Entry) -> u64 {
        let mut entries = self.entries.lock().unwrap();
        entry.id = self.next.fetch_add(1, Ordering::SeqCst);
        let id = entry.id;
        entries.push_back(entry);
        if entries.len() > KEPT {
            entries.pop_front();
        }
        id
    }

    /// Changes a recorded request.
    pub fn amend(&self, id: u64, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock().unwrap();
        if let Some(entry) = entries.binary_search_by_key(&id, |e| e.id).ok().and_then(|i| entries.get_mut(i))
        {
            change(entry);
        }
    }

    /// All that is remembered, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().iter().cloned().collect()
    }

    /// The requests for which `matches`.
    pub fn matching(&self, matches: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.entries.lock().unwrap().iter().filter(|e| matches(e)).cloned().collect()
    }

    /// How many requests match.
    pub fn count(&self, matches: impl Fn(&Entry) -> bool) -> usize {
        self.entries.lock().unwrap().iter().filter(|e| matches(e)).count()
    }

    /// Forgets the requests that have ended.
    pub fn clear(&self) {
        self.entries.lock().unwrap().retain(|e| !e.finished);
    }
}

/// An answer's body that reports its bytes and its end.
pub struct Tracked {
    body: Body,
    audit: Arc<Audit>,
    id: u64,
}

impl Tracked {
    /// Wraps the body of the answer to request `id`.
    pub fn new(body: Body, audit: Arc<Audit>, id: u64) -> Self {
        Self { body, audit, id }
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |d| d.len() as u64);
            self.audit.amend(self.id, |e| e.response_bytes += bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.audit.amend(self.id, |e| e.finished = true);
    }
}
