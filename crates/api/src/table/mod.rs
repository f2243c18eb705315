//! Objects as people read them: `Table` of `meta.k8s.io`, which kubectl asks for first.
//!
//! Rows are made from raw JSON objects as kube-apiserver makes them: pods, nodes, services, ConfigMaps and events
//! have the cells of `k8s.io/kubernetes/pkg/printers/internalversion/printers.go` by code, the kinds of `kinds` by
//! rules, custom resources the columns of their definitions where these are known (`custom`); every other kind has a name
//! and an age. Ages are those of
//! the moment at which a row is made.

mod age;
mod columns;
mod custom;
mod event;
mod format;
mod kinds;
mod node;
mod path;
mod pod;
mod service;
mod sheet;
mod special;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{BadRequest, DecodeError};
use crate::json;
use crate::list::{self, ListHeader, Pieces};
use crate::object::{self, Meta, put_type};
use crate::query::Query;
use crate::representation::{Encoding, TableVersion};
use crate::resource::TypeMeta;
use crate::watch;
use columns::Printer;

pub use columns::stands_under;
pub use custom::{Columns, definitions};

/// What a row says of its object beside the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads `includeObject` of a query string; an error is what the apiserver answers with 400.
    pub fn of_query(query: &str) -> Result<Self, BadRequest> {
        match Query::parse(query).get("includeObject")?.unwrap_or("") {
            "" | "Metadata" => Ok(Include::Metadata),
            "None" => Ok(Include::None),
            "Object" => Ok(Include::Object),
            other => Err(BadRequest::new(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be \
                 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// Which table a client wants.
#[derive(Clone, Debug)]
pub struct Form {
    /// The version of the table and of the metadata in it.
    pub version: TableVersion,
    /// What a row says of its object.
    pub include: Include,
    /// The columns of a custom resource, where they are known. Built-in kinds have their own.
    pub columns: Option<Columns>,
}

/// The row of an object of type `kind` at `now` (Unix seconds). `item` is JSON in item form.
pub fn row(form: &Form, kind: &TypeMeta, item: &[u8], now: i64) -> Result<Bytes, DecodeError> {
    let made = made(Printer::of(form, kind), item, now)?;
    let mut out = b"{\"cells\":".to_vec();
    out.append(&mut Value::Array(made.cells).to_string().into_bytes());
    if let Some(completed) = made.completed {
        out.extend_from_slice(completed.condition().as_bytes());
    }
    out.extend_from_slice(b",\"object\":");
    put_object(&mut out, form, kind, item)?;
    out.push(b'}');
    Ok(out.into())
}

/// The table of one object (item form), as GET and watch events have it; its version is the object's.
pub fn single(
    form: &Form,
    kind: &TypeMeta,
    item: &[u8],
    now: i64,
    headers: bool,
) -> Result<Bytes, DecodeError> {
    let version = object::meta(Encoding::Json, item)?.resource_version;
    let rows = [row(form, kind, item, now)?];
    Ok(assemble(form, kind, version, headers, &rows).concat().into())
}

/// The metadata of the object of a table's first row; `None` when it is no table, or one without objects.
pub fn object_of(table: &[u8]) -> Option<Meta> {
    let table: Rows<'_> = serde_json::from_slice(table).ok()?;
    object::meta(Encoding::Json, table.rows.first()?.object?.get().as_bytes()).ok()
}

/// The objects of a table.
#[derive(Deserialize)]
struct Rows<'a> {
    #[serde(borrow)]
    rows: Vec<Row<'a>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// The table of a bookmark: a row of nothing but the version, and the annotation of the end of the initial
/// events. That one is shown even to a client that wants no objects.
pub fn bookmark(form: &Form, kind: &TypeMeta, version: u64, end: bool, headers: bool) -> Bytes {
    let include = if end && form.include == Include::None { Include::Metadata } else { form.include };
    let item = watch::json_bookmark(None, version, end);
    // an object of which nothing is known but its version has a row of every kind
    single(&Form { include, ..form.clone() }, kind, &item, 0, headers).unwrap_or_default()
}

/// A table of rows in pieces of about 64 KiB; `version` 0 = none, `headers` = with the definitions of the columns.
pub fn assemble(form: &Form, kind: &TypeMeta, version: u64, headers: bool, rows: &[Bytes]) -> Vec<Bytes> {
    let header = ListHeader { resource_version: version, ..ListHeader::default() };
    assemble_page(form, kind, &header, headers, rows)
}

/// The same for a page of a list; of `header` count the version and where the list goes on.
pub fn assemble_page(
    form: &Form,
    kind: &TypeMeta,
    header: &ListHeader,
    headers: bool,
    rows: &[Bytes],
) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    put_head(pieces.open(), form, kind, header, headers);
    for (i, row) in rows.iter().enumerate() {
        let out = pieces.open();
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(row);
    }
    pieces.open().extend_from_slice(b"]}\n");
    pieces.finish()
}

fn put_head(out: &mut Vec<u8>, form: &Form, kind: &TypeMeta, header: &ListHeader, headers: bool) {
    let group_version = form.version.api_version();
    out.extend_from_slice(
        format!("{{\"kind\":\"Table\",\"apiVersion\":\"{group_version}\",\"metadata\":{{").as_bytes(),
    );
    let version = header.resource_version;
    if version != 0 {
        out.extend_from_slice(format!("\"resourceVersion\":\"{version}\"").as_bytes());
    }
    list::put_page(out, header);
    out.extend_from_slice(b"},\"columnDefinitions\":");
    if headers {
        // columns are plain texts and numbers, and a Vec takes every write
        let _ = Printer::of(form, kind).put_columns(&mut *out);
    } else {
        out.extend_from_slice(b"null");
    }
    out.extend_from_slice(b",\"rows\":[");
}

fn put_object(out: &mut Vec<u8>, form: &Form, kind: &TypeMeta, item: &[u8]) -> Result<(), DecodeError> {
    match form.include {
        Include::None => out.extend_from_slice(b"null"),
        Include::Object => put_type(out, item, kind),
        Include::Metadata => {
            let members = json::members(item)?;
            let metadata = json::find(&members, "metadata").map_or("{}", |m| m.value);
            let version = form.version.api_version();
            out.extend_from_slice(
                format!(
                    "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":{metadata}}}"
                )
                .as_bytes(),
            );
        }
    }
    Ok(())
}

/// What a row consists of.
struct Made {
    cells: Vec<Value>,
    completed: Option<Phase>,
}

impl Made {
    fn of(cells: Vec<Value>) -> Self {
        Made { cells, completed: None }
    }
}

/// How a pod has ended; kubectl leaves such rows out on demand.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Succeeded,
    Failed,
}

