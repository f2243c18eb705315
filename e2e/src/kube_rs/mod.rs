//! Clients of kube-rs, each set on a thread of its own: informers, and bare watches.

mod informers;
mod watches;

pub use informers::KubeRs;
pub use watches::Watches;

use crate::informers::Event;
use anyhow::{Context, Result};
use kube::api::{ApiResource, GroupVersionKind, ObjectMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Resource, ResourceExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

type Shared<T> = Arc<Mutex<T>>;

/// Work with a client on a thread of its own; it ends when dropped.
struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts this with the kubeconfig at `config`.
    fn start<W: Future<Output = ()>>(
        config: &Path,
        work: impl FnOnce(kube::Client) -> W + Send + 'static,
    ) -> Result<Background> {
        let config = Kubeconfig::read_from(config).context("reading the kubeconfig")?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(client(config))?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work(client) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Background { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn client(config: Kubeconfig) -> Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
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
