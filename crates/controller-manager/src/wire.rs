//! What is read of the cluster's objects: the fields that are decided on, and no other, so that 20,000 pods and
//! 1,000 nodes stay small. Everything that is written is a patch of single fields; a type here never is, except the
//! leader lease.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Serialize};

macro_rules! resource {
    ($type:ty, $kind:literal, $group:literal, $version:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;
            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Lease, "Lease", "coordination.k8s.io", "v1", "leases", NamespaceResourceScope);
resource!(Node, "Node", "", "v1", "nodes", ClusterResourceScope);
resource!(Pod, "Pod", "", "v1", "pods", NamespaceResourceScope);

/// A lease, of a node or of a leader.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// `coordination.k8s.io/v1`; apiservers leave it out in lists.
    #[serde(default)]
    pub api_version: String,
    /// `Lease`.
    #[serde(default)]
    pub kind: String,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it says.
    #[serde(default)]
    pub spec: LeaseSpec,
}

/// The spec of a [`Lease`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseSpec {
    /// Who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// For how long, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<i32>,
    /// Since when, on the holder's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<String>,
    /// Renewed when, on the holder's clock: only compared for equality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<String>,
    /// How often it changed hands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<i32>,
}

impl Lease {
    /// A new lease of that name.
    pub fn named(name: &str) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let (api_version, kind) = ("coordination.k8s.io/v1".to_owned(), "Lease".to_owned());
        Self { api_version, kind, metadata, spec: LeaseSpec::default() }
    }
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Node {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is asked of it.
    #[serde(default)]
    pub spec: NodeSpec,
    /// What was observed of it.
    #[serde(default)]
    pub status: NodeStatus,
}

/// The spec of a [`Node`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeSpec {
    /// Its taints.
    #[serde(default)]
    pub taints: Vec<Taint>,
}

/// The status of a [`Node`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeStatus {
    /// Its conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A taint, with all its fields: lists of taints are written whole.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// When it was added, for `NoExecute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

/// A condition of a node, a pod or a pool.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pod {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is asked of it.
    #[serde(default)]
    pub spec: PodSpec,
    /// What was observed of it.
    #[serde(default)]
    pub status: PodStatus,
}

/// The spec of a [`Pod`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Its node; empty before it is scheduled.
    #[serde(default)]
    pub node_name: String,
    /// Its tolerations.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Conditions that have to be true beside its containers, for Ready.
    #[serde(default)]
    pub readiness_gates: Vec<ReadinessGate>,
    /// Only looked at for side-cars, whose readiness counts.
    #[serde(default)]
    pub init_containers: Vec<InitContainer>,
}

/// A readiness gate of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessGate {
    /// The condition's type.
    pub condition_type: String,
}

/// An init container; with the policy `Always` it is a side-car.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitContainer {
    /// Its name.
    pub name: String,
    /// `Always` or nothing.
    #[serde(default)]
    pub restart_policy: Option<String>,
}

/// A toleration, with all its fields: lists of tolerations are written whole.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; none tolerates every key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` (the default) or `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The taint's effect; none tolerates every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// For how long, in seconds; none is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// The status of a [`Pod`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// `Running`, `Pending`, ...
    #[serde(default)]
    pub phase: String,
    /// Its conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Its containers.
    #[serde(default)]
    pub container_statuses: Vec<ContainerStatus>,
    /// Its init containers.
    #[serde(default)]
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// The status of one container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// What its kubelet said last.
    #[serde(default)]
    pub ready: bool,
}

/// The condition of that type.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.kind == kind)
}

/// A value of one of an object's string maps (labels, annotations).
pub fn text<'a>(map: &'a Option<BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    map.as_ref()?.get(key).map(String::as_str)
}
