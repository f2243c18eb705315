//! A temporary folder that outlives a failure.

use std::path::{Path, PathBuf};

/// Removed on drop, unless the thread panics, `YURT_KEEP` is set or [`Folder::keep`] was called.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// A new folder in the system's place for temporary files.
    pub fn new(purpose: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("yurt-{purpose}-")).tempdir();
        Self { path: dir.expect("a temporary folder").keep(), kept: false }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It stays.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.kept || std::thread::panicking() || std::env::var_os("YURT_KEEP").is_some() {
            eprintln!("kept with all logs: {}", self.path.display());
        } else if let Err(e) = std::fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}
