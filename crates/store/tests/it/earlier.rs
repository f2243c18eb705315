//! Stores of earlier formats go on as they are. They are made of present ones by the words of `docs/on-disk-format.md`.

use rusqlite::{Connection, params};
use yurt_store::{Change, CollectionId, OpenReport};

use crate::samples::{entry, list, open, replace, row};

/// A place: texts with their length before them, numbers as 8 bytes.
#[derive(Default)]
struct Place(Vec<u8>);

impl Place {
    fn text(mut self, text: &str) -> Self {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    fn number(mut self, number: i64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }
}

fn checksum(place: &[u8], content: &[u8]) -> u64 {
    mix(mix(0x9E37_79B9_7F4A_7C15, place) ^ place.len() as u64, content)
}

fn mix(mut state: u64, bytes: &[u8]) -> u64 {
    let step = |s: u64, word: u64| (s ^ word).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = step(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(step(state, u64::from_le_bytes(last)), bytes.len() as u64)
}

/// Takes away what `format` does not have.
fn set_back(conn: &Connection, format: i64) {
    let mut all = conn
        .prepare(
            "SELECT id, grp, version, resource, namespace, labels, fields, representation, list_api_version,
             list_kind, coalesce(item_api_version, ''), coalesce(item_kind, ''), typed_items, rv FROM collections",
        )
        .unwrap();
    let mut found = all.query([]).unwrap();
    while let Some(r) = found.next().unwrap() {
        let id: i64 = r.get(0).unwrap();
        let place = Place::default().text("collections").number(id);
        let place = (1..=11).fold(place, |p, at| p.text(&r.get::<_, String>(at).unwrap()));
        let identity = checksum(&place.0, &[r.get::<_, u8>(12).unwrap()]);
        let guard = checksum(&identity.to_le_bytes(), &r.get::<_, i64>(13).unwrap().to_le_bytes());
        conn.execute("UPDATE collections SET guard = ?2 WHERE id = ?1", params![id, guard.cast_signed()])
            .unwrap();
    }
    let mut all = conn.prepare("SELECT id, collection, key, rv, applied, uid, body FROM objects").unwrap();
    let mut found = all.query([]).unwrap();
    while let Some(r) = found.next().unwrap() {
        let place = Place::default().text("objects").number(r.get(1).unwrap());
        let place = place.text(&r.get::<_, String>(2).unwrap()).number(r.get(3).unwrap());
        let place = place.number(r.get(4).unwrap()).text(&r.get::<_, String>(5).unwrap());
        let mut body: Vec<u8> = r.get(6).unwrap();
        let length = u32::from_le_bytes(body[1..5].try_into().unwrap()) as usize;
        let sum = checksum(&place.0, &body[13..13 + length]);
        body[5..13].copy_from_slice(&sum.to_le_bytes());
        conn.execute(
            "UPDATE objects SET body = ?2 WHERE id = ?1",
            params![r.get::<_, i64>(0).unwrap(), body],
        )
        .unwrap();
    }
    conn.execute_batch(
        "DROP TABLE past; ALTER TABLE objects DROP COLUMN since; ALTER TABLE collections DROP COLUMN floor;",
    )
    .unwrap();
    if format < 2 {
        conn.execute_batch("DROP TABLE delivered").unwrap();
    }
    conn.pragma_update(None, "user_version", format).unwrap();
}

#[test]
fn stores_of_earlier_formats_go_on_as_they_are() {
    for format in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let rows = [row("ns", "a", 2, "first"), row("ns", "b", 3, "second".repeat(300))];
        let id: CollectionId = replace(&mut store.writer, "pods", 5, &rows);
        store.writer.journal_put(&[entry("slot", "body")]).unwrap();
        drop(store);
        let conn = Connection::open(dir.path().join("store/store.db")).unwrap();
        set_back(&conn, format);
        drop(conn);
        let mut store = open(dir.path());
        assert_eq!(store.report, OpenReport::Existing, "format {format}");
        assert_eq!(list(&store.reader, id).1, rows);
        let seq = store.reader.journal().unwrap()[0].seq;
        store.writer.journal_delivered(seq, 7).unwrap();
        assert_eq!(store.reader.delivered().unwrap()[0].cloud_version, 7);
        // A history begins with the next change.
        assert_eq!(store.reader.since(id, 4, &[]).unwrap().err(), Some(5));
        let changed = Change::Upsert(row("ns", "a", 6, "changed"));
        store.writer.apply(id, 6, 10, &[changed]).unwrap();
        for _ in 0..2 {
            let history = store.reader.since(id, 5, &[]).unwrap().unwrap();
            assert_eq!((history.rows.len(), history.rows[0].1), (1, 0), "it was there before");
            assert_eq!(store.reader.since(id, 4, &[]).unwrap().err(), Some(5));
            drop(store);
            store = open(dir.path());
        }
    }
}
