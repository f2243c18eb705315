//! The journal's writing. Every call returns after the fsync.
//!
//! Reading is in `reader/journal.rs`, what a start does with it in `recover.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Durability, Session, Writer};
use crate::error::{Result, StoreError};
use crate::journal::{COLUMNS, Stored, cloud_place, entry_place};
use crate::records::{Entry, Kept, NewEntry, Operation};
use crate::recover;

mod delivered;
mod park;

impl Writer {
    /// Keeps the entries, in order, all or none; returns their numbers, and the events that had to make room.
    /// They are on disk (one fsync for all) before this returns. An entry replaces the pending one of its slot: it
    /// keeps the first date, and its attempts begin anew.
    ///
    /// # Errors
    /// [`StoreError::TooMuch`] when the journal would exceed [`crate::Options::journal_max_entries`] or
    /// [`crate::Options::journal_max_bytes`]; what the disk says.
    pub fn journal_put(&mut self, entries: &[NewEntry]) -> Result<Kept> {
        if entries.is_empty() {
            return Ok(Kept::default());
        }
        let sequence = self.sequence;
        // A failed commit may still be found after power loss: its numbers are not given again.
        self.sequence.skip(entries.len() as u64);
        let (kept, after) = self.transact(Durability::Power, |session, effects| {
            let (first, after) = sequence.take(session, entries.len() as u64)?;
            let seqs: Vec<u64> = (first..).take(entries.len()).collect();
            for (entry, seq) in entries.iter().zip(&seqs) {
                put(session, entry, *seq)?;
                effects.wrote(entry.body.len() + 1000);
            }
            let dropped = drop_oldest_events(session)?;
            effects.pages += 4 * dropped.len() as u64;
            check_bounds(session)?;
            Ok((Kept { seqs, dropped }, after))
        })?;
        self.sequence = after;
        self.events_dropped.fetch_add(kept.dropped.len() as u64, Ordering::Relaxed);
        Ok(kept)
    }

    /// Forgets entries that were delivered. Numbers that are not there are passed over.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal_remove(&mut self, seqs: &[u64]) -> Result<()> {
        self.transact(Durability::Power, |session, effects| {
            let mut delete = session.conn.prepare_cached("DELETE FROM journal WHERE seq = ?1")?;
            for seq in seqs {
                delete.execute([seq.cast_signed()])?;
                effects.pages += 4;
            }
            Ok(())
        })
    }

    /// Moves the entries whose bodies do not open to the conflicts, as every open does, so that one of them does
    /// not hold up the others. Returns them, without their bodies.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal_set_unreadable_apart(&mut self, now: i64) -> Result<Vec<Entry>> {
        self.transact(Durability::Power, |session, effects| {
            let apart = recover::set_unreadable_apart(session, now)?;
            effects.pages += 8 * apart.len() as u64;
            Ok(apart)
        })
    }

    /// Counts one more try to deliver the entry. Not fsynced: a try that is forgotten does no harm.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal_attempt(&mut self, seq: u64) -> Result<()> {
        self.transact(Durability::Process, |session, effects| {
            effects.pages += 2;
            let count = "UPDATE journal SET attempts = attempts + 1 WHERE seq = ?1";
            session.conn.prepare_cached(count)?.execute([seq.cast_signed()])?;
            Ok(())
        })
    }

    /// How many events the ring has dropped since the store was opened; goes on counting in other threads' hands.
    pub fn events_dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.events_dropped)
    }
}

