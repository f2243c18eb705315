//! What cannot be asked for: said as the apiserver says it, with the link and without.

use serde_json::{Value, json};
use yurt_testkit::apiserver::{Entry, Fault, Kind, Rule};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Code, reason, message and details of a refusal, also of one that comes in a stream.
async fn refused(client: &Client, path: &str, accept: &str) -> (u16, Value, String, Value) {
    let answer = client.get_as(path, accept).await.unwrap();
    let mut status = decoded(&answer);
    if status["type"] == "ERROR" {
        status = status["object"].take();
    }
    assert_eq!(status["kind"], "Status", "{path}: {}", answer.text());
    let message = status["message"].as_str().unwrap_or_default();
    // What follows is the decoder's of the language that the server is written in.
    let words = message.split("continue key is not valid: illegal").next().unwrap_or_default();
    (answer.code(), status["reason"].clone(), words.to_owned(), status["details"].clone())
}

/// P4: each of these gets the same from the cloud, from the hub online, and from the hub offline.
#[tokio::test]
async fn what_is_wrong_is_wrong_offline_too() {
    let cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("key", "1")]));
    cluster.api.create(objects::pod("default", "web", NODE));
    let client = reader(&cluster, "ann", &["configmaps", "pods"]);
    for path in [MAPS, "/api/v1/pods", "/api/v1/namespaces/default/configmaps/a"] {
        client.get(path).await.unwrap().expect(200);
    }
    let (_, _live) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let direct = cluster.admin();
    let pods = "/api/v1/pods";
    let cases = [
        format!("{MAPS}?labelSelector=a%3D%3D%3Db"),
        format!("{MAPS}?labelSelector=-a%3Db"),
        format!("{MAPS}?labelSelector=a+in+b"),
        format!("{MAPS}?limit=abc"),
        format!("{MAPS}?fieldSelector=a"),
        format!("{MAPS}?fieldSelector=a%3Db%3Dc"),
        format!("{MAPS}?fieldSelector=spec.nodeName%3Da"),
        format!("{pods}?fieldSelector=spec.none%3Da"),
        format!("{MAPS}?limit=1&continue=e30"),
        format!("{MAPS}?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi9hIn0"),
        format!(
            "{MAPS}?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0&resourceVersion=1"
        ),
        format!("{MAPS}?limit=1&continue=e30&resourceVersionMatch=Exact&resourceVersion=0"),
        format!("{MAPS}?resourceVersion=abc"),
        format!("{MAPS}?resourceVersion=-1"),
        format!("{MAPS}/a?resourceVersion=abc"),
        format!("{MAPS}?resourceVersionMatch=Exact"),
        format!("{MAPS}?resourceVersionMatch=Most"),
        format!("{MAPS}?resourceVersion=0&resourceVersionMatch=Exact"),
        format!("{MAPS}?sendInitialEvents=true"),
        format!("{MAPS}?watch=true&sendInitialEvents=true"),
        format!("{MAPS}?watch=true&resourceVersionMatch=Exact"),
        format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=Exact"),
        format!("{MAPS}?watch=true&resourceVersion=abc"),
        format!("{MAPS}?watch=true&fieldSelector=spec.none%3Da"),
    ];
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        for path in &cases {
            for accept in [JSON, PROTOBUF] {
                let (expected, seen) =
                    (refused(&direct, path, accept).await, refused(&client, path, accept).await);
                assert_eq!(seen, expected, "offline: {away}, {accept}: {path}");
            }
        }
    }
}

