//! An EndpointSlice or Endpoints object as the cloud's controllers would write it if they knew what the
//! node knows of its pods. Pure.
//!
//! Sources: `podToEndpoint` and `reconcileByAddressType` of `k8s.io/endpointslice`, `syncService` of
//! `k8s.io/kubernetes/pkg/controller/endpoint`. Endpoints are found by the node's name and the pod's uid; none
//! is added, because who belongs to a Service is for the cloud to say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};
use yurt_api::collection::ObjectKey;
use yurt_api::resource::Resource;

use super::pod::PodState;

/// When the controllers last had a reason to write (`k8s.io/api/core/v1.EndpointsLastChangeTriggerTime`); taken
/// away by a change without one, so that kube-proxy does not measure its own speed from an old time.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Which Service a slice belongs to (`k8s.io/api/discovery/v1.LabelServiceName`).
const SERVICE: &str = "kubernetes.io/service-name";
/// Who writes the object: slices, Endpoints. The stock controllers take the addresses from the pods' statuses.
const MANAGERS: [(&str, &str); 2] = [
    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
    ("endpoints.kubernetes.io/managed-by", "endpoint-controller"),
];

/// The two kinds that show where pods are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// `discovery.k8s.io/v1` EndpointSlice.
    Slice,
    /// `v1` Endpoints.
    Endpoints,
}

/// What the node knows.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Its name.
    pub node: &'a str,
    /// Its pods, by uid.
    pub pods: &'a BTreeMap<String, PodState>,
    /// Whether the Service wants addresses that are not ready; `None` when the Service is not known.
    pub publishes: Option<bool>,
}

impl Shows {
    /// Both.
    pub const ALL: [Shows; 2] = [Shows::Slice, Shows::Endpoints];

    /// The kind behind a resource, if it is one of the two.
    pub fn of(resource: &Resource) -> Option<Self> {
        Shows::ALL.into_iter().find(|kind| kind.resource() == *resource)
    }

    /// The resource that it is served as.
    pub fn resource(self) -> Resource {
        match self {
            Shows::Slice => Resource::new("discovery.k8s.io", "v1", "endpointslices"),
            Shows::Endpoints => Resource::new("", "v1", "endpoints"),
        }
    }

    /// The Service whose pods the object shows.
    pub fn service(self, key: &ObjectKey, object: &Value) -> Option<ObjectKey> {
        let name = match self {
            Shows::Slice => label(object, SERVICE)?,
            Shows::Endpoints => &key.name,
        };
        Some(ObjectKey::new(&key.namespace, name))
    }

    /// The object as it should be; `None` when it says already what the node knows.
    pub fn derive(self, object: &Value, known: Known<'_>) -> Option<Value> {
        let moves = MANAGERS.iter().all(|(key, stock)| label(object, key).is_none_or(|m| m == *stock));
        let written_at = text(object, "/metadata/resourceVersion").parse().unwrap_or(0);
        let rule = Rule { known, moves, written_at };
        let mut after = match self {
            Shows::Slice => rule.slice(object)?,
            Shows::Endpoints => rule.endpoints(object)?,
        };
        without_trigger_time(&mut after);
        Some(after)
    }
}

/// What holds for one object.
struct Rule<'a> {
    known: Known<'a>,
    /// Every address in it comes from a pod's status.
    moves: bool,
    /// Its version.
    written_at: u64,
}

