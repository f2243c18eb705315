//! How the events of a watch are written: as objects, or as tables of one row.

use bytes::Bytes;
use yurt_api::object;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::resource::TypeMeta;
use yurt_api::status::Status;
use yurt_api::table::{self, Form};
use yurt_api::watch::{self as frames, EventType};

use crate::clock;
use crate::respond;

/// The hand in which one watcher's events are written.
#[derive(Clone)]
pub(super) struct Pen {
    encoding: Encoding,
    kind: TypeMeta,
    table: Option<Form>,
    /// Nothing has been written yet: only the first table describes its columns.
    first: bool,
    /// The client was told of the very columns before.
    described: bool,
}

impl Pen {
    /// Of objects of this type in this form, or of tables of them, which are JSON.
    pub(super) fn new(form: Representation, kind: &TypeMeta, table: Option<Form>) -> Self {
        Pen {
            encoding: form.encoding,
            kind: respond::written_type(form, kind),
            table,
            first: true,
            described: false,
        }
    }

    /// Goes on with tables of which another hand wrote the first ones: their columns are described again only if they
    /// are others.
    pub(super) fn after(mut self, definitions: Option<&[u8]>) -> Self {
        let told = |form| definitions.is_some_and(|told| table::stands_under(form, &self.kind, told));
        self.described = self.table.as_ref().is_some_and(told);
        self.begin();
        self
    }

    /// What was written so far nobody is shown.
    pub(super) fn begin(&mut self) {
        self.first = !self.described;
    }

    /// Whether an object stands as it is in a frame.
    pub(super) fn is_plain(&self) -> bool {
        self.table.is_none()
    }

    /// The frame of an event; the item is in item form and in this pen's form.
    pub(super) fn event(&mut self, kind: EventType, item: &[u8]) -> Bytes {
        let headers = std::mem::replace(&mut self.first, false);
        let table = self.table.as_ref().and_then(|form| {
            let made = table::single(form, &self.kind, item, clock::unix(), headers);
            // The apiserver, too, shows the object itself when it cannot make a row of it.
            made.inspect_err(|error| tracing::warn!(%error, kind = self.kind.kind, "no row can be made")).ok()
        });
        let object = table.unwrap_or_else(|| object::to_object(self.encoding, item, &self.kind));
        frames::encode(self.encoding, kind, &object)
    }

    /// The frame of a bookmark, with the annotation of the end of the initial events if they end here.
    pub(super) fn bookmark(&mut self, version: u64, initial_end: bool) -> Bytes {
        let headers = std::mem::replace(&mut self.first, false);
        match &self.table {
            Some(form) => {
                let table = table::bookmark(form, &self.kind, version, initial_end, headers);
                frames::encode(self.encoding, EventType::Bookmark, &table)
            }
            None => frames::bookmark(self.encoding, &self.kind, version, initial_end),
        }
    }

    /// The frame that tells a watcher to list again.
    pub(super) fn expired(&self) -> Bytes {
        let message = "the watch is too slow or its version too old: list again";
        let status = Status::failure(410, "Expired", message);
        frames::encode(self.encoding, EventType::Error, &status.encode(self.encoding))
    }
}
