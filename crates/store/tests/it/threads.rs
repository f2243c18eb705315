//! Writer and reader on two threads: what is read is always one state, with the version of that state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use yurt_api::collection::ObjectKey;
use yurt_store::{Change, Row};

use crate::samples::{list, open, replace, row};

const ROUNDS: u64 = 2_000;
const OBJECTS: u64 = 6;

/// Every object of one state has the state's version in its body.
fn state(rv: u64) -> Vec<Row> {
    (0..OBJECTS).map(|n| row("ns", &format!("o{n}"), rv, rv.to_string().repeat(100))).collect()
}

#[test]
fn what_is_read_is_one_state_with_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = replace(&mut store.writer, "pods", 1, &state(1));
    let done = AtomicBool::new(false);
    let (done, reader) = (&done, store.reader);
    let writer = &mut store.writer;
    thread::scope(|scope| {
        scope.spawn(move || {
            for rv in 2..=ROUNDS {
                if rv.is_multiple_of(50) {
                    replace(writer, "pods", rv, &state(rv));
                } else {
                    let changes: Vec<Change> = state(rv).into_iter().map(Change::Upsert).collect();
                    writer.apply(id, rv, 1, &changes).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut seen = 0;
        while !done.load(Ordering::Acquire) {
            let (record, rows) = list(&reader, id);
            let rv = record.header.resource_version;
            assert!(rv >= seen, "{rv} after {seen}");
            assert!(rows == state(rv), "not the state of {rv}");
            let (one, rv) = reader.get(id, &ObjectKey::new("ns", "o3")).unwrap();
            assert_eq!(one.unwrap().resource_version, rv);
            seen = rv;
        }
        assert_eq!(list(&reader, id).0.header.resource_version, ROUNDS);
    });
}
