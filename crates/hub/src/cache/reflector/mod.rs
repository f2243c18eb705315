//! The one upstream list and watch that keeps a live collection, however many local clients it has.
//!
//! Runs while somebody uses the collection and for a while after; resumes from the stored version
//! after an outage or a restart; stores a change before anybody hears of it.

mod events;
mod history;
mod request;
mod step;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use yurt_api::collection::CollectionKey;
use yurt_api::list;
use yurt_api::representation::Representation;
use yurt_api::status::Status;
use yurt_api::watch::Decoder;
use yurt_store::{CollectionRecord, CollectionState, StoreError};

use super::collection::Collection;
use super::keep::NotKept;
use super::turns::Turn;
use super::{Cache, FrontError};
use crate::cloud::{Identity, Lane, Received, Server};
use crate::connectivity::{Event as LinkEvent, State as LinkState};
use crate::{clock, tasks};
pub use history::History;
use history::{Past, is_too_large};
pub(crate) use request::percent;
use request::request;
use step::{Event, State, WORKED, step};

/// A collection that nobody has used for this long is no longer kept up to date.
const LINGER: Duration = Duration::from_secs(300);
/// A watch ends after 5 to 10 minutes, as client-go asks for it.
const WATCH_SECONDS: (u64, u64) = (300, 600);
/// The largest list that is taken into memory, in bytes.
pub const MAX_LIST: usize = 128 << 20;
/// The largest watch frame, in bytes: etcd keeps no object above 1.5 MiB; conversion may add to it.
const MAX_FRAME: usize = 16 << 20;
/// No first byte of an answer within this time is a failure: on a slow link it waits behind others' bytes.
const ANSWER_BOUND: Duration = Duration::from_secs(60);
/// A watch at a server that is not to be used any more goes to another one after this time.
const MOVE_AFTER: Duration = Duration::from_secs(10);
/// A watch that brings nothing and ends within this time has failed, as client-go takes it.
const IN_VAIN: Duration = Duration::from_secs(1);
/// How long 403 to the node is borne: for a moment after its start an apiserver does not know yet what a node may read
/// (`plugin/pkg/auth/authorizer/node/node_authorizer.go`), and a list of everything would be the price.
const FORBEARANCE: Duration = Duration::from_secs(30);
/// The largest refusal that is read, in bytes.
const MAX_STATUS: usize = 64 << 10;

/// Why a round ended otherwise than by an event of the protocol.
enum Stop {
    Event(Event),
    /// The version that is held lies before those of the cloud, as the cloud says.
    Ahead,
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

    /// Makes a collection for a watch that had no list before it, and keeps it from then on. Who comes while
    /// another fills it waits for that one, however it ends.
    pub async fn fill(self: &Arc<Self>, key: CollectionKey, identity: Identity) -> Result<(), NotKept> {
        if let Some(held) = self.registry.get(&key) {
            held.sponsor(&identity);
            held.touch();
            self.reflect(&held);
            return Ok(());
        }
        let _only_one = match self.filling.start(&key) {
            Ok(first) => first,
            Err(mut other) => {
                // It ends without a word.
                let _ = other.changed().await;
                return Ok(());
            }
        };
        let answer = self.cloud.send(&identity, Lane::Reflect, request(&key, true, "", &identity)).await;
        let answer = answer.map_err(|_| NotKept::LinkLost)?;
        if answer.status() != StatusCode::OK {
            return Err(NotKept::Undecodable);
        }
        let mut share = self.room.of_reflector();
        let body = share.read(answer.into_body(), MAX_LIST).await?;
        let split = list::split(key.representation.encoding, &body).map_err(|_| NotKept::Undecodable)?;
        let collection = self.keep_split(key, split, &identity, None).await?;
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
                turn: self.turns.of(collection.key()),
                seen: AtomicU64::new(self.history.travels()),
                ran_out: AtomicBool::new(false),
                refused: Mutex::default(),
            };
            tasks::spawn("reflector", tasks::Failure::Local, reflector.run());
        }
    }
}

struct Reflector {
    cache: Arc<Cache>,
    collection: Arc<Collection>,
    /// Had while something is stored and told: a lost link ends what asks, never what stores.
    turn: Turn,
    /// How often the cloud had gone back when this one last listed.
    seen: AtomicU64,
    /// Whether the last watch ended because its time was over, and not with its connection or server.
    ran_out: AtomicBool,
    /// Since when the cloud has refused the node, and nothing else.
    refused: Mutex<Option<Instant>>,
}

