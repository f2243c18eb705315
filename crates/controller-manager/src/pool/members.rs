//! What a pool gives to its nodes: labels, annotations and taints, put right when somebody changes them and taken away
//! when the node leaves or the pool no longer gives them. What was given stands in an annotation of the node. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NodePoolSpec;
use crate::names::{DISCONNECTED_LEASE, DISCONNECTED_SINCE, POOL, POOL_GAVE, POOL_HOST_NETWORK};
use crate::wire::{Node, Taint, text};
use crate::write::edit::Edit;

/// What a node was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Gave {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    taints: Vec<Taint>,
}

impl Gave {
    /// What a pool gives.
    pub fn of(spec: &NodePoolSpec) -> Self {
        let ours = [POOL, POOL_GAVE, DISCONNECTED_SINCE, DISCONNECTED_LEASE];
        let free = |map: &BTreeMap<String, String>| {
            let mut map = map.clone();
            map.retain(|key, _| !ours.contains(&key.as_str()));
            map
        };
        let mut labels = free(&spec.labels);
        if spec.host_network {
            labels.insert(POOL_HOST_NETWORK.to_owned(), "true".to_owned());
        }
        let taints = spec.taints.iter().map(|t| Taint { time_added: None, ..t.clone() }).collect();
        Self { labels, annotations: free(&spec.annotations), taints }
    }
}

/// What has to change of a node that is in the pool `spec`, or in none.
pub fn decide(node: &Node, spec: Option<&NodePoolSpec>, edit: &mut Edit) {
    let noted = text(&node.metadata.annotations, POOL_GAVE);
    // A note that cannot be read takes nothing away.
    let before: Gave = noted.and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default();
    let gives = spec.map(Gave::of).unwrap_or_default();
    let meta = &node.metadata;
    edit.labels.extend(maps(&before.labels, &gives.labels, meta.labels.as_ref()));
    edit.annotations.extend(maps(&before.annotations, &gives.annotations, meta.annotations.as_ref()));
    let taints = taints(&before.taints, &gives.taints, &node.spec.taints);
    if taints != node.spec.taints {
        edit.taints = Some(taints);
    }
    let note = (gives != Gave::default()).then(|| serde_json::to_string(&gives).unwrap_or_default());
    if note.as_deref() != noted {
        edit.annotate(POOL_GAVE, note);
    }
}

/// What has to change of a map. What was given and then changed by somebody is put right while it is given, and left to
/// them when it no longer is.
fn maps(
    before: &BTreeMap<String, String>,
    gives: &BTreeMap<String, String>,
    has: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, Option<String>> {
    let has = |key: &str| has.and_then(|map| map.get(key));
    let set = gives.iter().filter(|(key, value)| has(key) != Some(*value));
    let gone = before.iter().filter(|(key, value)| !gives.contains_key(*key) && has(key) == Some(*value));
    let gone = gone.map(|(key, _)| (key.clone(), None));
    set.map(|(key, value)| (key.clone(), Some(value.clone()))).chain(gone).collect()
}

/// The taints as they are to be. A taint is known by key and effect (`MatchTaint` of core/v1).
fn taints(before: &[Taint], gives: &[Taint], has: &[Taint]) -> Vec<Taint> {
    let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    let given = |t: &Taint| gives.iter().find(|g| same(g, t));
    let mut wanted: Vec<Taint> = has
        .iter()
        .filter(|t| given(t).is_some() || !before.iter().any(|b| same(b, t) && b.value == t.value))
        .map(|t| given(t).filter(|g| g.value != t.value).unwrap_or(t).clone())
        .collect();
    let missing: Vec<Taint> = gives.iter().filter(|g| !wanted.iter().any(|t| same(g, t))).cloned().collect();
    wanted.extend(missing);
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        pool: Option<Value>,
        node: Value,
        gave: Option<Value>,
        /// The patch's metadata and spec; without the note.
        patch: Value,
        /// The note afterwards.
        notes: Option<Value>,
    }

    #[test]
    fn nodes_become_what_the_table_says() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("members.yaml")).unwrap();
        for case in cases {
            let mut node = case.node.clone();
            if let Some(gave) = &case.gave {
                let gave: Gave = serde_json::from_value(gave.clone()).unwrap();
                node["metadata"]["annotations"][POOL_GAVE] = serde_json::to_string(&gave).unwrap().into();
            }
            let node: Node = serde_json::from_value(node).unwrap();
            let spec: Option<NodePoolSpec> = case.pool.clone().map(|p| serde_json::from_value(p).unwrap());
            let mut edit = Edit::default();
            decide(&node, spec.as_ref(), &mut edit);
            if let Some(note) = edit.annotations.remove(POOL_GAVE) {
                let note: Option<Value> = note.map(|n| serde_json::from_str(&n).unwrap());
                assert_eq!(note, case.notes, "{}", case.name);
            } else {
                assert_eq!(case.gave, case.notes, "{}: the note stays", case.name);
            }
            let mut patch = edit.patch("", "");
            patch["metadata"].as_object_mut().unwrap().retain(|k, _| k != "uid" && k != "resourceVersion");
            assert_eq!(patch, case.patch, "{}", case.name);
        }
    }

    #[test]
    fn a_note_that_cannot_be_read_takes_nothing_away() {
        let node = json!({"metadata": {"annotations": {POOL_GAVE: "{"}, "labels": {"a": "1"}}});
        let mut edit = Edit::default();
        decide(&serde_json::from_value(node).unwrap(), None, &mut edit);
        assert!(edit.labels.is_empty());
        assert_eq!(edit.annotations[POOL_GAVE], None);
    }
}
