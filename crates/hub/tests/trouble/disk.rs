//! A disk that takes nothing more: reads go on, writes that must be kept are refused, and it all recovers by itself.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use yurt_testkit::apiserver::Options;
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::tools::{NODE, SOON, metric, metric_with, preload, source, status, until, until_link};

const SERVICES: &str = "/api/v1/services";
/// Linux: ENOSPC.
const FULL: &str = "28";

/// A cluster whose hub gets an error for every write below its folder while a file is there.
struct Disk {
    cluster: Cluster,
    fail: PathBuf,
}

impl Disk {
    async fn start() -> Self {
        let mut cluster = Cluster::prepare(NODE, Options::default()).await;
        let folder = cluster.folder().path().to_owned();
        let fail = folder.join("fail");
        let variables = [
            ("LD_PRELOAD", preload("../store/tests/powercut/shim.c", &folder)),
            ("YURT_SHIM_DIR", cluster.hub.options.root.clone()),
            ("YURT_SHIM_FAIL", fail.clone()),
        ];
        cluster.hub.options.environment.extend(variables.map(|(name, value)| (name.into(), value.into())));
        cluster.hub.start().await;
        until_link(&cluster.hub, "Online").await;
        Disk { cluster, fail }
    }

    fn is(&self, error: &str) {
        fs::write(&self.fail, error).unwrap();
    }

    fn works(&self) {
        fs::remove_file(&self.fail).unwrap();
    }
}

/// Lists and watches as an informer does, until it has seen the object of this name.
async fn informed(client: &Client, name: &str) {
    let found = async {
        loop {
            let list = client.get(SERVICES).await.unwrap().expect(200).json();
            if list["items"].as_array().unwrap().iter().any(|i| i["metadata"]["name"] == name) {
                return;
            }
            let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            let Ok(mut watch) = client
                .watch(&format!("{SERVICES}?watch=1&resourceVersion={version}"), "application/json")
                .await
            else {
                continue;
            };
            while let Ok(Some(event)) = watch.next().await {
                match event.kind.as_str() {
                    "ADDED" if event.name() == name => return,
                    "ERROR" => break,
                    _ => {}
                }
            }
        }
    };
    tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("{name} was never seen"));
}

async fn until_live_with(disk: &Disk, objects: u64) {
    until("all objects in a live collection", || async {
        let status = status(&disk.cluster.hub).await;
        let live = status["collections"]
            .as_array()?
            .iter()
            .find(|c| c["collection"].as_str().unwrap().contains("services"))?
            .clone();
        (live["state"] == "live" && live["objects"] == objects).then_some(())
    })
    .await;
}

/// P5: nothing is acknowledged that was not kept.
#[tokio::test]
async fn offline_reads_go_on_and_writes_are_refused_until_there_is_room() {
    let disk = Disk::start().await;
    let (hub, client) = (&disk.cluster.hub, disk.cluster.node_client(Protocol::Http2));
    client.get(SERVICES).await.unwrap().expect(200);
    client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    disk.cluster.relay.refuse().await;
    until_link(hub, "Offline").await;
    let pid = hub.pid();
    let condition = |message: &str| json!({"status": {"conditions": [{"type": "Told", "status": "True", "message": message}]}});
    let write = async |message: &str| {
        client
            .patch("/api/v1/nodes/edge-1/status", "strategic-merge-patch", &condition(message))
            .await
            .unwrap()
    };
    for (n, (error, named)) in
        [(FULL, "507"), ("122", "507"), ("30", "read-only"), ("5", "cannot be kept")].into_iter().enumerate()
    {
        disk.is(error);
        for _ in 0..5 {
            let refused = write("not kept").await;
            let status = refused.json();
            assert_eq!(
                (refused.code(), &status["reason"]),
                (503, &"ServiceUnavailable".into()),
                "{error}: {}",
                refused.text()
            );
            assert!(status["message"].as_str().unwrap().contains(named), "{error}: {status}");
            assert_eq!(source(&refused), "yurthub; reason=store-failed");
            assert!(!refused.header("retry-after").is_empty());
        }
        assert!(client.get(SERVICES).await.unwrap().expect(200).text().contains("ServiceList"));
        let node = client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
        assert!(!node.text().contains("not kept"), "a refused write is not seen");
        assert_eq!(hub.admin("/v1/healthz").await.unwrap().code(), 200);
        assert_eq!(
            status(hub).await["journal"]["length"],
            n.min(1),
            "one entry for the node, whatever it says"
        );
        disk.works();
        assert_eq!(write(&format!("kept after {error}")).await.code(), 200, "no restart is needed");
    }
    assert!(metric(hub, "yurthub_store_failures_total").await >= 20);
    let counted = hub.admin("/metrics").await.unwrap().text();
    let refused = "yurthub_requests_total{verb=\"patch\",reason=\"store-failed\",code=\"503\"} 20";
    assert!(counted.contains(refused), "{counted}");
    let said = hub.log().lines().filter(|l| l.contains("the store could not write")).count();
    assert!((1..=8).contains(&said), "said {said} times for 20 failures");
    disk.cluster.relay.heal();
    until_link(hub, "Online").await;
    let cloud = disk.cluster.api.get("nodes", "", NODE).unwrap();
    assert!(cloud["status"]["conditions"].to_string().contains("kept after 5"), "{cloud:#}");
    assert_eq!(hub.pid(), pid);
}

