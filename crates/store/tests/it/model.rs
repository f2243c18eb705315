//! Random operations against the store and against maps: they must agree after every step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use yurt_api::collection::ObjectKey;
use yurt_store::{
    Change, CollectionId, CollectionState, NewEntry, Opened, Operation, Options, Row, StoreError,
};

use crate::samples::{entry, header, key, list, list_in, options, row};

/// A body's length and content by one number.
type Seed = u16;

#[derive(Clone, Debug)]
enum Op {
    Replace { which: usize, rows: BTreeMap<u8, (u64, Seed)>, rv: u64 },
    Apply { which: usize, changes: Vec<(u8, Option<Seed>)>, rv: u64 },
    Progress { which: usize, rv: u64, now: i64 },
    State { which: usize, state: CollectionState },
    Remove { which: usize },
    Put { slots: Vec<u8>, body: Seed },
    Attempt { nth: usize },
    Deliver { nth: usize },
    Await { nth: usize, version: u64 },
    Show { nth: usize },
    Park { nth: usize },
    Number,
    Reopen { closed: bool },
}

/// Slots from here on are of events.
const EVENTS: u8 = 5;
/// How many of them the journal keeps.
const EVENTS_MAX: usize = 3;

/// Secrets are among them: sealed bodies must come back like any others.
const RESOURCES: [&str; 3] = ["pods", "secrets", "nodes"];

