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

use std::collections::{BTreeMap, BTreeSet};
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

/// What was read of names may be so old when requests are looked at again, or listed.
const FRESH: Duration = Duration::from_secs(1);

/// A request that is not decided, and what was said about it.
struct Open {
    request: CertificateSigningRequest,
    told: Option<&'static str>,
}

/// The approver and what it remembers.
struct Approver {
    context: Context,
    open: BTreeMap<String, Open>,
    /// Names in the list that is being read.
    listed: Option<BTreeSet<String>>,
    known: Option<(Duration, gather::Known)>,
}

/// Runs while this process leads.
pub fn run(context: Context) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let requests: Api<CertificateSigningRequest> = Api::all(context.client.clone());
        let changes = watcher(requests, watcher::Config::default().page_size(100));
        let mut changes = pin!(changes.default_backoff());
        let mut approver = Approver { context, open: BTreeMap::new(), listed: None, known: None };
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(change)) => approver.take(change).await,
                    Some(Err(error)) => tracing::warn!(%error, "certificate requests cannot be watched"),
                    None => return,
                },
                () = approver.context.clock.sleep(AGAIN), if !approver.open.is_empty() => approver.again().await,
            }
        }
    })
}

impl Approver {
    async fn take(&mut self, change: watcher::Event<CertificateSigningRequest>) {
        match change {
            watcher::Event::Init => self.listed = Some(BTreeSet::new()),
            watcher::Event::InitApply(request) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(named(&request));
                }
                self.changed(request).await;
            }
            watcher::Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                self.open.retain(|name, _| listed.contains(name));
            }
            watcher::Event::Apply(request) => {
                // A node asks as soon as it has told its names: what was read before that is of no use.
                self.known = None;
                self.changed(request).await;
            }
            watcher::Event::Delete(request) => drop(self.open.remove(&named(&request))),
        }
    }

    async fn changed(&mut self, request: CertificateSigningRequest) {
        let told = self.open.remove(&named(&request)).and_then(|before| before.told);
        self.consider(Open { request, told }).await;
    }

    async fn again(&mut self) {
        for (_, one) in std::mem::take(&mut self.open) {
            self.consider(one).await;
        }
    }

    /// Decides about one request and keeps it when it has to be looked at again.
    async fn consider(&mut self, mut one: Open) {
        let name = named(&one.request);
        let keep = match self.judge(&mut one).await {
            Ok(keep) => keep,
            Err(error) => {
                tracing::warn!(request = name, %error, "a certificate request is looked at again");
                true
            }
        };
        if keep && self.open.len() < OPEN {
            self.open.insert(name, one);
        }
    }

    /// Whether the request has to be looked at again.
    async fn judge(&mut self, one: &mut Open) -> Result<bool, kube::Error> {
        if gather::is_decided(&one.request) {
            return Ok(false);
        }
        let facts = if gather::needs_names(&one.request) {
            gather::facts(&one.request, self.known().await?)
        } else {
            gather::facts(&one.request, &gather::Known::default())
        };
        match decide::decide(&facts) {
            Decision::NotOurs => Ok(false),
            Decision::Approve(message) => {
                if write::approve(&self.context, &one.request, message).await? {
                    self.count("approved");
                }
                // Of a conflict the watch tells.
                Ok(false)
            }
            Decision::Leave(reason) => {
                if one.told != Some(reason.label()) {
                    write::leave(&self.context, &one.request, &reason).await?;
                    one.told = Some(reason.label());
                    self.count(reason.label());
                }
                Ok(reason.may_change())
            }
        }
    }

    /// Who has which names: read now, or a moment ago.
    async fn known(&mut self) -> Result<&gather::Known, kube::Error> {
        let now = self.context.clock.now().since_start;
        let known = match self.known.take().filter(|(read, _)| now.saturating_sub(*read) < FRESH) {
            Some((read, known)) => (read, known),
            None => (now, gather::Known::read(&self.context.client).await?),
        };
        Ok(&self.known.insert(known).1)
    }

    fn count(&self, decision: &str) {
        self.context.metrics.requests.get_or_create(&vec![("decision", decision.to_owned())]).inc();
    }
}

fn named(request: &CertificateSigningRequest) -> String {
    request.metadata.name.clone().unwrap_or_default()
}
