//! Bodies of requests: read whole, within their size, their time and the memory that all may take together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::identify::Caller;
use crate::respond::Reason;

/// The largest body of a request, in bytes: the apiserver's own limit
/// (`MaxRequestBodyBytes` of `k8s.io/apiserver/pkg/server/config.go`, 3 MiB).
const MAX_REQUEST: usize = 3 << 20;
/// What all bodies together may take, in KiB: those of the node, and those of everybody else, who thereby cannot
/// keep the node from writing.
const ALL_KIB: usize = 16 << 10;
/// A body that is not there whole by then is given up.
const BOUND: Duration = Duration::from_secs(20);

/// The memory for bodies.
pub struct Bodies {
    node: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

/// A body and its place in the memory for bodies.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) _place: Place,
}

/// Memory that is taken, and counted as long as it is.
pub(super) struct Place {
    permits: Vec<OwnedSemaphorePermit>,
    kib: u32,
    taken: Gauge,
}

impl Place {
    fn grow(&mut self, memory: &Arc<Semaphore>, bytes: usize) -> Option<()> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.permits.push(Arc::clone(memory).try_acquire_many_owned(kib).ok()?);
        self.kib += kib;
        self.taken.inc_by(i64::from(kib) << 10);
        Some(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.dec_by(i64::from(self.kib) << 10);
    }
}

/// Why there is no body.
pub(super) type NoBody = (Reason, String);

impl Default for Bodies {
    fn default() -> Self {
        Bodies { node: Arc::new(Semaphore::new(ALL_KIB)), others: Arc::new(Semaphore::new(ALL_KIB)) }
    }
}

impl Bodies {
    /// Reads a whole body; `taken` says what all take now.
    pub(super) async fn read(&self, caller: &Caller, body: Incoming, taken: &Gauge) -> Result<Whole, NoBody> {
        let memory = if *caller == Caller::Node { &self.node } else { &self.others };
        let reading = tokio::time::timeout(BOUND, collect(memory, body, taken.clone()));
        reading
            .await
            .unwrap_or_else(|_| Err((Reason::SlowClient, format!("the body did not come within {BOUND:?}"))))
    }
}

async fn collect(memory: &Arc<Semaphore>, mut body: Incoming, taken: Gauge) -> Result<Whole, NoBody> {
    let mut bytes = BytesMut::new();
    let mut place = Place { permits: Vec::new(), kib: 0, taken };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| (Reason::BadRequest, format!("the body cannot be read: {e}")))?;
        let Ok(chunk) = frame.into_data() else { continue };
        if bytes.len() + chunk.len() > MAX_REQUEST {
            return Err((Reason::TooLarge, format!("the body is larger than {MAX_REQUEST} bytes")));
        }
        let taken = place.grow(memory, chunk.len());
        taken.ok_or_else(|| (Reason::Overload, "too many large requests at once".to_owned()))?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(Whole { bytes: bytes.freeze(), _place: place })
}
