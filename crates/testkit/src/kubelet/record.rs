//! What a kubelet has sent and how it was answered.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// One request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// "list", "watch", "get", "create", "update", "patch", "delete", "deletecollection".
    pub verb: &'static str,
    /// Path with query.
    pub path: String,
    /// HTTP status; 0 = no answer.
    pub status: u16,
    /// The error, "" for none.
    pub error: String,
    /// Until the whole answer, of a watch until its headers.
    pub latency: Duration,
    /// `x-yurthub-source` of the answer.
    pub source: String,
}

/// Everything sent, and what the reflectors went through.
#[derive(Debug, Default)]
pub struct Record {
    sent: Mutex<Vec<Sent>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Record {
    /// All requests, oldest first.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// The requests for which `matches`.
    pub fn matching(&self, matches: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        self.sent.lock().unwrap().iter().filter(|s| matches(s)).cloned().collect()
    }

    /// Requests without an answer or with a status of 500 and more.
    pub fn failures(&self) -> Vec<Sent> {
        self.matching(|s| s.status == 0 || s.status >= 500)
    }

    /// Lists that were made again by a reflector that had listed before.
    pub fn relists(&self) -> u64 {
        self.count("relist")
    }

    /// Watches that were started again after one had ended.
    pub fn watch_restarts(&self) -> u64 {
        self.count("watch-restart")
    }

    /// Watches that were answered 410.
    pub fn gone(&self) -> u64 {
        self.count("gone")
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.sent.lock().unwrap().clear();
        self.counts.lock().unwrap().clear();
    }

    /// The last failures as text, one a line.
    pub fn last_errors(&self, n: usize) -> String {
        let failures = self.matching(|s| s.status == 0 || s.status >= 400);
        let lines =
            failures.iter().rev().take(n).map(|s| format!("{} {} {} {}", s.verb, s.path, s.status, s.error));
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn add(&self, sent: Sent) {
        self.sent.lock().unwrap().push(sent);
    }

    pub(super) fn happened(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn count(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}
