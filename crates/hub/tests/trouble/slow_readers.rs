//! Clients that ask for much and take nothing of it: they wait alone, and what was read for them is bounded.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use yurt_testkit::apiserver::{Fault, Gate, Principal};
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::{Cluster, Hub};
use yurt_testkit::objects;

use crate::tools::{NODE, SOON, metric_with, raw, source, until, until_link};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const OBJECT: &str = "/api/v1/namespaces/default/configmaps/map-0";
const MIB: usize = 1 << 20;

/// A cloud with a list of so many MiB, and "admin", who may read it.
async fn with_list(mib: usize) -> Cluster {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    for n in 0..mib {
        cluster.api.create(objects::config_map("default", &format!("map-{n}"), &[("k", &"x".repeat(MIB))]));
    }
    cluster.api.add_token("admin", Principal::user("admin", &["system:masters"]));
    cluster
}

/// Answers of which nobody takes more than the first bytes, on one connection.
struct Unread(Vec<Response<Incoming>>);

impl Unread {
    async fn lists(hub: &Hub, count: usize) -> Self {
        Self::of(hub, MAPS, count).await
    }

    async fn of(hub: &Hub, path: &str, count: usize) -> Self {
        let stream = TokioIo::new(raw(hub, b"h2").await);
        let builder = http2::Builder::new(yurt_hub::tasks::Spawner).initial_stream_window_size(1024).clone();
        let (mut sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(async move { connection.await.ok() });
        let mut answers = Vec::new();
        for _ in 0..count {
            let request =
                Request::get(format!("{}{path}", hub.url())).header("authorization", "Bearer admin");
            let sent = sender.send_request(request.body(Full::<Bytes>::default()).unwrap());
            answers.push(tokio::time::timeout(SOON, sent).await.expect("a head").unwrap());
        }
        Unread(answers)
    }
}

/// P9: more readers of lists that stand still than a connection to the cloud has room for.
#[tokio::test]
async fn who_does_not_read_a_list_stops_nobody_else() {
    let cluster = with_list(1).await;
    cluster.api.create(objects::secret("default", "large", &[("k", &"x".repeat(MIB))]));
    let unread = Unread::lists(&cluster.hub, 40).await;
    assert!(unread.0.iter().all(|a| a.status() == 200));
    let other = cluster.client(Protocol::Http2).token("admin");
    // Nothing of this is held, so that only the cloud can answer.
    for path in ["/api/v1/namespaces/default/secrets/large", "/api/v1/services", "/api/v1/secrets"] {
        let answer = tokio::time::timeout(SOON, other.get(path)).await.expect(path).unwrap().expect(200);
        assert_eq!(source(&answer), "cloud", "{path}");
    }
}

/// What nobody reads is kept all the same, and who begins to read late gets it whole.
#[tokio::test]
async fn a_list_is_kept_though_its_client_reads_late() {
    let cluster = with_list(3).await;
    let unread = Unread::lists(&cluster.hub, 1).await;
    until("the list is held", async || {
        let status = crate::tools::status(&cluster.hub).await;
        let held = status["collections"].as_array()?;
        held.iter().any(|c| c["collection"].as_str().is_some_and(|c| c.contains("configmaps"))).then_some(())
    })
    .await;
    for answer in unread.0 {
        let body = answer.into_body().collect().await.expect("to its end").to_bytes();
        let list: serde_json::Value = serde_json::from_slice(&body).expect("a whole list");
        assert_eq!(list["items"].as_array().map(Vec::len), Some(4));
    }
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    let held = cluster.client(Protocol::Http2).token("admin").get(MAPS).await.unwrap().expect(200);
    assert!(source(&held).starts_with("cache"), "{}", source(&held));
}

/// P9: lists on their way into the store have a room together; what finds none passes, and is not kept.
#[tokio::test]
async fn lists_that_are_kept_do_not_take_all_memory() {
    let cluster = with_list(12).await;
    let before = peak(&cluster.hub);
    // All are on their way at the same time, each nearly whole.
    let gate = Gate::closed();
    let held = Fault::HoldBody(11 * MIB, gate.clone());
    cluster.api.fault_times(12, held, |_, path| path.starts_with(MAPS));
    let unread = Unread::lists(&cluster.hub, 12).await;
    let no_room = r#"yurthub_answers_not_kept_total{reason="no-room"}"#;
    until("no room", async || metric_with(&cluster.hub, no_room).await.filter(|n| *n >= 6)).await;
    let list = cluster.client(Protocol::Http2).token("admin").get(MAPS).await.unwrap().expect(200).json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(13), "whole, though not kept");
    let taken = peak(&cluster.hub) - before;
    assert!(taken < 110 * MIB, "{} MiB for 12 lists of 12 MiB", taken / MIB);
    gate.open();
    drop(unread);
    until("room again", async || {
        (metric_with(&cluster.hub, "yurthub_kept_bytes").await == Some(0)).then_some(())
    })
    .await;
}

