//! What is written on a node about its outage: since when, and the condition that keeps new pods away. Pure.

use crate::clock::rfc3339;
use crate::link::Link;
use crate::names::{DISCONNECTED_SINCE, EDGE_DISCONNECTED, NETWORK_UNAVAILABLE};
use crate::nodes::verdict::Verdict;
use crate::wire::{Condition, Node, condition, text};
use crate::write::edit::{Conditions, Edit};

/// The record of the outage. It stays until the node is really back: while it returns, its pods stay protected.
pub fn record(node: &Node, verdict: &Verdict, edit: &mut Edit) {
    let has = text(&node.metadata.annotations, DISCONNECTED_SINCE);
    let wanted = verdict.link.since().filter(|_| verdict.recorded).map(rfc3339);
    if has != wanted.as_deref() {
        edit.annotate(DISCONNECTED_SINCE, wanted);
    }
}

/// The condition `NetworkUnavailable`: kube-controller-manager makes a taint of it (`network-unavailable:NoSchedule`).
/// With a reason of somebody else it belongs to a CNI or a cloud's route controller, and is left to it: the taint
/// `unreachable:NoSchedule` keeps new pods away there a few seconds later.
pub fn conditions(node: &Node, verdict: &Verdict) -> Conditions {
    let has = condition(&node.status.conditions, NETWORK_UNAVAILABLE);
    let ours = has.is_some_and(|c| c.reason.as_deref() == Some(EDGE_DISCONNECTED));
    let mut wanted = Conditions::default();
    let stands = matches!(verdict.link, Link::Disconnected(_)) && verdict.until.is_some();
    if stands && (has.is_none() || ours && has.is_some_and(|c| c.status != "True")) {
        wanted.set.push(disconnected());
    }
    if ours && !stands && !matches!(verdict.link, Link::Returning(_)) {
        wanted.gone.push(NETWORK_UNAVAILABLE);
    }
    wanted
}

fn disconnected() -> Condition {
    Condition {
        kind: NETWORK_UNAVAILABLE.to_owned(),
        status: "True".to_owned(),
        reason: Some(EDGE_DISCONNECTED.to_owned()),
        message: Some("The node is not heard of; its pods are protected and no new ones are sent".to_owned()),
        last_transition_time: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autonomy::Autonomy;
    use crate::nodes::verdict::Guarded;
    use serde_json::json;

    const SINCE: i64 = 1_700_000_000;
    const TEXT: &str = "2023-11-14T22:13:20Z";

    fn node(since: Option<&str>, condition: Option<(&str, &str)>) -> Node {
        let conditions: Vec<_> = condition
            .map(|(status, reason)| json!({"type": "NetworkUnavailable", "status": status, "reason": reason}))
            .into_iter()
            .collect();
        let annotations = since.map(|s| json!({DISCONNECTED_SINCE: s}));
        let node = json!({"metadata": {"annotations": annotations}, "status": {"conditions": conditions}});
        serde_json::from_value(node).unwrap()
    }

    fn verdict(link: Link, autonomy: Autonomy) -> Verdict {
        Verdict::new(link, autonomy, Guarded::No, false, SINCE)
    }

    #[test]
    fn the_record_is_there_from_the_loss_to_the_return() {
        let (on, off, back) = (Link::Connected, Link::Disconnected(SINCE), Link::Returning(SINCE));
        let forever = Autonomy::ForEver;
        let table = [
            (None, on, forever, None),
            (None, off, forever, Some(Some(TEXT))),
            (Some(TEXT), off, forever, None),
            (Some("nonsense"), off, forever, Some(Some(TEXT))),
            (Some(TEXT), back, forever, None),
            (Some(TEXT), on, forever, Some(None)),
            (None, off, Autonomy::None, None),
            (Some(TEXT), off, Autonomy::None, Some(None)),
        ];
        for (has, link, autonomy, change) in table {
            let mut edit = Edit::default();
            record(&node(has, None), &verdict(link, autonomy), &mut edit);
            let written = edit.annotations.get(DISCONNECTED_SINCE).map(|v| v.as_deref());
            assert_eq!(written, change, "{has:?} {link:?} {autonomy:?}");
        }
    }

    #[test]
    fn the_condition_is_set_and_taken_away_and_a_cni_is_not_fought() {
        let (on, off, back) = (Link::Connected, Link::Disconnected(SINCE), Link::Returning(SINCE));
        let ours = Some(("True", "EdgeDisconnected"));
        let table = [
            (None, on, ""),
            (None, off, "set"),
            (ours, off, ""),
            (Some(("False", "EdgeDisconnected")), off, "set"),
            (Some(("False", "FlannelIsUp")), off, ""),
            (Some(("True", "CalicoIsDown")), on, ""),
            (ours, back, ""),
            (ours, on, "gone"),
        ];
        for (has, link, change) in table {
            let wanted = conditions(&node(None, has), &verdict(link, Autonomy::ForEver));
            let did = if wanted.set.is_empty() { "" } else { "set" };
            let did = if wanted.gone.is_empty() { did } else { "gone" };
            assert_eq!(did, change, "{has:?} {link:?}");
        }
        let off = conditions(&node(None, ours), &verdict(off, Autonomy::None));
        assert_eq!(off.gone, [NETWORK_UNAVAILABLE], "autonomy was switched off");
    }
}
