//! What the cloud itself tells of some kinds: one plain watch of each, straight to the apiserver. Clients of the hub
//! are held to exactly these events, because one request may be more than one of them: a pod that is deleted
//! at once is first marked (`registry/generic/registry/store.go`, `updateForGracefulDeletionAndFinalizers`).

use crate::client::Client;
use crate::informers::Event;
use crate::stream::Watch;
use crate::wait::until;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::time::Duration;

const HEARD: Duration = Duration::from_secs(20);

/// A write that the cloud has taken and will tell.
#[derive(Debug)]
pub struct Made {
    /// The kind, as its resource is called.
    pub kind: &'static str,
    /// The UID of the object.
    pub uid: String,
    /// The version that it got; none when it was deleted.
    pub version: Option<String>,
}

/// An event of a kind, in the order of its watch.
struct Told {
    kind: &'static str,
    event: Event,
    bytes: u64,
}

/// Open watches and what they told.
pub struct Record {
    watches: Vec<(&'static str, Watch)>,
    told: Vec<Told>,
}

impl Record {
    /// Begins to follow these kinds, each at its path, from what the cloud holds now.
    pub fn begin<const N: usize>(admin: &Client, kinds: [(&'static str, String); N]) -> Result<Record> {
        let watch = |(kind, path): (&'static str, String)| {
            let list = admin.object(&path)?;
            let version = list["metadata"]["resourceVersion"].as_str().context("a list without version")?;
            Ok((kind, admin.watch(&format!("{path}?watch=true&resourceVersion={version}"))?))
        };
        let watches = kinds.into_iter().map(watch).collect::<Result<_>>()?;
        Ok(Record { watches, told: Vec::new() })
    }

    /// How many events there are so far.
    pub fn count(&self) -> usize {
        self.told.len()
    }

    /// The size of all objects of these events so far, in bytes of JSON.
    pub fn bytes(&self) -> u64 {
        self.told.iter().map(|told| told.bytes).sum()
    }

    /// The events of that kind from the one with the number `from` up to that with the number `to`.
    pub fn between(&self, from: usize, to: usize, kind: &str) -> Vec<&Event> {
        let some = self.told.iter().take(to).skip(from);
        some.filter(|told| told.kind == kind).map(|told| &told.event).collect()
    }

    /// Of the first `to` events those of that kind which come after a version.
    pub fn after(&self, version: u64, to: usize, kind: &str) -> Vec<&Event> {
        let some = self.told.iter().take(to).map(|told| (told.kind, &told.event));
        some.filter(|(of, event)| *of == kind && event.number() > version).map(|(_, event)| event).collect()
    }

    /// The newest version of the first `to` events; 0 when there are none.
    pub fn newest(&self, to: usize) -> u64 {
        self.told.iter().take(to).map(|told| told.event.number()).max().unwrap_or_default()
    }

    /// Waits until each of these writes was told.
    pub fn hear(&mut self, made: &[Made]) -> Result<()> {
        until("the cloud to tell what was written", HEARD, || {
            self.read()?;
            match made.iter().find(|made| !self.told.iter().any(|told| told.is(made))) {
                Some(missing) => bail!("nothing of {missing:?}"),
                None => Ok(()),
            }
        })
    }

    fn read(&mut self) -> Result<()> {
        for (kind, watch) in &self.watches {
            for event in watch.drain()? {
                self.told.push(told(kind, &event)?);
            }
        }
        Ok(())
    }
}

impl Told {
    fn is(&self, made: &Made) -> bool {
        let told = match &made.version {
            Some(version) => self.event.version == *version,
            None => self.event.kind == "DELETED",
        };
        told && self.kind == made.kind && self.event.uid == made.uid
    }
}

fn told(kind: &'static str, event: &Value) -> Result<Told> {
    let object = &event["object"];
    let metadata = &object["metadata"];
    let text =
        |value: &Value| value.as_str().map(str::to_string).with_context(|| format!("odd event {event}"));
    let key = format!("{}/{}", text(&metadata["namespace"])?, text(&metadata["name"])?);
    let event = Event {
        kind: text(&event["type"])?,
        key,
        uid: text(&metadata["uid"])?,
        version: text(&metadata["resourceVersion"])?,
    };
    Ok(Told { kind, event, bytes: u64::try_from(object.to_string().len())? })
}
