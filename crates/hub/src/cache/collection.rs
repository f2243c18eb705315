//! One collection as its readers see it: what upstream said, what the node wrote over it, and the
//! events that led there. The objects themselves are in the store.
//!
//! All changes pass through here in order, and each becomes at most one event: of a change under a
//! mask (a local write that the cloud has not confirmed yet) watchers see nothing until the mask goes.

mod changes;
mod used;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::error::BadRequest;
use yurt_api::list::ListHeader;
use yurt_api::resource::TypeMeta;
use yurt_api::selector::{FieldSelector, LabelSelector};
use yurt_api::watch as frames;
use yurt_store::{CollectionId, CollectionRecord, CollectionState, Row, StoreError};

use super::filter::Filter;
use super::ring::{self, Entry, Ring, Start};
use crate::clock;
use crate::cloud::Identity;

/// Callers whose credentials may keep a reflector running.
const MAX_SPONSORS: usize = 8;

/// A local write over an object of this collection.
#[derive(Clone, Debug)]
pub struct Mask {
    /// The local version that the view got by it.
    pub version: u64,
    /// The object as the node left it, in item form and the collection's encoding; `None` = deleted.
    pub body: Option<Bytes>,
    /// Set when the cloud has it.
    pub delivered: Option<Delivery>,
    /// It was not written but follows from what the node wrote elsewhere (see [`super::endpoints`]): it goes with
    /// the first upstream change that is not held back.
    pub derived: bool,
}

/// The cloud has a local write: its mask goes with the first upstream change that shows it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// The version from which the cloud's changes show it; 0 = not known.
    pub version: u64,
    /// When it was delivered.
    pub at: Instant,
}

/// A change that upstream made, stored already.
pub struct Upstream {
    /// Whose.
    pub key: ObjectKey,
    /// The new row; `None` = deleted.
    pub row: Option<Row>,
    /// What was stored before.
    pub previous: Option<Row>,
    /// The version of the change.
    pub version: u64,
    /// The frame as received, with its kind and its object.
    pub received: Option<frames::Frame>,
    /// It is behind what the node knows: readers go on seeing what they see.
    pub held: bool,
}

/// What came after a position.
pub struct Since {
    /// Events, in order.
    pub events: Vec<Arc<Entry>>,
    /// The version of the view, if that is all of them.
    pub view: Option<u64>,
    /// The cloud's version that the collection has reached.
    pub cloud: u64,
    /// How often a list has told the difference so far.
    pub jumped: u64,
}

/// A collection. Shared by its reflector and all its readers.
pub struct Collection {
    key: CollectionKey,
    selection: Filter,
    item_type: TypeMeta,
    inner: Mutex<Inner>,
    news: watch::Sender<()>,
    watchers: AtomicUsize,
    damages: AtomicUsize,
    hurt: Notify,
    /// Events that were published since the start.
    pub events: AtomicUsize,
}

struct Inner {
    id: CollectionId,
    header: ListHeader,
    state: CollectionState,
    version: u64,
    current: u64,
    ring: Ring,
    masks: BTreeMap<ObjectKey, Mask>,
    node_owned: bool,
    sponsors: Vec<Identity>,
    observed_at: i64,
    /// Since when the cloud is known to have come to `version`.
    reached: Instant,
    used: Instant,
    /// When it was last used before the start, in Unix seconds, unless it was used since.
    used_before: Option<i64>,
    /// A use that the store was not told of.
    unnoted: bool,
    live_since: Instant,
    reflecting: bool,
    followed: bool,
    damaged: bool,
    behind: bool,
}

