//! Requests that nobody should send: answered as the API answers them, or not at all, and the hub lives on.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use yurt_testkit::apiserver::Principal;
use yurt_testkit::client::{Answer, Client, Protocol};
use yurt_testkit::cluster::{Cluster, Hub};
use yurt_testkit::objects;

use crate::tools::{NODE, SOON, metric, raw, source, until_link};

const EVENTS: &str = "/api/v1/namespaces/default/events";
const NODE_STATUS: &str = "/api/v1/nodes/edge-1/status";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1";
const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";
const REVIEW: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TOO_LARGE: usize = (3 << 20) + 1;

/// A failure as the API tells it, with one of these codes.
#[track_caller]
fn is_failure(answer: &Answer, codes: &[u16], what: &str) {
    let status = answer.json();
    let shown: String = answer.text().chars().take(300).collect();
    assert!(codes.contains(&answer.code()), "{what}: {} {shown}", answer.code());
    assert_eq!(
        (&status["kind"], &status["status"]),
        (&"Status".into(), &"Failure".into()),
        "{what}: {shown}"
    );
    assert_eq!(status["code"], answer.code(), "{what}: {shown}");
    assert!(status["reason"].as_str().is_some_and(|r| !r.is_empty()), "{what}: {shown}");
}

async fn lives(hub: &Hub) {
    assert_eq!(hub.admin("/v1/healthz").await.unwrap().code(), 200);
    assert_eq!(metric(hub, "yurthub_panics_total").await, 0, "{}", hub.log());
    assert!(!hub.log().contains("panicked"), "{}", hub.log());
}

/// An offer to speak another protocol may be passed over: nothing of the request is lost for it.
#[tokio::test]
async fn an_offer_of_http2_takes_nothing_from_a_request() {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    cluster.api.add_token("admin", Principal::user("admin", &["system:masters"]));
    let plain = cluster.client(Protocol::Http1).token("admin");
    let client = plain
        .header("connection", "Upgrade, HTTP2-Settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = objects::config_map("default", "a", &[("k", "1")]);
    let made = client.post(maps, &map).await.unwrap().expect(201).json();
    assert_eq!(made["data"]["k"], "1");
    let patched =
        client.patch(&format!("{maps}/a"), "merge-patch", &json!({"data": {"k": "2"}})).await.unwrap();
    assert_eq!(patched.expect(200).json()["data"]["k"], "2");
    client.get(maps).await.unwrap().expect(200);
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    let held = client.get(maps).await.unwrap().expect(200);
    assert!(source(&held).starts_with("cache"), "{}", source(&held));
}

/// Urls that the API refuses, whatever the link does.
#[tokio::test]
async fn bad_urls_are_refused_online_and_offline() {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    let client = cluster.node_client(Protocol::Http2);
    client.get("/api/v1/services").await.unwrap().expect(200);
    let bad = [
        "/api/v1/services?limit=many",
        "/api/v1/services?labelSelector=a%20in%20(",
        "/api/v1/services?fieldSelector=metadata.name",
        "/api/v1/%ff",
        "/api/v1/services?labelSelector=%ff",
        "/api/v1/services?resourceVersion=abc",
        "/api/v1/services?resourceVersion=-1",
        "/api/v1/services?resourceVersion=99999999999999999999999",
        "/api/v1/services?watch=1&resourceVersion=abc",
        "/api/v1/services?watch=1&timeoutSeconds=soon",
        "/api/v1/services?resourceVersionMatch=Newish&resourceVersion=1",
        "/api/v1/services?continue=nonsense&limit=1",
    ];
    for path in bad {
        let answer = client.get(path).await.unwrap();
        // The apiserver has its own words, and itself fails at the version of a watch that is no number.
        match source(&answer) {
            "cloud" => {
                assert!([400, 403, 404, 410, 422, 500].contains(&answer.code()), "{} {path}", answer.code())
            }
            _ => is_failure(&answer, &[400, 410, 422], &format!("online {path}")),
        }
    }
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    for path in bad {
        let answer = client.get(path).await.unwrap();
        // The apiserver itself fails, without a reason, at the version of a watch that is no number.
        match path.contains("watch=1&resourceVersion=abc") {
            true => assert_eq!(answer.code(), 500, "offline {path}"),
            false => is_failure(&answer, &[400, 410, 422, 503], &format!("offline {path}")),
        }
    }
    let absurd = [
        format!("/api/v1/{}", "a/".repeat(8000)),
        format!("/api/v1/services/{}", "x".repeat(30_000)),
        "/api/v1/namespaces/%2e%2e/services/%00".to_owned(),
        format!("/api/v1/services?labelSelector={}", "a%3Db,".repeat(3000)),
        "/%2f%2f%2f".to_owned(),
        "//".to_owned(),
        "/api/v1/services?&&&===".to_owned(),
        format!("/api/v1/services?fieldSelector={}", "%5c".repeat(5000)),
        "/apis/%F0%9F%98%80/v1/x".to_owned(),
    ];
    for path in &absurd {
        // What it is does not matter, as long as it is an answer.
        let code = client.get(path).await.unwrap().code();
        assert!((200..600).contains(&code) && code != 500, "{code} {path}");
    }
    for method in ["OPTIONS", "TRACE", "BREW"] {
        let answer = client
            .send(Method::from_bytes(method.as_bytes()).unwrap(), "/api/v1/services", "", Bytes::new())
            .await
            .unwrap();
        assert!(answer.code() >= 400 && answer.code() != 500, "{method} {}", answer.code());
    }
    lives(&cluster.hub).await;
}

/// A body over the apiserver's limit, with and without its length said before.
#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = cluster.node_client(protocol);
        let answer = client
            .send(Method::POST, EVENTS, "application/json", Bytes::from(vec![b' '; TOO_LARGE]))
            .await
            .unwrap();
        is_failure(&answer, &[413], "online");
        assert_eq!(answer.json()["reason"], "RequestEntityTooLarge");
    }
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    let client = cluster.node_client(Protocol::Http2);
    for path in [EVENTS, TOKEN] {
        let answer = client
            .send(Method::POST, path, "application/json", Bytes::from(vec![b' '; TOO_LARGE]))
            .await
            .unwrap();
        is_failure(&answer, &[413], path);
    }
    lives(&cluster.hub).await;
}

