//! One pass over the journal: each entry is tried once, and one that the cloud does not take holds up no other.

use std::collections::BTreeSet;

use serde_json::Value;
use yurt_store::{Entry, Operation};

use super::ask::Halt;
use super::deliver::Outcome;
use super::{Replay, Report, plan};
use crate::clock;

/// Tries of an entry that the cloud answers with 5xx, 403 or what is not the Kubernetes API, before it is parked; with
/// the pauses between passes about four minutes. 429 says "later" and is no try.
const TRIES: u32 = 20;
/// Looks at the journal in one pass: the node writes on meanwhile.
const LOOKS: u32 = 50;

/// What a pass has put off: the numbers of the entries in the journal.
#[derive(Debug, Default)]
pub(super) struct PutOff(BTreeSet<u64>);

impl PutOff {
    /// How many entries wait for another pass.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Replay {
    /// Pushes what the journal has and what is written meanwhile, events only when asked for.
    ///
    /// # Errors
    /// What stops all of it; what was done until then is in the report.
    pub(super) async fn push(
        &self,
        events: bool,
        report: &mut Report,
        put_off: &mut PutOff,
    ) -> Result<(), Halt> {
        for _ in 0..LOOKS {
            let before = report.done();
            let mut entries = self.cache.journal_entries().await?;
            entries.retain(|e| (events || e.operation != Operation::Event) && !put_off.0.contains(&e.seq));
            entries.sort_by_key(|e| (plan::rank(e), e.seq));
            for entry in entries {
                self.push_entry(&entry, report, put_off).await?;
            }
            if report.done() == before {
                break;
            }
        }
        Ok(())
    }

    async fn push_entry(&self, entry: &Entry, report: &mut Report, put_off: &mut PutOff) -> Result<(), Halt> {
        match self.deliver(entry).await {
            Ok(Outcome::Delivered(now)) => {
                let version = now.version();
                self.cache.delivered(entry, version, now).await?;
                report.delivered += 1;
            }
            Ok(Outcome::Dropped(reason, now)) => {
                tracing::info!(resource = %entry.resource, object = %entry.key, reason, "a local write is dropped");
                self.cache.delivered(entry, 0, now).await?;
                report.dropped += 1;
            }
            Ok(Outcome::Conflict(reason, cloud)) => {
                self.park(entry, reason, cloud).await?;
                report.conflicts += 1;
            }
            Err(Halt::Busy(why)) if entry.attempts < TRIES => {
                tracing::debug!(resource = %entry.resource, object = %entry.key, why, "a local write waits");
                let seq = entry.seq;
                self.cache.front.write(move |w| w.journal_attempt(seq)).await?;
                put_off.0.insert(seq);
            }
            Err(Halt::Busy(why)) => {
                self.park(entry, why, None).await?;
                report.conflicts += 1;
            }
            Err(halt) => return Err(halt),
        }
        Ok(())
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
