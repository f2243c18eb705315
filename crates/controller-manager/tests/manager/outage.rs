//! One node: cut, back, dead; autonomy that comes and goes; a manager that comes and goes.

use serde_json::json;

use crate::bed::{Bed, DURATION, SINCE, UNTIL, set, tolerations, until};

const BOTH: fn(Option<i64>) -> Vec<Option<i64>> = |seconds| vec![seconds, seconds];

/// A node with ten minutes of autonomy and two pods, and a manager that has put their tolerations right.
async fn prepared(flags: &[&str]) -> (Bed, crate::bed::Manager) {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "10m")]);
    bed.pod("web", "n", None);
    bed.pod("short", "n", Some(tolerations(5)));
    let manager = bed.manager(flags).await;
    until("tolerations", || {
        bed.tolerates("web") == BOTH(Some(600)) && bed.tolerates("short") == BOTH(Some(600))
    })
    .await;
    bed.pass(&manager, 5).await;
    (bed, manager)
}

#[tokio::test]
async fn tolerations_are_right_before_any_cut_and_restored_after_autonomy() {
    let (bed, manager) = prepared(&[]).await;
    let notes = bed.pod_now("short")["metadata"]["annotations"].clone();
    assert_eq!(notes["apps.openyurt.io/original-not-ready-toleration-duration"], "5");
    assert_eq!(notes["apps.openyurt.io/original-unreachable-toleration-duration"], "5");
    assert_eq!(bed.mark("web"), None, "nothing is marked while the node is there");
    // A pod that arrives is put right by itself, without any time going by.
    bed.pod("late", "n", Some(json!([])));
    until("the new pod", || bed.tolerates("late") == BOTH(Some(600))).await;
    bed.api.modify("nodes", "", "n", |n| n["metadata"]["annotations"][DURATION] = "1h".into());
    until("another duration", || bed.tolerates("web") == BOTH(Some(3_600))).await;
    bed.api.modify("nodes", "", "n", |n| n["metadata"]["annotations"] = json!({}));
    until("originals", || bed.tolerates("web") == BOTH(Some(300)) && bed.tolerates("short") == BOTH(Some(5)))
        .await;
    assert!(bed.pod_now("web")["metadata"]["annotations"].as_object().is_none_or(|a| a.is_empty()));
    manager.stop().await;
}

#[tokio::test]
async fn a_cut_node_keeps_its_pods_and_their_readiness() {
    let (bed, manager) = prepared(&[]).await;
    bed.pod("crashing", "n", None);
    bed.api.modify("pods", "default", "crashing", |p| {
        p["status"]["containerStatuses"][0]["ready"] = false.into();
        set(p, "Ready", "False");
    });
    bed.silence("n");
    bed.pass(&manager, 35).await;
    assert_eq!(bed.mark("web"), None, "not before the grace period");
    bed.pass(&manager, 10).await;
    until("marks", || bed.mark("web").is_some() && bed.mark("short").is_some()).await;
    assert_eq!(
        bed.mark("web").as_deref(),
        Some("2023-11-14T22:24:05Z"),
        "45 s later, and ten minutes from there"
    );
    until("the record", || bed.node_now("n")["metadata"]["annotations"][SINCE].is_string()).await;
    until("the condition", || {
        Bed::condition(&bed.node_now("n"), "NetworkUnavailable").as_deref() == Some("True")
    })
    .await;
    bed.give_up("n");
    let ready = |pod: &str| Bed::condition(&bed.pod_now(pod), "Ready");
    until("readiness", || {
        ready("web").as_deref() == Some("True") && ready("short").as_deref() == Some("True")
    })
    .await;
    assert_eq!(ready("crashing").as_deref(), Some("False"), "its kubelet said so");
    bed.api.modify("pods", "default", "web", |p| {
        p["status"]["conditions"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}));
    });
    until("no announcement", || Bed::condition(&bed.pod_now("web"), "DisruptionTarget").is_none()).await;
    assert_eq!(bed.tolerates("web"), BOTH(Some(600)), "what was right before the cut is not touched");
    until("events", || bed.told("n") == ["EdgeDisconnected"]).await;
    // Nothing more is written about a node that stays away.
    bed.pass(&manager, 20).await;
    let writes = bed.writes();
    bed.pass(&manager, 200).await;
    assert_eq!(bed.writes(), writes);
    comes_back(&bed, &manager).await;
    manager.stop().await;
}

