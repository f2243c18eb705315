//! Between the push and the pull: what the cloud has taken is not forgotten before it is seen (P5).

use std::time::Duration;

use serde_json::json;
use yurt_testkit::apiserver::Fault;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

/// A power cut after the push, before any reflector has caught up, brings back nothing of before the outage.
#[tokio::test]
async fn a_crash_between_push_and_pull_resurrects_nothing() {
    let mut cluster = with_pods().await;
    cluster.api.create(objects::pod("default", "ended", NODE));
    let kubelet = node(&cluster);
    eventually("the view has it", async || {
        names(&kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200)).len() == 3
    })
    .await;
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    kubelet.delete(&format!("{PODS}/ended"), &json!({"gracePeriodSeconds": 0})).await.unwrap().expect(200);
    let deaf = cluster.api.fault(Fault::Fail(500, "InternalError"), |method, path| {
        method == "GET" && path.contains("watch=true")
    });
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert!(!cluster.api.exists("pods", "default", "ended"));
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Running");

    cluster.relay.refuse().await;
    cluster.hub.crash_and_restart().await;
    let kubelet = node(&cluster);
    let list = kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200);
    assert_eq!(names(&list), ["db", "web"]);
    let web = kubelet.get(&format!("{PODS}/web")).await.unwrap().expect(200).json();
    assert_eq!(web["status"]["phase"], "Running", "{web:#}");
    // The cloud may have made another of that name since: nobody knows.
    not_held(&kubelet.get(&format!("{PODS}/ended")).await.unwrap(), "a deleted pod");

    cluster.api.remove_fault(deaf);
    mend(&cluster).await;
    until_metric(&cluster, "journal_delivered", |n| n == 0).await;
    let list = kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200);
    assert_eq!(names(&list), ["db", "web"]);
    assert!(version(&decoded(&list)) < 1 << 62, "no local version is left in the view");
    assert_eq!(sent(&cluster, "PATCH", &format!("{PODS}/web/status")), 1, "and nothing is sent twice");
}

/// An old list that still waits for a newer one keeps nothing of an earlier outage over what the cloud said since.
#[tokio::test]
async fn what_was_pulled_since_is_what_a_restart_shows() {
    let mut cluster = with_pods().await;
    cluster.api.create(objects::pod("default", "ended", NODE));
    let kubelet = node(&cluster);
    let dora = reader(&cluster, "dora", &["pods"]);
    eventually("the view has it", async || {
        names(&kubelet.get_as(&format!("{OWN_PODS}&resourceVersion=0"), PROTOBUF).await.unwrap()).len() == 3
    })
    .await;
    // Nobody lists all pods again after this.
    dora.get("/api/v1/pods").await.unwrap().expect(200);
    cut(&cluster).await;
    for name in ["web", "ended"] {
        report(&kubelet, name, "Running").await;
    }
    mend(&cluster).await;
    until_pushed(&cluster).await;
    cluster.api.delete("pods", "default", "ended");
    cluster.api.modify("pods", "default", "web", |o| o["metadata"]["labels"]["since"] = json!("yes"));
    let view = async |cluster: &yurt_testkit::cluster::Cluster| {
        let path = format!("{OWN_PODS}&resourceVersion=0");
        decoded(&node(cluster).get_as(&path, PROTOBUF).await.unwrap().expect(200))
    };
    let is_new = |list: &serde_json::Value| {
        let pods = list["items"].as_array().unwrap();
        pods.len() == 2 && pods.iter().any(|p| p["metadata"]["labels"]["since"] == "yes")
    };
    eventually("the cloud's changes", async || is_new(&view(&cluster).await)).await;
    cut(&cluster).await;
    cluster.hub.crash_and_restart().await;
    let list = view(&cluster).await;
    assert!(is_new(&list), "{list:#}");
    // And the next report is told as a change of what the cloud has.
    let again = json!({"status": {"podIP": "10.0.0.8", "podIPs": [{"ip": "10.0.0.8"}]}});
    let path = format!("{PODS}/web/status");
    node(&cluster).patch(&path, STRATEGIC, &again).await.unwrap().expect(200);
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let web = pod(&cluster, "web");
    assert_eq!((&web["status"]["podIP"], journal(&cluster).await), (&json!("10.0.0.8"), (0, 0)), "{web:#}");
    assert_eq!(web["metadata"]["labels"]["since"], "yes");
}

