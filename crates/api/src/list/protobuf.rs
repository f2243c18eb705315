//! A list in protobuf: `metadata` is field 1, `items` field 2 of every list
//! (`k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto`).

use bytes::Bytes;

use super::{List, ListHeader, Pieces};
use crate::envelope;
use crate::error::DecodeError;
use crate::object::version;
use crate::wire::{Reader, bytes_size, put_bytes, put_number};

pub(super) fn split(body: &Bytes) -> Result<List, DecodeError> {
    let unknown = envelope::open(body)?;
    // a Status or a single object has other things in field 2
    let item_type = unknown.type_meta.item();
    let mut header = ListHeader {
        item_type: Some(item_type.ok_or(DecodeError::NotProtobuf("not a list"))?),
        type_meta: unknown.type_meta,
        ..ListHeader::default()
    };
    let mut items = Vec::new();
    for field in Reader::new(unknown.raw) {
        let field = field?;
        match field.number {
            1 => read_meta(&mut header, field.value.bytes()?)?,
            2 => items.push(body.slice_ref(field.value.bytes()?)),
            _ => {}
        }
    }
    Ok(List { header, items })
}

fn read_meta(header: &mut ListHeader, message: &[u8]) -> Result<(), DecodeError> {
    for field in Reader::new(message) {
        let field = field?;
        match field.number {
            2 => header.resource_version = version(field.value.text()?),
            3 => header.continue_token = field.value.text()?.to_owned(),
            4 => header.remaining = Some(field.value.varint()?.cast_signed()),
            _ => {}
        }
    }
    Ok(())
}

/// `ListMeta`, with the empty texts that the apiserver writes too.
fn meta(header: &ListHeader) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + header.continue_token.len());
    put_bytes(&mut out, 1, b"");
    put_bytes(&mut out, 2, header.resource_version.to_string().as_bytes());
    put_bytes(&mut out, 3, header.continue_token.as_bytes());
    if let Some(remaining) = header.remaining {
        put_number(&mut out, 4, remaining.cast_unsigned());
    }
    out
}

pub(super) fn assemble(header: &ListHeader, items: &[Bytes]) -> Vec<Bytes> {
    let meta = meta(header);
    let length = bytes_size(1, meta.len()) + items.iter().map(|i| bytes_size(2, i.len())).sum::<usize>();
    let mut pieces = Pieces::default();
    pieces.open().extend_from_slice(&envelope::head(&header.type_meta, length));
    put_bytes(pieces.open(), 1, &meta);
    for item in items {
        put_bytes(pieces.open(), 2, item);
    }
    pieces.open().extend_from_slice(envelope::TAIL);
    pieces.finish()
}
