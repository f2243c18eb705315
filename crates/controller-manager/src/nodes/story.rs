//! What is told about nodes and pools, as Events. Pure. What goes on is told once an occasion: the event's name says
//! which, so neither a second look nor a new leader tells it again.

use kube::ResourceExt;

use crate::autonomy::Said;
use crate::duration::{self, NoDuration};
use crate::link::Link;
use crate::names::{AUTONOMY, AUTONOMY_DURATION, DISCONNECTED_SINCE};
use crate::nodes::verdict::{Guarded, Until, Verdict};
use crate::pool::{CUT, NodePool, NodePoolStatus};
use crate::wire::{Node, condition, text};
use crate::write::event::Event;

/// The events of a node. Its recovery is told as long as the record of the outage stands.
pub fn of_node(node: &Node, said: &Said, verdict: &Verdict) -> Vec<Event> {
    let (name, uid) = (node.name_any(), node.uid().unwrap_or_default());
    let event = |level, reason, message: String| Event::of_node(&name, &uid, level, reason, message);
    let mut events = Vec::new();
    if let Some((text, error)) = &said.unreadable {
        let message =
            format!("{AUTONOMY_DURATION}: {text:?} is no duration ({error}): it makes no node autonomous");
        events.push(event("Warning", "InvalidAutonomyDuration", message).on(text));
    }
    match (verdict.link, verdict.until) {
        (Link::Disconnected(since), Some(until)) if verdict.recorded => {
            let (why, autonomy) = (guard(verdict.guarded), verdict.autonomy);
            let message = format!("The node is not heard of{why}: {}", promise(until));
            // Another promise is another occasion.
            let occasion = format!("{since} {autonomy:?}{why}");
            events.push(event("Warning", "EdgeDisconnected", message).on(occasion));
            if verdict.over {
                let message = "The time of protection is over: its pods are deleted".to_owned();
                events.push(event("Warning", "AutonomyOver", message).on(since));
            }
        }
        (Link::Connected, _) => {
            if let Some(since) = text(&node.metadata.annotations, DISCONNECTED_SINCE) {
                let message = format!("The node is back; it was disconnected since {since}");
                events.push(event("Normal", "EdgeReconnected", message).on(since));
            }
        }
        _ => {}
    }
    events.extend(unready_hub(node, event));
    events
}

/// The hub says that the node could not live offline now.
fn unready_hub(node: &Node, event: impl Fn(&'static str, &'static str, String) -> Event) -> Option<Event> {
    let said = condition(&node.status.conditions, AUTONOMY).filter(|c| c.status != "True")?;
    let why = [said.reason.as_deref(), said.message.as_deref()].into_iter().flatten().collect::<Vec<_>>();
    let message = format!("The node is not ready to go offline: {}", why.join(": "));
    let occasion = said.last_transition_time.clone().unwrap_or_default();
    Some(event("Warning", "NotReadyForAutonomy", message).on(occasion))
}

fn guard(guarded: Guarded) -> &'static str {
    match guarded {
        Guarded::No => "",
        Guarded::Cut(_) => ", and its pool is cut",
        Guarded::Healed(..) => ", though its pool is back",
    }
}

fn promise(until: Until) -> String {
    match until {
        Until::Never => "its pods stay until it is back".to_owned(),
        Until::At(_) => format!("its pods stay until {}", until.text()),
    }
}

/// The events of a pool that is about to be given `status`.
pub fn of_pool(pool: &NodePool, status: Option<&NodePoolStatus>) -> Vec<Event> {
    let mut events = Vec::new();
    let event = |level, reason, message: String| Event {
        kind: "NodePool",
        api_version: "apps.openyurt.io/v1beta2",
        ..Event::of_node(&pool.name_any(), &pool.uid().unwrap_or_default(), level, reason, message)
    };
    for (field, text, error) in unreadable(pool) {
        let message = format!("spec.autonomy.{field}: {text:?} is no duration ({error})");
        events.push(event("Warning", "InvalidAutonomyDuration", message).on(format!("{field} {text}")));
    }
    let changed =
        status.and_then(|s| condition(&s.conditions, CUT)).filter(|c| c.last_transition_time.is_none());
    if let Some(cut) = changed {
        let (level, reason) =
            if cut.status == "True" { ("Warning", "PoolCut") } else { ("Normal", "PoolHealed") };
        // The state that ends with it says which change it is, however often its write is tried.
        let before =
            pool.status.as_ref().and_then(|s| condition(&s.conditions, CUT)?.last_transition_time.clone());
        let message = cut.message.clone().unwrap_or_default();
        events.push(event(level, reason, message).on(before.unwrap_or_default()));
    }
    events
}

