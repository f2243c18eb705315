//! Tokens and reviews for the kubelet: passed through and remembered online, repeated offline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use yurt_api::proto;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::ResourceRequest;
use yurt_api::resource::TypeMeta;

use super::upstream::{MAX_OBJECT, refuses_the_node, whole};
use super::{Asked, Pipeline, text};
use crate::credential::{reviews, vault};
use crate::respond::{self, Body, Reason};

/// No first byte by then: the last token or decision will do.
const BOUND: Duration = Duration::from_millis(1800);

impl Pipeline {
    /// A TokenRequest or a review of the node.
    pub(super) async fn credential(self: &Arc<Self>, asked: Asked, body: Bytes) -> Response<Body> {
        let Some(request) = asked.resource() else { return asked.refuse(Reason::BadRequest, "no resource") };
        let kind = kind_of(request);
        let sent = text(&asked.parts.headers, header::CONTENT_TYPE).and_then(Representation::of_content_type);
        let sent = sent.map_or(Encoding::Json, |r| r.encoding);
        let Some(spec) = decode(sent, &kind, &body).filter(Value::is_object) else {
            return asked.refuse(Reason::BadRequest, "the body cannot be read");
        };
        if self.connectivity.reachable() {
            let bound = if self.last(request, &spec).await.is_some() { BOUND } else { self.patient() };
            match self.ask(&asked, body, bound).await {
                Ok(answer)
                    if refuses_the_node(&asked, &answer) && self.last(request, &spec).await.is_some() => {}
                Ok(answer) => return self.remember_credential(&asked, request, &kind, &spec, answer).await,
                Err(trouble) if self.last(request, &spec).await.is_none() => {
                    return self.troubled(&asked, trouble).await;
                }
                Err(_) => {}
            }
        }
        match self.last(request, &spec).await {
            Some(answer) => encode(&asked, &kind, &answer),
            None if reviews::is_review(request) => encode(&asked, &kind, &reviews::undecided(request, spec)),
            None => asked
                .refuse(Reason::NotHeld, "the cloud cannot be reached, and no such token was ever given out"),
        }
    }

    async fn remember_credential(
        &self,
        asked: &Asked,
        request: &ResourceRequest,
        kind: &TypeMeta,
        spec: &Value,
        answer: Response<crate::cloud::Received>,
    ) -> Response<Body> {
        let representation =
            text(answer.headers(), header::CONTENT_TYPE).and_then(Representation::of_content_type);
        let (true, Some(representation)) = (answer.status().is_success(), representation) else {
            return self.pass_on(asked, answer).await;
        };
        let (parts, body) = answer.into_parts();
        let body = match whole(body, MAX_OBJECT).await {
            Ok(body) => body,
            Err(error) => {
                return asked
                    .refuse(Reason::Offline, format!("the answer of the cloud was cut short: {error}"));
            }
        };
        if let Some(decision) = decode(representation.encoding, kind, &body) {
            self.keep_credential(request, spec, &decision).await;
        }
        self.pass_whole(parts, body)
    }

    async fn keep_credential(&self, request: &ResourceRequest, spec: &Value, decision: &Value) {
        let kept = if vault::is_token_request(request) {
            self.introduce(request, spec, decision).await;
            vault::keep(&self.cache.front, vault::slot(request, spec), decision).await
        } else {
            let (key, body, now) = (reviews::key(request, spec), decision.to_string(), crate::clock::unix());
            self.cache.front.write(move |w| w.put_review(&key, body.as_bytes(), now)).await
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "a credential cannot be kept for the next outage");
        }
    }

    /// The pod may use its new token for the first time when nobody can be asked who that is.
    async fn introduce(&self, request: &ResourceRequest, spec: &Value, decision: &Value) {
        let Some(principal) = reviews::of_token_request(request, spec, decision) else { return };
        if let Err(error) = self.cache.grants.learn(principal).await {
            tracing::warn!(%error, "whose token this is cannot be kept");
        }
    }

    async fn last(&self, request: &ResourceRequest, spec: &Value) -> Option<Value> {
        if vault::is_token_request(request) {
            return vault::last(&self.cache.front, vault::slot(request, spec)).await.ok().flatten();
        }
        let key = reviews::key(request, spec);
        let held = self.cache.front.read(move |r| r.review(&key)).await.ok().flatten();
        held.and_then(|(body, _)| serde_json::from_slice(&body).ok())
    }
}

fn kind_of(request: &ResourceRequest) -> TypeMeta {
    if vault::is_token_request(request) {
        return vault::token_kind();
    }
    let kind =
        if request.resource.resource == "tokenreviews" { "TokenReview" } else { "SubjectAccessReview" };
    TypeMeta::new(&request.resource.api_version(), kind)
}

/// A body as JSON.
fn decode(encoding: Encoding, kind: &TypeMeta, body: &Bytes) -> Option<Value> {
    let json = match encoding {
        Encoding::Json => body.to_vec(),
        Encoding::Protobuf => proto::to_json(kind, &yurt_api::object::to_item(encoding, body).ok()?).ok()?,
    };
    serde_json::from_slice(&json).ok()
}

/// An answer in the client's encoding.
fn encode(asked: &Asked, kind: &TypeMeta, answer: &Value) -> Response<Body> {
    let encoding = asked.encoding();
    let json = Bytes::from(answer.to_string());
    let item = yurt_api::object::to_item(Encoding::Json, &json);
    let form = Representation { encoding, metadata_only: false };
    let body = item.ok().and_then(|item| respond::object_as(Representation::JSON, form, kind, &item).ok());
    let (body, encoding) = body.map_or((json, Encoding::Json), |b| (b, encoding));
    let mut response = Response::new(respond::full(body));
    *response.status_mut() = StatusCode::CREATED;
    let content_type = Representation { encoding, metadata_only: false }.content_type(false);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    respond::mark_cached(&mut response, 0, asked.reason, false);
    response
}
