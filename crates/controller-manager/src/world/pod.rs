//! What is remembered of a pod: what decisions need, and not more.

use std::collections::HashSet;
use std::sync::Arc;

use crate::clock;
use crate::names::{
    CONTAINERS_READY, DISRUPTION_TARGET, MIRROR, ORIGINAL_NOT_READY, ORIGINAL_UNREACHABLE, POD_SCHEDULED,
    PROTECTED_UNTIL, READY, REFUSED_DISRUPTIONS,
};
use crate::nodes::protect::EMPTIED;
use crate::wire::{self, Condition, Toleration, condition, text};

/// A pod on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its uid.
    pub uid: Box<str>,
    /// Its resourceVersion.
    pub version: Box<str>,
    /// Its tolerations; pods share equal lists.
    pub tolerations: Arc<[Toleration]>,
    /// What its annotations say of this program's work; most pods have none.
    pub notes: Option<Box<Notes>>,
    /// Belongs to a DaemonSet, or is the mirror of a static pod: it is never evicted.
    pub stays: bool,
    /// Has a deletionTimestamp.
    pub terminating: bool,
    /// Its phase is Succeeded or Failed.
    pub finished: bool,
    /// Its condition Ready is False although its containers and gates are ready.
    pub flipped: bool,
    /// Its condition DisruptionTarget announces a deletion that is refused while it is protected.
    pub disrupted: bool,
    /// This program has announced that it will delete it.
    pub announced: bool,
    /// Since when it is on its node, on the cluster's clock (Unix seconds); 0 when that is not said.
    pub bound: i64,
    /// When it was last listed; for what a new list does not have.
    pub(crate) listing: u32,
}

/// Annotations of a pod that are this program's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// [`PROTECTED_UNTIL`].
    pub until: Option<Box<str>>,
    /// [`ORIGINAL_NOT_READY`].
    pub not_ready: Option<Box<str>>,
    /// [`ORIGINAL_UNREACHABLE`].
    pub unreachable: Option<Box<str>>,
}

