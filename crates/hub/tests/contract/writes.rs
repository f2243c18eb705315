//! The node's writes while the cloud is away: kept before they are acknowledged, seen at once, brought
//! home once, and never over what the cloud did meanwhile (P5, P6).

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use yurt_testkit::apiserver::Fault;
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const STRATEGIC: &str = "strategic-merge-patch";
const PODS: &str = "/api/v1/namespaces/default/pods";
const OWN_PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1";
const NODE_PATH: &str = "/api/v1/nodes/edge-1";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// A node with two pods that its kubelet watches, and its own object.
async fn with_pods() -> Cluster {
    let cluster = online().await;
    for name in ["web", "db"] {
        let mut pod = objects::pod("default", name, NODE);
        pod["status"] = json!({"phase": "Pending"});
        cluster.api.create(pod);
    }
    cluster.api.create(objects::pod("default", "elsewhere", "edge-2"));
    let kubelet = node(&cluster);
    for path in [OWN_PODS, "/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1"] {
        let (_, _stream) = informer(&kubelet, path, PROTOBUF).await;
    }
    kubelet.get(NODE_PATH).await.unwrap().expect(200);
    until_collection(&cluster, &["pods", "protobuf"], "live").await;
    cluster
}

fn status_of(phase: &str) -> Value {
    json!({"status": {"phase": phase, "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]}})
}

async fn report(client: &Client, pod: &str, phase: &str) -> Value {
    let path = format!("{PODS}/{pod}/status");
    client.patch(&path, STRATEGIC, &status_of(phase)).await.unwrap().expect(200).json()
}

fn pod(cluster: &Cluster, name: &str) -> Value {
    cluster.api.get("pods", "default", name).unwrap()
}

async fn journal(cluster: &Cluster) -> (u64, u64) {
    let status = status(cluster).await;
    let number = |at: &str| status["journal"][at].as_u64().unwrap();
    (number("length"), number("conflicts"))
}

async fn until_pushed(cluster: &Cluster) {
    eventually("the journal is empty", async || journal(cluster).await.0 == 0).await;
}

/// How often the node sent this to the cloud.
fn sent(cluster: &Cluster, method: &str, path: &str) -> usize {
    cluster.api.audit().count(|e| e.method == method && e.path == path && e.user == "system:node:edge-1")
}

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

/// P5, P6: pushed once, merged with what the cloud did meanwhile, nothing left over.
#[tokio::test]
async fn writes_come_home_once_and_beside_the_clouds() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let (_, mut stream) = informer(&kubelet, OWN_PODS, PROTOBUF).await;
    cut(&cluster).await;
    for phase in ["Running", "Failed", "Running"] {
        report(&kubelet, "web", phase).await;
    }
    let labels = json!({"metadata": {"labels": {"zone": "west"}}});
    kubelet.patch(NODE_PATH, STRATEGIC, &labels).await.unwrap().expect(200);
    kubelet
        .patch(&format!("{NODE_PATH}/status"), STRATEGIC, &json!({"status": {"nodeInfo": {"bootID": "b"}}}))
        .await
        .unwrap()
        .expect(200);
    cluster.api.modify("pods", "default", "web", |o| {
        o["metadata"]["labels"]["cloud"] = json!("yes");
        o["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
        o["status"]["qosClass"] = json!("Burstable");
    });
    cluster.api.modify("nodes", "", NODE, |o| {
        o["spec"]["unschedulable"] = json!(true);
        o["metadata"]["labels"]["cloud"] = json!("yes");
    });
    let status_path = format!("{PODS}/web/status");
    assert_eq!(sent(&cluster, "PATCH", &status_path), 0);
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let home = pod(&cluster, "web");
    assert_eq!(
        (&home["status"]["phase"], &home["status"]["podIP"]),
        (&json!("Running"), &json!("10.0.0.7")),
        "{home:#}"
    );
    assert_eq!(
        (&home["metadata"]["labels"]["cloud"], &home["status"]["qosClass"]),
        (&json!("yes"), &json!("Burstable"))
    );
    let conditions: Vec<_> =
        home["status"]["conditions"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert!(
        conditions.contains(&&json!("Ready")) && conditions.contains(&&json!("DisruptionTarget")),
        "{conditions:?}"
    );
    let own = cluster.api.get("nodes", "", NODE).unwrap();
    assert_eq!(
        (&own["spec"]["unschedulable"], &own["metadata"]["labels"]["cloud"]),
        (&json!(true), &json!("yes"))
    );
    assert_eq!(
        (&own["metadata"]["labels"]["zone"], &own["status"]["nodeInfo"]["bootID"]),
        (&json!("west"), &json!("b"))
    );
    assert_eq!((sent(&cluster, "PATCH", &status_path), journal(&cluster).await), (1, (0, 0)));
    // Watchers are led to the cloud's object; their last event of it is what the cloud has.
    let last = version(&home);
    let led = async {
        loop {
            let event = stream.next_change(SOON).await.unwrap();
            if event.version() == last {
                return event;
            }
        }
    };
    let event = within("the watcher sees the cloud's object", SOON, led).await;
    assert_eq!(
        (&event.object["metadata"]["labels"]["cloud"], &event.object["status"]["phase"]),
        (&json!("yes"), &json!("Running"))
    );
    let view = kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200).json();
    assert!(version(&view) < 1 << 62, "no local version is left in the view");
    // A further outage brings nothing home a second time.
    cut(&cluster).await;
    mend(&cluster).await;
    assert_eq!(sent(&cluster, "PATCH", &status_path), 1);
}

/// P5: pods that the cloud deleted or replaced are left alone; pods that the node deleted stay deleted.
#[tokio::test]
async fn nothing_is_resurrected() {
    let cluster = with_pods().await;
    for name in ["ended", "replaced"] {
        cluster.api.create(objects::pod("default", name, NODE));
    }
    let kubelet = node(&cluster);
    eventually("the view has them all", async || {
        names(&kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200)).len() == 4
    })
    .await;
    let (_, mut stream) = informer(&kubelet, OWN_PODS, PROTOBUF).await;
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    report(&kubelet, "db", "Running").await;
    for name in ["ended", "replaced"] {
        let uid = pod(&cluster, name)["metadata"]["uid"].clone();
        let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "another"}});
        let refused = kubelet.delete(&format!("{PODS}/{name}"), &wrong).await.unwrap();
        assert_eq!(refused.code(), 409, "{}", refused.text());
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
        kubelet.delete(&format!("{PODS}/{name}"), &options).await.unwrap().expect(200);
        kubelet.get(&format!("{PODS}/{name}")).await.unwrap().expect(404);
        kubelet
            .patch(&format!("{PODS}/{name}/status"), STRATEGIC, &status_of("Failed"))
            .await
            .unwrap()
            .expect(404);
    }
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let event = stream.next_change(SOON).await.unwrap();
        kinds.push((event.kind.clone(), event.name().to_owned()));
    }
    let expected = [("MODIFIED", "web"), ("MODIFIED", "db"), ("DELETED", "ended"), ("DELETED", "replaced")];
    assert_eq!(kinds, expected.map(|(k, n)| (k.to_owned(), n.to_owned())));
    assert_eq!(names(&kubelet.get(OWN_PODS).await.unwrap().expect(200)), ["db", "web"]);
    // The cloud: web is gone, db and replaced are new pods of the old names.
    for name in ["web", "db", "replaced"] {
        cluster.api.delete("pods", "default", name);
    }
    for name in ["db", "replaced"] {
        cluster.api.create(objects::pod("default", name, NODE));
    }
    let newer = ["db", "replaced"].map(|name| pod(&cluster, name)["metadata"]["uid"].clone());
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert!(!cluster.api.exists("pods", "default", "web") && !cluster.api.exists("pods", "default", "ended"));
    for (name, uid) in ["db", "replaced"].iter().zip(newer) {
        let held = pod(&cluster, name);
        assert_eq!(held["metadata"]["uid"], uid, "{name} is the newer pod");
        assert!(held["status"]["podIP"].is_null(), "and nobody wrote the old one's status to it: {held:#}");
    }
    eventually("the node sees what the cloud has", async || {
        names(&kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200))
            == ["db", "replaced"]
    })
    .await;
    cut(&cluster).await;
    assert_eq!(names(&kubelet.get(OWN_PODS).await.unwrap().expect(200)), ["db", "replaced"]);
}

