//! One story per part of the store.

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use yurt_api::collection::ObjectKey;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::resource::{Resource, TypeMeta};
use yurt_store::{
    Change, CollectionState, Document, Fetched, Grant, KnownPrincipal, OpenReport, Operation, StoreError,
    VaultedToken,
};

use crate::samples::{entry, header, key, list, list_in, open, options, replace, row};

#[test]
fn a_collection_is_replaced_changed_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.report, OpenReport::Fresh);
    let rows = [row("a", "x", 5, "one"), row("a-b", "x", 6, "two"), row("b", "y", 7, "three")];
    let (id, changes, previous) =
        store.writer.replace(&key("pods"), &header(9), CollectionState::Live, true, 10, &rows).unwrap();
    assert_eq!((changes.len(), previous), (3, vec![None, None, None]));

    let changes = [
        Change::Upsert(row("a", "x", 11, "one again")),
        Change::Delete { key: ObjectKey::new("b", "y"), resource_version: 12 },
        Change::Delete { key: ObjectKey::new("b", "none"), resource_version: 12 },
    ];
    let applied = store.writer.apply(id, 12, 20, &changes).unwrap();
    assert_eq!(applied.previous, [Some(rows[0].clone()), Some(rows[2].clone()), None]);

    store.writer.close().unwrap();
    drop(store.reader);
    let store = open(dir.path());
    assert_eq!(store.report, OpenReport::Existing);
    let (record, found) = list(&store.reader, id);
    assert_eq!(found, [rows[1].clone(), row("a", "x", 11, "one again")], "in the order of the apiserver");
    assert_eq!((record.header, record.key), (header(12), key("pods")));
    assert_eq!((record.objects, record.bytes, record.observed_at, record.node_owned), (2, 12, 20, true));
    assert_eq!(list_in(&store.reader, id, Some("a")).1.len(), 1);
    assert_eq!(store.reader.get(id, &ObjectKey::new("a-b", "x")).unwrap(), (Some(rows[1].clone()), 12));
    assert_eq!(store.reader.get(id, &ObjectKey::new("a-b", "y")).unwrap(), (None, 12));
}

#[test]
fn a_replaced_list_says_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let old = [row("a", "stays", 1, "s"), row("a", "changes", 2, "old"), row("a", "goes", 3, "g")];
    let id = replace(&mut store.writer, "pods", 5, &old);
    let new = [row("a", "stays", 1, "s"), row("a", "changes", 8, "new"), row("a", "comes", 9, "c")];
    let (again, changes, previous) =
        store.writer.replace(&key("pods"), &header(9), CollectionState::Frozen, false, 11, &new).unwrap();
    assert_eq!(again, id);
    let gone = Change::Delete { key: ObjectKey::new("a", "goes"), resource_version: 9 };
    assert_eq!(changes, [Change::Upsert(new[1].clone()), Change::Upsert(new[2].clone()), gone]);
    assert_eq!(previous, [Some(old[1].clone()), None, Some(old[2].clone())]);
    let (record, _) = list(&store.reader, id);
    assert_eq!((record.objects, record.bytes, record.state), (3, 5, CollectionState::Frozen));
    assert!(!record.node_owned);
}

#[test]
fn an_upserted_version_lasts_without_being_written_to_the_collections_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = replace(&mut store.writer, "pods", 5, &[row("a", "x", 1, "s")]);
    store.writer.apply(id, 77, 20, &[Change::Upsert(row("a", "y", 76, "t"))]).unwrap();
    drop(store); // no close, as if killed
    let mut store = open(dir.path());
    assert_eq!(list(&store.reader, id).0.header.resource_version, 77);
    // A cloud that was set back (etcd restored from a backup) sets the collection back.
    let rows = [row("a", "x", 1, "s"), row("a", "y", 76, "t")];
    assert_eq!(replace(&mut store.writer, "pods", 50, &rows), id);
    drop(store);
    assert_eq!(list(&open(dir.path()).reader, id).0.header.resource_version, 50);
}

#[test]
fn bookmarks_and_uses_are_seen_at_once_and_last_after_close() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = replace(&mut store.writer, "pods", 5, &[]);
    for (rv, now) in [(20, 1000), (21, 1001)] {
        store.writer.progress(id, rv, now).unwrap();
        store.writer.touch(id, now + 1).unwrap();
    }
    let seen = |store: &yurt_store::Opened| {
        let record = store.reader.collection(id).unwrap().unwrap();
        (record.header.resource_version, record.observed_at, record.used_at)
    };
    assert_eq!(seen(&store), (21, 1001, 1002));
    store.writer.close().unwrap();
    drop(store.reader);
    assert_eq!(seen(&open(dir.path())), (21, 1001, 1002));
}

