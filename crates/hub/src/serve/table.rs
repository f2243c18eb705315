//! Tables for people, of what is held: kubectl asks for them first, and the apiserver cannot make them now.

use bytes::Bytes;
use yurt_api::error::BadRequest;
use yurt_api::object;
use yurt_api::representation::{Accepted, Encoding, TableVersion};
use yurt_api::table::{self, Form, Include};

use super::Asked;
use crate::cache::{FrontError, ObjectView};
use crate::clock;

impl Asked {
    /// The version of the table that the client likes best of all that can be made.
    fn table_version(&self) -> Option<TableVersion> {
        match self.accepted.iter().find(|a| !matches!(a, Accepted::Other(_))) {
            Some(Accepted::Table(version)) => Some(*version),
            _ => None,
        }
    }

    /// The table that the client wants; `None` when it wants objects.
    pub(super) fn table(&self) -> Result<Option<Form>, BadRequest> {
        let Some(version) = self.table_version() else { return Ok(None) };
        Ok(Some(Form { version, include: Include::of_query(&self.info.query)? }))
    }

    /// Whether nothing can be made that the client takes.
    pub(super) fn takes_nothing(&self) -> bool {
        self.wanted.is_empty() && self.table_version().is_none()
    }
}

/// One object, held in JSON, as a table.
pub(super) fn of_object(form: Form, view: &ObjectView) -> Result<Bytes, FrontError> {
    let item = object::to_item(Encoding::Json, &view.body);
    let table = item.and_then(|item| table::single(form, &view.kind, &item, clock::unix(), true));
    table.map_err(|e| FrontError::Store(yurt_store::StoreError::Damaged(e.to_string())))
}
