//! What a start does with what it finds: the figures of the collections, the journal, the sequence.

use rusqlite::Connection;

use crate::error::{Result, StoreError};
use crate::journal::{COLUMNS, Stored, open_entry};
use crate::records::{Entry, Operation};
use crate::rows;
use crate::shared::FiguresById;
use crate::writer::{Session, park_in};

/// Why an entry stands among the conflicts that could not be read any more.
const UNREADABLE: &str = "DamagedOnDisk";

/// Versions and counts of all collections: what the rows of `collections` say, and what the objects say beyond.
pub(crate) fn figures(conn: &Connection) -> Result<FiguresById> {
    let mut figures = rows::all_saved_figures(conn)?;
    // In the order of the file, and only the first page of each row: no body is read.
    let mut objects = conn.prepare("SELECT collection, applied, size FROM objects")?;
    let mut found = objects.query([])?;
    while let Some(row) = found.next()? {
        let (id, applied, size): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let of =
            figures.get_mut(&id).ok_or_else(|| StoreError::Damaged("an object of no collection".into()))?;
        of.count(Some(size.cast_unsigned()), None);
        of.rv = of.rv.max(applied.cast_unsigned());
    }
    let mut past = conn.prepare("SELECT collection, count(*), sum(size) FROM past GROUP BY collection")?;
    let mut found = past.query([])?;
    while let Some(row) = found.next()? {
        let (id, count, size): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(of) = figures.get_mut(&id) {
            of.past = (count.cast_unsigned(), size.cast_unsigned());
        }
    }
    Ok(figures)
}

/// Sets apart the entries that do not open, so that one of them does not hold up the others.
/// Returns them, without their bodies.
pub(crate) fn set_unreadable_apart(session: &Session<'_>, now: i64) -> Result<Vec<Entry>> {
    let mut unreadable = Vec::new();
    {
        let mut all = session.conn.prepare(&format!("SELECT {COLUMNS} FROM journal ORDER BY seq"))?;
        let mut found = all.query([])?;
        while let Some(row) = found.next()? {
            if open_entry("journal", row, session.sealer).is_err() {
                unreadable.push(bare(row)?);
            }
        }
    }
    for entry in &unreadable {
        park_in(session, entry, UNREADABLE, None, now)?;
    }
    Ok(unreadable)
}

/// What can be said of an entry without its body.
fn bare(row: &rusqlite::Row<'_>) -> Result<Entry> {
    let mut stored = Stored::read(row)?;
    if Operation::parse(&stored.operation).is_none() {
        stored.operation = Operation::Update.as_str().into();
    }
    stored.entry(Vec::new())
}

/// The greatest number that the journal, the conflicts or the delivered entries hold.
pub(crate) fn last_seq(conn: &Connection) -> Result<u64> {
    let sql = "SELECT max(coalesce((SELECT max(seq) FROM journal), 0),
               coalesce((SELECT max(seq) FROM conflicts), 0), coalesce((SELECT max(seq) FROM delivered), 0))";
    let last: i64 = conn.query_row(sql, [], |r| r.get(0))?;
    u64::try_from(last).map_err(|_| StoreError::Damaged("a number of the journal is negative".into()))
}
