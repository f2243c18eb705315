//! Merging a strategic merge patch into an object.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{PatchError, lists};
use crate::proto::schema::{Field, Kind, Message, Shape};

type Object = Map<String, Value>;
/// What is known of an object's fields; None inside free-form maps.
pub(super) type Schema = Option<&'static Message>;

pub(super) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
pub(super) const SET_ORDER: &str = "$setElementOrder/";

/// What the table says about merging one field.
#[derive(Clone, Copy)]
pub(super) struct Strategy {
    /// Of the object that the field holds or lists.
    pub(super) schema: Schema,
    /// Lists are merged, by `key` or as sets of primitives.
    pub(super) merges: bool,
    /// Empty for primitives.
    pub(super) key: &'static str,
    /// Objects are replaced.
    pub(super) replaces: bool,
}

impl Strategy {
    /// How to merge `name` in an object of `schema`. What is not known is merged when it is an object, replaced when
    /// it is a list.
    pub(super) fn of(schema: Schema, name: &str) -> Self {
        let field = schema.and_then(|schema| schema.named(name, &mut 0)).map(|(_, field)| field);
        Strategy {
            schema: field.and_then(described),
            merges: field.is_some_and(Field::merges),
            key: field.map_or("", Field::merge_key),
            replaces: field.is_some_and(Field::replaces),
        }
    }
}

fn described(field: &'static Field) -> Schema {
    (field.kind == Kind::Message && field.shape != Shape::Map).then(|| field.message())
}

/// `original` with `patch` merged into it.
pub(super) fn maps(mut original: Object, mut patch: Object, schema: Schema) -> Result<Object, PatchError> {
    if let Some(directive) = patch.shift_remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => Err(PatchError::Malformed(format!("{DIRECTIVE}: {directive} is not known"))),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    set_order(&mut original, &mut patch, schema)?;
    for (name, value) in patch {
        match name.strip_prefix(DELETE_FROM) {
            Some(list) => delete_from(&mut original, list, &value)?,
            None => field(&mut original, name, value, schema)?,
        }
    }
    Ok(original)
}

fn field(original: &mut Object, name: String, value: Value, schema: Schema) -> Result<(), PatchError> {
    let merged = match (original.get_mut(&name).map(Value::take), value) {
        (_, Value::Null) => None,
        (Some(Value::Object(old)), Value::Object(new)) => {
            let strategy = Strategy::of(schema, &name);
            if strategy.replaces {
                Some(Value::Object(new))
            } else {
                Some(maps(old, new, strategy.schema)?.into())
            }
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let strategy = Strategy::of(schema, &name);
            if strategy.merges {
                Some(lists::merge(old, new, strategy)?.into())
            } else {
                Some(Value::Array(new))
            }
        }
        (_, new) => plain(new),
    };
    match merged {
        Some(merged) => original.insert(name, merged),
        None => original.shift_remove(&name),
    };
    Ok(())
}

/// A value that meets nothing to be merged with: nulls and directives leave it. None when it is itself a directive.
pub(super) fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) if object.contains_key(DIRECTIVE) => None,
        Value::Object(object) => {
            let kept = object.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
            Some(Value::Object(kept.filter_map(|(name, value)| Some((name, plain(value)?))).collect()))
        }
        Value::Array(list) => Some(list.into_iter().filter_map(plain).collect()),
        other => Some(other),
    }
}

fn is_directive(name: &str) -> bool {
    name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
}

fn delete_from(original: &mut Object, name: &str, unwanted: &Value) -> Result<(), PatchError> {
    let unwanted = unwanted.as_array().ok_or_else(|| malformed(DELETE_FROM, name))?;
    let unwanted: HashSet<&Value> = unwanted.iter().collect();
    if let Some(Value::Array(list)) = original.get_mut(name) {
        list.retain(|value| !unwanted.contains(value));
    }
    Ok(())
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(kept) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let kept: Option<HashSet<&str>> =
        kept.as_array().and_then(|kept| kept.iter().map(Value::as_str).collect());
    let kept = kept.ok_or_else(|| malformed(RETAIN_KEYS, "must list names"))?;
    let stray = patch
        .iter()
        .find(|(name, value)| !value.is_null() && !is_directive(name) && !kept.contains(name.as_str()));
    if let Some((name, _)) = stray {
        return Err(malformed(RETAIN_KEYS, name));
    }
    original.retain(|name, _| kept.contains(name.as_str()));
    Ok(())
}

/// Merges the lists whose order the patch sets, and puts them in that order.
fn set_order(original: &mut Object, patch: &mut Object, schema: Schema) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let name = directive.strip_prefix(SET_ORDER).unwrap_or_default();
        let Some(Value::Array(order)) = patch.shift_remove(&directive) else {
            return Err(malformed(SET_ORDER, name));
        };
        let strategy = Strategy::of(schema, name);
        if patch.get(name).is_some_and(Value::is_null) {
            return Err(malformed(SET_ORDER, name));
        }
        let held = take_list(original, name)?;
        let new = take_list(patch, name)?;
        patch.shift_remove(name);
        lists::check_order(new.as_deref().unwrap_or_default(), &order, strategy.key)
            .map_err(|why| PatchError::Malformed(format!("{directive}: {why}")))?;
        let live = held.clone().unwrap_or_default();
        let merged = match (held, new) {
            (None, None) => continue,
            (Some(held), None) => held,
            (None, Some(new)) => new.into_iter().filter_map(plain).collect(),
            (Some(held), Some(new)) if strategy.merges => lists::merge(held, new, strategy)?,
            (Some(_), Some(new)) => new,
        };
        let ordered = lists::arrange(merged, &order, &live, strategy.key)?;
        original.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// Takes a list out and leaves null, so that its key keeps its place in the object.
fn take_list(object: &mut Object, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match object.get_mut(name).map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(_) => Err(malformed(SET_ORDER, name)),
    }
}

fn malformed(directive: &str, what: &str) -> PatchError {
    PatchError::Malformed(format!("{directive}: {what}"))
}
