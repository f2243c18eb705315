//! What was seen of the pods: each by its UID, from its first appearance to its end.

use super::objects::{GROUP, WORKLOAD};
use super::status::condition;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// One pod's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The group that it belongs to.
    pub group: String,
    /// The label of its workload.
    pub workload: String,
    /// The node that it is bound to; empty when to none.
    pub node: String,
    /// Whether its condition `Ready` is `True`.
    pub ready: bool,
    /// Whether it was ready at any time.
    pub ever_ready: bool,
    /// Whether it has the condition `DisruptionTarget`.
    pub disrupted: bool,
    /// When its deletion was first seen: a deletion time, or its absence.
    pub deleted: Option<Instant>,
    /// Whether it is gone altogether.
    pub gone: bool,
}

/// All pods that were ever seen, by UID.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pods: BTreeMap<String, Seen>,
}

impl Record {
    /// Takes in a complete list of the pods.
    pub fn note(&mut self, items: &[Value], at: Instant) {
        let mut present = BTreeSet::new();
        for item in items {
            let uid = item["metadata"]["uid"].as_str().unwrap_or_default();
            present.insert(uid);
            let now = Seen::of(item, self.pods.get(uid), at);
            self.pods.insert(uid.to_string(), now);
        }
        for (uid, seen) in &mut self.pods {
            if !present.contains(uid.as_str()) {
                seen.deleted.get_or_insert(at);
                seen.gone = true;
            }
        }
    }

    /// The pods of a workload of a group, by UID.
    pub fn of<'a>(&'a self, group: &'a str, workload: &'a str) -> impl Iterator<Item = (&'a str, &'a Seen)> {
        let wanted = move |seen: &Seen| seen.group == group && seen.workload == workload;
        self.pods.iter().filter(move |(_, seen)| wanted(seen)).map(|(uid, seen)| (uid.as_str(), seen))
    }

    /// A pod by its UID.
    pub fn pod(&self, uid: &str) -> Option<&Seen> {
        self.pods.get(uid)
    }
}

impl Seen {
    fn of(item: &Value, before: Option<&Seen>, at: Instant) -> Seen {
        let metadata = &item["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let ready = condition(item, "Ready") == Some("True");
        let deleted = before.and_then(|seen| seen.deleted);
        Seen {
            group: text(&metadata["labels"][GROUP]),
            workload: text(&metadata["labels"][WORKLOAD]),
            node: text(&item["spec"]["nodeName"]),
            ready,
            ever_ready: ready || before.is_some_and(|seen| seen.ever_ready),
            disrupted: condition(item, "DisruptionTarget") == Some("True"),
            deleted: deleted.or_else(|| (!metadata["deletionTimestamp"].is_null()).then_some(at)),
            gone: false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, deletion: Option<&str>) -> Value {
        json!({"metadata": {"uid": uid, "name": "a", "labels": {GROUP: "g", WORKLOAD: "w"},
            "deletionTimestamp": deletion}})
    }

    #[test]
    fn a_pod_of_the_same_name_is_another_pod_and_the_first_deletion_counts() {
        let (start, mut record) = (Instant::now(), Record::default());
        let later = |seconds| start + std::time::Duration::from_secs(seconds);
        record.note(&[pod("1", None)], start);
        record.note(&[pod("1", Some("2026-01-01T00:00:00Z"))], later(1));
        record.note(&[pod("2", None)], later(2));
        let first = record.pod("1").unwrap();
        assert_eq!((first.deleted, first.gone), (Some(later(1)), true));
        assert_eq!(record.pod("2").unwrap().deleted, None);
        assert_eq!(record.of("g", "w").count(), 2);
    }
}
