//! The controllers that decide about nodes and their pods: `node-autonomy` (tolerations), `node-lifecycle` (the record
//! of an outage, the condition, marks and the end of a dead node's pods), `pod-readiness`, `node-pool`.
//!
//! They look at the same things and write to the same objects, so they decide together: all nodes every monitor
//! period, and single ones as soon as something of them changes. What they want goes to the writer as one edit an object.

pub mod evicting;
pub mod lost;
pub mod outage;
pub mod plan;
pub mod policy;
pub mod protect;
pub mod story;
#[cfg(test)]
mod table;
pub mod tolerate;
pub mod verdict;
pub mod writes;

use std::sync::Arc;

use tokio::sync::watch;

use crate::controllers::Context;
use crate::manifests::POLICY;
use crate::rights::{Place, Right};
use crate::tasks::{self, Task};
use crate::world::{SharedWorld, feed, leases};
use crate::write::send::Writer;
use plan::Planner;

/// The names of the controllers here.
pub mod name {
    /// Tolerations.
    pub const AUTONOMY: &str = "node-autonomy";
    /// Outages, marks, the end of dead nodes' pods.
    pub const LIFECYCLE: &str = "node-lifecycle";
    /// Readiness of pods.
    pub const READINESS: &str = "pod-readiness";
    /// Pools.
    pub const POOL: &str = "node-pool";
}

const NODES_READ: Right = Right::of("", "nodes", &["list", "watch"]);
const PODS_READ: Right = Right::of("", "pods", &["list", "watch"]);
const LEASES: Right =
    Right::of("coordination.k8s.io", "leases", &["list"]).at(Place::Namespace(leases::NAMESPACE));
const POOLS: Right = Right::of("apps.openyurt.io", "nodepools", &["list", "watch"]);
const EVENTS: Right = Right::of("", "events", &["create"]).at(Place::Namespace("default"));
const PODS: Right = Right::of("", "pods", &["patch"]);
const NODES: Right = Right::of("", "nodes", &["patch"]);
const POD_STATUS: Right = Right::of("", "pods/status", &["patch"]);

/// What `node-autonomy` has to be allowed.
pub const AUTONOMY_RIGHTS: &[Right] = &[NODES_READ, PODS_READ, LEASES, POOLS, PODS, EVENTS];
/// What `node-lifecycle` has to be allowed.
pub const LIFECYCLE_RIGHTS: &[Right] = &[
    NODES_READ,
    PODS_READ,
    LEASES,
    POOLS,
    PODS,
    Right::of("", "pods", &["delete"]),
    POD_STATUS,
    NODES,
    Right::of("", "nodes/status", &["patch"]),
    Right::of("admissionregistration.k8s.io", "validatingadmissionpolicies", &["get"]).named(&[POLICY]),
    Right::of("admissionregistration.k8s.io", "validatingadmissionpolicybindings", &["get"]).named(&[POLICY]),
    EVENTS,
];
/// What `pod-readiness` has to be allowed.
pub const READINESS_RIGHTS: &[Right] = &[NODES_READ, PODS_READ, LEASES, POOLS, POD_STATUS];
/// What `node-pool` has to be allowed.
pub const POOL_RIGHTS: &[Right] = &[
    NODES_READ,
    PODS_READ,
    LEASES,
    POOLS,
    NODES,
    Right::of("apps.openyurt.io", "nodepools/status", &["patch"]),
    EVENTS,
];

/// Starts reading, deciding and writing; all of it stops when the tasks are dropped.
pub fn start(context: &Context) -> Vec<Task> {
    let world = Arc::new(SharedWorld::default());
    let writer = Writer::new(context.clone());
    let (looked, looks) = watch::channel(false);
    let mut tasks = writer.start();
    tasks.push(tasks::spawn("nodes", feed::nodes(context.clone(), world.clone())));
    tasks.push(tasks::spawn("pods", feed::pods(context.clone(), world.clone())));
    tasks.push(tasks::spawn("pools", feed::pools(context.clone(), world.clone())));
    tasks.push(tasks::spawn("leases", look(context.clone(), world.clone(), looked)));
    if context.config.runs(name::LIFECYCLE) {
        tasks.push(tasks::spawn("policy", policy::watch(context.clone())));
    }
    tasks.push(tasks::spawn("planner", plan(context.clone(), world, looks, writer)));
    tasks
}

/// Looks at the leases every period, and tells whether they could be read.
async fn look(context: Context, world: Arc<SharedWorld>, looked: watch::Sender<bool>) {
    loop {
        let read = leases::look(&context, &world).await;
        if let Err(error) = &read {
            tracing::warn!(%error, "the leases of the nodes cannot be read: nobody grows silent meanwhile");
        }
        looked.send_replace(read.is_ok());
        context.clock.sleep(context.config.nodes.node_monitor_period).await;
    }
}

/// Decides about everything after each look at the leases, and about what changed in between.
async fn plan(
    context: Context,
    world: Arc<SharedWorld>,
    mut looks: watch::Receiver<bool>,
    writer: Arc<Writer>,
) {
    let mut planner = Planner::new(&context);
    let mut look = None;
    loop {
        tokio::select! {
            looked = looks.changed() => match looked {
                Ok(()) => look = Some(*looks.borrow_and_update()),
                Err(_) => return,
            },
            () = world.news() => {}
        }
        let now = context.clock.now();
        {
            let mut world = world.lock();
            if !world.is_read() {
                continue;
            }
            context.health.read();
            let changed = world.take_changed();
            let mut queue = writer.queue();
            if let Some(heard) = look.take() {
                planner.all(&world, now, heard, &mut queue);
                context.metrics.looks.inc();
            } else {
                changed.iter().for_each(|name| planner.one(&world, name, now, &mut queue));
            }
        }
        writer.wake();
    }
}
