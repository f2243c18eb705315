//! The documents with which every client begins, fetched once the link stands: what nobody asked for online is needed
//! offline by whoever comes later, a kubectl with an empty cache first of all (P1).
//!
//! They are few and bounded: version, the aggregated lists of all groups (from which the older discovery documents are
//! made), and the index of OpenAPI v3. The large ones, OpenAPI v2 and the documents of v3, are remembered when somebody
//! reads them. What is held is asked for with its ETag, so that a return home costs a few hundred bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use yurt_api::discovery::AGGREGATED;
use yurt_store::Document;

use super::document::{MAX_DOCUMENT, is_broken};
use super::{Pipeline, text};
use crate::cache::NotKept;
use crate::clock;
use crate::cloud::{Identity, Lane};
use crate::tasks::Shutdown;

/// Path and `Accept`.
const ROOTS: [(&str, &str); 4] = [
    ("/version", "application/json"),
    ("/api", AGGREGATED),
    ("/apis", AGGREGATED),
    ("/openapi/v3", "application/json"),
];
/// What the kubelet needs goes first.
const AFTER: Duration = Duration::from_secs(2);
/// They are not asked for again within this time, and are once it has passed, while the link stands.
const EVERY: Duration = Duration::from_secs(1800);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(60);
/// No answer by then is a failure.
const BOUND: Duration = Duration::from_secs(30);

impl Pipeline {
    /// Keeps them up to date until the shutdown.
    pub async fn fetch_roots(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut last: Option<Instant> = None;
        loop {
            let due = async {
                self.connectivity.until(|s| s.state == crate::connectivity::State::Online).await;
                let wait = last.map_or(AFTER, |at| EVERY.saturating_sub(at.elapsed()).max(AFTER));
                tokio::time::sleep(wait).await;
            };
            tokio::select! {
                () = shutdown.wait() => return,
                () = due => {}
            }
            if !self.connectivity.online() {
                continue;
            }
            match self.all_roots().await {
                true => last = Some(clock::monotonic()),
                false => tokio::select! {
                    () = shutdown.wait() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                },
            }
        }
    }

    /// Fetches all; false when one could not be had.
    async fn all_roots(&self) -> bool {
        let mut all = true;
        for (path, accept) in ROOTS {
            let fetched = tokio::time::timeout(BOUND, self.root(path, accept)).await;
            all &= fetched.unwrap_or(false);
        }
        all
    }

    /// Fetches one. What the cloud does not have or not let the node read is not asked for again either.
    async fn root(&self, path: &'static str, accept: &'static str) -> bool {
        let held = self.cache.front.read(move |r| r.document(path, accept)).await.ok().flatten();
        let etag = held.as_ref().and_then(|held| held.etag.clone());
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = http::Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        let Ok(answer) = self.cloud.send(&Identity::Node, Lane::Reflect, request).await else { return false };
        let value = |name| text(answer.headers(), name).map(str::to_owned);
        match (answer.status(), held) {
            (StatusCode::NOT_MODIFIED, Some(held)) => {
                self.cache.keep_document(Document { observed_at: clock::unix(), ..held }).await;
                true
            }
            (StatusCode::OK, _) => {
                let (content_type, etag) = (value(header::CONTENT_TYPE), value(header::ETAG));
                let mut share = self.cache.room.of_reflector();
                let Ok(body) = share.read(answer.into_body(), MAX_DOCUMENT).await else { return false };
                let content_type = content_type.unwrap_or_default();
                // A portal's page is none of them.
                if !content_type.starts_with("application/json") || is_broken(&content_type, &body) {
                    self.metrics.not_kept(NotKept::Undecodable);
                    return false;
                }
                let document = Document {
                    path: path.to_owned(),
                    accept: accept.to_owned(),
                    status: 200,
                    content_type,
                    etag,
                    body,
                    observed_at: clock::unix(),
                };
                self.cache.keep_document(document).await;
                true
            }
            (code, _) => code.is_client_error(),
        }
    }
}
