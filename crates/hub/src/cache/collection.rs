//! One collection as its readers see it: what upstream said, what the node wrote over it, and the
//! events that led there. The objects themselves are in the store.
//!
//! All changes pass through here in order, and each becomes at most one event: of a change under a
//! mask (a local write that the cloud has not confirmed yet) watchers see nothing until the mask goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::error::BadRequest;
use yurt_api::list::ListHeader;
use yurt_api::object::{self, Attributes};
use yurt_api::resource::TypeMeta;
use yurt_api::selector::{FieldSelector, LabelSelector};
use yurt_api::watch::{self as frames, EventType};
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
    /// Set when the cloud has it: the mask goes with the first upstream change of at least this version.
    pub delivered: Option<u64>,
    /// It was not written but follows from what the node wrote elsewhere (see [`super::endpoints`]): it goes with
    /// the first upstream change that is not held back.
    pub derived: bool,
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

/// An object before an event.
struct Before {
    attributes: Attributes,
    /// In item form.
    item: Bytes,
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
    used: Instant,
    reflecting: bool,
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
            used: clock::monotonic(),
            reflecting: false,
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
        inner.version = version;
        inner.header.resource_version = version;
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
        news
    }

    /// The cloud's version that the rows are of.
    pub fn version(&self) -> u64 {
        self.lock().version
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

    /// When somebody last used it.
    pub fn used(&self) -> Instant {
        self.lock().used
    }

    /// Notes a use.
    pub fn touch(&self) {
        self.lock().used = clock::monotonic();
    }

    /// The local writes over it, and the version of the view that they give.
    pub fn overlaid(&self) -> (BTreeMap<ObjectKey, Mask>, u64) {
        let inner = self.lock();
        (inner.masks.clone(), inner.current)
    }

    /// The local writes over it.
    pub fn masks(&self) -> BTreeMap<ObjectKey, Mask> {
        self.lock().masks.clone()
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

    /// Events from `position` on, at most so many, and the view's version if that is all of them.
    pub fn since(&self, position: u64, at_most: usize) -> Option<(Vec<Arc<Entry>>, Option<u64>)> {
        let inner = self.lock();
        let events = inner.ring.since(position, at_most)?;
        let complete = position + events.len() as u64 >= inner.ring.end();
        Some((events, complete.then_some(inner.current)))
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

    /// Takes over changes that upstream made up to `version`, in their order.
    pub fn upstream(&self, changes: Vec<Upstream>, version: u64) {
        let mut inner = self.lock();
        for change in changes {
            self.one_upstream(&mut inner, change);
        }
        inner.progress(version);
        inner.behind = false;
        drop(inner);
        self.news.send_replace(());
    }

    /// Upstream said that nothing changed up to `version`.
    pub fn progress(&self, version: u64) {
        self.lock().progress(version);
    }

    /// The rows were replaced by those of an older state of the cluster (etcd restored): every
    /// watcher and every version from before is too old.
    pub fn restart(&self, version: u64) {
        let mut inner = self.lock();
        inner.ring.reset(version);
        inner.version = version;
        inner.current = version;
        inner.header.resource_version = version;
        inner.masks.clear();
        drop(inner);
        self.news.send_replace(());
    }

    fn one_upstream(&self, inner: &mut Inner, change: Upstream) {
        if change.held {
            return inner.hold(change);
        }
        let mask = inner.masks.get(&change.key).cloned();
        let before = match &mask {
            Some(mask) => self.before(mask.body.as_ref()),
            None => self.before(change.previous.as_ref().map(|r| &r.body)),
        };
        if let Some(mask) = mask {
            if !self.lifts(&mask, &change) {
                return;
            }
            inner.masks.remove(&change.key);
            if let Some(gone) = self.other_object(&mask, &change) {
                self.push(inner, change.version, EventType::Deleted, &change.key, gone, None, before);
                return self.push_upstream(inner, change, None);
            }
        } else if change
            .previous
            .as_ref()
            .is_some_and(|p| change.row.as_ref().is_some_and(|r| p.resource_version == r.resource_version))
        {
            return;
        }
        self.push_upstream(inner, change, before);
    }

    /// Whether the cloud has by this change taken note of the local write.
    fn lifts(&self, mask: &Mask, change: &Upstream) -> bool {
        if mask.derived {
            return true;
        }
        let Some(delivered) = mask.delivered else { return false };
        let recreated = || match (&change.row, &change.previous) {
            (Some(row), Some(previous)) => row.uid != previous.uid,
            (Some(_), None) | (None, _) => true,
        };
        match (&mask.body, &change.row) {
            (Some(_), Some(_)) => change.version >= delivered,
            // What was of that name before the local object goes unseen: to the node it is gone already.
            (Some(local), None) => change.previous.as_ref().is_none_or(|p| self.uid(local) == p.uid),
            (None, _) => recreated(),
        }
    }

    /// The local object, when the cloud's of that name is another one.
    fn other_object(&self, mask: &Mask, change: &Upstream) -> Option<Bytes> {
        let (local, row) = (mask.body.as_ref()?, change.row.as_ref()?);
        (self.uid(local) != row.uid).then(|| self.object_form(local))
    }

    fn uid(&self, item: &Bytes) -> String {
        object::meta(self.key.representation.encoding, item).map(|meta| meta.uid).unwrap_or_default()
    }

    fn push_upstream(&self, inner: &mut Inner, change: Upstream, before: Option<Before>) {
        let kind = match (&change.row, &before) {
            (Some(_), Some(_)) => EventType::Modified,
            (Some(_), None) => EventType::Added,
            (None, Some(_)) => EventType::Deleted,
            (None, None) => return,
        };
        let received = change.received.filter(|f| f.kind == kind);
        let object = match (&received, &change.row, &change.previous) {
            (Some(frame), ..) => frame.object.clone(),
            (None, Some(row), _) => self.object_form(&row.body),
            (None, None, Some(previous)) => {
                self.object_form(&self.at_version(&previous.body, change.version))
            }
            (None, None, None) => return,
        };
        let frame = received.map(|f| f.raw);
        self.push(inner, change.version, kind, &change.key, object, frame, before);
    }

    /// Whether an object with these attributes belongs to the collection.
    pub fn selects(&self, attributes: &Attributes) -> bool {
        self.selection.matches(attributes)
    }

    /// Puts a local write over an object; its body is `None` when the object is deleted or does not belong
    /// here (any more). `row` is what the store has under it. Returns whether any reader sees it.
    pub fn mask(&self, key: &ObjectKey, mask: Mask, row: Option<&Row>) -> bool {
        let mut inner = self.lock();
        let before = match inner.masks.get(key) {
            Some(mask) => mask.body.clone(),
            None => row.map(|r| r.body.clone()),
        };
        let (kind, body) = match (&before, &mask.body) {
            (Some(_), Some(body)) => (EventType::Modified, body.clone()),
            (None, Some(body)) => (EventType::Added, body.clone()),
            (Some(body), None) => (EventType::Deleted, self.at_version(body, mask.version)),
            (None, None) => return false,
        };
        let version = mask.version;
        inner.masks.insert(key.clone(), mask);
        let object = self.object_form(&body);
        self.push(&mut inner, version, kind, key, object, None, self.before(before.as_ref()));
        drop(inner);
        self.news.send_replace(());
        true
    }

    /// The cloud has the local write `local` as of `version` (0 = not known): from then on its word counts.
    /// A later local write of the object waits for its own delivery.
    pub fn delivered(&self, key: &ObjectKey, local: u64, version: u64) {
        if let Some(mask) = self.lock().masks.get_mut(key).filter(|mask| mask.version <= local) {
            mask.delivered = Some(version);
        }
    }

    /// Nobody can keep the collection up to date any more: its watchers are told to list again.
    pub fn dismiss(&self) {
        let mut inner = self.lock();
        let version = inner.version;
        inner.ring.reset(version);
        drop(inner);
        self.news.send_replace(());
    }

    /// Takes a mask away whose end no upstream change will tell, and leads watchers to `row`.
    pub fn settle(&self, key: &ObjectKey, row: Option<&Row>) {
        let mut inner = self.lock();
        let Some(mask) = inner.masks.remove(key) else { return };
        let before = self.before(mask.body.as_ref());
        let version = inner.version;
        let (kind, object) = match (row, &mask.body) {
            (Some(row), Some(_)) => (EventType::Modified, self.object_form(&row.body)),
            (Some(row), None) => (EventType::Added, self.object_form(&row.body)),
            (None, Some(body)) => (EventType::Deleted, self.object_form(&self.at_version(body, version))),
            (None, None) => {
                inner.lead();
                return;
            }
        };
        self.push(&mut inner, version, kind, key, object, None, before);
        drop(inner);
        self.news.send_replace(());
    }

    #[allow(clippy::too_many_arguments)]
    fn push(
        &self,
        inner: &mut Inner,
        version: u64,
        kind: EventType,
        key: &ObjectKey,
        object: Bytes,
        frame: Option<Bytes>,
        before: Option<Before>,
    ) {
        let encoding = self.key.representation.encoding;
        let frame = frame.unwrap_or_else(|| frames::encode(encoding, kind, &object));
        let lead = !ring::is_local(version) && (ring::is_local(inner.current) || version <= inner.version);
        let (before, item) = before.map_or((None, None), |b| (Some(b.attributes), Some(b.item)));
        let left = item.filter(|_| kind == EventType::Modified && !self.looks_like(&object, before.as_ref()));
        let left = left.map(|item| self.at_version(&item, version));
        inner.ring.push(Entry { version, lead, kind, key: key.clone(), frame, object, before, left });
        inner.current = version;
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// An item in object form.
    pub fn object_form(&self, item: &[u8]) -> Bytes {
        object::to_object(self.key.representation.encoding, item, &self.item_type)
    }

    fn at_version(&self, item: &Bytes, version: u64) -> Bytes {
        let spliced = object::splice_resource_version(self.key.representation.encoding, item, version);
        spliced.unwrap_or_else(|_| item.clone())
    }

    fn before(&self, item: Option<&Bytes>) -> Option<Before> {
        let item = item?;
        Some(Before { attributes: self.attributes(item)?, item: item.clone() })
    }

    /// Whether no selector could tell the object (in object form) from one with these attributes.
    fn looks_like(&self, object: &Bytes, attributes: Option<&Attributes>) -> bool {
        let item = object::to_item(self.key.representation.encoding, object).ok();
        item.and_then(|item| self.attributes(&item)).as_ref() == attributes
    }

    fn attributes(&self, item: &[u8]) -> Option<Attributes> {
        Attributes::read(&self.key.resource, self.key.representation.encoding, item).ok()
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
        self.version = version;
        self.header.resource_version = version;
        self.lead();
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
