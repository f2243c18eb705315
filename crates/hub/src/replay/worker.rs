//! Pushes the journal: all of it while recovering, and whatever is left whenever the link stands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use yurt_api::patch::PatchType;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::{RequestInfo, ResourceRequest};
use yurt_store::{Entry, Operation};

use super::plan;
use crate::cache::write::{Written, is_wipe, version_of};
use crate::cache::{Cache, FrontError, ObjectAnswer, Scope};
use crate::clock;
use crate::cloud::{Cloud, CloudError, Identity, Lane};
use crate::connectivity::{Connectivity, Event, Failure, State};
use crate::tasks::Shutdown;

/// The bound on one request of the replay.
const BOUND: Duration = Duration::from_secs(10);
/// Tries of an entry that the cloud answers with 429 or 5xx, before it is parked.
const TRIES: u32 = 20;
/// Between two tries; while the node's certificate is refused.
const PAUSE: Duration = Duration::from_secs(1);
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Rounds over the journal before the link counts as back: the node writes on meanwhile.
const ROUNDS: u32 = 50;
/// Masks that no upstream change has lifted are taken away after this long.
const SETTLE: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_BODY: usize = 32 << 20;

/// What the last replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// When it ended, Unix seconds; 0 = never.
    pub at: i64,
    /// Entries that the cloud has now.
    pub delivered: u64,
    /// Entries whose object is gone from the cloud.
    pub dropped: u64,
    /// Entries that were parked as conflicts.
    pub conflicts: u64,
    /// Pods whose readiness was put right though the node had not written them.
    pub repaired: u64,
}

/// The worker.
pub struct Replay {
    /// The cache, with the journal in its store.
    pub cache: Arc<Cache>,
    /// The way to the cloud.
    pub cloud: Arc<Cloud>,
    /// The state of the link.
    pub connectivity: Connectivity,
    /// Where the last report is shown.
    pub report: Arc<std::sync::Mutex<Report>>,
}

