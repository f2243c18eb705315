//! Objects as people read them: `Table` of meta.k8s.io/v1, which kubectl asks for first.
//!
//! The columns of what a node is about; every other kind has name and age.
//! Source: k8s.io/kubernetes/pkg/printers/internalversion/printers.go.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{object::Object, registry::Kind};

/// Name, type, and whether only `kubectl -o wide` shows it.
type Column = (&'static str, &'static str, bool);

const NAME: Column = ("Name", "string", false);
const AGE: Column = ("Age", "string", false);

/// A table of objects at a resourceVersion.
pub fn table<'a>(kind: &Kind, version: u64, objects: impl Iterator<Item = &'a Object>) -> Value {
    let row = |o: &Object| json!({"cells": cells(kind, o), "object": o.metadata_only()});
    with_rows(kind, json!({"resourceVersion": version.to_string()}), objects.map(row).collect())
}

/// The table of a bookmark: one row without text, whose object has `metadata`.
pub fn bookmark(kind: &Kind, metadata: &Value) -> Value {
    let partial =
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
    let row = json!({"cells": vec![""; columns(kind).len()], "object": partial});
    with_rows(kind, json!({"resourceVersion": metadata["resourceVersion"]}), vec![row])
}

fn with_rows(kind: &Kind, metadata: Value, rows: Vec<Value>) -> Value {
    let define = |(name, of, wide): &Column| {
        let format = if *name == "Name" { "name" } else { "" };
        json!({"name": name, "type": of, "format": format, "description": name, "priority": u8::from(*wide)})
    };
    let columns: Vec<Value> = columns(kind).iter().map(define).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

fn columns(kind: &Kind) -> &'static [Column] {
    match kind.group_resource().as_str() {
        "pods" => &[
            NAME,
            ("Ready", "string", false),
            ("Status", "string", false),
            ("Restarts", "string", false),
            AGE,
            ("IP", "string", true),
            ("Node", "string", true),
        ],
        "nodes" => &[
            NAME,
            ("Status", "string", false),
            ("Roles", "string", false),
            AGE,
            ("Version", "string", false),
            ("Internal-IP", "string", true),
        ],
        "events" => &[
            ("Last Seen", "string", false),
            ("Type", "string", false),
            ("Reason", "string", false),
            ("Object", "string", false),
            ("Message", "string", false),
            ("Name", "string", true),
        ],
        "configmaps" => &[NAME, ("Data", "string", false), AGE],
        _ => &[NAME, AGE],
    }
}

fn cells(kind: &Kind, object: &Object) -> Value {
    let (name, age) = (&object.key.name, age(object.text("/metadata/creationTimestamp")));
    match kind.group_resource().as_str() {
        "pods" => {
            let address = or_none(object.text("/status/podIP"));
            let node = or_none(object.text("/spec/nodeName"));
            json!([name, containers(object), phase(object), restarts(object), age, address, node])
        }
        "nodes" => {
            let version = or_none(object.text("/status/nodeInfo/kubeletVersion"));
            json!([name, node_status(object), "<none>", age, version, or_none(internal_address(object))])
        }
        "events" => {
            let text = |field: &str| object.text(field);
            let involved = text("/involvedObject/kind").to_lowercase() + "/" + text("/involvedObject/name");
            json!([
                self::age(text("/lastTimestamp")),
                text("/type"),
                text("/reason"),
                involved,
                text("/message"),
                name
            ])
        }
        "configmaps" => {
            json!([name, object.value()["data"].as_object().map_or(0, serde_json::Map::len), age])
        }
        _ => json!([name, age]),
    }
}

fn containers(pod: &Object) -> String {
    let all = pod.value()["spec"]["containers"].as_array().map_or(0, Vec::len);
    format!("{}/{all}", statuses(pod).filter(|s| s["ready"] == true).count())
}

fn restarts(pod: &Object) -> String {
    statuses(pod).filter_map(|s| s["restartCount"].as_u64()).sum::<u64>().to_string()
}

fn statuses(pod: &Object) -> impl Iterator<Item = &Value> {
    pod.value()["status"]["containerStatuses"].as_array().into_iter().flatten()
}

fn phase(pod: &Object) -> &str {
    if pod.value()["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let reason = pod.text("/status/reason");
    if reason.is_empty() { pod.text("/status/phase") } else { reason }
}

fn node_status(node: &Object) -> String {
    let mut conditions = node.value()["status"]["conditions"].as_array().into_iter().flatten();
    let ready = match conditions.find(|c| c["type"] == "Ready").map(|c| c["status"] == "True") {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    };
    let closed = if node.value()["spec"]["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
    format!("{ready}{closed}")
}

fn internal_address(node: &Object) -> &str {
    let mut addresses = node.value()["status"]["addresses"].as_array().into_iter().flatten();
    let found = addresses.find(|a| a["type"] == "InternalIP");
    found.and_then(|a| a["address"].as_str()).unwrap_or_default()
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn age(since: &str) -> String {
    let Ok(then) = OffsetDateTime::parse(since, &Rfc3339) else { return "<unknown>".to_owned() };
    human((OffsetDateTime::now_utc() - then).whole_seconds().max(0))
}

/// Seconds as k8s.io/apimachinery/pkg/util/duration writes them, coarser the longer they are.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{}d", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_get_coarser() {
        let cases = [(5, "5s"), (119, "119s"), (125, "2m5s"), (180, "3m"), (7200, "120m"), (90_000, "25h")];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
        assert_eq!(human(4 * 86_400), "4d");
    }
}