impl Reflector {
    async fn run(self) {
        let (mut state, mut pause) = (State::Waiting, None);
        let mut last = Event::Unused;
        while state != State::Ended {
            let begun = clock::monotonic();
            last = tokio::select! {
                event = self.act(state) => event,
                () = self.unused() => Event::Unused,
                () = self.link_lost(state) => Event::LinkLost,
                () = self.hurt(state) => Event::Gone,
                () = self.travelled(state) => Event::Gone,
            };
            tracing::debug!(collection = %self.collection.key(), ?state, event = ?last, "reflector");
            if last == Event::LinkLost || last == Event::Unused {
                self.freeze().await;
            }
            if begun.elapsed() >= WORKED {
                pause = None;
            }
            (state, pause) = step(state, last, pause);
            let cloud_is_no_better = matches!(last, Event::Lags | Event::Later(_));
            if matches!(state, State::Pausing(_) | State::Listing(_)) && !cloud_is_no_better {
                // Who asks meanwhile is better served by the cloud, and what it lists is taken over; but a server that
                // lags would lead him back, and one that asks for patience has enough to do.
                self.collection.set_state(CollectionState::Frozen);
            }
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
            State::Listing(wait) => {
                let gone = self.collection.version();
                tokio::time::sleep(wait).await;
                match self.was_listed_since(gone) {
                    true => Event::Listed,
                    false => self.came_to(self.list().await).await,
                }
            }
            State::Watching => self.came_to(self.watch().await).await,
            State::Pausing(pause) => {
                tokio::time::sleep(pause).await;
                Event::Paused
            }
            State::Ended => Event::Unused,
        }
    }

    /// Whether a client's list has meanwhile brought the collection beyond this version, which is gone.
    fn was_listed_since(&self, gone: u64) -> bool {
        let is_whole = !self.collection.is_damaged() && !self.collection.is_behind();
        let same_time = self.cache.history.travels() == self.seen.load(Ordering::Relaxed);
        is_whole && same_time && self.collection.version() > gone
    }

    async fn came_to(&self, ended: Result<Event, Stop>) -> Event {
        match ended {
            Ok(event) | Err(Stop::Event(event)) => event,
            Err(Stop::Ahead) => match self.past(clock::monotonic()).await {
                Past::Back => Event::Gone,
                Past::Current => Event::Failed,
                Past::Lagging => Event::Lags,
            },
        }
    }

    /// What the cloud's versions say of the one that is held; `since` when it has to be asked at the earliest.
    async fn past(&self, since: Instant) -> Past {
        let Some(identity) = self.collection.credential() else { return Past::Current };
        self.cache.past(&self.collection, &identity, since).await
    }

