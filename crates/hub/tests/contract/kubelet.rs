//! What the stories of writes share: a kubelet with pods, its reports, and the way to the cloud.

use serde_json::{Value, json};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

pub const STRATEGIC: &str = "strategic-merge-patch";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const OWN_PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1";
pub const NODE_PATH: &str = "/api/v1/nodes/edge-1";
pub const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// A node with two pods that its kubelet watches, and its own object.
pub async fn with_pods() -> Cluster {
    let cluster = online().await;
    for name in ["web", "db"] {
        let mut pod = objects::pod("default", name, NODE);
        pod["status"] = json!({"phase": "Pending"});
        cluster.api.create(pod);
    }
    cluster.api.create(objects::pod("default", "elsewhere", "edge-2"));
    let kubelet = node(&cluster);
    for path in [OWN_PODS, "/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1"] {
        let (_, _stream) = informer(&kubelet, path, PROTOBUF).await;
    }
    kubelet.get(NODE_PATH).await.unwrap().expect(200);
    until_collection(&cluster, &["pods", "protobuf"], "live").await;
    cluster
}

pub fn status_of(phase: &str) -> Value {
    json!({"status": {"phase": phase, "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]}})
}

pub async fn report(client: &Client, pod: &str, phase: &str) -> Value {
    let path = format!("{PODS}/{pod}/status");
    client.patch(&path, STRATEGIC, &status_of(phase)).await.unwrap().expect(200).json()
}

pub fn pod(cluster: &Cluster, name: &str) -> Value {
    cluster.api.get("pods", "default", name).unwrap()
}

pub async fn journal(cluster: &Cluster) -> (u64, u64) {
    let status = status(cluster).await;
    let number = |at: &str| status["journal"][at].as_u64().unwrap();
    (number("length"), number("conflicts"))
}

pub async fn until_pushed(cluster: &Cluster) {
    eventually("the journal is empty", async || journal(cluster).await.0 == 0).await;
}

/// How often the node sent this to the cloud.
pub fn sent(cluster: &Cluster, method: &str, path: &str) -> usize {
    cluster.api.audit().count(|e| e.method == method && e.path == path && e.user == "system:node:edge-1")
}
