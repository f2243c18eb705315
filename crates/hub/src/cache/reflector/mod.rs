//! The one upstream list and watch that keeps a live collection, however many local clients it has.
//!
//! Runs while somebody uses the collection and for a while after; resumes from the stored version
//! after an outage or a restart; stores a change before anybody hears of it.

mod step;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::list;
use yurt_api::object;
use yurt_api::representation::Representation;
use yurt_api::status::Status;
use yurt_api::watch::{Decoder, EventType, Frame};
use yurt_store::{Change, CollectionRecord, CollectionState, Row, StoreError, Writer};

use super::collection::{Collection, Upstream};
use super::keep::NotKept;
use super::{Cache, FrontError};
use crate::cloud::{Identity, Lane, Received};
use crate::connectivity::{Event as LinkEvent, State as LinkState};
use crate::tasks;
use step::{Event, State, step};

/// A collection that nobody has used for this long is no longer kept up to date.
const LINGER: Duration = Duration::from_secs(300);
/// A watch ends after 5 to 10 minutes, as client-go asks for it.
const WATCH_SECONDS: (u64, u64) = (300, 600);
/// The largest list that is taken into memory, in bytes.
pub const MAX_LIST: usize = 128 << 20;
/// The largest watch frame, in bytes: etcd keeps no object above 1.5 MiB; conversion may add to it.
const MAX_FRAME: usize = 16 << 20;
/// No first byte of an answer within this time is a failure.
const ANSWER_BOUND: Duration = Duration::from_secs(30);

/// Why a round ended otherwise than by an event of the protocol.
enum Stop {
    Event(Event),
}

impl From<FrontError> for Stop {
    fn from(error: FrontError) -> Self {
        match error {
            // The store has given the collection's room away: only a list brings it back.
            FrontError::Store(StoreError::NoCollection) => Stop::Event(Event::Gone),
            _ => Stop::Event(Event::Failed),
        }
    }
}

impl Cache {
    /// Lets the collections that were live go on; they wait for the link, the kubelet's pods first.
    pub(super) fn resume(self: &Arc<Self>, records: &[CollectionRecord]) {
        let mut live: Vec<_> =
            records.iter().filter(|r| r.state == CollectionState::Live && r.node_owned).collect();
        live.sort_by_key(|r| !r.key.resource.is("", "pods"));
        for record in live {
            if let Some(collection) = self.registry.get(&record.key) {
                self.reflect(&collection);
            }
        }
    }

    /// Whenever the link is back, what no reflector takes up again is from then on no more than an old list.
    pub(super) async fn abandon_the_unfollowed(self: Arc<Self>) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let online = |wanted| self.connectivity.until(move |s| (s.state == LinkState::Online) == wanted);
            tokio::select! {
                () = shutdown.wait() => return,
                _ = online(true) => {}
            }
            for collection in self.registry.all() {
                if !collection.is_reflected() {
                    self.abandon(&collection).await;
                }
            }
            tokio::select! {
                () = shutdown.wait() => return,
                _ = online(false) => {}
            }
        }
    }

    async fn abandon(&self, collection: &Collection) {
        if collection.abandon() {
            let id = collection.id();
            let _ = self.front.write(move |w| w.set_state(id, CollectionState::Frozen)).await;
        }
    }

    /// Makes a collection for a watch that had no list before it, and keeps it from then on.
    pub async fn fill(self: &Arc<Self>, key: CollectionKey, identity: Identity) -> Result<(), NotKept> {
        if let Some(held) = self.registry.get(&key) {
            held.sponsor(&identity);
            held.touch();
            self.reflect(&held);
            return Ok(());
        }
        let Some(_only_one) = self.filling.start(&key) else { return Ok(()) };
        let answer = self.cloud.send(&identity, Lane::Reflect, request(&key, true, "", &identity)).await;
        let answer = answer.map_err(|_| NotKept::LinkLost)?;
        if answer.status() != StatusCode::OK {
            return Err(NotKept::Undecodable);
        }
        let mut share = self.room.of_reflector();
        let body = share.read(answer.into_body(), MAX_LIST).await?;
        let split = list::split(key.representation.encoding, &body).map_err(|_| NotKept::Undecodable)?;
        let collection = self.keep_split(key, split, CollectionState::Snapshot, &identity, None).await?;
        collection.sponsor(&identity);
        self.reflect(&collection);
        Ok(())
    }

    /// Makes sure that a reflector keeps this collection.
    pub fn reflect(self: &Arc<Self>, collection: &Arc<Collection>) {
        if collection.start_reflecting() {
            let reflector = Reflector {
                cache: Arc::clone(self),
                collection: Arc::clone(collection),
                storing: Arc::default(),
            };
            tasks::spawn("reflector", tasks::Failure::Local, reflector.run());
        }
    }
}

