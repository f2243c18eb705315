//! Clients that are too many, too slow or no clients at all: bounded, counted, and nobody else's problem.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use yurt_testkit::apiserver::Options;
use yurt_testkit::client::Protocol;
use yurt_testkit::cluster::{Cluster, yurthub};
use yurt_testkit::objects;

use crate::tools::{NODE, SOON, metric, raw, until, until_link};

const SERVICES: &str = "/api/v1/services";
/// With so many files the hub has 32 places for connections.
const FILES: u32 = 192;
const PLACES: usize = 32;

/// A hub in a process that may open few files.
async fn crowded() -> Cluster {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let script = cluster.folder().path().join("few-files");
    fs::write(&script, format!("#!/bin/sh\nulimit -n {FILES}\nexec {} \"$@\"\n", yurthub().display()))
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.hub.options.binary = script;
    cluster.hub.start().await;
    until_link(&cluster.hub, "Online").await;
    cluster
}

/// Connections that ask for nothing give way to one that does; one that is served is left alone.
#[tokio::test]
async fn idle_connections_never_lock_a_client_out() {
    let cluster = crowded().await;
    let first = cluster.node_client(Protocol::Http2);
    let list = first.get(SERVICES).await.unwrap().expect(200).json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = first
        .watch(&format!("{SERVICES}?watch=1&resourceVersion={version}"), "application/json")
        .await
        .unwrap();
    let mut idle = Vec::new();
    for n in 0..PLACES + 20 {
        if n % 3 == 0 {
            // Without even a handshake.
            idle.push(Err(TcpStream::connect(("127.0.0.1", cluster.hub.ports().secure)).await.unwrap()));
            continue;
        }
        let mut stream = raw(&cluster.hub, b"http/1.1").await;
        if n % 3 == 1 {
            stream.write_all(b"GET /api/v1/services HT").await.unwrap();
        }
        idle.push(Ok(stream));
    }
    let late = cluster.node_client(Protocol::Http2);
    late.get(SERVICES).await.unwrap().expect(200);
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    assert_eq!(watch.next_change(SOON).await.unwrap().name(), "web", "who is served is left alone");
    assert!(metric(&cluster.hub, "yurthub_evicted_connections_total").await >= 20);
    assert_eq!(metric(&cluster.hub, "yurthub_refused_connections_total").await, 0);
}

/// When every place is taken by somebody who is served, one more is refused at once, and counted.
#[tokio::test]
async fn connections_over_the_bound_are_refused_and_counted() {
    let cluster = crowded().await;
    let mut watches = Vec::new();
    for _ in 0..PLACES {
        let client = cluster.node_client(Protocol::Http2);
        watches
            .push((client.watch(&format!("{SERVICES}?watch=1"), "application/json").await.unwrap(), client));
    }
    let over = cluster.node_client(Protocol::Http2);
    assert!(over.get(SERVICES).await.is_err());
    assert_eq!(metric(&cluster.hub, "yurthub_refused_connections_total").await, 1);
    assert_eq!(metric(&cluster.hub, "yurthub_evicted_connections_total").await, 0);
    watches.truncate(PLACES - 2);
    until("a place", || async { over.get(SERVICES).await.ok().filter(|a| a.code() == 200) }).await;
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    for (watch, _) in &mut watches {
        while watch.next_change(SOON).await.unwrap().name() != "web" {}
    }
}

/// Bytes that are no TLS end their connection only.
#[tokio::test]
async fn garbage_instead_of_tls_is_counted() {
    let cluster = Cluster::start(NODE).await;
    for garbage in
        [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0; 500], &[0x16, 3, 1, 0xff, 0xff], b"SSH-2.0-x\r\n"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.hub.ports().secure)).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    }
    until("four failures", || async {
        (metric(&cluster.hub, "yurthub_failed_handshakes_total").await == 4).then_some(())
    })
    .await;
    until_link(&cluster.hub, "Online").await;
    cluster.node_client(Protocol::Http2).get(SERVICES).await.unwrap().expect(200);
}

/// Who says nothing, or half of something, is not listened to for ever. (Who has shaken hands and then is idle may
/// stay as long as nobody needs the place.)
#[tokio::test]
async fn silent_clients_are_dropped() {
    let cluster = Cluster::start(NODE).await;
    let mut silent = TcpStream::connect(("127.0.0.1", cluster.hub.ports().secure)).await.unwrap();
    let mut half = raw(&cluster.hub, b"http/1.1").await;
    half.write_all(b"GET /api/v1/services HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let dropped = async |what: &str, stream: &mut (dyn AsyncRead + Unpin + Send)| {
        let mut buffer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut buffer)).await;
        assert!(ended.is_ok(), "{what} is listened to for ever");
    };
    tokio::join!(dropped("no handshake", &mut silent), dropped("half a head", &mut half));
    assert_eq!(metric(&cluster.hub, "yurthub_failed_handshakes_total").await, 1);
}
