//! The reading connection, on a thread of its own: it never waits for a disk flush of the writer.

mod collections;
mod fetched;
mod figures;
mod history;
mod journal;
mod vault;

pub use figures::RememberedFigures;
pub use history::{History, Past};
pub use journal::JournalFigures;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;

pub(crate) use fetched::document_place;

use crate::error::{Result, StoreError};
use crate::seal::Sealer;
use crate::shared::{FiguresById, Shared};

/// Reads what the writer has committed. Writes nothing.
pub struct Reader {
    conn: Connection,
    sealer: Arc<Sealer>,
    shared: Arc<Shared>,
    dir: PathBuf,
}

impl Reader {
    pub(crate) fn new(conn: Connection, sealer: Arc<Sealer>, shared: Arc<Shared>, dir: PathBuf) -> Self {
        Reader { conn, sealer, shared, dir }
    }

    /// Runs `read` on one snapshot of the file, with the figures that belong to it.
    fn snapshot<T>(&self, read: impl FnOnce(&FiguresById) -> Result<T>) -> Result<T> {
        let result = self.begin().and_then(|figures| read(&figures));
        if !self.conn.is_autocommit() {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
        }
        result.map_err(|e: StoreError| e.told_apart(&self.dir))
    }

    /// `BEGIN` alone takes no snapshot, the first read does: both under the lock that the writer commits under.
    fn begin(&self) -> Result<FiguresById> {
        let shared = self.shared.lock();
        self.conn.prepare_cached("BEGIN")?.execute([])?;
        self.conn.prepare_cached("SELECT 1 FROM key_check")?.exists([])?;
        Ok(shared.clone())
    }
}
