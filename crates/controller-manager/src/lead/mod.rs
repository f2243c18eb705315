//! Leader election: one process works, the others wait. `step` decides, this asks and writes the lease.

pub mod step;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kube::api::{Api, PostParams};
use thiserror::Error;

use crate::clock::{self, Clock};
use crate::config::Lead;
use crate::wire::{Lease, LeaseSpec};
use step::{Record, Seen, Step};

/// Tries to give the lease back.
const RELEASES: usize = 3;

/// Until when this process may write: the proof that every writer asks for before each write.
#[derive(Clone, Debug, Default)]
pub struct Leadership(Arc<AtomicU64>);

/// The lease could not be renewed in time, or somebody else has it.
#[derive(Clone, Copy, Debug, Error)]
#[error("the leader lease is lost")]
pub struct Lost;

impl Leadership {
    /// The leadership of one that asks nobody.
    pub fn alone() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Whether this process may write at `now` (since its start).
    pub fn leads(&self, now: Duration) -> bool {
        millis(now) < self.0.load(Ordering::Acquire)
    }

    fn until(&self, end: Duration) {
        self.0.store(millis(end), Ordering::Release);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A candidate for the leader lease.
pub struct Candidate {
    api: Api<Lease>,
    clock: Clock,
    settings: Lead,
    me: String,
    seen: Seen,
    lease: Option<Lease>,
    leadership: Leadership,
}

impl Candidate {
    /// One that is called `me` (of each process another).
    pub fn new(client: kube::Client, clock: Clock, settings: Lead, namespace: &str, me: String) -> Self {
        let api = Api::namespaced(client, namespace);
        let (seen, leadership) = (Seen::default(), Leadership::default());
        Self { api, clock, settings, me, seen, lease: None, leadership }
    }

    /// What this candidate may do now.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until it leads.
    pub async fn acquire(&mut self) {
        while !self.attempt().await {
            self.clock.sleep(self.settings.leader_elect_retry_period).await;
        }
        tracing::info!(me = self.me, "leading");
    }

    /// Renews until that fails for the whole deadline, or the lease is another's.
    pub async fn hold(&mut self) -> Lost {
        loop {
            self.clock.sleep(self.settings.leader_elect_retry_period).await;
            let held = self.attempt().await;
            let others =
                self.seen.record.as_ref().is_some_and(|r| !r.holder.is_empty() && r.holder != self.me);
            if !held && (others || !self.leadership.leads(self.clock.now().since_start)) {
                self.leadership.until(Duration::ZERO);
                return Lost;
            }
        }
    }

    /// Gives the lease back, so that the next one need not wait. A renewal that was under way may come between.
    pub async fn release(&mut self) {
        self.leadership.until(Duration::ZERO);
        for _ in 0..RELEASES {
            let Some(Some(mut lease)) = self.within(self.api.get_opt(&self.name())).await else { return };
            if lease.spec.holder_identity.as_ref() != Some(&self.me) {
                return;
            }
            lease.spec.holder_identity = Some(String::new());
            lease.spec.lease_duration_seconds = Some(1);
            let (name, params) = (self.name(), PostParams::default());
            if self.within(self.api.replace(&name, &params, &lease)).await.is_some() {
                tracing::info!("the leader lease is released");
                return;
            }
        }
    }

    /// One look and at most one write; whether it leads afterwards.
    async fn attempt(&mut self) -> bool {
        let Some(lease) = self.within(self.api.get_opt(&self.name())).await else { return false };
        let read = lease.as_ref().map(record);
        self.lease = lease;
        let asked = self.clock.now();
        self.seen.note(read, asked.since_start);
        let step = self.seen.step(&self.me, asked.since_start);
        let Some(wanted) = self.wanted(&step, asked.unix) else { return false };
        let params = PostParams::default();
        let written = match step {
            Step::Create => self.within(self.api.create(&params, &wanted)).await,
            _ => self.within(self.api.replace(&self.name(), &params, &wanted)).await,
        };
        let Some(lease) = written else { return false };
        self.seen.note(Some(record(&lease)), asked.since_start);
        self.lease = Some(lease);
        self.leadership.until(asked.since_start + self.settings.leader_elect_renew_deadline);
        true
    }

    /// The lease as this step writes it.
    fn wanted(&self, step: &Step, unix: i64) -> Option<Lease> {
        let mut lease = self.lease.clone().unwrap_or_else(|| Lease::named(&self.name()));
        let now = Some(clock::rfc3339_micro(unix));
        let transitions = match step {
            Step::Wait => return None,
            Step::Renew => lease.spec.lease_transitions,
            Step::Create => Some(0),
            Step::Take(transitions) => Some(*transitions),
        };
        let acquired = if *step == Step::Renew { lease.spec.acquire_time.take() } else { now.clone() };
        lease.spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.settings.leader_elect_lease_duration.as_secs()).ok(),
            acquire_time: acquired,
            renew_time: now,
            lease_transitions: transitions,
        };
        Some(lease)
    }

    /// The answer of a request that has as long as the deadline; what went wrong is logged.
    async fn within<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Option<T> {
        match tokio::time::timeout(self.settings.leader_elect_renew_deadline, request).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the leader lease cannot be read or written");
                None
            }
            Err(_) => {
                tracing::warn!("no answer about the leader lease");
                None
            }
        }
    }

    fn name(&self) -> String {
        self.settings.leader_elect_resource_name.clone()
    }
}

fn record(lease: &Lease) -> Record {
    Record {
        holder: lease.spec.holder_identity.clone().unwrap_or_default(),
        seconds: lease.spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        transitions: lease.spec.lease_transitions.unwrap_or(0),
    }
}
