//! The recent events of one collection, in order, bounded: the history that watches start in.
//!
//! Versions come from two domains. Upstream's are etcd revisions; those of local writes lie at
//! [`LOCAL`] and above, where no etcd will ever count. A change keeps the domain that it came from,
//! so the ring is ordered by position, and within each domain by version.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use yurt_api::collection::ObjectKey;
use yurt_api::object::Attributes;
use yurt_api::watch::EventType;

/// The first version of a local write: sorts after every etcd revision, still fits a signed 64-bit number.
pub const LOCAL: u64 = 1 << 62;

/// Bounds of one ring.
const MAX_ENTRIES: usize = 1024;
const MAX_BYTES: usize = 512 << 10;
const MAX_JUMPS: usize = 32;

/// Whether `version` is one that the hub gave to a local write.
pub fn is_local(version: u64) -> bool {
    version >= LOCAL
}

/// One event, in the collection's own representation.
#[derive(Debug)]
pub struct Entry {
    /// The version that the collection's view has after this event.
    pub version: u64,
    /// Leads watchers from a local version back to the cloud's: never skipped for being old.
    pub lead: bool,
    /// Added, modified or deleted, as seen by a watcher of the whole collection.
    pub kind: EventType,
    /// Whose event.
    pub key: ObjectKey,
    /// The whole frame as a watcher of the collection gets it.
    pub frame: Bytes,
    /// The object in it, in object form.
    pub object: Bytes,
    /// What selectors saw before the event; `None` when the object was not there.
    pub before: Option<Attributes>,
    /// The object before, in item form and at this event's version, where a selector might tell the two apart.
    pub left: Option<Bytes>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.frame.len() + self.left.as_ref().map_or(0, Bytes::len)
    }
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this position; upstream events up to the version are known to the watcher already.
    At {
        /// The first position to deliver.
        position: u64,
        /// Upstream versions up to this one are skipped.
        known: u64,
    },
    /// The history does not reach back that far.
    Gone {
        /// The oldest upstream version from which a watch can start.
        oldest: u64,
    },
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// Position of the first entry.
    first: u64,
    /// The upstream version that the ring begins after.
    floor: u64,
    bytes: usize,
    /// Versions between which lists tell what is different, and nobody knows what happened.
    jumps: VecDeque<(u64, u64)>,
    /// How many there were.
    jumped: u64,
}

impl Ring {
    /// An empty history that begins after `floor`.
    pub fn new(floor: u64) -> Self {
        Ring { entries: VecDeque::new(), first: 0, floor, bytes: 0, jumps: VecDeque::new(), jumped: 0 }
    }

    /// The next events are the difference between a list of version `to` and what was held of version `from`.
    pub fn jump(&mut self, from: u64, to: u64) {
        if from + 1 >= to {
            return;
        }
        self.jumps.push_back((from, to));
        self.jumped += 1;
        if self.jumps.len() > MAX_JUMPS {
            // What lies between the two oldest counts as not known, too.
            if let (Some((from, _)), Some((_, to))) = (self.jumps.pop_front(), self.jumps.pop_front()) {
                self.jumps.push_front((from, to));
            }
        }
    }

    /// How often a list has told the difference.
    pub fn jumped(&self) -> u64 {
        self.jumped
    }

    /// The list that passed over what a client of `version` knows: which objects came into it and went again, nobody
    /// can tell.
    pub fn jumped_over(&self, version: u64) -> Option<u64> {
        self.jumps.iter().find(|(from, to)| *from < version && version < *to).map(|(_, to)| *to)
    }

