//! Scenario 3: what kube-proxy and CoreDNS read follows the node's pods while the cloud cannot say where they are,
//! and takes one step back to the cloud's truth when it can.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use yurt_testkit::apiserver::Rule;
use yurt_testkit::client::{Client, WatchStream};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
/// What kube-proxy asks for (`cmd/kube-proxy`): not headless, not another proxy's.
const PROXIED: &str = "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2Fservice-proxy-name";
const NAMED: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ENDPOINTS: &str = "/api/v1/endpoints";
const PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1";
/// The bound of the scenario.
const FOLLOWED: Duration = Duration::from_secs(5);
/// Long enough for what was sent to have arrived: for asserting that nothing more comes.
const QUIET: Duration = Duration::from_millis(500);
/// The time that the cloud has to say what it made of the node's writes, with room to spare.
const SETTLED: Duration = Duration::from_secs(20);

const OLD: &str = "10.0.0.1";
const NEW: &str = "10.65.0.1";
const FOREIGN: &str = "10.9.0.9";

/// A Service with a pod here and one elsewhere, both ready.
async fn stage() -> Cluster {
    let cluster = online().await;
    let uid = create_pod(&cluster, "web", OLD);
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    let both = [(OLD, "web", uid.as_str(), NODE), (FOREIGN, "far", "far-uid", "edge-2")];
    let mut slice = objects::endpoint_slice("default", "web", &both);
    slice["metadata"]["annotations"] =
        json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"});
    cluster.api.create(slice);
    let address = |(ip, pod, uid, node): &(&str, &str, &str, &str)| json!({"ip": ip, "nodeName": node, "targetRef": {"kind": "Pod", "namespace": "default", "name": pod, "uid": uid}});
    cluster.api.create(json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "default"},
        "subsets": [{"addresses": both.iter().map(address).collect::<Vec<_>>(), "ports": [{"port": 80}]}],
    }));
    // A second Service that has nothing to do with this node.
    cluster.api.create(objects::endpoint_slice("default", "far", &[(FOREIGN, "far", "far-uid", "edge-2")]));
    let (_, _pods) = informer(&node(&cluster), PODS, PROTOBUF).await;
    until_collection(&cluster, &["pods", "spec.nodeName"], "live").await;
    cluster
}

/// A pod of this node that is running and ready; returns its uid.
fn create_pod(cluster: &Cluster, name: &str, address: &str) -> String {
    let mut pod = objects::pod("default", name, NODE);
    pod["status"] = status(address, true);
    let pod = cluster.api.create(pod);
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn status(address: &str, ready: bool) -> Value {
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
    })
}

/// The kubelet reports a pod's status.
async fn report(cluster: &Cluster, name: &str, status: Value) {
    let path = format!("/api/v1/namespaces/default/pods/{name}/status");
    let mut patch = json!({"status": status});
    // The kubelet's patch names the addresses that go: the list is merged by address.
    if let Some(list) = patch["status"]["podIPs"].as_array_mut() {
        list.insert(0, json!({"$patch": "replace"}));
    }
    node(cluster).patch(&path, "strategic-merge-patch", &patch).await.unwrap().expect(200);
}

/// Somebody who follows Services: kube-proxy, CoreDNS.
fn proxy(cluster: &Cluster) -> Client {
    cluster.api.allow(Rule::allow("proxy", "get,list,watch", "discovery.k8s.io", "endpointslices"));
    reader(cluster, "proxy", &["endpoints", "services"])
}

/// The cloud's controller writes the slice anew; returns its version.
fn cloud_says(cluster: &Cluster, change: impl Fn(&mut Value)) -> u64 {
    version(&cluster.api.modify("endpointslices.discovery.k8s.io", "default", "web-1", |slice| change(slice)))
}

fn at(address: &'static str, ready: bool) -> impl Fn(&mut Value) {
    move |slice| {
        slice["endpoints"][0]["addresses"] = json!([address]);
        slice["endpoints"][0]["conditions"] = json!({"ready": ready, "serving": ready, "terminating": false});
    }
}

