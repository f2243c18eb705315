//! Rows beside the matrix: what has to work although nodes are protected, and what must not be protected.
//! They share one outage.

use super::objects::{self, AUTONOMY, BEHAVIOUR, GROUP, NAMESPACE, NodeSpec, path};
use super::people;
use super::plan::{GRACE, SHORT, SLACK, TOLERATION};
use super::stage::Stage;
use crate::client::Request;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::time::{Duration, Instant};

/// After the stock eviction was due.
const MARGIN: Duration = Duration::from_secs(4);

/// A row's name, what it expects, and what came of it.
pub struct Row {
    /// What the row is about.
    pub name: &'static str,
    /// What is expected.
    pub expected: &'static str,
    /// Nothing when it came, else what came instead.
    pub got: Result<()>,
}

/// A pool of two nodes, which are not autonomous by themselves; it is cut as a whole and stays so.
const POOL: &str = "rows-pool";
/// How long its guard protects it.
const POOL_MAXIMUM: Duration = SHORT;
/// The period of pod-gc (pkg/controller/podgc, `gcCheckPeriod`).
pub const POD_GC: Duration = Duration::from_secs(20);
/// Marks hold whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

/// The nodes of the rows: name, autonomy.
const NODES: [(&str, Option<&str>); 16] = [
    ("plain", None),
    ("switched-on", None),
    ("unparsable", Some("soon")),
    ("deleted", Some("24h")),
    ("tainted", Some("24h")),
    ("rolling", Some("24h")),
    ("rolling-well", None),
    ("unready-well", Some("24h")),
    ("crashing", Some("24h")),
    ("drained", Some("24h")),
    ("forced", Some("24h")),
    ("removed", Some("24h")),
    ("shortened", Some("24h")),
    ("cni", Some("24h")),
    ("pool-0", None),
    ("pool-1", None),
];

/// Runs the rows; their nodes belong to that wave.
pub fn run(stage: &Stage, wave: &str) -> Result<Vec<Row>> {
    set_up(stage, wave)?;
    let silent: Vec<String> =
        NODES.iter().filter(|(name, _)| !name.ends_with("-well")).map(|(name, _)| node(name)).collect();
    stage.fleet.silence(silent.iter().cloned());
    let since = Instant::now();
    let tainted = stage.tainted(&silent, GRACE + SLACK)?;
    act(stage)?;
    people::act(stage)?;
    stage.wait_until(tainted + TOLERATION + MARGIN);
    let mut rows = look(stage);
    rows.extend(people::look(stage));
    let beyond =
        row("a pool that stays cut beyond its maximum", "kept, emptied after 40 s", emptied(stage, since));
    rows.push(beyond);
    // A node that was removed says nothing any more.
    stage.fleet.answer(silent.into_iter().filter(|name| *name != node("removed")));
    rows.push(row("autonomy switched on in mid-outage", "kept, the same pod ready after it", home(stage)));
    rows.extend(people::look_afterwards(stage));
    Ok(rows)
}

fn set_up(stage: &Stage, wave: &str) -> Result<()> {
    let nodes = NODES.map(|(name, autonomy)| NodeSpec {
        name: node(name),
        group: group(name),
        wave: wave.to_string(),
        pool: name.starts_with("pool-").then(|| POOL.to_string()),
        autonomy: autonomy.map(str::to_string),
    });
    stage.create_nodes(&nodes)?;
    people::prepare(stage)?;
    let maximum = format!("{}s", POOL_MAXIMUM.as_secs());
    stage.create_pool(POOL, &json!({"guard": {"maxDuration": maximum}}))?;
    let mut objects = vec![(path("apps/v1", "deployments"), objects::deployment(&group("rolling"), 1))];
    for (name, _) in NODES.iter().filter(|(name, _)| !name.starts_with("rolling")) {
        let mut pod = objects::pod(&group(name), &group(name), "bare", TOLERATION);
        if *name == "crashing" {
            pod["metadata"]["annotations"] = json!({BEHAVIOUR: "crashing"});
        }
        objects.push((path("v1", "pods"), pod));
        objects.push((path("v1", "services"), objects::service(&group(name))));
    }
    stage.create(objects)?;
    stage.expect("the rows' pods to run", SLACK + SLACK, |stage| {
        for (name, _) in NODES.iter().filter(|(name, _)| !matches!(*name, "rolling-well" | "crashing")) {
            only_pod(stage, name).and_then(|pod| is(pod.ready, "ready")).context(*name)?;
        }
        only_pod(stage, "crashing").and_then(|pod| is(!pod.node.is_empty(), "bound"))
    })
}

