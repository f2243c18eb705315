//! Views that lists in pages go on in while the node writes: what stood over the cloud's rows when a list began.
//!
//! The rows themselves do not change while the cloud is lost (P6), so a list of a version is those rows under the
//! local writes of that moment, which are shared with the present ones and cost little. Once the rows go on, or the
//! pin is gone, the version is no more and its tokens have expired.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use yurt_api::collection::{CollectionKey, ObjectKey};

use super::collection::Mask;

/// Views at one time; the one that was asked for least recently gives way.
const MAX: usize = 16;
/// Who has not asked for the next page by then will not: etcd's compaction ends a token after 5 to 10 minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// The local writes over a collection.
pub(super) type Masks = Arc<BTreeMap<ObjectKey, Mask>>;

/// All views that are kept.
#[derive(Default)]
pub struct Pins(Mutex<Vec<Pin>>);

struct Pin {
    key: CollectionKey,
    /// The version of the view.
    view: u64,
    /// The version of the rows under it.
    rows: u64,
    masks: Masks,
    at: Instant,
}

impl Pins {
    /// Keeps the view of this version: rows of `rows` under these local writes.
    pub(super) fn keep(&self, key: &CollectionKey, view: u64, rows: u64, masks: Masks, now: Instant) {
        let mut pins = self.lock();
        pins.retain(|pin| !(pin.view == view && pin.key == *key));
        if pins.len() >= MAX {
            pins.remove(0);
        }
        pins.push(Pin { key: key.clone(), view, rows, masks, at: now });
    }

    /// The version of the rows, and the local writes, of a view that is kept.
    pub(super) fn find(&self, key: &CollectionKey, view: u64, now: Instant) -> Option<(u64, Masks)> {
        let mut pins = self.lock();
        pins.retain(|pin| now.duration_since(pin.at) < PATIENCE);
        let at = pins.iter().position(|pin| pin.view == view && pin.key == *key)?;
        let pin = pins.remove(at);
        let found = (pin.rows, Arc::clone(&pin.masks));
        pins.push(Pin { at: now, ..pin });
        Some(found)
    }

    /// Lets go of what nobody has asked for in time.
    pub(super) fn sweep(&self, now: Instant) {
        self.lock().retain(|pin| now.duration_since(pin.at) < PATIENCE);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pin>> {
        // No code panics while it holds the lock; if it ever did, each pin is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use yurt_api::representation::Representation;
    use yurt_api::resource::Resource;

    fn key(namespace: &str) -> CollectionKey {
        CollectionKey {
            resource: Resource::new("", "v1", "pods"),
            namespace: Some(namespace.to_owned()),
            labels: String::new(),
            fields: String::new(),
            representation: Representation::JSON,
        }
    }

    #[test]
    fn a_view_is_kept_while_it_is_asked_for_and_within_bounds() {
        let (pins, now) = (Pins::default(), clock::monotonic());
        let rows = |view, at| pins.find(&key("a"), view, at).map(|found| found.0);
        for view in 1..=MAX as u64 {
            pins.keep(&key("a"), view, view + 100, Masks::default(), now);
        }
        assert_eq!(rows(1, now), Some(101), "and is the newest now");
        assert!(pins.find(&key("b"), 1, now).is_none());
        pins.keep(&key("a"), 99, 199, Masks::default(), now);
        assert_eq!((rows(1, now), rows(2, now), rows(99, now)), (Some(101), None, Some(199)));
        let later = now + PATIENCE / 2;
        assert_eq!(rows(99, later), Some(199));
        pins.sweep(now + PATIENCE);
        assert_eq!((rows(1, now), rows(99, now + PATIENCE)), (None, Some(199)));
        assert_eq!(rows(99, now + PATIENCE * 2), None);
    }
}
