//! The node says whether it is ready to be cut off, and means it.

use std::time::Duration;

use serde_json::Value;
use yurt_testkit::apiserver::{Fault, Options};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::kubelet::{Kubelet, KubeletOptions};
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::report;

fn condition(cluster: &Cluster) -> Option<Value> {
    let node = cluster.api.get("nodes", "", NODE)?;
    node["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Autonomy").cloned()
}

/// How the node's condition reads, with its status first.
fn said(cluster: &Cluster) -> String {
    let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    condition(cluster)
        .map(|c| format!("{} {} {}", text(&c, "status"), text(&c, "reason"), text(&c, "message")))
        .unwrap_or_default()
}

async fn until_said(cluster: &Cluster, wanted: &str) {
    let waited = async {
        while !said(cluster).contains(wanted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let bound = Duration::from_secs(60);
    tokio::time::timeout(bound, waited)
        .await
        .unwrap_or_else(|_| panic!("not within {bound:?}: {wanted:?}, but {:?}", said(cluster)));
}

/// A node with one pod, of which all is held.
async fn ready() -> (Cluster, Kubelet) {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    for object in objects::pod_with_volumes("default", "web", NODE) {
        cluster.api.create(object);
    }
    cluster.hub.start().await;
    until_link(&cluster, "Online").await;
    let ca = std::fs::read_to_string(cluster.hub.ca_file()).unwrap();
    let mut kubelet = Kubelet::new(KubeletOptions::new(NODE, &cluster.hub.url(), &ca, &cluster.node));
    kubelet.boot();
    kubelet.wait_running(1, SOON).await.unwrap();
    until_said(&cluster, "True Ready").await;
    (cluster, kubelet)
}

/// True only when all is held that the pods need; a pod whose Secret the hub never saw makes it False; what is written
/// is written once.
#[tokio::test]
async fn the_node_says_whether_it_could_boot_alone() {
    let (mut cluster, mut kubelet) = ready().await;
    assert_eq!(status(&cluster).await["autonomy"]["status"], "True");

    // A pod that the kubelet has not fetched everything for.
    kubelet.power_cut();
    let mut pod = objects::pod("default", "greedy", NODE);
    pod["spec"]["containers"][0]["envFrom"] = serde_json::json!([{"secretRef": {"name": "never-seen"}}]);
    cluster.api.create(pod);
    until_said(&cluster, "False CacheIncomplete not held: ").await;
    assert!(!said(&cluster).contains("never-seen"), "who may read the node may not know names of Secrets");
    let since = condition(&cluster).unwrap()["lastTransitionTime"].clone();

    cluster.hub.crash_and_restart().await;
    until_link(&cluster, "Online").await;
    eventually("it has looked again", async || status(&cluster).await["autonomy"]["status"] == "False").await;
    assert_eq!(condition(&cluster).unwrap()["lastTransitionTime"], since);
}

/// What the cloud has refused of the node's writes makes it Unknown, though all is held.
#[tokio::test]
async fn a_conflict_is_no_certainty() {
    let (cluster, mut kubelet) = ready().await;
    kubelet.power_cut();
    cut(&cluster).await;
    report(&node(&cluster), "web", "Failed").await;
    cluster.api.fault(Fault::Fail(422, "Invalid"), |method, path| {
        method == "PATCH" && path.contains("/pods/web/status")
    });
    mend(&cluster).await;
    until_said(&cluster, "Unknown JournalConflicts the cloud refused 1 of the node's writes").await;
}