/// How an entry ended.
enum Outcome {
    Delivered(u64),
    /// What it was about is gone from the cloud: there is nothing left to say.
    Dropped(&'static str),
    Conflict(String, Option<Value>),
}

/// Why the push stops here.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("the link failed: {0}")]
    Link(String),
    #[error("the cloud is busy: {0}")]
    Busy(String),
    /// Nothing can be pushed until the node has another certificate; nothing is given up for it either.
    #[error("the node has no certificate that the cloud accepts")]
    Refused,
    #[error(transparent)]
    Store(#[from] FrontError),
}

impl Halt {
    fn of(error: CloudError) -> Self {
        match error {
            CloudError::Credential(_) => Halt::Refused,
            other => Halt::Link(other.to_string()),
        }
    }
}

impl Replay {
    /// Works until the shutdown.
    pub async fn run(self, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.round() => {}
            }
        }
    }

    async fn round(&self) {
        let snapshot =
            self.connectivity.until(|s| matches!(s.state, State::Recovering | State::Online)).await;
        if snapshot.state == State::Recovering {
            return self.recover().await;
        }
        tokio::select! {
            _ = self.connectivity.until(|s| s.state != State::Online) => {}
            () = self.cache.overlay.has_unpushed() => self.push_rest().await,
        }
    }

    /// Online: events, and writes that slipped in while the state changed.
    async fn push_rest(&self) {
        self.cache.overlay.journal_read();
        match self.push(true).await {
            Ok(report) if report.delivered + report.dropped + report.conflicts > 0 => self.settle_later(),
            Ok(_) => {}
            Err(halt) => {
                tracing::warn!(%halt, "the journal waits");
                self.cache.overlay.journal_grew();
                let pause = if matches!(halt, Halt::Refused) { REFUSED_PAUSE } else { PAUSE };
                let away = self.connectivity.until(|s| s.state != State::Online);
                let _ = tokio::time::timeout(pause, away).await;
            }
        }
    }

    async fn recover(&self) {
        let mut pushed = self.push_all(true).await;
        for tries in 1..=TRIES {
            let Err(halt @ (Halt::Busy(_) | Halt::Store(_))) = &pushed else { break };
            tracing::warn!(%halt, "the journal cannot be pushed now");
            tokio::time::sleep(PAUSE).await;
            // What the node did not write may wait for ever; its writes are parked one by one.
            pushed = self.push_all(tries < TRIES).await;
        }
        match pushed {
            Ok(report) => {
                if report.delivered + report.dropped + report.conflicts + report.repaired > 0 {
                    tracing::info!(?report, "the node's writes are in the cloud");
                }
                *self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = report;
                self.cache.overlay.forget_ephemeral();
                self.cloud.signal().report(Event::Recovered);
                self.connectivity.until(|s| s.state != State::Recovering).await;
                self.cache.overlay.came_home();
                self.settle_later();
            }
            Err(Halt::Link(why)) => {
                tracing::warn!(why, "the link was lost while the journal was pushed");
                self.cloud.signal().report(Event::Failed(Failure::Refused));
                self.connectivity.until(|s| s.state != State::Recovering).await;
            }
            Err(Halt::Refused) => {
                tracing::error!("the node has no certificate that the cloud accepts: the journal waits");
                self.cloud.signal().report(Event::Recovered);
                self.connectivity.until(|s| s.state != State::Recovering).await;
            }
            // The next round tries again.
            Err(Halt::Busy(_) | Halt::Store(_)) => {}
        }
    }

    fn settle_later(&self) {
        let (cache, connectivity) = (Arc::clone(&self.cache), self.connectivity.clone());
        let homecoming = cache.overlay.homecomings();
        crate::tasks::spawn("settle", crate::tasks::Failure::Local, async move {
            tokio::time::sleep(SETTLE).await;
            // After another outage the cloud gets the whole time again to say what it made of the writes.
            if connectivity.reachable() && cache.overlay.homecomings() == homecoming {
                cache.sweep().await;
            }
        });
    }

    async fn push_all(&self, repair: bool) -> Result<Report, Halt> {
        let repaired = if repair { self.repair().await? } else { 0 };
        let mut report = Report { repaired, ..Report::default() };
        for _ in 0..ROUNDS {
            let round = self.push(false).await?;
            report.delivered += round.delivered;
            report.dropped += round.dropped;
            report.conflicts += round.conflicts;
            if round.delivered + round.dropped + round.conflicts == 0 {
                break;
            }
        }
        report.at = clock::unix();
        Ok(report)
    }

    /// One round over the journal, events left out unless asked for.
    async fn push(&self, events: bool) -> Result<Report, Halt> {
        let mut entries = self.cache.journal_entries().await?;
        entries.retain(|e| events || e.operation != Operation::Event);
        entries.sort_by_key(|e| (plan::rank(e), e.seq));
        let mut report = Report::default();
        for entry in entries {
            match self.deliver(&entry).await {
                Ok(Outcome::Delivered(version)) => {
                    self.end(&entry, version).await?;
                    report.delivered += 1;
                }
                Ok(Outcome::Dropped(reason)) => {
                    tracing::info!(resource = %entry.resource, object = %entry.key, reason, "a local write is dropped");
                    self.end(&entry, 0).await?;
                    report.dropped += 1;
                }
                Ok(Outcome::Conflict(reason, cloud)) => {
                    self.park(&entry, reason, cloud).await?;
                    report.conflicts += 1;
                }
                Err(Halt::Busy(why)) => {
                    let seq = entry.seq;
                    self.cache.front.write(move |w| w.journal_attempt(seq)).await?;
                    if entry.attempts < TRIES {
                        return Err(Halt::Busy(why));
                    }
                    self.park(&entry, why, None).await?;
                    report.conflicts += 1;
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(report)
    }

    async fn end(&self, entry: &Entry, version: u64) -> Result<(), Halt> {
        let seq = entry.seq;
        self.cache.front.write(move |w| w.journal_remove(&[seq])).await?;
        self.cache.release(entry, version).await;
        Ok(())
    }

    async fn park(&self, entry: &Entry, reason: String, cloud: Option<Value>) -> Result<(), Halt> {
        tracing::warn!(resource = %entry.resource, object = %entry.key, reason, "a local write is in conflict with the cloud");
        let (seq, cloud, now) = (entry.seq, cloud.map(|c| c.to_string().into_bytes()), clock::unix());
        self.cache.front.write(move |w| w.journal_park(seq, &reason, cloud.as_deref(), now)).await?;
        self.cache.release(entry, 0).await;
        Ok(())
    }

    async fn deliver(&self, entry: &Entry) -> Result<Outcome, Halt> {
        let Ok(written) = serde_json::from_slice::<Written>(&entry.body) else {
            return Ok(Outcome::Conflict("the journal entry cannot be read".to_owned(), None));
        };
        match entry.operation {
            Operation::Status | Operation::Update => self.deliver_change(entry, &written).await,
            Operation::Delete if is_wipe(entry) => self.deliver_wipe(entry).await,
            Operation::Delete => self.deliver_deletion(entry).await,
            Operation::Create => self.deliver_creation(entry, &written).await,
            Operation::Event => self.deliver_event(entry, &written).await,
        }
    }

    async fn deliver_change(&self, entry: &Entry, written: &Written) -> Result<Outcome, Halt> {
        let path = object_path(entry);
        let (code, cloud) = self.current(entry).await?;
        if code == StatusCode::NOT_FOUND {
            return Ok(Outcome::Dropped("the object is gone from the cloud"));
        }
        if !code.is_success() {
            return Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(cloud)));
        }
        let uid = text(&cloud, "/metadata/uid");
        if uid != entry.uid {
            return Ok(Outcome::Dropped("the cloud has a newer object of this name"));
        }
        let kind = written.kind.type_meta();
        let status = plan::status_patch(&kind, &written.base, &written.object, &cloud);
        let main = plan::main_patch(&kind, &written.base, &written.object);
        let mut version = version_of(&cloud);
        for (path, patch) in [(format!("{path}/status"), status), (path, main)] {
            let Some(patch) = patch else { continue };
            // The patch of a pod carries its uid: it never reaches a newer pod of the same name.
            let patch =
                if patch.get("metadata").is_none() { plan::for_uid(patch, &entry.uid) } else { patch };
            let (code, answer) = self.push_one(Method::PATCH, &path, Some(&patch)).await?;
            match code {
                _ if code.is_success() => version = version_of(&answer),
                _ => {
                    return Ok(Outcome::Conflict(
                        format!("the cloud answers {code}: {}", text(&answer, "/message")),
                        Some(cloud),
                    ));
                }
            }
        }
        Ok(Outcome::Delivered(version))
    }

    /// The cloud's object of an entry. A pod is asked for as a list: to a GET of a pod that is gone the node
    /// authorizer says 403 (`plugin/pkg/auth/authorizer/node/node_authorizer.go`), as to one of another node.
    async fn current(&self, entry: &Entry) -> Result<(StatusCode, Value), Halt> {
        if !entry.resource.is("", "pods") {
            return self.push_one(Method::GET, &object_path(entry), None).await;
        }
        let node = self.cache.node_name();
        let path = format!(
            "{}?fieldSelector=metadata.name%3D{},spec.nodeName%3D{node}",
            list_path(entry),
            entry.key.name
        );
        let (code, mut list) = self.push_one(Method::GET, &path, None).await?;
        if !code.is_success() {
            return Ok((code, list));
        }
        match list.pointer_mut("/items/0").map(Value::take) {
            Some(pod) => Ok((code, pod)),
            None => Ok((StatusCode::NOT_FOUND, Value::Null)),
        }
    }

    async fn deliver_deletion(&self, entry: &Entry) -> Result<Outcome, Halt> {
        let options = plan::deletion(&entry.uid);
        let (code, answer) = self.push_one(Method::DELETE, &object_path(entry), Some(&options)).await?;
        match code {
            // Gone already, or a newer object of that name that is not to be touched: done either way.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(Outcome::Delivered(0)),
            _ if code.is_success() => Ok(Outcome::Delivered(0)),
            _ => Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(answer))),
        }
    }

    /// Every slice of this node in the cloud is older than this process of the kubelet.
    async fn deliver_wipe(&self, entry: &Entry) -> Result<Outcome, Halt> {
        let path = format!("{}?fieldSelector=spec.nodeName%3D{}", list_path(entry), self.cache.node_name());
        let (code, answer) = self.push_one(Method::DELETE, &path, None).await?;
        match code {
            _ if code.is_success() => Ok(Outcome::Delivered(0)),
            _ => Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(answer))),
        }
    }

    async fn deliver_creation(&self, entry: &Entry, written: &Written) -> Result<Outcome, Halt> {
        let (code, mut answer) =
            self.push_one(Method::POST, &list_path(entry), Some(&plan::creation(&written.object))).await?;
        if code == StatusCode::CONFLICT {
            let (found, held) = self.push_one(Method::GET, &object_path(entry), None).await?;
            let mirror = "/metadata/annotations/kubernetes.io~1config.mirror";
            if !found.is_success() || text(&held, mirror) != text(&written.object, mirror) {
                return Ok(Outcome::Conflict(
                    "the cloud has another object of this name".to_owned(),
                    Some(held),
                ));
            }
            answer = held;
        } else if !code.is_success() {
            return Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(answer)));
        }
        let kind = written.kind.type_meta();
        if let Some(patch) = plan::status_patch(&kind, &Value::Null, &written.object, &answer) {
            let uid = text(&answer, "/metadata/uid").to_owned();
            let path = format!("{}/status", object_path(entry));
            let (code, patched) =
                self.push_one(Method::PATCH, &path, Some(&plan::for_uid(patch, &uid))).await?;
            if code.is_success() {
                answer = patched;
            }
        }
        Ok(Outcome::Delivered(version_of(&answer)))
    }

    async fn deliver_event(&self, entry: &Entry, written: &Written) -> Result<Outcome, Halt> {
        let (code, answer) = match written.patch.is_object() {
            true => self.ask(Method::PATCH, &object_path(entry), Some(&written.patch)).await?,
            false => {
                self.ask(Method::POST, &list_path(entry), Some(&plan::creation(&written.object))).await?
            }
        };
        match code {
            // The event was sent before the answer was lost, or has ended its life in the cloud.
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(Outcome::Delivered(0)),
            _ if code.is_success() => Ok(Outcome::Delivered(version_of(&answer))),
            _ => Ok(Outcome::Conflict(format!("the cloud answers {code}"), None)),
        }
    }

    /// Puts right what the lifecycle controller did to pods that the node did not write meanwhile.
    async fn repair(&self) -> Result<u64, Halt> {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.cache.node_name());
        let (code, list) = self.ask(Method::GET, &path, None).await?;
        if !code.is_success() {
            return Ok(0);
        }
        let mut repaired = 0;
        for cloud in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            repaired += u64::from(self.repair_pod(cloud).await?);
        }
        Ok(repaired)
    }

    async fn repair_pod(&self, cloud: &Value) -> Result<bool, Halt> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            text(cloud, "/metadata/namespace"),
            text(cloud, "/metadata/name")
        );
        let Some(request) = named(&path) else { return Ok(false) };
        let json = [Representation { encoding: Encoding::Json, metadata_only: false }];
        let ObjectAnswer::Held(view) = self.cache.object(&request, &json, Scope::Held).await? else {
            return Ok(false);
        };
        let Ok(local) = serde_json::from_slice::<Value>(&view.body) else { return Ok(false) };
        let key = request.object_key().unwrap_or_default();
        let untouched = !self.cache.overlay.is_pending(&request.resource, &key);
        if !untouched || text(&local, "/metadata/uid") != text(cloud, "/metadata/uid") {
            return Ok(false);
        }
        let Some(patch) = plan::pod_repair(&local, cloud) else { return Ok(false) };
        let patch = plan::for_uid(patch, text(cloud, "/metadata/uid"));
        let (code, patched) = self.ask(Method::PATCH, &format!("{path}/status"), Some(&patch)).await?;
        if code.is_success() {
            self.cache.endpoints.repaired(text(cloud, "/metadata/uid"), &local, version_of(&patched));
        }
        Ok(code.is_success())
    }

    /// One request for an entry. The node authorizer refuses what it has not heard of yet, for a moment
    /// after its start: that is tried again.
    async fn push_one(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Halt> {
        match self.ask(method, path, body).await? {
            (StatusCode::FORBIDDEN, answer) => Err(Halt::Busy(format!("403: {}", text(&answer, "/message")))),
            answer => Ok(answer),
        }
    }

    /// One request as the node, its answer as JSON.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Halt> {
        let mut request = Request::new(Full::new(body.map_or(Bytes::new(), |b| Bytes::from(b.to_string()))));
        let patch = method == Method::PATCH;
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Halt::Busy(format!("{path:?} is not a path")))?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let content = if patch { PatchType::StrategicMerge.content_type() } else { "application/json" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        let asked = async {
            let answer = self.cloud.send(&Identity::Node, Lane::Requests, request).await.map_err(Halt::of)?;
            let code = answer.status();
            let body = Limited::new(answer.into_body(), MAX_BODY)
                .collect()
                .await
                .map_err(|e| Halt::Link(e.to_string()))?;
            Ok::<_, Halt>((code, body.to_bytes()))
        };
        let (code, body) = tokio::time::timeout(BOUND, asked)
            .await
            .map_err(|_| Halt::Link(format!("no answer within {BOUND:?}")))??;
        if code == StatusCode::UNAUTHORIZED {
            return Err(Halt::Refused);
        }
        if code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS {
            return Err(Halt::Busy(code.to_string()));
        }
        let value = serde_json::from_slice(&body)
            .map_err(|_| Halt::Link(format!("{code}, but not the Kubernetes API")))?;
        Ok((code, value))
    }
}

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn named(path: &str) -> Option<ResourceRequest> {
    RequestInfo::parse("GET", path, "").ok()?.resource().cloned()
}

fn list_path(entry: &Entry) -> String {
    let resource = &entry.resource;
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let namespace = match entry.key.namespace.as_str() {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    format!("{root}/{}{namespace}/{}", resource.api_version(), resource.resource)
}

fn object_path(entry: &Entry) -> String {
    format!("{}/{}", list_path(entry), entry.key.name)
}
