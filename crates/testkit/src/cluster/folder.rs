//! A temporary folder that outlives a failure.

use std::path::{Path, PathBuf};

/// Removed on drop, unless the thread panics or `YURT_KEEP` is set.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder in the system's place for temporary files.
    pub fn new(purpose: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("yurt-{purpose}-")).tempdir();
        Self(dir.expect("a temporary folder").keep())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("YURT_KEEP").is_some() {
            eprintln!("kept with all logs: {}", self.0.display());
        } else if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {e}", self.0.display());
        }
    }
}
