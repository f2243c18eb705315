//! The sheets of built-in kinds.
//!
//! Source of columns and cells: `k8s.io/kubernetes/pkg/printers/internalversion/printers.go`; what of it is shown only
//! by `kubectl get -o wide` is made, too, as the apiserver does.

use super::columns::{AGE, Column, NAME, number, text, wide};
use super::sheet::{Cell, Sheet};
use super::special;
use crate::resource::TypeMeta;

const READY: Column = text("Ready", "How many of the pods are ready.");
const DESIRED: Column = number("Desired", "How many pods there should be.");
const CURRENT: Column = number("Current", "How many pods there are.");
const READY_PODS: Column = number("Ready", "How many of the pods are ready.");
const CONTAINERS: Column = wide("Containers", "The names of the containers of a pod.");
const IMAGES: Column = wide("Images", "The images of the containers of a pod.");
const SELECTOR: Column = wide("Selector", "Which pods belong to it.");
const STATUS: Column = text("Status", "In which phase of its life it is.");
const CLASS: Column = text("StorageClass", "The name of its storage class.");
const ATTRIBUTES: Column = text("VolumeAttributesClass", "The name of its class of volume attributes.");
const MODES: Column = text("Access Modes", "How it may be mounted.");
const VOLUME_MODE: Column = wide("VolumeMode", "Whether it is a file system or a block device.");

const POD: &str = "/spec/template/spec/containers";
const JOB_POD: &str = "/spec/jobTemplate/spec/template/spec/containers";

/// The sheet of a kind; `None` when it has none.
pub(super) fn sheet(kind: &TypeMeta) -> Option<Sheet> {
    Some(match (kind.api_version.as_str(), kind.kind.as_str()) {
        ("apps/v1", "Deployment") => DEPLOYMENT,
        ("apps/v1", "ReplicaSet") => REPLICA_SET,
        ("apps/v1", "StatefulSet") => STATEFUL_SET,
        ("apps/v1", "DaemonSet") => DAEMON_SET,
        ("v1", "ReplicationController") => REPLICATION_CONTROLLER,
        ("batch/v1", "Job") => JOB,
        ("batch/v1", "CronJob") => CRON_JOB,
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "Secret") => SECRET,
        ("v1", "ServiceAccount") => SERVICE_ACCOUNT,
        ("v1", "Endpoints") => ENDPOINTS,
        ("discovery.k8s.io/v1", "EndpointSlice") => ENDPOINT_SLICE,
        ("coordination.k8s.io/v1", "Lease") => LEASE,
        ("v1", "PersistentVolume") => VOLUME,
        ("v1", "PersistentVolumeClaim") => CLAIM,
        ("storage.k8s.io/v1", "StorageClass") => STORAGE_CLASS,
        ("storage.k8s.io/v1", "CSINode") => CSI_NODE,
        ("storage.k8s.io/v1", "VolumeAttachment") => ATTACHMENT,
        ("networking.k8s.io/v1", "NetworkPolicy") => NETWORK_POLICY,
        ("node.k8s.io/v1", "RuntimeClass") => RUNTIME_CLASS,
        _ => return None,
    })
}

const DEPLOYMENT: Sheet = &[
    (NAME, Cell::Name),
    (READY, Cell::Ratio("/status/readyReplicas", "/spec/replicas")),
    (
        text("Up-to-date", "How many pods are of the newest template."),
        Cell::Number("/status/updatedReplicas"),
    ),
    (text("Available", "How many pods can be used."), Cell::Number("/status/availableReplicas")),
    (AGE, Cell::Age),
    (CONTAINERS, Cell::Each(POD, "/name")),
    (IMAGES, Cell::Each(POD, "/image")),
    (SELECTOR, Cell::Selector("/spec/selector", "")),
];

const REPLICA_SET: Sheet = &[
    (NAME, Cell::Name),
    (DESIRED, Cell::Number("/spec/replicas")),
    (CURRENT, Cell::Number("/status/replicas")),
    (READY_PODS, Cell::Number("/status/readyReplicas")),
    (AGE, Cell::Age),
    (CONTAINERS, Cell::Each(POD, "/name")),
    (IMAGES, Cell::Each(POD, "/image")),
    (SELECTOR, Cell::Selector("/spec/selector", "<none>")),
];

