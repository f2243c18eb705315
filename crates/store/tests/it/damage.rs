//! Damaged files: said, set aside, never a panic, never other data than was written.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use yurt_store::{OpenReport, Opened, Row, SealKey, StoreError, VaultedToken};

use crate::samples::{entry, key, open, options, replace, row};

const SECRET: &[u8] = b"plaintext-of-a-secret-that-nobody-may-find";

fn rows() -> Vec<Row> {
    (0..40)
        .map(|n| row("ns", &format!("o{n}"), n + 1, format!("object {n} ").repeat(150 + n as usize)))
        .collect()
}

/// A closed store with something of everything.
fn filled(dir: &Path) {
    let mut store = open(dir);
    replace(&mut store.writer, "pods", 50, &rows());
    replace(&mut store.writer, "secrets", 50, &rows());
    store.writer.journal_put(&[entry("a", "first"), entry("b", "second")]).unwrap();
    let token = VaultedToken { slot: [1; 32], expires_at: 9, body: b"token".into(), observed_at: 5 };
    store.writer.put_token(&token).unwrap();
    store.writer.close().unwrap();
}

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join("store/store.db")
}

#[test]
fn a_file_that_is_no_store_is_set_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut store = open(dir.path());
    let last = store.writer.next_local_version().unwrap();
    drop(store);
    let garbage = vec![0xA5; 50_000];
    fs::write(file(dir.path()), &garbage).unwrap();
    fs::write(dir.path().join("store/store.db-wal"), b"wal of it").unwrap();

    let mut store = open(dir.path());
    let OpenReport::Damaged { set_aside, why } = &store.report else { panic!("{:?}", store.report) };
    assert!(set_aside.file_name().unwrap().to_str().unwrap().starts_with("store.db.damaged-2"));
    assert!(!why.is_empty());
    assert_eq!(fs::read(set_aside).unwrap(), garbage);
    let wal = set_aside.with_file_name(format!("{}-wal", set_aside.file_name().unwrap().to_str().unwrap()));
    assert_eq!(fs::read(wal).unwrap(), b"wal of it");
    assert!(store.reader.collections().unwrap().is_empty());
    assert!(store.writer.next_local_version().unwrap() > last, "numbers do not begin anew");
    replace(&mut store.writer, "pods", 50, &rows());
    drop(store);
    assert_eq!(open(dir.path()).report, OpenReport::Existing);
}

#[test]
fn another_sqlite_file_is_set_aside_and_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let set = |pragma: &str| {
        rusqlite::Connection::open(file(dir.path())).unwrap().execute_batch(pragma).unwrap();
    };
    set("PRAGMA user_version = 99");
    let before = fs::read(file(dir.path())).unwrap();
    let refused = yurt_store::open(options(dir.path())).err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
    assert!(!refused.retriable());
    assert!(fs::read(file(dir.path())).unwrap() == before, "a refused store is left as it is");
    set("PRAGMA user_version = 1; PRAGMA application_id = 5");
    assert!(matches!(open(dir.path()).report, OpenReport::Damaged { .. }));
}

#[test]
fn an_index_that_lost_an_object_is_found() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut bytes = fs::read(file(dir.path())).unwrap();
    // In an index entry the key is followed by the next entry or its rowid, in a row by the versions: an index
    // page is one that holds many keys close together.
    let keys = |page: &[u8]| page.windows(4).filter(|w| *w == b"ns/o").count();
    let page = bytes.chunks_mut(1024).max_by_key(|page| keys(page)).unwrap();
    assert!(keys(page) > 10);
    // All of them: some lie where entries stood before the page was split.
    let all: Vec<usize> = (0..1020).filter(|at| &page[*at..at + 4] == b"ns/o").collect();
    all.into_iter().for_each(|at| page[at + 3] = b'O');
    fs::write(file(dir.path()), &bytes).unwrap();
    assert!(matches!(open(dir.path()).report, OpenReport::Damaged { .. }));
}

#[test]
fn another_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut other = options(dir.path());
    other.key = SealKey::from_bytes([8; 32]);
    assert!(matches!(yurt_store::open(other), Err(StoreError::Sealed(_))));
    assert_eq!(open(dir.path()).report, OpenReport::Existing);
}

