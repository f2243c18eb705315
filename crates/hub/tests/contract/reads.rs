//! Reads: every view a client had online it has offline, exactly, or it is told that it is not held.

use http::Method;
use serde_json::{Value, json};
use yurt_testkit::apiserver::Fault;
use yurt_testkit::client::{Client, KUBELET_ACCEPT};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config(cluster: &Cluster, name: &str, value: &str) -> Value {
    let mut object = objects::config_map("default", name, &[("key", value)]);
    object["metadata"]["labels"] = json!({"app": name, "all": "yes"});
    cluster.api.create(object)
}

/// Protobuf does not tell null from absent.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// P1, P3: the views of a stock kubelet, each by its own selector, none by another's.
#[tokio::test]
async fn every_view_of_a_kubelet_is_there_offline() {
    let mut cluster = online().await;
    for object in objects::pod_with_volumes("default", "web", NODE) {
        cluster.api.create(object);
    }
    cluster.api.create(objects::pod("default", "elsewhere", "edge-2"));
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    let mut headless = objects::service("default", "headless", &[("http", 80)]);
    headless["spec"]["clusterIP"] = json!("None");
    cluster.api.create(headless);
    let views = [
        ("/api/v1/services?fieldSelector=spec.clusterIP!%3DNone", vec!["kubernetes", "web"]),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1", vec!["edge-1"]),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1", vec!["web"]),
        ("/apis/storage.k8s.io/v1/csidrivers?", vec![]),
        ("/apis/node.k8s.io/v1/runtimeclasses?", vec![]),
        ("/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dweb-secret", vec!["web-secret"]),
        (
            "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dweb-config",
            vec!["web-config"],
        ),
        (
            "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt",
            vec!["kube-root-ca.crt"],
        ),
    ];
    let client = node(&cluster);
    let mut streams = Vec::new();
    for (path, expected) in &views {
        let (list, stream) = informer(&client, &format!("{path}&limit=500"), KUBELET_ACCEPT).await;
        assert_eq!(names(&list), *expected, "{path} online");
        streams.push((list, stream));
    }
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let client = node(&cluster);
        for ((path, _), (online, _)) in views.iter().zip(&streams) {
            for query in ["&limit=500&resourceVersion=0", "&resourceVersion=0", ""] {
                let list =
                    client.get_as(&format!("{path}{query}"), KUBELET_ACCEPT).await.unwrap().expect(200);
                assert_eq!(decoded(&list), decoded(online), "{path}{query}, restarted: {restarted}");
                assert!(source(&list).starts_with("cache"), "{}", source(&list));
                assert!(!list.header("age").is_empty());
                assert_eq!(list.header("warning").is_empty(), query.contains("Version"), "{path}{query}");
            }
        }
    }
}

/// P2, P3: a name that matches nothing is a complete empty collection: it says nothing of its siblings.
#[tokio::test]
async fn an_empty_view_of_a_name_does_not_hurt_its_siblings() {
    let cluster = online().await;
    config(&cluster, "there", "1");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let by_name = |name: &str| format!("{MAPS}?fieldSelector=metadata.name%3D{name}");
    let (empty, _a) = informer(&client, &by_name("missing"), JSON).await;
    let (one, _b) = informer(&client, &by_name("there"), JSON).await;
    assert_eq!((names(&empty).len(), names(&one).len()), (0, 1));
    for name in ["missing", "there", "other"] {
        client.get(&format!("{MAPS}/{name}")).await.unwrap();
    }
    cut(&cluster).await;
    assert_eq!(names(&client.get(&by_name("missing")).await.unwrap().expect(200)), Vec::<String>::new());
    assert_eq!(names(&client.get(&by_name("there")).await.unwrap().expect(200)), ["there"]);
    client.get(&format!("{MAPS}/there")).await.unwrap().expect(200);
    // Asked by name and watched by name: the collection proves that it does not exist. Nobody asked for the list.
    let missing = node(&cluster).get(&format!("{MAPS}/missing")).await.unwrap();
    assert!(matches!(missing.code(), 403 | 503), "the node may not know: {}", missing.text());
    let unasked = client.get(MAPS).await.unwrap();
    assert!(matches!(unasked.code(), 403 | 503), "{}", unasked.text());
}

