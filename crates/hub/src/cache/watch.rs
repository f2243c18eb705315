//! A local watch: first the state it asked for, then every event, until its time is over.
//!
//! A watcher is a cursor into the collection's ring: it costs no queue, and one that is too slow
//! falls off the ring's end and is told so (410) without hurting anybody else (P9).

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::watch;
use yurt_api::object::{self, Attributes};
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::ResourceRequest;
use yurt_api::table::Form;
use yurt_api::watch::{self as frames, EventType};
use yurt_store::{CollectionState, StoreError};

use super::collection::{Collection, Since, Watching};
use super::filter::cover;
use super::history::CaughtUp;
use super::page::Seen;
use super::pen::Pen;
use super::read::{Candidate, Scope};
use super::ring::{self, Entry, Start};
use super::version::{self, Unfit};
use super::{Cache, FrontError, ViewShare};
use crate::clock;
use crate::metrics::Metrics;
use crate::respond::{self, BoxError};
use crate::tasks::Shutdown;

/// Events taken from the ring at a time.
const BATCH: usize = 64;
/// How often a watcher that asked for them gets a bookmark
/// (`k8s.io/apiserver/pkg/storage/cacher`: about a minute).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// And so long before its end, as there.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long a watch without `timeoutSeconds` lives: the apiserver's `--min-request-timeout` of 1800 s,
/// up to twice of it.
const LIFE: Duration = Duration::from_secs(1800);

/// How long a watch that begins with the present state waits for the reflector to reach its version.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

/// A watch, understood.
#[derive(Clone)]
pub struct WatchRequest<'a> {
    /// The request.
    pub request: &'a ResourceRequest,
    /// The representations that the client takes, best first.
    pub wanted: &'a [Representation],
    /// Which collections may serve it.
    pub scope: Scope,
    /// The tables that its events are to be, made of JSON; `None` = they are the objects.
    pub table: Option<Form>,
    /// The `columnDefinitions` that the client was told already by the tables before these.
    pub columns: Option<Bytes>,
}

/// What a watch can get from the cache.
pub enum WatchPlan {
    /// This stream.
    Served(Box<Served>),
    /// The history does not reach back to the asked version, the present state is not what was asked for, or the
    /// request contradicts itself.
    Unfit(Unfit),
    /// No collection holds what it is about.
    NotHeld,
    /// There is no memory for what it begins with.
    NoRoom,
}

/// A stream that is ready to go.
pub struct Served {
    /// The collection behind it.
    pub collection: Arc<Collection>,
    /// What it is written in.
    pub representation: Representation,
    state: Watcher,
}

impl Served {
    /// Whether it shows the whole collection, not a part of it.
    pub fn is_all(&self) -> bool {
        self.state.candidate.filter.is_everything()
    }

    /// Whether its client knows more than the collection, which nobody brings up to date now: a list would do that, and
    /// pass over what the client knows.
    pub fn may_be_passed_over(&self) -> bool {
        self.state.ahead && self.collection.state() != CollectionState::Live
    }

    /// The memory of the frames that it begins with, in bytes.
    pub fn begins_with(&self) -> usize {
        self.state.pending.iter().map(Bytes::len).sum()
    }

    /// Leaves out what it begins with when that is one object as of this version; false when it is not.
    pub fn skip_known(&mut self, version: u64) -> bool {
        let mut pending = self.state.pending.iter();
        let (Some(frame), None) = (pending.next(), pending.next()) else { return false };
        let known = frame_version(self.representation.encoding, frame) == Some(version);
        if known {
            self.state.pending.clear();
            self.state.pen.begin();
        }
        known
    }

    /// Holds this share until the client has taken those.
    pub fn hold(&mut self, share: ViewShare) {
        self.state.share = Some(share);
    }

    /// The frames, until the watch is over. The stream ends cleanly at its time-out and at shutdown.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
        futures_util::stream::unfold(Some(self.state), |state| async move {
            let mut state = state?;
            let chunk = state.next().await?;
            Some((Ok(chunk), if state.over { None } else { Some(state) }))
        })
    }
}

