//! The keys of labels, annotations, taints and conditions. Those of OpenYurt keep their names and meaning.

/// Node annotation: how long the node's pods stay when it is disconnected; a Go duration, 0 or less is for ever.
pub const AUTONOMY_DURATION: &str = "node.openyurt.io/autonomy-duration";
/// Node annotations of older versions of OpenYurt: "true" is for ever.
pub const AUTONOMY_FOR_EVER: [&str; 2] = ["node.beta.openyurt.io/autonomy", "apps.openyurt.io/binding"];
/// Node label: the pool that the node is in.
pub const POOL: &str = "apps.openyurt.io/nodepool";
/// Node label of nodes in a pool with `hostNetwork`.
pub const POOL_HOST_NETWORK: &str = "nodepool.openyurt.io/hostnetwork";
/// Node annotation: what the pool gave to the node, as JSON; taken away when it no longer does.
pub const POOL_GAVE: &str = "nodepool.openyurt.io/previous-attributes";
/// Node annotation: since when the node is disconnected, on this program's clock (RFC 3339).
pub const DISCONNECTED_SINCE: &str = "node.openyurt.io/disconnected-since";
/// Node annotation: what its lease said then, the node's own time: only compared for being the same.
pub const DISCONNECTED_LEASE: &str = "node.openyurt.io/disconnected-lease";
/// Pod annotation, the mark of a protected pod: until when (RFC 3339), or [`NEVER`].
pub const PROTECTED_UNTIL: &str = "node.openyurt.io/protected-until";
/// The mark of a pod whose protection does not end by itself.
pub const NEVER: &str = "never";
/// Pod annotation: seconds of the toleration for `not-ready` before autonomy.
pub const ORIGINAL_NOT_READY: &str = "apps.openyurt.io/original-not-ready-toleration-duration";
/// Pod annotation: seconds of the toleration for `unreachable` before autonomy.
pub const ORIGINAL_UNREACHABLE: &str = "apps.openyurt.io/original-unreachable-toleration-duration";
/// The value of these when there was no end.
pub const INFINITE: &str = "infinite";
/// Pod annotation of mirror pods (`MirrorPodAnnotationKey` of core/v1).
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Taint of a node that says that it is not ready (`TaintNodeNotReady` of core/v1).
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node that says nothing (`TaintNodeUnreachable` of core/v1).
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The effect that evicts.
pub const NO_EXECUTE: &str = "NoExecute";

/// Node condition that keeps new pods away (the taint `network-unavailable` follows it).
pub const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";
/// The reason of it that is this program's; with any other it is a CNI's.
pub const EDGE_DISCONNECTED: &str = "EdgeDisconnected";
/// Node condition that yurthub writes: the node is ready to go offline.
pub const AUTONOMY: &str = "Autonomy";
/// The condition of readiness, of nodes and of pods.
pub const READY: &str = "Ready";
/// The condition of pods whose containers are ready, which their kubelet alone writes.
pub const CONTAINERS_READY: &str = "ContainersReady";
/// The condition of pods that have a node.
pub const POD_SCHEDULED: &str = "PodScheduled";
/// Pod condition of one that is about to be evicted.
pub const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// Reasons of it whose deletion is refused for protected pods (pkg/controller/tainteviction, podgc).
pub const REFUSED_DISRUPTIONS: [&str; 2] = ["DeletionByTaintManager", "DeletionByPodGC"];

/// Who evicts: ServiceAccounts of kube-controller-manager's controllers
/// (cmd/kube-controller-manager/app/core.go; the last one may become that of taint eviction).
pub const EVICTERS: [&str; 3] = [
    "system:serviceaccount:kube-system:node-controller",
    "system:serviceaccount:kube-system:pod-garbage-collector",
    "system:serviceaccount:kube-system:taint-eviction-controller",
];
