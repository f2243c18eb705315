//! A whole list in the place of what was held.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use yurt_api::collection::CollectionKey;
use yurt_api::list::ListHeader;

use super::{Effects, Session, find, past, save_header};
use crate::error::Result;
use crate::names;
use crate::records::{Change, CollectionId, CollectionState, Replaced, Row};
use crate::rows::{self, Kind, Objects};
use crate::shared::Figures;

/// The collection's row with this header, made when there is none; and the figures of it with no objects.
pub(super) fn begin(
    session: &Session<'_>,
    key: &CollectionKey,
    header: &ListHeader,
    state: CollectionState,
    node_owned: bool,
    now: i64,
) -> Result<(CollectionId, Figures)> {
    let conn = session.conn;
    let id = match find(conn, key)? {
        Some(id) => id,
        None => insert(conn, key)?,
    };
    let item = header.item_type.as_ref();
    let (rv, identity) = (header.resource_version, rows::identity(id, key, header));
    let mut figures =
        Figures { rv, floor: rv, observed_at: now, used_at: now, identity, ..Figures::default() };
    match session.shared.get(id).filter(|before| before.rv <= rv) {
        Some(before) => {
            let floor = if before.floor == 0 { before.rv } else { before.floor };
            (figures.floor, figures.past) = (floor, before.past);
        }
        // What is new, or of a time before the cluster's restore, has no history.
        None => drop(past::forget(conn, CollectionId(id))?),
    }
    conn.prepare_cached(
        "UPDATE collections SET list_api_version = ?2, list_kind = ?3, item_api_version = ?4, item_kind = ?5,
         typed_items = ?6, state = ?7, node_owned = ?8, rv = ?9, observed_at = ?10, used_at = ?10, guard = ?11,
         floor = ?12 WHERE id = ?1",
    )?
    .execute(params![
        id,
        header.type_meta.api_version,
        header.type_meta.kind,
        item.map(|t| &t.api_version),
        item.map(|t| &t.kind),
        header.typed_items,
        state.as_str(),
        node_owned,
        rv.cast_signed(),
        now,
        figures.guard(),
        figures.floor.cast_signed(),
    ])?;
    Ok((CollectionId(id), figures))
}

fn insert(conn: &Connection, key: &CollectionKey) -> Result<i64> {
    conn.prepare_cached(
        "INSERT INTO collections (grp, version, resource, namespace, labels, fields, representation,
         list_api_version, list_kind, typed_items, state, node_owned, rv, floor, observed_at, used_at, guard)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '', '', 0, 'filling', 0, 0, 0, 0, 0, 0)",
    )?
    .execute(rows::collection_key_params(key))?;
    Ok(conn.last_insert_rowid())
}

/// Brings the objects to `rows`.
pub(super) fn fill(
    session: &Session<'_>,
    effects: &mut Effects,
    key: &CollectionKey,
    id: CollectionId,
    mut figures: Figures,
    rows: &[Row],
) -> Result<Replaced> {
    let rv = figures.rv;
    // When the cloud was set back, the rows that stay must not speak for a version that is gone.
    let before = session.shared.get(id.0).map(|before| before.rv);
    let set_back = before.is_some_and(|before| rv < before);
    let kind = Kind { resource: key.resource.clone(), encoding: key.representation.encoding };
    let mut objects = Objects::with(session.conn, session.sealer, id, kind)?;
    if set_back {
        objects.anew();
    }
    let mut held = objects.versions()?;
    let mut difference = Difference::default();
    let mut sizes = BTreeMap::new();
    for row in rows {
        let name = names::object_key(&row.key);
        sizes.insert(name.clone(), row.body.len() as u64);
        let same = held.remove(&name).is_some_and(|h| h.rv == row.resource_version && h.uid == row.uid);
        let same = same && row.resource_version != 0;
        if same && !set_back {
            continue;
        }
        let was = objects.upsert(row, rv)?;
        effects.wrote(row.body.len());
        if let Some(was) = was.as_ref().filter(|was| was.other && !set_back) {
            past::keep(&objects, effects, &mut figures, was, row.resource_version)?;
        }
        if !same {
            difference.note(Change::Upsert(row.clone()), was.map(|was| was.row));
        }
    }
    for name in held.keys() {
        let gone = Change::Delete { key: names::parse_object_key(name), resource_version: rv };
        let was = objects.delete(name)?;
        effects.pages += 3;
        if let Some(was) = was.as_ref().filter(|_| !set_back) {
            past::keep(&objects, effects, &mut figures, was, rv)?;
        }
        difference.note(gone, was.map(|was| was.row));
    }
    if let Some(before) = before.filter(|_| !set_back) {
        past::keep_gap(&objects, effects, &mut figures, before, rv)?;
    }
    if past::prune(session, effects, id, &mut figures)? {
        save_header(session.conn, id.0, &mut figures)?;
    }
    figures.objects = sizes.len() as u64;
    figures.bytes = sizes.values().sum();
    effects.figures.push((id.0, Some(figures)));
    Ok((id, difference.changes, difference.previous))
}

#[derive(Default)]
struct Difference {
    changes: Vec<Change>,
    previous: Vec<Option<Row>>,
}

impl Difference {
    fn note(&mut self, change: Change, previous: Option<Row>) {
        self.changes.push(change);
        self.previous.push(previous);
    }
}
