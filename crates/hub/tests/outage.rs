//! The main job against the simulated cloud: the real yurthub carries a kubelet through a power cut
//! with no link, takes its writes, and brings them home.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::time::Duration;

use serde_json::{Value, json};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::kubelet::{Kubelet, KubeletOptions};
use yurt_testkit::objects;

const SOON: Duration = Duration::from_secs(15);
const NODE: &str = "edge-1";

fn kubelet(cluster: &Cluster) -> Kubelet {
    let ca = std::fs::read_to_string(cluster.hub.ca_file()).unwrap();
    let mut options = KubeletOptions::new(NODE, &cluster.hub.url(), &ca, &cluster.node);
    options.backoff = Duration::from_millis(50);
    options.backoff_max = Duration::from_millis(200);
    options.lease_interval = Duration::from_millis(500);
    Kubelet::new(options)
}

fn create_pods(cluster: &Cluster, count: usize) {
    for n in 0..count {
        for object in objects::pod_with_volumes("default", &format!("web-{n}"), NODE) {
            cluster.api.create(object);
        }
    }
}

async fn link(cluster: &Cluster) -> String {
    let status = cluster.hub.admin("/v1/status").await.unwrap().json();
    status["connectivity"]["state"].as_str().unwrap().to_owned()
}

async fn until_link(cluster: &Cluster, wanted: &str) {
    let reached = async {
        while link(cluster).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("the link never became {wanted}"));
}

/// P1, P5, P6, P10: online, cut, power cut, boot offline, write offline, heal, converge.
#[tokio::test]
async fn a_power_cut_with_no_cloud_and_home_again() {
    let mut cluster = Cluster::start(NODE).await;
    create_pods(&cluster, 3);
    let mut kubelet = kubelet(&cluster);
    kubelet.boot();
    kubelet.wait_registered(SOON).await.unwrap();
    kubelet.wait_running(3, SOON).await.unwrap();
    kubelet.wait_reported(SOON).await.unwrap();

    cluster.relay.hold();
    until_link(&cluster, "Offline").await;
    kubelet.power_cut();
    cluster.hub.kill().await;
    cluster.hub.start().await;
    kubelet.boot();
    kubelet.wait_running(3, SOON).await.unwrap();
    kubelet.wait_reported(SOON).await.unwrap();
    let local = cluster
        .node_client(yurt_testkit::client::Protocol::Http2)
        .get("/api/v1/namespaces/default/pods/web-0")
        .await
        .unwrap();
    let local: Value = local.expect(200).json();
    let address = kubelet.pods().iter().find(|p| p.name == "web-0").unwrap().address.clone();
    assert_eq!(local["status"]["podIP"], json!(address), "read your writes");

    cluster.relay.heal();
    until_link(&cluster, "Online").await;
    let cloud = cluster.api.get("pods", "default", "web-0").unwrap();
    assert_eq!(cloud["status"]["podIP"], json!(address), "{cloud:#}");
    assert_eq!(cloud["status"]["podIPs"], json!([{"ip": address}]), "{cloud:#}");
    let status = cluster.hub.admin("/v1/status").await.unwrap().json();
    assert_eq!(status["journal"]["conflicts"], 0, "{status:#}");
}