/// P2: a collection that appears while a write waits shows the write.
#[tokio::test]
async fn a_list_that_is_kept_while_a_write_waits_shows_it() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let dora = reader(&cluster, "dora", &["pods"]);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    let waits = |method: &str, path: &str| method == "PATCH" && path.contains("/web/status");
    cluster.api.fault(Fault::Fail(401, "Unauthorized"), waits);
    mend(&cluster).await;
    assert_eq!(journal(&cluster).await, (1, 0), "it waits");
    dora.get("/api/v1/pods").await.unwrap().expect(200);
    cut(&cluster).await;
    let list = dora.get("/api/v1/pods").await.unwrap().expect(200).json();
    let phases: Vec<_> = list["items"].as_array().unwrap().iter().map(|p| &p["status"]["phase"]).collect();
    assert!(phases.contains(&&json!("Running")), "{list:#}");
}

/// A conflict is an Event of the object, where an operator looks first; and the way home is open for the rest.
#[tokio::test]
async fn a_conflict_is_told_as_an_event() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    let of_web = |method: &str, path: &str| method == "PATCH" && path.contains("/web/status");
    cluster.api.fault_times(1, Fault::Fail(422, "Invalid"), of_web);
    mend(&cluster).await;
    eventually("the Event is in the cloud", async || {
        cluster.api.events().iter().any(|e| {
            e["reason"] == "LocalWriteConflict"
                && e["involvedObject"]["name"] == "web"
                && e["involvedObject"]["kind"] == "Pod"
                && e["message"].as_str().is_some_and(|m| m.contains("422"))
        })
    })
    .await;
    until_pushed(&cluster).await;
}

/// A cloud that has too much to do is asked again when it says, and a slow link is no lost one: an answer may take as
/// long as it keeps coming.
#[tokio::test]
async fn a_busy_cloud_and_a_slow_link_lose_nothing() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    let of_web = |method: &str, path: &str| method == "PATCH" && path.contains("/web/status");
    cluster.api.fault_times(2, Fault::TooManyRequests(1), of_web);
    // What changed of the node's pods is forgotten, and the list of all takes about 12 s: longer than any bound on silence.
    cluster.api.modify("pods", "default", "db", |pod| pod["metadata"]["labels"]["changed"] = json!("yes"));
    cluster.api.compact();
    let whole: usize = cluster.api.list("pods").iter().map(|pod| pod.to_string().len()).sum();
    let slow = Fault::SlowBody(whole.div_ceil(15), Duration::from_millis(800));
    cluster.api.fault_times(1, slow, |method, path| {
        method == "GET" && path.starts_with("/api/v1/pods?") && !path.contains("watch=true")
    });
    cluster.relay.heal();
    let home = async {
        while journal(&cluster).await.0 > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the write is home", Duration::from_secs(60), home).await;
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Running");
    assert_eq!(journal(&cluster).await, (0, 0));
}

