//! The journal's reading.

use rusqlite::Row;

use super::Reader;
use crate::error::Result;
use crate::journal::{BODY, COLUMNS, cloud_place, open_entry};
use crate::records::{Conflict, Delivered, Entry};
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
    /// Entries that the cloud has and that what is held of the cloud does not show yet.
    pub delivered: u64,
}

impl Reader {
    /// How much there is, without opening any of it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal_figures(&self) -> Result<JournalFigures> {
        let sql = "SELECT count(*), min(first_at), (SELECT count(*) FROM conflicts),
                   (SELECT count(*) FROM delivered) FROM journal";
        let count = |r: &Row<'_>, at| Ok::<_, rusqlite::Error>(r.get::<_, i64>(at)?.cast_unsigned());
        let figures = self.conn.prepare_cached(sql)?.query_row([], |r| {
            let (entries, conflicts, delivered) = (count(r, 0)?, count(r, 2)?, count(r, 3)?);
            Ok(JournalFigures { entries, oldest: r.get(1)?, conflicts, delivered })
        })?;
        Ok(figures)
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

    /// All entries that the cloud has and that were not forgotten yet, in order. One that is not as it was written is
    /// passed over: the cloud has it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn delivered(&self) -> Result<Vec<Delivered>> {
        let mut all =
            self.conn.prepare_cached(&format!("SELECT {COLUMNS}, cloud_rv FROM delivered ORDER BY seq"))?;
        let mut delivered = Vec::new();
        for one in all.query_map([], |r| Ok(open_delivered(r, &self.sealer)))? {
            delivered.extend(one?.ok());
        }
        Ok(delivered)
    }

    /// How many conflicts there are since `from` (Unix seconds), without opening any.
    ///
    /// # Errors
    /// What the disk says.
    pub fn conflicts_since(&self, from: i64) -> Result<u64> {
        let mut count = self.conn.prepare_cached("SELECT count(*) FROM conflicts WHERE parked_at >= ?1")?;
        Ok(count.query_row([from], |r| r.get::<_, i64>(0))?.cast_unsigned())
    }

    /// All conflicts, oldest entry first. One that is not as it was written is passed over.
    ///
    /// # Errors
    /// What the disk says.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        let mut all = self.newest_conflicts(usize::MAX)?;
        all.reverse();
        Ok(all)
    }

    /// The newest conflicts, at most so many, newest entry first; else as [`Reader::conflicts`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn newest_conflicts(&self, most: usize) -> Result<Vec<Conflict>> {
        let sql =
            format!("SELECT {COLUMNS}, reason, cloud, parked_at FROM conflicts ORDER BY seq DESC LIMIT ?1");
        let mut all = self.conn.prepare_cached(&sql)?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut conflicts = Vec::new();
        for conflict in all.query_map([most], |r| Ok(open_conflict(r, &self.sealer)))? {
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

fn open_delivered(row: &Row<'_>, sealer: &Sealer) -> Result<Delivered> {
    let cloud_version: i64 = row.get(BODY + 1)?;
    let entry = open_entry("delivered", row, sealer)?;
    Ok(Delivered { entry, cloud_version: cloud_version.cast_unsigned() })
}
