//! The only place that writes into the cluster. Decisions come as the whole of what one subject (a node with its pods,
//! a pool) wants now; what is no longer wanted is dropped, what is wanted is written in the order of its rank.
//!
//! Every write is bound to the version that was decided on, so a stale decision changes nothing (409). What failed
//! waits longer each time; what was written waits for the watch to show it.

pub mod edit;
pub mod event;
pub mod queue;
pub mod send;

use serde_json::Value;

/// What a write changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Metadata and spec of a pod.
    Pod(String, String),
    /// The status of a pod.
    PodStatus(String, String),
    /// A pod is deleted.
    PodEnd(String, String),
    /// Metadata and spec of a node.
    Node(String),
    /// What a pool gives to a node.
    Member(String),
    /// The status of a node.
    NodeStatus(String),
    /// The status of a pool.
    PoolStatus(String),
    /// A new event: namespace and name.
    Event(String, String),
}

impl Target {
    /// The label of metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pod(..) => "pod",
            Self::PodStatus(..) => "pod-status",
            Self::PodEnd(..) => "pod-deletion",
            Self::Node(_) => "node",
            Self::Member(_) => "node-of-pool",
            Self::NodeStatus(_) => "node-status",
            Self::PoolStatus(_) => "nodepool-status",
            Self::Event(..) => "event",
        }
    }
}

/// The order of writes: what keeps pods alive goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Since when a node is disconnected.
    Record,
    /// Marks and tolerations.
    Protect,
    /// Readiness.
    Ready,
    /// The end of pods by a person's taint.
    Evict,
    /// The end of a dead node's pods: only right after a look at the leases.
    Empty,
    /// Pools and their members.
    Pool,
    /// What tidies up, and what tells.
    Tidy,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// What it changes.
    pub target: Target,
    /// When, among others.
    pub rank: Rank,
    /// Among those of a rank: the least goes first.
    pub urgency: i64,
    /// The version that it was decided on.
    pub version: String,
    /// The body of the request.
    pub body: Value,
}
