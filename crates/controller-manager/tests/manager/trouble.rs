//! Bad input, missing rights, a cluster without pools, an apiserver in trouble.

use yurt_testkit::apiserver::{Fault, Principal, Rule};
use yurt_testkit::kubeconfig::Target;

use crate::bed::{Bed, DURATION, until};

#[tokio::test]
async fn a_duration_that_cannot_be_read_is_told_and_does_nothing() {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "ten minutes")]);
    bed.pod("web", "n", None);
    let manager = bed.manager(&[]).await;
    until("the event", || bed.told("n") == ["InvalidAutonomyDuration"]).await;
    bed.give_up("n");
    bed.pass(&manager, 100).await;
    assert_eq!(bed.writes(), 0);
    // The next manager does not tell it again.
    manager.stop().await;
    let manager = bed.manager(&[]).await;
    bed.pass(&manager, 10).await;
    assert_eq!(bed.told("n"), ["InvalidAutonomyDuration"]);
    manager.stop().await;
}

#[tokio::test]
async fn missing_rights_are_named() {
    let bed = Bed::new().await;
    bed.api.add_token("t", Principal::user("manager", &[]));
    for (verbs, group, resource) in [
        ("list,watch,patch", "", "nodes"),
        ("list,watch,patch,delete", "", "pods"),
        ("list,create,get,update", "coordination.k8s.io", "leases"),
        ("list,watch", "apps.openyurt.io", "nodepools"),
        ("create", "", "events"),
    ] {
        bed.api.allow(Rule::allow("manager", verbs, group, resource));
    }
    let target = Target {
        base: bed.api.url(),
        ca_pem: bed.api.pki().ca_pem().into(),
        identity: None,
        token: "t".into(),
    };
    let flags = ["--controllers=node-autonomy,node-lifecycle,pod-readiness,node-pool"];
    let manager = bed.manager_as(&target, &flags).await;
    until("the report", || manager.ready().1.contains("missing right")).await;
    let (ready, report) = manager.ready();
    assert!(!ready);
    let mut named: Vec<&str> = report.lines().filter_map(|l| l.strip_prefix("[-] missing right: ")).collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "get validatingadmissionpolicies.admissionregistration.k8s.io yurt-protected-pods",
            "get validatingadmissionpolicybindings.admissionregistration.k8s.io yurt-protected-pods",
            "patch nodepools.apps.openyurt.io/status",
            "patch nodes/status",
            "patch pods/status",
        ]
    );
    manager.stop().await;
}

#[tokio::test]
async fn a_cluster_without_pools_and_policies_has_the_rest() {
    let bed = Bed::bare().await;
    bed.node("n", &[(DURATION, "10m")]);
    bed.pod("web", "n", None);
    let manager = bed.manager(&[]).await;
    until("tolerations", || bed.tolerates("web") == [Some(600), Some(600)]).await;
    until("the report", || {
        let (ready, report) = manager.ready();
        ready && report.contains("node-pool is off") && report.contains("deletion-policy is off")
    })
    .await;
    bed.give_up("n");
    bed.pass(&manager, 50).await;
    until("marks", || bed.mark("web").is_some()).await;
    manager.stop().await;
}

#[tokio::test]
async fn an_apiserver_that_gives_no_answer_makes_no_node_silent() {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "10m")]);
    bed.pod("web", "n", None);
    let manager = bed.manager(&[]).await;
    bed.pass(&manager, 20).await;
    let leases = |method: &str, path: &str| method == "GET" && path.contains("/leases");
    let fault = bed.api.fault(Fault::Fail(503, "ServiceUnavailable"), leases);
    let looks = || bed.api.audit().count(|e| e.path.contains("/leases"));
    let before = looks();
    until("a good many looks", || {
        bed.clock.advance(1);
        looks() > before + 30
    })
    .await;
    bed.api.remove_fault(fault);
    // The node could not renew either; it does now.
    bed.pass(&manager, 15).await;
    assert_eq!(bed.mark("web"), None);
    assert!(bed.told("n").is_empty());
    manager.stop().await;
}

#[tokio::test]
async fn writes_that_are_refused_for_a_while_are_made_later() {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "10m")]);
    for pod in ["a", "b", "c"] {
        bed.pod(pod, "n", None);
    }
    bed.api.fault_times(2, Fault::TooManyRequests(1), |method, _| method == "PATCH");
    bed.api.fault_times(2, Fault::Fail(500, "InternalError"), |method, _| method == "PATCH");
    let manager = bed.manager(&[]).await;
    for _ in 0..10 {
        bed.pass(&manager, 5).await;
    }
    let right = |pod: &str| bed.tolerates(pod) == [Some(600), Some(600)];
    until("all of them", || ["a", "b", "c"].iter().all(|pod| right(pod))).await;
    manager.stop().await;
}
