//! Pure parts of a local write: what an object becomes, and which objects are the node's.

use serde_json::{Map, Value};
use yurt_api::patch::{self, PatchType};
use yurt_api::proto;
use yurt_api::resource::TypeMeta;

/// Marks a pod that mirrors a static one (`pkg/kubelet/types/pod_update.go`).
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// What no write changes.
const IDENTITY: [&str; 7] =
    ["name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "generation"];

/// Why a change cannot be made to the object that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The body is not what it should be.
    Bad(String),
    /// It is about another object, or about another version of it.
    Conflict(String),
    /// The cloud would refuse it to a node.
    Forbidden(String),
    /// The patch cannot be applied: the code and words of the apiserver.
    Patch(u16, String),
}

/// What a client wants to become of an object.
pub enum Change<'a> {
    /// A patch.
    Patch(PatchType, &'a Value),
    /// The whole object.
    Replace(&'a Value),
}

/// The object after the change; of a status only `status` and metadata change, of the rest never the
/// status, and never what identifies it (`pkg/registry/core/{node,pod}/strategy.go`).
pub fn changed(
    kind: &TypeMeta,
    current: &Value,
    change: Change<'_>,
    status: bool,
) -> Result<Value, Mismatch> {
    let mut after = match change {
        Change::Patch(how, patch) => {
            same_object(current, patch)?;
            patch::apply(how, kind, current, patch).map_err(refused)?
        }
        Change::Replace(object) => {
            same_object(current, object)?;
            object.clone()
        }
    };
    same_place(current, &after)?;
    let Some(fields) = after.as_object_mut() else {
        return Err(Mismatch::Bad("the result is not an object".to_owned()));
    };
    for field in ["apiVersion", "kind", if status { "spec" } else { "status" }] {
        keep(fields, current, field);
    }
    let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut);
    let metadata = metadata.ok_or_else(|| Mismatch::Bad("metadata is not an object".to_owned()))?;
    let held = current.get("metadata").unwrap_or(&Value::Null);
    for field in IDENTITY {
        keep(metadata, held, field);
    }
    if status && kind.kind == "Pod" {
        pod_status(metadata, held)?;
    }
    shaped(kind, &after)?;
    Ok(after)
}

/// What the status of a pod never changes of the pod (`pkg/registry/core/pod/strategy.go`), and what a node may not change
/// with it (`plugin/pkg/admission/noderestriction/admission.go`).
fn pod_status(metadata: &mut Map<String, Value>, held: &Value) -> Result<(), Mismatch> {
    keep(metadata, held, "ownerReferences");
    let labels = |of: Option<&Value>| of.and_then(Value::as_object).cloned().unwrap_or_default();
    if labels(metadata.get("labels")) != labels(held.get("labels")) {
        let why = "a node cannot update labels through the status of a pod";
        return Err(Mismatch::Forbidden(why.to_owned()));
    }
    Ok(())
}

/// An object of a built-in kind has the fields of the kind, as the apiserver would read them: what is kept must be
/// readable in every encoding, and what the cloud could never take is refused now.
pub fn shaped(kind: &TypeMeta, object: &Value) -> Result<(), Mismatch> {
    if !proto::knows(kind) {
        return Ok(());
    }
    let read = proto::from_json(kind, object.to_string().as_bytes());
    read.map(drop).map_err(|e| Mismatch::Bad(format!("the object cannot be read as a {}: {e}", kind.kind)))
}

fn keep(fields: &mut Map<String, Value>, from: &Value, name: &str) {
    match from.get(name) {
        Some(value) => fields.insert(name.to_owned(), value.clone()),
        None => fields.remove(name),
    };
}

/// A change may name the uid and the version that it was made for.
fn same_object(current: &Value, change: &Value) -> Result<(), Mismatch> {
    for field in ["uid", "resourceVersion"] {
        let at = format!("/metadata/{field}");
        let wanted = change.pointer(&at).and_then(Value::as_str).filter(|w| !w.is_empty());
        let held = current.pointer(&at).and_then(Value::as_str);
        if wanted.is_some() && wanted != held {
            return Err(Mismatch::Conflict(format!(
                "the {field} is {}, not {}",
                held.unwrap_or("missing"),
                wanted.unwrap_or_default()
            )));
        }
    }
    Ok(())
}

/// What a change makes of an object is still that object (`checkName` of
/// `k8s.io/apiserver/pkg/endpoints/handlers/rest.go`, and its decoder for the kind).
fn same_place(current: &Value, after: &Value) -> Result<(), Mismatch> {
    let places = [
        ("/kind", "kind", "kind of the request"),
        ("/apiVersion", "apiVersion", "apiVersion of the request"),
        ("/metadata/name", "name", "name on the URL"),
        ("/metadata/namespace", "namespace", "namespace on the request"),
    ];
    for (at, field, place) in places {
        let text = |object: &Value| object.pointer(at)?.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        if let (Some(held), Some(said)) = (text(current), text(after))
            && held != said
        {
            let why = format!("the {field} of the object ({said}) does not match the {place} ({held})");
            return Err(Mismatch::Bad(why));
        }
    }
    Ok(())
}

