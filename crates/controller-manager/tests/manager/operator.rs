//! What operators, other controllers, clouds and clocks do in mid-outage.

use serde_json::{Value, json};
use yurt_testkit::apiserver::Fault;

use crate::bed::{Bed, DURATION, Manager, SINCE, set, until};

const LEASES: &str = "leases.coordination.k8s.io";

/// A node with ten minutes of autonomy and a pod, whose manager has done all that is to be done.
async fn prepared() -> (Bed, Manager) {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "10m")]);
    bed.pod("web", "n", None);
    let manager = bed.manager(&[]).await;
    until("tolerations", || bed.tolerates("web") == [Some(600), Some(600)]).await;
    bed.pass(&manager, 5).await;
    (bed, manager)
}

/// The same in an outage.
async fn cut() -> (Bed, Manager) {
    let (bed, manager) = prepared().await;
    bed.give_up("n");
    bed.pass(&manager, 45).await;
    until("marks", || bed.mark("web").is_some()).await;
    until("the record", || annotation(&bed, SINCE).is_some()).await;
    (bed, manager)
}

fn annotation(bed: &Bed, key: &str) -> Option<String> {
    bed.node_now("n")["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

fn annotate(bed: &Bed, key: &str, value: Value) {
    bed.api.modify("nodes", "", "n", |n| n["metadata"]["annotations"][key] = value.clone());
}

fn is_deleted(bed: &Bed) -> bool {
    bed.pod_now("web")["metadata"]["deletionTimestamp"].is_string()
}

#[tokio::test]
async fn a_node_that_was_back_while_nobody_looked_is_lost_anew() {
    let (bed, manager) = cut().await;
    let first = bed.mark("web");
    manager.kill().await;
    // It comes back, is well for hours, and is lost again. No manager sees any of it.
    bed.wake("n");
    bed.accept("n");
    bed.clock.advance(9_000);
    bed.renew();
    bed.give_up("n");
    let manager = bed.manager(&[]).await;
    until("another end", || bed.mark("web").is_some() && bed.mark("web") != first).await;
    bed.pass(&manager, 500).await;
    assert!(!is_deleted(&bed), "it is lost for 500 s and not for hours");
    bed.pass(&manager, 120).await;
    bed.until(&manager, "its end", || is_deleted(&bed)).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_node_that_is_heard_for_a_moment_has_all_its_time_again() {
    let (bed, manager) = cut().await;
    bed.pass(&manager, 500).await;
    // Its lease comes through for 20 s; kube-controller-manager hears nothing of its status.
    bed.wake("n");
    bed.pass(&manager, 20).await;
    bed.silence("n");
    bed.pass(&manager, 300).await;
    assert!(!is_deleted(&bed), "it was heard of five minutes ago");
    bed.pass(&manager, 400).await;
    bed.until(&manager, "its end", || is_deleted(&bed)).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_ends_no_protection() {
    let (bed, manager) = cut().await;
    let mark = bed.mark("web");
    bed.clock.jump(86_400);
    bed.pass(&manager, 300).await;
    assert!(!is_deleted(&bed) && bed.mark("web") == mark, "a day forward");
    bed.clock.jump(-2 * 86_400);
    bed.pass(&manager, 100).await;
    assert!(!is_deleted(&bed) && bed.mark("web") == mark, "two days back");
    bed.pass(&manager, 250).await;
    until("its end after ten minutes", || is_deleted(&bed)).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_duration_may_change_in_mid_outage() {
    let (bed, manager) = cut().await;
    bed.pass(&manager, 300).await;
    annotate(&bed, DURATION, "1h".into());
    until("a later end", || bed.mark("web").as_deref() == Some("2023-11-14T23:14:05Z")).await;
    until("no timer of taint eviction", || bed.tolerates("web") == [None, None]).await;
    bed.pass(&manager, 600).await;
    assert!(!is_deleted(&bed), "ten minutes do not hold any more");
    // Text that is no duration is as none, at once.
    for text in ["", "10", "1d", "-1", "for ever"] {
        annotate(&bed, DURATION, text.into());
        until("no mark", || bed.mark("web").is_none()).await;
        annotate(&bed, DURATION, "-1s".into());
        until("for ever", || bed.mark("web").as_deref() == Some("never")).await;
    }
    annotate(&bed, DURATION, "1h30m".into());
    until("its end", || bed.mark("web").as_deref() == Some("2023-11-14T23:44:05Z")).await;
    annotate(&bed, DURATION, "10m".into());
    bed.until(&manager, "they are over", || is_deleted(&bed)).await;
    manager.stop().await;
}

#[tokio::test]
async fn openyurts_older_annotations_are_for_ever() {
    for key in ["node.beta.openyurt.io/autonomy", "apps.openyurt.io/binding"] {
        let (bed, manager) = cut().await;
        annotate(&bed, key, "true".into());
        until("no end", || bed.mark("web").as_deref() == Some("never")).await;
        bed.pass(&manager, 700).await;
        assert!(!is_deleted(&bed), "{key}");
        annotate(&bed, key, "false".into());
        bed.until(&manager, "its end", || is_deleted(&bed)).await;
        manager.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_is_made_again_while_it_is_cut_begins_anew() {
    let (bed, manager) = cut().await;
    let node = bed.node_now("n");
    bed.api.delete("nodes", "", "n");
    bed.api.delete(LEASES, "kube-node-lease", "n");
    let mut again = yurt_testkit::objects::node("n");
    again["metadata"]["annotations"][DURATION] = "10m".into();
    bed.api.create(again);
    until("no mark", || bed.mark("web").is_none()).await;
    assert_ne!(bed.node_now("n")["metadata"]["uid"], node["metadata"]["uid"]);
    bed.pass(&manager, 60).await;
    assert_eq!((bed.mark("web"), annotation(&bed, SINCE)), (None, None), "nobody says that it is silent");
    bed.give_up("n");
    until("marks", || bed.mark("web").as_deref() == Some("2023-11-14T22:25:10Z")).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_lease_that_is_deleted_makes_no_node_silent() {
    let (bed, manager) = prepared().await;
    bed.silence("n");
    bed.api.delete(LEASES, "kube-node-lease", "n");
    let writes = bed.writes();
    bed.pass(&manager, 100).await;
    assert_eq!((bed.mark("web"), bed.writes()), (None, writes), "its status says that it is well");
    bed.give_up("n");
    until("marks", || bed.mark("web").is_some()).await;
    bed.accept("n");
    until("no marks", || bed.mark("web").is_none()).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_cnis_condition_is_as_the_cni_left_it() {
    let (bed, manager) = prepared().await;
    let condition = |reason: &str| {
        json!({"type": "NetworkUnavailable", "status": "False", "reason": reason, "message": "m",
            "lastHeartbeatTime": "2023-11-14T20:00:00Z", "lastTransitionTime": "2023-11-14T20:00:00Z"})
    };
    let held = || {
        let node = bed.node_now("n");
        let all = node["status"]["conditions"].as_array().cloned().unwrap();
        all.into_iter().find(|c| c["type"] == "NetworkUnavailable")
    };
    let write = |reason: &str| {
        bed.api.modify("nodes", "", "n", |n| {
            let conditions = n["status"]["conditions"].as_array_mut().unwrap();
            conditions.retain(|c| c["type"] != "NetworkUnavailable");
            conditions.push(condition(reason));
        });
    };
    write("RouteCreated");
    for after in ["RouteCreated", "FlannelIsUp", "CalicoIsUp"] {
        bed.give_up("n");
        bed.pass(&manager, 45).await;
        until("marks", || bed.mark("web").is_some()).await;
        // An agent that starts on the node when it comes back writes before the manager has heard of it.
        write(after);
        bed.wake("n");
        bed.accept("n");
        bed.pass(&manager, 10).await;
        until("no marks", || bed.mark("web").is_none() && annotation(&bed, SINCE).is_none()).await;
        assert_eq!(held(), Some(condition(after)));
    }
    manager.stop().await;
}

#[tokio::test]
async fn an_agent_that_takes_the_condition_over_has_it() {
    let (bed, manager) = cut().await;
    until("the condition", || {
        Bed::condition(&bed.node_now("n"), "NetworkUnavailable").as_deref() == Some("True")
    })
    .await;
    bed.api.modify("nodes", "", "n", |n| {
        let mut conditions = n["status"]["conditions"].as_array_mut().unwrap().iter_mut();
        let condition = conditions.find(|c| c["type"] == "NetworkUnavailable").unwrap();
        (condition["status"], condition["reason"]) = ("False".into(), "CalicoIsUp".into());
    });
    bed.pass(&manager, 20).await;
    bed.wake("n");
    bed.accept("n");
    bed.pass(&manager, 10).await;
    until("no marks", || bed.mark("web").is_none() && annotation(&bed, SINCE).is_none()).await;
    assert_eq!(Bed::condition(&bed.node_now("n"), "NetworkUnavailable").as_deref(), Some("False"));
    manager.stop().await;
}

#[tokio::test]
async fn a_refused_deletion_leaves_no_announcement_however_long_the_apiserver_fails() {
    let (bed, manager) = cut().await;
    let status = |method: &str, path: &str| method == "PATCH" && path.ends_with("/pods/web/status");
    let fault = bed.api.fault(Fault::Fail(500, "InternalError"), status);
    bed.api.modify("pods", "default", "web", |p| {
        let condition =
            json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"});
        p["status"]["conditions"].as_array_mut().unwrap().push(condition);
    });
    bed.wake("n");
    bed.accept("n");
    bed.pass(&manager, 60).await;
    assert!(bed.mark("web").is_some(), "without the mark nobody would know whose announcement it is");
    bed.api.remove_fault(fault);
    bed.until(&manager, "neither", || {
        bed.mark("web").is_none() && Bed::condition(&bed.pod_now("web"), "DisruptionTarget").is_none()
    })
    .await;
    manager.stop().await;
}

#[tokio::test]
async fn a_pod_whose_kubelet_said_a_word_since_is_not_deleted_by_a_late_request() {
    let (bed, manager) = cut().await;
    let deletes = |method: &str, path: &str| method == "DELETE" && path.ends_with("/pods/web");
    let fault = bed.api.fault(Fault::Fail(500, "InternalError"), deletes);
    let tries = || bed.api.audit().count(|e| e.method == "DELETE");
    bed.pass(&manager, 600).await;
    bed.until(&manager, "a try", || tries() > 0).await;
    // The node is back, but what the manager reads is from before.
    bed.api.lag();
    bed.wake("n");
    bed.accept("n");
    bed.api.modify("pods", "default", "web", |p| set(p, "Ready", "True"));
    bed.api.remove_fault(fault);
    let conflict = "kind=\"pod-deletion\",result=\"409\"";
    bed.until(&manager, "a refusal", || manager.context.metrics.page().contains(conflict)).await;
    // What it reads now comes in any order: the pod's new version before its node's lease.
    bed.api.catch_up();
    let settled =
        || bed.mark("web").is_none() && Bed::condition(&bed.pod_now("web"), "DisruptionTarget").is_none();
    bed.until(&manager, "an end of it", settled).await;
    assert!(!is_deleted(&bed));
    manager.stop().await;
}

#[tokio::test]
async fn finished_and_terminating_pods_are_nobodys_to_protect() {
    let (bed, manager) = prepared().await;
    for (pod, phase) in [("done", "Succeeded"), ("broken", "Failed")] {
        bed.pod(pod, "n", None);
        bed.api.modify("pods", "default", pod, |p| p["status"]["phase"] = phase.into());
    }
    bed.pod("leaving", "n", None);
    bed.api.modify("pods", "default", "leaving", |p| {
        p["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z".into();
    });
    bed.give_up("n");
    bed.pass(&manager, 60).await;
    until("the mark of the one that runs", || bed.mark("web").is_some()).await;
    bed.pass(&manager, 10).await;
    for pod in ["done", "broken", "leaving"] {
        assert_eq!(bed.mark(pod), None, "{pod}");
    }
    assert_eq!(Bed::condition(&bed.pod_now("leaving"), "Ready").as_deref(), Some("False"), "it is leaving");
    manager.stop().await;
}
