//! Keeping what a client was shown in a form that cannot be held.
//!
//! kubectl asks for tables, which only the apiserver can make. So that it can read offline what it read online
//! (P1), the same request is made once more for the objects themselves, with the caller's own credential,
//! beside the answer that passes through. A list of which the client saw only the first page is not kept, as ever.
//! When the client asks for a further page, the hub reads all of them by a chain of its own: the tokens of the client
//! are of the version of its tables, and lead nowhere in a list that was read a moment later.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Uri, header};
use http_body_util::BodyExt;
use yurt_api::representation::{Accepted, Encoding, Representation};
use yurt_api::request::{RequestInfo, Verb};
use yurt_store::CollectionState;

use super::{Asked, Pipeline};
use crate::cache::{Cache, Turn, percent};
use crate::{clock, tasks};

/// Reads beside others at one time; what comes meanwhile is not kept.
pub(super) const AT_ONCE: usize = 4;
/// A list that is not older, in seconds, is not read again.
const RECENT: i64 = 10;
/// The same while a client goes through its pages, which may take it a while.
const RECENT_PAGES: i64 = 120;
/// Pages of a list that are read beside; a larger one is not kept.
const MAX_PAGES: usize = 1000;

impl Pipeline {
    /// Reads what was asked for once more, in a form that can be held, when the client takes that one too.
    pub(super) fn keep_beside(self: &Arc<Self>, asked: &Asked) {
        if !asked.wanted.contains(&Representation::JSON) || self.is_recent(asked) {
            return;
        }
        let turn = match asked.resource().filter(|r| r.options.continue_token.is_some()) {
            Some(request) => {
                let key = Cache::key_of(request, Representation::JSON);
                let Some(turn) = self.cache.pages.turn(&asked.caller.identity(), &key) else { return };
                Some(turn)
            }
            None => None,
        };
        match Arc::clone(&self.beside).try_acquire_owned() {
            Ok(place) => {
                let (pipeline, asked) = (Arc::clone(self), in_json(asked));
                let read = async move {
                    match turn {
                        Some(turn) => pipeline.read_pages(asked, turn).await,
                        None => pipeline.read_beside(asked).await,
                    }
                    drop(place);
                };
                tasks::spawn("read beside", tasks::Failure::Local, read);
            }
            Err(_) => self.metrics.not_kept("too-many-beside"),
        }
    }

    fn is_recent(&self, asked: &Asked) -> bool {
        let Some(request) = asked.resource().filter(|r| r.verb == Verb::List) else { return false };
        let recent = if request.options.continue_token.is_some() { RECENT_PAGES } else { RECENT };
        let is_live = |encoding| {
            let key = Cache::key_of(request, Representation { encoding, metadata_only: false });
            self.cache.registry.get(&key).is_some_and(|c| c.state() == CollectionState::Live)
        };
        let snapshot = self.cache.registry.get(&Cache::key_of(request, Representation::JSON));
        is_live(Encoding::Json)
            || is_live(Encoding::Protobuf)
            || snapshot.is_some_and(|s| clock::unix() - s.observed_at() < recent)
    }

    /// The usual way of a read, which keeps what it can; nobody waits for the answer.
    fn read_beside(self: &Arc<Self>, asked: Asked) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut body = self.read(asked).await.into_body();
            while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
        })
    }

    /// Reads a list page by page, from the one that is awaited or else from the first, until it is whole or
    /// something is in its way.
    async fn read_pages(self: &Arc<Self>, asked: Asked, turn: Turn) {
        let mut token = turn.next();
        for _ in 0..MAX_PAGES {
            let Some(page) = page_of(&asked, token.as_deref()) else { return };
            self.read_beside(page).await;
            let next = turn.next();
            if next.is_none() || next == token {
                return;
            }
            token = next;
        }
    }
}

/// The same request of a client that takes JSON.
fn in_json(asked: &Asked) -> Asked {
    let mut parts = asked.parts.clone();
    parts.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    // An answer "not modified" has nothing to keep.
    parts.headers.remove(header::IF_NONE_MATCH);
    Asked {
        at: clock::monotonic(),
        parts,
        info: asked.info.clone(),
        caller: asked.caller.clone(),
        accepted: vec![Accepted::Held(Representation::JSON)],
        wanted: vec![Representation::JSON],
        reason: asked.reason,
    }
}

/// The request for the page of a token, or for the first; `None` when it cannot be put into a URL.
fn page_of(asked: &Asked, token: Option<&str>) -> Option<Asked> {
    let query = query_of_page(&asked.info.query, token);
    let info = RequestInfo::parse("GET", &asked.info.path, &query).ok()?;
    let mut page = in_json(asked);
    page.parts.uri = format!("{}?{query}", asked.info.path).parse::<Uri>().ok()?;
    page.info = info;
    Some(page)
}

/// A query with another continue token, or without any.
fn query_of_page(query: &str, token: Option<&str>) -> String {
    let is_token = |pair: &&str| pair.split('=').next() == Some("continue");
    let mut pairs: Vec<String> = query.split('&').filter(|p| !is_token(p)).map(str::to_owned).collect();
    pairs.extend(token.map(|token| format!("continue={}", percent(token))));
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_leads_to_another_page() {
        let cases = [
            ("limit=5&continue=abc", None, "limit=5"),
            ("limit=5&continue=abc", Some("x_y-z"), "limit=5&continue=x_y-z"),
            ("continue=abc&labelSelector=a%3Db", Some("a+b/="), "labelSelector=a%3Db&continue=a%2Bb%2F%3D"),
        ];
        for (query, token, expected) in cases {
            assert_eq!(query_of_page(query, token), expected);
        }
    }
}
