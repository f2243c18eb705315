//! Coming home: what the node wrote is pushed once, and never over what the cloud did meanwhile (P5, P6).

use std::time::Duration;

use serde_json::{Value, json};
use yurt_testkit::apiserver::Fault;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

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

/// Somebody deletes the node's object, or a namespace with pods of the node, while the node writes to them: what was
/// written about them is dropped, not sent to others, not made anew, no conflict; all else is delivered, and the node sees
/// them gone.
#[tokio::test]
async fn what_was_written_about_a_node_or_a_namespace_that_is_gone_is_dropped() {
    let cluster = with_pods().await;
    cluster.api.create(json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}}));
    cluster.api.create(objects::pod("shop", "till", NODE));
    let kubelet = node(&cluster);
    let shop = "/api/v1/namespaces/shop/pods";
    eventually("the view has the pod", async || {
        names(&kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200)).len() == 3
    })
    .await;
    cut(&cluster).await;
    kubelet
        .patch(&format!("{shop}/till/status"), STRATEGIC, &status_of("Running"))
        .await
        .unwrap()
        .expect(200);
    let event = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "till.1", "namespace": "shop"},
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "till"}, "reason": "Started", "count": 1});
    kubelet.post("/api/v1/namespaces/shop/events", &event).await.unwrap().expect(201);
    report(&kubelet, "web", "Running").await;
    let boot = json!({"status": {"nodeInfo": {"bootID": "b"}}});
    kubelet.patch(&format!("{NODE_PATH}/status"), STRATEGIC, &boot).await.unwrap().expect(200);
    cluster.admin().delete("/api/v1/namespaces/shop", &json!({})).await.unwrap().expect(200);
    cluster.api.delete("nodes", "", NODE);
    assert!(!cluster.api.exists("pods", "shop", "till"), "its pods went with it");
    mend(&cluster).await;
    until_pushed(&cluster).await;
    assert_eq!(journal(&cluster).await, (0, 0), "{:#}", status(&cluster).await["conflicts"]);
    assert_eq!(pod(&cluster, "web")["status"]["phase"], "Running");
    assert!(!cluster.api.exists("nodes", "", NODE) && !cluster.api.exists("namespaces", "", "shop"));
    assert!(!cluster.api.exists("pods", "shop", "till"));
    assert_eq!(sent(&cluster, "PATCH", &format!("{NODE_PATH}/status")), 0);
    eventually("the node sees that both are gone", async || {
        let pods = kubelet.get(&format!("{OWN_PODS}&resourceVersion=0")).await.unwrap().expect(200);
        let own = kubelet.get(&format!("{NODE_PATH}?resourceVersion=0")).await.unwrap();
        names(&pods) == ["db", "web"] && own.code() == 404
    })
    .await;
    // The kubelet registers anew, as it does after a restart.
    kubelet.post("/api/v1/nodes", &objects::node(NODE)).await.unwrap().expect(201);
    kubelet.patch(&format!("{NODE_PATH}/status"), STRATEGIC, &boot).await.unwrap().expect(200);
}
