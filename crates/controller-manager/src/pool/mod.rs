//! Node pools: `NodePool` of `apps.openyurt.io/v1beta2`.

pub mod guard;
pub mod members;
pub mod status;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::{Condition, Taint};

/// What a pool gives to its nodes, and what holds for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "apps.openyurt.io",
    version = "v1beta2",
    kind = "NodePool",
    plural = "nodepools",
    shortname = "np",
    category = "yurt",
    status = "NodePoolStatus",
    derive = "Default",
    printcolumn = r#"{"name": "Type", "type": "string", "jsonPath": ".spec.type"}"#,
    printcolumn = r#"{"name": "Ready", "type": "integer", "jsonPath": ".status.readyNodeNum"}"#,
    printcolumn = r#"{"name": "NotReady", "type": "integer", "jsonPath": ".status.unreadyNodeNum"}"#,
    printcolumn = r#"{"name": "Disconnected", "type": "integer", "jsonPath": ".status.disconnectedNodeNum"}"#,
    printcolumn = r#"{"name": "Autonomous", "type": "integer", "jsonPath": ".status.autonomousNodeNum"}"#,
    printcolumn = r#"{"name": "Cut", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Cut\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolSpec {
    /// `Edge` or `Cloud`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PoolType>,
    /// Labels that every node of the pool has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations that every node of the pool has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Taints that every node of the pool has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Pods of the pool use the network of their node; its nodes get the label `nodepool.openyurt.io/hostnetwork`.
    #[serde(default)]
    pub host_network: bool,
    /// What happens when nodes of the pool are disconnected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<AutonomyPolicy>,
}

/// Where the nodes of a pool are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PoolType {
    /// Away from the cloud.
    Edge,
    /// In the cloud.
    Cloud,
}

/// The policy of a pool for nodes that are disconnected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutonomyPolicy {
    /// How long pods of a disconnected node stay (a Go duration; 0 or less is for ever), for nodes that say nothing
    /// themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// When the pool counts as cut. What is left out is as the flags say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardPolicy>,
}

/// When a pool counts as cut, and what follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuardPolicy {
    /// The pool is cut when less than this percentage of its nodes answers; 0 switches the guard off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub threshold_percent: Option<i32>,
    /// Nodes that fell silent within so long of each other fell together (a Go duration).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// How long nodes of a cut pool are protected at the most (a Go duration).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
}

/// What was observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolStatus {
    /// Nodes that are Ready.
    #[serde(default)]
    pub ready_node_num: i32,
    /// Nodes that are not.
    #[serde(default)]
    pub unready_node_num: i32,
    /// Nodes that are disconnected.
    #[serde(default)]
    pub disconnected_node_num: i32,
    /// Nodes whose hub says that they can go offline (condition `Autonomy`).
    #[serde(default)]
    pub autonomous_node_num: i32,
    /// Names of the nodes.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// `Cut`: too few nodes answer.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// The condition of a pool of which too few nodes answer.
pub const CUT: &str = "Cut";