/// P2: 404 only from a complete collection; whatever was never read is 503.
#[tokio::test]
async fn what_is_not_held_is_never_empty_and_never_missing() {
    let cluster = online().await;
    config(&cluster, "there", "1");
    let client = reader(&cluster, "ann", &["*"]);
    let (_, _stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps in default"], "live").await;
    client.get(&format!("{MAPS}/none")).await.unwrap().expect(404);
    let unread = [
        "/api/v1/namespaces/other/configmaps",
        "/api/v1/configmaps",
        "/api/v1/namespaces/default/secrets",
        "/api/v1/namespaces/default/secrets/x",
        "/apis/example.org/v1/widgets",
        "/apis/apps/v1/namespaces/default/deployments/web/scale",
        "/api/v1/nodes/edge-2",
    ];
    for path in unread {
        // The right to read it is known; only what it would read is not.
        cluster.api.allow(yurt_testkit::apiserver::Rule::allow("ann", "*", "*", "*"));
        client.get(path).await.unwrap();
    }
    cut(&cluster).await;
    client.get(&format!("{MAPS}/none")).await.unwrap().expect(404);
    assert_eq!(names(&client.get(MAPS).await.unwrap().expect(200)), ["kube-root-ca.crt", "there"]);
    for path in [
        "/api/v1/namespaces/default/pods",
        "/api/v1/namespaces/default/pods/x",
        "/apis/example.org/v1/widgets",
        "/api/v1/nodes/edge-3",
    ] {
        not_held(&node(&cluster).get(path).await.unwrap(), path);
    }
    let watch =
        client.get(&format!("{MAPS}?watch=true&labelSelector=a%3Db&fieldSelector=data.x%3Dy")).await.unwrap();
    assert_eq!(watch.code(), 400, "as the cloud would say: {}", watch.text());
}

/// P3: JSON, protobuf and metadata alone are collections of their own, whoever asks first.
#[tokio::test]
async fn representations_are_kept_apart() {
    let cluster = online().await;
    config(&cluster, "a", "1");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let forms = [
        (METADATA, "PartialObjectMetadataList"),
        (JSON, "ConfigMapList"),
        (METADATA_PROTOBUF, "PartialObjectMetadataList"),
        (PROTOBUF, "ConfigMapList"),
    ];
    let mut streams = Vec::new();
    for (accept, kind) in forms {
        let (list, stream) = informer(&client, MAPS, accept).await;
        assert_eq!(decoded(&list)["kind"], kind, "{accept}");
        streams.push(stream);
    }
    config(&cluster, "b", "2");
    for (stream, (accept, kind)) in streams.iter_mut().zip(forms) {
        let event = stream.next_change(SOON).await.unwrap();
        assert_eq!((event.kind.as_str(), event.name()), ("ADDED", "b"), "{accept}");
        assert_eq!(event.object["kind"], kind.trim_end_matches("List"), "{accept}");
        assert_eq!(event.object.get("data").is_some(), kind == "ConfigMapList", "{accept}");
    }
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        for (accept, kind) in forms {
            let list = client.get_as(&format!("{MAPS}?resourceVersion=0"), accept).await.unwrap().expect(200);
            let list = decoded(&list);
            assert_eq!(list["kind"], kind, "{accept}, away: {away}");
            let items = list["items"].as_array().unwrap();
            assert!(items.iter().all(|i| i.get("data").is_some() == (kind == "ConfigMapList")), "{list:#}");
            assert_eq!(items.len(), 3, "{accept}, away: {away}");
        }
    }
}

