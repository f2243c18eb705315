//! The patches of the API, applied to JSON: JSON patch, merge patch, strategic merge patch.
//!
//! Server-side apply is not here: it needs field ownership, which only the apiserver keeps.
//! Codes as in kube-apiserver (apiserver, endpoints/handlers/patch.go). Depth is bounded by the JSON parser that
//! made the values, the growth of a document by [`MAX_OPERATIONS`] and [`MAX_COPIED`].

use serde_json::Value;

use crate::resource::TypeMeta;

mod diff;
mod lists;
mod merge;

/// Operations in one JSON patch that kube-apiserver accepts.
pub const MAX_OPERATIONS: usize = 10_000;

/// Bytes that the `copy` operations of one JSON patch may add: kube-apiserver's limit for a request body.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// What kind of patch a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902, `application/json-patch+json`.
    Json,
    /// RFC 7386, `application/merge-patch+json`.
    Merge,
    /// Kubernetes' own, `application/strategic-merge-patch+json`.
    StrategicMerge,
    /// Server-side apply, `application/apply-patch+yaml` or `+cbor`.
    Apply,
}

impl PatchType {
    /// The patch type that a `Content-Type` names; parameters are ignored.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::StrategicMerge),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Some(Self::Apply),
            _ => None,
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::StrategicMerge => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// This type of patch cannot be applied here, or not to this kind.
    #[error("{0}")]
    Unsupported(String),
    /// The patch is none.
    #[error("{0}")]
    Malformed(String),
    /// The patch asks for more than the limits allow.
    #[error("{0}")]
    TooLarge(String),
    /// A good patch that does not fit the object.
    #[error("{0}")]
    Refused(String),
    /// The patch names a UID or resourceVersion that the object does not have.
    #[error("{0}")]
    Conflict(String),
}

impl PatchError {
    /// The HTTP status code that kube-apiserver answers with.
    pub fn code(&self) -> u16 {
        match self {
            Self::Unsupported(_) => 415,
            Self::Malformed(_) => 400,
            Self::TooLarge(_) => 413,
            Self::Refused(_) => 422,
            Self::Conflict(_) => 409,
        }
    }
}

/// The object that `patch` makes of `target`, an object of type `tm`.
///
/// A patch that sets `metadata.uid` or `metadata.resourceVersion` to another value than the target has is a
/// [`PatchError::Conflict`]: that is how clients state preconditions.
pub fn apply(pt: PatchType, tm: &TypeMeta, target: &Value, patch: &Value) -> Result<Value, PatchError> {
    let patched = match pt {
        PatchType::Json => json(target, patch)?,
        PatchType::Merge if patch.is_object() => {
            let mut patched = target.clone();
            json_patch::merge(&mut patched, patch);
            patched
        }
        PatchType::Merge => return Err(PatchError::Malformed("a merge patch must be an object".to_owned())),
        PatchType::StrategicMerge => strategic::apply(tm, target, patch)?,
        PatchType::Apply => {
            return Err(PatchError::Unsupported("server-side apply needs the apiserver".to_owned()));
        }
    };
    if !patched.is_object() {
        return Err(PatchError::Refused("the patched object is no object".to_owned()));
    }
    precondition(target, &patched, "uid")?;
    precondition(target, &patched, "resourceVersion")?;
    Ok(patched)
}

/// Strategic merge patches. Source: apimachinery, util/strategicpatch/patch.go.
pub mod strategic {
    use super::{PatchError, diff, merge};
    use crate::proto::schema;
    use crate::resource::TypeMeta;
    use serde_json::{Map, Value};

    /// The object that the strategic merge patch makes of `target`. Kinds that are not built in have no merge keys:
    /// for them this is [`PatchError::Unsupported`], as it is for kube-apiserver.
    ///
    /// Differs from Go in two ways that no client relies on: nulls and directives inside an element that is new are
    /// left out (Go leaves that to its typed decoder), and where a patch both deletes and adds elements of a list the
    /// new ones stand first (in Go their place depends on a shared slice).
    pub fn apply(tm: &TypeMeta, target: &Value, patch: &Value) -> Result<Value, PatchError> {
        let Some(schema) = schema::of(tm) else {
            let why = format!("{} {} has no strategic merge patch", tm.api_version, tm.kind);
            return Err(PatchError::Unsupported(why));
        };
        match (target, patch) {
            (Value::Object(target), Value::Object(patch)) => {
                merge::maps(target.clone(), patch.clone(), Some(schema)).map(Value::Object)
            }
            _ => Err(PatchError::Malformed("a strategic merge patch must be an object".to_owned())),
        }
    }

    /// The strategic merge patch that turns `from` into `to`; `{}` when they are equal.
    ///
    /// Deleted elements of a list with a merge key become `$patch: delete`; an order that merging would not give is
    /// set with `$setElementOrder`; a list that merge keys cannot tell apart (a key twice or missing) is replaced.
    /// Three things a patch cannot say: null (it counts as not there), a primitive twice in a set, and elements of one
    /// merge key apart from each other. For kinds that are not built in, lists are replaced
    /// and objects merged, which is then also a good merge patch.
    pub fn diff(tm: &TypeMeta, from: &Value, to: &Value) -> Value {
        match (from, to) {
            (Value::Object(from), Value::Object(to)) => {
                let (from, to) = (diff::without_nulls(from), diff::without_nulls(to));
                Value::Object(diff::maps(&from, &to, schema::of(tm)))
            }
            (from, to) if from == to => Value::Object(Map::new()),
            (_, to) => to.clone(),
        }
    }
}

fn json(target: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > MAX_OPERATIONS {
        let why = format!("a JSON patch of {operations} operations, {MAX_OPERATIONS} are allowed");
        return Err(PatchError::TooLarge(why));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|error| PatchError::Malformed(error.to_string()))?;
    let mut patched = target.clone();
    let mut copied = 0;
    for operation in patch.0 {
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            copied += copy.from.resolve(&patched).map_or(0, |source| source.to_string().len());
            if copied > MAX_COPIED {
                return Err(PatchError::TooLarge(format!(
                    "a JSON patch that copies more than {MAX_COPIED} bytes"
                )));
            }
        }
        json_patch::patch_unsafe(&mut patched, &[operation])
            .map_err(|error| PatchError::Refused(error.to_string()))?;
    }
    Ok(patched)
}

fn precondition(target: &Value, patched: &Value, name: &str) -> Result<(), PatchError> {
    let at = |object: &Value| object.get("metadata")?.get(name)?.as_str().map(str::to_owned);
    match (at(target), at(patched)) {
        (Some(held), Some(asked)) if held != asked && !held.is_empty() && !asked.is_empty() => {
            Err(PatchError::Conflict(format!("the patch is for {name} {asked}, the object has {held}")))
        }
        _ => Ok(()),
    }
}