/// Whether a deletion is for this object as it is (`k8s.io/apiserver/pkg/storage.Preconditions`); the error is why not.
pub fn preconditions(options: &Value, object: &Value) -> Result<(), String> {
    for (field, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = options.pointer(&format!("/preconditions/{field}")).and_then(Value::as_str);
        let held = object.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != held) {
            return Err(format!(
                "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {held}"
            ));
        }
    }
    Ok(())
}

fn refused(error: patch::PatchError) -> Mismatch {
    Mismatch::Patch(error.code(), error.to_string())
}

/// Whether the pod is bound to this node.
pub fn runs_on(pod: &Value, node_name: &str) -> bool {
    pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node_name)
}

/// The hash of the static pod that this pod mirrors.
pub fn mirror_hash(pod: &Value) -> Option<&str> {
    pod.pointer(MIRROR).and_then(Value::as_str)
}

/// Whether two objects are the same but for their versions.
pub fn same_content(a: &Value, b: &Value) -> bool {
    let strip = |v: &Value| {
        let mut v = v.clone();
        if let Some(metadata) = v.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        v
    };
    strip(a) == strip(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "d", "uid": "u1", "resourceVersion": "7"},
            "spec": {"nodeName": "edge-1"},
            "status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
        })
    }

    fn patched(patch: Value, status: bool) -> Result<Value, Mismatch> {
        changed(&TypeMeta::new("v1", "Pod"), &pod(), Change::Patch(PatchType::StrategicMerge, &patch), status)
    }

    #[test]
    fn a_status_patch_changes_the_status_and_nothing_else() {
        let after = patched(
            json!({
                "metadata": {"uid": "u1", "name": "a"},
                "spec": {"nodeName": "other"},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            }),
            true,
        )
        .unwrap();
        assert_eq!(after["status"]["phase"], "Running");
        assert_eq!(after["status"]["conditions"], json!([{"type": "Ready", "status": "True"}]));
        assert_eq!((&after["spec"], &after["metadata"]), (&pod()["spec"], &pod()["metadata"]));
    }

    #[test]
    fn another_patch_leaves_the_status() {
        let after =
            patched(json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}}), false)
                .unwrap();
        assert_eq!(after["metadata"]["labels"]["a"], "b");
        assert_eq!(after["status"], pod()["status"]);
    }

    #[test]
    fn a_change_for_another_object_or_version_is_a_conflict() {
        for metadata in [json!({"uid": "u2"}), json!({"uid": "u1", "resourceVersion": "6"})] {
            let refused = patched(json!({"metadata": metadata, "status": {}}), true);
            assert!(matches!(refused, Err(Mismatch::Conflict(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_change_makes_no_other_object() {
        for (field, value) in [
            ("kind", json!("Node")),
            ("apiVersion", json!("v2")),
            ("metadata", json!({"name": "b"})),
            ("metadata", json!({"name": "a", "namespace": "e"})),
        ] {
            for status in [true, false] {
                let refused = patched(json!({field: value}), status);
                assert!(matches!(refused, Err(Mismatch::Bad(_))), "{field}: {refused:?}");
            }
        }
    }

    #[test]
    fn what_is_no_pod_any_more_is_refused() {
        let whole =
            |object: &Value| changed(&TypeMeta::new("v1", "Pod"), &pod(), Change::Replace(object), true);
        assert_eq!(whole(&pod()), Ok(pod()));
        for (field, value) in [
            ("metadata", json!(null)),
            ("metadata", json!([])),
            ("status", json!([])),
            ("status", json!({"conditions": 7})),
        ] {
            let mut object = pod();
            object[field] = value;
            assert!(matches!(whole(&object), Err(Mismatch::Bad(_))), "{object}: {:?}", whole(&object));
        }
    }

    #[test]
    fn fields_that_are_newer_than_this_program_are_kept() {
        let mut newer = pod();
        newer["status"]["aFieldOfTomorrow"] = json!({"deep": [1, {"x": null}]});
        newer["status"]["conditions"][0]["another"] = json!(7);
        let after = changed(&TypeMeta::new("v1", "Pod"), &pod(), Change::Replace(&newer), true);
        assert_eq!(after, Ok(newer));
    }

    #[test]
    fn versions_do_not_make_a_difference() {
        let mut other = pod();
        other["metadata"]["resourceVersion"] = json!("8");
        assert!(same_content(&pod(), &other));
        other["status"]["phase"] = json!("Running");
        assert!(!same_content(&pod(), &other));
    }
}
