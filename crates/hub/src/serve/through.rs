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
use yurt_api::object;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::{Options, ResourceRequest};
use yurt_api::watch::{Decoder, EventType, Frame};

use super::flow::Flow;
use super::upstream::MAX_OBJECT;
use super::{Asked, Pipeline};
use crate::cache::version;
use crate::cloud::Received;
use crate::respond::{Body, BoxError};
use crate::tasks::{self, Shutdown};

/// A client that takes nothing of the cloud's stream for this long is cut off: the stream takes a part of the
/// connection's window without having a place.
const WRITE_BOUND: Duration = Duration::from_secs(5);

/// Up to where a client was told everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// Nobody knows: the objects that a watch begins with come in no order, and nothing comes after an error.
    Unknown,
    /// Events come in the order of their versions; none was seen yet.
    Ordered,
    /// Everything up to this version.
    Version(u64),
}

impl Reached {
    /// Before the first event of such a watch.
    fn at_start(options: &Options) -> Self {
        match version::start_of_watch(options) {
            Ok((0, false)) => Reached::Ordered,
            Ok((version, false)) => Reached::Version(version),
            _ => Reached::Unknown,
        }
    }

    /// After an event whose object has this version, 0 for one that has none.
    fn after(self, kind: EventType, version: u64) -> Self {
        match (kind, self) {
            (EventType::Error, _) => Reached::Unknown,
            // One ends the unordered beginning (KEP-3157), and none comes in the middle of it.
            (EventType::Bookmark, _) if version > 0 => Reached::Version(version),
            (_, Reached::Ordered | Reached::Version(_)) if version > 0 => Reached::Version(version),
            _ => Reached::Unknown,
        }
    }
}

/// What a client was told of a stream.
struct Told {
    encoding: Encoding,
    decoder: Decoder,
    /// Whether all of it could be read.
    sound: bool,
    reached: Reached,
}

impl Told {
    /// Takes note of bytes that go by.
    fn saw(&mut self, chunk: &Bytes) {
        if !self.sound {
            return;
        }
        self.decoder.push(chunk.clone());
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => self.reached = self.reached.after(frame.kind, self.version(&frame)),
                Ok(None) => return,
                Err(_) => return self.sound = false,
            }
        }
    }

    fn version(&self, frame: &Frame) -> u64 {
        let item = object::to_item(self.encoding, &frame.object);
        let meta = item.and_then(|item| object::meta(self.encoding, &item));
        meta.map_or(0, |meta| meta.resource_version)
    }

    /// Whether the client has got whole events and nothing else.
    fn is_between_events(&self) -> bool {
        self.sound && !self.decoder.is_mid_frame()
    }

    /// The version from which another stream could go on now.
    fn version_now(&self) -> Option<u64> {
        match self.reached {
            Reached::Version(version) if self.is_between_events() => Some(version),
            _ => None,
        }
    }
}

/// Whether the collection beside a stream is held.
enum Filled {
    Waiting(oneshot::Receiver<()>),
    Yes,
    Never,
}

/// The collection that may take a client over.
pub(super) struct Onward {
    pipeline: Arc<Pipeline>,
    asked: Asked,
    form: Representation,
    filled: Filled,
    /// The version from which it could not go on.
    tried: Option<u64>,
}

