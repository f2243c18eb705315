//! Watches of nodes, pods and pools, into the world. kube's watcher lists in pages, resumes, and lists again after 410.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{SharedWorld, World};
use crate::controllers::Context;
use crate::pool::NodePool;
use crate::wire::{Node, Pod};

/// Objects in one page of a list: 100 pods are about half a megabyte of JSON.
const PAGE: u32 = 100;

/// The name of the part that stands still when there is no resource `nodepools`.
pub const POOLS: &str = "node-pool";

/// Follows nodes, for ever.
pub async fn nodes(context: Context, world: Arc<SharedWorld>) {
    let mut listed: HashSet<String> = HashSet::new();
    follow::<Node>(&context, &world, move |world, event| match event {
        Event::Init => listed.clear(),
        Event::InitApply(node) => {
            listed.insert(node.name_any());
            world.node(node);
        }
        Event::InitDone => {
            let gone: Vec<_> = world.nodes.keys().filter(|n| !listed.contains(n.as_ref())).cloned().collect();
            gone.iter().for_each(|name| world.node_gone(name));
            listed.clear();
            world.read.nodes = true;
        }
        Event::Apply(node) => world.node(node),
        Event::Delete(node) => world.node_gone(&node.name_any()),
    })
    .await;
}

/// Follows pods, for ever.
pub async fn pods(context: Context, world: Arc<SharedWorld>) {
    follow::<Pod>(&context, &world, |world, event| match event {
        Event::Init => world.listing = world.listing.wrapping_add(1),
        Event::InitApply(pod) | Event::Apply(pod) => world.pod(pod),
        Event::InitDone => world.pods_listed(),
        Event::Delete(pod) => world.pod_gone(&pod),
    })
    .await;
}

/// Follows pools, for ever.
pub async fn pools(context: Context, world: Arc<SharedWorld>) {
    let mut listed: HashSet<String> = HashSet::new();
    follow::<NodePool>(&context, &world, move |world, event| match event {
        Event::Init => listed.clear(),
        Event::InitApply(pool) => {
            listed.insert(pool.name_any());
            world.pools.insert(pool.name_any(), pool);
        }
        Event::InitDone => {
            world.pools.retain(|name, _| listed.contains(name));
            listed.clear();
            world.read.pools = true;
        }
        Event::Apply(pool) => drop(world.pools.insert(pool.name_any(), pool)),
        Event::Delete(pool) => drop(world.pools.remove(&pool.name_any())),
    })
    .await;
}

async fn follow<K>(context: &Context, world: &Arc<SharedWorld>, mut take: impl FnMut(&mut World, Event<K>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let settings = watcher::Config::default().page_size(PAGE);
    let events = watch(Api::<K>::all(context.client.clone()), settings).default_backoff();
    let mut events = std::pin::pin!(events);
    let plural = K::plural(&());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if plural == "nodepools" && context.health.part(POOLS, None) {
                    tracing::info!("node pools are served (again)");
                }
                take(&mut world.lock(), event);
            }
            Err(error) => failed(context, &mut world.lock(), &plural, &error),
        }
        world.tell();
    }
}

/// A cluster that does not serve pools has none; everything else is asked for again.
fn failed(context: &Context, world: &mut World, plural: &str, error: &watcher::Error) {
    tracing::warn!(%error, resource = plural, "a watch failed");
    let missing = matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(s)) if s.code == 404);
    if plural == "nodepools" && missing {
        world.pools.clear();
        world.read.pools = true;
        let why = "the cluster does not serve nodepools.apps.openyurt.io/v1beta2";
        if context.health.part(POOLS, Some(why.to_owned())) {
            tracing::warn!(why, "node pools are off");
        }
    }
}
