//! Protobuf to JSON and back for the kinds that are built into Kubernetes, without a Rust type for each.
//!
//! `proto/schema.txt` holds the facts about the messages (field numbers, JSON names, what is left out when empty,
//! merge keys); `examples/generate_schema` writes it from the Go types, `build.rs` packs it into constant arrays.
//! The JSON is what Go's encoding/json makes of the decoded message; the protobuf is byte for byte what the Go
//! types marshal to. Values that the table does not describe are left out: bytes that must survive are kept as they
//! came, never converted.
//!
//! Nesting is limited, and nothing that a peer sends makes this panic.

mod from_json;
pub(crate) mod schema;
mod to_json;
mod value;

use crate::error::DecodeError;
use crate::resource::{Resource, TypeMeta};
use crate::wire::{Reader, Value};
use schema::{Field, Kind, Message, Shape};

/// How deep messages may be nested: what Kubernetes needs, with room for the schemas of custom resources.
const MAX_NESTING: usize = 100;

/// Why a conversion failed. None of the causes goes away by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// Not a built-in kind.
    #[error("{0:?} is no built-in kind")]
    Unknown(TypeMeta),
    /// The bytes are not a message (or JSON) of that kind.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The JSON of a bare `message` of type `tm`, with `kind` and `apiVersion` first.
pub fn to_json(tm: &TypeMeta, message: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let schema = schema::of(tm).ok_or_else(|| ConvertError::Unknown(tm.clone()))?;
    Ok(to_json::object(tm, schema, message)?)
}

/// The same in item form: without `kind` and `apiVersion`, as it stands in a list.
pub fn to_json_item(tm: &TypeMeta, message: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let schema = schema::of(tm).ok_or_else(|| ConvertError::Unknown(tm.clone()))?;
    Ok(to_json::item(schema, message)?)
}

/// The bare message of type `tm` that says what `json` says. Fields that the kind does not have are left out.
pub fn from_json(tm: &TypeMeta, json: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let schema = schema::of(tm).ok_or_else(|| ConvertError::Unknown(tm.clone()))?;
    Ok(from_json::message(schema, json)?)
}

/// Whether objects of this type can be converted.
pub fn knows(tm: &TypeMeta) -> bool {
    schema::of(tm).is_some()
}

/// The type of the objects of a built-in resource: `v1/pods` -> `v1 Pod`.
pub fn kind_of(resource: &Resource) -> Option<TypeMeta> {
    schema::kind_of(resource)
}

/// The scalar at `path` (`spec.nodeName`) of a bare message as text: booleans as `true`/`false`, numbers in decimal.
/// None when it is not there, or when the kind has no scalar at that path.
pub fn scalar_at(tm: &TypeMeta, path: &str, message: &[u8]) -> Result<Option<String>, DecodeError> {
    let Some(schema) = schema::of(tm) else { return Ok(None) };
    scalar(schema, path, message)
}

fn scalar(schema: &Message, path: &str, message: &[u8]) -> Result<Option<String>, DecodeError> {
    let (head, rest) = path.split_once('.').unwrap_or((path, ""));
    let found = schema.fields().iter().find(|field| field.name() == head);
    if let Some(field) = found {
        return step(field, rest, message);
    }
    for inline in schema.fields().iter().filter(|field| field.shape == Shape::Inline) {
        if inline.message().named(head, &mut 0).is_some() {
            let inner = crate::wire::find(message, inline.number())?;
            return inner.map_or(Ok(None), |inner| scalar(inline.message(), path, inner.bytes()?));
        }
    }
    Ok(None)
}

fn step(field: &Field, rest: &str, message: &[u8]) -> Result<Option<String>, DecodeError> {
    if !matches!(field.shape, Shape::Value | Shape::Pointer) {
        return Ok(None);
    }
    let Some(value) = crate::wire::find(message, field.number())? else { return Ok(None) };
    match (field.kind, rest.is_empty()) {
        (Kind::Message, false) => scalar(field.message(), rest, value.bytes()?),
        (Kind::String, true) => Ok(Some(value.text()?.to_owned())),
        (Kind::Bool, true) => Ok(Some((value.varint()? != 0).to_string())),
        (Kind::Int32, true) => Ok(Some((value.varint()? as i32).to_string())),
        (Kind::Int64, true) => Ok(Some((value.varint()? as i64).to_string())),
        _ => Ok(None),
    }
}

/// The fields of `message` with what follows each of them.
fn fields_and_rest(message: &[u8]) -> impl Iterator<Item = Result<(u32, Value<'_>, &[u8]), DecodeError>> {
    let mut rest = message;
    Reader::new(message).map(move |field| {
        let field = field?;
        rest = rest.get(field.raw.len()..).unwrap_or_default();
        Ok((field.number, field.value, rest))
    })
}
