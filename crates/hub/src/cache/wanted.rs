//! What a boot of the node without the cloud would ask for, as its pods say: found by `autonomy`, spared by whatever
//! makes room.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::request::ResourceRequest;
use yurt_api::resource::Resource;
use yurt_store::TokenUse;

use super::filter::cover;

/// What would be asked for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The lists that a kubelet begins with.
    pub lists: Vec<ResourceRequest>,
    /// The objects that the node's pods need.
    pub objects: BTreeSet<(Resource, ObjectKey)>,
    /// The uids of the node's pods.
    pub pods: BTreeSet<String>,
}

impl Wanted {
    /// Whether this collection holds, or would hold, any of it.
    pub fn is_in(&self, key: &CollectionKey) -> bool {
        let holds = |name: &ObjectKey| {
            key.namespace.as_ref().is_none_or(|n| *n == name.namespace)
                && (key.fields.is_empty() || key.fields == format!("metadata.name={}", name.name))
        };
        self.lists.iter().any(|list| cover(key, list).is_some())
            || self.objects.iter().any(|(resource, name)| *resource == key.resource && holds(name))
    }

    /// Who needs the token that the answer to a TokenRequest holds: the pod that it is bound to
    /// (`authentication.k8s.io/v1`, `TokenRequestSpec`).
    pub fn of_token(&self, answer: &[u8]) -> TokenUse {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Bound {
            kind: String,
            uid: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Spec {
            bound_object_ref: Option<Bound>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Answer {
            spec: Spec,
        }
        let answer: Answer = serde_json::from_slice(answer).unwrap_or_default();
        match answer.spec.bound_object_ref.filter(|bound| bound.kind == "Pod" && !bound.uid.is_empty()) {
            Some(pod) if self.pods.contains(&pod.uid) => TokenUse::Needed,
            Some(_) => TokenUse::Gone,
            None => TokenUse::Unknown,
        }
    }
}

/// The last that was found.
#[derive(Default)]
pub struct Needed(Mutex<Option<Arc<Wanted>>>);

impl Needed {
    /// What was found last; `None` while the node's pods are not known.
    pub fn now(&self) -> Option<Arc<Wanted>> {
        self.lock().clone()
    }

    /// This was found.
    pub fn put(&self, wanted: Wanted) {
        *self.lock() = Some(Arc::new(wanted));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Wanted>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_of_the_pod_that_it_is_bound_to() {
        let wanted = Wanted { pods: ["here".to_owned()].into(), ..Wanted::default() };
        let bound = |kind: &str, uid: &str| json!({"spec": {"boundObjectRef": {"kind": kind, "uid": uid}}});
        let cases = [
            (bound("Pod", "here"), TokenUse::Needed),
            (bound("Pod", "was-here"), TokenUse::Gone),
            (bound("Secret", "x"), TokenUse::Unknown),
            (bound("Pod", ""), TokenUse::Unknown),
            (json!({"spec": {"audiences": ["a"], "boundObjectRef": null}}), TokenUse::Unknown),
        ];
        for (answer, expected) in cases {
            assert_eq!(wanted.of_token(answer.to_string().as_bytes()), expected, "{answer}");
        }
    }
}
