//! The frames of a reflector's watch: decoded, stored, then told.

use std::future::Future;
use std::sync::Arc;

use yurt_api::collection::ObjectKey;
use yurt_api::object;
use yurt_api::status::Status;
use yurt_api::watch::{Decoder, EventType, Frame};
use yurt_store::{Change, Row, Writer};

use super::history::is_too_large;
use super::step::Event;
use super::{Reflector, Stop};
use crate::cache::Cache;
use crate::cache::collection::{Collection, Upstream};
use crate::tasks;

impl Reflector {
    /// Takes every whole frame: changes are stored in one transaction, then told.
    pub(super) async fn drain(&self, decoder: &mut Decoder) -> Result<(), Stop> {
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
        if status.as_ref().is_some_and(is_too_large) {
            return Stop::Ahead;
        }
        Stop::Event(if expired { Event::Gone } else { Event::Failed })
    }

    async fn apply(&self, frames: Vec<Frame>) -> Result<(), Stop> {
        let encoding = self.collection.key().representation.encoding;
        let mut version = 0;
        let mut came = Vec::with_capacity(frames.len());
        for frame in frames {
            let unreadable = |_| Stop::Event(Event::Gone);
            let item = object::to_item(encoding, &frame.object).map_err(unreadable)?;
            let meta = object::meta(encoding, &item).map_err(unreadable)?;
            version = meta.resource_version.max(version);
            if frame.kind == EventType::Bookmark {
                continue;
            }
            let (key, resource_version) = (meta.key(), meta.resource_version);
            let row = (frame.kind != EventType::Deleted).then(|| Row {
                key: key.clone(),
                resource_version,
                uid: meta.uid,
                body: item,
            });
            came.push(Came { key, version: resource_version, row, frame });
        }
        if came.is_empty() {
            self.bookmark(version).await;
            return Ok(());
        }
        let (cache, collection) = (Arc::clone(&self.cache), Arc::clone(&self.collection));
        let storing = async move { store_and_tell(&cache, &collection, came, version).await };
        self.to_its_end(storing).await?
    }

    /// Nothing changed up to `version`. Not in the store, it costs a repetition after a power cut, nothing more.
    async fn bookmark(&self, version: u64) {
        let _turn = self.turn.lock().await;
        self.collection.progress(version);
        if self.cache.connectivity.reachable() {
            let (id, version) = (self.collection.id(), self.collection.version());
            let now = crate::clock::unix();
            let _ = self.cache.front.write(move |w| w.progress(id, version, now)).await;
        }
    }

    /// Stores and tells in a task of its own: cut short between the two, an event would be in the store and
    /// never reach a watcher.
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        storing: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stop> {
        let place = Arc::clone(&self.turn).lock_owned().await;
        let whole = async move {
            let done = storing.await;
            drop(place);
            done
        };
        tasks::to_its_end("store events", whole).await.ok_or(Stop::Event(Event::Gone))
    }
}

/// An event as it came.
struct Came {
    key: ObjectKey,
    version: u64,
    /// What it leaves; nothing when it tells of a deletion.
    row: Option<Row>,
    frame: Frame,
}

/// Stores changes in one transaction, then tells watchers.
async fn store_and_tell(
    cache: &Cache,
    collection: &Arc<Collection>,
    mut came: Vec<Came>,
    version: u64,
) -> Result<(), Stop> {
    // A client's list may have been newer than the version from which this watch was asked for.
    let held = collection.version();
    came.retain(|came| came.version > held);
    let changes: Vec<_> = came.iter().map(Came::change).collect();
    let (checking, now) = (Arc::clone(collection), crate::clock::unix());
    let applying = move |w: &mut Writer| checking.checked(w.apply(checking.id(), version, now, &changes));
    let applied = cache.write_linked(applying).await.inspect_err(|_| collection.fall_behind())?;
    // The next watch brings them again: what is held stays as it is (P6).
    let applied = applied.ok_or(Stop::Event(Event::Failed))?;
    cache.metrics.events.inc_by(came.len() as u64);
    let told = came.into_iter().zip(applied.previous).map(|(Came { key, version, row, frame }, previous)| {
        Upstream { key, row, previous, version, received: Some(frame), held: false }
    });
    cache.tell(collection, told.collect(), version, false);
    cache.forget_pulled().await;
    Ok(())
}

impl Came {
    fn change(&self) -> Change {
        match &self.row {
            Some(row) => Change::Upsert(row.clone()),
            None => Change::Delete { key: self.key.clone(), resource_version: self.version },
        }
    }
}