/// An entry that the cloud does not take, or that something before the cloud answers, holds up neither the others nor the
/// link: it is shown, tried again, and delivered when it can be.
#[tokio::test]
async fn what_the_cloud_does_not_take_holds_up_nothing() {
    for fault in [Fault::Fail(500, "InternalError"), Fault::Empty(413)] {
        let cluster = with_pods().await;
        let (kubelet, carl) = (node(&cluster), reader(&cluster, "carl", &["pods"]));
        cut(&cluster).await;
        report(&kubelet, "web", "Running").await;
        report(&kubelet, "db", "Running").await;
        let shown = format!("{fault:?}");
        let of_web = |method: &str, path: &str| method == "PATCH" && path.contains("/web/status");
        let id = cluster.api.fault(fault, of_web);
        mend(&cluster).await;
        assert_eq!(pod(&cluster, "db")["status"]["phase"], "Running", "{shown}");
        assert_eq!(journal(&cluster).await, (1, 0), "{shown}");
        assert_eq!(status(&cluster).await["lastReplay"]["waiting"], 1, "{shown}");
        carl.get("/api/v1/pods").await.unwrap().expect(200);
        until_collection(&cluster, &["pods", "protobuf"], "live").await;
        let view = kubelet.get_as(&format!("{OWN_PODS}&resourceVersion=0"), PROTOBUF).await.unwrap();
        let web = decoded(&view)["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["metadata"]["name"] == "web")
            .cloned();
        assert_eq!(web.unwrap()["status"]["phase"], "Running", "{shown}: the node sees what it wrote");
        cluster.api.remove_fault(id);
        let home = async {
            while journal(&cluster).await.0 > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("the write is home", Duration::from_secs(40), home).await;
        assert_eq!(pod(&cluster, "web")["status"]["phase"], "Running", "{shown}");
        assert_eq!(journal(&cluster).await, (0, 0), "{shown}");
    }
}

/// The kubelet forgets its ResourceSlices at its start; a cloud that does not serve that API answers so in plain text.
#[tokio::test]
async fn an_api_that_the_cloud_does_not_serve_is_no_lost_link() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    kubelet
        .delete(&format!("{slices}?fieldSelector=spec.nodeName%3D{NODE}"), &json!(null))
        .await
        .unwrap()
        .expect(200);
    report(&kubelet, "web", "Running").await;
    cluster.api.fault(Fault::Empty(404), move |method, path| method == "DELETE" && path.starts_with(slices));
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(journal(&cluster).await, (0, 0));
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Running");
}

/// What the node made of its own while the cloud made it too becomes what the node has, and is no lost write (P5).
#[tokio::test]
async fn an_object_of_the_node_that_the_cloud_has_too_becomes_the_nodes() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let made = |driver: &str| {
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": NODE},
            "spec": {"drivers": [{"name": driver, "nodeID": NODE, "topologyKeys": null}]},
        })
    };
    kubelet.post("/apis/storage.k8s.io/v1/csinodes", &made("ours")).await.unwrap().expect(201);
    cluster.api.create(made("theirs"));
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(journal(&cluster).await, (0, 0));
    let drivers = cluster.api.get("csinodes.storage.k8s.io", "", NODE).unwrap()["spec"]["drivers"].clone();
    assert_eq!(
        drivers.as_array().unwrap().iter().map(|d| &d["name"]).collect::<Vec<_>>(),
        ["ours"],
        "{drivers}"
    );
}

/// A static pod's mirror cannot be made where its namespace is gone: that is no conflict for anybody to look at.
#[tokio::test]
async fn a_mirror_pod_goes_with_its_namespace() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    let space = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "gone"}});
    cluster.api.create(space);
    cut(&cluster).await;
    let mut mirror = objects::pod("gone", "static", NODE);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "one"});
    kubelet.post("/api/v1/namespaces/gone/pods", &mirror).await.unwrap().expect(201);
    let (_, mut stream) = informer(&kubelet, OWN_PODS, PROTOBUF).await;
    cluster.api.delete("namespaces", "", "gone");
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(journal(&cluster).await, (0, 0));
    assert_eq!(status(&cluster).await["lastReplay"]["dropped"], 1);
    assert!(!cluster.api.events().iter().any(|e| e["reason"] == "LocalWriteConflict"));
    let gone =
        async { while stream.next_change(Duration::from_secs(30)).await.unwrap().kind != "DELETED" {} };
    within("the kubelet hears that it is gone", Duration::from_secs(30), gone).await;
}

/// Anybody can answer 404: only the cloud's own word takes a write away.
#[tokio::test]
async fn a_404_that_is_not_the_clouds_drops_nothing() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    kubelet.delete(&format!("{PODS}/db"), &json!({"gracePeriodSeconds": 0})).await.unwrap().expect(200);
    let mut mirror = objects::pod("default", "static", NODE);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "one"});
    kubelet.post(PODS, &mirror).await.unwrap().expect(201);
    let labels = json!({"metadata": {"labels": {"zone": "west"}}});
    kubelet.patch(NODE_PATH, STRATEGIC, &labels).await.unwrap().expect(200);
    let of_node = |method: &str, path: &str| match method {
        "GET" => path.contains("metadata.name%3Dweb") || path == NODE_PATH,
        _ => path.starts_with(PODS),
    };
    let id = cluster.api.fault(Fault::Empty(404), of_node);
    mend(&cluster).await;
    assert_eq!(journal(&cluster).await, (4, 0));
    cluster.api.remove_fault(id);
    let home = async {
        while journal(&cluster).await.0 > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the writes are home", Duration::from_secs(40), home).await;
    assert_eq!(journal(&cluster).await, (0, 0));
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Running");
    assert!(!cluster.api.exists("pods", "default", "db") && cluster.api.exists("pods", "default", "static"));
    assert_eq!(cluster.api.get("nodes", "", NODE).unwrap()["metadata"]["labels"]["zone"], "west");
}
