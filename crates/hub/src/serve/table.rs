//! Tables for people, of what is held: kubectl asks for them first, and the apiserver cannot make them now.

use std::sync::Arc;

use bytes::Bytes;
use yurt_api::error::BadRequest;
use yurt_api::object;
use yurt_api::representation::{Accepted, Encoding, TableVersion};
use yurt_api::resource::Resource;
use yurt_api::table::{self, Form, Include};

use super::keep::Keep;
use super::{Asked, Pipeline};
use crate::cache::columns::knows_no_columns;
use crate::cache::{FrontError, ObjectView};
use crate::clock;

impl Asked {
    /// The version of the table that the client likes best of all that can be made.
    fn table_version(&self) -> Option<TableVersion> {
        match self.best() {
            Some(Accepted::Table(version)) => Some(*version),
            _ => None,
        }
    }

    /// The table that the client wants; `None` when it wants objects.
    fn table(&self) -> Result<Option<Form>, BadRequest> {
        let Some(version) = self.table_version() else { return Ok(None) };
        Ok(Some(Form { version, include: Include::of_query(&self.info.query)?, columns: None }))
    }

    /// Whether tables are what the client likes best.
    pub(super) fn wants_tables(&self) -> bool {
        self.table_version().is_some()
    }

    /// The custom resource of which the cloud's answer may be a table.
    fn custom_table(&self) -> Option<Resource> {
        let may_be = self.accepted.iter().any(|a| matches!(a, Accepted::Table(_)));
        let resource = &self.resource().filter(|_| may_be)?.resource;
        knows_no_columns(resource).then(|| resource.clone())
    }

    /// Whether nothing can be made that the client takes.
    pub(super) fn takes_nothing(&self) -> bool {
        self.wanted.is_empty() && self.table_version().is_none() && !self.wants_old_metadata()
    }
}

impl Pipeline {
    /// The table that the client wants, with the columns that are known of a custom resource.
    pub(super) async fn table(&self, asked: &Asked) -> Result<Option<Form>, BadRequest> {
        let Some(mut form) = asked.table()? else { return Ok(None) };
        if let Some(request) = asked.resource() {
            form.columns = self.cache.columns(&request.resource).await;
        }
        Ok(Some(form))
    }

    /// Takes note of the columns of a table that has come; nobody waits for it.
    pub(super) fn learn_columns(&self, asked: &Asked, body: &Bytes) {
        if let Some(resource) = asked.custom_table() {
            let (cache, body) = (Arc::clone(&self.cache), body.clone());
            self.keep_in_background(async move { cache.keep_columns(&resource, &body).await });
        }
    }

    /// The same of one that passes as it comes.
    pub(super) fn learning_columns(&self, asked: &Asked) -> Keep {
        let (cache, resource) = (Arc::clone(&self.cache), asked.custom_table());
        Box::new(move |body| {
            Box::pin(async move {
                if let Some(resource) = resource {
                    cache.keep_columns(&resource, &body).await;
                }
            })
        })
    }
}

/// One object, held in JSON, as a table.
pub(super) fn of_object(form: &Form, view: &ObjectView) -> Result<Bytes, FrontError> {
    let item = object::to_item(Encoding::Json, &view.body);
    let table = item.and_then(|item| table::single(form, &view.kind, &item, clock::unix(), true));
    table.map_err(|e| FrontError::Store(yurt_store::StoreError::Damaged(e.to_string())))
}
