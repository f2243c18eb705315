//! Rows of `objects` and `collections` as both connections read them.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use yurt_api::collection::CollectionKey;
use yurt_api::list::ListHeader;
use yurt_api::object::Attributes;
use yurt_api::representation::Encoding;
use yurt_api::resource::{Resource, TypeMeta};

use crate::body;
use crate::error::{Result, StoreError};
use crate::names;
use crate::records::{CollectionId, CollectionRecord, CollectionState, Row};
use crate::seal::{Place, Sealer};
use crate::shared::{Figures, FiguresById};

/// The columns that [`object`] reads, in its order.
pub(crate) const OBJECT_COLUMNS: &str = "key, rv, uid, body, id, applied, since";
/// What the header of a row takes at most, in bytes: its own length, a type for each of nine columns.
const ROW_HEADER: usize = 2 + 9 + 3;
/// The columns that [`collection`] reads, in its order.
pub(crate) const COLLECTION_COLUMNS: &str =
    "id, grp, version, resource, namespace, labels, fields, representation,
    list_api_version, list_kind, item_api_version, item_kind, typed_items, state, node_owned,
    rv, observed_at, used_at, guard, floor";

/// What a collection is of, as far as its rows go.
pub(crate) struct Kind {
    pub resource: Resource,
    pub encoding: Encoding,
}

impl Kind {
    /// Whether the bodies are sealed.
    pub fn is_secret(&self) -> bool {
        names::is_secret(&self.resource)
    }

    /// Whether a selector could tell the two apart; what cannot be read is told apart.
    fn differ(&self, a: &Row, b: &Row) -> bool {
        let read = |row: &Row| Attributes::read(&self.resource, self.encoding, &row.body).ok();
        read(a).is_none_or(|a| Some(a) != read(b))
    }
}

/// An object that changed: what it was, and since when it was there.
pub(crate) struct Was {
    pub row: Row,
    pub since: u64,
    /// A selector could tell it from what it is now; so is what is gone.
    pub other: bool,
}

/// The objects of one collection, for writing.
pub(crate) struct Objects<'c> {
    collection: i64,
    kind: Kind,
    secret: bool,
    /// What was of a time that is gone: nothing is older than the rows that are written.
    anew: bool,
    sealer: &'c Sealer,
    conn: &'c Connection,
    find: CachedStatement<'c>,
    insert: CachedStatement<'c>,
    update: CachedStatement<'c>,
    delete: CachedStatement<'c>,
}

/// What [`Objects::versions`] says of an object.
pub(crate) struct Held {
    pub rv: u64,
    pub uid: String,
}

impl<'c> Objects<'c> {
    /// Of a collection that is held.
    pub fn of(conn: &'c Connection, sealer: &'c Sealer, id: CollectionId) -> Result<Self> {
        let kind = kind(conn, id)?.ok_or(StoreError::NoCollection)?;
        Self::with(conn, sealer, id, kind)
    }

    /// Of a collection of this kind.
    pub fn with(conn: &'c Connection, sealer: &'c Sealer, id: CollectionId, kind: Kind) -> Result<Self> {
        let find = format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE collection = ?1 AND key = ?2");
        Ok(Objects {
            collection: id.0,
            secret: kind.is_secret(),
            kind,
            anew: false,
            sealer,
            conn,
            find: conn.prepare_cached(&find)?,
            insert: conn.prepare_cached(
                "INSERT INTO objects (rv, applied, size, uid, body, since, collection, key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            update: conn.prepare_cached(
                "UPDATE objects SET rv = ?1, applied = ?2, since = ?3, size = ?4, uid = ?5, body = ?6 WHERE id = ?7",
            )?,
            delete: conn.prepare_cached("DELETE FROM objects WHERE id = ?1")?,
        })
    }

    /// From now on nothing is older than what is written.
    pub fn anew(&mut self) {
        self.anew = true;
    }