    /// Adds an event; the oldest go when a bound is reached.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(Arc::new(entry));
        while self.entries.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.first += 1;
            self.bytes -= oldest.bytes();
            if !is_local(oldest.version) {
                self.floor = self.floor.max(oldest.version);
            }
        }
    }

    /// Forgets everything: whoever is in the middle of it, or starts before `floor`, is too old.
    pub fn reset(&mut self, floor: u64) {
        // One position is burnt, so that a watcher at the end notices too.
        self.first += self.entries.len() as u64 + 1;
        self.entries.clear();
        self.bytes = 0;
        self.floor = floor;
        self.jumps.clear();
    }

    /// The position after the newest event.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The events from `position` on, `None` when some of them are gone already.
    pub fn since(&self, position: u64, at_most: usize) -> Option<Vec<Arc<Entry>>> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        Some(self.entries.iter().skip(skip).take(at_most).cloned().collect())
    }

    /// Where a watcher that knows everything up to `version` starts.
    pub fn start_after(&self, version: u64) -> Start {
        let local = is_local(version);
        if !local && version < self.floor {
            return Start::Gone { oldest: self.floor };
        }
        if let Some(oldest) = self.jumped_over(version) {
            return Start::Gone { oldest };
        }
        let known_to_watcher = |e: &Arc<Entry>| is_local(e.version) == local && e.version <= version;
        let after = self.entries.iter().rposition(known_to_watcher).map(|i| i as u64 + 1);
        match (local, after) {
            (true, None) => Start::Gone { oldest: self.floor },
            (true, Some(after)) => Start::At { position: self.first + after, known: 0 },
            (false, after) => Start::At { position: self.first + after.unwrap_or(0), known: version },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: u64) -> Entry {
        Entry {
            version,
            lead: false,
            kind: EventType::Modified,
            key: ObjectKey { namespace: String::new(), name: "x".to_owned() },
            frame: Bytes::from(vec![0; 10]),
            object: Bytes::new(),
            before: None,
            left: None,
        }
    }

    fn ring(floor: u64, versions: &[u64]) -> Ring {
        let mut ring = Ring::new(floor);
        versions.iter().for_each(|v| ring.push(entry(*v)));
        ring
    }

    fn gone(oldest: u64) -> Start {
        Start::Gone { oldest }
    }

    fn at(position: u64, known: u64) -> Start {
        Start::At { position, known }
    }

    #[test]
    fn watches_start_by_version() {
        let l = |n| LOCAL + n;
        let mixed = [5, 7, l(1), l(2), 9, 10];
        let cases: [(u64, &[u64], u64, Start); 13] = [
            (4, &[], 4, at(0, 4)),
            (4, &[], 6, at(0, 6)),
            (4, &[], 3, gone(4)),
            (4, &[5, 7], 4, at(0, 4)),
            (4, &[5, 7], 6, at(1, 6)),
            (4, &[5, 7], 7, at(2, 7)),
            // Whoever knows the cloud's state before the outage gets the local events.
            (4, &mixed, 7, at(2, 7)),
            (4, &mixed, 8, at(2, 8)),
            // Whoever saw the first local event gets the second, then the cloud's.
            (4, &mixed, l(1), at(3, 0)),
            (4, &mixed, l(2), at(4, 0)),
            (4, &mixed, 9, at(5, 9)),
            // A local version from an outage that the ring does not hold.
            (4, &[5, 7], l(2), gone(4)),
            (4, &[l(3)], l(2), gone(4)),
        ];
        for (floor, versions, version, expected) in cases {
            assert_eq!(ring(floor, versions).start_after(version), expected, "{versions:?} from {version}");
        }
    }

    #[test]
    fn the_history_is_bounded_and_says_what_it_lost() {
        let versions: Vec<u64> = (1..=MAX_ENTRIES as u64 + 10).collect();
        let ring = ring(0, &versions);
        assert_eq!(ring.start_after(9), gone(10));
        assert_eq!(ring.start_after(10), at(10, 10));
        assert!(ring.since(9, 1).is_none());
        assert_eq!(ring.since(10, 1).unwrap()[0].version, 11);
        assert_eq!(ring.end(), MAX_ENTRIES as u64 + 10);
    }

    /// What came and went between two lists nobody knows, so that nobody goes on from in between.
    #[test]
    fn a_list_passes_over_who_knows_more_than_what_was_held() {
        let mut ring = ring(4, &[5]);
        ring.jump(5, 9);
        ring.push(entry(9));
        ring.jump(9, 10);
        ring.jump(12, 12);
        let cases =
            [(5, at(1, 5)), (6, gone(9)), (8, gone(9)), (9, at(2, 9)), (10, at(2, 10)), (11, at(2, 11))];
        for (version, expected) in cases {
            assert_eq!(ring.start_after(version), expected, "from {version}");
        }
        for n in 0..MAX_JUMPS as u64 {
            ring.jump(20 + n * 10, 25 + n * 10);
        }
        assert_eq!(ring.jumps.len(), MAX_JUMPS);
        assert_eq!(ring.start_after(10), gone(25), "the oldest are one");
        assert_eq!(ring.start_after(8), gone(25));
        assert_eq!(ring.start_after(36), at(2, 36), "between two others");
        ring.reset(40);
        assert!(ring.jumps.is_empty());
    }

    #[test]
    fn a_reset_leaves_nobody_in_the_middle() {
        let mut ring = ring(4, &[5, 7]);
        let end = ring.end();
        ring.reset(3);
        assert!(ring.since(end, 1).is_none());
        assert_eq!(ring.start_after(3), at(end + 1, 3));
    }
}