impl Phase {
    fn condition(self) -> String {
        let (reason, message) = match self {
            Phase::Succeeded => ("Succeeded", "The pod ended well."),
            Phase::Failed => ("Failed", "The pod failed."),
        };
        format!(
            ",\"conditions\":[{{\"type\":\"Completed\",\"status\":\"True\",\"reason\":\"{reason}\",\"message\":\"{message}\"}}]"
        )
    }
}

fn made(printer: Printer<'_>, item: &[u8], now: i64) -> Result<Made, DecodeError> {
    Ok(match printer {
        Printer::Pod => pod::made(&json::read(item)?, now),
        Printer::Node => node::made(&json::read(item)?, now),
        Printer::Service => service::made(&json::read(item)?, now),
        Printer::Event => event::made(&json::read(item)?, now),
        Printer::ConfigMap => {
            let map: ConfigMap = json::read(item)?;
            let entries = map.data.len() + map.binary_data.len();
            let age = age::age(map.metadata.created(), now);
            Made::of(vec![map.metadata.name.into(), entries.into(), age.into()])
        }
        Printer::Sheet(sheet) => sheet::made(sheet, &json::read(item)?, now),
        Printer::Custom(columns) => columns.made(&json::read(item)?, now),
        Printer::Generic => {
            let Generic { metadata } = json::read(item)?;
            let age = age::age(metadata.created(), now);
            Made::of(vec![metadata.name.into(), age.into()])
        }
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigMap {
    metadata: Metadata,
    #[serde(deserialize_with = "nil")]
    data: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "nil")]
    binary_data: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Generic {
    metadata: Metadata,
}

/// What of the metadata is shown.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    #[serde(deserialize_with = "nil")]
    labels: BTreeMap<String, String>,
}

impl Metadata {
    fn created(&self) -> Option<&str> {
        self.creation_timestamp.as_deref()
    }
}

/// A value that Go writes as `null` when it is empty.
fn nil<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>" } else { text }.to_owned()
}