/// P2, P4: which fields can be selected is known of built-in kinds, of every group; of custom resources only that name
/// and namespace can.
#[tokio::test]
async fn fields_that_a_kind_does_not_have_are_400() {
    let cluster = online().await;
    cluster.api.register(Kind::custom("example.org", "v1", "widgets", "Widget"));
    for name in ["a", "b"] {
        cluster.api.create(json!({"kind": "Widget", "apiVersion": "example.org/v1", "spec": {"size": 1},
            "metadata": {"name": name, "namespace": "default"}}));
        cluster.api.create(json!({"kind": "ReplicaSet", "apiVersion": "apps/v1", "status": {"replicas": 1},
            "metadata": {"name": name, "namespace": "default"}}));
    }
    cluster.api.allow(Rule::allow("ann", "get,list,watch", "*", "*"));
    let client = caller(&cluster, "ann");
    let widgets = "/apis/example.org/v1/widgets";
    let sets = "/apis/apps/v1/replicasets";
    let (jobs, slices) = ("/apis/batch/v1/jobs", "/apis/resource.k8s.io/v1/resourceslices");
    let leases = "/apis/coordination.k8s.io/v1/leases";
    for path in [widgets, sets, jobs, slices, leases, "/api/v1/nodes", "/api/v1/persistentvolumes"] {
        client.get(path).await.unwrap().expect(200);
    }
    let direct = cluster.admin();
    cut(&cluster).await;
    let refusals = [
        format!("{sets}?fieldSelector=status.replicas%3D1"),
        format!("{jobs}?fieldSelector=spec.completions%3D1"),
        format!("{slices}?fieldSelector=spec.pool%3D1"),
        format!("{leases}?fieldSelector=spec.holderIdentity%3Dedge-1"),
        format!("{leases}?watch=true&fieldSelector=spec.holderIdentity%3Dedge-1"),
        "/api/v1/nodes?fieldSelector=metadata.namespace%3Da".to_owned(),
    ];
    for path in refusals {
        for accept in [JSON, PROTOBUF, &format!("{TABLE},application/json")] {
            assert_eq!(
                refused(&client, &path, accept).await,
                refused(&direct, &path, accept).await,
                "{path}"
            );
        }
    }
    for path in [widgets, sets, leases] {
        for selector in
            ["metadata.name%3Da", "metadata.namespace%3Ddefault,metadata.name%21%3Db", "metadata.name%3Dx"]
        {
            let path = format!("{path}?fieldSelector={selector}");
            let (seen, expected) = (client.get(&path).await.unwrap(), direct.get(&path).await.unwrap());
            assert_eq!(names(&seen.expect(200)), names(&expected.expect(200)), "{path}");
        }
    }
    for taken in [
        format!("{jobs}?fieldSelector=status.successful%3D0"),
        "/api/v1/persistentvolumes?fieldSelector=metadata.namespace%3Da".into(),
    ] {
        client.get(&taken).await.unwrap().expect(200);
    }
    not_held(
        &client.get(&format!("{widgets}?fieldSelector=spec.size%3D1")).await.unwrap(),
        "it may be selectable",
    );
}

