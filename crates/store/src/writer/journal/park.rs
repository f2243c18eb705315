//! Entries that could not be delivered.

use rusqlite::params;

use super::{Durability, Session, Writer, park_in};
use crate::error::Result;
use crate::journal::find;

impl Writer {
    /// Moves the entry from the journal to the conflicts, with what the cloud held or answered. Nothing happens
    /// when there is no such entry. Of the conflicts the newest [`crate::Options::journal_max_entries`] are kept.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal_park(&mut self, seq: u64, reason: &str, cloud: Option<&[u8]>, now: i64) -> Result<()> {
        self.transact(Durability::Power, |session, effects| {
            if let Some(entry) = find(session.conn, session.sealer, seq)? {
                effects.wrote(entry.body.len() + cloud.map_or(0, <[u8]>::len) + 4000);
                park_in(session, &entry, reason, cloud, now)?;
                drop_oldest(session)?;
            }
            Ok(())
        })
    }

    /// Forgets conflicts that somebody has looked at. Numbers that are not there are passed over.
    ///
    /// # Errors
    /// What the disk says.
    pub fn conflict_remove(&mut self, seqs: &[u64]) -> Result<()> {
        self.transact(Durability::Power, |session, effects| {
            let mut delete = session.conn.prepare_cached("DELETE FROM conflicts WHERE seq = ?1")?;
            for seq in seqs {
                delete.execute([seq.cast_signed()])?;
                effects.pages += 3;
            }
            Ok(())
        })
    }
}

fn drop_oldest(session: &Session<'_>) -> Result<()> {
    let mut drop = session.conn.prepare_cached(
        "DELETE FROM conflicts WHERE seq NOT IN
         (SELECT seq FROM conflicts ORDER BY parked_at DESC, seq DESC LIMIT ?1)",
    )?;
    drop.execute(params![session.limits.journal_max_entries])?;
    Ok(())
}
