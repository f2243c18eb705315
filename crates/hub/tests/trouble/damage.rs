//! A store that is not as it was written: set aside whole when its structure is broken, fetched again piece by piece
//! when rows are; what the node wrote is saved wherever it can be read.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::json;
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::{Cluster, Hub};
use yurt_testkit::objects;

use crate::tools::{NODE, metric, source, status, until, until_link};

const SERVICES: &str = "/api/v1/services";
const NODE_STATUS: &str = "/api/v1/nodes/edge-1/status";

fn store(hub: &Hub) -> PathBuf {
    hub.options.root.join("cache/store.db")
}

fn set_aside(hub: &Hub) -> Vec<PathBuf> {
    let folder = fs::read_dir(hub.options.root.join("cache")).unwrap().map(|f| f.unwrap().path());
    let named = |p: &PathBuf| {
        let name = p.file_name().unwrap().to_str().unwrap().to_owned();
        name.contains(".damaged-2") && name.ends_with('Z')
    };
    folder.filter(named).collect()
}

/// A cluster with a hub that holds all Services live and the node object.
async fn filled() -> (Cluster, Client) {
    let cluster = Cluster::start(NODE).await;
    for n in 0..60 {
        cluster.api.create(objects::service("default", &format!("web-{n:02}"), &[("http", 80)]));
    }
    let client = cluster.node_client(Protocol::Http2);
    let list = client.get(SERVICES).await.unwrap().expect(200).json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let watch = client
        .watch(&format!("{SERVICES}?watch=1&resourceVersion={version}"), "application/json")
        .await
        .unwrap();
    client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    until_live(&cluster.hub).await;
    drop(watch);
    (cluster, client)
}

async fn until_live(hub: &Hub) {
    until("a live collection", || async {
        let status = status(hub).await;
        status["collections"]
            .as_array()?
            .iter()
            .any(|c| c["state"] == "live" && c["damaged"] == false)
            .then_some(())
    })
    .await;
}

/// The link is cut, and the node says something that only the journal can keep.
async fn write_offline(cluster: &Cluster, client: &Client, message: &str) {
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    let condition = json!({"type": "Told", "status": "True", "message": message});
    let patch = json!({"status": {"conditions": [condition]}});
    let written = client.patch(NODE_STATUS, "strategic-merge-patch", &patch).await.unwrap();
    assert_eq!(written.code(), 200, "{}", written.text());
}

fn told(node: &serde_json::Value) -> Option<String> {
    let conditions = node["status"]["conditions"].as_array()?;
    let told = conditions.iter().find(|c| c["type"] == "Told")?;
    told["message"].as_str().map(str::to_owned)
}

/// Breaks an index: many keys of one page are other keys now. The rows and the journal stay as they are.
fn break_index(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let keys = |page: &[u8]| page.windows(11).filter(|w| *w == b"default/web").count();
    let page = bytes.chunks_mut(1024).max_by_key(|page| keys(page)).unwrap();
    assert!(keys(page) > 10);
    for at in 0..1024 - 11 {
        if &page[at..at + 11] == b"default/web" {
            page[at + 10] = b'B';
        }
    }
    fs::write(file, bytes).unwrap();
}

/// Whatever the file has become, the hub starts with a fresh one, says so, and keeps the old one byte by byte.
#[tokio::test]
async fn a_damaged_file_is_set_aside_and_a_fresh_one_begun() {
    let (mut cluster, client) = filled().await;
    cluster.hub.stop().await;
    let file = store(&cluster.hub);
    let whole = fs::read(&file).unwrap();
    let spoiled = [
        vec![0; whole.len()],
        b"this is not a database at all, ".repeat(500),
        whole[..whole.len() / 3].to_vec(),
        [&vec![0xff; 4096], &whole[4096..]].concat(),
    ];
    for (n, spoiled) in spoiled.iter().enumerate() {
        fs::write(&file, spoiled).unwrap();
        let before = set_aside(&cluster.hub);
        cluster.hub.start().await;
        let held = status(&cluster.hub).await["store"].clone();
        assert_eq!(held["found"], "damaged", "case {n}: {held}");
        assert!(held["why"].as_str().is_some_and(|w| !w.is_empty()), "{held}");
        let aside = set_aside(&cluster.hub);
        let new = aside.iter().find(|p| !before.contains(p)).expect("a new file with the date in its name");
        assert_eq!(held["setAside"], new.to_str().unwrap());
        assert!(fs::read(new).unwrap() == *spoiled, "case {n}: nothing of it is changed");
        assert_eq!(aside.len(), before.len() + 1, "nothing is deleted");
        assert_eq!(metric(&cluster.hub, "yurthub_store_set_aside").await, 1);
        assert!(cluster.hub.log().contains("the store was damaged"));
        client.get(SERVICES).await.unwrap().expect(200);
        cluster.hub.stop().await;
        // Two in one second have the same date.
        let gone = new.with_extension(format!("kept-{n}"));
        fs::rename(new, gone).unwrap();
    }
    cluster.hub.start().await;
    assert_eq!(status(&cluster.hub).await["store"]["found"], "existing");
    assert_eq!(metric(&cluster.hub, "yurthub_store_set_aside").await, 0);
}

