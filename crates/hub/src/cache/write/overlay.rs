//! The node's writes by object: what the journal does to reads of single objects.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use yurt_api::collection::ObjectKey;
use yurt_api::object::to_item;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::resource::Resource;
use yurt_store::{Entry, Operation};

use super::super::ObjectView;
use super::Written;
use crate::clock;
use crate::respond;

/// One object that the node wrote.
#[derive(Clone, Debug)]
pub struct LocalObject {
    /// The local version of the last write.
    pub version: u64,
    /// The object's uid.
    pub uid: String,
    /// What the journal will do upstream.
    pub operation: Operation,
    /// Before and after.
    pub written: Written,
    /// In memory only: the node's lease, of which the next renewal says all.
    pub ephemeral: bool,
}

/// All of them, and the gate that lets one local write through at a time.
pub struct Overlay {
    objects: Mutex<HashMap<(Resource, ObjectKey), LocalObject>>,
    pub(super) gate: tokio::sync::Mutex<()>,
    unpushed: watch::Sender<bool>,
    awaited: Mutex<Vec<Awaited>>,
    settling: Arc<AtomicBool>,
}

/// What the cloud has and the collections do not show yet: number, resource and key of the entry.
type Awaited = (u64, Resource, ObjectKey);

/// The right to wait for what was delivered, until it is dropped.
pub struct Settling(Arc<AtomicBool>);

impl Drop for Settling {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Default for Overlay {
    fn default() -> Self {
        Overlay {
            objects: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            unpushed: watch::channel(false).0,
            awaited: Mutex::default(),
            settling: Arc::default(),
        }
    }
}

impl Overlay {
    /// The object as the node left it: `Some(None)` when the node deleted it, `None` when it wrote nothing.
    pub fn view(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        wanted: &[Representation],
    ) -> Option<Option<ObjectView>> {
        let local = self.get(resource, key)?;
        if !local.written.object.is_object() {
            return Some(None);
        }
        let kind = local.written.kind.type_meta();
        let representation = super::super::read::convertible(Representation::JSON, &kind, wanted)?;
        let item = to_item(Encoding::Json, &Bytes::from(local.written.object.to_string())).ok()?;
        let body = respond::object_as(Representation::JSON, representation, &kind, &item).ok()?;
        Some(Some(ObjectView { body, representation, kind, observed_at: clock::unix() }))
    }

    /// What the node wrote to an object.
    pub fn get(&self, resource: &Resource, key: &ObjectKey) -> Option<LocalObject> {
        self.lock().get(&(resource.clone(), key.clone())).cloned()
    }

    /// All that the node wrote of a resource.
    pub fn of(&self, resource: &Resource) -> Vec<LocalObject> {
        self.lock().iter().filter(|((r, _), _)| r == resource).map(|(_, local)| local.clone()).collect()
    }

    /// What waits to be pushed of a resource, by object; what is only a patch is not known whole.
    pub(super) fn pending_of(&self, resource: &Resource) -> Vec<(ObjectKey, LocalObject)> {
        let waits = |local: &LocalObject| !local.ephemeral && !local.written.patch.is_object();
        let objects = self.lock();
        let of = objects.iter().filter(|((r, _), local)| r == resource && waits(local));
        of.map(|((_, key), local)| (key.clone(), local.clone())).collect()
    }

    /// Whether a write to this object waits to be pushed.
    pub fn is_pending(&self, resource: &Resource, key: &ObjectKey) -> bool {
        self.get(resource, key).is_some_and(|local| !local.ephemeral)
    }

    /// Takes in a write.
    pub fn put(&self, resource: &Resource, key: &ObjectKey, local: LocalObject) {
        self.lock().insert((resource.clone(), key.clone()), local);
    }

    /// Forgets the write of this version; a newer one stays.
    pub fn release(&self, resource: &Resource, key: &ObjectKey, version: u64) {
        let mut objects = self.lock();
        let at = (resource.clone(), key.clone());
        if objects.get(&at).is_some_and(|local| local.version <= version) {
            objects.remove(&at);
        }
    }

    /// Forgets what was kept in memory only: the cloud takes it again.
    pub fn forget_ephemeral(&self) {
        self.lock().retain(|_, local| !local.ephemeral);
    }

    /// The journal has grown.
    pub fn journal_grew(&self) {
        self.unpushed.send_replace(true);
    }

    /// The journal is about to be read whole: what is written from now on counts as growth.
    pub fn journal_read(&self) {
        self.unpushed.send_replace(false);
    }

    /// Waits until there may be something to push.
    pub async fn has_unpushed(&self) {
        let _ = self.unpushed.subscribe().wait_for(|grew| *grew).await;
    }

    /// The right to wait for what was delivered, for the first who asks.
    pub fn start_settling(&self) -> Option<Settling> {
        let first = !self.settling.swap(true, Ordering::AcqRel);
        first.then(|| Settling(Arc::clone(&self.settling)))
    }

    /// The cloud has this entry; what is held of the cloud does not show it yet.
    pub(super) fn await_pull(&self, entry: &Entry) {
        let awaited = (entry.seq, entry.resource.clone(), entry.key.clone());
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).push(awaited);
    }

    /// Those entries.
    pub(super) fn awaited(&self) -> Vec<Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These of them are shown by now.
    pub(super) fn pulled(&self, seqs: &[u64]) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).retain(|a| !seqs.contains(&a.0));
    }

    /// Writes that wait, those in memory only left out.
    pub fn pending(&self) -> usize {
        self.lock().values().filter(|local| !local.ephemeral).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Resource, ObjectKey), LocalObject>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
