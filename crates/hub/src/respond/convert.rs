//! An item in the representation that a client wants.

use bytes::Bytes;
use yurt_api::object;
use yurt_api::proto;
use yurt_api::representation::Encoding;
use yurt_api::resource::TypeMeta;

/// Why an item cannot be had in another encoding: the kind is not built in, or its bytes are damaged.
pub use yurt_api::proto::ConvertError as ConvertFailure;

/// An item (item form) in another encoding (item form); the same bytes when nothing changes.
pub fn item_as(from: Encoding, to: Encoding, kind: &TypeMeta, item: &Bytes) -> Result<Bytes, ConvertFailure> {
    match (from, to) {
        (Encoding::Protobuf, Encoding::Json) => Ok(Bytes::from(proto::to_json_item(kind, item)?)),
        (Encoding::Json, Encoding::Protobuf) => Ok(Bytes::from(proto::from_json(kind, item)?)),
        _ => Ok(item.clone()),
    }
}

/// An item (item form) as an answer of its own (object form) in another encoding.
pub fn object_as(
    from: Encoding,
    to: Encoding,
    kind: &TypeMeta,
    item: &Bytes,
) -> Result<Bytes, ConvertFailure> {
    Ok(object::to_object(to, &item_as(from, to, kind, item)?, kind))
}