#[test]
fn a_list_stops_when_told_and_unknown_collections_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = replace(&mut store.writer, "pods", 5, &[row("a", "x", 1, "s"), row("a", "y", 2, "t")]);
    let mut count = 0;
    let mut first = |_| {
        count += 1;
        ControlFlow::Break(())
    };
    store.reader.list(id, None, &mut first).unwrap();
    assert_eq!(count, 1);
    store.writer.set_state(id, CollectionState::Snapshot).unwrap();
    store.writer.remove(id).unwrap();
    assert!(store.reader.collection(id).unwrap().is_none());
    assert!(matches!(store.reader.get(id, &ObjectKey::new("a", "x")), Err(StoreError::NoCollection)));
    assert!(matches!(store.writer.apply(id, 6, 1, &[]), Err(StoreError::NoCollection)));
    assert!(matches!(store.writer.progress(id, 6, 1), Err(StoreError::NoCollection)));
    assert!(matches!(store.writer.set_state(id, CollectionState::Live), Err(StoreError::NoCollection)));
    assert_ne!(replace(&mut store.writer, "pods", 5, &[]), id, "the name of a collection is not used again");
}

#[test]
fn the_journal_coalesces_parks_and_never_repeats_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let seqs = store.writer.journal_put(&[entry("a", "1"), entry("b", "2")]).unwrap().seqs;
    store.writer.journal_attempt(seqs[0]).unwrap();
    let later = yurt_store::NewEntry { at: 200, ..entry("a", "3") };
    let again = store.writer.journal_put(&[later]).unwrap().seqs;
    let journal = store.reader.journal().unwrap();
    let bodies: Vec<_> = journal.iter().map(|e| (e.seq, e.body.as_slice(), e.first_at, e.attempts)).collect();
    assert_eq!(bodies, [(seqs[1], b"2".as_slice(), 100, 0), (again[0], b"3", 100, 0)]);

    store.writer.journal_park(seqs[1], "UidChanged", Some(b"cloud"), 300).unwrap();
    store.writer.journal_remove(&again).unwrap();
    let local = store.writer.next_local_version().unwrap();
    assert!(seqs[0] < seqs[1] && seqs[1] < again[0] && again[0] < local);
    drop(store);

    let mut store = open(dir.path());
    assert!(store.reader.journal().unwrap().is_empty());
    let conflicts = store.reader.conflicts().unwrap();
    assert_eq!((conflicts[0].reason.as_str(), conflicts[0].at), ("UidChanged", 300));
    assert_eq!((conflicts[0].cloud.as_deref(), conflicts[0].entry.seq), (Some(b"cloud".as_slice()), seqs[1]));
    assert!(store.writer.next_local_version().unwrap() > local);
}

/// P9: what was shown for a month goes; the newest stay, in the order of their entries.
#[test]
fn conflicts_have_an_end() {
    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3600;
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut park = |slot: &str, at: i64| {
        let seq = store.writer.journal_put(&[entry(slot, "x")]).unwrap().seqs[0];
        store.writer.journal_park(seq, "Refused", None, at).unwrap();
    };
    for (slot, at) in [("old", NOW - 31 * DAY), ("no-clock", 12), ("kept", NOW - 29 * DAY), ("new", NOW)] {
        park(slot, at);
    }
    assert_eq!(store.reader.conflicts_since(NOW - DAY).unwrap(), 1);
    assert_eq!(store.writer.forget_conflicts(12).unwrap(), 0, "the time of no clock makes nothing old");
    assert_eq!(store.writer.forget_conflicts(NOW).unwrap(), 1);
    let slots =
        |all: Vec<yurt_store::Conflict>| -> Vec<String> { all.into_iter().map(|c| c.entry.slot).collect() };
    assert_eq!(slots(store.reader.conflicts().unwrap()), ["no-clock", "kept", "new"]);
    assert_eq!(slots(store.reader.newest_conflicts(2).unwrap()), ["new", "kept"]);
    drop(store);
    // More than are kept, written beside the store, which makes an fsync for each.
    let beside = rusqlite::Connection::open(dir.path().join("store/store.db")).unwrap();
    let more = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
        INSERT INTO conflicts SELECT 100000 + i, 's' || i, operation, grp, version, resource, key, uid, at,
        first_at, attempts, body, reason, cloud, ?1 + i FROM n, conflicts WHERE slot = 'new'";
    beside.execute(more, [NOW]).unwrap();
    drop(beside);
    let mut store = open(dir.path());
    assert_eq!(store.writer.forget_conflicts(NOW + 5000).unwrap(), 203);
    assert_eq!(store.reader.journal_figures().unwrap().conflicts, 1000);
}

