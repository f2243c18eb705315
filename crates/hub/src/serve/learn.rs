//! Learning who callers are and what they may read, from what the cloud answers them.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use yurt_api::request::{ResourceRequest, Verb};

use super::{Asked, Pipeline};
use crate::cache::filter::cover;
use crate::cache::grants::Verdict;
use crate::cache::{Cache, FrontError};
use crate::clock;
use crate::credential::reviews;
use crate::identify::Caller;
use crate::tasks;

/// Who does not get an answer about a token by then goes on without.
const REVIEW_BOUND: Duration = Duration::from_millis(1800);

impl Pipeline {
    /// The user name of a caller, if it is known.
    pub(super) async fn user(&self, caller: &Caller) -> Result<Option<String>, FrontError> {
        match caller {
            Caller::Node => Ok(Some(self.cache.node_user().to_owned())),
            Caller::Token { hash, .. } => {
                Ok(self.cache.grants.principal(*hash).await?.map(|p| p.user.clone()))
            }
            Caller::Foreign(_) | Caller::Anonymous => Ok(None),
        }
    }

    /// The cloud allowed this read to this caller: remembered, without anybody waiting for it.
    pub(super) fn learn(self: &Arc<Self>, asked: &Asked) {
        let lately = &self.cache.grants.lately;
        let read = (asked.caller.identity(), &asked.parts.method, &asked.parts.uri);
        let note = lately.note_of(read, self.cache.front.evicted());
        if asked.caller == Caller::Anonymous || lately.has(note, asked.at) {
            return;
        }
        let Some(request) = asked.resource().cloned() else { return };
        let (pipeline, caller) = (Arc::clone(self), asked.caller.clone());
        self.keep_in_background(async move {
            let learning = async {
                let known = pipeline.record(&caller, &request).await?;
                pipeline.learn_verbs(&caller, &request).await?;
                Ok::<_, FrontError>(known)
            };
            match learning.await {
                Ok(true) => pipeline.cache.grants.lately.put(note, clock::monotonic()),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "a grant cannot be remembered"),
            }
        });
    }

    /// Remembers that this caller was allowed this read; false when nobody knows who that is.
    pub(super) async fn record(
        &self,
        caller: &Caller,
        request: &ResourceRequest,
    ) -> Result<bool, FrontError> {
        let Some(user) = self.learn_user(caller).await? else { return Ok(false) };
        if self.cache.grants.verdict(&user, request).await? == Verdict::Fresh {
            return Ok(true);
        }
        // The kubelet asks for each of its pods by name: what it may read anyway is not written down.
        if *caller == Caller::Node && self.cache.is_the_nodes(request).await {
            return Ok(true);
        }
        self.cache.grants.record(&user, request).await.map(|()| true)
    }

    /// The cloud refused this read: what it had allowed before is not true any more.
    pub(super) fn unlearn(self: &Arc<Self>, asked: &Asked, code: StatusCode) {
        let Some(request) = asked.resource().cloned() else { return };
        let (pipeline, caller) = (Arc::clone(self), asked.caller.clone());
        tasks::spawn("unlearn", tasks::Failure::Local, async move {
            let done = match code {
                StatusCode::UNAUTHORIZED => pipeline.forget(&caller).await,
                _ => match pipeline.revoke(&caller, &request).await {
                    Ok(()) => pipeline.unlearn_verbs(&caller, &request).await,
                    failed => failed,
                },
            };
            if let Err(error) = done {
                tracing::warn!(%error, "a grant cannot be taken back");
            }
        });
    }

    pub(super) async fn revoke(&self, caller: &Caller, request: &ResourceRequest) -> Result<(), FrontError> {
        match self.user(caller).await? {
            Some(user) => self.cache.grants.revoke(&user, request).await,
            None => Ok(()),
        }
    }

    /// A token that is refused before its end was revoked; one that has ended is still the last that its
    /// pod has (P7).
    async fn forget(&self, caller: &Caller) -> Result<(), FrontError> {
        let Caller::Token { hash, .. } = caller else { return Ok(()) };
        let held = self.cache.grants.principal(*hash).await?;
        match held.filter(|p| p.expires_at.is_none_or(|end| clock::unix() < end)) {
            Some(_) => self.cache.grants.forget(*hash).await,
            None => Ok(()),
        }
    }

    /// The caller's user, asked of the cloud when it is not known yet.
    pub(super) async fn learn_user(&self, caller: &Caller) -> Result<Option<String>, FrontError> {
        let known = self.user(caller).await?;
        let (None, Caller::Token { hash, header }) = (&known, caller) else { return Ok(known) };
        let gate = self.cache.grants.asking(*hash);
        let _only_one = gate.lock().await;
        if let Some(known) = self.user(caller).await? {
            return Ok(Some(known));
        }
        let asked = tokio::time::timeout(REVIEW_BOUND, reviews::who_is(&self.cloud, header, *hash)).await;
        let Ok(Some(principal)) = asked else { return Ok(None) };
        let user = principal.user.clone();
        self.cache.grants.learn(principal).await?;
        Ok(Some(user))
    }
}

impl Cache {
    /// Whether the node's own identity may read this offline: what it was granted, what its own
    /// collections hold, and what it wrote itself.
    pub async fn node_may(&self, request: &ResourceRequest) -> bool {
        let written =
            request.object_key().is_some_and(|key| self.overlay.get(&request.resource, &key).is_some());
        if written || self.is_the_nodes(request).await {
            return true;
        }
        matches!(self.grants.verdict(self.node_user(), request).await, Ok(Verdict::Fresh | Verdict::Old))
    }

    /// Whether the node may read this without a grant.
    async fn is_the_nodes(&self, request: &ResourceRequest) -> bool {
        self.is_of_node(request) || self.is_needed(request) || self.opened_by_node(request).await
    }

    /// What the pods of the node name (the node authorizer's rule for it).
    fn is_needed(&self, request: &ResourceRequest) -> bool {
        let Some(key) = request.object_key().filter(|_| request.subresource.is_none()) else { return false };
        let wanted = self.needed.now();
        request.verb == Verb::Get
            && wanted.is_some_and(|wanted| wanted.objects.contains(&(request.resource.clone(), key)))
    }

    /// The node's own objects (the node authorizer's rule for them).
    fn is_of_node(&self, request: &ResourceRequest) -> bool {
        let resource = &request.resource;
        let kind = resource.is("", "nodes")
            || resource.is("storage.k8s.io", "csinodes")
            || resource.is("coordination.k8s.io", "leases");
        kind && request.name.as_deref() == Some(self.node_name())
    }

    /// Whether a collection that the node opened has it all (the node authorizer gives get, list and
    /// watch of the same alike).
    async fn opened_by_node(&self, request: &ResourceRequest) -> bool {
        for collection in self.registry.of(&request.resource).iter().filter(|c| c.node_owned()) {
            let inside = match request.verb {
                Verb::Get => self.contains(collection, request).await,
                _ => cover(collection.key(), request).is_some(),
            };
            if inside {
                return true;
            }
        }
        false
    }
}
