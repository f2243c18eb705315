//! Answers from the store on their way to a client: weighed, because they are whole in memory before it has taken any
//! of them, and cut off when nobody takes them (P9).

use bytes::Bytes;
use yurt_api::representation::Representation;
use yurt_api::request::{ResourceRequest, Verb};
use yurt_api::table::Form;
use yurt_store::StoreError;

use super::flow::Flow;
use super::read::left;
use super::upstream::{SMALL, WRITE_BOUND};
use super::{Asked, Pipeline, old_metadata, table};
use crate::cache::version::Unfit;
use crate::cache::{FrontError, ListAnswer, ObjectAnswer, Scope, ViewShare, WatchPlan, WatchRequest};
use crate::respond::{self, Body};
use crate::tasks;

/// What is said when the memory for views is taken.
pub(super) const TOO_MANY_VIEWS: &str = "too many answers wait for their clients: try again";
/// Bytes that are sent in one piece.
const PIECE: usize = 64 << 10;

/// What a read finds in the store.
pub(super) enum Found {
    /// The answer.
    View(View),
    /// The object does not exist.
    Absent,
    /// What is held is not of the version that is asked for.
    Unfit(Unfit),
    /// Nothing.
    Unknown,
}

/// An answer that was read whole.
pub(super) struct View {
    pieces: Vec<Bytes>,
    pub(super) representation: Representation,
    pub(super) observed_at: i64,
    /// A small object, which costs less than its weighing.
    light: bool,
}

impl Found {
    /// What it takes of the memory for views, in bytes.
    fn weight(&self) -> usize {
        match self {
            Found::View(view) if !view.light => view.length(),
            _ => 0,
        }
    }
}

impl View {
    fn length(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// The same in the types of `meta.k8s.io/v1beta1`; it is metadata alone in JSON.
    pub(super) fn in_old_metadata(self, verb: Verb) -> Result<Self, FrontError> {
        let made = old_metadata::answer(&self.pieces.concat(), verb == Verb::List);
        let whole = made.map_err(|e| StoreError::Damaged(e.to_string()))?;
        Ok(View { pieces: vec![whole], ..self })
    }

    /// The body; it holds `share` until the client has taken it, and gives up a client that takes nothing.
    pub(super) fn body(self, share: Option<ViewShare>) -> Body {
        match <[Bytes; 1]>::try_from(self.pieces) {
            Ok([whole]) if self.light => respond::full(whole),
            Ok(whole) => in_time(whole.into(), share),
            Err(pieces) => in_time(pieces, share),
        }
    }

    /// What to say of its length; lists are sent without.
    pub(super) fn exact_length(&self) -> Option<usize> {
        (self.pieces.len() == 1).then(|| self.length())
    }
}

impl Pipeline {
    /// What the store has for a request, with its share of the memory for views. Who finds none free waits for it in
    /// order of arrival, lets go what was read, and reads again. `None` when there is none in time.
    pub(super) async fn weighed(
        &self,
        asked: &Asked,
        (wanted, scope, table): (&[Representation], Scope, Option<Form>),
    ) -> Result<Option<(Found, Option<ViewShare>)>, FrontError> {
        let Some(request) = asked.resource() else { return Ok(Some((Found::Unknown, None))) };
        let found = self.find(request, wanted, scope, table.clone()).await?;
        let weight = found.weight();
        if weight == 0 {
            return Ok(Some((found, None)));
        }
        if let Some(share) = self.cache.views.now(&asked.caller.identity(), weight) {
            return Ok(Some((found, Some(share))));
        }
        drop(found);
        let Some(mut share) = self.room(asked, weight).await else { return Ok(None) };
        let found = self.find(request, wanted, scope, table).await?;
        Ok(share.grow(found.weight()).then_some((found, Some(share))))
    }

    /// A planned watch; it has its share of the memory for views, as [`Pipeline::weighed`].
    pub(super) async fn planned(
        &self,
        asked: &Asked,
        plan: WatchRequest<'_>,
    ) -> Result<WatchPlan, FrontError> {
        let mut served = match self.cache.watch(plan.clone()).await? {
            WatchPlan::Served(served) => served,
            other => return Ok(other),
        };
        let weight = served.begins_with();
        if let Some(share) = self.cache.views.now(&asked.caller.identity(), weight) {
            served.hold(share);
            return Ok(WatchPlan::Served(served));
        }
        drop(served);
        let Some(mut share) = self.room(asked, weight).await else { return Ok(WatchPlan::NoRoom) };
        match self.cache.watch(plan).await? {
            WatchPlan::Served(mut served) if share.grow(served.begins_with()) => {
                served.hold(share);
                Ok(WatchPlan::Served(served))
            }
            WatchPlan::Served(_) => Ok(WatchPlan::NoRoom),
            other => Ok(other),
        }
    }

    /// Waits for a share until the answer would come too late.
    async fn room(&self, asked: &Asked, weight: usize) -> Option<ViewShare> {
        self.metrics.views_waited.inc();
        let share = self.cache.views.soon(&asked.caller.identity(), weight, left(asked)).await;
        if share.is_none() {
            self.metrics.views_refused.inc();
        }
        share
    }

    async fn find(
        &self,
        request: &ResourceRequest,
        wanted: &[Representation],
        scope: Scope,
        table: Option<Form>,
    ) -> Result<Found, FrontError> {
        if request.verb == Verb::List {
            let answer = match table {
                Some(form) => self.cache.table(request, form).await?,
                None => self.cache.list(request, wanted, scope).await?,
            };
            return Ok(found_list(answer));
        }
        Ok(match self.cache.object(request, wanted, scope).await? {
            ObjectAnswer::Held(view) => {
                let body = match &table {
                    Some(form) => table::of_object(form, &view)?,
                    None => view.body,
                };
                let light = body.len() as u64 <= SMALL;
                let (representation, observed_at) = (view.representation, view.observed_at);
                Found::View(View { pieces: vec![body], representation, observed_at, light })
            }
            ObjectAnswer::Absent => Found::Absent,
            ObjectAnswer::Unfit(why) => Found::Unfit(why),
            ObjectAnswer::Unknown => Found::Unknown,
        })
    }
}

fn found_list(answer: ListAnswer) -> Found {
    match answer {
        ListAnswer::Held(view) => {
            let (pieces, representation, observed_at) = (view.pieces, view.representation, view.observed_at);
            Found::View(View { pieces, representation, observed_at, light: false })
        }
        ListAnswer::Unfit(why) => Found::Unfit(why),
        ListAnswer::Unknown => Found::Unknown,
    }
}

/// A body in pieces, for a client that takes each in time.
fn in_time(pieces: Vec<Bytes>, share: Option<ViewShare>) -> Body {
    if pieces.iter().map(|p| p.len() as u64).sum::<u64>() <= SMALL {
        return respond::pieces(pieces, share);
    }
    let (flow, body) = Flow::new();
    tasks::spawn("view", tasks::Failure::Local, async move {
        for mut rest in pieces {
            while !rest.is_empty() {
                let piece = rest.split_to(PIECE.min(rest.len()));
                if flow.send_within(WRITE_BOUND, piece).await.is_err() {
                    return;
                }
            }
        }
        if flow.taken_within(WRITE_BOUND).await.is_ok() {
            flow.end();
        }
        drop(share);
    });
    body
}
