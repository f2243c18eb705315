//! What lies beside reads and writes of known kinds: documents, tunnels, unknown kinds, the first moments
//! of a process, a full cache.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use yurt_testkit::apiserver::{Entry, Kind, Options, Rule};
use yurt_testkit::client::{KUBELET_ACCEPT, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// P1: discovery, OpenAPI and the version are there offline, each in the form that was read.
#[tokio::test]
async fn documents_are_remembered_by_form() {
    let mut cluster = online().await;
    let ann = caller(&cluster, "ann");
    let paths = ["/version", "/api", "/apis", "/api/v1", "/apis/apps/v1", "/openapi/v3"];
    let read = async |path: &str, accept: &str| ann.get_as(path, accept).await.unwrap();
    let mut online = Vec::new();
    for path in paths {
        online.push(read(path, JSON).await.expect(200).json());
    }
    let both = format!("{AGGREGATED},application/json");
    let aggregated = read("/apis", &both).await.expect(200);
    let etag = aggregated.header("etag").to_owned();
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let ann = cluster.client(Protocol::Http2).timeout(SOON).token("ann-token");
        for (path, online) in paths.iter().zip(&online) {
            let held = ann.get_as(path, JSON).await.unwrap().expect(200);
            assert_eq!(
                (&held.json(), held.header("content-type").starts_with(JSON)),
                (online, true),
                "{path}"
            );
            assert!(source(&held).starts_with("cache"), "{path}");
        }
        let held = ann.get_as("/apis", &both).await.unwrap().expect(200);
        assert_eq!(held.json()["kind"], aggregated.json()["kind"]);
        if !etag.is_empty() {
            let same = ann.header("if-none-match", &etag).get_as("/apis", &both).await.unwrap();
            assert_eq!((same.code(), same.body.len()), (304, 0));
        }
        not_held(&ann.get("/apis/none.example/v1").await.unwrap(), "a document that nobody read");
        not_held(&ann.get("/healthz").await.unwrap(), "the cloud's health is not known");
        not_held(&ann.get("/metrics").await.unwrap(), "nor are its metrics");
    }
}

/// P1: what nobody read online is there for a client that begins offline with nothing: the lists of all groups, what
/// they say in the older forms, and the index of OpenAPI; each document of it under whatever hash it was read.
#[tokio::test]
async fn a_client_can_begin_offline() {
    let mut cluster = online().await;
    let ann = caller(&cluster, "ann");
    let schema = "/openapi/v3/apis/apps/v1";
    ann.get(&format!("{schema}?hash=OLD")).await.unwrap().expect(200);
    let plain = ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1"];
    let mut direct = Vec::new();
    for path in plain {
        direct.push(cluster.admin().get_as(path, JSON).await.unwrap().expect(200).json());
    }
    let roots = ["/version", "/api", "/apis", "/openapi/v3"];
    let by_hub = |e: &Entry, path: &str| e.path == path && e.user == "system:node:edge-1" && e.finished;
    eventually("the hub has fetched the roots", async || {
        roots.iter().all(|path| cluster.api.audit().count(|e| by_hub(e, path)) > 0)
    })
    .await;
    cut(&cluster).await;
    let kubectl = format!("{AGGREGATED},{},application/json", AGGREGATED.replace("v=v2", "v=v2beta1"));
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let ann = caller(&cluster, "ann");
        for root in roots {
            let held = async || ann.get_as(root, &kubectl).await.unwrap();
            eventually("what was fetched is kept", async || held().await.code() == 200).await;
            let answer = held().await;
            let aggregated = answer.json()["kind"] == "APIGroupDiscoveryList";
            assert_eq!(aggregated, ["/api", "/apis"].contains(&root), "{root}");
            if aggregated {
                assert_eq!(answer.header("content-type"), AGGREGATED);
                let etag = answer.header("etag").to_owned();
                let same = ann.header("if-none-match", &etag).get_as(root, &kubectl).await.unwrap();
                assert_eq!((same.code(), same.body.len()), (304, 0));
            }
        }
        for (path, direct) in plain.iter().zip(&direct) {
            // client-go says how long it waits.
            let held = ann.get_as(&format!("{path}?timeout=32s"), JSON).await.unwrap().expect(200).json();
            for (key, value) in direct.as_object().unwrap() {
                if key != "serverAddressByClientCIDRs" {
                    assert_eq!(&held[key], value, "{path}");
                }
            }
        }
        let index = ann.get("/openapi/v3").await.unwrap().expect(200).json();
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
        assert!(url.starts_with(schema) && !url.ends_with("OLD"));
        ann.get(&url).await.unwrap().expect(200);
        not_held(&ann.get("/openapi/v3/api/v1?hash=X").await.unwrap(), "one that nobody read");
        not_held(&ann.get("/openapi/v2").await.unwrap(), "the large one that nobody read");
        not_held(&ann.get("/apis/none.example/v1").await.unwrap(), "a group that is not known");
    }
}

/// exec and its like: bytes both ways while there is a link, a plain refusal when there is none.
#[tokio::test]
async fn tunnels_pass_and_end_with_the_link() {
    let cluster = online().await;
    cluster.api.create(objects::pod("default", "web", NODE));
    cluster.api.allow(Rule::allow("ann", "*", "", "pods/exec"));
    let ann = caller(&cluster, "ann");
    let exec = "/api/v1/namespaces/default/pods/web/exec?command=cat&stdin=true&stdout=true";
    for protocol in ["websocket", "SPDY/3.1"] {
        let mut stream = ann.upgrade(Method::POST, exec, protocol).await.unwrap();
        for word in ["first", "second"] {
            stream.write_all(word.as_bytes()).await.unwrap();
            let mut back = vec![0; word.len()];
            within("the echo", SOON, stream.read_exact(&mut back)).await.unwrap();
            assert_eq!(back, word.as_bytes(), "{protocol}");
        }
    }
    cut(&cluster).await;
    let refused = ann.upgrade(Method::POST, exec, "websocket").await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused:#}");
}

