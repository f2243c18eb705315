//! Discovery, OpenAPI and `/version`: forwarded and remembered by path and Accept, with their ETags.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Response, StatusCode, header};
use serde::de::IgnoredAny;
use yurt_api::discovery::{AGGREGATED, Part};
use yurt_store::{Document, Reader, StoreError};

use super::upstream::Trouble;
use super::{Asked, Pipeline, text};
use crate::cache::{Cache, FrontError, NotKept};
use crate::clock;
use crate::identify::Caller;
use crate::respond::{self, Body, Reason};

/// The largest document that is remembered, in bytes: OpenAPI v2 of a large cluster is some 10 MB.
pub(super) const MAX_DOCUMENT: usize = 32 << 20;
/// The longest `Accept` for which an answer is remembered, in bytes: kubectl's have some 300.
const MAX_ACCEPT: usize = 1024;
/// No first byte by then: the remembered one will do.
const BOUND: Duration = Duration::from_millis(1800);

impl Pipeline {
    /// A document.
    pub(super) async fn document(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        if !self.connectivity.reachable() {
            let answer = self.remembered(&asked, asked.reason).await.unwrap_or_else(|refusal| *refusal);
            return self.or_when_started(answer, asked).await;
        }
        match self.ask(&asked, Bytes::new(), BOUND).await {
            Ok(answer) => self.remember_document(asked, answer).await,
            Err(Trouble::Slow) => match self.remembered(&asked, Reason::Slow).await {
                Ok(document) => document,
                Err(_) => self.pass(asked, Bytes::new()).await,
            },
            Err(trouble) => match self.remembered(&asked, Reason::Offline).await {
                Ok(document) => document,
                Err(_) => self.troubled(&asked, trouble).await,
            },
        }
    }

    /// Passes a document on, and remembers it when it is whole.
    async fn remember_document(
        self: &Arc<Self>,
        asked: Asked,
        answer: Response<crate::cloud::Received>,
    ) -> Response<Body> {
        let accept = text(&asked.parts.headers, header::ACCEPT).unwrap_or("*/*").to_owned();
        // What nobody could read offline is not kept either, so that no stranger fills the store.
        let kept = asked.caller != Caller::Anonymous && accept.len() <= MAX_ACCEPT;
        if answer.status() != StatusCode::OK || !kept {
            return self.pass_on(&asked, answer).await;
        }
        let value = |name| text(answer.headers(), name).map(str::to_owned);
        let document = Document {
            path: path_of(&asked),
            accept,
            status: answer.status().as_u16(),
            content_type: value(header::CONTENT_TYPE).unwrap_or_default(),
            etag: value(header::ETAG),
            body: Bytes::new(),
            observed_at: clock::unix(),
        };
        let (pipeline, caller) = (Arc::clone(self), asked.caller.clone());
        let keep = Box::new(move |body: Bytes| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                // Offline these are for callers that are known: learn this one.
                let _ = pipeline.learn_user(&caller).await;
                if is_broken(&document.content_type, &body) {
                    return pipeline.metrics.not_kept(NotKept::Undecodable);
                }
                pipeline.cache.keep_document(Document { body, ..document }).await;
            })
        });
        let passed = self.pass_and_keep(&asked, answer, MAX_DOCUMENT, keep).await;
        let left = BOUND.saturating_sub(asked.at.elapsed());
        let reason = match tokio::time::timeout(left, passed.came).await {
            Ok(Ok(())) => return passed.answer,
            Ok(Err(_)) => Reason::Offline,
            Err(_) => Reason::Slow,
        };
        self.remembered(&asked, reason).await.unwrap_or(passed.answer)
    }

    async fn remembered(&self, asked: &Asked, reason: Reason) -> Result<Response<Body>, Box<Response<Body>>> {
        let known = asked.caller == Caller::Node || self.user(&asked.caller).await.ok().flatten().is_some();
        if !known {
            return Err(Box::new(asked.refuse(
                Reason::UnknownCaller,
                "this credential was never seen while the cloud could be reached",
            )));
        }
        let held = self.cache.held_document(asked).await.map_err(|e| Box::new(asked.store_failed(&e)))?;
        let document = held.ok_or_else(|| {
            Box::new(
                asked
                    .refuse(Reason::NotHeld, "the cloud cannot be reached, and this document was never read"),
            )
        })?;
        Ok(answer(asked, document, reason))
    }
}

/// Whether a document is evidently not whole.
pub(super) fn is_broken(content_type: &str, body: &[u8]) -> bool {
    content_type.starts_with("application/json") && serde_json::from_slice::<IgnoredAny>(body).is_err()
}

