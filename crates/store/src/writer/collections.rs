//! Collections: whole lists, single events, bookmarks.

use rusqlite::{Connection, OptionalExtension, params};
use yurt_api::collection::CollectionKey;
use yurt_api::list::ListHeader;

use super::{Durability, Effects, Session, Writer};
use crate::error::{Result, StoreError};
use crate::names;
use crate::records::{Applied, Change, CollectionId, CollectionState, Replaced, Row};
use crate::rows::{self, Objects};
use crate::shared::{Figures, FiguresById};

mod past;
mod replace;

/// How long bookmarks and uses stay in memory only, in seconds.
const HEADERS_UNSAVED_SECONDS: i64 = 60;

impl Writer {
    /// Makes the collection exactly these rows, as one step, and begins it when it is new.
    /// A row whose version and UID are as held is not written again (and not read: after
    /// [`StoreError::Damaged`] call [`Writer::remove`] first).
    ///
    /// # Errors
    /// [`StoreError::TooMuch`] when the rows do not fit in [`crate::Options::max_bytes`] even after
    /// [`Writer::collect_garbage`]; what the disk says.
    pub fn replace(
        &mut self,
        key: &CollectionKey,
        header: &ListHeader,
        state: CollectionState,
        node_owned: bool,
        now: i64,
        rows: &[Row],
    ) -> Result<Replaced> {
        self.make_room(rows.iter().map(|r| r.body.len() as u64 + 100).sum(), now)?;
        self.transact(Durability::Process, |session, effects| {
            let (id, figures) = replace::begin(session, key, header, state, node_owned, now)?;
            replace::fill(session, effects, key, id, figures, rows)
        })
    }

    /// Takes events in, as one step, without fsync. The collection's version becomes `resource_version`
    /// (it never goes back).
    ///
    /// # Errors
    /// [`StoreError::NoCollection`] when it was removed; [`StoreError::TooMuch`] as for [`Writer::replace`];
    /// [`StoreError::Damaged`] when the row to be changed cannot be read: list again.
    pub fn apply(
        &mut self,
        id: CollectionId,
        resource_version: u64,
        now: i64,
        changes: &[Change],
    ) -> Result<Applied> {
        self.make_room(changes.iter().map(size).sum(), now)?;
        self.transact(Durability::Process, |session, effects| {
            let before = session.shared.get(id.0).ok_or(StoreError::NoCollection)?;
            let rv = before.rv.max(resource_version);
            let mut objects = Objects::of(session.conn, session.sealer, id)?;
            let floor = if before.floor == 0 { before.rv } else { before.floor };
            let mut figures = Figures { rv, floor, observed_at: now, unsaved: true, ..before };
            let previous = changes
                .iter()
                .map(|change| step(&mut objects, effects, &mut figures, change))
                .collect::<Result<Vec<_>>>()?;
            past::prune(session, effects, id, &mut figures)?;
            let shorter = figures.floor != before.floor;
            // An upsert carries the version in its own row; a deletion leaves no row that could.
            let carried = changes.iter().any(|c| matches!(c, Change::Upsert(_)));
            if shorter || !carried || changes.iter().any(|c| matches!(c, Change::Delete { .. })) {
                save_header(session.conn, id.0, &mut figures)?;
                effects.pages += 1;
            }
            effects.figures.push((id.0, Some(figures)));
            Ok(Applied { previous })
        })
    }

    /// A bookmark: nothing changed up to `resource_version`. Kept in memory, and written at most once a minute,
    /// for all collections together; a crash takes the collection back to the last event, which is as true.
    ///
    /// # Errors
    /// [`StoreError::NoCollection`]; what the disk says when it was time to write.
    pub fn progress(&mut self, id: CollectionId, resource_version: u64, now: i64) -> Result<()> {
        self.edit(id, |f| {
            f.rv = f.rv.max(resource_version);
            f.observed_at = now;
        })?;
        self.save_headers_when_due(now)
    }

    /// Notes that a client asked for the collection. Kept in memory and written as [`Writer::progress`].
    ///
    /// # Errors
    /// As [`Writer::progress`].
    pub fn touch(&mut self, id: CollectionId, now: i64) -> Result<()> {
        self.edit(id, |f| f.used_at = f.used_at.max(now))?;
        self.save_headers_when_due(now)
    }

    /// Notes how the collection relates to the cloud now.
    ///
    /// # Errors
    /// [`StoreError::NoCollection`]; what the disk says.
    pub fn set_state(&mut self, id: CollectionId, state: CollectionState) -> Result<()> {
        self.transact(Durability::Process, |session, effects| {
            effects.pages += 1;
            let mut set = session.conn.prepare_cached("UPDATE collections SET state = ?2 WHERE id = ?1")?;
            let found = set.execute(params![id.0, state.as_str()])? == 1;
            found.then_some(()).ok_or(StoreError::NoCollection)
        })
    }