/// A version of long ago is said in the stream, in both encodings: there are clients that ask for ever when it is the
/// answer's own status (kube-rs).
#[tokio::test]
async fn an_old_version_of_a_watch_is_said_in_the_stream() {
    let cluster = online().await;
    let old = version(&cluster.api.create(objects::config_map("default", "a", &[("key", "1")])));
    cluster.api.create(objects::config_map("default", "b", &[("key", "1")]));
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _live) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    cut(&cluster).await;
    for accept in [JSON, PROTOBUF, &format!("{TABLE},application/json")] {
        let path = format!("{MAPS}?watch=true&resourceVersion={old}");
        let mut stream = client.watch(&path, accept).await.unwrap();
        let event = stream.next_within(SOON).await.unwrap();
        assert_eq!(
            (event.kind.as_str(), &event.object["code"], &event.object["reason"]),
            ("ERROR", &json!(410), &json!("Expired")),
            "{accept}"
        );
        let message = event.object["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("too old resource version: {old} (")), "{message}");
        assert_eq!(stream.next().await.unwrap(), None, "and that is its end");
    }
}

/// Waits until the hub knows that the caller may do this, which it did not do yet.
async fn granted(cluster: &Cluster, times: usize) {
    let asked = |e: &Entry| e.path.ends_with("selfsubjectaccessreviews") && e.finished;
    eventually("the other verbs are asked for", async || cluster.api.audit().count(asked) >= times).await;
    until_metric(cluster, "being_kept", |n| n == 0).await;
}

/// P2: what is held in another form only is named; what is not held at all stays unknown.
#[tokio::test]
async fn forms_that_cannot_be_made_are_406_and_name_what_is_held() {
    let cluster = online().await;
    cluster.api.register(Kind::custom("example.org", "v1", "widgets", "Widget"));
    let widget = json!({"kind": "Widget", "apiVersion": "example.org/v1",
        "metadata": {"name": "w", "namespace": "default"}, "spec": {"size": 1}});
    cluster.api.create(widget);
    cluster.api.create(objects::config_map("default", "a", &[("key", "1")]));
    cluster.api.allow(Rule::allow("ann", "get,list,watch", "*", "*"));
    let client = caller(&cluster, "ann");
    let widgets = "/apis/example.org/v1/namespaces/default/widgets";
    for path in [widgets, &format!("{widgets}/w")] {
        client.get(path).await.unwrap().expect(200);
    }
    client.get_as(MAPS, METADATA).await.unwrap().expect(200);
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    client.get_as(secrets, PROTOBUF).await.unwrap().expect(200);
    granted(&cluster, 3).await;
    cut(&cluster).await;
    let only = "only the following media types are accepted: ";
    let mut cases = vec![(MAPS.to_owned(), "text/html", format!("{only}{METADATA}, {METADATA_PROTOBUF}"))];
    for accept in [PROTOBUF, "application/cbor", "application/yaml"] {
        for path in [widgets.to_owned(), format!("{widgets}/w"), format!("{widgets}?watch=true")] {
            cases.push((path, accept, format!("{only}application/json")));
        }
    }
    for accept in ["application/cbor", "application/yaml", "application/cbor-seq"] {
        for path in [secrets.to_owned(), format!("{secrets}?watch=true")] {
            cases.push((path, accept, format!("{only}application/json, {PROTOBUF}")));
        }
    }
    for (path, accept, message) in cases {
        let (code, reason, said, _) = refused(&client, &path, accept).await;
        assert_eq!((code, &reason, said), (406, &json!("NotAcceptable"), message), "{path} {accept}");
    }
    not_held(&client.get(MAPS).await.unwrap(), "only its metadata was read");
    let unread = client.get_as("/api/v1/nodes", "application/yaml").await.unwrap();
    assert_eq!(unread.code(), 403, "who may not read it is not told what is held");
    client.get("/api/v1/namespaces/default/secrets").await.unwrap().expect(403);
}

/// P3: what cannot be read, or ends too early, reaches the client as it came, is never kept, and is counted.
#[tokio::test]
async fn bodies_that_cannot_be_read_pass_and_are_counted() {
    let cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("key", "1")]));
    let client = reader(&cluster, "ann", &["configmaps"]);
    let path = format!("{MAPS}?labelSelector=none");
    cluster.api.fault_times(1, Fault::Garbage("{\"kind\":\"ConfigMapList\",\"items\":[{"), |_, p| {
        p.contains("labelSelector")
    });
    let garbage = client.get(&path).await.unwrap().expect(200);
    assert_eq!(garbage.text(), "{\"kind\":\"ConfigMapList\",\"items\":[{");
    cluster.api.fault_times(1, Fault::Garbage("null"), |_, p| p.ends_with("/a"));
    assert_eq!(client.get(&format!("{MAPS}/a")).await.unwrap().expect(200).text(), "null");
    cluster.api.fault_times(1, Fault::CutBody(20), |_, p| p.contains("labelSelector"));
    assert_ne!(client.get(&path).await.map_or(0, |a| a.code()), 200, "what breaks off there breaks off here");
    until_link(&cluster, "Online").await;
    eventually("both are counted", async || {
        let metrics = cluster.hub.admin("/metrics").await.unwrap().text();
        metrics.contains("yurthub_answers_not_kept_total{reason=\"undecodable\"} 2")
    })
    .await;
    cut(&cluster).await;
    not_held(&client.get(&path).await.unwrap(), "half a list");
    not_held(&client.get(&format!("{MAPS}/a")).await.unwrap(), "no object");
}
