//! watch: where it starts, what it says, how it ends.

use serde_json::{Value, json};
use yurt_testkit::client::WatchStream;

use crate::{Bench, SOON, version};

async fn watch(b: &Bench, query: &str) -> WatchStream {
    b.client.watch(&b.path(&format!("configmaps?watch=true&{query}")), "application/json").await.unwrap()
}

async fn label(b: &Bench, name: &str, value: &str) -> Value {
    let patch = json!({"metadata": {"labels": {"all": value}}});
    b.client
        .patch(&b.path(&format!("configmaps/{name}")), "merge-patch", &patch)
        .await
        .unwrap()
        .expect(200)
        .json()
}

/// The next change as (type, name, version).
async fn change(stream: &mut WatchStream) -> (String, String, u64) {
    let event = stream.next_change(SOON).await.unwrap();
    (event.kind.clone(), event.name().to_owned(), event.version())
}

pub async fn a_watch_goes_on_from_a_list(b: &Bench) {
    b.create("a").await;
    let list = b.get(&b.path("configmaps?labelSelector=all")).await;
    let created = b.create("b").await;
    let changed = label(b, "a", "yes2").await;
    let mut stream = watch(b, &format!("labelSelector=all&resourceVersion={}", version(&list))).await;
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "b".into(), version(&created)));
    assert_eq!(change(&mut stream).await, ("MODIFIED".into(), "a".into(), version(&changed)));
    b.client.delete(&b.path("configmaps/b"), &json!(null)).await.unwrap().expect(200);
    let (kind, name, at) = change(&mut stream).await;
    assert_eq!((kind.as_str(), name.as_str()), ("DELETED", "b"));
    assert!(at > version(&changed), "a deletion has a version of its own");
}

pub async fn a_watch_from_nothing_shows_the_present(b: &Bench) {
    b.create("b").await;
    b.create("a").await;
    for query in ["", "resourceVersion=0"] {
        let mut stream = watch(b, &format!("labelSelector=all&{query}")).await;
        for _ in 0..2 {
            assert_eq!(change(&mut stream).await.0, "ADDED", "{query}");
        }
    }
}

pub async fn leaving_the_selection_is_a_deletion(b: &Bench) {
    let object = b.create("a").await;
    let mut stream = watch(b, &format!("labelSelector=all%3Dyes&resourceVersion={}", version(&object))).await;
    let left = label(b, "a", "no").await;
    let event = stream.next_change(SOON).await.unwrap();
    assert_eq!((event.kind.as_str(), event.version()), ("DELETED", version(&left)));
    assert_eq!(event.object["metadata"]["labels"]["all"], "yes", "the last state that was selected");
    let back = label(b, "a", "yes").await;
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "a".into(), version(&back)));
}

pub async fn bookmarks_come_with_streaming_lists(b: &Bench) {
    b.create("a").await;
    b.create("b").await;
    let query =
        "labelSelector=all&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut stream = watch(b, query).await;
    let mut seen = Vec::new();
    let end = loop {
        let event = stream.next_within(SOON).await.unwrap();
        if event.ends_initial_events() {
            break event;
        }
        assert_eq!(event.kind, "ADDED");
        seen.push(event.name().to_owned());
    };
    assert_eq!((seen, end.kind.as_str()), (vec!["a".to_owned(), "b".to_owned()], "BOOKMARK"));
    assert_eq!((&end.object["kind"], &end.object["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let created = b.create("c").await;
    assert!(end.version() > 0 && end.version() < version(&created));
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "c".into(), version(&created)));
}

pub async fn timeouts_end_watches(b: &Bench) {
    let mut stream = watch(b, "labelSelector=none&timeoutSeconds=1").await;
    while let Some(event) = tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap() {
        assert_eq!(event.kind, "BOOKMARK");
    }
}

pub async fn an_old_version_is_gone(b: &Bench) {
    let Some(api) = &b.simulated else { return };
    let object = b.create("a").await;
    label(b, "a", "x").await;
    api.compact();
    let mut stream = watch(b, &format!("resourceVersion={}", version(&object))).await;
    let event = stream.next_within(SOON).await.unwrap();
    assert_eq!(
        (event.kind.as_str(), &event.object["code"], &event.object["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
    assert_eq!(stream.next().await.unwrap(), None);
    let list = format!("configmaps?resourceVersion={}&resourceVersionMatch=Exact", version(&object));
    b.client.get(&b.path(&list)).await.unwrap().expect(410);
}

pub async fn parameters_are_checked(b: &Bench) {
    for query in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
    ] {
        b.client.get(&b.path(&format!("configmaps?watch=true&{query}"))).await.unwrap().expect(422);
    }
    b.client.get(&b.path("configmaps?watch=true&resourceVersion=abc")).await.unwrap().expect(500);
    let future = version(&b.create("a").await) + 100_000;
    let query = format!("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={future}");
    let event = watch(b, &query).await.next_within(SOON).await.unwrap();
    assert_eq!((event.kind.as_str(), &event.object["code"]), ("ERROR", &json!(504)));
}

pub async fn names_can_be_watched(b: &Bench) {
    b.create("a").await;
    b.create("b").await;
    let mut by_field = watch(b, "fieldSelector=metadata.name%3Db").await;
    assert_eq!(change(&mut by_field).await.1, "b");
    let object = b.get(&b.path("configmaps/b?watch=true")).await;
    assert_eq!(object["metadata"]["name"], "b", "with a name in the path it is no watch");
    let legacy = format!("/api/v1/watch/namespaces/{}/configmaps/b", b.namespace);
    let mut legacy = b.client.watch(&legacy, "application/json").await.unwrap();
    assert_eq!(change(&mut legacy).await.1, "b");
}
