//! GET and LIST: from the cloud while it answers, from the store when it does not, and kept meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use yurt_api::representation::Representation;
use yurt_api::request::Verb;

use super::keep::Passed;
use super::upstream::{MAX_OBJECT, SMALL, Trouble, is_refusal, refuses_the_node, speaks_api, whole};
use super::view::{Found, TOO_MANY_VIEWS};
use super::{Asked, Pipeline, old_metadata};
use crate::cache::filter::unknown_field;
use crate::cache::grants::Verdict;
use crate::cache::ring::is_local;
use crate::cache::version::{self, Unfit};
use crate::cache::{Cache, FrontError, NotKept, Scope};
use crate::clock;
use crate::cloud::Received;
use crate::identify::Caller;
use crate::respond::{self, Body, BoxError, Reason};

/// The largest list that is kept, in bytes; a larger one passes through.
const MAX_KEPT: usize = 64 << 20;
const NOT_HELD: &str = "the cloud cannot be reached, and this node does not hold what was asked for";
/// Not the whole answer by then (`left` counts on after its head): the store answers, if it can.
const VIEW_BOUND: Duration = Duration::from_millis(1800);

impl Pipeline {
    /// A read that is content with what a live collection has.
    pub(super) async fn fresh(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        if self.may_share(&asked).await {
            match self.held(&asked, Reason::Live, false, Scope::Live).await {
                Ok(Some(answer)) => return answer,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a view could not be read; the cloud is asked"),
            }
        }
        match asked.resource().and_then(version::not_older_than) {
            // The cloud would wait in vain for a version of this node's own.
            Some(local) if is_local(local) => {
                respond::unfit(Unfit::TooLarge { asked: local, held: 0 }, asked.encoding())
            }
            _ => self.read(asked).await,
        }
    }

    /// A read of the newest state.
    pub(super) async fn read(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        if let Some(request) = asked.resource()
            && let Some(page) = version::local_page(request)
        {
            // The cloud would wait in vain for it: this list began offline, over what the node wrote.
            return respond::unfit(page.old(request.namespace.as_deref()), asked.encoding());
        }
        match self.ask(&asked, Bytes::new(), VIEW_BOUND).await {
            Ok(answer) if refuses_the_node(&asked, &answer) => {
                match self.stand_in(&asked, Reason::Refused).await {
                    Some(view) => view,
                    None => self.answered(asked, answer).await,
                }
            }
            Ok(answer) => self.answered(asked, answer).await,
            Err(Trouble::Slow) => match self.stand_in(&asked, Reason::Slow).await {
                Some(view) => view,
                // Nothing is held: the client's patience decides, up to the apiserver's own bound.
                None => match self.ask(&asked, Bytes::new(), self.patient()).await {
                    Ok(answer) => self.answered(asked, answer).await,
                    Err(trouble) => self.troubled(&asked, trouble).await,
                },
            },
            Err(trouble) => match self.stand_in(&asked, Reason::Offline).await {
                Some(view) => view,
                None => self.troubled(&asked, trouble).await,
            },
        }
    }

    /// The view, if the caller may have it and it is held.
    async fn stand_in(&self, asked: &Asked, reason: Reason) -> Option<Response<Body>> {
        if asked.misfit().is_some() || self.may_read_offline(asked).await != Ok(true) {
            return None;
        }
        let warn = asked.resource().is_some_and(|r| r.options.resource_version.is_none());
        self.held(asked, reason, warn, Scope::Held).await.ok().flatten()
    }

    /// A read while the cloud is lost: the view, or the plain statement that there is none (P2, P8).
    pub(super) async fn view(&self, asked: &Asked, reason: Reason) -> Response<Body> {
        match self.may_read_offline(asked).await {
            Ok(true) => {}
            Ok(false) => return self.ungranted(asked),
            Err(refused) => {
                return asked.refuse(
                    refused,
                    "the cloud cannot be reached, and this credential was never seen while it could",
                );
            }
        }
        if let Some(refused) = asked.misfit() {
            return refused;
        }
        if asked.takes_nothing() {
            return self.unacceptable(asked).await;
        }
        let warn = asked.resource().is_some_and(|r| r.options.resource_version.is_none());
        match self.held(asked, reason, warn, Scope::Held).await {
            Ok(Some(answer)) => answer,
            Ok(None) => self.not_held(asked).await,
            Err(error) => asked.store_failed(&error),
        }
    }

