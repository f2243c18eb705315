//! The node's copy of the cloud's state, and the node's own writes over it.
//!
//! Owns the collections, their reflectors, fetched objects, remembered documents, grants and the
//! overlay of local writes. Decides nothing about connectivity and sends nothing to clients; callers
//! ask for a view and get it whole, at one version, or not at all (P2, P3).

pub mod collection;
pub mod columns;
mod doubts;
mod endpoints;
pub mod filter;
mod front;
pub mod grants;
mod history;
mod items;
mod keep;
pub mod lately;
mod page;
mod pages;
mod pen;
mod pins;
mod read;
mod reflector;
mod registry;
pub mod ring;
mod room;
mod spare;
mod turns;
mod uses;
pub mod version;
mod views;
mod wanted;
mod watch;
pub mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use yurt_api::representation::Representation;
use yurt_api::request::RequestInfo;
use yurt_store::OpenReport;

pub use collection::Collection;
pub use endpoints::Endpoints;
pub use front::{Front, FrontError, StoreThreads};
pub use keep::NotKept;
pub use pages::{Pages, Turn};
pub use read::{ListAnswer, ListView, ObjectAnswer, ObjectView, Scope};
pub use reflector::History;
pub(crate) use reflector::percent;
pub use registry::{Filling, Registry};
pub use room::{Room, Share};
pub use views::{ViewShare, Views};
pub use wanted::Wanted;
pub use watch::{Served, WatchPlan, WatchRequest};

use crate::cloud::Cloud;
use crate::connectivity::Connectivity;
use crate::identify;
use crate::metrics::Metrics;
use crate::tasks::{self, Shutdown};
use grants::Grants;
use lately::Lately;
use turns::Turns;
use write::Overlay;

/// What the start found in the store.
#[derive(Clone, Debug)]
pub struct Found {
    /// A store, none, or a damaged one.
    pub report: OpenReport,
    /// Entries of the journal that could not be read; they stand among the conflicts.
    pub unreadable_entries: u64,
    /// Records that were taken over from a damaged store.
    pub saved: u64,
}