/// The addresses that an object shows, and whether they are ready.
fn shown(object: &Value) -> BTreeMap<String, bool> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if object.get("addressType").is_some() {
        let each = |e: &Value| {
            let ready = e["conditions"]["ready"] == true;
            list(&e["addresses"]).iter().map(|a| (text(a), ready)).collect::<Vec<_>>()
        };
        return list(&object["endpoints"]).iter().flat_map(each).collect();
    }
    let mut all = BTreeMap::new();
    for subset in list(&object["subsets"]) {
        for (name, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            all.extend(list(&subset[name]).iter().map(|a| (text(&a["ip"]), ready)));
        }
    }
    all
}

fn addresses(expected: &[(&str, bool)]) -> BTreeMap<String, bool> {
    expected.iter().map(|(a, r)| ((*a).to_owned(), *r)).collect()
}

/// The slice and the Endpoints of the Service in a list answer.
fn web(list: &Value) -> Value {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .find(|i| ["web-1", "web"].contains(&i["metadata"]["name"].as_str().unwrap()))
        .unwrap()
        .clone()
}

/// Reads events until one satisfies `wanted`; none may fail `always`.
async fn until(
    stream: &mut WatchStream,
    always: impl Fn(&Value) -> bool,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let reading = async {
        loop {
            let event = stream.next_change(SOON).await.unwrap();
            assert!(event.kind != "MODIFIED" || always(&event.object), "{}: {:#}", event.kind, event.object);
            if wanted(&event.object) {
                assert_eq!(event.kind, "MODIFIED", "{:#}", event.object);
                return event.object;
            }
        }
    };
    within("the event", SOON, reading).await
}

async fn nothing_more(stream: &mut WatchStream) {
    if let Ok(event) = stream.next_change(QUIET).await {
        panic!("{}: {:#}", event.kind, event.object);
    }
}

/// kube-proxy, controllers in JSON, those that want only metadata, CoreDNS and older clients.
const VIEWS: [(&str, &str); 6] = [
    (PROXIED, PROTOBUF),
    (SLICES, JSON),
    (SLICES, METADATA),
    (SLICES, METADATA_PROTOBUF),
    (ENDPOINTS, JSON),
    (ENDPOINTS, PROTOBUF),
];

fn is_bare(accept: &str) -> bool {
    accept.contains("as=PartialObjectMetadata")
}

/// P4, scenario 3: whoever watches and whoever asks anew sees the pod's new address, in every form; before and
/// after the hub has lost its memory.
#[tokio::test]
async fn endpoints_follow_a_reboot_that_changed_addresses() {
    let mut cluster = stage().await;
    let client = proxy(&cluster);
    let mut streams = Vec::new();
    for (path, accept) in VIEWS {
        let (list, stream) = informer(&client, path, accept).await;
        let before = web(&decoded(&list));
        streams.push((path, accept, version(&before), stream));
    }
    for part in [
        "headless",
        "endpointslices (json)",
        "endpointslices (json-metadata)",
        "endpointslices (protobuf-metadata)",
        "v1/endpoints",
    ] {
        until_collection(&cluster, &[part], "live").await;
    }
    // What was asked for online may be asked for offline.
    for slice in ["web-1", "far-1"] {
        client.get(&format!("{NAMED}/{slice}")).await.unwrap().expect(200);
    }
    cut(&cluster).await;
    let began = Instant::now();
    report(&cluster, "web", status(NEW, true)).await;
    for (path, accept, before, stream) in &mut streams {
        let event = stream.next_change(FOLLOWED).await.unwrap();
        let what = format!("{path} {accept}: {:#}", event.object);
        assert_eq!((event.kind.as_str(), event.version() > *before), ("MODIFIED", true), "{what}");
        assert_eq!(event.object["metadata"].get("annotations"), None, "{what}");
        if !is_bare(accept) {
            assert_eq!(shown(&event.object), addresses(&[(NEW, true), (FOREIGN, true)]), "{what}");
        }
        nothing_more(stream).await;
    }
    assert!(began.elapsed() < FOLLOWED + QUIET * 5, "{:?}", began.elapsed());
    follows_anew(&client, &[(NEW, true), (FOREIGN, true)]).await;

    cluster.hub.crash_and_restart().await;
    until_link(&cluster, "Offline").await;
    let client = caller(&cluster, "proxy");
    follows_anew(&client, &[(NEW, true), (FOREIGN, true)]).await;
    let (_, mut stream) = informer(&client, PROXIED, PROTOBUF).await;
    report(&cluster, "web", status(NEW, false)).await;
    let event = stream.next_change(FOLLOWED).await.unwrap();
    assert_eq!(shown(&event.object), addresses(&[(NEW, false), (FOREIGN, true)]), "{:#}", event.object);
    follows_anew(&client, &[(NEW, false), (FOREIGN, true)]).await;
    for entry in cluster.api.audit().entries() {
        let write = entry.method != "GET"
            && (entry.path.contains("endpointslices") || entry.path.contains("/endpoints"));
        assert!(!write, "nothing derived is sent: {}", entry.line());
    }
}

