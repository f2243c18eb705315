//! Labels, selectors and lists as cells show them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::or_none;
use super::sheet::{items, text};

/// How many entries of a list are shown.
const SHOWN: usize = 3;

/// A map from text to text (`labels.FormatLabels` of `k8s.io/apimachinery`).
pub(super) fn labels(map: Option<&Value>) -> String {
    or_none(&pairs(map).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}

fn pairs(map: Option<&Value>) -> impl Iterator<Item = (&String, &str)> {
    // Members of a JSON object may stand in any order.
    let sorted: BTreeMap<_, _> = map.and_then(Value::as_object).into_iter().flatten().collect();
    sorted.into_iter().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

/// A label selector as a query would have it, by keys (`metav1.LabelSelectorAsSelector`); `empty` when it says nothing.
pub(super) fn selector(selector: Option<&Value>, empty: &str) -> String {
    let Some(selector) = selector else { return empty.to_owned() };
    let equal =
        pairs(selector.get("matchLabels")).map(|(key, value)| (key.as_str(), format!("{key}={value}")));
    let others = items(selector, "/matchExpressions").map(|r| (text(r, "/key"), requirement(r)));
    let mut all: Vec<(&str, String)> = equal.chain(others).collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    if all.is_empty() {
        return empty.to_owned();
    }
    all.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

fn requirement(requirement: &Value) -> String {
    let key = text(requirement, "/key");
    let mut values: Vec<&str> = items(requirement, "/values").filter_map(Value::as_str).collect();
    values.sort_unstable();
    let values = values.join(",");
    match text(requirement, "/operator") {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.to_owned(),
    }
}

/// The first entries, and how many more there are.
pub(super) fn first_of(all: impl Iterator<Item = String>) -> String {
    let (mut shown, mut count) = (Vec::new(), 0);
    for entry in all {
        count += 1;
        if count <= SHOWN {
            shown.push(entry);
        }
    }
    let text = shown.join(",");
    if count > SHOWN { format!("{text} + {} more...", count - SHOWN) } else { text }
}