impl Pod {
    /// The mark.
    pub fn until(&self) -> Option<&str> {
        self.notes.as_ref()?.until.as_deref()
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Shares what many pods have in common.
#[derive(Debug, Default)]
pub struct Shared {
    names: HashSet<Arc<str>>,
    tolerations: HashSet<Arc<[Toleration]>>,
}

/// Lists of tolerations that are remembered for sharing; with more different ones the rest is not shared.
const SHARED_LISTS: usize = 4_096;

impl Shared {
    /// The one copy of a name.
    pub fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }

    /// Drops what nobody uses any more.
    pub fn tidy(&mut self) {
        self.names.retain(|n| Arc::strong_count(n) > 1);
        self.tolerations.retain(|t| Arc::strong_count(t) > 1);
    }

    fn tolerations(&mut self, list: Vec<Toleration>) -> Arc<[Toleration]> {
        if let Some(known) = self.tolerations.get(list.as_slice()) {
            return known.clone();
        }
        let list: Arc<[Toleration]> = list.into();
        if self.tolerations.len() < SHARED_LISTS {
            self.tolerations.insert(list.clone());
        }
        list
    }

    /// What is remembered of `pod`.
    pub fn pod(&mut self, pod: wire::Pod, listing: u32) -> Pod {
        let meta = &pod.metadata;
        let daemon = meta.owner_references.iter().flatten().any(|o| o.kind == "DaemonSet");
        let conditions = &pod.status.conditions;
        let disruption = condition(conditions, DISRUPTION_TARGET).filter(|c| c.status == "True");
        let refused = |c: &Condition| c.reason.as_deref().is_some_and(|r| REFUSED_DISRUPTIONS.contains(&r));
        Pod {
            namespace: self.name(meta.namespace.as_deref().unwrap_or_default()),
            name: boxed(meta.name.as_deref()),
            uid: boxed(meta.uid.as_deref()),
            version: boxed(meta.resource_version.as_deref()),
            notes: notes(&pod),
            stays: daemon || text(&meta.annotations, MIRROR).is_some(),
            terminating: meta.deletion_timestamp.is_some(),
            finished: ["Succeeded", "Failed"].contains(&pod.status.phase.as_str()),
            flipped: condition(conditions, READY).is_some_and(|c| c.status == "False") && works(&pod),
            disrupted: disruption.is_some_and(refused),
            announced: disruption.is_some_and(|c| c.reason.as_deref() == Some(EMPTIED)),
            bound: bound(&pod),
            listing,
            tolerations: self.tolerations(pod.spec.tolerations),
        }
    }
}

fn boxed(text: Option<&str>) -> Box<str> {
    text.unwrap_or_default().into()
}

/// The binding sets PodScheduled (pkg/registry/core/pod/storage, `assignPod`); a pod that was made on its node has its
/// creation alone.
fn bound(pod: &wire::Pod) -> i64 {
    let scheduled = condition(&pod.status.conditions, POD_SCHEDULED).filter(|c| c.status == "True");
    let scheduled = scheduled.and_then(|c| clock::parse_rfc3339(c.last_transition_time.as_deref()?));
    let created = pod.metadata.creation_timestamp.as_ref().map(|at| at.0.as_second());
    scheduled.or(created).unwrap_or_default()
}

fn notes(pod: &wire::Pod) -> Option<Box<Notes>> {
    let get = |key: &str| text(&pod.metadata.annotations, key).map(Box::from);
    let notes = Notes {
        until: get(PROTECTED_UNTIL),
        not_ready: get(ORIGINAL_NOT_READY),
        unreachable: get(ORIGINAL_UNREACHABLE),
    };
    (notes != Notes::default()).then(|| Box::new(notes))
}

/// Whether the kubelet's last word is that the pod is ready: running, every container and side-car ready, every gate
/// true (pkg/kubelet/status/generate.go, `GeneratePodReadyCondition`).
fn works(pod: &wire::Pod) -> bool {
    let (spec, status) = (&pod.spec, &pod.status);
    let sidecar = |name: &str| {
        spec.init_containers.iter().any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    let gate = |kind: &str| condition(&status.conditions, kind).is_some_and(|c| c.status == "True");
    // No side but the kubelet writes this one; it knows of containers that have no status yet.
    let containers = condition(&status.conditions, CONTAINERS_READY).is_none_or(|c| c.status == "True");
    status.phase == "Running"
        && containers
        && !status.container_statuses.is_empty()
        && status.container_statuses.iter().all(|c| c.ready)
        && status.init_container_statuses.iter().filter(|c| sidecar(&c.name)).all(|c| c.ready)
        && spec.readiness_gates.iter().all(|g| gate(&g.condition_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Pod {
        Shared::default().pod(serde_json::from_value(value).unwrap(), 0)
    }

    fn running(ready: &str, containers: Value) -> Value {
        json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7"},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": null}],
                "containerStatuses": containers,
            },
        })
    }

    #[test]
    fn a_flipped_pod_is_one_whose_containers_are_ready() {
        let ready = json!([{"name": "c", "ready": true}]);
        let crashing = json!([{"name": "c", "ready": true}, {"name": "d", "ready": false}]);
        let table = [
            (running("False", ready.clone()), true),
            (running("True", ready.clone()), false),
            (running("False", crashing), false),
            (running("False", json!([])), false),
        ];
        for (pod, flipped) in table {
            assert_eq!(read(pod.clone()).flipped, flipped, "{pod}");
        }
        let mut partly = running("False", ready.clone());
        let condition = json!({"type": "ContainersReady", "status": "False"});
        partly["status"]["conditions"].as_array_mut().unwrap().push(condition);
        assert!(!read(partly).flipped, "a container without a status yet");
        let mut gated = running("False", ready.clone());
        gated["spec"]["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
        assert!(!read(gated.clone()).flipped, "a gate that nobody opened");
        let gate = json!({"type": "example.com/gate", "status": "True"});
        gated["status"]["conditions"].as_array_mut().unwrap().push(gate);
        assert!(read(gated).flipped);
        let mut pending = running("False", ready.clone());
        pending["status"]["phase"] = "Pending".into();
        assert!(!read(pending).flipped);
        let mut sidecar = running("False", ready);
        sidecar["spec"]["initContainers"] =
            json!([{"name": "s", "restartPolicy": "Always"}, {"name": "once"}]);
        sidecar["status"]["initContainerStatuses"] =
            json!([{"name": "s", "ready": false}, {"name": "once", "ready": false}]);
        assert!(!read(sidecar.clone()).flipped);
        sidecar["status"]["initContainerStatuses"][0]["ready"] = true.into();
        assert!(read(sidecar).flipped);
    }

    #[test]
    fn what_is_not_ours_to_evict_is_known() {
        let mut pod = running("True", json!([]));
        assert!(!read(pod.clone()).stays);
        pod["metadata"]["annotations"] = json!({MIRROR: "hash", PROTECTED_UNTIL: "never"});
        assert!(read(pod.clone()).stays);
        assert_eq!(read(pod.clone()).until(), Some("never"));
        pod["metadata"]["annotations"] = json!(null);
        pod["metadata"]["ownerReferences"] =
            json!([{"kind": "DaemonSet", "name": "d", "uid": "x", "apiVersion": "apps/v1"}]);
        assert!(read(pod).stays);
    }

    #[test]
    fn only_refused_disruptions_count() {
        for (reason, counts) in [("DeletionByTaintManager", true), ("PreemptionByScheduler", false)] {
            let mut pod = running("True", json!([]));
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason});
            pod["status"]["conditions"].as_array_mut().unwrap().push(condition);
            assert_eq!(read(pod).disrupted, counts, "{reason}");
        }
    }

    #[test]
    fn a_pod_is_on_its_node_since_it_was_bound_or_else_made() {
        let mut pod = running("True", json!([]));
        assert_eq!(read(pod.clone()).bound, 0);
        pod["metadata"]["creationTimestamp"] = "2023-11-14T22:13:20Z".into();
        assert_eq!(read(pod.clone()).bound, 1_700_000_000);
        let mut scheduled =
            json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "2023-11-14T22:13:30Z"});
        pod["status"]["conditions"] = json!([scheduled]);
        assert_eq!(read(pod.clone()).bound, 1_700_000_010);
        scheduled["status"] = "False".into();
        pod["status"]["conditions"] = json!([scheduled]);
        assert_eq!(read(pod).bound, 1_700_000_000, "it waited for a node then");
    }

    #[test]
    fn equal_lists_are_one() {
        let mut shared = Shared::default();
        let mut pod = || shared.pod(serde_json::from_value(running("True", json!([]))).unwrap(), 0);
        let (a, b) = (pod(), pod());
        assert!(Arc::ptr_eq(&a.tolerations, &b.tolerations) && Arc::ptr_eq(&a.namespace, &b.namespace));
        drop((a, b));
        shared.tidy();
        assert!(shared.names.is_empty() && shared.tolerations.is_empty());
    }
}
