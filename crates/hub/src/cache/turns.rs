//! One at a time changes a collection: what is stored first is told first, and nobody judges by a state that another is
//! about to replace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use yurt_api::collection::CollectionKey;

/// Held by whoever stores a change of a collection, until it is told.
pub type Turn = Arc<tokio::sync::Mutex<()>>;

/// The turns of all collections that somebody changes or is about to.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<CollectionKey, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// The one of this collection, whether that exists yet or not.
    pub fn of(&self, key: &CollectionKey) -> Turn {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = all.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        all.retain(|_, turn| turn.strong_count() > 0);
        let turn = Turn::default();
        all.insert(key.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use yurt_api::representation::Representation;
    use yurt_api::resource::Resource;

    use super::*;

    #[test]
    fn there_is_one_turn_for_each_and_none_is_kept() {
        let key = |resource| CollectionKey {
            resource: Resource::new("", "v1", resource),
            namespace: None,
            labels: String::new(),
            fields: String::new(),
            representation: Representation::JSON,
        };
        let turns = Turns::default();
        let first = turns.of(&key("pods"));
        assert!(Arc::ptr_eq(&first, &turns.of(&key("pods"))));
        assert!(!Arc::ptr_eq(&first, &turns.of(&key("services"))));
        drop(first);
        let _other = turns.of(&key("nodes"));
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
