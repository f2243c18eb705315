//! What the server fills in or takes away before an object is stored the first time.
//! Sources: pkg/apis/core/v1/defaults.go and the strategies in pkg/registry.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::registry::Kind;

/// Fills in the defaults of a new object and drops what a creator may not set.
pub fn on_create(kind: &Kind, object: &mut Value, number: u64) {
    if kind.status && !matches!(kind.plural.as_str(), "nodes" | "volumeattachments") {
        object.as_object_mut().expect("an object").shift_remove("status");
    }
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod(object),
        ("", "services") => service(object, number),
        ("", "secrets") => secret(object),
        ("", "namespaces") => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        _ => {}
    }
}

/// What holds for every write.
pub fn on_write(kind: &Kind, object: &mut Value) {
    if kind.group.is_empty() && kind.plural == "secrets" {
        secret(object);
    }
}

fn pod(pod: &mut Value) {
    let spec = &mut pod["spec"];
    fill(spec, "restartPolicy", "Always".into());
    fill(spec, "terminationGracePeriodSeconds", 30.into());
    fill(spec, "dnsPolicy", "ClusterFirst".into());
    fill(spec, "serviceAccountName", "default".into());
    let account = spec["serviceAccountName"].clone();
    fill(spec, "serviceAccount", account);
    fill(spec, "securityContext", json!({}));
    fill(spec, "priority", 0.into());
    fill(spec, "preemptionPolicy", "PreemptLowerPriority".into());
    fill(spec, "enableServiceLinks", true.into());
    let toleration = |taint: &str| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let taints = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    fill(spec, "tolerations", taints.map(toleration).to_vec().into());
    fill(spec, "schedulerName", "default-scheduler".into());
    pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
}

fn service(service: &mut Value, number: u64) {
    let spec = &mut service["spec"];
    fill(spec, "type", "ClusterIP".into());
    if spec["type"] != "ExternalName" {
        let address = format!("10.96.{}.{}", (number >> 8) & 0xff, number & 0xff);
        fill(spec, "clusterIP", address.into());
        let cluster_ip = spec["clusterIP"].clone();
        fill(spec, "clusterIPs", json!([cluster_ip]));
    }
    fill(spec, "sessionAffinity", "None".into());
    service["status"] = json!({"loadBalancer": {}});
}

fn secret(secret: &mut Value) {
    fill(secret, "type", "Opaque".into());
    let Some(Value::Object(plain)) = secret.as_object_mut().and_then(|s| s.shift_remove("stringData")) else {
        return;
    };
    for (name, value) in plain {
        secret["data"][name] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
    }
}

fn fill(object: &mut Value, field: &str, value: Value) {
    if object.get(field).is_none_or(|v| v.is_null() || v == "") {
        object[field] = value;
    }
}
