//! Whether nodes are heard of: by changes of their leases that this process saw, on its own clock. Pure.
//!
//! No time that a node wrote is ever compared with another: `renewTime` is only looked at for being different. And a
//! node's silence counts only while it could have been heard: when the apiserver gives no answer, no node grows silent.

use std::collections::HashMap;
use std::time::Duration;

/// What is known of one node's lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// It has a lease.
    pub lease: bool,
    /// The lease was seen to change, by this process.
    pub changed: bool,
    /// How long it was seen without a change.
    pub silent: Duration,
}

/// The leases of all nodes as they were seen.
#[derive(Debug, Default)]
pub struct Leases {
    nodes: HashMap<String, Watched>,
    looked: Option<Duration>,
}

#[derive(Debug, Default)]
struct Watched {
    renewed: String,
    changed: bool,
    silent: Duration,
    look: u64,
}

impl Leases {
    /// Notes all leases, (node, renewal), read at `now`; looks are `period` apart when all goes well. A longer time
    /// between two counts as two periods only, because nobody could have been heard meanwhile.
    pub fn note<'a>(
        &mut self,
        leases: impl Iterator<Item = (&'a str, &'a str)>,
        now: Duration,
        period: Duration,
    ) {
        let passed = self.looked.map_or(Duration::ZERO, |before| now.saturating_sub(before).min(period * 2));
        let look = self.nodes.values().map(|w| w.look).max().unwrap_or(0) + 1;
        self.looked = Some(now);
        for (node, renewed) in leases {
            match self.nodes.get_mut(node) {
                Some(watched) => watched.note(renewed, passed, look),
                None => {
                    let first = Watched { renewed: renewed.to_owned(), look, ..Watched::default() };
                    self.nodes.insert(node.to_owned(), first);
                }
            }
        }
        self.nodes.retain(|_, watched| watched.look == look);
    }

    /// What is known of a node.
    pub fn of(&self, node: &str) -> Heard {
        self.nodes.get(node).map_or_else(Heard::default, |w| Heard {
            lease: true,
            changed: w.changed,
            silent: w.silent,
        })
    }

    /// What a node's lease says as the time of its renewal; none when it says nothing.
    pub fn renewed(&self, node: &str) -> Option<&str> {
        self.nodes.get(node).map(|w| w.renewed.as_str()).filter(|renewed| !renewed.is_empty())
    }

    /// Whether they were read once.
    pub fn are_read(&self) -> bool {
        self.looked.is_some()
    }
}

impl Watched {
    fn note(&mut self, renewed: &str, passed: Duration, look: u64) {
        self.look = look;
        if self.renewed == renewed {
            self.silent += passed;
        } else {
            *self = Self { renewed: renewed.to_owned(), changed: true, silent: Duration::ZERO, look };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    fn look(leases: &mut Leases, at: u64, renewed: &[(&str, &str)]) {
        leases.note(renewed.iter().copied(), Duration::from_secs(at), PERIOD);
    }

    fn silent(leases: &Leases, node: &str) -> u64 {
        leases.of(node).silent.as_secs()
    }

    #[test]
    fn only_changes_count_and_no_clock_of_a_node() {
        let mut leases = Leases::default();
        assert_eq!(leases.of("a"), Heard::default());
        look(&mut leases, 100, &[("a", "1999"), ("b", "2999")]);
        assert_eq!(leases.of("a"), Heard { lease: true, changed: false, silent: Duration::ZERO });
        look(&mut leases, 105, &[("a", "1998"), ("b", "2999")]);
        assert!(leases.of("a").changed, "a clock that went back is a sign of life, too");
        assert_eq!((silent(&leases, "a"), silent(&leases, "b")), (0, 5));
        look(&mut leases, 110, &[("a", "1998"), ("b", "2999")]);
        assert_eq!((silent(&leases, "a"), silent(&leases, "b")), (5, 10));
    }

    #[test]
    fn an_outage_of_the_apiserver_makes_no_node_silent() {
        let mut leases = Leases::default();
        look(&mut leases, 0, &[("a", "1")]);
        look(&mut leases, 5, &[("a", "2")]);
        look(&mut leases, 605, &[("a", "2")]);
        assert_eq!(silent(&leases, "a"), 10, "ten minutes in which nobody could be heard");
    }

    #[test]
    fn a_lease_that_is_gone_is_forgotten() {
        let mut leases = Leases::default();
        look(&mut leases, 0, &[("a", "1"), ("b", "1")]);
        look(&mut leases, 5, &[("b", "2")]);
        assert!(!leases.of("a").lease && leases.of("b").lease);
        assert!(leases.are_read());
    }
}
