//! Clients that are too many, too slow or no clients at all: bounded, counted, and nobody else's problem.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use yurt_testkit::apiserver::{Options, Principal};
use yurt_testkit::client::Protocol;
use yurt_testkit::cluster::{Cluster, yurthub};
use yurt_testkit::objects;

use crate::tools::{NODE, SOON, metric, raw, until, until_link};

const SERVICES: &str = "/api/v1/services";
/// With so many files the hub has 32 places for connections.
const FILES: u32 = 192;
const PLACES: usize = 32;
const TUNNELS: usize = 128;
const BODIES: &str = "yurthub_request_bodies_bytes";
const EVENTS: &str = "/api/v1/namespaces/default/events";

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

/// When every place is taken by somebody who is served, one more is refused at once, and counted; but the node, of which
/// nobody keeps the place.
#[tokio::test]
async fn connections_over_the_bound_are_refused_and_counted() {
    let cluster = crowded().await;
    cluster.api.add_token("admin", Principal::user("admin", &["system:masters"]));
    let admin = || cluster.client(Protocol::Http2).token("admin");
    let mut watches = Vec::new();
    for _ in 0..PLACES {
        let client = admin();
        watches
            .push((client.watch(&format!("{SERVICES}?watch=1"), "application/json").await.unwrap(), client));
    }
    let over = admin();
    assert!(over.get(SERVICES).await.is_err());
    assert_eq!(metric(&cluster.hub, "yurthub_refused_connections_total").await, 1);
    cluster.node_client(Protocol::Http2).get(SERVICES).await.unwrap().expect(200);
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

/// A request whose body lacks its end, when the hub has all of the rest; `None` when it answered instead.
async fn unfinished(cluster: &Cluster, length: usize) -> Option<TlsStream<TcpStream>> {
    let before = metric(&cluster.hub, BODIES).await;
    let mut stream = raw(&cluster.hub, b"http/1.1").await;
    let head = format!("POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&vec![b' '; length - 1000]).await.ok()?;
    let mut answer = [0; 12];
    let read = async {
        while metric(&cluster.hub, BODIES).await < before + length as u64 - 1000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = read => Some(stream),
        _ = stream.read(&mut answer) => None,
    }
}

/// What others send and never finish takes no room from the node.
#[tokio::test]
async fn unfinished_bodies_are_bounded() {
    let cluster = Cluster::start(NODE).await;
    let length = 3 << 20;
    let mut stalled = Vec::new();
    while stalled.len() < 5 {
        // Nobody in particular is refused before his body is read while the link is not judged to stand.
        until_link(&cluster.hub, "Online").await;
        stalled.extend(unfinished(&cluster, length).await);
    }
    let token = cluster.client(Protocol::Http2).token("somebody");
    let body = || Bytes::from(vec![b' '; length]);
    let post = async || token.send(Method::POST, EVENTS, "application/json", body()).await.unwrap();
    let over = until("too many", async || Some(post().await).filter(|a| a.code() == 429)).await;
    assert!(!over.header("retry-after").is_empty());
    let event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e.1", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": NODE}, "message": "x".repeat(1 << 20),
    });
    let node = cluster.node_client(Protocol::Http2);
    assert_eq!(node.post(EVENTS, &event).await.unwrap().code(), 201, "the node has room of its own");
    // Who sends no more is told so, and the room is free again.
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(30), stalled[0].read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    until("room", async || (metric(&cluster.hub, BODIES).await < 3 << 20).then_some(())).await;
    let after = post().await;
    assert_ne!(after.code(), 429, "{}", after.text());
}

/// exec, attach and port-forward: so many at once, and none beyond the link.
#[tokio::test]
async fn tunnels_are_bounded_and_end_with_the_link() {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    for object in objects::pod_with_volumes("default", "web", NODE) {
        cluster.api.create(object);
    }
    cluster.api.add_token("admin", Principal::user("admin", &["system:masters"]));
    let client = cluster.client(Protocol::Http1).token("admin");
    let path = "/api/v1/namespaces/default/pods/web/exec?command=sh";
    let mut tunnels = Vec::new();
    for _ in 0..TUNNELS {
        tunnels.push(client.upgrade(Method::POST, path, "SPDY/3.1").await.unwrap());
    }
    let over = client.upgrade(Method::POST, path, "SPDY/3.1").await;
    assert!(over.as_ref().is_err_and(|e| e.to_string().contains("429")), "{:?}", over.err());
    tunnels.truncate(TUNNELS - 1);
    until("a place", async || client.upgrade(Method::POST, path, "SPDY/3.1").await.ok()).await;
    let mut tunnel = tunnels.pop().unwrap();
    tunnel.write_all(b"echo").await.unwrap();
    let mut back = [0; 4];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"echo");
    cluster.relay.hold();
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, tunnel.read_to_end(&mut rest)).await.expect("it ends with the link").ok();
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
