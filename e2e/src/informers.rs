//! What informers of any library tell of themselves, and what they are held to: each change once, in order,
//! no list that was not needed.

use anyhow::{Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest wait for events that are on their way; client-go waits up to 30 s before it comes again.
pub const TOLD: Duration = Duration::from_secs(45);

/// client-go takes a watch that ends within its first second without an event for a failure and lists again
/// (`tools/cache/reflector.go`, `handleAnyWatch`). In seconds, with room for the start of its clock.
const GROWN_UP: f64 = 1.2;

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
    /// The version of its newest list, or of the one that it was given; empty when the library does not tell.
    #[serde(default)]
    pub base: String,
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
        self.heard_of(&self.events, told)
    }

    /// The same of a watch that began at version 0 when the newest was `begun`: what is not newer than that is its
    /// beginning.
    pub fn heard_since(&self, begun: u64, told: &[&Event]) -> Result<()> {
        let (beginning, changes): (Vec<_>, Vec<_>) =
            self.events.iter().cloned().partition(|event| event.number() <= begun);
        if let Some(odd) = beginning.iter().find(|event| event.kind != "ADDED") {
            bail!("{odd:?} in the beginning");
        }
        self.heard_of(&changes, told)
    }

    /// Whether it was told that the version where it wanted to begin is gone.
    pub fn was_too_old(&self) -> bool {
        self.failed.iter().any(|failure| failure.contains("too old resource version"))
    }

    fn heard_of(&self, events: &[Event], told: &[&Event]) -> Result<()> {
        for one in told {
            let times = events.iter().filter(|event| event.tells(one)).count();
            if times != 1 {
                bail!("{one:?} was told {times} times; requests that failed: {:?}", self.failed);
            }
        }
        if events.len() != told.len() {
            let odd = events.iter().find(|event| !told.iter().any(|one| event.tells(one)));
            bail!("{} events and not {}, such as {odd:?}", events.len(), told.len());
        }
        in_order(events)
    }
}

/// An error while a watch is so young that client-go would take its end for a failure.
pub fn grown_up(all: &Informers) -> Result<()> {
    match all.iter().find(|(_, informer)| informer.age < GROWN_UP) {
        Some((name, young)) => bail!("the watch of {name} is {:.1} s old", young.age),
        None => Ok(()),
    }
}

/// An error while one of those `before` has not asked for anything since.
pub fn came_again(before: &Informers, now: &Informers) -> Result<()> {
    let again = |name: &String| now.get(name).map_or(0, Informer::asked);
    match before.iter().find(|(name, before)| again(name) <= before.asked()) {
        Some((name, _)) => bail!("{name} has not"),
        None => Ok(()),
    }
}

/// An error when the versions of an object do not grow from event to event.
fn in_order(events: &[Event]) -> Result<()> {
    let mut newest = BTreeMap::new();
    for event in events {
        let version = event.number();
        if newest.insert(&event.key, version).is_some_and(|before| before >= version) {
            bail!("{event:?} came after a later version");
        }
    }
    Ok(())
}

impl Event {
    /// Its version as a number; one that is none is newer than any.
    pub fn number(&self) -> u64 {
        self.version.parse().unwrap_or(u64::MAX)
    }

    /// Whether this is that event of the cloud's, as far as the library tells.
    fn tells(&self, other: &Event) -> bool {
        let same_kind = match self.kind.as_str() {
            "APPLIED" => other.kind != "DELETED",
            kind => kind == other.kind,
        };
        same_kind && self.key == other.key && self.uid == other.uid && self.version == other.version
    }
}
