//! Every background task of the hub is started here, with a name and the meaning of its end.

use std::future::Future;

use tokio::sync::watch;

/// What it means when a task ends by a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// One connection, stream or request is lost; everything else goes on.
    Local,
    /// The hub cannot do its work without this task: the process ends, and its supervisor restarts it.
    Fatal,
}

/// Starts `work` under `name`; a panic in it is logged and, for [`Failure::Fatal`], ends the process.
#[allow(clippy::disallowed_methods)]
pub fn spawn(name: &'static str, failure: Failure, work: impl Future<Output = ()> + Send + 'static) {
    let running = tokio::spawn(work);
    if failure == Failure::Fatal {
        tokio::spawn(async move {
            if let Err(error) = running.await {
                tracing::error!(task = name, %error, "a task that the hub cannot live without failed");
                std::process::exit(70);
            }
        });
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
