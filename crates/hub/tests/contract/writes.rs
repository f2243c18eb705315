//! The node's writes while the cloud is away: kept before they are acknowledged, and seen at once (P5).

use http::Method;
use serde_json::{Value, json};
use yurt_testkit::apiserver::Rule;
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

/// P5: in every form of reading, in watches, and after kill -9.
#[tokio::test]
async fn what_the_node_writes_it_reads_back() {
    let mut cluster = with_pods().await;
    let kubelet = node(&cluster);
    let carl = reader(&cluster, "carl", &["pods"]);
    let (_, mut own) = informer(&kubelet, OWN_PODS, PROTOBUF).await;
    let (_, mut metadata) = informer(&carl, OWN_PODS, METADATA).await;
    until_collection(&cluster, &["pods", "json-metadata"], "live").await;
    cut(&cluster).await;
    let mut last = 0;
    for phase in ["Running", "Failed", "Running"] {
        let answered = report(&kubelet, "web", phase).await;
        assert!(version(&answered) > last, "versions grow");
        last = version(&answered);
        let event = own.next_change(SOON).await.unwrap();
        assert_eq!((event.kind.as_str(), event.version()), ("MODIFIED", last));
        assert_eq!(event.object["status"]["phase"], phase);
        let event = metadata.next_change(SOON).await.unwrap();
        assert_eq!((event.kind.as_str(), event.version()), ("MODIFIED", last), "{:#}", event.object);
        assert_eq!(event.object["kind"], "PartialObjectMetadata");
        assert_eq!((event.object.get("status"), event.object.get("spec")), (None, None));
    }
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let kubelet = node(&cluster);
        for accept in [JSON, PROTOBUF] {
            let one = decoded(&kubelet.get_as(&format!("{PODS}/web"), accept).await.unwrap().expect(200));
            assert_eq!(
                (&one["status"]["phase"], &one["status"]["podIP"]),
                (&json!("Running"), &json!("10.0.0.7"))
            );
            assert_eq!((version(&one), &one["spec"]["nodeName"]), (last, &json!(NODE)));
            let list = decoded(&kubelet.get_as(OWN_PODS, accept).await.unwrap().expect(200));
            assert!(version(&list) >= last);
            let items = list["items"].as_array().unwrap();
            assert_eq!(items.len(), 2);
            let web = items.iter().find(|i| i["metadata"]["name"] == "web").unwrap();
            assert_eq!((&web["status"]["phase"], version(web)), (&json!("Running"), last));
        }
        let from = format!("{OWN_PODS}&watch=true&resourceVersion={}", last - 1);
        let answer = kubelet.get(&format!("{from}&timeoutSeconds=1")).await.unwrap();
        assert!(answer.text().contains("Running") || answer.text().contains("410"), "{}", answer.text());
    }
}

/// A version says nothing of whether anything changed: who is ahead of the hub, because something else happened in the
/// cloud before the link was lost, hears of the node's writes as any other.
#[tokio::test]
async fn what_the_node_writes_is_told_to_who_is_ahead_of_the_hub() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let (_, _live) = informer(&kubelet, OWN_PODS, JSON).await;
    until_collection(&cluster, &["pods", "json"], "live").await;
    let ahead = version(&cluster.api.create(objects::secret("default", "elsewhere", &[])));
    let query = format!("{OWN_PODS}&watch=true&allowWatchBookmarks=true&resourceVersion={ahead}");
    let mut streams = Vec::new();
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        streams.push(kubelet.watch(&query, JSON).await.unwrap());
    }
    let written = version(&report(&kubelet, "web", "Running").await);
    let now = json!({"gracePeriodSeconds": 0});
    kubelet.delete(&format!("{PODS}/web"), &now).await.unwrap().expect(200);
    for stream in &mut streams {
        let event = stream.next_change(SOON).await.unwrap();
        assert_eq!((event.kind.as_str(), event.version()), ("MODIFIED", written));
        let event = stream.next_change(SOON).await.unwrap();
        assert_eq!((event.kind.as_str(), event.name()), ("DELETED", "web"));
    }
}

