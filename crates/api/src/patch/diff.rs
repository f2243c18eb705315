//! The strategic merge patch between two states of an object.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::lists::{self, identity};
use super::merge::{DELETE_FROM, DIRECTIVE, SET_ORDER, Schema, Strategy};

type Object = Map<String, Value>;

/// The patch from `from` to `to`, neither of which has nulls in it. Empty when they are equal.
pub(super) fn maps(from: &Object, to: &Object, schema: Schema) -> Object {
    let mut patch = Object::new();
    for (name, new) in to {
        match (from.get(name), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                let strategy = Strategy::of(schema, name);
                let change = if strategy.replaces { new.clone() } else { maps(old, new, strategy.schema) };
                patch.insert(name.clone(), Value::Object(change));
            }
            (Some(Value::Array(old)), Value::Array(new)) if Strategy::of(schema, name).merges => {
                list(&mut patch, name, old, new, Strategy::of(schema, name));
            }
            (_, new) => drop(patch.insert(name.clone(), new.clone())),
        }
    }
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    patch
}

/// A copy in which nothing is null, except elements of lists.
pub(super) fn without_nulls(object: &Object) -> Object {
    let fields = object.iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.clone(), value_without_nulls(value))).collect()
}

fn value_without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(without_nulls(object)),
        Value::Array(list) => list.iter().map(value_without_nulls).collect(),
        other => other.clone(),
    }
}

fn list(patch: &mut Object, name: &str, old: &[Value], new: &[Value], strategy: Strategy) {
    let mut change =
        if strategy.key.is_empty() { primitives(name, old, new) } else { elements(name, old, new, strategy) };
    if gives(&change, name, old, new, strategy).unwrap_or(false) {
        return patch.extend(change);
    }
    let order = new.iter().map(|element| only_key(element, strategy.key)).collect();
    change.insert(format!("{SET_ORDER}{name}"), order);
    if strategy.key.is_empty() || gives(&change, name, old, new, strategy).unwrap_or(false) {
        return patch.extend(change);
    }
    let marker = std::iter::once(Object::from_iter([(DIRECTIVE.to_owned(), "replace".into())]).into());
    patch.insert(name.to_owned(), marker.chain(new.iter().cloned()).collect());
}

/// Whether the change makes `new` of `old`.
fn gives(change: &Object, name: &str, old: &[Value], new: &[Value], strategy: Strategy) -> Option<bool> {
    let order = change.get(&format!("{SET_ORDER}{name}")).and_then(Value::as_array);
    let empty = Vec::new();
    let listed = change.get(name).and_then(Value::as_array).unwrap_or(&empty);
    let unwanted = change.get(&format!("{DELETE_FROM}{name}")).and_then(Value::as_array).unwrap_or(&empty);
    if let Some(order) = order {
        lists::check_order(listed, order, strategy.key).ok()?;
    }
    let mut merged = lists::merge(old.to_vec(), listed.clone(), strategy).ok()?;
    if let Some(order) = order {
        merged = lists::arrange(merged, order, old, strategy.key).ok()?;
    }
    merged.retain(|value| !unwanted.contains(value));
    Some(merged == new)
}

fn primitives(name: &str, old: &[Value], new: &[Value]) -> Object {
    let missing = |from: &[Value], of: &[Value]| -> Vec<Value> {
        let known: HashSet<&Value> = of.iter().collect();
        from.iter().filter(|value| !known.contains(value)).cloned().collect()
    };
    let mut change = Object::new();
    let (added, removed) = (missing(new, old), missing(old, new));
    if !removed.is_empty() {
        change.insert(format!("{DELETE_FROM}{name}"), removed.into());
    }
    if !added.is_empty() {
        change.insert(name.to_owned(), added.into());
    }
    change
}

fn elements(name: &str, old: &[Value], new: &[Value], strategy: Strategy) -> Object {
    let (held, kept) = (by_key(old, strategy.key), by_key(new, strategy.key));
    let key = |element| identity(element, strategy.key);
    let changed = new.iter().filter_map(|element| {
        let old = key(element).and_then(|key| held.get(key)).copied();
        element_change(old, element, strategy)
    });
    let gone = old.iter().filter(|element| key(element).is_none_or(|key| !kept.contains_key(key)));
    let deleted = gone.map(|element| {
        let mut directive = only_key(element, strategy.key);
        if let Value::Object(directive) = &mut directive {
            directive.insert(DIRECTIVE.to_owned(), "delete".into());
        }
        directive
    });
    Object::from_iter([(name.to_owned(), changed.chain(deleted).collect())])
}

fn by_key<'a>(list: &'a [Value], key: &str) -> HashMap<&'a Value, &'a Value> {
    list.iter().filter_map(|element| Some((identity(element, key)?, element))).collect()
}

/// What an element of the patch must say; None when nothing changed.
fn element_change(old: Option<&Value>, new: &Value, strategy: Strategy) -> Option<Value> {
    let (Some(Value::Object(old)), Value::Object(fields)) = (old, new) else { return Some(new.clone()) };
    let mut change = maps(old, fields, strategy.schema);
    if change.is_empty() {
        return None;
    }
    if let Some(key) = fields.get(strategy.key) {
        change.insert(strategy.key.to_owned(), key.clone());
    }
    Some(Value::Object(change))
}

/// The element reduced to what identifies it.
fn only_key(element: &Value, key: &str) -> Value {
    match element.get(key) {
        Some(value) if !key.is_empty() => Object::from_iter([(key.to_owned(), value.clone())]).into(),
        _ => element.clone(),
    }
}
