//! patch: JSON, merge and strategic merge, applied to the object as clients see it.

use std::sync::Arc;

use serde_json::Value;
use yurt_api::patch::{PatchError, PatchType};

use super::{error::Refusal, object::Object, respond::type_meta, storage::Storage, write::Write};

const TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// Applies a patch; the object must exist.
pub fn patch(
    storage: &mut Storage,
    write: &Write<'_>,
    content_type: &str,
    patch: &Value,
) -> Result<Arc<Object>, Refusal> {
    let kind = write.kind;
    let patch_type = match PatchType::of_content_type(content_type) {
        Some(PatchType::Apply) | None => return Err(Refusal::unsupported_media_type(&TYPES)),
        Some(PatchType::StrategicMerge) if kind.custom => {
            return Err(Refusal::unsupported_media_type(&TYPES[..2]));
        }
        Some(patch_type) => patch_type,
    };
    let key = write.key();
    let old = storage.get(&kind.group_resource(), &key).cloned();
    let old = old.ok_or_else(|| Refusal::not_found(kind, &key.name))?;
    let foreign = |object: &Value| {
        let uid = object["metadata"]["uid"].as_str().filter(|uid| *uid != old.uid())?;
        Some(Refusal::uid_is_immutable(kind, &key.name, uid))
    };
    foreign(patch).map_or(Ok(()), Err)?;
    let new = yurt_api::patch::apply(patch_type, &type_meta(kind), &old.typed(kind), patch)
        .map_err(|e| refusal(write, &key.name, &e))?;
    foreign(&new).map_or(Ok(()), Err)?;
    write.replace(storage, &old, new)
}

fn refusal(write: &Write<'_>, name: &str, error: &PatchError) -> Refusal {
    match error.code() {
        409 => Refusal::conflict(write.kind, name, &error.to_string()),
        422 => Refusal::new(422, "Invalid", error.to_string()),
        _ => Refusal::bad_request(error.to_string()),
    }
}