    /// Nothing is held that could answer: because it asks for what does not exist, in a form that cannot be made, or
    /// because nobody read it.
    pub(super) async fn not_held(&self, asked: &Asked) -> Response<Body> {
        let Some(request) = asked.resource() else { return asked.refuse(Reason::NotHeld, NOT_HELD) };
        if let Some(message) = unknown_field(request) {
            return asked.refuse(Reason::BadRequest, message);
        }
        // Only of what is no built-in kind there is no protobuf: what the cloud could write is not held.
        let old = asked.wants_old_metadata();
        if old || asked.wanted.iter().any(|wanted| *wanted != Representation::PROTOBUF) {
            return asked.refuse(Reason::NotHeld, NOT_HELD);
        }
        match self.cache.forms(request).await {
            Ok(forms) if forms.contains(&Representation::JSON) => {
                respond::not_acceptable(&forms, request.verb)
            }
            Ok(_) => asked.refuse(Reason::NotHeld, NOT_HELD),
            Err(error) => asked.store_failed(&error),
        }
    }

    /// The client takes nothing that could be made: it is told what is held, if anything is.
    pub(super) async fn unacceptable(&self, asked: &Asked) -> Response<Body> {
        let Some(request) = asked.resource() else { return asked.refuse(Reason::NotHeld, NOT_HELD) };
        match self.cache.forms(request).await {
            Ok(forms) if forms.is_empty() => asked.refuse(Reason::NotHeld, NOT_HELD),
            Ok(forms) => respond::not_acceptable(&forms, request.verb),
            Err(error) => asked.store_failed(&error),
        }
    }

    /// The node reads what is its own: whatever else is not held for it, and it may ask again.
    pub(super) fn ungranted(&self, asked: &Asked) -> Response<Body> {
        match asked.caller {
            Caller::Node => asked.refuse(Reason::NotHeld, NOT_HELD),
            _ => asked.refuse(Reason::NotGranted, "the cloud never allowed this read to this caller"),
        }
    }

