//! One deterministic run against a store, step by step, that says on standard output what was acknowledged;
//! and what a store must hold after it was cut off at any point of that run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use yurt_api::collection::ObjectKey;
use yurt_store::{Change, CollectionId, CollectionState, NewEntry, OpenReport, Row, VaultedToken, Writer};

use crate::samples::{entry, header, key, list, open, row};

/// Tells the re-executed test binary where to work.
const DIR: &str = "YURT_STORE_STORY_DIR";
/// How many steps to make.
const STEPS: &str = "YURT_STORE_STORY_STEPS";
const SLOT: [u8; 32] = [9; 32];

/// The collection after step `n`: name to body.
type State = BTreeMap<String, Vec<u8>>;

/// The child's side; does nothing in an ordinary test run.
#[test]
#[ignore = "runs in a child process of the crash tests"]
fn run() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let steps: u64 = std::env::var(STEPS).unwrap().parse().unwrap();
    let mut writer = open(Path::new(&dir)).writer;
    say("ready 0");
    for n in 1..=steps {
        step(&mut writer, n);
    }
}

/// The command of the child.
pub fn command(dir: &Path, steps: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "story::run", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir).env(STEPS, steps.to_string()).stdout(Stdio::piped());
    command
}

/// Starts the child.
pub fn start(command: &mut Command) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn step(writer: &mut Writer, n: u64) {
    let rv = n * 10;
    if n % 9 == 1 {
        let rows: Vec<Row> = replaced(n).into_iter().map(|(name, body)| row("ns", &name, rv, body)).collect();
        writer.replace(&key("pods"), &header(rv), CollectionState::Live, true, 1, &rows).unwrap();
    } else {
        let changes: Vec<Change> =
            changed(n).into_iter().map(|(name, body)| change(&name, body, rv)).collect();
        // The first collection of a fresh store.
        writer.apply(CollectionId(1), rv, 1, &changes).unwrap();
    }
    say(&format!("state {n}"));
    let entries = [numbered(n, 0), numbered(n, 1)];
    for seq in writer.journal_put(&entries[..1 + (n % 2) as usize]).unwrap().seqs {
        say(&format!("kept {seq} {n}"));
        if seq % 3 == 0 {
            say(&format!("removing {seq}"));
            writer.journal_remove(&[seq]).unwrap();
            say(&format!("removed {seq}"));
        }
    }
    say(&format!("number {}", writer.next_local_version().unwrap()));
    if n.is_multiple_of(5) {
        let body = n.to_le_bytes().to_vec();
        writer.put_token(&VaultedToken { slot: SLOT, expires_at: 1, body, observed_at: 1 }).unwrap();
        say(&format!("token {n}"));
    }
}

fn numbered(n: u64, which: u64) -> NewEntry {
    entry(&format!("{n}-{which}"), &entry_body(n))
}

fn entry_body(n: u64) -> String {
    format!("{n} ").repeat(200 + (n % 700) as usize)
}

fn change(name: &str, body: Option<Vec<u8>>, rv: u64) -> Change {
    match body {
        Some(body) => Change::Upsert(row("ns", name, rv, body)),
        None => Change::Delete { key: ObjectKey::new("ns", name), resource_version: rv },
    }
}

fn replaced(n: u64) -> State {
    (0..3 + n % 11).map(|i| (format!("pod-{i}"), body(n, i))).collect()
}

fn changed(n: u64) -> Vec<(String, Option<Vec<u8>>)> {
    let one = |i: u64| (format!("pod-{i}"), (!(n + i).is_multiple_of(4)).then(|| body(n, i)));
    vec![one(n % 5), one(5 + n % 3), one(8 + n % 7)]
}

fn body(n: u64, i: u64) -> Vec<u8> {
    let size = [100, 900, 2100, 30_000][((n + i) % 4) as usize];
    format!("step {n} object {i} ").into_bytes().into_iter().cycle().take(size).collect()
}