/// What people and owners do during the outage.
fn act(stage: &Stage) -> Result<()> {
    let annotate = json!({"metadata": {"annotations": {AUTONOMY: "24h"}}});
    stage.patch(&format!("/api/v1/nodes/{}", node("switched-on")), &annotate)?;
    let fails = json!({"metadata": {"annotations": {BEHAVIOUR: "unready"}}});
    stage.patch(&pod_path("unready-well"), &fails)?;
    // The pods are protected by now, so that deleting one goes against its protection.
    stage.expect("the pods of autonomous nodes to be served again", SLACK, |stage| {
        let (served, record) = (stage.served()?, stage.fleet.record());
        let deleted = group("deleted");
        let (uid, _) = record.of(&deleted, "bare").next().context("no pod")?;
        is(served.contains(uid), "served")
    })?;
    let well = json!({"metadata": {"labels": {GROUP: group("rolling")}}});
    stage.patch(&format!("/api/v1/nodes/{}", node("rolling-well")), &well)?;
    take_out_of_service(stage)?;
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"e2e.yurt/version": "2"}}}}});
    let deployment = format!("deployments/{}-deployment", group("rolling"));
    stage.patch(&path("apps/v1", &deployment), &template)?;
    let request = Request::new("DELETE", pod_path("deleted")).body("application/json", "{}");
    let answer = stage.session().send(&request)?;
    answer.success().context("a user's deletion of a protected pod").map(drop)
}

