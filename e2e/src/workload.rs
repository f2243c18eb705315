//! What runs on the node: nine pods of a Deployment that use everything an API server gives a pod, and one
//! static pod.

use crate::image::WEB;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;

/// The namespace of everything that the cases create.
pub const NAMESPACE: &str = "edge";
/// Pods of the Deployment.
pub const REPLICAS: usize = 9;
/// All pods of the node: the Deployment's and the static one.
pub const PODS: usize = REPLICAS + 1;
/// The variable that comes from the ConfigMap.
pub const GREETING: &str = "GREETING=hello";
/// The Secret's content, at this path in the container.
pub const SECRET: (&str, &str) = ("/etc/secret/password", "correct horse");
/// The ServiceAccount that is bound to cluster-admin.
pub const OPERATOR: &str = "operator";
/// The projected token's path in the container.
pub const TOKEN: &str = "/var/run/tokens/vault";

/// The cloud's objects, as a list that kubectl applies.
pub fn objects() -> String {
    let [account, binding] = operator();
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        object("v1", "ConfigMap", "web", json!({"data": {"greeting": "hello"}})),
        object("v1", "Secret", "web", json!({"stringData": {"password": SECRET.1}})),
        object(
            "v1",
            "Service",
            "web",
            json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        ),
        deployment(),
        account,
        binding,
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// Writes the static pod for the kubelet.
pub fn write_static_pod(folder: &Path) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "static", "namespace": NAMESPACE},
        "spec": {"containers": [web()], "terminationGracePeriodSeconds": 1},
    });
    crate::files::write(&folder.join("static.json"), serde_json::to_vec_pretty(&pod)?)
}

/// A pod of its own, bound to the node, with `environment` from that ConfigMap if one is named.
pub fn bare_pod(name: &str, config_map: Option<&str>) -> Value {
    let mut container = web();
    if let Some(config_map) = config_map {
        container["envFrom"] = json!([{"configMapRef": {"name": config_map}}]);
    }
    let spec = json!({
        "nodeName": crate::container::NODE_NAME,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "tolerations": tolerations(),
    });
    object("v1", "Pod", name, json!({"spec": spec}))
}

/// An object of that kind in the cases' namespace.
pub fn object(version: &str, kind: &str, name: &str, content: Value) -> Value {
    let mut object = json!({
        "apiVersion": version, "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
    });
    if let (Some(object), Value::Object(content)) = (object.as_object_mut(), content) {
        object.extend(content);
    }
    object
}

fn deployment() -> Value {
    let mut container = web();
    container["env"] = json!([
        {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "greeting"}}},
    ]);
    container["volumeMounts"] = json!([
        {"name": "secret", "mountPath": "/etc/secret"},
        {"name": "token", "mountPath": "/var/run/tokens"},
    ]);
    let token =
        json!({"serviceAccountToken": {"audience": "vault", "expirationSeconds": 3600, "path": "vault"}});
    let spec = json!({
        "containers": [container],
        "volumes": [
            {"name": "secret", "secret": {"secretName": "web"}},
            {"name": "token", "projected": {"sources": [token]}},
        ],
        "terminationGracePeriodSeconds": 1,
        "tolerations": tolerations(),
    });
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
    let spec = json!({
        "replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}}, "template": template,
    });
    object("apps/v1", "Deployment", "web", json!({"spec": spec}))
}

/// A ServiceAccount that may do anything, for kubectl through the hub.
fn operator() -> [Value; 2] {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "edge-operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": NAMESPACE}],
    });
    [object("v1", "ServiceAccount", OPERATOR, json!({})), binding]
}

/// The container of every pod: a web server with a readiness probe.
pub fn web() -> Value {
    json!({
        "name": "web", "image": WEB, "imagePullPolicy": "Never",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    })
}

/// Eviction is not what these cases are about, and a slow machine must not bring it in.
fn tolerations() -> Value {
    json!([{"operator": "Exists", "effect": "NoExecute"}])
}
