//! The link swallows everything (a black hole): how soon the hub says Offline, with clients and without, and
//! how long a read waits meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;

use super::{NODE, OWN_PODS, PROTOBUF, Plan, pod, until_cached, until_link};
use crate::informer::{Asked, Informer};
use crate::report::Row;

/// What a client met in one outage, in seconds.
struct Met {
    offline: f64,
    longest: f64,
}

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let cluster = Cluster::start(NODE).await;
    cluster.api.create(pod("web-0", 0));
    let client = cluster.node_client(Protocol::Http2);
    let asked = Asked { path: "/api/v1/pods", selector: OWN_PODS, accept: PROTOBUF };
    let _pods = Informer::start(&client, asked).await?;
    until_cached(&client, &format!("/api/v1/pods?{OWN_PODS}&resourceVersion=0"), PROTOBUF).await?;
    let (mut busy, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..plan.times(5) {
        busy.push(outage(&cluster, Some(&client)).await?);
        idle.push(outage(&cluster, None).await?);
    }
    let longest = |met: &[Met], of: fn(&Met) -> f64| met.iter().map(of).fold(0.0, f64::max);
    Ok(vec![
        Row::limited("outage black hole: Offline, with reads", longest(&busy, |m| m.offline), "s", 5.0),
        Row::limited("outage black hole: Offline, nobody asks", longest(&idle, |m| m.offline), "s", 5.0),
        Row::limited("outage black hole: longest read", longest(&busy, |m| m.longest), "s", 2.0)
            .beside(format!("the longest of {} outages each", plan.times(5))),
    ])
}

async fn outage(cluster: &Cluster, client: Option<&Client>) -> Result<Met> {
    until_link(cluster, "Online").await?;
    cluster.relay.hold();
    let cut = Instant::now();
    let (offline, longest) = tokio::join!(until_offline(cluster, cut), reads(client, cut));
    cluster.relay.heal();
    Ok(Met { offline: offline?.as_secs_f64(), longest: longest?.as_secs_f64() })
}

async fn until_offline(cluster: &Cluster, cut: Instant) -> Result<Duration> {
    while cut.elapsed() < Duration::from_secs(30) {
        let status = cluster.hub.admin("/v1/status").await?.json();
        if status["connectivity"]["state"] == "Offline" {
            return Ok(cut.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the hub never said Offline")
}

/// Reads of the newest state one after the other for 6 s; the longest.
async fn reads(client: Option<&Client>, cut: Instant) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    let Some(client) = client else { return Ok(longest) };
    while cut.elapsed() < Duration::from_secs(6) {
        let asked = Instant::now();
        let answer = client.get_as("/api/v1/namespaces/default/pods/web-0", PROTOBUF).await?;
        longest = longest.max(asked.elapsed());
        ensure!(answer.code() == 200, "a read of what is held: {}", answer.code());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(longest)
}
