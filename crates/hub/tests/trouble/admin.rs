//! What the hub says of itself.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::tools::{NODE, status, until, until_link};

/// Reads the text exposition of OpenMetrics as strictly as a scraper does; returns the samples by name.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("OpenMetrics ends with # EOF");
    let (mut found, mut types, mut series) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
            assert!(["TYPE", "HELP", "UNIT"].contains(&what), "{line}");
            if what == "TYPE" {
                assert!(types.insert(name.to_owned(), rest.to_owned()).is_none(), "{name} has two types");
            }
            continue;
        }
        let (name_and_labels, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        assert!(series.insert(name_and_labels.to_owned()), "twice: {line}");
        let name = name_and_labels.split('{').next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        let family = name.strip_suffix("_total").unwrap_or(name);
        let kind = types.get(family).unwrap_or_else(|| panic!("{name} has no type"));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        found.insert(name_and_labels.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")));
    }
    found
}

#[tokio::test]
async fn status_and_metrics_tell_what_is_held() {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    let client = cluster.node_client(Protocol::Http2);
    for object in objects::pod_with_volumes("default", "web", NODE) {
        cluster.api.create(object);
    }
    let path = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1";
    let list = client.get(path).await.unwrap().expect(200);
    let version = list.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let _watch =
        client.watch(&format!("{path}&watch=1&resourceVersion={version}"), "application/json").await.unwrap();
    let held = until("a live collection", || async {
        let status = status(&cluster.hub).await;
        status["collections"].as_array()?.iter().find(|c| c["state"] == "live").cloned()
    })
    .await;
    assert_eq!((&held["objects"], &held["watchers"]), (&1.into(), &1.into()), "{held}");
    assert!(held["ageSeconds"].as_i64().is_some_and(|s| (0..60).contains(&s)), "{held}");
    assert!(held["collection"].as_str().unwrap().contains("pods"), "{held}");
    let status = status(&cluster.hub).await;
    let link = &status["connectivity"];
    assert!(link["state"] == "Online" && link["since"].as_str().is_some_and(|s| s.ends_with('Z')), "{link}");
    let journal = &status["journal"];
    assert_eq!(
        (&journal["length"], &journal["oldest"], &journal["unreadable"]),
        (&0.into(), &serde_json::Value::Null, &0.into())
    );
    assert_eq!(status["store"]["found"], "fresh");
    assert!(status["lastReplay"].is_object());

    let answer = cluster.hub.admin("/metrics").await.unwrap().expect(200);
    assert!(
        answer.header("content-type").starts_with("application/openmetrics-text"),
        "{}",
        answer.header("content-type")
    );
    let samples = samples(&answer.text());
    // Every bound has a counter for what went over it.
    let bounds = [
        "refused_connections_total",
        "refused_admin_connections_total",
        "evicted_connections_total",
        "failed_handshakes_total",
        "expired_watches_total",
        "undecodable_bodies_total",
        "panics_total",
        "store_failures_total",
        "events_dropped_total",
        "grants_dropped_total",
        "damaged_collections_total",
    ];
    for name in bounds {
        assert_eq!(samples.get(&format!("yurthub_{name}")), Some(&0.0), "{name} in\n{}", answer.text());
    }
    for (name, value) in [
        ("online", 1.0),
        ("watchers", 1.0),
        ("collections_live", 1.0),
        ("journal_entries", 0.0),
        ("store_set_aside", 0.0),
    ] {
        assert_eq!(samples.get(&format!("yurthub_{name}")), Some(&value), "{name}");
    }
    assert!(samples.keys().any(|k| k.starts_with("yurthub_requests_total{") && k.contains("code=\"200\"")));
}

#[tokio::test]
async fn the_admin_answers_only_what_it_knows() {
    let cluster = Cluster::start(NODE).await;
    let admin =
        Client::new(&format!("http://127.0.0.1:{}", cluster.hub.ports().admin), "", None, Protocol::Http1);
    assert_eq!(admin.get("/").await.unwrap().code(), 404);
    assert_eq!(admin.get("/v1/healthz/").await.unwrap().code(), 404);
    let posted = admin.send(Method::POST, "/v1/healthz", "text/plain", "x".into()).await.unwrap();
    assert_eq!(posted.code(), 405);
    until_link(&cluster.hub, "Online").await;
    let ready = admin.get("/v1/readyz").await.unwrap();
    assert_eq!((ready.code(), ready.text().as_str()), (200, "OK"));
}
