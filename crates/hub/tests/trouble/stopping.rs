//! The ways in which a hub is told to end.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use yurt_testkit::client::{KUBELET_ACCEPT, Protocol};
use yurt_testkit::cluster::Cluster;

use crate::tools::{NODE, SOON, raw, signal, until, until_link};

/// Every stream that a client has open ends as HTTP says it, not as a broken connection.
#[tokio::test]
async fn watches_end_cleanly_and_the_store_is_carried_over() {
    let mut cluster = Cluster::start(NODE).await;
    let list = "/api/v1/services";
    let mut watches = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = cluster.node_client(protocol);
        let version = client.get(list).await.unwrap().expect(200).json()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned();
        for query in [
            format!("?watch=1&resourceVersion={version}"),
            "?watch=1".to_owned(),
            "?watch=1&resourceVersion=1".to_owned(),
        ] {
            for accept in ["application/json", KUBELET_ACCEPT] {
                watches.push(client.watch(&format!("{list}{query}"), accept).await.unwrap());
            }
        }
    }
    let wal = cluster.hub.options.root.join("cache/store.db-wal");
    assert!(wal.metadata().unwrap().len() > 0);
    let started = Instant::now();
    let ended = cluster.hub.stop().await;
    assert_eq!(ended.code(), Some(0), "{}", cluster.hub.log());
    for watch in &mut watches {
        // To its end: an error is a stream that was broken off.
        while tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap().is_some() {}
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!wal.exists(), "the WAL is in the file");
}

/// A client that has stopped reading does not keep the hub from ending.
#[tokio::test]
async fn stalled_clients_are_not_waited_for_long() {
    let mut cluster = Cluster::start(NODE).await;
    for n in 0..64 {
        let big = "x".repeat(100_000);
        cluster.api.create(yurt_testkit::objects::config_map(
            "default",
            &format!("big-{n}"),
            &[("data", &big)],
        ));
    }
    let path = "/api/v1/namespaces/default/configmaps";
    cluster.api.add_token("reader", yurt_testkit::apiserver::Principal::user("reader", &["system:masters"]));
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut stream = raw(&cluster.hub, b"http/1.1").await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer reader\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        stalled.push(stream);
    }
    let started = Instant::now();
    let ended = cluster.hub.stop().await;
    assert_eq!(ended.code(), Some(0), "{}", cluster.hub.log());
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(!cluster.hub.options.root.join("cache/store.db-wal").exists());
}

/// A cloud that does not answer does not keep the hub from ending, and nothing that was acknowledged is lost.
#[tokio::test]
async fn a_black_hole_is_not_waited_for() {
    let mut cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    let client = cluster.node_client(Protocol::Http2);
    client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    cluster.relay.hold();
    let waiting = client.clone();
    let never_read = tokio::spawn(async move { waiting.get("/api/v1/configmaps").await });
    until_link(&cluster.hub, "Offline").await;
    let patch = json!({"status": {"conditions": [{"type": "Told", "status": "True"}]}});
    client.patch("/api/v1/nodes/edge-1/status", "strategic-merge-patch", &patch).await.unwrap().expect(200);
    let started = Instant::now();
    assert_eq!(cluster.hub.stop().await.code(), Some(0), "{}", cluster.hub.log());
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    let _ = never_read.await.unwrap();
    cluster.relay.heal();
    cluster.hub.start().await;
    until_link(&cluster.hub, "Online").await;
    let cloud = cluster.api.get("nodes", "", NODE).unwrap();
    assert!(cloud["status"]["conditions"].to_string().contains("Told"), "{cloud:#}");
}

/// A signal during the start does not end the process half way.
#[tokio::test]
async fn signals_during_the_start_are_obeyed_after_it() {
    let mut cluster = Cluster::prepare(NODE, Default::default()).await;
    cluster.hub.spawn();
    let pki = cluster.hub.options.root.join("pki");
    // The first thing that is made after the signals are taken over.
    until("the start", async || cluster.hub.options.root.exists().then_some(())).await;
    for _ in 0..3 {
        signal(&cluster.hub, "-HUP");
    }
    assert_eq!(cluster.hub.stop().await.code(), Some(0), "{}", cluster.hub.log());
    assert!(!pki.join("ca.new").exists());
}

/// Whoever tells it twice does not want to wait; what was acknowledged is safe all the same.
#[tokio::test]
async fn a_second_signal_ends_the_waiting() {
    let mut cluster = Cluster::start(NODE).await;
    let mut stream = raw(&cluster.hub, b"http/1.1").await;
    stream
        .write_all(
            b"POST /api/v1/namespaces/default/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf",
        )
        .await
        .unwrap();
    signal(&cluster.hub, "-TERM");
    until("stopping", || async { cluster.hub.log().contains("stopping").then_some(()) }).await;
    let started = Instant::now();
    let ended = cluster.hub.stop().await;
    assert_eq!(ended.code(), Some(0), "{}", cluster.hub.log());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(!cluster.hub.options.root.join("cache/store.db-wal").exists());
}

/// sd_notify(3): ready when it serves, stopping before it ends.
#[tokio::test]
async fn the_service_manager_is_told() {
    let mut cluster = Cluster::prepare(NODE, Default::default()).await;
    let path = cluster.folder().path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    cluster.hub.options.environment.push(("NOTIFY_SOCKET".into(), path.into()));
    cluster.hub.start().await;
    let heard = || {
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    };
    assert!(heard().contains("READY=1"));
    assert_eq!(cluster.hub.stop().await.code(), Some(0));
    assert!(heard().contains("STOPPING=1"));
}
