//! The good end: push, then pull, until both sides say the same.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use yurt_testkit::kubelet::PodView;

use super::{NAMESPACE, NODE_OBJECT, PODS_OF_NODE, SOON, items, ready};
use crate::{
    report::{Broken, Report, time},
    stage::{PODS, Stage, read},
    wait::until,
};

/// The link works again.
pub async fn heal(stage: &mut Stage, report: &mut Report) -> Result<(), Broken> {
    report.chapter(
        "7. The link is back",
        "First the node's own writes go up, then the cloud's changes come down. Never the other way round.",
    );
    // What is on the way has been lost long since: the old connections are dead, only new ones work.
    stage.link.reset();
    report.check("the connections from before the outage are dead", old_ones_dead(stage)).await;
    let healed = Instant::now();
    stage.link.heal();
    report.check("push, then pull", push_then_pull(stage)).await;
    report.check("yurthub is online", online(stage, healed)).await;
    report.turn_page()
}

async fn old_ones_dead(stage: &Stage) -> Result<&'static str> {
    until(SOON, async || {
        let (_, open) = stage.link.connections();
        ensure!(open == 0, "{open} are open");
        Ok("")
    })
    .await
}

/// Whenever the node is seen to know of a change of the cloud, the cloud must have the node's writes already.
async fn push_then_pull(stage: &Stage) -> Result<&'static str> {
    until(SOON, async || {
        let pulled = mode_seen(stage) != "edge" || stage.kubelet.pods().iter().any(|p| p.name == "web-10");
        let pushed = cloud_has_boot_2(stage).await?;
        ensure!(pulled, "the node has not heard of the cloud's changes");
        Ok(pushed)
    })
    .await
    .and_then(|pushed| {
        ensure!(pushed, "the node heard of the cloud's changes before its own writes were there");
        Ok("the node's writes were in the cloud before its changes reached the node")
    })
}

async fn cloud_has_boot_2(stage: &Stage) -> Result<bool> {
    let node = read(&stage.admin, NODE_OBJECT).await?;
    let pods = read(&stage.admin, PODS_OF_NODE).await?;
    let held = |p: &PodView| items(&pods).iter().any(|c| c["status"]["podIP"] == p.address.as_str());
    let mut own = stage.kubelet.pods().into_iter().filter(|p| p.name != "web-10" && p.name != "web-3");
    Ok(node["status"]["nodeInfo"]["bootID"] == "boot-2" && own.all(|p| held(&p)))
}

fn mode_seen(stage: &Stage) -> String {
    let map = stage.kubelet.held("configmaps", "default", "web-7-config").unwrap_or_default();
    map["data"]["mode"].as_str().unwrap_or_default().to_owned()
}

async fn online(stage: &Stage, healed: Instant) -> Result<String> {
    stage.until_link("Online", SOON).await?;
    Ok(format!("{} after the link was healed", time(healed.elapsed())))
}

/// Both sides agree, and nothing was disturbed on the way.
pub async fn converge(stage: &mut Stage, report: &mut Report, during: &[PodView]) -> Result<(), Broken> {
    report.chapter(
        "8. One truth again",
        "The cloud knows what the node did, the node knows what the cloud did.",
    );
    report.check("the cloud takes the node back", taken_back(stage)).await;
    report.check("the kubelet's event has arrived, once", event_delivered(stage)).await;
    report.check("the lease is renewed in the cloud again", lease_renewed(stage)).await;
    report.check("web-3 was ended by the kubelet and is gone on both sides", gone(stage)).await;
    report.check("web-10 runs, and the cloud sees it Ready", arrived(stage)).await;
    report.check("the ConfigMap of web-7 has its new content on the node", refreshed(stage)).await;
    report.check("the nine others never restarted", undisturbed(stage, during)).await;
    report.check("every pod on the node equals the cloud's", equal(stage)).await;
    report.check("the journal is empty, with no conflicts", empty(stage)).await;
    report.check("yurthub did all of this in little memory", memory(stage)).await;
    report.turn_page()
}

async fn taken_back(stage: &Stage) -> Result<&'static str> {
    until(SOON, async || {
        let node = read(&stage.admin, NODE_OBJECT).await?;
        ensure!(ready(&node) == "True", "Ready is {}", ready(&node));
        Ok("Ready is True, boot-2")
    })
    .await
}

