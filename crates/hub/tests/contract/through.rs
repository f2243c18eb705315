//! Watches that begin as the cloud's own stream and go on in the collection that all share.

use std::time::Duration;

use serde_json::json;
use yurt_testkit::apiserver::Fault;
use yurt_testkit::client::{Client, WatchStream};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// A streaming list of now, which only the cloud can prove.
const OF_NOW: &str =
    "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
/// Long enough for what was sent to have arrived: for asserting that nothing more comes.
const QUIET: Duration = Duration::from_millis(200);

fn put(cluster: &Cluster, name: &str) -> u64 {
    version(&cluster.api.create(objects::config_map("default", name, &[])))
}

/// The stream after its beginning.
async fn begun(client: &Client, accept: &str, more: &str) -> WatchStream {
    let mut stream = client.watch(&format!("{MAPS}?{OF_NOW}{more}"), &single(accept)).await.unwrap();
    while !stream.next_within(SOON).await.unwrap().ends_initial_events() {}
    stream
}

/// The next events are these additions and nothing else, and the stream is open.
async fn hears(stream: &mut WatchStream, names: &[&str], who: &str) {
    for name in names {
        let event = stream.next_change(SOON).await.unwrap();
        assert_eq!((event.kind.as_str(), event.name()), ("ADDED", *name), "{who}");
    }
    let more = tokio::time::timeout(QUIET, stream.next()).await;
    assert!(more.is_err(), "{who}: {more:?}");
}

fn upstream(cluster: &Cluster) -> usize {
    cluster.api.open_watches().iter().filter(|e| e.path == MAPS).count()
}

/// How many clients the collection serves.
async fn watchers(cluster: &Cluster) -> u64 {
    let held = collections(&status(cluster).await, &["configmaps"]);
    held.first().and_then(|c| c["watchers"].as_u64()).unwrap_or(0)
}

/// P4: streaming lists cost one upstream watch a form in the end, outlive the link and say everything once.
#[tokio::test]
async fn streaming_lists_come_to_share_one_watch() {
    let cluster = online().await;
    put(&cluster, "a");
    let mut streams = Vec::new();
    for (n, accept) in [JSON, JSON, JSON, PROTOBUF, METADATA].into_iter().enumerate() {
        let client = reader(&cluster, &format!("user-{n}"), &["configmaps"]);
        streams.push((format!("user-{n} {accept}"), begun(&client, accept, "").await));
    }
    eventually("one watch of each form", async || upstream(&cluster) == 3).await;
    put(&cluster, "b");
    for (who, stream) in &mut streams {
        hears(stream, &["b"], who).await;
    }
    cut(&cluster).await;
    put(&cluster, "c");
    put(&cluster, "d");
    for (who, stream) in &mut streams {
        hears(stream, &[], who).await;
    }
    mend(&cluster).await;
    for (who, stream) in &mut streams {
        hears(stream, &["c", "d"], who).await;
    }
    assert_eq!(upstream(&cluster), 3);
}

/// P4: events that come while a stream is being moved are told once, in their order.
#[tokio::test]
async fn nothing_is_lost_or_told_twice_on_the_way() {
    let cluster = online().await;
    let client = reader(&cluster, "ann", &["configmaps"]);
    // The collection is there a while after the stream: events go by before, during and after the move.
    let slow = Fault::SlowFirstByte(Duration::from_millis(300));
    cluster.api.fault(slow, |_, path| path.starts_with(MAPS) && !path.contains("watch=true"));
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(begun(&client, JSON, "").await);
    }
    let mut written = Vec::new();
    while watchers(&cluster).await < 4 {
        written.push(put(&cluster, &format!("map-{:04}", written.len())));
    }
    written.push(put(&cluster, "last"));
    for stream in &mut streams {
        for at in &written {
            assert_eq!(stream.next_change(SOON).await.unwrap().version(), *at);
        }
    }
}