fn mirror(name: &str, hash: &str) -> Value {
    let mut pod = objects::pod("default", name, NODE);
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": hash});
    pod
}

/// A static pod's mirror is made, changed, replaced and reported with no cloud, and is one pod in the end.
#[tokio::test]
async fn mirror_pods_are_made_offline() {
    let mut cluster = with_pods().await;
    cut(&cluster).await;
    let kubelet = node(&cluster);
    let made = kubelet.post(PODS, &mirror("static", "one")).await.unwrap().expect(201).json();
    let first = made["metadata"]["uid"].as_str().unwrap().to_owned();
    let again = kubelet.post(PODS, &mirror("static", "one")).await.unwrap();
    assert_eq!((again.code(), &again.json()["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(names(&kubelet.get(OWN_PODS).await.unwrap().expect(200)), ["db", "static", "web"]);
    report(&kubelet, "static", "Running").await;
    kubelet.delete(&format!("{PODS}/static"), &json!({"gracePeriodSeconds": 0})).await.unwrap().expect(200);
    kubelet.get(&format!("{PODS}/static")).await.unwrap().expect(404);
    let second = kubelet.post(PODS, &mirror("static", "two")).await.unwrap().expect(201).json();
    assert_ne!(second["metadata"]["uid"].as_str().unwrap(), first);
    report(&kubelet, "static", "Running").await;
    cluster.hub.crash_and_restart().await;
    let kubelet = node(&cluster);
    let held = kubelet.get(&format!("{PODS}/static")).await.unwrap().expect(200).json();
    assert_eq!(
        (&held["metadata"]["uid"], &held["status"]["phase"]),
        (&second["metadata"]["uid"], &json!("Running"))
    );
    let (_, mut stream) = informer(&kubelet, OWN_PODS, PROTOBUF).await;
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let cloud = pod(&cluster, "static");
    assert_eq!(cloud["metadata"]["annotations"]["kubernetes.io/config.mirror"], "two");
    assert_eq!(
        (&cloud["status"]["phase"], &cloud["status"]["podIP"]),
        (&json!("Running"), &json!("10.0.0.7"))
    );
    let uid = cloud["metadata"]["uid"].as_str().unwrap();
    let moved = async {
        loop {
            let event = stream.next_change(SOON).await.unwrap();
            if event.name() == "static" && event.object["metadata"]["uid"] == uid {
                return event;
            }
        }
    };
    within("the view moves to the cloud's pod", SOON, moved).await;
    eventually("the view has it", async || {
        let list = kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200).json();
        let pods = list["items"].as_array().unwrap().clone();
        pods.iter().filter(|p| p["metadata"]["name"] == "static").all(|p| p["metadata"]["uid"] == uid)
            && pods.len() == 3
    })
    .await;
    assert_eq!(journal(&cluster).await, (0, 0));
}

/// A static pod's mirror that the cloud had is replaced offline: the new one is seen all the while.
#[tokio::test]
async fn a_replaced_mirror_does_not_vanish_on_the_way_home() {
    let cluster = online().await;
    cluster.api.create(mirror("static", "one"));
    let kubelet = node(&cluster);
    let (_, mut stream) = informer(&kubelet, OWN_PODS, PROTOBUF).await;
    until_collection(&cluster, &["pods", "protobuf"], "live").await;
    cut(&cluster).await;
    kubelet.delete(&format!("{PODS}/static"), &json!({"gracePeriodSeconds": 0})).await.unwrap().expect(200);
    let second = kubelet.post(PODS, &mirror("static", "two")).await.unwrap().expect(201).json();
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let cloud = pod(&cluster, "static");
    assert_eq!(cloud["metadata"]["annotations"]["kubernetes.io/config.mirror"], "two");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, uid)| *uid != cloud["metadata"]["uid"]) {
        let event = stream.next_change(SOON).await.unwrap();
        seen.push((event.kind.clone(), event.object["metadata"]["uid"].clone()));
    }
    let (local, new) = (second["metadata"]["uid"].clone(), cloud["metadata"]["uid"].clone());
    let told = |kind: &str, uid: &Value| seen.iter().filter(|(k, u)| k == kind && u == uid).count();
    assert_eq!((told("ADDED", &local), told("DELETED", &local), told("ADDED", &new)), (1, 1, 1), "{seen:?}");
    assert_eq!(journal(&cluster).await, (0, 0));
}