async fn event_delivered(stage: &Stage) -> Result<&'static str> {
    until(SOON, async || {
        let events = read(&stage.admin, &format!("{NAMESPACE}/events")).await?;
        let starting = items(&events).iter().filter(|e| e["reason"] == "Starting").count();
        ensure!(starting == 2, "{starting} events \"Starting\" for two boots");
        Ok("two boots, two events")
    })
    .await
}

async fn lease_renewed(stage: &Stage) -> Result<&'static str> {
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1";
    let version = async || {
        let lease = read(&stage.admin, path).await?;
        lease["metadata"]["resourceVersion"].as_str().map(str::to_owned).context("a lease without a version")
    };
    let first = version().await?;
    until(SOON, async || {
        ensure!(version().await? != first, "it stays at version {first}");
        Ok("")
    })
    .await
}

async fn gone(stage: &Stage) -> Result<&'static str> {
    let path = format!("{NAMESPACE}/pods/web-3");
    until(SOON, async || {
        ensure!(stage.kubelet.pods().iter().all(|p| p.name != "web-3"), "the kubelet still has it");
        let (cloud, node) = (stage.admin.get(&path).await?.code(), stage.operator.get(&path).await?.code());
        ensure!(cloud == 404 && node == 404, "the cloud says {cloud}, the node {node}");
        Ok("")
    })
    .await
}

async fn arrived(stage: &Stage) -> Result<String> {
    until(SOON, async || {
        let pods = stage.kubelet.pods();
        let pod = pods.iter().find(|p| p.name == "web-10").context("the kubelet does not know it")?;
        let seen = read(&stage.admin, &format!("{NAMESPACE}/pods/web-10")).await?;
        ensure!(
            ready(&seen) == "True" && seen["status"]["podIP"] == pod.address.as_str(),
            "{}",
            seen["status"]
        );
        Ok(format!("at {}", pod.address))
    })
    .await
}

async fn refreshed(stage: &Stage) -> Result<String> {
    until(SOON, async || {
        let mode = mode_seen(stage);
        ensure!(mode == "changed in the cloud", "mode is {mode:?}");
        Ok(format!("mode is {mode:?}"))
    })
    .await
}

async fn undisturbed(stage: &Stage, during: &[PodView]) -> Result<&'static str> {
    let now = stage.kubelet.pods();
    for pod in during.iter().filter(|p| p.name != "web-3") {
        ensure!(now.contains(pod), "{} was {pod:?}", pod.name);
    }
    ensure!(now.len() == PODS, "{} pods", now.len());
    Ok("same UIDs, same addresses")
}

async fn equal(stage: &Stage) -> Result<String> {
    until(SOON, async || {
        let path = format!("{PODS_OF_NODE}&resourceVersion=0");
        let answer =
            stage.local.get_as(&path, "application/vnd.kubernetes.protobuf, application/json").await?;
        let (node, cloud) = (read(&stage.local, &path).await?, read(&stage.admin, PODS_OF_NODE).await?);
        for pod in items(&cloud) {
            ensure!(items(&node).contains(pod), "{} differs", pod["metadata"]["name"]);
        }
        let (here, there) = (items(&node).len(), items(&cloud).len());
        ensure!(here == there, "{here} on the node, {there} in the cloud");
        Ok(format!("{there} pods, {}", answer.header("x-yurthub-source")))
    })
    .await
}

async fn empty(stage: &Stage) -> Result<String> {
    until(SOON, async || {
        let status: Value = stage.status().await?;
        let (journal, replay) = (&status["journal"], &status["lastReplay"]);
        ensure!(journal["length"] == 0 && journal["conflicts"] == 0, "{journal}");
        Ok(format!("{} writes delivered before the first change came down", replay["delivered"]))
    })
    .await
}

/// Resident memory of the hub's process; the bound is that of an unoptimized build with room.
async fn memory(stage: &Stage) -> Result<String> {
    let pid = stage.hub.pid().context("it has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    };
    let (all, own) = (kilobytes("VmRSS:")?, kilobytes("RssAnon:")?);
    ensure!(all < 64 * 1024, "{all} kB");
    let (all, own) = (all / 1024, own / 1024);
    Ok(format!("{all} MB resident, of which {own} MB are data and the rest is this program itself"))
}
