//! Informers of kube-rs: a watcher with its reflector for every kind, whole objects and metadata alone, plain
//! and streaming lists, on a thread of its own.

use crate::changes::{KINDS, NAMESPACE};
use crate::informers::{Event, Informer, Informers};
use anyhow::{Context, Result};
use futures_util::{Stream, StreamExt, future::join_all};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, PartialObjectMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::{self, watcher};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

type Shared<T> = Arc<Mutex<T>>;

/// What one informer noted, and what its reflector holds as JSON by key.
#[derive(Default)]
struct Notes {
    informer: Informer,
    held: Option<Box<dyn Fn() -> BTreeMap<String, Value> + Send>>,
}

/// Running informers; they end when dropped.
pub struct KubeRs {
    notes: Shared<BTreeMap<String, Shared<Notes>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KubeRs {
    /// Starts informers of every kind with the kubeconfig at `config`.
    pub fn start(config: &Path) -> Result<KubeRs> {
        let config = Kubeconfig::read_from(config).context("reading the kubeconfig")?;
        let notes: Shared<BTreeMap<String, Shared<Notes>>> = Shared::default();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&notes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(client(config))?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = run(&client, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(KubeRs { notes, stop: Some(stop), thread: Some(thread) })
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

impl Drop for KubeRs {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Notes {
    fn objects(&self) -> BTreeMap<String, Value> {
        self.held.as_ref().map(|held| held()).unwrap_or_default()
    }
}

async fn client(config: Kubeconfig) -> Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
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

fn told<K: Resource>(kind: &str, object: &K) -> Event {
    let meta: &ObjectMeta = object.meta();
    Event {
        kind: kind.to_string(),
        key: key(object),
        uid: meta.uid.clone().unwrap_or_default(),
        version: meta.resource_version.clone().unwrap_or_default(),
    }
}

fn key<K: Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn resource(kind: &str) -> ApiResource {
    let (group, name) = match kind {
        "pods" => ("", "Pod"),
        "services" => ("", "Service"),
        "configmaps" => ("", "ConfigMap"),
        "endpointslices" => ("discovery.k8s.io", "EndpointSlice"),
        _ => ("e2e.yurt", "Widget"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", name), kind)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
