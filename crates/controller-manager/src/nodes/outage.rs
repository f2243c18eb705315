//! What is written on a node about its outage: since when, and the condition that keeps new pods away. Pure.

use crate::clock::rfc3339;
use crate::link::Link;
use crate::names::{DISCONNECTED_LEASE, DISCONNECTED_SINCE, EDGE_DISCONNECTED, NETWORK_UNAVAILABLE};
use crate::nodes::verdict::Verdict;
use crate::wire::{Condition, Node, condition, text};
use crate::write::edit::{Conditions, Edit};

/// The record of the outage, with what the node's lease said at the loss. It stays until the node is really back:
/// while it returns, its pods stay protected.
pub fn record(node: &Node, verdict: &Verdict, lease: Option<&str>, edit: &mut Edit) {
    let since = verdict.link.since().filter(|_| verdict.recorded).map(rfc3339);
    let lease = lease.filter(|_| since.is_some()).map(str::to_owned);
    for (key, wanted) in [(DISCONNECTED_SINCE, since), (DISCONNECTED_LEASE, lease)] {
        if text(&node.metadata.annotations, key) != wanted.as_deref() {
            edit.annotate(key, wanted);
        }
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
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Value, json};

    use crate::nodes::table::{SINCE, autonomy, link};
    use crate::nodes::verdict::Guarded;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        link: String,
        autonomy: i64,
        #[serde(default)]
        has: Has,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
        /// set or gone
        #[serde(default)]
        condition: String,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Has {
        since: Option<String>,
        lease: Option<String>,
        condition: Option<(String, String)>,
    }

    fn node(has: &Has) -> Node {
        let condition = |(status, reason): &(String, String)| json!({"type": NETWORK_UNAVAILABLE, "status": status, "reason": reason});
        let conditions: Vec<Value> = has.condition.iter().map(condition).collect();
        let notes = [(DISCONNECTED_SINCE, &has.since), (DISCONNECTED_LEASE, &has.lease)];
        let notes: BTreeMap<_, _> = notes.into_iter().filter(|(_, text)| text.is_some()).collect();
        let node = json!({"metadata": {"annotations": notes}, "status": {"conditions": conditions}});
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn an_outage_is_written_down_as_the_table_says() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("outage.yaml")).unwrap();
        for case in &cases {
            let verdict = Verdict::new(link(&case.link), autonomy(case.autonomy), Guarded::No, false, SINCE);
            let mut edit = Edit::default();
            record(&node(&case.has), &verdict, Some("a"), &mut edit);
            let short = |key: &str| key.rsplit('-').next().unwrap().to_owned();
            let text = |value: Option<String>| value.unwrap_or_else(|| "gone".to_owned());
            let written: BTreeMap<_, _> =
                edit.annotations.into_iter().map(|(key, value)| (short(&key), text(value))).collect();
            assert_eq!(written, case.annotations, "{}", case.name);
            let wanted = conditions(&node(&case.has), &verdict);
            let did = match (wanted.set.len(), wanted.gone.len()) {
                (0, 0) => "",
                (1, 0) => "set",
                (0, 1) => "gone",
                _ => "both",
            };
            assert_eq!(did, case.condition, "{}", case.name);
        }
    }
}
