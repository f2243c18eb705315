//! Prints what the store costs on this machine: bytes and CPU per event, lists, opens, journal writes.
//!
//! `cargo run --release -p yurt-store --example figures [folder]`. For fsyncs run it under `strace -c -f`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::list::ListHeader;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::resource::{Resource, TypeMeta};
use yurt_store::{Change, CollectionId, CollectionState, NewEntry, Opened, Operation, Options, Row, SealKey};

const EVENTS: u64 = 5_000;

fn main() {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("yurt-store-figures-{}", std::process::id()));
    let mut store = open(&dir);
    println!("{:<44} {:>10} {:>10} {:>10}", "what", "wall", "cpu", "bytes");
    let pods = fill(&mut store, "pods", 1_000);
    events(&mut store, "event, upsert of one of 100 objects", pods, 100);
    events(&mut store, "event, upsert of one of 1,000 objects", pods, 1_000);
    let secrets = fill(&mut store, "secrets", 1_000);
    events(&mut store, "event, sealed, one of 1,000 objects", secrets, 1_000);
    deletes(&mut store, pods);
    journal(&mut store);
    fill(&mut store, "configmaps", 1_000);
    fill(&mut store, "services", 4_000);
    list(&store, pods);
    gets(&store, pods);
    drop(store);
    reopen(&dir, "open after a crash, 6,000 objects");
    open(&dir).writer.close().unwrap();
    reopen(&dir, "open after a close, 6,000 objects");
    println!("file: {} bytes", dir.join("store.db").metadata().unwrap().len());
    std::fs::remove_dir_all(&dir).unwrap();
}

fn open(dir: &Path) -> Opened {
    yurt_store::open(Options::new(dir, SealKey::from_bytes([7; 32]))).unwrap()
}

fn reopen(dir: &Path, what: &str) {
    let meter = Meter::start();
    let store = open(dir);
    meter.stop(what, 1);
    drop(store);
}

fn fill(store: &mut Opened, resource: &str, objects: u64) -> CollectionId {
    let key = CollectionKey {
        resource: Resource::new("", "v1", resource),
        namespace: None,
        labels: String::new(),
        fields: String::new(),
        representation: Representation { encoding: Encoding::Protobuf, metadata_only: false },
    };
    let header =
        ListHeader { type_meta: TypeMeta::new("v1", "List"), resource_version: 1, ..ListHeader::default() };
    let rows: Vec<Row> = (0..objects).map(|n| row(n, 1)).collect();
    let meter = Meter::start();
    let filled = store.writer.replace(&key, &header, CollectionState::Live, true, 0, &rows).unwrap();
    meter.stop(&format!("list of {objects} {resource} stored, per object"), objects);
    filled.0
}

/// About 2 KB that differ from version to version in every page.
fn row(n: u64, rv: u64) -> Row {
    let mut state = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ rv;
    let body: Vec<u8> = (0..2000 + rv % 10)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let key = ObjectKey::new("default", &format!("web-{n:05}"));
    Row {
        key,
        resource_version: rv,
        uid: format!("3f1d9c2e-0000-4000-8000-{n:012}"),
        body: Bytes::from(body),
    }
}

fn events(store: &mut Opened, what: &str, id: CollectionId, spread: u64) {
    let changes: Vec<Change> =
        (0..EVENTS).map(|n| Change::Upsert(row(n * 7 % spread, 1_000_000 + n))).collect();
    let meter = Meter::start();
    for (n, change) in changes.iter().enumerate() {
        store.writer.apply(id, 1_000_000 + n as u64, 1, std::slice::from_ref(change)).unwrap();
    }
    meter.stop(what, EVENTS);
}

fn deletes(store: &mut Opened, id: CollectionId) {
    let (meter, count) = (Meter::start(), 200);
    for n in 0..count {
        let change = Change::Delete { key: row(n, 1).key, resource_version: 9_000_000 + n };
        store.writer.apply(id, 9_000_000 + n, 1, &[change]).unwrap();
    }
    meter.stop("event, deletion", count);
}

fn journal(store: &mut Opened) {
    let (meter, count) = (Meter::start(), 200);
    for n in 0..count {
        let entry = NewEntry {
            slot: format!("pods/{}", n % 10),
            operation: Operation::Status,
            resource: Resource::new("", "v1", "pods"),
            key: ObjectKey::new("default", "web"),
            uid: "u".into(),
            body: vec![b'x'; 2000],
            at: 1,
        };
        store.writer.journal_put(&[entry]).unwrap();
    }
    meter.stop("journal_put of one entry of 2 KB", count);
}

fn list(store: &Opened, id: CollectionId) {
    let (meter, times) = (Meter::start(), 20);
    for _ in 0..times {
        let mut rows = 0;
        let mut each = |_| {
            rows += 1;
            ControlFlow::Continue(())
        };
        store.reader.list(id, None, &mut each).unwrap();
        assert_eq!(rows, 800);
    }
    meter.stop("list of 800 rows of 2 KB", times);
}

fn gets(store: &Opened, id: CollectionId) {
    let (meter, times) = (Meter::start(), 10_000);
    for n in 0..times {
        store.reader.get(id, &row(200 + n * 13 % 800, 1).key).unwrap().0.unwrap();
    }
    meter.stop("get (with making the key)", times);
}

struct Meter {
    wall: Instant,
    cpu: Duration,
    written: u64,
}

impl Meter {
    fn start() -> Self {
        Meter { wall: Instant::now(), cpu: cpu(), written: written() }
    }

    fn stop(self, what: &str, times: u64) {
        let micros = |d: Duration| d.as_secs_f64() * 1e6 / times as f64;
        let bytes = (written() - self.written) / times;
        println!(
            "{what:<44} {:>7.1} us {:>7.1} us {bytes:>10}",
            micros(self.wall.elapsed()),
            micros(cpu() - self.cpu)
        );
    }
}

/// CPU of this process, by the scheduler's own clock (ns).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// What was given to `write` and `pwrite`, in bytes.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|l| l.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}