/// Heads of requests: too large, not HTTP, not complete.
#[tokio::test]
async fn broken_heads_are_refused() {
    let cluster = Cluster::start(NODE).await;
    let large = format!("GET /version HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET /version HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(5000));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let cases: [(&[u8], &[u16]); 9] = [
        (large.as_bytes(), &[431]),
        (many.as_bytes(), &[431]),
        (long.as_bytes(), &[414, 431]),
        (b"NONSENSE\r\n\r\n", &[400]),
        (b"GET / HTTP/9.9\r\n\r\n", &[400, 505]),
        (b"GET /\x00\xff HTTP/1.1\r\nhost: x\r\n\r\n", &[400]),
        (
            b"POST /api/v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            &[400],
        ),
        (b"POST /api/v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n", &[400]),
        (
            b"POST /api/v1/events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            &[400, 401, 403],
        ),
    ];
    for (head, codes) in cases {
        let shown = String::from_utf8_lossy(&head[..head.len().min(60)]).into_owned();
        let mut stream = raw(&cluster.hub, b"http/1.1").await;
        // The hub may close before it has read everything.
        let _ = stream.write_all(head).await;
        let mut answer = Vec::new();
        let read = async {
            let mut buffer = [0; 4096];
            while answer.len() < 12 {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => answer.extend_from_slice(&buffer[..n]),
                }
            }
        };
        tokio::time::timeout(SOON, read).await.unwrap_or_else(|_| panic!("no answer to {shown}"));
        let code = std::str::from_utf8(answer.get(9..12).unwrap_or_default()).unwrap().parse::<u16>();
        assert!(code.as_ref().is_ok_and(|c| codes.contains(c)), "{code:?} to {shown}");
    }
    // HTTP/2 has its own way to say how long a head may be.
    let client = cluster.node_client(Protocol::Http2);
    let large = client.header("x-large", &"x".repeat(100_000)).get("/version").await;
    assert!(large.as_ref().map_or(true, |a| a.code() == 431), "{large:?}");
    client.get("/version").await.unwrap().expect(200);
    lives(&cluster.hub).await;
}

