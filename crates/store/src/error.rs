//! What can go wrong in the store, whose fault it is, and whether trying again helps.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::damage;

/// A failed operation of the store. What was held before it is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has this folder.
    #[error("the store is in use by another process")]
    Locked,
    /// There is no room on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// The disk or the file takes no writes.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The file was removed or replaced while it was open: what is written to it now is lost with the process.
    #[error("the store's file was taken away while it was open; a restart begins with what is there")]
    Moved,
    /// What was read is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The file was written by a newer version of this program.
    #[error("the store has format {found}, this program knows up to {known}")]
    Newer {
        /// The format of the file.
        found: i64,
        /// The newest format that this program reads.
        known: i64,
    },
    /// A bound of [`crate::Options`] is reached.
    #[error("too much: {what} (limit {limit})")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A sealed record does not open, or the key cannot be used.
    #[error("sealed: {0}")]
    Sealed(String),
    /// The collection was removed or never was.
    #[error("no such collection")]
    NoCollection,
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// SQLite refused for another reason.
    #[error("sqlite: {0}")]
    Sqlite(rusqlite::Error),
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk or the operating system: the operator frees or repairs it.
    Disk,
    /// The file's content: it is set aside at the next open, what it held is fetched again.
    Content,
    /// The caller asked for something that cannot be.
    Caller,
}

/// Short for what every call of the store returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    /// Whether the same call may succeed later without a restart.
    pub fn retriable(&self) -> bool {
        matches!(self, Self::DiskFull | Self::ReadOnly | Self::TooMuch { .. } | Self::Io(_) | Self::Sqlite(_))
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::DiskFull | Self::ReadOnly | Self::Moved | Self::Io(_) | Self::Sqlite(_) => Fault::Disk,
            Self::Damaged(_) | Self::Sealed(_) => Fault::Content,
            Self::Locked | Self::Newer { .. } | Self::TooMuch { .. } | Self::NoCollection => Fault::Caller,
        }
    }

    /// One word for metrics and log fields.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Locked => "Locked",
            Self::DiskFull => "DiskFull",
            Self::ReadOnly => "ReadOnly",
            Self::Moved => "Moved",
            Self::Damaged(_) => "Damaged",
            Self::Newer { .. } => "NewerFormat",
            Self::TooMuch { .. } => "TooMuch",
            Self::Sealed(_) => "Sealed",
            Self::NoCollection => "NoCollection",
            Self::Io(_) => "Io",
            Self::Sqlite(_) => "Sqlite",
        }
    }

    /// An I/O error by its kind.
    pub(crate) fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io(error),
        }
    }

    /// SQLite says "I/O error" for a full quota and a read-only remount alike. A small write of our own in the
    /// same folder tells which. Damage is noted for the next open.
    pub(crate) fn told_apart(self, dir: &Path) -> Self {
        match &self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(e, _)) if e.code == ErrorCode::SystemIoFailure => {
                match probe(dir).map_err(Self::of_io) {
                    Err(known @ (Self::DiskFull | Self::ReadOnly)) => known,
                    _ => self,
                }
            }
            Self::Damaged(_) => {
                damage::suspect(dir);
                self
            }
            _ => self,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => match error {
                // A column of another type than was written there.
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnIndex(_) => Self::Damaged(error.to_string()),
                // Our statements never change: what they name has another name in the file.
                rusqlite::Error::SqlInputError { .. } => Self::Damaged(error.to_string()),
                other => Self::Sqlite(other),
            },
        }
    }
}

fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join("store.probe");
    let written = std::fs::write(&path, [0_u8; 4096]);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}
