//! Whether the files that are open are still the ones that the next start will find.
//!
//! A file that was removed, or put in the place of another, under a running process goes on taking writes and fsyncs,
//! and nobody ever finds them again. SQLite looks at that without a WAL only (`databaseIsUnmoved` of its pager).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};

/// The file of the store and its WAL, each with its device and inode.
pub(crate) struct Anchor(Vec<(PathBuf, (u64, u64))>);

impl Anchor {
    /// The files as they are now.
    pub fn of(file: &Path) -> Self {
        let mut wal = file.as_os_str().to_owned();
        wal.push("-wal");
        let both = [file.to_owned(), PathBuf::from(wal)];
        Anchor(both.into_iter().filter_map(|path| Some((path.clone(), identity(&path)?))).collect())
    }

    /// [`StoreError::Moved`] when one of them is gone or another one.
    pub fn check(&self) -> Result<()> {
        match self.0.iter().all(|(path, open)| identity(path) == Some(*open)) {
            true => Ok(()),
            false => Err(StoreError::Moved),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
