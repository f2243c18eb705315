//! What changed in a collection after a version: the rows that are newer, and what others were until then.

use rusqlite::params;
use yurt_api::collection::ObjectKey;

use super::Reader;
use crate::error::{Result, StoreError};
use crate::records::{CollectionId, Row};
use crate::rows::{self, OBJECT_COLUMNS, PAST_COLUMNS};

/// Changes that are told at the most, and the bytes of their bodies: beyond them a list is as cheap.
const MAX_CHANGES: usize = 2048;
const MAX_BYTES: usize = 8 << 20;

/// What an object was until a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The object before the change.
    pub row: Row,
    /// The version with which it had come into the collection.
    pub since: u64,
    /// The version of the change: it went, or a selector can tell it from what it became.
    pub ended: u64,
}

/// What changed after a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The collection's version now.
    pub version: u64,
    /// Rows that are newer, with the versions with which they came into the collection.
    pub rows: Vec<(Row, u64)>,
    /// What objects were until a later version, oldest first.
    pub past: Vec<Past>,
    /// The rows of the keys that were asked for and are not among the newer ones, likewise.
    pub others: Vec<(Row, u64)>,
}

impl Reader {
    /// What changed after `version`, and how the objects of `keys` are. `Err` gives a version from which the history is
    /// whole, when it does not reach back so far, a list passed over this version, or too much has changed.
    ///
    /// # Errors
    /// As [`Reader::list`].
    pub fn since(
        &self,
        id: CollectionId,
        version: u64,
        keys: &[ObjectKey],
    ) -> Result<std::result::Result<History, u64>> {
        self.snapshot(|figures| {
            let of = figures.get(&id.0).ok_or(StoreError::NoCollection)?;
            // A collection of an earlier format has no history until its next change.
            let floor = if of.floor == 0 { of.rv } else { of.floor };
            if version < floor {
                return Ok(Err(floor));
            }
            let secret = rows::kind(&self.conn, id)?.ok_or(StoreError::NoCollection)?.is_secret();
            let mut found = Found { version, bytes: 0, count: 0 };
            let Some(rows) = self.newer_rows(id, secret, &mut found)? else { return Ok(Err(of.rv)) };
            let Some(past) = self.past_after(id, secret, &mut found)? else { return Ok(Err(of.rv)) };
            let others = self.rows_of(id, secret, version, keys)?;
            Ok(Ok(History { version: of.rv, rows, past, others }))
        })
    }

    fn newer_rows(
        &self,
        id: CollectionId,
        secret: bool,
        found: &mut Found,
    ) -> Result<Option<Vec<(Row, u64)>>> {
        let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE collection = ?1 AND rv > ?2");
        let mut select = self.conn.prepare_cached(&sql)?;
        let mut newer = select.query(params![id.0, found.version.cast_signed()])?;
        let mut all = Vec::new();
        while let Some(row) = newer.next()? {
            let was = rows::was(row, &self.sealer, id.0, secret)?;
            if !found.fits(&was.row) {
                return Ok(None);
            }
            all.push((was.row, was.since));
        }
        Ok(Some(all))
    }

    fn past_after(&self, id: CollectionId, secret: bool, found: &mut Found) -> Result<Option<Vec<Past>>> {
        let sql = format!(
            "SELECT {PAST_COLUMNS} FROM past WHERE collection = ?1 AND ended > ?2 ORDER BY ended, id"
        );
        let mut select = self.conn.prepare_cached(&sql)?;
        let mut later = select.query(params![id.0, found.version.cast_signed()])?;
        let mut all = Vec::new();
        while let Some(row) = later.next()? {
            let (was, ended) = rows::past(row, &self.sealer, id.0, secret)?;
            let is_gap = was.row.key.name.is_empty();
            if !found.fits(&was.row) || (is_gap && was.since < found.version) {
                return Ok(None);
            }
            if is_gap {
                continue;
            }
            all.push(Past { row: was.row, since: was.since, ended });
        }
        Ok(Some(all))
    }

    fn rows_of(
        &self,
        id: CollectionId,
        secret: bool,
        version: u64,
        keys: &[ObjectKey],
    ) -> Result<Vec<(Row, u64)>> {
        let sql =
            format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE collection = ?1 AND key = ?2 AND rv <= ?3");
        let mut select = self.conn.prepare_cached(&sql)?;
        let mut all = Vec::new();
        for key in keys {
            let mut found = select.query(params![id.0, key.to_string(), version.cast_signed()])?;
            if let Some(row) = found.next()? {
                let was = rows::was(row, &self.sealer, id.0, secret)?;
                all.push((was.row, was.since));
            }
        }
        Ok(all)
    }
}

/// What was found so far, within its bounds.
struct Found {
    version: u64,
    bytes: usize,
    count: usize,
}

impl Found {
    fn fits(&mut self, row: &Row) -> bool {
        self.count += 1;
        self.bytes += row.body.len();
        self.count <= MAX_CHANGES && self.bytes <= MAX_BYTES
    }
}
