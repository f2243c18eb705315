//! delete and deletecollection: preconditions, grace periods, finalizers.
//! Source: k8s.io/apiserver/pkg/registry/rest/delete.go and pkg/registry/core/pod/strategy.go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    error::Refusal,
    object::{Key, Object},
    registry::Kind,
    request::Query,
    storage::Storage,
};

/// `DeleteOptions` from the body, the query filling in.
#[derive(Debug, Default)]
pub struct DeleteOptions {
    grace: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

/// What a deletion did.
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Object>),
    /// It is marked and waits for its grace period or finalizers.
    Marked(Arc<Object>),
}

impl DeleteOptions {
    /// Reads the options.
    pub fn of_request(body: &Value, query: &Query) -> Result<Self, Refusal> {
        let text = |path: &str| body.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let from_query = query.number("gracePeriodSeconds")?.and_then(|n| i64::try_from(n).ok());
        Ok(Self {
            grace: body["gracePeriodSeconds"].as_i64().or(from_query),
            uid: text("/preconditions/uid"),
            version: text("/preconditions/resourceVersion"),
            dry_run: query.get("dryRun") == "All" || body["dryRun"][0] == "All",
        })
    }
}

/// Deletes one object.
pub fn delete(
    storage: &mut Storage,
    kind: &Kind,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Deleted, Refusal> {
    let resource = kind.group_resource();
    let object = storage.get(&resource, key).cloned().ok_or_else(|| Refusal::not_found(kind, &key.name))?;
    check(kind, &object, options)?;
    if options.dry_run {
        return Ok(Deleted::Gone(object));
    }
    if resource == "namespaces" {
        empty_namespace(storage, &key.name);
    }
    let grace = grace(kind, &object, options);
    let finalizers = object.value()["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    if grace == 0 && !finalizers {
        return Ok(Deleted::Gone(storage.remove(&resource, key).unwrap_or(object)));
    }
    Ok(Deleted::Marked(mark(storage, &resource, &object, grace)))
}

/// The `Status` of a deletion that left nothing.
pub fn success(kind: &Kind, object: &Object) -> Value {
    let mut details = json!({"name": object.key.name});
    if !kind.group.is_empty() {
        details["group"] = kind.group.clone().into();
    }
    details["kind"] = kind.plural.clone().into();
    details["uid"] = object.uid().into();
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn check(kind: &Kind, object: &Object, options: &DeleteOptions) -> Result<(), Refusal> {
    let conflict = |what: &str, asked: &str, held: &str| {
        let why =
            format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {held}");
        Err(Refusal::conflict(kind, &object.key.name, &why))
    };
    if let Some(uid) = options.uid.as_deref().filter(|u| *u != object.uid()) {
        return conflict("UID", uid, object.uid());
    }
    let held = object.version.to_string();
    match options.version.as_deref().filter(|v| *v != held) {
        Some(version) => conflict("ResourceVersion", version, &held),
        None => Ok(()),
    }
}

fn grace(kind: &Kind, object: &Object, options: &DeleteOptions) -> i64 {
    let ended = matches!(object.text("/status/phase"), "Succeeded" | "Failed");
    if kind.group_resource() != "pods" || object.text("/spec/nodeName").is_empty() || ended {
        return 0;
    }
    let wanted = options
        .grace
        .or_else(|| object.value()["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(30);
    match object.value()["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        Some(running) => running.min(wanted),
        None => wanted,
    }
}

fn mark(storage: &mut Storage, resource: &str, object: &Arc<Object>, grace: i64) -> Arc<Object> {
    let metadata = &object.value()["metadata"];
    if metadata["deletionTimestamp"].is_string() && metadata["deletionGracePeriodSeconds"] == grace {
        return object.clone();
    }
    let mut value = object.value().clone();
    value["metadata"]["deletionTimestamp"] = super::timestamp(grace).into();
    value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    storage.put(resource, object.key.clone(), value)
}

/// Stands for the namespace controller.
fn empty_namespace(storage: &mut Storage, namespace: &str) {
    for (resource, key) in storage.keys_in(namespace) {
        storage.remove(&resource, &key);
    }
}