/// A client that starts now: list, object, watch from the list, watch from nothing.
async fn follows_anew(client: &Client, expected: &[(&str, bool)]) {
    for (path, accept) in VIEWS.into_iter().filter(|(_, accept)| !is_bare(accept)) {
        let (list, mut stream) = informer(client, path, accept).await;
        assert!(source(&list).starts_with("cache"), "{path}: {}", source(&list));
        let list = decoded(&list);
        assert_eq!(shown(&web(&list)), addresses(expected), "{path} {accept}");
        nothing_more(&mut stream).await;
        let more = if path.contains('?') { '&' } else { '?' };
        let mut stream = client.watch(&format!("{path}{more}watch=true"), accept).await.unwrap();
        for _ in list["items"].as_array().unwrap() {
            let event = stream.next_change(SOON).await.unwrap();
            if event.name() == "web-1" || event.name() == "web" {
                assert_eq!(shown(&event.object), addresses(expected), "{path} {accept}");
                assert_eq!(event.object["metadata"], web(&list)["metadata"], "{path} {accept}");
            }
        }
    }
    for (slice, expected) in [("web-1", addresses(expected)), ("far-1", addresses(&[(FOREIGN, true)]))] {
        let object = client.get(&format!("{NAMED}/{slice}")).await.unwrap().expect(200);
        assert_eq!(shown(&object.json()), expected, "{slice}");
    }
}

/// P4: what the cloud wrote during the outage never shows the old address again; what it says of other nodes
/// shows at once; its own view of the new address takes over in one step.
#[tokio::test]
async fn the_cloud_takes_over_in_one_step() {
    let cluster = stage().await;
    let client = proxy(&cluster);
    let mut streams = Vec::new();
    for accept in [PROTOBUF, JSON] {
        streams.push(informer(&client, PROXIED, accept).await.1);
        until_collection(&cluster, &["endpointslices"], "live").await;
    }
    cut(&cluster).await;
    report(&cluster, "web", status(NEW, true)).await;
    for stream in &mut streams {
        assert_eq!(
            shown(&stream.next_change(FOLLOWED).await.unwrap().object),
            addresses(&[(NEW, true), (FOREIGN, true)])
        );
    }
    // The lifecycle controller gives the silent node's pod up; another node's pod moves.
    cloud_says(&cluster, at(OLD, false));
    cloud_says(&cluster, |slice| slice["endpoints"][1]["addresses"] = json!(["10.9.0.10"]));
    mend(&cluster).await;
    for stream in &mut streams {
        let always = |o: &Value| shown(o).get(NEW) == Some(&true);
        until(stream, always, |o| shown(o) == addresses(&[(NEW, true), ("10.9.0.10", true)])).await;
        nothing_more(stream).await;
    }
    let last = cloud_says(&cluster, at(NEW, true));
    for stream in &mut streams {
        let event = stream.next_change(FOLLOWED).await.unwrap();
        assert_eq!((event.kind.as_str(), event.version()), ("MODIFIED", last));
        assert_eq!(shown(&event.object), addresses(&[(NEW, true), ("10.9.0.10", true)]));
        nothing_more(stream).await;
    }
    // From here on only the cloud's word counts, as soon as it has heard of the pod.
    report(&cluster, "web", status(NEW, false)).await;
    cloud_says(&cluster, at(NEW, false));
    for stream in &mut streams {
        until(stream, |_| true, |o| shown(o) == addresses(&[(NEW, false), ("10.9.0.10", true)])).await;
    }
}