struct Reflector {
    cache: Arc<Cache>,
    collection: Arc<Collection>,
    /// Held while something is stored and told: a lost link ends what asks, never what stores.
    storing: Arc<tokio::sync::Mutex<()>>,
}

impl Reflector {
    async fn run(self) {
        let (mut state, mut pause) = (State::Waiting, None);
        let mut last = Event::Unused;
        while state != State::Ended {
            last = tokio::select! {
                event = self.act(state) => event,
                () = self.unused() => Event::Unused,
                () = self.link_lost(state) => Event::LinkLost,
                () = self.hurt(state) => Event::Gone,
            };
            tracing::debug!(collection = %self.collection.key(), ?state, event = ?last, "reflector");
            if last == Event::LinkLost || last == Event::Unused {
                self.freeze().await;
            }
            (state, pause) = step(state, last, pause);
        }
        self.freeze().await;
        self.collection.stop_reflecting();
        self.leave(last);
    }

    /// Whoever watches what is no longer kept has to hear of it, or somebody has to go on keeping it.
    fn leave(self, last: Event) {
        if last == Event::Refused {
            self.collection.dismiss();
        } else if self.collection.watchers() > 0 && !self.cache.shutdown.is_stopping() {
            self.cache.reflect(&self.collection);
        }
    }

    async fn act(&self, state: State) -> Event {
        match state {
            State::Waiting => {
                self.cache.connectivity.until(|s| s.state == LinkState::Online).await;
                self.jitter().await;
                Event::LinkUp
            }
            State::Listing => self.list().await.unwrap_or_else(|Stop::Event(event)| event),
            State::Watching => self.watch().await.unwrap_or_else(|Stop::Event(event)| event),
            State::Pausing(pause) => {
                tokio::time::sleep(pause).await;
                Event::Paused
            }
            State::Ended => Event::Unused,
        }
    }

    /// Resumed watches are spread over a moment, the kubelet's pods go first.
    async fn jitter(&self) {
        if !self.collection.key().resource.is("", "pods") {
            let spread = self.collection.key().to_string().len() as u64 * 37 % 200;
            tokio::time::sleep(Duration::from_millis(spread)).await;
        }
    }