#[test]
fn the_journal_is_bounded_and_events_are_a_ring() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    (options.journal_max_entries, options.journal_max_bytes, options.events_max) = (3, 1000, 2);
    let mut store = yurt_store::open(options).unwrap();
    for slot in ["a", "b", "c"] {
        store.writer.journal_put(&[entry(slot, "x")]).unwrap();
    }
    let full = store.writer.journal_put(&[entry("d", "x")]).unwrap_err();
    assert!(matches!(full, StoreError::TooMuch { limit: 3, .. }) && full.retriable());
    store.writer.journal_put(&[entry("c", "coalesced")]).unwrap();
    assert!(store.writer.journal_put(&[entry("c", &"x".repeat(1001))]).is_err());
    let event = |slot| yurt_store::NewEntry { operation: Operation::Event, ..entry(slot, slot) };
    let mut dropped = Vec::new();
    for slot in ["e1", "e2", "e3"] {
        dropped.extend(store.writer.journal_put(&[event(slot)]).unwrap().dropped);
    }
    let told: Vec<_> = dropped.iter().map(|e| (e.slot.as_str(), &e.key, e.body.len())).collect();
    assert_eq!(told, [("e1", &event("e1").key, 0)], "who is told what had to go can forget it");
    let slots: Vec<String> = store.reader.journal().unwrap().into_iter().map(|e| e.slot).collect();
    assert_eq!(slots, ["a", "b", "c", "e2", "e3"]);
    assert_eq!(store.writer.events_dropped().load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn fetched_objects_and_documents_are_kept_by_their_form() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let json = Representation { encoding: Encoding::Json, metadata_only: false };
    let protobuf = Representation { encoding: Encoding::Protobuf, metadata_only: false };
    let fetched = Fetched {
        resource: Resource::new("", "v1", "nodes"),
        key: ObjectKey::new("", "edge-1"),
        subresource: String::new(),
        representation: json,
        type_meta: TypeMeta::new("v1", "Node"),
        resource_version: 4,
        uid: "u".into(),
        body: Bytes::from_static(b"{}"),
        observed_at: 50,
    };
    let newer = Fetched { representation: protobuf, observed_at: 60, ..fetched.clone() };
    store.writer.put_fetched(&fetched).unwrap();
    store.writer.put_fetched(&newer).unwrap();
    let (resource, key) = (&fetched.resource, &fetched.key);
    assert_eq!(store.reader.fetched(resource, key, "", Some(json)).unwrap(), Some(fetched.clone()));
    assert_eq!(store.reader.fetched(resource, key, "", None).unwrap(), Some(newer.clone()));
    assert_eq!(store.reader.fetched(resource, key, "status", None).unwrap(), None);
    // A lagging server's answer takes nothing back, in whatever representation and of whatever uid.
    let later = Fetched { resource_version: 9, uid: "v".into(), ..newer.clone() };
    assert!(store.writer.put_fetched(&later).unwrap());
    let older = Fetched { resource_version: 8, observed_at: 70, ..fetched.clone() };
    assert!(!store.writer.put_fetched(&older).unwrap());
    assert_eq!(store.reader.fetched(resource, key, "", Some(json)).unwrap(), Some(fetched.clone()));
    let part = Fetched { subresource: "status".into(), ..older.clone() };
    assert!(store.writer.put_fetched(&part).unwrap(), "a subresource has versions of its own");
    // That of a cluster which went back does.
    store.writer.put_fetched_back(&older).unwrap();
    assert_eq!(store.reader.fetched(resource, key, "", Some(protobuf)).unwrap(), None);
    assert_eq!(store.reader.fetched(resource, key, "", None).unwrap(), Some(older));
    store.writer.forget_fetched(resource, key).unwrap();
    assert_eq!(store.reader.fetched(resource, key, "", None).unwrap(), None);

    let document = Document {
        path: "/openapi/v3?hash=1".into(),
        accept: "application/json".into(),
        status: 200,
        content_type: "application/json".into(),
        etag: Some("e".into()),
        body: Bytes::from(vec![b'x'; 100_000]),
        observed_at: 50,
    };
    let seen = Document { observed_at: 500, ..document.clone() };
    store.writer.put_document(&document).unwrap();
    store.writer.put_document(&seen).unwrap();
    assert_eq!(store.reader.document(&document.path, &document.accept).unwrap(), Some(seen.clone()));
    assert_eq!(store.reader.documents_for(&document.path).unwrap(), [seen]);
    assert_eq!(store.reader.document("/openapi/v3", &document.accept).unwrap(), None);
}