/// A cloud that never takes note of the pod's new address is believed in the end.
#[tokio::test]
async fn what_the_cloud_never_says_ends_with_the_settle_time() {
    let cluster = stage().await;
    let client = proxy(&cluster);
    let (list, mut stream) = informer(&client, PROXIED, PROTOBUF).await;
    let (_, mut bare) = informer(&client, SLICES, METADATA).await;
    let before = version(&web(&decoded(&list)));
    until_collection(&cluster, &["headless"], "live").await;
    cut(&cluster).await;
    report(&cluster, "web", status(NEW, true)).await;
    assert_eq!(
        shown(&stream.next_change(FOLLOWED).await.unwrap().object),
        addresses(&[(NEW, true), (FOREIGN, true)])
    );
    mend(&cluster).await;
    nothing_more(&mut stream).await;
    let event = stream.next_change(SETTLED).await.unwrap();
    assert_eq!(shown(&event.object), addresses(&[(OLD, true), (FOREIGN, true)]));
    assert_eq!((event.kind.as_str(), event.version()), ("MODIFIED", before));
    let mut last = 0;
    while last != before {
        last = bare.next_change(SOON).await.unwrap().version();
    }
    eventually("nothing derived is left", async || {
        let all = collections(&status_page(&cluster).await, &["endpointslices"]);
        all.iter().all(|c| c["localWrites"] == 0)
    })
    .await;
}

async fn status_page(cluster: &Cluster) -> Value {
    crate::bed::status(cluster).await
}

/// A pod that the kubelet had nothing to say about is out of order only in the cloud's view: the node repairs it, and
/// nobody on the node hears of it.
#[tokio::test]
async fn readiness_that_the_cloud_took_away_is_never_seen() {
    let cluster = stage().await;
    let client = proxy(&cluster);
    let (_, mut stream) = informer(&client, PROXIED, PROTOBUF).await;
    until_collection(&cluster, &["headless"], "live").await;
    cut(&cluster).await;
    cluster.api.modify("pods", "default", "web", |pod| pod["status"] = status(OLD, false));
    cloud_says(&cluster, at(OLD, false));
    mend(&cluster).await;
    eventually("the pod is repaired", async || {
        cluster.api.get("pods", "default", "web").unwrap()["status"]["conditions"][0]["status"] == "True"
    })
    .await;
    let last = cloud_says(&cluster, at(OLD, true));
    until(&mut stream, |o| shown(o).get(OLD) == Some(&true), |o| version(o) == last).await;
}

