//! Tables, format version and the settings of a connection. Described in `docs/on-disk-format.md`.

use rusqlite::{Connection, OptionalExtension};

use crate::error::{Result, StoreError};
use crate::seal::{Place, Sealer};

/// `YURT`, in SQLite's `application_id`.
pub(crate) const APPLICATION_ID: i64 = 0x5955_5254;
/// The format that this program writes, in SQLite's `user_version`.
pub(crate) const FORMAT: i64 = 3;
/// A commit to the WAL writes whole pages: with 1,024 bytes a 2 KB object costs three of them, with SQLite's
/// usual 4,096 it costs 4 KB and half of every page stays empty.
pub(crate) const PAGE_SIZE: i64 = 1024;
/// What the WAL is cut back to when it has been carried over into the file.
const WAL_KEPT_BYTES: i64 = 9 << 20;

const TABLES: &str = "
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    grp TEXT NOT NULL, version TEXT NOT NULL, resource TEXT NOT NULL,
    namespace TEXT NOT NULL, labels TEXT NOT NULL, fields TEXT NOT NULL, representation TEXT NOT NULL,
    list_api_version TEXT NOT NULL, list_kind TEXT NOT NULL,
    item_api_version TEXT, item_kind TEXT, typed_items INTEGER NOT NULL,
    state TEXT NOT NULL, node_owned INTEGER NOT NULL,
    rv INTEGER NOT NULL, observed_at INTEGER NOT NULL, used_at INTEGER NOT NULL, guard INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX collections_key
    ON collections (grp, version, resource, namespace, labels, fields, representation);
