//! What a kubelet would ask at a boot, and whether it is held: asked of the cache as the kubelet would ask the hub.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use yurt_api::collection::ObjectKey;
use yurt_api::representation::Representation;
use yurt_api::request::{RequestInfo, ResourceRequest};
use yurt_api::resource::Resource;
use yurt_store::StoreError;

use super::condition::Facts;
use super::needs::{Need, PodList};
use super::volumes::add_volumes;
use crate::cache::filter::cover;
use crate::cache::{Cache, FrontError, ListAnswer, ObjectAnswer, Scope, Wanted};
use crate::clock;
use crate::credential::{Credentials, vault};

/// Conflicts that are older are told by `/v1/status` and their Events only, in seconds.
const RECENT: i64 = 24 * 3600;

/// Looks at everything.
pub async fn survey(cache: &Cache, credentials: &Credentials) -> Result<Facts, FrontError> {
    let mut missing = Missing::default();
    for (what, request) in lists(cache.node_name()) {
        let held = cache.registry.of(&request.resource);
        if !held.iter().any(|c| c.is_followed() && cover(c.key(), &request).is_some()) {
            missing.count(what);
        }
    }
    if let Some(pods) = readable(pods(cache).await)?.flatten() {
        let mut needs = pods.needs();
        let attachments = readable(add_volumes(cache, &mut needs).await)?.unwrap_or_default();
        for need in &needs {
            if readable(is_held(cache, need).await)? != Some(true) {
                missing.count(kind(need));
            }
        }
        let mut wanted = wanted(cache.node_name(), &pods, &needs);
        wanted.objects.extend(attachments);
        cache.spare(wanted).await?;
    }
    let now = clock::unix();
    let conflicts = cache.front.read(move |r| r.conflicts_since(now - RECENT + 1)).await?;
    let conflicts = usize::try_from(conflicts).unwrap_or(usize::MAX);
    // After all was read: that is how damage is met.
    let damaged = cache.registry.all().into_iter().filter(|c| c.is_damaged() || c.is_behind());
    let damaged = damaged.map(|c| c.key().resource.resource.clone()).collect();
    Ok(Facts {
        credentials: credentials.missing(),
        damaged,
        missing: missing.0.into_iter().collect(),
        conflicts,
    })
}

/// What was read; `None` for what is not as it was written.
fn readable<T>(read: Result<T, FrontError>) -> Result<Option<T>, FrontError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(FrontError::Store(StoreError::Damaged(_) | StoreError::Sealed(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Default)]
struct Missing(BTreeMap<String, usize>);

impl Missing {
    fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }
}

/// The lists that a kubelet's informers begin with (`pkg/kubelet/kubelet.go`, `pkg/kubelet/config/apiserver.go`).
pub(super) fn lists(node: &str) -> Vec<(&'static str, ResourceRequest)> {
    let own = format!("metadata.name={node}");
    let pods = format!("spec.nodeName={node}");
    let paths = [
        ("the node's pods", "/api/v1/pods", pods.as_str()),
        ("the node", "/api/v1/nodes", own.as_str()),
        ("services", "/api/v1/services", "spec.clusterIP!=None"),
        ("csidrivers", "/apis/storage.k8s.io/v1/csidrivers", ""),
        ("runtimeclasses", "/apis/node.k8s.io/v1/runtimeclasses", ""),
    ];
    let parsed = paths.into_iter().filter_map(|(what, path, fields)| {
        let query = format!("fieldSelector={}", crate::cache::percent(fields));
        Some((what, RequestInfo::parse("GET", path, &query).ok()?.resource()?.clone()))
    });
    parsed.collect()
}

/// The node's pods; `None` when they are not held.
async fn pods(cache: &Cache) -> Result<Option<PodList>, FrontError> {
    let Some((_, pods)) = lists(cache.node_name()).into_iter().next() else { return Ok(None) };
    let ListAnswer::Held(view) = cache.list(&pods, &[Representation::JSON], Scope::Held).await? else {
        return Ok(None);
    };
    Ok(serde_json::from_slice(&view.pieces.concat()).ok())
}

/// What must not make room for anything else.
fn wanted(node: &str, pods: &PodList, needs: &BTreeSet<Need>) -> Wanted {
    let object = |need: &Need| match need {
        Need::Object(resource, namespace, name) => {
            Some((Resource::new("", "v1", resource), ObjectKey::new(namespace, name)))
        }
        Need::Token { .. } => None,
    };
    Wanted {
        lists: lists(node).into_iter().map(|(_, list)| list).collect(),
        objects: needs.iter().filter_map(object).collect(),
        pods: pods.uids(),
    }
}

fn kind(need: &Need) -> &'static str {
    match need {
        Need::Object("secrets", ..) => "Secrets of pods",
        Need::Object("persistentvolumeclaims", ..) => "PersistentVolumeClaims of pods",
        Need::Object("persistentvolumes", ..) => "PersistentVolumes of pods",
        Need::Object(..) => "ConfigMaps of pods",
        Need::Token { .. } => "tokens of pods",
    }
}

async fn is_held(cache: &Cache, need: &Need) -> Result<bool, FrontError> {
    match need {
        Need::Object(resource, namespace, name) => {
            let Some(request) = named(resource, namespace, name) else { return Ok(false) };
            // That it does not exist is an answer, too: the pod waits for it with and without the cloud.
            let answer = cache.object(&request, &[Representation::JSON], Scope::Held).await?;
            Ok(matches!(answer, ObjectAnswer::Held(_) | ObjectAnswer::Absent))
        }
        Need::Token { namespace, account, audience, uid } => {
            let Some(request) =
                get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"))
            else {
                return Ok(false);
            };
            let audiences: Vec<&str> =
                Some(audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
            let body = json!({"spec": {"audiences": audiences, "boundObjectRef": {"uid": uid}}});
            let slot = vault::slot(&request, &body);
            Ok(cache.front.read(move |r| r.token(&slot)).await?.is_some())
        }
    }
}

pub(super) fn named(resource: &str, namespace: &str, name: &str) -> Option<ResourceRequest> {
    match namespace {
        "" => get(&format!("/api/v1/{resource}/{name}")),
        namespace => get(&format!("/api/v1/namespaces/{namespace}/{resource}/{name}")),
    }
}

fn get(path: &str) -> Option<ResourceRequest> {
    RequestInfo::parse("GET", path, "").ok()?.resource().cloned()
}
