//! The node's own objects: Node, CSINode, Lease, and the informers that a kubelet always has.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Machine, wire::Reply};
use crate::{apiserver::timestamp, objects};

/// Starts everything that does not depend on pods.
pub fn begin(machine: &Arc<Machine>) {
    let node = &machine.options.node;
    machine.reflect("/api/v1/services", "fieldSelector=spec.clusterIP%21%3DNone");
    machine.reflect("/api/v1/nodes", &format!("fieldSelector=metadata.name%3D{node}"));
    machine.reflect("/apis/storage.k8s.io/v1/csidrivers", "");
    machine.reflect("/apis/node.k8s.io/v1/runtimeclasses", "");
    let m = machine.clone();
    machine.spawn(async move { register(&m).await });
    let m = machine.clone();
    machine.spawn(async move { storage_node(&m).await });
    let m = machine.clone();
    machine.spawn(async move { renew_lease(&m).await });
    let m = machine.clone();
    machine.spawn(async move { starting(&m).await });
}

async fn register(machine: &Machine) {
    let node = &machine.options.node;
    let slices = format!("/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3D{node}");
    machine
        .wire
        .delete("deletecollection", &slices, &json!({"kind": "DeleteOptions", "apiVersion": "v1"}))
        .await
        .ok();
    let path = format!("/api/v1/nodes/{node}");
    machine.wire.get("get", &path).await.ok();
    until_accepted(machine, || async {
        let reply = machine.wire.write("create", "/api/v1/nodes", &objects::node(node)).await?;
        if reply.code == 409 {
            return machine.wire.get("get", &path).await;
        }
        Ok(reply)
    })
    .await;
    let status = node_status(machine);
    until_accepted(machine, || async {
        machine.wire.patch(&format!("{path}/status?timeout=10s"), &status).await
    })
    .await;
    machine.registered.cancel();
}

fn node_status(machine: &Machine) -> Value {
    let now = timestamp(0);
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    json!({"status": {
        "conditions": [ready],
        "nodeInfo": {"bootID": format!("boot-{}", machine.boot), "kubeletVersion": "v1.34.4"},
    }})
}

async fn storage_node(machine: &Machine) {
    let node = &machine.options.node;
    until_accepted(machine, || async {
        let reply = machine.wire.get("get", &format!("/apis/storage.k8s.io/v1/csinodes/{node}?resourceVersion=0")).await?;
        if reply.code != 404 {
            return Ok(reply);
        }
        machine.registered.cancelled().await;
        let object = json!({
            "kind": "CSINode", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": node}, "spec": {"drivers": []},
        });
        machine.wire.write("create", "/apis/storage.k8s.io/v1/csinodes", &object).await
    })
    .await;
}

async fn renew_lease(machine: &Machine) {
    machine.registered.cancelled().await;
    let node = &machine.options.node;
    let all = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let own = format!("{all}/{node}?timeout=10s");
    let mut held = Value::Null;
    loop {
        if held.is_null() {
            let reply = machine.wire.get("get", &own).await;
            held = match reply.map(|r| (r.code, r.object)) {
                Ok((200, lease)) => lease,
                Ok((404, _)) => accepted(
                    machine
                        .wire
                        .write("create", &format!("{all}?timeout=10s"), &lease(machine, Value::Null))
                        .await,
                ),
                _ => Value::Null,
            };
        } else {
            held = accepted(machine.wire.write("update", &own, &lease(machine, held)).await);
        }
        tokio::time::sleep(machine.options.lease_interval).await;
    }
}

fn accepted(reply: anyhow::Result<Reply>) -> Value {
    reply.ok().filter(|r| r.code < 300).map_or(Value::Null, |r| r.object)
}

fn lease(machine: &Machine, held: Value) -> Value {
    let mut lease = if held.is_null() { objects::lease(&machine.options.node) } else { held };
    lease["spec"]["renewTime"] = timestamp(0).replace('Z', ".000000Z").into();
    lease
}

async fn starting(machine: &Machine) {
    let node = &machine.options.node;
    // Named by the client, as client-go's recorder does it (tools/record/event.go): object and time in hex.
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let event = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {"name": format!("{node}.{nanos:x}"), "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": node, "uid": node},
        "reason": "Starting", "message": "Starting kubelet.", "type": "Normal", "count": 1,
        "source": {"component": "kubelet", "host": node},
        "firstTimestamp": timestamp(0), "lastTimestamp": timestamp(0),
    });
    until_accepted(machine, || machine.wire.write("create", "/api/v1/namespaces/default/events", &event))
        .await;
}

/// Tries again until the answer is a success, waiting as the server asks or a little longer each time.
pub async fn until_accepted<F: Future<Output = anyhow::Result<Reply>>>(
    machine: &Machine,
    attempt: impl Fn() -> F,
) -> Reply {
    let mut backoff = machine.backoff();
    loop {
        let mut wait = backoff.next().unwrap_or_default();
        match attempt().await {
            Ok(reply) if reply.code < 300 => return reply,
            Ok(reply) => wait = reply.retry_after.unwrap_or(wait).min(wait),
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
    }
}