fn op() -> impl Strategy<Value = Op> {
    let which = || 0..RESOURCES.len();
    let state = prop_oneof![Just(CollectionState::Live), Just(CollectionState::Snapshot)];
    prop_oneof![
        3 => (which(), prop::collection::btree_map(0_u8..12, (0_u64..4, any::<Seed>()), 0..8), 1_u64..60)
            .prop_map(|(which, rows, rv)| Op::Replace { which, rows, rv }),
        6 => (which(), prop::collection::vec((0_u8..12, any::<Option<Seed>>()), 0..5), 1_u64..60)
            .prop_map(|(which, changes, rv)| Op::Apply { which, changes, rv }),
        1 => (which(), 1_u64..60, 0_i64..200).prop_map(|(which, rv, now)| Op::Progress { which, rv, now }),
        1 => (which(), state).prop_map(|(which, state)| Op::State { which, state }),
        1 => which().prop_map(|which| Op::Remove { which }),
        2 => (prop::collection::vec(0_u8..12, 1..7), any::<Seed>()).prop_map(|(slots, body)| Op::Put { slots, body }),
        1 => any::<usize>().prop_map(|nth| Op::Attempt { nth }),
        1 => any::<usize>().prop_map(|nth| Op::Deliver { nth }),
        1 => (any::<usize>(), any::<u64>()).prop_map(|(nth, version)| Op::Await { nth, version }),
        1 => any::<usize>().prop_map(|nth| Op::Show { nth }),
        1 => any::<usize>().prop_map(|nth| Op::Park { nth }),
        1 => Just(Op::Number),
        1 => any::<bool>().prop_map(|closed| Op::Reopen { closed }),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Collection {
    id: i64,
    rv: u64,
    /// Without what bookmarks added: a store that is not closed falls back to it.
    saved_rv: u64,
    state: Option<CollectionState>,
    rows: BTreeMap<ObjectKey, Row>,
}

#[derive(Default)]
struct Model {
    collections: BTreeMap<usize, Collection>,
    /// slot, body, attempts by number.
    journal: BTreeMap<u64, (String, String, u32)>,
    /// Slot, body and the cloud's version by number.
    delivered: BTreeMap<u64, (String, String, u64)>,
    conflicts: Vec<u64>,
    last_number: u64,
}

fn object(name: u8, rv: u64, seed: Seed) -> Row {
    let length = usize::from(seed) % 5000;
    let body: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(length).collect();
    // Namespaces that sort differently as tuples and as paths.
    row(["a", "a-b", "b"][usize::from(name % 3)], &format!("n{name}"), rv, body)
}

impl Model {
    fn run(&mut self, store: &mut Option<Opened>, dir: &std::path::Path, op: Op) {
        let Some(opened) = store.as_mut() else { unreachable!() };
        let writer = &mut opened.writer;
        match op {
            Op::Replace { which, rows, rv } => self.replace(opened, which, rows, rv),
            Op::Apply { which, changes, rv } => self.apply(opened, which, changes, rv),
            Op::Progress { which, rv, now } => {
                let Some(c) = self.collections.get_mut(&which) else { return };
                writer.progress(CollectionId(c.id), rv, now).unwrap();
                c.rv = c.rv.max(rv);
            }
            Op::State { which, state } => {
                let Some(c) = self.collections.get_mut(&which) else { return };
                writer.set_state(CollectionId(c.id), state).unwrap();
                c.state = Some(state);
            }
            Op::Remove { which } => {
                let Some(c) = self.collections.remove(&which) else { return };
                writer.remove(CollectionId(c.id)).unwrap();
            }
            Op::Put { slots, body } => self.put(opened, &slots, body),
            Op::Attempt { nth } => {
                let Some(seq) = self.nth(nth) else { return };
                writer.journal_attempt(seq).unwrap();
                self.journal.get_mut(&seq).unwrap().2 += 1;
            }
            Op::Deliver { nth } => {
                let Some(seq) = self.nth(nth) else { return };
                writer.journal_remove(&[seq]).unwrap();
                self.journal.remove(&seq);
            }
            Op::Await { nth, version } => {
                let Some(seq) = self.nth(nth) else { return };
                writer.journal_delivered(seq, version).unwrap();
                let (slot, body, _) = self.journal.remove(&seq).unwrap();
                self.delivered.insert(seq, (slot, body, version));
            }
            Op::Show { nth } => {
                let Some(seq) = nth_of(&self.delivered, nth) else { return };
                writer.delivered_remove(&[seq]).unwrap();
                self.delivered.remove(&seq);
            }
            Op::Park { nth } => {
                let Some(seq) = self.nth(nth) else { return };
                writer.journal_park(seq, "test", Some(b"cloud"), 1).unwrap();
                self.journal.remove(&seq);
                self.conflicts.push(seq);
            }
            Op::Number => self.number(writer.next_local_version().unwrap()),
            Op::Reopen { closed } => {
                let Opened { writer, reader, .. } = store.take().unwrap();
                drop(reader);
                if closed {
                    writer.close().unwrap()
                } else {
                    drop(writer)
                }
                *store = Some(open(dir));
                let reader = &store.as_ref().unwrap().reader;
                for c in self.collections.values_mut() {
                    // What bookmarks said lasts when closed, and may last otherwise.
                    let now = reader.collection(CollectionId(c.id)).unwrap().unwrap().header.resource_version;
                    assert!(now == c.rv || !closed && (c.saved_rv..c.rv).contains(&now));
                    c.rv = now;
                }
            }
        }
    }

    fn replace(&mut self, store: &mut Opened, which: usize, rows: BTreeMap<u8, (u64, Seed)>, rv: u64) {
        let held = self.collections.entry(which).or_default();
        // A row of a version that is held is the held row: the cloud never gives one version two contents.
        let known = |row: Row| match held.rows.get(&row.key) {
            Some(old) if old.resource_version == row.resource_version && row.resource_version != 0 => {
                old.clone()
            }
            _ => row,
        };
        let mut rows: Vec<Row> =
            rows.into_iter().map(|(name, (rv, seed))| known(object(name, rv, seed))).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        let (key, header) = (key(RESOURCES[which]), header(rv));
        let (id, changes, previous) =
            store.writer.replace(&key, &header, CollectionState::Live, false, 1, &rows).unwrap();
        let before = held.rows.clone();
        let mut replayed = before.clone();
        for (change, previous) in changes.iter().zip(&previous) {
            assert_eq!(previous.as_ref(), before.get(change_key(change)));
            change_one(&mut replayed, change);
        }
        let rows: BTreeMap<ObjectKey, Row> = rows.into_iter().map(|r| (r.key.clone(), r)).collect();
        assert_eq!(replayed, rows, "the difference leads from the old rows to the new ones");
        assert!(held.id == 0 || held.id == id.0);
        *held = Collection { id: id.0, rv, saved_rv: rv, state: Some(CollectionState::Live), rows };
    }

    fn apply(&mut self, store: &mut Opened, which: usize, changes: Vec<(u8, Option<Seed>)>, rv: u64) {
        let Some(held) = self.collections.get_mut(&which) else { return };
        let changes: Vec<Change> = changes
            .into_iter()
            .map(|(name, seed)| match seed {
                Some(seed) => Change::Upsert(object(name, rv, seed)),
                None => Change::Delete { key: object(name, rv, 0).key, resource_version: rv },
            })
            .collect();
        let applied = store.writer.apply(CollectionId(held.id), rv, 1, &changes).unwrap();
        let expected: Vec<Option<Row>> = changes.iter().map(|c| change_one(&mut held.rows, c)).collect();
        assert_eq!(applied.previous, expected);
        held.rv = held.rv.max(rv);
        held.saved_rv = held.rv;
    }

    fn put(&mut self, store: &mut Opened, slots: &[u8], body: Seed) {
        let body = format!("{body}");
        let entries: Vec<_> = slots.iter().map(|slot| write(*slot, &body)).collect();
        let kept = store.writer.journal_put(&entries).unwrap();
        for (seq, entry) in kept.seqs.into_iter().zip(entries) {
            self.number(seq);
            self.journal.retain(|_, (slot, ..)| *slot != entry.slot);
            self.journal.insert(seq, (entry.slot, body.clone(), 0));
        }
        let dropped = self.drop_oldest_events();
        let named: Vec<_> = kept.dropped.iter().map(|e| (e.seq, e.slot.clone(), e.uid.clone())).collect();
        assert_eq!(named, dropped);
    }

    /// Those beyond the newest of them: number, slot, uid.
    fn drop_oldest_events(&mut self) -> Vec<(u64, String, String)> {
        let events = self.journal.iter().filter(|(_, (slot, ..))| slot.parse::<u8>().unwrap() >= EVENTS);
        let mut events: Vec<_> =
            events.map(|(seq, (slot, ..))| (*seq, slot.clone(), format!("uid-{slot}"))).collect();
        events.truncate(events.len().saturating_sub(EVENTS_MAX));
        self.journal.retain(|seq, _| events.iter().all(|(gone, ..)| gone != seq));
        events
    }

    fn nth(&self, nth: usize) -> Option<u64> {
        nth_of(&self.journal, nth)
    }

    fn number(&mut self, number: u64) {
        assert!(number > self.last_number, "{number} after {}", self.last_number);
        self.last_number = number;
    }

    fn compare(&self, store: &Opened) {
        let records = store.reader.collections().unwrap();
        assert_eq!(records.len(), self.collections.len());
        for (which, model) in &self.collections {
            let (record, rows) = list(&store.reader, CollectionId(model.id));
            let expected: Vec<Row> = model.rows.values().cloned().collect();
            assert_eq!(rows, expected);
            assert_eq!((&record.key, record.header.resource_version), (&key(RESOURCES[*which]), model.rv));
            assert_eq!(Some(record.state), model.state);
            let bytes: usize = expected.iter().map(|r| r.body.len()).sum();
            assert_eq!((record.objects, record.bytes), (expected.len() as u64, bytes as u64));
            let (_, part) = list_in(&store.reader, CollectionId(model.id), Some("a"));
            let expected: Vec<Row> = expected.into_iter().filter(|r| r.key.namespace == "a").collect();
            assert_eq!(part, expected);
        }
        let journal = store.reader.journal().unwrap().into_iter();
        let journal: BTreeMap<_, _> =
            journal.map(|e| (e.seq, (e.slot, String::from_utf8(e.body).unwrap(), e.attempts))).collect();
        assert_eq!(journal, self.journal);
        let delivered = store.reader.delivered().unwrap().into_iter();
        let delivered: BTreeMap<_, _> = delivered
            .map(|d| (d.entry.seq, (d.entry.slot, String::from_utf8(d.entry.body).unwrap(), d.cloud_version)))
            .collect();
        assert_eq!(delivered, self.delivered);
        let mut parked = self.conflicts.clone();
        parked.sort_unstable();
        let conflicts: Vec<u64> = store.reader.conflicts().unwrap().iter().map(|c| c.entry.seq).collect();
        assert_eq!(conflicts, parked);
    }
}

fn nth_of<T>(by_number: &BTreeMap<u64, T>, nth: usize) -> Option<u64> {
    by_number.keys().nth(nth.checked_rem(by_number.len())?).copied()
}

fn write(slot: u8, body: &str) -> NewEntry {
    let operation = if slot >= EVENTS { Operation::Event } else { Operation::Status };
    NewEntry { operation, ..entry(&slot.to_string(), body) }
}

/// A child process that another test begins at this moment has the lock for as long as it takes to execute.
fn open(dir: &std::path::Path) -> Opened {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        match yurt_store::open(Options { events_max: EVENTS_MAX, ..options(dir) }) {
            Err(StoreError::Locked) if Instant::now() < patience => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn change_key(change: &Change) -> &ObjectKey {
    match change {
        Change::Upsert(row) => &row.key,
        Change::Delete { key, .. } => key,
    }
}

fn change_one(rows: &mut BTreeMap<ObjectKey, Row>, change: &Change) -> Option<Row> {
    match change {
        Change::Upsert(row) => rows.insert(row.key.clone(), row.clone()),
        Change::Delete { key, .. } => rows.remove(key),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_maps(ops in prop::collection::vec(op(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Some(open(dir.path()));
        let mut model = Model::default();
        for op in ops {
            model.run(&mut store, dir.path(), op);
            model.compare(store.as_ref().unwrap());
        }
    }
}
