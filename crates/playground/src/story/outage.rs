//! The bad part: no link, no power, and a boot with no cloud.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use yurt_testkit::kubelet::PodView;

use super::{NAMESPACE, NODE_OBJECT, SOON};
use crate::{
    report::{Broken, Report, time},
    stage::{PODS, Stage, succeeded},
    wait::until,
};

/// No read waits longer for a link that swallows everything.
const READ_BOUND: Duration = Duration::from_secs(2);
/// A link that swallows everything is noticed by then.
const NOTICE_BOUND: Duration = Duration::from_secs(5);

/// Drops every byte between node and cloud, as a dead radio link does.
pub async fn cut_the_link(stage: &mut Stage, report: &mut Report) -> Result<(), Broken> {
    report.chapter(
        "2. The link is cut",
        "No byte passes any more. Nobody is told: connections stay open, silent.",
    );
    let restarts = stage.kubelet.record().watch_restarts();
    let cut = Instant::now();
    stage.link.hold();
    report
        .check("a read that meets the silence is answered from the store within 2 s", read_in_silence(stage))
        .await;
    report.check("yurthub knows that it is offline within 5 s", noticed(stage, cut)).await;
    report.check("from then on nothing waits: the same read again", read_offline(stage)).await;
    report.check("the kubelet's watches stay open; it was told nothing", watching(stage, restarts)).await;
    report.turn_page()
}

async fn read_in_silence(stage: &Stage) -> Result<String> {
    let (took, source) = timed_read(stage).await?;
    ensure!(took <= READ_BOUND, "it took {}", time(took));
    Ok(format!("{}, {source}", time(took)))
}

async fn read_offline(stage: &Stage) -> Result<String> {
    let (took, source) = timed_read(stage).await?;
    ensure!(took <= Duration::from_millis(500), "it took {}", time(took));
    Ok(format!("{}, {source}", time(took)))
}

/// GET of a pod: how long it took, and what the hub says of its source.
async fn timed_read(stage: &Stage) -> Result<(Duration, String)> {
    let asked = Instant::now();
    let answer = succeeded(stage.local.get(&format!("{NAMESPACE}/pods/web-0")).await?)?;
    let (took, source) = (asked.elapsed(), answer.header("x-yurthub-source").to_owned());
    ensure!(source.starts_with("cache"), "it came from somewhere else: {source:?}");
    Ok((took, source))
}

async fn noticed(stage: &Stage, cut: Instant) -> Result<String> {
    stage.until_link("Offline", NOTICE_BOUND.saturating_sub(cut.elapsed())).await?;
    Ok(format!("after {}", time(cut.elapsed())))
}

async fn watching(stage: &Stage, before: u64) -> Result<&'static str> {
    let restarts = stage.kubelet.record().watch_restarts() - before;
    ensure!(restarts == 0, "{restarts} watches were started again");
    Ok("")
}

/// SIGKILL for the hub; the kubelet forgets what it knew.
pub async fn cut_the_power(stage: &mut Stage, report: &mut Report) -> Result<(), Broken> {
    report.chapter("3. The power fails", "SIGKILL for yurthub, and the kubelet is gone with all it knew.");
    stage.kubelet.record().clear();
    let pid = stage.hub.pid().unwrap_or_default();
    stage.cut_power().await;
    report.check("the node is dark: no process, no open port, no pod", dark(stage, pid)).await;
    report.turn_page()
}

async fn dark(stage: &Stage, pid: u32) -> Result<&'static str> {
    ensure!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
    ensure!(stage.local.get(NODE_OBJECT).await.is_err(), "somebody answers on yurthub's port");
    ensure!(stage.kubelet.pods().is_empty(), "the kubelet has pods");
    Ok("")
}

/// Hub and kubelet start at the same moment, and the cloud stays out of reach.
pub async fn boot_with_no_cloud(
    stage: &mut Stage,
    report: &mut Report,
    before: &[PodView],
) -> Result<(), Broken> {
    report.chapter(
        "4. Boot with no cloud",
        "The power is back, the link is not. A kubelet with no apiserver starts nothing; this one has yurthub.",
    );
    let bytes = stage.link.bytes();
    let on = stage.power_on();
    report.check("yurthub gives its first answer from the store", first_answer(stage, on)).await;
    report.check("all ten pods run again", running(stage)).await;
    report.check("they are the same pods, not new ones of the same names", same_pods(stage, before)).await;
    report
        .check(
            "each got the last real token of its ServiceAccount, none was made up",
            same_tokens(stage, before),
        )
        .await;
    report.check("nothing of this came over the link", still_offline(stage, bytes)).await;
    report.turn_page()
}

async fn first_answer(stage: &mut Stage, on: Instant) -> Result<String> {
    let local = stage.local.clone();
    until(SOON, async || succeeded(local.get(NODE_OBJECT).await?)).await?;
    let took = on.elapsed();
    stage.hub.until_ready().await?;
    Ok(format!("{} after the power came back", time(took)))
}

async fn running(stage: &Stage) -> Result<String> {
    Ok(format!("{} after the power came back", time(stage.kubelet.wait_running(PODS, SOON).await?)))
}

async fn same_pods(stage: &Stage, before: &[PodView]) -> Result<&'static str> {
    let uids = |pods: &[PodView]| pods.iter().map(|p| p.uid.clone()).collect::<BTreeSet<_>>();
    ensure!(uids(&stage.kubelet.pods()) == uids(before), "{:#?}", stage.kubelet.pods());
    Ok("same UIDs")
}

async fn same_tokens(stage: &Stage, before: &[PodView]) -> Result<&'static str> {
    for (now, then) in stage.kubelet.pods().iter().zip(before) {
        ensure!(!now.token.is_empty() && now.token == then.token, "{} has another token", now.name);
    }
    Ok("")
}

async fn still_offline(stage: &Stage, bytes: (u64, u64)) -> Result<String> {
    let status = stage.status().await?;
    ensure!(status["connectivity"]["state"] == "Offline", "{}", status["connectivity"]);
    ensure!(stage.link.bytes() == bytes, "bytes went over the link");
    let asked = stage.kubelet.record().matching(|s| s.status > 0).len();
    Ok(format!("{asked} requests of the kubelet answered on the node, 0 bytes passed"))
}