/// P4: a stream that could not be moved before is moved when the link takes it away, if anything can go on there.
#[tokio::test]
async fn a_stream_that_is_lost_goes_on_in_what_is_held() {
    let cluster = online().await;
    put(&cluster, "a");
    let is_list = |path: &str| path.starts_with(MAPS) && !path.contains("watch=true");
    cluster.api.fault_times(1, Fault::Fail(500, "InternalError"), move |_, path| is_list(path));
    let late = reader(&cluster, "bob", &["configmaps"]);
    let mut own = begun(&late, JSON, "").await;
    let lists = || cluster.api.audit().count(|e| e.path == MAPS && !e.watch);
    eventually("the list beside it has failed", async || lists() == 1).await;
    let (_, mut shared) = informer(&reader(&cluster, "ann", &["configmaps"]), MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    assert_eq!(upstream(&cluster), 2, "the cloud's own stream, and the collection's");
    put(&cluster, "b");
    hears(&mut own, &["b"], "bob").await;
    hears(&mut shared, &["b"], "ann").await;
    cut(&cluster).await;
    put(&cluster, "c");
    hears(&mut own, &[], "bob").await;
    mend(&cluster).await;
    hears(&mut own, &["c"], "bob").await;
    hears(&mut shared, &["c"], "ann").await;
    assert_eq!(upstream(&cluster), 1);
}

/// P4: the time that a client gave its watch is that of both parts.
#[tokio::test]
async fn a_stream_that_was_moved_ends_when_it_said() {
    let cluster = online().await;
    put(&cluster, "a");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let mut stream = begun(&client, JSON, "&timeoutSeconds=3").await;
    eventually("the stream is moved", async || watchers(&cluster).await == 1).await;
    let end = async {
        while let Some(event) = stream.next().await.unwrap() {
            assert_eq!(event.kind, "BOOKMARK", "where its client goes on");
        }
    };
    within("the stream ends", Duration::from_secs(5), end).await;
}

/// A wider collection that nobody can keep up to date any more, because the hub has started again since, takes no client
/// over: it would be told to list again at once.
#[tokio::test]
async fn nobody_is_moved_to_a_collection_that_cannot_be_kept() {
    let mut cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("k", "0")]));
    let (anna, bert) = (reader(&cluster, "anna", &["configmaps"]), reader(&cluster, "bert", &["configmaps"]));
    let own = "/api/v1/namespaces/default/configmaps";
    let change = |number: u32| {
        cluster.api.modify("configmaps", "default", "a", |o| o["data"]["k"] = json!(number.to_string()));
    };
    let (_, stream) = informer(&bert, own, JSON).await;
    until_collection(&cluster, &["configmaps", "default"], "live").await;
    drop(stream);
    change(1);
    let (_, stream) = informer(&anna, "/api/v1/configmaps", JSON).await;
    eventually("all of them are followed", async || {
        collections(&status(&cluster).await, &["configmaps"]).iter().filter(|c| c["state"] == "live").count()
            == 2
    })
    .await;
    // What happens elsewhere makes the wider one the newer one.
    let elsewhere = version(&cluster.api.create(objects::config_map("kube-system", "z", &[]))).to_string();
    eventually("the wider one is the newer one", async || {
        collections(&status(&cluster).await, &["configmaps"])
            .iter()
            .any(|c| c["resourceVersion"] == elsewhere.as_str())
    })
    .await;
    drop(stream);
    cluster.relay.refuse().await;
    cluster.hub.crash_and_restart().await;
    mend(&cluster).await;
    let bert = caller(&cluster, "bert");
    let path = format!(
        "{own}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(bert.watch(&path, JSON).await.unwrap());
    }
    for stream in &mut streams {
        while !stream.next_within(SOON).await.unwrap().ends_initial_events() {}
    }
    for number in 2..8 {
        cluster.api.modify("configmaps", "default", "a", |o| o["data"]["k"] = json!(number.to_string()));
        for stream in &mut streams {
            let event = stream.next_change(SOON).await.unwrap();
            assert_eq!(
                (event.kind.as_str(), &event.object["data"]["k"]),
                ("MODIFIED", &json!(number.to_string()))
            );
        }
    }
}
