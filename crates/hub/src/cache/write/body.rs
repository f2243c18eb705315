//! What a write of the node says: its body as JSON, however it came, and what it makes of the object that is held.

use serde_json::Value;
use yurt_api::object as encoded;
use yurt_api::patch::PatchType;
use yurt_api::proto;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::Verb;
use yurt_api::resource::TypeMeta;

use super::accept::{LocalWrite, Refused};
use super::object::{self, Change};

/// The answer to a body that cannot be read.
pub(super) fn bad(error: impl std::fmt::Display) -> Refused {
    Refused::Final(400, "BadRequest", format!("the body cannot be read: {error}"))
}

/// The body as JSON: a patch as it is, an object converted when it came in protobuf.
pub(super) fn parse(write: &LocalWrite<'_>, kind: &TypeMeta) -> Result<Value, Refused> {
    if write.request.verb == Verb::Patch {
        return match PatchType::of_content_type(write.content_type) {
            None | Some(PatchType::Apply) => Err(unsupported(write.content_type)),
            Some(_) => serde_json::from_slice(write.body).map_err(bad),
        };
    }
    let form = Representation::of_content_type(write.content_type);
    match form.map(|r| r.encoding).ok_or_else(|| unsupported(write.content_type))? {
        Encoding::Json => serde_json::from_slice(write.body).map_err(bad),
        Encoding::Protobuf => {
            let said = encoded::type_meta(Encoding::Protobuf, write.body).map_err(bad)?;
            let kind = if proto::knows(&said) { &said } else { kind };
            let item = encoded::to_item(Encoding::Protobuf, write.body).map_err(bad)?;
            let json = proto::to_json(kind, &item).map_err(bad)?;
            serde_json::from_slice(&json).map_err(bad)
        }
    }
}

/// YAML, CBOR and server-side apply are the cloud's to read.
fn unsupported(content_type: &str) -> Refused {
    let why = format!("{content_type:?} cannot be read while the cloud is away");
    Refused::Final(415, "UnsupportedMediaType", why)
}

/// What a deletion is asked for with; null without a body.
pub(super) fn delete_options(write: &LocalWrite<'_>) -> Result<Value, Refused> {
    match write.body.is_empty() {
        true => Ok(Value::Null),
        false => parse(write, &TypeMeta::new("v1", "DeleteOptions")),
    }
}

/// Whether a write is only to be tried (`dryRun` in the query, of a deletion also in the body): what admission would make
/// of it is for the cloud to say, and nothing of it may be kept.
pub(super) fn is_trial(write: &LocalWrite<'_>) -> Result<bool, Refused> {
    let deletes = matches!(write.request.verb, Verb::Delete | Verb::DeleteCollection);
    let options = if deletes { delete_options(write)? } else { Value::Null };
    let said = options.get("dryRun").and_then(Value::as_array).is_some_and(|said| !said.is_empty());
    Ok(said || write.request.options.dry_run)
}

/// What a write makes of the object that is held.
pub(super) fn apply(
    write: &LocalWrite<'_>,
    kind: &TypeMeta,
    current: &Value,
    body: &Value,
    status: bool,
) -> Result<Value, Refused> {
    let change = match write.request.verb {
        Verb::Patch => {
            let how = PatchType::of_content_type(write.content_type);
            Change::Patch(how.ok_or_else(|| unsupported(write.content_type))?, body)
        }
        _ => Change::Replace(body),
    };
    Ok(object::changed(kind, current, change, status)?)
}