/// Each kind of patch and a whole object; what is not the status stays as it is.
#[tokio::test]
async fn every_kind_of_change_is_taken() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let path = format!("{PODS}/web/status");
    let before = kubelet.get(&format!("{PODS}/web")).await.unwrap().expect(200).json();
    let json_patch = json!([{"op": "replace", "path": "/status/phase", "value": "Running"}]);
    kubelet.patch(&path, "json-patch", &json_patch).await.unwrap().expect(200);
    kubelet.patch(&path, "merge-patch", &json!({"status": {"hostIP": "1.2.3.4"}})).await.unwrap().expect(200);
    let mixed = json!({"spec": {"nodeName": "other"}, "status": {"message": "m"}});
    kubelet.patch(&path, STRATEGIC, &mixed).await.unwrap().expect(200);
    let mut whole = kubelet.get(&format!("{PODS}/web")).await.unwrap().expect(200).json();
    assert_eq!(whole["status"], json!({"phase": "Running", "hostIP": "1.2.3.4", "message": "m"}));
    assert_eq!(whole["spec"], before["spec"]);
    let old = version(&before);
    whole["status"]["reason"] = json!("r");
    let put = kubelet.put(&path, &whole).await.unwrap().expect(200).json();
    assert_eq!(put["status"]["reason"], "r");
    // The version that was written over is a conflict, and so is another uid.
    whole["metadata"]["resourceVersion"] = json!(old.to_string());
    let stale = kubelet.put(&path, &whole).await.unwrap();
    assert_eq!((stale.code(), &stale.json()["reason"]), (409, &json!("Conflict")), "{}", stale.text());
    let uid = json!({"metadata": {"uid": "another"}, "status": {"phase": "Failed"}});
    let other = kubelet.patch(&path, STRATEGIC, &uid).await.unwrap();
    assert_eq!((other.code(), &other.json()["reason"]), (409, &json!("Conflict")));
    for (body, code) in [("{", 400), ("[1]", 400)] {
        let bad =
            kubelet.send(Method::PATCH, &path, "application/merge-patch+json", body.into()).await.unwrap();
        assert!(matches!(bad.code(), 400 | 422), "{code} {body}: {}", bad.text());
    }
    let apply = kubelet.patch(&path, "apply-patch", &json!({"status": {}})).await.unwrap();
    assert!(matches!(apply.code(), 400 | 415 | 422 | 503), "{}", apply.text());
    let read = kubelet.get(&format!("{PODS}/web")).await.unwrap().expect(200).json();
    assert_eq!(read["status"]["reason"], "r", "nothing of what was refused is kept");
}

/// What is not the node's is refused with a retriable error, and leaves nothing behind.
#[tokio::test]
async fn what_is_not_the_nodes_is_refused() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let carl = reader(&cluster, "carl", &["pods"]);
    carl.get("/api/v1/pods").await.unwrap().expect(200);
    cut(&cluster).await;
    let map = objects::config_map("default", "new", &[]);
    let csr = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let post = |who: &Client, path: &str, body: &Value| {
        let (who, path, body) = (who.clone(), path.to_owned(), body.clone());
        async move { who.post(&path, &body).await.unwrap() }
    };
    for (what, answer) in [
        ("another's object", post(&kubelet, "/api/v1/namespaces/default/configmaps", &map).await),
        ("a plain pod", post(&kubelet, PODS, &objects::pod("default", "new", NODE)).await),
        ("a request to be signed", post(&kubelet, csr, &json!({"kind": "CertificateSigningRequest"})).await),
        ("an eviction", post(&kubelet, &format!("{PODS}/web/eviction"), &json!({"kind": "Eviction"})).await),
        ("another node", kubelet.patch("/api/v1/nodes/edge-2/status", STRATEGIC, &json!({})).await.unwrap()),
        (
            "a pod of another node",
            kubelet
                .patch(&format!("{PODS}/elsewhere/status"), STRATEGIC, &status_of("Failed"))
                .await
                .unwrap(),
        ),
        (
            "a graceful deletion",
            kubelet.delete(&format!("{PODS}/web"), &json!({"gracePeriodSeconds": 30})).await.unwrap(),
        ),
        (
            "another caller",
            carl.patch(&format!("{PODS}/web/status"), STRATEGIC, &status_of("Failed")).await.unwrap(),
        ),
        (
            "another caller's event",
            post(&carl, "/api/v1/namespaces/default/events", &json!({"metadata": {"name": "e"}})).await,
        ),
    ] {
        not_held(&answer, what);
    }
    let exists = kubelet.post("/api/v1/nodes", &objects::node(NODE)).await.unwrap();
    assert_eq!(
        (exists.code(), &exists.json()["reason"]),
        (409, &json!("AlreadyExists")),
        "{}",
        exists.text()
    );
    assert_eq!(journal(&cluster).await, (0, 0));
    mend(&cluster).await;
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Pending");
}

/// P5: whatever moment the process dies at, what was acknowledged is there.
#[tokio::test]
async fn an_acknowledged_write_survives_kill_9() {
    let mut cluster = with_pods().await;
    cut(&cluster).await;
    for n in 0..6 {
        let kubelet = node(&cluster);
        let reason = format!("round-{n}");
        let patch = json!({"status": {"reason": reason}});
        kubelet.patch(&format!("{PODS}/web/status"), STRATEGIC, &patch).await.unwrap().expect(200);
        cluster.hub.crash_and_restart().await;
        let read = node(&cluster).get(&format!("{PODS}/web")).await.unwrap().expect(200).json();
        assert_eq!(read["status"]["reason"], json!(reason));
    }
    assert_eq!(journal(&cluster).await, (1, 0), "one entry an object");
    mend(&cluster).await;
    assert_eq!(pod(&cluster, "web")["status"]["reason"], "round-5");
}

