//! Watches that pass through to the cloud, because no collection could serve them, when the link is lost: they go on in
//! a collection or end as watches do, and their clients go on from where they are.

use std::time::Duration;

use serde_json::json;
use yurt_testkit::apiserver::Fault;
use yurt_testkit::client::{Client, Event, Protocol, WatchStream};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const BOOKMARKS: &str = "watch=true&allowWatchBookmarks=true";
/// Detection takes 5 s at most; nothing may hang for longer than this.
const BOUND: Duration = Duration::from_secs(12);

/// Reads what the watch begins with, up to the event that `last` knows.
async fn drain(stream: &mut WatchStream, what: &str, last: impl Fn(&Event) -> bool) -> u64 {
    loop {
        let event = stream.next_within(SOON).await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
        if last(&event) {
            return event.version();
        }
    }
}

/// A watch that passes, its name, and the version that its client has come to.
type Passing = (String, WatchStream, u64);

/// Every kind of watch that no collection serves: as of now, in tables, and of a version that only the cloud knows.
async fn passing(client: &Client, old: u64) -> Vec<Passing> {
    let now = format!("{MAPS}?{BOOKMARKS}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let from_old = format!("{MAPS}?{BOOKMARKS}&resourceVersion={old}");
    let tables = format!("{TABLE},application/json");
    let cases = [(now.clone(), JSON), (now, PROTOBUF), (from_old.clone(), JSON), (from_old, &tables)];
    let mut all = Vec::new();
    for (path, accept) in cases {
        let what = format!("{path} {accept}");
        let mut stream = client.watch(&path, accept).await.unwrap();
        assert_eq!(stream.headers["x-yurthub-source"], "cloud", "{what}");
        let of_table = |e: &Event| e.object["rows"][0]["cells"][0] == "b";
        let version = match path.contains("sendInitialEvents") {
            true => drain(&mut stream, &what, Event::ends_initial_events).await,
            false => drain(&mut stream, &what, |e| e.name() == "b" || of_table(e)).await,
        };
        all.push((what, stream, version));
    }
    all
}

async fn lost(cluster: &Cluster, silently: bool) {
    until_metric(cluster, "being_kept", |n| n == 0).await;
    if silently {
        cluster.relay.hold();
    } else {
        cluster.relay.refuse().await;
    }
}

/// P4: whether the link is refused or goes silent, over HTTP/2 and HTTP/1.1, none hangs or ends: they go on in the
/// collection that has filled beside them; so does a client that comes back, and misses nothing.
#[tokio::test]
async fn watches_that_pass_go_on_from_the_store() {
    for (silently, protocol) in [(false, Protocol::Http2), (false, Protocol::Http1), (true, Protocol::Http2)]
    {
        let (cluster, ann, old) = begun(protocol).await;
        let mut passing = passing(&ann, old).await;
        until_collection(&cluster, &["configmaps"], "live").await;
        lost(&cluster, silently).await;
        until_link(&cluster, "Offline").await;
        let mut open = Vec::new();
        for (what, stream, version) in passing.drain(..) {
            open.push((what.clone(), stream));
            let path = format!("{MAPS}?{BOOKMARKS}&resourceVersion={version}");
            let again = ann.watch(&path, JSON).await.unwrap();
            assert!(again.headers["x-yurthub-source"].to_str().unwrap().starts_with("cache"), "{what}");
            open.push((format!("again: {what}"), again));
        }
        mend(&cluster).await;
        cluster.api.create(objects::config_map("default", "c", &[("k", "1")]));
        for (what, stream) in &mut open {
            let next = stream.next_change(SOON).await.unwrap();
            let name = match next.object["kind"] == "Table" {
                true => next.object["rows"][0]["object"]["metadata"]["name"].as_str().unwrap(),
                false => next.name(),
            };
            assert_eq!((next.kind.as_str(), name), ("ADDED", "c"), "{what}");
        }
    }
}

/// P4: where nothing has filled beside it a watch ends cleanly, too, and the client that comes back is told that nothing
/// is held.
#[tokio::test]
async fn watches_that_nothing_can_continue_end_with_the_link() {
    for silently in [false, true] {
        let (cluster, ann, old) = begun(Protocol::Http2).await;
        let is_list = |_: &str, path: &str| path.starts_with(MAPS) && !path.contains("watch=true");
        cluster.api.fault(Fault::Fail(500, "InternalError"), is_list);
        let mut passing = passing(&ann, old).await;
        lost(&cluster, silently).await;
        for (what, stream, version) in &mut passing {
            ends(stream, what).await;
            let again = ann.get(&format!("{MAPS}?{BOOKMARKS}&resourceVersion={version}")).await.unwrap();
            assert_eq!(again.code(), 503, "{what}: {}", again.text());
        }
    }
}

/// A node with two maps and a reader of them; the version before them.
async fn begun(protocol: Protocol) -> (Cluster, Client, u64) {
    let cluster = online().await;
    let old = cluster.api.version();
    for name in ["a", "b"] {
        cluster.api.create(objects::config_map("default", name, &[("k", "1")]));
    }
    reader(&cluster, "ann", &["configmaps"]);
    let ann = cluster.client(protocol).timeout(SOON).token("ann-token");
    (cluster, ann, old)
}

async fn ends(stream: &mut WatchStream, what: &str) {
    let end = within(what, BOUND, stream.next()).await;
    assert_eq!(end.unwrap_or_else(|e| panic!("{what}: not a clean end: {e:#}")), None, "{what}");
}

/// A watch of which the cloud has not even sent the head ends the waiting with what the store says.
#[tokio::test]
async fn a_watch_that_was_never_answered_is_answered_from_the_store() {
    let cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("k", "1")]));
    let ann = reader(&cluster, "ann", &["configmaps", "secrets"]);
    let (_, _live) = informer(&ann, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    until_metric(&cluster, "being_kept", |n| n == 0).await;
    cluster.relay.hold();
    let now = format!("{MAPS}?{BOOKMARKS}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let held = async {
        let mut stream = ann.watch(&now, JSON).await.unwrap();
        drain(&mut stream, "from the store", Event::ends_initial_events).await
    };
    let unknown = async {
        let path = format!("/api/v1/namespaces/default/secrets?{BOOKMARKS}");
        ann.get(&path).await.unwrap()
    };
    let (_, unknown) =
        within("both are answered", BOUND, Box::pin(async { tokio::join!(held, unknown) })).await;
    assert_eq!(unknown.code(), 503, "{}", unknown.text());
    assert_eq!(unknown.json()["reason"], json!("ServiceUnavailable"));
}