    /// The answer from the store; `None` when it does not hold what was asked for.
    async fn held(
        &self,
        asked: &Asked,
        reason: Reason,
        warn: bool,
        scope: Scope,
    ) -> Result<Option<Response<Body>>, FrontError> {
        let Some(request) = asked.resource() else { return Ok(None) };
        let table = match self.table(asked).await {
            Ok(table) => table.filter(|_| scope == Scope::Held),
            Err(bad) => return Ok(Some(asked.refuse(Reason::BadRequest, bad.message))),
        };
        let preferred = asked.preferred();
        let wanted = match (scope, &table) {
            (Scope::Held, Some(_)) => &[Representation::JSON],
            (Scope::Held, None) if asked.wants_old_metadata() => &[old_metadata::MADE_OF],
            (Scope::Held, None) => asked.wanted.as_slice(),
            _ => preferred.as_slice(),
        };
        let Some((found, share)) = self.weighed(asked, (wanted, scope, table)).await? else {
            return Ok(Some(asked.refuse(Reason::Overload, TOO_MANY_VIEWS)));
        };
        let view = match found {
            Found::View(view) if asked.wants_old_metadata() => view.in_old_metadata(request.verb)?,
            Found::View(view) => view,
            Found::Absent => {
                let name = request.name.as_deref().unwrap_or_default();
                return Ok(Some(respond::not_found(&request.resource, name, asked.encoding())));
            }
            Found::Unfit(why) => return Ok(self.unfit(asked, why, scope)),
            Found::Unknown => return Ok(None),
        };
        let (representation, observed_at) = (view.representation, view.observed_at);
        let length = view.exact_length();
        let mut response = Response::new(view.body(share));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(representation.content_type(false)));
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        respond::mark_cached(&mut response, clock::unix() - observed_at, reason, warn);
        Ok(Some(response))
    }

    /// What is held is not of the version that is asked for: the cloud may have it, if it can be asked.
    fn unfit(&self, asked: &Asked, why: Unfit, scope: Scope) -> Option<Response<Body>> {
        (scope == Scope::Held).then(|| respond::unfit(why, asked.encoding()))
    }

    /// The cloud answered: keep what can be kept, pass everything on.
    async fn answered(self: &Arc<Self>, asked: Asked, answer: Response<Received>) -> Response<Body> {
        let Some(request) = asked.resource() else { return self.pass_on(&asked, answer).await };
        if answer.status() == StatusCode::NOT_FOUND && speaks_api(&answer) && request.verb == Verb::Get {
            // That it does not exist is said only to those who may read it.
            self.learn(&asked);
            if request.subresource.is_none() {
                let (cache, request) = (Arc::clone(&self.cache), request.clone());
                self.keep_in_time(async move { cache.forget_object(&request).await }).await;
            }
        }
        if is_refusal(&answer) {
            self.unlearn(&asked, answer.status());
        }
        if answer.status() != StatusCode::OK {
            self.pages_end(&asked, answer.status());
            return self.pass_on(&asked, answer).await;
        }
        self.learn(&asked);
        let Some(form) = asked.form(answer.headers()) else {
            self.keep_beside(&asked);
            return self.pass_in_time(&asked, answer).await;
        };
        match request.verb {
            Verb::Get => self.keep_object(asked, form, answer).await,
            _ if !self.cache.keeps(&asked.caller.identity(), request) => self.pass_on(&asked, answer).await,
            _ if self.keeps_already(&asked, form) => self.pass_in_time(&asked, answer).await,
            _ => self.keep_list(asked, form, answer).await,
        }
    }

    /// A page that the cloud does not have ends its list; one that it only asks to wait for does not.
    fn pages_end(&self, asked: &Asked, code: StatusCode) {
        let token = asked.resource().and_then(|r| r.options.continue_token.as_deref());
        if let Some(token) = token.filter(|_| code != StatusCode::TOO_MANY_REQUESTS) {
            self.cache.pages.end(&asked.caller.identity(), token);
        }
    }

    fn keeps_already(&self, asked: &Asked, representation: Representation) -> bool {
        let live = |r| {
            let held = self.cache.registry.get(&Cache::key_of(r, representation));
            held.is_some_and(|c| c.state() == yurt_store::CollectionState::Live)
        };
        asked.resource().is_some_and(live)
    }

    async fn keep_object(
        self: &Arc<Self>,
        asked: Asked,
        representation: Representation,
        answer: Response<Received>,
    ) -> Response<Body> {
        let (parts, body) = answer.into_parts();
        let mut reading = Box::pin(whole(body, MAX_OBJECT));
        let read = match tokio::time::timeout(left(&asked), &mut reading).await {
            Ok(read) => read,
            Err(_) => match self.stand_in(&asked, Reason::Slow).await {
                Some(view) => {
                    let pipeline = Arc::clone(self);
                    self.keep_in_background(async move {
                        if let Ok(body) = reading.await {
                            pipeline.keep_body(&asked, representation, body).await;
                        }
                    });
                    return view;
                }
                None => reading.await,
            },
        };
        let body = match read {
            Ok(body) => body,
            Err(error) => return self.cut_short(&asked, &error).await,
        };
        let kept_lately = |request| self.cache.kept_lately(request, representation, &body);
        if asked.resource().is_some_and(kept_lately) {
            return self.pass_whole(parts, body);
        }
        let (pipeline, kept) = (Arc::clone(self), body.clone());
        // The client does not wait for the store.
        self.keep_in_background(async move { pipeline.keep_body(&asked, representation, kept).await });
        self.pass_whole(parts, body)
    }

    async fn keep_body(&self, asked: &Asked, representation: Representation, body: Bytes) {
        let Some(request) = asked.resource() else { return };
        if let Err(reason) = self.cache.keep_object(request, representation, &body).await {
            self.metrics.not_kept(reason);
        }
    }

    /// The link failed in the middle of an answer of which the client has seen nothing yet.
    async fn cut_short(&self, asked: &Asked, error: &BoxError) -> Response<Body> {
        self.metrics.not_kept(NotKept::CutShort);
        self.cloud.signal().report(crate::connectivity::Event::Doubtful);
        match self.stand_in(asked, Reason::Offline).await {
            Some(view) => view,
            None => asked.refuse(Reason::Offline, format!("the answer of the cloud was cut short: {error}")),
        }
    }

    /// Passes a list through as it comes, and keeps it when it is whole. The last bytes wait until it is
    /// kept: the watch that follows at once starts from it.
    async fn keep_list(
        self: &Arc<Self>,
        asked: Asked,
        representation: Representation,
        answer: Response<Received>,
    ) -> Response<Body> {
        let Some(request) = asked.resource().cloned() else { return self.pass_on(&asked, answer).await };
        let (pipeline, caller, at) = (Arc::clone(self), asked.caller.clone(), asked.at);
        let keep = Box::new(move |body: Bytes| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                // Who asks has to be known before its watch comes: only then can it share what is kept.
                let _ = pipeline.record(&caller, &request).await;
                let cache = &pipeline.cache;
                if let Err(reason) =
                    cache.keep_list(&request, representation, &body, &caller.identity(), at).await
                {
                    pipeline.metrics.not_kept(reason);
                }
            })
        });
        let passed = self.pass_and_keep(&asked, answer, MAX_KEPT, keep).await;
        self.or_stand_in(&asked, passed).await
    }

    /// Passes on what is not to be kept, unless its body is slow and the view can answer.
    async fn pass_in_time(self: &Arc<Self>, asked: &Asked, answer: Response<Received>) -> Response<Body> {
        if answer.body().size_hint().exact().is_none_or(|length| length > SMALL) {
            let passed = self.pass_and_keep(asked, answer, MAX_KEPT, self.learning_columns(asked)).await;
            return self.or_stand_in(asked, passed).await;
        }
        let (parts, body) = answer.into_parts();
        let mut reading = Box::pin(whole(body, MAX_OBJECT));
        let read = match tokio::time::timeout(left(asked), &mut reading).await {
            Ok(read) => read,
            Err(_) => match self.stand_in(asked, Reason::Slow).await {
                Some(view) => return view,
                None => reading.await,
            },
        };
        match read {
            Ok(body) => {
                self.learn_columns(asked, &body);
                self.pass_whole(parts, body)
            }
            Err(error) => self.cut_short(asked, &error).await,
        }
    }

    /// What has come in time; else the view, while the rest is read and kept. A page of a list is not in the view.
    async fn or_stand_in(&self, asked: &Asked, passed: Passed) -> Response<Body> {
        let reason = match tokio::time::timeout(left(asked), passed.came).await {
            Ok(Ok(())) => return passed.answer,
            Ok(Err(_)) => Reason::Offline,
            Err(_) => Reason::Slow,
        };
        if asked.resource().is_none_or(|r| r.options.continue_token.is_some()) {
            return passed.answer;
        }
        self.stand_in(asked, reason).await.unwrap_or(passed.answer)
    }

    /// Whether the caller may see what another one's credential opened, online.
    pub(super) async fn may_share(&self, asked: &Asked) -> bool {
        let Some(request) = asked.resource() else { return false };
        if asked.caller == Caller::Node && self.cache.node_may(request).await {
            return true;
        }
        let known = match request.verb {
            // It would last as a watch of its own: worth the wait until it is known whose it is.
            Verb::Watch => self.learn_user(&asked.caller).await,
            _ => self.user(&asked.caller).await,
        };
        let Ok(Some(user)) = known else { return false };
        match self.cache.grants.verdict(&user, request).await {
            Ok(Verdict::Fresh) => true,
            Ok(_) => {
                let identity = asked.caller.identity();
                let asking = crate::credential::reviews::may(&self.cloud, &identity, request);
                let Ok(allowed) = tokio::time::timeout(VIEW_BOUND, asking).await else { return false };
                let noting = async {
                    match allowed {
                        Some(true) => self.cache.grants.record(&user, request).await,
                        Some(false) => self.cache.grants.revoke(&user, request).await,
                        None => Ok(()),
                    }
                };
                // A store that hangs knows later what is known in memory at once.
                let noted = tokio::time::timeout(VIEW_BOUND, noting).await;
                allowed == Some(true) && !matches!(noted, Ok(Err(_)))
            }
            Err(_) => false,
        }
    }

    /// Whether the caller may read this while the cloud cannot be asked; `Err` when nobody knows it.
    pub(super) async fn may_read_offline(&self, asked: &Asked) -> Result<bool, Reason> {
        let Some(request) = asked.resource() else { return Ok(false) };
        let user =
            self.user(&asked.caller).await.map_err(|_| Reason::StoreFailed)?.ok_or(Reason::UnknownCaller)?;
        if asked.caller == Caller::Node {
            return Ok(self.cache.node_may(request).await);
        }
        let verdict = self.cache.grants.verdict(&user, request).await.map_err(|_| Reason::StoreFailed)?;
        Ok(verdict != Verdict::Unknown)
    }
}

/// How long the cloud has until the view answers instead.
pub(super) fn left(asked: &Asked) -> Duration {
    VIEW_BOUND.saturating_sub(asked.at.elapsed())
}
