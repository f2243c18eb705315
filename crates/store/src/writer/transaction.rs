//! One transaction: begin, work, commit, and what the reader is told about it.

use rusqlite::Connection;

use super::Writer;
use crate::error::{Result, StoreError};
use crate::open::Limits;
use crate::seal::Sealer;
use crate::shared::{Figures, Shared};

/// The WAL is carried over into the file when it holds about this many pages (8 MiB): objects that change again
/// and again are then written to the file once, and a start after power loss still reads it in milliseconds.
const CHECKPOINT_PAGES: u64 = 8192;
/// After a checkpoint that did not finish, the next try comes after this many more.
const CHECKPOINT_RETRY_PAGES: u64 = 512;

/// What a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Survives the process; power loss may take it, never half of it.
    Process,
    /// Survives power loss, and with it everything that was committed before.
    Power,
}

/// What work in a transaction may use.
pub(crate) struct Session<'a> {
    pub conn: &'a Connection,
    pub sealer: &'a Sealer,
    pub shared: &'a Shared,
    pub limits: &'a Limits,
}

/// What a commit changes in memory, and about how much it writes.
#[derive(Default)]
pub(crate) struct Effects {
    pub figures: Vec<(i64, Option<Figures>)>,
    pub pages: u64,
}

impl Effects {
    /// A row of `bytes` was written: its leaf, its chained pages, and now and then an index page.
    pub fn wrote(&mut self, bytes: usize) {
        self.pages += 2 + bytes as u64 / 1000;
    }
}

impl Writer {
    /// Runs `work` in one transaction. On any error nothing of it stays.
    pub(super) fn transact<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Session<'_>, &mut Effects) -> Result<T>,
    ) -> Result<T> {
        let result = self.set_durability(durability).and_then(|()| self.attempt(durability, work));
        // Falls back to the safe side: a failed reset leaves FULL on.
        let reset =
            if durability == Durability::Power { self.set_durability(Durability::Process) } else { Ok(()) };
        let result = result.and_then(|done| reset.map(|()| done));
        let (value, pages) = result.map_err(|e: StoreError| e.told_apart(&self.dir))?;
        self.wal_pages += pages;
        self.checkpoint_when_due();
        Ok(value)
    }

    fn attempt<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Session<'_>, &mut Effects) -> Result<T>,
    ) -> Result<(T, u64)> {
        let result = self.begin_work_commit(durability, work);
        if result.is_err() && !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        result
    }

    fn begin_work_commit<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Session<'_>, &mut Effects) -> Result<T>,
    ) -> Result<(T, u64)> {
        let mut effects = Effects::default();
        if durability == Durability::Power {
            self.anchor.check()?;
        }
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let session =
            Session { conn: &self.conn, sealer: &self.sealer, shared: &self.shared, limits: &self.limits };
        let value = work(&session, &mut effects)?;
        self.commit(effects.figures)?;
        Ok((value, effects.pages))
    }

    /// Readers wait only for commits that change figures, and those make no fsync.
    fn commit(&self, figures: Vec<(i64, Option<Figures>)>) -> Result<()> {
        let mut commit = self.conn.prepare_cached("COMMIT")?;
        if figures.is_empty() {
            commit.execute([])?;
            return Ok(());
        }
        let mut shared = self.shared.lock();
        commit.execute([])?;
        for (id, figures) in figures {
            match figures {
                Some(figures) => shared.insert(id, figures),
                None => shared.remove(&id),
            };
        }
        Ok(())
    }

    fn set_durability(&self, durability: Durability) -> Result<()> {
        let level = match durability {
            Durability::Process => "NORMAL",
            Durability::Power => "FULL",
        };
        if durability == Durability::Process && self.synchronous()? == 1 {
            return Ok(());
        }
        Ok(self.conn.pragma_update(None, "synchronous", level)?)
    }

    fn synchronous(&self) -> Result<i64> {
        Ok(self.conn.prepare_cached("PRAGMA synchronous")?.query_row([], |r| r.get(0))?)
    }

    /// A checkpoint that fails loses nothing: the WAL stays as it is, and the next commit says what is wrong.
    fn checkpoint_when_due(&mut self) {
        if self.wal_pages < CHECKPOINT_PAGES {
            return;
        }
        let done = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| {
            Ok((r.get::<_, i64>(1)?, r.get::<_, i64>(2)?))
        });
        let whole = matches!(done, Ok((in_wal, carried)) if in_wal == carried);
        self.wal_pages = if whole { 0 } else { CHECKPOINT_PAGES - CHECKPOINT_RETRY_PAGES };
    }
}
