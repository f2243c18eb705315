//! Writes that come with conditions: only to be tried, for one version, for one object. What does not meet them is not
//! kept, and nothing that answers in the cloud's place ends a write that is (P5).

use serde_json::{Value, json};
use yurt_testkit::apiserver::Fault;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

/// A dry run is the cloud's to answer: taken for a write, it would end a pod that somebody only asked about.
#[tokio::test]
async fn a_write_that_is_only_tried_is_not_kept() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let now = json!({"gracePeriodSeconds": 0});
    let tried = [
        kubelet
            .patch(&format!("{PODS}/web/status?dryRun=All"), STRATEGIC, &status_of("Failed"))
            .await
            .unwrap(),
        kubelet.delete(&format!("{PODS}/web?dryRun=All"), &now).await.unwrap(),
        kubelet
            .delete(&format!("{PODS}/web"), &json!({"gracePeriodSeconds": 0, "dryRun": ["All"]}))
            .await
            .unwrap(),
    ];
    for answer in &tried {
        not_held(answer, "a dry run");
    }
    let read = kubelet.get(&format!("{PODS}/web")).await.unwrap().expect(200).json();
    assert_eq!((&read["status"]["phase"], journal(&cluster).await), (&json!("Pending"), (0, 0)));
}

/// A deletion names the version, a whole object the name: another one is not touched.
#[tokio::test]
async fn a_write_is_for_the_object_that_it_names() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let older = json!({"gracePeriodSeconds": 0, "preconditions": {"resourceVersion": "1"}});
    let stale = kubelet.delete(&format!("{PODS}/web"), &older).await.unwrap();
    assert_eq!((stale.code(), &stale.json()["reason"]), (409, &json!("Conflict")), "{}", stale.text());
    let own = kubelet.get(NODE_PATH).await.unwrap().expect(200).json();
    for (at, other) in [("/metadata/name", "edge-2"), ("/kind", "Pod")] {
        let mut object = own.clone();
        *object.pointer_mut(at).unwrap() = json!(other);
        let wrong = kubelet.put(NODE_PATH, &object).await.unwrap();
        assert_eq!((wrong.code(), &wrong.json()["reason"]), (400, &json!("BadRequest")), "{}", wrong.text());
    }
    not_held(&kubelet.post(LEASES, &objects::lease("edge-2")).await.unwrap(), "another node's lease");
    let yaml =
        kubelet.send(http::Method::PUT, NODE_PATH, "application/yaml", "kind: Node".into()).await.unwrap();
    assert_eq!(
        (yaml.code(), &yaml.json()["reason"]),
        (415, &json!("UnsupportedMediaType")),
        "{}",
        yaml.text()
    );
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let refused = kubelet.patch(&format!("{PODS}/web/status"), STRATEGIC, &labels).await.unwrap();
    assert_eq!((refused.code(), &refused.json()["reason"]), (403, &json!("Forbidden")), "{}", refused.text());
    assert_eq!(journal(&cluster).await, (0, 0));
}

/// A name is taken once, also by an event.
#[tokio::test]
async fn an_event_is_made_once() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let events = "/api/v1/namespaces/default/events";
    let event = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"}});
    kubelet.post(events, &event).await.unwrap().expect(201);
    let again = kubelet.post(events, &event).await.unwrap();
    assert_eq!((again.code(), &again.json()["reason"]), (409, &json!("AlreadyExists")), "{}", again.text());
    assert_eq!(journal(&cluster).await, (1, 0));
}

/// A node may not patch its pods, only their status: what it says there of annotations comes home there.
#[tokio::test]
async fn what_a_pods_status_says_of_the_pod_comes_home() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    let mut patch = status_of("Running");
    patch["metadata"] = json!({"annotations": {"seen-by": "the node"}});
    kubelet.patch(&format!("{PODS}/web/status"), STRATEGIC, &patch).await.unwrap().expect(200);
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let home = pod(&cluster, "web");
    assert_eq!(
        (&home["status"]["phase"], &home["metadata"]["annotations"]["seen-by"]),
        (&json!("Running"), &json!("the node"))
    );
    assert_eq!(journal(&cluster).await, (0, 0));
}

/// A conflict on the way home is looked at again: it is no refusal of what the node wrote.
#[tokio::test]
async fn a_conflict_on_the_way_home_is_tried_again() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    let patches = |method: &str, path: &str| method == "PATCH" && path.starts_with(PODS);
    cluster.api.fault_times(1, Fault::Fail(409, "Conflict"), patches);
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let phase: Value = pod(&cluster, "web")["status"]["phase"].clone();
    assert_eq!((phase, journal(&cluster).await), (json!("Running"), (0, 0)));
}

/// What answers in the cloud's place may speak JSON: that is not the word that an object is gone.
#[tokio::test]
async fn only_the_clouds_word_ends_a_write() {
    let cluster = with_pods().await;
    let kubelet = node(&cluster);
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    let reads = |method: &str, path: &str| method == "GET" && path.starts_with(PODS);
    for odd in [Fault::Garbage("{\"login\":\"/portal\",\"items\":[]}"), Fault::Empty(404)] {
        let portal = cluster.api.fault(odd.clone(), reads);
        mend(&cluster).await;
        assert_eq!(journal(&cluster).await, (1, 0), "it waits: {odd:?}");
        cut(&cluster).await;
        cluster.api.remove_fault(portal);
    }
    mend(&cluster).await;
    until_pushed(&cluster).await;
    let phase: Value = pod(&cluster, "web")["status"]["phase"].clone();
    assert_eq!((phase, journal(&cluster).await), (json!("Running"), (0, 0)));
}
