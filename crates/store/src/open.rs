//! Opening: the folder, the lock, the checks, the two connections.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::anchor::Anchor;
use crate::damage;
use crate::error::{Result, StoreError};
use crate::reader::Reader;
use crate::recover;
use crate::salvage;
use crate::schema::{self, Found};
use crate::seal::{SealKey, Sealer, sync_dir};
use crate::shared::Shared;
use crate::writer::{Parts, Sequence, Session, Writer};

const FILE: &str = "store.db";
const LOCK: &str = "store.lock";

/// Where the store is and what bounds it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder; made with mode 0700 when it is not there.
    pub dir: PathBuf,
    /// Seals Secrets, tokens, reviews and journal bodies.
    pub key: SealKey,
    /// The key was made just now: a store that was sealed with the one before can never be opened again, and is set
    /// aside like a damaged one instead of refused.
    pub key_is_new: bool,
    /// What the store may hold, in bytes of the file.
    pub max_bytes: u64,
    /// The page caches of both connections together, in bytes.
    pub page_cache_bytes: u32,
    /// How many entries, events aside, the journal may hold; and how many conflicts are kept.
    pub journal_max_entries: usize,
    /// How many bytes of bodies the journal may hold.
    pub journal_max_bytes: u64,
    /// How many events the journal keeps, newest first.
    pub events_max: usize,
}

impl Options {
    /// The bounds of a small node: 512 MiB, a page cache of 1 MiB, 10,000 entries of 32 MiB, 1,000 events.
    pub fn new(dir: impl Into<PathBuf>, key: SealKey) -> Self {
        Options {
            dir: dir.into(),
            key,
            key_is_new: false,
            max_bytes: 512 << 20,
            page_cache_bytes: 1 << 20,
            journal_max_entries: 10_000,
            journal_max_bytes: 32 << 20,
            events_max: 1_000,
        }
    }
}

/// The bounds of [`Options`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub max_bytes: u64,
    pub journal_max_entries: i64,
    pub journal_max_bytes: u64,
    pub events_max: i64,
}

/// An open store.
pub struct Opened {
    /// Writes; for one thread.
    pub writer: Writer,
    /// Reads what the writer has committed; for another thread.
    pub reader: Reader,
    /// What was found.
    pub report: OpenReport,
    /// Journal entries whose bodies did not open and that were moved to the conflicts.
    pub unreadable_entries: u64,
    /// Records (journal, conflicts, tokens, principals, grants, reviews) taken over from a damaged file.
    pub saved: u64,
}

/// What [`open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenReport {
    /// Nothing; a store was begun.
    Fresh,
    /// A store.
    Existing,
    /// A damaged file. It was set aside and a store was begun.
    Damaged {
        /// Where the damaged file is now; its WAL stands beside it. What could be read of it and cannot be
        /// fetched again was taken over: [`Opened::saved`].
        set_aside: PathBuf,
        /// What was found in it.
        why: String,
    },
}

/// Opens the store, or begins one.
///
/// # Errors
/// [`StoreError::Locked`] when another process has it; [`StoreError::Newer`] when a newer version of this program
/// wrote it; [`StoreError::Sealed`] when it was sealed with another key, unless [`Options::key_is_new`]; what the disk says.
/// A damaged file is not an error: see [`OpenReport::Damaged`].
pub fn open(options: Options) -> Result<Opened> {
    make_dir(&options.dir)?;
    let lock = lock(&options.dir)?;
    let file = options.dir.join(FILE);
    let sealer = Arc::new(Sealer::new(&options.key)?);
    let told = |e: StoreError| e.told_apart(&options.dir);
    match begin(&file, &sealer, &options, 1) {
        Ok((begun, fresh)) => {
            let report = if fresh { OpenReport::Fresh } else { OpenReport::Existing };
            assemble(begun, &file, sealer, options, lock, report)
        }
        Err(error)
            if matches!(error, StoreError::Damaged(_)) || (options.key_is_new && is_sealed(&error)) =>
        {
            let why = error.to_string();
            let set_aside = damage::set_aside(&file)?;
            let least = damage::sequence_beyond(&set_aside);
            let salvaged = salvage::read(&set_aside, &sealer);
            let (mut begun, _) = begin(&file, &sealer, &options, least).map_err(told)?;
            begun.saved = salvaged.keep(&mut begun.conn).map_err(told)?;
            begun.sequence = Sequence::recover(&begun.conn, recover::last_seq(&begun.conn)? + 1)?;
            assemble(begun, &file, sealer, options, lock, OpenReport::Damaged { set_aside, why })
        }
        Err(e) => Err(told(e)),
    }
}

