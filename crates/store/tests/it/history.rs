//! What changed after a version: kept with every change, bounded, and there after a restart.

use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::representation::Representation;
use yurt_store::{Change, CollectionId, CollectionState, History, Opened, Row};

use crate::samples::{header, key, open, row};

fn json_key() -> CollectionKey {
    CollectionKey { representation: Representation::JSON, ..key("configmaps") }
}

/// A ConfigMap whose label is its colour, and whose data only it knows.
fn map(name: &str, rv: u64, color: &str, data: &str) -> Row {
    let body = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"ns","resourceVersion":"{rv}","labels":{{"color":"{color}"}}}},"data":{{"d":"{data}"}}}}"#
    );
    row("ns", name, rv, body)
}

fn put(store: &mut Opened, rv: u64, rows: &[Row]) -> CollectionId {
    store.writer.replace(&json_key(), &header(rv), CollectionState::Live, true, 10, rows).unwrap().0
}

fn upsert(store: &mut Opened, id: CollectionId, row: Row) {
    store.writer.apply(id, row.resource_version, 10, &[Change::Upsert(row)]).unwrap();
}

fn delete(store: &mut Opened, id: CollectionId, name: &str, rv: u64) {
    let gone = Change::Delete { key: ObjectKey::new("ns", name), resource_version: rv };
    store.writer.apply(id, rv, 10, &[gone]).unwrap();
}

/// Newer rows as (name, version, since), and past ones as (name, version, since, ended).
type Told = (Vec<(String, u64, u64)>, Vec<(String, u64, u64, u64)>);

fn told(history: &History) -> Told {
    let rows = history.rows.iter().map(|(r, since)| (r.key.name.clone(), r.resource_version, *since));
    let past = &history.past;
    let past = past.iter().map(|p| (p.row.key.name.clone(), p.row.resource_version, p.since, p.ended));
    (rows.collect(), past.collect())
}

fn since(store: &Opened, id: CollectionId, version: u64) -> Result<Told, u64> {
    store.reader.since(id, version, &[]).unwrap().map(|history| told(&history))
}

#[test]
fn what_changed_is_told_from_any_version_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = put(&mut store, 5, &[map("a", 2, "red", "1"), map("b", 3, "red", "1"), map("c", 4, "red", "1")]);
    upsert(&mut store, id, map("a", 6, "red", "2"));
    upsert(&mut store, id, map("a", 7, "blue", "2"));
    upsert(&mut store, id, map("new", 8, "red", "1"));
    delete(&mut store, id, "b", 9);
    upsert(&mut store, id, map("b", 10, "red", "again"));
    let t = |name: &str, rv, since| (name.to_owned(), rv, since);
    let p = |name: &str, rv, since, ended| (name.to_owned(), rv, since, ended);
    for closed in [false, true] {
        if closed {
            drop(store);
            store = open(dir.path());
        }
        let rows = vec![t("a", 7, 2), t("b", 10, 10), t("new", 8, 8)];
        let past = vec![p("a", 6, 2, 7), p("b", 3, 3, 9)];
        let sorted = |told: Result<Told, u64>| {
            told.map(|(mut rows, past)| {
                rows.sort();
                (rows, past)
            })
        };
        assert_eq!(sorted(since(&store, id, 5)), Ok((rows.clone(), past.clone())));
        assert_eq!(sorted(since(&store, id, 6)), Ok((rows, past)));
        assert_eq!(
            sorted(since(&store, id, 7)),
            Ok((vec![t("b", 10, 10), t("new", 8, 8)], vec![p("b", 3, 3, 9)]))
        );
        assert_eq!(since(&store, id, 10), Ok((vec![], vec![])));
        assert_eq!(since(&store, id, 4), Err(5), "before the first list nothing is known");
    }
    let others =
        store.reader.since(id, 7, &[ObjectKey::new("ns", "c"), ObjectKey::new("ns", "new")]).unwrap();
    let others = others.unwrap().others;
    assert_eq!(others.len(), 1, "those that are told anyway are not told twice");
    assert_eq!((others[0].0.key.name.as_str(), others[0].1), ("c", 4));
}

#[test]
fn a_list_goes_on_with_the_history_and_a_restored_cluster_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = put(&mut store, 5, &[map("a", 2, "red", "1"), map("b", 3, "red", "1")]);
    put(&mut store, 9, &[map("a", 8, "blue", "1"), map("c", 7, "red", "1")]);
    let (mut rows, past) = since(&store, id, 5).unwrap();
    rows.sort();
    assert_eq!(rows, [("a".to_owned(), 8, 2), ("c".to_owned(), 7, 7)]);
    assert_eq!(past, [("a".to_owned(), 2, 2, 8), ("b".to_owned(), 3, 3, 9)]);
    // What came and went again between the lists is not known.
    for closed in [false, true] {
        if closed {
            drop(store);
            store = open(dir.path());
        }
        assert_eq!([6, 7, 8].map(|between| since(&store, id, between)), [Err(9), Err(9), Err(9)]);
        assert_eq!(since(&store, id, 9), Ok((vec![], vec![])));
    }
    // The cluster was set back: versions from before mean something else now.
    put(&mut store, 4, &[map("a", 2, "red", "1")]);
    assert_eq!(since(&store, id, 3), Err(4));
    assert_eq!(since(&store, id, 4), Ok((vec![], vec![])));
    upsert(&mut store, id, map("a", 6, "red", "2"));
    assert_eq!(since(&store, id, 4).unwrap().0, [("a".to_owned(), 6, 2)]);
}

#[test]
fn another_object_of_a_name_ends_the_one_before_though_it_looks_like_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = put(&mut store, 5, &[map("a", 2, "red", "1")]);
    put(&mut store, 9, &[Row { uid: "another".to_owned(), ..map("a", 8, "red", "1") }]);
    let (rows, past) = since(&store, id, 5).unwrap();
    assert_eq!(rows, [("a".to_owned(), 8, 8)]);
    assert_eq!(past, [("a".to_owned(), 2, 2, 8)]);
}

/// P9: deletions without end take no room without end, and the versions that they end are refused.
#[test]
fn the_history_is_bounded_and_says_what_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = put(&mut store, 1, &[]);
    let large = "x".repeat(4000);
    let mut rv = 1;
    let mut floors = Vec::new();
    for n in 0..700 {
        let data = if n < 600 { "1" } else { &large };
        upsert(&mut store, id, map("m", rv + 1, "red", data));
        delete(&mut store, id, "m", rv + 2);
        rv += 2;
        floors.push(since(&store, id, 1).err().unwrap_or(1));
    }
    assert!(floors.is_sorted(), "what is lost stays lost");
    let floor = *floors.last().unwrap();
    assert!(floor > 1 && floor < rv, "{floor} of {rv}");
    let (_, past) = since(&store, id, floor).unwrap();
    assert!(past.len() <= 512 && past.len() > 400, "{}", past.len());
    assert!(past.iter().all(|p| p.3 > floor));
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(since(&store, id, floor - 1), Err(floor));
    assert_eq!(since(&store, id, floor).unwrap().1.len(), past.len());
    store.writer.remove(id).unwrap();
    assert!(store.reader.since(id, rv, &[]).is_err());
}
