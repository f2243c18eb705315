//! The columns of each kind.
//!
//! Source of names, types, formats and priorities: `AddHandlers` in
//! `k8s.io/kubernetes/pkg/printers/internalversion/printers.go`; of the generic ones:
//! `k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor`.

use serde::Serialize;

use super::custom::{Columns, Shown};
use super::sheet::Sheet;
use super::{Form, kinds};
use crate::proto;
use crate::resource::TypeMeta;

/// A column as a table describes it.
#[derive(Debug, Serialize)]
pub(super) struct Column {
    pub(super) name: &'static str,
    #[serde(rename = "type")]
    pub(super) of: &'static str,
    pub(super) format: &'static str,
    pub(super) description: &'static str,
    pub(super) priority: u8,
}

/// How the cells of a kind are made.
#[derive(Clone, Copy)]
pub(super) enum Printer<'a> {
    Pod,
    Node,
    Service,
    ConfigMap,
    Event,
    /// By rules.
    Sheet(Sheet),
    /// By what a custom resource's definition says.
    Custom(&'a Columns),
    /// Any other kind: its name and its age.
    Generic,
}

impl<'a> Printer<'a> {
    /// The one for a kind: its own, else what is known of a custom resource.
    pub(super) fn of(form: &'a Form, kind: &TypeMeta) -> Self {
        match (kind.api_version.as_str(), kind.kind.as_str()) {
            ("v1", "Pod") => Printer::Pod,
            ("v1", "Node") => Printer::Node,
            ("v1", "Service") => Printer::Service,
            ("v1", "ConfigMap") => Printer::ConfigMap,
            ("v1", "Event") => Printer::Event,
            _ => match (kinds::sheet(kind), &form.columns) {
                (Some(sheet), _) => Printer::Sheet(sheet),
                (None, Some(columns)) if !proto::knows(kind) => Printer::Custom(columns),
                _ => Printer::Generic,
            },
        }
    }

    /// Appends the definitions of the columns as JSON.
    pub(super) fn put_columns(self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let fixed = match self {
            Printer::Sheet(sheet) => {
                let columns: Vec<&Column> = sheet.iter().map(|(column, _)| column).collect();
                return serde_json::to_writer(out, &columns);
            }
            Printer::Custom(columns) => return put_custom(out, columns),
            Printer::Pod => POD,
            Printer::Node => NODE,
            Printer::Service => SERVICE,
            Printer::ConfigMap => CONFIG_MAP,
            Printer::Event => EVENT,
            Printer::Generic => GENERIC,
        };
        serde_json::to_writer(out, fixed)
    }
}

/// Whether rows of this kind may stand under these `columnDefinitions` (JSON), which a client was told before: they are
/// the same columns, however they are described.
pub fn stands_under(form: &Form, kind: &TypeMeta, definitions: &[u8]) -> bool {
    let mut own = Vec::new();
    let read = |definitions: &[u8]| -> Option<Vec<_>> {
        let all: Vec<Shown> = serde_json::from_slice(definitions).ok()?;
        Some(all.into_iter().map(Shown::without_words).collect())
    };
    Printer::of(form, kind).put_columns(&mut own).is_ok()
        && read(definitions).is_some_and(|told| Some(told) == read(&own))
}

fn put_custom(out: &mut Vec<u8>, columns: &Columns) -> serde_json::Result<()> {
    out.push(b'[');
    serde_json::to_writer(&mut *out, &NAME)?;
    for column in columns.shown() {
        out.push(b',');
        serde_json::to_writer(&mut *out, column)?;
    }
    out.push(b']');
    Ok(())
}

pub(super) const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, of: "string", format: "", description, priority: 0 }
}

pub(super) const fn number(name: &'static str, description: &'static str) -> Column {
    Column { of: "integer", ..text(name, description) }
}

/// One that only `kubectl get -o wide` shows.
pub(super) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..text(name, description) }
}

pub(super) const NAME: Column = Column { format: "name", ..text("Name", "The name of the object.") };
pub(super) const AGE: Column = text("Age", "The time since the object was created.");

const POD: &[Column] = &[
    NAME,
    text("Ready", "How many of the pod's containers are ready."),
    text("Status", "What state the pod and its containers are in."),
    text("Restarts", "How often containers of the pod were restarted, and when last."),
    AGE,
    wide("IP", "The first address of the pod."),
    wide("Node", "The node that the pod is bound to."),
    wide("Nominated Node", "The node on which room is made for the pod."),
    wide("Readiness Gates", "How many of the pod's readiness gates are open."),
];

const NODE: &[Column] = &[
    NAME,
    text("Status", "Whether the node is ready and takes pods."),
    text("Roles", "The roles that the node's labels name."),
    AGE,
    text("Version", "The version of the node's kubelet."),
    wide("Internal-IP", "The first internal address of the node."),
    wide("External-IP", "The first external address of the node."),
    wide("OS-Image", "The operating system of the node."),
    wide("Kernel-Version", "The kernel of the node."),
    wide("Container-Runtime", "The container runtime of the node and its version."),
];

const SERVICE: &[Column] = &[
    NAME,
    text("Type", "How the service is exposed."),
    text("Cluster-IP", "The address of the service in the cluster."),
    text("External-IP", "The addresses of the service from outside."),
    text("Port(s)", "The ports of the service."),
    AGE,
    wide("Selector", "The labels of the pods behind the service."),
];

const CONFIG_MAP: &[Column] = &[NAME, text("Data", "How many entries it has."), AGE];

const EVENT: &[Column] = &[
    text("Last Seen", "The time since it happened last."),
    text("Type", "Normal, or a warning."),
    text("Reason", "Why it happened, in a word."),
    text("Object", "What it happened to."),
    wide("Subobject", "Which part of the object it happened to."),
    wide("Source", "Who reported it."),
    text("Message", "What happened."),
    wide("First Seen", "The time since it happened first."),
    wide("Count", "How often it happened."),
    Column { priority: 1, ..NAME },
];

const GENERIC: &[Column] = &[NAME, Column { of: "date", ..AGE }];
