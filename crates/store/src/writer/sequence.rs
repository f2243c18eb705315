//! Numbers that are never given twice, whatever happens to the process or the power.
//!
//! They are taken from blocks: the end of the block is on disk (fsync) before its first number is given.
//! What a crash leaves of a block is skipped.

use rusqlite::Connection;

use super::{Durability, Session, Writer};
use crate::error::{Result, StoreError};

/// How many numbers one fsync reserves.
const BLOCK: u64 = 1024;

/// The numbers that may be given without asking the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    next: u64,
    /// The first number that is not reserved on disk.
    end: u64,
}

impl Sequence {
    /// Nothing reserved yet; the first number will be at least `least`, and beyond all that was reserved before.
    pub fn recover(conn: &Connection, least: u64) -> Result<Self> {
        let reserved: i64 = conn.query_row("SELECT reserved FROM sequence WHERE id = 1", [], |r| r.get(0))?;
        let reserved =
            u64::try_from(reserved).map_err(|_| StoreError::Damaged("the sequence is negative".into()))?;
        let next = reserved.max(least).max(1);
        Ok(Sequence { next, end: next })
    }

    /// Never gives the next `count` numbers.
    pub fn skip(&mut self, count: u64) {
        self.next += count;
    }

    /// The first of `count` numbers, and the sequence after them.
    /// Reserves in the running transaction when the block does not reach.
    pub fn take(mut self, session: &Session<'_>, count: u64) -> Result<(u64, Self)> {
        let first = self.next;
        self.next += count;
        if self.next > self.end {
            self.end = self.next + BLOCK;
            let mut reserve =
                session.conn.prepare_cached("UPDATE sequence SET reserved = ?1 WHERE id = 1")?;
            reserve.execute([self.end.cast_signed()])?;
        }
        Ok((first, self))
    }
}

impl Writer {
    /// The next number of the sequence that journal entries are numbered by, too.
    ///
    /// # Errors
    /// Only once in a block of 1,024 numbers the disk is asked; when it refuses, no number is given.
    pub fn next_local_version(&mut self) -> Result<u64> {
        if self.sequence.next < self.sequence.end {
            self.sequence.next += 1;
            return Ok(self.sequence.next - 1);
        }
        let sequence = self.sequence;
        let (number, after) = self.transact(Durability::Power, |session, effects| {
            effects.pages += 1;
            sequence.take(session, 1)
        })?;
        self.sequence = after;
        Ok(number)
    }
}
