//! The matrix: which cells there are and what each of them expects. Pure.
//!
//! Times are scaled: what a cluster does in minutes happens here in seconds. A cut and a dead node are the
//! same to the cloud until one of them comes back, so they differ by that and by nothing else.

use std::fmt;
use std::time::Duration;

/// A silent node is `Ready=Unknown` after this (`--node-monitor-grace-period`).
pub const GRACE: Duration = Duration::from_secs(6);
/// What pods tolerate that say nothing of their own: 300 s in a real cluster.
pub const TOLERATION: Duration = Duration::from_secs(8);
/// What the bare pod tolerates.
pub const OWN_TOLERATION: Duration = Duration::from_secs(5);
/// What stands for ten minutes: longer than every eviction of the stock cluster, and over within the run.
pub const SHORT: Duration = Duration::from_secs(40);
/// What the matrix gives a machine that is busy, wherever it waits for something to happen.
pub const SLACK: Duration = Duration::from_secs(40);

/// A node's autonomy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Autonomy {
    /// Ten minutes, scaled to [`SHORT`].
    TenMinutes,
    /// A day: never over within the run.
    Day,
    /// For ever.
    Ever,
}

/// What happens to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Its link is cut for longer than the stock eviction takes, then it comes back.
    Cut,
    /// It never comes back, and the other nodes of its pool go on answering.
    Dead,
    /// All nodes of its pool fall silent together, for longer than ten minutes; they come back.
    Pool,
}

/// What runs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Pods of a Deployment.
    Deployment,
    /// A pod of a StatefulSet.
    StatefulSet,
    /// A pod without an owner that tolerates a silent node for 5 s only.
    Bare,
    /// A pod that is bound to the node while it is silent.
    During,
}

/// What happens to yurt-controller-manager meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// It does not run at all: the control.
    Absent,
    /// Nothing.
    Undisturbed,
    /// It is away when the nodes fall silent, and comes in mid-outage.
    Late,
    /// It is killed in mid-outage and started again.
    Restarted,
    /// The leader is killed in mid-outage and another instance takes over.
    LeaderChanged,
}

/// What has to come of the pods of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Deleted at the stock cluster's time: what the control shows.
    Evicted,
    /// Kept and served throughout, and afterwards the same pods are ready.
    Home,
    /// Kept and served until the time is over, then deleted.
    EmptiedAfter(Duration),
    /// Kept and served to the end of the run.
    Kept,
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The autonomy of its node.
    pub autonomy: Autonomy,
    /// What happens to the node.
    pub failure: Failure,
    /// What runs on it.
    pub workload: Workload,
    /// What happens to the controller.
    pub disturbance: Disturbance,
}

impl Autonomy {
    /// All of them.
    pub const ALL: [Autonomy; 3] = [Autonomy::TenMinutes, Autonomy::Day, Autonomy::Ever];

    /// The value of the node's annotation: a Go duration, 0 is for ever.
    pub fn annotation(self) -> String {
        match self {
            Autonomy::TenMinutes => format!("{}s", SHORT.as_secs()),
            Autonomy::Day => "24h".to_string(),
            Autonomy::Ever => "0".to_string(),
        }
    }
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 3] = [Failure::Cut, Failure::Dead, Failure::Pool];
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 4] =
        [Workload::Deployment, Workload::StatefulSet, Workload::Bare, Workload::During];
}

impl Cell {
    /// What has to come of its pods.
    pub fn expected(self) -> Expected {
        match (self.disturbance, self.failure, self.autonomy) {
            (Disturbance::Absent, _, _) => Expected::Evicted,
            (_, Failure::Cut | Failure::Pool, _) => Expected::Home,
            (_, Failure::Dead, Autonomy::TenMinutes) => Expected::EmptiedAfter(SHORT),
            (_, Failure::Dead, Autonomy::Day | Autonomy::Ever) => Expected::Kept,
        }
    }
}

impl fmt::Display for Autonomy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Autonomy::TenMinutes => "10 min",
            Autonomy::Day => "24 h",
            Autonomy::Ever => "for ever",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Failure::Cut => "cut",
            Failure::Dead => "dead",
            Failure::Pool => "pool silent",
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Workload::Deployment => "Deployment",
            Workload::StatefulSet => "StatefulSet",
            Workload::Bare => "bare pod, tolerates 5 s",
            Workload::During => "pod of the outage",
        })
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Disturbance::Absent => "no controller",
            Disturbance::Undisturbed => "undisturbed",
            Disturbance::Late => "away at first",
            Disturbance::Restarted => "controller restarted",
            Disturbance::LeaderChanged => "leader changed",
        })
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Evicted => out.pad("evicted"),
            Expected::Home => out.pad("kept, the same pods ready after it"),
            Expected::EmptiedAfter(after) => out.pad(&format!("kept, emptied after {} s", after.as_secs())),
            Expected::Kept => out.pad("kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_comes_back_keeps_its_pods_and_a_dead_one_does_not() {
        let expected = |autonomy, failure, disturbance| {
            Cell { autonomy, failure, workload: Workload::Bare, disturbance }.expected()
        };
        let table = [
            (Autonomy::TenMinutes, Failure::Cut, Disturbance::Absent, Expected::Evicted),
            (Autonomy::Ever, Failure::Pool, Disturbance::Absent, Expected::Evicted),
            (Autonomy::TenMinutes, Failure::Cut, Disturbance::Restarted, Expected::Home),
            (Autonomy::TenMinutes, Failure::Dead, Disturbance::Undisturbed, Expected::EmptiedAfter(SHORT)),
            (Autonomy::TenMinutes, Failure::Pool, Disturbance::LeaderChanged, Expected::Home),
            (Autonomy::TenMinutes, Failure::Dead, Disturbance::Late, Expected::EmptiedAfter(SHORT)),
            (Autonomy::Day, Failure::Dead, Disturbance::LeaderChanged, Expected::Kept),
            (Autonomy::Ever, Failure::Dead, Disturbance::Undisturbed, Expected::Kept),
        ];
        for (autonomy, failure, disturbance, wanted) in table {
            assert_eq!(
                expected(autonomy, failure, disturbance),
                wanted,
                "{autonomy} {failure} {disturbance}"
            );
        }
    }

    #[test]
    fn the_scaled_times_keep_their_order() {
        assert!(OWN_TOLERATION < TOLERATION, "the pod's own toleration is the shorter one");
        assert!(GRACE * 2 + TOLERATION * 2 < SHORT, "the stock cluster evicts before ten minutes are over");
    }
}
