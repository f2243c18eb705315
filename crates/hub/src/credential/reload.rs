//! Notices when a credential file was replaced: by SIGHUP, or by looking at the files' metadata.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use super::{CredentialFiles, Credentials};
use crate::tasks::Shutdown;

/// How often the files are looked at. The kubelet rotates its certificate days before it ends.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reloads the credentials whenever a file changed, and then calls `changed`, until the shutdown.
pub async fn watch_files(credentials: Arc<Credentials>, changed: impl Fn() + Send, mut shutdown: Shutdown) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("cannot listen for SIGHUP");
        return;
    };
    let mut seen = stamps(credentials.files());
    loop {
        let forced = tokio::select! {
            () = shutdown.wait() => return,
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let now = stamps(credentials.files());
        if forced || now != seen {
            seen = now;
            tracing::info!("reading the certificates again");
            credentials.reload();
            changed();
        }
    }
}

/// Inode, time of change and length of each file, behind any links; `None` where it is missing.
fn stamps(files: &CredentialFiles) -> [Option<(u64, SystemTime, u64)>; 3] {
    [&files.ca, &files.certificate, &files.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.modified().ok()?, metadata.len()))
    })
}
