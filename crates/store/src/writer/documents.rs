//! Discovery, OpenAPI, `/version`: answers that are kept by their path.

use rusqlite::{OptionalExtension, params};

use super::{Durability, Writer};
use crate::body;
use crate::error::Result;
use crate::reader::document_place;
use crate::records::Document;

impl Writer {
    /// Keeps the answer in the place of the one before of the same path and `Accept`. One that has not changed
    /// is only noted as seen.
    ///
    /// # Errors
    /// [`crate::StoreError::TooMuch`] when it does not fit; what the disk says.
    pub fn put_document(&mut self, document: &Document) -> Result<()> {
        let place = document_place(document);
        let etag = document.etag.as_ref().map_or(0, String::len);
        let beside = document.path.len() + document.accept.len() + document.content_type.len() + etag + 64;
        let column = body::encode(&self.sealer, &place, &document.body, false, beside)?;
        if let Some((id, at)) = self.held_document(document, &column)? {
            return self.note_seen(id, at, document.observed_at);
        }
        self.make_room(column.len() as u64, document.observed_at)?;
        self.transact(Durability::Process, |session, effects| {
            effects.wrote(column.len());
            let d = document;
            session
                .conn
                .prepare_cached(
                    "INSERT INTO documents (path, accept, status, content_type, etag, observed_at, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (path, accept) DO UPDATE SET
                     status = ?3, content_type = ?4, etag = ?5, observed_at = ?6, body = ?7",
                )?
                .execute(params![
                    d.path,
                    d.accept,
                    d.status,
                    d.content_type,
                    d.etag,
                    d.observed_at,
                    column
                ])?;
            Ok(())
        })
    }

    /// Row and date of the same document with the same body.
    fn held_document(&self, document: &Document, column: &[u8]) -> Result<Option<(i64, i64)>> {
        let mut find = self.conn.prepare_cached(
            "SELECT id, observed_at FROM documents WHERE path = ?1 AND accept = ?2 AND body = ?3",
        )?;
        let found =
            find.query_row(params![document.path, document.accept, column], |r| Ok((r.get(0)?, r.get(1)?)));
        Ok(found.optional()?)
    }

    fn note_seen(&mut self, id: i64, before: i64, now: i64) -> Result<()> {
        if (0..super::fetched::LOOK_NOTED_SECONDS).contains(&(now - before)) {
            return Ok(());
        }
        self.transact(Durability::Process, |session, effects| {
            effects.pages += 1;
            let note = "UPDATE documents SET observed_at = ?2 WHERE id = ?1";
            session.conn.prepare_cached(note)?.execute([id, now])?;
            Ok(())
        })
    }
}