impl Cache {
    /// Plans a watch from a collection that is held.
    pub async fn watch(&self, asked: WatchRequest<'_>) -> Result<WatchPlan, FrontError> {
        while let Some(candidate) = self.candidate(asked.request, asked.wanted, asked.scope) {
            let (collection, id) = (Arc::clone(&candidate.collection), candidate.collection.id());
            match self.watch_in(candidate, &asked).await {
                Err(FrontError::Store(StoreError::NoCollection)) => self.evicted(&collection, id),
                // Its room went to another one meanwhile.
                Ok(WatchPlan::Served(served)) if !self.registry.holds(&served.collection) => {}
                planned => return planned,
            }
        }
        Ok(WatchPlan::NotHeld)
    }

    /// Keeps up to date what a watch of JSON for this request could go on from, if a reflector has such a collection in
    /// its care: as long as what this returns lives.
    pub fn stand_by(&self, request: &ResourceRequest) -> Option<Watching> {
        let able = |c: &Arc<Collection>| {
            let key = c.key();
            c.is_reflected()
                && cover(key, request).is_some()
                && respond::can_write(key.representation, Representation::JSON, c.item_type())
        };
        let held = self.registry.of(&request.resource).into_iter().filter(able);
        let best = held.max_by_key(|c| (c.state() == CollectionState::Live, c.version()));
        best.map(|collection| collection.enter())
    }

    /// Sees to it that the collection for this request, of this form, is followed; whether one that can go on with it is
    /// up to date.
    pub fn follows(self: &Arc<Self>, request: &ResourceRequest, form: Representation) -> bool {
        if let Some(own) = self.registry.get(&Cache::key_of(request, form)) {
            own.touch();
            self.reflect(&own);
        }
        let able = |c: &Arc<Collection>| c.key().representation == form && cover(c.key(), request).is_some();
        self.registry.of(&request.resource).iter().any(|c| able(c) && c.state() == CollectionState::Live)
    }

    async fn watch_in(
        &self,
        candidate: Candidate,
        asked: &WatchRequest<'_>,
    ) -> Result<WatchPlan, FrontError> {
        let options = &asked.request.options;
        let (version, initial) = match version::start_of_watch(options) {
            Ok(start) => start,
            Err(why) => return Ok(WatchPlan::Unfit(why)),
        };
        let collection = Arc::clone(&candidate.collection);
        if initial && let Err(why) = caught_up(&collection, version).await {
            return Ok(WatchPlan::Unfit(why));
        }
        // The cloud's watch cache takes such a watch, too, and tells it nothing until it has come so far.
        let ahead = !initial && !ring::is_local(version) && version > collection.version();
        let pen = Pen::new(candidate.representation, collection.item_type(), asked.table.clone())
            .after(asked.columns.as_deref());
        let begun = if initial {
            // A watch from no version is a streaming list, too (`SetListOptionsDefaults` of
            // `k8s.io/apimachinery/pkg/apis/meta/internalversion`).
            let end_bookmark = options.allow_bookmarks;
            Begun::after(&collection, self.initial_events(&candidate, end_bookmark, pen).await?)
        } else {
            let version = if version == 0 { collection.view_version() } else { version };
            self.go_on(&candidate, version, pen).await?
        };
        let Begun { pending, position, known, pen } = match begun {
            Ok(begun) => begun,
            Err(oldest) => return Ok(WatchPlan::Unfit(Unfit::OldWatch { asked: version, oldest })),
        };
        let now = clock::monotonic();
        let life = options.timeout_seconds.map_or(LIFE + spread(LIFE), Duration::from_secs);
        let state = Watcher {
            news: collection.news(),
            _presence: collection.enter(),
            candidate: candidate.clone(),
            position,
            known,
            ahead,
            jumped: collection.jumped(),
            pending,
            share: None,
            pen,
            wants_bookmarks: options.allow_bookmarks,
            bookmark_at: options.allow_bookmarks.then(|| next_bookmark(now, now + life)).flatten(),
            ends_at: now + life,
            shutdown: self.shutdown.clone(),
            metrics: Arc::clone(&self.metrics),
            over: false,
        };
        let representation = candidate.representation;
        Ok(WatchPlan::Served(Box::new(Served { collection, representation, state })))
    }

