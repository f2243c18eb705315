//! Disks that refuse: full, read-only, broken. Reads go on, what was held stays, and it recovers by itself.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use yurt_store::{Change, CollectionId, StoreError};

use crate::powercut::shim;
use crate::samples::{entry, list, open, replace, row};

const DIR: &str = "YURT_STORE_TROUBLE_DIR";

/// The child's side: does what it is told line by line, and says how it went.
#[test]
#[ignore = "runs in a child process of the disk tests"]
fn run() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut store = open(Path::new(&dir));
    let id = replace(&mut store.writer, "pods", 1, &[row("a", "x", 1, "before")]);
    let mut out = std::io::stdout();
    writeln!(out, "\nsaid ready").unwrap();
    for (n, line) in std::io::stdin().lines().enumerate() {
        let rv = n as u64 + 10;
        let answer = match line.unwrap().as_str() {
            "apply" => store.writer.apply(id, rv, 1, &[upsert(rv)]).err(),
            "journal" => store.writer.journal_put(&[entry("slot", "body")]).err(),
            "number" => (0..2000).find_map(|_| store.writer.next_local_version().err()),
            "read" => {
                let (record, rows) = list(&store.reader, id);
                assert_eq!(rows.len() as u64, record.objects);
                None
            }
            other => panic!("{other}"),
        };
        writeln!(out, "\nsaid {}", answer.map_or("ok", |e: StoreError| e.reason())).unwrap();
    }
}

fn upsert(rv: u64) -> Change {
    Change::Upsert(row("a", "x", rv, vec![b'x'; 3000]))
}

#[test]
fn a_refusing_disk_is_named_and_recovered_from() {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("run");
    let fail = work.path().join("fail");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trouble::run", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, &dir)
        .env("LD_PRELOAD", shim(work.path()))
        .env("YURT_SHIM_DIR", dir.join("store"))
        .env("YURT_SHIM_FAIL", &fail)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .filter_map(|l| l.unwrap().strip_prefix("said ").map(str::to_owned));
    assert_eq!(answers.next().unwrap(), "ready");
    let mut ask = |what: &str| {
        writeln!(input, "{what}").unwrap();
        answers.next().unwrap()
    };
    // Linux: ENOSPC, EDQUOT, EFBIG (a limit of the process), EROFS, EIO.
    let refusals = [(28, "DiskFull"), (122, "DiskFull"), (27, "DiskFull"), (30, "ReadOnly"), (5, "Sqlite")];
    for (errno, reason) in refusals {
        fs::write(&fail, errno.to_string()).unwrap();
        for what in ["apply", "journal", "number", "apply"] {
            assert_eq!(ask(what), reason, "{what} with error {errno}");
            assert_eq!(ask("read"), "ok", "after {what} with error {errno}");
        }
        fs::remove_file(&fail).unwrap();
        for what in ["journal", "apply", "number", "read"] {
            assert_eq!(ask(what), "ok", "{what} after error {errno} is over");
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    let store = open(&dir);
    assert_eq!(store.reader.journal().unwrap().len(), 1);
    assert_eq!(list(&store.reader, CollectionId(1)).0.objects, 1);
}

#[test]
fn the_store_makes_room_for_what_is_newer_and_keeps_what_is_needed() {
    use crate::samples::{header, key, options};
    use yurt_store::CollectionState::{Frozen, Live, Snapshot};
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_bytes = 400_000;
    let mut store = yurt_store::open(options).unwrap();
    let rows: Vec<_> = (0..20).map(|n| row("a", &format!("o{n}"), 1, vec![b'x'; 5000])).collect();
    let mut put = |resource: &str, state, node_owned, now| {
        store.writer.replace(&key(resource), &header(1), state, node_owned, now, &rows).map(|r| r.0)
    };
    let owned = put("pods", Snapshot, true, 1).unwrap();
    let live = put("nodes", Live, false, 2).unwrap();
    let old = put("services", Frozen, false, 3).unwrap();
    let new = put("endpoints", Snapshot, false, 4).unwrap();
    let held = |reader: &yurt_store::Reader| -> Vec<_> {
        reader.collections().unwrap().into_iter().map(|c| c.id).collect()
    };
    assert_eq!(held(&store.reader), [owned, live, new], "{old:?} was the least recently used");
    let mut put = |resource: &str, rows: &[_]| {
        store.writer.replace(&key(resource), &header(1), Live, false, 5, rows).map(|r| r.0)
    };
    put("secrets", &rows).unwrap();
    let too_much = put("events", &rows).unwrap_err();
    assert!(matches!(too_much, StoreError::TooMuch { limit: 400_000, .. }));
    let report = store.writer.collect_garbage(6).unwrap();
    assert!(report.bytes_after <= 400_000 && report.collections == 0, "{report:?}");
    store.writer.journal_put(&[entry("a", "the journal has its own bound")]).unwrap();
}

#[test]
fn fetched_objects_that_are_needed_make_no_room() {
    use crate::samples::options;
    use yurt_api::collection::ObjectKey;
    use yurt_api::representation::Representation;
    use yurt_api::resource::{Resource, TypeMeta};
    use yurt_store::Fetched;
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.max_bytes = 200_000;
    let mut store = yurt_store::open(options).unwrap();
    let resource = Resource::new("", "v1", "persistentvolumeclaims");
    let fetched = |n: i64| Fetched {
        resource: resource.clone(),
        key: ObjectKey::new("a", &format!("claim-{n}")),
        subresource: String::new(),
        representation: Representation::PROTOBUF,
        type_meta: TypeMeta::new("v1", "PersistentVolumeClaim"),
        resource_version: 4,
        uid: "u".into(),
        body: bytes::Bytes::from(vec![b'x'; 5000]),
        observed_at: 1_800_000_000 + n,
    };
    store.writer.spare_fetched(&[(resource.clone(), fetched(0).key)].into());
    for n in 0..100 {
        store.writer.put_fetched(&fetched(n)).unwrap();
    }
    let held = |n| store.reader.fetched(&resource, &fetched(n).key, "", None).unwrap().is_some();
    assert_eq!([0, 1, 99].map(held), [true, false, true], "the oldest stays, because it is needed");
}

/// A write into a file that nobody will find again is no write: it is refused, reads go on, and the next start begins
/// with what is there.
#[test]
fn a_file_that_was_taken_away_takes_no_writes() {
    for taken in ["store.db", "store.db-wal"] {
        let work = tempfile::tempdir().unwrap();
        let mut store = open(work.path());
        let id = replace(&mut store.writer, "pods", 1, &[row("a", "x", 1, "before")]);
        store.writer.journal_put(&[entry("slot", "body")]).unwrap();
        let file = find(work.path(), taken).unwrap();
        fs::rename(&file, work.path().join("elsewhere")).unwrap();
        let refused = store.writer.journal_put(&[entry("slot", "newer")]).unwrap_err();
        assert_eq!(refused.reason(), "Moved", "{taken}");
        assert_eq!(list(&store.reader, id).1.len(), 1, "reads go on");
        fs::rename(work.path().join("elsewhere"), &file).unwrap();
        store.writer.journal_put(&[entry("slot", "newer")]).unwrap();
    }
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    entries.into_iter().find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => path.ends_with(name).then_some(path),
    })
}
