//! kubectl asks for tables and is content with objects: what it has read online it can read offline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::time::Duration;

use serde_json::{Value, json};
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;
use yurt_testkit::{apiserver::Principal, apiserver::Rule};

const SOON: Duration = Duration::from_secs(15);
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn until_link(cluster: &Cluster, wanted: &str) {
    until(wanted, async || {
        cluster.hub.admin("/v1/status").await.unwrap().json()["connectivity"]["state"] == wanted
    })
    .await;
}

async fn kubectl(client: &Client, path: &str) -> Value {
    client.get_as(path, KUBECTL).await.unwrap().expect(200).json()
}

fn asked(cluster: &Cluster, path: &str, accept: &str) -> usize {
    cluster.api.audit().count(|e| e.line() == format!("GET {path}") && e.accept == accept && e.finished)
}

/// P1, P8: the objects behind the tables are kept, by the caller's own right; a page of a list is not.
#[tokio::test]
async fn what_kubectl_has_read_it_can_read_offline() {
    let cluster = Cluster::start("edge-1").await;
    until_link(&cluster, "Online").await;
    for name in ["a", "b", "c"] {
        cluster.api.create(objects::config_map("default", name, &[("k", "v")]));
    }
    cluster.api.add_token("ann-token", Principal::user("ann", &[]));
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    cluster.api.allow(Rule::allow("ann", "get,list", "", "configmaps"));
    cluster.api.allow(Rule::allow("ann", "list", "", "services"));
    let ann = cluster.client(Protocol::Http2).token("ann-token").timeout(SOON);

    let (list, one) = (format!("{MAPS}?limit=500"), format!("{MAPS}/a"));
    let beside = |path: &str| asked(&cluster, path, "application/json");
    for path in [&list, &one] {
        assert_eq!(kubectl(&ann, path).await["kind"], "Table", "online it is the apiserver's answer");
        until("the objects are read beside", async || beside(path) == 1).await;
    }
    let kept = async || {
        let status = cluster.hub.admin("/v1/status").await.unwrap().json();
        status["collections"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["collection"].as_str().unwrap().contains("configmaps"))
    };
    until("the list is kept", kept).await;
    kubectl(&ann, &list).await;
    let page = "/api/v1/services?limit=1";
    assert_ne!(kubectl(&ann, page).await["metadata"]["continue"], json!(null));
    until("the page is read beside", async || beside(page) == 1).await;
    assert_eq!(beside(&list), 1, "a list that was just read is not read again");

    cluster.relay.refuse().await;
    until_link(&cluster, "Offline").await;
    let held = kubectl(&ann, &list).await;
    assert_eq!((&held["kind"], held["rows"].as_array().unwrap().len()), (&json!("Table"), 4));
    assert_eq!(kubectl(&ann, &one).await["rows"][0]["cells"][0], "a");
    assert_eq!(ann.get(&one).await.unwrap().expect(200).json()["data"]["k"], "v");
    let refused = ann.get_as("/api/v1/services", KUBECTL).await.unwrap();
    assert_eq!(refused.code(), 503, "a page is not the whole: {}", refused.text());
}
