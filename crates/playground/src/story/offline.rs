//! Two sides that cannot hear each other: the node writes, the cloud changes.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use yurt_testkit::{client::Answer, objects};

use super::{NAMESPACE, NODE_OBJECT, PODS_OF_NODE, SOON, items, ready};
use crate::{
    report::{Broken, Report},
    stage::{NODE, PODS, Stage, read, succeeded},
    wait::until,
};

/// The node keeps its own books while it is alone.
pub async fn write_offline(stage: &mut Stage, report: &mut Report) -> Result<(), Broken> {
    report.chapter(
        "5. Write offline",
        "What the node owns it may write: on disk before the kubelet hears \"yes\", to be delivered later.",
    );
    report.check("the node's status is taken, and reads back as written", node_status(stage)).await;
    report.check("the pods' new addresses are taken, and read back as written", pod_statuses(stage)).await;
    report.check("the lease is renewed and the kubelet's event is taken", lease_and_event(stage)).await;
    report.check("what only the cloud can do is refused, not pretended", refused(stage)).await;
    report
        .check("what the node never read is \"unknown\" (503), not \"does not exist\" (404)", unknown(stage))
        .await;
    report.check("the operator who could list the pods online still can", operator(stage)).await;
    report.check("the cloud has heard of none of it; the journal holds it", journal(stage)).await;
    report.check("kill -9 at this moment loses none of it", killed(stage)).await;
    report.turn_page()
}

async fn node_status(stage: &Stage) -> Result<&'static str> {
    stage.kubelet.wait_registered(SOON).await?;
    let node = read(&stage.local, NODE_OBJECT).await?;
    let boot = &node["status"]["nodeInfo"]["bootID"];
    ensure!(boot == "boot-2" && ready(&node) == "True", "{boot}, Ready {}", ready(&node));
    Ok("Ready, boot-2")
}

async fn pod_statuses(stage: &Stage) -> Result<String> {
    stage.kubelet.wait_reported(SOON).await?;
    let list = read(&stage.local, PODS_OF_NODE).await?;
    let pods = stage.kubelet.pods();
    for pod in &pods {
        let held = items(&list).iter().find(|p| p["metadata"]["uid"] == pod.uid.as_str());
        let address = held.map(|p| &p["status"]["podIP"]);
        ensure!(address.is_some_and(|a| a == pod.address.as_str()), "{}: {address:?}", pod.name);
    }
    let web = pods.first().context("no pods")?;
    Ok(format!("{} is {} now, and so on", web.name, web.address))
}

async fn lease_and_event(stage: &Stage) -> Result<&'static str> {
    let taken = |verb: &str, part: &str| {
        let taken =
            stage.kubelet.record().matching(|s| s.verb == verb && s.path.contains(part) && s.status < 300);
        ensure!(taken.iter().any(|s| s.status >= 200), "no {verb} of {part} was taken");
        Ok(())
    };
    until(SOON, async || taken("update", "/leases/edge-1").and(taken("create", "/events"))).await?;
    Ok("")
}

async fn refused(stage: &Stage) -> Result<&'static str> {
    let map = objects::config_map("default", "from-the-node", &[("a", "b")]);
    retriable(&stage.local.post(&format!("{NAMESPACE}/configmaps"), &map).await?)?;
    Ok("a new ConfigMap: 503, try again later")
}

async fn unknown(stage: &Stage) -> Result<&'static str> {
    retriable(&stage.local.get(&format!("{NAMESPACE}/configmaps/never-read")).await?)?;
    Ok("")
}

fn retriable(answer: &Answer) -> Result<()> {
    ensure!(
        answer.code() == 503 && !answer.header("retry-after").is_empty(),
        "{}: {}",
        answer.code(),
        answer.text()
    );
    Ok(())
}

async fn operator(stage: &Stage) -> Result<String> {
    let answer = succeeded(stage.operator.get("/api/v1/pods").await?)?;
    let count = items(&answer.json()).len();
    ensure!(count == PODS, "{count} pods");
    let warning = answer.header("warning").split('"').nth(1).context("no warning, though it may be old")?;
    Ok(format!("{count} pods, and a warning for kubectl to print: {warning}"))
}