    /// Where a watcher goes on that knows `version`: with the events in memory, or, when they do not reach back so
    /// far, with what the store says that it has missed. `Err` gives the oldest version that would do.
    async fn go_on(
        &self,
        candidate: &Candidate,
        version: u64,
        pen: Pen,
    ) -> Result<Result<Begun, u64>, FrontError> {
        match candidate.collection.start_after(version) {
            Start::At { position, known } => Ok(Ok(Begun { pending: VecDeque::new(), position, known, pen })),
            Start::Gone { oldest } if ring::is_local(version) => Ok(Err(oldest)),
            Start::Gone { .. } => {
                let missed = self.missed(candidate, version, pen).await?;
                Ok(missed.and_then(|caught_up| Begun::after(&candidate.collection, caught_up)))
            }
        }
    }

    /// The collection's objects as ADDED frames, the version they are of, and the pen that wrote them.
    async fn initial_events(
        &self,
        candidate: &Candidate,
        end_bookmark: bool,
        mut pen: Pen,
    ) -> Result<CaughtUp, FrontError> {
        let candidate = candidate.clone();
        let seen = Seen::now(&candidate.collection);
        let reading = self.front.read(move |reader| {
            let mut frames = VecDeque::new();
            let rows = super::items::each_item(reader, &candidate, &seen.masks, None, &mut |_, item| {
                frames.push_back(pen.event(EventType::Added, &item));
                ControlFlow::Continue(())
            })?;
            let version = seen.version(rows);
            if end_bookmark {
                frames.push_back(pen.bookmark(version, true));
            }
            Ok::<_, StoreError>((frames, version, pen))
        });
        reading.await
    }
}

/// Where a watch begins: frames to send first, then the events from a position on, but for those up to a version.
struct Begun {
    pending: VecDeque<Bytes>,
    position: u64,
    known: u64,
    pen: Pen,
}

impl Begun {
    /// After frames that lead up to a version; `Err` gives the oldest one that would have done.
    fn after(collection: &Collection, (pending, from, pen): CaughtUp) -> Result<Self, u64> {
        match collection.start_after(from) {
            Start::At { position, known } => Ok(Begun { pending, position, known, pen }),
            Start::Gone { oldest } => Err(oldest),
        }
    }
}

/// The version of what stands in a frame.
fn frame_version(encoding: Encoding, frame: &Bytes) -> Option<u64> {
    let mut decoder = frames::Decoder::new(encoding, frame.len());
    decoder.push(frame.clone());
    let object = decoder.next().ok()??.object;
    let item = object::to_item(encoding, &object).ok()?;
    Some(object::meta(encoding, &item).ok()?.resource_version)
}