fn put(session: &Session<'_>, new: &NewEntry, seq: u64) -> Result<()> {
    let pending = "SELECT first_at FROM journal WHERE slot = ?1";
    let first_at: Option<i64> =
        session.conn.prepare_cached(pending)?.query_row([&new.slot], |r| r.get(0)).optional()?;
    if first_at.is_some() {
        session.conn.prepare_cached("DELETE FROM journal WHERE slot = ?1")?.execute([&new.slot])?;
    }
    let entry = Entry {
        seq,
        first_at: first_at.unwrap_or(new.at),
        attempts: 0,
        slot: new.slot.clone(),
        operation: new.operation,
        resource: new.resource.clone(),
        key: new.key.clone(),
        uid: new.uid.clone(),
        body: new.body.clone(),
        at: new.at,
    };
    let stored = Stored::of(&entry);
    let body = session.sealer.seal(&entry_place("journal", &stored), &entry.body)?;
    insert(session.conn, "journal", &stored, &body)
}

/// Writes the columns that all tables of entries have.
fn insert(conn: &Connection, table: &str, s: &Stored, body: &[u8]) -> Result<()> {
    let more = match table {
        "conflicts" => (", reason, parked_at", ", '', 0"),
        "delivered" => (", cloud_rv", ", 0"),
        _ => ("", ""),
    };
    let sql = format!(
        "INSERT INTO {table} (seq, slot, operation, grp, version, resource, key, uid, at, first_at, attempts,
         body{}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12{})",
        more.0, more.1,
    );
    conn.prepare_cached(&sql)?.execute(params![
        s.seq,
        s.slot,
        s.operation,
        s.resource.group,
        s.resource.version,
        s.resource.resource,
        s.key,
        s.uid,
        s.at,
        s.first_at,
        s.attempts,
        body
    ])?;
    Ok(())
}

/// The ring of events: newest kept. Returns the others in their order, without their bodies.
fn drop_oldest_events(session: &Session<'_>) -> Result<Vec<Entry>> {
    let sql = format!(
        "DELETE FROM journal WHERE operation = ?1 AND seq NOT IN
         (SELECT seq FROM journal WHERE operation = ?1 ORDER BY seq DESC LIMIT ?2) RETURNING {COLUMNS}"
    );
    let mut drop = session.conn.prepare_cached(&sql)?;
    let bare = |row: &Row<'_>| Ok(Stored::read(row)?.entry(Vec::new()));
    let gone = drop.query_map(params![Operation::Event.as_str(), session.limits.events_max], bare)?;
    let mut dropped = gone.map(|row| row?).collect::<Result<Vec<_>>>()?;
    dropped.sort_by_key(|entry| entry.seq);
    Ok(dropped)
}

fn check_bounds(session: &Session<'_>) -> Result<()> {
    let mut sums = session.conn.prepare_cached("SELECT operation <> ?1, length(body) FROM journal")?;
    let mut rows = sums.query([Operation::Event.as_str()])?;
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    while let Some(row) = rows.next()? {
        entries += u64::from(row.get::<_, bool>(0)?);
        bytes += row.get::<_, i64>(1)?.cast_unsigned();
    }
    within("journal entries", entries, session.limits.journal_max_entries.cast_unsigned())?;
    within("journal bytes", bytes, session.limits.journal_max_bytes)
}

fn within(what: &'static str, have: u64, limit: u64) -> Result<()> {
    if have > limit { Err(StoreError::TooMuch { what, limit }) } else { Ok(()) }
}

/// Moves an entry to the conflicts, in a running transaction.
pub(crate) fn park_in(
    session: &Session<'_>,
    entry: &Entry,
    reason: &str,
    cloud: Option<&[u8]>,
    now: i64,
) -> Result<()> {
    let stored = Stored::of(entry);
    session.conn.prepare_cached("DELETE FROM journal WHERE seq = ?1")?.execute([stored.seq])?;
    let body = session.sealer.seal(&entry_place("conflicts", &stored), &entry.body)?;
    insert(session.conn, "conflicts", &stored, &body)?;
    let cloud = cloud.map(|c| session.sealer.seal(&cloud_place(stored.seq), c)).transpose()?;
    let note = "UPDATE conflicts SET reason = ?2, cloud = ?3, parked_at = ?4 WHERE seq = ?1";
    session.conn.prepare_cached(note)?.execute(params![stored.seq, reason, cloud, now])?;
    Ok(())
}