#[test]
fn the_vault_gives_back_what_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let token = VaultedToken { slot: [1; 32], expires_at: 9, body: b"token".into(), observed_at: 5 };
    let principal = KnownPrincipal {
        token_hash: [2; 32],
        user: "system:serviceaccount:a:b".into(),
        uid: "u".into(),
        groups: vec!["g".into()],
        expires_at: None,
        observed_at: 6,
    };
    let grant = Grant {
        user: principal.user.clone(),
        verb: "list".into(),
        group: String::new(),
        resource: "pods".into(),
        subresource: String::new(),
        namespace: "a".into(),
        name: String::new(),
        selector: String::new(),
        allowed: true,
        at: 7,
    };
    store.writer.put_token(&token).unwrap();
    store.writer.put_principal(&principal).unwrap();
    store.writer.put_grant(&grant).unwrap();
    store.writer.put_review(&[3; 32], b"yes", 8).unwrap();
    drop(store);

    let mut store = open(dir.path());
    assert_eq!(store.reader.token(&[1; 32]).unwrap(), Some(token));
    assert_eq!(store.reader.token(&[2; 32]).unwrap(), None);
    assert_eq!(store.reader.principal(&[2; 32]).unwrap(), Some(principal));
    assert_eq!(store.reader.grants(&grant.user).unwrap(), std::slice::from_ref(&grant));
    assert_eq!(store.reader.review(&[3; 32]).unwrap(), Some((b"yes".to_vec(), 8)));
    let refused = Grant { allowed: false, at: 9, ..grant.clone() };
    store.writer.put_grant(&refused).unwrap();
    assert_eq!(store.reader.grants(&grant.user).unwrap(), [refused], "the newer answer to the same question");
    store.writer.remove_grant(&grant).unwrap();
    assert!(store.reader.grants(&grant.user).unwrap().is_empty());
}

/// P9, P7: years of Jobs leave no tokens behind; a pod that is there keeps its own however many there are.
#[test]
fn tokens_of_pods_that_are_gone_are_forgotten() {
    use yurt_store::TokenUse;
    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3600;
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let slot = |n: u32| {
        let mut slot = [0; 32];
        slot[..4].copy_from_slice(&n.to_le_bytes());
        slot
    };
    let mut put = |n: u32, body: &str, observed_at: i64| {
        let token = VaultedToken { slot: slot(n), expires_at: 9, body: body.into(), observed_at };
        store.writer.put_token(&token).unwrap();
    };
    put(0, "needed", NOW - 9 * DAY);
    put(1, "gone", NOW - 2 * DAY);
    put(2, "gone", NOW - 60);
    put(3, "anybody's", NOW - 2 * DAY);
    put(4, "gone", 12);
    let says = |body: &[u8]| match body {
        b"needed" => TokenUse::Needed,
        b"gone" => TokenUse::Gone,
        _ => TokenUse::Unknown,
    };
    assert_eq!(store.writer.forget_tokens(NOW, &says).unwrap(), 1);
    let held: Vec<bool> = (0..5).map(|n| store.reader.token(&slot(n)).unwrap().is_some()).collect();
    assert_eq!(held, [true, false, true, true, true], "a date of no clock says nothing");
    assert_eq!(store.writer.forget_tokens(12, &says).unwrap(), 0, "nor does the time of no clock");
}

/// The bound on tokens: the oldest go first, never those of pods that are there.
#[test]
fn tokens_are_bounded() {
    use yurt_store::TokenUse;
    const NOW: i64 = 1_800_000_000;
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let token = |n: u8| VaultedToken {
        slot: [n; 32],
        expires_at: 9,
        body: vec![n],
        observed_at: NOW - 100 + i64::from(n),
    };
    (0..3).for_each(|n| store.writer.put_token(&token(n)).unwrap());
    drop(store);
    // As many as the bound, younger than those: written beside the store, which makes an fsync for each.
    let file = dir.path().join("store/store.db");
    let beside = rusqlite::Connection::open(file).unwrap();
    let more = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
        INSERT INTO remembered (what, owner, key, observed_at, body)
        SELECT 'token', '', randomblob(32), ?1, x'00' FROM n";
    beside.execute(more, [NOW]).unwrap();
    drop(beside);
    let mut store = open(dir.path());
    let says = |body: &[u8]| if body == [0] { TokenUse::Needed } else { TokenUse::Unknown };
    assert_eq!(store.writer.forget_tokens(NOW, &says).unwrap(), 2);
    let held: Vec<bool> = (0..3).map(|n| store.reader.token(&[n; 32]).unwrap().is_some()).collect();
    assert_eq!(held, [true, false, false], "the oldest that nobody needs went");
}

#[test]
fn a_second_opener_is_refused_and_nobody_else_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(matches!(yurt_store::open(options(dir.path())), Err(StoreError::Locked)));
    let folder = dir.path().join("store");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
    drop(store);
    open(dir.path());
}