/// A disk that is full when the link returns does not keep the node from the cloud, which may be about to make room; the
/// journal is pushed when it can be shortened.
#[tokio::test]
async fn a_full_disk_does_not_keep_the_node_from_coming_home() {
    let disk = Disk::start().await;
    let (hub, client) = (&disk.cluster.hub, disk.cluster.node_client(Protocol::Http2));
    client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    disk.cluster.relay.refuse().await;
    until_link(hub, "Offline").await;
    let told = json!({"status": {"conditions": [{"type": "Told", "status": "True"}]}});
    let path = "/api/v1/nodes/edge-1/status";
    client.patch(path, "strategic-merge-patch", &told).await.unwrap().expect(200);
    disk.is(FULL);
    disk.cluster.relay.heal();
    until_link(hub, "Online").await;
    client.get(SERVICES).await.unwrap().expect(200);
    let cloud = disk.cluster.api.get("nodes", "", NODE).unwrap();
    assert!(
        cloud["status"]["conditions"].to_string().contains("Told"),
        "the cloud has it nevertheless: {cloud:#}"
    );
    assert_eq!(status(hub).await["journal"]["length"], 1);
    disk.works();
    until("the journal is empty", async || (status(hub).await["journal"]["length"] == 0).then_some(())).await;
}

/// What cannot be kept is passed through: a full disk on the node hides nothing that the cloud says.
#[tokio::test]
async fn online_watchers_hear_of_changes_that_cannot_be_kept() {
    let disk = Disk::start().await;
    let client = disk.cluster.node_client(Protocol::Http2);
    disk.cluster.api.create(objects::service("default", "before", &[("http", 80)]));
    let list = client.get(SERVICES).await.unwrap().expect(200).json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = client
        .watch(&format!("{SERVICES}?watch=1&resourceVersion={version}"), "application/json")
        .await
        .unwrap();
    until_live_with(&disk, 2).await;
    disk.is(FULL);
    let informer = {
        let client = client.clone();
        tokio::spawn(async move {
            let first = watch.next_change(SOON).await.unwrap();
            if first.name() != "during" {
                assert_eq!(first.kind, "ERROR", "told to list again: {first:?}");
                informed(&client, "during").await;
            }
        })
    };
    disk.cluster.api.create(objects::service("default", "during", &[("http", 80)]));
    informer.await.unwrap();
    disk.cluster.api.create(objects::service("default", "later", &[("http", 80)]));
    informed(&client, "later").await;
    let fresh = client.get(&format!("{SERVICES}?resourceVersion=0")).await.unwrap().expect(200);
    assert!(fresh.text().contains("during"), "the collection is not shown as live: {}", source(&fresh));
    disk.works();
    until_live_with(&disk, 4).await;
    let fresh = client.get(&format!("{SERVICES}?resourceVersion=0")).await.unwrap().expect(200);
    assert!(source(&fresh).starts_with("cache") && fresh.text().contains("later"), "{}", source(&fresh));
}

/// P9, P10: a disk that answers nothing any more holds up nobody who asks the cloud.
#[tokio::test]
async fn a_disk_that_hangs_holds_up_no_answer_of_the_cloud() {
    let disk = Disk::start().await;
    let client = disk.cluster.node_client(Protocol::Http2);
    // Whoever opens a pipe waits for its other end: so does each write below the hub's folder.
    let made = std::process::Command::new("mkfifo").arg(&disk.fail).status().unwrap();
    assert!(made.success());
    for n in 0..3 {
        disk.cluster.api.create(objects::service("default", &format!("s-{n}"), &[("http", 80)]));
        for path in [SERVICES, "/version", "/api/v1/namespaces/default/services/none"] {
            let begun = std::time::Instant::now();
            let answer = client.get(path).await.unwrap();
            assert!(matches!(answer.code(), 200 | 404), "{path}: {}", answer.text());
            assert_eq!(source(&answer), "cloud", "{path}");
            assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{path} took {:?}", begun.elapsed());
        }
    }
    let slow = r#"yurthub_answers_not_kept_total{reason="slow-store"}"#;
    assert!(metric_with(&disk.cluster.hub, slow).await >= Some(3));
    let pipe = fs::OpenOptions::new().read(true).write(true).open(&disk.fail).unwrap();
    disk.works();
    drop(pipe);
    informed(&client, "s-2").await;
}
