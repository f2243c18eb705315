//! A conflict is told where an operator looks first: as an Event of the object.

use serde_json::{Value, json};
use yurt_api::resource::{Resource, TypeMeta};
use yurt_store::{Entry, Operation};

use super::Written;
use crate::cache::Cache;
use crate::clock;

/// The longest message that an Event may have (`pkg/apis/core/validation/events.go`: NoteLengthLimit).
const MAX_MESSAGE: usize = 1024;
/// How much of the object's name goes into the Event's, whose own may have 253 characters.
const MAX_NAME: usize = 150;

impl Cache {
    /// Leaves an Event about a write that the cloud did not take. It goes the way of the node's own events, with the
    /// rest of them; a store that does not take it loses nothing but this.
    pub async fn tell_conflict(&self, entry: &Entry, reason: &str) {
        if entry.operation == Operation::Event {
            return;
        }
        let kind =
            serde_json::from_slice::<Written>(&entry.body).map(|w| w.kind.type_meta()).unwrap_or_default();
        let event = event(entry, &kind, reason, self.node_name(), clock::unix());
        let _one_at_a_time = self.overlay.gate.lock().await;
        let type_meta = TypeMeta::new("v1", "Event");
        let mut object = match super::new::new_object(&type_meta, &event, None) {
            Ok(object) => object,
            Err(_) => return tracing::error!("an Event about a conflict is none"),
        };
        let resource = Resource::new("", "v1", "events");
        if self.keep_event(&resource, type_meta, Value::Null, &mut object, 201).await.is_err() {
            tracing::warn!(object = %entry.key, "the Event about a conflict cannot be kept");
        }
    }
}

fn event(entry: &Entry, kind: &TypeMeta, reason: &str, node: &str, now: i64) -> Value {
    let namespace = if entry.key.namespace.is_empty() { "default" } else { entry.key.namespace.as_str() };
    let start: String = entry.key.name.chars().take(MAX_NAME).collect();
    let message: String = format!(
        "The node wrote this object ({}) while it had no link, and the cloud does not take it: {reason}",
        entry.operation.as_str()
    )
    .chars()
    .take(MAX_MESSAGE)
    .collect();
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{start}.{node}.{:x}", entry.seq), "namespace": namespace},
        "involvedObject": {
            "apiVersion": kind.api_version, "kind": kind.kind,
            "namespace": entry.key.namespace, "name": entry.key.name, "uid": entry.uid,
        },
        "type": "Warning", "reason": "LocalWriteConflict", "message": message,
        "source": {"component": "yurthub", "host": node},
        "reportingComponent": "yurthub", "reportingInstance": node,
        "firstTimestamp": clock::rfc3339(now), "lastTimestamp": clock::rfc3339(now), "count": 1,
    })
}
