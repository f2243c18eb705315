//! Informers of kube-rs: a watcher with its reflector for every kind, whole objects and metadata alone, plain
//! and streaming lists.

use super::{Background, Shared, key, lock, resource, told};
use crate::changes::{KINDS, NAMESPACE};
use crate::informers::{Informer, Informers};
use anyhow::Result;
use futures_util::{Stream, StreamExt, future::join_all};
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::{self, watcher};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What one informer noted, and what its reflector holds as JSON by key.
#[derive(Default)]
struct Notes {
    informer: Informer,
    held: Option<Box<dyn Fn() -> BTreeMap<String, Value> + Send>>,
}

/// Running informers; they end when dropped.
pub struct KubeRs {
    notes: Shared<BTreeMap<String, Shared<Notes>>>,
    _running: Background,
}

impl KubeRs {
    /// Starts informers of every kind with the kubeconfig at `config`.
    pub fn start(config: &Path) -> Result<KubeRs> {
        let notes: Shared<BTreeMap<String, Shared<Notes>>> = Shared::default();
        let shared = Arc::clone(&notes);
        let work = async move |client| run(&client, &shared).await;
        Ok(KubeRs { notes, _running: Background::start(config, work)? })
    }

    /// Every informer by its name.
    pub fn state(&self) -> Informers {
        let all = lock(&self.notes).clone();
        all.into_iter().map(|(name, notes)| (name, lock(&notes).informer.clone())).collect()
    }

    /// What each informer's reflector holds, as JSON by key.
    pub fn held(&self) -> BTreeMap<String, BTreeMap<String, Value>> {
        let all = lock(&self.notes).clone();
        all.into_iter().map(|(name, notes)| (name, lock(&notes).objects())).collect()
    }
}

impl Notes {
    fn objects(&self) -> BTreeMap<String, Value> {
        self.held.as_ref().map(|held| held()).unwrap_or_default()
    }
}

async fn run(client: &kube::Client, notes: &Shared<BTreeMap<String, Shared<Notes>>>) {
    let mut all = Vec::new();
    for kind in KINDS {
        for (style, config) in [
            ("plain", watcher::Config::default().any_semantic()),
            ("streaming", watcher::Config::default().streaming_lists()),
        ] {
            let resource = resource(kind);
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
            let note = |form: &str| {
                let one = Shared::<Notes>::default();
                lock(notes).insert(format!("{kind}/{form} {style}"), Arc::clone(&one));
                one
            };
            let whole = keep(watcher(api, config.clone()), resource.clone(), note("json"));
            let bare = Api::<PartialObjectMeta<DynamicObject>>::namespaced_with(
                client.clone(),
                NAMESPACE,
                &resource,
            );
            let bare = keep(watcher(bare, config), resource, note("metadata"));
            all.push(Box::pin(async {
                tokio::join!(whole, bare);
            }));
        }
    }
    join_all(all).await;
}

/// Runs one watcher into its reflector and notes what came.
async fn keep<K>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    resource: ApiResource,
    notes: Shared<Notes>,
) where
    K: Resource<DynamicType = ApiResource> + Clone + Serialize + Send + Sync + 'static,
{
    let writer = Writer::<K>::new(resource);
    let store = writer.as_reader();
    lock(&notes).held = Some(Box::new(move || {
        store
            .state()
            .iter()
            .filter_map(|object| Some((key(&**object), serde_json::to_value(&**object).ok()?)))
            .collect()
    }));
    reflector::reflector(writer, stream)
        .default_backoff()
        .for_each(|event| {
            note(&mut lock(&notes).informer, event);
            std::future::ready(())
        })
        .await;
}

fn note<K: Resource>(informer: &mut Informer, event: watcher::Result<watcher::Event<K>>) {
    match event {
        Ok(watcher::Event::Init) => informer.lists += 1,
        Ok(watcher::Event::InitDone) => informer.synced = true,
        Ok(watcher::Event::InitApply(_)) => {}
        Ok(watcher::Event::Apply(object)) => informer.events.push(told("APPLIED", &object)),
        Ok(watcher::Event::Delete(object)) => informer.events.push(told("DELETED", &object)),
        Err(error) => informer.failed.push(error.to_string()),
    }
}
