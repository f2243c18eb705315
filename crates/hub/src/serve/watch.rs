//! WATCH: from a collection that is shared by all who may, or passed through while one fills.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use http::{HeaderValue, Response, StatusCode, header};
use tokio::sync::oneshot;
use yurt_api::error::BadRequest;
use yurt_api::representation::Representation;
use yurt_api::request::ResourceRequest;
use yurt_store::CollectionState;

use super::through::{Filled, Onward};
use super::told::Next;
use super::upstream::{Trouble, is_refusal, refuses_the_node};
use super::view::TOO_MANY_VIEWS;
use super::{Asked, Pipeline, old_metadata};
use crate::cache::ring::is_local;
use crate::cache::version::{self, Unfit};
use crate::cache::{Cache, FrontError, Scope, Served, WatchPlan, WatchRequest};
use crate::clock;
use crate::metrics::Moved;
use crate::respond::{self, Body, BoxError, Reason};

/// How long a watch waits for the link when nothing else can be done.
const OPEN_BOUND: Duration = Duration::from_secs(30);

impl Pipeline {
    /// A watch.
    pub(super) async fn watch(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        if self.connectivity.reachable() {
            return self.watch_online(asked).await;
        }
        let answer = self.watch_offline(&asked).await;
        self.or_when_started(answer, asked).await
    }

    async fn watch_online(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        let Some(request) = asked.resource() else { return asked.refuse(Reason::BadRequest, "no resource") };
        if !needs_upstream(request)
            && self.may_share(&asked).await
            && let Some(answer) = self.shared(&asked, request).await
        {
            return answer;
        }
        let version = request.options.resource_version.as_deref().and_then(|v| v.parse().ok());
        if let Some(local) = version.filter(|v| is_local(*v)) {
            // The cloud never had such a version, and would let the client wait for it.
            return respond::unfit_watch(Unfit::OldWatch { asked: local, oldest: 0 }, asked.encoding());
        }
        self.watch_through(asked).await
    }

    /// The watch from a collection of the very representation that is asked for, its reflector running.
    async fn shared(self: &Arc<Self>, asked: &Asked, request: &ResourceRequest) -> Option<Response<Body>> {
        let preferred = asked.preferred()?;
        let wanted = std::slice::from_ref(&preferred);
        let plan = WatchRequest { request, wanted, scope: Scope::Same, table: None, columns: None };
        let served = match self.planned(asked, plan).await.ok()? {
            WatchPlan::Served(served) => served,
            WatchPlan::NoRoom => return Some(asked.refuse(Reason::Overload, TOO_MANY_VIEWS)),
            _ => return None,
        };
        // The state that a watch from no version begins with has to be of now, not of an old list.
        let from_now = request.options.resource_version.as_deref().is_none_or(|v| v == "0");
        if from_now && served.collection.state() != CollectionState::Live {
            return None;
        }
        if !may_be_kept_up(&served) || served.may_be_passed_over() {
            return None;
        }
        self.keep_up(&served, asked);
        // What the store cannot take passes by it.
        (!served.collection.is_behind()).then(|| self.stream(served, asked, Reason::Live))
    }

    /// A collection that is watched is reflected, with this caller's credential among others.
    fn keep_up(&self, served: &Served, asked: &Asked) {
        let collection = &served.collection;
        // Whoever may read a part only cannot ask the cloud for all of it.
        if served.is_all() {
            collection.sponsor(&asked.caller.identity());
        }
        collection.touch();
        self.cache.reflect(collection);
    }

