//! The status of a pool: counts of its nodes, and whether it is cut. Pure.

use super::{CUT, NodePool, NodePoolStatus};
use crate::wire::{Condition, condition};

/// Names that a status lists at the most; the counts are of all nodes.
const LISTED: usize = 2_000;

/// What a pool's status is made of.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Its nodes.
    pub names: Vec<String>,
    /// Those that are Ready.
    pub ready: usize,
    /// Those that are disconnected.
    pub disconnected: usize,
    /// Those that can go offline.
    pub autonomous: usize,
    /// Those that fell in a cut.
    pub cut: usize,
    /// Whether a guard watches.
    pub guarded: bool,
}

/// The status of a pool; `None` when it has that one already. A condition without a time has just changed.
pub fn decide(pool: &NodePool, counts: &Counts) -> Option<NodePoolStatus> {
    let none = NodePoolStatus::default();
    let before = pool.status.as_ref().unwrap_or(&none);
    let mut names = counts.names.clone();
    names.sort_unstable();
    names.truncate(LISTED);
    let others = before.conditions.iter().filter(|c| c.kind != CUT).cloned();
    let cut = cut(condition(&before.conditions, CUT), counts);
    let status = NodePoolStatus {
        ready_node_num: number(counts.ready),
        unready_node_num: number(counts.names.len().saturating_sub(counts.ready)),
        disconnected_node_num: number(counts.disconnected),
        autonomous_node_num: number(counts.autonomous),
        nodes: names,
        conditions: others.chain(cut).collect(),
    };
    (pool.status.is_none() || status != *before).then_some(status)
}

fn cut(before: Option<&Condition>, counts: &Counts) -> Option<Condition> {
    let (status, reason) = match (counts.cut, counts.guarded) {
        (0, true) => ("False", "NodesAnswer"),
        (0, false) => ("False", "NoGuard"),
        _ => ("True", "NodesFellSilentTogether"),
    };
    // A pool that never was cut needs no word about it.
    if status == "False" && before.is_none() {
        return None;
    }
    let answering = counts.names.len().saturating_sub(counts.disconnected);
    let message = format!("{answering} of {} nodes answer", counts.names.len());
    Some(Condition {
        kind: CUT.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: before
            .filter(|b| b.status == status)
            .and_then(|b| b.last_transition_time.clone()),
    })
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: usize, ready: usize, disconnected: usize, cut: usize) -> Counts {
        let names = (0..all).rev().map(|n| format!("n{n}")).collect();
        Counts { names, ready, disconnected, autonomous: 1, cut, guarded: true }
    }

    #[test]
    fn the_story_of_a_pool() {
        let mut pool = NodePool::default();
        let fresh = decide(&pool, &counts(3, 2, 0, 0)).unwrap();
        assert_eq!((fresh.ready_node_num, fresh.unready_node_num, fresh.autonomous_node_num), (2, 1, 1));
        assert_eq!(fresh.nodes, ["n0", "n1", "n2"]);
        assert!(fresh.conditions.is_empty());
        pool.status = Some(fresh);
        assert_eq!(decide(&pool, &counts(3, 2, 0, 0)), None);

        let mut cut = decide(&pool, &counts(3, 0, 3, 3)).unwrap();
        assert_eq!((cut.conditions[0].status.as_str(), cut.disconnected_node_num), ("True", 3));
        assert_eq!(cut.conditions[0].last_transition_time, None, "it changed now");
        cut.conditions[0].last_transition_time = Some("then".into());
        pool.status = Some(cut.clone());
        let more = decide(&pool, &counts(4, 0, 3, 3)).unwrap();
        assert_eq!(more.conditions[0].last_transition_time.as_deref(), Some("then"), "it did not change");

        let healed = decide(&pool, &counts(3, 2, 1, 0)).unwrap();
        assert_eq!((healed.conditions[0].status.as_str(), healed.disconnected_node_num), ("False", 1));
        assert_eq!(healed.conditions[0].last_transition_time, None);
    }
}
