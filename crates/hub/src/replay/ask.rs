//! The requests of the replay, as the node, and why they stop it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use yurt_api::patch::PatchType;

use super::Replay;
use crate::cache::FrontError;
use crate::cloud::{CloudError, Identity, Lane, Received};

/// The bound on the head of an answer, and on a pause in its body: a slow link may take its time for the whole.
const BOUND: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
pub(super) const MAX_BODY: usize = 32 << 20;
/// Between two tries; while the node's certificate is refused; the longest that the cloud may ask for.
const PAUSE: Duration = Duration::from_secs(1);
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why the push stops here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Halt {
    #[error("the link failed: {0}")]
    Link(String),
    #[error("the cloud is busy: {0}")]
    Busy(String),
    /// The cloud has too much to do and says when to come back: no fault of the entry, and no try of it.
    #[error("the cloud asks to come back in {0:?}")]
    Later(Duration),
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

    /// How long to wait before the next try.
    pub(super) fn pause(&self) -> Duration {
        match self {
            Halt::Refused => REFUSED_PAUSE,
            Halt::Later(pause) => *pause,
            Halt::Link(_) | Halt::Busy(_) | Halt::Store(_) => PAUSE,
        }
    }
}

impl Replay {
    /// One request for an entry. The node authorizer refuses what it has not heard of yet, for a moment
    /// after its start: that is tried again.
    pub(super) async fn push_one(
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
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Halt> {
        let answer = self.send(method, path, body).await?;
        let code = answer.status();
        let body = whole(answer).await?;
        match serde_json::from_slice(&body) {
            Ok(value) if is_of_the_api(code, &value) => Ok((code, value)),
            // What an apiserver says of an API that it does not serve (Go's `http.NotFound`).
            Err(_) if code == StatusCode::NOT_FOUND && is_no_api(&body) => Ok((code, Value::Null)),
            // Something between the node and the cloud does not like this request; it may like others.
            Ok(_) => Err(Halt::Busy(format!("{code}, but not from the cloud"))),
            Err(_) if code.is_client_error() => Err(Halt::Busy(format!("{code}, but not from the cloud"))),
            Err(_) => Err(Halt::Link(format!("{code}, but not the Kubernetes API"))),
        }
    }

    /// One request as the node; the head of its answer, unless that says to come back later.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Received>, Halt> {
        let request = request(method, path, body)?;
        let sent = in_time(self.cloud.send(&Identity::Node, Lane::Requests, request)).await?;
        let answer = sent.map_err(Halt::of)?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => Err(Halt::Refused),
            StatusCode::TOO_MANY_REQUESTS => Err(Halt::Later(retry_after(answer.headers()))),
            code if code.is_server_error() => Err(Halt::Busy(code.to_string())),
            _ => Ok(answer),
        }
    }
}

/// Whether the cloud itself says that something does not exist: with a `Status`, as `NewNotFound` of
/// `k8s.io/apimachinery/pkg/api/errors` makes it. Anybody can answer 404.
pub(super) fn is_not_found(code: StatusCode, answer: &Value) -> bool {
    code == StatusCode::NOT_FOUND
        && text(answer, "/kind") == "Status"
        && text(answer, "/reason") == "NotFound"
}

/// A field of a JSON object as text, empty when there is none.
pub(super) fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// Whether this JSON is an apiserver's: an object that says its kind, and that is a Status unless all went well. What
/// stands between may speak JSON, too, and must not be taken for the word that an object is gone.
fn is_of_the_api(code: StatusCode, answer: &Value) -> bool {
    match text(answer, "/kind") {
        "" => false,
        kind => code.is_success() || kind == "Status",
    }
}

fn is_no_api(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), b"" | b"404 page not found")
}

fn request(method: Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, Halt> {
    let mut request = Request::new(Full::new(body.map_or(Bytes::new(), |b| Bytes::from(b.to_string()))));
    let content = match method {
        Method::PATCH => PatchType::StrategicMerge.content_type(),
        _ => "application/json",
    };
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| Halt::Busy(format!("{path:?} is not a path")))?;
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    Ok(request)
}

/// The whole body, however long it takes, as long as it goes on coming.
async fn whole(answer: Response<Received>) -> Result<Vec<u8>, Halt> {
    let mut body = answer.into_body();
    let mut all = Vec::new();
    while let Some(frame) = in_time(body.frame()).await? {
        let frame = frame.map_err(|e| Halt::Link(e.to_string()))?;
        all.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if all.len() > MAX_BODY {
            return Err(Halt::Busy(format!("an answer is larger than {MAX_BODY} bytes")));
        }
    }
    Ok(all)
}

pub(super) async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, Halt> {
    tokio::time::timeout(BOUND, work).await.map_err(|_| Halt::Link(format!("nothing came within {BOUND:?}")))
}

/// When the cloud wants to be asked again (RFC 9110 section 10.2.3, as kube-apiserver writes it: in seconds).
fn retry_after(headers: &HeaderMap) -> Duration {
    let said = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    said.map_or(PAUSE, Duration::from_secs).clamp(PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_says_when_to_come_back_within_bounds() {
        for (said, seconds) in
            [(None, 1), (Some("0"), 1), (Some("5"), 5), (Some("86400"), 30), (Some("soon"), 1)]
        {
            let value = said.map(|said| (header::RETRY_AFTER, HeaderValue::from_static(said)));
            assert_eq!(retry_after(&HeaderMap::from_iter(value)), Duration::from_secs(seconds), "{said:?}");
        }
    }
}
