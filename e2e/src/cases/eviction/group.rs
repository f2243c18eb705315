//! The groups of a wave: for each autonomy and each failure the nodes that it happens to.

use super::objects::NodeSpec;
use super::plan::{Autonomy, Failure};

/// Nodes of a pool that falls silent as a whole.
const POOL_NODES: usize = 2;
/// Nodes of the mixed pool that always answer: with its six silent ones 45 % go on answering, and a pool
/// counts as cut under 35 %.
const BYSTANDERS: usize = 5;

/// The nodes that share an autonomy and a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, also the value of its label.
    pub name: String,
    /// The autonomy of its nodes.
    pub autonomy: Autonomy,
    /// What happens to them.
    pub failure: Failure,
    /// Their names.
    pub nodes: Vec<String>,
}

/// All groups of a wave.
pub fn of_wave(wave: &str) -> Vec<Group> {
    let pairs =
        Autonomy::ALL.into_iter().flat_map(|autonomy| Failure::ALL.map(|failure| (autonomy, failure)));
    pairs.map(|(autonomy, failure)| Group::new(wave, autonomy, failure)).collect()
}

/// Every node of a wave, with those that nothing happens to.
pub fn nodes(wave: &str, groups: &[Group]) -> Vec<NodeSpec> {
    let silent = groups.iter().flat_map(|group| {
        group.nodes.iter().map(|name| NodeSpec {
            name: name.clone(),
            group: group.name.clone(),
            wave: wave.to_string(),
            pool: Some(group.pool(wave)),
            autonomy: Some(group.autonomy.annotation()),
        })
    });
    let well = (0..BYSTANDERS).map(|number| NodeSpec {
        name: format!("{wave}-well-{number}"),
        group: format!("{wave}-well"),
        wave: wave.to_string(),
        pool: Some(mixed(wave)),
        autonomy: None,
    });
    silent.chain(well).collect()
}

/// The pools of a wave.
pub fn pools(wave: &str, groups: &[Group]) -> Vec<String> {
    let mut pools: Vec<_> = groups.iter().map(|group| group.pool(wave)).collect();
    pools.sort();
    pools.dedup();
    pools
}

impl Group {
    fn new(wave: &str, autonomy: Autonomy, failure: Failure) -> Group {
        let count = if failure == Failure::Pool { POOL_NODES } else { 1 };
        let name = format!("{wave}-{autonomy:?}-{failure:?}").to_lowercase();
        let nodes = (0..count).map(|number| format!("{name}-{number}")).collect();
        Group { name, autonomy, failure, nodes }
    }

    /// The pool of its nodes: one of its own when the pool is what falls silent.
    fn pool(&self, wave: &str) -> String {
        match self.failure {
            Failure::Pool => self.name.clone(),
            Failure::Cut | Failure::Dead => mixed(wave),
        }
    }
}

fn mixed(wave: &str) -> String {
    format!("{wave}-mixed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_silent_nodes_leave_their_pool_above_the_threshold_of_the_guard() {
        let groups = of_wave("w");
        let nodes = nodes("w", &groups);
        let mixed: Vec<_> = nodes.iter().filter(|node| node.pool.as_deref() == Some("w-mixed")).collect();
        let answering = mixed.iter().filter(|node| node.group == "w-well").count();
        assert!(answering * 100 > mixed.len() * 35, "{answering} of {}", mixed.len());
        assert_eq!(pools("w", &groups).len(), 4);
    }
}
