//! From the start of the process to its first 200, with 5,000 objects in the store and a link that swallows
//! everything: what a kubelet waits for after a power cut. The process was killed before.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use yurt_testkit::apiserver::Options;
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use super::{NODE, OWN_PODS, PROTOBUF, Plan, is_cached, pod, until_cached};
use crate::informer::{Asked, Informer};
use crate::report::Row;
use crate::rounds::{median, ms, quantile};

const SERVICES: usize = 4900;
const PODS: usize = 100;

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    for n in 0..SERVICES {
        cluster.api.create(objects::service("default", &format!("service-{n}"), &[("http", 80)]));
    }
    for n in 0..PODS {
        cluster.api.create(pod(&format!("web-{n}"), n));
    }
    cluster.hub.start().await;
    warm(&cluster).await?;
    cluster.relay.hold();
    let mut times = Vec::new();
    for _ in 0..plan.times(15) {
        cluster.hub.kill().await;
        times.push(ms(first_answer(&mut cluster).await?) / 1e3);
    }
    let worst = quantile(&mut times.clone(), 1.0);
    let row = Row::limited("start to first 200, 5,000 objects, no link", median(times), "s", 0.2);
    Ok(vec![row.beside(format!("the longest {worst:.3} s"))])
}

async fn warm(cluster: &Cluster) -> Result<()> {
    let client = cluster.node_client(Protocol::Http2);
    for (path, selector, objects) in [("/api/v1/services", "", SERVICES), ("/api/v1/pods", OWN_PODS, PODS)] {
        let informer = Informer::start(&client, Asked { path, selector, accept: PROTOBUF }).await?;
        ensure!(informer.listed >= objects, "{} of {path}", informer.listed);
        until_cached(&client, &format!("{path}?{selector}&resourceVersion=0").replace("?&", "?"), PROTOBUF)
            .await?;
    }
    Ok(())
}

/// Asks again and again, each time on a new connection, as a kubelet does that was refused.
async fn first_answer(cluster: &mut Cluster) -> Result<Duration> {
    let (url, ca) = (cluster.hub.url(), cluster.hub.ca_file());
    let started = Instant::now();
    cluster.hub.spawn();
    while started.elapsed() < Duration::from_secs(10) {
        let client = Client::with_ca_file(&url, &ca, Some(&cluster.node), Protocol::Http2);
        if let Ok(answer) = client.get_as("/api/v1/namespaces/default/pods/web-0", PROTOBUF).await
            && answer.code() == 200
        {
            ensure!(is_cached(&answer), "the answer did not come from the store");
            return Ok(started.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("no 200 within 10 s")
}