/// Bodies of the node's own writes, which the hub itself has to read when the cloud is away.
fn bodies() -> Vec<Bytes> {
    let deep = [b"[".repeat(100_000), b"{\"a\":".repeat(50_000)];
    let texts = [
        "",
        "{",
        "null",
        "[]",
        "\"text\"",
        "0",
        "1e999",
        "{\"metadata\":null}",
        "{\"metadata\":[]}",
        "{\"metadata\":{\"name\":7}}",
        "{\"metadata\":{\"name\":\"../..\"}}",
        "{\"status\":null}",
        "{\"status\":[]}",
        "{\"status\":{\"conditions\":7}}",
        "{\"status\":{\"conditions\":[null,7,{}]}}",
        "{\"status\":{\"$setElementOrder/conditions\":[{}]}}",
        "{\"status\":{\"conditions\":[{\"$patch\":\"nonsense\"}]}}",
        "{\"$patch\":\"replace\"}",
        "{\"$retainKeys\":7}",
        "[{\"op\":\"replace\"}]",
        "[{\"op\":\"remove\",\"path\":\"/no/such\"}]",
        "[{\"op\":\"add\",\"path\":\"/status/conditions/9999\",\"value\":1}]",
        "[{\"op\":\"copy\",\"from\":\"\",\"path\":\"/status/a\"}]",
        "{\"spec\":{\"renewTime\":{}}}",
        "{\"spec\":7,\"a\":\"\\ud800\"}",
        "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"annotations\":{\"kubernetes.io/config.mirror\":7}}}",
    ];
    let mut all: Vec<Bytes> = texts.iter().map(|t| Bytes::from(*t)).chain(deep.map(Bytes::from)).collect();
    all.push(Bytes::from_static(b"{\"metadata\":{\"name\":\"\xff\xfe\"}}"));
    all.push(Bytes::from_static(b"k8s\0"));
    all.push(Bytes::from_static(b"k8s\0\x0a\xff\xff\xff\xff\x0f"));
    all.push([&b"k8s\0"[..], &[0x12; 3000]].concat().into());
    all
}

/// The hub reads these bodies itself offline: none of them is taken for a write, and none of them ends it.
#[tokio::test]
async fn bad_bodies_are_refused_offline() {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    let client = cluster.node_client(Protocol::Http2);
    let before = client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200).json();
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    let patches = [
        "application/strategic-merge-patch+json",
        "application/merge-patch+json",
        "application/json-patch+json",
        "text/plain",
        "\u{7f}",
    ];
    let targets = [
        (Method::PATCH, NODE_STATUS),
        (Method::PATCH, "/api/v1/nodes/edge-1"),
        (Method::PUT, NODE_STATUS),
        (Method::POST, EVENTS),
        (Method::POST, "/api/v1/namespaces/default/pods"),
        (Method::POST, "/api/v1/nodes"),
        (Method::PUT, LEASE),
        (Method::PATCH, LEASE),
        (Method::POST, TOKEN),
        (Method::POST, REVIEW),
        (Method::DELETE, "/api/v1/namespaces/default/pods/p"),
        (Method::POST, "/apis/storage.k8s.io/v1/csinodes"),
    ];
    for (method, path) in &targets {
        for body in bodies() {
            let types = if *method == Method::PATCH {
                &patches[..4]
            } else {
                &["application/json", PROTOBUF, "text/plain"][..]
            };
            for content_type in types {
                answers(&client, method, path, content_type, &body).await;
            }
        }
    }
    let after = client.get("/api/v1/nodes/edge-1").await.unwrap().expect(200).json();
    assert_eq!(after["metadata"]["name"], before["metadata"]["name"]);
    let readable = client.get_as("/api/v1/nodes/edge-1", PROTOBUF).await.unwrap();
    assert_eq!(readable.header("content-type"), PROTOBUF, "what was taken can be read in every encoding");
    lives(&cluster.hub).await;
    // And what is right is still taken.
    let patch = json!({"status": {"conditions": [{"type": "Right", "status": "True"}]}});
    client.patch(NODE_STATUS, "strategic-merge-patch", &patch).await.unwrap().expect(200);
}

async fn answers(client: &Client, method: &Method, path: &str, content_type: &str, body: &Bytes) {
    let what = format!("{method} {path} {content_type} {:?}", &body[..body.len().min(60)]);
    let answer = client.send(method.clone(), path, content_type, body.clone()).await;
    let answer = answer.unwrap_or_else(|e| panic!("{what}: {e:#}"));
    if answer.code() >= 300 {
        is_failure(&answer, &[400, 404, 409, 415, 422, 503], &what);
    } else {
        assert!(!answer.json().is_null() || content_type == PROTOBUF, "{what}: {}", answer.text());
    }
}

/// A token that cannot be one is nobody's.
#[tokio::test]
async fn broken_credentials_are_nobodys() {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster.hub, "Online").await;
    cluster.relay.refuse().await;
    until_link(&cluster.hub, "Offline").await;
    for value in [&b"Bearer \xff\xfe"[..], b"Bearer", b"Bearer  ", b"Basic eDp5", b"", b"Bearer a b c"] {
        let mut stream = raw(&cluster.hub, b"http/1.1").await;
        let head = [
            b"GET /api/v1/pods HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: ",
            value,
            b"\r\n\r\n",
        ]
        .concat();
        stream.write_all(&head).await.unwrap();
        let mut answer = Vec::new();
        // Some end a connection without TLS's own goodbye.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 401"), "{value:?}: {answer}");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["reason"], "Unauthorized");
    }
    lives(&cluster.hub).await;
}
