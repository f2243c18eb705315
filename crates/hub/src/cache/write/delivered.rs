//! What the cloud has taken, until what is held of the cloud shows it.
//!
//! Between the push and the pull a power cut must not bring back what was before: a pod whose deletion was pushed
//! would start again. So an entry that the cloud has leaves the journal only for a list of its own, and stays over
//! the collections, also after a restart, until their reflectors have caught up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use yurt_api::object::{meta, to_item};
use yurt_api::representation::{Encoding, Representation};
use yurt_store::{CollectionState, Delivered, Entry, Fetched, Operation, StoreError};

use super::{Written, version_of};
use crate::cache::collection::{Collection, Delivery, Mask};
use crate::cache::read::convertible;
use crate::cache::{Cache, FrontError, ring};
use crate::clock;

/// What the cloud holds of an object after a push, as far as it said.
#[derive(Clone, Debug)]
pub enum CloudObject {
    /// It did not say.
    Unknown,
    /// Nothing.
    Gone,
    /// This.
    Is(Box<Value>),
}

impl CloudObject {
    /// Its resourceVersion, 0 when there is none.
    pub fn version(&self) -> u64 {
        match self {
            CloudObject::Is(object) => version_of(object),
            CloudObject::Unknown | CloudObject::Gone => 0,
        }
    }
}

impl Cache {
    /// The entry is in the cloud as of `version` (0 = not known): from then on the cloud's word counts, and until it
    /// has come by, the node's is shown.
    ///
    /// # Errors
    /// What the store says; then the entry is still in the journal.
    pub async fn delivered(&self, entry: &Entry, version: u64, now: CloudObject) -> Result<(), FrontError> {
        let (seq, resource, key) = (entry.seq, entry.resource.clone(), entry.key.clone());
        let awaited = entry.operation != Operation::Event && self.is_awaited(entry);
        let fetched = fetched_of(entry, &now);
        self.front
            .write(move |w| {
                // What was read of the object before the push is no answer any more.
                if !matches!(now, CloudObject::Unknown) && w.forget_fetched(&resource, &key)? {
                    fetched.map_or(Ok(true), |f| w.put_fetched(&f))?;
                }
                if awaited { w.journal_delivered(seq, version) } else { w.journal_remove(&[seq]) }
            })
            .await?;
        self.release(entry, version).await;
        if awaited {
            self.overlay.await_pull(entry);
        }
        Ok(())
    }

    /// Whether a collection shows this write only by its mask.
    fn is_awaited(&self, entry: &Entry) -> bool {
        let local = Some(ring::LOCAL + entry.seq);
        self.registry.of(&entry.resource).iter().any(|c| c.masked_by(&entry.key) == local)
    }

    /// Puts what an earlier process delivered over the collections that had not caught up with it.
    pub(super) async fn load_delivered(&self) -> Result<(), FrontError> {
        for Delivered { entry, cloud_version } in self.front.read(|r| r.delivered()).await? {
            let Ok(mut written) = serde_json::from_slice::<Written>(&entry.body) else { continue };
            let version = ring::LOCAL + entry.seq;
            super::set_version(&mut written.object, version);
            for collection in &self.registry.of(&entry.resource) {
                if self.has_caught_up(collection, &entry, cloud_version).await? {
                    continue;
                }
                self.cover(collection, &entry.key, version, &written).await?;
                collection.delivered(&entry.key, version, cloud_version);
            }
            self.overlay.await_pull(&entry);
        }
        Ok(())
    }

    /// Whether what is held of the cloud is newer than the delivered entry. Without a version of the cloud's it is a
    /// deletion or an object that was gone: the row goes when the collection has heard of it.
    async fn has_caught_up(
        &self,
        collection: &Arc<Collection>,
        entry: &Entry,
        cloud_version: u64,
    ) -> Result<bool, FrontError> {
        if cloud_version > 0 {
            return Ok(collection.version() >= cloud_version);
        }
        match self.base_json(collection, &entry.key).await {
            Err(FrontError::Store(StoreError::Damaged(_) | StoreError::Sealed(_))) => Ok(true),
            row => Ok(row?.is_none_or(|row| row.uid != entry.uid)),
        }
    }

