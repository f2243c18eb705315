//! Faults of single requests, switched at run time: which requests, and what goes wrong with them.
//! Faults of the whole server (refuse, hold, reset) are switches of [`super::Apiserver`].

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::watch;

use super::error::Refusal;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is taken and never answered.
    Silence,
    /// The answer's first byte comes late.
    SlowFirstByte(Duration),
    /// The body comes in pieces of so many bytes, one each interval.
    SlowBody(usize, Duration),
    /// The body stands still after so many bytes until the gate is opened.
    HoldBody(usize, Gate),
    /// The body ends with a broken stream after so many bytes.
    CutBody(usize),
    /// The body ends after so many bytes as if that were all of it.
    ShortBody(usize),
    /// An answer of this status with a `Status` body of this reason.
    Fail(u16, &'static str),
    /// 429 with `Retry-After` seconds.
    TooManyRequests(u32),
    /// 504 that the asked version is one to come.
    TooLarge,
    /// 200 with a web page, as a captive portal answers.
    Html,
    /// This status with an empty body.
    Empty(u16),
    /// 200 with this text as if it were JSON of the API.
    Garbage(&'static str),
}

/// Holds bodies until it is opened.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed one.
    pub fn closed() -> Self {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    /// Opens it, for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Gate {}

/// The name of a fault that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u64);

type Matches = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;

struct Entry {
    id: u64,
    matches: Matches,
    fault: Fault,
    left: Option<u32>,
}

/// The faults that are switched on.
#[derive(Default)]
pub struct Faults {
    entries: Mutex<Vec<Entry>>,
    next: AtomicU64,
}

impl Faults {
    /// Adds a fault for requests for which `matches(method, path with query)`; `times` = how often.
    pub fn add(
        &self,
        fault: Fault,
        times: Option<u32>,
        matches: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
    ) -> FaultId {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        self.entries.lock().unwrap().push(Entry { id, matches: Box::new(matches), fault, left: times });
        FaultId(id)
    }

    /// Switches one fault off.
    pub fn remove(&self, id: FaultId) {
        self.entries.lock().unwrap().retain(|e| e.id != id.0);
    }

    /// Switches all off.
    pub fn clear(&self) {
        self.entries.lock().unwrap().clear();
    }

    /// The first fault that matches; its count goes down.
    pub fn take(&self, method: &str, path: &str) -> Option<Fault> {
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.iter_mut().find(|e| e.left != Some(0) && (e.matches)(method, path))?;
        entry.left = entry.left.map(|n| n - 1);
        Some(entry.fault.clone())
    }
}

impl Fault {
    /// What is answered instead of asking the server; nothing when the fault only spoils the answer.
    pub async fn instead(&self) -> Option<Result<Response<Body>, Refusal>> {
        match self {
            Self::Silence => std::future::pending().await,
            Self::SlowFirstByte(delay) => {
                tokio::time::sleep(*delay).await;
                None
            }
            Self::SlowBody(..) | Self::HoldBody(..) | Self::CutBody(_) | Self::ShortBody(_) => None,
            Self::Fail(code, reason) => Some(Err(Refusal::new(*code, reason, format!("testkit: {reason}")))),
            Self::TooManyRequests(seconds) => {
                Some(Err(Refusal::too_many_requests("Too many requests, please try again later.", *seconds)))
            }
            Self::TooLarge => Some(Err(Refusal::too_large(2, 1))),
            Self::Html => Some(Ok(page())),
            Self::Empty(code) => Some(Ok(empty(*code))),
            Self::Garbage(text) => Some(Ok(json(text))),
        }
    }

    /// Spoils the body of an answer.
    pub fn spoil(&self, response: Response<Body>) -> Response<Body> {
        match *self {
            Self::HoldBody(after, ref gate) => {
                let gate = gate.clone();
                response.map(|b| Body::from_stream(held(b, after, gate)))
            }
            Self::SlowBody(size, every) => response.map(|b| Body::from_stream(slowly(b, size, every))),
            Self::CutBody(after) => response.map(|b| Body::from_stream(cut(b, after))),
            Self::ShortBody(after) => {
                let mut response = response;
                response.headers_mut().remove(header::CONTENT_LENGTH);
                let whole = |piece: &io::Result<Bytes>| std::future::ready(piece.is_ok());
                response.map(|b| Body::from_stream(cut(b, after).take_while(whole)))
            }
            _ => response,
        }
    }
}

fn page() -> Response<Body> {
    let body = "<!DOCTYPE html><html><body><h1>Welcome to the guest network</h1></body></html>";
    Response::builder().header(header::CONTENT_TYPE, "text/html; charset=utf-8").body(body.into()).unwrap()
}

fn json(text: &'static str) -> Response<Body> {
    Response::builder().header(header::CONTENT_TYPE, "application/json").body(text.into()).unwrap()
}

fn empty(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    response
}

fn slowly(body: Body, size: usize, every: Duration) -> impl Stream<Item = io::Result<Bytes>> {
    let pieces = data(body).flat_map(move |piece| {
        let piece = piece.unwrap_or_default();
        let starts = (0..piece.len()).step_by(size.max(1));
        stream::iter(starts.map(|at| Ok(piece.slice(at..(at + size).min(piece.len())))).collect::<Vec<_>>())
    });
    pieces.then(move |piece| async move {
        tokio::time::sleep(every).await;
        piece
    })
}

fn held(body: Body, after: usize, gate: Gate) -> impl Stream<Item = io::Result<Bytes>> {
    let mut left = after;
    let parts = data(body).flat_map(move |piece| {
        let mut rest = piece.unwrap_or_default();
        let first = rest.split_to(left.min(rest.len()));
        left -= first.len();
        stream::iter([(first, false), (rest, true)])
    });
    parts.then(move |(part, is_held)| {
        let gate = gate.clone();
        async move {
            if is_held && !part.is_empty() {
                gate.passed().await;
            }
            Ok(part)
        }
    })
}

fn cut(body: Body, after: usize) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold((Box::pin(data(body)), Some(after)), |(mut body, left)| async move {
        let left = left?;
        if left == 0 {
            return Some((Err(io::Error::other("testkit: cut")), (body, None)));
        }
        let piece = body.next().await?.ok()?;
        let kept = piece.slice(..left.min(piece.len()));
        let left = left - kept.len();
        Some((Ok(kept), (body, Some(left))))
    })
}

fn data(body: Body) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    stream::unfold(body, |mut body| async move {
        loop {
            match body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), body));
                    }
                }
                Err(e) => return Some((Err(e), body)),
            }
        }
    })
}