    /// Whoever finds that the cloud has gone back tells all: what others hold may be of the time that is gone.
    async fn travelled(&self, state: State) {
        match state {
            State::Watching | State::Pausing(_) => {
                self.cache.history.beyond(self.seen.load(Ordering::Relaxed)).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Waits until the watch had better run at another server; all do not move at the same time.
    async fn outranked(&self, server: Option<Server>) {
        match server {
            Some(server) => self.cache.cloud.outranked(server, MOVE_AFTER + self.spread() * 20).await,
            None => std::future::pending().await,
        }
    }

    /// Resumed watches are spread over a moment, the kubelet's pods go first.
    async fn jitter(&self) {
        if !self.collection.key().resource.is("", "pods") {
            tokio::time::sleep(self.spread()).await;
        }
    }

    /// A moment that is another one for most collections.
    fn spread(&self) -> Duration {
        Duration::from_millis(self.collection.key().to_string().len() as u64 * 37 % 200)
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
        self.collection.set_state(CollectionState::Frozen);
        // A list that was being stored has set the collection live again.
        drop(self.turn.lock().await);
        self.collection.set_state(CollectionState::Frozen);
        // What was live when the hub stopped or the link was lost goes on after it; the store stays as it is.
        if !self.cache.shutdown.is_stopping() && self.cache.connectivity.reachable() {
            self.cache.abandon(&self.collection).await;
        }
    }

    async fn list(&self) -> Result<Event, Stop> {
        let key = self.collection.key();
        let asked = clock::monotonic();
        let (travels, before) = (self.cache.history.travels(), self.collection.version());
        let (identity, answer) = self.ask(true, String::new()).await?;
        let mut share = self.cache.room.of_reflector();
        let body = share.read(answer.into_body(), MAX_LIST).await.map_err(|reason| self.not_kept(reason))?;
        let split = list::split(key.representation.encoding, &body)
            .map_err(|_| self.not_kept(NotKept::Undecodable))?;
        let (cache, kept) = (Arc::clone(&self.cache), key.clone());
        let storing = async move {
            let _share = share;
            cache.keep_in_turn(kept, split, CollectionState::Live, &identity, Some(asked)).await
        };
        match self.to_its_end(storing).await? {
            Ok(_) => {
                // The one that this list itself has found is no news.
                let found = self.collection.version() < before;
                self.seen.store(travels + u64::from(found), Ordering::Relaxed);
                self.cache.metrics.lists.inc();
                tracing::info!(collection = %key, before, now = self.collection.version(), "listed anew");
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
        drop(self.turn.lock().await);
        let version = self.collection.version();
        let seconds = WATCH_SECONDS.0 + version % (WATCH_SECONDS.1 - WATCH_SECONDS.0);
        let more =
            format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}");
        let (_, answer) = self.ask(false, more).await?;
        self.cache.metrics.watches.inc();
        self.live().await?;
        let opened = clock::monotonic();
        let ended = self.follow(answer, opened).await?;
        // The servers close early what they cannot keep up: what comes after that is looked at again.
        let ran_out = opened.elapsed() >= Duration::from_secs(seconds - 1);
        self.ran_out.store(ran_out, Ordering::Relaxed);
        // A server that ends each watch at once would be asked without a pause.
        let in_vain = opened.elapsed() < IN_VAIN && self.collection.version() == version;
        Ok(if ended == Event::Finished && in_vain { Event::Failed } else { ended })
    }

    /// Takes what a watch brings, to its end.
    async fn follow(&self, answer: Response<Received>, opened: Instant) -> Result<Event, Stop> {
        let mut outranked = pin!(self.outranked(answer.extensions().get::<Server>().copied()));
        let mut decoder = Decoder::new(self.collection.key().representation.encoding, MAX_FRAME);
        let mut body = answer.into_body();
        // One that goes on where the last had run its time has no reason to be doubted.
        let mut doubted = !self.ran_out.swap(false, Ordering::Relaxed);
        loop {
            let next = tokio::select! {
                next = body.frame() => next,
                // Nothing is lost: the next one goes on from here.
                () = &mut outranked => return Ok(Event::Finished),
                () = tokio::time::sleep(history::QUIET), if doubted => {
                    self.ask_for_the_time(opened).await?;
                    doubted = false;
                    continue;
                }
            };
            let Some(frame) = next else { return Ok(Event::Finished) };
            doubted = false;
            let chunk = frame.map_err(|_| Stop::Event(Event::Failed))?;
            let Ok(chunk) = chunk.into_data() else { continue };
            decoder.push(chunk);
            self.drain(&mut decoder).await?;
        }
    }

    /// A new watch is silent: nothing happens, or the cloud is at another time than this.
    async fn ask_for_the_time(&self, opened: Instant) -> Result<(), Stop> {
        match self.past(opened).await {
            Past::Current => Ok(()),
            Past::Lagging => Err(Stop::Event(Event::Lags)),
            Past::Back => Err(Stop::Event(Event::Gone)),
        }
    }

    async fn live(&self) -> Result<(), Stop> {
        if self.collection.set_state(CollectionState::Live) {
            let id = self.collection.id();
            self.cache.front.write(move |w| w.set_state(id, CollectionState::Live)).await?;
        }
        self.cache.settle(&self.collection).await;
        Ok(())
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
            StatusCode::OK if self.is_kubernetes(&answer) => {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok((identity, answer))
            }
            StatusCode::GONE => Err(Stop::Event(Event::Gone)),
            code @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                if identity.is_node() && self.bears(code) {
                    return Err(Stop::Event(Event::Failed));
                }
                self.collection.drop_credential(&identity);
                let others = self.collection.credential().is_some();
                Err(Stop::Event(if others { Event::Failed } else { Event::Refused }))
            }
            // It is there, and asks for patience.
            StatusCode::TOO_MANY_REQUESTS => Err(Stop::Event(Event::Later(retry_after(&answer)))),
            code => {
                // A kind whose definition was deleted is the cloud's own word, and no sign of a failing link.
                if code != StatusCode::NOT_FOUND || !self.is_kubernetes(&answer) {
                    self.cache.cloud.signal().report(LinkEvent::Doubtful);
                }
                let encoding = self.collection.key().representation.encoding;
                let said = self.cache.room.of_reflector().read(answer.into_body(), MAX_STATUS).await.ok();
                let status = said.and_then(|body| Status::parse(encoding, &body));
                Err(if status.as_ref().is_some_and(is_too_large) {
                    Stop::Ahead
                } else {
                    Stop::Event(Event::Failed)
                })
            }
        }
    }

    /// Whether a refusal of the node may pass. A certificate that is not accepted takes nothing from the node (P7): what
    /// is held is served, and the kubelet is about to get another one.
    fn bears(&self, code: StatusCode) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *refused.get_or_insert_with(clock::monotonic);
        code == StatusCode::UNAUTHORIZED || since.elapsed() < FORBEARANCE
    }

    /// Whether the answer is in the representation that was asked for, and not a portal's page.
    fn is_kubernetes(&self, answer: &Response<Received>) -> bool {
        let said = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        said.and_then(Representation::of_content_type)
            .is_some_and(|r| r.encoding == self.collection.key().representation.encoding)
    }
}

/// What `Retry-After` says in seconds (RFC 9110 section 10.2.3), or nothing.
fn retry_after(answer: &Response<Received>) -> Duration {
    let said = answer.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    Duration::from_secs(said.unwrap_or(0))
}
