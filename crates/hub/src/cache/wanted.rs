//! What a boot of the node without the cloud would ask for, as its pods say: found by `autonomy`, spared by whatever
//! makes room.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::request::ResourceRequest;
use yurt_api::resource::Resource;

use super::filter::cover;

/// What would be asked for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The lists that a kubelet begins with.
    pub lists: Vec<ResourceRequest>,
    /// The objects that the node's pods need.
    pub objects: BTreeSet<(Resource, ObjectKey)>,
}

impl Wanted {
    /// Whether this collection holds, or would hold, any of it.
    pub fn is_in(&self, key: &CollectionKey) -> bool {
        let holds = |name: &ObjectKey| {
            key.namespace.as_ref().is_none_or(|n| *n == name.namespace)
                && (key.fields.is_empty() || key.fields == format!("metadata.name={}", name.name))
        };
        self.lists.iter().any(|list| cover(key, list).is_some())
            || self.objects.iter().any(|(resource, name)| *resource == key.resource && holds(name))
    }
}

/// The last that was found.
#[derive(Default)]
pub struct Needed(Mutex<Option<Arc<Wanted>>>);

impl Needed {
    /// What was found last; `None` while the node's pods are not known.
    pub fn now(&self) -> Option<Arc<Wanted>> {
        self.lock().clone()
    }

    /// This was found.
    pub fn put(&self, wanted: Wanted) {
        *self.lock() = Some(Arc::new(wanted));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Wanted>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