#[test]
fn secrets_are_nowhere_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    replace(&mut store.writer, "secrets", 5, &[row("ns", "s", 1, SECRET)]);
    replace(&mut store.writer, "pods", 5, &[row("ns", "p", 1, b"plaintext-of-a-pod")]);
    let fetched = yurt_store::Fetched {
        resource: key("secrets").resource,
        key: yurt_api::collection::ObjectKey::new("ns", "s"),
        subresource: String::new(),
        representation: key("secrets").representation,
        type_meta: yurt_api::resource::TypeMeta::new("v1", "Secret"),
        resource_version: 1,
        uid: "u".into(),
        body: bytes::Bytes::from_static(SECRET),
        observed_at: 1,
    };
    store.writer.put_fetched(&fetched).unwrap();
    store.writer.put_review(&[1; 32], SECRET, 1).unwrap();
    let token = VaultedToken { slot: [1; 32], expires_at: 9, body: SECRET.into(), observed_at: 5 };
    store.writer.put_token(&token).unwrap();
    let seqs = store.writer.journal_put(&[entry("a", std::str::from_utf8(SECRET).unwrap())]).unwrap().seqs;
    store.writer.journal_put(&[entry("b", std::str::from_utf8(SECRET).unwrap())]).unwrap();
    store.writer.journal_park(seqs[0], "why", Some(SECRET), 1).unwrap();
    assert_eq!(store.reader.fetched(&fetched.resource, &fetched.key, "", None).unwrap(), Some(fetched));
    let found = |text: &[u8]| {
        let folder = fs::read_dir(dir.path().join("store")).unwrap();
        let mut files = folder.map(|f| fs::read(f.unwrap().path()).unwrap());
        files.any(|content| content.windows(text.len()).any(|w| w == text))
    };
    assert!(found(b"plaintext-of-a-pod"), "this search finds what is there");
    assert!(!found(SECRET) && !found(&SECRET[..16]));
    store.writer.close().unwrap();
    assert!(found(b"plaintext-of-a-pod") && !found(SECRET) && !found(&SECRET[..16]));
}

#[test]
fn sealed_records_cannot_be_exchanged() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let conn = rusqlite::Connection::open(file(dir.path())).unwrap();
    conn.execute_batch(
        "CREATE TEMP TABLE b AS SELECT seq, body FROM journal;
         UPDATE journal SET body = (SELECT body FROM b WHERE b.seq <> journal.seq);
         UPDATE objects SET body = (SELECT body FROM objects o WHERE o.collection = 2 AND o.key = 'ns/o1')
         WHERE collection = 2 AND key = 'ns/o2';",
    )
    .unwrap();
    drop(conn);
    let store = open(dir.path());
    assert_eq!(store.unreadable_entries, 2);
    assert!(store.reader.journal().unwrap().is_empty());
    let conflicts = store.reader.conflicts().unwrap();
    assert_eq!(conflicts.len(), 2);
    assert!(conflicts.iter().all(|c| c.reason == "DamagedOnDisk" && c.entry.body.is_empty()));
    let id = store.reader.collections().unwrap()[1].id;
    let get = |name| store.reader.get(id, &yurt_api::collection::ObjectKey::new("ns", name));
    assert!(matches!(get("o2"), Err(StoreError::Sealed(_))));
    assert!(get("o1").unwrap().0.is_some());
}

/// Everything that is read is what was written, or an error says that it is not.
fn reads_true_or_says(store: &mut Opened) -> usize {
    let expected = rows();
    let mut errors = 0;
    let collections = store.reader.collections().inspect_err(|_| errors += 1).unwrap_or_default();
    for collection in collections {
        let mut found = Vec::new();
        let mut each = |row| {
            found.push(row);
            ControlFlow::Continue(())
        };
        match store.reader.list(collection.id, None, &mut each) {
            Ok(_) => errors += usize::from(found.len() != expected.len()),
            Err(_) => errors += 1,
        }
        for row in found {
            assert!(expected.contains(&row), "{:?} is not what was written", row.key);
        }
    }
    match store.reader.journal() {
        Ok(entries) => {
            errors += usize::from(entries.len() != 2);
            let bodies = entries.iter().map(|e| e.body.as_slice());
            assert!(bodies.clone().all(|b| b == b"first" || b == b"second"));
        }
        Err(_) => errors += 1,
    }
    match store.reader.token(&[1; 32]) {
        Ok(token) => assert!(token.is_none_or(|t| t.body == b"token" && t.expires_at == 9)),
        Err(_) => errors += 1,
    }
    // Writing must not panic either.
    errors += usize::from(store.writer.journal_put(&[entry("c", "third")]).is_err());
    errors += usize::from(store.writer.next_local_version().is_err());
    errors
}