impl Collection {
    /// A collection as the store has it, without a history.
    pub fn new(record: &CollectionRecord) -> Result<Self, BadRequest> {
        let key = record.key.clone();
        let selection = Filter {
            namespace: key.namespace.clone(),
            labels: LabelSelector::parse(&key.labels)?,
            fields: FieldSelector::parse(&key.fields)?,
        };
        let version = record.header.resource_version;
        let inner = Inner {
            id: record.id,
            header: record.header.clone(),
            state: record.state,
            version,
            current: version,
            ring: Ring::new(version),
            masks: BTreeMap::new(),
            node_owned: record.node_owned,
            sponsors: Vec::new(),
            observed_at: record.observed_at,
            reached: clock::monotonic(),
            used: clock::monotonic(),
            used_before: Some(record.used_at),
            unnoted: false,
            live_since: clock::monotonic(),
            reflecting: false,
            followed: record.state == CollectionState::Live,
            damaged: false,
            behind: false,
        };
        Ok(Collection {
            key,
            selection,
            item_type: item_type(&record.header),
            inner: Mutex::new(inner),
            news: watch::channel(()).0,
            watchers: AtomicUsize::new(0),
            damages: AtomicUsize::new(0),
            hurt: Notify::new(),
            events: AtomicUsize::new(0),
        })
    }

    /// What identifies it.
    pub fn key(&self) -> &CollectionKey {
        &self.key
    }

    /// Kind and apiVersion of its objects.
    pub fn item_type(&self) -> &TypeMeta {
        &self.item_type
    }

