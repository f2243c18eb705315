//! The collections by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;
use yurt_api::collection::CollectionKey;
use yurt_api::resource::Resource;
use yurt_store::{CollectionRecord, CollectionState};

use super::collection::Collection;

/// All collections that are held.
#[derive(Default)]
pub struct Registry(RwLock<HashMap<CollectionKey, Arc<Collection>>>);

impl Registry {
    /// Takes in what the store has; what was live stands still until its reflector runs again.
    pub fn load(&self, records: &[CollectionRecord]) {
        for record in records {
            match self.insert(record) {
                Some(collection) if record.state == CollectionState::Live => {
                    collection.set_state(CollectionState::Frozen);
                }
                Some(_) => {}
                None => {
                    tracing::warn!(collection = %record.key, "a stored collection has selectors that cannot be read")
                }
            }
        }
    }

    /// The collection of a stored record, made when it is new.
    pub fn insert(&self, record: &CollectionRecord) -> Option<Arc<Collection>> {
        let collection = Arc::new(Collection::new(record).ok()?);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(all.entry(record.key.clone()).or_insert(collection)))
    }

    /// The collection with this key.
    pub fn get(&self, key: &CollectionKey) -> Option<Arc<Collection>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Forgets a collection, unless another one has taken its place.
    pub fn remove(&self, gone: &Arc<Collection>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(gone.key()).is_some_and(|held| Arc::ptr_eq(held, gone)) {
            all.remove(gone.key());
        }
    }

    /// Whether this very collection is held.
    pub fn holds(&self, collection: &Arc<Collection>) -> bool {
        self.get(collection.key()).is_some_and(|held| Arc::ptr_eq(&held, collection))
    }

    /// All collections of one resource.
    pub fn of(&self, resource: &Resource) -> Vec<Arc<Collection>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|c| c.key().resource == *resource).cloned().collect()
    }

    /// All collections, ordered by key.
    pub fn all(&self) -> Vec<Arc<Collection>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = all.values().cloned().collect();
        found.sort_by(|a, b| a.key().cmp(b.key()));
        found
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Collections that are being filled: each by one task only.
#[derive(Default)]
pub struct Filling(Mutex<HashMap<CollectionKey, watch::Sender<()>>>);

/// The right to fill a collection, until it is dropped.
pub struct FillingOne<'a>(&'a Filling, CollectionKey);

impl Filling {
    /// The right to fill, for the first who asks; the others get what ends when the first is done.
    pub fn start(&self, key: &CollectionKey) -> Result<FillingOne<'_>, watch::Receiver<()>> {
        let mut filling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match filling.entry(key.clone()) {
            Entry::Occupied(first) => Err(first.get().subscribe()),
            Entry::Vacant(free) => {
                free.insert(watch::Sender::new(()));
                Ok(FillingOne(self, key.clone()))
            }
        }
    }
}

impl Drop for FillingOne<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}
