//! Writes: to the cloud while it answers; the node's own into the journal when it does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use yurt_api::proto;
use yurt_api::representation::{Encoding, Representation};

use super::upstream::{MAX_OBJECT, Trouble, whole};
use super::{Asked, Pipeline, text};
use crate::cache::write::{Accepted, LocalWrite, Refused};
use crate::cloud::CloudError;
use crate::identify::Caller;
use crate::respond::{self, Body, Reason};
use crate::tasks;

/// How long a write that failed waits for the link to be judged.
const VERDICT: Duration = Duration::from_secs(5);

impl Pipeline {
    /// A write.
    pub(super) async fn write(self: &Arc<Self>, asked: Asked, body: Bytes) -> Response<Body> {
        if !self.connectivity.reachable() || self.waits_in_journal(&asked) {
            return self.write_local(&asked, &body).await;
        }
        match self.ask(&asked, body.clone(), self.patient()).await {
            Ok(answer) => self.written(asked, answer).await,
            Err(trouble) => self.write_failed(&asked, &body, trouble).await,
        }
    }

    /// Whether an earlier write to the same object has still to be pushed: they must not overtake each other.
    fn waits_in_journal(&self, asked: &Asked) -> bool {
        let pending = |r: &yurt_api::request::ResourceRequest| {
            let key = r.object_key().filter(|_| !r.options.dry_run);
            key.is_some_and(|key| self.cache.overlay.is_pending(&r.resource, &key))
        };
        asked.caller == Caller::Node && asked.resource().is_some_and(pending)
    }

    /// What the node writes of itself can be said twice: when the link turns out to be lost, the
    /// journal takes it. Everybody else is told to try again.
    async fn write_failed(&self, asked: &Asked, body: &Bytes, trouble: Trouble) -> Response<Body> {
        let lost = matches!(
            trouble,
            Trouble::Failed(CloudError::Unreachable(_) | CloudError::Lost(_)) | Trouble::Slow
        );
        if asked.caller == Caller::Node && lost {
            let _ = tokio::time::timeout(VERDICT, self.connectivity.lost()).await;
            if !self.connectivity.reachable() {
                return self.write_local(asked, body).await;
            }
        }
        self.troubled(asked, trouble).await
    }

    /// An answered write: the node's own object is remembered as the cloud now has it.
    async fn written(&self, asked: Asked, answer: Response<crate::cloud::Received>) -> Response<Body> {
        let representation =
            text(answer.headers(), header::CONTENT_TYPE).and_then(Representation::of_content_type);
        let own = asked.caller == Caller::Node && asked.resource().is_some_and(is_kept);
        let (true, true, Some(representation)) = (own, answer.status().is_success(), representation) else {
            return self.pass_on(&asked, answer).await;
        };
        let (parts, body) = answer.into_parts();
        match whole(body, MAX_OBJECT).await {
            Ok(body) => {
                self.remember(&asked, representation, &body).await;
                self.pass_whole(parts, body)
            }
            Err(error) => {
                asked.refuse(Reason::Offline, format!("the answer of the cloud was cut short: {error}"))
            }
        }
    }

    async fn remember(&self, asked: &Asked, representation: Representation, body: &Bytes) {
        let Some(request) = asked.resource() else { return };
        let named = yurt_api::request::ResourceRequest {
            name: Some(self.cache.node_name().to_owned()),
            subresource: None,
            ..request.clone()
        };
        if let Err(reason) = self.cache.keep_object(&named, representation, body).await {
            self.metrics.not_kept(reason);
        }
    }

    /// Into the journal.
    async fn write_local(&self, asked: &Asked, body: &Bytes) -> Response<Body> {
        let Some(request) = asked.resource() else { return asked.refuse(Reason::CloudOnly, "no resource") };
        let content_type = text(&asked.parts.headers, header::CONTENT_TYPE).filter(|t| !t.is_empty());
        let content_type = content_type.unwrap_or("application/json");
        let (cache, request, body) = (Arc::clone(&self.cache), request.clone(), body.clone());
        let content_type = content_type.to_owned();
        // A client that goes away in the middle leaves no write that is in the journal and in no view.
        let writing = tasks::to_its_end("write", async move {
            cache.write(LocalWrite { request: &request, content_type: &content_type, body: &body }).await
        });
        let panicked = || Err(Refused::Later(Reason::StoreFailed, "the write cannot be kept".to_owned()));
        match writing.await.unwrap_or_else(panicked) {
            Ok(accepted) => answer(asked, accepted),
            Err(Refused::Later(reason, message)) => asked.refuse(reason, message),
            Err(Refused::Final(code, reason, message)) => {
                respond::failure(code, reason, message, asked.encoding())
            }
        }
    }
}

/// Objects of the node that no collection may hold, but that it needs to boot.
fn is_kept(request: &yurt_api::request::ResourceRequest) -> bool {
    let created = request.name.is_none();
    let resource = &request.resource;
    created
        && (resource.is("", "nodes")
            || resource.is("storage.k8s.io", "csinodes")
            || resource.is("coordination.k8s.io", "leases"))
}

fn answer(asked: &Asked, accepted: Accepted) -> Response<Body> {
    let json = Bytes::from(accepted.object.to_string());
    let protobuf = asked.wanted.first().is_some_and(|w| w.encoding == Encoding::Protobuf)
        && proto::knows(&accepted.kind);
    let encoding = if protobuf { Encoding::Protobuf } else { Encoding::Json };
    let item = yurt_api::object::to_item(Encoding::Json, &json);
    let form = Representation { encoding, metadata_only: false };
    let body =
        item.ok().and_then(|i| respond::object_as(Representation::JSON, form, &accepted.kind, &i).ok());
    let Some(body) = body else {
        // It is kept; only the answer cannot be written as asked.
        return plain(accepted.code, Encoding::Json, json);
    };
    plain(accepted.code, encoding, body)
}

fn plain(code: u16, encoding: Encoding, body: Bytes) -> Response<Body> {
    let mut response = Response::new(respond::full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    let content_type = Representation { encoding, metadata_only: false }.content_type(false);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(respond::SOURCE, HeaderValue::from_static("journal"));
    response
}
