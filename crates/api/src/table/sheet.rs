//! Tables of kinds whose cells follow simple rules: data, not code.
//!
//! A sheet is a list of columns, each with the rule of its cells. Rules read an object leniently: what is missing or of
//! another type has the default that an apiserver fills in or shows.

use serde_json::Value;

use super::Made;
use super::age::age;
use super::columns::Column;
use super::format::{labels, selector};

/// The columns of a kind with the rules of their cells.
pub(super) type Sheet = &'static [(Column, Cell)];

/// How a cell is made. Paths are JSON pointers (RFC 6901).
#[derive(Clone, Copy)]
pub(super) enum Cell {
    /// The object's name.
    Name,
    /// The time since it was created.
    Age,
    /// A text; empty when it is missing.
    Text(&'static str),
    /// A text, or what stands for a missing one.
    TextOr(&'static str, &'static str),
    /// A number; 0 when it is missing.
    Number(&'static str),
    /// A truth; false when it is missing.
    Flag(&'static str),
    /// How many entries a list or map has.
    Count(&'static str),
    /// Two numbers, one of the other.
    Ratio(&'static str, &'static str),
    /// A member of each object of a list, separated by commas: the list, the member.
    Each(&'static str, &'static str),
    /// A map from text to text.
    Labels(&'static str),
    /// A label selector, and what stands for one that says nothing.
    Selector(&'static str, &'static str),
    /// Anything else, of the object and now (Unix seconds).
    Made(fn(&Value, i64) -> Value),
}

/// The row of an object at `now`.
pub(super) fn made(sheet: Sheet, object: &Value, now: i64) -> Made {
    Made::of(sheet.iter().map(|(_, cell)| cell.of(object, now)).collect())
}

impl Cell {
    fn of(self, object: &Value, now: i64) -> Value {
        match self {
            Cell::Name => text(object, "/metadata/name").into(),
            Cell::Age => {
                age(object.pointer("/metadata/creationTimestamp").and_then(Value::as_str), now).into()
            }
            Cell::Text(path) => text(object, path).into(),
            Cell::TextOr(path, missing) => {
                object.pointer(path).and_then(Value::as_str).unwrap_or(missing).into()
            }
            Cell::Number(path) => number(object, path).into(),
            Cell::Flag(path) => object.pointer(path).and_then(Value::as_bool).unwrap_or(false).into(),
            Cell::Count(path) => count(object.pointer(path)).into(),
            Cell::Ratio(part, whole) => format!("{}/{}", number(object, part), number(object, whole)).into(),
            Cell::Each(path, member) => each(object, path, member).into(),
            Cell::Labels(path) => labels(object.pointer(path)).into(),
            Cell::Selector(path, empty) => selector(object.pointer(path), empty).into(),
            Cell::Made(make) => make(object, now),
        }
    }
}

/// The text at a path; empty when there is none.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a path; 0 when there is none.
pub(super) fn number(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

/// The objects of the list at a path.
pub(super) fn items<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn each(object: &Value, path: &str, member: &str) -> String {
    items(object, path).map(|item| text(item, member)).collect::<Vec<_>>().join(",")
}

fn count(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(members)) => members.len(),
        _ => 0,
    }
}
