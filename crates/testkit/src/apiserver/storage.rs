//! All objects under one resourceVersion counter, and the recent history from which watches and older
//! pages are served. No I/O, no locks: the server owns those.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::Value;

use super::object::{Key, Object};

/// The objects of one resource.
pub type Table = BTreeMap<Key, Arc<Object>>;

/// The asked version lies before the oldest one that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest version that can be asked for.
    pub oldest: u64,
}

/// One change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// "pods", "deployments.apps".
    pub resource: Arc<str>,
    /// The new state; of a deletion the last state under the version of the deletion.
    pub object: Arc<Object>,
    /// The state before; none of a creation.
    pub previous: Option<Arc<Object>>,
    /// The object is gone.
    pub deleted: bool,
}

/// Everything a restore brings back.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: u64,
    tables: BTreeMap<Arc<str>, Table>,
}

/// The state of the server.
#[derive(Clone, Debug)]
pub struct Storage {
    version: u64,
    compacted: u64,
    history_limit: usize,
    tables: BTreeMap<Arc<str>, Table>,
    history: VecDeque<Change>,
}

impl Storage {
    /// Empty, at version `first`, remembering `history_limit` changes.
    pub fn new(first: u64, history_limit: usize) -> Self {
        Self {
            version: first,
            compacted: first.saturating_sub(1),
            history_limit,
            tables: BTreeMap::new(),
            history: VecDeque::new(),
        }
    }

    /// The current version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The oldest version that can be asked for.
    pub fn oldest(&self) -> u64 {
        self.compacted
    }

    /// The objects of a resource, none when it has no table yet.
    pub fn table(&self, resource: &str) -> Option<&Table> {
        self.tables.get(resource)
    }

    /// One object.
    pub fn get(&self, resource: &str, key: &Key) -> Option<&Arc<Object>> {
        self.tables.get(resource)?.get(key)
    }

    /// Everything in a namespace.
    pub fn keys_in(&self, namespace: &str) -> Vec<(Arc<str>, Key)> {
        let keys = |(name, table): (&Arc<str>, &Table)| {
            let inside = table.keys().filter(|k| k.namespace == namespace);
            inside.map(|k| (name.clone(), k.clone())).collect::<Vec<_>>()
        };
        self.tables.iter().flat_map(keys).collect()
    }

    /// Writes an object under the next version.
    pub fn put(&mut self, resource: &str, key: Key, value: Value) -> Arc<Object> {
        self.version += 1;
        let object = Object::new(key.clone(), value, self.version);
        let resource = self.resource(resource);
        let previous = self.tables.entry(resource.clone()).or_default().insert(key, object.clone());
        self.remember(Change {
            version: self.version,
            resource,
            object: object.clone(),
            previous,
            deleted: false,
        });
        object
    }

    /// Removes an object; returns its last state under the version of the deletion.
    pub fn remove(&mut self, resource: &str, key: &Key) -> Option<Arc<Object>> {
        let resource = self.resource(resource);
        let previous = self.tables.get_mut(&resource)?.remove(key)?;
        self.version += 1;
        let object = previous.at_version(self.version);
        self.remember(Change {
            version: self.version,
            resource,
            object: object.clone(),
            previous: Some(previous),
            deleted: true,
        });
        Some(object)
    }

    /// The objects of a resource as they were at `version`.
    pub fn table_at(&self, resource: &str, version: u64) -> Result<Table, Compacted> {
        if version < self.compacted {
            return Err(Compacted { oldest: self.compacted });
        }
        let mut table = self.tables.get(resource).cloned().unwrap_or_default();
        for change in self.history.iter().rev().take_while(|c| c.version > version) {
            if &*change.resource != resource {
                continue;
            }
            match &change.previous {
                Some(previous) => table.insert(previous.key.clone(), previous.clone()),
                None => table.remove(&change.object.key),
            };
        }
        Ok(table)
    }

    /// The changes of a resource after `version`, oldest first.
    pub fn changes_after(&self, resource: &str, version: u64) -> Result<Vec<Change>, Compacted> {
        if version < self.compacted {
            return Err(Compacted { oldest: self.compacted });
        }
        let from = self.history.partition_point(|c| c.version <= version);
        Ok(self.history.range(from..).filter(|c| &*c.resource == resource).cloned().collect())
    }

    /// Forgets the history: every watch from before now is answered 410.
    pub fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.version;
    }

    /// Lets versions pass as other writers of the cluster would make them.
    pub fn skip_versions(&mut self, by: u64) {
        self.version += by;
    }

    /// A copy of the present.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { version: self.version, tables: self.tables.clone() }
    }

    /// Back to a snapshot, as etcd restored from a backup: the version goes back, the history is gone.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.version = snapshot.version;
        self.tables = snapshot.tables.clone();
        self.compact();
    }

    fn resource(&self, name: &str) -> Arc<str> {
        self.tables.get_key_value(name).map_or_else(|| Arc::from(name), |(k, _)| k.clone())
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back(change);
        if self.history.len() > self.history_limit
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.version;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("default", name)
    }

    #[test]
    fn the_past_is_rebuilt_from_the_history() {
        let mut storage = Storage::new(1000, 10);
        storage.put("pods", key("a"), json!({"n": 1}));
        storage.put("pods", key("b"), json!({"n": 1}));
        let then = storage.version();
        storage.put("pods", key("a"), json!({"n": 2}));
        storage.remove("pods", &key("b"));
        storage.put("pods", key("c"), json!({}));
        let past = storage.table_at("pods", then).unwrap();
        assert_eq!(past.keys().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(past[&key("a")].value()["n"], 1);
        assert_eq!(storage.changes_after("pods", then).unwrap().len(), 3);
    }

    #[test]
    fn what_is_forgotten_is_said() {
        let mut storage = Storage::new(1000, 2);
        for name in ["a", "b", "c"] {
            storage.put("pods", key(name), json!({}));
        }
        assert_eq!(storage.changes_after("pods", 1000).unwrap_err(), Compacted { oldest: 1001 });
        assert_eq!(storage.changes_after("pods", 1001).unwrap().len(), 2);
        storage.compact();
        assert!(storage.table_at("pods", 1002).is_err());
        assert!(storage.changes_after("pods", 1003).unwrap().is_empty());
    }

    #[test]
    fn a_restore_goes_back() {
        let mut storage = Storage::new(1000, 10);
        storage.put("pods", key("a"), json!({}));
        let snapshot = storage.snapshot();
        storage.put("pods", key("b"), json!({}));
        storage.restore(&snapshot);
        assert_eq!(storage.version(), 1001);
        assert!(storage.get("pods", &key("b")).is_none());
    }
}