#[test]
fn flipped_bits_are_never_taken_for_data() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path());
    let bytes = fs::read(file(whole.path())).unwrap();
    let (mut said, mut aside) = (0, 0);
    for round in 0..150_usize {
        let mut bytes = bytes.clone();
        let place =
            (seed as usize).wrapping_mul(2_654_435_761).wrapping_add(round * 40_503_719) % bytes.len();
        bytes[place] ^= 1 << (round % 8);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        fs::write(file(dir.path()), &bytes).unwrap();
        println!("round {round}: bit {} of byte {place}", round % 8);
        match yurt_store::open(options(dir.path())) {
            Ok(store) if matches!(store.report, OpenReport::Damaged { .. }) => aside += 1,
            Ok(mut store) => said += usize::from(reads_true_or_says(&mut store) > 0),
            Err(e) => assert!(matches!(e, StoreError::Newer { .. } | StoreError::Sealed(_)), "{e}"),
        }
    }
    println!("{said} said while reading, {aside} set aside");
    assert!(said > 50, "most bits are in bodies: {said}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn garbage_and_truncation_never_panic(cut in 0_usize..120_000, fill in any::<Option<u8>>()) {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let mut bytes = fs::read(file(dir.path())).unwrap();
        let cut = cut % bytes.len();
        match fill {
            Some(fill) => bytes[cut..].fill(fill),
            None => bytes.truncate(cut),
        }
        fs::write(file(dir.path()), &bytes).unwrap();
        let mut store = open(dir.path());
        if store.report == OpenReport::Existing {
            reads_true_or_says(&mut store);
        }
    }
}

/// The structure is whole, and SQLite calls it a fault of the statement.
#[test]
fn a_flipped_bit_in_the_name_of_a_column_is_damage() {
    for name in ["reserved INTEGER", "sealed BLOB", "observed_at INTEGER"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let mut bytes = fs::read(file(dir.path())).unwrap();
        // What SQLite has moved stays behind where it was, too.
        let found = |at: &usize| bytes[*at..].starts_with(name.as_bytes());
        for at in (0..bytes.len()).filter(found).collect::<Vec<_>>() {
            bytes[at] ^= 1;
        }
        fs::write(file(dir.path()), &bytes).unwrap();
        assert!(matches!(open(dir.path()).report, OpenReport::Damaged { .. }), "{name}");
    }
}

#[test]
fn damage_that_is_met_is_checked_for_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let conn = rusqlite::Connection::open(file(dir.path())).unwrap();
    conn.execute("UPDATE objects SET rv = 1000 WHERE collection = 1 AND key = 'ns/o3'", []).unwrap();
    drop(conn);
    let suspect = dir.path().join("store/store.suspect");
    let mut store = open(dir.path());
    let id = store.reader.collections().unwrap()[0].id;
    let mut each = |_| ControlFlow::Continue(());
    assert!(matches!(store.reader.list(id, None, &mut each), Err(StoreError::Damaged(_))));
    assert!(suspect.exists());
    store.writer.remove(id).unwrap();
    let again = replace(&mut store.writer, "pods", 60, &rows());
    assert_eq!(crate::samples::list(&store.reader, again).1.len(), 40, "fetched again");
    drop(store);
    assert_eq!(open(dir.path()).report, OpenReport::Existing, "the structure is whole");
    assert!(!suspect.exists());
}

#[test]
fn a_key_file_is_made_once_and_must_be_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    SealKey::load_or_create(&path).unwrap();
    let made = fs::read(&path).unwrap();
    assert_eq!((made.len(), path.metadata().unwrap().permissions().mode() & 0o777), (32, 0o600));
    SealKey::load_or_create(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), made);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(SealKey::load_or_create(&path), Err(StoreError::Sealed(_))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, [0; 31]).unwrap();
    assert!(matches!(SealKey::load_or_create(&path), Err(StoreError::Sealed(_))));
}