    async fn unused(&self) {
        let mut shutdown = self.cache.shutdown.clone();
        loop {
            let idle = self.collection.used().elapsed();
            let unused = self.collection.watchers() == 0 && idle >= LINGER;
            if unused {
                return;
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LINGER / 10) => {}
            }
        }
    }

    async fn link_lost(&self, state: State) {
        match state {
            State::Waiting => std::future::pending().await,
            _ => self.cache.connectivity.lost().await,
        }
    }

    /// Damaged rows are listed again, when there is a link.
    async fn hurt(&self, state: State) {
        match state {
            State::Watching | State::Pausing(_) => self.collection.hurt().await,
            _ => std::future::pending().await,
        }
    }

    async fn freeze(&self) {
        // A list that is being stored would set the collection live again.
        drop(self.storing.lock().await);
        self.collection.set_state(CollectionState::Frozen);
        // What was live when the hub stopped or the link was lost goes on after it; the store stays as it is.
        if !self.cache.shutdown.is_stopping() && self.cache.connectivity.reachable() {
            self.cache.abandon(&self.collection).await;
        }
    }

    async fn list(&self) -> Result<Event, Stop> {
        let key = self.collection.key();
        let (identity, answer) = self.ask(true, String::new()).await?;
        let mut share = self.cache.room.of_reflector();
        let body = share.read(answer.into_body(), MAX_LIST).await.map_err(|reason| self.not_kept(reason))?;
        let split = list::split(key.representation.encoding, &body)
            .map_err(|_| self.not_kept(NotKept::Undecodable))?;
        let (cache, kept) = (Arc::clone(&self.cache), key.clone());
        let storing = async move {
            let _share = share;
            cache.keep_split(kept, split, CollectionState::Live, &identity, None).await
        };
        match self.to_its_end(storing).await? {
            Ok(_) => {
                self.cache.metrics.lists.inc();
                self.cache.settle(&self.collection).await;
                Ok(Event::Listed)
            }
            Err(reason) => Err(self.not_kept(reason)),
        }
    }

    /// A list that cannot be kept is asked for again after a pause.
    fn not_kept(&self, reason: NotKept) -> Stop {
        tracing::warn!(collection = %self.collection.key(), %reason, "a list was not kept");
        self.cache.metrics.not_kept(reason);
        Stop::Event(Event::Failed)
    }

    async fn watch(&self) -> Result<Event, Stop> {
        // What the last round has stored is told before this one asks for what comes after it.
        drop(self.storing.lock().await);
        let seconds = WATCH_SECONDS.0 + self.collection.version() % (WATCH_SECONDS.1 - WATCH_SECONDS.0);
        let more = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.collection.version()
        );
        let (_, answer) = self.ask(false, more).await?;
        self.cache.metrics.watches.inc();
        self.live().await?;
        let mut decoder = Decoder::new(self.collection.key().representation.encoding, MAX_FRAME);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let chunk = frame.map_err(|_| Stop::Event(Event::Failed))?;
            let Ok(chunk) = chunk.into_data() else { continue };
            decoder.push(chunk);
            self.drain(&mut decoder).await?;
        }
        Ok(Event::Finished)
    }

    async fn live(&self) -> Result<(), Stop> {
        if self.collection.set_state(CollectionState::Live) {
            let id = self.collection.id();
            self.cache.front.write(move |w| w.set_state(id, CollectionState::Live)).await?;
        }
        self.cache.settle(&self.collection).await;
        Ok(())
    }

    /// Takes every whole frame: changes are stored in one transaction, then told.
    async fn drain(&self, decoder: &mut Decoder) -> Result<(), Stop> {
        let gone = Stop::Event(Event::Gone);
        let mut batch = Vec::new();
        let mut ended = None;
        loop {
            match decoder.next() {
                Ok(Some(frame)) => match frame.kind {
                    EventType::Error => {
                        ended = Some(self.error_event(&frame));
                        break;
                    }
                    _ => batch.push(frame),
                },
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(collection = %self.collection.key(), %error, "a watch event cannot be read");
                    self.cache.metrics.undecodable.inc();
                    ended = Some(gone);
                    break;
                }
            }
        }
        self.apply(batch).await?;
        ended.map_or(Ok(()), Err)
    }

    fn error_event(&self, frame: &Frame) -> Stop {
        let status = Status::parse(self.collection.key().representation.encoding, &frame.object);
        let expired = status.as_ref().is_some_and(|s| s.code == 410);
        tracing::debug!(collection = %self.collection.key(), ?status, "upstream ended a watch");
        Stop::Event(if expired { Event::Gone } else { Event::Failed })
    }

    async fn apply(&self, frames: Vec<Frame>) -> Result<(), Stop> {
        let encoding = self.collection.key().representation.encoding;
        let held = self.collection.version();
        let mut version = 0;
        let mut changes = Vec::with_capacity(frames.len());
        let mut received = Vec::with_capacity(frames.len());
        for frame in frames {
            let unreadable = |_| Stop::Event(Event::Gone);
            let item = object::to_item(encoding, &frame.object).map_err(unreadable)?;
            let meta = object::meta(encoding, &item).map_err(unreadable)?;
            version = meta.resource_version.max(version);
            // A client's list may have been newer than the version from which this watch was asked for.
            if frame.kind != EventType::Bookmark && meta.resource_version <= held {
                continue;
            }
            let key = meta.key();
            match frame.kind {
                EventType::Bookmark => continue,
                EventType::Deleted => {
                    changes
                        .push(Change::Delete { key: key.clone(), resource_version: meta.resource_version });
                    received.push((key, meta.resource_version, None, frame));
                }
                _ => {
                    let row = Row {
                        key: key.clone(),
                        resource_version: meta.resource_version,
                        uid: meta.uid,
                        body: item,
                    };
                    changes.push(Change::Upsert(row.clone()));
                    received.push((key, meta.resource_version, Some(row), frame));
                }
            }
        }
        if changes.is_empty() {
            self.collection.progress(version);
            return Ok(());
        }
        let (cache, collection) = (Arc::clone(&self.cache), Arc::clone(&self.collection));
        let storing = async move { store_and_tell(&cache, &collection, changes, received, version).await };
        Ok(self.to_its_end(storing).await??)
    }

    /// Stores and tells in a task of its own: cut short between the two, an event would be in the store and
    /// never reach a watcher.
    async fn to_its_end<T: Send + 'static>(
        &self,
        storing: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stop> {
        let place = Arc::clone(&self.storing).lock_owned().await;
        let whole = async move {
            let done = storing.await;
            drop(place);
            done
        };
        tasks::to_its_end("store events", whole).await.ok_or(Stop::Event(Event::Gone))
    }

    /// Asks upstream with the best credential that is known; a refused one is not asked again.
    async fn ask(&self, list: bool, more: String) -> Result<(Identity, Response<Received>), Stop> {
        let Some(identity) = self.collection.credential() else { return Err(Stop::Event(Event::Refused)) };
        let request = request(self.collection.key(), list, &more, &identity);
        let answer =
            tokio::time::timeout(ANSWER_BOUND, self.cache.cloud.send(&identity, Lane::Reflect, request))
                .await;
        let answer = answer.map_err(|_| Stop::Event(Event::Failed))?.map_err(|error| {
            tracing::debug!(collection = %self.collection.key(), %error, "a reflector got no answer");
            Stop::Event(Event::Failed)
        })?;
        match answer.status() {
            StatusCode::OK if self.is_kubernetes(&answer) => Ok((identity, answer)),
            StatusCode::GONE => Err(Stop::Event(Event::Gone)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.collection.drop_credential(&identity);
                let others = self.collection.credential().is_some();
                Err(Stop::Event(if others { Event::Failed } else { Event::Refused }))
            }
            _ => {
                self.cache.cloud.signal().report(LinkEvent::Doubtful);
                Err(Stop::Event(Event::Failed))
            }
        }
    }

    /// Whether the answer is in the representation that was asked for, and not a portal's page.
    fn is_kubernetes(&self, answer: &Response<Received>) -> bool {
        let said = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        said.and_then(Representation::of_content_type)
            .is_some_and(|r| r.encoding == self.collection.key().representation.encoding)
    }
}

