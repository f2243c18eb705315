//! Changes of a collection, upstream's and the node's, in their order, and the events that they become.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use yurt_api::collection::ObjectKey;
use yurt_api::object::{self, Attributes};
use yurt_api::watch::{self as frames, EventType};
use yurt_store::Row;

use super::{Collection, Delivery, Inner, Mask, Upstream};
use crate::cache::ring::{self, Entry};
use crate::clock;

/// An object before an event.
struct Before {
    attributes: Attributes,
    /// In item form.
    item: Bytes,
}

impl Collection {
    /// Takes over changes that upstream made up to `version`, in their order. The difference to a list (`listed`) is not
    /// all that happened: whoever is somewhere in between has to list, too.
    pub fn upstream(&self, changes: Vec<Upstream>, version: u64, listed: bool) {
        let mut inner = self.lock();
        if listed {
            let from = inner.version;
            inner.ring.jump(from, version);
        }
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
        inner.come_to(version);
        inner.current = version;
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
        let Some(Delivery { version: delivered, .. }) = mask.delivered else { return false };
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
            mask.delivered = Some(Delivery { version, at: clock::monotonic() });
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
        let version = inner.version;
        self.uncover(&mut inner, key, row, version);
        drop(inner);
        self.news.send_replace(());
    }

    /// Takes back a local write while others stay: watchers hear of it as of `version`, a local one.
    pub fn unmask(&self, key: &ObjectKey, version: u64, row: Option<&Row>) {
        let row = row.map(|row| Row { body: self.at_version(&row.body, version), ..row.clone() });
        let mut inner = self.lock();
        self.uncover(&mut inner, key, row.as_ref(), version);
        drop(inner);
        self.news.send_replace(());
    }

    fn uncover(&self, inner: &mut Inner, key: &ObjectKey, row: Option<&Row>, version: u64) {
        if row.is_some_and(|row| row.resource_version > inner.version) {
            // A change that is stored and about to be told: it takes the mask away itself.
            return;
        }
        let Some(mask) = inner.masks.remove(key) else { return };
        let before = self.before(mask.body.as_ref());
        let (kind, object) = match (row, &mask.body) {
            (Some(row), Some(_)) => (EventType::Modified, self.object_form(&row.body)),
            (Some(row), None) => (EventType::Added, self.object_form(&row.body)),
            (None, Some(body)) => (EventType::Deleted, self.object_form(&self.at_version(body, version))),
            (None, None) => return inner.lead(),
        };
        self.push(inner, version, kind, key, object, None, before);
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
}
