//! Keeping the store within its bound: what was least recently used goes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::{Durability, Effects, Session, Writer, collections};
use crate::error::{Result, StoreError};
use crate::records::CollectionId;

/// How many principals, grants or reviews are remembered, of each kind the newest.
const REMEMBERED_MAX: i64 = 10_000;

/// A date before this (2020-01-01 UTC, Unix seconds) was written under a clock that nobody had set.
pub(super) const PLAUSIBLE_FROM: i64 = 1_577_836_800;

/// What garbage collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Collections removed.
    pub collections: u64,
    /// Fetched objects removed.
    pub fetched: u64,
    /// Documents removed.
    pub documents: u64,
    /// Principals, grants and reviews removed.
    pub remembered: u64,
    /// Bytes in use before.
    pub bytes_before: u64,
    /// Bytes in use now.
    pub bytes_after: u64,
}

/// What may go.
enum Candidate {
    Collection(i64),
    Fetched(i64),
    Document(i64),
}

impl Writer {
    /// Grows whenever something that was kept had to go, to be read from any thread.
    pub fn evicted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.evicted)
    }

    /// Removes the least recently used snapshots, frozen collections, fetched objects and documents until the store
    /// holds at most [`crate::Options::max_bytes`]. Never removes live collections, those the node owns, the journal,
    /// its conflicts, tokens, or what [`Writer::spare_fetched`] named. The file does not shrink; its free pages are used again.
    ///
    /// # Errors
    /// What the disk says. What was removed before the error stays removed.
    pub fn collect_garbage(&mut self, now: i64) -> Result<GcReport> {
        self.save_headers()?;
        let mut report = GcReport { bytes_before: used_bytes(&self.conn)?, ..GcReport::default() };
        report.remembered = self.forget_oldest()?;
        self.collect_down_to(self.limits.max_bytes, now, &mut report)?;
        report.bytes_after = used_bytes(&self.conn)?;
        Ok(report)
    }

    /// Makes sure that `incoming` bytes more fit.
    pub(super) fn make_room(&mut self, incoming: u64, now: i64) -> Result<()> {
        let limit = self.limits.max_bytes;
        if used_bytes(&self.conn)? + incoming <= limit {
            return Ok(());
        }
        self.collect_down_to(limit.saturating_sub(incoming), now, &mut GcReport::default())?;
        let fits = used_bytes(&self.conn)? + incoming <= limit;
        fits.then_some(()).ok_or(StoreError::TooMuch { what: "bytes in the store", limit })
    }

    fn collect_down_to(&mut self, target: u64, now: i64, report: &mut GcReport) -> Result<()> {
        if used_bytes(&self.conn)? <= target {
            return Ok(());
        }
        for candidate in self.candidates(now)? {
            if used_bytes(&self.conn)? <= target {
                break;
            }
            self.transact(Durability::Process, |session, effects| remove(session, effects, &candidate))?;
            self.evicted.fetch_add(1, Ordering::Relaxed);
            match candidate {
                Candidate::Collection(_) => report.collections += 1,
                Candidate::Fetched(_) => report.fetched += 1,
                Candidate::Document(_) => report.documents += 1,
            }
        }
        Ok(())
    }

    /// Everything that may go, least recently used first; [`age_order`] says what a date is worth.
    fn candidates(&self, now: i64) -> Result<Vec<Candidate>> {
        let mut all: Vec<(i64, Candidate)> = Vec::new();
        let shared = self.shared.lock().clone();
        let collections = "SELECT id, used_at FROM collections
            WHERE node_owned = 0 AND state IN ('snapshot', 'frozen')";
        for row in pairs(&self.conn, collections)? {
            let used_at = shared.get(&row.0).map_or(row.1, |f| f.used_at);
            all.push((used_at, Candidate::Collection(row.0)));
        }
        let mut fetched = self.conn.prepare_cached("SELECT id, observed_at, resource, key FROM fetched")?;
        let mut rows = fetched.query([])?;
        while let Some(row) = rows.next()? {
            if !self.spared.contains(&(row.get(2)?, row.get(3)?)) {
                all.push((row.get(1)?, Candidate::Fetched(row.get(0)?)));
            }
        }
        for row in pairs(&self.conn, "SELECT id, observed_at FROM documents")? {
            all.push((row.1, Candidate::Document(row.0)));
        }
        all.sort_by_key(|(at, _)| age_order(*at, now));
        Ok(all.into_iter().map(|(_, candidate)| candidate).collect())
    }

    fn forget_oldest(&mut self) -> Result<u64> {
        let counts =
            "SELECT max(n) FROM (SELECT count(*) AS n FROM remembered WHERE what <> 'token' GROUP BY what)";
        let most: Option<i64> = self.conn.query_row(counts, [], |r| r.get(0))?;
        if most.is_none_or(|most| most <= REMEMBERED_MAX) {
            return Ok(0);
        }
        self.evicted.fetch_add(1, Ordering::Relaxed);
        self.transact(Durability::Process, |session, effects| {
            let forgotten = session.conn.execute(
                "DELETE FROM remembered WHERE id IN (SELECT id FROM (
                   SELECT id, row_number() OVER (PARTITION BY what ORDER BY
                     CASE WHEN observed_at < ?2 THEN 1 ELSE 0 END DESC, observed_at DESC, id DESC) AS place
                   FROM remembered WHERE what <> 'token') WHERE place > ?1)",
                [REMEMBERED_MAX, PLAUSIBLE_FROM],
            )?;
            effects.pages += forgotten as u64;
            Ok(forgotten as u64)
        })
    }
}

/// Sorts by when something was last used. What was noted under a clock that was not set was used nobody knows when,
/// and what is dated after a `now` that can be trusted (the clock was set back) just now: both go last.
fn age_order(at: i64, now: i64) -> i64 {
    match (at >= PLAUSIBLE_FROM, now >= PLAUSIBLE_FROM) {
        (false, _) => i64::MAX,
        (true, true) => at.min(now),
        (true, false) => at,
    }
}

fn remove(session: &Session<'_>, effects: &mut Effects, candidate: &Candidate) -> Result<()> {
    let (table, id) = match candidate {
        Candidate::Collection(id) => return collections::remove(session, effects, CollectionId(*id)),
        Candidate::Fetched(id) => ("fetched", id),
        Candidate::Document(id) => ("documents", id),
    };
    effects.pages += 4;
    session.conn.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([id])?;
    Ok(())
}

fn pairs(conn: &Connection, sql: &str) -> Result<Vec<(i64, i64)>> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    rows.map(|r| r.map_err(StoreError::from)).collect()
}

/// Pages in use, in bytes.
fn used_bytes(conn: &Connection) -> Result<u64> {
    let number = |pragma: &str| -> Result<u64> {
        Ok(conn.prepare_cached(pragma)?.query_row([], |r| r.get::<_, i64>(0))?.cast_unsigned())
    };
    let used = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
    Ok(used * crate::schema::PAGE_SIZE.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_a_clock_that_was_not_set_are_no_age() {
        let (old, new, unset) = (PLAUSIBLE_FROM + 10, PLAUSIBLE_FROM + 20, 12);
        for now in [PLAUSIBLE_FROM + 15, PLAUSIBLE_FROM + 30, 40] {
            assert!(age_order(old, now) < age_order(new, now), "{now}");
            assert!(age_order(new, now) < age_order(unset, now), "{now}");
        }
        let ahead = age_order(PLAUSIBLE_FROM + 9999, new);
        assert!(ahead == age_order(new, new) && ahead > age_order(old, new));
    }
}
