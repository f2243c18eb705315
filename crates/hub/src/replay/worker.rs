//! Pushes the journal: all of it while recovering, and whatever is left whenever the link stands.

use std::sync::Arc;
use std::time::Duration;

use super::ask::Halt;
use super::pass::PutOff;
use crate::cache::Cache;
use crate::clock;
use crate::cloud::Cloud;
use crate::connectivity::{Connectivity, Event, Failure, State};
use crate::tasks::Shutdown;

/// How long the link waits, before it counts as back, for entries that the cloud does not take or a store that cannot be
/// written, and for a cloud that has too much to do. The rest is tried again beside everything else; masks keep it in
/// the view.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));
/// The first and the longest pause between two passes over the journal.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Masks of what was pushed go at the latest when their collection was live for so long.
const SETTLE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What the last replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// When it ended, Unix seconds; 0 = never.
    pub at: i64,
    /// Entries that the cloud has now.
    pub delivered: u64,
    /// Entries whose object is gone from the cloud.
    pub dropped: u64,
    /// Entries that were parked as conflicts.
    pub conflicts: u64,
    /// Pods whose readiness was put right though the node had not written them.
    pub repaired: u64,
    /// Entries that the cloud has not taken yet and that are tried again.
    pub waiting: u64,
}

impl Report {
    /// How many entries have come to an end.
    pub(super) fn done(&self) -> u64 {
        self.delivered + self.dropped + self.conflicts
    }
}

/// The worker.
pub struct Replay {
    /// The cache, with the journal in its store.
    pub cache: Arc<Cache>,
    /// The way to the cloud.
    pub cloud: Arc<Cloud>,
    /// The state of the link.
    pub connectivity: Connectivity,
    /// Where the last report is shown.
    pub report: Arc<std::sync::Mutex<Report>>,
}

impl Replay {
    /// Works until the shutdown.
    pub async fn run(self, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.round() => {}
            }
        }
    }

    async fn round(&self) {
        let snapshot =
            self.connectivity.until(|s| matches!(s.state, State::Recovering | State::Online)).await;
        if snapshot.state == State::Recovering {
            return self.recover().await;
        }
        tokio::select! {
            _ = self.connectivity.until(|s| s.state != State::Online) => {}
            () = self.cache.overlay.has_unpushed() => self.push_rest().await,
        }
    }

    /// Online: events, writes that slipped in while the state changed, and what the cloud has not taken yet.
    async fn push_rest(&self) {
        let mut pause = PAUSE.0;
        loop {
            self.cache.overlay.journal_read();
            let (mut report, mut put_off) = (Report::default(), PutOff::default());
            let pushed = self.push(true, &mut report, &mut put_off).await;
            if report.done() > 0 {
                self.settle_later();
            }
            let wait = match pushed {
                Ok(()) if put_off.count() == 0 => return,
                Ok(()) => pause,
                Err(halt) => {
                    tracing::warn!(%halt, "the journal waits");
                    pause.max(halt.pause())
                }
            };
            self.cache.overlay.journal_grew();
            let away = self.connectivity.until(|s| s.state != State::Online);
            if tokio::time::timeout(wait, away).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn recover(&self) {
        let mut report = Report::default();
        let pushed = self.push_in_time(&mut report).await;
        report.at = clock::unix();
        if report.done() + report.repaired + report.waiting > 0 {
            tracing::info!(?report, "the node's writes were pushed");
        }
        *self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = report;
        match pushed {
            Ok(()) => {
                self.cache.overlay.forget_ephemeral();
                self.come_home().await;
                self.settle_later();
            }
            Err(Halt::Refused) => {
                tracing::error!("the node has no certificate that the cloud accepts: the journal waits");
                self.come_home().await;
            }
            Err(halt) => {
                tracing::warn!(%halt, "the link was lost while the journal was pushed");
                self.cloud.signal().report(Event::Failed(Failure::Refused));
                self.connectivity.until(|s| s.state != State::Recovering).await;
            }
        }
    }

    async fn come_home(&self) {
        self.cloud.signal().report(Event::Recovered);
        self.connectivity.until(|s| s.state != State::Recovering).await;
    }

    /// Passes over the journal until nothing but events is left in it, or patience is over.
    async fn push_in_time(&self, report: &mut Report) -> Result<(), Halt> {
        let (since, mut pause) = (clock::monotonic(), PAUSE.0);
        loop {
            let (wait, patience, why) = match self.push_all(report).await {
                Ok(()) if report.waiting == 0 => return Ok(()),
                Ok(()) => (pause, PATIENCE.0, format!("{} writes are not taken", report.waiting)),
                Err(halt @ (Halt::Link(_) | Halt::Refused)) => return Err(halt),
                Err(halt @ Halt::Later(_)) => (pause.max(halt.pause()), PATIENCE.1, halt.to_string()),
                Err(halt) => (pause.max(halt.pause()), PATIENCE.0, halt.to_string()),
            };
            self.cache.overlay.journal_grew();
            if since.elapsed() + wait > patience {
                tracing::warn!(why, "the rest of the journal is pushed beside everything else");
                return Ok(());
            }
            tracing::warn!(why, "the journal cannot be pushed now");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// What the node wrote; then what the cloud did to pods of which it wrote nothing; then what was written meanwhile.
    async fn push_all(&self, report: &mut Report) -> Result<(), Halt> {
        let mut put_off = PutOff::default();
        self.push(false, report, &mut put_off).await?;
        report.repaired += self.repair().await?;
        self.push(false, report, &mut put_off).await?;
        report.waiting = put_off.count() as u64;
        Ok(())
    }

    /// Looks, until it is so, whether what was pushed has come back with the reflectors. One task does it.
    fn settle_later(&self) {
        let (cache, connectivity) = (Arc::clone(&self.cache), self.connectivity.clone());
        let Some(only_one) = cache.overlay.start_settling() else { return };
        crate::tasks::spawn("settle", crate::tasks::Failure::Local, async move {
            let _only_one = only_one;
            loop {
                let away =
                    connectivity.until(|s| matches!(s.state, State::Offline { .. } | State::Recovering));
                if tokio::time::timeout(LOOK, away).await.is_ok() || cache.sweep(SETTLE).await {
                    // Another outage: the next homecoming looks again.
                    return;
                }
            }
        });
    }
}
