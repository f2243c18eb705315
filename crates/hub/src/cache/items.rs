//! The items of a view as a client gets them: filtered, under the local writes, in the form that it takes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use yurt_api::collection::ObjectKey;
use yurt_api::list::{self, ListHeader};
use yurt_api::object::Attributes;
use yurt_api::representation::Representation;
use yurt_api::resource::TypeMeta;
use yurt_api::table::{self, Form};
use yurt_store::{Reader, StoreError};

use super::collection::Mask;
use super::page::Seen;
use super::read::{Candidate, ListView};
use crate::clock;
use crate::respond;

/// The whole view, ready to send.
pub(super) fn assemble(
    reader: &Reader,
    candidate: &Candidate,
    table: Option<&Form>,
    seen: &Seen,
) -> Result<ListView, StoreError> {
    let mut items: Vec<Bytes> = Vec::new();
    let rows = each_item(reader, candidate, &seen.masks, None, &mut |_, item| {
        items.push(item);
        ControlFlow::Continue(())
    })?;
    let version = seen.version(rows);
    written(
        candidate,
        table,
        ListHeader { resource_version: version, ..candidate.collection.header() },
        items,
    )
}

/// The answer that these items are.
pub(super) fn written(
    candidate: &Candidate,
    table: Option<&Form>,
    header: ListHeader,
    items: Vec<Bytes>,
) -> Result<ListView, StoreError> {
    let collection = &candidate.collection;
    let version = header.resource_version;
    let pieces = match table {
        Some(form) => tabulate(form, collection.item_type(), &header, items)?,
        None => list::assemble(
            candidate.representation.encoding,
            &header_as(candidate.representation, header),
            &items,
        ),
    };
    let observed_at = collection.observed_at();
    Ok(ListView { pieces, representation: candidate.representation, observed_at, version })
}

/// The header of a list whose items are written in this form.
fn header_as(form: Representation, header: ListHeader) -> ListHeader {
    if !form.metadata_only {
        return header;
    }
    let item = respond::written_type(form, &header.type_meta);
    let type_meta = TypeMeta::new(&item.api_version, &format!("{}List", item.kind));
    ListHeader { type_meta, typed_items: true, item_type: Some(item), ..header }
}

/// JSON items as a table; each goes as its row comes.
fn tabulate(
    form: &Form,
    kind: &TypeMeta,
    header: &ListHeader,
    items: Vec<Bytes>,
) -> Result<Vec<Bytes>, StoreError> {
    let now = clock::unix();
    let row = |item: Bytes| table::row(form, kind, &item, now);
    let rows: Result<Vec<Bytes>, _> = items.into_iter().map(row).collect();
    let rows = rows.map_err(|e| StoreError::Damaged(e.to_string()))?;
    Ok(table::assemble_page(form, kind, header, true, &rows))
}

/// Hands every item of the view from the key `start` on to `each`, in the order of keys, as the client gets it in
/// item form, until `each` breaks. Returns the version of the cloud's rows.
pub(super) fn each_item(
    reader: &Reader,
    candidate: &Candidate,
    masks: &BTreeMap<ObjectKey, Mask>,
    start: Option<&str>,
    each: &mut dyn FnMut(&ObjectKey, Bytes) -> ControlFlow<()>,
) -> Result<u64, StoreError> {
    let writing = Writing { candidate, from: candidate.collection.key().representation };
    let reached = |key: &ObjectKey| start.is_none_or(|start| key.to_string().as_str() >= start);
    let mut masks = masks.iter().filter(|(key, _)| reached(key)).peekable();
    let mut over: Option<Result<(), StoreError>> = None;
    let mut tell = |key: &ObjectKey, body: Option<&Bytes>| {
        if over.is_some() {
            return ControlFlow::Break(());
        }
        let step = match body.map(|b| writing.item(b)).transpose() {
            Ok(None | Some(None)) => return ControlFlow::Continue(()),
            Ok(Some(Some(item))) => each(key, item).map_break(Ok),
            Err(error) => ControlFlow::Break(Err(error)),
        };
        step.map_break(|end| over = Some(end))
    };
    let (id, namespace) = (candidate.collection.id(), candidate.filter.namespace.as_deref());
    let rows = reader.list_from(id, namespace, start, &mut |row| {
        // Objects that only the node knows stand between the rows.
        while let Some((key, mask)) = masks.next_if(|(key, _)| **key < row.key) {
            tell(key, mask.body.as_ref())?;
        }
        match masks.next_if(|(key, _)| **key == row.key) {
            Some((key, mask)) => tell(key, mask.body.as_ref()),
            None => tell(&row.key, Some(&row.body)),
        }
    });
    let record = candidate.collection.checked(rows)?;
    for (key, mask) in masks {
        if tell(key, mask.body.as_ref()).is_break() {
            break;
        }
    }
    over.unwrap_or(Ok(()))?;
    Ok(record.header.resource_version)
}

/// How items are filtered and written for one answer.
struct Writing<'a> {
    candidate: &'a Candidate,
    from: Representation,
}

impl Writing<'_> {
    /// The item as the client gets it; `None` when it does not belong to the asked part.
    fn item(&self, item: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let collection = &self.candidate.collection;
        let broken = |e: yurt_api::error::DecodeError| StoreError::Damaged(e.to_string());
        if !self.candidate.filter.is_everything() {
            let resource = &collection.key().resource;
            let attributes = Attributes::read(resource, self.from.encoding, item).map_err(broken)?;
            if !self.candidate.filter.matches(&attributes) {
                return Ok(None);
            }
        }
        let to = self.candidate.representation;
        let written = respond::item_as(self.from, to, collection.item_type(), item);
        written.map(Some).map_err(|e| StoreError::Damaged(e.to_string()))
    }
}
