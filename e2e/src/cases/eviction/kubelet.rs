//! One outage with the real kubelet and hub: the node is cut off for longer than the eviction takes, then the
//! link is back. No pod was replaced or restarted, and the Service led to all of them throughout.

use super::fleet::Fleet;
use super::objects::{AUTONOMY, NodeSpec};
use super::plan::{SLACK, TOLERATION};
use crate::cases::cold_boot::not_restarted;
use crate::cases::controller::Controller;
use crate::client::Client;
use crate::container::NODE_NAME;
use crate::link::{self, Cut};
use crate::wait::until_slowly;
use crate::workload::{NAMESPACE, PODS, object, web};
use crate::world::{HOMECOMING, Pods, SETTLE, World};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A kubelet renews its lease every 10 s, so that this is the shortest grace that a healthy node bears well.
const GRACE: Duration = Duration::from_secs(16);
/// After the stock eviction was due.
const MARGIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(300);
const NAME: &str = "kept";
const COMPANION: &str = "companion";
const REPLICAS: usize = 2;
/// The pods of the outage: those that every case has, and those that a silent node loses after [`TOLERATION`].
const COUNT: usize = PODS + REPLICAS;

/// Runs the outage; leaves the node online.
pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    let outcome = super::hurried(world, GRACE, outage);
    outcome.and(link::heal().and_then(|()| clean_up(world)))
}

fn outage(world: &mut World) -> Result<()> {
    // A cloud of which every node is silent takes itself for the cause and may evict nobody
    // (`node_lifecycle_controller.go`, `handleDisruption`).
    let fleet = Fleet::start(&world.cluster.admin);
    fleet.add(&[companion()])?;
    let outcome = with_companion(world);
    drop(fleet);
    let path = format!("/api/v1/nodes/{COMPANION}");
    outcome.and(world.cluster.admin.json("DELETE", &path, &json!({})).map(drop))
}

/// A node beside the real one that answers all the time, and takes no pods.
fn companion() -> NodeSpec {
    let name = COMPANION.to_string();
    NodeSpec { name: name.clone(), group: name.clone(), wave: name, pool: None, autonomy: None }
}

fn with_companion(world: &mut World) -> Result<()> {
    let mut controller = Controller::install(world, GRACE - Duration::from_secs(4))?;
    controller.start()?;
    controller.wait_for_leader()?;
    let admin = world.cluster.admin.clone();
    let autonomy = json!({"metadata": {"annotations": {AUTONOMY: "24h"}}});
    admin.json("PATCH", &node(), &autonomy)?;
    admin.json("POST", &path("apps/v1", "deployments"), &deployment())?;
    admin.json("POST", &path("v1", "services"), &service())?;
    until_slowly("the companion to be ready", SLACK, LOOK, || is_ready(&admin, COMPANION))?;
    let before = world.agree(COUNT, SETTLE + SLACK)?;
    served(&admin, &before, SLACK).context("before the outage")?;
    link::cut(Cut::BlackHole)?;
    let start = Instant::now();
    until_slowly("the cloud to evict from the node", GRACE + SLACK, LOOK, || is_tainted(&admin))?;
    served(&admin, &before, SLACK).context("in mid-outage")?;
    std::thread::sleep(TOLERATION + MARGIN);
    served(&admin, &before, Duration::ZERO).context("at the end of the outage")?;
    world.report.seconds("outage that a real node's pods outlast", start.elapsed(), None);
    link::heal()?;
    let after = world.agree(COUNT, HOMECOMING)?;
    crate::world::same_pods(&before, &after)?;
    not_restarted(&before, &after)?;
    served(&admin, &after, SLACK).context("after the outage")?;
    until_slowly("the node to be an ordinary one again", SLACK, LOOK, || is_ordinary(&admin))
}

/// An error unless the Service leads to every pod of the Deployment within `limit`.
fn served(admin: &Client, pods: &Pods, limit: Duration) -> Result<()> {
    let prefix = format!("{NAME}-");
    let wanted: BTreeSet<&str> =
        pods.iter().filter(|(name, _)| name.starts_with(&prefix)).map(|(_, pod)| pod.uid.as_str()).collect();
    let selector = format!("labelSelector=kubernetes.io%2Fservice-name%3D{NAME}");
    let slices = format!("{}?{selector}", path("discovery.k8s.io/v1", "endpointslices"));
    until_slowly("the Service to lead to all its pods", limit, LOOK, || {
        let list = admin.object(&slices)?;
        let slices = list["items"].as_array().into_iter().flatten();
        let endpoints: Vec<&Value> =
            slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten()).collect();
        let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let ready: BTreeSet<&str> = ready.filter_map(|it| it["targetRef"]["uid"].as_str()).collect();
        if ready != wanted || wanted.len() != REPLICAS {
            bail!("it leads to {ready:?} of {wanted:?}");
        }
        Ok(())
    })
}

fn is_ready(admin: &Client, name: &str) -> Result<()> {
    let node = admin.object(&format!("/api/v1/nodes/{name}"))?;
    match super::status::condition(&node, "Ready") {
        Some("True") => Ok(()),
        other => bail!("its condition Ready is {other:?}"),
    }
}

fn is_tainted(admin: &Client) -> Result<()> {
    let node = admin.object(&node())?;
    match super::stage::is_unreachable(&node) {
        true => Ok(()),
        false => bail!("its taints are {}", node["spec"]["taints"]),
    }
}

/// Ready, without the taints and the condition of an outage.
fn is_ordinary(admin: &Client) -> Result<()> {
    let node = admin.object(&node())?;
    let ready = super::status::condition(&node, "Ready") == Some("True");
    let unavailable = super::status::condition(&node, "NetworkUnavailable") == Some("True");
    let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
    if !ready || unavailable || taints > 0 {
        bail!("ready {ready}, network unavailable {unavailable}, {taints} taints");
    }
    Ok(())
}

fn deployment() -> Value {
    let silent = |condition: &str| {
        json!({
            "key": format!("node.kubernetes.io/{condition}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": TOLERATION.as_secs(),
        })
    };
    let spec = json!({
        "containers": [web()],
        "terminationGracePeriodSeconds": 1,
        "tolerations": [silent("not-ready"), silent("unreachable")],
    });
    let labels = json!({"app": NAME});
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let spec = json!({"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template});
    object("apps/v1", "Deployment", NAME, json!({"spec": spec}))
}

fn service() -> Value {
    let spec = json!({"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": 8080}]});
    object("v1", "Service", NAME, json!({"spec": spec}))
}

fn clean_up(world: &World) -> Result<()> {
    let admin = &world.cluster.admin;
    let ordinary = json!({"metadata": {"annotations": {AUTONOMY: null}}});
    admin.json("PATCH", &node(), &ordinary)?;
    for (version, resource) in [("apps/v1", "deployments"), ("v1", "services")] {
        admin.json("DELETE", &format!("{}/{NAME}", path(version, resource)), &json!({}))?;
    }
    world.agree(PODS, HOMECOMING).map(drop)
}

fn node() -> String {
    format!("/api/v1/nodes/{NODE_NAME}")
}

fn path(version: &str, resource: &str) -> String {
    let root = if version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{version}/namespaces/{NAMESPACE}/{resource}")
}
