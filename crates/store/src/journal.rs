//! How entries stand in `journal` and `conflicts`. The body is sealed; its associated data are the other columns
//! (all but the attempts), so that none of them can change or be exchanged unseen.

use rusqlite::{Connection, OptionalExtension, Row};
use yurt_api::resource::Resource;

use crate::error::{Result, StoreError};
use crate::names;
use crate::records::{Entry, Operation};
use crate::rows;
use crate::seal::{Place, Sealer};

/// The columns that [`Stored::read`] reads, in its order; the body follows them.
pub(crate) const COLUMNS: &str =
    "seq, slot, operation, grp, version, resource, key, uid, at, first_at, attempts, body";
/// Where the body stands in [`COLUMNS`].
pub(crate) const BODY: usize = 11;

/// An entry as its columns, without the body.
pub(crate) struct Stored {
    pub seq: i64,
    pub slot: String,
    pub operation: String,
    pub resource: Resource,
    pub key: String,
    pub uid: String,
    pub at: i64,
    pub first_at: i64,
    pub attempts: u32,
}

impl Stored {
    pub fn of(entry: &Entry) -> Self {
        Stored {
            seq: entry.seq.cast_signed(),
            slot: entry.slot.clone(),
            operation: entry.operation.as_str().into(),
            resource: entry.resource.clone(),
            key: names::object_key(&entry.key),
            uid: entry.uid.clone(),
            at: entry.at,
            first_at: entry.first_at,
            attempts: entry.attempts,
        }
    }

    pub fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Stored {
            seq: row.get(0)?,
            slot: row.get(1)?,
            operation: row.get(2)?,
            resource: rows::resource(row, 3)?,
            key: row.get(6)?,
            uid: row.get(7)?,
            at: row.get(8)?,
            first_at: row.get(9)?,
            attempts: row.get(10)?,
        })
    }

    /// The entry with this body.
    pub fn entry(self, body: Vec<u8>) -> Result<Entry> {
        let operation = Operation::parse(&self.operation)
            .ok_or_else(|| StoreError::Damaged(format!("no operation is named {:?}", self.operation)))?;
        Ok(Entry {
            seq: self.seq.cast_unsigned(),
            first_at: self.first_at,
            attempts: self.attempts,
            slot: self.slot,
            operation,
            resource: self.resource,
            key: names::parse_object_key(&self.key),
            uid: self.uid,
            body,
            at: self.at,
        })
    }
}

/// The place of an entry's body.
pub(crate) fn entry_place(table: &str, s: &Stored) -> Place {
    let Resource { group, version, resource } = &s.resource;
    Place::new(table)
        .number(s.seq)
        .text(&s.slot)
        .text(&s.operation)
        .text(group)
        .text(version)
        .text(resource)
        .text(&s.key)
        .text(&s.uid)
        .number(s.at)
        .number(s.first_at)
}

/// The place of what the cloud said about a conflict.
pub(crate) fn cloud_place(seq: i64) -> Place {
    Place::new("conflicts.cloud").number(seq)
}

/// Reads [`COLUMNS`] of `table` and opens the body.
pub(crate) fn open_entry(table: &str, row: &Row<'_>, sealer: &Sealer) -> Result<Entry> {
    let stored = Stored::read(row)?;
    let sealed: Vec<u8> = row.get(BODY)?;
    let body = sealer.open(&entry_place(table, &stored), &sealed)?;
    stored.entry(body)
}

/// The pending entry of this number.
pub(crate) fn find(conn: &Connection, sealer: &Sealer, seq: u64) -> Result<Option<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM journal WHERE seq = ?1");
    let mut find = conn.prepare_cached(&sql)?;
    let read = |row: &Row<'_>| Ok(open_entry("journal", row, sealer));
    find.query_row([seq.cast_signed()], read).optional()?.transpose()
}
