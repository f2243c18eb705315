//! Bare watches of kube-rs that begin at a version and go on from the newest that they were told.

use super::{Background, Shared, lock, resource, told};
use crate::changes::{KINDS, NAMESPACE};
use crate::informers::{Informer, Informers};
use anyhow::Result;
use futures_util::{Stream, StreamExt, future::join_all};
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta, WatchEvent, WatchParams};
use kube::core::DynamicResourceScope;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

/// The pause before a watch is begun again.
const PAUSE: Duration = Duration::from_millis(500);

/// Running watches of every kind, of whole objects and of metadata alone; they end when dropped.
pub struct Watches {
    notes: BTreeMap<String, Shared<Informer>>,
    _running: Background,
}

impl Watches {
    /// Starts them at this version with the kubeconfig at `config`.
    pub fn start(config: &Path, version: &str) -> Result<Watches> {
        let note = |form| move |kind| (format!("{kind}/{form}"), Shared::<Informer>::default());
        let whole: BTreeMap<_, _> = KINDS.into_iter().map(note("json")).collect();
        let bare: BTreeMap<_, _> = KINDS.into_iter().map(note("metadata")).collect();
        let notes = whole.clone().into_iter().chain(bare.clone()).collect();
        let version = version.to_string();
        let work = async move |client| {
            let whole = whole
                .iter()
                .map(|(name, notes)| follow(api::<DynamicObject>(&client, name), &version, notes));
            let bare = bare.iter().map(|(name, notes)| {
                follow(api::<PartialObjectMeta<DynamicObject>>(&client, name), &version, notes)
            });
            tokio::join!(join_all(whole), join_all(bare));
        };
        Ok(Watches { notes, _running: Background::start(config, work)? })
    }

    /// What each was told, by its name; initial objects are events here.
    pub fn state(&self) -> Informers {
        self.notes.iter().map(|(name, notes)| (name.clone(), lock(notes).clone())).collect()
    }
}

fn api<K>(client: &kube::Client, name: &str) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    let kind = name.split('/').next().unwrap_or_default();
    Api::namespaced_with(client.clone(), NAMESPACE, &resource(kind))
}

/// Watches until an error event comes.
async fn follow<K>(api: Api<K>, version: &str, notes: &Shared<Informer>)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut version = version.to_string();
    loop {
        lock(notes).watches += 1;
        match api.watch(&WatchParams::default(), &version).await {
            Ok(events) => {
                if hear(events, &mut version, notes).await.is_break() {
                    return;
                }
            }
            Err(error) => lock(notes).failed.push(error.to_string()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Notes what one watch tells, and how far it is told.
async fn hear<K: Resource>(
    events: impl Stream<Item = kube::Result<WatchEvent<K>>>,
    version: &mut String,
    notes: &Shared<Informer>,
) -> ControlFlow<()> {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(WatchEvent::Added(object)) => told("ADDED", &object),
            Ok(WatchEvent::Modified(object)) => told("MODIFIED", &object),
            Ok(WatchEvent::Deleted(object)) => told("DELETED", &object),
            Ok(WatchEvent::Bookmark(bookmark)) => {
                *version = bookmark.metadata.resource_version;
                continue;
            }
            Ok(WatchEvent::Error(status)) => {
                lock(notes).failed.push(format!("{status:?}"));
                return ControlFlow::Break(());
            }
            Err(error) => {
                lock(notes).failed.push(error.to_string());
                return ControlFlow::Continue(());
            }
        };
        version.clone_from(&event.version);
        lock(notes).events.push(event);
    }
    ControlFlow::Continue(())
}
