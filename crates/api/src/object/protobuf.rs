//! One object in protobuf: `metadata` is field 1 of every kind
//! (`k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto`).

use std::collections::BTreeMap;

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Meta, version};
use crate::error::DecodeError;
use crate::wire::{Field, Reader, Value, bytes_size, find, put_bytes};

/// The field of an object's metadata.
const METADATA: u32 = 1;
/// The field of `ObjectMeta.resourceVersion`.
const RESOURCE_VERSION: u32 = 6;

/// The one metadata field of a message. An encoder writes it once; merging two is refused, as reading and
/// splicing could differ about it.
fn metadata(message: &[u8]) -> Result<Option<Field<'_>>, DecodeError> {
    let mut found = None;
    for field in Reader::new(message) {
        let field = field?;
        if field.number == METADATA && found.replace(field).is_some() {
            return Err(DecodeError::NotProtobuf("metadata stands twice"));
        }
    }
    Ok(found)
}

fn metadata_bytes(message: &[u8]) -> Result<&[u8], DecodeError> {
    metadata(message)?.ok_or(DecodeError::Missing("metadata"))?.value.bytes()
}

pub(super) fn meta(item: &[u8]) -> Result<Meta, DecodeError> {
    let mut meta = Meta::default();
    for field in Reader::new(metadata_bytes(item)?) {
        let Field { number, value, .. } = field?;
        match number {
            1 => meta.name = value.text()?.to_owned(),
            3 => meta.namespace = value.text()?.to_owned(),
            5 => meta.uid = value.text()?.to_owned(),
            RESOURCE_VERSION => meta.resource_version = version(value.text()?),
            7 => meta.generation = value.varint()?.cast_signed(),
            9 => meta.deletion_timestamp = Some(time(value.bytes()?)?),
            _ => {}
        }
    }
    Ok(meta)
}

/// The metadata is field 1 of `PartialObjectMetadata`, too.
pub(super) fn metadata_only(item: &[u8]) -> Result<Bytes, DecodeError> {
    let metadata = metadata(item)?.ok_or(DecodeError::Missing("metadata"))?;
    Ok(Bytes::copy_from_slice(metadata.raw))
}

/// `meta.v1.Time` as JSON has it: RFC 3339, whole seconds.
fn time(message: &[u8]) -> Result<String, DecodeError> {
    let mut seconds = 0;
    for field in Reader::new(message) {
        let field = field?;
        if field.number == 1 {
            seconds = field.value.varint()?.cast_signed();
        }
    }
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|t| t.format(&Rfc3339).ok());
    time.ok_or(DecodeError::NotProtobuf("a time is out of range"))
}

pub(super) fn labels(item: &[u8]) -> Result<BTreeMap<String, String>, DecodeError> {
    let mut labels = BTreeMap::new();
    for field in Reader::new(metadata_bytes(item)?) {
        let field = field?;
        if field.number == 11 {
            let (key, value) = entry(field.value.bytes()?)?;
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(labels)
}

/// An entry of a map from text to text.
fn entry(message: &[u8]) -> Result<(&str, &str), DecodeError> {
    let (mut key, mut value) = ("", "");
    for field in Reader::new(message) {
        let field = field?;
        match field.number {
            1 => key = field.value.text()?,
            2 => value = field.value.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The value at a path of field numbers, each but the last that of a message.
pub(super) fn value_at<'a>(item: &'a [u8], path: &[u32]) -> Result<Option<Value<'a>>, DecodeError> {
    let mut value = Value::Bytes(item);
    for number in path {
        match find(value.bytes()?, *number)? {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

pub(super) fn splice_resource_version(item: &[u8], rv: u64) -> Result<Bytes, DecodeError> {
    let Some(field) = metadata(item)? else {
        let mut out = Vec::with_capacity(item.len() + 32);
        put_bytes(&mut out, METADATA, &set_resource_version(&[], rv)?);
        out.extend_from_slice(item);
        return Ok(out.into());
    };
    let changed = set_resource_version(field.value.bytes()?, rv)?;
    let mut out = Vec::with_capacity(item.len() - field.raw.len() + bytes_size(METADATA, changed.len()));
    for other in Reader::new(item) {
        let other = other?;
        if other.number == METADATA {
            put_bytes(&mut out, METADATA, &changed);
        } else {
            out.extend_from_slice(other.raw);
        }
    }
    Ok(out.into())
}

/// Puts the version where it stood, or where an encoder would have put it.
fn set_resource_version(metadata: &[u8], rv: u64) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(metadata.len() + 24);
    let mut rest = Some(rv.to_string());
    for field in Reader::new(metadata) {
        let field = field?;
        if field.number >= RESOURCE_VERSION
            && let Some(text) = rest.take()
        {
            put_bytes(&mut out, RESOURCE_VERSION, text.as_bytes());
        }
        if field.number != RESOURCE_VERSION {
            out.extend_from_slice(field.raw);
        }
    }
    if let Some(text) = rest {
        put_bytes(&mut out, RESOURCE_VERSION, text.as_bytes());
    }
    Ok(out)
}