/// P5: what was acknowledged offline reaches the cloud though the file that kept it had to be set aside.
#[tokio::test]
async fn the_journal_is_saved_from_a_damaged_file() {
    let (mut cluster, client) = filled().await;
    write_offline(&cluster, &client, "before the damage").await;
    cluster.hub.stop().await;
    break_index(&store(&cluster.hub));
    cluster.hub.start().await;
    let found = status(&cluster.hub).await;
    assert_eq!(
        (&found["store"]["found"], &found["journal"]["length"]),
        (&"damaged".into(), &1.into()),
        "{found:#}"
    );
    assert!(found["store"]["saved"].as_u64().is_some_and(|n| n >= 1), "{found:#}");
    let node = cluster.node_client(Protocol::Http2).get("/api/v1/nodes/edge-1").await.unwrap();
    assert_eq!(told(&node.expect(200).json()).as_deref(), Some("before the damage"), "read your writes");
    cluster.relay.heal();
    until_link(&cluster.hub, "Online").await;
    let cloud = cluster.api.get("nodes", "", NODE).unwrap();
    assert_eq!(told(&cloud).as_deref(), Some("before the damage"), "{cloud:#}");
}

/// One row is not as it was written: it is never served; online all rows are fetched again, offline the others are
/// served.
#[tokio::test]
async fn a_damaged_row_is_never_served_and_fetched_again() {
    let (mut cluster, _) = filled().await;
    cluster.hub.stop().await;
    let spoil = |file: &Path| {
        let db = Connection::open(file).unwrap();
        let spoilt = db
            .execute("UPDATE objects SET body = zeroblob(length(body)) WHERE key = 'default/web-07'", [])
            .unwrap();
        assert!(spoilt > 0);
    };
    spoil(&store(&cluster.hub));
    cluster.relay.refuse().await;
    cluster.hub.start().await;
    let client = cluster.node_client(Protocol::Http2);
    let list = client.get(SERVICES).await.unwrap();
    assert_eq!(
        (list.code(), list.json()["reason"].as_str()),
        (503, Some("ServiceUnavailable")),
        "{}",
        list.text()
    );
    assert_eq!(source(&list), "yurthub; reason=store-failed");
    assert_eq!(client.get("/api/v1/namespaces/default/services/web-07").await.unwrap().code(), 503);
    let other = client.get("/api/v1/namespaces/default/services/web-08").await.unwrap();
    assert_eq!(other.expect(200).json()["metadata"]["name"], "web-08");
    assert_eq!(status(&cluster.hub).await["store"]["found"], "existing");
    assert_eq!(metric(&cluster.hub, "yurthub_damaged_collections_total").await, 1);
    cluster.relay.heal();
    until_link(&cluster.hub, "Online").await;
    until_live(&cluster.hub).await;
    let list = client.get(&format!("{SERVICES}?resourceVersion=0")).await.unwrap();
    assert!(source(&list).starts_with("cache"), "{}", source(&list));
    let items = list.expect(200).json()["items"].as_array().unwrap().clone();
    assert_eq!(
        items.iter().filter(|i| i["metadata"]["name"].as_str().unwrap().starts_with("web-")).count(),
        60
    );
    // And it stays: the fresh rows are on the disk.
    cluster.relay.refuse().await;
    cluster.hub.crash_and_restart().await;
    cluster.node_client(Protocol::Http2).get(SERVICES).await.unwrap().expect(200);
}

/// A watcher is told to list again when the rows behind it were fetched again.
#[tokio::test]
async fn watchers_are_told_when_rows_were_damaged() {
    let (cluster, client) = filled().await;
    let list = client.get(SERVICES).await.unwrap().expect(200).json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = client
        .watch(&format!("{SERVICES}?watch=1&resourceVersion={version}"), "application/json")
        .await
        .unwrap();
    let db = Connection::open(store(&cluster.hub)).unwrap();
    db.busy_timeout(crate::tools::SOON).unwrap();
    db.execute("UPDATE objects SET body = zeroblob(length(body)) WHERE key = 'default/web-07'", []).unwrap();
    cluster
        .api
        .modify("services", "default", "web-07", |s| s["metadata"]["labels"] = json!({"changed": "yes"}));
    // Either the change itself, when it was stored over the damage, or the word to list again.
    let told = watch.next_change(crate::tools::SOON).await.unwrap();
    assert!(told.kind == "ERROR" || told.object["metadata"]["labels"]["changed"] == "yes", "{told:?}");
    until_live(&cluster.hub).await;
    let item = client.get("/api/v1/namespaces/default/services/web-07?resourceVersion=0").await.unwrap();
    assert_eq!(item.expect(200).json()["metadata"]["labels"]["changed"], "yes");
}