    /// Whether the node opened the collection: then its reflector may resume with no client.
    ///
    /// # Errors
    /// [`StoreError::NoCollection`]; what the disk says.
    pub fn set_node_owned(&mut self, id: CollectionId, node_owned: bool) -> Result<()> {
        self.transact(Durability::Process, |session, effects| {
            effects.pages += 1;
            let mut set =
                session.conn.prepare_cached("UPDATE collections SET node_owned = ?2 WHERE id = ?1")?;
            let found = set.execute(params![id.0, node_owned])? == 1;
            found.then_some(()).ok_or(StoreError::NoCollection)
        })
    }

    /// Forgets the collection and its rows. No error when there is none.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove(&mut self, id: CollectionId) -> Result<()> {
        self.transact(Durability::Process, |session, effects| remove(session, effects, id))
    }

    fn edit(&self, id: CollectionId, edit: impl FnOnce(&mut Figures)) -> Result<()> {
        let mut shared = self.shared.lock();
        let figures = shared.get_mut(&id.0).ok_or(StoreError::NoCollection)?;
        edit(figures);
        figures.unsaved = true;
        Ok(())
    }

    fn save_headers_when_due(&mut self, now: i64) -> Result<()> {
        // A clock that was set back is due, too.
        if (0..HEADERS_UNSAVED_SECONDS).contains(&(now - self.headers_saved_at)) {
            return Ok(());
        }
        self.headers_saved_at = now;
        self.save_headers()
    }

    /// Writes what the collections' rows do not say yet.
    pub(super) fn save_headers(&mut self) -> Result<()> {
        let unsaved: FiguresById = {
            let shared = self.shared.lock();
            shared.iter().filter(|(_, f)| f.unsaved).map(|(id, f)| (*id, *f)).collect()
        };
        if unsaved.is_empty() {
            return Ok(());
        }
        self.transact(Durability::Process, |session, effects| {
            for (id, mut figures) in unsaved {
                save_header(session.conn, id, &mut figures)?;
                effects.pages += 1;
                effects.figures.push((id, Some(figures)));
            }
            Ok(())
        })
    }
}

/// Removes in a running transaction.
pub(super) fn remove(session: &Session<'_>, effects: &mut Effects, id: CollectionId) -> Result<()> {
    let rows = session.conn.prepare_cached("DELETE FROM objects WHERE collection = ?1")?.execute([id.0])?;
    let past = past::forget(session.conn, id)?;
    session.conn.prepare_cached("DELETE FROM collections WHERE id = ?1")?.execute([id.0])?;
    effects.pages += 2 + (rows + past) as u64;
    effects.figures.push((id.0, None));
    Ok(())
}

fn size(change: &Change) -> u64 {
    match change {
        Change::Upsert(row) => row.body.len() as u64 + 100,
        Change::Delete { .. } => 0,
    }
}

fn step(
    objects: &mut Objects<'_>,
    effects: &mut Effects,
    figures: &mut Figures,
    change: &Change,
) -> Result<Option<Row>> {
    let (was, added, ended) = match change {
        Change::Upsert(row) => {
            effects.wrote(row.body.len());
            (objects.upsert(row, figures.rv)?, Some(row.body.len() as u64), row.resource_version)
        }
        Change::Delete { key, resource_version } => {
            effects.pages += 3;
            (objects.delete(&names::object_key(key))?, None, *resource_version)
        }
    };
    figures.count(added, was.as_ref().map(|was| was.row.body.len() as u64));
    if let Some(was) = was.as_ref().filter(|was| was.other) {
        past::keep(objects, effects, figures, was, ended)?;
    }
    Ok(was.map(|was| was.row))
}

fn save_header(conn: &Connection, id: i64, figures: &mut Figures) -> Result<()> {
    let mut save = conn.prepare_cached(
        "UPDATE collections SET rv = ?2, floor = ?3, observed_at = ?4, used_at = ?5, guard = ?6 WHERE id = ?1",
    )?;
    let [rv, floor] = [figures.rv, figures.floor].map(u64::cast_signed);
    save.execute(params![id, rv, floor, figures.observed_at, figures.used_at, figures.guard()])?;
    figures.unsaved = false;
    Ok(())
}

/// The id of the collection of this key.
fn find(conn: &Connection, key: &CollectionKey) -> Result<Option<i64>> {
    let mut find = conn.prepare_cached(
        "SELECT id FROM collections WHERE grp = ?1 AND version = ?2 AND resource = ?3 AND namespace = ?4
         AND labels = ?5 AND fields = ?6 AND representation = ?7",
    )?;
    Ok(find.query_row(rows::collection_key_params(key), |r| r.get(0)).optional()?)
}
