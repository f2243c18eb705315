//! The one writing connection, on a thread of its own.

mod collections;
mod documents;
mod fetched;
mod gc;
mod journal;
mod sequence;
mod transaction;
mod vault;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rusqlite::Connection;

pub(crate) use fetched::place as fetched_place;
pub use gc::GcReport;
pub(crate) use journal::park_in;
pub(crate) use sequence::Sequence;
pub(crate) use transaction::{Durability, Effects, Session};
pub use vault::TokenUse;

use crate::anchor::Anchor;
use crate::error::Result;
use crate::open::Limits;
use crate::seal::Sealer;
use crate::shared::Shared;

/// Writes. Every call is one transaction: all of it or nothing.
pub struct Writer {
    conn: Connection,
    sealer: Arc<Sealer>,
    shared: Arc<Shared>,
    dir: PathBuf,
    limits: Limits,
    sequence: Sequence,
    anchor: Anchor,
    /// About how many pages the WAL holds that are not in the file yet.
    wal_pages: u64,
    headers_saved_at: i64,
    events_dropped: Arc<AtomicU64>,
    evicted: Arc<AtomicU64>,
    /// Fetched objects that do not make room for others, by resource and key.
    spared: BTreeSet<(String, String)>,
    /// Held as long as the writer lives, so that a second hub is refused.
    _lock: File,
}

/// What [`Writer::new`] is made of.
pub(crate) struct Parts {
    pub conn: Connection,
    pub sealer: Arc<Sealer>,
    pub shared: Arc<Shared>,
    pub dir: PathBuf,
    pub limits: Limits,
    pub sequence: Sequence,
    pub anchor: Anchor,
    pub lock: File,
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { conn, sealer, shared, dir, limits, sequence, anchor, lock } = parts;
        Writer {
            conn,
            sealer,
            shared,
            dir,
            limits,
            sequence,
            anchor,
            wal_pages: 0,
            headers_saved_at: 0,
            events_dropped: Arc::default(),
            evicted: Arc::default(),
            spared: BTreeSet::new(),
            _lock: lock,
        }
    }

    /// Saves what is kept in memory only, carries the WAL over into the file, and gives up the lock.
    ///
    /// # Errors
    /// When the disk refuses; nothing that was acknowledged is lost by that.
    pub fn close(mut self) -> Result<()> {
        self.save_headers()?;
        // With a reader still open the WAL stays, emptied; the last connection removes it.
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.conn.close().map_err(|(_, e)| e.into())
    }
}
