//! The kinds that the server holds: the built-in ones that a node's clients touch, and CRDs.

use std::{collections::BTreeMap, sync::Arc};

/// One served resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group, "" for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name in paths.
    pub plural: String,
    /// The kind of an object.
    pub kind: String,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// Has a status subresource.
    pub status: bool,
    /// Counts `metadata.generation`.
    pub generation: bool,
    /// A custom resource: items of a list carry their kind, no protobuf, no strategic merge.
    pub custom: bool,
}

impl Kind {
    /// "v1" or "apps/v1".
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// What the storage and messages call it: "pods", "deployments.apps".
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// A namespaced custom resource with a status subresource.
    pub fn custom(group: &str, version: &str, plural: &str, kind: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
            kind: kind.into(),
            namespaced: true,
            status: true,
            generation: true,
            custom: true,
        }
    }
}

/// All served kinds by (group, version, plural).
#[derive(Debug)]
pub struct Registry(BTreeMap<(String, String, String), Arc<Kind>>);

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Self {
        let mut registry = Self(BTreeMap::new());
        for (group, version, plural, kind, traits) in BUILTIN {
            registry.add(Kind {
                group: (*group).into(),
                version: (*version).into(),
                plural: (*plural).into(),
                kind: (*kind).into(),
                namespaced: traits.contains('n'),
                status: traits.contains('s'),
                generation: traits.contains('g'),
                custom: false,
            });
        }
        registry
    }

    /// Serves one more kind.
    pub fn add(&mut self, kind: Kind) {
        self.0.insert((kind.group.clone(), kind.version.clone(), kind.plural.clone()), Arc::new(kind));
    }

    /// The kind behind a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.0.get(&(group.to_owned(), version.to_owned(), plural.to_owned())).cloned()
    }

    /// The kind of an object.
    pub fn of_object(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        self.0.values().find(|k| k.kind == kind && k.api_version() == api_version).cloned()
    }

    /// The kind by its plural name or "plural.group".
    pub fn of_group_resource(&self, name: &str) -> Option<Arc<Kind>> {
        self.0.values().find(|k| k.group_resource() == name).cloned()
    }

    /// Every kind, ordered by group, version, plural.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.values()
    }
}

/// (group, version, plural, kind, traits): n = namespaced, s = status subresource, g = counts generations.
const BUILTIN: &[(&str, &str, &str, &str, &str)] = &[
    ("", "v1", "configmaps", "ConfigMap", "n"),
    ("", "v1", "endpoints", "Endpoints", "n"),
    ("", "v1", "events", "Event", "n"),
    ("", "v1", "limitranges", "LimitRange", "n"),
    ("", "v1", "namespaces", "Namespace", "s"),
    ("", "v1", "nodes", "Node", "s"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", "ns"),
    ("", "v1", "persistentvolumes", "PersistentVolume", "s"),
    ("", "v1", "pods", "Pod", "nsg"),
    ("", "v1", "podtemplates", "PodTemplate", "ng"),
    ("", "v1", "replicationcontrollers", "ReplicationController", "nsg"),
    ("", "v1", "resourcequotas", "ResourceQuota", "ns"),
    ("", "v1", "secrets", "Secret", "n"),
    ("", "v1", "serviceaccounts", "ServiceAccount", "n"),
    ("", "v1", "services", "Service", "ns"),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "g",
    ),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", "n"),
    ("apps", "v1", "daemonsets", "DaemonSet", "nsg"),
    ("apps", "v1", "deployments", "Deployment", "nsg"),
    ("apps", "v1", "replicasets", "ReplicaSet", "nsg"),
    ("apps", "v1", "statefulsets", "StatefulSet", "nsg"),
    ("batch", "v1", "cronjobs", "CronJob", "nsg"),
    ("batch", "v1", "jobs", "Job", "nsg"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", "s"),
    ("coordination.k8s.io", "v1", "leases", "Lease", "n"),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "ng"),
    ("events.k8s.io", "v1", "events", "Event", "n"),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", "nsg"),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "ng"),
    ("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", ""),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "nsg"),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", ""),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", ""),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", "n"),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "n"),
    ("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", "g"),
    ("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", "ns"),
    ("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", "g"),
    ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", "g"),
    ("storage.k8s.io", "v1", "csidrivers", "CSIDriver", ""),
    ("storage.k8s.io", "v1", "csinodes", "CSINode", ""),
    ("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity", "n"),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", ""),
    ("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", "s"),
];
