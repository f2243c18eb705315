//! P7: clocks that are wrong. A node that boots has no link, and often no battery for its clock.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use yurt_testkit::apiserver::{Options, Rule};
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::tools::{NODE, SOON, metric, preload, source, status, until, until_link};

const SERVICES: &str = "/api/v1/services";
const TEN_YEARS: i64 = 10 * 365 * 24 * 3600;

/// A cluster whose hub reads a clock that a test sets.
async fn with_clock() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let folder = cluster.folder().path().to_owned();
    let clock = folder.join("clock");
    let variables =
        [("LD_PRELOAD", preload("tests/trouble/clock.c", &folder)), ("YURT_CLOCK_FILE", clock.clone())];
    cluster.hub.options.environment.extend(variables.map(|(name, value)| (name.into(), value.into())));
    cluster.hub.start().await;
    until_link(&cluster.hub, "Online").await;
    (cluster, clock)
}

fn is_off_by(clock: &PathBuf, seconds: i64) {
    let beside = clock.with_extension("new");
    fs::write(&beside, seconds.to_string()).unwrap();
    fs::rename(beside, clock).unwrap();
}

async fn write(client: &Client, message: &str) {
    let condition = json!({"type": "Told", "status": "True", "message": message});
    let patch = json!({"status": {"conditions": [condition]}});
    let written = client.patch("/api/v1/nodes/edge-1/status", "strategic-merge-patch", &patch).await.unwrap();
    assert_eq!(written.code(), 200, "{}", written.text());
}

async fn is_served(cluster: &Cluster) {
    let client = cluster.node_client(Protocol::Http2);
    let list = client.get(SERVICES).await.unwrap().expect(200);
    let cached = source(&list).starts_with("cache");
    assert!(!cached || list.header("age").parse::<u64>().is_ok(), "{:?}", list.headers);
    client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    let status = status(&cluster.hub).await;
    for collection in status["collections"].as_array().unwrap() {
        assert!(collection["ageSeconds"].as_i64().is_some_and(|age| age >= 0), "{collection}");
    }
    assert_eq!(metric(&cluster.hub, "yurthub_panics_total").await, 0);
}

/// A power cut that took the time with it: the kubelet's certificate is not valid yet, its node boots all the same.
#[tokio::test]
async fn a_clock_in_1970_does_not_keep_a_node_from_booting() {
    let (mut cluster, clock) = with_clock().await;
    let client = cluster.node_client(Protocol::Http2);
    client.get(SERVICES).await.unwrap().expect(200);
    client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    cluster.hub.kill().await;
    let now = time_now();
    is_off_by(&clock, -now);
    cluster.hub.start().await;
    is_served(&cluster).await;
    let since = status(&cluster.hub).await["connectivity"]["since"].as_str().unwrap().to_owned();
    assert!(since.starts_with("1970-"), "{since}");
    let client = cluster.node_client(Protocol::Http2);
    write(&client, "in 1970").await;
    // The link comes back before the time does: a clock that was never set says nothing about certificates.
    cluster.relay.heal();
    until_link(&cluster.hub, "Online").await;
    is_off_by(&clock, 0);
    is_served(&cluster).await;
    let cloud = cluster.api.get("nodes", "", NODE).unwrap();
    assert!(cloud["status"]["conditions"].to_string().contains("in 1970"), "{cloud:#}");
}

/// Time that jumps while the hub runs takes nothing away and holds nothing up.
#[tokio::test]
async fn jumps_of_the_clock_change_nothing_that_is_held() {
    let (cluster, clock) = with_clock().await;
    let client = cluster.node_client(Protocol::Http2);
    let list = client.get(SERVICES).await.unwrap().expect(200).json();
    client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = client
        .watch(&format!("{SERVICES}?watch=1&resourceVersion={version}"), "application/json")
        .await
        .unwrap();
    // A new connection would find the cloud's certificate ended: what stands, stands.
    until("a live collection", async || {
        let status = status(&cluster.hub).await;
        status["collections"].as_array()?.iter().any(|c| c["state"] == "live").then_some(())
    })
    .await;
    for (n, seconds) in [TEN_YEARS, -TEN_YEARS, -time_now(), 0].into_iter().enumerate() {
        is_off_by(&clock, seconds);
        let name = format!("web-{n}");
        cluster.api.create(objects::service("default", &name, &[("http", 80)]));
        assert_eq!(watch.next_change(SOON).await.unwrap().name(), name, "off by {seconds} s");
        assert_eq!(status(&cluster.hub).await["connectivity"]["state"], "Online");
        is_served_online(&client, &name).await;
    }
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    for seconds in [TEN_YEARS, -TEN_YEARS, 0] {
        is_off_by(&clock, seconds);
        is_served(&cluster).await;
        write(&client, &format!("off by {seconds}")).await;
    }
    until("one entry", async || (status(&cluster.hub).await["journal"]["length"] == 1).then_some(())).await;
}

/// A pod's token ends in the outage and nobody can give it a new one: it still opens what it opened, to its own pod, also
/// after a power cut, and not one thing more (P8).
#[tokio::test]
async fn the_token_of_a_pod_that_ended_offline_still_reads() {
    let (mut cluster, clock) = with_clock().await;
    cluster.api.create(objects::pod("default", "web", NODE));
    let user = "system:serviceaccount:default:default";
    cluster.api.allow(Rule::allow(user, "get,list,watch", "", "services"));
    let spec = json!({"audiences": [], "expirationSeconds": 600});
    let body = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = cluster.node_client(Protocol::Http2).post(path, &body).await.unwrap().expect(201).json();
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    let asked = async |cluster: &Cluster, path: &str| {
        cluster.client(Protocol::Http2).token(&token).get(path).await.unwrap().code()
    };
    assert_eq!(asked(&cluster, SERVICES).await, 200);
    until("the list is kept", async || (metric(&cluster.hub, "yurthub_being_kept").await == 0).then_some(()))
        .await;
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    for (restarted, days) in [(false, 1), (false, 180), (true, 180)] {
        is_off_by(&clock, days * 24 * 3600);
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        assert_eq!(asked(&cluster, SERVICES).await, 200, "after {days} days, restarted: {restarted}");
        assert_eq!(asked(&cluster, "/api/v1/secrets").await, 403);
    }
}

async fn is_served_online(client: &Client, name: &str) {
    let list = client.get(&format!("{SERVICES}?resourceVersion=0")).await.unwrap().expect(200);
    assert!(list.text().contains(name), "{}", list.text());
}

fn time_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