/// P3: the metadata of one object does not stand for the object.
#[tokio::test]
async fn single_objects_keep_their_representation() {
    let cluster = online().await;
    config(&cluster, "a", "1");
    config(&cluster, "b", "1");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let metadata = METADATA.replace("MetadataList", "Metadata");
    client.get_as(&format!("{MAPS}/a"), JSON).await.unwrap().expect(200);
    for name in ["a", "b"] {
        client.get_as(&format!("{MAPS}/{name}"), &metadata).await.unwrap().expect(200);
    }
    until_metric(&cluster, "fetched_objects", |n| n == 3).await;
    eventually("the hub knows who ann is, and what she may read", async || {
        // Whoever is not known yet is asked about again with the next read.
        for name in ["a", "b"] {
            client.get_as(&format!("{MAPS}/{name}"), &metadata).await.unwrap().expect(200);
        }
        let text = cluster.hub.admin("/metrics").await.unwrap().text();
        text.contains("\nyurthub_known_tokens 1\n") && text.contains("\nyurthub_grants 2\n")
    })
    .await;
    let held =
        async |name: &str, accept: &str| client.get_as(&format!("{MAPS}/{name}"), accept).await.unwrap();
    cut(&cluster).await;
    let full = held("a", JSON).await.expect(200).json();
    assert_eq!((&full["kind"], &full["data"]["key"]), (&json!("ConfigMap"), &json!("1")));
    for name in ["a", "b"] {
        assert_eq!(held(name, &metadata).await.expect(200).json()["kind"], "PartialObjectMetadata", "{name}");
    }
    not_held(&held("b", JSON).await, "only its metadata was read");
}

/// A selector on what metadata does not have cannot be answered from metadata.
#[tokio::test]
async fn metadata_cannot_answer_selectors_on_the_rest() {
    let cluster = online().await;
    cluster.api.create(objects::pod("default", "web", NODE));
    let client = reader(&cluster, "ann", &["pods"]);
    let (_, _stream) = informer(&client, "/api/v1/pods", METADATA).await;
    until_collection(&cluster, &["pods", "metadata"], "live").await;
    let selected = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1&resourceVersion=0";
    assert_eq!(names(&client.get_as(selected, METADATA).await.unwrap().expect(200)), ["web"]);
    let by_name = "/api/v1/pods?fieldSelector=metadata.name%3Dweb&resourceVersion=0";
    assert_eq!(names(&client.get_as(by_name, METADATA).await.unwrap().expect(200)), ["web"]);
    // This one was never asked online.
    cut(&cluster).await;
    let other = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-2&resourceVersion=0";
    not_held(&client.get_as(other, METADATA).await.unwrap(), "metadata has no spec");
}

/// Offline a JSON client is answered from protobuf rows and the other way round.
#[tokio::test]
async fn a_built_in_kind_is_written_as_the_client_reads_it() {
    let cluster = online().await;
    config(&cluster, "a", "1");
    let client = reader(&cluster, "ann", &["configmaps", "services"]);
    let (_, _s) = informer(&client, MAPS, PROTOBUF).await;
    let (_, _t) = informer(&client, "/api/v1/services", JSON).await;
    client.get(&format!("{MAPS}/a")).await.unwrap().expect(200);
    let seen = async |path: &str, accept: &str| {
        without_nulls(decoded(&client.get_as(path, accept).await.unwrap().expect(200)))
    };
    let mut online = Vec::new();
    for path in [MAPS, "/api/v1/services"] {
        online.push((path, seen(path, PROTOBUF).await));
    }
    cut(&cluster).await;
    for (path, online) in &online {
        for accept in [JSON, PROTOBUF] {
            assert_eq!(seen(path, accept).await["items"], online["items"], "{path} {accept}");
        }
    }
    let one = client.get_as(&format!("{MAPS}/a"), JSON).await.unwrap().expect(200);
    assert_eq!(one.header("content-type"), JSON);
    assert_eq!(one.json()["data"]["key"], "1");
}

