//! The node that the specs see: ready, and with room for no pod. Some ask how many pods the ready nodes take before
//! they make theirs; none of them waits for a pod to run, and nobody would run it.

use crate::client::{Client, Request};
use crate::container::NODE_NAME;
use crate::session::STRATEGIC;
use crate::wait::until;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NODES: &str = "/api/v1/nodes";
const NAME: &str = "specs";

/// The node; it goes when dropped.
pub struct StandIn {
    admin: Client,
}

impl StandIn {
    /// Registers it. The real node, whose kubelet does not run, gets no pods until this one goes.
    pub fn register(admin: &Client) -> Result<StandIn> {
        let node = StandIn { admin: admin.clone() };
        node.cordon(true)?;
        let room = json!({"cpu": "8", "memory": "16Gi", "pods": "0"});
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/os": "linux"}},
            "status": {"capacity": room, "allocatable": room, "conditions": [ready()?]},
        });
        admin.json("POST", NODES, &object).context("making a node")?;
        until("the node to be without taints", Duration::from_secs(30), || {
            let taints = admin.object(&format!("{NODES}/{NAME}"))?["spec"]["taints"].take();
            if taints.is_null() { Ok(()) } else { bail!("it has {taints}") }
        })?;
        Ok(node)
    }

    /// Says that it is still ready, as a kubelet does (a heartbeat counts like a renewed lease).
    pub fn renew(&self) -> Result<()> {
        let status = json!({"status": {"conditions": [ready()?]}});
        self.admin.json("PATCH", &format!("{NODES}/{NAME}/status"), &status).map(drop)
    }

    /// Whether the scheduler leaves the real node alone; there is none when nothing has registered it.
    fn cordon(&self, cordoned: bool) -> Result<()> {
        let spec = json!({"spec": {"unschedulable": cordoned}}).to_string();
        let request = Request::new("PATCH", format!("{NODES}/{NODE_NAME}")).body(STRATEGIC, spec);
        let answer = self.admin.send(&request)?;
        if answer.status == 404 { Ok(()) } else { answer.success().map(drop) }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let removed = self.admin.send(&Request::new("DELETE", format!("{NODES}/{NAME}")));
        if let Err(error) = removed.map(drop).and(self.cordon(false)) {
            eprintln!("e2e: the node of the specs is left behind: {error:#}");
        }
    }
}

fn ready() -> Result<Value> {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0)?.format(&Rfc3339)?;
    Ok(json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}))
}
