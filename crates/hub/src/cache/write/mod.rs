//! Writes that the node itself owns, taken while the cloud is away.
//!
//! A write becomes durable in the journal first, then visible in every view, then acknowledged (P5).
//! What the node does not own is refused, and nothing is ever acknowledged that was not kept.

mod accept;
mod body;
mod conflict;
mod delivered;
mod new;
mod object;
mod overlay;
mod slices;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::{Value, json};
use yurt_api::collection::ObjectKey;
use yurt_api::object::{Attributes, meta, to_item};
use yurt_api::representation::{Encoding, Representation};
use yurt_api::resource::{Resource, TypeMeta};
use yurt_store::{Entry, NewEntry, Operation, StoreError};

pub use accept::{Accepted, LocalWrite, Refused};
pub use delivered::CloudObject;
pub use overlay::{LocalObject, Overlay};
pub use slices::is_wipe;

use super::collection::{Collection, Mask};
use super::{Cache, FrontError, ring};
use crate::clock;
use crate::respond;

/// What the journal keeps of a write: the object before the outage and as the node left it.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Written {
    /// The kind, for conversion and merge keys.
    pub kind: TypeMetaText,
    /// The object as the cloud last said, in JSON; null when it did not exist.
    #[serde(default)]
    pub base: Value,
    /// The object as the node left it; null when deleted.
    #[serde(default)]
    pub object: Value,
    /// A patch of an object that is not held (an Event from before the outage).
    #[serde(default)]
    pub patch: Value,
}

/// Kind and apiVersion as text.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeMetaText {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Pod`
    pub kind: String,
}

impl From<&TypeMeta> for TypeMetaText {
    fn from(t: &TypeMeta) -> Self {
        TypeMetaText { api_version: t.api_version.clone(), kind: t.kind.clone() }
    }
}

impl TypeMetaText {
    /// As the API crate has it.
    pub fn type_meta(&self) -> TypeMeta {
        TypeMeta::new(&self.api_version, &self.kind)
    }
}

impl Cache {
    /// Puts the journal of an earlier process over the collections again.
    pub(super) async fn load_journal(&self) -> Result<(), FrontError> {
        self.load_delivered().await?;
        for entry in self.journal_entries().await? {
            self.overlay.journal_grew();
            match serde_json::from_slice::<Written>(&entry.body) {
                Ok(written) => self.show(&entry, written).await?,
                Err(error) => tracing::error!(seq = entry.seq, %error, "a journal entry cannot be read"),
            }
        }
        Ok(())
    }

    /// All pending entries, in order. Those that are not as they were written are moved to the conflicts and
    /// forgotten: one of them must not hold up the others.
    pub async fn journal_entries(&self) -> Result<Vec<Entry>, FrontError> {
        let read = self.front.read(|r| r.journal()).await;
        let Err(FrontError::Store(StoreError::Damaged(_) | StoreError::Sealed(_))) = &read else {
            return read;
        };
        let apart = self.front.write(|w| w.journal_set_unreadable_apart(clock::unix())).await?;
        for entry in &apart {
            tracing::error!(resource = %entry.resource, object = %entry.key, "a local write is not as it was written; it stands among the conflicts");
            self.release(entry, 0).await;
        }
        self.unreadable.fetch_add(apart.len() as u64, Ordering::Relaxed);
        self.front.read(|r| r.journal()).await
    }

    /// Entries of the journal that could not be read, since before the start.
    pub fn unreadable_entries(&self) -> u64 {
        self.found.unreadable_entries + self.unreadable.load(Ordering::Relaxed)
    }

    async fn show(&self, entry: &Entry, written: Written) -> Result<(), FrontError> {
        let version = ring::LOCAL + entry.seq;
        self.put_over(&entry.resource, &entry.key, &entry.uid, entry.operation, version, written).await
    }

    /// Makes a write durable and visible; returns its version.
    pub(super) async fn journal(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        uid: &str,
        operation: Operation,
        mut written: Written,
    ) -> Result<u64, FrontError> {
        let entry = NewEntry {
            slot: slot(resource, key, uid),
            operation,
            resource: resource.clone(),
            key: key.clone(),
            uid: uid.to_owned(),
            body: serde_json::to_vec(&written).unwrap_or_default(),
            at: clock::unix(),
        };
        let kept = self.front.write(move |w| w.journal_put(&[entry])).await?;
        let seq = kept.seqs.first().copied().ok_or(FrontError::Closed)?;
        let version = ring::LOCAL + seq;
        self.metrics.journaled.inc();
        self.overlay.journal_grew();
        set_version(&mut written.object, version);
        self.put_over(resource, key, uid, operation, version, written).await?;
        for gone in &kept.dropped {
            self.forget(gone).await;
        }
        Ok(version)
    }