/// P3: what came with a version asked for is of that version, or the client is told.
#[tokio::test]
async fn versions_are_honoured_offline() {
    let cluster = online().await;
    let first = version(&config(&cluster, "a", "1"));
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    client.get(&format!("{MAPS}/a")).await.unwrap().expect(200);
    let last = version(&config(&cluster, "b", "1"));
    assert_eq!(stream.next_change(SOON).await.unwrap().name(), "b");
    cut(&cluster).await;
    let get = async |query: &str| client.get(&format!("{MAPS}?{query}")).await.unwrap();
    let current = version(&get("").await.expect(200).json());
    assert!(current >= last);
    for query in [
        "resourceVersion=0".to_owned(),
        format!("resourceVersion={first}"),
        format!("resourceVersion={first}&resourceVersionMatch=NotOlderThan"),
        format!("resourceVersion={current}&resourceVersionMatch=Exact"),
        format!("resourceVersion={current}"),
    ] {
        assert_eq!(names(&get(&query).await.expect(200)).len(), 3, "{query}");
    }
    let exact = get(&format!("resourceVersion={first}&resourceVersionMatch=Exact")).await;
    assert_eq!((exact.code(), &exact.json()["reason"]), (410, &json!("Expired")), "an old state is not held");
    // k8s.io/apiserver/pkg/storage/errors.go, NewTooLargeResourceVersionError: client-go looks for the cause.
    for query in ["resourceVersionMatch=NotOlderThan&", "resourceVersionMatch=Exact&", ""] {
        let ahead = get(&format!("{query}resourceVersion={}", current + 1000)).await;
        let cause = ahead.json()["details"]["causes"][0].clone();
        assert_eq!(
            (ahead.code(), &ahead.json()["reason"]),
            (504, &json!("Timeout")),
            "{query}: {}",
            ahead.text()
        );
        assert_eq!(cause["reason"], "ResourceVersionTooLarge", "{query}: {}", ahead.text());
    }
    let object = client.get(&format!("{MAPS}/a?resourceVersion={}", current + 1000)).await.unwrap();
    assert_eq!(object.code(), 504, "{}", object.text());
    let bad = get("resourceVersion=0&resourceVersionMatch=Exact").await;
    assert!(matches!(bad.code(), 400 | 422), "{}", bad.text());
}

/// P3: pages pass through untouched, one page is never a collection, and a token of the cloud's is not
/// answered with something else.
#[tokio::test]
async fn pages_pass_and_are_never_taken_for_the_whole() {
    let cluster = online().await;
    for name in ["a", "b", "c", "d"] {
        config(&cluster, name, "1");
    }
    let client = reader(&cluster, "ann", &["configmaps"]);
    let path = format!("{MAPS}?labelSelector=all&limit=3");
    let first = client.get(&path).await.unwrap().expect(200);
    assert_eq!(names(&first), ["a", "b", "c"]);
    let token = first.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let next = format!("{path}&continue={token}");
    cut(&cluster).await;
    not_held(&client.get(&format!("{MAPS}?labelSelector=all")).await.unwrap(), "one page of two");
    let second = client.get(&next).await.unwrap();
    not_held(&second, "the page after it");
    mend(&cluster).await;
    assert_eq!(names(&client.get(&next).await.unwrap().expect(200)), ["d"]);
    // Now the whole is held, of a later version: a token still means a page of the one that it names.
    config(&cluster, "e", "1");
    client.get(&format!("{MAPS}?labelSelector=all")).await.unwrap().expect(200);
    cut(&cluster).await;
    assert_eq!(names(&client.get(&path).await.unwrap().expect(200)).len(), 3);
    let second = client.get(&next).await.unwrap();
    assert_eq!(second.code(), 410, "{}", second.text());
}