/// Scenario 8: an unknown CRD and objects of a megabyte, in full.
#[tokio::test]
async fn unknown_kinds_and_large_objects_are_kept_whole() {
    let cluster = online().await;
    cluster.api.register(Kind::custom("example.org", "v1", "widgets", "Widget"));
    let widget = json!({"kind": "Widget", "apiVersion": "example.org/v1", "metadata": {"name": "w", "namespace": "default"},
        "spec": {"anything": [1, {"deep": null, "text": "ü"}], "large": "x".repeat(1_000_000)}});
    cluster.api.create(widget.clone());
    cluster.api.allow(Rule::allow("ann", "get,list,watch", "*", "*"));
    let ann = caller(&cluster, "ann");
    let widgets = "/apis/example.org/v1/namespaces/default/widgets";
    let (online, mut stream) = informer(&ann, widgets, KUBELET_ACCEPT).await;
    cluster.api.modify("widgets.example.org", "default", "w", |o| o["spec"]["more"] = json!(1.5));
    assert_eq!(stream.next_change(SOON).await.unwrap().object["spec"]["more"], 1.5);
    ann.get(&format!("{widgets}/w")).await.unwrap().expect(200);
    cut(&cluster).await;
    let held = ann.get_as(widgets, KUBELET_ACCEPT).await.unwrap().expect(200).json();
    assert_eq!((&held["kind"], &held["apiVersion"]), (&online.json()["kind"], &online.json()["apiVersion"]));
    let one = ann.get(&format!("{widgets}/w")).await.unwrap().expect(200).json();
    for field in ["anything", "large"] {
        assert_eq!(
            (&held["items"][0]["spec"][field], &one["spec"][field]),
            (&widget["spec"][field], &widget["spec"][field])
        );
    }
    let metadata = ann.get_as(widgets, METADATA).await.unwrap().expect(200).json();
    let bare = &metadata["items"][0];
    assert_eq!((&bare["kind"], bare.get("spec")), (&json!("PartialObjectMetadata"), None));
}

/// A process that has just started waits for the cloud's first word before it turns anybody away.
#[tokio::test]
async fn a_restart_under_a_slow_link_turns_nobody_away() {
    let mut cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    ann.get(MAPS).await.unwrap().expect(200);
    cluster.api.allow(Rule::allow("new", "list,watch", "", "configmaps"));
    cluster.hub.kill().await;
    cluster.relay.delay(Duration::from_millis(100), Duration::from_millis(100));
    cluster.hub.start().await;
    let new = caller(&cluster, "new");
    let plain = cluster.client(Protocol::Http2).timeout(SOON);
    let watch = format!("{MAPS}?watch=true&resourceVersion=0&timeoutSeconds=1");
    let (list, watch, version, nobody) =
        tokio::join!(new.get(MAPS), new.get(&watch), new.get("/version"), plain.get(MAPS));
    let codes = [list, watch, version, nobody].map(|a| a.unwrap().code());
    assert_eq!(codes, [200, 200, 200, 403]);
    // With no link at all nobody is called unknown before that is certain.
    cluster.relay.hold();
    cluster.hub.crash_and_restart().await;
    let early = caller(&cluster, "early").get(MAPS).await.unwrap();
    assert!(matches!(early.code(), 401 | 503), "{}", early.code());
    until_link(&cluster, "Offline").await;
    eventually("then it is", async || caller(&cluster, "early").get(MAPS).await.unwrap().code() == 401).await;
}

/// P9, P2: what had to make room is not held, never half held, and is kept again when it is read again.
#[tokio::test]
async fn what_made_room_is_not_held_and_comes_back() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    cluster.hub.options.arguments = vec!["--cache-max-bytes".into(), (4 << 20).to_string()];
    cluster.hub.start().await;
    until_link(&cluster, "Online").await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let path = |n: usize| format!("/api/v1/namespaces/ns-{n}/configmaps");
    for n in 0..8 {
        cluster.api.create(objects::config_map(&format!("ns-{n}"), "large", &[("pad", &noise(900_000))]));
    }
    for n in 0..8 {
        // A machine that stands still for a second is a lost link for a moment.
        eventually("the cloud answers", async || ann.get(&path(n)).await.unwrap().code() == 200).await;
    }
    cut(&cluster).await;
    let mut missing = Vec::new();
    for n in 0..8 {
        let answer = ann.get(&path(n)).await.unwrap();
        match answer.code() {
            200 => assert_eq!(names(&answer), ["large"]),
            _ => {
                not_held(&answer, &path(n));
                missing.push(n);
            }
        }
    }
    assert!(!missing.is_empty() && missing.len() < 8, "{missing:?}");
    mend(&cluster).await;
    let first = missing[0];
    let (_, mut stream) = informer(&ann, &path(first), JSON).await;
    cluster.api.modify("configmaps", &format!("ns-{first}"), "large", |o| o["data"] = json!({"k": "v"}));
    assert_eq!(stream.next_change(SOON).await.unwrap().object["data"]["k"], "v");
    cut(&cluster).await;
    let again: Value = ann.get(&path(first)).await.unwrap().expect(200).json();
    assert_eq!(again["items"][0]["data"]["k"], "v");
}

/// Text that cannot be compressed much.
fn noise(length: usize) -> String {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    };
    (0..length).map(|_| next()).collect()
}