/// The lease is the node's alone: renewed in memory, and renewed in the cloud as soon as there is one.
#[tokio::test]
async fn the_lease_is_renewed_with_and_without_a_cloud() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let mut lease = kubelet.post(LEASES, &objects::lease(NODE)).await.unwrap().expect(201).json();
    let own = format!("{LEASES}/{NODE}");
    cut(&cluster).await;
    for n in 0..3 {
        lease["spec"]["renewTime"] = json!(format!("2026-01-01T00:00:0{n}.000000Z"));
        lease = kubelet.put(&own, &lease).await.unwrap().expect(200).json();
        let read = kubelet.get(&own).await.unwrap().expect(200).json();
        assert_eq!(
            (&read["spec"]["renewTime"], version(&read)),
            (&lease["spec"]["renewTime"], version(&lease))
        );
    }
    assert_eq!(journal(&cluster).await, (0, 0), "there is nothing to replay");
    mend(&cluster).await;
    lease["spec"]["renewTime"] = json!("2026-01-01T00:01:00.000000Z");
    let answer = kubelet.put(&own, &lease).await.unwrap();
    if answer.code() != 200 {
        // As the kubelet does it: a conflict makes it read and try again.
        assert_eq!(answer.code(), 409, "{}", answer.text());
        let mut fresh = kubelet.get(&own).await.unwrap().expect(200).json();
        fresh["spec"]["renewTime"] = lease["spec"]["renewTime"].clone();
        kubelet.put(&own, &fresh).await.unwrap().expect(200);
    }
    let cloud = cluster.api.get("leases.coordination.k8s.io", "kube-node-lease", NODE).unwrap();
    assert_eq!(cloud["spec"]["renewTime"], lease["spec"]["renewTime"]);
}

/// The lease by which an operator elects its leader is the cloud's: nobody renews it offline, whoever asks, and everybody
/// reads what it was. A leader that knows this steps down; one that was told of success would go on beside another (P5).
#[tokio::test]
async fn an_operators_lease_is_refused_offline_for_later() {
    const ELECTION: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let cluster = with_pods().await;
    let verbs = "get,list,watch,create,update,patch";
    cluster.api.allow(Rule::allow("operator", verbs, "coordination.k8s.io", "leases"));
    let operator = caller(&cluster, "operator");
    let mut lease = objects::lease("leader");
    lease["metadata"]["namespace"] = json!("default");
    operator.post(ELECTION, &lease).await.unwrap().expect(201);
    let one = format!("{ELECTION}/leader");
    let held = operator.get(&one).await.unwrap().expect(200).json();
    cut(&cluster).await;
    let mut renewed = held.clone();
    renewed["spec"]["renewTime"] = json!("2026-01-01T00:01:00.000000Z");
    let patch = json!({"spec": {"holderIdentity": "another"}});
    for client in [&operator, &node(&cluster)] {
        let refusals = [
            client.put(&one, &renewed).await.unwrap(),
            client.patch(&one, "merge-patch", &patch).await.unwrap(),
            client.post(ELECTION, &lease).await.unwrap(),
        ];
        for refused in refusals {
            assert_eq!(refused.code(), 503, "{}", refused.text());
            assert_eq!(refused.json()["reason"], "ServiceUnavailable");
            assert!(!refused.header("retry-after").is_empty(), "{:?}", refused.headers);
        }
    }
    assert_eq!(operator.get(&one).await.unwrap().expect(200).json(), held, "nothing of it stands");
    assert_eq!(journal(&cluster).await, (0, 0), "and nothing will be sent");
    mend(&cluster).await;
    operator.put(&one, &renewed).await.unwrap().expect(200);
}

/// Scenario 4: each pod gets its own last real token back, none is forged, none lost by a restart.
#[tokio::test]
async fn tokens_are_given_again_and_never_forged() {
    let mut cluster = with_pods().await;
    let ask = async |cluster: &Cluster, pod: &str, audience: &str| {
        let uid = pod_uid(cluster, pod);
        let spec = json!({"audiences": [audience], "expirationSeconds": 3600,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}});
        let body = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
        node(cluster).post("/api/v1/namespaces/default/serviceaccounts/default/token", &body).await.unwrap()
    };
    let mut given = Vec::new();
    for (pod, audience) in [("web", "https://kubernetes.default.svc"), ("web", "vault"), ("db", "vault")] {
        let answer = ask(&cluster, pod, audience).await.expect(201).json();
        given.push((pod, audience, answer["status"]["token"].clone()));
    }
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        for (pod, audience, token) in &given {
            let answer = ask(&cluster, pod, audience).await.expect(201).json();
            assert_eq!((&answer["status"]["token"], &answer["kind"]), (token, &json!("TokenRequest")));
            assert!(answer["status"]["expirationTimestamp"].is_string());
        }
        not_held(&ask(&cluster, "db", "other").await, "no such token was ever given");
    }
}

fn pod_uid(cluster: &Cluster, name: &str) -> Value {
    pod(cluster, name)["metadata"]["uid"].clone()
}
