//! EndpointSlices and Endpoints follow the node's own pods while the cloud cannot write them, so that a
//! reboot that changed the pods' addresses is seen by kube-proxy and DNS on the node.
//!
//! Owns what the node knows better of its pods since the link was lost, by uid, until some time after it is back:
//! what it wrote, and what the cloud took from it last but had no time to write into the endpoints. Owns too the masks (see [`super::collection`]) over objects that say otherwise. One worker puts these masks in place and
//! takes them away; whoever changes pods or rows only leaves word of it here. A change of the cloud that is behind
//! what the node wrote stays under the mask, so that watchers take one step back to the cloud's truth.
//! Nothing of it is stored or sent to the cloud: after a restart it is made again from the journal.

mod derive;
mod follow;
mod pod;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;
use yurt_api::collection::ObjectKey;
use yurt_api::representation::{Encoding, Representation};

use super::collection::{Collection, Upstream};
use super::write::{Written, uid_of, version_of};
use crate::respond;
use derive::{Known, Shows};
use pod::PodState;

/// What endpoints have to follow.
#[derive(Default)]
pub struct Endpoints {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// The node's pods as it knows them, by uid.
    pods: BTreeMap<String, PodState>,
    /// As of which version the cloud has what the node wrote of a pod (0 = not known); from then on its word
    /// about the pod counts.
    delivered: BTreeMap<String, u64>,
    /// The Services that want addresses that are not ready.
    publishing: BTreeMap<ObjectKey, bool>,
    work: Work,
}

/// What the worker has to look at.
#[derive(Clone, Debug, Default)]
struct Work {
    /// Everything that shows these pods.
    uids: BTreeSet<String>,
    /// These objects.
    keys: BTreeSet<ObjectKey>,
    /// Everything that is masked.
    masked: bool,
}

impl Endpoints {
    /// The node wrote this to one of its pods while the cloud was away.
    pub(super) fn wrote(&self, uid: &str, written: &Written) {
        self.put(uid, PodState::of(&written.object, &written.base), None);
    }

    /// The cloud has taken `pod` from the node as of `version` without a write of the kubelet.
    pub fn repaired(&self, uid: &str, pod: &Value, version: u64) {
        self.put(uid, PodState::of(pod, pod), Some(version));
    }

    /// The link is lost: this is how the node has a pod that it has not written since.
    fn seen(&self, pod: &Value) {
        let uid = uid_of(pod);
        let mut state = self.lock();
        if state.pods.get(uid).is_none_or(|pod| pod.known_at.is_some()) {
            let known_at = Some(version_of(pod));
            state.put(uid, PodState { known_at, ..PodState::of(pod, &Value::Null) });
        }
    }

    /// The cloud has what the node wrote of a pod as of `version` (0 = not known), or never will.
    pub(super) fn delivered(&self, uid: &str, version: u64) {
        let mut state = self.lock();
        if state.pods.contains_key(uid) {
            state.delivered.insert(uid.to_owned(), version);
        }
    }

    /// Forgets what the node wrote: from now on only the cloud's word counts.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        *state = State { work: Work { masked: true, ..Work::default() }, ..State::default() };
        self.news.notify_one();
    }

    /// Rows were replaced: everything is looked at again.
    pub(super) fn look_again(&self) {
        let mut state = self.lock();
        state.work = Work { uids: state.pods.keys().cloned().collect(), masked: true, ..Work::default() };
        self.news.notify_one();
    }

    /// Looks at changes of the cloud before they are told: what they say of the node's pods is learnt, and those
    /// are held back that say of endpoints what the node knows better.
    pub(super) fn weigh(&self, collection: &Collection, changes: &mut [Upstream], node: &str) {
        let mut state = self.lock();
        if state.pods.is_empty() {
            return;
        }
        let resource = &collection.key().resource;
        if resource.is("", "pods") {
            if has_all_pods(collection, node) {
                changes.iter().for_each(|change| state.hear(collection, change));
            }
        } else if let Some(kind) = Shows::of(resource) {
            changes.iter_mut().for_each(|change| state.hold(kind, collection, change, node));
        }
        if !state.work.is_empty() {
            self.news.notify_one();
        }
    }

    fn put(&self, uid: &str, pod: PodState, delivered: Option<u64>) {
        let mut state = self.lock();
        match delivered {
            Some(version) => state.delivered.insert(uid.to_owned(), version),
            None => state.delivered.remove(uid),
        };
        state.put(uid, pod);
        if !state.work.is_empty() {
            self.news.notify_one();
        }
    }

    /// Waits until there is something to do.
    async fn stirred(&self) {
        self.news.notified().await;
    }

    fn take_work(&self) -> Work {
        std::mem::take(&mut self.lock().work)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, uid: &str, pod: PodState) {
        if self.pods.get(uid) != Some(&pod) {
            self.pods.insert(uid.to_owned(), pod);
            self.work.uids.insert(uid.to_owned());
        }
    }

    fn known<'a>(&'a self, node: &'a str, service: Option<&ObjectKey>) -> Known<'a> {
        let publishes = service.and_then(|s| self.publishing.get(s)).copied();
        Known { node, pods: &self.pods, publishes }
    }

    /// The cloud's word about a pod, if it is newer than the node's.
    fn hear(&mut self, collection: &Collection, change: &Upstream) {
        let Some(row) = change.row.as_ref().or(change.previous.as_ref()) else { return };
        let newer = self.delivered.get(&row.uid).is_some_and(|delivered| change.version >= *delivered);
        let Some(before) = self.pods.get(&row.uid).filter(|_| newer) else { return };
        let former = before.former.clone();
        let now = match &change.row {
            Some(row) => json_of(collection, &row.body),
            None => Some(Value::Null),
        };
        if let Some(pod) = now {
            let state = PodState { former, ..PodState::of(&pod, &Value::Null) };
            self.put(&row.uid, state);
        }
    }

    fn hold(&mut self, kind: Shows, collection: &Collection, change: &mut Upstream, node: &str) {
        let masked = collection.derived_over(&change.key).is_some();
        change.held =
            change.row.as_ref().is_some_and(|row| match collection.key().representation.metadata_only {
                // Metadata does not say what it is about: it waits for those that do.
                true => masked,
                false => self.differs(kind, collection, row, node),
            });
        if masked || change.held {
            self.work.keys.insert(change.key.clone());
        }
    }

    fn differs(&self, kind: Shows, collection: &Collection, row: &yurt_store::Row, node: &str) -> bool {
        if !self.pods.keys().any(|uid| mentions(&row.body, uid)) {
            return false;
        }
        let Some(object) = json_of(collection, &row.body) else { return false };
        let service = kind.service(&row.key, &object);
        kind.derive(&object, self.known(node, service.as_ref())).is_some()
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.keys.is_empty() && !self.masked
    }
}

/// Whether what is gone from the collection is gone from the cloud, as far as the node's pods go.
fn has_all_pods(collection: &Collection, node: &str) -> bool {
    let key = collection.key();
    let own = key.fields.is_empty() || key.fields == format!("spec.nodeName={node}");
    own && key.labels.is_empty() && !key.representation.metadata_only
}

/// An item of a collection as JSON; `None` when it cannot be read.
fn json_of(collection: &Collection, item: &bytes::Bytes) -> Option<Value> {
    let from = collection.key().representation;
    let to = Representation { encoding: Encoding::Json, ..from };
    let json = respond::item_as(from, to, collection.item_type(), item).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Whether the text is anywhere in the bytes: names and uids are written alike in JSON and protobuf.
fn mentions(bytes: &[u8], text: &str) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|part| part == text.as_bytes())
}
