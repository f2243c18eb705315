//! What a process gives to its store, by strace: bytes of `pwrite64` and calls of `fsync`.
//!
//! `write_bytes` of `/proc/<pid>/io` counts whole folios and `wchar` counts sockets too; the system calls on
//! the store's own files are what they are. strace slows the process: CPU is never measured under it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

const BINARY: &str = "/usr/bin/strace";

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes given to files.
    pub bytes: u64,
    /// Calls of fsync and fdatasync.
    pub syncs: u64,
}

/// An attached strace.
pub struct Trace {
    child: Child,
    file: PathBuf,
}

impl Trace {
    /// Attaches to all threads of `pid`; nothing when strace is not installed.
    pub async fn attach(pid: u32, folder: &Path) -> Result<Option<Self>> {
        if !Path::new(BINARY).exists() {
            return Ok(None);
        }
        let file = folder.join("strace.out");
        let mut command = Command::new(BINARY);
        command.args(["-f", "-s", "0", "-e", "trace=pwrite64,pwritev,fsync,fdatasync", "-o"]).arg(&file);
        command
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().context(BINARY)?;
        for _ in 0..500 {
            if is_traced(pid) {
                return Ok(Some(Self { child, file }));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("strace cannot attach")
    }

    /// Detaches and adds up.
    pub async fn stop(mut self) -> Result<Written> {
        let pid = self.child.id().context("a running strace")?.to_string();
        Command::new("kill").args(["-INT", &pid]).status().await?;
        self.child.wait().await?;
        Ok(add_up(&std::fs::read_to_string(&self.file)?))
    }
}

fn is_traced(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let traced = |status: String| status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"));
    let mut statuses = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("status")).ok()).peekable();
    statuses.peek().is_some() && statuses.all(traced)
}

fn add_up(text: &str) -> Written {
    let mut written = Written::default();
    for line in text.lines() {
        let Some((call, result)) = line.rsplit_once(" = ") else { continue };
        let done = result.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        match done {
            Some(bytes) if call.contains("pwrite") => written.bytes += bytes,
            Some(_) if call.contains("sync") => written.syncs += 1,
            _ => {}
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_also_when_they_were_interrupted() {
        let text = "12 pwrite64(5, \"\"..., 24, 4152) = 24\n\
                    12 pwrite64(5, \"\"..., 1024, 4176 <unfinished ...>\n\
                    13 fsync(7) = 0\n\
                    12 <... pwrite64 resumed>) = 1024\n\
                    12 pwrite64(5, \"\"..., 9, 1) = -1 ENOSPC (No space left on device)\n\
                    12 fdatasync(7 <unfinished ...>\n12 <... fdatasync resumed>) = 0\n\
                    12 +++ exited with 0 +++\n";
        assert_eq!(add_up(text), Written { bytes: 1048, syncs: 2 });
    }
}
