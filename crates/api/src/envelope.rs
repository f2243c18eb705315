//! The envelope of Kubernetes protobuf: four magic bytes, then `runtime.Unknown`
//! (`k8s.io/apimachinery/pkg/runtime/serializer/protobuf`).

use crate::error::DecodeError;
use crate::resource::TypeMeta;
use crate::wire::{Reader, bytes_size, put_bytes, put_tag, put_varint};

const MAGIC: &[u8] = b"k8s\0";

/// What an envelope holds.
pub(crate) struct Unknown<'a> {
    pub(crate) type_meta: TypeMeta,
    /// The message of that type.
    pub(crate) raw: &'a [u8],
}

/// Opens an envelope.
pub(crate) fn open(object: &[u8]) -> Result<Unknown<'_>, DecodeError> {
    let body = object.strip_prefix(MAGIC).ok_or(DecodeError::NotProtobuf("no k8s envelope"))?;
    let (mut tm, mut raw) = (TypeMeta::default(), None);
    for field in Reader::new(body) {
        let field = field?;
        match field.number {
            1 => tm = type_meta(field.value.bytes()?)?,
            2 => raw = Some(field.value.bytes()?),
            3 if !field.value.bytes()?.is_empty() => {
                return Err(DecodeError::NotProtobuf("an encoded envelope"));
            }
            _ => {}
        }
    }
    if tm.kind.is_empty() {
        return Err(DecodeError::Missing("kind"));
    }
    // no message at all is what a cut before it leaves; an empty one is written with its length 0
    Ok(Unknown { type_meta: tm, raw: raw.ok_or(DecodeError::Missing("raw"))? })
}

fn type_meta(message: &[u8]) -> Result<TypeMeta, DecodeError> {
    let mut type_meta = TypeMeta::default();
    for field in Reader::new(message) {
        let field = field?;
        match field.number {
            1 => type_meta.api_version = field.value.text()?.to_owned(),
            2 => type_meta.kind = field.value.text()?.to_owned(),
            _ => {}
        }
    }
    Ok(type_meta)
}

/// How an envelope starts whose message has `length` bytes and comes right behind it.
pub(crate) fn head(type_meta: &TypeMeta, length: usize) -> Vec<u8> {
    let mut meta = Vec::with_capacity(type_meta.api_version.len() + type_meta.kind.len() + 8);
    put_bytes(&mut meta, 1, type_meta.api_version.as_bytes());
    put_bytes(&mut meta, 2, type_meta.kind.as_bytes());
    let mut out = Vec::with_capacity(MAGIC.len() + bytes_size(1, meta.len()) + 12);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_tag(&mut out, 2, 2);
    put_varint(&mut out, length as u64);
    out
}

/// How an envelope ends: the apiserver writes the two empty texts, so bytes are the same.
pub(crate) const TAIL: &[u8] = &[0x1a, 0x00, 0x22, 0x00];

/// A whole envelope.
pub(crate) fn seal(type_meta: &TypeMeta, message: &[u8]) -> Vec<u8> {
    let mut out = head(type_meta, message.len());
    out.reserve_exact(message.len() + TAIL.len());
    out.extend_from_slice(message);
    out.extend_from_slice(TAIL);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_envelope() {
        let sealed = seal(&TypeMeta::new("v1", "Pod"), b"abc");
        assert!(open(b"").is_err() && open(b"{}").is_err() && open(b"k8s\0").is_err());
        assert!(open(&sealed[..sealed.len() - 5]).is_err());
        let encoded = [&sealed[..sealed.len() - 4], &[0x1a, 0x01, b'z']].concat();
        assert!(open(&encoded).is_err());
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed(version: String, kind in ".+", message: Vec<u8>) {
            let tm = TypeMeta::new(&version, &kind);
            let sealed = seal(&tm, &message);
            let unknown = open(&sealed).unwrap();
            prop_assert_eq!((unknown.type_meta, unknown.raw), (tm, &message[..]));
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = open(&[MAGIC, &bytes].concat());
        }
    }
}