/// P1, P3: the pages of one list are one collection when the last has come, whatever happened between them.
#[tokio::test]
async fn pages_are_joined_when_the_last_one_came() {
    for accept in [JSON, PROTOBUF] {
        let cluster = online().await;
        for name in ["a", "b", "c", "d", "e"] {
            config(&cluster, name, "old");
        }
        let client = reader(&cluster, "ann", &["configmaps"]);
        let read = async |path: &str| decoded(&client.get_as(path, accept).await.unwrap().expect(200));
        let next = |path: &str, page: &Value| {
            format!("{path}&continue={}", page["metadata"]["continue"].as_str().unwrap())
        };
        // A list that is given up in the middle is nothing.
        let path = format!("{MAPS}?limit=2");
        let page = read(&path).await;
        read(&next(&path, &page)).await;
        let path = format!("{MAPS}?labelSelector=all&limit=2");
        let mut page = read(&path).await;
        let first = version(&page);
        cluster.api.modify("configmaps", "default", "e", |o| o["data"]["key"] = json!("new"));
        for _ in 0..2 {
            page = read(&next(&path, &page)).await;
        }
        cut(&cluster).await;
        not_held(&client.get_as(MAPS, accept).await.unwrap(), "two pages of three");
        let held = read(&format!("{MAPS}?labelSelector=all")).await;
        assert_eq!((held["items"].as_array().unwrap().len(), version(&held)), (5, first), "{accept}");
        assert_eq!(held["items"][4]["data"]["key"], "old", "the state of the first page's version");
        mend(&cluster).await;
        let from = format!("{MAPS}?labelSelector=all&watch=true&resourceVersion={first}");
        let mut stream = client.watch(&from, accept).await.unwrap();
        assert_eq!(
            stream.next_change(SOON).await.unwrap().object["data"]["key"],
            "new",
            "a watch goes on from it"
        );
    }
}

/// P3: a body that was cut, an error, or a page of another kind changes nothing that is held.
#[tokio::test]
async fn broken_answers_leave_what_is_held() {
    let cluster = online().await;
    config(&cluster, "a", "1");
    let client = reader(&cluster, "ann", &["configmaps"]);
    client.get(MAPS).await.unwrap().expect(200);
    config(&cluster, "b", "1");
    let of_maps = |_: &str, path: &str| path.starts_with(MAPS);
    for fault in [
        Fault::CutBody(150),
        Fault::Html,
        Fault::Empty(200),
        Fault::Fail(500, "InternalError"),
        Fault::TooManyRequests(1),
    ] {
        cluster.api.fault_times(1, fault.clone(), of_maps);
        let answer = client.get(MAPS).await;
        if let Ok(answer) = answer {
            let served = answer.code() == 200 && !matches!(fault, Fault::Empty(_));
            assert!(!served || names(&answer).len() >= 2, "{fault:?}: {}", answer.text());
        }
        until_link(&cluster, "Online").await;
    }
    cut(&cluster).await;
    assert_eq!(names(&client.get(MAPS).await.unwrap().expect(200)), ["a", "kube-root-ca.crt"]);
}

/// P1: what was read last is what is read offline, also when an older list is held beside it.
#[tokio::test]
async fn the_newest_that_was_seen_of_an_object_wins() {
    let cluster = online().await;
    config(&cluster, "a", "old");
    let client = reader(&cluster, "ann", &["configmaps"]);
    client.get(MAPS).await.unwrap().expect(200);
    cluster.api.modify("configmaps", "default", "a", |o| o["data"]["key"] = json!("new"));
    config(&cluster, "late", "1");
    let value = async |name: &str| client.get(&format!("{MAPS}/{name}")).await.unwrap();
    value("a").await.expect(200);
    value("late").await.expect(200);
    client.get("/api/v1/configmaps?labelSelector=app%3Da").await.unwrap().expect(200);
    cut(&cluster).await;
    assert_eq!(value("a").await.expect(200).json()["data"]["key"], "new");
    value("late").await.expect(200);
    // The whole list is the older state, and says so by its version; never a mixture.
    let list = client.get(MAPS).await.unwrap().expect(200);
    assert_eq!(names(&list), ["a", "kube-root-ca.crt"]);
    assert_eq!(list.json()["items"][0]["data"]["key"], "old");
    let selected = client.get(&format!("{MAPS}?labelSelector=app%3Da")).await.unwrap().expect(200);
    assert_eq!(selected.json()["items"][0]["data"]["key"], "new", "the newer of two that can answer");
}