impl Onward {
    /// For a client that asked for this and gets it in this form; `filled` is told when the collection is held.
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        mut asked: Asked,
        form: Representation,
        filled: oneshot::Receiver<()>,
    ) -> Self {
        // What belongs to the request's connection is not kept for as long as the watch lasts.
        asked.parts.extensions.clear();
        Onward { pipeline, asked, form, filled: Filled::Waiting(filled), tried: None }
    }

    /// Waits for the collection; for ever when it cannot be filled.
    async fn held(&mut self) {
        if let Filled::Waiting(filled) = &mut self.filled {
            self.filled = if filled.await.is_ok() { Filled::Yes } else { Filled::Never };
        }
        if matches!(self.filled, Filled::Never) {
            std::future::pending::<()>().await;
        }
    }

    async fn from(
        &mut self,
        version: u64,
        lost: bool,
    ) -> Option<impl Stream<Item = Result<Bytes, BoxError>> + use<>> {
        self.tried = Some(version);
        let mut request = self.asked.resource()?.clone();
        self.rest_of(&mut request, version);
        self.pipeline.go_on(&self.asked, &request, self.form, lost).await
    }

    /// The watch that is left of it.
    fn rest_of(&self, request: &mut ResourceRequest, version: u64) {
        let options = &mut request.options;
        options.resource_version = Some(version.to_string());
        (options.resource_version_match, options.send_initial_events) = (None, None);
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
    /// A watch of this encoding that was asked for by these options, if they are known.
    pub(super) fn new(
        encoding: Encoding,
        options: Option<&Options>,
        onward: Option<Onward>,
        shutdown: Shutdown,
    ) -> Self {
        let reached = options.map_or(Reached::Unknown, Reached::at_start);
        let told = Told { encoding, decoder: Decoder::new(encoding, MAX_OBJECT), sound: true, reached };
        Through { told, onward, shutdown }
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
                    if let Some(rest) = self.rest(false).await {
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
    async fn rest(&mut self, lost: bool) -> Option<impl Stream<Item = Result<Bytes, BoxError>> + use<>> {
        let version = self.told.version_now()?;
        self.onward.as_mut()?.from(version, lost).await
    }

    /// The cloud's stream broke off.
    async fn lost(mut self, flow: Flow) {
        match self.rest(true).await {
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

/// Waits until the collection may take the client over from where it is now.
async fn ripe(told: &Told, onward: Option<&mut Onward>) {
    match onward {
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

#[cfg(test)]
mod tests {
    use super::*;
    use EventType::{Added, Bookmark, Deleted, Error, Modified};
    use Reached::{Ordered, Unknown, Version};

    #[test]
    fn a_version_is_known_once_events_come_in_order() {
        type Case = (Reached, &'static [(EventType, u64)], Reached);
        let cases: [Case; 9] = [
            (Version(7), &[], Version(7)),
            (Version(7), &[(Modified, 9), (Deleted, 12)], Version(12)),
            (Ordered, &[(Added, 9)], Version(9)),
            // The objects at the beginning are in the order of their names.
            (Unknown, &[(Added, 9), (Added, 4)], Unknown),
            (Unknown, &[(Added, 9), (Added, 4), (Bookmark, 11)], Version(11)),
            (Unknown, &[(Added, 9), (Bookmark, 11), (Modified, 14)], Version(14)),
            // Who is told an error begins anew.
            (Version(7), &[(Error, 0)], Unknown),
            (Version(7), &[(Modified, 0)], Unknown),
            (Version(7), &[(Modified, 0), (Modified, 9)], Unknown),
        ];
        for (start, events, expected) in cases {
            let reached =
                events.iter().fold(start, |reached, (kind, version)| reached.after(*kind, *version));
            assert_eq!(reached, expected, "{start:?} {events:?}");
        }
    }

    #[test]
    fn a_watch_begins_where_its_options_say() {
        let options = |version: Option<&str>, initial: Option<bool>| Options {
            watch: true,
            resource_version: version.map(str::to_owned),
            resource_version_match: initial.map(|_| "NotOlderThan".to_owned()),
            send_initial_events: initial,
            ..Options::default()
        };
        let cases = [
            (options(Some("7"), None), Version(7)),
            (options(Some("7"), Some(false)), Version(7)),
            (options(Some("7"), Some(true)), Unknown),
            (options(Some("0"), None), Unknown),
            (options(None, None), Unknown),
            (options(None, Some(true)), Unknown),
            (options(None, Some(false)), Ordered),
            (options(Some("x"), None), Unknown),
        ];
        for (options, expected) in cases {
            assert_eq!(Reached::at_start(&options), expected, "{options:?}");
        }
    }
}