    /// Takes note of rows that are not as they were written: they are fetched again as soon as the cloud answers.
    /// What can still be read of the others is served meanwhile.
    pub fn checked<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::Damaged(_) | StoreError::Sealed(_))) = &read
            && !std::mem::replace(&mut self.lock().damaged, true)
        {
            self.damages.fetch_add(1, Ordering::Relaxed);
            tracing::error!(collection = %self.key, %error, "rows are not as they were written; they will be fetched again");
            self.hurt.notify_one();
        }
        read
    }

    /// Waits until damage is met.
    pub async fn hurt(&self) {
        self.hurt.notified().await;
    }

    /// Whether rows are damaged and were not fetched again yet.
    pub fn is_damaged(&self) -> bool {
        self.lock().damaged
    }

    /// How often damage was met since the start.
    pub fn damages(&self) -> usize {
        self.damages.load(Ordering::Relaxed)
    }

    /// All rows were fetched again after damage. What a watcher has seen of them cannot be told any more: every
    /// version from before is too old.
    pub fn heal(&self, id: CollectionId, version: u64) {
        let mut inner = self.lock();
        inner.damaged = false;
        inner.behind = false;
        inner.id = id;
        inner.ring.reset(version);
        inner.come_to(version);
        inner.current = inner.masks.values().map(|m| m.version).max().unwrap_or(version);
        drop(inner);
        self.news.send_replace(());
    }

    /// The row in the store is another one from now on.
    pub fn set_id(&self, id: CollectionId) {
        self.lock().id = id;
    }

    /// Its row in the store.
    pub fn id(&self) -> CollectionId {
        self.lock().id
    }

    /// Live, frozen or snapshot.
    pub fn state(&self) -> CollectionState {
        let inner = self.lock();
        if inner.behind { CollectionState::Frozen } else { inner.state }
    }

    /// The store does not take the changes that upstream sends: watchers are told to list again, and until the
    /// store takes them nobody is shown this as the state of now.
    pub fn fall_behind(&self) {
        let mut inner = self.lock();
        if !std::mem::replace(&mut inner.behind, true) {
            let version = inner.version;
            inner.ring.reset(version);
            drop(inner);
            self.news.send_replace(());
        }
    }

    /// Whether upstream has sent changes that the store did not take.
    pub fn is_behind(&self) -> bool {
        self.lock().behind
    }

    /// Sets the state; true when that is news.
    pub fn set_state(&self, state: CollectionState) -> bool {
        let mut inner = self.lock();
        let news = inner.state != state;
        inner.state = state;
        match state {
            CollectionState::Live => {
                inner.followed = true;
                if news {
                    inner.live_since = clock::monotonic();
                }
            }
            CollectionState::Snapshot | CollectionState::Filling => inner.followed = false,
            // Cut off, it stays what it was.
            CollectionState::Frozen => {}
        }
        news
    }

    /// Whether an object that is not in it did not exist when the cloud was last heard: a reflector keeps it, or did
    /// until the link or the process went. As the store has it: live.
    pub fn is_followed(&self) -> bool {
        let inner = self.lock();
        inner.followed && !inner.behind
    }

    /// Nobody follows the cloud's changes though they could be had; true when that is news.
    pub fn abandon(&self) -> bool {
        std::mem::replace(&mut self.lock().followed, false)
    }

    /// Whether a reflector has it in its care.
    pub fn is_reflected(&self) -> bool {
        self.lock().reflecting
    }

    /// Since when the reflector has been told of every change, if it is now.
    pub fn live_since(&self) -> Instant {
        self.lock().live_since
    }

    /// The cloud's version that the rows are of.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Whether `version` shows that the cloud's versions went back: it is that of a list of the newest state which
    /// was asked for when the cloud had come further already.
    pub fn is_ahead_of(&self, version: u64, asked: Instant) -> bool {
        let inner = self.lock();
        inner.version > version && inner.reached < asked
    }

    /// The version of the view: the cloud's, or that of the last local write over it.
    pub fn view_version(&self) -> u64 {
        self.lock().current
    }

    /// Unix seconds of the last word from upstream.
    pub fn observed_at(&self) -> i64 {
        self.lock().observed_at
    }

    /// Whether the node's own identity opened it.
    pub fn node_owned(&self) -> bool {
        self.lock().node_owned
    }

    /// Local watchers now.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// The local writes over it, the version of the view that they give, and that of the cloud's state under them.
    pub fn overlaid(&self) -> (BTreeMap<ObjectKey, Mask>, u64, u64) {
        let inner = self.lock();
        (inner.masks.clone(), inner.current, inner.version)
    }

    /// The local writes over it.
    pub fn masks(&self) -> BTreeMap<ObjectKey, Mask> {
        self.lock().masks.clone()
    }

    /// The version of the local write over this object.
    pub fn masked_by(&self, key: &ObjectKey) -> Option<u64> {
        self.lock().masks.get(key).map(|mask| mask.version)
    }

    /// Those of them that were derived.
    pub fn derived(&self) -> BTreeMap<ObjectKey, Mask> {
        let inner = self.lock();
        inner.masks.iter().filter(|(_, mask)| mask.derived).map(|(k, m)| (k.clone(), m.clone())).collect()
    }

    /// The one over this object, if it was derived.
    pub fn derived_over(&self, key: &ObjectKey) -> Option<Mask> {
        self.lock().masks.get(key).filter(|mask| mask.derived).cloned()
    }

    /// The header of a list answer of its view.
    pub fn header(&self) -> ListHeader {
        self.lock().header.clone()
    }

    /// A receiver that is woken by every event.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Where a watch from `version` starts.
    pub fn start_after(&self, version: u64) -> Start {
        self.lock().ring.start_after(version)
    }

    /// Events from `position` on, at most so many; `ahead` is the version of a client that knew more than the collection
    /// when it began. `None` when some of them are not known (any more).
    pub fn since(&self, position: u64, ahead: Option<u64>, at_most: usize) -> Option<Since> {
        let inner = self.lock();
        if ahead.is_some_and(|version| inner.ring.jumped_over(version).is_some()) {
            return None;
        }
        let events = inner.ring.since(position, at_most)?;
        let complete = position + events.len() as u64 >= inner.ring.end();
        let (cloud, jumped) = (inner.version, inner.ring.jumped());
        Some(Since { events, view: complete.then_some(inner.current), cloud, jumped })
    }

    /// How often a list has told the difference to what was held.
    pub fn jumped(&self) -> u64 {
        self.lock().ring.jumped()
    }

    /// Somebody whose credential may keep the reflector running; the newest is asked first.
    pub fn sponsor(&self, identity: &Identity) {
        let mut inner = self.lock();
        inner.node_owned |= identity.is_node();
        inner.sponsors.retain(|s| s != identity);
        inner.sponsors.insert(0, identity.clone());
        inner.sponsors.truncate(MAX_SPONSORS);
    }

    /// The credential to reflect with.
    pub fn credential(&self) -> Option<Identity> {
        let inner = self.lock();
        if inner.node_owned { Some(Identity::Node) } else { inner.sponsors.first().cloned() }
    }

    /// Upstream refused this credential; the next one is asked from now on.
    pub fn drop_credential(&self, identity: &Identity) {
        let mut inner = self.lock();
        inner.sponsors.retain(|s| s != identity);
        inner.node_owned &= !identity.is_node();
    }

    /// True for the one caller that has to start the reflector.
    pub fn start_reflecting(&self) -> bool {
        !std::mem::replace(&mut self.lock().reflecting, true)
    }

    /// The reflector has ended.
    pub fn stop_reflecting(&self) {
        self.lock().reflecting = false;
    }

    /// Counts a watcher as long as the guard lives.
    pub fn enter(self: &Arc<Self>) -> Watching {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watching(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock; if it ever did, the data is still consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What readers saw of the object before a change stays in front of it.
    fn hold(&mut self, change: Upstream) {
        let (version, body) = change.previous.map_or((0, None), |row| (row.resource_version, Some(row.body)));
        let shown = Mask { version, body, delivered: None, derived: true };
        self.masks.entry(change.key).or_insert(shown);
    }

    fn progress(&mut self, version: u64) {
        self.observed_at = clock::unix();
        if version <= self.version {
            return;
        }
        self.come_to(version);
        self.lead();
    }

    fn come_to(&mut self, version: u64) {
        self.version = version;
        self.header.resource_version = version;
        self.reached = clock::monotonic();
    }

    /// Lets the view's version follow the cloud's again once no local write stands over it.
    fn lead(&mut self) {
        if !ring::is_local(self.current) || self.masks.is_empty() {
            self.current = self.version;
        }
    }
}

fn item_type(header: &ListHeader) -> TypeMeta {
    header.item_type.clone().unwrap_or_else(|| TypeMeta {
        api_version: header.type_meta.api_version.clone(),
        kind: header.type_meta.kind.trim_end_matches("List").to_owned(),
    })
}

/// A watcher's presence.
pub struct Watching(Arc<Collection>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

#[cfg(test)]
mod tests {
    use yurt_api::representation::Representation;
    use yurt_api::resource::Resource;

    use super::*;

    fn collection(version: u64) -> Collection {
        let key = CollectionKey {
            resource: Resource::new("", "v1", "pods"),
            namespace: None,
            labels: String::new(),
            fields: String::new(),
            representation: Representation::JSON,
        };
        let record = CollectionRecord {
            id: CollectionId(1),
            key,
            header: ListHeader { resource_version: version, ..ListHeader::default() },
            state: CollectionState::Snapshot,
            observed_at: 0,
            used_at: 0,
            objects: 0,
            bytes: 0,
            node_owned: false,
        };
        Collection::new(&record).unwrap()
    }

    #[test]
    fn only_a_list_that_was_asked_for_later_shows_that_the_cloud_went_back() {
        let held = collection(10);
        let early = clock::monotonic();
        assert!(held.is_ahead_of(9, early) && !held.is_ahead_of(10, early));
        held.progress(12);
        assert!(!held.is_ahead_of(11, early), "the answer was on its way while the other came");
        assert!(held.is_ahead_of(11, clock::monotonic()));
        held.restart(8);
        assert!(!held.is_ahead_of(8, clock::monotonic()) && held.is_ahead_of(7, clock::monotonic()));
    }
}
