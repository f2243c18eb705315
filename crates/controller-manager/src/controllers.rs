//! The table of controllers: what there is, what it needs to be allowed, and how it is started.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::clock::Clock;
use crate::config::Config;
use crate::csr_approver;
use crate::lead::Leadership;
use crate::metrics::Metrics;
use crate::nodes;
use crate::pace::Pace;
use crate::rights::Right;
use crate::serve::Health;

/// What every controller is given.
#[derive(Clone)]
pub struct Context {
    /// The apiserver.
    pub client: kube::Client,
    /// The flags.
    pub config: Arc<Config>,
    /// Clocks and waiting.
    pub clock: Clock,
    /// Asked before each write.
    pub leadership: Leadership,
    /// Waited for before each write.
    pub pace: Arc<Pace>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` says.
    pub health: Arc<Health>,
}

/// One controller.
pub struct Controller {
    /// Its name in `--controllers`, logs and metrics.
    pub name: &'static str,
    /// What it has to be allowed.
    pub rights: &'static [Right],
    /// What runs while this process leads.
    pub work: Work,
}

/// How a controller runs.
pub enum Work {
    /// Decides about nodes and their pods, together with the others of this kind.
    Nodes,
    /// A task of its own, which never ends by itself.
    Task(fn(Context) -> BoxFuture<'static, ()>),
}

/// Every controller.
pub static TABLE: &[Controller] = &[
    Controller { name: nodes::name::AUTONOMY, rights: nodes::AUTONOMY_RIGHTS, work: Work::Nodes },
    Controller { name: nodes::name::LIFECYCLE, rights: nodes::LIFECYCLE_RIGHTS, work: Work::Nodes },
    Controller { name: nodes::name::READINESS, rights: nodes::READINESS_RIGHTS, work: Work::Nodes },
    Controller { name: nodes::name::POOL, rights: nodes::POOL_RIGHTS, work: Work::Nodes },
    Controller {
        name: csr_approver::NAME,
        rights: csr_approver::RIGHTS,
        work: Work::Task(csr_approver::run),
    },
];

/// Whether there is a controller of that name.
pub fn exists(name: &str) -> bool {
    TABLE.iter().any(|c| c.name == name)
}
