//! Collections and their objects.

use std::ops::ControlFlow;

use rusqlite::{OptionalExtension, params};
use yurt_api::collection::ObjectKey;

use super::Reader;
use crate::error::{Result, StoreError};
use crate::names;
use crate::records::{CollectionId, CollectionRecord, Row};
use crate::rows::{self, COLLECTION_COLUMNS, OBJECT_COLUMNS};
use crate::shared::FiguresById;

impl Reader {
    /// All collections, without their objects.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; what the disk says.
    pub fn collections(&self) -> Result<Vec<CollectionRecord>> {
        self.snapshot(|figures| {
            let sql = format!("SELECT {COLLECTION_COLUMNS} FROM collections ORDER BY id");
            let mut all = self.conn.prepare_cached(&sql)?;
            let records =
                all.query_map([], |r| Ok(rows::collection(r, figures.get(&r.get::<_, i64>(0)?))))?;
            records.map(|r| r?).collect()
        })
    }

    /// The objects of the collection (of one namespace, when it is given) in the order of the apiserver, until
    /// `each` breaks; and the collection as it was with exactly these objects.
    ///
    /// `each` must be quick: the snapshot keeps the WAL from being carried over.
    ///
    /// # Errors
    /// [`StoreError::NoCollection`]; [`StoreError::Damaged`] or [`StoreError::Sealed`] when an object is not as
    /// it was written (those before it were handed out: drop them); what the disk says.
    pub fn list(
        &self,
        id: CollectionId,
        namespace: Option<&str>,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<CollectionRecord> {
        self.list_from(id, namespace, None, each)
    }

    /// The same from this key (`namespace/name`) on, which need not exist.
    ///
    /// # Errors
    /// As [`Reader::list`].
    pub fn list_from(
        &self,
        id: CollectionId,
        namespace: Option<&str>,
        start: Option<&str>,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<CollectionRecord> {
        self.snapshot(|figures| {
            let record = self.record(id, figures)?;
            let secret = names::is_secret(&record.key.resource);
            let range = range_of(namespace, start);
            let sql = format!(
                "SELECT {OBJECT_COLUMNS} FROM objects WHERE collection = ?1 AND key >= ?2{} ORDER BY key",
                if range.1.is_some() { " AND key < ?3" } else { "" }
            );
            let mut select = self.conn.prepare_cached(&sql)?;
            let mut found = match &range {
                (from, Some(to)) => select.query(params![id.0, from, to])?,
                (from, None) => select.query(params![id.0, from])?,
            };
            let mut count = 0;
            while let Some(row) = found.next()? {
                if each(rows::object(row, &self.sealer, id.0, secret)?).is_break() {
                    return Ok(record);
                }
                count += 1;
            }
            if namespace.is_none() && start.is_none() && count != record.objects {
                let why = format!("collection {} has {count} objects of {}", record.key, record.objects);
                return Err(StoreError::Damaged(why));
            }
            Ok(record)
        })
    }

    /// The object, and the version of the collection that it is, or is not, in.
    ///
    /// # Errors
    /// As [`Reader::list`].
    pub fn get(&self, id: CollectionId, key: &ObjectKey) -> Result<(Option<Row>, u64)> {
        self.snapshot(|figures| {
            let secret = rows::kind(&self.conn, id)?.ok_or(StoreError::NoCollection)?.is_secret();
            let rv = figures.get(&id.0).map(|f| f.rv).ok_or(StoreError::NoCollection)?;
            let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE collection = ?1 AND key = ?2");
            let mut find = self.conn.prepare_cached(&sql)?;
            let read = |r: &rusqlite::Row<'_>| Ok(rows::object(r, &self.sealer, id.0, secret));
            let found = find.query_row(params![id.0, names::object_key(key)], read).optional()?;
            Ok((found.transpose()?, rv))
        })
    }

    /// The collection without its objects; `None` when there is no such collection.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; what the disk says.
    pub fn collection(&self, id: CollectionId) -> Result<Option<CollectionRecord>> {
        match self.snapshot(|figures| self.record(id, figures)) {
            Ok(record) => Ok(Some(record)),
            Err(StoreError::NoCollection) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// How many objects stand from `start` on, and which of `keys` are among all of them.
    ///
    /// # Errors
    /// What the disk says.
    pub fn count_from(
        &self,
        id: CollectionId,
        namespace: Option<&str>,
        start: &str,
        keys: &[ObjectKey],
    ) -> Result<(u64, Vec<bool>)> {
        self.snapshot(|_| {
            let (from, to) = range_of(namespace, Some(start));
            let sql = "SELECT count(*) FROM objects WHERE collection = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)";
            let mut count = self.conn.prepare_cached(sql)?;
            let objects: i64 = count.query_row(params![id.0, from, to], |r| r.get(0))?;
            let mut find = self.conn.prepare_cached("SELECT 1 FROM objects WHERE collection = ?1 AND key = ?2")?;
            let there = keys.iter().map(|key| find.exists(params![id.0, names::object_key(key)]));
            Ok((objects.cast_unsigned(), there.collect::<std::result::Result<_, _>>()?))
        })
    }

    fn record(&self, id: CollectionId, figures: &FiguresById) -> Result<CollectionRecord> {
        let sql = format!("SELECT {COLLECTION_COLUMNS} FROM collections WHERE id = ?1");
        let mut find = self.conn.prepare_cached(&sql)?;
        let found = find.query_row([id.0], |r| Ok(rows::collection(r, figures.get(&id.0)))).optional()?;
        found.ok_or(StoreError::NoCollection)?
    }
}

/// The first key of a namespace or place in it, and the first beyond.
fn range_of(namespace: Option<&str>, start: Option<&str>) -> (String, Option<String>) {
    let (from, to) = match namespace.map(names::namespace_range) {
        Some((from, to)) => (from, Some(to)),
        None => (String::new(), None),
    };
    let start = start.filter(|start| *start > from.as_str());
    (start.map_or(from, str::to_owned), to)
}