const REPLICATION_CONTROLLER: Sheet = &[
    (NAME, Cell::Name),
    (DESIRED, Cell::Number("/spec/replicas")),
    (CURRENT, Cell::Number("/status/replicas")),
    (READY_PODS, Cell::Number("/status/readyReplicas")),
    (AGE, Cell::Age),
    (CONTAINERS, Cell::Each(POD, "/name")),
    (IMAGES, Cell::Each(POD, "/image")),
    (SELECTOR, Cell::Labels("/spec/selector")),
];

const STATEFUL_SET: Sheet = &[
    (NAME, Cell::Name),
    (READY, Cell::Ratio("/status/readyReplicas", "/spec/replicas")),
    (AGE, Cell::Age),
    (CONTAINERS, Cell::Each(POD, "/name")),
    (IMAGES, Cell::Each(POD, "/image")),
];

const DAEMON_SET: Sheet = &[
    (NAME, Cell::Name),
    (DESIRED, Cell::Number("/status/desiredNumberScheduled")),
    (CURRENT, Cell::Number("/status/currentNumberScheduled")),
    (READY_PODS, Cell::Number("/status/numberReady")),
    (
        number("Up-to-date", "How many pods are of the newest template."),
        Cell::Number("/status/updatedNumberScheduled"),
    ),
    (number("Available", "How many pods can be used."), Cell::Number("/status/numberAvailable")),
    (text("Node Selector", "Which nodes get a pod."), Cell::Labels("/spec/template/spec/nodeSelector")),
    (AGE, Cell::Age),
    (CONTAINERS, Cell::Each(POD, "/name")),
    (IMAGES, Cell::Each(POD, "/image")),
    (SELECTOR, Cell::Selector("/spec/selector", "<none>")),
];

const JOB: Sheet = &[
    (NAME, Cell::Name),
    (text("Status", "What the job has come to."), Cell::Made(special::job_status)),
    (text("Completions", "How many pods have ended well, of how many."), Cell::Made(special::completions)),
    (text("Duration", "How long the job took or has been running."), Cell::Made(special::duration)),
    (AGE, Cell::Age),
    (CONTAINERS, Cell::Each(POD, "/name")),
    (IMAGES, Cell::Each(POD, "/image")),
    (SELECTOR, Cell::Selector("/spec/selector", "<none>")),
];

const CRON_JOB: Sheet = &[
    (NAME, Cell::Name),
    (text("Schedule", "When it runs."), Cell::Text("/spec/schedule")),
    (text("Timezone", "The time zone of the schedule."), Cell::TextOr("/spec/timeZone", "<none>")),
    (Column { of: "boolean", ..text("Suspend", "Whether it rests.") }, Cell::Made(special::suspended)),
    (number("Active", "How many of its jobs run."), Cell::Count("/status/active")),
    (text("Last Schedule", "The time since it ran last."), Cell::Made(special::last_schedule)),
    (AGE, Cell::Age),
    (CONTAINERS, Cell::Each(JOB_POD, "/name")),
    (IMAGES, Cell::Each(JOB_POD, "/image")),
    (SELECTOR, Cell::Selector("/spec/jobTemplate/spec/selector", "<none>")),
];

const NAMESPACE: Sheet = &[(NAME, Cell::Name), (STATUS, Cell::Text("/status/phase")), (AGE, Cell::Age)];

const SECRET: Sheet = &[
    (NAME, Cell::Name),
    (text("Type", "What it is for."), Cell::Text("/type")),
    (text("Data", "How many entries it has."), Cell::Count("/data")),
    (AGE, Cell::Age),
];

const SERVICE_ACCOUNT: Sheet = &[
    (NAME, Cell::Name),
    (text("Secrets", "How many secrets it names."), Cell::Count("/secrets")),
    (AGE, Cell::Age),
];

const ENDPOINTS: Sheet = &[
    (NAME, Cell::Name),
    (text("Endpoints", "The addresses behind the service."), Cell::Made(special::endpoints)),
    (AGE, Cell::Age),
];

