//! Two managers: one works.

use yurt_testkit::kubeconfig::Target;

use crate::bed::{Bed, DURATION, until};

const ELECT: &[&str] = &["--leader-elect=true"];

fn admin(bed: &Bed) -> Target {
    Target {
        base: bed.api.url(),
        ca_pem: bed.api.pki().ca_pem().into(),
        identity: Some(bed.api.pki().admin()),
        token: String::new(),
    }
}

fn holder(bed: &Bed) -> Option<String> {
    let lease = bed.api.get("leases.coordination.k8s.io", "kube-system", "yurt-controller-manager")?;
    lease["spec"]["holderIdentity"].as_str().filter(|h| !h.is_empty()).map(str::to_owned)
}

#[tokio::test]
async fn one_works_and_the_other_goes_on_when_it_is_gone() {
    let bed = Bed::new().await;
    bed.node("n", &[(DURATION, "10m")]);
    bed.pod("web", "n", None);
    let first = bed.manager_as(&admin(&bed), ELECT).await;
    until("a leader", || holder(&bed).is_some() && first.context.metrics.leading.get() == 1).await;
    let holder_before = holder(&bed);
    let second = bed.manager_as(&admin(&bed), ELECT).await;
    until("ready", || second.ready().0).await;
    assert!(second.ready().1.contains("waiting for the leader lease"));
    bed.give_up("n");
    bed.pass(&first, 50).await;
    until("marks", || bed.mark("web").is_some()).await;
    let mark = bed.mark("web");
    assert_eq!(second.looks(), 0, "only the leader looks");

    first.kill().await;
    // The lease of one that was killed is free when it was seen unchanged for 15 s.
    until("another leader", || {
        bed.clock.advance(1);
        second.context.metrics.leading.get() == 1
    })
    .await;
    assert_ne!(holder(&bed), holder_before);
    bed.pass(&second, 20).await;
    assert_eq!(bed.mark("web"), mark, "nothing is unprotected");
    second.stop().await;
    assert_eq!(holder(&bed), None, "the lease is given back");
}

#[tokio::test]
async fn one_that_cannot_renew_ends() {
    let bed = Bed::new().await;
    let manager = bed.manager_as(&admin(&bed), ELECT).await;
    until("a leader", || manager.context.metrics.leading.get() == 1).await;
    let leases = |method: &str, path: &str| method == "GET" && path.contains("/yurt-controller-manager");
    bed.api.fault(yurt_testkit::apiserver::Fault::Fail(500, "InternalError"), leases);
    until("its end", || {
        bed.clock.advance(2);
        manager.has_ended()
    })
    .await;
    assert!(manager.end().await.unwrap_err().to_string().contains("lost"));
}
