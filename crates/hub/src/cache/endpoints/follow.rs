//! The worker that lets endpoints follow: reads what is stored, derives what should be shown, and masks or settles.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use yurt_api::collection::ObjectKey;
use yurt_api::representation::Representation;
use yurt_api::request::{RequestInfo, ResourceRequest};
use yurt_store::{Row, StoreError};

use super::derive::{Known, Shows};
use super::{Work, json_of, mentions};
use crate::cache::collection::{Collection, Mask};
use crate::cache::write::{item_of, set_version};
use crate::cache::{Cache, FrontError, ListAnswer, ObjectAnswer, Scope, ring};
use crate::connectivity::State as Link;
use crate::tasks::Shutdown;

const JSON: [Representation; 1] = [Representation::JSON];
/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// One object of one collection, and what should be shown in its place.
struct Step {
    collection: Arc<Collection>,
    /// The collection's version when the row was read.
    seen: u64,
    key: ObjectKey,
    row: Option<Row>,
    /// `None` = the row as it is.
    shown: Option<Value>,
}

impl Cache {
    /// Works until the shutdown.
    pub(in crate::cache) async fn follow_pods(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut away = false;
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.endpoints.stirred() => {}
                now = self.connectivity.until(|s| matches!(s.state, Link::Offline { .. }) != away) => {
                    away = matches!(now.state, Link::Offline { .. });
                    if away && let Err(error) = self.look_at_pods().await {
                        tracing::debug!(%error, "the node's pods cannot be read");
                    }
                }
            }
            if let Err(error) = self.follow().await {
                tracing::debug!(%error, "endpoints cannot follow the node's pods now");
                tokio::time::sleep(PAUSE).await;
                self.endpoints.look_again();
            }
        }
    }

    /// Takes note of the node's pods as they are: the cloud had no time to tell what changed last.
    async fn look_at_pods(&self) -> Result<(), FrontError> {
        let Some(asked) = self.own_pods() else { return Ok(()) };
        let Some(request) = asked.resource() else { return Ok(()) };
        let ListAnswer::Held(view) = self.list(request, &JSON, Scope::Held).await? else { return Ok(()) };
        let list: Value = serde_json::from_slice(&view.pieces.concat()).unwrap_or_default();
        for pod in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            self.endpoints.seen(pod);
        }
        Ok(())
    }

    /// Does what waits to be done.
    pub(in crate::cache) async fn follow(&self) -> Result<(), FrontError> {
        let work = self.endpoints.take_work();
        for kind in Shows::ALL {
            let all = self.registry.of(&kind.resource());
            let (bare, full): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|c| c.key().representation.metadata_only);
            let mut steps = Vec::new();
            for collection in &full {
                steps.extend(self.steps(kind, collection, &work).await?);
            }
            self.put_in_place(steps).await?;
            for collection in &bare {
                self.follow_bare(collection, &full).await;
            }
        }
        Ok(())
    }

    async fn steps(
        &self,
        kind: Shows,
        collection: &Arc<Collection>,
        work: &Work,
    ) -> Result<Vec<Step>, FrontError> {
        let seen = collection.version();
        let rows = match self.rows(collection, work).await {
            // They are fetched again when the link is back; until then they are shown as they are.
            Err(FrontError::Store(StoreError::Damaged(_) | StoreError::Sealed(_))) => return Ok(Vec::new()),
            rows => rows?,
        };
        let mut steps = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let object = row.as_ref().and_then(|row| json_of(collection, &row.body));
            let shown = match &object {
                Some(object) => self.derived(kind, &key, object).await,
                None => None,
            };
            steps.push(Step { collection: Arc::clone(collection), seen, key, row, shown });
        }
        Ok(steps)
    }

    /// The rows to look at, in the order of their keys; `None` = there is none (any more).
    async fn rows(
        &self,
        collection: &Arc<Collection>,
        work: &Work,
    ) -> Result<BTreeMap<ObjectKey, Option<Row>>, FrontError> {
        let (read, node, uids) = (Arc::clone(collection), self.node_name.clone(), work.uids.clone());
        let mut keys = work.keys.clone();
        if work.masked {
            keys.extend(collection.derived().into_keys());
        }
        let reading = self.front.read(move |r| {
            let mut found = BTreeMap::new();
            if !uids.is_empty() {
                read.checked(r.list(read.id(), None, &mut |row| {
                    if mentions(&row.body, &node) && uids.iter().any(|uid| mentions(&row.body, uid)) {
                        found.insert(row.key.clone(), Some(row));
                    }
                    ControlFlow::Continue(())
                }))?;
            }
            for key in keys {
                if let Entry::Vacant(place) = found.entry(key) {
                    let (row, stored) = read.checked(r.get(read.id(), place.key()))?;
                    // A deletion that is stored and about to be told takes the mask away itself.
                    if row.is_some() || stored <= read.version() {
                        place.insert(row);
                    }
                }
            }
            Ok(found)
        });
        reading.await
    }

    async fn derived(&self, kind: Shows, key: &ObjectKey, object: &Value) -> Option<Value> {
        let service = kind.service(key, object);
        if let Some(service) = &service {
            self.learn_service(service).await;
        }
        let state = self.endpoints.lock();
        let known: Known<'_> = state.known(&self.node_name, service.as_ref());
        kind.derive(object, known)
    }

    /// Whether a Service wants addresses that are not ready, if it is held.
    async fn learn_service(&self, service: &ObjectKey) {
        let path = format!("/api/v1/namespaces/{}/services/{}", service.namespace, service.name);
        let Some(request) = asked(&path) else { return };
        // One that cannot be read is not known.
        if let Ok(ObjectAnswer::Held(view)) = self.object(&request, &JSON, Scope::Held).await {
            let held: Value = serde_json::from_slice(&view.body).unwrap_or_default();
            let publishes = held.pointer("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true));
            self.endpoints.lock().publishing.insert(service.clone(), publishes);
        }
    }

    /// Puts what is derived in its place. An object has one version in all collections.
    async fn put_in_place(&self, steps: Vec<Step>) -> Result<(), FrontError> {
        let changed: BTreeSet<ObjectKey> =
            steps.iter().filter(|s| s.is_news()).map(|s| s.key.clone()).collect();
        let mut versions = BTreeMap::new();
        for key in changed {
            versions.insert(key, ring::LOCAL + self.front.write(|w| w.next_local_version()).await?);
        }
        // Nothing is awaited from here on: a collection that has not moved does not move meanwhile.
        for step in steps {
            if step.collection.version() != step.seen {
                self.endpoints.lock().work.keys.insert(step.key);
                self.endpoints.news.notify_one();
            } else if step.shown.is_none() {
                step.settle();
            } else if let Some(version) = versions.get(&step.key).filter(|_| step.is_news()) {
                step.mask(*version);
            }
        }
        Ok(())
    }

    /// Metadata shows by its version that the object has changed.
    async fn follow_bare(&self, bare: &Arc<Collection>, full: &[Arc<Collection>]) {
        let mut wanted = BTreeMap::new();
        for collection in full {
            for (key, mask) in collection.derived() {
                wanted.insert(key, (mask.version, Arc::clone(collection), mask));
            }
        }
        let mut keys: Vec<ObjectKey> = wanted.keys().cloned().chain(bare.derived().into_keys()).collect();
        keys.sort_by_key(|key| wanted.get(key).map(|w| w.0));
        keys.dedup();
        for key in keys {
            let Ok(row) = self.base_json(bare, &key).await else { continue };
            let masked = bare.derived_over(&key);
            match (wanted.get(&key), row) {
                (Some((version, ..)), _) if masked.as_ref().is_some_and(|m| m.version == *version) => {}
                (Some((version, collection, mask)), Some(row)) => {
                    let body = mask.body.as_ref().and_then(|item| {
                        let object = json_of(collection, item)?;
                        item_of(bare, collection.item_type(), &object)
                    });
                    bare.mask(
                        &key,
                        Mask { version: *version, body, delivered: None, derived: true },
                        Some(&row),
                    );
                }
                (_, row) if masked.is_some() => bare.settle(&key, row.as_ref()),
                _ => {}
            }
        }
    }
}

impl Step {
    /// Whether readers see something else than what should be shown.
    fn is_news(&self) -> bool {
        let Some(mask) = self.collection.derived_over(&self.key) else { return self.shown.is_some() };
        // What was held back shows the cloud's old version until it gets one of its own.
        self.shown.is_some() && (!ring::is_local(mask.version) || mask.body != self.item(mask.version))
    }

    fn item(&self, version: u64) -> Option<bytes::Bytes> {
        let mut object = self.shown.clone()?;
        set_version(&mut object, version);
        item_of(&self.collection, self.collection.item_type(), &object)
    }

    fn mask(&self, version: u64) {
        if let Some(body) = self.item(version) {
            let mask = Mask { version, body: Some(body), delivered: None, derived: true };
            self.collection.mask(&self.key, mask, self.row.as_ref());
        }
    }

    fn settle(&self) {
        if self.collection.derived_over(&self.key).is_some() {
            self.collection.settle(&self.key, self.row.as_ref());
        }
    }
}

fn asked(path: &str) -> Option<ResourceRequest> {
    RequestInfo::parse("GET", path, "").ok()?.resource().cloned()
}
