//! Rows about what people, autoscalers and other agents do to protected pods and to their nodes: all of it works as on
//! any node.

use super::objects::{AUTONOMY, path};
use super::plan::SLACK;
use super::rows::{POD_GC, Row, deletion, group, is, node, pod_path, row};
use super::stage::Stage;
use crate::client::Request;
use crate::session::STRATEGIC;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::Duration;

/// pod-gc waits before it believes that a node is gone (pkg/controller/podgc, `quarantineTime`).
const QUARANTINE: Duration = Duration::from_secs(40);

/// What a CNI said of its node before the outage.
fn cni_says() -> Value {
    json!({
        "type": "NetworkUnavailable", "status": "False", "reason": "CalicoIsUp", "message": "Calico is running on this node",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

/// Before the outage.
pub fn prepare(stage: &Stage) -> Result<()> {
    let name = format!("/api/v1/nodes/{}/status", node("cni"));
    let patch = json!({"status": {"conditions": [cni_says()]}});
    stage.session().call("PATCH", &name, STRATEGIC, &patch).map(drop)
}

/// In mid-outage.
pub fn act(stage: &Stage) -> Result<()> {
    drain(stage).context("draining a cut node")?;
    delete(stage, pod_path("forced"), &json!({"gracePeriodSeconds": 0})).context("a forced deletion")?;
    delete(stage, format!("/api/v1/nodes/{}", node("removed")), &json!({})).context("removing a cut node")?;
    let shorter = json!({"metadata": {"annotations": {AUTONOMY: "1s"}}});
    stage.patch(&format!("/api/v1/nodes/{}", node("shortened")), &shorter)
}

/// What came of it, while the nodes are still silent.
pub fn look(stage: &Stage) -> Vec<Row> {
    let gone = |name: &str| deletion(stage, name, SLACK).map(drop);
    vec![
        row("kubectl drain of a cut node", "its pods are deleted", gone("drained")),
        row("a forced deletion of a protected pod", "gone at once", ends(stage, "forced", SLACK)),
        row("a duration that is shortened in mid-outage", "emptied", gone("shortened")),
        row("a cut node is removed", "its pods ended by pod-gc", {
            ends(stage, "removed", QUARANTINE + POD_GC * 2 + SLACK)
        }),
        row("a condition that a CNI owns", "as the CNI left it", untouched(stage)),
    ]
}

/// When the nodes are back.
pub fn look_afterwards(stage: &Stage) -> Vec<Row> {
    vec![row(
        "the same, when the node is back",
        "as the CNI left it",
        back(stage).and_then(|()| untouched(stage)),
    )]
}

/// As `kubectl drain` does it: no new pods, and an eviction of those that are there.
fn drain(stage: &Stage) -> Result<()> {
    stage.patch(&format!("/api/v1/nodes/{}", node("drained")), &json!({"spec": {"unschedulable": true}}))?;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": group("drained"), "namespace": super::objects::NAMESPACE},
    });
    let path = path("v1", &format!("pods/{}/eviction", group("drained")));
    stage.session().create(&path, &eviction).map(drop)
}

fn delete(stage: &Stage, path: String, options: &Value) -> Result<()> {
    let request = Request::new("DELETE", path).body("application/json", options.to_string());
    stage.session().send(&request)?.success().map(drop)
}

fn ends(stage: &Stage, name: &str, limit: Duration) -> Result<()> {
    stage.expect("its end", limit, |stage| {
        let record = stage.fleet.record();
        let group = group(name);
        let (_, seen) = record.of(&group, "bare").next().context("no pod")?;
        is(seen.gone, "gone")
    })
}

fn back(stage: &Stage) -> Result<()> {
    stage.expect("the node to be an ordinary one", SLACK, |stage| {
        let node = stage.session().object(&format!("/api/v1/nodes/{}", node("cni")))?;
        is(super::status::condition(&node, "Ready") == Some("True"), "ready")?;
        is(
            node["metadata"]["annotations"]["node.openyurt.io/disconnected-since"].is_null(),
            "without a record",
        )
    })
}

fn untouched(stage: &Stage) -> Result<()> {
    let node = stage.session().object(&format!("/api/v1/nodes/{}", node("cni")))?;
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let held = conditions.find(|condition| condition["type"] == "NetworkUnavailable");
    is(held == Some(&cni_says()), "as it was").with_context(|| format!("it is {held:?}"))
}