const ENDPOINT_SLICE: Sheet = &[
    (NAME, Cell::Name),
    (text("AddressType", "Of what type the addresses are."), Cell::Text("/addressType")),
    (text("Ports", "The ports of the endpoints."), Cell::Made(special::slice_ports)),
    (text("Endpoints", "The addresses of the endpoints."), Cell::Made(special::slice_endpoints)),
    (AGE, Cell::Age),
];

const LEASE: Sheet = &[
    (NAME, Cell::Name),
    (text("Holder", "Who holds it."), Cell::Text("/spec/holderIdentity")),
    (AGE, Cell::Age),
];

const VOLUME: Sheet = &[
    (NAME, Cell::Name),
    (text("Capacity", "How large it is."), Cell::TextOr("/spec/capacity/storage", "0")),
    (MODES, Cell::Made(special::volume_modes)),
    (
        text("Reclaim Policy", "What becomes of it without its claim."),
        Cell::Text("/spec/persistentVolumeReclaimPolicy"),
    ),
    (STATUS, Cell::Made(special::phase)),
    (text("Claim", "The claim that it is bound to."), Cell::Made(special::claim)),
    (CLASS, Cell::Made(special::class)),
    (ATTRIBUTES, Cell::TextOr("/spec/volumeAttributesClassName", "<unset>")),
    (text("Reason", "Why it is in this phase, in a word."), Cell::Text("/status/reason")),
    (AGE, Cell::Age),
    (VOLUME_MODE, Cell::TextOr("/spec/volumeMode", "<unset>")),
];

const CLAIM: Sheet = &[
    (NAME, Cell::Name),
    (STATUS, Cell::Made(special::phase)),
    (text("Volume", "The volume that it is bound to."), Cell::Text("/spec/volumeName")),
    (text("Capacity", "How large its volume is."), Cell::Made(special::claim_capacity)),
    (MODES, Cell::Made(special::claim_modes)),
    (CLASS, Cell::Made(special::class)),
    (ATTRIBUTES, Cell::TextOr("/spec/volumeAttributesClassName", "<unset>")),
    (AGE, Cell::Age),
    (VOLUME_MODE, Cell::TextOr("/spec/volumeMode", "<unset>")),
];

const STORAGE_CLASS: Sheet = &[
    (NAME, Cell::Made(special::class_name)),
    (text("Provisioner", "Who makes its volumes."), Cell::Text("/provisioner")),
    (
        text("ReclaimPolicy", "What becomes of its volumes without their claims."),
        Cell::TextOr("/reclaimPolicy", "Delete"),
    ),
    (
        text("VolumeBindingMode", "When its volumes are bound."),
        Cell::TextOr("/volumeBindingMode", "Immediate"),
    ),
    (text("AllowVolumeExpansion", "Whether its volumes may grow."), Cell::Flag("/allowVolumeExpansion")),
    (AGE, Cell::Age),
];

const CSI_NODE: Sheet = &[
    (NAME, Cell::Name),
    (number("Drivers", "How many drivers the node has."), Cell::Count("/spec/drivers")),
    (AGE, Cell::Age),
];

const ATTACHMENT: Sheet = &[
    (NAME, Cell::Name),
    (Column { format: "name", ..text("Attacher", "Who attaches it.") }, Cell::Text("/spec/attacher")),
    (text("PV", "The volume."), Cell::Text("/spec/source/persistentVolumeName")),
    (text("Node", "The node."), Cell::Text("/spec/nodeName")),
    (Column { of: "boolean", ..text("Attached", "Whether it is attached.") }, Cell::Flag("/status/attached")),
    (AGE, Cell::Age),
];

const NETWORK_POLICY: Sheet = &[
    (NAME, Cell::Name),
    (text("Pod-Selector", "Which pods it is about."), Cell::Selector("/spec/podSelector", "<none>")),
    (AGE, Cell::Age),
];

const RUNTIME_CLASS: Sheet = &[
    (NAME, Cell::Name),
    (text("Handler", "Which configuration of the runtime it stands for."), Cell::Text("/handler")),
    (AGE, Cell::Age),
];
