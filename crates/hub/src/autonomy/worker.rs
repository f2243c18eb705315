//! Looks again and again, and writes the condition when the answer is another one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::watch;
use yurt_api::patch::PatchType;
use yurt_api::representation::Representation;
use yurt_api::request::{RequestInfo, ResourceRequest};

use super::condition::{self, Verdict};
use super::survey::{lists, survey};
use crate::cache::filter::cover;
use crate::cache::{Cache, ObjectAnswer, Scope};
use crate::clock;
use crate::cloud::{Cloud, Identity, Lane};
use crate::connectivity::{Connectivity, State};
use crate::credential::Credentials;
use crate::tasks::Shutdown;

/// Between two looks; and after the link came or went, or the node's pods changed, when what they need has come, too.
const EVERY: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(3);
/// The bound on writing the condition.
const BOUND: Duration = Duration::from_secs(10);

/// What the last look found, for `/v1/status`.
pub type Shown = Arc<Mutex<Option<Verdict>>>;

/// The worker.
pub struct Autonomy {
    /// What is held.
    pub cache: Arc<Cache>,
    /// The way to the cloud.
    pub cloud: Arc<Cloud>,
    /// The link.
    pub connectivity: Connectivity,
    /// The node's certificate.
    pub credentials: Arc<Credentials>,
    /// Where the answer is shown.
    pub shown: Shown,
}

impl Autonomy {
    /// Works until the shutdown.
    pub async fn run(self, mut shutdown: Shutdown) {
        loop {
            let online = self.connectivity.online();
            let news = self.news();
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.look() => {}
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.pause(online, news) => {}
            }
        }
    }

    /// Until there is reason to look again.
    async fn pause(&self, online: bool, mut news: Option<watch::Receiver<()>>) {
        let pods = async {
            match &mut news {
                Some(news) => drop(news.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(EVERY) => return,
            _ = self.connectivity.until(|s| (s.state == State::Online) != online) => {}
            () = pods => {}
        }
        tokio::time::sleep(SOON).await;
    }

    /// Changes of the node's pods, as its kubelet is told of them.
    fn news(&self) -> Option<watch::Receiver<()>> {
        let (_, pods) = lists(self.cache.node_name()).into_iter().next()?;
        let held = self.cache.registry.of(&pods.resource);
        held.iter().find(|c| c.is_followed() && cover(c.key(), &pods).is_some()).map(|c| c.news())
    }

    async fn look(&self) {
        let facts = match survey(&self.cache, &self.credentials).await {
            Ok(facts) => facts,
            Err(error) => return tracing::warn!(%error, "whether the node could boot offline cannot be said"),
        };
        let verdict = condition::decide(&facts);
        let before = self.shown.lock().unwrap_or_else(PoisonError::into_inner).replace(verdict.clone());
        if before.as_ref() != Some(&verdict) {
            tracing::info!(
                status = verdict.status,
                reason = verdict.reason,
                message = verdict.message,
                "autonomy"
            );
        }
        if self.connectivity.online() && self.credentials.missing().is_empty() {
            self.write(&verdict).await;
        }
    }

    /// Compared with the node as the cloud has it, so that a restart writes nothing and a lost condition comes back.
    async fn write(&self, verdict: &Verdict) {
        let path = format!("/api/v1/nodes/{}", self.cache.node_name());
        let Some(request) = named(&path) else { return };
        let held = self.cache.object(&request, &[Representation::JSON], Scope::Held).await;
        let Ok(ObjectAnswer::Held(view)) = held else { return };
        let Ok(node) = serde_json::from_slice::<Value>(&view.body) else { return };
        let Some(patch) = condition::patch(&node, verdict, clock::unix()) else { return };
        let sent = self.cloud.send(&Identity::Node, Lane::Requests, status_patch(&path, &patch));
        match tokio::time::timeout(BOUND, sent).await {
            Ok(Ok(answer)) if answer.status().is_success() => {}
            Ok(Ok(answer)) => {
                tracing::debug!(code = %answer.status(), "the condition Autonomy was not taken")
            }
            Ok(Err(error)) => tracing::debug!(%error, "the condition Autonomy could not be sent"),
            Err(_) => tracing::debug!("the condition Autonomy got no answer"),
        }
    }
}

fn named(path: &str) -> Option<ResourceRequest> {
    RequestInfo::parse("GET", path, "").ok()?.resource().cloned()
}

fn status_patch(path: &str, patch: &Value) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from(patch.to_string())));
    *request.method_mut() = Method::PATCH;
    *request.uri_mut() = format!("{path}/status").parse().unwrap_or_default();
    let content = HeaderValue::from_static(PatchType::StrategicMerge.content_type());
    request.headers_mut().insert(header::CONTENT_TYPE, content);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request
}
