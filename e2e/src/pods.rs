//! The pods of the node as an API server tells them, read as the kubelet reads them: one list in protobuf,
//! selected by node. Field numbers are those of k8s.io/api/core/v1/generated.proto.

use crate::client::{Client, Request};
use crate::container::NODE_NAME;
use crate::protobuf::Fields;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// What the cases compare of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// The version of this state.
    pub resource_version: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether somebody asked for its deletion.
    pub terminating: bool,
    /// `Running`, `Pending` and so on.
    pub phase: String,
    /// Whether its condition `Ready` is `True`.
    pub ready: bool,
    /// The id of its first container, without the runtime's name.
    pub container: String,
    /// How often that container was started again.
    pub restarts: u64,
}

/// The node's pods by name, as this server tells them.
pub fn of_node(client: &Client) -> Result<BTreeMap<String, Pod>> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE_NAME}");
    let answer = client.send(&Request::new("GET", &path).protobuf())?;
    answer.success().with_context(|| format!("GET {path}"))?;
    let list = Fields::of_body(&answer.body).with_context(|| answer.text())?;
    list.children(2).map(|item| parse(&item?)).collect()
}

/// An error that names the pods that are not yet what the caller waits for.
pub fn all_ready(pods: &BTreeMap<String, Pod>, count: usize) -> Result<()> {
    let waiting: Vec<_> = pods
        .iter()
        .filter(|(_, pod)| !(pod.ready && pod.phase == "Running" && !pod.terminating))
        .map(|(name, pod)| format!("{name} ({}, ready {})", pod.phase, pod.ready))
        .collect();
    if pods.len() != count || !waiting.is_empty() {
        bail!("{} pods of {count}, not ready: {}", pods.len(), waiting.join(", "));
    }
    Ok(())
}

fn parse(item: &Fields<'_>) -> Result<(String, Pod)> {
    let (metadata, status) = (item.child(1)?, item.child(3)?);
    let mut ready = false;
    for condition in status.children(2) {
        let condition = condition?;
        ready |= condition.text(1) == "Ready" && condition.text(2) == "True";
    }
    let container = status.child(8)?;
    let mut annotations = BTreeMap::new();
    for entry in metadata.children(12) {
        let entry = entry?;
        annotations.insert(entry.text(1), entry.text(2));
    }
    let pod = Pod {
        namespace: metadata.text(3),
        uid: metadata.text(5),
        resource_version: metadata.text(6),
        annotations,
        terminating: metadata.has(9),
        phase: status.text(1),
        ready,
        container: container.text(8).trim_start_matches("containerd://").to_string(),
        restarts: container.integer(5),
    };
    Ok((metadata.text(1), pod))
}