/// Methods that the API does not have and heads without bodies are the cloud's to answer, and are not kept.
#[tokio::test]
async fn odd_methods_pass_and_leave_nothing_behind() {
    let cluster = online().await;
    config(&cluster, "a", "1");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let direct = cluster.admin();
    let one = format!("{MAPS}/a");
    for path in ["/version", "/api", MAPS, one.as_str()] {
        client.get(path).await.unwrap().expect(200);
        for method in ["HEAD", "OPTIONS", "TRACE", "BREW"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let send = async |who: &Client| who.send(method.clone(), path, "", Default::default()).await;
            let (hub, cloud) = (send(&client).await, send(&direct).await);
            let hub = hub.unwrap_or_else(|e| panic!("{method} {path}: {e:?}, direct: {cloud:?}"));
            let cloud = cloud.unwrap();
            assert_eq!(hub.code(), cloud.code(), "{method} {path}: {} / {}", hub.text(), cloud.text());
        }
    }
    cut(&cluster).await;
    for path in ["/version", "/api", MAPS, one.as_str()] {
        assert!(!client.get(path).await.unwrap().expect(200).body.is_empty(), "{path}");
        let head = client.send(Method::HEAD, path, "", Default::default()).await;
        let head = head.unwrap_or_else(|e| panic!("HEAD {path}: {e:?}"));
        assert!(head.body.is_empty(), "a head has no body: {path}");
        let odd =
            client.send(Method::from_bytes(b"BREW").unwrap(), path, "", Default::default()).await.unwrap();
        assert!(matches!(odd.code(), 405 | 503), "{path}: {}", odd.code());
    }
}

/// A client that takes gzip gets bytes that it can read, online and offline.
#[tokio::test]
async fn compression_is_never_half_understood() {
    let cluster = online().await;
    config(&cluster, "a", &"x".repeat(200_000));
    let client = reader(&cluster, "ann", &["configmaps"]).header("accept-encoding", "gzip");
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        for path in [MAPS.to_owned(), format!("{MAPS}/a"), "/api".to_owned()] {
            let answer = client.get(&path).await.unwrap().expect(200);
            assert_eq!((answer.header("content-encoding"), answer.json().is_object()), ("", true), "{path}");
        }
    }
}

/// P1: what is asked for again and again is kept once, and again when it has changed, went away, or came back.
#[tokio::test]
async fn a_read_that_is_repeated_is_offline_what_it_was_last() {
    let cluster = online().await;
    config(&cluster, "asked", "first");
    let (client, path) = (reader(&cluster, "ann", &["configmaps"]), format!("{MAPS}/asked"));
    let read = async || client.get_as(&path, JSON).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read().await.expect(200).json()["data"]["key"], "first");
    }
    cluster.api.modify("configmaps", "default", "asked", |o| o["data"]["key"] = json!("second"));
    for _ in 0..3 {
        assert_eq!(read().await.expect(200).json()["data"]["key"], "second");
    }
    cut(&cluster).await;
    assert_eq!(read().await.expect(200).json()["data"]["key"], "second");
    mend(&cluster).await;
    let last = read().await.expect(200).body;
    cluster.api.delete("configmaps", "default", "asked");
    read().await.expect(404);
    cut(&cluster).await;
    not_held(&read().await, "what the cloud said is gone");
    mend(&cluster).await;
    config(&cluster, "asked", "third");
    assert_ne!(read().await.expect(200).body, last);
    cut(&cluster).await;
    assert_eq!(read().await.expect(200).json()["data"]["key"], "third");
}