/// Waits a moment for the collection's state to be at least of `version`.
async fn caught_up(collection: &Collection, version: u64) -> Result<(), Unfit> {
    let until = clock::monotonic() + CATCH_UP;
    loop {
        let reached = version::reached(version, collection.version(), collection.view_version());
        let hopeless = collection.state() != CollectionState::Live || clock::monotonic() >= until;
        if reached.is_ok() || hopeless {
            return reached;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One watcher.
struct Watcher {
    candidate: Candidate,
    news: watch::Receiver<()>,
    _presence: Watching,
    position: u64,
    known: u64,
    /// It began with a version that the collection has not reached yet.
    ahead: bool,
    /// How often a list has told what is different, as far as this one was told.
    jumped: u64,
    pending: VecDeque<Bytes>,
    /// Of the frames that it began with.
    share: Option<ViewShare>,
    pen: Pen,
    wants_bookmarks: bool,
    bookmark_at: Option<Instant>,
    ends_at: Instant,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    over: bool,
}

impl Watcher {
    /// The next bytes; `None` when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            self.share = None;
            // Marked as seen before looking: what comes in between wakes the wait below.
            self.news.borrow_and_update();
            let Some(Since { events, view: end, cloud, jumped }) = self.since(BATCH) else {
                self.over = true;
                self.metrics.expired_watches.inc();
                return Some(self.pen.expired());
            };
            if std::mem::replace(&mut self.jumped, jumped) != jumped {
                // From the versions in the middle of it nobody can go on.
                self.bookmark_at = self.wants_bookmarks.then(clock::monotonic);
            }
            self.ahead &= cloud < self.known;
            self.position += events.len() as u64;
            for event in events {
                let frame = self.frame(&event);
                self.pending.extend(frame);
            }
            if let (true, Some(view)) = (self.pending.is_empty(), end) {
                match self.wait(view).await {
                    Wake::News => {}
                    Wake::Bookmark(frame) => return Some(frame),
                    Wake::Over => return None,
                }
            }
        }
    }

    /// Waits for what comes next; the client was told all of the view of version `view`.
    async fn wait(&mut self, view: u64) -> Wake {
        let ends_at = self.ends_at;
        let next = self.bookmark_at.map_or(ends_at, |at| at.min(ends_at));
        tokio::select! {
            biased;
            news = self.news.changed() => if news.is_ok() { Wake::News } else { Wake::Over },
            () = self.shutdown.wait() => Wake::Over,
            () = tokio::time::sleep_until(next.into()) => {
                if next >= ends_at {
                    return Wake::Over;
                }
                self.bookmark_at = next_bookmark(clock::monotonic(), ends_at);
                // The cloud may have said meanwhile that nothing changed.
                let version = self.view_version().unwrap_or(view);
                match version < self.known {
                    // The client is ahead of it still.
                    true => Wake::News,
                    false => Wake::Bookmark(self.pen.bookmark(version, false)),
                }
            }
        }
    }

    /// The version of the view, when the client was told all of it.
    fn view_version(&self) -> Option<u64> {
        self.since(0)?.view
    }

    fn since(&self, at_most: usize) -> Option<Since> {
        self.candidate.collection.since(self.position, self.ahead.then_some(self.known), at_most)
    }

    /// What this watcher gets of an event: nothing, the frame as it is, or one of its own.
    fn frame(&mut self, event: &Entry) -> Option<Bytes> {
        if !event.lead && !ring::is_local(event.version) && event.version <= self.known {
            return None;
        }
        let key = self.candidate.collection.key();
        let same = self.candidate.representation == key.representation;
        if self.candidate.filter.is_everything() && same && self.pen.is_plain() {
            return Some(event.frame.clone());
        }
        let kind = self.seen_kind(event)?;
        let (from, to) = (key.representation, self.candidate.representation);
        // What leaves the part is shown as it was in it, at the version of its leaving.
        let left = (kind == EventType::Deleted).then_some(event.left.as_ref()).flatten();
        let item = match left {
            Some(item) => item.clone(),
            None => object::to_item(from.encoding, &event.object).ok()?,
        };
        let item = respond::item_as(from, to, self.candidate.collection.item_type(), &item).ok()?;
        Some(self.pen.event(kind, &item))
    }

    /// The event as a watcher of only a part sees it: an object that begins to match is added, one
    /// that no longer does is deleted (`k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go`).
    fn seen_kind(&self, event: &Entry) -> Option<EventType> {
        let filter = &self.candidate.filter;
        let key = self.candidate.collection.key();
        let before = event.before.as_ref().is_some_and(|a| filter.matches(a));
        let now = || {
            let item = object::to_item(key.representation.encoding, &event.object).ok()?;
            Attributes::read(&key.resource, key.representation.encoding, &item).ok()
        };
        let after = event.kind != EventType::Deleted && now().is_some_and(|a| filter.matches(&a));
        match (before, after) {
            (true, true) => Some(EventType::Modified),
            (false, true) => Some(EventType::Added),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }
}

enum Wake {
    News,
    Bookmark(Bytes),
    Over,
}

/// When a watch that ends then is told the version next: every minute, and once more before its end, so that its client
/// goes on from there (`nextBookmarkTime` of `k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go`).
fn next_bookmark(now: Instant, ends_at: Instant) -> Option<Instant> {
    let last = ends_at.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now)?;
    Some(last.min(now + BOOKMARK_EVERY))
}

/// A time below `bound`, so that watches which began together do not end together.
fn spread(bound: Duration) -> Duration {
    let mut seed = [0u8; 4];
    let random = ring_random(&mut seed);
    bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn ring_random(seed: &mut [u8; 4]) -> u32 {
    use ::ring::rand::{SecureRandom, SystemRandom};
    // Without random numbers the watches end together: slower, not wrong.
    let _ = SystemRandom::new().fill(seed);
    u32::from_le_bytes(*seed)
}
