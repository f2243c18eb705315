//! Which part of a collection a request is about, and whether a collection can answer it at all.

use yurt_api::collection::CollectionKey;
use yurt_api::object::{Attributes, field_labels, field_refusal};
use yurt_api::proto;
use yurt_api::request::ResourceRequest;
use yurt_api::selector::{FieldSelector, LabelSelector};

/// The part of a collection that a request is about.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only objects with these labels.
    pub labels: LabelSelector,
    /// Only objects with these fields.
    pub fields: FieldSelector,
}

impl Filter {
    /// The whole collection.
    pub fn everything() -> Self {
        Filter { namespace: None, labels: LabelSelector::everything(), fields: FieldSelector::everything() }
    }

    /// Whether it lets everything through.
    pub fn is_everything(&self) -> bool {
        self.namespace.is_none() && self.selects_all()
    }

    /// Whether no selector has to be evaluated.
    pub fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object with these attributes belongs to the part.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        self.namespace.as_ref().is_none_or(|n| *n == attributes.namespace)
            && attributes.matches(&self.labels, &self.fields)
    }
}

/// The part of the collection `key` that is exactly what `request` asks for; `None` when the
/// collection does not hold all of it or the hub cannot evaluate what remains.
pub fn cover(key: &CollectionKey, request: &ResourceRequest) -> Option<Filter> {
    // A name in the path of a list or watch is the old form of a watch of one object.
    if key.resource != request.resource || request.name.is_some() {
        return None;
    }
    let namespace = match (&key.namespace, &request.namespace) {
        (None, wanted) => wanted.clone(),
        (Some(held), Some(wanted)) if held == wanted => None,
        _ => return None,
    };
    let options = &request.options;
    let labels = remaining(&key.labels, &options.label_selector.canonical()).then(|| {
        if key.labels.is_empty() { options.label_selector.clone() } else { LabelSelector::everything() }
    })?;
    let fields = remaining(&key.fields, &options.field_selector.canonical()).then(|| {
        if key.fields.is_empty() { options.field_selector.clone() } else { FieldSelector::everything() }
    })?;
    // Metadata does not say what the rest of the object is.
    let known =
        if key.representation.metadata_only { &METADATA_FIELDS[..] } else { field_labels(&key.resource) };
    let evaluable = fields.paths().all(|p| known.contains(&p));
    evaluable.then_some(Filter { namespace, labels, fields })
}

/// What the apiserver says to the first field of a built-in resource that cannot be selected. Of others the hub does
/// not know all fields.
pub fn unknown_field(request: &ResourceRequest) -> Option<String> {
    let resource = &request.resource;
    proto::kind_of(resource)?;
    let known = field_labels(resource);
    let path = request.options.field_selector.paths().find(|path| !known.contains(path))?;
    Some(field_refusal(resource, path))
}

/// The fields that every representation has.
const METADATA_FIELDS: [&str; 2] = ["metadata.name", "metadata.namespace"];

/// A collection without a selector holds all; one with a selector only what the same selector asks for.
fn remaining(held: &str, wanted: &str) -> bool {
    held.is_empty() || held == wanted
}
