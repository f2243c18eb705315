//! What only the simulated apiserver can do: its switches, its audit, its identities.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use serde_json::json;
use yurt_testkit::{
    apiserver::{Apiserver, Fault, Principal, Rule},
    client::{Client, Protocol},
    objects,
};

const SOON: Duration = Duration::from_secs(5);
const PODS: &str = "/api/v1/namespaces/default/pods";

fn admin(api: &Apiserver, protocol: Protocol) -> Client {
    Client::new(&api.url(), api.pki().ca_pem(), Some(&api.pki().admin()), protocol).timeout(SOON)
}

fn nobody(api: &Apiserver) -> Client {
    Client::new(&api.url(), api.pki().ca_pem(), None, Protocol::Http2).timeout(SOON)
}

#[tokio::test]
async fn both_protocols_are_served_and_recorded() {
    let api = Apiserver::start().await;
    for (protocol, http2) in [(Protocol::Http1, false), (Protocol::Http2, true)] {
        admin(&api, protocol).get("/api/v1/nodes?limit=5").await.unwrap().expect(200);
        let entry = api.audit().entries().pop().unwrap();
        assert_eq!((entry.http2, entry.status, entry.user.as_str()), (http2, 200, "kubernetes-admin"));
        assert_eq!(entry.line(), "GET /api/v1/nodes?limit=5");
    }
    assert_eq!(api.connections().0, 2);
}

#[tokio::test]
async fn callers_are_who_they_prove_to_be() {
    let api = Apiserver::start().await;
    api.add_token("t0ken", Principal::user("jane", &["devs"]));
    api.allow(Rule::allow("devs", "get,list", "", "pods").within("default"));
    let jane = nobody(&api).token("t0ken");
    jane.get(PODS).await.unwrap().expect(200);
    let refused = jane.get("/api/v1/namespaces/kube-system/pods").await.unwrap().expect(403).json();
    let message = "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"kube-system\"";
    assert_eq!(refused["message"], message);
    nobody(&api).token("wrong").get(PODS).await.unwrap().expect(401);
    nobody(&api).get(PODS).await.unwrap().expect(403);
    nobody(&api).get("/version").await.unwrap().expect(200);
}

#[tokio::test]
async fn a_node_reads_its_own_pods_and_their_secrets_only() {
    let api = Apiserver::start().await;
    for object in objects::pod_with_volumes("default", "web", "edge-1") {
        api.create(object);
    }
    api.create(objects::secret("default", "other", &[]));
    let node =
        |name| Client::new(&api.url(), api.pki().ca_pem(), Some(&api.pki().node(name)), Protocol::Http2);
    let asks = [
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1", 200, 403),
        ("/api/v1/pods", 403, 403),
        ("/api/v1/nodes", 403, 403),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1", 200, 403),
        ("/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dweb-secret", 200, 403),
        ("/api/v1/namespaces/default/secrets/other", 403, 403),
        ("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", 200, 403),
    ];
    for (path, own, foreign) in asks {
        node("edge-1").get(path).await.unwrap().expect(own);
        node("edge-2").get(path).await.unwrap().expect(foreign);
    }
}

#[tokio::test]
async fn faults_spoil_the_requests_that_match_and_no_others() {
    let api = Apiserver::start().await;
    let client = admin(&api, Protocol::Http1).timeout(Duration::from_millis(500));
    let on_nodes = |_: &str, path: &str| path.starts_with("/api/v1/nodes");
    for (fault, code) in
        [(Fault::Fail(503, "ServiceUnavailable"), 503), (Fault::TooManyRequests(7), 429), (Fault::Html, 200)]
    {
        let id = api.fault(fault.clone(), on_nodes);
        let answer = client.get("/api/v1/nodes").await.unwrap().expect(code);
        assert_eq!(answer.header("retry-after") == "7", code == 429);
        assert_eq!(answer.header("content-type").starts_with("text/html"), fault == Fault::Html);
        client.get(PODS).await.unwrap().expect(200);
        api.remove_fault(id);
    }
    for fault in [Fault::Silence, Fault::CutBody(20)] {
        api.fault_times(1, fault.clone(), on_nodes);
        client.get("/api/v1/nodes").await.expect_err("a broken answer");
        client.get("/api/v1/nodes").await.unwrap().expect(200);
    }
    api.fault(Fault::SlowBody(40, Duration::from_millis(20)), on_nodes);
    let started = Instant::now();
    client.get("/api/v1/nodes").await.unwrap().expect(200);
    assert!(started.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn a_held_server_is_silent_and_delivers_after_healing() {
    let api = Apiserver::start().await;
    let client = admin(&api, Protocol::Http2).timeout(Duration::from_millis(300));
    let mut watch = client.watch(&format!("{PODS}?watch=1"), "application/json").await.unwrap();
    api.hold();
    api.create(objects::pod("default", "late", ""));
    client.get(PODS).await.expect_err("silence");
    watch.next_within(Duration::from_millis(100)).await.expect_err("silence");
    api.heal();
    assert_eq!(watch.next_within(SOON).await.unwrap().name(), "late");
    client.timeout(SOON).get(PODS).await.unwrap().expect(200);
}

#[tokio::test]
async fn a_refusing_server_resets_and_comes_back_on_its_port() {
    let api = Apiserver::start().await;
    let client = admin(&api, Protocol::Http2);
    let mut watch = client.watch(&format!("{PODS}?watch=1"), "application/json").await.unwrap();
    api.refuse();
    watch.next_within(SOON).await.expect_err("a reset");
    client.get(PODS).await.expect_err("refused");
    api.heal();
    client.get(PODS).await.unwrap().expect(200);
}

#[tokio::test]
async fn upgrades_echo() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let api = Apiserver::start().await;
    api.create(objects::pod("default", "web", "edge-1"));
    let client = admin(&api, Protocol::Http1);
    for protocol in ["SPDY/3.1", "websocket"] {
        let mut stream = client
            .upgrade(http::Method::POST, &format!("{PODS}/web/exec?command=sh"), protocol)
            .await
            .unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut echoed = [0; 5];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"hello");
    }
}

#[tokio::test]
async fn a_restore_goes_back_and_ends_watches() {
    let api = Apiserver::start().await;
    let client = admin(&api, Protocol::Http2);
    let snapshot = api.snapshot();
    let version = api.version();
    api.create(objects::pod("default", "lost", ""));
    let mut watch = client
        .watch(&format!("{PODS}?watch=1&resourceVersion={}", api.version()), "application/json")
        .await
        .unwrap();
    api.restore(&snapshot);
    assert_eq!(watch.next().await.unwrap(), None);
    assert_eq!(api.version(), version);
    client.get(&format!("{PODS}/lost")).await.unwrap().expect(404);
}

#[tokio::test]
async fn a_token_request_gives_a_token_that_works() {
    let api = Apiserver::start().await;
    let client = admin(&api, Protocol::Http2);
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 3600}});
    let answer = client.post(path, &request).await.unwrap().expect(201).json();
    let token = answer["status"]["token"].as_str().unwrap();
    api.allow(Rule::allow("system:serviceaccount:default:default", "get", "", "pods"));
    nobody(&api).token(token).get(&format!("{PODS}/none")).await.unwrap().expect(404);
    let review = json!({"spec": {"token": token}});
    let review =
        client.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.unwrap().expect(201).json();
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:default");
    let asked = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "secrets"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = nobody(&api).token(token).post(path, &asked).await.unwrap().expect(201).json();
    assert_eq!(review["status"]["allowed"], false);
}
