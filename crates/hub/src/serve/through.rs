//! A watch that is passed through: the cloud's own stream, byte for byte, until the collection that fills beside it can
//! go on where it is.
//!
//! The cloud's stream costs the apiserver one of its own and ends with the link; a collection's does neither. So a
//! client is moved to the collection between two events, without noticing: as soon as it is known up to which version
//! it was told everything, and at the latest when the stream is lost (P4). That version is never guessed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::ResourceRequest;

use super::flow::Flow;
use super::told::{Next, Told};
use super::{Asked, Pipeline};
use crate::cache::collection::Watching;
use crate::cache::{Scope, WatchRequest};
use crate::cloud::Received;
use crate::metrics::Moved;
use crate::respond::{Body, BoxError};
use crate::tasks::{self, Shutdown};

/// A client that takes nothing of the cloud's stream for this long is cut off: the stream takes a part of the
/// connection's window without having a place.
const WRITE_BOUND: Duration = Duration::from_secs(5);

/// The pauses between looks at a collection that is to be live, the first and the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Whether the collection beside a stream is held.
pub(super) enum Filled {
    /// It is told when it is.
    Waiting(oneshot::Receiver<()>),
    /// It is.
    Yes,
    /// It cannot be filled.
    Never,
}

/// The collection that may take a client over.
pub(super) struct Onward {
    pipeline: Arc<Pipeline>,
    asked: Asked,
    form: Representation,
    filled: Filled,
    /// Keeps it up to date for a client that goes there when its stream is lost, and not before.
    standing_by: Option<Watching>,
    /// The version from which it could not go on.
    tried: Option<u64>,
}

impl Onward {
    /// For a client that asked for this and gets it in this form, or in tables of it.
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        mut asked: Asked,
        form: Representation,
        filled: Filled,
    ) -> Self {
        // What belongs to the request's connection is not kept for as long as the watch lasts.
        asked.parts.extensions.clear();
        Onward { pipeline, asked, form, filled, standing_by: None, tried: None }
    }

    /// Waits until it is known whether the collection is held.
    async fn settled(&mut self) {
        if let Filled::Waiting(filled) = &mut self.filled {
            self.filled = if filled.await.is_ok() { Filled::Yes } else { Filled::Never };
        }
    }

    /// Waits until the collection is kept up to date; for ever when it cannot be filled.
    async fn held(&mut self) {
        self.settled().await;
        if matches!(self.filled, Filled::Never) {
            std::future::pending::<()>().await;
        }
        let mut look = LOOK.0;
        while !self.is_live() {
            tokio::time::sleep(look).await;
            look = (look * 2).min(LOOK.1);
        }
    }

    fn is_live(&self) -> bool {
        self.asked.resource().is_some_and(|request| self.pipeline.cache.follows(request, self.form))
    }

    /// Keeps the collection for the end of the cloud's stream.
    async fn stand_by(&mut self) {
        self.settled().await;
        if self.standing_by.is_none() {
            self.standing_by = self.asked.resource().and_then(|r| self.pipeline.cache.stand_by(r));
        }
        std::future::pending().await
    }

    /// What the collection has for a client that was told this.
    async fn after(
        &mut self,
        told: &Told,
        moved: Moved,
    ) -> Option<impl Stream<Item = Result<Bytes, BoxError>> + use<>> {
        let mut request = self.asked.resource()?.clone();
        let next = told.next()?;
        self.tried = told.version_now();
        self.rest_of(&mut request, next);
        let table = match told.are_tables() {
            true => self.pipeline.table(&self.asked).await.ok()?,
            false => None,
        };
        let scope = if moved == Moved::Lost { Scope::Held } else { Scope::Same };
        let (wanted, columns) = (&[self.form], told.columns());
        let plan = WatchRequest { request: &request, wanted, scope, table, columns };
        let rest = self.pipeline.go_on(&self.asked, plan, next, moved).await?;
        self.pipeline.metrics.moved(moved);
        tracing::debug!(path = self.asked.info.path, reason = moved.as_str(), ?next, "a watch moved");
        Some(rest)
    }

    /// The watch that is left of it.
    fn rest_of(&self, request: &mut ResourceRequest, next: Next) {
        let options = &mut request.options;
        if let Next::After(version) | Next::Object(version) = next {
            options.resource_version = Some(version.to_string());
            (options.resource_version_match, options.send_initial_events) = (None, None);
        }
        let spent = self.asked.at.elapsed().as_secs();
        options.timeout_seconds = options.timeout_seconds.map(|all| all.saturating_sub(spent).max(1));
    }
}

