//! The cloud answers, but not as it should: it does not accept the node (P7), or ends whatever is asked for.

use std::time::{Duration, SystemTime};

use serde_json::json;
use yurt_testkit::apiserver::Fault;
use yurt_testkit::cluster::Cluster;

use crate::bed::*;
use crate::kubelet::*;

const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";

fn watches_pods(method: &str, path: &str) -> bool {
    method == "GET" && path.contains("watch=true") && path.starts_with("/api/v1/pods")
}

/// When the node asked for this collection, lists or watches, since the start.
fn asked(cluster: &Cluster, watch: bool) -> Vec<SystemTime> {
    let of_pods = |e: &&yurt_testkit::apiserver::Entry| {
        e.method == "GET" && e.path == "/api/v1/pods" && e.query.contains("watch=true") == watch
    };
    cluster.api.audit().entries().iter().filter(of_pods).map(|e| e.at).collect()
}

/// The kubelet's certificate ended during the outage. A node that boots then, with a link, starts its pods as one
/// without a link does; when it has a certificate again, all goes on.
#[tokio::test]
async fn the_end_of_its_certificate_takes_nothing_from_the_node() {
    let mut cluster = with_pods().await;
    let kubelet = node(&cluster);
    let web = pod(&cluster, "web");
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": web["metadata"]["uid"]});
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": 3607, "boundObjectRef": bound},
    });
    let token = kubelet.post(TOKEN, &request).await.unwrap().expect(201).json()["status"]["token"].clone();
    cut(&cluster).await;
    let id = cluster.api.fault(Fault::Fail(401, "Unauthorized"), |_, path| !path.starts_with("/version"));
    cluster.relay.heal();
    cluster.hub.crash_and_restart().await;
    until_link(&cluster, "Online").await;

    let kubelet = node(&cluster);
    let list = kubelet.get_as(OWN_PODS, PROTOBUF).await.unwrap().expect(200);
    assert_eq!((names(&list).len(), source(&list)), (2, "cache; reason=refused"));
    let from = version(&decoded(&list));
    let path = format!("{OWN_PODS}&watch=true&resourceVersion={from}");
    let mut stream = kubelet.watch(&path, PROTOBUF).await.unwrap();
    let again = kubelet.post(TOKEN, &request).await.unwrap().expect(201).json();
    assert_eq!(again["status"]["token"], token, "the last real one");
    kubelet.get("/api/v1/namespaces/default/secrets/none").await.unwrap().expect(401);

    cluster.api.remove_fault(id);
    cluster.api.modify("pods", "default", "db", |o| o["metadata"]["labels"]["back"] = json!("yes"));
    let told = stream.next_change(Duration::from_secs(60)).await.unwrap();
    assert_eq!((told.name(), &told.object["metadata"]["labels"]["back"]), ("db", &json!("yes")));
}

/// For a moment after its start an apiserver does not know what a node may read: nobody lists again for it.
#[tokio::test]
async fn a_moment_of_403_costs_no_list() {
    let cluster = with_pods().await;
    let (_, mut stream) = informer(&node(&cluster), OWN_PODS, PROTOBUF).await;
    until_collection(&cluster, &["pods", "protobuf"], "live").await;
    let lists = asked(&cluster, false).len();
    cluster.api.fault_times(2, Fault::Fail(403, "Forbidden"), watches_pods);
    cluster.api.end_watches();
    let before = asked(&cluster, true).len();
    eventually("it was refused twice and asked again", async || asked(&cluster, true).len() >= before + 3)
        .await;
    cluster.api.modify("pods", "default", "db", |o| o["metadata"]["labels"]["changed"] = json!("yes"));
    assert_eq!(stream.next_change(SOON).await.unwrap().name(), "db");
    assert_eq!(asked(&cluster, false).len(), lists);
}

/// A server that ends every watch at once, or has lost every version as soon as it told it, is asked ever more slowly.
#[tokio::test]
async fn what_never_works_is_asked_for_with_pauses() {
    for (fault, watch) in [(Fault::ShortBody(0), true), (Fault::Fail(410, "Expired"), false)] {
        let cluster = with_pods().await;
        let (_, _stream) = informer(&node(&cluster), OWN_PODS, PROTOBUF).await;
        until_collection(&cluster, &["pods", "protobuf"], "live").await;
        let shown = format!("{fault:?}");
        let before = asked(&cluster, watch).len();
        cluster.api.fault(fault, watches_pods);
        cluster.api.end_watches();
        eventually("it was asked several times", async || asked(&cluster, watch).len() >= before + 3).await;
        let times = asked(&cluster, watch).split_off(before);
        let gaps: Vec<_> = times.windows(2).map(|w| w[1].duration_since(w[0]).unwrap_or_default()).collect();
        assert!(gaps.iter().all(|gap| *gap > Duration::from_millis(500)), "{shown}: {gaps:?}");
    }
}
