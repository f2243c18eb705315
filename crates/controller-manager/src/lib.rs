//! The cloud half of Yurt: beside an unmodified kube-controller-manager it keeps the pods of a disconnected node,
//! empties a dead one when its time is over, and owns node pools.
//!
//! Everything is decided anew from what the cluster holds: *gather* (`world`) -> *decide* (pure) -> *apply* (`write`,
//! the only writer). State that must survive a restart or a change of the leader is in the cluster.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods))]

pub mod autonomy;
pub mod clock;
pub mod config;
pub mod controllers;
pub mod csr_approver;
pub mod duration;
pub mod lead;
pub mod link;
pub mod liveness;
pub mod manifests;
pub mod metrics;
pub mod names;
pub mod nodes;
pub mod pace;
pub mod pool;
pub mod rights;
pub mod run;
pub mod serve;
pub mod tasks;
pub mod wire;
pub mod world;
pub mod write;
