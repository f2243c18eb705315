//! What endpoints show of a pod. Pure.

use std::net::IpAddr;

use serde_json::Value;

/// A pod as its endpoints see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// The addresses that it has.
    pub addresses: Vec<IpAddr>,
    /// The addresses that it had when the cloud last heard of it.
    pub former: Vec<IpAddr>,
    /// Its condition Ready is True.
    pub ready: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// It is deleted, or all of its containers have ended for good.
    pub ended: bool,
    /// The cloud knew this as of that version: what it wrote later takes it into account. `None`: nothing that it
    /// wrote does, as far as the node knows.
    pub known_at: Option<u64>,
}

impl PodState {
    /// The state of `pod`, of which the cloud last knew `base` (null: nothing). A pod that is no object is deleted.
    pub fn of(pod: &Value, base: &Value) -> Self {
        let phase = pod.pointer("/status/phase").and_then(Value::as_str);
        PodState {
            addresses: addresses(pod),
            former: addresses(base),
            ready: is_ready(pod),
            terminating: pod.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string),
            // `isPodTerminal` of `k8s.io/endpointslice/util/controller_utils.go`.
            ended: !pod.is_object() || matches!(phase, Some("Failed" | "Succeeded")),
            known_at: None,
        }
    }

    /// The addresses of the same family as `address`.
    pub fn like(&self, address: IpAddr) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied().filter(move |a| a.is_ipv4() == address.is_ipv4())
    }

    /// Whether this is, or was, an address of the pod.
    pub fn has_or_had(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.former.contains(&address)
    }
}

fn addresses(pod: &Value) -> Vec<IpAddr> {
    let all = pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
    let all = all.filter_map(|ip| ip.get("ip"));
    let first = pod.pointer("/status/podIP");
    let mut found: Vec<IpAddr> =
        all.chain(first).filter_map(|ip| ip.as_str().and_then(|ip| ip.parse().ok())).collect();
    let mut seen = Vec::new();
    found.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    found
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let is = |condition: &Value, field: &str, value: &str| {
        condition.get(field).and_then(Value::as_str) == Some(value)
    };
    conditions.into_iter().any(|c| is(c, "type", "Ready") && is(c, "status", "True"))
}
