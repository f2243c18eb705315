//! Metadata alone, asked for offline of what is held whole: what the cloud would have cut out of the same objects.

use serde_json::{Value, json};
use yurt_testkit::apiserver::{Kind, Rule};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/pods";
const WIDGETS: &str = "/apis/example.org/v1/namespaces/default/widgets";
const ALONE: [&str; 2] = [METADATA, METADATA_PROTOBUF];
/// What the metadata client of client-go takes.
const INFORMER: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// A node that follows maps in JSON, pods in protobuf and a custom resource, each whole.
async fn followed() -> (Cluster, Client) {
    let cluster = online().await;
    cluster.api.register(Kind::custom("example.org", "v1", "widgets", "Widget"));
    let mut map = objects::config_map("default", "a", &[("key", "1")]);
    map["metadata"]["labels"] = json!({"app": "web"});
    map["metadata"]["annotations"] = json!({"note": "\"metadata\":{}"});
    cluster.api.create(map);
    cluster.api.create(objects::pod("default", "web", NODE));
    cluster.api.create(json!({"kind": "Widget", "apiVersion": "example.org/v1", "spec": {"size": 1},
        "metadata": {"name": "w", "namespace": "default", "labels": {"app": "web"}}}));
    cluster.api.allow(Rule::allow("ann", "get,list,watch", "*", "*"));
    let ann = caller(&cluster, "ann");
    for (path, accept, name) in
        [(MAPS, JSON, "configmaps"), (PODS, PROTOBUF, "pods"), (WIDGETS, JSON, "widgets")]
    {
        let (_, _stream) = informer(&ann, path, accept).await;
        until_collection(&cluster, &[name], "live").await;
    }
    for one in [format!("{MAPS}/a"), "/api/v1/namespaces/default/pods/web".into(), format!("{WIDGETS}/w")] {
        ann.get(&one).await.unwrap().expect(200);
    }
    (cluster, ann)
}

/// P1, P4: lists and objects, in both encodings, are the cloud's own down to their kind.
#[tokio::test]
async fn what_is_held_whole_answers_for_its_metadata() {
    let (mut cluster, ann) = followed().await;
    let direct = cluster.admin();
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        for accept in ALONE {
            let lists = [
                MAPS.to_owned(),
                PODS.to_owned(),
                WIDGETS.to_owned(),
                format!("{MAPS}?labelSelector=app%3Dweb"),
                format!("{MAPS}?labelSelector=app%3Dnone"),
                format!("{PODS}?fieldSelector=spec.nodeName%3D{NODE}"),
                format!("{MAPS}?limit=1"),
            ];
            for path in lists {
                let expected = decoded(&direct.get_as(&path, accept).await.unwrap().expect(200));
                let answer = ann.get_as(&path, accept).await.unwrap().expect(200);
                assert!(!answer.header("warning").is_empty(), "{path}");
                let mut seen = decoded(&answer);
                assert_eq!(seen["kind"], "PartialObjectMetadataList", "{path} {accept}");
                // Version and token tell of the state that the node has.
                seen["metadata"] = expected["metadata"].clone();
                assert_eq!(seen, expected, "{path} {accept}");
            }
            for path in
                [format!("{MAPS}/a"), "/api/v1/namespaces/default/pods/web".into(), format!("{WIDGETS}/w")]
            {
                let accept = single(accept);
                let expected = decoded(&direct.get_as(&path, &accept).await.unwrap().expect(200));
                let seen = decoded(&ann.get_as(&path, &accept).await.unwrap().expect(200));
                assert_eq!(seen, expected, "{path} {accept}");
            }
        }
        let missing = ann.get_as(&format!("{MAPS}/none"), &single(METADATA)).await.unwrap();
        assert_eq!((missing.code(), &missing.json()["reason"]), (404, &json!("NotFound")));
    }
}

/// What a client takes first is what it gets, also where the objects themselves have no protobuf.
#[tokio::test]
async fn a_metadata_informer_gets_its_first_choice() {
    let (cluster, ann) = followed().await;
    cut(&cluster).await;
    for path in [MAPS, PODS, WIDGETS] {
        let list = ann.get_as(path, INFORMER).await.unwrap().expect(200);
        assert_eq!(list.header("content-type"), PROTOBUF, "{path}");
        assert_eq!(decoded(&list)["kind"], "PartialObjectMetadataList", "{path}");
    }
}

fn is_bare(object: &Value) -> bool {
    let members = object.as_object().unwrap();
    object["kind"] == "PartialObjectMetadata"
        && object["apiVersion"] == "meta.k8s.io/v1"
        && members.keys().all(|k| ["kind", "apiVersion", "metadata"].contains(&k.as_str()))
}