impl Cache {
    /// What is held of a document: as it was read for this path and `Accept`, for another `Accept`, made of an
    /// aggregated list, or, of an OpenAPI document, as it was under another hash.
    async fn held_document(&self, asked: &Asked) -> Result<Option<Document>, FrontError> {
        let accept = text(&asked.parts.headers, header::ACCEPT).unwrap_or("*/*").to_owned();
        let (path, bare) = (path_of(asked), asked.info.path.clone());
        self.front
            .read(move |r| {
                if let Some(exact) = r.document(&path, &accept)? {
                    return Ok(Some(exact));
                }
                if let Some(best) = preferred(r.documents_for(&path)?, &accept) {
                    return Ok(Some(best));
                }
                if let Some(made) = made(r, &bare, &accept)? {
                    return Ok(Some(made));
                }
                Ok(preferred(r.documents_under(&bare)?, &accept))
            })
            .await
    }
}

/// Documents whose URLs name their content by a hash; the server leads from an old hash to the new one
/// (`k8s.io/kube-openapi/pkg/handler3`).
const OPENAPI: &str = "/openapi/v3/";

/// A discovery document that was never read, from the aggregated list that has all of it.
fn made(reader: &Reader, path: &str, accept: &str) -> Result<Option<Document>, StoreError> {
    const JSON: &str = "application/json";
    let Some(part) = Part::of_path(path).filter(|_| rank(accept, JSON).is_some()) else { return Ok(None) };
    let lists = reader.documents_for(part.aggregated_path())?;
    Ok(lists.into_iter().filter(|list| same_type(&list.content_type, AGGREGATED)).find_map(|list| {
        let body = Bytes::from(part.from_aggregated(&list.body)?);
        Some(Document { path: path.to_owned(), content_type: JSON.to_owned(), etag: None, body, ..list })
    }))
}

/// The document that the client likes best.
fn preferred(documents: Vec<Document>, accept: &str) -> Option<Document> {
    let ranked = documents.into_iter().filter_map(|d| Some((rank(accept, &d.content_type)?, d)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, document)| document)
}

/// The place in `Accept` of the first range that this type is in.
fn rank(accept: &str, content_type: &str) -> Option<usize> {
    let plain = content_type.split(';').next().unwrap_or_default().trim();
    let aggregated = content_type.contains("as=");
    accept.split(',').map(str::trim).position(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        let bare = !range.contains("as=") && (media == plain || media == "*/*" || media == "application/*");
        same_type(range, content_type) || (!aggregated && bare)
    })
}

/// Whether two media types are the same, whatever the order of their parameters, and but for `q` and the charset.
fn same_type(a: &str, b: &str) -> bool {
    let parts = |text: &str| {
        let mut parts: Vec<String> = text.split(';').map(|p| p.trim().to_ascii_lowercase()).collect();
        parts.retain(|p| !p.starts_with("q=") && !p.starts_with("charset="));
        parts.sort();
        parts
    };
    parts(a) == parts(b)
}

fn answer(asked: &Asked, document: Document, reason: Reason) -> Response<Body> {
    let seen = text(&asked.parts.headers, header::IF_NONE_MATCH);
    let unchanged = document.etag.as_deref().is_some_and(|etag| seen == Some(etag));
    let mut response = Response::new(respond::full(if unchanged { Bytes::new() } else { document.body }));
    let status = if unchanged {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::from_u16(document.status).unwrap_or(StatusCode::OK)
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let fields = [(header::CONTENT_TYPE, Some(document.content_type)), (header::ETAG, document.etag)];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|v| HeaderValue::from_str(&v).ok()) {
            headers.insert(name, value);
        }
    }
    respond::mark_cached(&mut response, clock::unix() - document.observed_at, reason, false);
    response
}

/// The place of a document: its path, and the hash that an OpenAPI document is asked for under. What else a query says is
/// not about the document: client-go adds its `timeout` to each of these requests.
fn path_of(asked: &Asked) -> String {
    let (path, query) = (asked.info.path.as_str(), asked.info.query.as_str());
    let hash = query.split('&').find(|part| path.starts_with(OPENAPI) && part.starts_with("hash="));
    hash.map_or_else(|| path.to_owned(), |hash| format!("{path}?{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_that_comes_first_is_taken() {
        let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let beta = AGGREGATED.replace("v=v2", "v=v2beta1");
        let all = format!("{AGGREGATED},{beta},application/json");
        let cases = [
            (all.as_str(), AGGREGATED, Some(0)),
            (all.as_str(), &beta, Some(1)),
            (all.as_str(), "application/json", Some(2)),
            ("application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", AGGREGATED, Some(0)),
            ("application/json", AGGREGATED, None),
            ("*/*", AGGREGATED, None),
            ("*/*", "application/json; charset=utf-8", Some(0)),
            ("application/json;q=0.5", "application/json", Some(0)),
            (protobuf, protobuf, Some(0)),
            (protobuf, "application/json", None),
        ];
        for (accept, content_type, expected) in cases {
            assert_eq!(rank(accept, content_type), expected, "{accept} for {content_type}");
        }
    }
}
