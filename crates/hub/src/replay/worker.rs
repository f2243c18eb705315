//! Pushes the journal: all of it while recovering, and whatever is left whenever the link stands.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use yurt_store::{Entry, Operation};

use super::ask::Halt;
use super::deliver::Outcome;
use super::plan;
use crate::cache::Cache;
use crate::clock;
use crate::cloud::Cloud;
use crate::connectivity::{Connectivity, Event, Failure, State};
use crate::tasks::Shutdown;

/// Tries of an entry that the cloud answers with 5xx, before it is parked. 429 says "later" and is no try.
const TRIES: u32 = 20;
/// Rounds over the journal before the link counts as back: the node writes on meanwhile.
const ROUNDS: u32 = 50;
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

    /// Online: events, and writes that slipped in while the state changed.
    async fn push_rest(&self) {
        self.cache.overlay.journal_read();
        match self.push(true).await {
            Ok(report) if report.delivered + report.dropped + report.conflicts > 0 => self.settle_later(),
            Ok(_) => {}
            Err(halt) => {
                tracing::warn!(%halt, "the journal waits");
                self.cache.overlay.journal_grew();
                let pause = halt.pause();
                let away = self.connectivity.until(|s| s.state != State::Online);
                let _ = tokio::time::timeout(pause, away).await;
            }
        }
    }

    async fn recover(&self) {
        let mut pushed = self.push_all(true).await;
        for tries in 1..=TRIES {
            let Err(halt @ (Halt::Busy(_) | Halt::Later(_) | Halt::Store(_))) = &pushed else { break };
            tracing::warn!(%halt, "the journal cannot be pushed now");
            tokio::time::sleep(halt.pause()).await;
            // What the node did not write may wait for ever; its writes are parked one by one.
            pushed = self.push_all(tries < TRIES).await;
        }
        match pushed {
            Ok(report) => {
                if report.delivered + report.dropped + report.conflicts + report.repaired > 0 {
                    tracing::info!(?report, "the node's writes are in the cloud");
                }
                *self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = report;
                self.cache.overlay.forget_ephemeral();
                self.cloud.signal().report(Event::Recovered);
                self.connectivity.until(|s| s.state != State::Recovering).await;
                self.settle_later();
            }
            Err(Halt::Link(why)) => {
                tracing::warn!(why, "the link was lost while the journal was pushed");
                self.cloud.signal().report(Event::Failed(Failure::Refused));
                self.connectivity.until(|s| s.state != State::Recovering).await;
            }
            Err(Halt::Refused) => {
                tracing::error!("the node has no certificate that the cloud accepts: the journal waits");
                self.cloud.signal().report(Event::Recovered);
                self.connectivity.until(|s| s.state != State::Recovering).await;
            }
            // The next round tries again.
            Err(Halt::Busy(_) | Halt::Later(_) | Halt::Store(_)) => {}
        }
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

    /// What the node wrote; then what the cloud did to pods of which it wrote nothing; then what was written meanwhile.
    async fn push_all(&self, repair: bool) -> Result<Report, Halt> {
        let mut report = Report::default();
        self.push_rounds(&mut report).await?;
        if repair {
            report.repaired = self.repair().await?;
            self.push_rounds(&mut report).await?;
        }
        report.at = clock::unix();
        Ok(report)
    }

    /// Rounds over the journal until nothing is left in it but events.
    async fn push_rounds(&self, report: &mut Report) -> Result<(), Halt> {
        for _ in 0..ROUNDS {
            let round = self.push(false).await?;
            report.delivered += round.delivered;
            report.dropped += round.dropped;
            report.conflicts += round.conflicts;
            if round.delivered + round.dropped + round.conflicts == 0 {
                break;
            }
        }
        Ok(())
    }

    /// One round over the journal, events left out unless asked for.
    async fn push(&self, events: bool) -> Result<Report, Halt> {
        let mut entries = self.cache.journal_entries().await?;
        entries.retain(|e| events || e.operation != Operation::Event);
        entries.sort_by_key(|e| (plan::rank(e), e.seq));
        let mut report = Report::default();
        for entry in entries {
            match self.deliver(&entry).await {
                Ok(Outcome::Delivered(now)) => {
                    let version = now.version();
                    self.cache.delivered(&entry, version, now).await?;
                    report.delivered += 1;
                }
                Ok(Outcome::Dropped(reason, now)) => {
                    tracing::info!(resource = %entry.resource, object = %entry.key, reason, "a local write is dropped");
                    self.cache.delivered(&entry, 0, now).await?;
                    report.dropped += 1;
                }
                Ok(Outcome::Conflict(reason, cloud)) => {
                    self.park(&entry, reason, cloud).await?;
                    report.conflicts += 1;
                }
                Err(Halt::Busy(why)) => {
                    let seq = entry.seq;
                    self.cache.front.write(move |w| w.journal_attempt(seq)).await?;
                    if entry.attempts < TRIES {
                        return Err(Halt::Busy(why));
                    }
                    self.park(&entry, why, None).await?;
                    report.conflicts += 1;
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(report)
    }

    async fn park(&self, entry: &Entry, reason: String, cloud: Option<Value>) -> Result<(), Halt> {
        tracing::warn!(resource = %entry.resource, object = %entry.key, reason, "a local write is in conflict with the cloud");
        let (seq, why, now) = (entry.seq, reason.clone(), clock::unix());
        let cloud = cloud.map(|c| c.to_string().into_bytes());
        self.cache.front.write(move |w| w.journal_park(seq, &why, cloud.as_deref(), now)).await?;
        self.cache.release(entry, 0).await;
        self.cache.tell_conflict(entry, &reason).await;
        Ok(())
    }
}