/// P4: the events of a watch are cut down like the objects: those of the state that it begins with, those that were
/// missed, what the node writes, and bookmarks.
#[tokio::test]
async fn watches_show_the_metadata_of_every_change() {
    let (mut cluster, ann) = followed().await;
    let kubelet = node(&cluster);
    let before = version(&ann.get_as(PODS, JSON).await.unwrap().expect(200).json());
    let changed =
        cluster.api.modify("pods", "default", "web", |o| o["metadata"]["labels"] = json!({"n": "1"}));
    eventually("the change is held", async || {
        let list = ann.get_as(&format!("{PODS}?resourceVersion=0"), PROTOBUF).await.unwrap();
        decoded(&list)["items"][0]["metadata"]["labels"]["n"] == "1"
    })
    .await;
    cut(&cluster).await;
    cluster.hub.crash_and_restart().await;
    for accept in ALONE {
        let accept = single(accept);
        let initial =
            "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut all = ann.watch(&format!("{PODS}?{initial}"), &accept).await.unwrap();
        let mut missed =
            ann.watch(&format!("{PODS}?watch=true&resourceVersion={before}"), &accept).await.unwrap();
        let first = all.next_within(SOON).await.unwrap();
        assert_eq!((first.kind.as_str(), first.name()), ("ADDED", "web"));
        let end = all.next_within(SOON).await.unwrap();
        assert!(end.ends_initial_events(), "{end:?}");
        let told = missed.next_within(SOON).await.unwrap();
        assert_eq!((told.kind.as_str(), told.name()), ("MODIFIED", "web"));
        if accept.contains("json") {
            assert_eq!(told.version(), version(&changed), "as the cloud changed it");
        }

        let status = json!({"status": {"phase": "Running", "reason": accept}});
        let path = "/api/v1/namespaces/default/pods/web/status";
        kubelet.patch(path, "strategic-merge-patch", &status).await.unwrap().expect(200);
        for stream in [&mut all, &mut missed] {
            let event = stream.next_change(SOON).await.unwrap();
            assert_eq!((event.kind.as_str(), event.name()), ("MODIFIED", "web"), "{accept}");
            assert!(is_bare(&event.object), "{accept}: {:#}", event.object);
            assert_eq!(event.object["metadata"]["labels"]["n"], "1");
        }
        for event in [&first, &end, &told] {
            assert!(is_bare(&event.object), "{accept}: {:#}", event.object);
        }
    }
}

/// What the apiserver takes up and cannot make is 406 offline, too, whatever else the client takes
/// (`asPartialObjectMetadata` of `k8s.io/apiserver/pkg/endpoints/handlers/response.go`).
#[tokio::test]
async fn metadata_is_asked_for_in_the_shape_of_the_answer() {
    let (cluster, ann) = followed().await;
    cut(&cluster).await;
    let one = format!("{MAPS}/a");
    let watch = format!("{MAPS}?watch=true&resourceVersion=0");
    for version in ["v1", "v1beta1"] {
        let list = METADATA.replace("v=v1", &format!("v={version}"));
        let cases = [
            (MAPS, single(&list), "is a list"),
            (&one, list.clone(), "not a list"),
            (&watch, list, "not a list"),
        ];
        for (path, accept, why) in cases {
            let answer = ann.get_as(path, &format!("{accept},application/json")).await.unwrap();
            let status = answer.json();
            assert_eq!((answer.code(), &status["reason"]), (406, &json!("NotAcceptable")), "{path} {accept}");
            assert!(status["message"].as_str().unwrap().contains(why), "{status:#}");
        }
    }
}

/// Clients from before `meta.k8s.io/v1` get what the apiserver still makes for them.
#[tokio::test]
async fn metadata_comes_in_its_older_types() {
    let (cluster, ann) = followed().await;
    cut(&cluster).await;
    let old = |accept: &str| accept.replace("v=v1", "v=v1beta1");
    let renamed = |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().replace("meta.k8s.io/v1", "meta.k8s.io/v1beta1")).unwrap()
    };
    for (path, accept) in [
        (MAPS.to_owned(), METADATA.to_owned()),
        (PODS.to_owned(), METADATA.to_owned()),
        (format!("{WIDGETS}/w"), single(METADATA)),
    ] {
        let new = ann.get_as(&path, &accept).await.unwrap().expect(200).json();
        let answer = ann.get_as(&path, &old(&accept)).await.unwrap().expect(200);
        assert_eq!((answer.json(), answer.header("content-type")), (renamed(&new), JSON), "{path}");
    }
    let path = format!("{MAPS}?watch=true&resourceVersion=0");
    let accept = single(METADATA);
    let new = ann.watch(&path, &accept).await.unwrap().next_within(SOON).await.unwrap();
    let seen = ann.watch(&path, &old(&accept)).await.unwrap().next_within(SOON).await.unwrap();
    assert_eq!((&seen.kind, &seen.object), (&new.kind, &renamed(&new.object)));
    let protobuf = ann.get_as(MAPS, &old(METADATA_PROTOBUF)).await.unwrap();
    assert_eq!(protobuf.code(), 406, "JSON alone is made of it");
}
