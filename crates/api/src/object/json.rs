//! One object in JSON.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use super::{Meta, version};
use crate::error::DecodeError;
use crate::json::{self, Member, find, members, put_string, replace};
use crate::resource::TypeMeta;

#[derive(Deserialize)]
#[serde(bound = "M: Deserialize<'de>")]
struct Object<M> {
    metadata: Option<json::Object<M>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels {
    labels: Option<BTreeMap<String, Option<String>>>,
}

pub(super) fn type_meta(object: &[u8]) -> Result<TypeMeta, DecodeError> {
    let tm: TypeMeta = json::read(object)?;
    if tm.kind.is_empty() { Err(DecodeError::Missing("kind")) } else { Ok(tm) }
}

fn metadata<'a, M: Deserialize<'a>>(item: &'a [u8]) -> Result<M, DecodeError> {
    let object: Object<M> = json::read(item)?;
    Ok(object.metadata.ok_or(DecodeError::Missing("metadata"))?.0)
}

pub(super) fn meta(item: &[u8]) -> Result<Meta, DecodeError> {
    let m: ObjectMeta = metadata(item)?;
    Ok(Meta {
        name: m.name.unwrap_or_default(),
        namespace: m.namespace.unwrap_or_default(),
        uid: m.uid.unwrap_or_default(),
        resource_version: m.resource_version.as_deref().map_or(0, version),
        generation: m.generation.unwrap_or(0),
        deletion_timestamp: m.deletion_timestamp,
    })
}

pub(super) fn labels(item: &[u8]) -> Result<BTreeMap<String, String>, DecodeError> {
    let labels = metadata::<Labels>(item)?.labels.unwrap_or_default();
    Ok(labels.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect())
}

pub(super) fn metadata_only(item: &[u8]) -> Result<Bytes, DecodeError> {
    let members = members(item)?;
    let metadata = find(&members, "metadata").ok_or(DecodeError::Missing("metadata"))?;
    Ok(format!("{{\"metadata\":{}}}", metadata.value).into())
}

/// An object taken apart into its type and the rest.
pub(crate) struct Stripped {
    /// The object without `kind` and `apiVersion`.
    pub(crate) item: Bytes,
    /// What these two said; empty where there was none.
    pub(crate) type_meta: TypeMeta,
}

/// Takes the members `kind` and `apiVersion` off an object, wherever they stand at its top.
pub(crate) fn strip_type(object: &Bytes) -> Result<Stripped, DecodeError> {
    let members = members(object)?;
    if !members.iter().any(is_type) {
        return Ok(Stripped { item: object.clone(), type_meta: TypeMeta::default() });
    }
    let text = |key| match find(&members, key) {
        Some(member) => serde_json::from_str(member.value),
        None => Ok(String::new()),
    };
    let type_meta = TypeMeta { api_version: text("apiVersion")?, kind: text("kind")? };
    Ok(Stripped { item: without_type(object, &members).into(), type_meta })
}

fn is_type(member: &Member<'_>) -> bool {
    member.key == "kind" || member.key == "apiVersion"
}

/// Copies the object in runs: a member reaches from behind the value before it to the end of its own value,
/// so that it takes the comma before it with it; the first one kept must lose that comma.
fn without_type(object: &[u8], members: &[Member<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len());
    let open = object.iter().position(|b| *b == b'{').map_or(0, |at| at + 1);
    out.extend_from_slice(object.get(..open).unwrap_or_default());
    let (mut from, mut first) = (open, true);
    for member in members {
        let run = object.get(from..member.span.end).unwrap_or_default();
        if !is_type(member) {
            out.extend_from_slice(if first { without_comma(run) } else { run });
            first = false;
        }
        from = member.span.end;
    }
    out.extend_from_slice(object.get(from..).unwrap_or_default());
    out
}

fn without_comma(run: &[u8]) -> &[u8] {
    let trimmed = run.trim_ascii_start();
    trimmed.strip_prefix(b",").map_or(run, <[u8]>::trim_ascii_start)
}

/// Appends the item with `kind` and `apiVersion` as its first members.
pub(crate) fn put_type(out: &mut Vec<u8>, item: &[u8], tm: &TypeMeta) {
    out.extend_from_slice(b"{\"kind\":");
    put_string(out, &tm.kind);
    out.extend_from_slice(b",\"apiVersion\":");
    put_string(out, &tm.api_version);
    let rest = item.trim_ascii_start().strip_prefix(b"{").unwrap_or(b"}");
    if !rest.trim_ascii_start().starts_with(b"}") {
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

pub(super) fn splice_resource_version(item: &[u8], rv: u64) -> Result<Bytes, DecodeError> {
    let top = members(item)?;
    let Some(metadata) = top.iter().rfind(|m| m.key == "metadata") else {
        return Ok(insert_first(item, &format!("\"metadata\":{{\"resourceVersion\":\"{rv}\"}}")).into());
    };
    let changed = if metadata.value == "null" {
        format!("{{\"resourceVersion\":\"{rv}\"}}").into_bytes()
    } else {
        set_resource_version(metadata.value.as_bytes(), rv)?
    };
    Ok(replace(item, metadata.span.clone(), &changed).into())
}

fn set_resource_version(metadata: &[u8], rv: u64) -> Result<Vec<u8>, DecodeError> {
    let members = members(metadata)?;
    Ok(match members.iter().rfind(|m| m.key == "resourceVersion") {
        Some(member) => replace(metadata, member.span.clone(), format!("\"{rv}\"").as_bytes()),
        None => insert_first(metadata, &format!("\"resourceVersion\":\"{rv}\"")),
    })
}

/// The object with one more member at its start.
fn insert_first(object: &[u8], member: &str) -> Vec<u8> {
    let open = object.iter().position(|b| *b == b'{').map_or(0, |at| at + 1);
    let empty = object.get(open..).is_some_and(|rest| rest.trim_ascii_start().starts_with(b"}"));
    let comma = if empty { "" } else { "," };
    replace(object, open..open, format!("{member}{comma}").as_bytes())
}
