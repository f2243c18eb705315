//! Lists of a version and lists in pages, from the store.
//!
//! A token names the version of the view and the place after the last object. The version can be shown again while the
//! cloud's rows stand still and the local writes of then are known: as they are now, or pinned when the page before
//! was sent. Otherwise the token has expired, as it would have in the cloud, where one that names a version of the
//! cloud's is good, too.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use yurt_api::collection::ObjectKey;
use yurt_api::continuation::Continuation;
use yurt_api::list::ListHeader;
use yurt_api::table::Form;
use yurt_store::{Reader, StoreError};

use super::collection::Collection;
use super::items::{each_item, written};
use super::pins::Masks;
use super::read::Candidate;
use super::ring::is_local;
use super::version::{State, Unfit, Wanted, reached};
use super::{Cache, FrontError, ListAnswer, ListView};
use crate::clock;

/// A view: local writes over rows of the cloud's.
pub(super) struct Seen {
    /// The local writes.
    pub(super) masks: Masks,
    /// The version of the view.
    view: u64,
    /// The rows must be of this version; `None` = as they are.
    pub(super) rows: Option<u64>,
}

impl Seen {
    /// The view as it is now.
    pub(super) fn now(collection: &Collection) -> Self {
        let (masks, view, _) = collection.overlaid();
        Seen { masks: Arc::new(masks), view, rows: None }
    }

    /// The version of the view when the rows are of `rows`.
    pub(super) fn version(&self, rows: u64) -> u64 {
        if is_local(self.view) || self.rows.is_some() { self.view } else { rows }
    }
}

/// A page as it was read.
struct Page {
    items: Vec<Bytes>,
    /// The version of the rows.
    rows: u64,
    /// The last object, when there are more.
    last: Option<ObjectKey>,
    /// How many more, where no selector leaves it open.
    remaining: Option<i64>,
}

impl Cache {
    /// The view of a collection that a list asks for.
    pub(super) fn seen(
        &self,
        collection: &Collection,
        asked: &Wanted,
        namespace: Option<&str>,
    ) -> Result<Seen, Unfit> {
        let (masks, view, cloud) = collection.overlaid();
        let now = |rows| Seen { masks: Arc::new(masks), view, rows };
        match asked.state {
            State::Newest => Ok(now(None)),
            State::AtLeast(version) => reached(version, cloud, view).map(|()| now(None)),
            State::Exactly(version) if version == view => Ok(now(Some(cloud))),
            State::Exactly(version) => {
                if let Some((rows, masks)) = self.pins.find(collection.key(), version, clock::monotonic()) {
                    return Ok(Seen { masks, view: version, rows: Some(rows) });
                }
                // What the cloud had stands unchanged under what the node wrote.
                if version == cloud {
                    return Ok(Seen { masks: Masks::default(), view: version, rows: Some(cloud) });
                }
                reached(version, cloud, view)?;
                Err(asked.old(namespace))
            }
        }
    }

    /// A page, or a list of a version.
    pub(super) async fn page(
        &self,
        candidate: Candidate,
        table: Option<Form>,
        seen: Seen,
        asked: &Wanted,
    ) -> Result<ListAnswer, FrontError> {
        let (collection, masks, rows) =
            (Arc::clone(&candidate.collection), Arc::clone(&seen.masks), seen.rows);
        let (start, limit) = (asked.start.as_ref().map(|s| s.start.clone()), asked.limit);
        let countable = asked.countable;
        let namespace = candidate.filter.namespace.clone().or_else(|| collection.key().namespace.clone());
        let (of, kept) = (namespace.clone(), Arc::clone(&masks));
        let reading = self.front.read(move |reader| {
            let mut page = read(reader, &candidate, &masks, start.as_deref(), limit)?;
            if let Some(last) = page.last.as_ref().filter(|_| countable) {
                page.remaining = Some(remaining(reader, &candidate, &masks, last)?);
            }
            if rows.is_some_and(|rows| rows != page.rows) {
                return Ok(None);
            }
            let (rows, more) = (page.rows, page.last.is_some());
            let version = seen.version(rows);
            Ok(Some((page.written(&candidate, table.as_ref(), version, of.as_deref())?, rows, more)))
        });
        let Some((view, rows, more)): Option<(ListView, u64, bool)> = reading.await? else {
            return Ok(ListAnswer::Unfit(asked.old(namespace.as_deref())));
        };
        if more && !kept.is_empty() {
            self.pins.keep(collection.key(), view.version, rows, kept, clock::monotonic());
        }
        Ok(ListAnswer::Held(view))
    }
}

impl Page {
    fn written(
        self,
        candidate: &Candidate,
        table: Option<&Form>,
        version: u64,
        namespace: Option<&str>,
    ) -> Result<ListView, StoreError> {
        let token = |last: &ObjectKey| Continuation::after(Some(version), last).encode(namespace);
        let header = ListHeader {
            resource_version: version,
            continue_token: self.last.as_ref().map(token).unwrap_or_default(),
            remaining: self.remaining,
            ..candidate.collection.header()
        };
        written(candidate, table, header, self.items)
    }
}

fn read(
    reader: &Reader,
    candidate: &Candidate,
    masks: &Masks,
    start: Option<&str>,
    limit: Option<u64>,
) -> Result<Page, StoreError> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let (mut items, mut last, mut more) = (Vec::new(), None, false);
    let rows = each_item(reader, candidate, masks, start, &mut |key, item| {
        if items.len() == limit {
            more = true;
            return ControlFlow::Break(());
        }
        items.push(item);
        last = Some(key.clone());
        ControlFlow::Continue(())
    })?;
    Ok(Page { items, rows, last: last.filter(|_| more), remaining: None })
}

/// How many objects stand behind `last` in the view.
fn remaining(
    reader: &Reader,
    candidate: &Candidate,
    masks: &Masks,
    last: &ObjectKey,
) -> Result<i64, StoreError> {
    let namespace = candidate.filter.namespace.as_deref();
    let behind = |key: &ObjectKey| key > last && namespace.is_none_or(|n| n == key.namespace);
    let masks: Vec<_> = masks.iter().filter(|(key, _)| behind(key)).collect();
    let keys: Vec<ObjectKey> = masks.iter().map(|(key, _)| (*key).clone()).collect();
    let start = format!("{last}\0");
    let (rows, there) = reader.count_from(candidate.collection.id(), namespace, &start, &keys)?;
    let seen =
        masks.iter().zip(there).map(|((_, mask), row)| i64::from(mask.body.is_some()) - i64::from(row));
    Ok(rows.cast_signed() + seen.sum::<i64>())
}