/// An event as it came: whose, of which version, the row that it leaves, and its bytes.
type Came = (ObjectKey, u64, Option<Row>, Frame);

/// Stores changes in one transaction, then tells watchers.
async fn store_and_tell(
    cache: &Cache,
    collection: &Arc<Collection>,
    changes: Vec<Change>,
    came: Vec<Came>,
    version: u64,
) -> Result<(), FrontError> {
    let (checking, now) = (Arc::clone(collection), crate::clock::unix());
    let applying = move |w: &mut Writer| checking.checked(w.apply(checking.id(), version, now, &changes));
    let applied = cache.front.write(applying).await.inspect_err(|_| collection.fall_behind())?;
    cache.metrics.events.inc_by(came.len() as u64);
    let told = came.into_iter().zip(applied.previous).map(|((key, version, row, frame), previous)| {
        Upstream { key, row, previous, version, received: Some(frame), held: false }
    });
    cache.tell(collection, told.collect(), version);
    cache.forget_pulled().await;
    Ok(())
}

/// The upstream request for a collection: its list, or its watch.
fn request(key: &CollectionKey, list: bool, more: &str, identity: &Identity) -> Request<Full<Bytes>> {
    let mut path = match key.resource.group.as_str() {
        "" => format!("/api/{}", key.resource.version),
        group => format!("/apis/{group}/{}", key.resource.version),
    };
    if let Some(namespace) = &key.namespace {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push_str(&format!("/{}?", key.resource.resource));
    for (name, value) in [("labelSelector", &key.labels), ("fieldSelector", &key.fields)] {
        if !value.is_empty() {
            path.push_str(&format!("{name}={}&", percent(value)));
        }
    }
    path.push_str(more);
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = path.trim_end_matches(['?', '&']).parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static(key.representation.accept(list)));
    headers
        .insert(header::USER_AGENT, HeaderValue::from_static(concat!("yurthub/", env!("CARGO_PKG_VERSION"))));
    if let Identity::Bearer(value) = identity {
        headers.insert(header::AUTHORIZATION, value.clone());
    }
    request
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
pub(crate) fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}
