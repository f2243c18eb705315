//! `kubectl get --watch`: tables that the cloud writes while it answers, and the node when it does not, in one stream.

use std::time::Duration;

use serde_json::{Value, json};
use yurt_testkit::apiserver::Fault;
use yurt_testkit::client::{Client, Event, WatchStream};
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

const ALL_PODS: &str = "/api/v1/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
/// Long enough for what was sent to have arrived: for asserting that nothing more comes.
const QUIET: Duration = Duration::from_millis(300);

/// What `kubectl get RESOURCE --watch` does: a list in pages of 500, and the watch that goes on from it.
async fn kubectl(client: &Client, path: &str) -> WatchStream {
    let list = client.get_as(&format!("{path}?limit=500"), KUBECTL).await.unwrap().expect(200).json();
    assert_eq!(list["kind"], "Table");
    client.watch(&format!("{path}?watch=true&resourceVersion={}", version(&list)), KUBECTL).await.unwrap()
}

/// Its type, the name of its object, and whether it describes its columns.
fn shown(event: &Event) -> (&str, &str, bool) {
    assert_eq!(event.object["kind"], "Table", "{:#}", event.object);
    let row = &event.object["rows"][0];
    let name = row["object"]["metadata"]["name"].as_str().unwrap_or_default();
    (&event.kind, name, event.object["columnDefinitions"].is_array())
}

fn cell(event: &Event, at: usize) -> &Value {
    &event.object["rows"][0]["cells"][at]
}

async fn is_silent(stream: &mut WatchStream) {
    let more = tokio::time::timeout(QUIET, stream.next()).await;
    assert!(more.is_err(), "{more:?}");
}

/// P4: one stream through an outage: what the cloud tells, what the node writes, and what the cloud did meanwhile, each
/// of it once.
#[tokio::test]
async fn a_watch_that_began_online_outlives_the_link() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let ann = reader(&cluster, "ann", &["pods"]);
    let mut stream = kubectl(&ann, ALL_PODS).await;
    cluster.api.modify("pods", "default", "db", |pod| pod["metadata"]["labels"]["n"] = json!("1"));
    let event = stream.next_within(SOON).await.unwrap();
    assert_eq!(shown(&event), ("MODIFIED", "db", true), "by the cloud");
    until_collection(&cluster, &["pods", "(json)"], "live").await;

    cut(&cluster).await;
    cluster.api.create(objects::pod("default", "late", NODE));
    is_silent(&mut stream).await;
    report(&kubelet, "web", "Running").await;
    let event = stream.next_within(SOON).await.unwrap();
    // The simulated cloud has other columns of pods than the node.
    assert_eq!((shown(&event), cell(&event, 2)), (("MODIFIED", "web", true), &json!("Running")));
    report(&kubelet, "db", "Running").await;
    assert_eq!(shown(&stream.next_within(SOON).await.unwrap()), ("MODIFIED", "db", false));

    mend(&cluster).await;
    let mut added = 0;
    let end = version(&cluster.api.create(objects::pod("default", "last", NODE)));
    loop {
        let event = stream.next_within(SOON).await.unwrap();
        assert!(!shown(&event).2, "the columns are known");
        match (event.kind.as_str(), shown(&event).1) {
            ("ADDED", "late") => added += 1,
            ("ADDED", "last") => break assert_eq!(version(&event.object), end),
            ("MODIFIED", "web" | "db") => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(added, 1);
    is_silent(&mut stream).await;
}

/// Columns that the cloud described are not described again; a stream that was silent begins with them.
#[tokio::test]
async fn columns_are_described_once_and_are_those_of_the_rows() {
    let cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let (mut told, mut silent) = (kubectl(&ann, MAPS).await, None);
    for online in [true, false] {
        if !online {
            silent = Some(kubectl(&ann, MAPS).await);
            until_collection(&cluster, &["configmaps", "(json)"], "live").await;
            cut(&cluster).await;
            mend(&cluster).await;
        }
        cluster.api.create(objects::config_map("default", &format!("map-{online}"), &[("k", "1")]));
        let event = told.next_within(SOON).await.unwrap();
        assert_eq!(shown(&event), ("ADDED", format!("map-{online}").as_str(), online));
        assert_eq!(cell(&event, 1).to_string().trim_matches('"'), "1");
    }
    let event = silent.unwrap().next_within(SOON).await.unwrap();
    assert_eq!(shown(&event), ("ADDED", "map-false", true));
}

/// A watch that begins with an object that does not exist yet names no version, and was told nothing.
#[tokio::test]
async fn a_watch_that_was_told_nothing_outlives_the_link() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let ann = reader(&cluster, "ann", &["pods"]);
    let path = format!("{PODS}?fieldSelector=metadata.name%3Dstatic&resourceVersion=0&watch=true");
    let mut missing = ann.watch(&path, KUBECTL).await.unwrap();
    until_collection(&cluster, &["pods", "metadata.name", "(json)"], "live").await;
    cut(&cluster).await;
    is_silent(&mut missing).await;
    let mut mirror = objects::pod("default", "static", NODE);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "one"});
    kubelet.post(PODS, &mirror).await.unwrap().expect(201);
    assert_eq!(shown(&missing.next_within(SOON).await.unwrap()), ("ADDED", "static", true));
}

