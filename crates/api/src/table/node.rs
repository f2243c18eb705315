//! The row of a node.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::age::age;
use super::{Made, Metadata, nil, or_none};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "nil")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nil")]
    addresses: Vec<Address>,
    node_info: Info,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Info {
    kubelet_version: String,
    os_image: String,
    kernel_version: String,
    container_runtime_version: String,
}

/// The cells of a node at `now`.
pub(super) fn made(node: &Node, now: i64) -> Made {
    let info = &node.status.node_info;
    let texts = [
        node.metadata.name.clone(),
        node.status(),
        or_none(&node.roles()),
        age(node.metadata.created(), now),
        info.kubelet_version.clone(),
        node.address("InternalIP"),
        node.address("ExternalIP"),
        or_unknown(&info.os_image),
        or_unknown(&info.kernel_version),
        or_unknown(&info.container_runtime_version),
    ];
    Made::of(texts.into_iter().map(Value::from).collect())
}

impl Node {
    fn status(&self) -> String {
        let ready = match self.status.conditions.iter().rfind(|c| c.r#type == "Ready") {
            Some(condition) if condition.status == "True" => "Ready",
            Some(_) => "NotReady",
            None => "Unknown",
        };
        if self.spec.unschedulable { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
    }

    /// The roles in order, separated by commas.
    fn roles(&self) -> String {
        let role = |(key, value)| match (key, value) {
            (ROLE, value) => Some(value),
            (key, _) => str::strip_prefix(key, ROLE_PREFIX),
        };
        let labels = self.metadata.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let roles: BTreeSet<&str> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
        roles.into_iter().collect::<Vec<_>>().join(",")
    }

    fn address(&self, of: &str) -> String {
        let found = self.status.addresses.iter().find(|a| a.r#type == of);
        found.map_or_else(|| or_none(""), |a| a.address.clone())
    }
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { "<unknown>" } else { text }.to_owned()
}
