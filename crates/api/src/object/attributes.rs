//! What selectors look at: labels, and the fields that Kubernetes registers for a resource.
//!
//! The field labels are those of `AddFieldLabelConversionFunc` in `k8s.io/kubernetes/pkg/apis/*/conversion.go`,
//! their values those of the `*SelectableFields` functions in `pkg/registry`. Left out is what the apiserver
//! itself never fills in, such as `status.podIPs`. Where a kind has no such function only name and namespace can be
//! selected, whatever its registry offers: replica sets are such a kind.

use std::collections::BTreeMap;

use super::{Meta, labels, meta, protobuf};
use crate::error::DecodeError;
use crate::json;
use crate::representation::{Encoding, Representation};
use crate::resource::Resource;
use crate::selector::{FieldSelector, LabelSelector};

const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";

/// What selectors look at in one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The name.
    pub name: String,
    /// The namespace; empty when the object has none.
    pub namespace: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// Every field of [`field_labels`] with its value; what the object does not say has its default.
    pub fields: BTreeMap<&'static str, String>,
}

impl Attributes {
    /// Reads them from an object in item form; JSON may also be in object form.
    pub fn read(resource: &Resource, enc: Encoding, item: &[u8]) -> Result<Self, DecodeError> {
        let Meta { name, namespace, .. } = meta(enc, item)?;
        let mut fields = BTreeMap::from([(NAME, name.clone()), (NAMESPACE, namespace.clone())]);
        for field in table(resource).fields {
            fields.insert(field.label, field.read(enc, item)?);
        }
        if let Some(source) = fields.get(SOURCE).filter(|s| s.is_empty()).and(fields.get(REPORTING)) {
            let source = source.clone();
            fields.insert(SOURCE, source);
        }
        Ok(Attributes { name, namespace, labels: labels(enc, item)?, fields })
    }

    /// Whether the object is one that the selectors ask for. A field that is not in [`field_labels`] counts
    /// as empty: ask [`evaluable`] before.
    pub fn matches(&self, l: &LabelSelector, f: &FieldSelector) -> bool {
        f.matches(&|path| self.fields.get(path).cloned()) && l.matches(&self.labels)
    }
}

/// The fields by which a resource's objects may be selected; what [`Attributes`] does not hold of them is empty.
pub fn field_labels(resource: &Resource) -> &'static [&'static str] {
    table(resource).labels
}

/// What the apiserver says to a field by which objects of a built-in resource cannot be selected
/// (`addConversionFuncs` in `k8s.io/kubernetes/pkg/apis/*/conversion.go`).
pub fn field_refusal(resource: &Resource, path: &str) -> String {
    match table(resource).refusal {
        Refusal::Usual => {
            format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        Refusal::Own => format!("field label not supported: {path}"),
        Refusal::Job => format!("field label {path:?} not supported for Job"),
        Refusal::ResourceSlice => {
            format!("field label not supported for {}, Kind=ResourceSlice: {path}", resource.api_version())
        }
    }
}

/// Whether objects in this form say all that the selector asks. Metadata alone says only name and namespace.
pub fn evaluable(resource: &Resource, representation: Representation, fields: &FieldSelector) -> bool {
    let known = if representation.metadata_only { OTHER.labels } else { field_labels(resource) };
    fields.paths().all(|path| known.contains(&path))
}

/// A source that is empty is the reporting controller (`pkg/registry/core/event/strategy.go`).
const SOURCE: &str = "source";
const REPORTING: &str = "reportingComponent";

/// One selectable field: where it stands in JSON and in protobuf.
struct Field {
    label: &'static str,
    json: &'static [&'static str],
    wire: &'static [u32],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Number,
}

impl Field {
    fn read(&self, enc: Encoding, item: &[u8]) -> Result<String, DecodeError> {
        let found = match enc {
            Encoding::Json => json::scalar_at(item, self.json)?,
            Encoding::Protobuf => self.read_wire(item)?,
        };
        Ok(found.unwrap_or_else(|| self.kind.default().to_owned()))
    }

    fn read_wire(&self, item: &[u8]) -> Result<Option<String>, DecodeError> {
        let Some(value) = protobuf::value_at(item, self.wire)? else { return Ok(None) };
        Ok(Some(match self.kind {
            Kind::Text => value.text()?.to_owned(),
            Kind::Bool => (value.varint()? != 0).to_string(),
            Kind::Number => value.varint()?.cast_signed().to_string(),
        }))
    }
}

impl Kind {
    /// What the apiserver takes where the object says nothing.
    fn default(self) -> &'static str {
        match self {
            Kind::Text => "",
            Kind::Bool => "false",
            Kind::Number => "0",
        }
    }
}

/// The fields of one resource beside name and namespace, and all that may be selected.
struct Table {
    labels: &'static [&'static str],
    fields: &'static [Field],
    refusal: Refusal,
}

/// How the apiserver words that a field cannot be selected.
#[derive(Clone, Copy)]
enum Refusal {
    /// Of a kind without field labels of its own (`k8s.io/apimachinery/pkg/runtime/conversion.go`).
    Usual,
    /// Of most kinds that have them.
    Own,
    Job,
    ResourceSlice,
}