/// `kubectl get node NAME --watch` begins with the object and names no version: that of an object which has not changed
/// for long, further back than any history reaches.
#[tokio::test]
async fn a_watch_of_one_object_outlives_the_link() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let ann = reader(&cluster, "ann", &["nodes", "configmaps"]);
    let of = |path: &str, name: &str| {
        format!("{path}?fieldSelector=metadata.name%3D{name}&resourceVersion=0&watch=true")
    };
    cluster.api.create(objects::config_map("default", "a", &[("k", "1")]));
    cluster.api.create(objects::config_map("default", "later", &[]));
    let mut node = ann.watch(&of("/api/v1/nodes", NODE), KUBECTL).await.unwrap();
    assert_eq!(shown(&node.next_within(SOON).await.unwrap()), ("ADDED", NODE, true));
    let mut map = ann.watch(&of(MAPS, "a"), KUBECTL).await.unwrap();
    assert_eq!(shown(&map.next_within(SOON).await.unwrap()), ("ADDED", "a", true));
    until_collection(&cluster, &["configmaps", "metadata.name", "(json)"], "live").await;
    let nodes = collections(&status(&cluster).await, &["nodes"]);
    assert_eq!(nodes.len(), 1, "what the kubelet follows does for the node: {nodes:#?}");
    cut(&cluster).await;
    is_silent(&mut node).await;
    is_silent(&mut map).await;
    let labels = json!({"metadata": {"labels": {"zone": "west"}}});
    kubelet.patch(NODE_PATH, STRATEGIC, &labels).await.unwrap().expect(200);
    // The simulated cloud has other columns of nodes than the hub.
    assert_eq!(shown(&node.next_within(SOON).await.unwrap()), ("MODIFIED", NODE, true));
    mend(&cluster).await;
    cluster.api.modify("configmaps", "default", "a", |map| map["data"]["k"] = json!("2"));
    assert_eq!(shown(&map.next_within(SOON).await.unwrap()), ("MODIFIED", "a", false));
    is_silent(&mut map).await;
}

/// A collection that only such a watch needs is kept up to date all the time, and no longer than it lasts.
#[tokio::test]
async fn a_table_that_is_watched_keeps_its_objects() {
    let cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let stream = kubectl(&ann, MAPS).await;
    let watchers = async |wanted: u64| {
        eventually(&format!("{wanted} stand by"), async || {
            let held = collections(&status(&cluster).await, &["configmaps", "(json)"]);
            held.first().is_some_and(|c| c["watchers"] == wanted)
        })
        .await;
    };
    watchers(1).await;
    let second = kubectl(&ann, MAPS).await;
    watchers(2).await;
    eventually("one watch of the objects, for both", async || {
        let upstream = cluster.api.open_watches();
        upstream.iter().filter(|w| w.path == MAPS && !w.accept.contains("Table")).count() == 1
    })
    .await;
    drop((stream, second));
    watchers(0).await;
}

/// Where there is nothing to go on from the stream ends between two events, and never says what is not known.
#[tokio::test]
async fn a_watch_of_which_nothing_is_held_ends_cleanly() {
    let cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let is_read = |path: &str| path.starts_with(MAPS) && !path.contains("watch=true");
    let list = ann.get_as(&format!("{MAPS}?limit=1"), KUBECTL).await.unwrap().expect(200).json();
    cluster.api.fault(Fault::Fail(500, "InternalError"), move |_, path| is_read(path));
    let path = format!("{MAPS}?watch=true&resourceVersion={}", version(&list));
    let mut stream = ann.watch(&path, KUBECTL).await.unwrap();
    cluster.api.create(objects::config_map("default", "a", &[]));
    assert_eq!(shown(&stream.next_within(SOON).await.unwrap()), ("ADDED", "a", true));
    cut(&cluster).await;
    let end = within("the stream ends", SOON, stream.next()).await;
    assert!(matches!(end, Ok(None)), "{end:?}");
}
