//! What a cluster has to be given, made from the code: the CRD from its types, the rights from the controllers' table,
//! the admission policy from the names that the controllers use. `examples/manifests.rs` writes them into `deploy/`, and
//! a test holds them equal.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::controllers;
use crate::names::{EVICTERS, PROTECTED_UNTIL};
use crate::pool::NodePool;
use crate::rights::{self, Place, Right};

/// Name of every object of this program.
const NAME: &str = "yurt-controller-manager";
/// Its namespace, unless kustomize says otherwise.
const NAMESPACE: &str = "kube-system";
/// Name of the admission policy and its binding.
pub const POLICY: &str = "yurt-protected-pods";

/// Every file of `deploy/`, with its documents.
pub fn files() -> Vec<(&'static str, Vec<Value>)> {
    let resources = ["crd.yaml", "rbac.yaml", "policy.yaml", "deployment.yaml"];
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    });
    vec![
        ("crd.yaml", vec![crd()]),
        ("rbac.yaml", rbac()),
        ("policy.yaml", policy()),
        ("deployment.yaml", deployment()),
        ("kustomization.yaml", vec![kustomization]),
    ]
}

/// Versions of OpenYurt's CRD before this one. What they have is a part of this one (but for the `selector` of v1alpha1,
/// which says what the pool's label says), so objects that were stored in them are read as they are.
const OLDER: [&str; 2] = ["v1alpha1", "v1beta1"];

/// Values of labels and taints (k8s.io/apimachinery/pkg/util/validation, `IsValidLabelValue`).
const VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// Keys of them (`IsQualifiedName`).
const KEY: &str = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";

fn crd() -> Value {
    let mut crd = json!(NodePool::crd());
    let mut newest = crd["spec"]["versions"][0].clone();
    check_attributes(&mut newest["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]);
    let older = OLDER.map(|name| {
        let mut version = newest.clone();
        version["name"] = name.into();
        version["storage"] = false.into();
        version["deprecated"] = true.into();
        version
    });
    crd["spec"]["versions"] = older.into_iter().chain([newest]).collect();
    crd["spec"]["conversion"] = json!({"strategy": "None"});
    crd
}

/// What the nodes of a pool could not be given is refused when somebody writes it into the pool.
fn check_attributes(spec: &mut Value) {
    let value = json!({"type": "string", "maxLength": 63, "pattern": VALUE});
    spec["labels"]["additionalProperties"] = value.clone();
    let taints = &mut spec["taints"];
    taints["x-kubernetes-list-type"] = "map".into();
    taints["x-kubernetes-list-map-keys"] = json!(["key", "effect"]);
    let fields = &mut taints["items"]["properties"];
    for (key, rule) in value.as_object().into_iter().flatten() {
        fields["value"][key] = rule.clone();
    }
    fields["key"]["maxLength"] = 317.into();
    fields["key"]["pattern"] = KEY.into();
    fields["effect"]["enum"] = json!(["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// A pod's deletion is refused when its mark says that it is protected and an evicting controller asks for it; users,
/// owners and this program itself are never refused. What cannot be evaluated is let through.
fn policy() -> Vec<Value> {
    let evicters: Vec<String> = EVICTERS.iter().map(|name| format!("'{name}'")).collect();
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"]},
            ]},
            "matchConditions": [
                {"name": "evicting-controller",
                 "expression": format!("request.userInfo.username in [{}]", evicters.join(", "))},
                {"name": "protected-pod",
                 "expression": format!(
                     "oldObject != null && has(oldObject.metadata.annotations) && '{PROTECTED_UNTIL}' in oldObject.metadata.annotations"
                 )},
            ],
            "validations": [{
                "expression": "false",
                "messageExpression": format!(
                    "'the node of this pod is disconnected, the pod is protected until ' + oldObject.metadata.annotations['{PROTECTED_UNTIL}']"
                ),
                "reason": "Forbidden",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    });
    vec![policy, binding]
}

fn rbac() -> Vec<Value> {
    let rights = rights::of(controllers::TABLE.iter());
    let mut all = vec![json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE},
    })];
    let mut places: Vec<Place> = Vec::new();
    for right in &rights {
        if !places.contains(&right.place) {
            places.push(right.place);
        }
    }
    places.sort_by_key(|place| *place != Place::Cluster);
    for place in places {
        let rules: Vec<Value> = rights.iter().filter(|r| r.place == place).map(rule).collect();
        all.extend(role(place, &rules));
    }
    all
}

fn rule(right: &Right) -> Value {
    let mut rule = json!({"apiGroups": [right.group], "resources": [right.resource], "verbs": right.verbs});
    if !right.names.is_empty() {
        rule["resourceNames"] = json!(right.names);
    }
    rule
}

/// A role at a place, and its binding.
fn role(place: Place, rules: &[Value]) -> [Value; 2] {
    let (kind, namespace) = match place {
        Place::Cluster => ("ClusterRole", None),
        Place::Own => ("Role", Some(NAMESPACE)),
        Place::Namespace(name) => ("Role", Some(name)),
    };
    let mut metadata = json!({"name": NAME});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    let group = "rbac.authorization.k8s.io";
    let api_version = format!("{group}/v1");
    [
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": api_version,
            "kind": format!("{kind}Binding"),
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": kind, "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
        }),
    ]
}

fn deployment() -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": NAME});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "health"}, "periodSeconds": 10});
    let container = json!({
        "name": NAME,
        "image": NAME,
        "args": ["--leader-elect", format!("--namespace=$(NAMESPACE)")],
        "env": [{"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "ports": [{"name": "health", "containerPort": 10271}],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "resources": {"requests": {"cpu": "50m", "memory": "48Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    let control_plane = "node-role.kubernetes.io/control-plane";
    let preference = json!({
        "weight": 100,
        "preference": {"matchExpressions": [{"key": control_plane, "operator": "Exists"}]},
    });
    let apart = json!({
        "weight": 100,
        "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}},
    });
    let spec = json!({
        "serviceAccountName": NAME,
        "priorityClassName": "system-cluster-critical",
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        // Beside the control plane, where nodes of it are: on a node that is cut off it would have to judge its own
        // silence. A managed cluster shows none, and has to have it all the same.
        "affinity": {
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]},
        },
        "tolerations": [{"key": control_plane, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
    });
    vec![json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })]
}
