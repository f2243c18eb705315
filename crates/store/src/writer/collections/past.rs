//! The history of a collection: what its objects were before they went, or before they changed so that a selector could
//! tell. Together with the versions of the rows it says what a watch from an older version has missed.

use bytes::Bytes;
use rusqlite::{Connection, params};
use yurt_api::collection::ObjectKey;

use super::{Effects, Session};
use crate::error::Result;
use crate::records::{CollectionId, Row};
use crate::rows::{Objects, Was};
use crate::shared::Figures;

/// Rows of one collection's history, and the bytes of their bodies. Beyond them the oldest go, and with them the
/// versions from which a watch can start.
const MAX_ROWS: u64 = 512;
const MAX_BYTES: u64 = 1 << 20;
/// So many go at a time.
const AT_ONCE: i64 = 64;

/// Keeps what an object was until the change of version `ended`.
pub(super) fn keep(
    objects: &Objects<'_>,
    effects: &mut Effects,
    figures: &mut Figures,
    was: &Was,
    ended: u64,
) -> Result<()> {
    let bytes = objects.keep_past(was, ended)?;
    figures.past = (figures.past.0 + 1, figures.past.1 + bytes);
    effects.wrote(was.row.body.len());
    Ok(())
}

/// Keeps that nobody knows what happened between two versions, of which a list tells the difference: no watch can start
/// from one in between. It stands as an object without a name that was there from the one until the other.
pub(super) fn keep_gap(
    objects: &Objects<'_>,
    effects: &mut Effects,
    figures: &mut Figures,
    since: u64,
    ended: u64,
) -> Result<()> {
    if since + 1 >= ended {
        return Ok(());
    }
    let nothing =
        Row { key: ObjectKey::new("", ""), resource_version: ended, uid: String::new(), body: Bytes::new() };
    keep(objects, effects, figures, &Was { row: nothing, since, other: true }, ended)
}

/// Takes away what is beyond the bounds; true when the history got shorter.
pub(super) fn prune(
    session: &Session<'_>,
    effects: &mut Effects,
    id: CollectionId,
    figures: &mut Figures,
) -> Result<bool> {
    let before = figures.floor;
    while figures.past.0 > MAX_ROWS || (figures.past.1 > MAX_BYTES && figures.past.0 > 0) {
        let sql =
            "SELECT max(ended) FROM (SELECT ended FROM past WHERE collection = ?1 ORDER BY ended LIMIT ?2)";
        let mut oldest = session.conn.prepare_cached(sql)?;
        let ended: Option<i64> = oldest.query_row(params![id.0, AT_ONCE], |r| r.get(0))?;
        let Some(ended) = ended else { break };
        // All of one version go together.
        let sql = "DELETE FROM past WHERE collection = ?1 AND ended <= ?2";
        let gone = session.conn.prepare_cached(sql)?.execute(params![id.0, ended])?;
        effects.pages += gone as u64;
        figures.floor = figures.floor.max(ended.cast_unsigned());
        figures.past = left(session.conn, id)?;
    }
    Ok(figures.floor != before)
}

fn left(conn: &Connection, id: CollectionId) -> Result<(u64, u64)> {
    let mut sum =
        conn.prepare_cached("SELECT count(*), coalesce(sum(size), 0) FROM past WHERE collection = ?1")?;
    let read = |r: &rusqlite::Row<'_>| {
        Ok((r.get::<_, i64>(0)?.cast_unsigned(), r.get::<_, i64>(1)?.cast_unsigned()))
    };
    Ok(sum.query_row([id.0], read)?)
}

/// Forgets all of a collection's history; how many rows.
pub(super) fn forget(conn: &Connection, id: CollectionId) -> Result<usize> {
    Ok(conn.prepare_cached("DELETE FROM past WHERE collection = ?1")?.execute([id.0])?)
}