async fn comes_back(bed: &Bed, manager: &crate::bed::Manager) {
    bed.wake("n");
    bed.pass(manager, 10).await;
    assert!(bed.mark("web").is_some(), "the taint is still there");
    bed.api.modify("pods", "default", "web", |p| set(p, "Ready", "False"));
    bed.pass(manager, 10).await;
    assert_eq!(
        Bed::condition(&bed.pod_now("web"), "Ready").as_deref(),
        Some("False"),
        "its kubelet is back: its word"
    );
    bed.accept("n");
    bed.pass(manager, 5).await;
    until("no marks", || bed.mark("web").is_none() && bed.mark("short").is_none()).await;
    until("no condition", || Bed::condition(&bed.node_now("n"), "NetworkUnavailable").is_none()).await;
    until("no record", || bed.node_now("n")["metadata"]["annotations"][SINCE].is_null()).await;
    until("events", || bed.told("n") == ["EdgeDisconnected", "EdgeReconnected"]).await;
    assert_eq!(bed.tolerates("web"), BOTH(Some(600)));
}

#[tokio::test]
async fn a_dead_node_is_emptied_when_its_time_is_over_and_not_before() {
    let (bed, manager) = prepared(&[]).await;
    bed.pod("daemon", "n", None);
    bed.api.modify("pods", "default", "daemon", |p| {
        p["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d"}]);
    });
    bed.give_up("n");
    bed.pass(&manager, 50).await;
    until("marks", || bed.mark("web").is_some()).await;
    bed.pass(&manager, 580).await;
    let gone = |pod: &str| bed.pod_now(pod)["metadata"]["deletionTimestamp"].is_string();
    assert!(!gone("web") && !gone("short"), "a few seconds too early");
    bed.pass(&manager, 20).await;
    until("deletions", || gone("web") && gone("short")).await;
    assert_eq!(Bed::condition(&bed.pod_now("web"), "DisruptionTarget").as_deref(), Some("True"));
    bed.pass(&manager, 20).await;
    assert!(!gone("daemon"));
    until("events", || bed.told("n") == ["AutonomyOver", "EdgeDisconnected"]).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_node_that_only_one_of_two_gave_up_is_not_emptied() {
    let (bed, manager) = prepared(&[]).await;
    bed.silence("n");
    bed.pass(&manager, 700).await;
    assert!(bed.mark("web").is_some());
    assert!(bed.pod_now("web")["metadata"]["deletionTimestamp"].is_null(), "Ready is still True");
    manager.stop().await;
}

#[tokio::test]
async fn a_manager_that_starts_in_mid_outage_goes_on_where_the_last_one_ended() {
    let (bed, manager) = prepared(&[]).await;
    bed.give_up("n");
    bed.pass(&manager, 45).await;
    until("marks and record", || {
        bed.mark("web").is_some() && bed.node_now("n")["metadata"]["annotations"][SINCE].is_string()
    })
    .await;
    let mark = bed.mark("web");
    bed.pass(&manager, 300).await;
    manager.kill().await;
    bed.clock.advance(120);
    let manager = bed.manager(&[]).await;
    bed.pass(&manager, 20).await;
    assert_eq!(bed.mark("web"), mark, "nothing is unprotected, and nothing gets more time");
    bed.pass(&manager, 200).await;
    until("deletion", || bed.pod_now("web")["metadata"]["deletionTimestamp"].is_string()).await;
    manager.stop().await;
}

#[tokio::test]
async fn an_outage_that_nobody_saw_begin_is_taken_from_kube_controller_manager() {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "0")]);
    bed.pod("web", "n", None);
    bed.pod("short", "n", Some(tolerations(5)));
    bed.give_up("n");
    let manager = bed.manager(&[]).await;
    // Not a second goes by.
    until("marks", || {
        bed.mark("web").as_deref() == Some("never") && bed.mark("short").as_deref() == Some("never")
    })
    .await;
    assert_eq!(bed.tolerates("short"), BOTH(None), "a running timer of taint eviction is stopped");
    until("readiness", || Bed::condition(&bed.pod_now("web"), "Ready").as_deref() == Some("True")).await;
    // A pod that is made in the outage, with less time than anybody looks.
    bed.pod("late", "n", Some(tolerations(5)));
    until("the late pod", || bed.mark("late").is_some() && bed.tolerates("late") == BOTH(None)).await;
    bed.wake("n");
    bed.accept("n");
    bed.pass(&manager, 10).await;
    until("no marks", || bed.mark("late").is_none() && bed.mark("web").is_none()).await;
    manager.stop().await;
}

