//! P9: what an outage of weeks or a busy node would make grow has an end, and nothing of what is let go stays in
//! the way.

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

const EVENTS: &str = "/api/v1/namespaces/default/events";
/// As many events as the journal keeps (docs/configuration.md).
const RING: usize = 1000;

fn event(name: &str, count: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "count": count, "reason": "BackOff",
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"}})
}

async fn tell(kubelet: &Client, name: &str) {
    kubelet.post(EVENTS, &event(name, 1)).await.unwrap().expect(201);
}

/// Scenario: a pod crashes again and again while the cloud is away for weeks.
#[tokio::test]
async fn events_that_the_ring_dropped_are_forgotten() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cluster.api.create(event("before", 1));
    let ann = reader(&cluster, "ann", &["events"]);
    let (_, mut stream) = informer(&ann, EVENTS, JSON).await;
    until_collection(&cluster, &["events"], "live").await;
    cut(&cluster).await;
    // Read all the while: a watcher that falls behind is told to list again.
    let watcher = tokio::spawn(async move {
        let (mut last, mut version) = (String::new(), 0);
        while last != "DELETED oldest" {
            let next = stream.next_change(SOON).await.unwrap();
            assert!(next.version() > version, "versions grow: {} after {version}", next.version());
            (last, version) = (format!("{} {}", next.kind, next.name()), next.version());
        }
    });
    let more = json!({"count": 2});
    tell(&kubelet, "oldest").await;
    kubelet.patch(&format!("{EVENTS}/oldest"), STRATEGIC, &more).await.unwrap().expect(200);
    for n in 1..RING {
        tell(&kubelet, &format!("e-{n:04}")).await;
    }
    assert_eq!(kubelet.get(&format!("{EVENTS}/oldest")).await.unwrap().expect(200).json()["count"], 2);
    tell(&kubelet, "newest").await;
    // Nobody is shown any more what the cloud will never hear of.
    within("the watcher hears that it is gone", SOON, watcher).await.unwrap();
    let list = ann.get(EVENTS).await.unwrap().expect(200);
    let listed = names(&list);
    assert_eq!(listed.len(), RING + 1, "those of the ring, and the one of the cloud");
    assert!(listed.contains(&"newest".to_owned()) && !listed.contains(&"oldest".to_owned()));
    not_held(&kubelet.get(&format!("{EVENTS}/oldest")).await.unwrap(), "an event that was dropped");
    mend(&cluster).await;
    // Dropped events do not stand in the way of what the node says of them now.
    let answer = kubelet.post(EVENTS, &event("oldest", 1)).await.unwrap().expect(201);
    assert_eq!(source(&answer), "cloud");
    let answer = kubelet.patch(&format!("{EVENTS}/oldest"), STRATEGIC, &more).await.unwrap().expect(200);
    assert_eq!(source(&answer), "cloud", "it does not wait behind an entry that is not there");
}

/// A number in the store, read beside the hub.
fn stored(cluster: &Cluster, sql: &str) -> i64 {
    let file = cluster.hub.options.root.join("cache/store.db");
    let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    store.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Grants of a user on disk.
fn grants(cluster: &Cluster, user: &str) -> i64 {
    stored(cluster, &format!("SELECT count(*) FROM remembered WHERE what = 'grant' AND owner = '{user}'"))
}

/// A node that runs Jobs has a new pod name every minute, for years.
#[tokio::test]
async fn the_kubelet_may_read_its_pods_without_a_grant_for_each() {
    let mut cluster = with_pods().await;
    let kubelet = node(&cluster);
    let job = |n: u32| format!("job-{n}");
    for n in 0..30 {
        cluster.api.create(objects::pod("default", &job(n), NODE));
    }
    eventually("the node holds its pods", async || {
        let held = kubelet.get_as(&format!("{OWN_PODS}&resourceVersion=0"), PROTOBUF).await.unwrap();
        source(&held).starts_with("cache") && names(&held).len() == 32
    })
    .await;
    let user = "system:node:edge-1";
    let before = grants(&cluster, user);
    for n in 0..30 {
        kubelet.get(&format!("{PODS}/{}", job(n))).await.unwrap().expect(200);
    }
    kubelet.get("/api/v1/namespaces/default/services/kubernetes").await.unwrap();
    eventually("what nothing else allows is written down", async || grants(&cluster, user) > before).await;
    cut(&cluster).await;
    cluster.hub.crash_and_restart().await;
    assert_eq!(grants(&cluster, user), before + 1);
    let again = node(&cluster).get(&format!("{PODS}/{}", job(7))).await.unwrap().expect(200);
    assert!(source(&again).starts_with("cache"), "and may read them all offline");
}

/// P9: a node sees ever new names, for years. What nobody uses any more makes room; what its pods need stays.
#[tokio::test]
async fn the_newest_collections_have_a_place_however_many_there_were() {
    const NAMES: usize = 1100;
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let named =
        |name: &str| format!("/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3D{name}");
    let needed = named(&objects::config_of("web"));
    cluster.api.create(objects::config_map("default", &objects::config_of("web"), &[("mode", "edge")]));
    kubelet.get(&needed).await.unwrap().expect(200);
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let bob = reader(&cluster, "bob", &["configmaps"]);
    bob.get(&named("c-first")).await.unwrap().expect(200);
    for n in 0..NAMES {
        ann.get(&named(&format!("c-{n}"))).await.unwrap().expect(200);
    }
    until_metric(&cluster, "collections", |n| n == 1024).await;
    until_metric(&cluster, "collections_let_go_total", |n| n as usize >= NAMES - 1024).await;
    cut(&cluster).await;
    ann.get(&named(&format!("c-{}", NAMES - 1))).await.unwrap().expect(200);
    not_held(&bob.get(&named("c-first")).await.unwrap(), "the one that nobody used for longest");
    let held = kubelet.get(&needed).await.unwrap().expect(200);
    assert_eq!(names(&held), [objects::config_of("web")], "older still, but of the node");
}

/// A collection in which nothing happens goes on from the last bookmark, not from its list.
#[tokio::test]
async fn a_quiet_collection_is_resumed_from_its_last_bookmark() {
    let mut cluster = online().await;
    let ann = reader(&cluster, "ann", &["services"]);
    let list = ann.get("/api/v1/services").await.unwrap().expect(200);
    let from = version(&list.json());
    cluster.api.create(objects::config_map("default", "elsewhere", &[]));
    let watch = format!("/api/v1/services?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let _stream = ann.watch(&watch, JSON).await.unwrap();
    let sql = "SELECT max(rv) FROM collections WHERE resource = 'services'";
    eventually("the bookmark is on disk", async || stored(&cluster, sql) > from as i64).await;
    cluster.hub.crash_and_restart().await;
    let held = collections(&status(&cluster).await, &["services"]);
    let resumed: u64 = held[0]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(resumed > from, "{resumed} after a list of {from}");
}
