//! Which objects of a resource a request is about.

use yurt_api::selector::{FieldSelector, LabelSelector};

use super::{
    error::Refusal,
    object::Object,
    registry::Kind,
    request::{Query, Target},
};

/// Namespace, labels and fields.
#[derive(Clone, Debug)]
pub struct Selection {
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    resource: String,
}

impl Selection {
    /// Reads the selectors; a field that the kind does not offer is 400.
    pub fn of_request(kind: &Kind, target: &Target, query: &Query) -> Result<Self, Refusal> {
        let wrong = |e: yurt_api::error::BadRequest| Refusal::bad_request(e.message);
        let labels = LabelSelector::parse(query.get("labelSelector")).map_err(wrong)?;
        let mut text = query.get("fieldSelector").to_owned();
        if let Some(name) = &target.name {
            text = format!("metadata.name={name}");
        }
        let fields = FieldSelector::parse(&text).map_err(wrong)?;
        let resource = kind.group_resource();
        if let Some(path) = fields.paths().find(|p| pointer(&resource, p).is_none()) {
            return Err(Refusal::bad_request(unknown_field(kind, path)));
        }
        Ok(Self { namespace: target.namespace.clone(), labels, fields, resource })
    }

    /// Everything in a namespace is asked for.
    pub fn is_unfiltered(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The namespace that is asked for; none = all, or a kind without.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The value that a field must have.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.fields.exact(path)
    }

    /// The object is asked for.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|n| *n == object.key.namespace)
            && (self.labels.is_empty() || self.labels.matches(&object.labels()))
            && (self.fields.is_empty() || self.fields.matches(&|path| self.field(object, path)))
    }

    fn field(&self, object: &Object, path: &str) -> Option<String> {
        let pointer = pointer(&self.resource, path)?;
        let value = object.value().pointer(&pointer);
        let text = value.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        Some(text.unwrap_or_else(|| default(path).to_owned()))
    }
}

/// Kinds with field labels of their own say it otherwise than the rest, and two of them in words of their own.
fn unknown_field(kind: &Kind, path: &str) -> String {
    let resource = kind.group_resource();
    match resource.as_str() {
        "jobs.batch" => format!("field label {path:?} not supported for Job"),
        "resourceslices.resource.k8s.io" => {
            format!("field label not supported for {}, Kind={}: {path}", kind.api_version(), kind.kind)
        }
        // A custom resource (`crConverter.ConvertFieldLabel`) too.
        _ if kind.custom || !offered(&resource).is_empty() => format!("field label not supported: {path}"),
        _ => {
            format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
    }
}

fn default(path: &str) -> &'static str {
    match path {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.replicas" | "status.successful" => "0",
        _ => "",
    }
}

fn pointer(resource: &str, path: &str) -> Option<String> {
    let global = ["nodes", "namespaces", "certificatesigningrequests.certificates.k8s.io"]
        .contains(&resource)
        || resource == "resourceslices.resource.k8s.io";
    let known = path == "metadata.name"
        || (path == "metadata.namespace" && !global)
        || offered(resource).contains(&path);
    // The registry counts under another name than the object, and never fills in the addresses.
    let path = match path {
        "status.successful" => "status.succeeded",
        "status.podIPs" => "",
        "source" => "source.component",
        path => path,
    };
    known.then(|| format!("/{}", path.replace('.', "/")))
}

fn offered(resource: &str) -> &'static [&'static str] {
    match resource {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        "services" => &["spec.clusterIP", "spec.type"],
        "replicationcontrollers" => &["status.replicas"],
        "jobs.batch" => &["status.successful"],
        "secrets" => &["type"],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "resourceslices.resource.k8s.io" => &["spec.nodeName", "spec.driver"],
        "certificatesigningrequests.certificates.k8s.io" => &["spec.signerName"],
        "events.events.k8s.io" => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    }
}
