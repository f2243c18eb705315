//! Keeping what a client was shown in a form that cannot be held.
//!
//! kubectl asks for tables, which only the apiserver can make. So that it can read offline what it read online
//! (P1), the same request is made once more for the objects themselves, with the caller's own credential,
//! beside the answer that passes through. A list of which the client saw only a page is not kept, as ever.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use yurt_api::representation::{Accepted, Encoding, Representation};
use yurt_api::request::Verb;
use yurt_store::CollectionState;

use super::{Asked, Pipeline};
use crate::cache::Cache;
use crate::{clock, tasks};

/// Reads beside others at one time; what comes meanwhile is not kept.
pub(super) const AT_ONCE: usize = 4;
/// A list that is not older, in seconds, is not read again.
const RECENT: i64 = 10;

impl Pipeline {
    /// Reads what was asked for once more, in a form that can be held, when the client takes that one too.
    pub(super) fn keep_beside(self: &Arc<Self>, asked: &Asked) {
        if !asked.wanted.contains(&Representation::JSON) || self.is_recent(asked) {
            return;
        }
        match Arc::clone(&self.beside).try_acquire_owned() {
            Ok(place) => {
                let read = Arc::clone(self).read_beside(in_json(asked), place);
                tasks::spawn("read beside", tasks::Failure::Local, read);
            }
            Err(_) => self.metrics.not_kept("too-many-beside"),
        }
    }

    fn is_recent(&self, asked: &Asked) -> bool {
        let Some(request) = asked.resource().filter(|r| r.verb == Verb::List) else { return false };
        let is_live = |encoding| {
            let key = Cache::key_of(request, Representation { encoding, metadata_only: false });
            self.cache.registry.get(&key).is_some_and(|c| c.state() == CollectionState::Live)
        };
        let snapshot = self.cache.registry.get(&Cache::key_of(request, Representation::JSON));
        is_live(Encoding::Json)
            || is_live(Encoding::Protobuf)
            || snapshot.is_some_and(|s| clock::unix() - s.observed_at() < RECENT)
    }

    /// The usual way of a read, which keeps what it can; nobody waits for the answer.
    fn read_beside(self: Arc<Self>, asked: Asked, place: OwnedSemaphorePermit) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut body = self.read(asked).await.into_body();
            while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
            drop(place);
        })
    }
}

/// The same request of a client that takes JSON.
fn in_json(asked: &Asked) -> Asked {
    let mut parts = asked.parts.clone();
    parts.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    // An answer "not modified" has nothing to keep.
    parts.headers.remove(header::IF_NONE_MATCH);
    Asked {
        parts,
        info: asked.info.clone(),
        caller: asked.caller.clone(),
        accepted: vec![Accepted::Held(Representation::JSON)],
        wanted: vec![Representation::JSON],
        reason: asked.reason,
    }
}