/// A stream on its way through.
pub(super) struct Through {
    told: Told,
    onward: Option<Onward>,
    shutdown: Shutdown,
}

impl Through {
    /// A watch of this encoding that was asked for so, if that is known; `tables` when it asked for tables.
    pub(super) fn new(
        encoding: Encoding,
        request: Option<&ResourceRequest>,
        tables: bool,
        onward: Option<Onward>,
        shutdown: Shutdown,
    ) -> Self {
        Through { told: Told::new(encoding, request, tables), onward, shutdown }
    }

    /// The body for the client.
    pub(super) fn body(self, body: Received) -> Body {
        let (flow, stream) = Flow::new();
        tasks::spawn("watch through", tasks::Failure::Local, self.run(body, flow));
        stream
    }

    async fn run(mut self, mut body: Received, flow: Flow) {
        loop {
            let next = tokio::select! {
                next = body.frame() => next,
                () = flow.closed() => return,
                () = stopping(&self.told, &mut self.shutdown) => return flow.end(),
                () = ripe(&self.told, self.onward.as_mut()) => {
                    if let Some(rest) = self.rest(Moved::Filled).await {
                        // The cloud has a stream less from now on.
                        drop(body);
                        return follow(rest, flow).await;
                    }
                    continue;
                }
            };
            let chunk = match next.map(|frame| frame.map(http_body::Frame::into_data)) {
                None => return flow.end(),
                Some(Ok(Ok(chunk))) => chunk,
                Some(Ok(Err(_trailers))) => continue,
                Some(Err(_)) => return self.lost(flow).await,
            };
            self.told.saw(&chunk);
            if flow.send_within(WRITE_BOUND, chunk).await.is_err() {
                return;
            }
        }
    }

    /// What the collection has for this client after what it was told.
    async fn rest(&mut self, moved: Moved) -> Option<impl Stream<Item = Result<Bytes, BoxError>> + use<>> {
        self.onward.as_mut()?.after(&self.told, moved).await
    }

    /// The cloud's stream broke off.
    async fn lost(mut self, flow: Flow) {
        match self.rest(Moved::Lost).await {
            Some(rest) => follow(rest, flow).await,
            // It ends as watches do: its client goes on from where it is.
            None if self.told.is_between_events() => flow.end(),
            None => {}
        }
    }
}

/// Waits for the moment at which a watch that is passed through ends: the hub stops, and no event is half told.
async fn stopping(told: &Told, shutdown: &mut Shutdown) {
    match told.is_between_events() {
        true => shutdown.wait().await,
        false => std::future::pending().await,
    }
}

/// Waits until the collection may take the client over from where it is now. Tables are the cloud's while it answers.
async fn ripe(told: &Told, onward: Option<&mut Onward>) {
    match onward {
        Some(onward) if told.are_tables() => onward.stand_by().await,
        Some(onward) if told.version_now().is_some_and(|version| onward.tried != Some(version)) => {
            onward.held().await;
        }
        _ => std::future::pending().await,
    }
}

/// The collection's stream, to its end, at the client's pace: it has a history and waits for nobody.
async fn follow(rest: impl Stream<Item = Result<Bytes, BoxError>>, flow: Flow) {
    let mut rest = std::pin::pin!(rest);
    loop {
        let next = tokio::select! {
            next = rest.next() => next,
            () = flow.closed() => return,
        };
        match next {
            None => return flow.end(),
            Some(Err(_)) => return,
            Some(Ok(chunk)) => {
                if flow.send(|| chunk).await.is_err() {
                    return;
                }
            }
        }
    }
}
