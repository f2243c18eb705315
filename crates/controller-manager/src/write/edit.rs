//! What a controller wants to write: patches of single fields, bound to the state that was decided on.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::wire::{Condition, Taint, Toleration};

/// Changes of an object's metadata and spec, collected from all controllers, written as one merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Labels to set; `None` takes one away.
    pub labels: BTreeMap<String, Option<String>>,
    /// Annotations, likewise.
    pub annotations: BTreeMap<String, Option<String>>,
    /// The whole list of a pod's tolerations.
    pub tolerations: Option<Vec<Toleration>>,
    /// The whole list of a node's taints.
    pub taints: Option<Vec<Taint>>,
}

impl Edit {
    /// Sets an annotation, or takes it away.
    pub fn annotate(&mut self, key: &str, value: Option<String>) {
        self.annotations.insert(key.to_owned(), value);
    }

    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The patch (RFC 7386), with the uid and version that it is bound to.
    pub fn patch(&self, uid: &str, version: &str) -> Value {
        let mut metadata = bound(uid, version);
        for (field, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !map.is_empty() {
                metadata.insert(field.to_owned(), json!(map));
            }
        }
        let mut patch = json!({"metadata": metadata});
        if let Some(tolerations) = &self.tolerations {
            patch["spec"]["tolerations"] = json!(tolerations);
        }
        if let Some(taints) = &self.taints {
            patch["spec"]["taints"] = json!(taints);
        }
        patch
    }
}

/// Changes of conditions, written as one strategic merge patch of the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Set to this.
    pub set: Vec<Condition>,
    /// Taken away, by type.
    pub gone: Vec<&'static str>,
}

impl Conditions {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The patch; a time that is not given is that of sending. Conditions are merged by their type (`patchMergeKey` of core/v1).
    pub fn patch(&self, uid: &str, version: &str) -> Value {
        let set = self.set.iter().map(|c| {
            json!({
                "type": c.kind, "status": c.status, "reason": c.reason, "message": c.message,
                "lastTransitionTime": c.last_transition_time,
            })
        });
        let gone = self.gone.iter().map(|kind| json!({"type": kind, "$patch": "delete"}));
        let conditions: Vec<Value> = set.chain(gone).collect();
        json!({"metadata": bound(uid, version), "status": {"conditions": conditions}})
    }
}

fn bound(uid: &str, version: &str) -> Map<String, Value> {
    let fields = [("uid", uid), ("resourceVersion", version)];
    fields.into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_name_only_what_changes() {
        let mut edit = Edit::default();
        assert!(edit.is_empty());
        edit.annotate("a", Some("1".into()));
        edit.annotate("b", None);
        let expected = json!({
            "metadata": {"uid": "u", "resourceVersion": "7", "annotations": {"a": "1", "b": null}},
        });
        assert_eq!(edit.patch("u", "7"), expected);
        let conditions = Conditions { set: Vec::new(), gone: vec!["X"] };
        let expected = json!([{"type": "X", "$patch": "delete"}]);
        assert_eq!(conditions.patch("u", "7")["status"]["conditions"], expected);
    }
}
