//! What is sent for a journal entry. Pure.

use serde_json::{Map, Value, json};
use yurt_api::patch::strategic;
use yurt_api::resource::TypeMeta;
use yurt_store::{Entry, Operation};

/// Node conditions that only the kubelet writes (`k8s.io/api/core/v1.NodeConditionType`); the
/// lifecycle controller overwrites them while the node is silent.
const NODE_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// The pod condition that the lifecycle controller takes away from the pods of a silent node.
const POD_CONDITIONS: [&str; 1] = ["Ready"];

/// The order of pushing: the node's own state, its pods' states, deletions, mirror pods, the rest, events.
pub fn rank(entry: &Entry) -> u8 {
    match entry.operation {
        _ if entry.resource.is("", "nodes") => 0,
        Operation::Status => 1,
        Operation::Delete => 2,
        Operation::Create => 3,
        Operation::Update => 4,
        Operation::Event => 5,
    }
}

/// The status patch of an object: what the node changed since `base`, and those of its own conditions
/// that the cloud says otherwise. `None` when the cloud has it all.
pub fn status_patch(kind: &TypeMeta, base: &Value, local: &Value, cloud: &Value) -> Option<Value> {
    let empty = json!({});
    let status = |object: &Value| json!({"status": object.get("status").unwrap_or(&empty)});
    let mut ours = strategic::diff(kind, &status(base), &status(local));
    add_conditions(&mut ours, kind, local, cloud);
    // What the cloud has already needs no sending, whatever it was before.
    let theirs = status(cloud);
    let known = strategic::apply(kind, &theirs, &ours).is_ok_and(|after| after == theirs);
    (is_something(&ours) && !known).then_some(ours)
}

/// The patch of labels, annotations, taints and so on: what the node changed since `base`.
pub fn main_patch(kind: &TypeMeta, base: &Value, local: &Value) -> Option<Value> {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("resourceVersion");
                metadata.remove("managedFields");
            }
        }
        object
    };
    Some(strategic::diff(kind, &strip(base), &strip(local))).filter(is_something)
}

/// A created object as it is sent: without what the apiserver gives.
pub fn creation(local: &Value) -> Value {
    let mut object = local.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for given in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
                metadata.remove(given);
            }
        }
    }
    object
}

/// The deletion of exactly this object, at once.
pub fn deletion(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
}

/// A patch that only fits the object with this uid.
pub fn for_uid(mut patch: Value, uid: &str) -> Value {
    if let Some(fields) = patch.as_object_mut()
        && let Some(metadata) = fields.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
    {
        metadata.insert("uid".to_owned(), json!(uid));
    }
    patch
}

/// A repair of what the lifecycle controller overwrote in a pod that the node did not touch.
pub fn pod_repair(local: &Value, cloud: &Value) -> Option<Value> {
    let mut patch = json!({});
    add_conditions(&mut patch, &TypeMeta::new("v1", "Pod"), local, cloud);
    Some(patch).filter(is_something)
}

fn add_conditions(patch: &mut Value, kind: &TypeMeta, local: &Value, cloud: &Value) {
    let owned: &[&str] = match kind.kind.as_str() {
        "Node" => &NODE_CONDITIONS,
        "Pod" => &POD_CONDITIONS,
        _ => &[],
    };
    for name in owned {
        let (Some(ours), theirs) = (condition(local, name), condition(cloud, name)) else { continue };
        let differs = theirs.is_none_or(|t| t.get("status") != ours.get("status"));
        if differs {
            put_condition(patch, name, ours.clone());
        }
    }
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|c| c.get("type").and_then(Value::as_str) == Some(name) && c.get("$patch").is_none())
}

/// Puts the whole condition into the patch, in place of what the node changed of it: that may be less than
/// what the cloud has otherwise.
fn put_condition(patch: &mut Value, name: &str, condition: Value) {
    let Some(fields) = patch.as_object_mut() else { return };
    let status = fields.entry("status").or_insert_with(|| Value::Object(Map::new()));
    let Some(status) = status.as_object_mut() else { return };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|c| c.get("type").and_then(Value::as_str) != Some(name));
        list.push(condition);
    }
}

fn is_something(patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => fields.values().any(is_something),
        Value::Null => true,
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: &str, phase: &str, more: Option<Value>) -> Value {
        let mut conditions = vec![json!({"type": "Ready", "status": ready})];
        conditions.extend(more);
        json!({"metadata": {"uid": "u"}, "status": {"phase": phase, "conditions": conditions}})
    }

    fn kind() -> TypeMeta {
        TypeMeta::new("v1", "Pod")
    }

    #[test]
    fn only_what_the_node_changed_is_sent() {
        let base = pod("True", "Running", None);
        let local = pod("True", "Succeeded", None);
        let patch = status_patch(&kind(), &base, &local, &base).unwrap();
        assert_eq!(patch, json!({"status": {"phase": "Succeeded"}}));
        assert_eq!(status_patch(&kind(), &base, &local, &local), None);
    }

    #[test]
    fn readiness_that_the_cloud_took_away_comes_back() {
        let base = pod("True", "Running", None);
        let cloud = pod("False", "Running", Some(json!({"type": "DisruptionTarget", "status": "True"})));
        let patch = status_patch(&kind(), &base, &base, &cloud).unwrap();
        assert_eq!(patch, json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        assert_eq!(pod_repair(&base, &cloud), Some(patch));
        assert_eq!(pod_repair(&base, &base), None);
    }

    #[test]
    fn a_heartbeat_does_not_hide_that_the_cloud_gave_the_node_up() {
        let node = |ready: &str, beat: u32| json!({"status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": beat}]}});
        let (base, local, cloud) = (node("True", 1), node("True", 2), node("Unknown", 1));
        let patch = status_patch(&TypeMeta::new("v1", "Node"), &base, &local, &cloud).unwrap();
        assert_eq!(patch, local);
        let heartbeat = status_patch(&TypeMeta::new("v1", "Node"), &base, &local, &base).unwrap();
        assert_eq!(heartbeat, json!({"status": {"conditions": [{"type": "Ready", "lastHeartbeatTime": 2}]}}));
    }

    #[test]
    fn a_creation_carries_nothing_that_the_apiserver_gives() {
        let local = json!({
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "creationTimestamp": "t"},
            "spec": {}, "status": {"phase": "Running"}
        });
        assert_eq!(creation(&local), json!({"metadata": {"name": "a"}, "spec": {}}));
    }

    #[test]
    fn the_main_patch_is_without_status_and_versions() {
        let base = json!({"metadata": {"name": "n", "resourceVersion": "1"}, "status": {"a": 1}});
        let mut local = base.clone();
        local["metadata"]["resourceVersion"] = json!("2");
        local["status"]["a"] = json!(2);
        let node = TypeMeta::new("v1", "Node");
        assert_eq!(main_patch(&node, &base, &local), None);
        local["metadata"]["labels"] = json!({"zone": "a"});
        assert_eq!(main_patch(&node, &base, &local).unwrap()["metadata"]["labels"]["zone"], "a");
    }
}
