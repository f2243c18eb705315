//! Sends what the queue gives out: a few at a time, at the shared pace, and only while this process leads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::queue::{Outcome, Queue};
use super::{Target, Write};
use crate::clock;
use crate::controllers::Context;
use crate::tasks::{self, Task};

/// Writes that run at the same time.
const AT_ONCE: usize = 8;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause after a 429 that names none.
const PAUSE: Duration = Duration::from_secs(1);

/// The queue, and the senders that empty it.
pub struct Writer {
    queue: Mutex<Queue>,
    news: Notify,
    context: Context,
}

impl Writer {
    /// One with nothing to write.
    pub fn new(context: Context) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), news: Notify::new(), context })
    }

    /// Starts the senders; they stop when the tasks are dropped.
    pub fn start(self: &Arc<Self>) -> Vec<Task> {
        (0..AT_ONCE).map(|_| tasks::spawn("sender", self.clone().send_all())).collect()
    }

    /// The queue, to say what is wanted; [`Self::wake`] afterwards.
    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to send.
    pub fn wake(&self) {
        self.context.metrics.pending.set(i64::try_from(self.queue().waiting()).unwrap_or(i64::MAX));
        self.news.notify_waiters();
    }

    async fn send_all(self: Arc<Self>) {
        loop {
            let news = self.news.notified();
            let next = self.queue().next(self.context.clock.now().since_start);
            match next {
                None => news.await,
                Some((subject, write)) => {
                    self.context.pace.wait().await;
                    let outcome = self.send(&write).await;
                    let now = self.context.clock.now().since_start;
                    self.queue().ended(&subject, write, outcome, now);
                }
            }
        }
    }

    async fn send(&self, write: &Write) -> Outcome {
        let now = self.context.clock.now();
        if !self.context.leadership.leads(now.since_start) {
            return Outcome::Failed;
        }
        let Some(request) = request(write, now.unix) else { return Outcome::Settled };
        let answer = tokio::time::timeout(PATIENCE, self.context.client.request_text(request)).await;
        let (outcome, result) = match answer {
            Ok(Ok(_)) => {
                tell(write);
                (Outcome::Settled, "done".to_owned())
            }
            Ok(Err(error)) => self.judge(write, &error),
            Err(_) => (Outcome::Failed, "no-answer".to_owned()),
        };
        tracing::debug!(target = ?write.target, result, "write");
        let labels = vec![("kind", write.target.word().to_owned()), ("result", result)];
        self.context.metrics.writes.get_or_create(&labels).inc();
        outcome
    }

    /// What a refusal means. 404 and 409: the world is another one, and the watch will say so.
    fn judge(&self, write: &Write, error: &kube::Error) -> (Outcome, String) {
        let kube::Error::Api(status) = error else {
            tracing::warn!(target = ?write.target, %error, "a write did not reach the apiserver");
            return (Outcome::Failed, "unreachable".to_owned());
        };
        let code = status.code;
        if matches!(code, 404 | 409) {
            return (Outcome::Settled, code.to_string());
        }
        if code == 429 {
            let asked = status.details.as_ref().map_or(0, |d| u64::from(d.retry_after_seconds));
            self.context.pace.pause(Duration::from_secs(asked).max(PAUSE));
        }
        tracing::warn!(target = ?write.target, code, why = status.message, "a write was refused");
        (Outcome::Failed, code.to_string())
    }
}

/// What is told to the cluster stands in the log, too.
fn tell(write: &Write) {
    if matches!(write.target, Target::Event(..)) {
        let text = |path: &str| write.body.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (about, reason) = (text("/involvedObject/name"), text("/reason"));
        tracing::info!(about, reason, message = text("/message"), "told");
    }
}

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// The request of a write; times in it that are not given yet become `unix`.
fn request(write: &Write, unix: i64) -> Option<Request<Vec<u8>>> {
    let pod = |ns: &str, name: &str, end: &str| format!("/api/v1/namespaces/{ns}/pods/{name}{end}");
    let (method, path, content) = match &write.target {
        Target::Pod(ns, name) => (Method::PATCH, pod(ns, name, ""), MERGE),
        Target::PodStatus(ns, name) => (Method::PATCH, pod(ns, name, "/status"), STRATEGIC),
        Target::PodEnd(ns, name) => (Method::DELETE, pod(ns, name, ""), "application/json"),
        Target::Node(name) | Target::Member(name) => (Method::PATCH, format!("/api/v1/nodes/{name}"), MERGE),
        Target::NodeStatus(name) => (Method::PATCH, format!("/api/v1/nodes/{name}/status"), STRATEGIC),
        Target::PoolStatus(name) => {
            (Method::PATCH, format!("/apis/apps.openyurt.io/v1beta2/nodepools/{name}/status"), MERGE)
        }
        Target::Event(ns, _) => (Method::POST, format!("/api/v1/namespaces/{ns}/events"), "application/json"),
    };
    let body = stamped(write, unix).to_string().into_bytes();
    let request = Request::builder().method(method).uri(path);
    request.header(http::header::CONTENT_TYPE, content).body(body).ok()
}

fn stamped(write: &Write, unix: i64) -> Value {
    let (mut body, now) = (write.body.clone(), Value::from(clock::rfc3339(unix)));
    if matches!(write.target, Target::Event(..)) {
        body["firstTimestamp"] = now.clone();
        body["lastTimestamp"] = now;
        return body;
    }
    for condition in
        body.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if condition["lastTransitionTime"].is_null() && condition["$patch"].is_null() {
            condition["lastTransitionTime"] = now.clone();
        }
    }
    body
}

/// The body of a deletion of exactly that object as it was decided about: a pod whose kubelet has said a word since
/// is on no dead node.
pub fn end_of(uid: &str, version: &str) -> Value {
    let preconditions = json!({"uid": uid, "resourceVersion": version});
    json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions})
}

#[cfg(test)]
mod tests {
    use super::super::Rank;
    use super::*;

    #[test]
    fn times_are_those_of_sending() {
        let body = json!({"status": {"conditions": [
            {"type": "Ready", "lastTransitionTime": null},
            {"type": "Cut", "lastTransitionTime": "2020-01-01T00:00:00Z"},
            {"type": "Gone", "$patch": "delete"},
        ]}});
        let target = Target::NodeStatus("n".into());
        let write = Write { target, rank: Rank::Record, urgency: 0, version: "1".into(), body };
        let conditions = &stamped(&write, 0)["status"]["conditions"];
        assert_eq!(conditions[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(conditions[1]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert!(conditions[2].get("lastTransitionTime").is_none());
        assert_eq!(request(&write, 0).unwrap().uri().path(), "/api/v1/nodes/n/status");
    }
}
