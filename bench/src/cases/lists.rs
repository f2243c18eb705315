//! A list of 1,000 pods of 2 KB from the store, JSON to the client: from JSON rows, and from protobuf rows.
//!
//! Each in rounds with the same list asked of the simulated apiserver. Conversion happens while the link is
//! lost: online a collection is answered only as it was received.

use std::time::Instant;

use anyhow::{Result, ensure};
use yurt_testkit::apiserver::Options;
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;

use super::{JSON, NODE, OWN_PODS, PROTOBUF, Plan, is_cached, pod, until_cached, until_link};
use crate::informer::{Asked, Informer};
use crate::process;
use crate::report::Row;
use crate::rounds::{Round, ms, over};

const PODS: usize = 1000;

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let mut rows = measure("as stored", JSON, 5.0, plan).await?;
    rows.extend(measure("converted", PROTOBUF, 15.0, plan).await?);
    Ok(rows)
}

async fn measure(name: &str, stored: &str, limit: f64, plan: Plan) -> Result<Vec<Row>> {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    for n in 0..PODS {
        cluster.api.create(pod(&format!("web-{n}"), n));
    }
    cluster.hub.start().await;
    let client = cluster.node_client(Protocol::Http2);
    let list = format!("/api/v1/pods?{OWN_PODS}&resourceVersion=0");
    let asked = Asked { path: "/api/v1/pods", selector: OWN_PODS, accept: stored };
    let informer = Informer::start(&cluster.node_client(Protocol::Http2), asked).await?;
    ensure!(informer.listed == PODS, "{} pods were listed", informer.listed);
    until_cached(&client, &list, stored).await?;
    if stored != JSON {
        cluster.relay.hold();
        until_link(&cluster, "Offline").await?;
    }
    let direct =
        Client::new(&cluster.api.url(), cluster.api.pki().ca_pem(), Some(&cluster.node), Protocol::Http2);
    let pid = cluster.hub.pid().unwrap_or(0);
    let mut rounds = Vec::new();
    for _ in 0..plan.times(40) {
        let there = one(&direct, &list, false, 0).await?;
        rounds.push([there, one(&client, &list, true, pid).await?]);
    }
    let p50 = over(&rounds, |[_, hub]| hub.p50);
    let direct = over(&rounds, |[direct, _]| direct.p50);
    Ok(vec![
        Row::limited(format!("lists 1,000 pods {name}: p50"), p50, "ms", limit)
            .beside(format!("the simulated apiserver {direct:.1} ms")),
        Row::told(format!("lists 1,000 pods {name}: CPU"), over(&rounds, |[_, hub]| hub.cpu), "ms"),
    ])
}

async fn one(client: &Client, path: &str, cached: bool, pid: u32) -> Result<Round> {
    let (asked, before) = (Instant::now(), process::cpu(pid));
    let answer = client.get_as(path, JSON).await?;
    let took = ms(asked.elapsed());
    ensure!(
        answer.code() == 200 && is_cached(&answer) == cached,
        "{path}: {} {:?}",
        answer.code(),
        answer.headers
    );
    ensure!(answer.json()["items"].as_array().map(Vec::len) == Some(PODS), "{path}: not all pods");
    Ok(Round { p50: took, p99: took, cpu: ms(process::cpu(pid) - before) })
}
