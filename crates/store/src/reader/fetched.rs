//! Single objects and documents.

use rusqlite::{OptionalExtension, Row};
use yurt_api::collection::ObjectKey;
use yurt_api::representation::Representation;
use yurt_api::resource::{Resource, TypeMeta};

use super::Reader;
use crate::body;
use crate::error::Result;
use crate::names;
use crate::records::{Document, Fetched};
use crate::seal::Place;
use crate::writer::fetched_place;

const DOCUMENT_COLUMNS: &str = "path, accept, status, content_type, etag, observed_at, body";

impl Reader {
    /// The last answer to a GET of the object in this representation; in any, the latest, when none is given.
    ///
    /// # Errors
    /// [`crate::StoreError::Damaged`] or [`crate::StoreError::Sealed`] when it is not as it was written; what
    /// the disk says.
    pub fn fetched(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: &str,
        representation: Option<Representation>,
    ) -> Result<Option<Fetched>> {
        let wanted = representation.map_or("", Representation::as_str);
        let object = names::object_key(key);
        let mut find = self.conn.prepare_cached(
            "SELECT representation, api_version, kind, rv, uid, observed_at, body FROM fetched
             WHERE resource = ?1 AND key = ?2 AND subresource = ?3 AND (?4 = '' OR representation = ?4)
             ORDER BY observed_at DESC, representation LIMIT 1",
        )?;
        let name = resource.to_string();
        let read = |r: &Row<'_>| Ok(self.read_fetched(r, resource, key, subresource));
        find.query_row([&name, &object, subresource, wanted], read).optional()?.transpose()
    }

    fn read_fetched(
        &self,
        row: &Row<'_>,
        resource: &Resource,
        key: &ObjectKey,
        subresource: &str,
    ) -> Result<Fetched> {
        let representation: String = row.get(0)?;
        let type_meta = TypeMeta { api_version: row.get(1)?, kind: row.get(2)? };
        let (rv, uid): (i64, String) = (row.get(3)?, row.get(4)?);
        let columns = [resource.to_string(), names::object_key(key), subresource.to_owned(), representation];
        let place = fetched_place(&columns, &type_meta.api_version, &type_meta.kind, rv, &uid);
        let [.., representation] = columns;
        let column: Vec<u8> = row.get(6)?;
        Ok(Fetched {
            resource: resource.clone(),
            key: key.clone(),
            subresource: subresource.into(),
            representation: names::parse_representation(&representation)?,
            type_meta,
            resource_version: rv.cast_unsigned(),
            uid,
            body: body::decode(&self.sealer, &place, &column, names::is_secret(resource))?,
            observed_at: row.get(5)?,
        })
    }

    /// The answer to this path (with query) and `Accept`.
    ///
    /// # Errors
    /// [`crate::StoreError::Damaged`] when it is not as it was written; what the disk says.
    pub fn document(&self, path: &str, accept: &str) -> Result<Option<Document>> {
        let sql = format!("SELECT {DOCUMENT_COLUMNS} FROM documents WHERE path = ?1 AND accept = ?2");
        let mut find = self.conn.prepare_cached(&sql)?;
        find.query_row([path, accept], |r| Ok(self.read_document(r))).optional()?.transpose()
    }

    /// The answers to this path for every `Accept`, latest first.
    ///
    /// # Errors
    /// As [`Reader::document`].
    pub fn documents_for(&self, path: &str) -> Result<Vec<Document>> {
        let sql = format!(
            "SELECT {DOCUMENT_COLUMNS} FROM documents WHERE path = ?1 ORDER BY observed_at DESC, accept"
        );
        let mut find = self.conn.prepare_cached(&sql)?;
        find.query_map([path], |r| Ok(self.read_document(r)))?.map(|d| d?).collect()
    }

    /// The answers to this path with any query, latest first.
    ///
    /// # Errors
    /// As [`Reader::document`].
    pub fn documents_under(&self, path: &str) -> Result<Vec<Document>> {
        // `@` follows `?`.
        let sql = format!(
            "SELECT {DOCUMENT_COLUMNS} FROM documents WHERE path = ?1 OR (path >= ?1 || '?' AND path < ?1 || '@')
             ORDER BY observed_at DESC, accept"
        );
        let mut find = self.conn.prepare_cached(&sql)?;
        find.query_map([path], |r| Ok(self.read_document(r)))?.map(|d| d?).collect()
    }

    fn read_document(&self, row: &Row<'_>) -> Result<Document> {
        let column: Vec<u8> = row.get(6)?;
        let mut document = Document {
            path: row.get(0)?,
            accept: row.get(1)?,
            status: row.get(2)?,
            content_type: row.get(3)?,
            etag: row.get(4)?,
            observed_at: row.get(5)?,
            body: bytes::Bytes::new(),
        };
        document.body = body::decode(&self.sealer, &document_place(&document), &column, false)?;
        Ok(document)
    }
}

/// The place of a document's body.
pub(crate) fn document_place(d: &Document) -> Place {
    Place::new("documents")
        .text(&d.path)
        .text(&d.accept)
        .number(i64::from(d.status))
        .text(&d.content_type)
        .text(d.etag.as_deref().unwrap_or(""))
}