CREATE TABLE objects (
    id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, key TEXT NOT NULL,
    rv INTEGER NOT NULL, applied INTEGER NOT NULL, size INTEGER NOT NULL, uid TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX objects_key ON objects (collection, key);
CREATE TABLE fetched (
    id INTEGER PRIMARY KEY,
    resource TEXT NOT NULL, key TEXT NOT NULL, subresource TEXT NOT NULL, representation TEXT NOT NULL,
    api_version TEXT NOT NULL, kind TEXT NOT NULL, rv INTEGER NOT NULL, uid TEXT NOT NULL,
    observed_at INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX fetched_key ON fetched (resource, key, subresource, representation);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, accept TEXT NOT NULL, status INTEGER NOT NULL,
    content_type TEXT NOT NULL, etag TEXT, observed_at INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX documents_key ON documents (path, accept);
CREATE TABLE sequence (id INTEGER PRIMARY KEY CHECK (id = 1), reserved INTEGER NOT NULL) STRICT;
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY, slot TEXT NOT NULL UNIQUE, operation TEXT NOT NULL,
    grp TEXT NOT NULL, version TEXT NOT NULL, resource TEXT NOT NULL, key TEXT NOT NULL, uid TEXT NOT NULL,
    at INTEGER NOT NULL, first_at INTEGER NOT NULL, attempts INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TABLE conflicts (
    seq INTEGER PRIMARY KEY, slot TEXT NOT NULL, operation TEXT NOT NULL,
    grp TEXT NOT NULL, version TEXT NOT NULL, resource TEXT NOT NULL, key TEXT NOT NULL, uid TEXT NOT NULL,
    at INTEGER NOT NULL, first_at INTEGER NOT NULL, attempts INTEGER NOT NULL, body BLOB NOT NULL,
    reason TEXT NOT NULL, cloud BLOB, parked_at INTEGER NOT NULL
) STRICT;
CREATE TABLE remembered (
    id INTEGER PRIMARY KEY, what TEXT NOT NULL, owner TEXT NOT NULL, key BLOB NOT NULL,
    observed_at INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX remembered_key ON remembered (what, owner, key);
CREATE TABLE key_check (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL) STRICT;
";

/// What format 2 has beyond format 1.
const SINCE_FORMAT_2: &str = "
CREATE TABLE delivered (
    seq INTEGER PRIMARY KEY, slot TEXT NOT NULL, operation TEXT NOT NULL,
    grp TEXT NOT NULL, version TEXT NOT NULL, resource TEXT NOT NULL, key TEXT NOT NULL, uid TEXT NOT NULL,
    at INTEGER NOT NULL, first_at INTEGER NOT NULL, attempts INTEGER NOT NULL, body BLOB NOT NULL,
    cloud_rv INTEGER NOT NULL
) STRICT;
";

/// What format 3 has beyond format 2: the history of collections. 0 stands for what an earlier format did not say.
const SINCE_FORMAT_3: &str = "
ALTER TABLE collections ADD COLUMN floor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE objects ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
CREATE TABLE past (
    id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, ended INTEGER NOT NULL, key TEXT NOT NULL,
    rv INTEGER NOT NULL, since INTEGER NOT NULL, size INTEGER NOT NULL, uid TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX past_ended ON past (collection, ended);
";

/// What a file is, before anything of it is trusted.
pub(crate) enum Found {
    /// No tables yet.
    Empty,
    /// A store of this format.
    Ours,
    /// A store of this earlier format, which [`upgrade`] makes one of the present one.
    Earlier(i64),
}

/// Looks at the header of the file.
///
/// # Errors
/// [`StoreError::Newer`] for a later format, [`StoreError::Damaged`] for something that is not a store.
pub(crate) fn inspect(conn: &Connection) -> Result<Found> {
    let application: i64 = conn.query_row("PRAGMA application_id", [], |r| r.get(0))?;
    let format: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    match (application, format) {
        (0, 0) if tables == 0 => Ok(Found::Empty),
        (APPLICATION_ID, FORMAT) => Ok(Found::Ours),
        (APPLICATION_ID, earlier @ 1..FORMAT) => Ok(Found::Earlier(earlier)),
        (APPLICATION_ID, newer) if newer > FORMAT => Err(StoreError::Newer { found: newer, known: FORMAT }),
        _ => Err(StoreError::Damaged(format!("not a store: application {application:#x}, format {format}"))),
    }
}

/// Settings that must stand before the file has its first page.
pub(crate) fn prepare_file(conn: &Connection) -> Result<()> {
    conn.pragma_update(None, "page_size", PAGE_SIZE)?;
    Ok(())
}

/// Makes the tables, all or none, durable on return.
/// The sequence begins at `least`.
pub(crate) fn create(conn: &mut Connection, sealer: &Sealer, least: u64) -> Result<()> {
    conn.pragma_update(None, "synchronous", "FULL")?;
    let tx = conn.transaction()?;
    tx.execute_batch(TABLES)?;
    tx.execute_batch(SINCE_FORMAT_2)?;
    tx.execute_batch(SINCE_FORMAT_3)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", FORMAT)?;
    tx.execute("INSERT INTO key_check VALUES (1, ?1)", [sealer.seal(&Place::new("key_check"), &[])?])?;
    tx.execute("INSERT INTO sequence VALUES (1, ?1)", [least.cast_signed()])?;
    tx.commit()?;
    Ok(conn.pragma_update(None, "synchronous", "NORMAL")?)
}

/// Makes a store of an earlier format one of this format, all or nothing.
pub(crate) fn upgrade(conn: &mut Connection, from: i64) -> Result<()> {
    let tx = conn.transaction()?;
    for (format, more) in [(2, SINCE_FORMAT_2), (3, SINCE_FORMAT_3)] {
        if from < format {
            tx.execute_batch(more)?;
        }
    }
    tx.pragma_update(None, "user_version", FORMAT)?;
    Ok(tx.commit()?)
}

/// Fails with [`StoreError::Sealed`] when the store was sealed with another key.
pub(crate) fn check_key(conn: &Connection, sealer: &Sealer) -> Result<()> {
    let sealed: Option<Vec<u8>> =
        conn.query_row("SELECT sealed FROM key_check WHERE id = 1", [], |r| r.get(0)).optional()?;
    let sealed = sealed.ok_or_else(|| StoreError::Damaged("the key check is missing".into()))?;
    let opened = sealer.open(&Place::new("key_check"), &sealed);
    opened
        .map(drop)
        .map_err(|_| StoreError::Sealed("the key is not the one this store was sealed with".into()))
}

/// Settings of the writing connection.
pub(crate) fn set_up_writer(conn: &Connection, cache_bytes: u32) -> Result<()> {
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    // Checkpoints are made by the writer itself, outside the moment in which readers wait for a commit.
    conn.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    conn.query_row(&format!("PRAGMA journal_size_limit = {WAL_KEPT_BYTES}"), [], |_| Ok(()))?;
    // Overwriting freed pages with zeroes would write them; what must not be found there is sealed.
    conn.query_row("PRAGMA secure_delete = OFF", [], |_| Ok(()))?;
    set_up(conn, cache_bytes)
}

/// Settings of a reading connection.
pub(crate) fn set_up_reader(conn: &Connection, cache_bytes: u32) -> Result<()> {
    conn.pragma_update(None, "query_only", true)?;
    set_up(conn, cache_bytes)
}

fn set_up(conn: &Connection, cache_bytes: u32) -> Result<()> {
    conn.pragma_update(None, "cache_size", -i64::from((cache_bytes / 1024).max(64)))?;
    // Reading through a map would turn an I/O error into SIGBUS.
    conn.query_row("PRAGMA mmap_size = 0", [], |_| Ok(()))?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}
