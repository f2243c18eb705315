//! The cluster as it was read last: nodes, their pods, pools and leases. *Gather* of gather, decide, apply.

pub mod feed;
pub mod leases;
pub mod pod;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::liveness::Leases;
use crate::pool::NodePool;
use crate::wire::{self, Node};
use pod::{Pod, Shared};

/// All that is known.
#[derive(Debug, Default)]
pub struct World {
    /// Nodes by name.
    pub nodes: HashMap<Arc<str>, Node>,
    /// Pods by the node that they are on, then by uid.
    pub pods: HashMap<Arc<str>, BTreeMap<Box<str>, Pod>>,
    /// Pools by name.
    pub pools: BTreeMap<String, NodePool>,
    /// Leases of the nodes.
    pub leases: Leases,
    /// What has been read whole.
    pub read: Read,
    shared: Shared,
    changed: HashSet<Arc<str>>,
    listing: u32,
}

/// What has been read whole once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    /// All nodes.
    pub nodes: bool,
    /// All pods.
    pub pods: bool,
    /// All pools, or it is known that there are none.
    pub pools: bool,
}

impl World {
    /// Everything has been read once: before that nothing is decided, because a pod without its node or a node without
    /// its pool would look unprotected.
    pub fn is_read(&self) -> bool {
        self.read.nodes && self.read.pods && self.read.pools && self.leases.are_read()
    }

    /// Nodes of which something changed since the last call, also those that are gone.
    pub fn take_changed(&mut self) -> HashSet<Arc<str>> {
        std::mem::take(&mut self.changed)
    }

    /// How many pods are known.
    pub fn pod_count(&self) -> usize {
        self.pods.values().map(BTreeMap::len).sum()
    }

    fn node(&mut self, mut node: Node) {
        node.metadata.managed_fields = None;
        node.metadata.owner_references = None;
        let name = self.shared.name(node.metadata.name.as_deref().unwrap_or_default());
        self.changed.insert(name.clone());
        self.nodes.insert(name, node);
    }

    fn node_gone(&mut self, name: &str) {
        if let Some((name, _)) = self.nodes.remove_entry(name) {
            self.changed.insert(name);
        }
    }

    /// Pods that are on no node yet are not remembered.
    fn pod(&mut self, pod: wire::Pod) {
        if pod.spec.node_name.is_empty() {
            return;
        }
        let node = self.shared.name(&pod.spec.node_name);
        let pod = self.shared.pod(pod, self.listing);
        self.changed.insert(node.clone());
        self.pods.entry(node).or_default().insert(pod.uid.clone(), pod);
    }

    fn pod_gone(&mut self, pod: &wire::Pod) {
        let (node, uid) = (pod.spec.node_name.as_str(), pod.metadata.uid.as_deref().unwrap_or_default());
        let Some(pods) = self.pods.get_mut(node) else { return };
        if pods.remove(uid).is_some() {
            let empty = pods.is_empty();
            let name = self.shared.name(node);
            if empty {
                self.pods.remove(node);
            }
            self.changed.insert(name);
        }
    }

    /// What a list that has come to its end did not have is gone.
    fn pods_listed(&mut self) {
        let listing = self.listing;
        for (node, pods) in &mut self.pods {
            let before = pods.len();
            pods.retain(|_, pod| pod.listing == listing);
            if pods.len() != before {
                self.changed.insert(node.clone());
            }
        }
        self.pods.retain(|_, pods| !pods.is_empty());
        self.shared.tidy();
        self.read.pods = true;
    }
}

/// The world, shared by those who read the cluster and those who decide.
#[derive(Debug, Default)]
pub struct SharedWorld {
    world: Mutex<World>,
    news: Notify,
}

impl SharedWorld {
    /// The world, for a moment without waiting.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news; those that came since the last wait count.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// There are news.
    pub fn tell(&self) {
        self.news.notify_one();
    }
}