async fn journal(stage: &Stage) -> Result<String> {
    let node = read(&stage.admin, NODE_OBJECT).await?;
    ensure!(node["status"]["nodeInfo"]["bootID"] == "boot-1", "the cloud has {}", node["status"]["nodeInfo"]);
    let entries = entries(stage).await?;
    // The node, every pod, and the event.
    ensure!(entries >= PODS as u64 + 2, "{entries} entries");
    Ok(format!("{entries} entries"))
}

async fn entries(stage: &Stage) -> Result<u64> {
    stage.status().await?["journal"]["length"].as_u64().context("no journal in the status")
}

async fn killed(stage: &mut Stage) -> Result<String> {
    let before = entries(stage).await?;
    stage.hub.kill().await;
    stage.hub.spawn();
    stage.hub.until_ready().await?;
    let after = entries(stage).await?;
    ensure!(after == before, "{before} entries before, {after} after");
    pod_statuses(stage).await?;
    node_status(stage).await?;
    Ok(format!("{after} entries, every write reads back"))
}

/// People and controllers go on with their work, and the node hears nothing of it.
pub async fn meanwhile_in_the_cloud(stage: &mut Stage, report: &mut Report) -> Result<(), Broken> {
    report.chapter("6. Meanwhile in the cloud", "Life goes on there. The node cannot hear of it yet.");
    report.check("the node controller gives up on the node", given_up(stage)).await;
    report.check("somebody deletes web-3", deleted(stage)).await;
    report.check("somebody creates web-10 on this node", created(stage)).await;
    report.check("somebody changes the ConfigMap of web-7", changed(stage)).await;
    report.check("the node sees none of it, and serves what it knew", unheard(stage)).await;
    report.turn_page()
}

async fn given_up(stage: &Stage) -> Result<&'static str> {
    let gone = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"});
    let patch = json!({"status": {"conditions": [gone]}});
    succeeded(stage.admin.patch(&format!("{NODE_OBJECT}/status"), "strategic-merge-patch", &patch).await?)?;
    Ok("Ready is Unknown")
}

async fn deleted(stage: &Stage) -> Result<&'static str> {
    let answer = stage.admin.delete(&format!("{NAMESPACE}/pods/web-3"), &json!(null)).await?;
    let marked = succeeded(answer)?.json();
    ensure!(marked["metadata"]["deletionTimestamp"].is_string(), "it is not marked: {}", marked["metadata"]);
    Ok("marked; it waits for its kubelet")
}

async fn created(stage: &Stage) -> Result<&'static str> {
    for object in objects::pod_with_volumes("default", "web-10", NODE) {
        let plural = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
        succeeded(stage.admin.post(&format!("{NAMESPACE}/{plural}"), &object).await?)?;
    }
    Ok("with its Secret and ConfigMap")
}

async fn changed(stage: &Stage) -> Result<&'static str> {
    let path = format!("{NAMESPACE}/configmaps/web-7-config");
    let patch = json!({"data": {"mode": "changed in the cloud"}});
    succeeded(stage.admin.patch(&path, "merge-patch", &patch).await?)?;
    Ok("")
}

async fn unheard(stage: &Stage) -> Result<&'static str> {
    let pods = read(&stage.local, PODS_OF_NODE).await?;
    let marked = items(&pods).iter().any(|p| p["metadata"]["deletionTimestamp"].is_string());
    ensure!(items(&pods).len() == PODS && !marked, "it knows of the pods");
    let map = read(&stage.local, &format!("{NAMESPACE}/configmaps/web-7-config")).await?;
    ensure!(map["data"]["mode"] == "edge", "it knows of the ConfigMap");
    ensure!(stage.kubelet.pods().iter().all(|p| p.running.is_some()), "a pod has ended");
    Ok("ten pods run")
}
