//! Every background task is started here, with a name. A part that panics ends the process: its supervisor starts it
//! again, and everything that has to survive is in the cluster.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// The process's exit code when a part has failed (`EX_SOFTWARE` of sysexits.h).
const EXIT_FAILED: i32 = 70;

/// A running task; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts `work` under `name`. A panic in it is logged and ends the process.
#[allow(clippy::disallowed_methods)]
pub fn spawn(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            tracing::error!(task = name, panic = text, "a task panicked: the process ends");
            std::process::exit(EXIT_FAILED);
        }
    }))
}