/// An outage in which "admin" and "bob" may read lists of three MiB, and objects of one, of which nothing is on its way.
async fn offline() -> (Cluster, [Client; 2]) {
    let cluster = with_list(3).await;
    cluster.api.add_token("bob", Principal::user("bob", &["system:masters"]));
    let clients = ["admin", "bob"].map(|who| cluster.client(Protocol::Http2).token(who));
    for client in &clients {
        for path in [MAPS, OBJECT] {
            client.get(path).await.unwrap().expect(200);
        }
    }
    until("the list is kept, and who may read it", async || {
        (metric_with(&cluster.hub, "yurthub_being_kept").await == Some(0)).then_some(())
    })
    .await;
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    (cluster, clients)
}

async fn until_room(cluster: &Cluster) {
    until("room again", async || {
        (metric_with(&cluster.hub, "yurthub_view_bytes").await == Some(0)).then_some(())
    })
    .await;
}

/// P9: what nobody reads of the store is bounded, list, watch or object; who asks for more is told to come again, and
/// nobody else hears of it.
#[tokio::test]
async fn views_that_nobody_reads_do_not_take_all_memory() {
    let (cluster, [admin, bob]) = offline().await;
    let before = peak(&cluster.hub);
    let watch = format!("{MAPS}?watch=true&resourceVersion=0");
    for (path, fit) in [(MAPS, 10), (watch.as_str(), 10), (OBJECT, 31)] {
        let unread = Unread::of(&cluster.hub, path, fit + 1).await;
        let refused: Vec<_> = unread.0.iter().filter(|a| a.status() != 200).collect();
        assert_eq!(refused.len(), 1, "{path}");
        assert!(refused.iter().all(|a| a.status() == 429 && a.headers().contains_key("retry-after")));
        admin.get(MAPS).await.unwrap().expect(429);
        let begun = Instant::now();
        bob.get(MAPS).await.unwrap().expect(200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{path}: another one waited {:?}", begun.elapsed());
        let node = cluster.node_client(Protocol::Http2);
        assert_ne!(node.get("/api/v1/nodes/edge-1").await.unwrap().code(), 429);
        drop(unread);
        until_room(&cluster).await;
        admin.get(MAPS).await.unwrap().expect(200);
    }
    assert_eq!(metric_with(&cluster.hub, "yurthub_views_refused_total").await, Some(6));
    let taken = peak(&cluster.hub).saturating_sub(before);
    assert!(taken < 70 * MIB, "{} MiB for views of 3 MiB", taken / MIB);
}

/// Who finds no memory waits for a moment, and gets what it asked for as soon as there is some.
#[tokio::test]
async fn who_comes_when_the_memory_is_taken_waits_a_moment() {
    let (cluster, [admin, _]) = offline().await;
    for path in
        [MAPS.to_owned(), format!("{MAPS}?watch=true&resourceVersion=0&timeoutSeconds=1"), OBJECT.to_owned()]
    {
        // What is left has room for no object: one that had would be taken before the next is asked for.
        let unread = [(MAPS, 10), (OBJECT, 1)].map(|(path, count)| Unread::of(&cluster.hub, path, count));
        let unread = futures_util::future::join_all(unread).await;
        let waited = metric_with(&cluster.hub, "yurthub_views_waited_total").await.unwrap_or(0);
        let late: Vec<_> = (0..3)
            .map(|_| {
                let (client, path) = (admin.clone(), path.clone());
                tokio::spawn(async move { client.get(&path).await.unwrap() })
            })
            .collect();
        until("somebody waits", async || {
            let now = metric_with(&cluster.hub, "yurthub_views_waited_total").await?;
            (now > waited).then_some(())
        })
        .await;
        drop(unread);
        for answer in late {
            let answer = answer.await.unwrap().expect(200);
            assert!(answer.body.len() >= MIB, "{path}");
        }
        until_room(&cluster).await;
    }
    assert_eq!(metric_with(&cluster.hub, "yurthub_views_refused_total").await, Some(0));
}

/// The most memory that the hub ever had, in bytes.
fn peak(hub: &Hub) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
