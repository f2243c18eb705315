//! Merging lists: objects by their merge key, primitives as sets, and the order of what comes out.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::PatchError;
use super::merge::{self, DIRECTIVE, Strategy};

/// `original` with the elements of `patch` merged into it.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    strategy: Strategy,
) -> Result<Vec<Value>, PatchError> {
    let objects = original.iter().chain(&patch).filter(|element| element.is_object()).count();
    if objects == 0 {
        return primitives(original, patch);
    }
    if objects < original.len() + patch.len() || strategy.key.is_empty() {
        return Err(refused("a list of objects and other values cannot be merged"));
    }
    objects_by_key(original, patch, strategy)
}

fn primitives(original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    if original.iter().chain(&patch).any(Value::is_array) {
        return Err(refused("lists of lists cannot be merged"));
    }
    let mut seen = HashSet::new();
    let merged = original.iter().chain(&patch).filter(|value| seen.insert(*value)).cloned().collect();
    arrange(merged, &patch, &original, "")
}

fn objects_by_key(
    original: Vec<Value>,
    patch: Vec<Value>,
    strategy: Strategy,
) -> Result<Vec<Value>, PatchError> {
    let Split { mut kept, changes } = directives(original, patch, strategy.key)?;
    let live = kept.clone();
    let mut places: HashMap<Value, usize> = HashMap::new();
    for (place, element) in kept.iter().enumerate() {
        if let Some(key) = element.get(strategy.key) {
            places.entry(key.clone()).or_insert(place);
        }
    }
    for change in &changes {
        let key = key_of(change, strategy.key)?;
        let Value::Object(fields) = change.clone() else { continue };
        if let Some(element) = places.get(key).and_then(|place| kept.get_mut(*place)) {
            let held = match element.take() {
                Value::Object(held) => held,
                _ => serde_json::Map::new(),
            };
            *element = Value::Object(merge::maps(held, fields, strategy.schema)?);
        } else if let Some(new) = merge::plain(Value::Object(fields)) {
            places.insert(key.clone(), kept.len());
            kept.push(new);
        }
    }
    arrange(kept, &changes, &live, strategy.key)
}

struct Split {
    /// What stays of the original.
    kept: Vec<Value>,
    /// Elements of the patch that are no directives.
    changes: Vec<Value>,
}

/// Carries out `$patch` in elements: delete one, or replace the whole list.
fn directives(mut kept: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<Split, PatchError> {
    let (mut changes, mut unwanted, mut replace) = (Vec::new(), HashSet::new(), false);
    for element in patch {
        match element.get(DIRECTIVE).map(Value::as_str) {
            None => changes.push(element),
            Some(Some("delete")) => {
                unwanted.insert(key_of(&element, key)?.clone());
            }
            Some(Some("replace")) => replace = true,
            Some(other) => return Err(PatchError::Malformed(format!("{DIRECTIVE}: {other:?} in a list"))),
        }
    }
    kept.retain(|held| held.get(key).is_none_or(|key| !unwanted.contains(key)));
    Ok(if replace { Split { kept: changes, changes: Vec::new() } } else { Split { kept, changes } })
}

/// Puts `merged` in order: what `order` names goes as there, the rest as in `live`, and between them the order of
/// `live` decides where it can.
pub(super) fn arrange(
    merged: Vec<Value>,
    order: &[Value],
    live: &[Value],
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    if !key.is_empty() {
        merged.iter().try_for_each(|element| key_of(element, key).map(drop))?;
    }
    let (order, live) = (Places::of(order, key), Places::of(live, key));
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|element| order.place(element).is_some());
    named.sort_by_cached_key(|element| order.place(element));
    others.sort_by_cached_key(|element| live.place(element).unwrap_or(usize::MAX));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    let mut arranged = Vec::new();
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(name)) => {
                matches!((live.place(other), live.place(name)), (Some(other), Some(name)) if other < name)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(arranged),
        };
        arranged.extend(if other_first { others.next() } else { named.next() });
    }
}

/// Where each element of a list is.
struct Places<'a> {
    key: &'a str,
    places: HashMap<&'a Value, usize>,
}

impl<'a> Places<'a> {
    fn of(list: &'a [Value], key: &'a str) -> Self {
        let identities = list.iter().map(|element| identity(element, key));
        // Backwards, so that the first of several stays.
        let places = identities.enumerate().filter_map(|(place, identity)| Some((identity?, place)));
        Places { key, places: places.collect::<Vec<_>>().into_iter().rev().collect() }
    }

    fn place(&self, element: &Value) -> Option<usize> {
        self.places.get(identity(element, self.key)?).copied()
    }
}

/// The elements of a patch must be in the set order, and stand in it in the same sequence.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), String> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for element in patch.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        if !rest.any(|other| identity(element, key) == identity(other, key)) {
            return Err(format!("{element} is not in it, or not in its place"));
        }
    }
    Ok(())
}

/// What makes an element the same one in another list: its merge key, or the primitive itself.
pub(super) fn identity<'a>(element: &'a Value, key: &str) -> Option<&'a Value> {
    if key.is_empty() { Some(element) } else { element.get(key) }
}

fn key_of<'a>(element: &'a Value, key: &str) -> Result<&'a Value, PatchError> {
    element.get(key).ok_or_else(|| refused(&format!("an element has no merge key {key}")))
}

fn refused(why: &str) -> PatchError {
    PatchError::Refused(why.to_owned())
}
