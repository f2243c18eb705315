//! What the kernel says of a process.

use std::time::Duration;

/// CPU that the threads of a process have used, by the scheduler's own clock (`schedstat`, ns).
/// Threads that have ended are not in it: the hub and nginx end none while they are measured.
pub fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(spent).sum())
}

/// Resident memory in bytes, from `smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it: what is held to the limit.
    pub rss: u64,
    /// Heap, stacks and written pages.
    pub anonymous: u64,
}

impl Memory {
    /// Of a process, now.
    pub fn of(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name));
            let kib =
                line.and_then(|l| l.trim().strip_suffix(" kB")).and_then(|n| n.trim().parse::<u64>().ok());
            kib.unwrap_or(0) << 10
        };
        Self { rss: field("Rss:"), anonymous: field("Anonymous:") }
    }

    /// When it has stopped to change: the same for a second, or after 15 s.
    pub async fn settled(pid: u32) -> Self {
        let (mut last, mut same) = (Self::of(pid), 0);
        for _ in 0..150 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = Self::of(pid);
            same = if now == last { same + 1 } else { 0 };
            last = now;
            if same >= 20 {
                break;
            }
        }
        last
    }

    /// In MB (10^6 bytes).
    pub fn megabytes(self) -> f64 {
        self.rss as f64 / 1e6
    }

    /// How it divides.
    pub fn parts(self) -> String {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        format!(
            "{:.1} anonymous + {:.1} file (the program itself)",
            mb(self.anonymous),
            mb(self.rss - self.anonymous)
        )
    }
}