/// One row for each field: label, JSON path, field numbers, kind of value. Before them the refusal, and the labels
/// that have no row.
macro_rules! table {
    ($refusal:ident [$($bare:expr),*]; $(($label:literal, [$($json:literal),+], [$($wire:literal),+], $kind:ident)),* $(,)?) => {
        Table {
            labels: &[$($bare,)* $($label),*],
            fields: &[$(Field { label: $label, json: &[$($json),+], wire: &[$($wire),+], kind: Kind::$kind }),*],
            refusal: Refusal::$refusal,
        }
    };
}

fn table(resource: &Resource) -> &'static Table {
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "pods") => &PODS,
        ("", "services") => &SERVICES,
        ("", "nodes") => &NODES,
        ("", "secrets") => &SECRETS,
        ("", "namespaces") => &NAMESPACES,
        ("", "events") => &EVENTS,
        ("events.k8s.io", "events") => &NEW_EVENTS,
        ("", "replicationcontrollers") => &REPLICAS,
        ("batch", "jobs") => &JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => &SIGNING_REQUESTS,
        ("resource.k8s.io", "resourceslices") => &RESOURCE_SLICES,
        _ => &OTHER,
    }
}

static PODS: Table = table![
    // The last one is taken, but never filled in.
    Own [NAME, NAMESPACE, "status.podIPs"];
    ("spec.nodeName", ["spec", "nodeName"], [2, 10], Text),
    ("spec.restartPolicy", ["spec", "restartPolicy"], [2, 3], Text),
    ("spec.schedulerName", ["spec", "schedulerName"], [2, 19], Text),
    ("spec.serviceAccountName", ["spec", "serviceAccountName"], [2, 8], Text),
    ("spec.hostNetwork", ["spec", "hostNetwork"], [2, 11], Bool),
    ("status.phase", ["status", "phase"], [3, 1], Text),
    ("status.podIP", ["status", "podIP"], [3, 6], Text),
    ("status.nominatedNodeName", ["status", "nominatedNodeName"], [3, 11], Text),
];

static SERVICES: Table = table![
    Own [NAME, NAMESPACE];
    ("spec.clusterIP", ["spec", "clusterIP"], [2, 3], Text),
    ("spec.type", ["spec", "type"], [2, 4], Text),
];

static NODES: Table = table![Own [NAME]; ("spec.unschedulable", ["spec", "unschedulable"], [2, 4], Bool)];

static SECRETS: Table = table![Own [NAME, NAMESPACE]; ("type", ["type"], [3], Text)];

static NAMESPACES: Table = table![Own [NAME]; ("status.phase", ["status", "phase"], [3, 1], Text)];

static EVENTS: Table = table![
    Own [NAME, NAMESPACE];
    ("involvedObject.kind", ["involvedObject", "kind"], [2, 1], Text),
    ("involvedObject.namespace", ["involvedObject", "namespace"], [2, 2], Text),
    ("involvedObject.name", ["involvedObject", "name"], [2, 3], Text),
    ("involvedObject.uid", ["involvedObject", "uid"], [2, 4], Text),
    ("involvedObject.apiVersion", ["involvedObject", "apiVersion"], [2, 5], Text),
    ("involvedObject.resourceVersion", ["involvedObject", "resourceVersion"], [2, 6], Text),
    ("involvedObject.fieldPath", ["involvedObject", "fieldPath"], [2, 7], Text),
    ("reason", ["reason"], [3], Text),
    ("reportingComponent", ["reportingComponent"], [14], Text),
    ("source", ["source", "component"], [5, 1], Text),
    ("type", ["type"], [9], Text),
];

static NEW_EVENTS: Table = table![
    Own [NAME, NAMESPACE];
    ("regarding.kind", ["regarding", "kind"], [8, 1], Text),
    ("regarding.namespace", ["regarding", "namespace"], [8, 2], Text),
    ("regarding.name", ["regarding", "name"], [8, 3], Text),
    ("regarding.uid", ["regarding", "uid"], [8, 4], Text),
    ("regarding.apiVersion", ["regarding", "apiVersion"], [8, 5], Text),
    ("regarding.resourceVersion", ["regarding", "resourceVersion"], [8, 6], Text),
    ("regarding.fieldPath", ["regarding", "fieldPath"], [8, 7], Text),
    ("reason", ["reason"], [7], Text),
    ("reportingController", ["reportingController"], [4], Text),
    ("type", ["type"], [11], Text),
];

static REPLICAS: Table =
    table![Own [NAME, NAMESPACE]; ("status.replicas", ["status", "replicas"], [3, 1], Number)];

static JOBS: Table =
    table![Job [NAME, NAMESPACE]; ("status.successful", ["status", "succeeded"], [3, 5], Number)];

static SIGNING_REQUESTS: Table =
    table![Own [NAME]; ("spec.signerName", ["spec", "signerName"], [2, 7], Text)];

static RESOURCE_SLICES: Table = table![
    ResourceSlice [NAME];
    ("spec.nodeName", ["spec", "nodeName"], [2, 3], Text),
    ("spec.driver", ["spec", "driver"], [2, 1], Text),
];

static OTHER: Table = table![Usual [NAME, NAMESPACE];];
