//! Power cuts, simulated: a real run is recorded, write by write and sync by sync; then every kind of disk that a
//! cut could have left is built from the record and opened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::story::{self, Said};

/// Enough for the WAL to be carried over into the file more than once.
const STEPS: u64 = 420;
const IMAGES: u64 = 150;
/// What a disk writes whole, in bytes.
const SECTOR: usize = 512;

#[test]
fn any_disk_that_a_power_cut_leaves_holds_what_was_acknowledged() {
    let seed = u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
    println!("seed {seed}");
    let work = tempfile::tempdir().unwrap();
    let records = record_run(work.path());
    let syncs = records.iter().filter(|r| r.op == b's').count();
    let carried = records.iter().filter(|r| r.op == b's' && r.name == "store.db").count();
    println!("{} records, {syncs} syncs, {carried} of the file itself", records.len());
    assert!(carried > 2, "no checkpoint in the run: it would prove too little");

    let mut random = Random(seed);
    let mut cuts: Vec<usize> = (0..IMAGES).map(|_| random.below(records.len() + 1)).collect();
    // The moments right after a checkpoint has begun to overwrite the file are the delicate ones.
    let delicate = records.iter().enumerate().filter(|(_, r)| r.op == b'w' && r.name == "store.db");
    cuts.extend(delicate.map(|(n, _)| n + 1).step_by(97));
    cuts.sort_unstable();
    let mut disk = Disk::default();
    let mut said = Said::default();
    let mut at = 0;
    for (image, cut) in cuts.into_iter().enumerate() {
        for record in &records[at..cut] {
            disk.take(record);
            if record.op == b'a' {
                String::from_utf8_lossy(&record.data).lines().for_each(|line| said.hear(line));
            }
        }
        at = cut;
        let dir = work.path().join(format!("image-{image}"));
        let loss = Loss::ALL[image % Loss::ALL.len()];
        println!("image {image}: cut after record {cut}, {loss:?}");
        disk.image(&dir.join("store"), loss, &mut random);
        said.check(&dir, true);
        fs::remove_dir_all(&dir).unwrap();
    }
}

/// The shim, compiled for this run.
pub fn shim(work: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/powercut/shim.c");
    let library = work.join("shim.so");
    let done = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(done.expect("a C compiler").success());
    library
}

fn record_run(work: &Path) -> Vec<Record> {
    let log = work.join("log");
    let dir = work.join("run");
    let mut command = story::command(&dir, STEPS);
    command.env("LD_PRELOAD", shim(work)).env("YURT_SHIM_LOG", &log).env("YURT_SHIM_DIR", dir.join("store"));
    let (mut child, lines) = story::start(&mut command);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let log = fs::read(log).unwrap();
    let mut rest = log.as_slice();
    let mut records = Vec::new();
    while !rest.is_empty() {
        records.push(Record::read(&mut rest));
    }
    records
}

/// One line of the record; the layout is told in `shim.c`.
struct Record {
    op: u8,
    name: String,
    offset: usize,
    data: Vec<u8>,
}

impl Record {
    fn read(rest: &mut &[u8]) -> Record {
        let op = take(rest, 1)[0];
        let length = u16::from_le_bytes(take(rest, 2).try_into().unwrap());
        let name = String::from_utf8(take(rest, length.into()).to_vec()).unwrap();
        let offset = u64::from_le_bytes(take(rest, 8).try_into().unwrap()) as usize;
        let length = u32::from_le_bytes(take(rest, 4).try_into().unwrap());
        Record { op, name, offset, data: take(rest, length as usize).to_vec() }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

/// What a cut does to writes that were not synced.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// All of them are gone.
    All,
    /// None is.
    None,
    /// Those after some moment are, and the one at that moment is torn.
    Tail,
    /// Any sectors, in any order.
    Sectors,
}

impl Loss {
    const ALL: [Loss; 4] = [Loss::All, Loss::None, Loss::Tail, Loss::Sectors];
}

/// Something that was done to a file and not synced.
#[derive(Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// The files, as far as they are safe, and what is not.
#[derive(Default)]
struct Disk {
    safe: BTreeMap<String, Vec<u8>>,
    pending: BTreeMap<String, Vec<Pending>>,
}

impl Disk {
    fn take(&mut self, record: &Record) {
        let pending = self.pending.entry(record.name.clone()).or_default();
        match record.op {
            b'w' => pending.push(Pending::Write(record.offset, record.data.clone())),
            b't' => pending.push(Pending::Truncate(record.offset)),
            b's' => {
                let file = self.safe.entry(record.name.clone()).or_default();
                pending.drain(..).for_each(|p| p.apply(file));
            }
            b'u' => {
                pending.clear();
                self.safe.remove(&record.name);
            }
            _ => {}
        }
    }

    /// Builds a folder as the cut leaves it. The WAL's index lives in memory and does not survive.
    fn image(&self, dir: &Path, loss: Loss, random: &mut Random) {
        fs::create_dir_all(dir).unwrap();
        let none = Vec::new();
        for name in ["store.db", "store.db-wal", "store.db-journal"] {
            let mut file = self.safe.get(name).cloned();
            let pending = self.pending.get(name).unwrap_or(&none);
            let until = random.below(pending.len() + 1);
            for (n, change) in pending.iter().enumerate() {
                let kept = match loss {
                    Loss::All => continue,
                    Loss::None => change.clone(),
                    Loss::Tail if n < until => change.clone(),
                    Loss::Tail if n == until => change.torn(random),
                    Loss::Tail => continue,
                    Loss::Sectors => {
                        change.scattered(random).for_each(|p| p.apply(file.get_or_insert_default()));
                        continue;
                    }
                };
                kept.apply(file.get_or_insert_default());
            }
            if let Some(file) = file {
                fs::write(dir.join(name), file).unwrap();
            }
        }
    }
}

impl Pending {
    fn apply(self, file: &mut Vec<u8>) {
        match self {
            Pending::Truncate(length) => file.resize(length, 0),
            Pending::Write(offset, data) => {
                let end = offset + data.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[offset..end].copy_from_slice(&data);
            }
        }
    }

    /// The first sectors of it.
    fn torn(&self, random: &mut Random) -> Pending {
        match self {
            Pending::Truncate(length) => Pending::Truncate(*length),
            Pending::Write(offset, data) => {
                let sectors = random.below(data.len().div_ceil(SECTOR) + 1);
                let end = (sectors * SECTOR).saturating_sub(offset % SECTOR).min(data.len());
                Pending::Write(*offset, data[..end].to_vec())
            }
        }
    }

    /// Any sectors of it.
    fn scattered(&self, random: &mut Random) -> std::vec::IntoIter<Pending> {
        let mut kept = Vec::new();
        match self {
            Pending::Truncate(length) => kept.extend(random.chance().then_some(Pending::Truncate(*length))),
            Pending::Write(offset, data) => {
                let mut from = 0;
                while from < data.len() {
                    let to = (from + SECTOR - (offset + from) % SECTOR).min(data.len());
                    if random.chance() {
                        kept.push(Pending::Write(offset + from, data[from..to].to_vec()));
                    }
                    from = to;
                }
            }
        }
        kept.into_iter()
    }
}

/// Enough randomness for a test, repeatable from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }
}
