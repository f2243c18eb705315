//! Metadata alone in the types of `meta.k8s.io/v1beta1`, which the apiserver still makes for who asks for them: the same
//! as of `v1` under another name (`k8s.io/apimachinery/pkg/apis/meta/v1beta1/types.go`). Nothing is held in it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use yurt_api::representation::{Accepted, Encoding, Representation};

use super::Asked;

/// What it is made of.
pub(super) const MADE_OF: Representation = Representation { encoding: Encoding::Json, metadata_only: true };

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
    #[serde(borrow)]
    items: Vec<Object<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Asked {
    /// Whether this is what the client likes best.
    pub(super) fn wants_old_metadata(&self) -> bool {
        matches!(self.best(), Some(Accepted::OldMetadata))
    }
}

/// An object, or a list, of `v1` as it would be in `v1beta1`.
///
/// # Errors
/// It is none.
pub(super) fn answer(body: &[u8], list: bool) -> serde_json::Result<Bytes> {
    if !list {
        return Ok(object(&serde_json::from_slice(body)?).into());
    }
    let list: List<'_> = serde_json::from_slice(body)?;
    let items: Vec<String> = list.items.iter().map(object).collect();
    let kind = "\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1beta1\"";
    Ok(format!("{{{kind},\"metadata\":{},\"items\":[{}]}}\n", list.metadata, items.join(",")).into())
}

/// A frame of a watch of `v1` as it would be in `v1beta1`; errors stay what they are.
pub(super) fn frame(frame: &Bytes) -> Bytes {
    let read = || -> serde_json::Result<Option<String>> {
        let event: Event<'_> = serde_json::from_slice(frame)?;
        if event.r#type == "ERROR" {
            return Ok(None);
        }
        let object = object(&serde_json::from_str(event.object.get())?);
        Ok(Some(format!("{{\"type\":\"{}\",\"object\":{object}}}\n", event.r#type)))
    };
    read().ok().flatten().map_or_else(|| frame.clone(), Bytes::from)
}

fn object(object: &Object<'_>) -> String {
    let kind = "\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1beta1\"";
    format!("{{{kind},\"metadata\":{}}}", object.metadata)
}
