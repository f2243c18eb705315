//! What is remembered of a node that was lost: since when, and by which lease one can tell that it is the same outage
//! still. It stands in two annotations of the node, for the next process, and in memory until they are written. Pure.
//!
//! The lease's renewal is the node's own time and only compared for being the same: when it is another one than at
//! the loss, the node was heard of in between, though perhaps nobody looked, and a silence of now is another outage.

use kube::ResourceExt;

use crate::clock::{Moment, parse_rfc3339};
use crate::link::Link;
use crate::names::{DISCONNECTED_LEASE, DISCONNECTED_SINCE};
use crate::wire::{Node, text};

/// A loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    uid: String,
    /// The Unix time of it.
    pub since: i64,
    /// The renewal of the lease then; none when it had no lease, or nobody noted it.
    pub lease: Option<String>,
    /// When this process saw it first.
    seen: Moment,
}

impl Lost {
    /// As the node's annotations have it.
    pub fn recorded(node: &Node, now: Moment) -> Option<Self> {
        let get = |key: &str| text(&node.metadata.annotations, key);
        let since = get(DISCONNECTED_SINCE).and_then(parse_rfc3339)?;
        let lease = get(DISCONNECTED_LEASE).map(str::to_owned);
        Some(Self { uid: node.uid().unwrap_or_default(), since, lease, seen: now })
    }

    /// It is about this node, and not about another one that had its name.
    pub fn is_of(&self, node: &Node) -> bool {
        node.metadata.uid.as_deref().unwrap_or_default() == self.uid
    }

    /// Whether the node was heard of since, when its lease says `lease` now.
    pub fn was_heard(&self, lease: Option<&str>) -> bool {
        matches!((&self.lease, lease), (Some(then), Some(now)) if then != now)
    }

    /// What is to be remembered of a node with that link, whose lease says `lease`; `before` is what was.
    pub fn next(
        before: Option<Self>,
        node: &Node,
        link: Link,
        lease: Option<&str>,
        now: Moment,
    ) -> Option<Self> {
        let since = link.since()?;
        let fresh = || Self { uid: node.uid().unwrap_or_default(), since, lease: None, seen: now };
        let mut lost = before.filter(|lost| lost.since == since).unwrap_or_else(fresh);
        if matches!(link, Link::Disconnected(_)) && lease.is_some() {
            lost.lease = lease.map(str::to_owned);
        }
        Some(lost)
    }

    /// The Unix time by which the end of protection is judged: that of the first sight, and what went by since on the
    /// clock that never jumps. So a wall clock that is set forward in an outage ends nothing early, and one that is
    /// behind that of the process before begins with the loss.
    pub fn judged(&self, now: Moment) -> i64 {
        let passed = now.since_start.saturating_sub(self.seen.since_start).as_secs();
        self.seen.unix.max(self.since).saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    const SINCE: i64 = 1_700_000_000;

    fn at(seconds: u64, unix: i64) -> Moment {
        Moment { since_start: Duration::from_secs(seconds), unix }
    }

    fn node(annotations: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"uid": "u", "annotations": annotations}})).unwrap()
    }

    #[test]
    fn a_record_is_read_and_belongs_to_one_node_and_one_silence() {
        let noted = node(json!({DISCONNECTED_SINCE: "2023-11-14T22:13:20Z", DISCONNECTED_LEASE: "a"}));
        let lost = Lost::recorded(&noted, at(0, SINCE + 60)).unwrap();
        assert_eq!(lost.since, SINCE);
        assert!(lost.is_of(&noted) && !lost.is_of(&Node::default()));
        assert!(!lost.was_heard(Some("a")) && !lost.was_heard(None) && lost.was_heard(Some("b")));
        let old = Lost::recorded(&node(json!({DISCONNECTED_SINCE: "2023-11-14T22:13:20Z"})), at(0, SINCE));
        assert!(!old.unwrap().was_heard(Some("b")), "nobody noted the lease");
        assert_eq!(Lost::recorded(&node(json!({DISCONNECTED_SINCE: "yesterday"})), at(0, SINCE)), None);
    }

    #[test]
    fn the_lease_is_noted_at_the_loss_and_kept_while_the_node_returns() {
        let node = node(json!({}));
        let lost = Lost::next(None, &node, Link::Disconnected(SINCE), Some("a"), at(5, SINCE)).unwrap();
        assert_eq!(lost.lease.as_deref(), Some("a"));
        let back = Lost::next(Some(lost.clone()), &node, Link::Returning(SINCE), Some("b"), at(9, SINCE + 4));
        assert_eq!(back.as_ref(), Some(&lost));
        let again =
            Lost::next(back, &node, Link::Disconnected(SINCE + 60), Some("b"), at(65, SINCE + 60)).unwrap();
        assert_eq!((again.since, again.lease.as_deref()), (SINCE + 60, Some("b")));
        assert_eq!(Lost::next(Some(again), &node, Link::Connected, Some("c"), at(70, SINCE + 65)), None);
    }

    #[test]
    fn a_wall_clock_that_jumps_moves_no_end() {
        let lost = Lost::next(None, &node(json!({})), Link::Disconnected(SINCE), None, at(5, SINCE)).unwrap();
        assert_eq!(lost.judged(at(65, SINCE + 60)), SINCE + 60);
        assert_eq!(lost.judged(at(65, SINCE + 999_999)), SINCE + 60, "forward");
        assert_eq!(lost.judged(at(65, SINCE - 999_999)), SINCE + 60, "back");
        let recorded = node(json!({DISCONNECTED_SINCE: "2023-11-14T22:13:20Z"}));
        let behind = Lost::recorded(&recorded, at(0, 0)).unwrap();
        assert_eq!(behind.judged(at(60, 60)), SINCE + 60, "a process that is behind the one before");
    }
}
