//! The columns of custom resources: what their definition says of them
//! (`k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor`).
//!
//! They are learnt from a definition that is held, or from a table that the apiserver made. A table does not say where
//! its cells come from unless its author left the description to the apiserver, which then puts the path there. Columns
//! whose values cannot be found are left out: an empty cell would be a lie.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Made;
use super::age::age;
use super::path::Path;
use super::sheet::{items, text};
use crate::error::DecodeError;
use crate::json;

/// Columns that are shown at most.
const MAX_COLUMNS: usize = 64;
/// How the apiserver describes a column without a description of its own.
const PATH_FOLLOWS: &str = "Custom resource definition column (in JSONPath format): ";
const CREATED: &str = ".metadata.creationTimestamp";

/// The columns of one custom resource. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Columns(Arc<[Custom]>);

#[derive(Debug)]
struct Custom {
    path: Path,
    shown: Shown,
}

/// A column as a table describes it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Shown {
    name: String,
    r#type: String,
    format: String,
    description: String,
    priority: i64,
}

impl Shown {
    /// What tells one column from another: name, type, format and priority.
    pub(super) fn without_words(self) -> (String, String, String, i64) {
        (self.name, self.r#type, self.format, self.priority)
    }
}

impl Columns {
    /// From the `columnDefinitions` (JSON) of a table that an apiserver made.
    ///
    /// # Errors
    /// It is no list of columns.
    pub fn of_definitions(definitions: &[u8]) -> Result<Self, DecodeError> {
        let all: Vec<Shown> = serde_json::from_slice(definitions)?;
        Ok(Columns::of(all.into_iter().skip(1).filter_map(|shown| {
            let path = match shown.description.strip_prefix(PATH_FOLLOWS) {
                Some(path) => Path::parse(path)?,
                None if shown.name == "Age" && shown.r#type == "date" => Path::parse(CREATED)?,
                None => return None,
            };
            Some(Custom { path, shown })
        })))
    }

    /// From a CustomResourceDefinition (`apiextensions.k8s.io/v1`) and the version that is asked for; `None` when it
    /// does not have that one.
    pub fn of_definition(definition: &Value, version: &str) -> Option<Self> {
        let found = items(definition, "/spec/versions").find(|v| text(v, "/name") == version)?;
        let columns = items(found, "/additionalPrinterColumns").filter_map(of_definition);
        let columns = Columns::of(columns);
        if items(found, "/additionalPrinterColumns").next().is_none() {
            let age = json!({"name": "Age", "type": "date", "jsonPath": CREATED, "description": "Its age."});
            return Some(Columns::of(of_definition(&age).into_iter()));
        }
        Some(columns)
    }

    fn of(columns: impl Iterator<Item = Custom>) -> Self {
        Columns(columns.take(MAX_COLUMNS).collect())
    }

    /// As a table describes them, behind the name.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Shown> {
        self.0.iter().map(|column| &column.shown)
    }

    /// The row of an object at `now`.
    pub(super) fn made(&self, object: &Value, now: i64) -> Made {
        let cells = self.0.iter().map(|c| cell(&c.shown.r#type, c.path.first(object), now));
        Made::of(std::iter::once(text(object, "/metadata/name").into()).chain(cells).collect())
    }
}

fn of_definition(column: &Value) -> Option<Custom> {
    let (path, description) = (text(column, "/jsonPath"), text(column, "/description"));
    let described =
        if description.is_empty() { format!("{PATH_FOLLOWS}{path}") } else { description.to_owned() };
    let shown = Shown {
        name: text(column, "/name").to_owned(),
        r#type: text(column, "/type").to_owned(),
        format: text(column, "/format").to_owned(),
        description: described,
        priority: super::sheet::number(column, "/priority"),
    };
    Some(Custom { path: Path::parse(path)?, shown })
}

/// The `columnDefinitions` of a table as they stand there; `None` when it has none or is no table.
///
/// # Errors
/// The body is not JSON.
pub fn definitions(body: &[u8]) -> Result<Option<&str>, DecodeError> {
    let members = json::members(body)?;
    let is_table = json::find(&members, "kind").is_some_and(|kind| kind.value == "\"Table\"");
    Ok(json::find(&members, "columnDefinitions").map(|m| m.value).filter(|_| is_table))
}

/// A value as a column of this type shows it; a value of another type is not shown.
fn cell(of: &str, value: Option<&Value>, now: i64) -> Value {
    let Some(value) = value else { return Value::Null };
    match (of, value) {
        ("string", value) => words(value).into(),
        ("integer", Value::Number(n)) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).into(),
        ("number", Value::Number(n)) => match n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15) {
            Some(whole) => (whole as i64).into(),
            None => value.clone(),
        },
        ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => date(text, now).into(),
        _ => Value::Null,
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<no value>".to_owned(),
        other => {
            let mut sorted = other.clone();
            sorted.sort_all_objects();
            sorted.to_string()
        }
    }
}

fn date(text: &str, now: i64) -> String {
    match super::age::seconds(text) {
        None if !text.is_empty() && text != "null" => "<invalid>".to_owned(),
        _ => age(Some(text), now),
    }
}
