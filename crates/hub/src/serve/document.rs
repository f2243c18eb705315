//! Discovery, OpenAPI and `/version`: forwarded and remembered by path and Accept, with their ETags.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Response, StatusCode, header};
use serde::de::IgnoredAny;
use yurt_store::Document;

use super::upstream::Trouble;
use super::{Asked, Pipeline, text};
use crate::cache::NotKept;
use crate::clock;
use crate::identify::Caller;
use crate::respond::{self, Body, Reason};

/// The largest document that is remembered, in bytes: OpenAPI v2 of a large cluster is some 10 MB.
const MAX_DOCUMENT: usize = 32 << 20;
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
        if answer.status() != StatusCode::OK {
            return self.pass_on(&asked, answer).await;
        }
        let value = |name| text(answer.headers(), name).map(str::to_owned);
        let document = Document {
            path: path_of(&asked),
            accept: text(&asked.parts.headers, header::ACCEPT).unwrap_or("*/*").to_owned(),
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
        let (path, accept) =
            (path_of(asked), text(&asked.parts.headers, header::ACCEPT).unwrap_or("*/*").to_owned());
        let held = self.cache.front.read(move |r| match r.document(&path, &accept)? {
            None => Ok((None, r.documents_for(&path)?)),
            exact => Ok((exact, Vec::new())),
        });
        let (exact, others) = held.await.map_err(|e| Box::new(asked.store_failed(&e)))?;
        let document = exact.or_else(|| others.into_iter().find(|d| takes(asked, d)));
        let document = document.ok_or_else(|| {
            Box::new(
                asked
                    .refuse(Reason::NotHeld, "the cloud cannot be reached, and this document was never read"),
            )
        })?;
        Ok(answer(asked, document, reason))
    }
}

/// Whether a document is evidently not whole.
fn is_broken(content_type: &str, body: &[u8]) -> bool {
    content_type.starts_with("application/json") && serde_json::from_slice::<IgnoredAny>(body).is_err()
}

/// Whether the client takes what a document that was remembered for another Accept is written in.
fn takes(asked: &Asked, document: &Document) -> bool {
    let accept = text(&asked.parts.headers, header::ACCEPT).unwrap_or("*/*");
    let plain = document.content_type.split(';').next().unwrap_or_default().trim();
    let aggregated = document.content_type.contains("as=");
    accept.split(',').map(str::trim).any(|range| {
        range == document.content_type
            || (!aggregated && (range == "*/*" || range.split(';').next() == Some(plain)))
    })
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

fn path_of(asked: &Asked) -> String {
    match asked.info.query.as_str() {
        "" => asked.info.path.clone(),
        query => format!("{}?{query}", asked.info.path),
    }
}
