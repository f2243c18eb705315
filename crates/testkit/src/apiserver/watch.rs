//! Watches: from a version or from the present, with bookmarks, streaming lists and their end.
//! Sources: k8s.io/apiserver/pkg/storage/cacher; KEP-3157 (watch-list), KEP-956 (bookmarks).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    error::Refusal,
    media::{Encoding, Media, Shape},
    object::Object,
    protobuf,
    registry::Kind,
    request::Query,
    respond::{object_bytes, value_bytes},
    select::Selection,
    server::{Server, Signal},
    storage::{Change, Storage},
    table,
};

/// How long a watch lasts when the client does not say (the real server: 30 to 60 minutes).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// Starts a watch.
pub async fn watch(
    server: &Arc<Server>,
    kind: &Arc<Kind>,
    selection: Selection,
    query: &Query,
    media: Media,
) -> Result<Response<Body>, Refusal> {
    let start = Start::of_request(query)?;
    let mut stream = Stream::new(server, kind, selection, query, media)?;
    if start.initial_events && !server.reach(start.version).await {
        stream.fail(&Refusal::too_large(start.version, server.read(Storage::version)));
    } else if let Err(gone) = stream.begin(&start) {
        if server.options.gone_over_http {
            return Err(gone);
        }
        stream.fail(&gone);
    }
    let body = Body::from_stream(futures_util::stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((Ok::<_, std::io::Error>(frame), stream))
    }));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media.content_type(true)));
    Ok(response)
}

/// Where a watch begins.
struct Start {
    version: u64,
    /// The present as ADDED events first, and the bookmark that ends them.
    initial_events: bool,
}

impl Start {
    fn of_request(query: &Query) -> Result<Self, Refusal> {
        super::options::check_watch(query)?;
        let version = query.resource_version()?;
        let asked = query.get("sendInitialEvents");
        let from_now = version.unwrap_or(0) == 0;
        // A watch from nothing is a streaming list, too (`SetListOptionsDefaults`).
        let initial_events = query.flag("sendInitialEvents") || asked.is_empty() && from_now;
        Ok(Self { version: version.unwrap_or(0), initial_events })
    }
}

struct Stream {
    server: Arc<Server>,
    kind: Arc<Kind>,
    selection: Selection,
    media: Media,
    position: u64,
    frames: VecDeque<Bytes>,
    signal: watch::Receiver<Signal>,
    born: Signal,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    over: bool,
}

impl Stream {
    fn new(
        server: &Arc<Server>,
        kind: &Arc<Kind>,
        selection: Selection,
        query: &Query,
        media: Media,
    ) -> Result<Self, Refusal> {
        let timeout =
            query.number("timeoutSeconds")?.filter(|s| *s > 0).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let mut signal = server.signal.subscribe();
        let born = *signal.borrow_and_update();
        let bookmarks = query.flag("allowWatchBookmarks");
        Ok(Self {
            server: server.clone(),
            kind: kind.clone(),
            selection,
            media,
            position: 0,
            frames: VecDeque::new(),
            signal,
            born,
            deadline: Instant::now() + timeout,
            next_bookmark: bookmarks.then(|| Instant::now() + server.options.bookmark_interval),
            over: false,
        })
    }

    fn begin(&mut self, start: &Start) -> Result<(), Refusal> {
        let resource = self.kind.group_resource();
        let server = self.server.clone();
        let (version, present) = server
            .read(|storage| {
                let all = storage.table(&resource).into_iter().flat_map(|t| t.values());
                let present: Vec<_> =
                    all.filter(|o| start.initial_events && self.selection.matches(o)).cloned().collect();
                let known = start.initial_events
                    || start.version == 0
                    || storage.changes_after(&resource, start.version).is_ok();
                if known { Ok((storage.version(), present)) } else { Err(storage.oldest()) }
            })
            .map_err(|oldest| Refusal::too_old(start.version, oldest))?;
        self.position = if start.initial_events || start.version == 0 { version } else { start.version };
        for object in present {
            self.event("ADDED", &object);
        }
        if start.initial_events && self.next_bookmark.is_some() {
            self.bookmark(true);
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            self.collect();
            if self.frames.is_empty() && !self.over {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        let bookmark = self.next_bookmark.unwrap_or(self.deadline);
        tokio::select! {
            changed = self.signal.changed() => self.over |= changed.is_err() || self.demands(),
            () = sleep_until(bookmark), if bookmark < self.deadline => self.bookmark(false),
            () = sleep_until(self.deadline) => self.over = true,
        }
    }

    /// Sends a bookmark when one is demanded; true when the watch must end.
    fn demands(&mut self) -> bool {
        let now = *self.signal.borrow_and_update();
        if now.bookmarks != self.born.bookmarks && self.next_bookmark.is_some() {
            self.collect();
            self.bookmark(false);
        }
        self.born.bookmarks = now.bookmarks;
        now.epoch != self.born.epoch
    }

    fn collect(&mut self) {
        let resource = self.kind.group_resource();
        let server = self.server.clone();
        let found = server.read(|s| (s.changes_after(&resource, self.position), s.version(), s.oldest()));
        match found {
            (Ok(changes), version, _) => {
                changes.iter().for_each(|c| self.change(c));
                self.position = self.position.max(version);
            }
            (Err(_), _, oldest) => self.fail(&Refusal::too_old(self.position, oldest)),
        }
    }

    fn change(&mut self, change: &Change) {
        let before = change.previous.as_ref().is_some_and(|p| self.selection.matches(p));
        let now = !change.deleted && self.selection.matches(&change.object);
        match (before, now) {
            (false, true) => self.event("ADDED", &change.object),
            (true, true) => self.event("MODIFIED", &change.object),
            (true, false) if change.deleted => self.event("DELETED", &change.object),
            (true, false) => {
                let last = change.previous.as_ref().map(|p| p.at_version(change.version));
                last.iter().for_each(|last| self.event("DELETED", last));
            }
            (false, false) => {}
        }
    }

    fn event(&mut self, event: &str, object: &Object) {
        match object_bytes(self.media, &self.kind, object) {
            Some(bytes) => self.frame(event, &bytes),
            None => self.over = true,
        }
    }

    fn bookmark(&mut self, ends_initial_events: bool) {
        self.next_bookmark = Some(Instant::now() + self.server.options.bookmark_interval);
        if self.server.read(Storage::version) < self.position {
            // A watch from a version that is still to come hears nothing until it has come
            // (cacher/cache_watcher.go, process).
            return;
        }
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if ends_initial_events {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut value =
            json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
        match self.media.shape {
            Shape::Whole => {}
            Shape::Metadata => {
                value["kind"] = "PartialObjectMetadata".into();
                value["apiVersion"] = "meta.k8s.io/v1".into();
            }
            Shape::Table => value = table::bookmark(&self.kind, &value["metadata"]),
        }
        self.value("BOOKMARK", &value);
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.value("ERROR", &refusal.status());
        self.over = true;
    }

    fn value(&mut self, event: &str, value: &Value) {
        if let Some(bytes) = value_bytes(self.media.encoding, value) {
            self.frame(event, &bytes);
        }
    }

    fn frame(&mut self, event: &str, object: &[u8]) {
        let frame = match self.media.encoding {
            Encoding::Protobuf => protobuf::frame(event, object),
            Encoding::Json => {
                let mut line = format!(r#"{{"type":"{event}","object":"#).into_bytes();
                line.extend_from_slice(object);
                line.extend_from_slice(b"}\n");
                line
            }
        };
        self.frames.push_back(frame.into());
    }
}