/// Events: kept, merged by name, sent after everything else; those of before the outage patched.
#[tokio::test]
async fn events_come_home() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let events = "/api/v1/namespaces/default/events";
    let event = |name: &str, count: u32| {
        json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"}, "reason": "Started",
            "type": "Normal", "count": count, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"}})
    };
    kubelet.post(events, &event("before", 1)).await.unwrap().expect(201);
    cut(&cluster).await;
    kubelet.post(events, &event("during", 1)).await.unwrap().expect(201);
    for count in 2..5 {
        for name in ["before", "during"] {
            kubelet
                .patch(&format!("{events}/{name}"), STRATEGIC, &json!({"count": count}))
                .await
                .unwrap()
                .expect(200);
        }
    }
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let found = cluster.api.events();
    let counts: Vec<_> =
        found.iter().map(|e| (e["metadata"]["name"].as_str().unwrap(), &e["count"])).collect();
    assert_eq!(counts, [("before", &json!(4)), ("during", &json!(4))]);
    assert_eq!(sent(&cluster, "POST", events), 2, "each event once");
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

/// What the cloud refuses is a conflict that is kept and shown; what it cannot take now is tried again.
#[tokio::test]
async fn refused_pushes_are_shown_and_failed_ones_tried_again() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    report(&kubelet, "db", "Running").await;
    let of = |name: &'static str| {
        move |method: &str, path: &str| method == "PATCH" && path.starts_with(&format!("{PODS}/{name}"))
    };
    cluster.api.fault_times(1, Fault::Fail(422, "Invalid"), of("web"));
    cluster.api.fault_times(2, Fault::Fail(500, "InternalError"), of("db"));
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(pod(&cluster, "db")["status"]["phase"], "Running");
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Pending");
    let status = status(&cluster).await;
    assert_eq!(status["journal"]["conflicts"], 1, "{status:#}");
    let shown = status["conflicts"][0].to_string();
    assert!(shown.contains("web") && shown.contains("422"), "{shown}");
}