    /// The object is now `row`; says what it was. `applied` is the collection's version with it.
    pub fn upsert(&mut self, row: &Row, applied: u64) -> Result<Option<Was>> {
        let key = names::object_key(&row.key);
        let found = self.find(&key)?;
        // Another object of that name has come now.
        let same = found.as_ref().filter(|(_, was)| !self.anew && was.row.uid == row.uid);
        let since = same.map(|(_, was)| was.since);
        let since = since.unwrap_or(row.resource_version);
        let place =
            names::object_place(self.collection, &key, row.resource_version, applied, since, &row.uid);
        let (rv, applied) = (row.resource_version.cast_signed(), applied.cast_signed());
        let size = (row.body.len() as u64).cast_signed();
        let beside = beside(&[self.collection, rv, applied, since.cast_signed(), size], &key, &row.uid);
        let body = body::encode(self.sealer, &place, &row.body, self.secret, beside)?;
        match found {
            Some((id, was)) => {
                self.update.execute(params![rv, applied, since.cast_signed(), size, row.uid, body, id])?;
                let other = was.row.uid != row.uid || self.kind.differ(&was.row, row);
                Ok(Some(Was { other, ..was }))
            }
            None => {
                let since = since.cast_signed();
                self.insert.execute(params![
                    rv,
                    applied,
                    size,
                    row.uid,
                    body,
                    since,
                    self.collection,
                    key
                ])?;
                Ok(None)
            }
        }
    }

    /// The object is gone; says what it was.
    pub fn delete(&mut self, key: &str) -> Result<Option<Was>> {
        let Some((id, was)) = self.find(key)? else { return Ok(None) };
        self.delete.execute([id])?;
        Ok(Some(was))
    }