    /// Takes away the masks whose end is reached: the row is as new as what was delivered.
    pub(in crate::cache) async fn settle(&self, collection: &Arc<Collection>) {
        for (key, mask) in collection.masks() {
            let Some(Delivery { version, .. }) = mask.delivered else { continue };
            let Ok(row) = self.base_json(collection, &key).await else { continue };
            let reached = match (&row, &mask.body) {
                (Some(row), Some(_)) => version > 0 && row.resource_version >= version,
                (None, None) => true,
                _ => false,
            };
            if reached {
                collection.settle(&key, row.as_ref());
            }
        }
        self.forget_pulled().await;
    }

    /// Takes away the masks over a list of now that was asked for after they were delivered: it shows them.
    pub(in crate::cache) async fn settle_asked(&self, collection: &Arc<Collection>, asked: Instant) {
        self.settle_where(collection, |_, delivery| delivery.at <= asked).await;
    }

    /// Takes away every mask that was delivered, over collections that were live for so long that the cloud's change
    /// would have come by. Over an old list it stays, until there is a newer one. True when no other is left.
    pub async fn sweep(&self, live_for: Duration) -> bool {
        let Some(long_ago) = clock::monotonic().checked_sub(live_for) else { return false };
        let mut caught_up = true;
        for collection in self.registry.all() {
            if !collection.is_followed() {
                self.give_way(&collection).await;
                continue;
            }
            let live = collection.state() == CollectionState::Live && collection.live_since() <= long_ago;
            self.settle_where(&collection, |_, delivery| {
                let over = live && delivery.at <= long_ago;
                caught_up &= over;
                over
            })
            .await;
        }
        self.forget_pulled().await;
        if caught_up {
            self.endpoints.forget();
        }
        caught_up
    }

    /// Forgets an old list under local writes when a collection that follows the cloud answers for it.
    async fn give_way(&self, old: &Arc<Collection>) {
        let answers = |other: &Arc<Collection>| other.is_followed() && answers_for(other, old);
        if old.masks().values().all(|mask| mask.delivered.is_none())
            || !self.registry.of(&old.key().resource).iter().any(answers)
        {
            return;
        }
        let id = old.id();
        if self.front.write(move |w| w.remove(id)).await.is_ok() {
            self.registry.remove(old);
        }
    }

    async fn settle_where(
        &self,
        collection: &Arc<Collection>,
        mut over: impl FnMut(&Mask, Delivery) -> bool,
    ) {
        for (key, mask) in collection.masks() {
            if !mask.delivered.is_some_and(|delivery| over(&mask, delivery)) {
                continue;
            }
            if let Ok(row) = self.base_json(collection, &key).await {
                collection.settle(&key, row.as_ref());
            }
        }
    }

    /// Forgets the delivered entries that no collection has to be covered with any more.
    pub(in crate::cache) async fn forget_pulled(&self) {
        let shown = |(seq, resource, key): &(u64, _, _)| {
            self.registry.of(resource).iter().any(|c| c.masked_by(key) == Some(ring::LOCAL + seq))
        };
        let pulled: Vec<u64> = self.overlay.awaited().iter().filter(|a| !shown(a)).map(|a| a.0).collect();
        if pulled.is_empty() {
            return;
        }
        let seqs = pulled.clone();
        match self.front.write(move |w| w.delivered_remove(&seqs)).await {
            Ok(()) => self.overlay.pulled(&pulled),
            Err(error) => tracing::warn!(%error, "what the cloud has by now stays in the store"),
        }
    }
}

/// Whether the one collection has all that the other has, in a form that can be turned into the other's.
fn answers_for(other: &Collection, old: &Collection) -> bool {
    let (has, wants) = (other.key(), old.key());
    let wide = has.namespace.is_none() || has.namespace == wants.namespace;
    let same = (&has.labels, &has.fields) == (&wants.labels, &wants.fields);
    let form = convertible(has.representation, other.item_type(), &[wants.representation]);
    wide && same && form.is_some()
}

/// The cloud's object as an answer to a GET would be kept.
fn fetched_of(entry: &Entry, now: &CloudObject) -> Option<Fetched> {
    let CloudObject::Is(object) = now else { return None };
    let written: Written = serde_json::from_slice(&entry.body).ok()?;
    let item = to_item(Encoding::Json, &Bytes::from(object.to_string())).ok()?;
    let meta = meta(Encoding::Json, &item).ok().filter(|m| m.key() == entry.key)?;
    Some(Fetched {
        resource: entry.resource.clone(),
        key: meta.key(),
        subresource: String::new(),
        representation: Representation { encoding: Encoding::Json, metadata_only: false },
        type_meta: written.kind.type_meta(),
        resource_version: meta.resource_version,
        uid: meta.uid,
        body: item,
        observed_at: clock::unix(),
    })
}
