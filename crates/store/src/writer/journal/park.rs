//! Entries that could not be delivered.

use rusqlite::params;

use super::{Durability, Session, Writer, park_in};
use crate::error::Result;
use crate::journal::find;
use crate::writer::gc::PLAUSIBLE_FROM;

/// For how long a conflict is kept, in seconds.
const KEPT_SECONDS: i64 = 30 * 24 * 3600;
/// How many are kept for so long.
const KEPT: i64 = 1000;

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
                keep_newest(session, session.limits.journal_max_entries)?;
            }
            Ok(())
        })
    }

    /// Forgets conflicts that are older than 30 days, and beyond the newest 1,000 all. Returns how many. For when the
    /// cloud is there: until then the only bound is that of [`Writer::journal_park`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_conflicts(&mut self, now: i64) -> Result<u64> {
        self.transact(Durability::Process, |session, effects| {
            // A date of no clock is no age.
            let old = "DELETE FROM conflicts WHERE parked_at >= ?1 AND parked_at < ?2";
            let before = now.saturating_sub(KEPT_SECONDS);
            let gone = session.conn.prepare_cached(old)?.execute([PLAUSIBLE_FROM, before])?;
            let gone = gone + keep_newest(session, KEPT)?;
            effects.pages += 3 * gone as u64;
            Ok(gone as u64)
        })
    }
}

fn keep_newest(session: &Session<'_>, most: i64) -> Result<usize> {
    let mut drop = session.conn.prepare_cached(
        "DELETE FROM conflicts WHERE seq NOT IN
         (SELECT seq FROM conflicts ORDER BY parked_at DESC, seq DESC LIMIT ?1)",
    )?;
    Ok(drop.execute(params![most])?)
}
