//! A list in JSON.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{List, ListHeader, Pieces};
use crate::error::DecodeError;
use crate::json::{self, put_string};
use crate::object::{put_type, strip_type, version};
use crate::resource::TypeMeta;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: Option<json::Object<ListMeta>>,
    // `null` gives `Some(None)`: a list without items, unlike an object that is no list
    #[serde(borrow, default, deserialize_with = "present")]
    items: Option<Option<Vec<&'a RawValue>>>,
}

fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<Vec<&'de RawValue>>>, D::Error> {
    Option::deserialize(d).map(Some)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: Option<String>,
    r#continue: Option<String>,
    remaining_item_count: Option<i64>,
}

pub(super) fn split(body: &Bytes) -> Result<List, DecodeError> {
    let list: Body<'_> = json::read(body)?;
    let raw = list.items.ok_or(DecodeError::Missing("items"))?.unwrap_or_default();
    let type_meta = TypeMeta { api_version: list.api_version, kind: list.kind };
    if type_meta.kind.is_empty() {
        return Err(DecodeError::Missing("kind"));
    }
    let (items, item_type) = strip_items(body, &raw)?;
    let json::Object(meta) = list.metadata.unwrap_or_default();
    let header = ListHeader {
        resource_version: meta.resource_version.as_deref().map_or(0, version),
        continue_token: meta.r#continue.unwrap_or_default(),
        remaining: meta.remaining_item_count,
        typed_items: item_type.is_some(),
        item_type: item_type.or_else(|| type_meta.item()),
        type_meta,
    };
    Ok(List { header, items })
}

/// The items in item form, and the type that they carry.
fn strip_items(body: &Bytes, raw: &[&RawValue]) -> Result<(Vec<Bytes>, Option<TypeMeta>), DecodeError> {
    let mut items = Vec::with_capacity(raw.len());
    let mut common: Option<TypeMeta> = None;
    for value in raw {
        let stripped = strip_type(&body.slice_ref(value.get().as_bytes()))?;
        items.push(stripped.item);
        if *common.get_or_insert_with(|| stripped.type_meta.clone()) != stripped.type_meta {
            return Err(DecodeError::NotJson("a list with items of several types".into()));
        }
    }
    Ok((items, common.filter(|tm| *tm != TypeMeta::default())))
}

pub(super) fn assemble(header: &ListHeader, items: &[Bytes]) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    put_head(pieces.open(), header);
    let item_type = header.item_type.as_ref().filter(|_| header.typed_items);
    for (i, item) in items.iter().enumerate() {
        let out = pieces.open();
        if i > 0 {
            out.push(b',');
        }
        match item_type {
            Some(tm) => put_type(out, item, tm),
            None => out.extend_from_slice(item),
        }
    }
    pieces.open().extend_from_slice(b"]}\n");
    pieces.finish()
}

fn put_head(out: &mut Vec<u8>, header: &ListHeader) {
    out.extend_from_slice(b"{\"kind\":");
    put_string(out, &header.type_meta.kind);
    out.extend_from_slice(b",\"apiVersion\":");
    put_string(out, &header.type_meta.api_version);
    let version = header.resource_version;
    out.extend_from_slice(format!(",\"metadata\":{{\"resourceVersion\":\"{version}\"").as_bytes());
    put_page(out, header);
    out.extend_from_slice(b"},\"items\":[");
}

/// Where the list goes on, behind the version in its metadata.
pub(crate) fn put_page(out: &mut Vec<u8>, header: &ListHeader) {
    if !header.continue_token.is_empty() {
        out.extend_from_slice(b",\"continue\":");
        put_string(out, &header.continue_token);
    }
    if let Some(remaining) = header.remaining {
        out.extend_from_slice(format!(",\"remainingItemCount\":{remaining}").as_bytes());
    }
}