/// The collection after every step up to `steps`; before the first it is not there.
fn states(steps: u64) -> Vec<State> {
    let mut states = vec![State::new()];
    for n in 1..=steps {
        let mut state = states.last().unwrap().clone();
        if n % 9 == 1 {
            state = replaced(n);
        } else {
            for (name, body) in changed(n) {
                match body {
                    Some(body) => state.insert(name, body),
                    None => state.remove(&name),
                };
            }
        }
        states.push(state);
    }
    states
}

/// What the run has said so far.
#[derive(Clone, Debug, Default)]
pub struct Said {
    ready: bool,
    state: u64,
    /// The last state that was followed by something that is durable.
    durable_state: u64,
    kept: BTreeMap<u64, u64>,
    removing: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    last_number: u64,
    token: u64,
}

impl Said {
    pub fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else { return };
        let mut number = || words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or_default();
        match word {
            "ready" => self.ready = true,
            "state" => self.state = number(),
            "kept" => {
                let seq = number();
                self.kept.insert(seq, number());
                self.last_number = self.last_number.max(seq);
                self.durable_state = self.state;
            }
            "removing" => drop(self.removing.insert(number())),
            "removed" => drop(self.removed.insert(number())),
            "number" => self.last_number = self.last_number.max(number()),
            "token" => self.token = number(),
            _ => {}
        }
    }

    /// Opens the store and holds it against what was said. After a power cut the newest states may be gone.
    pub fn check(&self, dir: &Path, power_cut: bool) {
        let mut store = open(dir);
        match (&store.report, self.ready) {
            (OpenReport::Existing, _) | (OpenReport::Fresh, false) => {}
            (report, _) => panic!("{report:?}"),
        }
        assert_eq!(store.unreadable_entries, 0);
        self.check_journal(&store);
        self.check_states(&store, power_cut);
        let token = store.reader.token(&SLOT).unwrap();
        let token = token.map_or(0, |t| u64::from_le_bytes(t.body.try_into().unwrap()));
        assert!(token == self.token || token == self.token / 5 * 5 + 5, "token {token}, said {}", self.token);
        let next = store.writer.next_local_version().unwrap();
        assert!(next > self.last_number, "number {next} again");
    }

    fn check_journal(&self, store: &yurt_store::Opened) {
        let journal = store.reader.journal().unwrap();
        let held: BTreeMap<u64, &[u8]> = journal.iter().map(|e| (e.seq, e.body.as_slice())).collect();
        for (seq, n) in &self.kept {
            let body = held.get(seq);
            assert!(
                body.is_some() || self.removing.contains(seq),
                "entry {seq} was acknowledged and is lost"
            );
            assert!(body.is_none_or(|b| *b == entry_body(*n).as_bytes()), "entry {seq} is not what was put");
            assert!(body.is_none() || !self.removed.contains(seq), "entry {seq} is back");
        }
        let unsaid = held.keys().filter(|seq| !self.kept.contains_key(seq)).count();
        assert!(unsaid <= 2, "{unsaid} entries that nobody put");
    }

    fn check_states(&self, store: &yurt_store::Opened, power_cut: bool) {
        let pods = store.reader.collections().unwrap().into_iter().find(|c| c.key == key("pods"));
        let Some(pods) = pods else {
            let may_be_gone = if power_cut { self.durable_state } else { self.state };
            return assert_eq!(may_be_gone, 0, "the collection is gone");
        };
        let (record, rows) = list(&store.reader, pods.id);
        let n = record.header.resource_version / 10;
        let least = if power_cut { self.durable_state } else { self.state };
        assert!((least..=self.state + 1).contains(&n), "state {n}, said {} (durable {least})", self.state);
        let held: State = rows.into_iter().map(|r| (r.key.name, r.body.to_vec())).collect();
        assert!(held == states(n)[n as usize], "not the state of step {n}");
        let bytes: usize = held.values().map(Vec::len).sum();
        assert_eq!((record.objects, record.bytes), (held.len() as u64, bytes as u64));
    }
}