/// The file is broken under the running hub: what the cloud says is passed on, and the next start begins afresh.
#[tokio::test]
async fn a_file_that_is_broken_under_the_hub_hides_nothing_of_the_cloud() {
    for spoil in [&|file: &Path| fs::write(file, vec![0xa5; 300_000]).unwrap(), &|file: &Path| {
        fs::write(file, []).unwrap()
    }] as [&dyn Fn(&Path); 2]
    {
        let (mut cluster, client) = filled().await;
        // Into the file, so that there is something to break.
        cluster.hub.stop().await;
        cluster.hub.start().await;
        until_live(&cluster.hub).await;
        spoil(&store(&cluster.hub));
        for n in 0..20 {
            cluster.api.create(objects::service("default", &format!("later-{n}"), &[("http", 80)]));
        }
        let client = Client::clone(&client);
        let list = client.get(SERVICES).await.unwrap().expect(200);
        assert!(list.text().contains("later-19"));
        let fresh = client.get(&format!("{SERVICES}?resourceVersion=0")).await.unwrap();
        assert_eq!(fresh.code(), 200, "{}", fresh.text());
        let patch = json!({"status": {"conditions": [{"type": "Told", "status": "True"}]}});
        client.patch(NODE_STATUS, "strategic-merge-patch", &patch).await.unwrap().expect(200);
        assert_eq!(cluster.hub.admin("/v1/healthz").await.unwrap().code(), 200);
        assert_eq!(metric(&cluster.hub, "yurthub_panics_total").await, 0);
        cluster.hub.crash_and_restart().await;
        until_link(&cluster.hub, "Online").await;
        let client = cluster.node_client(Protocol::Http2);
        client.get(SERVICES).await.unwrap().expect(200);
        cluster.relay.refuse().await;
        until_link(&cluster.hub, "Offline").await;
        client.get(SERVICES).await.unwrap().expect(200);
    }
}

/// An entry of the journal that is not as it was written stands among the conflicts; the others are delivered.
#[tokio::test]
async fn a_damaged_journal_entry_does_not_hold_up_the_others() {
    let (mut cluster, client) = filled().await;
    write_offline(&cluster, &client, "lost").await;
    let event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": {"name": "kept.1", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": NODE}, "reason": "Kept",
    });
    assert_eq!(client.post("/api/v1/namespaces/default/events", &event).await.unwrap().code(), 201);
    cluster.hub.stop().await;
    let db = Connection::open(store(&cluster.hub)).unwrap();
    assert_eq!(db.execute("UPDATE journal SET body = zeroblob(40) WHERE resource = 'nodes'", []).unwrap(), 1);
    drop(db);
    cluster.hub.start().await;
    let journal = status(&cluster.hub).await["journal"].clone();
    let expected = (&1.into(), &1.into(), &1.into());
    assert_eq!((&journal["length"], &journal["conflicts"], &journal["unreadable"]), expected, "{journal}");
    assert_eq!(metric(&cluster.hub, "yurthub_journal_unreadable_total").await, 1);
    assert!(cluster.hub.log().contains("cannot be read"), "{}", cluster.hub.log());
    cluster.relay.heal();
    until_link(&cluster.hub, "Online").await;
    until("the event", || async { cluster.api.get("events", "default", "kept.1") }).await;

    // The same while the hub runs.
    let client = cluster.node_client(Protocol::Http2);
    write_offline(&cluster, &client, "lost, too").await;
    let db = Connection::open(store(&cluster.hub)).unwrap();
    db.busy_timeout(crate::tools::SOON).unwrap();
    assert_eq!(db.execute("UPDATE journal SET body = zeroblob(40)", []).unwrap(), 1);
    drop(db);
    assert_eq!(status(&cluster.hub).await["journal"]["length"], 1, "the status needs no body");
    cluster.relay.heal();
    until_link(&cluster.hub, "Online").await;
    let journal = status(&cluster.hub).await["journal"].clone();
    let expected = (&0.into(), &2.into(), &2.into());
    assert_eq!((&journal["length"], &journal["conflicts"], &journal["unreadable"]), expected, "{journal}");
}