#[tokio::test]
async fn autonomy_may_be_switched_in_mid_outage() {
    let bed = Bed::new().await;
    bed.node("n", &[]);
    bed.pod("web", "n", None);
    let manager = bed.manager(&[]).await;
    bed.give_up("n");
    bed.pass(&manager, 60).await;
    assert_eq!(bed.writes(), 0, "a node without autonomy is as without this program");
    bed.api.modify("nodes", "", "n", |n| n["metadata"]["annotations"] = json!({DURATION: "10m"}));
    until("marks", || bed.mark("web").is_some()).await;
    until("no timer", || bed.tolerates("web") == BOTH(None)).await;
    until("readiness", || Bed::condition(&bed.pod_now("web"), "Ready").as_deref() == Some("True")).await;
    bed.api.modify("nodes", "", "n", |n| {
        n["metadata"]["annotations"].as_object_mut().unwrap().remove(DURATION);
    });
    until("no marks", || bed.mark("web").is_none() && bed.tolerates("web") == BOTH(Some(300))).await;
    until("no record", || bed.node_now("n")["metadata"]["annotations"][SINCE].is_null()).await;
    until("no condition", || Bed::condition(&bed.node_now("n"), "NetworkUnavailable").is_none()).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_cni_that_owns_the_condition_is_left_alone() {
    let (bed, manager) = prepared(&[]).await;
    bed.api.modify("nodes", "", "n", |n| {
        let condition = json!({"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"});
        n["status"]["conditions"].as_array_mut().unwrap().push(condition);
    });
    bed.give_up("n");
    bed.pass(&manager, 60).await;
    until("marks", || bed.mark("web").is_some()).await;
    bed.pass(&manager, 20).await;
    assert_eq!(Bed::condition(&bed.node_now("n"), "NetworkUnavailable").as_deref(), Some("False"));
    manager.stop().await;
}

#[tokio::test]
async fn a_node_that_is_deleted_protects_nothing() {
    let (bed, manager) = prepared(&[]).await;
    bed.give_up("n");
    bed.pass(&manager, 50).await;
    until("marks", || bed.mark("web").is_some()).await;
    bed.api.delete("nodes", "", "n");
    until("no marks", || bed.mark("web").is_none() && bed.mark("short").is_none()).await;
    assert!(bed.pod_now("web")["metadata"]["annotations"][UNTIL].is_null());
    manager.stop().await;
}

#[tokio::test]
async fn a_persons_taint_on_a_silent_node_evicts_what_does_not_tolerate_it() {
    const OUT: &str = "node.kubernetes.io/out-of-service";
    let (bed, manager) = prepared(&[]).await;
    let mut patient = tolerations(5).as_array().cloned().unwrap();
    let mut steady = patient.clone();
    patient.push(json!({"key": OUT, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}));
    steady.push(json!({"key": OUT, "operator": "Equal", "value": "nodeshutdown"}));
    bed.pod("patient", "n", Some(patient.into()));
    bed.pod("steady", "n", Some(steady.into()));
    bed.pod("leaving", "n", None);
    // The cluster's clock is the scripted one.
    bed.api.modify("pods", "default", "patient", |p| {
        p["metadata"]["creationTimestamp"] = "2023-11-14T22:13:20Z".into();
    });
    bed.give_up("n");
    bed.pass(&manager, 50).await;
    until("marks", || ["web", "patient", "steady", "leaving"].iter().all(|pod| bed.mark(pod).is_some()))
        .await;
    bed.api.modify("pods", "default", "leaving", |p| {
        p["metadata"]["deletionTimestamp"] = "2023-11-14T22:14:20Z".into();
    });
    until("no mark that pod-gc is refused by", || bed.mark("leaving").is_none()).await;
    bed.api.modify("nodes", "", "n", |n| {
        let taint = json!({"key": OUT, "value": "nodeshutdown", "effect": "NoExecute"});
        n["spec"]["taints"].as_array_mut().unwrap().push(taint);
    });
    // Not a second goes by.
    let going = |pod: &str| bed.pod_now(pod)["metadata"]["deletionTimestamp"].is_string();
    until("evictions", || going("web") && going("short")).await;
    assert_eq!(Bed::condition(&bed.pod_now("web"), "DisruptionTarget").as_deref(), Some("True"));
    until("no marks", || bed.mark("web").is_none() && bed.mark("short").is_none()).await;
    bed.pass(&manager, 50).await;
    assert!(bed.mark("patient").is_some() && !going("patient"), "it tolerates the taint for a minute");
    bed.pass(&manager, 15).await;
    until("its eviction", || going("patient")).await;
    assert!(bed.mark("steady").is_some() && !going("steady"), "it tolerates the taint for ever");
    manager.stop().await;
}

#[tokio::test]
async fn a_chosen_controller_works_alone() {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "10m")]);
    bed.pod("web", "n", None);
    let manager = bed.manager(&["--controllers=node-lifecycle"]).await;
    bed.give_up("n");
    bed.pass(&manager, 50).await;
    until("marks", || bed.mark("web").is_some()).await;
    bed.pass(&manager, 20).await;
    assert_eq!(bed.tolerates("web"), BOTH(Some(300)));
    assert_eq!(Bed::condition(&bed.pod_now("web"), "Ready").as_deref(), Some("False"));
    manager.stop().await;
}