    async fn watch_offline(&self, asked: &Asked) -> Response<Body> {
        let Some(request) = asked.resource() else { return asked.refuse(Reason::BadRequest, "no resource") };
        match self.may_read_offline(asked).await {
            Ok(true) => {}
            Ok(false) => return self.ungranted(asked),
            Err(refused) => {
                return asked
                    .refuse(refused, "this credential was never seen while the cloud could be reached");
            }
        }
        if let Some(refused) = asked.misfit() {
            return refused;
        }
        if asked.takes_nothing() {
            return self.unacceptable(asked).await;
        }
        match self.held_watch(asked, request).await {
            Ok(Ok(WatchPlan::Served(served))) => self.flowing(served, asked, asked.reason),
            Ok(Ok(WatchPlan::Unfit(why))) => respond::unfit_watch(why, asked.encoding()),
            Ok(Ok(WatchPlan::NotHeld)) => self.not_held(asked).await,
            Ok(Ok(WatchPlan::NoRoom)) => asked.refuse(Reason::Overload, TOO_MANY_VIEWS),
            Ok(Err(error)) => asked.store_failed(&error),
            Err(bad) => asked.refuse(Reason::BadRequest, bad.message),
        }
    }

    /// The watch from whatever is held, when the cloud fails at it before anybody has judged the link.
    async fn stand_in_watch(&self, asked: &Asked, reason: Reason) -> Option<Response<Body>> {
        let request = asked.resource()?;
        if asked.misfit().is_some() || asked.takes_nothing() || self.may_read_offline(asked).await != Ok(true)
        {
            return None;
        }
        match self.held_watch(asked, request).await {
            Ok(Ok(WatchPlan::Served(served))) => Some(self.flowing(served, asked, reason)),
            _ => None,
        }
    }

    async fn held_watch(
        &self,
        asked: &Asked,
        request: &ResourceRequest,
    ) -> Result<Result<WatchPlan, FrontError>, BadRequest> {
        let table = self.table(asked).await?;
        let wanted = match table {
            Some(_) => &[Representation::JSON],
            None if asked.wants_old_metadata() => &[old_metadata::MADE_OF],
            None => asked.wanted.as_slice(),
        };
        let plan = WatchRequest { request, wanted, scope: Scope::Held, table, columns: None };
        Ok(self.planned(asked, plan).await)
    }

    /// When the link comes back somebody has to keep up to date what is watched.
    fn flowing(&self, served: Box<Served>, asked: &Asked, reason: Reason) -> Response<Body> {
        self.keep_up(&served, asked);
        self.stream(served, asked, reason)
    }

