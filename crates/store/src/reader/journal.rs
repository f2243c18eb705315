//! The journal's reading.

use rusqlite::Row;

use super::Reader;
use crate::error::Result;
use crate::journal::{BODY, COLUMNS, cloud_place, open_entry};
use crate::records::{Conflict, Entry};
use crate::seal::Sealer;

/// The journal in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalFigures {
    /// Pending entries.
    pub entries: u64,
    /// When the oldest of them was first written, in Unix seconds.
    pub oldest: Option<i64>,
    /// Conflicts.
    pub conflicts: u64,
}

impl Reader {
    /// How much there is, without opening any of it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal_figures(&self) -> Result<JournalFigures> {
        let sql = "SELECT count(*), min(first_at), (SELECT count(*) FROM conflicts) FROM journal";
        let (entries, oldest, conflicts): (i64, Option<i64>, i64) =
            self.conn.prepare_cached(sql)?.query_row([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok(JournalFigures { entries: entries.cast_unsigned(), oldest, conflicts: conflicts.cast_unsigned() })
    }

    /// All pending entries, in order.
    ///
    /// # Errors
    /// [`crate::StoreError::Sealed`] when one is not as it was written ([`crate::Writer::journal_set_unreadable_apart`] sets those apart);
    /// what the disk says.
    pub fn journal(&self) -> Result<Vec<Entry>> {
        let sql = format!("SELECT {COLUMNS} FROM journal ORDER BY seq");
        let mut all = self.conn.prepare_cached(&sql)?;
        all.query_map([], |r| Ok(open_entry("journal", r, &self.sealer)))?.map(|e| e?).collect()
    }

    /// All conflicts, oldest entry first. One that is not as it was written is passed over.
    ///
    /// # Errors
    /// What the disk says.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        let sql = format!("SELECT {COLUMNS}, reason, cloud, parked_at FROM conflicts ORDER BY seq");
        let mut all = self.conn.prepare_cached(&sql)?;
        let mut conflicts = Vec::new();
        for conflict in all.query_map([], |r| Ok(open_conflict(r, &self.sealer)))? {
            conflicts.extend(conflict?.ok());
        }
        Ok(conflicts)
    }
}

fn open_conflict(row: &Row<'_>, sealer: &Sealer) -> Result<Conflict> {
    let entry = open_entry("conflicts", row, sealer)?;
    let cloud: Option<Vec<u8>> = row.get(BODY + 2)?;
    let place = cloud_place(entry.seq.cast_signed());
    Ok(Conflict {
        entry,
        reason: row.get(BODY + 1)?,
        cloud: cloud.map(|c| sealer.open(&place, &c)).transpose()?,
        at: row.get(BODY + 3)?,
    })
}
