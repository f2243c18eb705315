//! The bytes of one object: what they say about it, and their two forms.
//!
//! *Object form* is what a GET answers and a watch event carries: JSON with `kind` and `apiVersion`,
//! protobuf in its envelope. *Item form* is what stands inside a list: JSON without these two members,
//! otherwise as received; protobuf as the bare message. Nothing here reads more of an object than it must.

mod attributes;
mod json;
mod protobuf;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use crate::error::DecodeError;
pub use attributes::{Attributes, evaluable, field_labels, field_refusal};

use crate::collection::ObjectKey;
use crate::envelope;
use crate::representation::Encoding;
use crate::resource::TypeMeta;

pub(crate) use json::{put_type, strip_type};

/// What every object says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The name.
    pub name: String,
    /// The namespace; empty when the object has none.
    pub namespace: String,
    /// The UID.
    pub uid: String,
    /// The resourceVersion; 0 = missing, or not a number.
    pub resource_version: u64,
    /// The generation; 0 = missing.
    pub generation: i64,
    /// When deletion was asked for, in RFC 3339; `None` = it was not.
    pub deletion_timestamp: Option<String>,
}

impl Meta {
    /// Namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.namespace, &self.name)
    }
}

/// The type of an object in object form; [`DecodeError::Missing`] when it does not say it.
pub fn type_meta(enc: Encoding, object: &[u8]) -> Result<TypeMeta, DecodeError> {
    match enc {
        Encoding::Json => json::type_meta(object),
        Encoding::Protobuf => Ok(envelope::open(object)?.type_meta),
    }
}

/// The metadata of an object in item form; JSON may also be in object form.
pub fn meta(enc: Encoding, item: &[u8]) -> Result<Meta, DecodeError> {
    match enc {
        Encoding::Json => json::meta(item),
        Encoding::Protobuf => protobuf::meta(item),
    }
}

/// The labels of an object in item form; JSON may also be in object form.
pub fn labels(enc: Encoding, item: &[u8]) -> Result<BTreeMap<String, String>, DecodeError> {
    match enc {
        Encoding::Json => json::labels(item),
        Encoding::Protobuf => protobuf::labels(item),
    }
}

/// What is left of an object in item form when only its metadata counts, as it stands in a `PartialObjectMetadata`;
/// its metadata goes over byte for byte. JSON may also be in object form.
pub fn metadata_only(enc: Encoding, item: &[u8]) -> Result<Bytes, DecodeError> {
    match enc {
        Encoding::Json => json::metadata_only(item),
        Encoding::Protobuf => protobuf::metadata_only(item),
    }
}

/// Object form to item form: of protobuf a slice, of JSON the same bytes without `kind` and `apiVersion`.
pub fn to_item(enc: Encoding, object: &Bytes) -> Result<Bytes, DecodeError> {
    match enc {
        Encoding::Json => Ok(strip_type(object)?.item),
        Encoding::Protobuf => Ok(object.slice_ref(envelope::open(object)?.raw)),
    }
}

/// Item form to object form.
pub fn to_object(enc: Encoding, item: &[u8], tm: &TypeMeta) -> Bytes {
    match enc {
        Encoding::Json => {
            let mut out = Vec::with_capacity(item.len() + tm.kind.len() + tm.api_version.len() + 32);
            put_type(&mut out, item, tm);
            out.into()
        }
        Encoding::Protobuf => envelope::seal(tm, item).into(),
    }
}

/// The item with `metadata.resourceVersion` set to `rv`, every other byte as it was. (In protobuf the length
/// of the metadata changes with it.)
pub fn splice_resource_version(enc: Encoding, item: &[u8], rv: u64) -> Result<Bytes, DecodeError> {
    match enc {
        Encoding::Json => json::splice_resource_version(item, rv),
        Encoding::Protobuf => protobuf::splice_resource_version(item, rv),
    }
}

/// A resourceVersion as a number; 0 when it is none.
pub(crate) fn version(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests;
