//! What a watch has missed whose version is older than the events in memory: told from the store, which keeps what
//! objects were until they went or changed so that a selector can tell (`yurt_store::History`).
//!
//! It is the difference between the state that the client knows and the present one, each object once: what a client
//! that lists again would find out, without the list. After a restart of the hub this is the only history.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use yurt_api::collection::ObjectKey;
use yurt_api::object::{self, Attributes};
use yurt_api::watch::EventType;
use yurt_store::{History, Row, StoreError};

use super::page::Seen;
use super::pen::Pen;
use super::read::Candidate;
use super::ring::is_local;
use super::{Cache, FrontError};
use crate::respond;

/// An object at one of the two versions: as it was there, and the version that the event of it would have.
#[derive(Clone)]
struct State {
    item: Bytes,
    uid: String,
    version: u64,
}

/// One object between the two versions.
#[derive(Default)]
struct Between {
    before: Option<State>,
    after: Option<State>,
    /// The version with which it went, when it is gone.
    ended: u64,
}

/// An event that was missed.
struct Missed {
    version: u64,
    kind: EventType,
    item: Bytes,
}

/// Frames to begin with, the version that they lead to, and the pen that wrote them.
pub(super) type CaughtUp = (VecDeque<Bytes>, u64, Pen);

impl Cache {
    /// What a watcher of this part has missed since `version`; `Err` gives the oldest version that could be served.
    pub(super) async fn missed(
        &self,
        candidate: &Candidate,
        version: u64,
        mut pen: Pen,
    ) -> Result<Result<CaughtUp, u64>, FrontError> {
        let candidate = candidate.clone();
        let seen = Seen::now(&candidate.collection);
        let reading = self.front.read(move |reader| {
            let keys: Vec<ObjectKey> = seen.masks.keys().cloned().collect();
            let since = reader.since(candidate.collection.id(), version, &keys);
            let history = match candidate.collection.checked(since)? {
                Ok(history) => history,
                Err(oldest) => return Ok(Err(oldest)),
            };
            let reached = seen.version(history.version);
            let mut events = Vec::new();
            for between in differences(history, &seen, version).into_values() {
                events.extend(between.events(&candidate)?);
            }
            events.sort_by_key(|event| event.version);
            let frames = events.iter().map(|event| pen.event(event.kind, &event.item)).collect();
            Ok::<_, StoreError>(Ok((frames, reached, pen)))
        });
        reading.await
    }
}

/// Both states of every object that is not what it was.
fn differences(history: History, seen: &Seen, version: u64) -> BTreeMap<ObjectKey, Between> {
    let mut all: BTreeMap<ObjectKey, Between> = BTreeMap::new();
    let state = |row: &Row, version| State { item: row.body.clone(), uid: row.uid.clone(), version };
    // The first that ended after the version is what the client knows.
    for past in history.past {
        let between = all.entry(past.row.key.clone()).or_insert_with(|| Between {
            before: (past.since <= version).then(|| state(&past.row, past.ended)),
            ..Between::default()
        });
        between.ended = past.ended;
    }
    for (row, since) in history.rows.iter().chain(&history.others) {
        let between = all.entry(row.key.clone()).or_insert_with(|| Between {
            before: (*since <= version).then(|| state(row, row.resource_version)),
            ..Between::default()
        });
        between.after = Some(state(row, row.resource_version));
    }
    for (key, mask) in seen.masks.iter() {
        let between = all.entry(key.clone()).or_default();
        // Of what the client knows nothing is told again; a local write it cannot know.
        if !is_local(mask.version) && mask.version <= version {
            all.remove(key);
            continue;
        }
        let uid = between.after.as_ref().or(between.before.as_ref()).map(|s| s.uid.clone());
        between.ended = mask.version;
        between.after =
            mask.body.clone().map(|item| State { item, uid: uid.unwrap_or_default(), version: mask.version });
    }
    all
}

impl Between {
    /// The events of it that a watcher of the candidate's part gets.
    fn events(self, candidate: &Candidate) -> Result<Vec<Missed>, StoreError> {
        let matches = |state: &Option<State>| match state {
            Some(state) => candidate.shows(&state.item),
            None => Ok(false),
        };
        let (was, is) = (matches(&self.before)?, matches(&self.after)?);
        let another = match (&self.before, &self.after) {
            (Some(before), Some(after)) => before.uid != after.uid,
            _ => false,
        };
        // Another object of that name, or one that went out of sight, leaves with what it was.
        let left = self.before.filter(|_| was && (another || !is));
        let version = if another { left.as_ref().map_or(0, |l| l.version) } else { self.ended };
        let mut events = Vec::new();
        if let Some(left) = left {
            let version = match &self.after {
                Some(after) if !another => after.version,
                _ => version.max(left.version),
            };
            events.push(candidate.missed(EventType::Deleted, &left.item, version, true)?);
        }
        if let Some(after) = self.after.filter(|_| is) {
            let kind = if was && !another { EventType::Modified } else { EventType::Added };
            events.push(candidate.missed(kind, &after.item, after.version, false)?);
        }
        Ok(events)
    }
}

impl Candidate {
    /// Whether an item belongs to the part.
    fn shows(&self, item: &Bytes) -> Result<bool, StoreError> {
        let key = self.collection.key();
        let read = Attributes::read(&key.resource, key.representation.encoding, item);
        Ok(self.filter.matches(&read.map_err(|e| StoreError::Damaged(e.to_string()))?))
    }

    fn missed(&self, kind: EventType, item: &Bytes, version: u64, gone: bool) -> Result<Missed, StoreError> {
        let from = self.collection.key().representation;
        let broken = |e: yurt_api::error::DecodeError| StoreError::Damaged(e.to_string());
        // What left is shown as it was, at the version of its leaving.
        let item = match gone {
            true => object::splice_resource_version(from.encoding, item, version).map_err(broken)?,
            false => item.clone(),
        };
        let item = respond::item_as(from, self.representation, self.collection.item_type(), &item);
        Ok(Missed { version, kind, item: item.map_err(|e| StoreError::Damaged(e.to_string()))? })
    }
}
