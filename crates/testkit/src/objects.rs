//! Objects for tests: the smallest that a real server would take, with the fields that a kubelet needs.

use serde_json::{Value, json};

/// What a new cluster holds.
pub fn cluster() -> Vec<Value> {
    let mut objects: Vec<_> =
        ["default", "kube-system", "kube-public", "kube-node-lease"].map(namespace).into();
    objects.push(config_map("default", "kube-root-ca.crt", &[("ca.crt", "testkit")]));
    objects.push(service_account("default", "default"));
    objects.push(service_account("kube-system", "default"));
    let mut kubernetes = service("default", "kubernetes", &[("https", 443)]);
    kubernetes["metadata"]["labels"] = json!({"component": "apiserver", "provider": "kubernetes"});
    kubernetes["spec"]["selector"] = Value::Null;
    objects.push(kubernetes);
    objects
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
}

/// A node that is Ready.
pub fn node(name: &str) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        }},
        "spec": {},
        "status": {
            "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        },
    })
}

/// A pod on a node ("" = not bound) with a Secret, a ConfigMap and a token volume named after it.
pub fn pod(namespace: &str, name: &str, node: &str) -> Value {
    let mut pod = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "containers": [{
                "name": "main", "image": "registry.local/app:1",
                "env": [{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": config_of(name), "key": "mode"}}}],
                "volumeMounts": [
                    {"name": "secret", "mountPath": "/secret"},
                    {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
                ],
            }],
            "serviceAccountName": "default",
            "volumes": [
                {"name": "secret", "secret": {"secretName": secret_of(name)}},
                {"name": "token", "projected": {"sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                ]}},
            ],
            "terminationGracePeriodSeconds": 30,
        },
    });
    if !node.is_empty() {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

/// A pod and the Secret and ConfigMap that it names, those first.
pub fn pod_with_volumes(namespace: &str, name: &str, node: &str) -> Vec<Value> {
    vec![
        secret(namespace, &secret_of(name), &[("password", "c2VjcmV0")]),
        config_map(namespace, &config_of(name), &[("mode", "edge")]),
        pod(namespace, name, node),
    ]
}

/// The name of the Secret that [`pod`] mounts.
pub fn secret_of(pod: &str) -> String {
    format!("{pod}-secret")
}

/// The name of the ConfigMap that [`pod`] reads.
pub fn config_of(pod: &str) -> String {
    format!("{pod}-config")
}

/// A Secret; values are base64.
pub fn secret(namespace: &str, name: &str, data: &[(&str, &str)]) -> Value {
    json!({
        "kind": "Secret", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque", "data": map(data),
    })
}

/// A ConfigMap.
pub fn config_map(namespace: &str, name: &str, data: &[(&str, &str)]) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace}, "data": map(data),
    })
}

/// A ServiceAccount.
pub fn service_account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace}})
}

/// A ClusterIP Service that selects `app=NAME`; ports are (name, number).
pub fn service(namespace: &str, name: &str, ports: &[(&str, u16)]) -> Value {
    let ports: Vec<_> = ports
        .iter()
        .map(|(n, p)| json!({"name": n, "port": p, "protocol": "TCP", "targetPort": p}))
        .collect();
    json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports},
    })
}

/// An EndpointSlice of a Service; endpoints are (address, pod name, pod uid, node).
pub fn endpoint_slice(namespace: &str, service: &str, endpoints: &[(&str, &str, &str, &str)]) -> Value {
    let endpoint = |(address, pod, uid, node): &(&str, &str, &str, &str)| {
        json!({
            "addresses": [address], "nodeName": node,
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid},
        })
    };
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("{service}-1"), "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    })
}

/// The lease of a node.
pub fn lease(node: &str) -> Value {
    json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z"},
    })
}

fn map(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect::<serde_json::Map<_, _>>().into()
}