/// Durations of a pool that cannot be read: the field, its text, and why.
fn unreadable(pool: &NodePool) -> Vec<(&'static str, &str, NoDuration)> {
    let autonomy = pool.spec.autonomy.as_ref();
    let guard = autonomy.and_then(|a| a.guard.as_ref());
    let fields = [
        ("duration", autonomy.and_then(|a| a.duration.as_deref())),
        ("guard.window", guard.and_then(|g| g.window.as_deref())),
        ("guard.maxDuration", guard.and_then(|g| g.max_duration.as_deref())),
    ];
    let unread = fields.into_iter().filter_map(|(field, text)| {
        let text = text?;
        Some((field, text, duration::parse(text).err()?))
    });
    unread.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autonomy::{self, Autonomy};
    use crate::nodes::verdict::Guarded;
    use serde_json::{Value, json};

    fn told(node: Value, link: Link, autonomy: Autonomy, unix: i64) -> Vec<String> {
        let node: Node = serde_json::from_value(node).unwrap();
        let said = autonomy::of(node.metadata.annotations.as_ref(), None);
        let verdict = Verdict::new(link, autonomy, Guarded::No, false, unix);
        of_node(&node, &said, &verdict).into_iter().map(|e| format!("{} {}", e.reason, e.occasion)).collect()
    }

    #[test]
    fn what_happens_to_a_node_is_told() {
        let bare = json!({"metadata": {"name": "n"}});
        let annotated =
            |key: &str, value: &str| json!({"metadata": {"name": "n", "annotations": {key: value}}});
        let off = Link::Disconnected(100);
        assert!(told(bare.clone(), Link::Connected, Autonomy::None, 0).is_empty());
        assert!(told(bare.clone(), off, Autonomy::None, 200).is_empty());
        let lost = "EdgeDisconnected 100 For(600)";
        assert_eq!(told(bare.clone(), off, Autonomy::For(600), 200), [lost]);
        assert_eq!(told(bare.clone(), off, Autonomy::For(600), 700), [lost, "AutonomyOver 100"]);
        let longer = told(bare, off, Autonomy::For(7_200), 700);
        assert_eq!(longer, ["EdgeDisconnected 100 For(7200)"], "another promise");
        let back = annotated(DISCONNECTED_SINCE, "then");
        assert_eq!(told(back, Link::Connected, Autonomy::ForEver, 0), ["EdgeReconnected then"]);
        let bad = annotated(AUTONOMY_DURATION, "soon");
        assert_eq!(told(bad, Link::Connected, Autonomy::None, 0), ["InvalidAutonomyDuration soon"]);
        let hub = json!({"metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "Autonomy", "status": "False", "reason": "CacheIncomplete", "lastTransitionTime": "t"},
        ]}});
        assert_eq!(told(hub, Link::Connected, Autonomy::ForEver, 0), ["NotReadyForAutonomy t"]);
    }

    #[test]
    fn a_change_of_a_pool_is_one_event_however_often_it_is_tried() {
        let pool = |version: &str, conditions: Value| -> NodePool {
            let pool = json!({"apiVersion": "a", "kind": "NodePool", "spec": {}, "status": {"conditions": conditions},
                "metadata": {"name": "p", "resourceVersion": version}});
            serde_json::from_value(pool).unwrap()
        };
        let cut = |status: &str, at: Value| json!({"type": CUT, "status": status, "lastTransitionTime": at});
        let told = |version: &str, before: Value, after: Value| {
            let after = pool(version, json!([after])).status;
            let events = of_pool(&pool(version, before), after.as_ref());
            events.into_iter().map(|e| format!("{} {}", e.reason, e.key())).collect::<Vec<_>>()
        };
        let first = told("1", json!([]), cut("True", Value::Null));
        assert_eq!(first, told("2", json!([]), cut("True", Value::Null)));
        let healed = told("3", json!([cut("True", "t1".into())]), cut("False", Value::Null));
        assert!(first[0].starts_with("PoolCut") && healed[0].starts_with("PoolHealed"));
        assert_ne!(
            first,
            told("4", json!([cut("False", "t2".into())]), cut("True", Value::Null)),
            "the next one"
        );
    }

    #[test]
    fn each_duration_of_a_pool_that_cannot_be_read_is_told() {
        let pool = |autonomy: Value| -> NodePool {
            let pool = json!({"apiVersion": "a", "kind": "NodePool", "metadata": {"name": "p"},
                "spec": {"autonomy": autonomy}});
            serde_json::from_value(pool).unwrap()
        };
        let bad = pool(json!({"duration": "1d", "guard": {"window": "5", "maxDuration": "long"}}));
        let told: Vec<_> = of_pool(&bad, None).into_iter().map(|e| e.occasion).collect();
        assert_eq!(told, ["duration 1d", "guard.window 5", "guard.maxDuration long"]);
        let good = pool(json!({"duration": "-1s", "guard": {"window": "90s"}}));
        assert!(of_pool(&good, None).is_empty());
    }
}
