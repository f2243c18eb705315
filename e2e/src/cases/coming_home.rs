//! Scenario 10: while the node is cut off (and has rebooted), the cloud deletes, force-deletes and updates
//! pods, recreates a ConfigMap and assigns a pod. One sync later the node equals the cloud, nothing was
//! restarted with no need, and the next offline boot brings nothing back.

use super::cold_boot::not_restarted;
use crate::client::{Client, Request};
use crate::container;
use crate::link;
use crate::wait::until;
use crate::workload::{NAMESPACE, PODS, bare_pod, object};
use crate::world::{HOMECOMING, Pods, SETTLE, World};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::time::Instant;

const DELETED: &str = "home-deleted";
const FORCED: &str = "home-forced";
const UPDATED: &str = "home-updated";
const CONFIGURED: &str = "home-configured";
const ASSIGNED: &str = "home-assigned";
const CONFIG_MAP: &str = "home";
const MARK: &str = "e2e.yurt/updated";

/// Pods before the outage and after it: two go, one comes.
const BEFORE: usize = PODS + 4;
const AFTER: usize = PODS + 3;

pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    create(world)?;
    let outcome = story(world);
    // The next case counts the pods that every case starts with.
    link::heal().and_then(|()| clean_up(world)).and(outcome)
}

fn story(world: &mut World) -> Result<()> {
    world.agree(BEFORE, SETTLE)?;
    world.reboot_offline(BEFORE)?;
    let offline = world.settled_on_node(BEFORE, SETTLE)?;
    change(&world.cluster.admin)?;
    link::heal()?;
    let start = Instant::now();
    let after = world.agree(AFTER, HOMECOMING)?;
    world.report.seconds("coming home, link back to agreement", start.elapsed(), None);
    check_pods(&offline, &after)?;
    check_config_map(world)?;
    world.reboot_offline(AFTER)?;
    let again = world.settled_on_node(AFTER, SETTLE).context("the next offline boot")?;
    check_names(&again).context("the next offline boot")?;
    link::heal()?;
    world.agree(AFTER, HOMECOMING).map(drop)
}

fn create(world: &World) -> Result<()> {
    let admin = &world.cluster.admin;
    admin.json("POST", &config_maps(), &config_map("before"))?;
    for (name, config_map) in
        [(DELETED, None), (FORCED, None), (UPDATED, None), (CONFIGURED, Some(CONFIG_MAP))]
    {
        admin.json("POST", &pods(""), &bare_pod(name, config_map))?;
    }
    Ok(())
}

/// What the cloud does while nobody on the node hears of it.
fn change(admin: &Client) -> Result<()> {
    admin.json("DELETE", &pods(DELETED), &json!({}))?;
    admin.json("DELETE", &pods(FORCED), &json!({"gracePeriodSeconds": 0}))?;
    admin.json("PATCH", &pods(UPDATED), &json!({"metadata": {"annotations": {MARK: "yes"}}}))?;
    admin.json("DELETE", &format!("{}/{CONFIG_MAP}", config_maps()), &json!({}))?;
    admin.json("POST", &config_maps(), &config_map("after"))?;
    admin.json("POST", &pods(""), &bare_pod(ASSIGNED, None)).map(drop)
}

fn check_pods(offline: &Pods, after: &Pods) -> Result<()> {
    check_names(after)?;
    not_restarted(offline, after)?;
    let updated = after.get(UPDATED).with_context(|| format!("{UPDATED} is gone"))?;
    if updated.annotations.get(MARK).map(String::as_str) != Some("yes") {
        bail!("{UPDATED} has not the annotation that the cloud gave it");
    }
    Ok(())
}

/// In the view and in the kernel: the assigned pod is there, the deleted ones are not.
fn check_names(pods: &Pods) -> Result<()> {
    for gone in [DELETED, FORCED] {
        if pods.contains_key(gone) {
            bail!("{gone} is back");
        }
    }
    if !pods.contains_key(ASSIGNED) {
        bail!("{ASSIGNED} is not there");
    }
    until("only the pods of the cloud to run", SETTLE, || {
        let strangers = container::running();
        let strangers = strangers.keys().filter(|id| pods.values().all(|pod| pod.container != **id));
        match strangers.count() {
            0 => Ok(()),
            count => bail!("{count} containers run that belong to no pod"),
        }
    })
}

/// The hub gives the kubelet the ConfigMap that the cloud has now, asked for as the kubelet does.
fn check_config_map(world: &World) -> Result<()> {
    let path = format!("{}?fieldSelector=metadata.name%3D{CONFIG_MAP}&resourceVersion=0", config_maps());
    let wanted = world.cluster.admin.object(&format!("{}/{CONFIG_MAP}", config_maps()))?;
    let hub = world.hub()?;
    until("the recreated ConfigMap", HOMECOMING, || {
        let list = hub.object(&path)?;
        let held = &list["items"][0];
        if held["metadata"]["uid"] != wanted["metadata"]["uid"] || held["data"] != wanted["data"] {
            bail!("the hub has {held}");
        }
        Ok(())
    })
}

fn clean_up(world: &World) -> Result<()> {
    let admin = &world.cluster.admin;
    for path in [DELETED, FORCED, UPDATED, CONFIGURED, ASSIGNED].map(pods) {
        let request = Request::new("DELETE", &path).body("application/json", "{}");
        let answer = admin.send(&request)?;
        if answer.status != 404 {
            answer.success().with_context(|| request.shown())?;
        }
    }
    admin.json("DELETE", &format!("{}/{CONFIG_MAP}", config_maps()), &json!({}))?;
    world.agree(PODS, HOMECOMING).map(drop)
}

fn pods(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}").trim_end_matches('/').to_string()
}

fn config_maps() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

fn config_map(value: &str) -> Value {
    object("v1", "ConfigMap", CONFIG_MAP, json!({"data": {"when": value}}))
}
