//! What informers of any library tell of themselves, and what they are held to: each change once, in order,
//! no list that was not needed.

use anyhow::{Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Informers by their names, such as `pods/protobuf`.
pub type Informers = BTreeMap<String, Informer>;

/// An informer as its program tells it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Informer {
    /// Whether its store was complete once.
    pub synced: bool,
    /// Lists that it made.
    pub lists: usize,
    /// Streaming lists that it made.
    pub streams: usize,
    /// Watches that it began.
    pub watches: usize,
    /// Seconds since it began the newest of them; a library that does not tell says 0.
    #[serde(default)]
    pub age: f64,
    /// Requests that failed, and error events.
    pub failed: Vec<String>,
    /// Changes as they came over the wire; what a list or the start of a streaming list held is none.
    pub events: Vec<Event>,
}

/// A change as it came over the wire.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`; `APPLIED` where the library does not tell the first two apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// Namespace and name of the object.
    pub key: String,
    /// Its UID.
    pub uid: String,
    /// The version of this state.
    pub version: String,
}

impl Informer {
    /// How often it asked for everything.
    pub fn beginnings(&self) -> usize {
        self.lists + self.streams
    }

    /// How often it asked for anything.
    pub fn asked(&self) -> usize {
        self.beginnings() + self.watches
    }

    /// An error unless it heard each of these events once, and nothing else.
    pub fn heard(&self, told: &[&Event]) -> Result<()> {
        for one in told {
            let times = self.events.iter().filter(|event| event.tells(one)).count();
            if times != 1 {
                bail!("{one:?} was told {times} times; requests that failed: {:?}", self.failed);
            }
        }
        if self.events.len() != told.len() {
            let odd = self.events.iter().find(|event| !told.iter().any(|one| event.tells(one)));
            bail!("{} events and not {}, such as {odd:?}", self.events.len(), told.len());
        }
        self.in_order()
    }

    /// An error when the versions of an object do not grow from event to event.
    fn in_order(&self) -> Result<()> {
        let mut newest = BTreeMap::new();
        for event in &self.events {
            let version: u64 = event.version.parse()?;
            if newest.insert(&event.key, version).is_some_and(|before| before >= version) {
                bail!("{event:?} came after a later version");
            }
        }
        Ok(())
    }
}

impl Event {
    /// Whether this is that event of the cloud's, as far as the library tells.
    fn tells(&self, other: &Event) -> bool {
        let same_kind = match self.kind.as_str() {
            "APPLIED" => other.kind != "DELETED",
            kind => kind == other.kind,
        };
        same_kind && self.key == other.key && self.uid == other.uid && self.version == other.version
    }
}