    /// Keeps what an object was until `ended`; returns the bytes of its body.
    pub fn keep_past(&self, was: &Was, ended: u64) -> Result<u64> {
        let row = &was.row;
        let place = names::past_place(self.collection, ended, was.since, row);
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO past (collection, ended, key, rv, since, size, uid, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let (key, size) = (names::object_key(&row.key), row.body.len() as u64);
        let (rv, since) = (row.resource_version.cast_signed(), was.since.cast_signed());
        let ended = ended.cast_signed();
        let beside = beside(&[self.collection, ended, rv, since, size.cast_signed()], &key, &row.uid);
        let body = body::encode(self.sealer, &place, &row.body, self.secret, beside)?;
        insert.execute(params![self.collection, ended, key, rv, since, size.cast_signed(), row.uid, body])?;
        Ok(size)
    }

    /// Version and UID of every object, without the bodies.
    pub fn versions(&self) -> Result<BTreeMap<String, Held>> {
        let mut all = self.conn.prepare_cached("SELECT key, rv, uid FROM objects WHERE collection = ?1")?;
        let rows = all.query_map([self.collection], |r| {
            Ok((r.get(0)?, Held { rv: r.get::<_, i64>(1)?.cast_unsigned(), uid: r.get(2)? }))
        })?;
        rows.map(|r| r.map_err(StoreError::from)).collect()
    }

    fn find(&mut self, key: &str) -> Result<Option<(i64, Was)>> {
        let (collection, sealer, secret) = (self.collection, self.sealer, self.secret);
        let read = |r: &rusqlite::Row<'_>| Ok((r.get(4)?, was(r, sealer, collection, secret)));
        let found = self.find.query_row(params![collection, key], read).optional()?;
        found.map(|(id, was): (i64, Result<Was>)| was.map(|was| (id, was))).transpose()
    }
}

/// What a row takes beside its body, in bytes.
fn beside(numbers: &[i64], key: &str, uid: &str) -> usize {
    let numbers = numbers.iter().map(|n| body::number_size(*n)).sum::<usize>();
    ROW_HEADER + numbers + key.len() + uid.len()
}

/// What a collection is of; `None` when there is no such collection.
pub(crate) fn kind(conn: &Connection, id: CollectionId) -> Result<Option<Kind>> {
    let mut find =
        conn.prepare_cached("SELECT grp, version, resource, representation FROM collections WHERE id = ?1")?;
    let read = |r: &rusqlite::Row<'_>| Ok((resource(r, 0)?, r.get::<_, String>(3)?));
    let Some((resource, form)) = find.query_row([id.0], read).optional()? else { return Ok(None) };
    Ok(Some(Kind { resource, encoding: names::parse_representation(&form)?.encoding }))
}

/// Reads group, version and resource from three columns.
pub(crate) fn resource(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Resource> {
    Ok(Resource { group: row.get(first)?, version: row.get(first + 1)?, resource: row.get(first + 2)? })
}

/// Reads [`OBJECT_COLUMNS`].
pub(crate) fn object(row: &rusqlite::Row<'_>, sealer: &Sealer, collection: i64, secret: bool) -> Result<Row> {
    let key = row.get_ref(0)?.as_str().map_err(not_text)?;
    let resource_version = row.get::<_, i64>(1)?.cast_unsigned();
    let uid: String = row.get(2)?;
    let column = row.get_ref(3)?.as_blob().map_err(not_text)?;
    let applied = row.get::<_, i64>(5)?.cast_unsigned();
    let since = row.get::<_, i64>(6)?.cast_unsigned();
    let place = names::object_place(collection, key, resource_version, applied, since, &uid);
    let body = body::decode(sealer, &place, column, secret)?;
    Ok(Row { key: names::parse_object_key(key), resource_version, uid, body })
}

/// The same with the version since which it is there.
pub(crate) fn was(row: &rusqlite::Row<'_>, sealer: &Sealer, collection: i64, secret: bool) -> Result<Was> {
    let since = row.get::<_, i64>(6)?.cast_unsigned();
    Ok(Was { row: object(row, sealer, collection, secret)?, since, other: true })
}

/// The columns that [`past`] reads, in its order.
pub(crate) const PAST_COLUMNS: &str = "key, rv, uid, body, since, ended";

/// Reads [`PAST_COLUMNS`]: what an object was, and the version that ended it.
pub(crate) fn past(
    row: &rusqlite::Row<'_>,
    sealer: &Sealer,
    collection: i64,
    secret: bool,
) -> Result<(Was, u64)> {
    let key = names::parse_object_key(row.get_ref(0)?.as_str().map_err(not_text)?);
    let resource_version = row.get::<_, i64>(1)?.cast_unsigned();
    let mut was = Was {
        row: Row { key, resource_version, uid: row.get(2)?, body: Bytes::new() },
        since: row.get::<_, i64>(4)?.cast_unsigned(),
        other: true,
    };
    let ended = row.get::<_, i64>(5)?.cast_unsigned();
    let place = names::past_place(collection, ended, was.since, &was.row);
    was.row.body = body::decode(sealer, &place, row.get_ref(3)?.as_blob().map_err(not_text)?, secret)?;
    Ok((was, ended))
}

fn not_text(error: rusqlite::types::FromSqlError) -> StoreError {
    StoreError::Damaged(error.to_string())
}

/// Reads [`COLLECTION_COLUMNS`]; `figures` are what is newer than the row.
pub(crate) fn collection(row: &rusqlite::Row<'_>, figures: Option<&Figures>) -> Result<CollectionRecord> {
    let key = collection_key(row)?;
    let state = row.get_ref(13)?.as_str().map_err(not_text)?;
    let state = CollectionState::parse(state)
        .ok_or_else(|| StoreError::Damaged(format!("no state is named {state:?}")))?;
    let header = header(row)?;
    let saved = saved_figures(row, &key, &header)?;
    let figures = figures.unwrap_or(&saved);
    Ok(CollectionRecord {
        id: CollectionId(row.get(0)?),
        key,
        header: ListHeader { resource_version: figures.rv, ..header },
        state,
        observed_at: figures.observed_at,
        used_at: figures.used_at,
        objects: figures.objects,
        bytes: figures.bytes,
        node_owned: row.get(14)?,
    })
}

fn collection_key(row: &rusqlite::Row<'_>) -> Result<CollectionKey> {
    Ok(CollectionKey {
        resource: resource(row, 1)?,
        namespace: names::parse_namespace(row.get(4)?),
        labels: row.get(5)?,
        fields: row.get(6)?,
        representation: names::parse_representation(row.get_ref(7)?.as_str().map_err(not_text)?)?,
    })
}

fn header(row: &rusqlite::Row<'_>) -> Result<ListHeader> {
    let item: (Option<String>, Option<String>) = (row.get(10)?, row.get(11)?);
    Ok(ListHeader {
        type_meta: TypeMeta { api_version: row.get(8)?, kind: row.get(9)? },
        resource_version: 0,
        continue_token: String::new(),
        remaining: None,
        typed_items: row.get(12)?,
        item_type: match item {
            (Some(api_version), Some(kind)) => Some(TypeMeta { api_version, kind }),
            _ => None,
        },
    })
}

/// What the row itself says.
///
/// # Errors
/// [`StoreError::Damaged`] when its guard does not fit what it says.
fn saved_figures(row: &rusqlite::Row<'_>, key: &CollectionKey, header: &ListHeader) -> Result<Figures> {
    let figures = Figures {
        rv: row.get::<_, i64>(15)?.cast_unsigned(),
        floor: row.get::<_, i64>(19)?.cast_unsigned(),
        observed_at: row.get(16)?,
        used_at: row.get(17)?,
        identity: identity(row.get(0)?, key, header),
        ..Figures::default()
    };
    if row.get::<_, i64>(18)? != figures.guard() {
        return Err(StoreError::Damaged(format!("collection {key} is not as it was written")));
    }
    Ok(figures)
}

/// The figures of every collection as its row has them, by id.
pub(crate) fn all_saved_figures(conn: &Connection) -> Result<FiguresById> {
    let mut all = conn.prepare(&format!("SELECT {COLLECTION_COLUMNS} FROM collections"))?;
    let mut found = all.query([])?;
    let mut figures = FiguresById::new();
    while let Some(row) = found.next()? {
        figures.insert(row.get(0)?, saved_figures(row, &collection_key(row)?, &header(row)?)?);
    }
    Ok(figures)
}

/// A checksum of what a collection is, whatever its version.
pub(crate) fn identity(id: i64, key: &CollectionKey, header: &ListHeader) -> u64 {
    let place = Place::new("collections").number(id);
    let place = collection_key_params(key).iter().fold(place, |place, part| place.text(part));
    let item = header.item_type.as_ref().map_or(["", ""], |t| [&t.api_version, &t.kind]);
    let types = [header.type_meta.api_version.as_str(), &header.type_meta.kind, item[0], item[1]];
    let place = types.iter().fold(place, |place, part| place.text(part));
    body::checksum(place.as_bytes(), &[u8::from(header.typed_items)])
}

impl Figures {
    /// What stands in a collection's row so that flipped bits in it are found.
    pub(crate) fn guard(&self) -> i64 {
        let [rv, floor] = [self.rv, self.floor].map(u64::to_le_bytes);
        // Rows of an earlier format have no history.
        let said = if self.floor == 0 { rv.to_vec() } else { [rv, floor].concat() };
        body::checksum(&self.identity.to_le_bytes(), &said).cast_signed()
    }
}

/// The columns of `collections_key`.
pub(crate) fn collection_key_params(key: &CollectionKey) -> [&str; 7] {
    let Resource { group, version, resource } = &key.resource;
    let namespace = names::namespace_column(key);
    [group, version, resource, namespace, &key.labels, &key.fields, key.representation.as_str()]
}