/// The link broke when the cloud had the pod's new address, but had not written it into the endpoints: no kubelet
/// will say it again. What the cloud wrote after it had heard of a pod stands.
#[tokio::test]
async fn what_the_cloud_had_no_time_to_say_is_said() {
    let mut cluster = stage().await;
    let uid = create_pod(&cluster, "judged", "10.0.0.5");
    let mut judged = objects::endpoint_slice("default", "judged", &[("10.0.0.5", "judged", &uid, NODE)]);
    judged["endpoints"][0]["conditions"] = json!({"ready": false, "serving": false, "terminating": false});
    cluster.api.create(judged);
    let client = proxy(&cluster);
    let (_, mut stream) = informer(&client, PROXIED, PROTOBUF).await;
    until_collection(&cluster, &["headless"], "live").await;
    cluster.api.modify("pods", "default", "web", |pod| pod["status"] = status(NEW, true));
    eventually("the node holds the pod's status", async || {
        let pods = node(&cluster).get_as(&format!("{PODS}&resourceVersion=0"), PROTOBUF).await.unwrap();
        decoded(&pods).to_string().contains(NEW)
    })
    .await;
    nothing_more(&mut stream).await;
    cut(&cluster).await;
    let event = stream.next_change(FOLLOWED).await.unwrap();
    assert_eq!(shown(&event.object), addresses(&[(NEW, true), (FOREIGN, true)]), "{:#}", event.object);
    nothing_more(&mut stream).await;
    cluster.hub.crash_and_restart().await;
    eventually("it is said after a restart", async || {
        let list = caller(&cluster, "proxy").get_as(&format!("{PROXIED}&resourceVersion=0"), PROTOBUF).await;
        shown(&web(&decoded(&list.unwrap()))) == addresses(&[(NEW, true), (FOREIGN, true)])
    })
    .await;
}

/// A pod that ended, was deleted or is not ready is taken out of service; one whose Service wants it nevertheless stays.
#[tokio::test]
async fn pods_that_cannot_serve_are_taken_out() {
    let cluster = stage().await;
    let client = proxy(&cluster);
    let mut publishing = objects::service("default", "peers", &[("http", 80)]);
    publishing["spec"]["publishNotReadyAddresses"] = json!(true);
    cluster.api.create(publishing);
    let uids: Vec<String> = [("failed", "10.0.0.2"), ("deleted", "10.0.0.3"), ("early", "10.0.0.4")]
        .map(|(n, a)| create_pod(&cluster, n, a))
        .into();
    cluster.api.create(objects::endpoint_slice(
        "default",
        "peers",
        &[
            ("10.0.0.2", "failed", &uids[0], NODE),
            ("10.0.0.3", "deleted", &uids[1], NODE),
            ("10.0.0.4", "early", &uids[2], NODE),
        ],
    ));
    eventually("the node holds its pods", async || {
        names(&node(&cluster).get_as(&format!("{PODS}&resourceVersion=0"), PROTOBUF).await.unwrap()).len()
            == 4
    })
    .await;
    let (_, _services) = informer(&client, "/api/v1/services", PROTOBUF).await;
    let (_, mut stream) = informer(&client, PROXIED, PROTOBUF).await;
    until_collection(&cluster, &["services"], "live").await;
    until_collection(&cluster, &["headless"], "live").await;
    cut(&cluster).await;
    let peers = |o: &Value| o["metadata"]["name"] == "peers-1";
    report(&cluster, "failed", json!({"phase": "Failed"})).await;
    let event = until(&mut stream, peers, |_| true).await;
    assert_eq!(shown(&event), addresses(&[("10.0.0.3", true), ("10.0.0.4", true)]));
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    node(&cluster).delete("/api/v1/namespaces/default/pods/deleted", &now).await.unwrap().expect(200);
    let event = until(&mut stream, peers, |_| true).await;
    assert_eq!(shown(&event), addresses(&[("10.0.0.4", true)]));
    report(&cluster, "early", status(NEW, false)).await;
    let event = until(&mut stream, peers, |_| true).await;
    assert_eq!(shown(&event), addresses(&[(NEW, true)]), "published, though it is not ready");
    assert_eq!(event["endpoints"][0]["conditions"]["serving"], false);
    report(&cluster, "web", status(OLD, false)).await;
    let event = until(&mut stream, |_| true, |_| true).await;
    assert_eq!(shown(&event), addresses(&[(OLD, false), (FOREIGN, true)]));
}