/// Everything behind the cache's doors.
pub struct Cache {
    /// The durable store.
    pub front: Front,
    /// The collections by key.
    pub registry: Registry,
    /// What callers were allowed.
    pub grants: Grants,
    /// The node's writes that the cloud has not confirmed.
    pub overlay: Overlay,
    /// What Services' endpoints have to follow.
    pub endpoints: Endpoints,
    /// What a boot without the cloud would ask for.
    pub needed: wanted::Needed,
    /// The memory for answers that are to be kept.
    pub room: Room,
    /// The memory for views that wait for their clients.
    pub views: Views,
    /// The cloud's time.
    history: History,
    /// How the store was found at the start.
    pub found: Found,
    filling: Filling,
    turns: Turns,
    /// The single objects that were kept a moment ago.
    kept: Lately,
    /// Those of which an older version was shown.
    doubts: doubts::Doubts,
    /// Lists of which not all pages have come.
    pub pages: Arc<Pages>,
    pins: pins::Pins,
    unreadable: AtomicU64,
    node_name: String,
    node_user: String,
    cloud: Arc<Cloud>,
    connectivity: Connectivity,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl Cache {
    /// Loads what the store has: collections, and the journal as masks over them.
    pub async fn load(
        front: Front,
        found: Found,
        node_name: &str,
        cloud: Arc<Cloud>,
        connectivity: Connectivity,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, FrontError> {
        let records = front.read(|r| r.collections()).await?;
        let cache = Arc::new(Cache {
            registry: Registry::default(),
            grants: Grants::new(front.clone()),
            overlay: Overlay::default(),
            endpoints: Endpoints::default(),
            needed: wanted::Needed::default(),
            room: Room::default(),
            views: Views::default(),
            history: History::default(),
            found,
            filling: Filling::default(),
            turns: Turns::default(),
            kept: Lately::default(),
            doubts: doubts::Doubts::default(),
            pages: Arc::default(),
            pins: pins::Pins::default(),
            unreadable: AtomicU64::new(0),
            node_name: node_name.to_owned(),
            node_user: identify::node_user(node_name),
            front,
            cloud,
            connectivity,
            metrics,
            shutdown,
        });
        cache.registry.load(&records);
        cache.load_journal().await?;
        // Whoever asks first sees the endpoints as the journal has the pods.
        if let Err(error) = cache.follow().await {
            tracing::warn!(%error, "endpoints do not follow what the journal says of the node's pods yet");
            cache.endpoints.look_again();
        }
        let following = Arc::clone(&cache).follow_pods(cache.shutdown.clone());
        tasks::spawn("endpoints", tasks::Failure::Local, following);
        cache.resume(&records);
        let abandoning = Arc::clone(&cache).abandon_the_unfollowed();
        tasks::spawn("abandon", tasks::Failure::Local, abandoning);
        tasks::spawn("uses", tasks::Failure::Local, Arc::clone(&cache).note_uses_for_ever());
        Ok(cache)
    }

    /// The node's name.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// The node's user name.
    pub fn node_user(&self) -> &str {
        &self.node_user
    }

    /// The cloud's version of what is held of the node's pods; `None` when nothing holds all of them.
    pub fn own_pods_version(&self) -> Option<u64> {
        let asked = self.own_pods()?;
        let held = self.candidate(asked.resource()?, &[Representation::JSON], Scope::Held)?;
        Some(held.collection.version())
    }

    /// A list of the node's pods, as its kubelet asks for it.
    fn own_pods(&self) -> Option<RequestInfo> {
        let query = format!("fieldSelector=spec.nodeName%3D{}", self.node_name);
        RequestInfo::parse("GET", "/api/v1/pods", &query).ok()
    }

    /// Whether nothing is held at all: the first start of a node.
    pub fn is_empty(&self) -> bool {
        self.registry.is_empty()
    }
}

impl Cache {
    /// Gives back room that nobody has used for longest, within the bound on the cache. During an outage
    /// nothing can be fetched again, and nothing is given back.
    pub async fn collect_garbage(&self) {
        self.pins.sweep(crate::clock::monotonic());
        if !self.connectivity.online() {
            return;
        }
        self.keep_places_free().await;
        self.forget_tokens().await;
        if let Err(error) = self.front.write(|w| w.forget_conflicts(crate::clock::unix())).await {
            tracing::warn!(%error, "old conflicts cannot be forgotten");
        }
        match self.front.write(|w| w.collect_garbage(crate::clock::unix())).await {
            Ok(report) => tracing::debug!(?report, "collected garbage"),
            Err(error) => tracing::warn!(%error, "garbage cannot be collected"),
        }
        if let Err(error) = self.forget_evicted().await {
            tracing::warn!(%error, "what is held cannot be compared with the store");
        }
    }

    /// Forgets the tokens that no pod will ask for again, as far as the node's pods are known.
    async fn forget_tokens(&self) {
        let Some(wanted) = self.needed.now() else { return };
        let forget = move |w: &mut yurt_store::Writer| {
            w.forget_tokens(crate::clock::unix(), &|answer| wanted.of_token(answer))
        };
        if let Err(error) = self.front.write(forget).await {
            tracing::warn!(%error, "tokens of pods that are gone cannot be forgotten");
        }
    }

    /// Forgets the collections whose room the store has given away, now or for a list that came in between.
    async fn forget_evicted(&self) -> Result<(), FrontError> {
        let held: Vec<_> = self.registry.all().into_iter().map(|c| (c.id(), c)).collect();
        let stored = self.front.read(|r| r.collections()).await?;
        for (id, collection) in held {
            if collection.id() == id && stored.iter().all(|record| record.id != id) {
                self.registry.remove(&collection);
            }
        }
        Ok(())
    }
}
