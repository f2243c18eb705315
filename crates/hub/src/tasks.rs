//! Every background task of the hub is started here, with a name and the meaning of its end.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};

/// The process's exit code when a part that it cannot live without has failed (`EX_SOFTWARE` of sysexits.h).
const EXIT_FAILED: i32 = 70;

/// Panics of the whole process, wherever they were caught.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// What it means when a task ends by a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// One connection, stream or request is lost; everything else goes on.
    Local,
    /// The hub cannot do its work without this task: the process ends, and its supervisor restarts it.
    Fatal,
}

/// Starts `work` under `name`; a panic in it is logged and counted and, for [`Failure::Fatal`], ends the process.
#[allow(clippy::disallowed_methods)]
pub fn spawn(name: &'static str, failure: Failure, work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            panicked(name, failure, panic.as_ref());
        }
    });
}

/// Runs `work` as a task of its own and waits for it: it comes to its end also when nobody waits any more.
/// `None` when it panicked.
pub async fn to_its_end<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    spawn(name, Failure::Local, async move {
        let _ = sender.send(work.await);
    });
    receiver.await.ok()
}

/// Runs `work` to its end; `None` when it panicked, which is logged and counted.
pub async fn caught<T>(name: &'static str, work: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.inspect_err(|panic| panicked(name, Failure::Local, panic.as_ref())).ok()
}

/// Runs a thread's work; a panic in it ends the process, because nobody would take its place.
pub fn thread_body(name: &str, work: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
        panicked(name, Failure::Fatal, panic.as_ref());
    }
}

/// Panics that were met since the start.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

// The one end that no composition root can wait for: what it stands on is gone.
#[allow(clippy::disallowed_methods)]
fn panicked(name: &str, failure: Failure, panic: &(dyn Any + Send)) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    tracing::error!(task = name, panic = text, fatal = failure == Failure::Fatal, "a task panicked");
    if failure == Failure::Fatal {
        std::process::exit(EXIT_FAILED);
    }
}

/// Spawns what HTTP/2 runs beside its connections.
#[derive(Clone, Copy, Debug)]
pub struct Spawner;

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        spawn("http2", Failure::Local, work.map(drop));
    }
}

/// Tells all parts to stop; cloned into whoever has to hear it.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// The switch behind every [`Shutdown`].
pub struct ShutdownSwitch(watch::Sender<bool>);

/// A switch and the signal that hangs on it.
pub fn shutdown() -> (ShutdownSwitch, Shutdown) {
    let (switch, signal) = watch::channel(false);
    (ShutdownSwitch(switch), Shutdown(signal))
}

impl ShutdownSwitch {
    /// Everybody who waits on a [`Shutdown`] is released.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits for the stop; returns at once when it has been given already.
    pub async fn wait(&mut self) {
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }

    /// Whether the stop has been given.
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_nothing_else_ends() {
        let before = panics();
        spawn("local", Failure::Local, async { panic!("of a task") });
        let caught = caught("request", async { panic!("of a request") }).await;
        assert_eq!(caught, None::<()>);
        while panics() < before + 2 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_has_to_end_ends_though_nobody_waits() {
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = to_its_end("store", async move {
            let _ = begun.await;
            let _ = end.send(());
        });
        // Polled once, so that it runs, and given up while it waits.
        assert!(work.now_or_never().is_none());
        begin.send(()).unwrap();
        ended.await.unwrap();
    }
}
