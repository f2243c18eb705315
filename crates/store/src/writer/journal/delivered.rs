//! Entries that the cloud has, until what is held of the cloud shows them: a power cut in between must not bring
//! back what was before.

use rusqlite::params;

use super::{Durability, Writer, insert};
use crate::error::Result;
use crate::journal::{Stored, entry_place, find};

impl Writer {
    /// Moves the entry from the journal to those that were delivered, as the cloud's version `cloud_version`
    /// (0 = not known). Nothing happens when there is no such entry. The newest
    /// [`crate::Options::journal_max_entries`] are kept.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal_delivered(&mut self, seq: u64, cloud_version: u64) -> Result<()> {
        self.transact(Durability::Power, |session, effects| {
            let Some(entry) = find(session.conn, session.sealer, seq)? else { return Ok(()) };
            effects.wrote(entry.body.len() + 4000);
            let stored = Stored::of(&entry);
            let body = session.sealer.seal(&entry_place("delivered", &stored), &entry.body)?;
            session.conn.prepare_cached("DELETE FROM journal WHERE seq = ?1")?.execute([stored.seq])?;
            insert(session.conn, "delivered", &stored, &body)?;
            let note = "UPDATE delivered SET cloud_rv = ?2 WHERE seq = ?1";
            session.conn.prepare_cached(note)?.execute([stored.seq, cloud_version.cast_signed()])?;
            let drop = "DELETE FROM delivered WHERE seq NOT IN (SELECT seq FROM delivered ORDER BY seq DESC LIMIT ?1)";
            session.conn.prepare_cached(drop)?.execute(params![session.limits.journal_max_entries])?;
            Ok(())
        })
    }

    /// Forgets delivered entries that what is held of the cloud shows by now. Numbers that are not there are passed
    /// over. Not fsynced: one that comes back after power loss is forgotten again.
    ///
    /// # Errors
    /// What the disk says.
    pub fn delivered_remove(&mut self, seqs: &[u64]) -> Result<()> {
        self.transact(Durability::Process, |session, effects| {
            let mut delete = session.conn.prepare_cached("DELETE FROM delivered WHERE seq = ?1")?;
            for seq in seqs {
                delete.execute([seq.cast_signed()])?;
                effects.pages += 3;
            }
            Ok(())
        })
    }
}
