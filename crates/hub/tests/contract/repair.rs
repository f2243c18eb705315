//! Coming home: pods that the cloud gave up while the node had nothing to say about them, and what it costs to know.

use serde_json::{Value, json};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

const MANY: usize = 60;

fn ready(status: &str) -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]})
}

fn readiness(cluster: &Cluster, name: &str) -> Value {
    pod(cluster, name)["status"]["conditions"][0]["status"].clone()
}

/// A node with many pods, all of them ready, that its kubelet watches.
async fn with_many_pods() -> (Cluster, Client) {
    let cluster = with_pods().await;
    for number in 0..MANY {
        let mut pod = objects::pod("default", &format!("many-{number}"), NODE);
        pod["status"] = ready("True");
        cluster.api.create(pod);
    }
    let kubelet = node(&cluster);
    eventually("the view has them all, ready", async || {
        let list = kubelet.get_as(&format!("{OWN_PODS}&resourceVersion=0"), PROTOBUF).await.unwrap();
        names(&list).len() == MANY + 2
    })
    .await;
    (cluster, kubelet)
}

/// Every answer to a request for pods that ended after the request with this number, and the bytes of all.
fn carried(cluster: &Cluster, after: u64) -> (Vec<String>, u64) {
    let all = cluster.api.audit().entries();
    let pods = all.iter().filter(|e| e.id > after && e.method == "GET" && e.path == "/api/v1/pods");
    let whole = pods.clone().filter(|e| !e.watch).map(|e| e.line()).collect();
    (whole, pods.map(|e| e.response_bytes).sum())
}

fn newest(cluster: &Cluster) -> u64 {
    cluster.api.audit().entries().last().map_or(0, |e| e.id)
}

/// The lifecycle controller takes readiness away from a silent node's pods: those come back, and nothing is carried
/// of the others.
#[tokio::test]
async fn what_is_carried_home_is_what_changed() {
    let (cluster, _kubelet) = with_many_pods().await;
    cut(&cluster).await;
    for name in ["many-3", "many-7"] {
        cluster.api.modify("pods", "default", name, |pod| pod["status"] = ready("False"));
    }
    let gone = pod(&cluster, "many-9");
    cluster.api.delete("pods", "default", "many-9");
    let before = newest(&cluster);
    mend(&cluster).await;
    for name in ["many-3", "many-7"] {
        assert_eq!(readiness(&cluster, name), "True", "before the link counts as back");
    }
    let (lists, bytes) = carried(&cluster, before);
    assert_eq!(lists, Vec::<String>::new(), "no pod was listed");
    let size = gone.to_string().len() as u64;
    assert!(bytes < 20 * size, "{bytes} bytes for three changes of {size} bytes each");
    assert_eq!(status(&cluster).await["lastReplay"]["repaired"], 2);
}

/// The cloud has forgotten what changed since: all pods are looked at.
#[tokio::test]
async fn what_the_cloud_forgot_is_looked_at_whole() {
    let (cluster, _kubelet) = with_many_pods().await;
    cut(&cluster).await;
    cluster.api.modify("pods", "default", "many-3", |pod| pod["status"] = ready("False"));
    cluster.api.compact();
    mend(&cluster).await;
    assert_eq!(readiness(&cluster, "many-3"), "True");
}

/// What the node did write stays its word, what the cloud made new is not
/// touched.
#[tokio::test]
async fn a_repair_is_never_more_than_a_repair() {
    let (cluster, kubelet) = with_many_pods().await;
    cut(&cluster).await;
    report(&kubelet, "web", "Failed").await;
    for name in ["web", "many-3"] {
        cluster.api.modify("pods", "default", name, |pod| pod["status"] = ready("False"));
    }
    cluster.api.delete("pods", "default", "many-4");
    let mut newer = objects::pod("default", "many-4", NODE);
    newer["status"] = ready("False");
    cluster.api.create(newer);
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(
        (pod(&cluster, "web")["status"]["phase"].clone(), readiness(&cluster, "web")),
        (json!("Failed"), json!("True"))
    );
    assert_eq!(readiness(&cluster, "many-3"), "True");
    assert_eq!(readiness(&cluster, "many-4"), "False", "a pod that the node has never heard of");
    let patches = |name: &str| sent(&cluster, "PATCH", &format!("{PODS}/{name}/status"));
    assert_eq!((patches("web"), patches("many-3"), patches("many-4")), (1, 1, 0));
}
