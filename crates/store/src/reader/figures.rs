//! What is remembered, in figures.

use super::Reader;
use crate::error::Result;

/// What is remembered beside collections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RememberedFigures {
    /// Single objects, one for each form that was read.
    pub fetched: u64,
    /// Tokens that can be given out again.
    pub tokens: u64,
    /// Tokens whose owner is known.
    pub principals: u64,
    /// What callers were allowed.
    pub grants: u64,
}

impl Reader {
    /// How much there is, without opening any of it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remembered_figures(&self) -> Result<RememberedFigures> {
        let sql = "SELECT (SELECT count(*) FROM fetched),
            (SELECT count(*) FROM remembered WHERE what = 'principal'),
            (SELECT count(*) FROM remembered WHERE what = 'grant'),
            (SELECT count(*) FROM remembered WHERE what = 'token')";
        let count = |r: &rusqlite::Row<'_>, at| r.get(at).map(i64::cast_unsigned);
        let mut find = self.conn.prepare_cached(sql)?;
        Ok(find.query_row([], |r| {
            let (fetched, principals, grants) = (count(r, 0)?, count(r, 1)?, count(r, 2)?);
            Ok(RememberedFigures { fetched, principals, grants, tokens: count(r, 3)? })
        })?)
    }
}