/// P5: a certificate that the cloud does not take (yet) costs no write, and holds up nobody else.
#[tokio::test]
async fn a_refused_certificate_costs_no_write() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let carl = reader(&cluster, "carl", &["pods"]);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    let of_pods = |_: &str, path: &str| path.starts_with(PODS) && path.contains("web");
    let id = cluster.api.fault(Fault::Fail(401, "Unauthorized"), of_pods);
    mend(&cluster).await;
    assert_eq!(journal(&cluster).await, (1, 0), "it waits");
    assert_eq!(names(&carl.get("/api/v1/pods").await.unwrap().expect(200)).len(), 3);
    cluster.api.remove_fault(id);
    cluster.api.fault_times(2, Fault::Fail(403, "Forbidden"), of_pods);
    cut(&cluster).await;
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(
        (pod(&cluster, "web")["status"]["phase"].clone(), journal(&cluster).await),
        (json!("Running"), (0, 0))
    );
}

/// A write that meets the black hole before anybody has noticed it is kept all the same.
#[tokio::test]
async fn a_write_into_a_fresh_black_hole_is_kept() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cluster.relay.hold();
    let answer =
        within("the write is answered", Duration::from_secs(8), report(&kubelet, "web", "Running")).await;
    assert_eq!(answer["status"]["phase"], "Running");
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Running");
}

/// P4: a version of the outage means nothing to the cloud; who comes back with one is led on at once.
#[tokio::test]
async fn versions_of_the_outage_are_led_back() {
    let mut cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let local = version(&report(&kubelet, "web", "Running").await);
    mend(&cluster).await;
    until_pushed(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
            until_link(&cluster, "Online").await;
        }
        let kubelet = node(&cluster);
        let begun = std::time::Instant::now();
        for path in
            [format!("{OWN_PODS}&resourceVersion={local}"), format!("{PODS}/web?resourceVersion={local}")]
        {
            let answer = kubelet.get_as(&path, PROTOBUF).await.unwrap();
            assert!(matches!(answer.code(), 200 | 504), "{path}: {}", answer.text());
        }
        let watch = format!("{OWN_PODS}&watch=true&resourceVersion={local}");
        match kubelet.watch(&watch, PROTOBUF).await {
            Err(refused) => assert!(refused.to_string().contains("410"), "{refused}"),
            Ok(mut stream) => {
                cluster.api.modify("pods", "default", "web", |o| o["metadata"]["labels"]["n"] = json!("1"));
                loop {
                    let event = stream.next_change(SOON).await.unwrap();
                    if event.kind == "ERROR" || event.object["metadata"]["labels"]["n"] == "1" {
                        break;
                    }
                }
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