impl Rule<'_> {
    fn slice(&self, object: &Value) -> Option<Value> {
        let before = object.get("endpoints")?.as_array()?;
        let publishes = self.known.publishes.unwrap_or_else(|| before.iter().any(is_published_unready));
        let after: Vec<Value> = before.iter().filter_map(|e| self.endpoint(e, publishes)).collect();
        (after != *before).then(|| with(object, "endpoints", Value::Array(after)))
    }

    /// The endpoint as the pod is now; `None` when the pod has left.
    fn endpoint(&self, endpoint: &Value, publishes: bool) -> Option<Value> {
        let Some(pod) = self.pod(endpoint) else { return Some(endpoint.clone()) };
        if pod.ended {
            return None;
        }
        let mut after = endpoint.clone();
        let fields = after.as_object_mut()?;
        if let Some(addresses) = self.moved(pod, endpoint.get("addresses")) {
            if addresses.is_empty() {
                return None;
            }
            fields.insert("addresses".to_owned(), json!(addresses));
        }
        // A deletion that the cloud has begun is never taken back.
        let terminating = pod.terminating || condition(endpoint, "terminating") == Some(true);
        let ready = publishes || (pod.ready && !terminating);
        let conditions = fields.entry("conditions").or_insert_with(|| json!({})).as_object_mut()?;
        let was_ready = condition(endpoint, "ready").unwrap_or(true);
        // What is left out has a meaning (`k8s.io/api/discovery/v1.EndpointConditions`).
        for (name, now, unsaid) in
            [("ready", ready, true), ("serving", pod.ready, was_ready), ("terminating", terminating, false)]
        {
            if condition(endpoint, name).unwrap_or(unsaid) != now {
                conditions.insert(name.to_owned(), json!(now));
            }
        }
        Some(after)
    }

    fn endpoints(&self, object: &Value) -> Option<Value> {
        let before = object.get("subsets")?.as_array()?;
        let after: Vec<Value> = before.iter().filter_map(|s| self.subset(s)).collect();
        (after != *before).then(|| match after.is_empty() {
            true => without(object, "subsets"),
            false => with(object, "subsets", Value::Array(after)),
        })
    }

    /// The subset as the pods are now; `None` when nobody is left in it.
    fn subset(&self, subset: &Value) -> Option<Value> {
        let list = |name| subset.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let before = (list("addresses"), list("notReadyAddresses"));
        let all = before.0.iter().map(|a| (a, true)).chain(before.1.iter().map(|a| (a, false)));
        let now: Vec<_> = all.filter_map(|(address, ready)| self.address(address, ready)).collect();
        let part = |wanted| -> Vec<Value> {
            now.iter().filter(|(_, ready)| *ready == wanted).map(|(address, _)| address.clone()).collect()
        };
        let after = (part(true), part(false));
        if after == before {
            return Some(subset.clone());
        }
        let mut changed = subset.clone();
        for (name, mut list) in [("addresses", after.0), ("notReadyAddresses", after.1)] {
            list.sort_by_cached_key(|a| (text(a, "/ip").to_owned(), text(a, "/targetRef/uid").to_owned()));
            changed =
                if list.is_empty() { without(&changed, name) } else { with(&changed, name, list.into()) };
        }
        (!now.is_empty()).then_some(changed)
    }

    /// The address as the pod is now, and whether it is ready; `None` when the pod has left.
    fn address(&self, address: &Value, ready: bool) -> Option<(Value, bool)> {
        let Some(pod) = self.pod(address) else { return Some((address.clone(), ready)) };
        let publishes = self.known.publishes == Some(true);
        if pod.ended || (pod.terminating && !publishes) {
            return None;
        }
        let ip = json!([text(address, "/ip")]);
        let address = match self.moved(pod, Some(&ip)) {
            Some(addresses) => with(address, "ip", json!(addresses.first()?)),
            None => address.clone(),
        };
        Some((address, publishes || pod.ready))
    }

    /// The pod of this node that an endpoint or address stands for, if the node knows more of it.
    fn pod(&self, endpoint: &Value) -> Option<&PodState> {
        let own =
            text(endpoint, "/nodeName") == self.known.node && text(endpoint, "/targetRef/kind") == "Pod";
        let pod = own.then(|| self.known.pods.get(text(endpoint, "/targetRef/uid"))).flatten();
        pod.filter(|pod| pod.known_at.is_none_or(|version| self.written_at < version))
    }

    /// The pod's addresses in place of these, of their family; `None` when they stay: they are the same, no
    /// addresses of pods (names, a second network), or cannot be read.
    fn moved(&self, pod: &PodState, shown: Option<&Value>) -> Option<Vec<IpAddr>> {
        let shown = shown?.as_array()?.iter().map(|a| a.as_str()?.parse().ok());
        let shown: Vec<IpAddr> = shown.collect::<Option<_>>()?;
        let first = *shown.first()?;
        let theirs = self.moves || shown.iter().all(|a| pod.has_or_had(*a));
        let now: Vec<IpAddr> = pod.like(first).collect();
        (theirs && now != shown).then_some(now)
    }
}

/// Only a Service that wants it shows an endpoint as ready that is not.
fn is_published_unready(endpoint: &Value) -> bool {
    let [ready, serving, terminating] = ["ready", "serving", "terminating"].map(|c| condition(endpoint, c));
    ready == Some(true) && (serving == Some(false) || terminating == Some(true))
}

fn condition(endpoint: &Value, name: &str) -> Option<bool> {
    endpoint.get("conditions")?.get(name)?.as_bool()
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn with(object: &Value, field: &str, value: Value) -> Value {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    fields.insert(field.to_owned(), value);
    Value::Object(fields)
}

fn without(object: &Value, field: &str) -> Value {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    fields.remove(field);
    Value::Object(fields)
}

fn without_trigger_time(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.remove(TRIGGER_TIME);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

#[cfg(test)]
mod tests;