    /// The ring has dropped this event, and the cloud will never hear of it: nobody sees it from now on.
    async fn forget(&self, event: &Entry) {
        self.release(event, 0).await;
        for collection in self.registry.of(&event.resource) {
            if let Err(error) = self.uncover(&collection, event).await {
                // What was released goes at the latest when the link is back.
                tracing::warn!(%error, "an event that the journal dropped is still shown");
            }
        }
    }

    async fn uncover(&self, collection: &Arc<Collection>, event: &Entry) -> Result<(), FrontError> {
        let local = ring::LOCAL + event.seq;
        if collection.masked_by(&event.key) != Some(local) {
            return Ok(());
        }
        let row = self.base_json(collection, &event.key).await?;
        let version = ring::LOCAL + self.front.write(|w| w.next_local_version()).await?;
        collection.unmask(&event.key, version, row.as_ref());
        Ok(())
    }

    async fn put_over(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        uid: &str,
        operation: Operation,
        version: u64,
        mut written: Written,
    ) -> Result<(), FrontError> {
        if written.patch.is_object() {
            return Ok(());
        }
        set_version(&mut written.object, version);
        for collection in self.registry.of(resource) {
            self.cover(&collection, key, version, &written).await?;
        }
        if resource.is("", "pods") {
            self.endpoints.wrote(uid, &written);
        }
        self.overlay.put(
            resource,
            key,
            LocalObject { version, uid: uid.to_owned(), operation, written, ephemeral: false },
        );
        Ok(())
    }

    /// Puts a local write over one collection.
    async fn cover(
        &self,
        collection: &Arc<Collection>,
        key: &ObjectKey,
        version: u64,
        written: &Written,
    ) -> Result<(), FrontError> {
        let row = match self.base_json(collection, key).await {
            // What is not as it was written hides under what the node writes now.
            Err(FrontError::Store(StoreError::Damaged(_) | StoreError::Sealed(_))) => None,
            read => read?,
        };
        let local = local_item(&collection.key().resource, &written.object);
        let local = local.filter(|(_, attributes)| collection.selects(attributes));
        let body = local.and_then(|(item, _)| masked(collection, &written.kind.type_meta(), &item));
        collection.mask(key, Mask { version, body, delivered: None, derived: false }, row.as_ref());
        Ok(())
    }

    /// Puts what waits to be pushed over a collection that has just appeared.
    pub(super) async fn cover_new(&self, collection: &Arc<Collection>) -> Result<(), FrontError> {
        for (key, local) in self.overlay.pending_of(&collection.key().resource) {
            self.cover(collection, &key, local.version, &local.written).await?;
            let resource = &collection.key().resource;
            if self.overlay.get(resource, &key).is_none_or(|now| now.version != local.version) {
                // It was pushed, or written again, in between.
                let row = self.base_json(collection, &key).await?;
                collection.settle(&key, row.as_ref());
            }
        }
        Ok(())
    }

    /// The cloud has the entry, or never will: its word counts again from `version` on.
    pub async fn release(&self, entry: &Entry, version: u64) {
        if entry.resource.is("", "pods") {
            self.endpoints.delivered(&entry.uid, version);
        }
        self.overlay.release(&entry.resource, &entry.key, ring::LOCAL + entry.seq);
        for collection in self.registry.of(&entry.resource) {
            collection.delivered(&entry.key, ring::LOCAL + entry.seq, version);
        }
    }
}

/// The journal keeps one entry per object: what a later write left replaces what an earlier one did.
fn slot(resource: &Resource, key: &ObjectKey, uid: &str) -> String {
    format!("{resource}/{key}/{uid}")
}

/// A JSON object in item form, with what selectors see of it; `None` for a deleted one.
fn local_item(resource: &Resource, object: &Value) -> Option<(Bytes, Attributes)> {
    let item = to_item(Encoding::Json, &Bytes::from(object.as_object().map(|_| object.to_string())?)).ok()?;
    let attributes = Attributes::read(resource, Encoding::Json, &item).ok()?;
    Some((item, attributes))
}

/// A JSON object in item form as a collection keeps its items.
pub(super) fn item_of(collection: &Collection, kind: &TypeMeta, object: &Value) -> Option<Bytes> {
    masked(collection, kind, &to_item(Encoding::Json, &Bytes::from(object.to_string())).ok()?)
}

/// An item in JSON as a collection keeps its items.
fn masked(collection: &Collection, kind: &TypeMeta, item: &Bytes) -> Option<Bytes> {
    respond::item_as(Representation::JSON, collection.key().representation, kind, item)
        .inspect_err(|error| tracing::error!(%error, kind = kind.kind, "a local write cannot be shown"))
        .ok()
}

/// Sets `metadata.resourceVersion` of a JSON object.
pub fn set_version(object: &mut Value, version: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
    }
}

/// The uid of a JSON object.
pub fn uid_of(object: &Value) -> &str {
    object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}

/// The version of a JSON object, 0 when it has none.
pub fn version_of(object: &Value) -> u64 {
    meta(Encoding::Json, object.to_string().as_bytes()).map_or(0, |m| m.resource_version)
}
