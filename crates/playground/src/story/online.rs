//! The beginning: everything works, and nobody notices the hub.

use anyhow::{Context, Result, ensure};

use super::{NAMESPACE, NODE_OBJECT, PODS_OF_NODE, SOON, items, ready};
use crate::{
    report::{Broken, Report, time},
    stage::{PODS, Stage, read},
    wait::until,
};

/// Registers the node and runs its pods through the hub.
pub async fn work_online(stage: &mut Stage, report: &mut Report) -> Result<(), Broken> {
    report.chapter(
        "1. Online",
        "The kubelet's only change is the server in its kubeconfig: yurthub instead of the apiserver.",
    );
    stage.kubelet.boot();
    report.check("yurthub and the cloud's apiserver run, each a process of its own", pids(stage)).await;
    report.check("the kubelet registers its node", registered(stage)).await;
    report.check("ten pods run", running(stage)).await;
    report
        .check("the cloud sees them Ready, with the addresses that the kubelet gave them", agreed(stage))
        .await;
    report.check("a read through yurthub is, byte for byte, the apiserver's answer", unchanged(stage)).await;
    report
        .check("an operator's token is passed on, and answered as the apiserver answers it", operator(stage))
        .await;
    report.check("what was read is kept on the node, and followed by a watch", kept(stage)).await;
    report.turn_page()
}

async fn pids(stage: &Stage) -> Result<String> {
    let pid = |pid: Option<u32>| pid.context("it has ended");
    Ok(format!("pids {} and {}", pid(stage.hub.pid())?, pid(stage.cloud.pid())?))
}

async fn registered(stage: &Stage) -> Result<String> {
    Ok(format!("{} after it started", time(stage.kubelet.wait_registered(SOON).await?)))
}

async fn running(stage: &Stage) -> Result<String> {
    Ok(format!("the last one {} after the boot", time(stage.kubelet.wait_running(PODS, SOON).await?)))
}

async fn agreed(stage: &Stage) -> Result<&'static str> {
    stage.kubelet.wait_reported(SOON).await?;
    let list = read(&stage.admin, PODS_OF_NODE).await?;
    for pod in stage.kubelet.pods() {
        let seen = items(&list).iter().find(|p| p["metadata"]["name"] == pod.name.as_str());
        let seen = seen.with_context(|| format!("the cloud has no {}", pod.name))?;
        ensure!(
            ready(seen) == "True" && seen["status"]["podIP"] == pod.address.as_str(),
            "{}",
            seen["status"]
        );
    }
    Ok("")
}

async fn unchanged(stage: &Stage) -> Result<String> {
    let direct = stage.direct();
    let pods = format!("{NAMESPACE}/pods");
    let objects =
        [format!("{pods}/web-0"), format!("{NAMESPACE}/configmaps/web-0-config"), NODE_OBJECT.to_owned()];
    let mut bytes = 0;
    for path in &objects {
        for accept in ["application/json", "application/vnd.kubernetes.protobuf"] {
            let (through, apiserver) = (stage.local.get_as(path, accept), direct.get_as(path, accept));
            let (through, apiserver) = (through.await?, apiserver.await?);
            ensure!(through.code() == 200, "{path}: {}", through.text());
            ensure!(through.body == apiserver.body, "{path} as {accept} differs");
            bytes += through.body.len();
        }
    }
    Ok(format!("3 objects as JSON and protobuf, {bytes} bytes"))
}

async fn operator(stage: &Stage) -> Result<String> {
    let pods = read(&stage.operator, "/api/v1/pods").await?;
    ensure!(items(&pods).len() == PODS, "{} pods", items(&pods).len());
    let stranger = stage.hub.client(None, yurt_testkit::client::Protocol::Http2).token("made-up");
    let answer = stranger.get("/api/v1/pods").await?;
    ensure!(answer.code() == 401, "a made-up token: {}", answer.text());
    Ok("it lists all pods; a made-up token gets 401".to_owned())
}

async fn kept(stage: &Stage) -> Result<String> {
    until(SOON, async || {
        let status = stage.status().await?;
        let collections = status["collections"].as_array().context("no collections")?;
        let live = collections.iter().filter(|c| c["state"] == "live").count();
        let pods = collections.iter().find(|c| c["nodeOwned"] == true && c["objects"] == PODS);
        // Nodes, pods, services, drivers, runtime classes; a Secret and a ConfigMap of each pod; the root CA.
        let wanted = 5 + 2 * PODS + 1;
        ensure!(live >= wanted && pods.is_some(), "{live} of {wanted} collections are live");
        Ok(format!("{live} collections"))
    })
    .await
}
