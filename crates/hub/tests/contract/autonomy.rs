//! The node says whether it is ready to be cut off, and means it.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use yurt_testkit::apiserver::{Fault, Options, Rule};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::kubelet::{Kubelet, KubeletOptions};
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

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

/// Rows that are not as they were written are noticed by a node that boots alone, and made good by the cloud.
#[tokio::test]
async fn damaged_rows_are_no_readiness() {
    for broken in ["pods", "secrets"] {
        let (mut cluster, mut kubelet) = ready().await;
        kubelet.power_cut();
        cluster.hub.stop().await;
        let rows = "UPDATE objects SET body = zeroblob(length(body)) WHERE collection IN
            (SELECT id FROM collections WHERE resource = ?1)";
        let db = Connection::open(cluster.hub.options.root.join("cache/store.db")).unwrap();
        assert!(db.execute(rows, [broken]).unwrap() > 0, "{broken}");
        drop(db);
        cluster.relay.refuse().await;
        cluster.hub.start().await;
        eventually(&format!("damaged {broken} are told"), async || {
            let told = status(&cluster).await["autonomy"].clone();
            told["reason"] == "StoreDamaged" && told["message"].as_str().unwrap().contains(broken)
        })
        .await;
        cluster.relay.heal();
        until_said(&cluster, "True Ready").await;
        eventually("it is ready again", async || status(&cluster).await["autonomy"]["status"] == "True")
            .await;
    }
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

/// A pod's claim and volume are read once, by name: they count as needed, are said to be missing, and stay readable
/// for the node however much else it reads.
#[tokio::test]
async fn the_volumes_of_pods_are_held_for_an_outage() {
    let cluster = with_pods().await;
    for resource in ["persistentvolumeclaims", "persistentvolumes", "configmaps"] {
        cluster.api.allow(Rule::allow("system:node:edge-1", "get", "", resource));
    }
    let meta = |name: &str| json!({"name": name, "namespace": "default"});
    cluster.api.create(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta("data"),
        "spec": {"volumeName": "disk-1", "accessModes": ["ReadWriteOnce"]}}));
    cluster
        .api
        .create(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk-1"},
        "spec": {"csi": {"driver": "d", "volumeHandle": "h"}}}));
    let mut pod = objects::pod("default", "stateful", NODE);
    pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    cluster.api.create(pod.clone());
    until_shown(&cluster, "PersistentVolumeClaims of pods").await;
    let (kubelet, claim) = (node(&cluster), "/api/v1/namespaces/default/persistentvolumeclaims/data");
    kubelet.get_as(claim, PROTOBUF).await.unwrap().expect(200);
    // Something happens with the pod: it is looked again.
    cluster.api.update(with_label(&cluster, "1"));
    until_shown(&cluster, "PersistentVolumes of pods").await;
    kubelet.get_as("/api/v1/persistentvolumes/disk-1", PROTOBUF).await.unwrap().expect(200);
    cluster.api.update(with_label(&cluster, "2"));
    eventually_shown(&cluster, |said| !said.contains("PersistentVolume")).await;
    // More names than the node has grants.
    for n in 0..520 {
        kubelet.get(&format!("/api/v1/namespaces/default/configmaps/c-{n}")).await.unwrap();
    }
    until_metric(&cluster, "grants_dropped_total", |n| n > 2).await;
    cut(&cluster).await;
    for path in [claim, "/api/v1/persistentvolumes/disk-1"] {
        let held = kubelet.get_as(path, PROTOBUF).await.unwrap().expect(200);
        assert!(source(&held).starts_with("cache"), "{path}");
    }
}

fn with_label(cluster: &Cluster, value: &str) -> Value {
    let mut pod = cluster.api.get("pods", "default", "stateful").unwrap();
    pod["metadata"]["labels"] = json!({"look": value});
    pod
}

async fn until_shown(cluster: &Cluster, wanted: &str) {
    eventually_shown(cluster, |said| said.contains(wanted)).await;
}

/// Waits for what `/v1/status` says of the condition: a look every 30 s.
async fn eventually_shown(cluster: &Cluster, right: impl Fn(&str) -> bool) {
    let waited = async {
        while !right(status(cluster).await["autonomy"]["message"].as_str().unwrap_or_default()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the condition says so", Duration::from_secs(60), waited).await;
}
