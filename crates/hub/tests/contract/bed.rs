//! What the stories share: a node, its callers, and what to wait for.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use yurt_testkit::apiserver::{Options, Principal, Rule, protobuf};
use yurt_testkit::client::{Answer, Client, Protocol, WatchStream};
use yurt_testkit::cluster::Cluster;

pub const NODE: &str = "edge-1";
/// How long anything may take that is not bounded more tightly by its test.
pub const SOON: Duration = Duration::from_secs(15);
pub const JSON: &str = "application/json";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
pub const METADATA_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// A node whose link stands.
pub async fn online() -> Cluster {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    // A failed story keeps its folder, with the hub's log in it.
    cluster.hub.options.arguments = vec!["--log".into(), "info,yurt_hub=debug".into()];
    cluster.hub.start().await;
    until_link(&cluster, "Online").await;
    cluster
}

/// The kubelet.
pub fn node(cluster: &Cluster) -> Client {
    cluster.node_client(Protocol::Http2).timeout(SOON)
}

/// A pod's client: its token is `NAME-token`, its user `NAME`; what it may do is the test's to say.
pub fn caller(cluster: &Cluster, name: &str) -> Client {
    let token = format!("{name}-token");
    cluster.api.add_token(&token, Principal::user(name, &[]));
    cluster.client(Protocol::Http2).timeout(SOON).token(&token)
}

/// A caller that may read everything of these core resources.
pub fn reader(cluster: &Cluster, name: &str, resources: &[&str]) -> Client {
    for resource in resources {
        cluster.api.allow(Rule::allow(name, "get,list,watch", "", resource));
    }
    caller(cluster, name)
}

/// Breaks the link so that it is noticed at once; what was answered before is kept by then.
pub async fn cut(cluster: &Cluster) {
    until_metric(cluster, "being_kept", |n| n == 0).await;
    cluster.relay.refuse().await;
    until_link(cluster, "Offline").await;
}

/// Mends the link and waits until the hub has come home.
pub async fn mend(cluster: &Cluster) {
    cluster.relay.heal();
    until_link(cluster, "Online").await;
}

/// `/v1/status`.
pub async fn status(cluster: &Cluster) -> Value {
    cluster.hub.admin("/v1/status").await.unwrap().json()
}

/// Waits until a gauge or counter of the hub is as it should be.
pub async fn until_metric(cluster: &Cluster, name: &str, wanted: impl Fn(u64) -> bool) {
    eventually(&format!("the right {name}"), async || {
        let text = cluster.hub.admin("/metrics").await.unwrap().text();
        let value = |l: &str| l.strip_prefix(&format!("yurthub_{name} "))?.parse().ok();
        text.lines().find_map(value).is_some_and(&wanted)
    })
    .await;
}

pub async fn until_link(cluster: &Cluster, wanted: &str) {
    eventually(&format!("the link is {wanted}"), async || {
        status(cluster).await["connectivity"]["state"] == wanted
    })
    .await;
}

/// Waits until the collection whose name contains every one of `parts` is in this state.
pub async fn until_collection(cluster: &Cluster, parts: &[&str], state: &str) {
    eventually(&format!("{parts:?} is {state}"), async || {
        collections(&status(cluster).await, parts).iter().any(|c| c["state"] == state)
    })
    .await;
}

/// The collections whose name contains every one of `parts`.
pub fn collections(status: &Value, parts: &[&str]) -> Vec<Value> {
    let named = |c: &&Value| parts.iter().all(|p| c["collection"].as_str().unwrap().contains(p));
    status["collections"].as_array().unwrap().iter().filter(named).cloned().collect()
}

/// Waits for a condition.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, SOON, waited).await;
}

/// What comes of `future`, which must not take longer than `bound`.
pub async fn within<T>(what: &str, bound: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(bound, future).await.unwrap_or_else(|_| panic!("not within {bound:?}: {what}"))
}

/// The body as JSON, whatever it is written in.
pub fn decoded(answer: &Answer) -> Value {
    match answer.header("content-type").contains("protobuf") {
        true => protobuf::decode(&answer.body).expect("a protobuf object"),
        false => answer.json(),
    }
}

/// The names of a list's items.
pub fn names(answer: &Answer) -> Vec<String> {
    let list = decoded(answer);
    assert!(list["kind"].as_str().is_some_and(|k| k.ends_with("List")), "no list: {list:#}");
    // Protobuf does not tell an empty list from none.
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// `metadata.resourceVersion` of an object or list.
pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A list from version 0 and the watch that goes on from it, as every informer begins.
pub async fn informer(client: &Client, path: &str, accept: &str) -> (Answer, WatchStream) {
    let more = if path.contains('?') { '&' } else { '?' };
    let list = client.get_as(&format!("{path}{more}resourceVersion=0"), accept).await.unwrap().expect(200);
    let from = version(&decoded(&list));
    let query = format!("{path}{more}watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let stream = client.watch(&query, &single(accept)).await.unwrap();
    (list, stream)
}

/// The same form of a single object, as a GET and a watch have to name it.
pub fn single(accept: &str) -> String {
    accept.replace("MetadataList", "Metadata")
}

/// Where an answer came from.
pub fn source(answer: &Answer) -> &str {
    answer.header("x-yurthub-source")
}

/// Asserts a plain "not held": 503, when to come back, and a Status that says so (P2).
#[track_caller]
pub fn not_held(answer: &Answer, what: &str) {
    let status = decoded(answer);
    assert_eq!(
        (answer.code(), &status["reason"]),
        (503, &Value::from("ServiceUnavailable")),
        "{what}: {status:#}"
    );
    assert_eq!(status["kind"], "Status", "{what}");
    assert!(!answer.header("retry-after").is_empty(), "{what}: no Retry-After");
}