    fn stream(&self, served: Box<Served>, asked: &Asked, reason: Reason) -> Response<Body> {
        let age = clock::unix() - served.collection.observed_at();
        let content_type = served.representation.content_type(true);
        let body = match asked.wants_old_metadata() {
            true => respond::streaming(served.stream().map_ok(|frame| old_metadata::frame(&frame))),
            false => respond::streaming(served.stream()),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        respond::mark_cached(&mut response, age, reason, false);
        response
    }

    /// A watch of its own upstream, its bytes untouched, and a collection that fills beside it so that
    /// the rest of this one, the next one and the next outage are served from here.
    async fn watch_through(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        let answer = match self.ask(&asked, Bytes::new(), OPEN_BOUND).await {
            Ok(answer) if refuses_the_node(&asked, &answer) => {
                match self.stand_in_watch(&asked, Reason::Refused).await {
                    Some(view) => return view,
                    None => answer,
                }
            }
            Ok(answer) => answer,
            Err(_) if !self.connectivity.reachable() => return self.watch_offline(&asked).await,
            Err(trouble) => {
                let reason = if matches!(trouble, Trouble::Slow) { Reason::Slow } else { Reason::Offline };
                return match self.stand_in_watch(&asked, reason).await {
                    Some(view) => view,
                    None => self.troubled(&asked, trouble).await,
                };
            }
        };
        if is_refusal(&answer) {
            self.unlearn(&asked, answer.status());
        }
        if answer.status() != StatusCode::OK {
            return self.pass_on(&asked, answer).await;
        }
        self.learn(&asked);
        let request = asked.resource().cloned();
        let form = asked.form(answer.headers());
        let tables = form.is_none() && asked.wants_tables();
        let beside = match form {
            Some(form) => self.fill(&asked, form).map(|filled| (form, filled)),
            None if tables => self.stand_by(&asked).map(|filled| (Representation::JSON, filled)),
            None => None,
        };
        let onward = beside.map(|(form, filled)| Onward::new(Arc::clone(self), asked, form, filled));
        self.pass_stream(request.as_ref(), answer, tables, onward)
    }

    /// What tables can be made of when the cloud's are lost: what is followed already, or a collection of its own.
    fn stand_by(self: &Arc<Self>, asked: &Asked) -> Option<Filled> {
        match self.cache.stand_by(asked.resource()?) {
            Some(_) => Some(Filled::Yes),
            None => self.fill(asked, Representation::JSON),
        }
    }

    /// Begins to fill the collection of a watch; what it returns is told when it is held.
    fn fill(self: &Arc<Self>, asked: &Asked, representation: Representation) -> Option<Filled> {
        let request = asked.resource().filter(|r| r.name.is_none())?;
        let key = Cache::key_of(request, representation);
        let (pipeline, identity) = (Arc::clone(self), asked.caller.identity());
        let (tell, filled) = oneshot::channel();
        crate::tasks::spawn("fill", crate::tasks::Failure::Local, async move {
            match pipeline.cache.fill(key.clone(), identity).await {
                // The client may have gone.
                Ok(()) => drop(tell.send(())),
                Err(reason) => {
                    pipeline.metrics.not_kept(reason);
                    tracing::debug!(collection = %key, %reason, "a watched collection is not filled");
                }
            }
        });
        Some(Filled::Waiting(filled))
    }

    /// The watch of one object from now on, if it still is what the client was told. Nobody's history reaches back to the
    /// version of an object that has not changed for long.
    async fn unchanged(&self, asked: &Asked, plan: WatchRequest<'_>, version: u64) -> Option<Box<Served>> {
        let mut request = plan.request.clone();
        request.options.resource_version = None;
        let plan = WatchRequest { request: &request, ..plan };
        let WatchPlan::Served(mut served) = self.planned(asked, plan).await.ok()? else { return None };
        served.skip_known(version).then_some(served)
    }

    /// The rest of a watch that was passed through so far. One that was lost is the view's to go on with, as of a cloud
    /// that fails; otherwise the caller must be one who may share. `None` when no collection can go on there.
    pub(super) async fn go_on(
        self: &Arc<Self>,
        asked: &Asked,
        plan: WatchRequest<'_>,
        next: Next,
        moved: Moved,
    ) -> Option<impl Stream<Item = Result<Bytes, BoxError>> + use<>> {
        let may = match moved {
            Moved::Lost => self.may_read_offline(asked).await == Ok(true),
            Moved::Filled => self.may_share(asked).await,
        };
        if !may {
            return None;
        }
        let served = match (self.planned(asked, plan.clone()).await.ok()?, next) {
            (WatchPlan::Served(served), _) => served,
            (WatchPlan::Unfit(Unfit::OldWatch { .. }), Next::Object(version)) => {
                self.unchanged(asked, plan, version).await?
            }
            _ => return None,
        };
        if moved == Moved::Filled && (!may_be_kept_up(&served) || served.may_be_passed_over()) {
            return None;
        }
        self.keep_up(&served, asked);
        // What the store cannot take passes by it.
        (!served.collection.is_behind()).then(|| served.stream())
    }
}

/// Whether there is a credential to reflect the collection with: a caller who gets a part of it gives none, nor does
/// whoever only listed it, and those of before a restart are gone.
fn may_be_kept_up(served: &Served) -> bool {
    served.is_all() || served.collection.credential().is_some()
}

/// Whether only upstream can prove what the watch asks for: a streaming list as of now, or judge what
/// is wrong with it.
fn needs_upstream(request: &ResourceRequest) -> bool {
    let options = &request.options;
    let as_of_now = options.send_initial_events == Some(true) && options.resource_version.is_none();
    as_of_now || version::start_of_watch(options).is_err()
}
