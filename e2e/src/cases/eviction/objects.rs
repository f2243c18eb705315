//! The objects of a wave: nodes, what runs on them, and the Services that lead to it.

use super::plan::{OWN_TOLERATION, TOLERATION, Workload};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The namespace of the matrix.
pub const NAMESPACE: &str = "matrix";
/// The label of nodes and pods that says to which group they belong.
pub const GROUP: &str = "e2e.yurt/group";
/// The pods' label that says what they are.
pub const WORKLOAD: &str = "e2e.yurt/workload";
/// The nodes' label that says to which wave they belong.
pub const WAVE: &str = "e2e.yurt/wave";
/// The nodes' label that makes them members of a pool.
pub const POOL: &str = "apps.openyurt.io/nodepool";
/// The nodes' annotation that makes them autonomous.
pub const AUTONOMY: &str = "node.openyurt.io/autonomy-duration";
/// The pods' annotation that says what their container does: `unready` or `crashing`; none: it runs well.
pub const BEHAVIOUR: &str = "e2e.yurt/behaviour";
/// The taint that keeps everybody else's pods from the simulated nodes.
const TAINT: &str = "e2e.yurt/matrix";

/// A node to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its group, which pods select.
    pub group: String,
    /// Its wave, by which it is removed.
    pub wave: String,
    /// Its pool, if it is in one.
    pub pool: Option<String>,
    /// The value of its autonomy annotation, if it has one.
    pub autonomy: Option<String>,
}

impl NodeSpec {
    /// The node as a kubelet registers it.
    pub fn object(&self) -> Value {
        let mut labels = BTreeMap::from([
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            (GROUP, &self.group),
            (WAVE, &self.wave),
        ]);
        labels.extend(self.pool.as_deref().map(|pool| (POOL, pool)));
        let annotations: BTreeMap<_, _> = self.autonomy.iter().map(|value| (AUTONOMY, value)).collect();
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": labels, "annotations": annotations},
            "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]},
        })
    }
}

/// A pod of a group: not owned by anybody, tolerating a silent node for so long.
pub fn pod(name: &str, group: &str, workload: &str, tolerates: Duration) -> Value {
    let template = template(group, workload, tolerates);
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]});
    pod["metadata"] = json!({"name": name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]});
    pod
}

/// The same, bound to a node from its beginning.
pub fn bound(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeName"] = node.into();
    pod
}

/// The pod that is bound to the silent node of a group.
pub fn during(group: &str, node: &str) -> Value {
    bound(pod(&format!("{group}-during"), group, label(Workload::During), TOLERATION), node)
}

/// Everything that runs in a group before its outage: path of the collection, object.
pub fn workloads(group: &str, replicas: usize) -> Vec<(String, Value)> {
    vec![
        (path("v1", "services"), service(group)),
        (path("apps/v1", "deployments"), deployment(group, replicas)),
        (path("apps/v1", "statefulsets"), stateful_set(group)),
        (path("v1", "pods"), pod(&format!("{group}-bare"), group, label(Workload::Bare), OWN_TOLERATION)),
    ]
}

/// A Deployment of a group.
pub fn deployment(group: &str, replicas: usize) -> Value {
    let mut object = owner("Deployment", group, Workload::Deployment, replicas);
    // A pod of an old template goes first, wherever its node is.
    object["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}});
    object
}

/// The label of a workload's pods.
pub fn label(workload: Workload) -> &'static str {
    match workload {
        Workload::Deployment => "deployment",
        Workload::StatefulSet => "statefulset",
        Workload::Bare => "bare",
        Workload::During => "during",
    }
}

/// The path of a namespaced collection, or of an object in it when `resource` is `<resource>/<name>`.
pub fn path(version: &str, resource: &str) -> String {
    let root = if version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{version}/namespaces/{NAMESPACE}/{resource}")
}

/// The Service that selects all pods of a group.
pub fn service(group: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": group, "namespace": NAMESPACE},
        "spec": {"selector": {GROUP: group}, "ports": [{"port": 80}]},
    })
}

fn stateful_set(group: &str) -> Value {
    let mut object = owner("StatefulSet", group, Workload::StatefulSet, 1);
    object["spec"]["serviceName"] = group.into();
    object
}

fn owner(kind: &str, group: &str, workload: Workload, replicas: usize) -> Value {
    let label = label(workload);
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": format!("{group}-{label}"), "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {GROUP: group, WORKLOAD: label}},
            "template": template(group, label, TOLERATION),
        },
    })
}

fn template(group: &str, workload: &str, tolerates: Duration) -> Value {
    let silent = |condition: &str| {
        json!({
            "key": format!("node.kubernetes.io/{condition}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": tolerates.as_secs(),
        })
    };
    json!({
        "metadata": {"labels": {GROUP: group, WORKLOAD: workload}},
        "spec": {
            "nodeSelector": {GROUP: group},
            "tolerations": [
                silent("not-ready"),
                silent("unreachable"),
                {"key": TAINT, "operator": "Exists", "effect": "NoSchedule"},
            ],
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "containers": [{"name": "it", "image": "simulated"}],
        },
    })
}