/// A person says that a silent node is dead, as the documentation of Kubernetes asks for before stateful pods move.
fn take_out_of_service(stage: &Stage) -> Result<()> {
    let name = format!("/api/v1/nodes/{}", node("tainted"));
    let add = json!([{"op": "add", "path": "/spec/taints/-", "value": {
        "key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}}]);
    stage.session().call("PATCH", &name, "application/json-patch+json", &add).map(drop)
}

fn look(stage: &Stage) -> Vec<Row> {
    vec![
        row("a node without autonomy", "evicted", gone(stage, "plain")),
        row("an unparsable duration", "evicted, an Event on the node", unparsable(stage)),
        row("a person's NoExecute taint on a silent node", "evicted, then ended by pod-gc", ended(stage)),
        row("kubectl delete of a protected pod", "deleted", gone(stage, "deleted")),
        row("a rolling update by the owner", "old pod deleted, new one ready", rolled(stage)),
        row("an unready pod of a connected node", "out of the Service", dropped(stage)),
        row("a crash-looping pod of a cut node", "kept, never ready", crashing(stage)),
        row("a pool that is cut, its nodes not autonomous", "kept", pool_pods(stage).map(drop)),
    ]
}

pub fn row(name: &'static str, expected: &'static str, got: Result<()>) -> Row {
    Row { name, expected, got }
}

fn gone(stage: &Stage, name: &str) -> Result<()> {
    deletion(stage, name, SLACK).map(drop)
}

/// The pod of a node that is out of service is deleted and does not stay Terminating: pod-gc looks every 20 s.
fn ended(stage: &Stage) -> Result<()> {
    deletion(stage, "tainted", SLACK)?;
    stage.expect("its end", POD_GC + SLACK, |stage| {
        let record = stage.fleet.record();
        let group = group("tainted");
        let (_, seen) = record.of(&group, "bare").next().context("no pod")?;
        is(seen.gone, "gone")
    })
}

/// When the deletion of the one pod of a group was seen.
pub fn deletion(stage: &Stage, name: &str, limit: Duration) -> Result<Instant> {
    stage.expect("its deletion", limit, |stage| {
        let record = stage.fleet.record();
        let group = group(name);
        let (_, seen) = record.of(&group, "bare").next().context("no pod")?;
        seen.deleted.context("it is not deleted")
    })
}

fn unparsable(stage: &Stage) -> Result<()> {
    gone(stage, "unparsable")?;
    stage.expect("an Event", SLACK, |stage| {
        let selector = format!("involvedObject.kind%3DNode,involvedObject.name%3D{}", node("unparsable"));
        let list = stage.session().object(&format!("/api/v1/events?fieldSelector={selector}"))?;
        let events = list["items"].as_array().into_iter().flatten();
        let mut texts = events.filter_map(|event| event["message"].as_str());
        is(texts.any(|text| text.contains("soon")), "told in an Event that quotes the value")
    })
}

fn rolled(stage: &Stage) -> Result<()> {
    stage.expect("the update", SLACK, |stage| {
        let record = stage.fleet.record();
        let group = group("rolling");
        let pods: Vec<_> = record.of(&group, "deployment").map(|(_, seen)| seen).collect();
        is(
            pods.iter().any(|pod| pod.node == node("rolling") && pod.deleted.is_some()),
            "rid of the old pod",
        )?;
        is(pods.iter().any(|pod| pod.node == node("rolling-well") && pod.ready), "running the new pod")
    })
}

fn dropped(stage: &Stage) -> Result<()> {
    let (served, record) = (stage.served()?, stage.fleet.record());
    let group = group("unready-well");
    let (uid, seen) = record.of(&group, "bare").next().context("no pod")?;
    is(!served.contains(uid), "out of the Service")?;
    is(!seen.ready, "not ready")?;
    is(seen.deleted.is_none(), "there")
}

fn crashing(stage: &Stage) -> Result<()> {
    let pod = only_pod(stage, "crashing")?;
    is(!pod.ever_ready, "never ready")
}

/// The pods of the pool's nodes; an error when one was deleted.
fn pool_pods(stage: &Stage) -> Result<[super::record::Seen; 2]> {
    Ok([only_pod(stage, "pool-0")?, only_pod(stage, "pool-1")?])
}

/// Both nodes' pods go, and not before the guard's time is over.
fn emptied(stage: &Stage, since: Instant) -> Result<()> {
    for name in ["pool-0", "pool-1"] {
        let after = deletion(stage, name, POOL_MAXIMUM + SLACK)?.saturating_duration_since(since);
        is(after + ROUNDING >= POOL_MAXIMUM, "protected up to the maximum")?;
    }
    Ok(())
}

fn home(stage: &Stage) -> Result<()> {
    only_pod(stage, "switched-on")?;
    stage.expect("its pod to be ready", SLACK, |stage| {
        only_pod(stage, "switched-on").and_then(|pod| is(pod.ready, "ready"))
    })
}

/// The one pod of a group; an error when it was deleted.
fn only_pod(stage: &Stage, name: &str) -> Result<super::record::Seen> {
    let (record, group) = (stage.fleet.record(), group(name));
    let workload = if name == "rolling" { "deployment" } else { "bare" };
    let (_, seen) = record.of(&group, workload).next().context("no pod")?;
    is(seen.deleted.is_none(), "there")?;
    Ok(seen.clone())
}

pub fn is(met: bool, what: &str) -> Result<()> {
    if met { Ok(()) } else { bail!("it is not {what}") }
}

pub fn node(name: &str) -> String {
    format!("rows-{name}")
}

pub fn group(name: &str) -> String {
    format!("rows-{name}")
}

pub fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{}", group(name))
}
