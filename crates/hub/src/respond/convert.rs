//! An item in the representation that a client wants.

use bytes::Bytes;
use yurt_api::object;
use yurt_api::proto;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::resource::TypeMeta;

/// Why an item cannot be had in another form: the kind is not built in, or its bytes are damaged.
pub use yurt_api::proto::ConvertError as ConvertFailure;

/// What metadata alone is, of whatever kind (`k8s.io/apiserver/pkg/endpoints/handlers/response.go`).
fn partial() -> TypeMeta {
    TypeMeta::new("meta.k8s.io/v1", "PartialObjectMetadata")
}

/// Whether objects of type `kind` that are held as `from` can be written as `to`: of metadata there is no whole, and
/// of the whole of a custom resource there is only JSON.
pub fn can_write(from: Representation, to: Representation, kind: &TypeMeta) -> bool {
    from == to || to.metadata_only || (!from.metadata_only && proto::knows(kind))
}

/// The type of what an object of type `kind` is written as.
pub fn written_type(to: Representation, kind: &TypeMeta) -> TypeMeta {
    if to.metadata_only { partial() } else { kind.clone() }
}

/// An item (item form) of type `kind` in another form; the same bytes when nothing changes.
pub fn item_as(
    from: Representation,
    to: Representation,
    kind: &TypeMeta,
    item: &Bytes,
) -> Result<Bytes, ConvertFailure> {
    if from == to {
        return Ok(item.clone());
    }
    let cut = match to.metadata_only && !from.metadata_only {
        true => object::metadata_only(from.encoding, item)?,
        false => item.clone(),
    };
    let kind = written_type(to, kind);
    match (from.encoding, to.encoding) {
        (Encoding::Protobuf, Encoding::Json) => Ok(Bytes::from(proto::to_json_item(&kind, &cut)?)),
        (Encoding::Json, Encoding::Protobuf) => Ok(Bytes::from(proto::from_json(&kind, &cut)?)),
        _ => Ok(cut),
    }
}

/// An item (item form) of type `kind` as an answer of its own (object form) in another form.
pub fn object_as(
    from: Representation,
    to: Representation,
    kind: &TypeMeta,
    item: &Bytes,
) -> Result<Bytes, ConvertFailure> {
    Ok(object::to_object(to.encoding, &item_as(from, to, kind, item)?, &written_type(to, kind)))
}
