//! Approves the certificate requests of yurthubs: of their client certificates and of serving certificates of nodes,
//! for who may speak for the node. Never refuses one: what does not fit is left for a human, with an Event.
//!
//! `asked` reads a request's body, `decide` is pure, `gather` reads the cluster, and here is the loop with its writes.
//! A request that was left because of what the cluster says about its node is looked at again, since a node that joins
//! tells its addresses a moment later.

mod asked;
mod decide;
mod gather;
mod write;

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};

use crate::controllers::Context;
use crate::rights::{Place, Right};
use decide::{CLIENT_SIGNER, Decision, SERVING_SIGNER};

/// Its name.
pub const NAME: &str = "csr-approver";
/// What it has to be allowed.
pub const RIGHTS: &[Right] = &[
    Right::of("certificates.k8s.io", "certificatesigningrequests", &["list", "watch"]),
    Right::of("certificates.k8s.io", "certificatesigningrequests/approval", &["patch"]),
    Right::of("certificates.k8s.io", "signers", &["approve"]).named(&[CLIENT_SIGNER, SERVING_SIGNER]),
    Right::of("", "nodes", &["list"]),
    Right::of("", "services", &["get"]).at(Place::Namespace("default")).named(&["kubernetes"]),
    Right::of("discovery.k8s.io", "endpointslices", &["list"]).at(Place::Namespace("default")),
    Right::of("", "events", &["create"]).at(Place::Namespace("default")),
];

/// How soon requests that are still open are looked at again.
const AGAIN: Duration = Duration::from_secs(10);
/// Requests that are looked at again at the most; Kubernetes removes open ones after a day.
const OPEN: usize = 1000;

/// A request that is not decided, and what was said about it.
struct Open {
    request: CertificateSigningRequest,
    told: Option<&'static str>,
}

/// Runs while this process leads.
pub fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let requests: Api<CertificateSigningRequest> = Api::all(context.client.clone());
        let changes = watcher(requests, watcher::Config::default().page_size(100));
        let mut changes = pin!(changes.default_backoff());
        let mut open = BTreeMap::new();
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(change)) => take(&context, &mut open, change).await,
                    Some(Err(error)) => tracing::warn!(%error, "certificate requests cannot be watched"),
                    None => return,
                },
                () = context.clock.sleep(AGAIN), if !open.is_empty() => again(&context, &mut open).await,
            }
        }
    })
}

async fn take(
    context: &Context,
    open: &mut BTreeMap<String, Open>,
    change: watcher::Event<CertificateSigningRequest>,
) {
    match change {
        watcher::Event::Apply(request) | watcher::Event::InitApply(request) => {
            let name = request.metadata.name.clone().unwrap_or_default();
            let told = open.remove(&name).and_then(|before| before.told);
            consider(context, open, Open { request, told }).await;
        }
        watcher::Event::Delete(request) => {
            open.remove(request.metadata.name.as_deref().unwrap_or_default());
        }
        // What is no longer there is found out by the answer to the next write.
        watcher::Event::Init | watcher::Event::InitDone => {}
    }
}

async fn again(context: &Context, open: &mut BTreeMap<String, Open>) {
    for (_, one) in std::mem::take(open) {
        consider(context, open, one).await;
    }
}

/// Decides about one request and keeps it when it has to be looked at again.
async fn consider(context: &Context, open: &mut BTreeMap<String, Open>, mut one: Open) {
    let name = one.request.metadata.name.clone().unwrap_or_default();
    let keep = match judge(context, &mut one).await {
        Ok(keep) => keep,
        Err(error) => {
            tracing::warn!(request = name, %error, "a certificate request is looked at again");
            true
        }
    };
    if keep && open.len() < OPEN {
        open.insert(name, one);
    }
}

/// Whether the request has to be looked at again.
async fn judge(context: &Context, one: &mut Open) -> Result<bool, kube::Error> {
    let Some(facts) = gather::facts(&context.client, &one.request).await? else { return Ok(false) };
    match decide::decide(&facts) {
        Decision::NotOurs => Ok(false),
        Decision::Approve(message) => {
            let written = write::approve(context, &one.request, message).await?;
            if written {
                count(context, "approved");
            }
            // Of a conflict the watch tells.
            Ok(false)
        }
        Decision::Leave(reason) => {
            if one.told != Some(reason.label()) {
                write::leave(context, &one.request, &reason).await?;
                one.told = Some(reason.label());
                count(context, reason.label());
            }
            Ok(reason.may_change())
        }
    }
}

fn count(context: &Context, decision: &str) {
    context.metrics.requests.get_or_create(&vec![("decision", decision.to_owned())]).inc();
}