fn is_sealed(error: &StoreError) -> bool {
    matches!(error, StoreError::Sealed(_))
}

/// The writing connection and what was read through it.
struct Begun {
    conn: Connection,
    shared: Shared,
    sequence: Sequence,
    unreadable_entries: u64,
    saved: u64,
}

/// Opens the file, and says whether it was begun just now.
fn begin(file: &Path, sealer: &Sealer, options: &Options, least: u64) -> Result<(Begun, bool)> {
    make_file(file)?;
    let mut conn = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // A damaged file keeps its WAL: closing must not carry it over into the file, nor remove it.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::prepare_file(&conn)?;
    let found = schema::inspect(&conn)?;
    let fresh = matches!(found, Found::Empty);
    schema::set_up_writer(&conn, options.page_cache_bytes / 2)?;
    match found {
        Found::Empty => {
            schema::create(&mut conn, sealer, least)?;
            sync_dir(file.parent())?;
        }
        Found::Ours => damage::check(&mut conn, file)?,
        Found::Earlier(format) => {
            damage::check(&mut conn, file)?;
            schema::upgrade(&mut conn, format)?;
        }
    }
    schema::check_key(&conn, sealer)?;
    let shared = Shared::new(recover::figures(&conn)?);
    let unreadable_entries = set_unreadable_apart(&mut conn, sealer, &shared, options)?;
    let sequence = Sequence::recover(&conn, recover::last_seq(&conn)? + 1)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok((Begun { conn, shared, sequence, unreadable_entries, saved: 0 }, fresh))
}

fn set_unreadable_apart(
    conn: &mut Connection,
    sealer: &Sealer,
    shared: &Shared,
    options: &Options,
) -> Result<u64> {
    let limits = options.limits();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let tx = conn.transaction()?;
    let session = Session { conn: &tx, sealer, shared, limits: &limits };
    let unreadable = recover::set_unreadable_apart(&session, now.cast_signed())?;
    tx.commit()?;
    Ok(unreadable.len() as u64)
}

fn assemble(
    begun: Begun,
    file: &Path,
    sealer: Arc<Sealer>,
    options: Options,
    lock: File,
    report: OpenReport,
) -> Result<Opened> {
    let reading = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    schema::set_up_reader(&reading, options.page_cache_bytes / 2)?;
    let Begun { conn, shared, sequence, unreadable_entries, saved } = begun;
    let shared = Arc::new(shared);
    let reader = Reader::new(reading, sealer.clone(), shared.clone(), options.dir.clone());
    let (limits, anchor) = (options.limits(), Anchor::of(file));
    let writer =
        Writer::new(Parts { conn, sealer, shared, dir: options.dir, limits, sequence, anchor, lock });
    Ok(Opened { writer, reader, report, unreadable_entries, saved })
}

impl Options {
    fn limits(&self) -> Limits {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Limits {
            max_bytes: self.max_bytes,
            journal_max_entries: count(self.journal_max_entries),
            journal_max_bytes: self.journal_max_bytes,
            events_max: count(self.events_max),
        }
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::of_io)?;
    narrow(dir, 0o700)
}

/// SQLite gives the WAL the mode of the file.
fn make_file(file: &Path) -> Result<()> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
    opened.map_err(StoreError::of_io)?;
    narrow(file, 0o600)
}

fn narrow(path: &Path, mode: u32) -> Result<()> {
    let now = fs::metadata(path)?.permissions().mode() & 0o777;
    if now & !mode == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(StoreError::of_io)
}

fn lock(dir: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK));
    let file = file.map_err(StoreError::of_io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(TryLockError::Error(e)) => Err(StoreError::of_io(e)),
    }
}
